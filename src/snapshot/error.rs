//! What can go wrong with snapshots on this node's disk.

use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::manifest::{Malformed, SnapshotId};
use crate::types::{EntryId, GroupId};

/// A snapshot could not be made, kept, read or received. None of these leaves half of one behind: what was there before
/// is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system failed. Try again later, with a new snapshot; what was written is not trusted.
    #[error("{what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What is on disk is not what was written. The snapshot cannot be restored and is not served; get another one, from
    /// another node or by making it. If the log no longer holds what is in it, this node cannot serve (bug d15).
    #[error("{}: {damage}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// There is one that goes further.
    #[error("the snapshot up to {last} is not newer than the one up to {newest}")]
    Stale {
        /// The one that was offered.
        last: EntryId,
        /// The one that is there.
        newest: EntryId,
    },
    /// It is of another cluster or group than the store.
    #[error("a snapshot of group {group} of cluster {cluster} does not belong here")]
    Foreign {
        /// Its group.
        group: GroupId,
        /// Its cluster.
        cluster: String,
    },
    /// What the state machine or the import gave is no snapshot.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The state machine's source could not be read.
    #[error("reading what the state machine gave as {name:?}: {error}")]
    Source {
        /// Which file.
        name: String,
        /// What it says.
        error: io::Error,
    },
    /// The export could not be written, or what was to be imported is none.
    #[error("the export: {0}")]
    Export(io::Error),
    /// One at a time: another snapshot is being fetched into this store, or being made.
    #[error("another snapshot is being fetched or made")]
    Busy,
    /// The caller wanted to stop.
    #[error("stopped on the way")]
    Stopped,
}

/// What is wrong with a file of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The manifest cannot be read.
    #[error("{0}")]
    Manifest(Malformed),
    /// The manifest is not the one that its name says.
    #[error("the manifest is that of snapshot {0}")]
    OtherManifest(SnapshotId),
    /// The file is not there.
    #[error("the file is missing")]
    Missing,
    /// The file has another length.
    #[error("{found} bytes instead of {expected}")]
    Length {
        /// What the manifest says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A chunk has another checksum.
    #[error("chunk {0} has another checksum")]
    Chunk(u32),
    /// Every chunk has the right checksum, and the whole has another digest.
    #[error("the content has the digest {0}")]
    Digest(Digest),
}

impl SnapshotError {
    /// For `map_err`: what was tried on which file.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Io { what, path, error }
    }

    pub(super) fn damaged(path: &Path, damage: Damage) -> Self {
        Self::Damaged { path: path.to_path_buf(), damage }
    }
}
