//! The persist thread: one write and one fdatasync for everything that waits, of all groups (dissertation §10.2.1).
//!
//! There is no linger timer: a batch is what arrived during the last sync. When nothing comes for a while, it notes in
//! the log how much is durable, once, and sleeps until somebody writes again.
//!
//! Between batches, and when nothing comes, it has the log give back space, in small steps that delay a write that comes
//! meanwhile only a little.
//!
//! A write or sync that failed is never tried again on the same file: after it nothing is acknowledged, every group is
//! told, and what still arrives is dropped.

use slog::{Logger, crit, error};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::mem;
use std::time::Instant as Stopwatch;

use super::batch::{FOUNDING, batch_len, newest, payload_bytes, split_long};
use super::driver::ShardInput;
use super::queue::{Queue, Taken};
use super::shard::Entrance;
use super::snapshots::Library;
use crate::log::Write;
use crate::metrics::LogCounters;
use crate::sync::{Arc, Mutex, channel};
use crate::time::Duration;
use crate::types::GroupId;

/// How long nothing must come before the log is noted to be durable (storage: "Floor, when idle 20 ms").
const IDLE: Duration = Duration::from_millis(20);

/// Space is given back in steps of about this many bytes, or of half of the batch before: the log keeps up with what comes.
const TIDY_BYTES: usize = 64 << 10;

/// Where batches go.
pub(super) trait Device: Send {
    type Error: Display;

    fn append(&mut self, writes: &[(GroupId, Write)]) -> Result<(), Self::Error>;
    fn sync(&mut self) -> Result<(), Self::Error>;
    fn floor(&mut self) -> Result<(), Self::Error>;
    fn tidy(&mut self, budget: usize) -> Result<u64, Self::Error>;
    /// The groups whose logs keep the device from giving back space, though it should.
    fn pressure(&self) -> Vec<GroupId>;
}

/// The log's end of the runtime, shared with its thread.
///
/// The queue is bounded by what the cores hand out: a leader holds at most `limits.uncommitted_*`, a follower at most
/// the windows of its leaders, and both wait for `Durable` before they go on.
pub(super) struct Persist {
    pub(super) queue: Queue<(GroupId, Write)>,
    founders: Mutex<BTreeMap<GroupId, channel::Sender<bool>>>,
    counters: Mutex<LogCounters>,
}

impl Persist {
    pub(super) fn new() -> Self {
        Self { queue: Queue::new(), founders: Mutex::default(), counters: Mutex::default() }
    }

    /// Queues the write that founds `group`. The receiver hears `true` when it is durable, `false` if the log has
    /// failed, and is disconnected if the thread has ended.
    pub(super) fn found(&self, group: GroupId, write: Write) -> channel::Receiver<bool> {
        let (durable, wait) = channel::bounded(1);
        self.founders.lock().insert(group, durable);
        if !self.queue.push((group, write)) {
            // Nobody is left to answer: disconnect.
            self.founders.lock().remove(&group);
        }
        wait
    }

    pub(super) fn counters(&self) -> LogCounters {
        LogCounters { wake_ups: self.queue.wake_ups(), ..*self.counters.lock() }
    }

    fn tell_founder(&self, group: GroupId, durable: bool) {
        if let Some(founder) = self.founders.lock().remove(&group) {
            let _ = founder.try_send(durable);
        }
    }
}

/// How it stands with giving back space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Tidying {
    #[default]
    Done,
    /// What was copied is not durable yet.
    Unsynced,
    /// The log is not able to.
    GivenUp,
}

/// The thread's own state.
pub(super) struct PersistThread<D> {
    pub(super) shared: Arc<Persist>,
    pub(super) device: D,
    pub(super) batch_bytes: usize,
    pub(super) entrance: Arc<Entrance>,
    pub(super) logger: Logger,
    pub(super) tidying: Tidying,
    /// None if this node keeps no snapshots.
    pub(super) library: Option<Arc<Library>>,
}

impl<D: Device> PersistThread<D> {
    /// Runs until the queue is closed; then what was handed over before is still made durable.
    pub(super) fn run(mut self) {
        let mut writes = Vec::new();
        // What was recovered is durable, and perhaps nothing on disk says so yet.
        let mut unnoted = true;
        loop {
            match self.shared.queue.take(&mut writes, unnoted.then_some(IDLE)) {
                Taken::Items => {
                    self.persist(&mut writes);
                    unnoted = true;
                }
                Taken::Idle => {
                    unnoted = self.tidy(TIDY_BYTES);
                    self.sync_copies();
                    if !unnoted {
                        self.note_floor();
                    }
                }
                Taken::Closed => break,
            }
        }
        self.persist(&mut self.shared.queue.drain());
        self.note_floor();
        self.shared.founders.lock().clear();
    }

    /// Makes `writes` durable, in batches of up to `batch_bytes` (at least one write each), and says so.
    fn persist(&mut self, writes: &mut Vec<(GroupId, Write)>) {
        split_long(writes, self.batch_bytes);
        let mut rest = &writes[..];
        while !rest.is_empty() && !self.failed() {
            let (batch, after) = rest.split_at(batch_len(rest, self.batch_bytes));
            match self.make_durable(batch) {
                Ok(()) => {
                    self.report_durable(batch);
                    let bytes: usize = batch.iter().map(|(_, write)| payload_bytes(write)).sum();
                    self.tidy(TIDY_BYTES.max(bytes / 2));
                }
                Err(error) => self.fail(&error),
            }
            rest = after;
        }
        for (group, _) in rest.iter().filter(|(_, write)| write.seq == FOUNDING) {
            self.shared.tell_founder(*group, false);
        }
        writes.clear();
    }

    fn make_durable(&mut self, batch: &[(GroupId, Write)]) -> Result<(), D::Error> {
        self.device.append(batch)?;
        let watch = Stopwatch::now();
        let synced = self.device.sync();
        let took = watch.elapsed();
        let mut counters = self.shared.counters.lock();
        counters.sync_time += took;
        counters.longest_sync = counters.longest_sync.max(took);
        synced?;
        counters.syncs += 1;
        counters.batches += 1;
        counters.writes += batch.len() as u64;
        for (_, write) in batch {
            counters.entries += write.entries.len() as u64;
            counters.bytes += payload_bytes(write) as u64;
        }
        Ok(())
    }

    /// One `Durable` per group.
    fn report_durable(&self, batch: &[(GroupId, Write)]) {
        for (group, _) in batch.iter().filter(|(_, write)| write.seq == FOUNDING) {
            self.shared.tell_founder(*group, true);
        }
        let newest = newest(batch);
        if !newest.is_empty() {
            let inputs = newest.into_iter().map(|(group, seq)| ShardInput::Durable { group, seq });
            self.entrance.complete(inputs);
        }
    }

    /// Whether something was done. What was is not durable before the next sync, and nobody waits for it.
    fn tidy(&mut self, budget: usize) -> bool {
        if self.tidying == Tidying::GivenUp || self.failed() {
            return false;
        }
        match self.device.tidy(budget) {
            Ok(0) => {
                self.press();
                false
            }
            Ok(_) => {
                self.tidying = Tidying::Unsynced;
                true
            }
            Err(error) => {
                // If the log itself has failed, the next call says so.
                error!(self.logger, "the log cannot give back space until it is opened again"; "error" => %error);
                self.tidying = Tidying::GivenUp;
                false
            }
        }
    }

    /// Groups that hold up the log take a snapshot, and give up what is in it.
    fn press(&self) {
        if let Some(library) = &self.library {
            self.device.pressure().into_iter().for_each(|group| library.press(group));
        }
    }

    fn sync_copies(&mut self) {
        if self.tidying == Tidying::Unsynced && !self.failed() {
            self.tidying = Tidying::Done;
            if let Err(error) = self.device.sync() {
                self.fail(&error);
            }
        }
    }

    fn note_floor(&mut self) {
        if self.failed() {
            return;
        }
        match self.device.floor() {
            Ok(()) => self.shared.counters.lock().floors += 1,
            Err(error) => self.fail(&error),
        }
    }

    fn failed(&self) -> bool {
        self.shared.counters.lock().failed
    }

    fn fail(&self, error: &D::Error) {
        crit!(self.logger, "the log failed; this node acknowledges nothing any more"; "error" => %error);
        self.shared.counters.lock().failed = true;
        let founders = mem::take(&mut *self.shared.founders.lock());
        for founder in founders.into_values() {
            let _ = founder.try_send(false);
        }
        self.entrance.complete([ShardInput::LogFailed]);
    }
}
