//! The members of a group, possibly in transition (dissertation §4.3).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::quorum::{Tally, Voters};
use crate::types::NodeId;

/// The members of a group.
///
/// While `outgoing` is not empty the configuration is *joint*: everything needs a quorum of both halves. Learners
/// replicate and do not vote; one that is also in `outgoing` votes in that half until the joint configuration is left.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Configuration {
    voters: Voters,
    outgoing: Voters,
    learners: Voters,
    /// Where members can be reached; opaque here. Invariant: members only.
    addresses: BTreeMap<NodeId, Arc<str>>,
    /// Who is not listened to any more. Invariant: no members, and once barred always barred.
    barred: Voters,
}

/// A configuration that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// Nobody could ever decide anything.
    #[error("a configuration needs at least one voter")]
    NoVoters,
    /// A node is listed as voter and as learner, or as member and as barred, or its id is 0.
    #[error("{0} is listed twice, or its id is 0")]
    BadMember(NodeId),
    /// More members than [`Configuration::MAX_MEMBERS`].
    #[error("{0} members are more than the {max} allowed", max = Configuration::MAX_MEMBERS)]
    TooManyMembers(usize),
    /// An address of a node that is no member, or one that is empty or longer than [`Configuration::MAX_ADDRESS_BYTES`].
    #[error("the address of {0} has 1 to {max} bytes, and {0} is a member", max = Configuration::MAX_ADDRESS_BYTES)]
    BadAddress(NodeId),
    /// Bytes that are no configuration, or of a later version.
    #[error("the bytes are no configuration of a version this program knows")]
    Malformed,
}

impl Configuration {
    /// The largest number of members, all kinds together.
    pub const MAX_MEMBERS: usize = 255;
    /// The longest address of a member, in bytes.
    pub const MAX_ADDRESS_BYTES: usize = 255;
    /// Without addresses.
    const VERSION: u8 = 1;
    /// With them.
    const VERSION_WITH_ADDRESSES: u8 = 2;
    /// With nodes that are barred, and perhaps addresses.
    const VERSION_WITH_BARRED: u8 = 3;

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
        let all = Self { voters, outgoing, learners, ..Self::default() };
        if all.size() > Self::MAX_MEMBERS {
            return Err(ConfigurationError::TooManyMembers(all.size()));
        }
        let Self { voters, outgoing, learners, .. } = &all;
        if voters.is_empty() {
            return Err(ConfigurationError::NoVoters);
        }
        let nobody = voters.iter().chain(outgoing.iter()).chain(learners.iter()).find(|node| node.0 == 0);
        if let Some(node) = nobody.or_else(|| voters.iter().find(|node| learners.contains(*node))) {
            return Err(ConfigurationError::BadMember(node));
        }
        Ok(all)
    }

    /// The same, and the member `node` can be reached at `address`, `host:port` for TCP. Members without an address are
    /// the host's to find. TCP looks no further than the first space: what stands behind it is the host's own, for instance
    /// where the member's clients connect.
    ///
    /// # Errors
    /// [`ConfigurationError::BadAddress`] if it is no member, or the address is empty or too long.
    pub fn with_address(mut self, node: NodeId, address: &str) -> Result<Self, ConfigurationError> {
        if !self.is_member(node) || !(1..=Self::MAX_ADDRESS_BYTES).contains(&address.len()) {
            return Err(ConfigurationError::BadAddress(node));
        }
        self.addresses.insert(node, address.into());
        Ok(self)
    }

    /// The same, and no member listens to `nodes` any more, in addition to those that were barred before: they belonged to
    /// this group, it was recovered without them after its quorum was lost, and what they hold may contradict it. That is
    /// for good, whatever the members become.
    ///
    /// # Errors
    /// [`ConfigurationError::BadMember`] if one is a member, [`ConfigurationError::TooManyMembers`] if more than
    /// [`Self::MAX_MEMBERS`] would be barred.
    pub fn with_barred(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Result<Self, ConfigurationError> {
        self.barred = Voters::from_nodes(self.barred.iter().chain(nodes));
        if self.barred.len() > Self::MAX_MEMBERS {
            return Err(ConfigurationError::TooManyMembers(self.barred.len()));
        }
        let wrong = self.barred.iter().find(|node| self.is_member(*node) || node.0 == 0);
        wrong.map_or(Ok(self), |node| Err(ConfigurationError::BadMember(node)))
    }

    /// Who is not listened to any more: see [`with_barred`](Self::with_barred).
    #[must_use]
    pub fn barred(&self) -> &Voters {
        &self.barred
    }

    /// Where members can be reached, as far as it is said, in ascending order.
    pub fn addresses(&self) -> impl Iterator<Item = (NodeId, &str)> {
        self.addresses.iter().map(|(node, address)| (*node, &**address))
    }

    /// Without the addresses of those who are no members.
    fn members_only(mut self) -> Self {
        let addresses = std::mem::take(&mut self.addresses);
        self.addresses = addresses.into_iter().filter(|(node, _)| self.is_member(*node)).collect();
        self
    }

    /// Addresses of `newer` as well, which count where both have one.
    fn with_addresses_of(mut self, newer: &Self) -> Self {
        self.addresses.extend(newer.addresses.clone());
        self.members_only()
    }

    /// What counts for [`MAX_MEMBERS`](Self::MAX_MEMBERS): all three sets, so a voter of both halves counts twice.
    #[must_use]
    pub fn size(&self) -> usize {
        self.voters.len() + self.outgoing.len() + self.learners.len()
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

    /// Whether `node` is a member of any kind.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(node)
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

    /// The configuration that comes next on the way to `target`, which is not joint; `None` if this is `target`.
    ///
    /// A joint configuration is left first. Whoever is to vote and is no member yet becomes a learner first. Then one
    /// voter more or less is a step of its own, since majorities of the two overlap (dissertation §4.1); everything else
    /// goes by way of a joint configuration (§4.3). Who is barred here stays so, whatever `target` says of that.
    #[must_use]
    pub fn next_towards(&self, target: &Self) -> Option<Self> {
        if self.is_joint() {
            return Some(self.left());
        }
        let target = &Self { barred: self.barred.clone(), ..target.clone() };
        if self == target {
            return None;
        }
        let newcomers = self.newcomers(target);
        if !newcomers.is_empty() {
            let learners = Voters::from_nodes(self.learners.iter().chain(newcomers));
            return Some(Self { learners, ..self.clone() }.with_addresses_of(target));
        }
        let added = target.voters.iter().filter(|node| !self.voters.contains(*node)).count();
        let removed = self.voters.iter().filter(|node| !target.voters.contains(*node)).count();
        let outgoing = if added + removed > 1 { self.voters.clone() } else { Voters::default() };
        let next = Self { outgoing, addresses: self.addresses.clone(), ..target.clone() };
        Some(if next.is_joint() { next.with_addresses_of(target) } else { target.clone() })
    }

    /// Every configuration on the way to `target`, which is the last; see [`next_towards`](Self::next_towards).
    pub fn way_to(&self, target: &Self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.next_towards(target), |at| at.next_towards(target))
    }

    /// What a joint configuration becomes.
    #[must_use]
    pub fn left(&self) -> Self {
        Self { outgoing: Voters::default(), ..self.clone() }.members_only()
    }

    /// The voters of `target` that are no members here.
    fn newcomers(&self, target: &Self) -> Vec<NodeId> {
        target.voters.iter().filter(|node| !self.is_member(*node)).collect()
    }

    /// The bytes of a configuration entry: version, three counts, then the ids, little endian; then, from version 2 on, the
    /// count of addresses, and each with its node's id and one byte for its length; then, in version 3, the count of those who
    /// are barred, and their ids. The lowest version that says it all: the same configuration always gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let sets = [&self.voters, &self.outgoing, &self.learners];
        let mut bytes = BytesMut::with_capacity(4 + 8 * sets.iter().map(|set| set.len()).sum::<usize>());
        bytes.put_u8(self.version());
        for set in sets {
            // `new` keeps the sum within MAX_MEMBERS = 255.
            bytes.put_u8(u8::try_from(set.len()).unwrap_or(u8::MAX));
        }
        for node in sets.into_iter().flat_map(Voters::iter) {
            bytes.put_u64_le(node.0);
        }
        if self.version() >= Self::VERSION_WITH_ADDRESSES {
            bytes.put_u8(u8::try_from(self.addresses.len()).unwrap_or(u8::MAX));
        }
        for (node, address) in self.addresses() {
            bytes.put_u64_le(node.0);
            // `with_address` keeps it short.
            bytes.put_u8(u8::try_from(address.len()).unwrap_or(u8::MAX));
            bytes.put_slice(address.as_bytes());
        }
        if self.version() == Self::VERSION_WITH_BARRED {
            // `with_barred` keeps it within MAX_MEMBERS.
            bytes.put_u8(u8::try_from(self.barred.len()).unwrap_or(u8::MAX));
            self.barred.iter().for_each(|node| bytes.put_u64_le(node.0));
        }
        bytes.freeze()
    }

    /// The lowest version that says everything.
    fn version(&self) -> u8 {
        match (self.addresses.is_empty(), self.barred.is_empty()) {
            (true, true) => Self::VERSION,
            (false, true) => Self::VERSION_WITH_ADDRESSES,
            (_, false) => Self::VERSION_WITH_BARRED,
        }
    }

    /// The reverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`ConfigurationError::Malformed`] for other bytes or a later version; otherwise as [`Configuration::new`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, ConfigurationError> {
        const HEAD: usize = 4;
        let version = *bytes.first().ok_or(ConfigurationError::Malformed)?;
        if bytes.len() < HEAD || !(Self::VERSION..=Self::VERSION_WITH_BARRED).contains(&version) {
            return Err(ConfigurationError::Malformed);
        }
        bytes.advance(1);
        let counts: [usize; 3] = std::array::from_fn(|_| usize::from(bytes.get_u8()));
        let [voters, outgoing, learners] = counts.map(|count| decode_nodes(&mut bytes, count));
        let mut decoded = Self::new(voters?, outgoing?, learners?)?;
        if version >= Self::VERSION_WITH_ADDRESSES {
            decoded = decoded.decode_addresses(&mut bytes)?;
        }
        if version >= Self::VERSION_WITH_BARRED {
            let count = bytes.try_get_u8().map_err(|_| ConfigurationError::Malformed)?;
            decoded = decoded.with_barred(decode_nodes(&mut bytes, usize::from(count))?.iter())?;
        }
        // What encodes differently was not written by us: no addresses, or nobody barred, in a version that has them.
        let ours = bytes.is_empty() && decoded.version() == version;
        if ours { Ok(decoded) } else { Err(ConfigurationError::Malformed) }
    }

    fn decode_addresses(mut self, bytes: &mut &[u8]) -> Result<Self, ConfigurationError> {
        const HEAD: usize = 9;
        for _ in 0..bytes.try_get_u8().map_err(|_| ConfigurationError::Malformed)? {
            if bytes.len() < HEAD {
                return Err(ConfigurationError::Malformed);
            }
            let (node, length) = (NodeId(bytes.get_u64_le()), usize::from(bytes.get_u8()));
            let address = bytes.split_off(..length).and_then(|address| std::str::from_utf8(address).ok());
            let in_order = self.addresses.keys().next_back().is_none_or(|last| *last < node);
            let address = address.filter(|_| in_order).ok_or(ConfigurationError::Malformed)?;
            self = self.with_address(node, address)?;
        }
        Ok(self)
    }
}

/// So many ids, all different and in order: others were not written by us.
fn decode_nodes(bytes: &mut &[u8], count: usize) -> Result<Voters, ConfigurationError> {
    let mut ids = bytes.split_off(..8 * count).ok_or(ConfigurationError::Malformed)?;
    let ids: Vec<_> = (0..count).map(|_| NodeId(ids.get_u64_le())).collect();
    if ids.is_sorted_by(|one, next| one < next) {
        Ok(Voters::from_nodes(ids))
    } else {
        Err(ConfigurationError::Malformed)
    }
}

/// `n1 n2 n3`; `n3 n4 | n1 n2 n3` while joint; `n1 n2 n3, learners n4`; `n3, barred n1 n2`.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, nodes: &Voters| {
            nodes.iter().enumerate().try_for_each(|(at, node)| write!(f, "{}{node}", if at > 0 { " " } else { "" }))
        };
        list(f, &self.voters)?;
        if self.is_joint() {
            f.write_str(" | ")?;
            list(f, &self.outgoing)?;
        }
        if !self.learners.is_empty() {
            f.write_str(", learners ")?;
            list(f, &self.learners)?;
        }
        self.addresses().try_for_each(|(node, address)| write!(f, ", {node} at {address}"))?;
        if self.barred.is_empty() {
            return Ok(());
        }
        f.write_str(", barred ")?;
        list(f, &self.barred)
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
    fn people_can_read_them() {
        assert_eq!(joint().to_string(), "n1 n2 n3 | n3 n4 n5, learners n6");
        assert_eq!(joint().left().to_string(), "n1 n2 n3, learners n6");
    }

    #[test]
    fn impossible_configurations_are_refused() {
        assert_eq!(Configuration::of_voters([]), Err(ConfigurationError::NoVoters));
        assert_eq!(Configuration::of_voters([NodeId(0)]), Err(ConfigurationError::BadMember(NodeId(0))));
        let both = Configuration::new(set(&[1, 2]), set(&[]), set(&[2]));
        assert_eq!(both, Err(ConfigurationError::BadMember(NodeId(2))));
        let to_be_demoted = Configuration::new(set(&[1, 2]), set(&[2, 3]), set(&[3])).unwrap();
        assert!(to_be_demoted.is_voter(NodeId(3)) && !to_be_demoted.left().is_voter(NodeId(3)));
        let many = Configuration::of_voters((1..=256).map(NodeId));
        assert_eq!(many, Err(ConfigurationError::TooManyMembers(256)));
    }

    /// The way from one configuration to another.
    fn way(from: &Configuration, to: &Configuration) -> Vec<Configuration> {
        let steps: Vec<_> = from.way_to(to).take(5).collect();
        assert!(steps.len() < 5, "{steps:?}");
        steps
    }

    #[test]
    fn a_single_voter_more_or_less_is_one_step() {
        let three = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
        let two = Configuration::of_voters([1, 2].map(NodeId)).unwrap();
        assert_eq!(way(&three, &two), std::slice::from_ref(&two));
        let with_learner = Configuration::new(set(&[1, 2]), set(&[]), set(&[3])).unwrap();
        assert_eq!(way(&two, &three), [with_learner.clone(), three.clone()], "a newcomer learns before it votes");
        assert_eq!(way(&three, &with_learner), [with_learner], "and may be made a learner again");
    }

    #[test]
    fn everything_else_goes_by_way_of_a_joint_configuration() {
        let old = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
        let new = Configuration::new(set(&[3, 4, 5]), set(&[]), set(&[1])).unwrap();
        let learning = Configuration::new(set(&[1, 2, 3]), set(&[]), set(&[4, 5])).unwrap();
        let joint = Configuration::new(set(&[3, 4, 5]), set(&[1, 2, 3]), set(&[1])).unwrap();
        assert_eq!(way(&old, &new), [learning, joint, new.clone()]);
        assert_eq!(way(&joint_of(&new), &old).first(), Some(&new), "a joint one is left first");
    }

    fn joint_of(simple: &Configuration) -> Configuration {
        Configuration::new(simple.voters.clone(), set(&[7, 8]), simple.learners.clone()).unwrap()
    }

    fn at(configuration: Configuration, addresses: &[(u64, &str)]) -> Configuration {
        addresses.iter().fold(configuration, |all, (node, address)| all.with_address(NodeId(*node), address).unwrap())
    }

    /// Whoever is a member can be reached at every step; who goes takes its address along. A move alone is a step, too.
    #[test]
    fn addresses_are_those_of_the_members() {
        let old = at(Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap(), &[(1, "a:1"), (2, "b:1")]);
        let new = at(Configuration::of_voters([3, 4, 5].map(NodeId)).unwrap(), &[(3, "c:1"), (4, "d:1")]);
        let steps: Vec<_> = way(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(
            steps,
            [
                "n1 n2 n3, learners n4 n5, n1 at a:1, n2 at b:1, n3 at c:1, n4 at d:1",
                "n3 n4 n5 | n1 n2 n3, n1 at a:1, n2 at b:1, n3 at c:1, n4 at d:1",
                "n3 n4 n5, n3 at c:1, n4 at d:1",
            ]
        );
        let moved = at(old.clone(), &[(1, "z:9")]);
        assert_eq!(way(&old, &moved), [moved]);
    }

    #[test]
    fn addresses_of_others_and_impossible_ones_are_refused() {
        let one = Configuration::of_voters([NodeId(1)]).unwrap();
        for (node, address) in [(2, "b:1"), (1, ""), (1, &*"x".repeat(256))] {
            let refused = one.clone().with_address(NodeId(node), address);
            assert_eq!(refused, Err(ConfigurationError::BadAddress(NodeId(node))));
        }
    }

    /// Without addresses the bytes are those that older versions read.
    #[test]
    fn bytes_have_the_oldest_version_that_says_it() {
        let plain = Configuration::of_voters([1, 2].map(NodeId)).unwrap();
        assert_eq!(plain.encode()[0], 1);
        let located = at(plain, &[(2, "b:1"), (1, "a:1")]);
        let bytes = located.encode();
        assert_eq!((bytes[0], bytes.len()), (2, 4 + 16 + 1 + 2 * (8 + 1 + 3)));
        assert_eq!(Configuration::decode(&bytes), Ok(located));
        for cut in 1..bytes.len() {
            assert!(Configuration::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    /// For good: no way leads to a configuration that listens to them, or has them as members.
    #[test]
    fn who_is_barred_stays_barred() {
        let alone = Configuration::of_voters([NodeId(3)]).unwrap();
        assert_eq!(alone.clone().with_barred([NodeId(3)]), Err(ConfigurationError::BadMember(NodeId(3))));
        let many = alone.clone().with_barred((4..=259).map(NodeId));
        assert_eq!(many, Err(ConfigurationError::TooManyMembers(256)));
        let recovered = alone.with_barred([1, 2].map(NodeId)).unwrap();
        assert_eq!(recovered.to_string(), "n3, barred n1 n2");
        let again = recovered.clone().with_barred([NodeId(7)]).unwrap();
        assert_eq!(again.barred, set(&[1, 2, 7]));
        let five = Configuration::of_voters([3, 4, 5].map(NodeId)).unwrap();
        let steps = way(&recovered, &five);
        assert_eq!(
            steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["n3, learners n4 n5, barred n1 n2", "n3 n4 n5 | n3, barred n1 n2", "n3 n4 n5, barred n1 n2"]
        );
        let bytes = recovered.encode();
        assert_eq!((bytes[0], bytes.len()), (3, 4 + 8 + 1 + 1 + 16));
        for cut in 1..bytes.len() {
            assert!(Configuration::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let without: Vec<u8> = [&bytes[..13], &[0]].concat();
        assert_eq!(Configuration::decode(&without), Err(ConfigurationError::Malformed), "version 3 and nobody barred");
    }

    #[test]
    fn bytes_of_another_version_are_refused() {
        let mut bytes = joint().encode().to_vec();
        bytes[0] = 9;
        assert_eq!(Configuration::decode(&bytes), Err(ConfigurationError::Malformed));
    }

    /// Whether every quorum of `one` shares a node with every quorum of `other`, by trying all sets of nodes.
    fn quorums_overlap(one: &Configuration, other: &Configuration) -> bool {
        let wins = |configuration: &Configuration, side: u32, yes: bool| {
            configuration.tally(|node| Some((side >> node.0 & 1 == 1) == yes)) == Tally::Won
        };
        !(0..1 << 8).any(|side| wins(one, side, true) && wins(other, side, false))
    }

    quickcheck! {
        /// Whatever the way, neighbours on it cannot decide without each other: no two leaders in a term (dissertation §4.1).
        fn neighbours_on_the_way_overlap(from: Vec<u8>, to: Vec<u8>, learners: Vec<u8>) -> bool {
            let ids = |ids: Vec<u8>| ids.into_iter().map(|id| NodeId(u64::from(id % 7) + 1));
            let (Ok(from), to) = (Configuration::of_voters(ids(from)), Voters::from_nodes(ids(to))) else { return true };
            let learners = Voters::from_nodes(ids(learners).filter(|id| !to.contains(*id)));
            let Ok(to) = Configuration::new(to, Voters::default(), learners) else { return true };
            let mut steps = vec![from.clone()];
            steps.extend(way(&from, &to));
            steps.last() == Some(&to) && steps.windows(2).all(|pair| quorums_overlap(&pair[0], &pair[1]))
        }

        fn configurations_survive_encoding(voters: Vec<u8>, outgoing: Vec<u8>, learners: Vec<u8>, ports: u8, barred: u8) -> bool {
            let sets = [voters, outgoing, learners]
                .map(|ids| Voters::from_nodes(ids.into_iter().take(60).map(|id| NodeId(u64::from(id) + 1))));
            let [voters, outgoing, learners] = sets;
            match Configuration::new(voters, outgoing, learners) {
                Ok(configuration) => {
                    let located = configuration.members().into_iter().filter(|node| node.0 as u8 & ports != 0);
                    let add = |all: Configuration, node: NodeId| all.with_address(node, &format!("host:{node}")).unwrap();
                    let barred = (300..).take(usize::from(barred)).map(NodeId);
                    let configuration = located.fold(configuration, add).with_barred(barred).unwrap();
                    Configuration::decode(&configuration.encode()) == Ok(configuration)
                }
                Err(_) => true,
            }
        }

        fn any_bytes_decode_without_panic(bytes: Vec<u8>) -> bool {
            Configuration::decode(&bytes).is_ok_and(|c| c.encode() == bytes) || Configuration::decode(&bytes).is_err()
        }
    }
}
