//! Where each entry is: one record in memory per run of entries on disk, not per entry. And what each segment is still
//! needed for.
//!
//! What a compaction takes out of the log leaves memory at once.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::sync::Arc;
use crate::types::{EntryId, GroupId, Index};
use crate::wal::fs::File;
use crate::wal::record::{ITEM_BYTES, ROW_BYTES};

/// Entries of one term that were written as one item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// The first of them that is looked for here.
    pub(super) first: EntryId,
    /// How many, from it on. A truncation may have taken others, a compaction, or a copy further on.
    pub(super) count: u32,
    /// How many rows of the table come before the first one's.
    pub(super) skip: u32,
    /// The segment.
    pub(super) seq: u64,
    /// Offset of the table that follows the item header.
    pub(super) table_at: u32,
    /// How many rows the table has on disk.
    pub(super) table_rows: u32,
    /// CRC-32C of the table.
    pub(super) table_crc: u32,
    /// Offset of the payload of the table's first row; the others follow.
    pub(super) data_at: u32,
    /// Length of all of them.
    pub(super) data_bytes: u32,
}

impl Run {
    pub(super) fn last(&self) -> Index {
        Index(self.first.index.0 + u64::from(self.count) - 1)
    }

    /// About how many bytes a copy of it takes: those of a table that is looked for only in part are shared out.
    pub(super) fn bytes(&self) -> u64 {
        let share = u64::from(self.data_bytes) * u64::from(self.count) / u64::from(self.table_rows.max(1));
        share + u64::from(self.count) * ROW_BYTES as u64 + ITEM_BYTES as u64
    }

    /// What of it lies before `index`.
    fn before(&self, index: Index) -> Option<Self> {
        let count = index.0.checked_sub(self.first.index.0).filter(|count| *count > 0)?;
        Some(Self { count: self.count.min(u32::try_from(count).unwrap_or(u32::MAX)), ..*self })
    }

    /// What of it lies at `index` and behind.
    fn from(&self, index: Index) -> Option<Self> {
        let Some(cut) = index.0.checked_sub(self.first.index.0) else { return Some(*self) };
        let cut = u32::try_from(cut).ok().filter(|cut| *cut < self.count)?;
        let first = EntryId { index: self.first.index.plus(u64::from(cut)), ..self.first };
        Some(Self { first, count: self.count - cut, skip: self.skip + cut, ..*self })
    }
}

/// Where the item is that says where a group's log begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Base {
    last: EntryId,
    seq: u64,
    bytes: u64,
}

#[derive(Default)]
struct GroupPlaces {
    base: Option<Base>,
    /// By rising index; none overlaps another.
    runs: VecDeque<Run>,
}

/// What of one group a segment is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Need {
    /// Runs, and the latest compaction.
    things: u32,
    bytes: u64,
}

struct Segment {
    file: Arc<dyn File>,
    file_bytes: u64,
    needs: HashMap<GroupId, Need>,
    needed_bytes: u64,
}

/// The first segment that is needed for anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Front {
    pub(super) seq: u64,
    /// About how many bytes in it are needed.
    pub(super) needed_bytes: u64,
    /// The lengths of it and of all behind it.
    pub(super) log_bytes: u64,
}

/// What a segment is needed for by one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Remainder {
    /// The latest compaction is there.
    pub(super) base: bool,
    pub(super) runs: Vec<Run>,
}

/// The places of every group's entries, and the open segments.
#[derive(Default)]
pub(super) struct Places {
    groups: HashMap<GroupId, GroupPlaces>,
    segments: BTreeMap<u64, Segment>,
}

impl Places {
    pub(super) fn add_segment(&mut self, seq: u64, file: Arc<dyn File>, file_bytes: u64) {
        self.segments.insert(seq, Segment { file, file_bytes, needs: HashMap::new(), needed_bytes: 0 });
    }

    /// Forgets the segments before `seq`.
    pub(super) fn remove_segments_before(&mut self, seq: u64) {
        self.segments = self.segments.split_off(&seq);
    }

    pub(super) fn segment(&self, seq: u64) -> Option<Arc<dyn File>> {
        self.segments.get(&seq).map(|segment| Arc::clone(&segment.file))
    }

    pub(super) fn truncate_from(&mut self, group: GroupId, index: Index) {
        let Some(places) = self.groups.get(&group) else { return };
        let from = places.runs.partition_point(|run| run.last() < index);
        let kept = places.runs.get(from).and_then(|run| run.before(index));
        self.replace(group, from, usize::MAX, kept);
    }

    /// Adds a run behind the others of its group.
    pub(super) fn append(&mut self, group: GroupId, run: Run) {
        self.replace(group, usize::MAX, usize::MAX, Some(run));
    }

    /// An item in segment `seq`, with so many bytes of data, makes the log of `group` begin behind `last`.
    pub(super) fn compact(&mut self, group: GroupId, last: EntryId, replaces: bool, seq: u64, data_bytes: usize) {
        let bytes = (ITEM_BYTES + data_bytes) as u64;
        let places = self.groups.entry(group).or_default();
        let before = places.base.replace(Base { last, seq, bytes });
        let gone = if replaces { usize::MAX } else { places.runs.partition_point(|run| run.first.index <= last.index) };
        let kept = places.runs.get(gone.wrapping_sub(1)).and_then(|run| run.from(last.index.next()));
        if let Some(before) = before {
            self.release(group, before.seq, before.bytes);
        }
        self.need(group, seq, bytes);
        self.replace(group, 0, gone, kept);
    }

    /// Entries were copied: from now on they are looked for in `copy`.
    pub(super) fn copy(&mut self, group: GroupId, copy: Run) {
        let (mut from, mut to, mut pieces) = (0, 0, [None, Some(copy), None]);
        if let Some(GroupPlaces { runs, .. }) = self.groups.get(&group) {
            from = runs.partition_point(|run| run.last() < copy.first.index);
            to = runs.partition_point(|run| run.first.index <= copy.last());
            if from < to {
                pieces[0] = runs[from].before(copy.first.index);
                pieces[2] = runs[to - 1].from(copy.last().next());
            }
        }
        self.replace(group, from, to, pieces.into_iter().flatten());
    }

    /// Puts `runs` in the place of those from position `from` to `to`.
    fn replace(&mut self, group: GroupId, from: usize, to: usize, runs: impl IntoIterator<Item = Run>) {
        let all = &mut self.groups.entry(group).or_default().runs;
        let (from, to) = (from.min(all.len()), to.min(all.len()));
        let gone: Vec<Run> = all.drain(from..to).collect();
        let mut come = Vec::new();
        for run in runs {
            all.insert(from + come.len(), run);
            come.push(run);
        }
        if all.capacity() > 64 && all.len() < all.capacity() / 4 {
            all.shrink_to(2 * all.len());
        }
        come.iter().for_each(|run| self.need(group, run.seq, run.bytes()));
        gone.iter().for_each(|run| self.release(group, run.seq, run.bytes()));
    }

    fn need(&mut self, group: GroupId, seq: u64, bytes: u64) {
        let Some(segment) = self.segments.get_mut(&seq) else { return };
        let need = segment.needs.entry(group).or_default();
        need.things += 1;
        need.bytes += bytes;
        segment.needed_bytes += bytes;
    }

    fn release(&mut self, group: GroupId, seq: u64, bytes: u64) {
        let Some(segment) = self.segments.get_mut(&seq) else { return };
        let Some(need) = segment.needs.get_mut(&group) else { return };
        need.things -= 1;
        need.bytes -= bytes;
        segment.needed_bytes -= bytes;
        if need.things == 0 {
            segment.needs.remove(&group);
        }
    }

    /// The first segment that is needed for anything; `None` if none is.
    pub(super) fn front(&self) -> Option<Front> {
        let (seq, segment) = self.segments.iter().find(|(_, segment)| !segment.needs.is_empty())?;
        let log_bytes = self.segments.range(seq..).map(|(_, segment)| segment.file_bytes).sum();
        Some(Front { seq: *seq, needed_bytes: segment.needed_bytes, log_bytes })
    }

    /// The groups that segment `seq` is needed for, each with about how many bytes in it, most first.
    pub(super) fn needs(&self, seq: u64) -> Vec<(GroupId, u64)> {
        let needs = self.segments.get(&seq).into_iter().flat_map(|segment| &segment.needs);
        let mut needs: Vec<_> = needs.map(|(group, need)| (*group, need.bytes)).collect();
        needs.sort_unstable_by_key(|(group, bytes)| (std::cmp::Reverse(*bytes), *group));
        needs
    }

    /// What segment `seq` is needed for by `group`.
    pub(super) fn remainder(&self, seq: u64, group: GroupId) -> Remainder {
        let need = self.segments.get(&seq).and_then(|segment| segment.needs.get(&group));
        let things = need.map_or(0, |need| need.things as usize);
        let Some(places) = self.groups.get(&group) else { return Remainder::default() };
        let base = places.base.is_some_and(|base| base.seq == seq);
        // They are mostly the first ones, and once all are found nothing else is looked at.
        let there = places.runs.iter().filter(|run| run.seq == seq);
        Remainder { base, runs: there.take(things - usize::from(base)).copied().collect() }
    }

    /// The last entry of `group` that was compacted away.
    pub(super) fn base(&self, group: GroupId) -> EntryId {
        let base = self.groups.get(&group).and_then(|places| places.base);
        base.map_or(EntryId::ZERO, |base| base.last)
    }

    /// The runs that hold `first..=last`, as far as they are in the log and at most `limit` of them. Empty if `first`
    /// is not in the log.
    pub(super) fn runs(&self, group: GroupId, first: Index, last: Index, limit: usize) -> Vec<Run> {
        let Some(GroupPlaces { runs, .. }) = self.groups.get(&group) else { return Vec::new() };
        let start = runs.partition_point(|run| run.last() < first);
        let found = runs.iter().skip(start).take_while(|run| run.first.index <= last).take(limit);
        match runs.get(start) {
            Some(run) if run.first.index <= first => found.copied().collect(),
            _ => Vec::new(),
        }
    }

    /// The first index from `first` to `last` that no segment holds.
    pub(super) fn first_lost(&self, group: GroupId, first: Index, last: Index) -> Option<Index> {
        let runs = self.groups.get(&group).map(|places| &places.runs).into_iter().flatten();
        let next = runs.fold(first, |next, run| if run.first.index == next { run.last().next() } else { next });
        (next <= last).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::io;

    const G1: GroupId = GroupId(1);

    struct NoFile;

    impl File for NoFile {
        fn pread(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn pwrite(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn length(&self) -> io::Result<u64> {
            Ok(0)
        }
    }

    /// Entries of 10 bytes each.
    fn run_in(seq: u64, first: u64, term: u64, count: u32) -> Run {
        let (first, data_bytes) = (EntryId::new(first, term), 10 * count);
        Run { first, count, skip: 0, seq, table_at: 0, table_rows: count, table_crc: 0, data_at: 0, data_bytes }
    }

    fn run(first: u64, term: u64, count: u32) -> Run {
        run_in(1, first, term, count)
    }

    fn segments(count: u64) -> Places {
        let mut places = Places::default();
        (1..=count).for_each(|seq| places.add_segment(seq, Arc::new(NoFile), 1000));
        places
    }

    fn found(places: &Places, first: u64, last: u64) -> Vec<(u64, u64)> {
        let runs = places.runs(G1, Index(first), Index(last), 9);
        runs.iter().map(|run| (run.first.index.0, run.last().0)).collect()
    }

    #[test]
    fn runs_are_found_and_cut() {
        let mut places = Places::default();
        for run in [run(1, 1, 3), run(4, 1, 1), run(5, 2, 5)] {
            places.append(G1, run);
        }
        assert_eq!(found(&places, 3, 4), [(1, 3), (4, 4)]);
        assert_eq!(found(&places, 4, 99), [(4, 4), (5, 9)]);
        assert_eq!(found(&places, 10, 99), []);
        assert_eq!(found(&places, 0, 99), []);
        assert_eq!(places.runs(G1, Index(1), Index(9), 2).len(), 2);
        assert_eq!(places.runs(GroupId(2), Index(1), Index(9), 2), []);

        places.truncate_from(G1, Index(7));
        assert_eq!(found(&places, 5, 9), [(5, 6)]);
        places.truncate_from(G1, Index(5));
        assert_eq!(found(&places, 4, 9), [(4, 4)]);
        places.append(G1, run(5, 3, 1));
        assert_eq!(found(&places, 5, 9), [(5, 5)]);
    }

    #[test]
    fn what_was_compacted_leaves_memory_and_its_segments() {
        let mut places = segments(3);
        for run in [run_in(1, 1, 1, 3), run_in(1, 4, 1, 1), run_in(2, 5, 2, 5)] {
            places.append(G1, run);
        }
        assert_eq!(places.front(), Some(Front { seq: 1, needed_bytes: 4 * 22 + 2 * 40, log_bytes: 3000 }));
        places.compact(G1, EntryId::new(2, 1), false, 3, 10);
        assert_eq!(found(&places, 3, 99), [(3, 3), (4, 4), (5, 9)]);
        assert_eq!(places.runs(G1, Index(3), Index(3), 1)[0].skip, 2);
        assert_eq!(places.needs(1), [(G1, 2 * 22 + 2 * 40)]);
        places.compact(G1, EntryId::new(7, 2), false, 3, 20);
        assert_eq!(places.front(), Some(Front { seq: 2, needed_bytes: 2 * 22 + 40, log_bytes: 2000 }));
        assert_eq!(places.needs(3), [(G1, 60)], "only the latest compaction is needed");
        places.compact(G1, EntryId::new(8, 3), true, 3, 30);
        assert_eq!(found(&places, 9, 99), [], "replaced");
        assert_eq!((places.front().unwrap().seq, places.base(G1)), (3, EntryId::new(8, 3)));
        places.remove_segments_before(3);
        assert!(places.segment(2).is_none() && places.segment(3).is_some());
    }

    #[test]
    fn copies_take_the_place_of_what_they_copy() {
        let mut places = segments(4);
        for run in [run_in(1, 1, 1, 3), run_in(1, 4, 2, 4), run_in(2, 8, 2, 2)] {
            places.append(G1, run);
        }
        places.copy(G1, run_in(3, 1, 1, 2));
        assert_eq!(found(&places, 1, 99), [(1, 2), (3, 3), (4, 7), (8, 9)]);
        assert_eq!(places.needs(1), [(G1, 5 * 22 + 2 * 40)]);
        assert_eq!(places.remainder(1, G1).runs[0].first.index, Index(3));
        places.copy(G1, run_in(3, 3, 1, 1));
        places.copy(G1, run_in(3, 5, 2, 2));
        assert_eq!(found(&places, 4, 99), [(4, 4), (5, 6), (7, 7), (8, 9)]);
        places.copy(G1, run_in(4, 4, 2, 5));
        assert_eq!(found(&places, 3, 99), [(3, 3), (4, 8), (9, 9)]);
        assert_eq!((places.front().unwrap().seq, places.needs(1)), (2, vec![]));
        assert_eq!(places.first_lost(G1, Index(1), Index(9)), None);
        assert_eq!(places.first_lost(G1, Index(1), Index(10)), Some(Index(10)));
    }

    quickcheck! {
        /// The index against the obvious one: a vector of the segment of each entry, and a base.
        fn places_behave_like_a_vector(ops: Vec<(u8, u8, u8)>) -> bool {
            let mut places = segments(200);
            let (mut model, mut base, mut base_seq) = (Vec::<u64>::new(), 0_u64, 0);
            for (seq, (op, one, other)) in ops.into_iter().enumerate().map(|(seq, op)| (seq as u64 % 200 + 1, op)) {
                let last = base + model.len() as u64;
                let index = base + 1 + u64::from(one) % (model.len() as u64 + 1);
                match op % 4 {
                    0 => {
                        places.truncate_from(G1, Index(index));
                        model.truncate((index - base - 1) as usize);
                    }
                    1 if index <= last => {
                        let count = 1 + u64::from(other) % (last - index + 1);
                        places.copy(G1, run_in(seq, index, 1, count as u32));
                        (index..index + count).for_each(|index| model[(index - base - 1) as usize] = seq);
                    }
                    2 => {
                        let to = base + u64::from(other % 4);
                        let replaces = to > last;
                        places.compact(G1, EntryId::new(to, 1), replaces, seq, 5);
                        model = model.split_off(((to - base) as usize).min(model.len()));
                        (base, base_seq) = (to, seq);
                    }
                    _ => {
                        let count = u32::from(other % 5) + 1;
                        places.append(G1, run_in(seq, last + 1, 1, count));
                        model.extend((0..count).map(|_| seq));
                    }
                }
                for (index, seq) in (base + 1..).zip(&model) {
                    let run = places.runs(G1, Index(index), Index(index), 1)[0];
                    let row = u64::from(run.skip) + index - run.first.index.0;
                    if run.seq != *seq || row >= u64::from(run.table_rows) {
                        return false;
                    }
                }
                let needed = (1..=200).all(|seq| {
                    let entries = model.iter().filter(|held| **held == seq).count() as u64;
                    let needs = places.needs(seq);
                    let Remainder { base, runs } = places.remainder(seq, G1);
                    let bytes = 22 * entries + 40 * runs.len() as u64 + if base { 45 } else { 0 };
                    base == (base_seq == seq)
                        && runs.iter().map(|run| u64::from(run.count)).sum::<u64>() == entries
                        && needs.len() == usize::from(bytes > 0)
                        && needs.iter().all(|(_, found)| *found == bytes)
                });
                let all = places.first_lost(G1, Index(base + 1), Index(base + model.len() as u64)).is_none();
                if !needed || !all || places.groups.get(&G1).map_or(0, |places| places.runs.len()) > model.len() {
                    return false;
                }
            }
            true
        }
    }
}
