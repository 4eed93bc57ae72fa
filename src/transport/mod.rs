//! How messages get from node to node.
//!
//! Raft asks little of a network (row `s04`: loss, duplication, delay and reorder are all right), so a [`Transport`]
//! promises little: it *tries*. What it does promise is never to get in the way: `send` does not block, queues are
//! bounded, a full queue or a missing connection drops and counts, and one peer never waits for another (rows `s03`,
//! `l02`, `l24`).
//!
//! - [`tcp`]: the real one. One connection per pair of nodes and direction: who sends dials, who listens only reads.
//! - [`channel`]: nodes of one process, for tests.
//!
//! Snapshots have connections of their own, which their receiver dials ([`SnapshotNetwork`]): bulk that waits for a limit
//! or for room keeps no message waiting.
//!
//! [`SnapshotNetwork`]: crate::snapshot::SnapshotNetwork
//!
//! Not done here: encryption and authentication. **Until TLS, the peer port trusts its network**: whoever can connect
//! to it can speak as any node. Keep it on a private network.

mod accept;
mod backoff;
mod batch;
mod bulk;
pub mod channel;
mod config;
mod dial;
mod knock;
mod peer;
mod socket;
pub mod tcp;

use std::collections::BTreeMap;

use crate::message::Message;
use crate::snapshot::SnapshotNetwork;
use crate::sync::thread;
use crate::types::{NodeId, StoreId};

pub use channel::{ChannelNetwork, ChannelTransport};
pub use config::{LocalIdentity, TcpConfig, TcpLimits};
pub use dial::DialError;
pub use knock::knock;
pub use tcp::{Tcp, TransportError};

/// Sends messages to other nodes.
pub trait Transport: Send + Sync + 'static {
    /// Takes every message out of `batch` and sends each to its `to`, in order per receiver.
    ///
    /// Never blocks on the network or on a peer. What cannot be sent (no connection, full queue, unknown node) is
    /// dropped and counted in [`stats`](Self::stats); Raft sends it again when it still matters.
    fn send(&self, batch: &mut Vec<Message>);

    /// A configuration says where `node` can be reached. Does not wait for the peer. Does nothing unless it is overridden: a
    /// transport may know better.
    fn set_address(&self, _node: NodeId, _address: &str) {}

    /// The door to the snapshots of other nodes; `None` unless it is overridden: then a node behind this transport neither
    /// fetches nor serves snapshots, and one that is behind the beginning of its leader's log stays there.
    fn snapshots(&self) -> Option<&dyn SnapshotNetwork> {
        None
    }

    /// What happened so far. Takes short locks, does not block.
    fn stats(&self) -> TransportStats;

    /// Stops receiving and sending and joins every thread. Bounded in time, except that TCP waits for the lookup of a
    /// host name that is under way, as long as the system's resolver takes; a second call is harmless. Afterwards
    /// [`Inbound::receive`] is not called any more and `send` drops everything.
    ///
    /// Called from inside [`Inbound::receive`], it stops everything but cannot join the thread it runs on.
    fn shutdown(&self);
}

/// Where received messages go.
pub trait Inbound: Send + Sync + 'static {
    /// Takes messages that came in together, in the order in which their sender sent them. Called on a transport's
    /// thread; it may take a lock, but while it blocks nothing more is read from that sender.
    fn receive(&self, messages: Vec<Message>);
}

/// Remembers which store belongs to which node, so that a node that lost its disk is not taken for the node it was: it
/// would have forgotten its votes (architecture: `StoreReplaced`).
pub trait PeerStores: Send + Sync + 'static {
    /// Compares `store` with the first one seen for `node`, or remembers it if it is the first. May touch a disk.
    ///
    /// # Errors
    /// [`StoreReplaced`] if another store was seen before; the connection is refused.
    fn check(&self, node: NodeId, store: StoreId) -> Result<(), StoreReplaced>;
}

/// A node came with another store than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{node} comes with store {found}, but was known with store {known}: its directory was replaced. \
     Bring the old directory back, or give the new one a node id that was never used"
)]
pub struct StoreReplaced {
    /// Which node.
    pub node: NodeId,
    /// The store it had first.
    pub known: StoreId,
    /// The store it has now.
    pub found: StoreId,
}

/// Counters and gauges of a transport, as plain numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportStats {
    /// Towards each peer.
    pub peers: BTreeMap<NodeId, PeerStats>,
    /// Everything that came in.
    pub inbound: InboundStats,
    /// Messages dropped because their receiver is no known peer.
    pub unknown_receiver: u64,
}

/// What goes out to one peer. All but `connected`, `queued_*` and the strings count up from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Where it is dialed; empty for an in-process peer.
    pub address: String,
    /// Whether messages can leave now.
    pub connected: bool,
    /// Connections made, handshake included.
    pub connects: u64,
    /// Attempts that failed, refusals included.
    pub failed_dials: u64,
    /// Messages handed to the operating system.
    pub sent_messages: u64,
    /// Bytes handed to the operating system.
    pub sent_bytes: u64,
    /// Calls of `send` whose messages to this peer left on the caller's thread, without a hand-off.
    pub sent_direct: u64,
    /// Messages dropped: no connection, full queue, or lost with a connection.
    pub dropped_messages: u64,
    /// Messages dropped because one alone is longer than a frame may be.
    pub too_large: u64,
    /// Messages waiting now.
    pub queued_messages: usize,
    /// Bytes waiting now.
    pub queued_bytes: usize,
    /// Why it is not connected, or was not the last time; `None` if nothing ever went wrong.
    pub last_error: Option<String>,
}

/// What comes in from all peers. All but `connections`, `handshakes` and `last_error` count up from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboundStats {
    /// Connections past their handshake now.
    pub connections: usize,
    /// Connections in their handshake now.
    pub handshakes: usize,
    /// Handshakes that succeeded.
    pub accepted: u64,
    /// Handshakes that failed: refused, garbage, or too slow.
    pub refused: u64,
    /// Connections closed unheard, because there were too many.
    pub turned_away: u64,
    /// Connections closed because the same peer made a newer one.
    pub superseded: u64,
    /// Messages handed over.
    pub messages: u64,
    /// Bytes read from peers past their handshake.
    pub bytes: u64,
    /// Messages dropped because they were not from the connected peer or not for this node.
    pub misdirected: u64,
    /// Messages and frames skipped because this version does not know their kind.
    pub unknown: u64,
    /// Connections closed because what came was damaged or malformed.
    pub corrupt: u64,
    /// Messages dropped because the receiver's queue was full (in-process transport only; TCP pushes back).
    pub dropped_messages: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// Joins a thread, unless it is the one that asks: a shutdown called from inside [`Inbound::receive`] must not wait for
/// itself.
fn join_unless_self(thread: Option<thread::JoinHandle<()>>) {
    if let Some(thread) = thread
        && thread.thread().id() != thread::current().id()
    {
        // An error means that it panicked; there is nobody left to tell.
        let _ = thread.join();
    }
}
