//! The way back to whoever waits for a proposal, a read or a transfer of leadership.
//!
//! A shard owns groups whose state machines answer with different types, so what it carries is erased: one shared
//! object per proposal, made by the caller, that knows how to take its own group's output. Nothing is allocated
//! beyond it. A reply that gets lost on its way still answers: dropping one fails it, so that nobody waits for ever
//! (bug `c32`).

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{Interruption, ProposalError, ReadError, TransferError};
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

/// Somebody who asked for a read. Told exactly once, on whatever thread finds out; must not block.
pub trait Reader: Send + Sync + 'static {
    /// The state machine has applied everything up to this index, or why the read was not confirmed.
    fn answered(self: Arc<Self>, result: Result<Index, ReadError>);
}

/// Somebody who asked for leadership to be handed over. Told exactly once, on whatever thread finds out; must not block.
pub trait Transferor: Send + Sync + 'static {
    /// Who was told to take over, or why this node was not relieved.
    fn transferred(self: Arc<Self>, result: Result<NodeId, TransferError>);
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

/// Owes a [`Reader`] an answer.
pub struct ReadReply(Option<Arc<dyn Reader>>);

impl ReadReply {
    /// The debt to `reader`.
    #[must_use]
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self(Some(reader))
    }

    /// Pays it.
    pub fn answered(mut self, result: Result<Index, ReadError>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<Index, ReadError>) {
        if let Some(reader) = self.0.take() {
            guarded(|| reader.answered(result));
        }
    }
}

impl Drop for ReadReply {
    fn drop(&mut self) {
        self.answer(Err(ReadError::ShutDown));
    }
}

/// Owes a [`Transferor`] an answer.
pub struct TransferReply(Option<Arc<dyn Transferor>>);

impl TransferReply {
    /// The debt to `transferor`.
    #[must_use]
    pub fn new(transferor: Arc<dyn Transferor>) -> Self {
        Self(Some(transferor))
    }

    /// Pays it.
    pub fn answered(mut self, result: Result<NodeId, TransferError>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<NodeId, TransferError>) {
        if let Some(transferor) = self.0.take() {
            guarded(|| transferor.transferred(result));
        }
    }
}

impl Drop for TransferReply {
    fn drop(&mut self) {
        self.answer(Err(TransferError::ShutDown));
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
}

impl Answer {
    /// Tells the one who waits.
    pub fn give(self) {
        match self {
            Self::Proposal(reply, error) => reply.failed(error),
            Self::Read(reply, result) => reply.answered(result),
            Self::Transfer(reply, result) => reply.answered(result),
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
