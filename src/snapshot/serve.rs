//! The sending end, without I/O towards the network: questions in, answers out when they may leave.
//!
//! A [`SnapshotServer`] has the stores of a node's groups and one limit in bytes per second for all receivers together; a
//! [`Session`] is one receiver. Whoever carries the bytes gives a session what was asked, and asks it what to send and
//! when. A chunk is read when it is about to leave, so a session holds the bytes of one answer at most.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;

use super::error::SnapshotError;
use super::message::{ChunkId, Gone, RefusedRequest, Request, Response};
use super::read::Snapshot;
use super::store::SnapshotStore;
use super::throttle::{Reservation, Throttle};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::time::Instant;
use crate::types::GroupId;

/// What bounds a [`SnapshotServer`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeConfig {
    /// Bytes of snapshots per second, to all receivers together. Default: no limit.
    pub bytes_per_second: Option<u64>,
    /// Receivers at once. Default 8. More are turned away and come again.
    pub sessions: usize,
    /// Questions of one receiver that wait for their answer. Default 128. One who asks more is cut off.
    pub requests: usize,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self { bytes_per_second: None, sessions: 8, requests: 128 }
    }
}

/// Serves the snapshots of a node. Clones share it.
#[derive(Clone)]
pub struct SnapshotServer {
    shared: Arc<Shared>,
}

struct Shared {
    config: ServeConfig,
    stores: Mutex<BTreeMap<GroupId, SnapshotStore>>,
    throttle: Mutex<Throttle>,
    stats: Mutex<ServeStats>,
    held_bytes: AtomicU64,
    held_bytes_most: AtomicU64,
}

/// Counters and gauges of a [`SnapshotServer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeStats {
    /// Receivers now.
    pub sessions: usize,
    /// Receivers that were turned away because there were too many.
    pub turned_away: u64,
    /// Chunks sent.
    pub chunks: u64,
    /// Bytes of chunks sent.
    pub bytes: u64,
    /// Questions that were refused.
    pub refused: u64,
    /// Snapshots that were asked for and are not, or no longer, to be had.
    pub gone: u64,
    /// Snapshots that turned out to be damaged while they were sent.
    pub damaged: u64,
    /// Bytes of answers in memory now, of all receivers.
    pub held_bytes: u64,
    /// The most there ever were.
    pub held_bytes_most: u64,
}

impl SnapshotServer {
    /// A server without stores.
    #[must_use]
    pub fn new(config: ServeConfig) -> Self {
        let throttle = Mutex::new(Throttle::new(config.bytes_per_second));
        let shared = Shared {
            config,
            throttle,
            stores: Mutex::default(),
            stats: Mutex::default(),
            held_bytes: AtomicU64::new(0),
            held_bytes_most: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves the snapshots of one more group.
    pub fn add(&self, store: SnapshotStore) {
        self.shared.stores.lock().insert(store.config().group, store);
    }

    /// Serves a group no longer. Receivers that are at it come to an end.
    pub fn remove(&self, group: GroupId) {
        self.shared.stores.lock().remove(&group);
    }

    /// Another limit in bytes per second; `None`: no limit.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.throttle.lock().set(bytes_per_second);
    }

    /// One more receiver; `None` if there are too many.
    #[must_use]
    pub fn session(&self) -> Option<Session> {
        let mut stats = self.shared.stats.lock();
        if stats.sessions >= self.shared.config.sessions {
            stats.turned_away += 1;
            return None;
        }
        stats.sessions += 1;
        Some(Session { shared: self.shared.clone(), pinned: None, queue: VecDeque::new(), reserved: None })
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> ServeStats {
        let held_bytes = self.shared.held_bytes.load(Ordering::Relaxed);
        let held_bytes_most = self.shared.held_bytes_most.load(Ordering::Relaxed);
        ServeStats { held_bytes, held_bytes_most, ..*self.shared.stats.lock() }
    }
}

/// One receiver. Dropping it lets go of its snapshot.
pub struct Session {
    shared: Arc<Shared>,
    /// What the receiver is at, kept from being removed.
    pinned: Option<(SnapshotStore, Snapshot)>,
    /// Invariant: at most [`ServeConfig::requests`].
    queue: VecDeque<Request>,
    /// When the answer to the first of the queue may leave.
    reserved: Option<Reservation>,
}

/// What a session does next.
#[derive(Debug)]
pub enum Next {
    /// Send this, now.
    Send(Outgoing),
    /// Nothing before then, unless something is asked.
    Wait(Instant),
    /// Nothing, until something is asked.
    Idle,
}

/// An answer on its way. Its bytes are counted for as long as it lives: drop it when it has left.
#[derive(Debug)]
pub struct Outgoing {
    response: Response,
    held: HeldBytes,
}

/// A receiver has more questions open than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("more questions at once than are allowed")]
pub struct TooManyRequests;

impl Session {
    /// Takes a question. Never blocks.
    ///
    /// # Errors
    /// [`TooManyRequests`]: end the connection.
    pub fn receive(&mut self, request: Request) -> Result<(), TooManyRequests> {
        if self.queue.len() >= self.shared.config.requests {
            return Err(TooManyRequests);
        }
        self.queue.push_back(request);
        Ok(())
    }

    /// What to do at `now`. Reads from the disk what is to be sent.
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(request) = self.queue.front() else { return Next::Idle };
        if let Request::Chunk(id) = request {
            // Not believed beyond what a chunk can have.
            let bytes = u64::from(id.length.min(*super::manifest::CHUNK_BYTES.end()));
            let mut throttle = self.shared.throttle.lock();
            let reserved = self.reserved.filter(|reserved| throttle.holds(*reserved));
            let reserved = reserved.unwrap_or_else(|| throttle.reserve(now, bytes));
            if reserved.at > now {
                self.reserved = Some(reserved);
                return Next::Wait(reserved.at);
            }
        }
        self.reserved = None;
        let response = match self.queue.pop_front() {
            None => return Next::Idle,
            Some(Request::Manifest { group, id }) => self.manifest(group, id),
            Some(Request::Chunk(id)) => self.chunk(id),
        };
        self.count(&response);
        Next::Send(Outgoing::new(response, &self.shared))
    }

    fn manifest(&mut self, group: GroupId, id: Option<super::SnapshotId>) -> Response {
        self.let_go();
        let store = self.shared.stores.lock().get(&group).cloned();
        let Some(store) = store else { return Response::Gone(Gone::None) };
        let newest = store.newest();
        let found = match id {
            Some(id) => store.get(id),
            None => newest.clone(),
        };
        let Some(snapshot) = found else {
            return Response::Gone(newest.map_or(Gone::None, |newest| Gone::Replaced(newest.id())));
        };
        let manifest = snapshot.manifest().encoded().clone();
        self.pinned = Some((store, snapshot));
        Response::Manifest(manifest)
    }

    fn chunk(&mut self, id: ChunkId) -> Response {
        let Some((store, snapshot)) = &self.pinned else { return Response::Gone(Gone::None) };
        if snapshot.id() != id.snapshot {
            return Response::Gone(Gone::Replaced(snapshot.id()));
        }
        // Its group is served no longer.
        if !self.shared.stores.lock().contains_key(&store.config().group) {
            return Response::Gone(Gone::None);
        }
        let (file, number) = (id.file as usize, id.offset / u64::from(snapshot.manifest().chunk_bytes()));
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let asked = Some((id.offset, id.length));
        if snapshot.manifest().chunk(file, number).map(|chunk| (chunk.offset, chunk.length)) != asked {
            return Response::Refused(RefusedRequest::Range);
        }
        match snapshot.read_chunk(file, number) {
            Ok(Some(bytes)) => Response::Chunk { id, bytes },
            Ok(None) => Response::Refused(RefusedRequest::Range),
            Err(SnapshotError::Damaged { .. }) => Response::Gone(Gone::Damaged),
            Err(_) => Response::Refused(RefusedRequest::Unreadable),
        }
    }

    fn count(&self, response: &Response) {
        let mut stats = self.shared.stats.lock();
        match response {
            Response::Manifest(_) => {}
            Response::Chunk { bytes, .. } => {
                stats.chunks += 1;
                stats.bytes += bytes.len() as u64;
            }
            Response::Gone(gone) => {
                stats.gone += 1;
                stats.damaged += u64::from(*gone == Gone::Damaged);
            }
            Response::Refused(_) => stats.refused += 1,
        }
    }

    /// The snapshot may be removed, if there is a newer one.
    fn let_go(&mut self) {
        if let Some((store, snapshot)) = self.pinned.take() {
            drop(snapshot);
            // What cannot be removed now is removed at the next opportunity.
            let _ = store.sweep();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.let_go();
        self.shared.stats.lock().sessions -= 1;
    }
}

impl Outgoing {
    fn new(response: Response, shared: &Arc<Shared>) -> Self {
        let bytes = match &response {
            Response::Manifest(bytes) | Response::Chunk { bytes, .. } => bytes.len() as u64,
            Response::Gone(_) | Response::Refused(_) => 0,
        };
        let held = shared.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        shared.held_bytes_most.fetch_max(held, Ordering::Relaxed);
        Self { response, held: HeldBytes { bytes, shared: shared.clone() } }
    }

    /// The answer itself; it is counted no longer.
    #[must_use]
    pub fn into_response(self) -> Response {
        let Self { response, held } = self;
        drop(held);
        response
    }
}

impl Deref for Outgoing {
    type Target = Response;

    fn deref(&self) -> &Response {
        &self.response
    }
}

struct HeldBytes {
    bytes: u64,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes)
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.shared.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
