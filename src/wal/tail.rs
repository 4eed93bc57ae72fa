//! What the log knows of a group: hard state and term runs, and the rules by which they change.
//!
//! The same rules judge what is about to be written and what recovery finds, so whatever was written can be read
//! back, and what could not have been written is damage.

use crate::log::{HardState, Log, TermRun};
use crate::types::{EntryId, Index, Term};
use crate::wal::error::Inconsistency;

/// One group's end of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tail {
    hard_state: Option<HardState>,
    runs: Vec<TermRun>,
    last: Index,
}

impl Tail {
    pub(super) fn with_hard_state(hard_state: HardState) -> Self {
        Self { hard_state: Some(hard_state), ..Self::default() }
    }

    pub(super) fn hard_state(&self) -> Option<HardState> {
        self.hard_state
    }

    /// The last entry.
    pub(super) fn last(&self) -> EntryId {
        EntryId { index: self.last, term: self.runs.last().map_or(Term::ZERO, |run| run.term) }
    }

    /// The log as the core wants it; `None` would break the rules below.
    pub(super) fn to_log(&self) -> Option<Log> {
        Log::from_runs(self.runs.clone(), self.last)
    }

    /// Terms never go back, and a vote once given in a term does not change.
    pub(super) fn set_hard_state(&mut self, state: HardState) -> Result<(), Inconsistency> {
        if state.vote.is_some_and(|node| node.0 == 0) {
            return Err(Inconsistency::VoteForNobody);
        }
        if let Some(last) = self.hard_state {
            let vote_changed = last.vote.is_some() && last.vote != state.vote;
            if state.term < last.term || (state.term == last.term && vote_changed) {
                return Err(Inconsistency::HardStateBack { last: last.term, found: state.term });
            }
        }
        self.hard_state = Some(state);
        Ok(())
    }

    /// Removes every entry from `index` on, which is in the log or right behind it.
    pub(super) fn truncate_from(&mut self, index: Index) -> Result<(), Inconsistency> {
        let last = self.last();
        if self.hard_state.is_none() {
            return Err(Inconsistency::NoHardState);
        }
        if index == Index::ZERO || index > last.index.next() {
            return Err(Inconsistency::Gap { last, found: index });
        }
        self.last = index.previous();
        while self.runs.last().is_some_and(|run| run.first >= index) {
            self.runs.pop();
        }
        Ok(())
    }

    /// Appends `count` entries of one term.
    pub(super) fn append(&mut self, first: EntryId, count: u64) -> Result<(), Inconsistency> {
        let last = self.last();
        let Some(hard_state) = self.hard_state else { return Err(Inconsistency::NoHardState) };
        if first.index <= last.index {
            return Err(Inconsistency::Overwrite { last, found: first.index });
        }
        if first.index != last.index.next() {
            return Err(Inconsistency::Gap { last, found: first.index });
        }
        if first.term < last.term || first.term == Term::ZERO || first.term > hard_state.term {
            return Err(Inconsistency::Term { last, found: first });
        }
        if first.term > last.term {
            self.runs.push(TermRun { first: first.index, term: first.term });
        }
        self.last = last.index.plus(count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn tail() -> Tail {
        let mut tail =
            Tail::with_hard_state(HardState { term: Term(3), vote: Some(NodeId(1)), ..HardState::default() });
        tail.append(EntryId::new(1, 1), 2).unwrap();
        tail.append(EntryId::new(3, 3), 2).unwrap();
        tail
    }

    #[test]
    fn entries_follow_without_gap_or_unmarked_overwrite() {
        let refused = |index, term| tail().append(EntryId::new(index, term), 1).unwrap_err();
        assert_eq!(refused(4, 3), Inconsistency::Overwrite { last: EntryId::new(4, 3), found: Index(4) });
        assert_eq!(refused(6, 3), Inconsistency::Gap { last: EntryId::new(4, 3), found: Index(6) });
        for term in [0, 2, 4] {
            assert!(matches!(refused(5, term), Inconsistency::Term { .. }), "term {term}");
        }
        assert_eq!(Tail::default().append(EntryId::new(1, 1), 1), Err(Inconsistency::NoHardState));
    }

    #[test]
    fn a_truncation_uncovers_the_older_term() {
        let mut tail = tail();
        tail.truncate_from(Index(3)).unwrap();
        assert_eq!(tail.last(), EntryId::new(2, 1));
        tail.append(EntryId::new(3, 2), 1).unwrap();
        assert_eq!(tail.to_log().unwrap().last(), EntryId::new(3, 2));
        tail.truncate_from(Index(4)).unwrap();
        assert!(matches!(tail.truncate_from(Index(5)), Err(Inconsistency::Gap { .. })));
        assert!(matches!(tail.truncate_from(Index(0)), Err(Inconsistency::Gap { .. })));
    }

    #[test]
    fn a_vote_once_given_stays_until_the_term_moves() {
        let state =
            |term, vote: Option<u64>| HardState { term: Term(term), vote: vote.map(NodeId), ..HardState::default() };
        for back in [state(3, None), state(3, Some(2)), state(2, Some(1))] {
            assert!(matches!(tail().set_hard_state(back), Err(Inconsistency::HardStateBack { .. })), "{back:?}");
        }
        assert_eq!(tail().set_hard_state(state(3, Some(1))), Ok(()));
        assert_eq!(tail().set_hard_state(state(4, None)), Ok(()));
        assert_eq!(tail().set_hard_state(state(4, Some(0))), Err(Inconsistency::VoteForNobody));
    }
}
