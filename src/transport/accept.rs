//! The way in: one thread that accepts, one thread per connection that reads.
//!
//! A connection proves itself first: until its handshake is done it may take [`TcpLimits::handshake_timeout`] and a few
//! hundred bytes, and only so many connections may be in that state. Afterwards its thread reads as much as there is,
//! decodes every whole frame and hands all messages over in one call. A second connection from the same node replaces
//! the first: the node has most likely restarted and the first is a ghost.
//!
//! [`TcpLimits::handshake_timeout`]: super::TcpLimits::handshake_timeout

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::bulk;
use super::dial::read_some;
use super::socket::{self, Interest, Waker};
use super::tcp::Context;
use super::{Inbound, InboundStats, StoreReplaced, join_unless_self};
use crate::message::Message;
use crate::snapshot::{Session, SnapshotServer};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex};
use crate::types::NodeId;
use crate::wire::DecodeError;
use crate::wire::handshake::{self, Answer, Hello, Parsed, Purpose, Refused};

/// Bytes asked for in one read.
const READ_BYTES: usize = 128 << 10;
/// Pause after accepting failed (most likely: out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Refusals remembered so that the same one is not logged again.
const REFUSALS_REMEMBERED: usize = 256;

/// Told when a peer has proven itself, so that the way out to it can be tried at once.
pub(super) type OnPeer = Box<dyn Fn(NodeId) + Send + Sync>;

/// Everything the acceptor and the readers share.
pub(super) struct Listener {
    context: Arc<Context>,
    waker: Waker,
    on_peer: OnPeer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    last_id: u64,
    connections: BTreeMap<u64, Connection>,
    stats: InboundStats,
    /// Who answers those that want snapshots.
    snapshots: Option<SnapshotServer>,
    /// The last refusal of each node that was logged.
    logged: BTreeMap<NodeId, String>,
}

struct Connection {
    socket: Arc<TcpStream>,
    /// Known after the handshake.
    peer: Option<NodeId>,
    purpose: Purpose,
    thread: Option<JoinHandle<()>>,
    /// Its thread is about to end and can be joined.
    over: bool,
}

/// Why a connection ended, other than by being closed in peace.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    #[error("the handshake took too long")]
    TooSlow,
    #[error("refused {from} of cluster {cluster} (store {store}): {reason}", from = .0.from, cluster = .0.cluster,
        store = .0.store, reason = .1)]
    Refused(Box<Hello>, Refused),
}

impl Listener {
    pub(super) fn new(context: Arc<Context>, on_peer: OnPeer) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { context, waker: Waker::new()?, on_peer, state: Mutex::default() }))
    }

    /// The acceptor thread.
    pub(super) fn run(self: &Arc<Self>, listener: &TcpListener, inbound: &Arc<dyn Inbound>) {
        loop {
            self.reap();
            if self.state.lock().closed {
                return;
            }
            let failed = match socket::wait(&self.waker, Some((listener.as_fd(), Interest::Read)), None) {
                Ok(ready) if ready.readable => self.accept(listener, inbound).err(),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                self.state.lock().stats.last_error = Some(format!("accepting: {error}"));
                let _ = socket::wait(&self.waker, None, Some(Instant::now() + ACCEPT_PAUSE));
            }
        }
    }

    pub(super) fn stats(&self) -> InboundStats {
        let state = self.state.lock();
        let proven = |connection: &&Connection| connection.peer.is_some() && connection.purpose == Purpose::Messages;
        let connections = state.connections.values().filter(proven).filter(|connection| !connection.over);
        let mut stats = InboundStats { connections: connections.count(), ..state.stats.clone() };
        stats.handshakes = state.handshakes();
        stats
    }

    /// Ends the acceptor and every reader. The acceptor is joined by the caller, then [`join_readers`](Self::join_readers).
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for connection in state.connections.values() {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        drop(state);
        self.waker.wake();
    }

    /// Joins the readers; only after the acceptor has ended, so that no new one comes.
    pub(super) fn join_readers(&self) {
        let connections = std::mem::take(&mut self.state.lock().connections);
        for connection in connections.into_values() {
            join_unless_self(connection.thread);
        }
    }

    /// Joins the readers that are over.
    fn reap(&self) {
        let over: Vec<Connection> = {
            let mut state = self.state.lock();
            let ids: Vec<u64> = state.connections.iter().filter(|(_, one)| one.over).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| state.connections.remove(id)).collect()
        };
        for connection in over {
            join_unless_self(connection.thread);
        }
    }

    /// Accepts one connection and starts its reader.
    fn accept(self: &Arc<Self>, listener: &TcpListener, inbound: &Arc<dyn Inbound>) -> io::Result<()> {
        let (socket, address) = match listener.accept() {
            Ok(accepted) => accepted,
            // It was gone before it was accepted.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(false)?;
        let socket = Arc::new(socket);
        let mut state = self.state.lock();
        let limits = &self.context.limits;
        if state.closed || state.open() >= limits.connections || state.handshakes() >= limits.handshakes {
            state.stats.turned_away += 1;
            return Ok(());
        }
        state.last_id += 1;
        let id = state.last_id;
        // Under the lock, so that the reader finds itself in the table.
        let thread = thread::Builder::new().name(format!("tenure-read-{id}")).spawn({
            let (listener, inbound, socket) = (self.clone(), inbound.clone(), socket.clone());
            move || listener.serve(id, &socket, address, &*inbound)
        })?;
        state.connections.insert(
            id,
            Connection { socket, peer: None, purpose: Purpose::Messages, thread: Some(thread), over: false },
        );
        Ok(())
    }

    /// A reader thread.
    fn serve(&self, id: u64, socket: &TcpStream, address: SocketAddr, inbound: &dyn Inbound) {
        let _over = Over { listener: self, id };
        match self.meet(socket) {
            Err(error) => self.note_refused(address, &error),
            Ok((peer, Purpose::Messages, answer)) => {
                if !self.admit(id, peer) {
                    return;
                }
                slog::info!(self.context.logger, "accepted"; "peer" => %peer, "address" => %address);
                if let Err(error) = self.welcome(socket, peer, &answer).and_then(|()| self.read(socket, peer, inbound))
                {
                    self.note_ended(peer, &error);
                }
            }
            Ok((peer, Purpose::Snapshots, answer)) => {
                // Without a session, because there are too many or this node has no snapshots, it is closed unheard.
                let Some(session) = self.admit_receiver(id, peer) else { return };
                slog::info!(self.context.logger, "sends snapshots"; "peer" => %peer, "address" => %address);
                if let Err(error) = bulk::serve(socket, &answer, session, &self.context.limits) {
                    self.note_ended(peer, &error.downcast().map_or_else(Ended::Io, Ended::Malformed));
                }
            }
        }
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// The acceptor's half of the handshake, up to the answer if it is a good one: the peer is admitted first, so that
    /// it counts as connected when it hears that it is.
    fn meet(&self, mut socket: &TcpStream) -> Result<(NodeId, Purpose, Answer), Ended> {
        let limits = &self.context.limits;
        let deadline = Instant::now() + limits.handshake_timeout;
        socket::tune(socket, limits.dead_after)?;
        socket.set_write_timeout(Some(limits.handshake_timeout))?;
        let mut bytes = Vec::new();
        let hello = loop {
            match handshake::parse_hello(&bytes)? {
                Parsed::Complete { value, .. } => break value,
                Parsed::Partial { needed } => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Ended::TooSlow);
                    }
                    socket.set_read_timeout(Some(left))?;
                    match read_some(socket, &mut bytes, needed) {
                        // The deadline has passed; the loop finds out.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        other => other?,
                    }
                }
            }
        };
        match self.judge(&hello) {
            Ok(version) => {
                let answer = Answer::Accepted { version, store: self.context.identity.store };
                Ok((hello.from, Purpose::of(&bytes), answer))
            }
            Err(reason) => {
                // Best effort: it is refused whether it hears so or not.
                let _ = socket.write_all(&Answer::Refused(reason.clone()).encode());
                Err(Ended::Refused(Box::new(hello), reason))
            }
        }
    }

    fn welcome(&self, mut socket: &TcpStream, peer: NodeId, answer: &Answer) -> Result<(), Ended> {
        socket.write_all(&answer.encode())?;
        socket.set_read_timeout(None)?;
        (self.on_peer)(peer);
        Ok(())
    }

    fn judge(&self, hello: &Hello) -> Result<u32, Refused> {
        let me = &self.context.identity;
        let Some(version) = handshake::common_version(hello.versions) else {
            return Err(Refused::Version(handshake::VERSION_MIN, handshake::VERSION_MAX));
        };
        if hello.cluster != me.cluster {
            return Err(Refused::Cluster(me.cluster.clone()));
        }
        if hello.to != me.node {
            return Err(Refused::Node(me.node));
        }
        if hello.from == me.node {
            return Err(Refused::SameNode);
        }
        match self.context.stores.check(hello.from, hello.store) {
            Ok(()) => Ok(version),
            Err(StoreReplaced { known, .. }) => Err(Refused::StoreReplaced(known)),
        }
    }

    /// Enters the peer into the table; an older connection of the same peer is closed.
    fn admit(&self, id: u64, peer: NodeId) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        let mut superseded = 0;
        for (other, connection) in &mut state.connections {
            if *other == id {
                connection.peer = Some(peer);
            } else if connection.is_of(peer) && !connection.over {
                let _ = connection.socket.shutdown(Shutdown::Both);
                superseded += 1;
            }
        }
        state.stats.superseded += superseded;
        state.stats.accepted += 1;
        state.logged.remove(&peer);
        true
    }

    /// Enters the receiver of a snapshot into the table. It may have several connections, beside the one for messages.
    fn admit_receiver(&self, id: u64, peer: NodeId) -> Option<Session> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let connection = state.connections.get_mut(&id)?;
        (connection.peer, connection.purpose) = (Some(peer), Purpose::Snapshots);
        let session = state.snapshots.as_ref().and_then(SnapshotServer::session);
        state.stats.turned_away += u64::from(session.is_none());
        session
    }

    /// Answers those that want snapshots from now on.
    pub(super) fn serve_snapshots(&self, server: SnapshotServer) {
        self.state.lock().snapshots = Some(server);
    }

    /// Reads until the connection ends.
    fn read(&self, mut socket: &TcpStream, peer: NodeId, inbound: &dyn Inbound) -> Result<(), Ended> {
        let limit = self.context.limits.frame_bytes;
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        loop {
            let count = match socket.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            filled += count;
            let mut batch = Batch::default();
            let outcome = batch.decode(&buffer[..filled], limit);
            self.hand_over(peer, count, batch.messages, batch.unknown, inbound);
            let needed = outcome?;
            buffer.copy_within(batch.used..filled, 0);
            filled -= batch.used;
            // At most the limit: `front` has checked it. A frame that was long does not keep its room for ever.
            if buffer.len() < needed {
                buffer.resize(needed, 0);
            } else if filled == 0 && buffer.len() > READ_BYTES {
                buffer.truncate(READ_BYTES);
                buffer.shrink_to_fit();
            }
        }
    }

    fn hand_over(&self, peer: NodeId, bytes: usize, mut messages: Vec<Message>, unknown: u64, inbound: &dyn Inbound) {
        let decoded = messages.len();
        let me = self.context.identity.node;
        messages.retain(|message| message.from == peer && message.to == me);
        {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            state.stats.bytes += bytes as u64;
            state.stats.messages += messages.len() as u64;
            state.stats.misdirected += (decoded - messages.len()) as u64;
            state.stats.unknown += unknown;
        }
        if !messages.is_empty() {
            inbound.receive(messages);
        }
    }

    /// A stranger is logged at the first, second, fourth, eighth... failure; a node that says who it is, once per
    /// change of the reason.
    fn note_refused(&self, address: SocketAddr, error: &Ended) {
        let text = error.to_string();
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.stats.refused += 1;
        state.stats.last_error = Some(text.clone());
        let news = match error {
            Ended::Refused(hello, _) => {
                if state.logged.len() >= REFUSALS_REMEMBERED {
                    state.logged.clear();
                }
                state.logged.insert(hello.from, text.clone()).as_ref() != Some(&text)
            }
            _ => state.stats.refused.is_power_of_two(),
        };
        drop(state);
        if news {
            slog::warn!(self.context.logger, "refused a connection"; "address" => %address, "error" => text);
        }
    }

    fn note_ended(&self, peer: NodeId, error: &Ended) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.stats.last_error = Some(format!("{peer}: {error}"));
        let malformed = matches!(error, Ended::Malformed(_));
        state.stats.corrupt += u64::from(malformed);
        drop(state);
        if malformed {
            slog::warn!(self.context.logger, "closed a connection: what came on it is damaged";
                "peer" => %peer, "error" => %error);
        } else {
            slog::info!(self.context.logger, "connection lost"; "peer" => %peer, "reason" => %error);
        }
    }
}

impl Connection {
    /// Whether messages of `peer` come on it.
    fn is_of(&self, peer: NodeId) -> bool {
        self.peer == Some(peer) && self.purpose == Purpose::Messages
    }
}

impl State {
    fn open(&self) -> usize {
        self.connections.values().filter(|connection| !connection.over).count()
    }

    fn handshakes(&self) -> usize {
        self.connections.values().filter(|connection| connection.peer.is_none() && !connection.over).count()
    }
}

/// Marks a connection as over when its thread ends, however it ends, and has the acceptor join it.
struct Over<'a> {
    listener: &'a Listener,
    id: u64,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.listener.state.lock().connections.get_mut(&self.id) {
            connection.over = true;
        }
        self.listener.waker.wake();
    }
}
