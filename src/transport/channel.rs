//! Nodes of one process, connected by bounded queues.
//!
//! Each node that joins has one queue and one thread that empties it into the node's [`Inbound`], everything that
//! waits in one call. **A full queue drops and counts** (row `l24`): the sender never blocks, so two nodes that send to
//! each other while both are stuck cannot deadlock. Links can be cut one way, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant as Clock;

use super::{Inbound, PeerStats, Transport, TransportStats};
use crate::message::Message;
use crate::snapshot::{Next, Request, Response, Session, SnapshotConnection, SnapshotNetwork, SnapshotServer};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex};
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// Connects the nodes of one process. Cloning it shares it.
#[derive(Clone)]
pub struct ChannelNetwork {
    switch: Arc<Switch>,
}

/// One node's way into a [`ChannelNetwork`]. Dropping it shuts it down.
pub struct ChannelTransport {
    node: NodeId,
    switch: Arc<Switch>,
    mailbox: Arc<Mailbox>,
    /// What this node sent, by receiver.
    sent: Mutex<Sent>,
    delivery: Mutex<Option<JoinHandle<()>>>,
}

/// Who is plugged in, and which links are cut.
struct Switch {
    capacity: usize,
    ports: Mutex<Ports>,
}

#[derive(Default)]
struct Ports {
    mailboxes: BTreeMap<NodeId, Arc<Mailbox>>,
    /// Of those that serve snapshots.
    servers: BTreeMap<NodeId, SnapshotServer>,
    /// Directed: from, to.
    cut: BTreeSet<(NodeId, NodeId)>,
}

#[derive(Default)]
struct Mailbox {
    state: Mutex<MailboxState>,
    filled: Condvar,
}

#[derive(Default)]
struct MailboxState {
    /// Invariant: at most the network's capacity.
    waiting: Vec<Message>,
    closed: bool,
    delivered: u64,
    dropped: u64,
}

#[derive(Default)]
struct Sent {
    peers: BTreeMap<NodeId, PeerStats>,
    unknown_receiver: u64,
}

impl Default for ChannelNetwork {
    fn default() -> Self {
        Self::new()
    }
}

impl ChannelNetwork {
    /// A network whose queues hold 65,536 messages per node.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(65_536)
    }

    /// A network whose queues hold at most `capacity` messages per node.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { switch: Arc::new(Switch { capacity, ports: Mutex::default() }) }
    }

    /// Plugs `node` in; its messages go to `inbound`, on a thread of its own. A node that joins again replaces the one
    /// before, which then hears nothing any more.
    #[must_use]
    pub fn join(&self, node: NodeId, inbound: Arc<dyn Inbound>) -> ChannelTransport {
        let mailbox = Arc::new(Mailbox::default());
        let previous = self.switch.ports.lock().mailboxes.insert(node, mailbox.clone());
        if let Some(previous) = previous {
            previous.close();
        }
        let delivery = thread::Builder::new().name(format!("tenure-deliver-{node}")).spawn({
            let mailbox = mailbox.clone();
            move || mailbox.deliver(&*inbound)
        });
        // Without a thread the node is deaf: its queue fills, drops and counts.
        let delivery = Mutex::new(delivery.ok());
        ChannelTransport { node, switch: self.switch.clone(), mailbox, sent: Mutex::default(), delivery }
    }

    /// Cuts the link in one direction: what `from` sends to `to` is dropped and counted at `from`.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.switch.ports.lock().cut.insert((from, to));
    }

    /// Cuts every link of `node`, both ways.
    pub fn isolate(&self, node: NodeId) {
        let mut ports = self.switch.ports.lock();
        let others: Vec<NodeId> = ports.mailboxes.keys().copied().filter(|other| *other != node).collect();
        ports.cut.extend(others.iter().flat_map(|other| [(node, *other), (*other, node)]));
    }

    /// Mends every link.
    pub fn heal(&self) {
        self.switch.ports.lock().cut.clear();
    }
}

impl SnapshotNetwork for ChannelTransport {
    /// The answers are read from the disk on the thread that asks.
    fn serve(&self, server: SnapshotServer) {
        self.switch.ports.lock().servers.insert(self.node, server);
    }

    fn connect(&self, node: NodeId) -> io::Result<Box<dyn SnapshotConnection>> {
        let server = self.switch.ports.lock().servers.get(&node).cloned().ok_or(io::ErrorKind::NotFound)?;
        let session = server.session().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (switch, start) = (self.switch.clone(), Clock::now());
        let connection = ChannelConnection { switch, receiver: self.node, sender: node, session, start };
        connection.is_up()?;
        Ok(Box::new(connection))
    }
}

/// A receiver's connection: it has the sender's end in its hands.
struct ChannelConnection {
    switch: Arc<Switch>,
    receiver: NodeId,
    sender: NodeId,
    session: Session,
    start: Clock,
}

impl ChannelConnection {
    /// It is up while both nodes are plugged in and neither direction is cut.
    fn is_up(&self) -> io::Result<()> {
        let both = [(self.receiver, self.sender), (self.sender, self.receiver)];
        let up = both.iter().all(|(from, to)| matches!(self.switch.port(*from, *to), Port::Open(_)));
        if up { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    }
}

impl SnapshotConnection for ChannelConnection {
    fn send(&mut self, request: &Request) -> io::Result<()> {
        self.is_up()?;
        self.session.receive(request.clone()).map_err(io::Error::other)
    }

    fn receive(&mut self, _frame_bytes_max: usize, wait: Duration) -> io::Result<Option<Response>> {
        let deadline = self.start.elapsed() + wait;
        loop {
            self.is_up()?;
            let now = self.start.elapsed();
            let until = match self.session.next(Instant::ZERO + now) {
                Next::Send(outgoing) => return Ok(Some(outgoing.into_response())),
                Next::Wait(until) => until.since(Instant::ZERO).min(deadline),
                Next::Idle => deadline,
            };
            if now >= deadline {
                return Ok(None);
            }
            std::thread::sleep(until.saturating_sub(now));
        }
    }
}

impl Transport for ChannelTransport {
    fn snapshots(&self) -> Option<&dyn SnapshotNetwork> {
        Some(self)
    }

    fn send(&self, batch: &mut Vec<Message>) {
        batch.sort_by_key(|message| message.to);
        let mut sent = self.sent.lock();
        while let Some(to) = batch.first().map(|message| message.to) {
            let count = batch.partition_point(|message| message.to <= to);
            let port = self.switch.port(self.node, to);
            let stats = match &port {
                Port::Absent => {
                    sent.unknown_receiver += count as u64;
                    batch.drain(..count);
                    continue;
                }
                _ => sent.peers.entry(to).or_default(),
            };
            let pushed = match port {
                Port::Open(mailbox) => mailbox.push(batch.drain(..count), self.switch.capacity),
                _ => {
                    batch.drain(..count);
                    0
                }
            };
            stats.sent_messages += pushed as u64;
            stats.dropped_messages += (count - pushed) as u64;
        }
    }

    fn stats(&self) -> TransportStats {
        let mut stats = TransportStats::default();
        {
            let sent = self.sent.lock();
            stats.peers.clone_from(&sent.peers);
            stats.unknown_receiver = sent.unknown_receiver;
        }
        for (peer, stats) in &mut stats.peers {
            stats.connected = matches!(self.switch.port(self.node, *peer), Port::Open(_));
        }
        let mailbox = self.mailbox.state.lock();
        stats.inbound.messages = mailbox.delivered;
        stats.inbound.dropped_messages = mailbox.dropped;
        stats
    }

    fn shutdown(&self) {
        self.mailbox.close();
        {
            let mut ports = self.switch.ports.lock();
            // A node that joined again under this id keeps its place.
            if ports.mailboxes.get(&self.node).is_some_and(|mailbox| Arc::ptr_eq(mailbox, &self.mailbox)) {
                ports.mailboxes.remove(&self.node);
                ports.servers.remove(&self.node);
            }
        }
        let delivery = self.delivery.lock().take();
        super::join_unless_self(delivery);
    }
}

impl Drop for ChannelTransport {
    fn drop(&mut self) {
        self.shutdown();
    }
}

enum Port {
    Open(Arc<Mailbox>),
    Cut,
    Absent,
}

impl Switch {
    /// The way from `from` to `to`. A node that has shut down is absent itself, and sends nothing.
    fn port(&self, from: NodeId, to: NodeId) -> Port {
        let ports = self.ports.lock();
        match ports.mailboxes.get(&to) {
            _ if ports.cut.contains(&(from, to)) => Port::Cut,
            Some(mailbox) if ports.mailboxes.contains_key(&from) => Port::Open(mailbox.clone()),
            _ => Port::Absent,
        }
    }
}

impl Mailbox {
    /// Takes as many messages as there is room for, in order, and says how many.
    fn push(&self, messages: impl ExactSizeIterator<Item = Message>, capacity: usize) -> usize {
        let mut state = self.state.lock();
        let room = if state.closed { 0 } else { capacity.saturating_sub(state.waiting.len()) };
        let count = messages.len().min(room);
        state.dropped += (messages.len() - count) as u64;
        state.waiting.extend(messages.take(count));
        drop(state);
        if count > 0 {
            self.filled.notify_one();
        }
        count
    }

    fn deliver(&self, inbound: &dyn Inbound) {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return;
            }
            if state.waiting.is_empty() {
                self.filled.wait(&mut state);
                continue;
            }
            let messages = std::mem::take(&mut state.waiting);
            state.delivered += messages.len() as u64;
            drop(state);
            inbound.receive(messages);
            state = self.state.lock();
        }
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }
}
