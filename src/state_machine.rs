//! What an engine brings: something that commands are applied to.

use bytes::Bytes;

use crate::types::{EntryId, Index};

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its place in the log and its term.
    pub id: EntryId,
    /// The bytes that were proposed.
    pub data: Bytes,
}

/// A replicated state machine. Every node of a group applies the same commands in the same order (row `s01`).
///
/// It lives on a thread of its own and may block: elections, heartbeats and replication go on meanwhile. What it does
/// must follow from its state and the commands alone: no clocks, no randomness.
pub trait StateMachine: Send + 'static {
    /// What a command answers to the one who proposed it.
    type Output: Send + 'static;

    /// Applies `commands` in order and returns exactly one output for each.
    ///
    /// Indexes rise but may leave gaps: entries of Raft's own are not handed over. Each command is handed over once per
    /// run, starting after [`applied`](Self::applied).
    ///
    /// # Errors
    /// [`ApplyError`] stops this group on this node, for good: every caller gets an error, the process goes on. A panic
    /// has the same effect. Return an error only for what cannot be gone on from, such as a broken disk; an error for
    /// the client is an `Output`.
    fn apply(&mut self, commands: &[Command]) -> Result<Vec<Self::Output>, ApplyError>;

    /// The last index whose effect is in the state; asked once, when the group is opened. A machine in memory starts at
    /// [`Index::ZERO`] (the default) and is rebuilt from the log; a durable one stores the index of the last command in
    /// the same transaction as the command's effect.
    fn applied(&self) -> Index {
        Index::ZERO
    }

    /// The last index whose effect survives a power cut. The log is kept from the entry after it. A machine in memory
    /// answers [`Index::ZERO`] (the default).
    fn durable(&self) -> Index {
        Index::ZERO
    }
}

/// The state machine cannot go on. The message goes to the log; waiting callers are told that the group stopped
/// because of its state machine.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state machine failed: {0}")]
pub struct ApplyError(pub String);
