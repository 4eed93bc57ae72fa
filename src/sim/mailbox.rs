//! How whoever asked something of a node hears of it.
//!
//! A reply's callback must not judge: the runtime catches a panic in it. It notes what it was told, the world looks.

use std::any::Any;

use crate::runtime::{Asker, ChangeError, ProposalError, Proposer, ReadError, TransferError};
use crate::sync::{Arc, Mutex};
use crate::types::{EntryId, Index, NodeId};

/// What somebody was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told<O> {
    /// The command is committed at this place, and the state machine answered this.
    Applied(EntryId, O),
    /// The command was not applied here, and why.
    Failed(ProposalError),
    /// Everything up to the index is applied; or the read may not go ahead.
    Read(Result<Index, ReadError>),
    /// This node was told to take over; or why not.
    Transferred(Result<NodeId, TransferError>),
    /// The configuration at this index is what was asked for, and committed; or why not.
    Changed(Result<Index, ChangeError>),
}

/// What was told, by token.
type Letters<O> = Arc<Mutex<Vec<(u64, Told<O>)>>>;

/// What was told since somebody last looked.
pub(super) struct Mailbox<O>(Letters<O>);

impl<O: Send + 'static> Mailbox<O> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// A slip for one answer.
    pub(super) fn slip(&self, token: u64) -> Arc<Slip<O>> {
        Arc::new(Slip { token, letters: self.0.clone() })
    }

    pub(super) fn empty(&self) -> Vec<(u64, Told<O>)> {
        std::mem::take(&mut *self.0.lock())
    }
}

pub(super) struct Slip<O> {
    token: u64,
    letters: Letters<O>,
}

impl<O> Slip<O> {
    fn note(&self, told: Told<O>) {
        self.letters.lock().push((self.token, told));
    }
}

impl<O: Send + 'static> Proposer for Slip<O> {
    fn applied(self: Arc<Self>, id: EntryId, output: &mut dyn Any) {
        if let Some(output) = output.downcast_mut::<Option<O>>().and_then(Option::take) {
            self.note(Told::Applied(id, output));
        }
    }

    fn failed(self: Arc<Self>, error: ProposalError) {
        self.note(Told::Failed(error));
    }
}

impl<O: Send + 'static> Asker<Index, ReadError> for Slip<O> {
    fn answered(self: Arc<Self>, result: Result<Index, ReadError>) {
        self.note(Told::Read(result));
    }
}

impl<O: Send + 'static> Asker<NodeId, TransferError> for Slip<O> {
    fn answered(self: Arc<Self>, result: Result<NodeId, TransferError>) {
        self.note(Told::Transferred(result));
    }
}

impl<O: Send + 'static> Asker<Index, ChangeError> for Slip<O> {
    fn answered(self: Arc<Self>, result: Result<Index, ChangeError>) {
        self.note(Told::Changed(result));
    }
}
