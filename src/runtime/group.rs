//! A group's handle: what a client of the engine holds.

use bytes::Bytes;
use std::fmt;
use std::marker::PhantomData;

use super::annex::{Annex, Known};
use super::driver::{GroupStatus, ShardInput};
use super::error::{ChangeError, ProposalError, ReadError, TransferError};
use super::inbox::NotTaken;
use super::reply::{ChangeReply, ReadReply, Reply, TransferReply};
use super::shard::Entrance;
use super::snapshots::{SnapshotStatus, TakeError};
use super::ticket::{
    ChangeTicket, Outcome, ReadTicket, SnapshotTicket, Ticket, TransferTicket, call_with_answer, call_with_outcome,
};
use crate::core::{Change, Consistency};
use crate::sync::Arc;
use crate::types::{EntryId, GroupId, Index, NodeId};

/// One group on one node. Cloning it shares it; it may be used from any thread, and outlives its node only to say that
/// the node is shut down.
pub struct Group<O> {
    id: GroupId,
    entrance: Arc<Entrance>,
    annex: Arc<Annex>,
    output: PhantomData<fn() -> O>,
}

impl<O: Send + 'static> Group<O> {
    pub(super) fn new(id: GroupId, entrance: Arc<Entrance>, annex: Arc<Annex>) -> Self {
        Self { id, entrance, annex, output: PhantomData }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Proposes a command. Does not block on disks or peers, but may do the shard's work of the moment on this thread.
    ///
    /// The ticket ends in the state machine's output, or in a [`ProposalError`] that tells whether the command is
    /// certainly not committed.
    pub fn propose(&self, command: impl Into<Bytes>) -> Ticket<O> {
        let (ticket, reply) = Ticket::new();
        self.submit([(command.into(), reply)]);
        ticket
    }

    /// Proposes commands that go into the log one after the other, in this order, as far as they are accepted: once
    /// one is refused, later ones may still be taken. One ticket each.
    pub fn propose_batch(&self, commands: Vec<Bytes>) -> Vec<Ticket<O>> {
        let (tickets, replies): (Vec<_>, Vec<_>) = commands.iter().map(|_| Ticket::new()).unzip();
        self.submit(commands.into_iter().zip(replies));
        tickets
    }

    /// Proposes a command and calls back with the outcome, once: on the group's apply thread, or on whatever thread
    /// finds out that it failed (this one included). The callback must not block; it may propose.
    pub fn propose_with(&self, command: impl Into<Bytes>, callback: impl FnOnce(Outcome<O>) + Send + 'static) {
        self.submit([(command.into(), call_with_outcome(callback))]);
    }

    /// Proposes commands together, as [`propose_batch`](Self::propose_batch) does, and calls back with each outcome as
    /// [`propose_with`](Self::propose_with) does.
    pub fn propose_batch_with<F>(&self, commands: Vec<(Bytes, F)>)
    where
        F: FnOnce(Outcome<O>) + Send + 'static,
    {
        self.submit(commands.into_iter().map(|(command, callback)| (command, call_with_outcome(callback))));
    }

    /// Waits for the moment from which the state machine may be read with this consistency. Does not block on disks or
    /// peers, but may do the shard's work of the moment on this thread.
    ///
    /// The ticket ends in the index up to which the state machine has applied at least, or in a [`ReadError`] after
    /// which the read may always be asked again. Only then is the state machine read, through whatever it shares with
    /// the caller; what was read before proves nothing.
    ///
    /// At a leader that holds a lease, a read with [`Consistency::Lease`] takes no lock, sends nothing and writes nothing but
    /// a counter (rule `p07`); it waits only if the state machine is behind. So does one with [`Consistency::Local`] anywhere.
    pub fn read(&self, consistency: Consistency) -> ReadTicket {
        let known = self.known(consistency);
        if let Some(Known::Applied(index)) = known {
            return ReadTicket::answered(Ok(index));
        }
        let (ticket, reply) = ReadTicket::new();
        match known {
            Some(Known::Awaited(index)) => self.await_applied(index, reply),
            _ => self.ask(consistency, reply),
        }
        ticket
    }

    /// As [`read`](Self::read), with a callback: as in [`propose_with`](Self::propose_with), or on this thread before this
    /// returns.
    pub fn read_with(
        &self,
        consistency: Consistency,
        callback: impl FnOnce(Result<Index, ReadError>) + Send + 'static,
    ) {
        let reply = call_with_answer(callback);
        // A callback that reads again must not be answered on top of itself: then the shard is asked.
        let Some(aside) = self.entrance.aside() else { return self.ask(consistency, reply) };
        match self.known(consistency) {
            Some(Known::Applied(index)) => reply.answered(Ok(index)),
            Some(Known::Awaited(index)) => self.await_applied(index, reply),
            None => {
                drop(aside);
                self.ask(consistency, reply);
            }
        }
    }

    /// The answer of [`read`](Self::read), if it is there without waiting for anything: the state machine has applied
    /// everything up to the index and may be read now, with this consistency. `None` says nothing; then
    /// [`read`](Self::read). Takes no lock; for event loops and caches.
    pub fn try_read(&self, consistency: Consistency) -> Option<Index> {
        match self.annex.known(consistency, &self.entrance.clock)? {
            known @ Known::Applied(index) => {
                self.entrance.reads.count(consistency, known);
                Some(index)
            }
            Known::Awaited(_) => None,
        }
    }

    /// Hands leadership to `target`, or to the fittest voter: the one with most of the log among those that answer
    /// (rule `p09`). Does not block on disks or peers, but may do the shard's work of the moment on this thread.
    ///
    /// Proposals are refused until the target has the whole log, for an election timeout at most; then this node gives
    /// up its role for good in this term, and the target stands for election at once. The ticket ends in the node that
    /// was told to, or in a [`TransferError`] that says whether this node leads on. A node that is its own target is
    /// answered at once.
    pub fn transfer(&self, target: Option<NodeId>) -> TransferTicket {
        let (ticket, reply) = TransferTicket::new();
        self.hand_over(target, reply);
        ticket
    }

    /// As [`transfer`](Self::transfer), with a callback as in [`propose_with`](Self::propose_with).
    pub fn transfer_with(
        &self,
        target: Option<NodeId>,
        callback: impl FnOnce(Result<NodeId, TransferError>) + Send + 'static,
    ) {
        self.hand_over(target, call_with_answer(callback));
    }

    /// Changes the members of the group to what `change` says (dissertation chapter 4). Does not block on disks or peers,
    /// but may do the shard's work of the moment on this thread.
    ///
    /// New voters get the log as learners first, for as long as [`Change::patience`] allows; then one voter more or less
    /// is one step, anything else goes by way of a joint configuration. A leader that is no voter in the end hands over
    /// to one. Proposals and reads go on meanwhile. A new node must have called
    /// [`Node::join_group`](super::Node::join_group) and know where the leader is, to answer it; the others find it at
    /// its address in the configuration ([`Configuration::with_address`](crate::quorum::Configuration::with_address)), or
    /// are told ([`Node::set_peer`](super::Node::set_peer)).
    ///
    /// The ticket ends in the index of the new configuration, which is committed then, or in a [`ChangeError`] that says
    /// whether anything was changed.
    pub fn change(&self, change: Change) -> ChangeTicket {
        let (ticket, reply) = ChangeTicket::new();
        self.reconfigure(change, reply);
        ticket
    }

    /// As [`change`](Self::change), with a callback as in [`propose_with`](Self::propose_with).
    pub fn change_with(&self, change: Change, callback: impl FnOnce(Result<Index, ChangeError>) + Send + 'static) {
        self.reconfigure(change, call_with_answer(callback));
    }

    /// Takes a snapshot of the state machine on this node, with the effect of everything that is applied here now. Does not
    /// block; the state machine goes on meanwhile, and the log is compacted afterwards. Snapshots are also taken without
    /// being asked for ([`SnapshotOptions`](super::SnapshotOptions)).
    ///
    /// The ticket ends in the last entry in it, which is durable then, or in a [`TakeError`]. If nothing was applied since the
    /// newest snapshot, that is the answer.
    pub fn snapshot(&self) -> SnapshotTicket {
        let (ticket, reply) = SnapshotTicket::new();
        self.annex.queue.push_snapshot(reply);
        ticket
    }

    /// As [`snapshot`](Self::snapshot), with a callback: on the thread that makes snapshots, or on whatever thread finds out
    /// that there will be none. It must not block.
    pub fn snapshot_with(&self, callback: impl FnOnce(Result<EntryId, TakeError>) + Send + 'static) {
        self.annex.queue.push_snapshot(call_with_answer(callback));
    }

    /// What is known of the group's snapshots on this node: all empty if it keeps none. Takes short locks.
    #[must_use]
    pub fn snapshots(&self) -> SnapshotStatus {
        self.annex.shelf.as_ref().map(|shelf| shelf.status()).unwrap_or_default()
    }

    /// What is known of the group; `None` once the node is shut down. Waits for the shard, but never for a disk or a
    /// peer.
    #[must_use]
    pub fn status(&self) -> Option<GroupStatus> {
        self.entrance.look(|shard| shard.status(self.id))
    }

    fn submit(&self, commands: impl IntoIterator<Item = (Bytes, Reply)>) {
        let group = self.id;
        let inputs = commands.into_iter().map(move |(command, reply)| ShardInput::Propose { group, command, reply });
        refuse(self.entrance.ask(inputs));
    }

    fn known(&self, consistency: Consistency) -> Option<Known> {
        let known = self.annex.known(consistency, &self.entrance.clock)?;
        self.entrance.reads.count(consistency, known);
        Some(known)
    }

    /// Answers once the state machine has come so far.
    fn await_applied(&self, index: Index, reply: ReadReply) {
        if let Err((reply, error)) = self.annex.queue.push_read(index, reply) {
            reply.answered(Err(error));
        }
    }

    fn ask(&self, consistency: Consistency, reply: ReadReply) {
        refuse(self.entrance.ask([ShardInput::Read { group: self.id, consistency, reply }]));
    }

    fn hand_over(&self, target: Option<NodeId>, reply: TransferReply) {
        refuse(self.entrance.ask([ShardInput::Transfer { group: self.id, target, reply }]));
    }

    fn reconfigure(&self, change: Change, reply: ChangeReply) {
        refuse(self.entrance.ask([ShardInput::Change { group: self.id, change, reply }]));
    }
}

/// Tells those who did not get in.
fn refuse(not_taken: Vec<(ShardInput, NotTaken)>) {
    for (input, why) in not_taken {
        let full = why == NotTaken::Full;
        match input {
            ShardInput::Propose { reply, .. } => {
                reply.failed(if full { ProposalError::Overloaded } else { ProposalError::ShutDown });
            }
            ShardInput::Read { reply, .. } => {
                reply.answered(Err(if full { ReadError::Overloaded } else { ReadError::ShutDown }));
            }
            ShardInput::Transfer { reply, .. } => {
                reply.answered(Err(if full { TransferError::Overloaded } else { TransferError::ShutDown }));
            }
            ShardInput::Change { reply, .. } => {
                reply.answered(Err(if full { ChangeError::Overloaded } else { ChangeError::ShutDown }));
            }
            _ => {}
        }
    }
}

impl<O> Clone for Group<O> {
    fn clone(&self) -> Self {
        let (entrance, annex) = (self.entrance.clone(), self.annex.clone());
        Self { id: self.id, entrance, annex, output: PhantomData }
    }
}

impl<O> fmt::Debug for Group<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.id)
    }
}
