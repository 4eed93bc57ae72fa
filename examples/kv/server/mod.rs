//! The server for clients: one thread, one event loop, any number of connections.
//!
//! The loop ([`event_loop`]) reads requests and hands them on; answers are written by whoever has them (see
//! [`connection`]); [`session`] answers what needs neither the group nor the data.
//!
//! Everything is bounded: connections, bytes of a request, requests and bytes in flight per connection, output that a
//! client does not read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use mio::net::TcpListener;
use mio::{Interest, Poll, Token, Waker};
use parking_lot::{Mutex, RwLock};
use slog::{Logger, warn};

use self::event_loop::{EventLoop, LISTENER, WAKER};
use super::members::Members;
use super::replica::Replica;
use super::resp;
use super::store::Store;

mod connection;
mod event_loop;
pub(super) mod info;
mod orders;
mod session;

/// What bounds the server's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Open connections.
    pub(crate) connections: usize,
    /// One request.
    pub(crate) request: resp::Limits,
    /// Bytes of a key.
    pub(crate) key_bytes: usize,
    /// Bytes of a command in the log.
    pub(crate) command_bytes: usize,
    /// Unanswered requests of one connection.
    pub(crate) pipeline: usize,
    /// Bytes of unanswered requests of one connection; one always fits.
    pub(crate) pipeline_bytes: usize,
    /// Bytes of answers that one client has not read. Beyond it is closed.
    pub(crate) output_bytes: usize,
}

/// Counted since the start, but for `connected`.
#[derive(Default)]
struct Counters {
    connected: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    commands: AtomicU64,
    protocol_errors: AtomicU64,
    slow_clients: AtomicU64,
}

/// What the loop and the callbacks share.
pub(crate) struct Shared {
    store: Arc<dyn Store>,
    /// As the command line names them.
    given: Members,
    /// As the group said lately. Callbacks need them, and must not ask the group.
    members: RwLock<Arc<Members>>,
    replica: Arc<dyn Replica>,
    limits: Limits,
    counters: Counters,
    attention: Attention,
    started: Instant,
    logger: Logger,
    stopping: AtomicBool,
    counting: AtomicBool,
}

/// Connections that the loop should look at.
struct Attention {
    tokens: Mutex<Vec<Token>>,
    waker: Waker,
}

impl Attention {
    fn call(&self, token: Token) {
        let first = {
            let mut tokens = self.tokens.lock();
            tokens.push(token);
            tokens.len() == 1
        };
        // Whoever was first has woken the loop, and it takes all tokens at once.
        if first {
            self.wake();
        }
    }

    fn wake(&self) {
        // Fails only if the counter behind it is full, and then the loop is awake anyway.
        let _ = self.waker.wake();
    }
}

impl Shared {
    /// Looks who is a member, and where.
    fn look_at_members(&self) {
        let members = self.given.of(&self.replica.status().configuration);
        *self.members.write() = Arc::new(members);
    }
}

/// A running server. Dropping it closes every connection.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` and serves from a thread of its own.
    ///
    /// # Errors
    /// If the address cannot be bound or the thread not started.
    pub(crate) fn start(
        address: SocketAddr,
        limits: Limits,
        members: Members,
        store: Arc<dyn Store>,
        replica: Arc<dyn Replica>,
        logger: Logger,
    ) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let shared = Arc::new(Shared {
            store,
            members: RwLock::new(Arc::new(members.clone())),
            given: members,
            replica,
            limits,
            counters: Counters::default(),
            attention: Attention { tokens: Mutex::default(), waker },
            started: Instant::now(),
            logger,
            stopping: AtomicBool::new(false),
            counting: AtomicBool::new(false),
        });
        let event_loop = EventLoop::new(poll, listener, shared.clone());
        let thread = std::thread::Builder::new().name("kv-clients".into()).spawn(move || event_loop.run())?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.attention.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!(self.shared.logger, "the thread that serves clients had panicked");
        }
    }
}

#[cfg(test)]
mod tests;
