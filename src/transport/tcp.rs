//! Messages over TCP. See `docs/format-wire.md` for the bytes, `peer` for the way out, `accept` for the way in.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::accept::Listener;
use super::peer::Peer;
use super::{Inbound, PeerStores, Transport, TransportStats, join_unless_self};
use crate::config::{ConfigError, Limits};
use crate::message::Message;
use crate::sync::{Arc, Mutex};
use crate::types::{ClusterId, NodeId, StoreId};
use crate::wire::codec;

/// Who this node is, as it says in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalIdentity {
    /// Its cluster; a peer of another one is refused.
    pub cluster: ClusterId,
    /// Its node id.
    pub node: NodeId,
    /// Its store.
    pub store: StoreId,
}

/// What [`Tcp::start`] needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Who this node is.
    pub identity: LocalIdentity,
    /// Where to listen; port 0 takes a free one, see [`Tcp::local_addr`].
    pub listen: SocketAddr,
    /// Where the others listen, as `host:port`. This node itself may be among them and is left out.
    pub peers: BTreeMap<NodeId, String>,
    /// Bounds.
    pub limits: TcpLimits,
    /// Where to log; discards by default.
    pub logger: slog::Logger,
}

impl TcpConfig {
    /// No peers, default limits, no log.
    #[must_use]
    pub fn new(identity: LocalIdentity, listen: SocketAddr) -> Self {
        Self {
            identity,
            listen,
            peers: BTreeMap::new(),
            limits: TcpLimits::default(),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        }
    }
}

/// What bounds memory, connections and time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpLimits {
    /// Longest body of a frame, in bytes, sent or received. Default 4 MiB; at least
    /// [`frame_bytes_needed`](codec::frame_bytes_needed) of the groups' limits, at most 1 GiB. Every node must accept
    /// what the others send: raise it everywhere before raising the groups' limits anywhere.
    pub frame_bytes: usize,
    /// Bytes waiting to be sent to one peer. Default 16 MiB, at least `frame_bytes`. Over it messages are dropped.
    pub queue_bytes: usize,
    /// Messages waiting to be sent to one peer. Default 65,536. Over it messages are dropped.
    pub queue_messages: usize,
    /// Incoming connections, those in their handshake included. Default 256. More are closed unheard.
    pub connections: usize,
    /// Incoming connections in their handshake. Default 64. More are closed unheard.
    pub handshakes: usize,
    /// How long a handshake may take, on either side. Default 2 s.
    pub handshake_timeout: Duration,
    /// How long connecting may take. Default 1 s.
    pub connect_timeout: Duration,
    /// Pause after the first failed attempt; doubles each time, less a random part. Default 20 ms.
    pub backoff_min: Duration,
    /// Longest pause between attempts. Default 500 ms.
    pub backoff_max: Duration,
    /// A peer that takes nothing, or says nothing to TCP's probes, for this long is disconnected. Default 10 s, at
    /// least 1 s.
    pub dead_after: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 4 << 20,
            queue_bytes: 16 << 20,
            queue_messages: 65_536,
            connections: 256,
            handshakes: 64,
            handshake_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            dead_after: Duration::from_secs(10),
        }
    }
}

impl TcpLimits {
    /// The defaults, with frames and queues as large as `limits` of the groups demand.
    #[must_use]
    pub fn for_groups(limits: &Limits) -> Self {
        let defaults = Self::default();
        let frame_bytes = defaults.frame_bytes.max(codec::frame_bytes_needed(limits));
        let queue_bytes = defaults.queue_bytes.max(frame_bytes).max(limits.window_bytes.saturating_mul(2));
        Self { frame_bytes, queue_bytes, ..defaults }
    }

    /// Checks every bound; `groups` are the limits of the groups whose messages are to be carried.
    ///
    /// # Errors
    /// [`ConfigError`] names the first knob that is out of bounds and what would be right.
    pub fn validate(&self, groups: &Limits) -> Result<(), ConfigError> {
        self.validate_alone()?;
        require(
            self.frame_bytes >= codec::frame_bytes_needed(groups),
            "frame_bytes",
            "must hold append_bytes plus command_bytes plus headers: use TcpLimits::for_groups",
        )
    }

    fn validate_alone(&self) -> Result<(), ConfigError> {
        require((1024..=1 << 30).contains(&self.frame_bytes), "frame_bytes", "must be from 1 KiB to 1 GiB")?;
        require(self.queue_bytes >= self.frame_bytes, "queue_bytes", "must be at least frame_bytes")?;
        require(self.queue_messages > 0, "queue_messages", "must not be 0")?;
        require(self.connections > 0, "connections", "must not be 0")?;
        require(self.handshakes > 0, "handshakes", "must not be 0")?;
        for (duration, knob) in [
            (self.handshake_timeout, "handshake_timeout"),
            (self.connect_timeout, "connect_timeout"),
            (self.backoff_min, "backoff_min"),
        ] {
            let sane = !duration.is_zero() && duration <= Duration::from_secs(3600);
            require(sane, knob, "must be above 0 and at most an hour")?;
        }
        require(self.backoff_max >= self.backoff_min, "backoff_max", "must be at least backoff_min")?;
        let sane = (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.dead_after);
        require(sane, "dead_after", "must be from a second to an hour")
    }
}

fn require(holds: bool, knob: &'static str, rule: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { knob, rule }) }
}

/// Why the transport could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A limit is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on: in use, or not this machine's.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The operating system has no thread or no file descriptor left.
    #[error("cannot start: {0}")]
    Resources(io::Error),
    /// The transport was shut down.
    #[error("the transport was shut down")]
    Stopped,
}

/// The TCP transport of one node. Dropping it shuts it down.
pub struct Tcp {
    context: Arc<Context>,
    local_addr: SocketAddr,
    routes: Arc<Routes>,
    listener: Arc<Listener>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// What all threads of a transport share.
pub(super) struct Context {
    pub(super) identity: LocalIdentity,
    pub(super) limits: TcpLimits,
    pub(super) stores: Arc<dyn PeerStores>,
    pub(super) logger: slog::Logger,
}

/// The peers. The map is replaced, never changed, so that a sender takes the lock for a moment only.
#[derive(Default)]
struct Routes {
    map: Mutex<Arc<BTreeMap<NodeId, Arc<Peer>>>>,
    writers: Mutex<Writers>,
    unknown_receiver: crate::sync::atomic::AtomicU64,
}

#[derive(Default)]
struct Writers {
    closed: bool,
    threads: BTreeMap<NodeId, JoinHandle<()>>,
}

impl Tcp {
    /// Listens, and begins to dial every peer. Does not wait for any of them.
    ///
    /// # Errors
    /// [`TransportError`]: nothing was left running.
    pub fn start(
        config: TcpConfig,
        stores: Arc<dyn PeerStores>,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Self, TransportError> {
        let TcpConfig { identity, listen, peers, limits, logger } = config;
        limits.validate_alone()?;
        let bound = listen_on(listen).map_err(|error| TransportError::Listen { address: listen, error })?;
        let local_addr = bound.local_addr().map_err(TransportError::Resources)?;
        let logger = logger.new(slog::o!("node" => identity.node.to_string()));
        let context = Arc::new(Context { identity, limits, stores, logger });
        let routes = Arc::new(Routes::default());
        let known = routes.clone();
        let on_peer = Box::new(move |node| known.dial_now(node));
        let listener = Listener::new(context.clone(), on_peer).map_err(TransportError::Resources)?;
        let acceptor = thread::Builder::new()
            .name("tenure-accept".into())
            .spawn({
                let listener = listener.clone();
                move || listener.run(&bound, &inbound)
            })
            .map_err(TransportError::Resources)?;
        let tcp = Self { context, local_addr, routes, listener, acceptor: Mutex::new(Some(acceptor)) };
        for (node, address) in peers {
            // On an error `tcp` is dropped, which stops what was started.
            tcp.set_peer(node, address)?;
        }
        Ok(tcp)
    }

    /// Where it listens: the configured address, with the port that was taken.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Adds a peer, or changes the address of one: its connection is given up and the new address dialed. The same
    /// address again changes nothing; this node itself is ignored. Does not wait for the peer.
    ///
    /// # Errors
    /// [`TransportError::Resources`] if no thread can be started, [`TransportError::Stopped`] after a shutdown.
    pub fn set_peer(&self, node: NodeId, address: impl Into<String>) -> Result<(), TransportError> {
        if node == self.context.identity.node {
            return Ok(());
        }
        self.routes.set(node, address.into(), &self.context)
    }

    /// Forgets a peer: what is queued for it is dropped, its thread joined. Its incoming connection stays until the
    /// peer closes it. Unknown peers are ignored.
    pub fn remove_peer(&self, node: NodeId) {
        self.routes.remove(node);
    }
}

impl Transport for Tcp {
    fn send(&self, batch: &mut Vec<Message>) {
        if batch.is_empty() {
            return;
        }
        let routes = self.routes.snapshot();
        // Stable: the order per receiver stays.
        batch.sort_by_key(|message| message.to);
        for messages in batch.chunk_by(|one, next| one.to == next.to) {
            match routes.get(&messages[0].to) {
                Some(peer) => peer.send(messages),
                None => self.routes.count_unknown(messages.len()),
            }
        }
        batch.clear();
    }

    fn stats(&self) -> TransportStats {
        TransportStats {
            peers: self.routes.snapshot().iter().map(|(node, peer)| (*node, peer.stats())).collect(),
            inbound: self.listener.stats(),
            unknown_receiver: self.routes.unknown(),
        }
    }

    fn shutdown(&self) {
        // Tell all of them first, so that they end side by side.
        self.listener.close();
        let writers = self.routes.close();
        let acceptor = self.acceptor.lock().take();
        join_unless_self(acceptor);
        self.listener.join_readers();
        for writer in writers {
            join_unless_self(Some(writer));
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Routes {
    fn snapshot(&self) -> Arc<BTreeMap<NodeId, Arc<Peer>>> {
        self.map.lock().clone()
    }

    fn dial_now(&self, node: NodeId) {
        if let Some(peer) = self.snapshot().get(&node) {
            peer.dial_now();
        }
    }

    fn set(&self, node: NodeId, address: String, context: &Arc<Context>) -> Result<(), TransportError> {
        let mut writers = self.writers.lock();
        if writers.closed {
            return Err(TransportError::Stopped);
        }
        let known = self.snapshot();
        if let Some(peer) = known.get(&node) {
            peer.set_address(address);
            return Ok(());
        }
        let peer = Peer::new(node, address, context.clone()).map_err(TransportError::Resources)?;
        let thread = thread::Builder::new()
            .name(format!("tenure-send-{node}"))
            .spawn({
                let peer = peer.clone();
                move || peer.run()
            })
            .map_err(TransportError::Resources)?;
        writers.threads.insert(node, thread);
        let mut routes = (*known).clone();
        routes.insert(node, peer);
        *self.map.lock() = Arc::new(routes);
        Ok(())
    }

    fn remove(&self, node: NodeId) {
        let mut writers = self.writers.lock();
        let mut routes = (*self.snapshot()).clone();
        if let Some(peer) = routes.remove(&node) {
            peer.close();
        }
        *self.map.lock() = Arc::new(routes);
        let writer = writers.threads.remove(&node);
        drop(writers);
        join_unless_self(writer);
    }

    /// Ends every writer; the peers stay listed, for the statistics.
    fn close(&self) -> Vec<JoinHandle<()>> {
        let mut writers = self.writers.lock();
        writers.closed = true;
        for peer in self.snapshot().values() {
            peer.close();
        }
        std::mem::take(&mut writers.threads).into_values().collect()
    }

    fn count_unknown(&self, count: usize) {
        self.unknown_receiver.fetch_add(count as u64, crate::sync::atomic::Ordering::Relaxed);
    }

    fn unknown(&self) -> u64 {
        self.unknown_receiver.load(crate::sync::atomic::Ordering::Relaxed)
    }
}

/// Non-blocking, because the acceptor waits for it and its waker at once. The standard library sets `SO_REUSEADDR`, so
/// a node can come back on its port at once.
fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::transport::StoreReplaced;

    struct AnyStore;

    impl PeerStores for AnyStore {
        fn check(&self, _: NodeId, _: StoreId) -> Result<(), StoreReplaced> {
            Ok(())
        }
    }

    pub(in crate::transport) fn context() -> Context {
        Context {
            identity: LocalIdentity { cluster: ClusterId::new("c").unwrap(), node: NodeId(1), store: StoreId(1) },
            limits: TcpLimits::default(),
            stores: Arc::new(AnyStore),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        }
    }

    #[test]
    fn defaults_carry_the_default_groups_and_bounds_are_named() {
        let groups = Limits::default();
        assert_eq!(TcpLimits::default().validate(&groups), Ok(()));
        let small = TcpLimits { frame_bytes: groups.append_bytes, ..TcpLimits::default() };
        assert_eq!(small.validate(&groups).unwrap_err().knob, "frame_bytes");
        let narrow = TcpLimits { queue_bytes: 1 << 20, ..TcpLimits::default() };
        assert_eq!(narrow.validate(&groups).unwrap_err().knob, "queue_bytes");
        let huge = Limits { command_bytes: 64 << 20, append_bytes: 64 << 20, ..groups };
        assert!(TcpLimits::default().validate(&huge).is_err());
        assert_eq!(TcpLimits::for_groups(&huge).validate(&huge), Ok(()));
    }
}
