//! Where each entry is: one record in memory per run of entries on disk, not per entry.

use std::collections::{BTreeMap, HashMap};

use crate::sync::Arc;
use crate::types::{EntryId, GroupId, Index};
use crate::wal::fs::File;

/// Entries of one term that were written as one item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) first: EntryId,
    /// How many of them are in the log. A truncation may have taken the others.
    pub(super) count: u64,
    /// The segment.
    pub(super) seq: u64,
    /// Offset of the table that follows the item header.
    pub(super) table_at: u32,
    /// How many rows the table has on disk.
    pub(super) table_rows: u32,
    /// CRC-32C of the table.
    pub(super) table_crc: u32,
    /// Offset of the first entry's payload; the others follow.
    pub(super) data_at: u32,
}

impl Run {
    pub(super) fn last(&self) -> Index {
        Index(self.first.index.0 + self.count - 1)
    }
}

/// The runs of every group and the open segments.
#[derive(Default)]
pub(super) struct Places {
    groups: HashMap<GroupId, Vec<Run>>,
    segments: BTreeMap<u64, Arc<dyn File>>,
}

impl Places {
    pub(super) fn add_segment(&mut self, seq: u64, file: Arc<dyn File>) {
        self.segments.insert(seq, file);
    }

    pub(super) fn segment(&self, seq: u64) -> Option<Arc<dyn File>> {
        self.segments.get(&seq).cloned()
    }

    pub(super) fn truncate_from(&mut self, group: GroupId, index: Index) {
        let runs = self.groups.entry(group).or_default();
        while runs.pop_if(|run| run.first.index >= index).is_some() {}
        if let Some(run) = runs.last_mut() {
            run.count = run.count.min(index.0 - run.first.index.0);
        }
    }

    /// Adds a run behind the others of its group.
    pub(super) fn append(&mut self, group: GroupId, run: Run) {
        self.groups.entry(group).or_default().push(run);
    }

    /// The runs that hold `first..=last`, as far as they are in the log and at most `limit` of them. Empty if `first`
    /// is not in the log.
    pub(super) fn runs(&self, group: GroupId, first: Index, last: Index, limit: usize) -> Vec<Run> {
        let Some(runs) = self.groups.get(&group) else { return Vec::new() };
        let start = runs.partition_point(|run| run.last() < first);
        let found = runs[start..].iter().take_while(|run| run.first.index <= last).take(limit);
        match runs.get(start) {
            Some(run) if run.first.index <= first => found.copied().collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, term: u64, count: u64) -> Run {
        let first = EntryId::new(first, term);
        Run { first, count, seq: 1, table_at: 0, table_rows: count as u32, table_crc: 0, data_at: 0 }
    }

    fn found(places: &Places, first: u64, last: u64) -> Vec<(u64, u64)> {
        let runs = places.runs(GroupId(1), Index(first), Index(last), 9);
        runs.iter().map(|run| (run.first.index.0, run.last().0)).collect()
    }

    #[test]
    fn runs_are_found_and_cut() {
        let mut places = Places::default();
        for run in [run(1, 1, 3), run(4, 1, 1), run(5, 2, 5)] {
            places.append(GroupId(1), run);
        }
        assert_eq!(found(&places, 3, 4), [(1, 3), (4, 4)]);
        assert_eq!(found(&places, 4, 99), [(4, 4), (5, 9)]);
        assert_eq!(found(&places, 10, 99), []);
        assert_eq!(found(&places, 0, 99), []);
        assert_eq!(places.runs(GroupId(1), Index(1), Index(9), 2).len(), 2);
        assert_eq!(places.runs(GroupId(2), Index(1), Index(9), 2), []);

        places.truncate_from(GroupId(1), Index(7));
        assert_eq!(found(&places, 5, 9), [(5, 6)]);
        places.truncate_from(GroupId(1), Index(5));
        assert_eq!(found(&places, 4, 9), [(4, 4)]);
        places.append(GroupId(1), run(5, 3, 1));
        assert_eq!(found(&places, 5, 9), [(5, 5)]);
    }
}
