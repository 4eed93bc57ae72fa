//! A group's handle: what a client of the engine holds.

use bytes::Bytes;
use std::fmt;
use std::marker::PhantomData;

use super::driver::{GroupStatus, ShardInput};
use super::error::{ProposalError, ReadError};
use super::inbox::NotTaken;
use super::reply::{ReadReply, Reply};
use super::shard::Entrance;
use super::ticket::{Outcome, ReadTicket, Ticket, call_with_answer, call_with_outcome};
use crate::sync::Arc;
use crate::types::{GroupId, Index};

/// One group on one node. Cloning it shares it; it may be used from any thread, and outlives its node only to say that
/// the node is shut down.
pub struct Group<O> {
    id: GroupId,
    entrance: Arc<Entrance>,
    output: PhantomData<fn() -> O>,
}

/// How fresh a read must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[non_exhaustive]
pub enum Consistency {
    /// Everything that was acknowledged anywhere before the read was asked for is seen (dissertation §6.4). Costs the
    /// leader one round to a quorum, shared by all reads that wait.
    #[default]
    Linearizable,
}

impl<O: Send + 'static> Group<O> {
    pub(super) fn new(id: GroupId, entrance: Arc<Entrance>) -> Self {
        Self { id, entrance, output: PhantomData }
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

    /// Waits for the moment from which the state machine may be read with this consistency. Does not block.
    ///
    /// The ticket ends in the index up to which the state machine has applied at least, or in a [`ReadError`] after
    /// which the read may always be asked again.
    pub fn read(&self, consistency: Consistency) -> ReadTicket {
        let (ticket, reply) = ReadTicket::new();
        self.ask(consistency, reply);
        ticket
    }

    /// As [`read`](Self::read), with a callback as in [`propose_with`](Self::propose_with).
    pub fn read_with(
        &self,
        consistency: Consistency,
        callback: impl FnOnce(Result<Index, ReadError>) + Send + 'static,
    ) {
        self.ask(consistency, call_with_answer(callback));
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

    fn ask(&self, consistency: Consistency, reply: ReadReply) {
        match consistency {
            Consistency::Linearizable => refuse(self.entrance.ask([ShardInput::Read { group: self.id, reply }])),
        }
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
            _ => {}
        }
    }
}

impl<O> Clone for Group<O> {
    fn clone(&self) -> Self {
        Self { id: self.id, entrance: self.entrance.clone(), output: PhantomData }
    }
}

impl<O> fmt::Debug for Group<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.id)
    }
}
