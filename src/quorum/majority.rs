//! One set of voters and its majority.

use std::collections::BTreeSet;

use crate::types::NodeId;

/// The state of a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tally {
    /// A quorum said yes.
    Won,
    /// So many said no that a quorum can no longer say yes.
    Lost,
    /// Not decided yet.
    Open,
}

/// A set of voters; more than half of them are a quorum.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Voters(BTreeSet<NodeId>);

impl Voters {
    /// How many voters make a quorum.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// The voters in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `node` is one of them.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.contains(&node)
    }

    /// The set of these nodes; one that is listed twice counts once.
    #[must_use]
    pub fn from_nodes(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self(nodes.into_iter().collect())
    }

    /// The largest value that a quorum has reached: the quorum-th largest (rows `r04`, `r05`, rule `p05`).
    ///
    /// `None` for an empty set. The values are sorted anew at each call: nothing can be out of order (bug `c02`).
    pub fn reached<T: Ord + Copy>(&self, value: impl Fn(NodeId) -> T) -> Option<T> {
        // Larger clusters than this exist only on paper; they pay an allocation.
        const INLINE: usize = 7;
        let count = self.0.len();
        let first = *self.0.first()?;
        let rank = count - self.quorum();
        if count <= INLINE {
            let mut values = [value(first); INLINE];
            for (slot, node) in values.iter_mut().zip(self.iter()) {
                *slot = value(node);
            }
            let values = &mut values[..count];
            values.sort_unstable();
            return Some(values[rank]);
        }
        let mut values: Vec<T> = self.iter().map(value).collect();
        values.sort_unstable();
        Some(values[rank])
    }

    /// Counts a vote; `ballot` is `None` for who has not answered.
    pub fn tally(&self, ballot: impl Fn(NodeId) -> Option<bool>) -> Tally {
        let (mut yes, mut no) = (0, 0);
        for node in self.iter() {
            match ballot(node) {
                Some(true) => yes += 1,
                Some(false) => no += 1,
                None => {}
            }
        }
        if yes >= self.quorum() {
            Tally::Won
        } else if self.len() - no < self.quorum() {
            Tally::Lost
        } else {
            Tally::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn voters(count: usize) -> Voters {
        Voters::from_nodes((1..=count as u64).map(NodeId))
    }

    fn at(values: &[u8], node: NodeId) -> u8 {
        values[node.0 as usize - 1]
    }

    #[test]
    fn a_quorum_is_more_than_half() {
        let quorums: Vec<_> = (0..=5).map(|n| voters(n).quorum()).collect();
        assert_eq!(quorums, [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn an_empty_set_reaches_nothing_and_wins_nothing() {
        assert_eq!(voters(0).reached(|_| 1), None);
        assert_eq!(voters(0).tally(|_| Some(true)), Tally::Lost);
    }

    /// `c02`: values that overtake each other in any order are counted anew.
    #[test]
    fn c02_reached_is_the_quorum_th_largest_whatever_the_order() {
        let five = voters(5);
        assert_eq!(five.reached(|n| at(&[9, 1, 1, 9, 1], n)), Some(1));
        assert_eq!(five.reached(|n| at(&[1, 9, 5, 1, 9], n)), Some(5));
    }

    quickcheck! {
        /// Against the definition: the largest v such that a quorum has a value of at least v.
        fn r04_reached_matches_the_definition(values: Vec<u8>) -> bool {
            let values = &values[..values.len().min(11)];
            let set = voters(values.len());
            let expected = values
                .iter()
                .copied()
                .filter(|v| values.iter().filter(|w| *w >= v).count() >= set.quorum())
                .max();
            set.reached(|n| at(values, n)) == expected
        }

        /// Against all completions: won if every completion wins, lost if none does.
        fn tally_matches_all_completions(ballots: Vec<Option<bool>>) -> bool {
            let ballots = &ballots[..ballots.len().min(9)];
            if ballots.is_empty() { return true }
            let set = voters(ballots.len());
            let count = |missing: bool| ballots.iter().filter(|b| b.unwrap_or(missing)).count();
            let expected = if count(false) >= set.quorum() {
                Tally::Won
            } else if count(true) < set.quorum() {
                Tally::Lost
            } else {
                Tally::Open
            };
            set.tally(|n| ballots[n.0 as usize - 1]) == expected
        }
    }
}
