//! One client connection: replies leave in the order of the requests, whoever completes them.
//!
//! Every request takes a place in a queue. Whoever completes one (the event loop, or the thread that applied the
//! command) writes down the answer, moves the answered front of the queue to the output, and, if nobody is about to
//! add more, writes it straight to the socket: the client's answer does not wait for another thread to wake up.
//!
//! The order of effects follows from two rules. A read looks at the store only when it has reached the front of the
//! queue, so it sees every write before it that was executed: one that was refused (`MOVED`, `TRYAGAIN`) is not, and who
//! sends it again elsewhere must not expect the reads behind it to have waited. A write is not proposed while a read before
//! it is unanswered, so no read sees a write behind it. Between these bounds everything is in flight at once.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::Token;
use mio::net::TcpStream;
use parking_lot::{Mutex, MutexGuard};

use super::super::command::Read;
use super::super::replica::Failure;
use super::super::reply::{Protocol, Reply};
use super::super::store::StoreError;
use super::Shared;

/// Output beyond this many bytes is written even if more is about to follow.
const WRITE_AT_BYTES: usize = 16 << 10;

/// With this many bytes unwritten no further request is taken. What is under way may add to them, up to the limit.
const PAUSE_AT_BYTES: usize = 256 << 10;

/// A connection, as the event loop and the callbacks of its requests share it.
pub(crate) struct Connection {
    token: Token,
    stream: TcpStream,
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    places: VecDeque<Place>,
    /// Number of the place in front; the next request gets `first + places.len()`.
    first: u64,
    /// Unanswered reads among the places.
    reads: usize,
    /// Bytes of all requests among the places.
    request_bytes: usize,
    output: Vec<u8>,
    /// Invariant: `output[..written]` is with the socket.
    written: usize,
    /// The event loop is adding requests and will write when it is through.
    corked: bool,
    /// The event loop stopped taking requests and waits to be told that it may go on.
    held_back: bool,
    /// The event loop has been told.
    alerted: bool,
    /// Nothing is taken any more; to be closed when the last answer is written.
    closing: bool,
    /// Nothing can be written any more.
    broken: bool,
}

struct Place {
    protocol: Protocol,
    request_bytes: usize,
    state: State,
}

enum State {
    Waiting,
    Reading { read: Read, confirmed: bool },
    Answered(Reply),
}

/// Whether the event loop keeps a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    Over,
}

impl Connection {
    pub(crate) fn new(token: Token, stream: TcpStream, shared: Arc<Shared>) -> Self {
        Self { token, stream, shared, queue: Mutex::default() }
    }

    /// The socket, for registering and reading.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The same, for a selector.
    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The event loop begins to add requests.
    pub(crate) fn cork(&self) {
        let mut queue = self.queue.lock();
        queue.corked = true;
        queue.alerted = false;
        queue.held_back = false;
    }

    /// The event loop is through: what can be written is.
    pub(crate) fn uncork(&self) -> Fate {
        let mut queue = self.queue.lock();
        queue.corked = false;
        self.write(&mut queue);
        if queue.is_over() { Fate::Over } else { Fate::Stays }
    }

    /// Whether one more request may be taken. If not, the event loop is told when it may, by the socket if that is what
    /// is full.
    pub(crate) fn has_room(&self) -> bool {
        let mut queue = self.queue.lock();
        if queue.unwritten() >= PAUSE_AT_BYTES {
            self.write(&mut queue);
        }
        let limits = &self.shared.limits;
        queue.held_back = queue.places.len() >= limits.pipeline || queue.request_bytes >= limits.pipeline_bytes;
        !queue.held_back && !queue.broken && queue.unwritten() < PAUSE_AT_BYTES
    }

    /// A request that is answered already.
    pub(crate) fn answer(&self, protocol: Protocol, request_bytes: usize, reply: Reply) {
        let mut queue = self.queue.lock();
        if queue.places.is_empty() {
            reply.encode(protocol, &mut queue.output);
        } else {
            queue.push(Place { protocol, request_bytes, state: State::Answered(reply) });
        }
    }

    /// A place for a request that will be [completed](Self::complete).
    pub(crate) fn wait(&self, protocol: Protocol, request_bytes: usize) -> u64 {
        self.queue.lock().push(Place { protocol, request_bytes, state: State::Waiting })
    }

    /// A place for a write; `None`: a read before it is unanswered, the event loop is told when it no longer is.
    pub(crate) fn wait_for_write(&self, protocol: Protocol, request_bytes: usize) -> Option<u64> {
        let mut queue = self.queue.lock();
        queue.held_back = queue.reads > 0;
        let free = !queue.held_back;
        free.then(|| queue.push(Place { protocol, request_bytes, state: State::Waiting }))
    }

    /// A place for a read. `confirmed`: it needs no [confirmation](Self::confirm).
    pub(crate) fn read(&self, protocol: Protocol, request_bytes: usize, read: Read, confirmed: bool) -> u64 {
        let mut queue = self.queue.lock();
        queue.reads += 1;
        let number = queue.push(Place { protocol, request_bytes, state: State::Reading { read, confirmed } });
        self.advance(&mut queue);
        number
    }

    /// The answer to the request at `number`.
    pub(crate) fn complete(&self, number: u64, reply: Reply) {
        let mut queue = self.queue.lock();
        if let Some(place) = queue.place(number) {
            place.state = State::Answered(reply);
        }
        self.settle(queue);
    }

    /// What became of the confirmation that the reads among `numbers` waited for.
    pub(crate) fn confirm(&self, numbers: RangeInclusive<u64>, result: &Result<(), Failure>) {
        let mut queue = self.queue.lock();
        let mut refused = 0;
        for number in numbers {
            let Some(place) = queue.place(number) else { continue };
            let State::Reading { read, confirmed: confirmed @ false } = &mut place.state else { continue };
            match result {
                Ok(()) => *confirmed = true,
                Err(failure) => {
                    place.state = State::Answered(self.shared.refusal(failure, read.slot()));
                    refused += 1;
                }
            }
        }
        queue.reads -= refused;
        self.settle(queue);
    }

    /// No more requests: to be closed when everything is answered.
    pub(crate) fn finish(&self) {
        self.queue.lock().closing = true;
    }

    /// The other side is gone.
    pub(crate) fn abort(&self) {
        self.queue.lock().broken = true;
    }

    /// Ends the conversation; answers that come later are dropped.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        *queue = Queue { broken: true, alerted: true, first: u64::MAX, ..Queue::default() };
        // Fails only if the other side was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn settle(&self, mut queue: MutexGuard<'_, Queue>) {
        self.advance(&mut queue);
        if queue.corked {
            return;
        }
        // With more answers to come, most likely from the same batch, one write for all of them is cheaper.
        let waiting = !queue.places.is_empty();
        if !waiting || queue.unwritten() >= WRITE_AT_BYTES {
            self.write(&mut queue);
        }
        let unwritten = waiting && queue.unwritten() > 0;
        if unwritten || queue.is_over() {
            self.alert(&mut queue);
        }
    }

    /// Moves the answered front of the queue to the output.
    fn advance(&self, queue: &mut Queue) {
        let mut moved = false;
        while let Some(place) = queue.places.front() {
            let answer = match &place.state {
                State::Waiting | State::Reading { confirmed: false, .. } => break,
                State::Reading { read, .. } => Some(self.shared.look_up(read)),
                State::Answered(_) => None,
            };
            let Some(place) = queue.places.pop_front() else { break };
            queue.first += 1;
            queue.request_bytes -= place.request_bytes;
            moved = true;
            if let Some(answer) = answer {
                queue.reads -= 1;
                answer.encode(place.protocol, &mut queue.output);
            } else if let State::Answered(reply) = place.state {
                reply.encode(place.protocol, &mut queue.output);
            }
            if queue.unwritten() > self.shared.limits.output_bytes {
                self.write_or_give_up(queue);
                if queue.broken {
                    return;
                }
            }
        }
        if moved && queue.held_back && queue.has_drained(&self.shared.limits) {
            self.alert(queue);
        }
    }

    /// What the socket takes makes room for the answers behind it; a client that does not read its answers is not
    /// waited for.
    fn write_or_give_up(&self, queue: &mut Queue) {
        self.write(queue);
        if !queue.broken && queue.unwritten() > self.shared.limits.output_bytes {
            self.shared.counters.slow_clients.fetch_add(1, Ordering::Relaxed);
            queue.broken = true;
        }
        self.alert(queue);
    }

    fn write(&self, queue: &mut Queue) {
        while !queue.broken && queue.written < queue.output.len() {
            match (&self.stream).write(&queue.output[queue.written..]) {
                Ok(0) => queue.broken = true,
                Ok(count) => queue.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => queue.broken = true,
            }
        }
        queue.forget_written();
    }

    fn alert(&self, queue: &mut Queue) {
        if !queue.alerted {
            queue.alerted = true;
            self.shared.attention.call(self.token);
        }
    }
}

impl Queue {
    fn push(&mut self, place: Place) -> u64 {
        let number = self.first + self.places.len() as u64;
        self.request_bytes += place.request_bytes;
        self.places.push_back(place);
        number
    }

    fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// `None` once the connection is closed.
    fn place(&mut self, number: u64) -> Option<&mut Place> {
        let offset = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.places.get_mut(offset)
    }

    fn is_over(&self) -> bool {
        self.broken || (self.closing && self.places.is_empty() && self.unwritten() == 0)
    }

    /// Room for more than a request or two, lest the event loop be called for each.
    fn has_drained(&self, limits: &super::Limits) -> bool {
        self.reads == 0 && self.places.len() <= limits.pipeline / 2 && self.request_bytes <= limits.pipeline_bytes / 2
    }

    fn forget_written(&mut self) {
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            self.output.shrink_to(WRITE_AT_BYTES);
        } else if self.written >= self.output.len() / 2 {
            // Half of it at least, so that a byte is moved once at most on average.
            self.output.drain(..self.written);
            self.written = 0;
        }
    }
}

impl Shared {
    /// The reply to a request that was not, or perhaps not, executed. The first word tells its class.
    pub(crate) fn refusal(&self, failure: &Failure, slot: u16) -> Reply {
        match failure {
            Failure::NotLeader(leader) => self.members.read().moved(slot, *leader),
            // What clients of a Redis cluster know as "ask again".
            Failure::HandingOver => Reply::error("TRYAGAIN leadership is being handed over; not executed"),
            Failure::Busy(reason) => Reply::error(format!("BUSY {reason}")),
            Failure::Refused(reason) => Reply::error(format!("ERR {reason}")),
            Failure::Stopped(reason) => Reply::error(format!("CLUSTERDOWN {reason}")),
            Failure::Unknown(reason) => Reply::error(format!("UNKNOWN {reason}")),
        }
    }

    fn look_up(&self, read: &Read) -> Reply {
        self.try_look_up(read).unwrap_or_else(|error| Reply::error(format!("ERR {error}")))
    }

    fn try_look_up(&self, read: &Read) -> Result<Reply, StoreError> {
        let limit = self.limits.output_bytes / 2;
        let bulk = |value: Option<_>| value.map_or(Reply::Null, Reply::Bulk);
        Ok(match read {
            Read::Get(key) => {
                let values = self.store.get_all(std::slice::from_ref(key), limit)?;
                bulk(values.into_iter().next().flatten())
            }
            Read::MultiGet(keys) => Reply::Array(self.store.get_all(keys, limit)?.into_iter().map(bulk).collect()),
            Read::Exists(keys) => {
                let found = self.store.count_existing(keys)?;
                Reply::Integer(found.try_into().unwrap_or(i64::MAX))
            }
            Read::Size => Reply::Integer(self.store.totals().keys.try_into().unwrap_or(i64::MAX)),
        })
    }
}
