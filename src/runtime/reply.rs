//! The way back to whoever waits for a proposal, a read, a transfer of leadership or a change of members.
//!
//! A shard owns groups whose state machines answer with different types, so what it carries is erased: one shared
//! object per proposal, made by the caller, that knows how to take its own group's output. Nothing is allocated
//! beyond it. A reply that gets lost on its way still answers: dropping one fails it, so that nobody waits for ever
//! (bug `c32`).

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{ChangeError, Interruption, ProposalError, ReadError, TransferError};
use super::snapshots::TakeError;
use crate::sync::Arc;
use crate::types::{EntryId, Index, NodeId};

/// Somebody who proposed a command. Told exactly once, on whatever thread finds out; must not block.
pub trait Proposer: Send + Sync + 'static {
    /// The command was committed as `id` and applied. `output` is an `Option` of the state machine's output, to be
    /// taken.
    fn applied(self: Arc<Self>, id: EntryId, output: &mut dyn Any);

    /// It was not.
    fn failed(self: Arc<Self>, error: ProposalError);
}

/// Somebody who asked for a read, a transfer or a change. Told exactly once, on whatever thread finds out; must not block.
pub trait Asker<T, E>: Send + Sync + 'static {
    /// What became of it.
    fn answered(self: Arc<Self>, result: Result<T, E>);
}

/// Owes a [`Proposer`] an answer.
pub struct Reply(Option<Arc<dyn Proposer>>);

impl Reply {
    /// The debt to `proposer`.
    #[must_use]
    pub fn new(proposer: Arc<dyn Proposer>) -> Self {
        Self(Some(proposer))
    }

    /// The command was committed as `id`, and the state machine answered `output`.
    pub fn applied<O: 'static>(mut self, id: EntryId, output: O) {
        if let Some(proposer) = self.0.take() {
            let mut output = Some(output);
            guarded(|| proposer.applied(id, &mut output));
        }
    }

    /// The command was not applied.
    pub fn failed(mut self, error: ProposalError) {
        self.fail(error);
    }

    fn fail(&mut self, error: ProposalError) {
        if let Some(proposer) = self.0.take() {
            guarded(|| proposer.failed(error));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.fail(Interruption::ShutDown.into());
    }
}

/// Owes an [`Asker`] an answer.
pub struct Owed<T: 'static, E: AtShutDown>(Option<Arc<dyn Asker<T, E>>>);

/// Owed to a reader: the state machine has applied everything up to this index.
pub type ReadReply = Owed<Index, ReadError>;

/// Owed to who asked for a transfer: this node was told to take over.
pub type TransferReply = Owed<NodeId, TransferError>;

/// Owed to who asked for a change of members: the new configuration is committed, at this index.
pub type ChangeReply = Owed<Index, ChangeError>;

/// Owed to who asked for a snapshot: it is durable, up to this entry.
pub type SnapshotReply = Owed<EntryId, TakeError>;

/// An error with a word for what is left unanswered at the end.
pub trait AtShutDown: 'static {
    /// The node is shut down.
    const SHUT_DOWN: Self;
}

impl AtShutDown for ReadError {
    const SHUT_DOWN: Self = Self::ShutDown;
}

impl AtShutDown for TransferError {
    const SHUT_DOWN: Self = Self::ShutDown;
}

impl AtShutDown for ChangeError {
    const SHUT_DOWN: Self = Self::ShutDown;
}

impl AtShutDown for TakeError {
    const SHUT_DOWN: Self = Self::ShutDown;
}

impl<T, E: AtShutDown> Owed<T, E> {
    /// The debt to `asker`.
    #[must_use]
    pub fn new(asker: Arc<dyn Asker<T, E>>) -> Self {
        Self(Some(asker))
    }

    /// Pays it.
    pub fn answered(mut self, result: Result<T, E>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<T, E>) {
        if let Some(asker) = self.0.take() {
            guarded(|| asker.answered(result));
        }
    }
}

impl<T, E: AtShutDown> Drop for Owed<T, E> {
    fn drop(&mut self) {
        self.answer(Err(E::SHUT_DOWN));
    }
}

/// An answer that is known but not given yet: giving it may run the caller's code, so no lock may be held.
pub enum Answer {
    /// A proposal failed.
    Proposal(Reply, ProposalError),
    /// A read may go ahead, or failed.
    Read(ReadReply, Result<Index, ReadError>),
    /// Leadership was handed over, or was not.
    Transfer(TransferReply, Result<NodeId, TransferError>),
    /// The members were changed, or were not.
    Change(ChangeReply, Result<Index, ChangeError>),
}

impl Answer {
    /// Tells the one who waits.
    pub fn give(self) {
        match self {
            Self::Proposal(reply, error) => reply.failed(error),
            Self::Read(reply, result) => reply.answered(result),
            Self::Transfer(reply, result) => reply.answered(result),
            Self::Change(reply, result) => reply.answered(result),
        }
    }
}

/// A panic in the caller's callback must not take the runtime's thread with it; the panic hook has reported it.
fn guarded(callback: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(callback)) {
        // Dropping a panic's payload could panic again.
        mem::forget(panic);
    }
}
