//! Why nothing was recovered.

use std::io;

use super::Token;
use crate::quorum::ConfigurationError;
use crate::snapshot::SnapshotError;
use crate::types::{ClusterId, GroupId, Index, NodeId};
use crate::wal::WalError;

/// A group was not recovered. Nothing was changed, but for [`RecoverError::Unknown`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The directory: not founded, in use by a node that runs ([`WalError::Locked`]: stop it first), damaged, or out of reach.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// What was kept of the group's snapshots cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The group is not on this node's disk.
    #[error("{0} is not on this node")]
    UnknownGroup(GroupId),
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
    /// The recovered configuration cannot be made: too many nodes were barred over time.
    #[error("the configuration to recover with cannot be: {0}")]
    Impossible(ConfigurationError),
    /// This node has no vote in the group, so nobody was told that anything is on its disk. Recover a voter, or found a new
    /// group.
    #[error("{node} is no voter of {group}, whose members are {members}: recover a voter, or found a new group")]
    NotAVoter {
        /// This node.
        node: NodeId,
        /// The group.
        group: GroupId,
        /// The configuration in use.
        members: String,
    },
    /// Nothing is lost: with this node there is a quorum. Start this node.
    #[error("the quorum is not lost: this node and {} make one; start this node instead", names(answering))]
    QuorumAnswers {
        /// The other members that answer.
        answering: Vec<NodeId>,
    },
    /// A voter cannot be asked whether it is there.
    #[error("no address of {0} is known: give the last one it had, so that it can be asked whether it is there")]
    NoAddress(NodeId),
    /// The token is not that of the plan as it would be made now: it was mistyped, or something changed since. Make a plan,
    /// read it, and confirm that one.
    #[error("the confirmation is not that of the plan as it is now, {expected}: make a plan again and read it")]
    WrongToken {
        /// The right one; do not use it unread.
        expected: Token,
    },
    /// The operating system gave no thread to ask the others.
    #[error("cannot ask the others: {0}")]
    Resources(#[source] io::Error),
    /// The disk failed while the recovery was written. Whether it was written nobody knows before the directory is opened
    /// again: make a plan, it is refused with [`RecoverError::QuorumAnswers`] if it was.
    #[error(
        "the disk failed, and whether the recovery was written is not known: {0}; mend the disk and make a plan again"
    )]
    Unknown(#[source] WalError),
}

/// These plans cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// There is none.
    #[error("there is no plan to compare")]
    Nothing,
    /// They are not of one group of one cluster.
    #[error("these are plans of {}/{} and of {}/{}", one.0, one.1, other.0, other.1)]
    DifferentGroups {
        /// One.
        one: (ClusterId, GroupId),
        /// Another.
        other: (ClusterId, GroupId),
    },
    /// Two are of the same node.
    #[error("there are two plans of {0}")]
    SameNode(NodeId),
}

fn names(nodes: &[NodeId]) -> String {
    if nodes.is_empty() { "nobody else".into() } else { super::plan::names(nodes.iter().copied()) }
}
