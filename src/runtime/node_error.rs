//! What opening a node, opening a group and shutting down may end in.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::core::StartError;
use crate::quorum::ConfigurationError;
use crate::snapshot::SnapshotError;
use crate::state_machine::ApplyError;
use crate::time::Duration;
use crate::transport::tcp::TransportError;
use crate::types::{EntryId, GroupId, Index, NodeId};
use crate::wal::WalError;

/// A group could not be created or opened; nothing of it is running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// It was created here before, or is being created. Open it instead.
    #[error("{0} exists on this node already; open it instead of creating it")]
    Exists(GroupId),
    /// It is open, or being opened. Use the handle that opening it gave.
    #[error("{0} is open already")]
    Open(GroupId),
    /// It was never created here.
    #[error("{0} was never created on this node")]
    Unknown(GroupId),
    /// This node is not in the configuration the group was to be created with.
    #[error("{node} is not a member of the group it was to create")]
    NotAMember {
        /// This node.
        node: NodeId,
    },
    /// The log holds a configuration that this version cannot read.
    #[error("the configuration in entry {index} of {group} cannot be read: {error}")]
    Configuration {
        /// The group.
        group: GroupId,
        /// The entry.
        index: Index,
        /// What is wrong with it.
        error: ConfigurationError,
    },
    /// What is on disk, or what the state machine says it has applied, does not make a group.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The snapshots of the group cannot be kept in this node's directory.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// The state machine could not be restored from the newest snapshot, and its log does not reach back far enough to do
    /// without. If the snapshot is damaged and an older one is kept, opening the group again uses that; else give this node
    /// a fresh directory and id, and let it join the group anew (bug `d15`).
    #[error("cannot restore the snapshot up to {last}: {error}")]
    Restore {
        /// The last entry in it.
        last: EntryId,
        /// What the state machine says.
        error: ApplyError,
    },
    /// The log's device failed; this node takes part in nothing any more. See its log for the cause.
    #[error("the log of this node has failed")]
    LogFailed,
    /// The operating system gave no thread or no randomness.
    #[error("cannot start the group: {0}")]
    Resources(#[source] io::Error),
    /// The node is shut down.
    #[error("the node is shut down")]
    ShutDown,
}

/// Not everything ended in time. What did not is named; it ends by itself when what blocks it does, and asking for a
/// shutdown again waits for it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("after {timeout:?} these threads had not ended: {}; a state machine or a disk that blocks holds them", threads.join(", "))]
pub struct ShutdownError {
    /// How long was waited.
    pub timeout: Duration,
    /// The names of the threads.
    pub threads: Vec<String>,
}

/// The file that remembers the stores of the peers cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoresError {
    /// The operating system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// It holds something else. Nothing else writes to it, so the disk did. It may be deleted: peers are then
    /// remembered as they come, and one whose disk was replaced in the meantime is not noticed.
    #[error("{} is damaged in line {line}; delete it to trust whoever connects next", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first bad line, from 1.
        line: usize,
    },
}

/// A node could not be founded or opened; nothing is running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A knob is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory: never founded, locked by another process, damaged, or out of reach.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// What is remembered of the peers.
    #[error(transparent)]
    Stores(#[from] StoresError),
    /// The network or the threads.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The operating system gave no randomness.
    #[error("no randomness for the store id: {0}")]
    Entropy(#[source] io::Error),
}

/// The engine below a node could not be started; nothing is running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A knob is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network could not be joined.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}
