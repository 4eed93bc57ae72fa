//! The door to whatever carries snapshots between nodes.
//!
//! TCP is behind it, and a network inside the process. A simulation needs no door: it carries the questions of a
//! [`Fetch`](super::Fetch) to a [`Session`](super::Session), and the answers back, in its own time.

use std::io;

use super::message::{Request, Response};
use super::serve::SnapshotServer;
use crate::time::Duration;
use crate::types::NodeId;

/// Connects to the snapshot servers of other nodes, and lets them connect to this one's.
pub trait SnapshotNetwork: Send + Sync + 'static {
    /// Answers nodes that want snapshots from now on. Before, and if the server has too many sessions, they are turned away.
    fn serve(&self, server: SnapshotServer);

    /// Connects to `node`. Blocks, bounded in time.
    ///
    /// # Errors
    /// `NotFound` if it is not known where the node is; else what kept the connection from coming about.
    fn connect(&self, node: NodeId) -> io::Result<Box<dyn SnapshotConnection>>;
}

/// A connection to one node's snapshot server, for one transfer. Dropping it closes it.
pub trait SnapshotConnection: Send {
    /// Sends a question. May block while the other side takes nothing, bounded in time.
    ///
    /// # Errors
    /// What went wrong; the connection is of no use any more.
    fn send(&mut self, request: &Request) -> io::Result<()>;

    /// Waits for an answer for at most about `wait`; `None` if none came. A frame that is longer than `frame_bytes_max`
    /// is refused before room is made for it.
    ///
    /// # Errors
    /// What went wrong; the connection is of no use any more.
    fn receive(&mut self, frame_bytes_max: usize, wait: Duration) -> io::Result<Option<Response>>;
}
