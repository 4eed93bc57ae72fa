//! The apply thread of a group: hands committed commands to the state machine, in order and once (row `s01`), answers
//! whoever proposed them, and lets reads go when what they must see is applied.
//!
//! It sleeps until there is work (row `s02`). The state machine may block as long as it likes: nothing else waits for
//! this thread. If it returns an error or panics, the group stops on this node, everybody is told, and the process
//! goes on (bug `c32`).

use slog::{Logger, crit};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::annex::Annex;
use super::driver::{Committed, ShardInput};
use super::error::{Interruption, ReadError};
use super::queue::{Queue, Taken};
use super::reply::{ReadReply, Reply, SnapshotReply};
use super::shard::Entrance;
use super::snapshots::{Library, Pace, TakeError};
use crate::core::Fatal;
use crate::log::EntryKind;
use crate::metrics::ApplyCounters;
use crate::quorum::Configuration;
use crate::snapshot::Snapshot;
use crate::state_machine::{ApplyError, Command, StateMachine};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use crate::types::{GroupId, Index};

/// Commands handed to a state machine in one call. Between two calls, answers are given and a shutdown is noticed.
const CALL: usize = 4096;

/// What waits for a group's state machine.
///
/// Entries are bounded by the core, which hands out at most `limits.apply_bytes` before it hears `Applied`; reads are
/// bounded here.
pub(super) struct ApplyQueue {
    jobs: Queue<Job>,
    /// Reads and wishes for a snapshot that wait.
    waiting: AtomicUsize,
    max_waiting: usize,
    counters: Mutex<ApplyCounters>,
}

enum Job {
    Entries(Vec<Committed>),
    Read(Index, ReadReply),
    /// The core has stopped and hands out nothing any more.
    Stop(Fatal),
    /// This node has heard of no leader for long, or is no member any more: perhaps nothing follows.
    Silence,
    /// Somebody wants a snapshot.
    Snapshot(SnapshotReply),
    /// The snapshot in the making is there, or failed: the next may begin.
    SnapshotOver {
        failed: bool,
    },
    /// The group's log is to become shorter.
    Pressure,
    /// A snapshot turned out to be damaged.
    Damage,
    /// Another node's snapshot is to replace the state.
    Restore(Box<(Snapshot, Configuration)>),
}

impl ApplyQueue {
    pub(super) fn new(max_waiting: usize) -> Self {
        Self { jobs: Queue::new(), waiting: AtomicUsize::new(0), max_waiting, counters: Mutex::default() }
    }

    pub(super) fn push_entries(&self, entries: Vec<Committed>) {
        self.jobs.push(Job::Entries(entries));
    }

    /// Answers `reply` once `index` is applied. May be called by any thread.
    pub(super) fn push_read(&self, index: Index, reply: ReadReply) -> Result<(), (ReadReply, ReadError)> {
        if !self.admit() {
            self.counters.lock().reads_refused += 1;
            return Err((reply, ReadError::Overloaded));
        }
        self.jobs.push(Job::Read(index, reply));
        Ok(())
    }

    /// Answers `reply` once a snapshot of what is applied by then is durable. May be called by any thread.
    pub(super) fn push_snapshot(&self, reply: SnapshotReply) {
        if self.admit() {
            self.jobs.push(Job::Snapshot(reply));
        } else {
            reply.answered(Err(TakeError::Overloaded));
        }
    }

    /// The snapshot in the making is there, or failed.
    pub(super) fn push_snapshot_over(&self, failed: bool) {
        self.jobs.push(Job::SnapshotOver { failed });
    }

    /// The group's log is to become shorter.
    pub(super) fn push_pressure(&self) {
        self.jobs.push(Job::Pressure);
    }

    /// A snapshot turned out to be damaged: another is to be taken.
    pub(super) fn push_damage(&self) {
        self.jobs.push(Job::Damage);
    }

    /// Replaces the state by `snapshot`, unless what is applied by then goes as far.
    pub(super) fn push_restore(&self, snapshot: Snapshot, configuration: Configuration) {
        self.jobs.push(Job::Restore(Box::new((snapshot, configuration))));
    }

    /// One more may wait.
    fn admit(&self) -> bool {
        let one_more = |waiting| (waiting < self.max_waiting).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// So many wait no longer.
    pub(super) fn release(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// Nothing is handed out after what is queued: once that is applied, reads that wait for more are refused.
    pub(super) fn push_stop(&self, fatal: Fatal) {
        self.jobs.push(Job::Stop(fatal));
    }

    /// Perhaps nothing follows what is queued: reads that wait for more are refused.
    pub(super) fn push_silence(&self) {
        self.jobs.push(Job::Silence);
    }

    /// Ends the thread after the call it is in. Whoever still waits is told that the node was shut down.
    pub(super) fn close(&self) {
        self.jobs.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }

    pub(super) fn counters(&self) -> ApplyCounters {
        ApplyCounters { wake_ups: self.jobs.wake_ups(), ..*self.counters.lock() }
    }
}

/// The thread's own state.
pub(super) struct Applier<S: StateMachine> {
    pub(super) annex: Arc<Annex>,
    pub(super) group: GroupId,
    pub(super) machine: S,
    pub(super) applied: Index,
    pub(super) entrance: Arc<Entrance>,
    /// None if its node keeps no snapshots.
    pub(super) library: Option<Arc<Library>>,
    pub(super) pace: Pace,
    pub(super) logger: Logger,
}

/// What was taken from the queue and not yet applied. Invariant: `commands` and `replies` are of one length.
#[derive(Default)]
pub(super) struct Backlog {
    commands: Vec<Command>,
    replies: Vec<Option<Reply>>,
    /// The last index taken, of an entry of any kind, or that of the snapshot that the state is from.
    pub(super) last: Index,
    reads: BTreeMap<Index, Vec<ReadReply>>,
    /// Who wants a snapshot.
    pub(super) wishes: Vec<SnapshotReply>,
    /// The snapshot that was being made could not be.
    pub(super) failed: bool,
    /// The log is to become shorter.
    pub(super) pressed: bool,
    /// A snapshot is damaged: what the log begins behind may be nowhere else.
    pub(super) damaged: bool,
    /// What the state is to be replaced by. All entries that precede it in the queue are taken first, and those that follow
    /// it: they are in it, or it is of no use any more.
    pub(super) restore: Option<Box<(Snapshot, Configuration)>>,
    /// Why nothing follows `last`.
    stopped: Option<Fatal>,
    /// Whether perhaps nothing follows `last`.
    silent: bool,
}

impl<S: StateMachine> Applier<S> {
    /// Runs until the queue is closed.
    pub(super) fn run(mut self) {
        let mut backlog = Backlog { last: self.applied, ..Backlog::default() };
        let mut jobs = Vec::new();
        while self.annex.queue.jobs.take(&mut jobs, self.pace.patience()) != Taken::Closed {
            for job in jobs.drain(..) {
                backlog.add(job);
            }
            if let Err(error) = self.work(&mut backlog) {
                self.fail(&error);
                drop_quietly(self.machine);
                return refuse_all(&self.annex.queue, backlog);
            }
        }
        drop_quietly(self.machine);
        // Dropping what is left tells everybody in it that the node was shut down.
        drop((backlog, self.annex.queue.jobs.drain()));
    }

    fn work(&mut self, backlog: &mut Backlog) -> Result<(), ApplyError> {
        self.apply(backlog)?;
        self.restore(backlog)?;
        self.answer_reads(backlog);
        self.take_snapshot(backlog)
    }

    /// Applies everything in the backlog, call by call, and reports each.
    fn apply(&mut self, backlog: &mut Backlog) -> Result<(), ApplyError> {
        while !backlog.commands.is_empty() {
            let calls = backlog.commands.len().min(CALL);
            let outputs = self.call(&backlog.commands[..calls])?;
            // Before anybody is told: who hears that a command was applied and then reads has nothing to wait for.
            self.annex.note_applied(backlog.commands[calls - 1].id.index);
            let answered = backlog.commands.drain(..calls).zip(backlog.replies.drain(..calls));
            let entrance = self.entrance.clone();
            entrance.together(|| {
                let mut last = self.applied;
                for ((command, reply), output) in answered.zip(outputs) {
                    last = command.id.index;
                    if let Some(reply) = reply {
                        reply.applied(command.id, output);
                    }
                }
                self.report(last);
            });
            if self.annex.queue.is_closed() {
                return Ok(());
            }
        }
        // Entries of Raft's own count as applied too.
        if backlog.last > self.applied {
            self.report(backlog.last);
        }
        Ok(())
    }

    fn call(&mut self, commands: &[Command]) -> Result<Vec<S::Output>, ApplyError> {
        let outputs = guarded(|| self.machine.apply(commands))?;
        if outputs.len() != commands.len() {
            let (got, wanted) = (outputs.len(), commands.len());
            return Err(ApplyError(format!("it returned {got} outputs for {wanted} commands")));
        }
        self.pace.applied(commands.iter().map(|command| command.data.len()).sum());
        let mut counters = self.annex.queue.counters.lock();
        counters.batches += 1;
        counters.commands += commands.len() as u64;
        Ok(outputs)
    }

    fn report(&mut self, index: Index) {
        self.applied = index;
        self.annex.note_applied(index);
        self.entrance.complete([ShardInput::Applied { group: self.group, index }]);
    }

    fn answer_reads(&self, backlog: &mut Backlog) {
        if backlog.reads.is_empty() {
            return;
        }
        self.entrance.together(|| self.answer_decided_reads(backlog));
    }

    /// Answers reads that what is applied lets go, and those that nothing will let go any more.
    fn answer_decided_reads(&self, backlog: &mut Backlog) {
        while let Some(first) = backlog.reads.first_entry() {
            let index = *first.key();
            let result = match backlog.stopped {
                _ if index <= self.applied => Ok(index),
                Some(fatal) => Err(ReadError::Stopped(fatal)),
                None if backlog.silent => Err(ReadError::NotLeader { leader: None }),
                None => break,
            };
            for reply in first.remove() {
                self.annex.queue.release(1);
                reply.answered(result);
            }
        }
        backlog.silent = false;
    }

    fn fail(&self, error: &ApplyError) {
        crit!(self.logger, "the state machine failed"; "group" => %self.group, "error" => %error);
        self.annex.queue.counters.lock().failed += 1;
        // Before anybody is told: the shard may hear of it later than they do, but not later than what they ask next.
        self.annex.shut();
        self.entrance.complete([ShardInput::ApplyFailed { group: self.group }]);
    }
}

impl Backlog {
    fn add(&mut self, job: Job) {
        match job {
            Job::Read(index, reply) => self.reads.entry(index).or_default().push(reply),
            Job::Stop(fatal) => self.stopped = Some(fatal),
            Job::Silence => self.silent = true,
            Job::Snapshot(reply) => self.wishes.push(reply),
            Job::SnapshotOver { failed } => self.failed |= failed,
            Job::Pressure => self.pressed = true,
            Job::Damage => self.damaged = true,
            Job::Restore(snapshot) => self.restore = Some(snapshot),
            Job::Entries(entries) => {
                let covered = self.last;
                self.last = entries.last().map_or(covered, |last| covered.max(last.entry.id.index));
                let commands = entries.into_iter().filter(|committed| committed.entry.kind == EntryKind::Command);
                for Committed { entry, reply } in commands {
                    if entry.id.index <= covered {
                        // Handed out before the core heard of the snapshot that it is in.
                        let why = Interruption::SnapshotInstalled { last: covered };
                        reply.into_iter().for_each(|reply| reply.failed(why.into()));
                        continue;
                    }
                    self.commands.push(Command { id: entry.id, data: entry.payload });
                    self.replies.push(reply);
                }
            }
        }
    }

    /// Tells everybody in it that the state machine has failed: what was handed to it may have had an effect.
    fn refuse(self, queue: &ApplyQueue) {
        let fatal = Fatal::StateMachineFailed;
        for reply in self.replies.into_iter().flatten() {
            reply.failed(Interruption::Stopped(fatal).into());
        }
        for reply in self.reads.into_values().flatten() {
            queue.release(1);
            reply.answered(Err(ReadError::Stopped(fatal)));
        }
        queue.release(self.wishes.len());
        for reply in self.wishes {
            reply.answered(Err(TakeError::Stopped(fatal)));
        }
    }
}

/// Keeps answering until the node is shut down: entries and reads may still be on their way here.
fn refuse_all(queue: &ApplyQueue, backlog: Backlog) {
    backlog.refuse(queue);
    let mut jobs = Vec::new();
    while queue.jobs.take(&mut jobs, None) == Taken::Items {
        let mut late = Backlog::default();
        for job in jobs.drain(..) {
            late.add(job);
        }
        late.refuse(queue);
    }
    drop(queue.jobs.drain());
}

/// Runs the state machine's code: a panic there is one of its errors.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, ApplyError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(ApplyError(format!("it panicked: {}", message_of(&*panic)))))
}

/// A state machine that panics while it is dropped must not end its thread before everybody was told.
fn drop_quietly<S>(machine: S) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(machine))).map_err(std::mem::forget);
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Entry;
    use crate::runtime::{ProposalError, Ticket};
    use crate::time::Duration;
    use crate::types::EntryId;
    use bytes::Bytes;

    /// `b56`, `c27`: entries that are in a snapshot already are not applied again, whoever waits for them is answered, and
    /// those behind it are applied after it.
    #[test]
    fn b56_c27_entries_of_an_installed_snapshot_are_skipped_and_answered() {
        let mut backlog = Backlog { last: Index(10), ..Backlog::default() };
        let (ticket, reply) = Ticket::<()>::new();
        let mut reply = Some(reply);
        let entries = (9..=12).map(|index| {
            let entry = Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, payload: Bytes::new() };
            Committed { entry, reply: if index == 10 { reply.take() } else { None } }
        });
        backlog.add(Job::Entries(entries.collect()));
        let left: Vec<_> = backlog.commands.iter().map(|command| command.id.index.0).collect();
        assert_eq!((left, backlog.last), (vec![11, 12], Index(12)));
        let unknown = ProposalError::Unknown(Interruption::SnapshotInstalled { last: Index(10) });
        assert_eq!(ticket.wait_timeout(Duration::ZERO).ok(), Some(Err(unknown)));
        backlog.add(Job::Entries(Vec::new()));
        assert_eq!(backlog.last, Index(12));
    }
}
