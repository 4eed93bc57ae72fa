//! One group on a shard: its core, the commands that wait to be appended, and whoever waits for an outcome.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::mem;

use super::driver::{Committed, Effects, Leaderless, ShardCounters};
use super::error::{ChangeError, Interruption, ProposalError, ReadError, TransferError};
use super::reply::{Answer, ChangeReply, ReadReply, Reply, TransferReply};
use crate::config::CoreConfig;
use crate::core::{
    ChangeAnswer, ChangeId, Core, CoreStatus, Event, Input, Lease, Output, Proposed, ReadAnswer, ReadId, Restored,
    RoleKind, StartError, TransferAnswer, TransferId,
};
use crate::log::Entry;
use crate::message::Message;
use crate::time::{Duration, Instant};
use crate::types::{EntryId, GroupId, Index, NodeId, Term};

/// What is known of a group, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// What its core knows.
    pub core: CoreStatus,
    /// Commands appended here that somebody waits for.
    pub waiting_proposals: usize,
    /// Reads that wait for the shard's answer: for a quorum to confirm this leader, or for the leader of this follower.
    pub waiting_reads: usize,
}

/// How many election timeouts without a leader are long.
const LONG: u32 = 10;

/// A time without a leader.
#[derive(Default)]
struct Silence {
    /// Set by the first flush.
    since: Option<Instant>,
    /// A round was lost since the last flush.
    round_lost: bool,
    /// It was said that it lasts for long.
    told: bool,
}

pub(super) struct Hosted {
    group: GroupId,
    core: Core,
    /// The role that the core reported last.
    role: RoleKind,
    /// Since when it has known no leader, if it knows none.
    leaderless: Option<Silence>,
    /// How long that may last before it is worth a warning.
    patience: Duration,
    out: Output,
    /// Commands for the next append. Invariant: as long as `batch_replies`.
    batch: Vec<Bytes>,
    batch_replies: Vec<Reply>,
    /// Who waits for which entry. Invariant: indexes and terms rise.
    proposals: VecDeque<(EntryId, Reply)>,
    reads: BTreeMap<ReadId, ReadReply>,
    next_read: u64,
    transfers: BTreeMap<TransferId, TransferReply>,
    next_transfer: u64,
    changes: BTreeMap<ChangeId, ChangeReply>,
    next_change: u64,
    /// Where the members are was told at least once.
    members_told: bool,
    /// The lease as the other threads know it.
    published: Option<Lease>,
    command_bytes: usize,
    /// How many may wait for an outcome. The core bounds what is uncommitted; this also bounds who waits for a state
    /// machine that is slower than the log.
    waiting_limit: usize,
    /// The last index known to be applied.
    pub(super) applied: Index,
    /// Whether it is in the shard's list of groups to flush.
    pub(super) touched: bool,
    /// Its deadline as the shard's timer knows it.
    pub(super) scheduled: Option<Instant>,
}

impl Hosted {
    pub(super) fn start(config: CoreConfig, restored: Restored, now: Instant) -> Result<Self, StartError> {
        let mut out = Output::new();
        let applied = restored.applied;
        let (group, limits) = (config.group, config.limits.clone());
        let patience = config.timing.promise() * LONG;
        Ok(Self {
            group,
            core: Core::new(config, restored, now, &mut out)?,
            role: RoleKind::Follower,
            leaderless: Some(Silence::default()),
            patience,
            out,
            batch: Vec::new(),
            batch_replies: Vec::new(),
            proposals: VecDeque::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            transfers: BTreeMap::new(),
            next_transfer: 0,
            changes: BTreeMap::new(),
            next_change: 0,
            members_told: false,
            published: None,
            command_bytes: limits.command_bytes,
            waiting_limit: limits.uncommitted_entries,
            applied,
            touched: false,
            scheduled: None,
        })
    }

    /// Queues a command for the next flush.
    pub(super) fn propose(&mut self, command: Bytes, reply: Reply) -> Result<(), (Reply, ProposalError)> {
        // Checked here and not left to the core, which refuses everything behind a command that is too long.
        let (bytes, limit) = (command.len(), self.command_bytes);
        if bytes > limit {
            return Err((reply, ProposalError::TooLarge { bytes, limit }));
        }
        if self.proposals.len() + self.batch.len() >= self.waiting_limit {
            return Err((reply, ProposalError::Overloaded));
        }
        self.batch.push(command);
        self.batch_replies.push(reply);
        Ok(())
    }

    /// Names a read and keeps its reply until the core answers.
    pub(super) fn await_read(&mut self, reply: ReadReply) -> ReadId {
        let id = ReadId(self.next_read);
        self.next_read += 1;
        self.reads.insert(id, reply);
        id
    }

    /// Names a transfer and keeps its reply until the core answers.
    pub(super) fn await_transfer(&mut self, reply: TransferReply) -> TransferId {
        let id = TransferId(self.next_transfer);
        self.next_transfer += 1;
        self.transfers.insert(id, reply);
        id
    }

    /// Names a change and keeps its reply until the core answers.
    pub(super) fn await_change(&mut self, reply: ChangeReply) -> ChangeId {
        let id = ChangeId(self.next_change);
        self.next_change += 1;
        self.changes.insert(id, reply);
        id
    }

    pub(super) fn step(&mut self, now: &mut dyn FnMut() -> Instant, input: Input) {
        self.core.step(now(), input, &mut self.out);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.core.next_deadline()
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn leads(&self) -> bool {
        self.role == RoleKind::Leader
    }

    pub(super) fn status(&self) -> GroupStatus {
        GroupStatus {
            core: self.core.status(),
            waiting_proposals: self.proposals.len(),
            waiting_reads: self.reads.len(),
        }
    }

    /// Appends the queued commands, then carries out everything in the core's buffer.
    ///
    /// The lease comes first: see [`Effects::lease`].
    pub(super) fn flush(
        &mut self,
        now: &mut dyn FnMut() -> Instant,
        effects: &mut impl Effects,
        messages: &mut Vec<Message>,
        counters: &mut ShardCounters,
    ) {
        self.touched = false;
        self.append_batch(now, effects, counters);
        self.publish_lease(self.core.lease(), effects);
        let group = self.group;
        messages.append(&mut self.out.messages);
        for write in self.out.writes.drain(..) {
            effects.persist(group, write);
        }
        if !self.out.apply.is_empty() {
            let entries = mem::take(&mut self.out.apply);
            counters.committed += entries.len() as u64;
            let committed = entries.into_iter().map(|entry| self.claimed(entry, effects)).collect();
            effects.apply(group, committed);
        }
        for load in self.out.loads.drain(..) {
            effects.load(group, load);
        }
        if let Some(install) = self.out.install.take() {
            effects.install(group, install);
        }
        for answer in mem::take(&mut self.out.reads) {
            self.answer_read(answer, effects);
        }
        for TransferAnswer { id, result } in self.out.transfers.drain(..) {
            if let Some(reply) = self.transfers.remove(&id) {
                effects.answer(Answer::Transfer(reply, result.map_err(Into::into)));
            }
        }
        for ChangeAnswer { id, result } in self.out.changes.drain(..) {
            if let Some(reply) = self.changes.remove(&id) {
                effects.answer(Answer::Change(reply, result.map_err(Into::into)));
            }
        }
        let events = mem::take(&mut self.out.events);
        let changed = events.iter().any(|event| matches!(event, Event::Configuration { .. }));
        if !mem::replace(&mut self.members_told, true) || changed {
            effects.members(group, self.core.configuration());
        }
        for event in events {
            counters.unknown += self.observe(event, effects);
            effects.event(group, event);
        }
        self.look_for_leader(now, effects);
    }

    /// Tells everybody who waits that it is over, and returns how many proposals that left unknown.
    pub(super) fn end(
        &mut self,
        why: Interruption,
        why_read: ReadError,
        why_transfer: TransferError,
        effects: &mut impl Effects,
    ) -> u64 {
        for (_, reply) in mem::take(&mut self.reads) {
            effects.answer(Answer::Read(reply, Err(why_read)));
        }
        for (_, reply) in mem::take(&mut self.transfers) {
            effects.answer(Answer::Transfer(reply, Err(why_transfer)));
        }
        // A group that stops answers them itself.
        for (_, reply) in mem::take(&mut self.changes) {
            effects.answer(Answer::Change(reply, Err(ChangeError::ShutDown)));
        }
        self.interrupt(why, effects, |_| true)
    }

    /// Nobody may use the lease any more, whatever the core says.
    pub(super) fn withdraw_lease(&mut self, effects: &mut impl Effects) {
        self.publish_lease(None, effects);
    }

    fn publish_lease(&mut self, lease: Option<Lease>, effects: &mut impl Effects) {
        if mem::replace(&mut self.published, lease) != lease {
            effects.lease(self.group, lease);
        }
    }

    /// Refuses the commands that were not appended yet.
    pub(super) fn refuse_batch(&mut self, error: ProposalError, effects: &mut impl Effects) {
        self.batch.clear();
        for reply in self.batch_replies.drain(..) {
            effects.answer(Answer::Proposal(reply, error));
        }
    }

    fn append_batch(
        &mut self,
        now: &mut dyn FnMut() -> Instant,
        effects: &mut impl Effects,
        counters: &mut ShardCounters,
    ) {
        if self.batch.is_empty() {
            return;
        }
        counters.append_batches += 1;
        counters.steps += 1;
        let commands = mem::take(&mut self.batch);
        self.core.step(now(), Input::Propose(commands), &mut self.out);
        let refused = ProposalError::Overloaded;
        let (first, accepted, refused) = match self.out.proposed.take() {
            Some(Proposed { first, accepted, refused: why }) => (first, accepted, why.map_or(refused, Into::into)),
            None => (EntryId::ZERO, 0, refused),
        };
        for (nth, reply) in self.batch_replies.drain(..).enumerate() {
            if nth < accepted {
                let id = EntryId { term: first.term, index: first.index.plus(nth as u64) };
                self.proposals.push_back((id, reply));
            } else {
                counters.refused += 1;
                effects.answer(Answer::Proposal(reply, refused));
            }
        }
    }

    /// Puts a committed entry together with whoever waits for it. Another entry in its place tells the one who waited
    /// that the command is lost for certain.
    fn claimed(&mut self, entry: Entry, effects: &mut impl Effects) -> Committed {
        let waited_for = |(id, _): &mut (EntryId, Reply)| id.index == entry.id.index;
        match self.proposals.pop_front_if(waited_for) {
            Some((id, reply)) if id == entry.id => Committed { entry, reply: Some(reply) },
            Some((_, reply)) => {
                effects.answer(Answer::Proposal(reply, ProposalError::Replaced { by: entry.id }));
                Committed { entry, reply: None }
            }
            None => Committed { entry, reply: None },
        }
    }

    fn answer_read(&mut self, answer: ReadAnswer, effects: &mut impl Effects) {
        let Some(reply) = self.reads.remove(&answer.id) else { return };
        match answer.result {
            Ok(index) if index > self.applied => effects.read(self.group, index, reply),
            Ok(index) => effects.answer(Answer::Read(reply, Ok(index))),
            Err(error) => effects.answer(Answer::Read(reply, Err(error.into()))),
        }
    }

    fn observe(&mut self, event: Event, effects: &mut impl Effects) -> u64 {
        match event {
            Event::Role { role, term, leader } => self.role_changed(role, term, leader, effects),
            Event::Stopped(fatal) => {
                self.leaderless = None;
                let (read, transfer) = (ReadError::Stopped(fatal), TransferError::Stopped(fatal));
                self.end(Interruption::Stopped(fatal), read, transfer, effects)
            }
            _ => 0,
        }
    }

    /// A node leads at most once in a term: leading in `term` ends what was proposed in older ones, not leading also
    /// what was proposed in `term` itself. Stated by term, the rule holds even if a leadership was lost and another won
    /// within one flush.
    ///
    /// What is committed here is applied here, as soon as this node's own disk has it: who waits for that goes on
    /// waiting, and hears the output. A leader may lose its role to a disk that is slower than those of its quorum.
    fn role_changed(&mut self, role: RoleKind, term: Term, leader: Option<NodeId>, effects: &mut impl Effects) -> u64 {
        let stood = matches!(self.role, RoleKind::PreCandidate | RoleKind::Candidate);
        self.role = role;
        let core = self.core.status();
        // A group that has stopped here does not wait for a leader.
        let waits = leader.is_none() && core.stopped.is_none();
        self.leaderless = waits.then(|| self.leaderless.take().unwrap_or_default());
        if let Some(silence) = &mut self.leaderless {
            silence.round_lost |= stood && role == RoleKind::Follower;
        }
        let leads = self.leads();
        let over = |id: EntryId| id.index > core.commit && (id.term < term || (id.term == term && !leads));
        self.interrupt(Interruption::LeadershipLost { leader }, effects, over)
    }

    /// Says so if nobody is known to lead.
    fn look_for_leader(&mut self, now: &mut dyn FnMut() -> Instant, effects: &mut impl Effects) {
        let Some(silence) = &mut self.leaderless else { return };
        let now = now();
        let lasting = now.since(*silence.since.get_or_insert(now));
        let long = lasting >= self.patience && !silence.told;
        silence.told |= long;
        if mem::take(&mut silence.round_lost) || long {
            let why = self.core.status().no_leader.unwrap_or_default();
            effects.leaderless(self.group, Leaderless { lasting, long, why });
        }
    }

    /// The state machine was replaced by a snapshot up to `index`: whoever waits for an entry in it learns that it is
    /// committed or was replaced, but nobody knows which, and there is no output. Returns how many that left unknown.
    pub(super) fn replaced_up_to(&mut self, index: Index, effects: &mut impl Effects) -> u64 {
        self.applied = self.applied.max(index);
        self.interrupt(Interruption::SnapshotInstalled { last: index }, effects, |id| id.index <= index)
    }

    /// Tells those whose entry is `over` that its outcome is unknown. They stand together: indexes and terms rise.
    fn interrupt(&mut self, why: Interruption, effects: &mut impl Effects, over: impl Fn(EntryId) -> bool) -> u64 {
        let begin = self.proposals.iter().take_while(|(id, _)| !over(*id)).count();
        let ended = self.proposals.iter().skip(begin).take_while(|(id, _)| over(*id)).count();
        for (_, reply) in self.proposals.drain(begin..begin + ended) {
            effects.answer(Answer::Proposal(reply, why.into()));
        }
        ended as u64
    }
}
