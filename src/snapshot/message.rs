//! What the two ends of a transfer say to each other.
//!
//! The receiver asks, the sender answers in the order of the questions. First comes the question for the manifest: it
//! says which snapshot the connection is about, and keeps that from being removed for as long as the connection lasts.

use bytes::Bytes;

use super::manifest::SnapshotId;
use crate::types::GroupId;

/// What a receiver asks.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Request {
    /// For the manifest of a snapshot.
    Manifest {
        /// Of which group.
        group: GroupId,
        /// Which; `None`: the newest.
        id: Option<SnapshotId>,
    },
    /// For a chunk of a file of the snapshot whose manifest was asked for last.
    Chunk(ChunkId),
}

/// Where in which snapshot a chunk is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChunkId {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The number of the file in the manifest, from 0.
    pub file: u32,
    /// Where in the file the chunk begins.
    pub offset: u64,
    /// How long it is.
    pub length: u32,
}

/// What a sender answers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Response {
    /// The manifest, as [`Manifest::encoded`](super::Manifest::encoded) gives it.
    Manifest(Bytes),
    /// A chunk.
    Chunk {
        /// What was asked for.
        id: ChunkId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// The snapshot is not to be had here, and will not be.
    Gone(Gone),
    /// The question made no sense to the sender; it is not answered, the others are.
    Refused(RefusedRequest),
}

/// Why a snapshot is not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Gone {
    /// There is none of this group, or none that is whole.
    #[error("the node has no snapshot")]
    None,
    /// It was replaced by another.
    #[error("the node has replaced it by {0:?}")]
    Replaced(SnapshotId),
    /// It turned out to be damaged where it is kept.
    #[error("it is damaged where it is kept")]
    Damaged,
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedRequest {
    /// There is no such chunk: chunks are asked for whole.
    #[error("there is no such chunk")]
    Range,
    /// The sender could not read it; perhaps it can later.
    #[error("the sender could not read it")]
    Unreadable,
    /// A reason that this version does not know.
    #[error("refused for a reason that this version does not know, number {0}")]
    Other(u32),
}
