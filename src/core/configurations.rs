//! The configurations that stand in the log.

use crate::quorum::Configuration;
use crate::types::{Index, NodeId};

/// Every configuration in the log, oldest first; the latest is in use from the moment it is appended, committed or
/// not, and the one before it again if it is truncated (dissertation §4.1). The oldest one is never truncated: it is
/// committed by founding the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Configurations {
    oldest: (Index, Configuration),
    later: Vec<(Index, Configuration)>,
}

impl Configurations {
    /// `None` if there is none.
    pub(super) fn new(mut all: Vec<(Index, Configuration)>) -> Option<Self> {
        if all.is_empty() {
            return None;
        }
        let later = all.split_off(1);
        Some(Self { oldest: all.pop()?, later })
    }

    /// Of a node that is yet to hear of the group: nobody it knows of is a member.
    pub(super) fn unknown() -> Self {
        Self { oldest: (Index::ZERO, Configuration::default()), later: Vec::new() }
    }

    pub(super) fn in_use(&self) -> &Configuration {
        &self.later.last().unwrap_or(&self.oldest).1
    }

    /// Where the one in use stands.
    pub(super) fn index_in_use(&self) -> Index {
        self.later.last().unwrap_or(&self.oldest).0
    }

    /// The latest committed one, and where it stands.
    pub(super) fn committed(&self, commit: Index) -> (Index, &Configuration) {
        let committed = self.later.iter().rev().find(|(at, _)| *at <= commit).unwrap_or(&self.oldest);
        (committed.0, &committed.1)
    }

    /// Whether `node` votes in the latest committed one or in one after it. Until the latest is committed it may be that
    /// only those who have it can be elected, even if they are no voters in it (dissertation §4.2.2).
    pub(super) fn may_need(&self, node: NodeId, commit: Index) -> bool {
        let (committed, _) = self.committed(commit);
        let all = std::iter::once(&self.oldest).chain(&self.later);
        all.filter(|(at, _)| *at >= committed).any(|(_, configuration)| configuration.is_voter(node))
    }

    /// Whether one of them has `node` as a member.
    pub(super) fn ever_had(&self, node: NodeId) -> bool {
        std::iter::once(&self.oldest).chain(&self.later).any(|(_, configuration)| configuration.is_member(node))
    }

    /// The index of the oldest one.
    pub(super) fn oldest_index(&self) -> Index {
        self.oldest.0
    }

    pub(super) fn append(&mut self, index: Index, configuration: Configuration) {
        self.later.push((index, configuration));
    }

    pub(super) fn truncate_from(&mut self, index: Index) {
        self.later.retain(|(at, _)| *at < index);
    }

    /// The log begins after the one at `index`, which is committed: those before it are gone.
    pub(super) fn forget_before(&mut self, index: Index) {
        if let Some(place) = self.later.iter().position(|(at, _)| *at == index) {
            self.oldest = self.later.drain(..=place).next_back().unwrap_or_else(|| self.oldest.clone());
        }
    }

    /// A snapshot with this one replaced the log.
    pub(super) fn become_only(&mut self, only: (Index, Configuration)) {
        (self.oldest, self.later) = (only, Vec::new());
    }

    /// The indexes in order, for checks.
    pub(super) fn indexes(&self) -> impl Iterator<Item = Index> {
        std::iter::once(self.oldest.0).chain(self.later.iter().map(|(at, _)| *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Configurations {
        let of = |count| Configuration::of_voters((1..=count).map(NodeId)).unwrap();
        Configurations::new([1, 4, 9].map(|at| (Index(at), of(at))).to_vec()).unwrap()
    }

    #[test]
    fn what_the_log_has_given_up_is_forgotten() {
        let mut configurations = all();
        configurations.forget_before(Index(4));
        assert_eq!(configurations.indexes().collect::<Vec<_>>(), [Index(4), Index(9)]);
        configurations.forget_before(Index(4));
        assert_eq!((configurations.oldest_index(), configurations.index_in_use()), (Index(4), Index(9)));
        configurations.truncate_from(Index(9));
        assert_eq!(configurations.in_use(), &all().committed(Index(4)).1.clone());
    }
}
