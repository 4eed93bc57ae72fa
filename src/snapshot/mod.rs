//! Snapshots: the state of a group as of one log entry, on disk and on its way to another node (dissertation §5).
//!
//! A snapshot is a set of files with a manifest. What is in the files is the state machine's business; that they are
//! whole, and there all at once or not at all, is this module's.
//!
//! - [`SnapshotStore`]: the snapshots of a group on disk: made, kept, read, removed, exported and imported
//! - [`Manifest`]: what a snapshot consists of; its digest is the snapshot's name
//! - [`Fetch`] and [`SnapshotServer`]: the two ends of a transfer, without a network. The receiver pulls, and goes on
//!   where it was after a lost connection or a restart, whoever sends (where the dissertation's leader pushes: a
//!   receiver that pulls needs no state at the sender, and the sender need not be the leader any more)
//! - [`SnapshotNetwork`]: the door to whatever carries the bytes, and [`pull()`], which drives a [`Fetch`] through it
//!
//! Bulk has connections of its own, so it never stands before a heartbeat in a queue. How fast it may go is a limit that
//! the server gives out times for ([`Throttle`]).
//!
//! `docs/format-snapshot.md` draws the bytes on disk, `docs/format-wire.md` those on the network.
//!
//! Not done here: when to make a snapshot, whom to fetch one from, when to compact the log (`runtime` does). Chunks of a file that
//! changed a little are not looked for in its older version.

mod codec;
mod digest;
mod error;
mod export;
mod fetch;
mod incoming;
mod make;
mod manifest;
mod message;
mod name;
mod network;
mod pull;
mod read;
mod serve;
mod store;
mod throttle;

pub use codec::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
pub use digest::Digest;
pub use error::{Damage, SnapshotError};
pub use export::ImportAs;
pub use fetch::{Ended, Fetch, FetchConfig, Progress, Received, Refusal, Refusals, Wanted};
pub use manifest::{
    About, CHUNK_BYTES, CONFIGURATION_BYTES_MAX, Chunk, FILES_MAX, Form, MANIFEST_BYTES_MAX, Malformed, Manifest,
    ManifestFile, SnapshotId, VERSION,
};
pub use message::{ChunkId, Gone, RefusedRequest, Request, Response};
pub use name::{NAME_BYTES_MAX, is_safe as is_safe_name};
pub use network::{SnapshotConnection, SnapshotNetwork};
pub use pull::{PullError, pull};
pub use read::Snapshot;
pub use serve::{Next, Outgoing, ServeConfig, ServeStats, Session, SnapshotServer, TooManyRequests};
pub use store::{SnapshotStore, StoreConfig};
pub use throttle::{Reservation, Throttle};
