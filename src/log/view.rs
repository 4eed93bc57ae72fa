//! The in-memory view of the log: the term of every index, and the cached tail.

use std::collections::VecDeque;

use crate::log::{Entry, LogSlice};
use crate::types::{EntryId, Index, Term};

/// A stretch of the log whose entries have one term.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TermRun {
    /// The first index of the stretch.
    pub first: Index,
    /// The term of its entries.
    pub term: Term,
}

/// The log: which term stands at each index, and the entries of the tail as far as they are cached.
///
/// Term runs answer every `prev term` check and every conflict hint without the disk. The cache always holds a
/// contiguous tail; [`Log::shrink_cache`] drops its front.
///
/// A compacted log begins behind its *base*, the last entry that is gone; of what is below, nothing is known any more.
///
/// Invariant: runs start right behind the base, at rising indexes with rising terms; the cache ends at `last`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct Log {
    base: EntryId,
    runs: Vec<TermRun>,
    last: Index,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
}

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A log known only by its terms, as recovery finds it: `runs` in order behind `base`, the last one ending at `last`.
    ///
    /// `None` if the runs do not start right behind `base`, do not rise, or `last` is not in the last of them.
    #[must_use]
    pub fn from_runs(base: EntryId, runs: Vec<TermRun>, last: Index) -> Option<Self> {
        let rising = runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term);
        let well_formed = match (runs.first(), runs.last()) {
            (Some(first), Some(end)) => {
                let starts = first.first == base.index.next() && first.term >= base.term && first.term > Term::ZERO;
                starts && end.first <= last
            }
            _ => last == base.index,
        };
        let base_exists = (base.index == Index::ZERO) == (base.term == Term::ZERO);
        let log = Self { base, runs, last, cache: VecDeque::new(), cache_bytes: 0 };
        (rising && well_formed && base_exists).then_some(log)
    }

    /// The last entry that was compacted away, [`EntryId::ZERO`] if none was.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The first index that the log may hold: the one behind the base.
    #[must_use]
    pub fn first(&self) -> Index {
        self.base.index.next()
    }

    /// The last entry, the base if there is none.
    #[must_use]
    pub fn last(&self) -> EntryId {
        EntryId { index: self.last, term: self.runs.last().map_or(self.base.term, |run| run.term) }
    }

    /// The term at `index`, also of the base (0 at index 0); `None` below it, where it is not known any more, and past
    /// the end ("no such entry" is never term 0, bug `b25`).
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.holds(index).then(|| self.runs[self.run_of(index)].term)
    }

    fn holds(&self, index: Index) -> bool {
        self.base.index < index && index <= self.last
    }

    /// Whether the log holds this very entry (or it is the one before the first). False below the base.
    #[must_use]
    pub fn contains(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The first index in the log of the term that stands at `index`; `None` where the log holds nothing.
    #[must_use]
    pub fn first_of_term_at(&self, index: Index) -> Option<Index> {
        self.holds(index).then(|| self.runs[self.run_of(index)].first)
    }

    /// The last index, from the base on, whose term is at most `term`; 0 if none is known.
    #[must_use]
    pub fn last_index_up_to_term(&self, term: Term) -> Index {
        if term < self.base.term {
            return Index::ZERO;
        }
        let after = self.runs.partition_point(|run| run.term <= term);
        self.runs.get(after).map_or(self.last, |run| run.first.previous())
    }

    /// The position in `runs` of the run that holds `index`, which must be in the log or right behind it.
    fn run_of(&self, index: Index) -> usize {
        self.runs.partition_point(|run| run.first <= index).saturating_sub(1)
    }

    /// Appends one entry after the last.
    ///
    /// The caller guarantees that its index follows and its term does not fall: entries come from a [`LogSlice`] that
    /// was checked against this log, or from the leader itself.
    pub fn append(&mut self, entry: Entry) {
        debug_assert_eq!(entry.id.index, self.last.next(), "entries are appended without a gap");
        debug_assert!(entry.id.term >= self.last().term, "terms never fall along the log");
        if self.runs.last().is_none_or(|run| run.term != entry.id.term) {
            self.runs.push(TermRun { first: entry.id.index, term: entry.id.term });
        }
        self.last = entry.id.index;
        self.cache_bytes += entry.footprint();
        self.cache.push_back(entry);
    }

    /// Removes every entry from `index` on. Nothing up to the base can be removed: it was committed.
    pub fn truncate_from(&mut self, index: Index) {
        if !self.holds(index) {
            return;
        }
        self.last = index.previous();
        while self.runs.last().is_some_and(|run| run.first > self.last) {
            self.runs.pop();
        }
        while let Some(entry) = self.cache.pop_back_if(|entry| entry.id.index >= index) {
            self.cache_bytes -= entry.footprint();
        }
    }

    /// Makes the log begin behind `to`, as [`Compaction`](crate::log::Compaction) says. It does not move back.
    pub fn compact(&mut self, to: EntryId) {
        debug_assert!(to.index >= self.base.index, "a compaction never moves back");
        if to.index <= self.base.index {
            return;
        }
        if self.contains(to) {
            let run = self.run_of(to.index.next());
            self.runs.drain(..run);
            if let Some(first) = self.runs.first_mut() {
                first.first = to.index.next();
            }
            self.runs.retain(|run| run.first <= self.last);
        } else {
            self.runs.clear();
            self.last = to.index;
        }
        self.base = to;
        let (first, last) = (self.first(), self.last);
        while let Some(entry) = self.cache.pop_front_if(|entry| !(first..=last).contains(&entry.id.index)) {
            self.cache_bytes -= entry.footprint();
        }
    }

    /// The first index in the cache; the one after the last if the cache is empty.
    #[must_use]
    pub fn cached_from(&self) -> Index {
        self.cache.front().map_or(self.last.next(), |entry| entry.id.index)
    }

    /// Bytes of memory that the cached entries take.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Drops cached entries from the front while the cache holds more than `budget` bytes, but none after `keep_after`.
    pub fn shrink_cache(&mut self, budget: usize, keep_after: Index) {
        while self.cache_bytes > budget {
            match self.cache.pop_front_if(|entry| entry.id.index <= keep_after) {
                Some(entry) => self.cache_bytes -= entry.footprint(),
                None => return,
            }
        }
    }

    /// Entries from `first` on, out of the cache: at most `max_entries` and `max_bytes` of payload, but one at least.
    ///
    /// `None` if `first` is not cached; empty if `first` is past the end.
    #[must_use]
    pub fn cached(&self, first: Index, last: Index, max_entries: usize, max_bytes: usize) -> Option<Vec<Entry>> {
        if first > self.last || first > last {
            return Some(Vec::new());
        }
        let skip = first.0.checked_sub(self.cached_from().0)?;
        let wanted = usize::try_from(last.0 - first.0 + 1).unwrap_or(usize::MAX).min(max_entries);
        let available = self.cache.len() - skip as usize;
        let mut taken = Vec::with_capacity(wanted.min(available));
        let mut bytes = 0;
        for entry in self.cache.range(skip as usize..).take(wanted) {
            bytes += entry.payload.len();
            if bytes > max_bytes && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Some(taken)
    }

    /// Where `slice` and this log part: the first entry of `slice` that this log holds in another term or not at all.
    /// `None` if this log holds all of it. Whatever lies below the base was held, and committed.
    #[must_use]
    pub fn first_missing(&self, slice: &LogSlice) -> Option<EntryId> {
        let ids = slice.entries().iter().map(|entry| entry.id);
        ids.skip_while(|id| id.index < self.base.index).find(|id| !self.contains(*id))
    }

    /// The term runs, for checks.
    #[must_use]
    pub fn runs(&self) -> &[TermRun] {
        &self.runs
    }

    /// The cached entries in order, for checks.
    pub fn cached_entries(&self) -> impl Iterator<Item = &Entry> {
        self.cache.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::EntryKind;
    use bytes::Bytes;
    use quickcheck::{Arbitrary, Gen, quickcheck};

    fn entry(index: u64, term: u64) -> Entry {
        Entry { id: EntryId::new(index, term), kind: EntryKind::Command, payload: Bytes::from(vec![term as u8; 4]) }
    }

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new();
        for (at, term) in terms.iter().enumerate() {
            log.append(entry(at as u64 + 1, *term));
        }
        log
    }

    #[test]
    fn an_empty_log_holds_only_the_entry_before_the_first() {
        let log = Log::new();
        assert_eq!(log.last(), EntryId::ZERO);
        assert!(log.contains(EntryId::ZERO));
        assert_eq!(log.term_at(Index(1)), None);
        assert_eq!(log.cached(Index(1), Index(9), 9, 9), Some(vec![]));
    }

    /// `b25`: "no such entry" is never term 0.
    #[test]
    fn b25_past_the_end_there_is_no_term() {
        let log = log(&[1, 1, 3]);
        assert_eq!(log.term_at(Index(4)), None);
        assert!(!log.contains(EntryId { index: Index(4), term: Term::ZERO }));
    }

    #[test]
    fn hints_come_from_term_runs() {
        let log = log(&[1, 1, 3, 3, 3, 5]);
        assert_eq!(log.first_of_term_at(Index(5)), Some(Index(3)));
        assert_eq!(log.last_index_up_to_term(Term(4)), Index(5));
        assert_eq!(log.last_index_up_to_term(Term(2)), Index(2));
        assert_eq!(log.last_index_up_to_term(Term(9)), Index(6));
        assert_eq!(log.last_index_up_to_term(Term::ZERO), Index::ZERO);
    }

    #[test]
    fn a_cached_range_stops_at_its_limits_but_brings_one_entry() {
        let log = log(&[1; 10]);
        let ids = |first, last, entries, bytes| {
            let taken = log.cached(Index(first), Index(last), entries, bytes).unwrap();
            taken.iter().map(|e| e.id.index.0).collect::<Vec<_>>()
        };
        assert_eq!(ids(3, 5, 99, 999), [3, 4, 5]);
        assert_eq!(ids(3, 9, 2, 999), [3, 4]);
        assert_eq!(ids(3, 9, 99, 8), [3, 4]);
        assert_eq!(ids(3, 9, 99, 1), [3]);
        assert_eq!(ids(11, 12, 9, 9), [0; 0]);
    }

    #[test]
    fn what_left_the_cache_must_be_loaded() {
        let mut log = log(&[1; 10]);
        log.shrink_cache(6 * entry(1, 1).footprint() - 1, Index(4));
        assert_eq!(log.cached_from(), Index(5), "nothing after index 4 may be dropped");
        assert_eq!(log.cached(Index(4), Index(9), 9, 99), None);
        assert_eq!(log.term_at(Index(1)), Some(Term(1)), "terms stay known");
    }

    #[test]
    fn recovered_runs_are_checked() {
        let run = |first, term| TermRun { first: Index(first), term: Term(term) };
        assert_eq!(
            Log::from_runs(EntryId::ZERO, vec![run(1, 1), run(4, 3)], Index(6)).unwrap().last(),
            EntryId::new(6, 3)
        );
        assert!(Log::from_runs(EntryId::ZERO, vec![], Index(0)).is_some());
        for (runs, last) in [
            (vec![], 1),
            (vec![run(2, 1)], 3),
            (vec![run(1, 0)], 3),
            (vec![run(1, 3), run(4, 3)], 6),
            (vec![run(1, 1), run(4, 3)], 3),
        ] {
            assert!(Log::from_runs(EntryId::ZERO, runs.clone(), Index(last)).is_none(), "{runs:?} {last}");
        }
    }

    #[test]
    fn a_compacted_log_begins_behind_its_base() {
        let mut log = log(&[1, 1, 3, 3, 5]);
        log.compact(EntryId::new(3, 3));
        assert_eq!((log.base(), log.first(), log.last()), (EntryId::new(3, 3), Index(4), EntryId::new(5, 5)));
        let terms: Vec<_> = (2..=6).map(|index| log.term_at(Index(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [None, Some(3), Some(3), Some(5), None]);
        assert_eq!(log.first_of_term_at(Index(4)), Some(Index(4)), "as far as the log knows");
        assert_eq!(log.first_of_term_at(Index(3)), None);
        assert_eq!(log.last_index_up_to_term(Term(4)), Index(4));
        assert_eq!(log.last_index_up_to_term(Term(2)), Index::ZERO);
        assert_eq!((log.cached_from(), log.cached(Index(3), Index(9), 9, 99)), (Index(4), None));
        let below = LogSlice::new(EntryId::new(1, 1), entries(&[1, 1, 3, 3, 4])[1..].to_vec()).unwrap();
        assert_eq!(log.first_missing(&below), Some(EntryId::new(5, 4)), "what is below was held");
        log.truncate_from(Index(2));
        assert_eq!(log.last(), EntryId::new(5, 5), "what was committed cannot be removed");
        log.truncate_from(Index(4));
        assert_eq!(log.last(), log.base());
    }

    /// `b53`: a log that does not hold the last entry of a snapshot goes as a whole.
    #[test]
    fn b53_a_snapshot_replaces_a_log_that_does_not_hold_its_last_entry() {
        for to in [EntryId::new(3, 4), EntryId::new(9, 5), EntryId::new(9, 7)] {
            let mut log = log(&[1, 1, 3, 3, 5]);
            log.compact(to);
            assert_eq!((log.base(), log.last(), log.runs(), log.cache_bytes()), (to, to, &[][..], 0));
            log.append(entry(to.index.0 + 1, 8));
            assert_eq!(log.last(), EntryId::new(to.index.0 + 1, 8));
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Append(u8, u8),
        Truncate(u8),
        Shrink(u8, u8),
        Compact(u8),
        Replace(u8, u8),
    }

    impl Arbitrary for Op {
        fn arbitrary(g: &mut Gen) -> Self {
            match u8::arbitrary(g) % 6 {
                2 => Self::Compact(u8::arbitrary(g) % 20),
                3 if bool::arbitrary(g) => Self::Replace(u8::arbitrary(g) % 5, u8::arbitrary(g) % 2),
                0 => Self::Truncate(u8::arbitrary(g) % 40),
                1 => Self::Shrink(u8::arbitrary(g), u8::arbitrary(g) % 40),
                _ => Self::Append(u8::arbitrary(g) % 3, u8::arbitrary(g) % 6),
            }
        }
    }

    quickcheck! {
        /// The log against the obvious one: a base, a vector of terms and a number of forgotten payloads.
        fn log_behaves_like_a_vector(ops: Vec<Op>) -> bool {
            let (mut log, mut base, mut model) = (Log::new(), EntryId::ZERO, Vec::<u64>::new());
            for op in ops {
                let first = base.index.0 + 1;
                let last_term = model.last().copied().unwrap_or(base.term.0);
                match op {
                    Op::Append(rise, count) => {
                        let term = (last_term + u64::from(rise)).max(1);
                        for _ in 0..count {
                            model.push(term);
                            log.append(entry(base.index.0 + model.len() as u64, term));
                        }
                    }
                    Op::Truncate(index) => {
                        if u64::from(index) >= first { model.truncate((u64::from(index) - first) as usize) }
                        log.truncate_from(Index(u64::from(index)));
                    }
                    Op::Shrink(bytes, keep) => log.shrink_cache(8 * usize::from(bytes), Index(u64::from(keep))),
                    Op::Compact(count) => {
                        let gone = model.drain(..usize::from(count).min(model.len())).next_back();
                        base = gone.map_or(base, |term| EntryId::new(base.index.0 + u64::from(count).min(log.last().index.0 - base.index.0), term));
                        log.compact(base);
                    }
                    Op::Replace(ahead, rise) => {
                        // Behind the end, or in the place of the last entry, in another term.
                        let (ahead, rise) = (u64::from(ahead), u64::from(rise));
                        let index = base.index.0 + model.len() as u64 + ahead;
                        let rise = if ahead == 0 { 1 } else { rise };
                        if !model.is_empty() || ahead > 0 {
                            base = EntryId::new(index, (last_term + rise).max(1));
                            model.clear();
                            log.compact(base);
                        }
                    }
                }
                let first = base.index.0 + 1;
                let end = first + model.len() as u64;
                let terms: Vec<_> = (first..end).map(|i| log.term_at(Index(i)).unwrap().0).collect();
                let cached = log.cached_from().0;
                let tail: Vec<_> = log.cached_entries().map(|e| (e.id.index.0, e.id.term.0)).collect();
                let model_tail: Vec<_> = (cached..end).map(|i| (i, model[(i - first) as usize])).collect();
                let bytes: usize = log.cached_entries().map(Entry::footprint).sum();
                let runs = Log::from_runs(log.base(), log.runs().to_vec(), log.last().index);
                let ends = log.base() == base && log.term_at(base.index) == Some(base.term) && log.last().index.0 + 1 == end;
                let same = terms == model && tail == model_tail && bytes == log.cache_bytes();
                if !same || !ends || cached < first || runs.is_none() {
                    return false;
                }
            }
            true
        }

        /// Every question about terms, and every conflict with another log, is answered as by walking along the vector.
        fn terms_and_conflicts_are_as_in_a_vector(rises: Vec<u8>, agree: u8, others: Vec<u8>) -> bool {
            let mine = rising(&rises, &[]);
            let log = log(&mine);
            let shared = usize::from(agree).min(mine.len());
            let theirs = rising(&others, &mine[..shared]);
            let slice = LogSlice::new(EntryId::ZERO, entries(&theirs)).unwrap();
            let differs = |at: &usize| mine.get(*at) != theirs.get(*at);
            let missing = (0..theirs.len()).find(differs).map(|at| EntryId::new(at as u64 + 1, theirs[at]));
            let first_of = |index: usize| mine.iter().position(|term| *term == mine[index]).map(|at| Index(at as u64 + 1));
            let up_to = |term: u64| Index(mine.iter().filter(|other| **other <= term).count() as u64);
            log.first_missing(&slice) == missing
                && (0..mine.len()).all(|at| log.first_of_term_at(Index(at as u64 + 1)) == first_of(at))
                && log.first_of_term_at(log.last().index.next()).is_none()
                && (0..=log.last().term.0 + 1).all(|term| log.last_index_up_to_term(Term(term)) == up_to(term))
                && theirs.iter().zip(1..).all(|(term, index)| {
                    log.contains(EntryId::new(index, *term)) == (mine.get(index as usize - 1) == Some(term))
                })
        }

        /// A range comes out of the cache whole up to its limits, or not at all if its beginning has left.
        fn cached_ranges_are_as_in_a_vector(rises: Vec<u8>, gone: u8, range: (u8, u8), limits: (u8, u8)) -> bool {
            let terms = rising(&rises, &[]);
            let mut log = log(&terms);
            let (first, last) = (u64::from(range.0).max(1), u64::from(range.1));
            let (most, bytes) = (usize::from(limits.0).max(1), usize::from(limits.1));
            let gone = usize::from(gone).min(terms.len());
            log.shrink_cache((terms.len() - gone) * entry(1, 1).footprint(), log.last().index);
            let in_range = entries(&terms).into_iter().filter(|e| (first..=last).contains(&e.id.index.0));
            // Each has 4 bytes: as many as fit, but one.
            let expected: Vec<_> = in_range.take(most.min((bytes / 4).max(1))).collect();
            let starts_in_log = first <= terms.len() as u64 && first <= last;
            let known = !starts_in_log || first > gone as u64;
            log.cached(Index(first), Index(last), most, bytes) == known.then_some(expected)
        }
    }

    /// Terms that rise a little here and there, behind those given.
    fn rising(rises: &[u8], before: &[u64]) -> Vec<u64> {
        let mut terms = before.to_vec();
        for rise in rises.iter().take(40) {
            terms.push(terms.last().copied().unwrap_or(1) + u64::from(rise % 8 / 6));
        }
        terms
    }

    fn entries(terms: &[u64]) -> Vec<Entry> {
        terms.iter().zip(1..).map(|(term, index)| entry(index, *term)).collect()
    }
}
