//! The way out to one peer: a bounded queue, a socket, and a writer thread.
//!
//! Who sends writes. A hand-off to another thread costs about as much as half a round trip on a local network, so
//! [`Peer::send`] queues its frames and, if nobody else is writing, offers the queue to the socket itself, without
//! blocking. The right to write is one flag under the queue's lock ([`Link::writing`]); whoever comes while another
//! holds it only queues, the holder takes the frames along. Only what the socket does not take waits for the writer
//! thread, which until then sleeps: it dials, notices that the peer closed, and continues when the socket has room.
//!
//! The lock is never held over a system call that moves data, nor over a line for the logger, which is the caller's code. The order of frames is the order of the queue, a frame
//! that left in part is continued before anything else, and a connection always begins with a whole frame.
//!
//! What cannot leave is dropped and counted: without a connection at once, since a message that waited for a peer to
//! come back would mostly be wrong by then; with one, when the queue is full.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::PeerStats;
use super::backoff::Backoff;
use super::dial::{self, DialError};
use super::socket::{self, Interest, Sent, Waker};
use super::tcp::Context;
use crate::message::Message;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::types::NodeId;
use crate::wire::codec::{self, Frame};
use crate::wire::handshake::Purpose;

/// System calls that a sender makes before it leaves the rest to the writer thread: it has work of its own.
const DIRECT_CALLS: usize = 4;
/// System calls that the writer thread makes before it looks whether it was told to stop.
const WRITER_CALLS: usize = 64;

/// One peer. Shared by the senders and its writer thread.
pub(super) struct Peer {
    node: NodeId,
    context: Arc<Context>,
    waker: Waker,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    address: String,
    /// The writer thread shall end.
    closed: bool,
    /// Dial at once, whatever the backoff says.
    dial_now: bool,
    /// Counts connections and changes of address: who finds another number than before works for a connection that
    /// is no more.
    epoch: u64,
    socket: Option<Arc<TcpStream>>,
    /// Why the socket is of no use any more; the writer thread will take it away.
    broken: Option<String>,
    /// Somebody is writing, outside the lock.
    writing: bool,
    /// The socket had no room: the writer thread waits for some, nobody else tries.
    blocked: bool,
    /// Frames to be sent. While somebody is writing, those being written are with the writer.
    queue: VecDeque<Frame>,
    /// Bytes of the first frame that have left.
    front_sent: usize,
    stats: PeerStats,
    /// The last failure that was logged: the same one is not logged again.
    logged: Option<String>,
}

impl Peer {
    pub(super) fn new(node: NodeId, address: String, context: Arc<Context>) -> std::io::Result<Arc<Self>> {
        let link = Mutex::new(Link { address, ..Link::default() });
        Ok(Arc::new(Self { node, context, waker: Waker::new()?, link }))
    }

    /// Sends or queues or drops `messages`, all of them to this peer. Never blocks.
    pub(super) fn send(&self, messages: &[Message]) {
        if !self.usable_or_count(messages.len()) {
            return;
        }
        let mut frames = Vec::new();
        let left_out = codec::encode(messages, self.context.limits.frame_bytes, &mut frames);
        if left_out > 0 {
            self.note_too_large(left_out);
        }
        let mut link = self.link.lock();
        for frame in frames {
            link.push(frame, &self.context.limits);
        }
        if link.usable() && !link.writing && !link.blocked && !link.queue.is_empty() {
            link.stats.sent_direct += 1;
            self.write(link, DIRECT_CALLS);
        }
    }

    /// Asked before anything is encoded: a dead peer costs next to nothing.
    fn usable_or_count(&self, messages: usize) -> bool {
        let mut link = self.link.lock();
        let usable = link.usable();
        if !usable {
            link.stats.dropped_messages += messages as u64;
        }
        usable
    }

    pub(super) fn stats(&self) -> PeerStats {
        let link = self.link.lock();
        PeerStats { address: link.address.clone(), connected: link.usable(), ..link.stats.clone() }
    }

    pub(super) fn address(&self) -> String {
        self.link.lock().address.clone()
    }

    /// Dials somewhere else from now on.
    pub(super) fn set_address(&self, address: String) {
        let mut link = self.link.lock();
        if link.address != address {
            link.address = address;
            link.epoch += 1;
            link.dial_now = true;
            self.waker.wake();
        }
    }

    /// The peer was seen alive: if it is not connected, dial now.
    pub(super) fn dial_now(&self) {
        let mut link = self.link.lock();
        if !link.usable() {
            link.dial_now = true;
            self.waker.wake();
        }
    }

    /// Tells the writer thread to end.
    pub(super) fn close(&self) {
        self.link.lock().closed = true;
        self.waker.wake();
    }

    /// The writer thread: connects, tends the connection, connects again.
    pub(super) fn run(&self) {
        let mut backoff = Backoff::new(&self.context, self.node);
        loop {
            let (address, epoch) = {
                let mut link = self.link.lock();
                if link.closed {
                    return;
                }
                link.dial_now = false;
                (link.address.clone(), link.epoch)
            };
            let stopped = || self.outdated(epoch);
            match dial::dial(&self.context, self.node, &address, Purpose::Messages, &self.waker, &stopped) {
                Ok(socket) => {
                    let since = Instant::now();
                    let socket = Arc::new(socket);
                    self.attach(socket.clone(), &address, epoch);
                    let reason = self.tend(&socket, epoch);
                    self.detach(reason);
                    backoff.connected_for(since.elapsed());
                }
                Err(DialError::Stopped) => continue,
                Err(error) => self.note_failed_dial(&address, &error),
            }
            self.rest(backoff.next());
        }
    }

    fn outdated(&self, epoch: u64) -> bool {
        let link = self.link.lock();
        link.closed || link.epoch != epoch
    }

    fn attach(&self, socket: Arc<TcpStream>, address: &str, epoch: u64) {
        let mut link = self.link.lock();
        if link.closed || link.epoch != epoch {
            return;
        }
        link.socket = Some(socket);
        link.stats.connects += 1;
        link.logged = None;
        drop(link);
        slog::info!(self.context.logger, "connected"; "peer" => %self.node, "address" => address);
    }

    /// Watches over the connection until it ends; says why. A peer that takes nothing for `dead_after` is noticed by the
    /// operating system (see [`socket::tune`]), which then fails the socket.
    fn tend(&self, socket: &TcpStream, epoch: u64) -> Option<String> {
        loop {
            let blocked = {
                let link = self.link.lock();
                if link.closed || link.epoch != epoch {
                    return None;
                }
                if link.broken.is_some() {
                    return link.broken.clone();
                }
                link.blocked
            };
            let interest = if blocked { Interest::ReadOrWrite } else { Interest::Read };
            match socket::wait(&self.waker, Some((socket.as_fd(), interest)), None) {
                Err(error) => return Some(format!("waiting for the socket: {error}")),
                Ok(ready) if ready.readable => return Some(ended(socket)),
                Ok(ready) if ready.writable && blocked => {
                    let mut link = self.link.lock();
                    link.blocked = false;
                    self.write(link, WRITER_CALLS);
                }
                Ok(_) => {}
            }
        }
    }

    /// Takes the connection away; what it had not taken is lost.
    fn detach(&self, reason: Option<String>) {
        let mut link = self.link.lock();
        link.socket = None;
        link.epoch += 1;
        link.broken = None;
        link.writing = false;
        link.blocked = false;
        link.queue.clear();
        link.front_sent = 0;
        link.stats.dropped_messages += link.stats.queued_messages as u64;
        (link.stats.queued_messages, link.stats.queued_bytes) = (0, 0);
        if let Some(reason) = reason {
            link.stats.last_error = Some(reason.clone());
            drop(link);
            slog::info!(self.context.logger, "connection lost"; "peer" => %self.node, "reason" => reason);
        }
    }

    /// Waits for the next attempt.
    fn rest(&self, pause: Duration) {
        let deadline = Instant::now() + pause;
        loop {
            let link = self.link.lock();
            if link.closed || link.dial_now {
                return;
            }
            drop(link);
            match socket::wait(&self.waker, None, Some(deadline)) {
                Ok(ready) if ready.timed_out() => return,
                Ok(_) => {}
                // Cannot wait: do not spin, and do not give the peer up either.
                Err(_) => std::thread::sleep(pause),
            }
        }
    }

    /// Offers the queue to the socket, in at most `calls` system calls; leaves what is left to the writer thread.
    ///
    /// The caller has seen that nobody else is writing and that the socket is not known to be full.
    fn write<'a>(&'a self, mut link: MutexGuard<'a, Link>, calls: usize) {
        let Some(socket) = link.socket.clone() else { return };
        let epoch = link.epoch;
        link.writing = true;
        for _ in 0..calls {
            let mut taken = std::mem::take(&mut link.queue);
            let skip = link.front_sent;
            drop(link);
            let sent = socket::send(&socket, &taken, skip);
            link = self.link.lock();
            if link.epoch != epoch {
                // The connection was taken away meanwhile, and with it everything that was queued.
                return;
            }
            link.put_back(&mut taken);
            match sent {
                Sent::Bytes { count, full } => {
                    link.sent(count);
                    if full || link.queue.is_empty() {
                        break;
                    }
                }
                Sent::Failed(error) => {
                    link.broken = Some(format!("sending: {error}"));
                    break;
                }
            }
        }
        link.writing = false;
        if link.broken.is_some() || !link.queue.is_empty() {
            link.blocked = true;
            self.waker.wake();
        }
    }

    fn note_failed_dial(&self, address: &str, error: &DialError) {
        let error = error.to_string();
        let mut link = self.link.lock();
        link.stats.failed_dials += 1;
        link.stats.last_error = Some(error.clone());
        let news = link.logged.replace(error.clone()).as_ref() != Some(&error);
        drop(link);
        if news {
            slog::warn!(self.context.logger, "cannot reach a peer, will keep trying";
                "peer" => %self.node, "address" => address, "error" => error);
        }
    }

    fn note_too_large(&self, count: usize) {
        let mut link = self.link.lock();
        let first = link.stats.too_large == 0;
        link.stats.too_large += count as u64;
        drop(link);
        if first {
            slog::error!(self.context.logger, "a message is longer than frame_bytes and was dropped; raise the limit";
                "peer" => %self.node, "frame_bytes" => self.context.limits.frame_bytes);
        }
    }
}

impl Link {
    fn usable(&self) -> bool {
        self.socket.is_some() && self.broken.is_none() && !self.closed
    }

    /// Queues a frame, or drops and counts it.
    fn push(&mut self, frame: Frame, limits: &super::TcpLimits) {
        let stats = &mut self.stats;
        let fits = stats.queued_messages + frame.messages <= limits.queue_messages
            && stats.queued_bytes + frame.bytes.len() <= limits.queue_bytes;
        // One frame always fits an empty queue, or a batch of very many messages could never leave.
        if self.socket.is_some() && (fits || stats.queued_messages == 0) {
            stats.queued_messages += frame.messages;
            stats.queued_bytes += frame.bytes.len();
            self.queue.push_back(frame);
        } else {
            stats.dropped_messages += frame.messages as u64;
        }
    }

    /// Frames that were taken out go back to the front; what came meanwhile follows them.
    fn put_back(&mut self, taken: &mut VecDeque<Frame>) {
        taken.append(&mut self.queue);
        std::mem::swap(taken, &mut self.queue);
    }

    /// `count` more bytes have left.
    fn sent(&mut self, count: usize) {
        self.stats.sent_bytes += count as u64;
        self.front_sent += count;
        while let Some(front) = self.queue.front()
            && self.front_sent >= front.bytes.len()
        {
            self.front_sent -= front.bytes.len();
            self.stats.queued_bytes -= front.bytes.len();
            self.stats.queued_messages -= front.messages;
            self.stats.sent_messages += front.messages as u64;
            self.queue.pop_front();
        }
    }
}

/// Why a socket on which nothing is ever received became readable.
fn ended(socket: &TcpStream) -> String {
    match socket.peek(&mut [0]) {
        Ok(0) => "closed by the peer".into(),
        Ok(_) => "the peer sent something on a connection that only this node may use".into(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_left_take_their_frames_along() {
        let frame = |bytes: &'static [u8], messages| Frame { bytes: bytes.into(), messages };
        let mut link = Link { queue: VecDeque::from([frame(b"abcd", 2), frame(b"ef", 1)]), ..Link::default() };
        (link.stats.queued_bytes, link.stats.queued_messages) = (6, 3);
        link.sent(3);
        assert_eq!((link.front_sent, link.queue.len(), link.stats.queued_messages), (3, 2, 3));
        link.sent(2);
        assert_eq!((link.front_sent, link.queue.len(), link.stats.queued_messages), (1, 1, 1));
        link.sent(1);
        assert_eq!((link.front_sent, link.queue.len(), link.stats.queued_bytes), (0, 0, 0));
        assert_eq!(link.stats.sent_messages, 3);
    }
}
