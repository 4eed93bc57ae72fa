//! What goes to the log's device together, and what is durable after it: the persist thread's arithmetic, without the
//! thread.

use std::collections::BTreeMap;
use std::mem;

use crate::log::Write;
use crate::types::{GroupId, WriteSeq};

/// Bytes counted for an entry beside its payload.
const ENTRY_OVERHEAD: usize = 64;

/// The number of the write that founds a group: the one before the first of its core.
pub(crate) const FOUNDING: WriteSeq = WriteSeq(0);

/// The newest write of each group in a batch, which stands for all before it (bug `c19`). Founding writes are not
/// among them: no core waits for those.
pub(crate) fn newest(batch: &[(GroupId, Write)]) -> BTreeMap<GroupId, WriteSeq> {
    batch.iter().filter(|(_, write)| write.seq != FOUNDING).map(|(group, write)| (*group, write.seq)).collect()
}

/// Cuts writes that are longer than a batch into several: the core merges what it wants written between two flushes, and
/// the log takes no single write longer than a segment.
///
/// A crash between the parts leaves the first entries of a longer append, as if the rest had never arrived. Only the
/// last part carries the write's number; the others repeat the one before, which is durable by then.
pub(crate) fn split_long(writes: &mut Vec<(GroupId, Write)>, max_bytes: usize) {
    if writes.iter().all(|(_, write)| batch_bytes(write) <= max_bytes) {
        return;
    }
    for (group, mut write) in mem::take(writes) {
        while batch_bytes(&write) > max_bytes && write.entries.len() > 1 {
            let mut bytes = 0;
            let fitting = write.entries.iter().take_while(|entry| {
                bytes += entry.payload.len() + ENTRY_OVERHEAD;
                bytes <= max_bytes
            });
            let rest = write.entries.split_off(fitting.count().max(1));
            let rest = Write { seq: write.seq, entries: rest, ..Write::default() };
            let before = WriteSeq(write.seq.0.saturating_sub(1));
            writes.push((group, Write { seq: before, ..mem::replace(&mut write, rest) }));
        }
        writes.push((group, write));
    }
}

/// How many of `writes`, one at least, fit into `max_bytes`.
pub(crate) fn batch_len(writes: &[(GroupId, Write)], max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fitting = writes.iter().take_while(|(_, write)| {
        bytes += batch_bytes(write);
        bytes <= max_bytes
    });
    fitting.count().max(1)
}

/// About what a write takes on disk, rather more than less.
fn batch_bytes(write: &Write) -> usize {
    let compaction = write.compaction.as_ref().map_or(0, |to| ENTRY_OVERHEAD + to.configuration.1.len());
    payload_bytes(write) + compaction + ENTRY_OVERHEAD * (write.entries.len() + 1)
}

pub(crate) fn payload_bytes(write: &Write) -> usize {
    write.entries.iter().map(|entry| entry.payload.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Entry, EntryKind, HardState};
    use crate::types::{EntryId, Index};
    use bytes::Bytes;
    use quickcheck::quickcheck;

    fn write(lengths: &[u16]) -> Write {
        let entry = |(nth, bytes): (usize, &u16)| Entry {
            id: EntryId::new(nth as u64 + 1, 1),
            kind: EntryKind::Command,
            payload: Bytes::from(vec![0; usize::from(*bytes)]),
        };
        let entries = lengths.iter().enumerate().map(entry).collect();
        let (hard_state, truncate_from) = (Some(HardState::default()), Some(Index(1)));
        Write { seq: WriteSeq(7), hard_state, truncate_from, entries, ..Write::default() }
    }

    quickcheck! {
        /// Nothing is lost or reordered, every part fits or is a single entry, the number comes last and only once.
        fn long_writes_are_cut_into_parts_that_fit(lengths: Vec<u16>, max_bytes: u16) -> bool {
            let (whole, max_bytes) = (write(&lengths), usize::from(max_bytes));
            let mut parts = vec![(GroupId(1), whole.clone())];
            split_long(&mut parts, max_bytes);
            let entries: Vec<_> = parts.iter().flat_map(|(_, part)| part.entries.clone()).collect();
            let fit = parts.iter().all(|(_, part)| batch_bytes(part) <= max_bytes + ENTRY_OVERHEAD || part.entries.len() <= 1);
            let numbers_end = parts.iter().rev().map(|(_, part)| part.seq.0).eq([7].into_iter().chain(std::iter::repeat_n(6, parts.len() - 1)));
            let head = parts[0].1.hard_state.is_some() && parts[0].1.truncate_from.is_some();
            let only_head = parts[1..].iter().all(|(_, part)| part.hard_state.is_none() && part.truncate_from.is_none());
            entries == whole.entries && fit && numbers_end && head && only_head
        }
    }
}
