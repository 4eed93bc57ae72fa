//! Snapshots put to use: taken when it is time, fetched when a leader offers what is not here, restored, told to the core
//! (dissertation §5).
//!
//! ```text
//! apply thread -- source --> snapshot thread: makes it durable ----> SnapshotTaken to the shard, which compacts the log
//! shard -- offer of a leader --> fetch thread: pulls it into the store --> apply thread: restores --> SnapshotInstalled
//! ```
//!
//! Both threads serve all groups of a node, one snapshot after the other: bulk leaves the disk to the log.

mod fetch;
mod library;
mod machine;
mod shelf;
mod take;

pub(super) use fetch::Fetcher;
pub(super) use library::{Library, stored};
pub(super) use shelf::{Pace, Shelf};
pub(super) use take::{Taker, now_ms};

use crate::config::ConfigError;
use crate::core::Fatal;
use crate::metrics::SnapshotCounters;
use crate::snapshot::{CHUNK_BYTES, Progress, SnapshotId};
use crate::time::Duration;
use crate::types::{EntryId, NodeId};

/// How a node deals with snapshots, in every group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotOptions {
    /// A snapshot is taken once commands of so many bytes were applied since the last. Default 64 MiB; 0: never for that
    /// reason. The first one of a run comes somewhat earlier, by chance, so that many groups do not do it at once.
    pub log_bytes: u64,
    /// A snapshot is taken once the last is so old, if anything was applied since. At least a second. Default none.
    pub max_age: Option<Duration>,
    /// Bytes of snapshots that this node sends per second, to all receivers together. Default no limit.
    pub send_bytes_per_second: Option<u64>,
    /// How many complete snapshots of each group stay on disk. Default 1, at least 1.
    pub keep: usize,
    /// The length of the pieces in which snapshots made here are checked and sent. Default 256 KiB; 512 bytes to 1 MiB.
    pub chunk_bytes: u32,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { log_bytes: 64 << 20, max_age: None, send_bytes_per_second: None, keep: 1, chunk_bytes: 256 << 10 }
    }
}

impl SnapshotOptions {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let require = |holds: bool, knob: &'static str, rule: &'static str| {
            if holds { Ok(()) } else { Err(ConfigError { knob, rule }) }
        };
        require(self.keep >= 1, "snapshots.keep", "must be at least 1")?;
        let age = self.max_age.is_none_or(|age| age >= Duration::from_secs(1));
        require(age, "snapshots.max_age", "must be at least a second")?;
        require(self.send_bytes_per_second != Some(0), "snapshots.send_bytes_per_second", "must not be 0")?;
        require(CHUNK_BYTES.contains(&self.chunk_bytes), "snapshots.chunk_bytes", "must be 512 bytes to 1 MiB")
    }
}

/// What is known of a group's snapshots on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotStatus {
    /// The newest one that is complete and not known to be damaged.
    pub newest: Option<SnapshotInfo>,
    /// One is being made.
    pub making: bool,
    /// How far the one is that is being fetched; it stays until it has been restored.
    pub fetching: Option<Progress>,
    /// What happened so far.
    pub counters: SnapshotCounters,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// A snapshot on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub id: SnapshotId,
    /// The last entry whose effect is in it.
    pub last: EntryId,
    /// The bytes of its files.
    pub bytes: u64,
    /// The node that made it.
    pub maker: NodeId,
    /// When, in milliseconds since 1970 on the maker's clock.
    pub created_ms: u64,
}

/// There is no new snapshot. The group goes on as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The state machine gives none ([`StateMachine::snapshot`](crate::state_machine::StateMachine::snapshot)): it never
    /// does, or not just now.
    #[error("the state machine gives no snapshot")]
    Unsupported,
    /// Nothing was ever applied here.
    #[error("there is nothing to take a snapshot of yet")]
    Empty,
    /// Reading from the state machine or writing to the disk failed. Ask again when that is mended.
    #[error("the snapshot failed: {0}")]
    Failed(String),
    /// Too many wait for one already. Ask again later.
    #[error("overloaded: too many wait for a snapshot")]
    Overloaded,
    /// The group has stopped on this node.
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
    /// The node is shut down.
    #[error("the node is shut down")]
    ShutDown,
}
