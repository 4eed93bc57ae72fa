//! What is known of a group's log: hard state, where it begins and its term runs, and the rules by which they change.
//!
//! The same rules judge what is about to be written and what recovery finds, so whatever was written can be read
//! back, and what could not have been written is damage.
//!
//! Recovery begins with the oldest segment that is left. That one's table says where the log of each group began and
//! ended by then, but not the terms in between: those entries were compacted away later, or copied forward, as what
//! follows must show. Until then their term is *unknown*.

use crate::log::{Compaction, HardState, Log, TermRun};
use crate::types::{EntryId, Index, Term};
use crate::wal::error::Inconsistency;

/// The term of entries of which it is not known (yet).
const UNKNOWN: Term = Term::ZERO;

/// One group's log, without its entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tail {
    hard_state: Option<HardState>,
    base: EntryId,
    /// The latest compaction. Its `last` is `base`, unless it is not known yet.
    compaction: Option<Compaction>,
    /// Right behind the base the first one begins. Neighbours have different terms.
    runs: Vec<TermRun>,
    last: Index,
}

/// What the header of a segment says of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Summary {
    pub(super) hard_state: HardState,
    /// The last entry that was compacted away.
    pub(super) base: EntryId,
    /// The last entry of the log.
    pub(super) last: EntryId,
}

impl Summary {
    /// Whether the log could be like that. Numbers that no log reaches would overflow further on.
    pub(super) fn is_plausible(&self) -> bool {
        let Self { hard_state, base, last } = self;
        let exists = |id: &EntryId| (id.index == Index::ZERO) == (id.term == Term::ZERO) && id.index.0 < 1 << 62;
        let in_order = base.index <= last.index && base.term <= last.term && last.term <= hard_state.term;
        exists(base) && exists(last) && in_order && (base.index < last.index || base == last)
    }
}

impl Tail {
    /// A group as the oldest segment's table describes it.
    pub(super) fn of(summary: &Summary) -> Self {
        let Summary { hard_state, base, last } = *summary;
        let mut runs = Vec::new();
        if last.index > base.index.next() {
            runs.push(TermRun { first: base.index.next(), term: UNKNOWN });
        }
        if last.index > base.index {
            runs.push(TermRun { first: last.index, term: last.term });
        }
        Self { hard_state: Some(hard_state), base, compaction: None, runs, last: last.index }
    }

    /// What the next segment's table will say. `None` without a hard state: there is no such group.
    pub(super) fn summary(&self) -> Option<Summary> {
        Some(Summary { hard_state: self.hard_state?, base: self.base, last: self.last() })
    }

    /// Whether the table of the next segment says what is known here; a term not known here is learnt from it.
    pub(super) fn agree(&mut self, summary: &Summary) -> bool {
        let known = self.last();
        if known.term == UNKNOWN && known.index > self.base.index && summary.last.index == known.index {
            let _ = self.copy(summary.last, 1);
        }
        self.summary().as_ref() == Some(summary)
    }

    pub(super) fn hard_state(&self) -> Option<HardState> {
        self.hard_state
    }

    pub(super) fn compaction(&self) -> Option<&Compaction> {
        self.compaction.as_ref()
    }

    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, the base if there is none.
    pub(super) fn last(&self) -> EntryId {
        EntryId { index: self.last, term: self.runs.last().map_or(self.base.term, |run| run.term) }
    }

    /// The log as the core wants it; `None` would break the rules below.
    pub(super) fn to_log(&self) -> Option<Log> {
        let whole = (self.base == EntryId::ZERO) == self.compaction.is_none();
        Log::from_runs(self.base, self.runs.clone(), self.last).filter(|_| whole)
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

    /// Makes the log begin behind `to.last`. Whether that replaces the whole log is what `said` says, and follows from
    /// the log where it is not said; returns which it is.
    pub(super) fn compact(&mut self, to: Compaction, said: Option<bool>) -> Result<bool, Inconsistency> {
        let (base, found) = (self.base, to.last);
        let Some(hard_state) = self.hard_state else { return Err(Inconsistency::NoHardState) };
        if found.index == Index::ZERO || found.index < base.index || (found.index == base.index && found != base) {
            return Err(Inconsistency::CompactionBack { base, found });
        }
        if found.term < base.term || found.term == Term::ZERO || found.term > hard_state.term {
            return Err(Inconsistency::Term { last: base, found });
        }
        if to.configuration.0 > found.index {
            return Err(Inconsistency::LateConfiguration { found, configuration: to.configuration.0 });
        }
        let held = self.holds(found);
        let replaces = said.unwrap_or(held == Some(false));
        if held == Some(replaces) {
            return Err(Inconsistency::Replacement { found });
        }
        if replaces {
            self.runs.clear();
            self.last = found.index;
        } else {
            self.runs.drain(..self.run_of(found.index.next()));
            if let Some(run) = self.runs.first_mut() {
                run.first = found.index.next();
            }
            self.runs.retain(|run| run.first <= self.last);
        }
        self.base = found;
        self.compaction = Some(to);
        Ok(replaces)
    }

    /// Whether the log holds this very entry, or begins right behind it; `None` if that is not known.
    fn holds(&self, id: EntryId) -> Option<bool> {
        if id.index == self.base.index {
            return Some(id == self.base);
        }
        if id.index < self.base.index || id.index > self.last {
            return Some(false);
        }
        let term = self.runs.get(self.run_of(id.index)).map_or(UNKNOWN, |run| run.term);
        (term != UNKNOWN).then_some(term == id.term)
    }

    /// The position of the last run that begins at `index` or before it.
    fn run_of(&self, index: Index) -> usize {
        self.runs.partition_point(|run| run.first <= index).saturating_sub(1)
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
        if index <= self.base.index {
            return Err(Inconsistency::TruncatesBase { base: self.base, found: index });
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
        if self.runs.last().is_none_or(|run| run.term != first.term) {
            self.runs.push(TermRun { first: first.index, term: first.term });
        }
        self.last = last.index.plus(count);
        Ok(())
    }

    /// Takes note of a copy of `count` entries of one term, all of which the log must hold. Where their term was not
    /// known, it is now.
    pub(super) fn copy(&mut self, first: EntryId, count: u64) -> Result<(), Inconsistency> {
        let end = first.index.plus(count); // behind the last one
        if first.index <= self.base.index || end > self.last.next() || first.term == UNKNOWN {
            return Err(Inconsistency::Copy { found: first });
        }
        let mut runs = Vec::with_capacity(self.runs.len() + 2);
        for (at, run) in self.runs.iter().enumerate() {
            let run_end = self.runs.get(at + 1).map_or(self.last.next(), |next| next.first);
            if run_end <= first.index || run.first >= end || run.term == first.term {
                runs.push(*run);
                continue;
            }
            if run.term != UNKNOWN {
                return Err(Inconsistency::Copy { found: first });
            }
            let (from, to) = (run.first.max(first.index), run_end.min(end));
            let pieces =
                [(run.first, UNKNOWN, run.first < from), (from, first.term, true), (to, UNKNOWN, to < run_end)];
            let there = pieces.into_iter().filter(|(.., there)| *there);
            runs.extend(there.map(|(first, term, _)| TermRun { first, term }));
        }
        runs.dedup_by_key(|run| run.term);
        self.runs = runs;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;
    use bytes::Bytes;

    fn state(term: u64, vote: Option<u64>) -> HardState {
        HardState { term: Term(term), vote: vote.map(NodeId), ..HardState::default() }
    }

    /// Entries 1 and 2 of term 1, 3 and 4 of term 3.
    fn tail() -> Tail {
        let mut tail = Tail { hard_state: Some(state(3, Some(1))), ..Tail::default() };
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
        for back in [state(3, None), state(3, Some(2)), state(2, Some(1))] {
            assert!(matches!(tail().set_hard_state(back), Err(Inconsistency::HardStateBack { .. })), "{back:?}");
        }
        assert_eq!(tail().set_hard_state(state(3, Some(1))), Ok(()));
        assert_eq!(tail().set_hard_state(state(4, None)), Ok(()));
        assert_eq!(tail().set_hard_state(state(4, Some(0))), Err(Inconsistency::VoteForNobody));
    }

    fn to(index: u64, term: u64) -> Compaction {
        Compaction { last: EntryId::new(index, term), configuration: (Index(1), Bytes::from_static(b"voters")) }
    }

    #[test]
    fn a_compaction_keeps_what_follows_or_replaces_the_log() {
        let compacted = |index, term| {
            let mut tail = tail();
            let replaces = tail.compact(to(index, term), None).unwrap();
            let runs = tail.to_log().unwrap().runs().iter().map(|run| (run.first.0, run.term.0)).collect::<Vec<_>>();
            (replaces, tail.base().index.0, runs, tail.last())
        };
        let last = EntryId::new(4, 3);
        assert_eq!(compacted(1, 1), (false, 1, vec![(2, 1), (3, 3)], last));
        assert_eq!(compacted(2, 1), (false, 2, vec![(3, 3)], last));
        assert_eq!(compacted(3, 3), (false, 3, vec![(4, 3)], last));
        assert_eq!(compacted(4, 3), (false, 4, vec![], last));
        assert_eq!(compacted(9, 3), (true, 9, vec![], EntryId::new(9, 3)), "the log ends before");
        assert_eq!(compacted(2, 2), (true, 2, vec![], EntryId::new(2, 2)), "b53: another term there");
    }

    #[test]
    fn a_compaction_moves_only_on() {
        let mut tail = tail();
        tail.compact(to(3, 3), None).unwrap();
        assert_eq!(tail.compact(to(3, 3), None), Ok(false), "the same one again");
        for (index, term) in [(2, 1), (3, 2), (0, 0)] {
            let refused = tail.compact(to(index, term), None);
            assert!(matches!(refused, Err(Inconsistency::CompactionBack { .. })), "{index} {term}");
        }
        for (index, term) in [(4, 0), (4, 2), (5, 4)] {
            assert!(matches!(tail.compact(to(index, term), None), Err(Inconsistency::Term { .. })), "{index} {term}");
        }
        let late = Compaction { configuration: (Index(5), Bytes::new()), ..to(4, 3) };
        assert!(matches!(tail.compact(late, None), Err(Inconsistency::LateConfiguration { .. })));
        for (index, said) in [(4, true), (5, false)] {
            let wrong = tail.compact(to(index, 3), Some(said));
            assert!(matches!(wrong, Err(Inconsistency::Replacement { .. })), "{index} {said}");
        }
        assert!(matches!(tail.truncate_from(Index(3)), Err(Inconsistency::TruncatesBase { .. })));
        assert_eq!(tail.truncate_from(Index(4)), Ok(()));
        assert_eq!(tail.last(), EntryId::new(3, 3));
        assert!(matches!(tail.append(EntryId::new(4, 1), 1), Err(Inconsistency::Term { .. })), "below the base's term");
    }

    #[test]
    fn copies_must_be_of_what_the_log_holds() {
        let mut tail = tail();
        tail.compact(to(1, 1), None).unwrap();
        let before = tail.clone();
        for (index, term, count) in [(2, 1, 1), (3, 3, 2), (4, 3, 1)] {
            assert_eq!(tail.copy(EntryId::new(index, term), count), Ok(()), "{index}");
        }
        for (index, term, count) in [(1, 1, 1), (2, 1, 2), (4, 3, 2), (5, 3, 1), (2, 0, 1), (3, 2, 1)] {
            let refused = tail.copy(EntryId::new(index, term), count);
            assert!(matches!(refused, Err(Inconsistency::Copy { .. })), "{index} {term} {count}");
        }
        assert_eq!(tail, before);
    }

    /// What the oldest segment that is left knows of a log, until what follows completes it.
    fn remembered() -> Tail {
        let (base, last) = (EntryId::new(10, 2), EntryId::new(20, 5));
        Tail::of(&Summary { hard_state: state(7, None), base, last })
    }

    #[test]
    fn what_is_not_known_is_learnt_from_copies() {
        let mut tail = remembered();
        tail.append(EntryId::new(21, 6), 1).unwrap();
        assert_eq!(tail.compact(to(10, 2), Some(false)), Ok(false));
        assert_eq!(tail.to_log(), None, "terms are missing");
        tail.copy(EntryId::new(14, 4), 3).unwrap();
        assert!(tail.copy(EntryId::new(16, 5), 1).is_err(), "known by now");
        for (index, term, count) in [(17, 4, 1), (11, 2, 3), (18, 5, 3)] {
            tail.copy(EntryId::new(index, term), count).unwrap();
        }
        let runs = [(11, 2), (14, 4), (18, 5), (21, 6)];
        let runs = runs.map(|(first, term)| TermRun { first: Index(first), term: Term(term) });
        assert_eq!(tail.to_log().unwrap().runs(), runs);
    }

    #[test]
    fn what_is_not_known_may_be_cut_or_compacted() {
        let mut tail = remembered();
        tail.truncate_from(Index(16)).unwrap();
        assert_eq!(tail.last(), EntryId { index: Index(15), term: UNKNOWN });
        let table = |term| Summary { last: EntryId::new(15, term), ..remembered().summary().unwrap() };
        assert!(!tail.clone().agree(&Summary { last: EntryId::new(14, 3), ..table(3) }));
        assert!(tail.agree(&table(3)), "the next table knows it");
        assert!(!tail.agree(&table(4)));
        assert!(tail.append(EntryId::new(16, 2), 1).is_err());
        assert_eq!(tail.compact(to(14, 3), Some(true)), Ok(true), "another one had been there");

        let mut tail = remembered();
        assert_eq!(tail.compact(to(15, 3), Some(false)), Ok(false));
        assert!(matches!(tail.compact(to(20, 5), Some(true)), Err(Inconsistency::Replacement { .. })));
        assert_eq!(tail.compact(to(20, 5), Some(false)), Ok(false));
        assert_eq!(tail.to_log().unwrap().last(), EntryId::new(20, 5));
        assert_eq!(remembered().summary().unwrap().last, EntryId::new(20, 5));
    }
}
