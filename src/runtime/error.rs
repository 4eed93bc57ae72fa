//! What a caller of a group may be told, and what to do about it.

use crate::core::{self, Fatal, ProposeError};
use crate::types::{EntryId, Index, NodeId};

/// A proposal was not applied here.
///
/// [`certainly_not_committed`](Self::certainly_not_committed) tells the two kinds apart: after the one it is safe to
/// propose again, after the other the command may still take effect, or already has, and a retry may apply it twice
/// (bug `c33`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalError {
    /// This node does not lead. Propose to the leader, if one is known; else again after an election timeout.
    #[error("not the leader; known leader: {leader:?}")]
    NotLeader {
        /// The leader this node follows.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over, which ends within an election timeout. Propose to the successor, or here again.
    #[error("leadership is being handed over; propose again shortly")]
    Transferring,
    /// Too much is waiting here. Propose again later, with less at once.
    #[error("overloaded: too many commands are waiting; propose again later")]
    Overloaded,
    /// The command is longer than `limits.command_bytes`. Make it shorter or raise the limit on every node.
    #[error("the command has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The group had stopped on this node before the command was appended. Propose on another node.
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
    /// The node was shut down before the command was appended. Propose on another node.
    #[error("the node is shut down")]
    ShutDown,
    /// A later leader committed another entry in the command's place. Propose again.
    #[error("entry {by} was committed in its place")]
    Replaced {
        /// The entry that stands there.
        by: EntryId,
    },
    /// The command was appended, and its outcome is not known here. Read before proposing again, or make commands that
    /// may be applied twice.
    #[error("outcome unknown: {0}")]
    Unknown(#[from] Interruption),
}

impl ProposalError {
    /// Whether the command is not committed and never will be, so that proposing it again cannot apply it twice.
    #[must_use]
    pub fn certainly_not_committed(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

impl From<ProposeError> for ProposalError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::Transferring => Self::Transferring,
            ProposeError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            ProposeError::Stopped(fatal) => Self::Stopped(fatal),
        }
    }
}

/// Why the outcome of an appended command is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Interruption {
    /// This node stopped leading; the next leader may or may not commit the command.
    #[error("leadership was lost; known leader: {leader:?}")]
    LeadershipLost {
        /// The leader now known.
        leader: Option<NodeId>,
    },
    /// The group stopped on this node.
    #[error("the group stopped on this node: {0}")]
    Stopped(Fatal),
    /// The node was shut down.
    #[error("the node was shut down")]
    ShutDown,
    /// A snapshot of another node took the place of this node's log and state up to behind the command's entry. It holds
    /// the command's effect if the command was committed.
    #[error("a snapshot up to {last} was installed in place of the log")]
    SnapshotInstalled {
        /// The last index that is in the snapshot.
        last: Index,
    },
}

/// A read was not confirmed. Nothing was read, it may always be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This node does not lead, or stopped leading before a quorum confirmed it. Ask the leader.
    #[error("not the leader; known leader: {leader:?}")]
    NotLeader {
        /// The leader this node follows.
        leader: Option<NodeId>,
    },
    /// Too many reads are waiting. Ask again later.
    #[error("overloaded: too many reads are waiting; ask again later")]
    Overloaded,
    /// The group has stopped on this node. Ask another node.
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
    /// The node is shut down. Ask another node.
    #[error("the node is shut down")]
    ShutDown,
}

/// Leadership was not handed over here, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This node does not lead. Ask the leader, if one is known.
    #[error("not the leader; known leader: {leader:?}")]
    NotLeader {
        /// The leader this node follows.
        leader: Option<NodeId>,
    },
    /// Another transfer is open. It ends within an election timeout; ask again then.
    #[error("another transfer is open; it ends within an election timeout")]
    InProgress,
    /// The transfer is still open after as long as the caller wanted to wait, less than an election timeout: it may still
    /// succeed. Proposals are refused until it has ended. Ask who leads, later.
    #[error("the transfer is still open; it ends within an election timeout")]
    Unfinished,
    /// The target is no voter of the group. Choose a voter.
    #[error("{0} is no voter of the group")]
    NotAVoter(NodeId),
    /// There is no other voter.
    #[error("there is no other voter to hand over to")]
    NoOtherVoter,
    /// The target did not catch up and answer within an election timeout. This node leads on and takes proposals; see
    /// whether the target is up, then ask again.
    #[error("the target did not catch up within an election timeout; this node leads on")]
    TimedOut,
    /// This node stopped leading before the target was ready. Ask the new leader, if that is still wanted.
    #[error("leadership was lost before the target was ready")]
    LeadershipLost,
    /// Too much is waiting in front of the group. Ask again later.
    #[error("overloaded: too many inputs are waiting; ask again later")]
    Overloaded,
    /// The group has stopped on this node, which leads it no more.
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
    /// The node is shut down; whether it had handed over before is not known here. Ask another node who leads.
    #[error("the node is shut down")]
    ShutDown,
}

/// The members were not changed, or not to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The group says why: each variant tells what to do, and whether the change may be completed all the same.
    #[error(transparent)]
    Group(#[from] core::ChangeError),
    /// Too much is waiting in front of the group. Nothing was changed; ask again later.
    #[error("overloaded: too many inputs are waiting; ask again later")]
    Overloaded,
    /// The node is shut down; a change that was under way may be completed by the next leader. Ask another node.
    #[error("the node is shut down")]
    ShutDown,
}

impl From<core::TransferError> for TransferError {
    fn from(error: core::TransferError) -> Self {
        match error {
            core::TransferError::NotLeader { leader } => Self::NotLeader { leader },
            core::TransferError::InProgress => Self::InProgress,
            core::TransferError::NotAVoter(node) => Self::NotAVoter(node),
            core::TransferError::NoOtherVoter => Self::NoOtherVoter,
            core::TransferError::TimedOut => Self::TimedOut,
            core::TransferError::LeadershipLost => Self::LeadershipLost,
            core::TransferError::Stopped(fatal) => Self::Stopped(fatal),
        }
    }
}

impl From<core::ReadError> for ReadError {
    fn from(error: core::ReadError) -> Self {
        match error {
            core::ReadError::NotLeader { leader } => Self::NotLeader { leader },
            core::ReadError::Overloaded => Self::Overloaded,
            core::ReadError::Stopped(fatal) => Self::Stopped(fatal),
        }
    }
}
