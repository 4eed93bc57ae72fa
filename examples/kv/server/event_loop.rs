//! The event loop: accepts, reads, cuts requests out of the input and hands them on.
//!
//! All writes that it finds in one turn are proposed together, and one confirmation of leadership serves all reads of
//! the turn: the busier, the larger the batches.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slog::warn;

use super::super::command::{self, Local, Request};
use super::super::operation::Operation;
use super::super::replica::Write;
use super::super::reply::Reply;
use super::super::resp::Parser;
use super::super::store::Outcome;
use super::connection::{Connection, Fate};
use super::orders::Orderer;
use super::session::Session;
use super::{Counters, Shared};

pub(super) const LISTENER: Token = Token(0);
pub(super) const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;

/// Reads from one socket before others get their turn.
const READS_PER_TURN: usize = 4;

/// How long to wait before accepting again after the system refused, for instance for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How old may be what is known of the members.
const MEMBERS_AGE: Duration = Duration::from_millis(100);

pub(super) struct EventLoop {
    poll: Poll,
    listener: TcpListener,
    shared: Arc<Shared>,
    clients: HashMap<Token, Client>,
    next_token: usize,
    accept_again: bool,
    /// Connections that have more input than one turn takes.
    again: Vec<Token>,
    /// What this turn has found.
    writes: Vec<Write>,
    reads: Vec<(Arc<Connection>, u64, u64)>,
    scratch: Vec<u8>,
    /// When it looked who is a member.
    looked: Option<Instant>,
}

/// What the loop alone knows of a connection.
struct Client {
    connection: Arc<Connection>,
    parser: Parser,
    input: BytesMut,
    session: Session,
    /// Taken from the input, but not to be started yet.
    held: Option<Held>,
    /// The socket may have more.
    readable: bool,
    /// Nothing comes behind what the socket has, so no event announces its end again: it is read to the end.
    hung_up: bool,
    /// No more requests are taken.
    ended: bool,
}

/// A request, or why it is none, and its length in bytes.
type Held = (Result<Request, Reply>, usize);

impl EventLoop {
    /// A loop over what `poll` watches, the listener already among it.
    pub(super) fn new(poll: Poll, listener: TcpListener, shared: Arc<Shared>) -> Self {
        Self {
            poll,
            listener,
            shared,
            clients: HashMap::new(),
            next_token: FIRST_CLIENT,
            accept_again: false,
            again: Vec::new(),
            writes: Vec::new(),
            reads: Vec::new(),
            scratch: vec![0; READ_BYTES],
            looked: None,
        }
    }

    /// Serves until the server stops.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let timeout = match (self.again.is_empty(), self.accept_again) {
                (false, _) => Some(Duration::ZERO),
                (true, true) => Some(ACCEPT_RETRY),
                (true, false) => None,
            };
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                warn!(self.shared.logger, "waiting for clients failed, serving ends"; "error" => %error);
                break;
            }
            self.turn(&events);
        }
        for client in self.clients.values() {
            client.connection.close();
        }
    }

    fn turn(&mut self, events: &Events) {
        if self.looked.is_none_or(|looked| looked.elapsed() > MEMBERS_AGE) {
            self.looked = Some(Instant::now());
            self.shared.look_at_members();
        }
        let mut tokens = std::mem::take(&mut self.again);
        let mut accept = std::mem::take(&mut self.accept_again);
        for event in events {
            match event.token() {
                LISTENER => accept = true,
                WAKER => {}
                token => {
                    if let Some(client) = self.clients.get_mut(&token) {
                        client.hung_up |= event.is_read_closed() || event.is_error();
                        client.readable |= event.is_readable() || client.hung_up;
                        tokens.push(token);
                    }
                }
            }
        }
        tokens.append(&mut self.shared.attention.tokens.lock());
        if accept {
            self.accept();
        }
        for token in tokens {
            self.drive(token);
        }
        self.submit();
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    warn!(self.shared.logger, "cannot accept a client, trying again"; "error" => %error);
                    self.accept_again = true;
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut stream: TcpStream) {
        let counters = &self.shared.counters;
        if self.clients.len() >= self.shared.limits.connections {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            // As much politeness as a full server can afford: if it does not go out at once, the client sees a close.
            let _ = stream.write(b"-ERR max number of clients reached\r\n");
            return;
        }
        // Without it answers may wait for the client's acknowledgement of the last one; with an old kernel they do.
        let _ = stream.set_nodelay(true);
        let token = Token(self.next_token);
        let mut connection = Connection::new(token, stream, self.shared.clone());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(connection.stream_mut(), token, interest) {
            warn!(self.shared.logger, "cannot watch a client"; "error" => %error);
            return;
        }
        self.next_token += 1;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        counters.connected.fetch_add(1, Ordering::Relaxed);
        let client = Client {
            connection: Arc::new(connection),
            parser: Parser::new(self.shared.limits.request),
            input: BytesMut::new(),
            session: Session::new(token),
            held: None,
            readable: true,
            hung_up: false,
            ended: false,
        };
        self.clients.insert(token, client);
        self.again.push(token);
    }

    /// Takes what one connection has to say, within the limits of one turn.
    fn drive(&mut self, token: Token) {
        let Some(mut client) = self.clients.remove(&token) else { return };
        client.connection.cork();
        for reads in 0.. {
            self.take_requests(&mut client);
            if client.ended || client.held.is_some() || !client.readable || !client.connection.has_room() {
                break;
            }
            if reads == READS_PER_TURN {
                self.again.push(token);
                break;
            }
            self.read(&mut client);
        }
        match client.connection.uncork() {
            Fate::Stays => {
                self.clients.insert(token, client);
            }
            Fate::Over => self.shared.counters.drop_client(&client.connection),
        }
    }

    fn read(&mut self, client: &mut Client) {
        match client.connection.stream().read(&mut self.scratch) {
            Ok(0) => {
                client.readable = false;
                client.end();
            }
            Ok(count) => {
                // Less than asked for: the socket is empty, and what comes later is announced by an event of its own.
                client.readable = count == self.scratch.len() || client.hung_up;
                client.input.extend_from_slice(&self.scratch[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => client.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                client.readable = false;
                client.end();
                client.connection.abort();
            }
        }
    }

    /// Starts the requests that the input holds, until there is none or one has to wait.
    fn take_requests(&mut self, client: &mut Client) {
        while !client.ended && client.connection.has_room() {
            let Some((request, bytes)) = client.held.take().or_else(|| self.next_request(client)) else { return };
            let begun = match request {
                Ok(request) => self.begin(client, request, bytes),
                Err(refusal) => {
                    client.answer(bytes, refusal);
                    Ok(())
                }
            };
            if let Err(request) = begun {
                client.held = Some((Ok(request), bytes));
                return;
            }
        }
    }

    /// The next request of the input and its length in bytes, if there is one.
    fn next_request(&self, client: &mut Client) -> Option<Held> {
        match client.parser.next(&mut client.input) {
            Ok(arguments) => {
                let arguments = arguments?;
                self.shared.counters.commands.fetch_add(1, Ordering::Relaxed);
                let request = command::parse(&arguments, self.shared.limits.key_bytes);
                Some((request, arguments.iter().map(Bytes::len).sum()))
            }
            Err(error) => {
                self.shared.counters.protocol_errors.fetch_add(1, Ordering::Relaxed);
                client.answer(0, Reply::error(format!("ERR Protocol error: {error}")));
                client.end();
                None
            }
        }
    }

    /// Starts one request, or gives it back because a request before it has to be answered first.
    fn begin(&mut self, client: &mut Client, request: Request, bytes: usize) -> Result<(), Request> {
        match request {
            Request::Write { operation, slot } => return self.begin_write(client, operation, slot, bytes),
            Request::Read(read) => {
                let confirmed = client.session.read_only && !self.shared.replica.status().leads;
                let number = client.connection.read(client.session.protocol, bytes, read, confirmed);
                if !confirmed {
                    self.confirm_later(&client.connection, number);
                }
            }
            Request::CountDigest => self.count_digest(client),
            // What stands before an order is proposed before it.
            Request::HandOver(to) => {
                self.submit();
                self.hand_over(client, to);
            }
            Request::Raft(order) => {
                self.submit();
                client.orderer().give(order, &self.shared);
            }
            Request::Local(local) => {
                let quits = local == Local::Quit;
                let reply = client.session.answer(local, &self.shared);
                client.answer(bytes, reply);
                if quits {
                    client.end();
                }
            }
        }
        Ok(())
    }

    fn begin_write(&mut self, client: &Client, operation: Operation, slot: u16, bytes: usize) -> Result<(), Request> {
        let (length, limit) = (operation.encoded_len(), self.shared.limits.command_bytes);
        if length > limit {
            let text = format!("ERR the command has {length} bytes, the limit is {limit}; not executed");
            client.answer(bytes, Reply::error(text));
            return Ok(());
        }
        let Some(number) = client.connection.wait_for_write(client.session.protocol, bytes) else {
            return Err(Request::Write { operation, slot });
        };
        let (connection, shared) = (client.connection.clone(), self.shared.clone());
        let done = move |result| {
            let reply = match result {
                Ok(outcome) => outcome_reply(outcome),
                Err(failure) => shared.refusal(&failure, slot),
            };
            connection.complete(number, reply);
        };
        self.writes.push(Write { command: operation.encode(), done: Box::new(done) });
        Ok(())
    }

    fn confirm_later(&mut self, connection: &Arc<Connection>, number: u64) {
        match self.reads.last_mut() {
            Some((last, _, to)) if Arc::ptr_eq(last, connection) => *to = number,
            _ => self.reads.push((connection.clone(), number, number)),
        }
    }

    /// Hands on what this turn has found: the writes, then one question for all reads.
    fn submit(&mut self) {
        if !self.writes.is_empty() {
            self.shared.replica.write(std::mem::take(&mut self.writes));
        }
        if !self.reads.is_empty() {
            let reads = std::mem::take(&mut self.reads);
            let done =
                move |result| reads.iter().for_each(|(connection, from, to)| connection.confirm(*from..=*to, &result));
            self.shared.replica.confirm(Box::new(done));
        }
    }

    fn hand_over(&self, client: &Client, to: Option<(Bytes, Bytes)>) {
        let members = self.shared.given.of(&self.shared.replica.status().configuration);
        let target = to.map(|(host, port)| members.find(&host, &port).ok_or("ERR no member has this host and port"));
        match target.transpose() {
            Ok(target) => client.orderer().hand_over(&self.shared, target, |_| Reply::OK),
            Err(unknown) => client.answer(0, Reply::error(unknown)),
        }
    }

    /// Counting every pair takes a while, so a thread does it; one at a time.
    fn count_digest(&self, client: &Client) {
        if self.shared.counting.swap(true, Ordering::AcqRel) {
            client.answer(0, Reply::error("BUSY a digest is being counted; try again later"));
            return;
        }
        let number = client.connection.wait(client.session.protocol, 0);
        let (connection, shared) = (client.connection.clone(), self.shared.clone());
        let count = move || {
            let reply = match shared.store.count() {
                Ok(totals) => Reply::bulk(format!("{} {} {:016x}", totals.applied.0, totals.keys, totals.digest)),
                Err(error) => Reply::error(format!("ERR {error}")),
            };
            shared.counting.store(false, Ordering::Release);
            connection.complete(number, reply);
        };
        if let Err(error) = std::thread::Builder::new().name("kv-digest".into()).spawn(count) {
            self.shared.counting.store(false, Ordering::Release);
            client.connection.complete(number, Reply::error(format!("ERR no thread to count with: {error}")));
        }
    }
}

impl Client {
    fn answer(&self, request_bytes: usize, reply: Reply) {
        self.connection.answer(self.session.protocol, request_bytes, reply);
    }

    fn orderer(&self) -> Orderer {
        Orderer { connection: self.connection.clone(), protocol: self.session.protocol }
    }

    /// No more requests; what is under way is still answered.
    fn end(&mut self) {
        self.ended = true;
        self.held = None;
        self.input = BytesMut::new();
        self.connection.finish();
    }
}

impl Counters {
    fn drop_client(&self, connection: &Connection) {
        connection.close();
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

fn outcome_reply(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Done => Reply::OK,
        Outcome::NotMet => Reply::Null,
        Outcome::Number(number) => Reply::Integer(number),
        Outcome::Refused(refusal) => Reply::error(format!("ERR {refusal}")),
    }
}
