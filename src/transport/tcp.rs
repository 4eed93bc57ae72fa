//! Messages over TCP. See `docs/format-wire.md` for the bytes, `peer` for the way out, `accept` for the way in.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::accept::Listener;
use super::bulk;
use super::config::{LocalIdentity, TcpConfig, TcpLimits};
use super::peer::Peer;
use super::{Inbound, PeerStores, Transport, TransportStats, join_unless_self};
use crate::config::ConfigError;
use crate::message::Message;
use crate::snapshot::{SnapshotConnection, SnapshotNetwork, SnapshotServer};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex};
use crate::types::NodeId;

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
    receivers: Arc<bulk::Receivers>,
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
        let (acceptor, receivers) = (Mutex::new(Some(acceptor)), Arc::default());
        let tcp = Self { context, local_addr, routes, listener, acceptor, receivers };
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
    fn snapshots(&self) -> Option<&dyn SnapshotNetwork> {
        Some(self)
    }

    fn set_address(&self, node: NodeId, address: &str) {
        // Behind the first space stands what the host wants to know of the member.
        let address = address.split(' ').next().unwrap_or_default();
        if let Err(error) = self.set_peer(node, address) {
            slog::warn!(self.context.logger, "cannot reach a member"; "node" => %node, "address" => address, "error" => %error);
        }
    }

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
        self.receivers.close();
        let writers = self.routes.close();
        let acceptor = self.acceptor.lock().take();
        join_unless_self(acceptor);
        self.listener.join_readers();
        for writer in writers {
            join_unless_self(Some(writer));
        }
    }
}

impl SnapshotNetwork for Tcp {
    /// On the threads of their connections.
    fn serve(&self, server: SnapshotServer) {
        self.listener.serve_snapshots(server);
    }

    fn connect(&self, node: NodeId) -> io::Result<Box<dyn SnapshotConnection>> {
        let peer = self.routes.snapshot().get(&node).cloned().ok_or(io::ErrorKind::NotFound)?;
        let connection = bulk::connect(&self.context, node, &peer.address(), &self.receivers)?;
        Ok(Box::new(connection))
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
    use crate::types::{ClusterId, StoreId};

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
}
