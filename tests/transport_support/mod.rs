//! What the transport's tests share.
#![allow(dead_code, unreachable_pub, reason = "a module of several test programs; each uses a part of it")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use tenure::config::Priority;
use tenure::log::{Entry, EntryKind, LogSlice};
use tenure::message::{
    Abdicate, Abdicated, AppendEntries, AppendOutcome, AppendResponse, Body, Message, Rank, ReadIndex,
    ReadIndexResponse, Refusal, Verdict, VoteRequest, VoteResponse,
};
use tenure::time::Instant;
use tenure::transport::{Inbound, LocalIdentity, PeerStores, StoreReplaced, Tcp, TcpConfig, Transport, TransportStats};
use tenure::types::{ClusterId, EntryId, GroupId, Index, NodeId, RoundId, StoreId, Term};
use tenure::wire::codec::{self, Frame};
use tenure::wire::handshake::{self, Answer, Hello, Parsed};

/// Far more than anything here takes; only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what comes in.
#[derive(Default)]
pub struct Inbox {
    messages: Mutex<Vec<Message>>,
    arrived: Condvar,
}

impl Inbound for Inbox {
    fn receive(&self, messages: Vec<Message>) {
        self.messages.lock().unwrap().extend(messages);
        self.arrived.notify_all();
    }
}

impl Inbox {
    /// Waits until there are at least `count` messages; returns all.
    pub fn wait_for(&self, count: usize) -> Vec<Message> {
        let messages = self.messages.lock().unwrap();
        let (messages, timeout) =
            self.arrived.wait_timeout_while(messages, PATIENCE, |messages| messages.len() < count).unwrap();
        assert!(!timeout.timed_out(), "{} of {count} messages came", messages.len());
        messages.clone()
    }

    pub fn len(&self) -> usize {
        self.messages.lock().unwrap().len()
    }
}

/// Remembers the first store of each node, like the runtime does.
#[derive(Default)]
pub struct Stores(pub Mutex<std::collections::BTreeMap<NodeId, StoreId>>);

impl PeerStores for Stores {
    fn check(&self, node: NodeId, store: StoreId) -> Result<(), StoreReplaced> {
        let known = *self.0.lock().unwrap().entry(node).or_insert(store);
        if known == store { Ok(()) } else { Err(StoreReplaced { node, known, found: store }) }
    }
}

/// A node under test.
pub struct TestNode {
    pub tcp: Tcp,
    pub inbox: Arc<Inbox>,
    pub stores: Arc<Stores>,
}

pub fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn config(node: u64) -> TcpConfig {
    let cluster = ClusterId::new("test").unwrap();
    TcpConfig::new(LocalIdentity { cluster, node: NodeId(node), store: StoreId(u128::from(node)) }, local())
}

pub fn start(config: TcpConfig) -> TestNode {
    let (inbox, stores) = (Arc::new(Inbox::default()), Arc::new(Stores::default()));
    let tcp = Tcp::start(config, stores.clone(), inbox.clone()).unwrap();
    TestNode { tcp, inbox, stores }
}

/// Two nodes that know each other and are connected both ways.
pub fn pair() -> (TestNode, TestNode) {
    let (one, two) = (start(config(1)), start(config(2)));
    one.tcp.set_peer(NodeId(2), two.tcp.local_addr().to_string()).unwrap();
    two.tcp.set_peer(NodeId(1), one.tcp.local_addr().to_string()).unwrap();
    one.wait_connected(2);
    two.wait_connected(1);
    (one, two)
}

impl TestNode {
    pub fn send(&self, messages: impl IntoIterator<Item = Message>) {
        let mut batch: Vec<Message> = messages.into_iter().collect();
        self.tcp.send(&mut batch);
        assert!(batch.is_empty());
    }

    pub fn wait_connected(&self, peer: u64) {
        self.wait(|stats| stats.peers[&NodeId(peer)].connected);
    }

    /// Waits until the statistics are so.
    pub fn wait(&self, so: impl Fn(&TransportStats) -> bool) -> TransportStats {
        let start = Clock::now();
        loop {
            let stats = self.tcp.stats();
            if so(&stats) {
                return stats;
            }
            assert!(start.elapsed() < PATIENCE, "it never came to that: {stats:#?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A hand-made peer that dials `address` as node `from` and is welcome.
pub fn dial_as(from: u64, to: u64, address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    match greet(&mut socket, &hello(from, to)) {
        Some(Answer::Accepted { version: 1, store }) => assert_eq!(store, StoreId(u128::from(to))),
        other => panic!("{other:?}"),
    }
    socket
}

/// Sends a Hello and reads the Answer; `None` if the connection is closed instead.
pub fn greet(socket: &mut TcpStream, hello: &Hello) -> Option<Answer> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&hello.encode()).unwrap();
    let mut bytes = Vec::new();
    loop {
        match handshake::parse_answer(&bytes).unwrap() {
            Parsed::Complete { value, .. } => return Some(value),
            Parsed::Partial { needed } => {
                let have = bytes.len();
                bytes.resize(needed, 0);
                socket.read_exact(&mut bytes[have..]).ok()?;
            }
        }
    }
}

pub fn hello(from: u64, to: u64) -> Hello {
    Hello {
        versions: (handshake::VERSION_MIN, handshake::VERSION_MAX),
        cluster: ClusterId::new("test").unwrap(),
        from: NodeId(from),
        to: NodeId(to),
        store: StoreId(u128::from(from)),
    }
}

/// A hand-made peer that accepts one connection as node `me` and then does nothing.
pub fn accept_as(me: u64, listener: &TcpListener) -> TcpStream {
    accept_with(&Answer::Accepted { version: 1, store: StoreId(u128::from(me)) }, listener)
}

/// A hand-made peer that gives one connection this answer.
pub fn accept_with(answer: &Answer, listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    while let Parsed::Partial { needed } = handshake::parse_hello(&bytes).unwrap() {
        let have = bytes.len();
        bytes.resize(needed, 0);
        socket.read_exact(&mut bytes[have..]).unwrap();
    }
    socket.write_all(&answer.encode()).unwrap();
    socket
}

/// Blocks until the other side has closed the connection.
pub fn assert_closed(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed: {error}"),
    }
}

pub fn frame_of(messages: &[Message]) -> Frame {
    let mut frames = Vec::new();
    assert_eq!(codec::encode(messages, 64 << 20, &mut frames), 0);
    frames.remove(0)
}

/// A small message that carries a number.
pub fn numbered(from: u64, to: u64, group: u64, number: u64) -> Message {
    let body = Body::Vote(VoteRequest {
        round: RoundId(number),
        campaign_term: Term(1),
        last: EntryId::ZERO,
        configuration: Index(1),
        abdicated: None,
    });
    Message { group: GroupId(group), from: NodeId(from), to: NodeId(to), term: Term(1), body }
}

pub fn number_of(message: &Message) -> u64 {
    match &message.body {
        Body::Vote(request) => request.round.0,
        _ => panic!("{message:?}"),
    }
}

/// An append with one command of this size, made of its index.
pub fn append(from: u64, to: u64, index: u64, bytes: usize) -> Message {
    let payload = Bytes::from(vec![index as u8; bytes]);
    let entry = Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, payload };
    let prev = if index == 1 { EntryId::ZERO } else { EntryId::new(index - 1, 1) };
    let body = Body::AppendEntries(AppendEntries {
        stamp: Instant::from_nanos(index),
        round: RoundId(0),
        commit: Index(0),
        rank: None,
        fresh: None,
        snapshot: false,
        slice: LogSlice::new(prev, vec![entry]).unwrap(),
    });
    Message { group: GroupId(1), from: NodeId(from), to: NodeId(to), term: Term(1), body }
}

/// How many kinds of message there are.
pub const KINDS: usize = 9;

/// One message of every kind, with everything that is optional.
pub fn every_kind(from: u64, to: u64) -> Vec<Message> {
    let vote = VoteRequest {
        round: RoundId(9),
        campaign_term: Term(4),
        last: EntryId::new(7, 3),
        configuration: Index(6),
        abdicated: Some(Abdicated { leader: NodeId(3), term: Term(3) }),
    };
    let response = VoteResponse { round: RoundId(9), campaign_term: Term(4), verdict: Verdict::Granted };
    let refused = VoteResponse { verdict: Verdict::Refused(Refusal::AlreadyVoted(NodeId(3))), ..response };
    let accepted = AppendResponse {
        stamp: Instant::from_nanos(77),
        round: RoundId(4),
        request_term: Term(3),
        promise_ms: 1000,
        sent: Instant::from_nanos(78),
        priority: Priority::High,
        outcome: AppendOutcome::Accepted { matched: Index(7) },
    };
    let mut envelope = append(from, to, 8, 100);
    if let Body::AppendEntries(append) = &mut envelope.body {
        append.rank = Some(Rank { place: 1, slot: Duration::from_millis(3) });
        append.fresh = Some(Instant::from_nanos(70));
    }
    let bodies: [Body; KINDS] = [
        Body::PreVote(vote),
        Body::PreVoteResponse(response),
        Body::Vote(vote),
        Body::VoteResponse(refused),
        envelope.body.clone(),
        Body::AppendResponse(accepted),
        Body::Abdicate(Abdicate { successor: Some(NodeId(2)) }),
        Body::ReadIndex(ReadIndex { round: RoundId(5), lease: true }),
        Body::ReadIndexResponse(ReadIndexResponse { round: RoundId(5), request_term: Term(3), index: Some(Index(7)) }),
    ];
    bodies.into_iter().map(|body| Message { body, ..envelope.clone() }).collect()
}
