//! Giving space back where groups are slow.
//!
//! The log can only let go of its oldest segment, and one entry in it that some group still needs is enough to keep it.
//! Once the log is longer than its soft limit, such remainders are copied forward, a little at a time, at the price of
//! writing them once more. If more than a share of the oldest segment is needed, copying would write about as much as it
//! frees, for ever; then it is for the groups that need most to compact their logs.

use crate::log::Write;
use crate::types::GroupId;
use crate::wal::error::WalError;
use crate::wal::index::{Front, Run};
use crate::wal::record::{self, EMPTY_BATCH_BYTES};
use crate::wal::stream::Wal;

/// Copied is what is at most one part in so many of a segment.
const SHARE: u64 = 4;

impl Wal {
    /// If the log is longer than `soft_bytes`: copies forward about `budget` bytes (one entry at least) of what little is
    /// needed of the oldest segment, so that it can be given back. Returns how many bytes were written, 0 if there is
    /// nothing to do. They are durable after the next [`sync`](Self::sync). To be called between batches, with about
    /// half as many bytes as those brought, or more; and when nothing comes.
    ///
    /// # Errors
    /// [`WalError::Damaged`], or [`WalError::Io`] while reading: nothing was written and the log goes on, but it cannot
    /// give that segment back. Everything else: the log has failed for good.
    pub fn tidy(&mut self, budget: usize) -> Result<u64, WalError> {
        self.refuse_if_failed()?;
        let Some(front) = self.crowded().filter(|front| front.needed_bytes <= self.share()) else { return Ok(0) };
        let copies = self.copies(front.seq, budget as u64)?;
        if copies.is_empty() {
            return Ok(0);
        }
        let bytes = EMPTY_BATCH_BYTES + copies.iter().map(|(_, write)| record::encoded_bytes(write)).sum::<u64>();
        let done = self.make_room(bytes).and_then(|()| self.append_parts(&copies, true));
        self.failing(done)?;
        Ok(bytes)
    }

    /// The groups that keep the log from giving back its oldest segment, though it is longer than `soft_bytes`: each
    /// with about how many bytes it needs of it, most first. Once these have compacted their logs, [`tidy`](Self::tidy)
    /// can see to the others.
    #[must_use]
    pub fn pressure(&self) -> Vec<(GroupId, u64)> {
        let Some(front) = self.crowded() else { return Vec::new() };
        let mut needed = front.needed_bytes;
        let mut needs = self.places.lock().needs(front.seq);
        let enough = needs.iter().position(|(_, bytes)| {
            let fits = needed <= self.share();
            needed -= bytes;
            fits
        });
        needs.truncate(enough.unwrap_or(usize::MAX));
        needs
    }

    /// The first segment that is needed, if the log is too long from there on.
    fn crowded(&self) -> Option<Front> {
        let front = self.places.lock().front()?;
        (front.seq < self.active.seq && front.log_bytes > self.config.soft_bytes).then_some(front)
    }

    fn share(&self) -> u64 {
        self.room_for_batches(&[]) / SHARE
    }

    /// Some of what segment `seq` is needed for, as writes.
    fn copies(&self, seq: u64, budget: u64) -> Result<Vec<(GroupId, Write)>, WalError> {
        let mut copies = Copies { all: Vec::new(), left: budget };
        let needs = self.places.lock().needs(seq);
        for (group, _) in needs {
            if copies.is_full() {
                break;
            }
            let remainder = self.places.lock().remainder(seq, group);
            if remainder.base {
                let compaction = self.tails.get(&group).and_then(|tail| tail.compaction()).cloned();
                copies.add(group, Write { compaction, ..Write::default() });
            }
            for run in &remainder.runs {
                if copies.is_full() {
                    break;
                }
                copies.add(group, self.copy_of(group, run, copies.left)?);
            }
        }
        Ok(copies.all)
    }

    /// The first entries of a run.
    fn copy_of(&self, group: GroupId, run: &Run, budget: u64) -> Result<Write, WalError> {
        let max_bytes = usize::try_from(budget).unwrap_or(usize::MAX);
        let entries = self.reader().read(group, run.first.index, run.last(), max_bytes)?;
        Ok(Write { entries, ..Write::default() })
    }
}

struct Copies {
    all: Vec<(GroupId, Write)>,
    /// Bytes that may still be added.
    left: u64,
}

impl Copies {
    fn is_full(&self) -> bool {
        self.left == 0 && !self.all.is_empty()
    }

    fn add(&mut self, group: GroupId, write: Write) {
        self.left = self.left.saturating_sub(record::encoded_bytes(&write));
        self.all.push((group, write));
    }
}
