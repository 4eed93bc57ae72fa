//! The members of a group, possibly in transition (dissertation §4.3).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::quorum::{Tally, Voters};
use crate::types::NodeId;

/// The members of a group.
///
/// While `outgoing` is not empty the configuration is *joint*: everything needs a quorum of both halves.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Configuration {
    voters: Voters,
    outgoing: Voters,
    learners: Voters,
}

/// A configuration that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// Nobody could ever decide anything.
    #[error("a configuration needs at least one voter")]
    NoVoters,
    /// A node is listed as voter and as learner, or its id is 0.
    #[error("{0} is listed twice, or its id is 0")]
    BadMember(NodeId),
    /// More members than [`Configuration::MAX_MEMBERS`].
    #[error("{0} members are more than the {max} allowed", max = Configuration::MAX_MEMBERS)]
    TooManyMembers(usize),
    /// Bytes that are no configuration, or of a later version.
    #[error("the bytes are no configuration of a version this program knows")]
    Malformed,
}

impl Configuration {
    /// The largest number of members, all kinds together.
    pub const MAX_MEMBERS: usize = 255;
    const VERSION: u8 = 1;

    /// A configuration of voters only, not joint.
    ///
    /// # Errors
    /// [`ConfigurationError`] if it has no voter, too many, or a node id of 0.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Result<Self, ConfigurationError> {
        Self::new(Voters::from_nodes(voters), Voters::default(), Voters::default())
    }

    /// Checks and takes all three sets.
    ///
    /// # Errors
    /// [`ConfigurationError`] names what is wrong.
    pub fn new(voters: Voters, outgoing: Voters, learners: Voters) -> Result<Self, ConfigurationError> {
        let members = voters.len() + outgoing.len() + learners.len();
        if members > Self::MAX_MEMBERS {
            return Err(ConfigurationError::TooManyMembers(members));
        }
        if voters.is_empty() {
            return Err(ConfigurationError::NoVoters);
        }
        let misplaced = |node: &NodeId| learners.contains(*node) || node.0 == 0;
        let bad_voter = voters.iter().chain(outgoing.iter()).find(misplaced);
        if let Some(node) = bad_voter.or_else(|| learners.iter().find(|node| node.0 == 0)) {
            return Err(ConfigurationError::BadMember(node));
        }
        Ok(Self { voters, outgoing, learners })
    }

    /// Everybody, each once, in ascending order.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        let mut all: Vec<_> = self.voters.iter().chain(self.outgoing.iter()).chain(self.learners.iter()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The (incoming) voters.
    #[must_use]
    pub fn voters(&self) -> &Voters {
        &self.voters
    }

    /// The learners: they replicate, they do not vote.
    #[must_use]
    pub fn learners(&self) -> &Voters {
        &self.learners
    }

    /// Whether two halves decide together.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `node` votes, in either half (bug `b65`).
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(node) || self.outgoing.contains(node)
    }

    /// Whether `node` is the one and only voter.
    #[must_use]
    pub fn is_sole_voter(&self, node: NodeId) -> bool {
        self.voters.len() == 1 && self.voters.contains(node) && !self.is_joint()
    }

    /// The sets that must each agree: one, or two when joint.
    pub fn halves(&self) -> impl Iterator<Item = &Voters> {
        std::iter::once(&self.voters).chain(self.is_joint().then_some(&self.outgoing))
    }

    /// The largest value that a quorum (of each half) has reached.
    pub fn reached<T: Ord + Copy + Default>(&self, value: impl Fn(NodeId) -> T) -> T {
        self.halves().filter_map(|half| half.reached(&value)).min().unwrap_or_default()
    }

    /// Counts a vote; `ballot` is `None` for who has not answered.
    pub fn tally(&self, ballot: impl Fn(NodeId) -> Option<bool>) -> Tally {
        let mut all_won = true;
        for half in self.halves() {
            match half.tally(&ballot) {
                Tally::Lost => return Tally::Lost,
                Tally::Open => all_won = false,
                Tally::Won => {}
            }
        }
        if all_won { Tally::Won } else { Tally::Open }
    }

    /// The bytes of a configuration entry: version, three counts, then the ids, little endian. The same
    /// configuration always gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let sets = [&self.voters, &self.outgoing, &self.learners];
        let mut bytes = BytesMut::with_capacity(4 + 8 * sets.iter().map(|set| set.len()).sum::<usize>());
        bytes.put_u8(Self::VERSION);
        for set in sets {
            // `new` keeps the sum within MAX_MEMBERS = 255.
            bytes.put_u8(u8::try_from(set.len()).unwrap_or(u8::MAX));
        }
        for node in sets.into_iter().flat_map(Voters::iter) {
            bytes.put_u64_le(node.0);
        }
        bytes.freeze()
    }

    /// The reverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`ConfigurationError::Malformed`] for other bytes or a later version; otherwise as [`Configuration::new`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, ConfigurationError> {
        const HEAD: usize = 4;
        if bytes.len() < HEAD || bytes.get_u8() != Self::VERSION {
            return Err(ConfigurationError::Malformed);
        }
        let counts: [usize; 3] = std::array::from_fn(|_| usize::from(bytes.get_u8()));
        if bytes.len() != 8 * counts.iter().sum::<usize>() {
            return Err(ConfigurationError::Malformed);
        }
        let [voters, outgoing, learners] =
            counts.map(|count| Voters::from_nodes((0..count).map(|_| NodeId(bytes.get_u64_le()))));
        let decoded = Self::new(voters, outgoing, learners)?;
        let all_distinct = decoded.halves().map(Voters::len).sum::<usize>() + decoded.learners.len();
        if all_distinct == counts.iter().sum::<usize>() { Ok(decoded) } else { Err(ConfigurationError::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn set(nodes: &[u64]) -> Voters {
        Voters::from_nodes(nodes.iter().copied().map(NodeId))
    }

    fn joint() -> Configuration {
        Configuration::new(set(&[1, 2, 3]), set(&[3, 4, 5]), set(&[6])).unwrap()
    }

    #[test]
    fn a_joint_configuration_needs_both_halves() {
        let ballot = |yes: &'static [u64]| move |n: NodeId| Some(yes.contains(&n.0));
        assert_eq!(joint().tally(ballot(&[1, 2, 3])), Tally::Lost);
        assert_eq!(joint().tally(ballot(&[1, 3, 4])), Tally::Won);
        assert_eq!(joint().reached(|n| n.0), 2, "the lower of 2 (of 1 2 3) and 4 (of 3 4 5)");
    }

    #[test]
    fn b65_a_member_of_either_half_votes() {
        assert!(joint().is_voter(NodeId(1)) && joint().is_voter(NodeId(5)));
        assert!(!joint().is_voter(NodeId(6)));
        assert_eq!(joint().members(), [1, 2, 3, 4, 5, 6].map(NodeId));
    }

    #[test]
    fn impossible_configurations_are_refused() {
        assert_eq!(Configuration::of_voters([]), Err(ConfigurationError::NoVoters));
        assert_eq!(Configuration::of_voters([NodeId(0)]), Err(ConfigurationError::BadMember(NodeId(0))));
        let both = Configuration::new(set(&[1, 2]), set(&[]), set(&[2]));
        assert_eq!(both, Err(ConfigurationError::BadMember(NodeId(2))));
        let many = Configuration::of_voters((1..=256).map(NodeId));
        assert_eq!(many, Err(ConfigurationError::TooManyMembers(256)));
    }

    #[test]
    fn bytes_of_another_version_are_refused() {
        let mut bytes = joint().encode().to_vec();
        bytes[0] = 9;
        assert_eq!(Configuration::decode(&bytes), Err(ConfigurationError::Malformed));
    }

    quickcheck! {
        fn configurations_survive_encoding(voters: Vec<u8>, outgoing: Vec<u8>, learners: Vec<u8>) -> bool {
            let sets = [voters, outgoing, learners]
                .map(|ids| Voters::from_nodes(ids.into_iter().take(60).map(|id| NodeId(u64::from(id) + 1))));
            let [voters, outgoing, learners] = sets;
            match Configuration::new(voters, outgoing, learners) {
                Ok(configuration) => Configuration::decode(&configuration.encode()) == Ok(configuration),
                Err(_) => true,
            }
        }

        fn any_bytes_decode_without_panic(bytes: Vec<u8>) -> bool {
            Configuration::decode(&bytes).is_ok_and(|c| c.encode() == bytes) || Configuration::decode(&bytes).is_err()
        }
    }
}
