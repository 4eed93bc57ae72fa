//! The shard: many groups driven by one owner, without a thread, a clock or a lock of its own.
//!
//! Inputs go in with [`Shard::handle`], as many as there are; then [`Shard::flush`] carries out what follows from all
//! of them at once, so that batches grow with load: the commands proposed meanwhile become one append, appends to a
//! peer one message, writes of all groups one batch for the disk. The same object runs under the node's threads and
//! under a virtual-time cluster: what happens is a function of the inputs and the times it is given.
//!
//! The time of a step is sampled immediately before it (rule `p00`), so `handle` and `flush` take the clock, not a
//! time.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use super::error::{ChangeError, Interruption, ProposalError, ReadError, TransferError};
use super::hosted::Hosted;
use super::reply::{Answer, ChangeReply, ReadReply, Reply, TransferReply};
use crate::config::CoreConfig;
use crate::core::{Change, Consistency, Core, Event, Input, Install, Lease, Load, NoLeader, Restored, StartError};
use crate::log::{Entry, Write};
use crate::message::Message;
use crate::quorum::Configuration;
use crate::time::{Duration, Instant};
use crate::types::{EntryId, GroupId, Index, NodeId, WriteSeq};

pub use super::hosted::GroupStatus;

/// One thing that happened, for a shard.
pub enum ShardInput {
    /// Messages of any groups came in.
    Received(Vec<Message>),
    /// The time of [`Shard::next_deadline`] has come. Too early does no harm.
    Deadline,
    /// Somebody wants a command appended.
    Propose {
        /// To this group.
        group: GroupId,
        /// The command.
        command: Bytes,
        /// Who waits.
        reply: Reply,
    },
    /// Somebody wants to read.
    Read {
        /// From this group.
        group: GroupId,
        /// How fresh.
        consistency: Consistency,
        /// Who waits.
        reply: ReadReply,
    },
    /// Somebody wants leadership to be handed over (rule `p09`).
    Transfer {
        /// Of this group.
        group: GroupId,
        /// To whom; `None` for the fittest voter.
        target: Option<NodeId>,
        /// Who waits.
        reply: TransferReply,
    },
    /// Somebody wants the members changed.
    Change {
        /// Of this group.
        group: GroupId,
        /// To what.
        change: Change,
        /// Who waits.
        reply: ChangeReply,
    },
    /// The machine slept or its clock jumped (rule `p16`): for every group.
    ClockJumped,
    /// A write of the group is durable, and every earlier one of it.
    Durable {
        /// The group.
        group: GroupId,
        /// The write.
        seq: WriteSeq,
    },
    /// The log's device failed: nothing of any group becomes durable any more.
    LogFailed,
    /// The group's state machine has applied up to here.
    Applied {
        /// The group.
        group: GroupId,
        /// The last index applied.
        index: Index,
    },
    /// The group's state machine returned an error or panicked.
    ApplyFailed {
        /// The group.
        group: GroupId,
    },
    /// The answer to [`Effects::load`].
    Loaded {
        /// The group.
        group: GroupId,
        /// The request.
        load: Load,
        /// The entries, `None` if they cannot be read.
        entries: Option<Vec<Entry>>,
    },
    /// A snapshot of the group's state machine is durable here and can be fetched.
    SnapshotTaken {
        /// The group.
        group: GroupId,
        /// The last entry whose effect is in it.
        last: EntryId,
    },
    /// The group's log takes too much room.
    LogTooLong {
        /// The group.
        group: GroupId,
    },
    /// The answer to [`Effects::install`]: a snapshot of another node is durable here, and the group's state machine was
    /// replaced by it.
    SnapshotInstalled {
        /// The group.
        group: GroupId,
        /// The last entry whose effect is in it.
        last: EntryId,
        /// The configuration in use as of that entry, and where it stands.
        configuration: (Index, Configuration),
    },
}

/// A committed entry on its way to the state machine, with whoever waits for it here.
pub struct Committed {
    /// The entry; of any kind, only commands are for the state machine.
    pub entry: Entry,
    /// Who proposed it on this node, if somebody still waits.
    pub reply: Option<Reply>,
}

/// What a shard wants done. Called under the shard's lock: nothing here may block or run a caller's code.
pub trait Effects {
    /// What threads beside the shard may use of the group's lease from now on; `None` takes it away.
    ///
    /// Comes before everything else that follows from the same inputs: a revoked lease is out of use before any message
    /// of the new role leaves (rule `p08`), and the read index covers an entry before anybody can learn that it is
    /// committed (rule `p07`).
    fn lease(&mut self, group: GroupId, lease: Option<Lease>);

    /// Sends these messages: takes them all out, in any order, or loses them.
    fn send(&mut self, messages: &mut Vec<Message>);

    /// Makes this write durable, after every earlier one of the group; then [`ShardInput::Durable`].
    fn persist(&mut self, group: GroupId, write: Write);

    /// Hands entries to the group's state machine, in this order; then [`ShardInput::Applied`].
    fn apply(&mut self, group: GroupId, entries: Vec<Committed>);

    /// Answers `reply` once the group's state machine has applied `index`.
    fn read(&mut self, group: GroupId, index: Index, reply: ReadReply);

    /// Reads entries of the group from the log's store; then [`ShardInput::Loaded`].
    fn load(&mut self, group: GroupId, load: Load);

    /// Fetches a snapshot and replaces the group's state machine by it; then [`ShardInput::SnapshotInstalled`]. Asked for
    /// again and again while it is needed, also while it is on its way; what comes of it may come late or never.
    fn install(&mut self, group: GroupId, install: Install);

    /// Gives this answer, outside the shard's lock.
    fn answer(&mut self, answer: Answer);

    /// Something an observer wants to know. After [`Event::Stopped`] nothing more is handed to the group's state
    /// machine, and after [`Event::Removed`] perhaps nothing: reads that wait for more are to be refused.
    fn event(&mut self, group: GroupId, event: Event);

    /// This configuration is in use from now on, committed or not: its members are where it says. Told at the first flush
    /// and whenever it changes.
    fn members(&mut self, group: GroupId, configuration: &Configuration);

    /// The group knows no leader: told whenever a round is lost, and once when that has lasted for long: then reads that
    /// wait for more than was handed to the state machine are to be refused.
    fn leaderless(&mut self, group: GroupId, how: Leaderless);
}

/// A group that knows no leader, as far as this node can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaderless {
    /// For how long.
    pub lasting: Duration,
    /// Whether that is ten election timeouts or more, and is said for the first time.
    pub long: bool,
    /// Why.
    pub why: NoLeader,
}

/// What a shard has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardCounters {
    /// Commands proposed.
    pub proposals: u64,
    /// Commands refused before they were appended.
    pub refused: u64,
    /// Appends made of them: `proposals / append_batches` is how many commands travel together.
    pub append_batches: u64,
    /// Commands appended whose outcome became unknown here.
    pub unknown: u64,
    /// Reads asked of the shard; those that its lease answered elsewhere are not among them.
    pub reads: u64,
    /// Transfers of leadership asked for.
    pub transfers: u64,
    /// Changes of members asked for.
    pub changes: u64,
    /// Entries handed to state machines.
    pub committed: u64,
    /// Messages received.
    pub received: u64,
    /// Messages for a group that is not open here, dropped.
    pub unknown_group: u64,
    /// Messages handed to the transport.
    pub sent: u64,
    /// Steps of cores.
    pub steps: u64,
    /// Flushes.
    pub flushes: u64,
}

/// Many groups, driven together.
#[derive(Default)]
pub struct Shard {
    groups: BTreeMap<GroupId, Hosted>,
    /// Invariant: holds exactly `(deadline, group)` for every group that had a deadline at its last flush.
    deadlines: BTreeSet<(Instant, GroupId)>,
    /// Groups with something to flush, each once.
    touched: Vec<GroupId>,
    /// Reused from flush to flush.
    messages: Vec<Message>,
    counters: ShardCounters,
}

impl Shard {
    /// A shard without groups.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a group. Flush afterwards.
    ///
    /// # Errors
    /// [`StartError`]: nothing was started.
    pub fn open(
        &mut self,
        now: &mut dyn FnMut() -> Instant,
        config: CoreConfig,
        restored: Restored,
    ) -> Result<(), StartError> {
        let group = config.group;
        self.groups.insert(group, Hosted::start(config, restored, now())?);
        self.touch(group);
        Ok(())
    }

    /// Ends a group here: whoever waits is told that the node was shut down.
    pub fn close(&mut self, group: GroupId, effects: &mut impl Effects) {
        if let Some(mut hosted) = self.groups.remove(&group) {
            self.touched.retain(|other| *other != group);
            self.deadlines.retain(|(_, other)| *other != group);
            hosted.withdraw_lease(effects);
            let (read, transfer) = (ReadError::ShutDown, TransferError::ShutDown);
            self.counters.unknown += hosted.end(Interruption::ShutDown, read, transfer, effects);
            hosted.refuse_batch(ProposalError::ShutDown, effects);
        }
    }

    /// Takes one input. What follows from it is carried out by the next [`flush`](Self::flush), answers to callers
    /// that fail at the door included.
    pub fn handle(&mut self, now: &mut dyn FnMut() -> Instant, input: ShardInput, effects: &mut impl Effects) {
        match input {
            ShardInput::Received(messages) => {
                self.counters.received += messages.len() as u64;
                for message in messages {
                    let group = message.group;
                    if !self.step(now, group, Input::Received(message)) {
                        self.counters.unknown_group += 1;
                    }
                }
            }
            ShardInput::Deadline => self.expire(now),
            ShardInput::Propose { group, command, reply } => self.propose(group, command, reply, effects),
            ShardInput::Read { group, consistency, reply } => self.read(now, group, consistency, reply, effects),
            ShardInput::Transfer { group, target, reply } => self.transfer(now, group, target, reply, effects),
            ShardInput::Change { group, change, reply } => self.change(now, group, change, reply, effects),
            ShardInput::ClockJumped => self.step_all(now, || Input::ClockJumped),
            ShardInput::Durable { group, seq } => {
                self.step(now, group, Input::Durable(seq));
            }
            ShardInput::LogFailed => self.step_all(now, || Input::WriteFailed),
            ShardInput::Applied { group, index } => {
                if let Some(hosted) = self.groups.get_mut(&group) {
                    hosted.applied = hosted.applied.max(index);
                    self.step(now, group, Input::Applied(index));
                }
            }
            ShardInput::ApplyFailed { group } => {
                self.step(now, group, Input::ApplyFailed);
            }
            ShardInput::Loaded { group, load, entries } => {
                self.step(now, group, Input::Loaded { load, entries });
            }
            ShardInput::SnapshotTaken { group, last } => {
                self.step(now, group, Input::SnapshotTaken(last));
            }
            ShardInput::LogTooLong { group } => {
                self.step(now, group, Input::LogTooLong);
            }
            ShardInput::SnapshotInstalled { group, last, configuration } => {
                // One that contradicts what is committed has replaced nothing: the core stops.
                if let Some(hosted) =
                    self.groups.get_mut(&group).filter(|hosted| hosted.core().contradiction(last).is_none())
                {
                    self.counters.unknown += hosted.replaced_up_to(last.index, effects);
                }
                self.step(now, group, Input::SnapshotInstalled { last, configuration });
            }
        }
    }

    /// Carries out what follows from every input since the last flush.
    ///
    /// Commands proposed meanwhile are appended now, as one batch per group and after everything else: acknowledgements
    /// that came in with them have made room, and if the leadership was lost on the way, they are refused instead of
    /// left unknown.
    pub fn flush(&mut self, now: &mut dyn FnMut() -> Instant, effects: &mut impl Effects) {
        self.counters.flushes += 1;
        let mut touched = std::mem::take(&mut self.touched);
        for group in touched.drain(..) {
            let Some(hosted) = self.groups.get_mut(&group) else { continue };
            hosted.flush(now, effects, &mut self.messages, &mut self.counters);
            if let Some(old) = hosted.scheduled {
                self.deadlines.remove(&(old, group));
            }
            hosted.scheduled = hosted.next_deadline();
            self.deadlines.extend(hosted.scheduled.map(|deadline| (deadline, group)));
        }
        self.touched = touched;
        if !self.messages.is_empty() {
            self.counters.sent += self.messages.len() as u64;
            effects.send(&mut self.messages);
            self.messages.clear();
        }
    }

    /// When to hand in [`ShardInput::Deadline`] next, if nothing else comes first. Valid after a flush.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The groups that are open, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// The groups that this node leads, in order.
    #[must_use]
    pub fn led(&self) -> Vec<GroupId> {
        self.groups.iter().filter(|(_, hosted)| hosted.leads()).map(|(group, _)| *group).collect()
    }

    /// What is known of a group; `None` if it is not open.
    #[must_use]
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.groups.get(&group).map(Hosted::status)
    }

    /// A group's core, to look at; `None` if it is not open.
    #[must_use]
    pub fn core(&self, group: GroupId) -> Option<&Core> {
        self.groups.get(&group).map(Hosted::core)
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> ShardCounters {
        self.counters
    }

    fn propose(&mut self, group: GroupId, command: Bytes, reply: Reply, effects: &mut impl Effects) {
        self.counters.proposals += 1;
        let refused = match self.groups.get_mut(&group) {
            Some(hosted) => hosted.propose(command, reply),
            None => Err((reply, ProposalError::ShutDown)),
        };
        match refused {
            Ok(()) => self.touch(group),
            Err((reply, error)) => {
                self.counters.refused += 1;
                effects.answer(Answer::Proposal(reply, error));
            }
        }
    }

    fn read(
        &mut self,
        now: &mut dyn FnMut() -> Instant,
        group: GroupId,
        consistency: Consistency,
        reply: ReadReply,
        effects: &mut impl Effects,
    ) {
        self.counters.reads += 1;
        let Some(hosted) = self.groups.get_mut(&group) else {
            return effects.answer(Answer::Read(reply, Err(ReadError::ShutDown)));
        };
        let id = hosted.await_read(reply);
        self.step(now, group, Input::Read(id, consistency));
    }

    fn transfer(
        &mut self,
        now: &mut dyn FnMut() -> Instant,
        group: GroupId,
        target: Option<NodeId>,
        reply: TransferReply,
        effects: &mut impl Effects,
    ) {
        self.counters.transfers += 1;
        let Some(hosted) = self.groups.get_mut(&group) else {
            return effects.answer(Answer::Transfer(reply, Err(TransferError::ShutDown)));
        };
        let id = hosted.await_transfer(reply);
        self.step(now, group, Input::Transfer(id, target));
    }

    fn change(
        &mut self,
        now: &mut dyn FnMut() -> Instant,
        group: GroupId,
        change: Change,
        reply: ChangeReply,
        effects: &mut impl Effects,
    ) {
        self.counters.changes += 1;
        let Some(hosted) = self.groups.get_mut(&group) else {
            return effects.answer(Answer::Change(reply, Err(ChangeError::ShutDown)));
        };
        let id = hosted.await_change(reply);
        self.step(now, group, Input::Change(id, change));
    }

    fn expire(&mut self, now: &mut dyn FnMut() -> Instant) {
        let due = now();
        let groups: Vec<GroupId> =
            self.deadlines.iter().take_while(|(deadline, _)| *deadline <= due).map(|(_, group)| *group).collect();
        for group in groups {
            self.step(now, group, Input::Deadline);
        }
    }

    fn step_all(&mut self, now: &mut dyn FnMut() -> Instant, input: impl Fn() -> Input) {
        for group in self.ids() {
            self.step(now, group, input());
        }
    }

    /// Steps a group's core at the time it is now. `false` if the group is not open.
    fn step(&mut self, now: &mut dyn FnMut() -> Instant, group: GroupId, input: Input) -> bool {
        let Some(hosted) = self.groups.get_mut(&group) else { return false };
        self.counters.steps += 1;
        hosted.step(now, input);
        self.touch(group);
        true
    }

    fn touch(&mut self, group: GroupId) {
        if let Some(hosted) = self.groups.get_mut(&group)
            && !std::mem::replace(&mut hosted.touched, true)
        {
            self.touched.push(group);
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
