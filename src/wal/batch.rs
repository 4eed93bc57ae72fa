//! Collects writes for one append.

use crate::log::Write;
use crate::types::GroupId;
use crate::wal::record;

/// Writes of many groups, to be appended and synced together.
///
/// The thread that owns the log takes what has queued up into a batch, appends and syncs it, completes each write, and
/// starts again with what has queued up meanwhile. There is no reason to wait for more: a batch is what came in during
/// the sync before.
#[derive(Debug)]
pub struct Batch {
    writes: Vec<(GroupId, Write)>,
    bytes: u64,
    limit: u64,
}

impl Batch {
    /// An empty batch for at most `limit_bytes` on disk, which is usually `WalConfig::batch_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { writes: Vec::new(), bytes: 0, limit: limit_bytes as u64 }
    }

    /// Adds a write, or gives it back if the batch is full. An empty batch takes any write.
    pub fn push(&mut self, group: GroupId, write: Write) -> Option<(GroupId, Write)> {
        let bytes = record::encoded_bytes(&write);
        if !self.writes.is_empty() && self.bytes + bytes > self.limit {
            return Some((group, write));
        }
        self.bytes += bytes;
        self.writes.push((group, write));
        None
    }

    /// What it holds, in the order of [`Batch::push`].
    #[must_use]
    pub fn writes(&self) -> &[(GroupId, Write)] {
        &self.writes
    }

    /// Takes everything out; the batch can be filled again.
    pub fn drain(&mut self) -> impl Iterator<Item = (GroupId, Write)> + '_ {
        self.bytes = 0;
        self.writes.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Entry, EntryKind};
    use crate::types::EntryId;
    use bytes::Bytes;

    fn write(bytes: usize) -> Write {
        let entry = Entry { id: EntryId::new(1, 1), kind: EntryKind::Command, payload: Bytes::from(vec![0; bytes]) };
        Write { entries: vec![entry], ..Write::default() }
    }

    #[test]
    fn a_batch_takes_one_write_of_any_size_and_more_up_to_its_limit() {
        let mut batch = Batch::new(400);
        assert_eq!(batch.push(GroupId(1), write(1000)), None);
        assert_eq!(batch.push(GroupId(2), write(0)), Some((GroupId(2), write(0))));
        assert_eq!(batch.drain().count(), 1);
        for _ in 0..2 {
            assert_eq!(batch.push(GroupId(1), write(100)), None);
        }
        assert!(batch.push(GroupId(1), write(100)).is_some(), "2 x 152 bytes leave no room for a third");
        assert_eq!(batch.writes().len(), 2);
    }
}
