//! What the server needs from the replicated group, and no more: its own tests put something else in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use tenure::quorum::Configuration;
use tenure::runtime::{Change, SnapshotStatus};
use tenure::types::{Index, NodeId};

use super::backup::Backup;
use super::store::Outcome;

/// This node's part in the group. Nothing here blocks.
pub(crate) trait Replica: Send + Sync + 'static {
    /// Proposes commands, in this order. Each callback is called once, on any thread, possibly before this returns.
    fn write(&self, batch: Vec<Write>);

    /// Asks, a follower its leader, whether the store has everything that was acknowledged to anybody before this call.
    /// The callback is called once, on any thread; with `Ok` it has.
    fn confirm(&self, done: Done<()>);

    /// Hands the leadership over to this node, or to whoever is fit, and answers with who it is. The callback is called
    /// once, on any thread.
    fn hand_over(&self, to: Option<NodeId>, done: Done<NodeId>);

    /// Changes the members, and answers where the new configuration stands once it is committed. The callback is called
    /// once, on any thread.
    fn change(&self, change: Change, done: Done<Index>);

    /// Takes a snapshot here, and answers the last index in it once it is durable. The callback is called once, on any thread.
    fn snapshot(&self, done: Done<Index>);

    /// Takes a snapshot here and writes it to a file. The callback is called once, on any thread.
    fn backup(&self, to: PathBuf, done: Done<Backup>);

    /// The peers to which messages can leave at the moment.
    fn connected(&self) -> BTreeSet<NodeId>;

    /// What this node knows at the moment: good for hints, not for answers about the data.
    fn status(&self) -> Status;
}

/// A command and who waits for its outcome.
pub(crate) struct Write {
    pub(crate) command: Bytes,
    pub(crate) done: Done<Outcome>,
}

/// A callback. It runs on a thread that the replica needs for other things, so it waits for nobody.
///
/// That of a write only fills in an answer. That of a confirmation also looks up its reads in the store, and may so wait
/// for the disk. It saves each batch of reads a change of threads, and the price is that while a cold read is looked up,
/// nothing else of the group is applied or answered. A server with much data that is rarely in memory would hand its
/// reads to threads of their own here. With lease reads the confirmation comes on the event loop's own thread, which then
/// looks them up, and everybody waits for a cold one.
pub(crate) type Done<T> = Box<dyn FnOnce(Result<T, Failure>) + Send>;

/// Why there is no outcome. All but `Unknown` say that the command certainly is not executed and never will be, or what of it
/// was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NotLeader(Option<NodeId>),
    /// Leadership is on its way to another node, or has only just come here; try again in a moment.
    HandingOver,
    Busy(String),
    /// It cannot be.
    Refused(String),
    Stopped(String),
    Unknown(String),
}

/// What a node knows about its group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) role: &'static str,
    pub(crate) leads: bool,
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
    pub(crate) last: u64,
    pub(crate) commit: u64,
    /// Of no members before this node has heard of any.
    pub(crate) configuration: Configuration,
    /// Where that stands.
    pub(crate) configured_at: Index,
    /// The last entry that the log has given up: it is in a snapshot.
    pub(crate) base: u64,
    pub(crate) snapshots: SnapshotStatus,
    /// How much of the log each peer has, if this node leads.
    pub(crate) matched: BTreeMap<NodeId, u64>,
    /// Why nobody leads, as far as this node can tell.
    pub(crate) no_leader: Option<String>,
    /// Why the group does not work here any more.
    pub(crate) stopped: Option<String>,
}
