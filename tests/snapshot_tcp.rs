//! Snapshots over real sockets, and inside the process: broken connections, shutdown, limits, strangers.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "snapshot_support/mod.rs"]
mod support;
#[path = "transport_support/mod.rs"]
mod transport_support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Clock};

use fates::Rng;
use support::{DIR, Files, config, content, files, make, read};
use tenure::sim::disk::SimFs;
use tenure::snapshot::{
    Digest, Ended, Fetch, FetchConfig, Gone, Progress, PullError, Request, ServeConfig, SnapshotNetwork,
    SnapshotServer, SnapshotStore, Wanted, pull,
};
use tenure::transport::{ChannelNetwork, Transport as _};
use tenure::types::{ClusterId, NodeId, StoreId};
use tenure::wire::frame::{FORMAT_VERSION, FrameKind};
use tenure::wire::handshake::{Answer, Purpose};
use transport_support::{Inbox, PATIENCE, TestNode, accept_as, assert_closed, hello, numbered, pair, start};

const CHUNK: u32 = 8 << 10;
/// Chunks under way.
const WINDOW: u64 = 4;
const BOTH: [u64; 2] = [1, 2];

fn open(node: u64) -> SnapshotStore {
    let mut config = config(node);
    config.chunk_bytes = CHUNK;
    SnapshotStore::open(Arc::new(SimFs::new()), Path::new(DIR), config).unwrap()
}

fn state() -> Files {
    files([("a/large", content(1, 3 << 20)), ("b", content(2, 700_000)), ("empty", vec![])])
}

/// A server of a store with [`state`] in it.
fn serving(bytes_per_second: Option<u64>) -> SnapshotServer {
    let store = open(1);
    make(&store, 20, &state()).unwrap();
    let mut config = ServeConfig::default();
    config.bytes_per_second = bytes_per_second;
    let server = SnapshotServer::new(config);
    server.add(store);
    server
}

fn fetch(store: &SnapshotStore) -> Fetch {
    let mut config = FetchConfig::default();
    config.window_bytes = WINDOW * u64::from(CHUNK);
    Fetch::new(store, Wanted::default(), config).unwrap()
}

fn go_on(_: &Progress) -> bool {
    true
}

/// Connects and pulls, once.
fn pull_from(network: &dyn SnapshotNetwork, fetch: &mut Fetch) -> Result<(), PullError> {
    pull(fetch, &mut *network.connect(NodeId(1))?, PATIENCE, &go_on)
}

#[test]
fn a_snapshot_comes_over_tcp_beside_the_messages() {
    let (one, two) = pair();
    let server = serving(None);
    one.tcp.serve(server.clone());
    let store = open(2);
    let mut fetch = fetch(&store);
    pull_from(&two.tcp, &mut fetch).unwrap();
    assert!(read(&fetch.install().unwrap()) == state());
    let stats = server.stats();
    assert_eq!(stats.bytes, (3 << 20) + 700_000);
    assert!(stats.held_bytes_most <= u64::from(CHUNK));
    let connections = BOTH.map(|node| if node == 1 { &one } else { &two }.tcp.stats().inbound);
    assert!(connections.iter().all(|inbound| (inbound.superseded, inbound.corrupt) == (0, 0)), "{connections:?}");
    assert_eq!(connections[0].connections, 1, "that for messages, as before");
    // The sender notices that the connection is closed.
    let start = Clock::now();
    while server.stats().sessions > 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Passes connections on, and cuts each after so many bytes towards the one who dialed.
struct Proxy {
    address: SocketAddr,
    /// Bytes of the sender that were passed on.
    passed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    fn new(to: SocketAddr, mut budget: impl FnMut() -> usize + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (passed, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let proxy = Self { address: listener.local_addr().unwrap(), passed: passed.clone(), stop: stop.clone() };
        std::thread::spawn(move || {
            for dialer in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (dialer, target, budget) = (dialer.unwrap(), TcpStream::connect(to).unwrap(), budget());
                let back = (target.try_clone().unwrap(), dialer.try_clone().unwrap());
                std::thread::spawn(move || copy(dialer, target, usize::MAX, &AtomicU64::new(0)));
                let passed = passed.clone();
                std::thread::spawn(move || copy(back.0, back.1, budget, &passed));
            }
        });
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut budget: usize, passed: &AtomicU64) {
    let mut buffer = [0; 4096];
    while budget > 0 {
        let most = buffer.len().min(budget);
        let Ok(count @ 1..) = from.read(&mut buffer[..most]) else { break };
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        budget -= count;
        passed.fetch_add(count as u64, Ordering::Relaxed);
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_connection_that_breaks_again_and_again_costs_little() {
    let (one, two) = pair();
    one.tcp.serve(serving(None));
    let mut rng = Rng(7);
    let proxy = Proxy::new(one.tcp.local_addr(), move || 200_000 + rng.below(300_000) as usize);
    let receiver = start(transport_support::config(3));
    receiver.tcp.set_peer(NodeId(1), proxy.address.to_string()).unwrap();
    let store = open(3);
    let mut fetch = fetch(&store);
    let mut lost = 0;
    while let Err(error) = pull_from(&receiver.tcp, &mut fetch) {
        assert!(matches!(error, PullError::Lost(_)), "{error}");
        lost += 1;
        // Every other time the receiver starts afresh, from what it has on disk.
        if lost % 2 == 0 {
            drop(fetch);
            fetch = self::fetch(&store);
        }
    }
    assert!(lost >= 5, "{lost}");
    let total = fetch.progress().bytes_total;
    assert!(read(&fetch.install().unwrap()) == state());
    drop(two);
    // Besides the snapshot: headers, and per connection a manifest and what was on its way when it broke.
    let passed = proxy.passed.load(Ordering::Relaxed);
    let manifest = store.newest().unwrap().manifest().encoded().len() as u64;
    let most = total + total / 50 + (lost + 1) * (manifest + (WINDOW + 1) * u64::from(CHUNK));
    assert!(passed <= most, "{passed} bytes for {total}, {lost} times lost");
}

/// While a transfer stands still at its limit, messages go both ways.
#[test]
fn a_limit_delays_no_message() {
    let (one, two) = pair();
    let server = serving(Some(1));
    one.tcp.serve(server.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let receiver = {
        let (stop, store) = (stop.clone(), open(2));
        let mut connection = two.tcp.connect(NodeId(1)).unwrap();
        std::thread::spawn(move || {
            let watch = |_: &Progress| !stop.load(Ordering::Relaxed);
            let mut fetch = fetch(&store);
            let outcome = pull(&mut fetch, &mut *connection, Duration::from_secs(3600), &watch);
            assert!(matches!(outcome, Err(PullError::Stopped)), "{outcome:?}");
            drop(connection);
            // Without the limit the rest comes at once.
            fetch
        })
    };
    let start = Clock::now();
    while server.stats().chunks == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    for number in 0..100 {
        one.send([numbered(1, 2, 1, number)]);
        two.send([numbered(2, 1, 1, number)]);
        one.inbox.wait_for(number as usize + 1);
        two.inbox.wait_for(number as usize + 1);
    }
    assert_eq!(server.stats().chunks, 1, "the second chunk may leave in hours");
    stop.store(true, Ordering::Relaxed);
    let mut fetch = receiver.join().unwrap();
    server.set_rate(None);
    pull_from(&two.tcp, &mut fetch).unwrap();
    assert!(read(&fetch.install().unwrap()) == state());
}

#[test]
fn a_limit_is_kept() {
    let (one, two) = pair();
    one.tcp.serve(serving(Some(8 << 20)));
    let store = open(2);
    let (mut fetch, start) = (fetch(&store), Clock::now());
    pull_from(&two.tcp, &mut fetch).unwrap();
    // All but the last chunk have to wait for those before them. How much longer it takes is the machine's affair.
    let least = (fetch.progress().bytes_total - u64::from(CHUNK)) as f64 / f64::from(8 << 20);
    assert!(start.elapsed().as_secs_f64() >= least, "{:?}, at least {least} s", start.elapsed());
}

#[test]
fn several_receivers_are_served_at_once_and_not_more_than_allowed() {
    let one = start(transport_support::config(1));
    let mut config = ServeConfig::default();
    (config.sessions, config.bytes_per_second) = (2, Some(1));
    let server = SnapshotServer::new(config);
    let store = open(1);
    make(&store, 20, &state()).unwrap();
    server.add(store);
    one.tcp.serve(server.clone());
    let nodes = [2, 3, 4].map(|node| start(transport_support::config(node)));
    nodes.iter().for_each(|node| node.tcp.set_peer(NodeId(1), one.tcp.local_addr().to_string()).unwrap());
    let held = [&nodes[0], &nodes[1]].map(|node| node.tcp.connect(NodeId(1)).unwrap());
    assert!(nodes[2].tcp.connect(NodeId(1)).is_err(), "turned away");
    assert_eq!((server.stats().turned_away, server.stats().sessions), (1, 2));
    drop(held);
    server.set_rate(None);
    let start = Clock::now();
    while server.stats().sessions > 0 {
        assert!(start.elapsed() < PATIENCE);
    }
    std::thread::scope(|scope| {
        for (node, number) in nodes[..2].iter().zip([2, 3]) {
            scope.spawn(move || {
                let store = open(number);
                let mut fetch = fetch(&store);
                pull_from(&node.tcp, &mut fetch).unwrap();
                assert!(read(&fetch.install().unwrap()) == state());
            });
        }
    });
}

#[test]
fn a_shutdown_ends_both_ends_of_a_transfer() {
    for sender_stops in [true, false] {
        let (one, two) = pair();
        let server = serving(Some(1));
        one.tcp.serve(server.clone());
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| pull_from(&two.tcp, &mut fetch(&open(2))));
            let start = Clock::now();
            while server.stats().chunks == 0 {
                assert!(start.elapsed() < PATIENCE);
            }
            if sender_stops {
                one.tcp.shutdown()
            } else {
                two.tcp.shutdown()
            }
            let outcome = receiver.join().unwrap();
            let closed = |error: &std::io::Error| error.kind() != ErrorKind::TimedOut;
            assert!(matches!(&outcome, Err(PullError::Lost(error)) if closed(error)), "{outcome:?}");
        });
        // Joined: what the sender's thread had is let go.
        if sender_stops {
            assert_eq!(server.stats().sessions, 0);
        }
        assert!(if sender_stops { &one } else { &two }.tcp.connect(NodeId(1)).is_err());
    }
}

#[test]
fn who_has_none_or_is_not_who_was_wanted_is_told_apart() {
    let (one, two) = pair();
    let mut fetch = fetch(&open(2));
    assert!(two.tcp.connect(NodeId(1)).is_err(), "it serves none");
    assert_eq!(two.tcp.connect(NodeId(9)).err().unwrap().kind(), ErrorKind::NotFound);
    one.tcp.serve(SnapshotServer::new(ServeConfig::default()));
    let outcome = pull_from(&two.tcp, &mut fetch);
    assert!(matches!(outcome, Err(PullError::Ended(Ended::Gone(Gone::None)))), "{outcome:?}");

    let foreigner = TestNode {
        ..start({
            let mut config = transport_support::config(3);
            config.identity.cluster = ClusterId::new("other").unwrap();
            config
        })
    };
    foreigner.tcp.set_peer(NodeId(1), one.tcp.local_addr().to_string()).unwrap();
    let refused = foreigner.tcp.connect(NodeId(1)).err().unwrap();
    assert!(refused.to_string().contains("wrong cluster"), "{refused}");
    let mut replaced = transport_support::config(2);
    replaced.identity.store = StoreId(77);
    let replaced = start(replaced);
    replaced.tcp.set_peer(NodeId(1), one.tcp.local_addr().to_string()).unwrap();
    let refused = replaced.tcp.connect(NodeId(1)).err().unwrap();
    assert!(refused.to_string().contains("store replaced"), "{refused}");
}

/// A hand-made receiver whose handshake is done.
fn dial_for_snapshots(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&hello(3, 1).encode_for(Purpose::Snapshots)).unwrap();
    let expected = Answer::Accepted { version: 1, store: StoreId(1) }.encode();
    let mut answer = vec![0; expected.len()];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, expected);
    socket
}

/// A frame whose checksums are right.
fn frame(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![FORMAT_VERSION, kind, 0, 0];
    frame.extend(length.to_le_bytes());
    frame.extend(crc32c::crc32c(body).to_le_bytes());
    frame.extend(crc32c::crc32c(&frame).to_le_bytes());
    frame.extend(body);
    frame
}

#[test]
fn a_receiver_that_talks_nonsense_is_cut_off_and_counted() {
    let one = start(transport_support::config(1));
    let server = serving(None);
    one.tcp.serve(server.clone());
    let request = FrameKind::SnapshotRequest as u8;
    let nonsense = [
        b"any bytes that are no frame".to_vec(),
        frame(request, 1 << 20, &[]),
        frame(request, 8, &[1, 0, 1, 0, 99, 0, 0, 0]),
        frame(FrameKind::Messages as u8, 0, &[]),
    ];
    for (nth, bytes) in nonsense.iter().enumerate() {
        let mut socket = dial_for_snapshots(one.tcp.local_addr());
        socket.write_all(bytes).unwrap();
        assert_closed(&mut socket);
        one.wait(|stats| stats.inbound.corrupt == nth as u64 + 1);
    }
    // What a newer version may say is passed over.
    let mut socket = dial_for_snapshots(one.tcp.local_addr());
    socket.write_all(&frame(200, 3, b"new")).unwrap();
    socket.write_all(&frame(request, 8, &[99, 0, 1, 0, 0, 0, 0, 0])).unwrap();
    socket.write_all(&Request::Manifest { group: support::GROUP, id: Some(Digest::of(b"x")) }.encode()).unwrap();
    let mut header = [0; 16];
    socket.read_exact(&mut header).unwrap();
    assert_eq!(header[1], FrameKind::SnapshotResponse as u8);
    assert_eq!(server.stats().gone, 1);
}

/// A receiver of which a hand-made sender has accepted the connection.
fn with_a_handmade_sender(act: impl FnOnce(&mut TcpStream) + Send + 'static, patience: Duration) -> PullError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let two = start(transport_support::config(2));
    let address = listener.local_addr().unwrap().to_string();
    let sender = std::thread::spawn(move || {
        // The transport dials for its messages, too.
        let mut sockets = [accept_as(1, &listener), accept_as(1, &listener)];
        let mut first = [0];
        // The one on which something is said.
        sockets.iter().for_each(|socket| socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap());
        let socket = loop {
            if let Some(socket) = sockets.iter_mut().find(|socket| matches!(socket.peek(&mut first), Ok(1))) {
                break socket;
            }
        };
        act(socket);
        assert_closed(socket);
    });
    two.tcp.set_peer(NodeId(1), address).unwrap();
    let mut connection = two.tcp.connect(NodeId(1)).unwrap();
    let error = pull(&mut fetch(&open(2)), &mut *connection, patience, &go_on).unwrap_err();
    drop(connection);
    sender.join().unwrap();
    error
}

#[test]
fn a_sender_that_is_silent_or_talks_nonsense_is_given_up() {
    let lost = with_a_handmade_sender(|_| (), Duration::from_millis(100));
    assert!(matches!(&lost, PullError::Lost(error) if error.kind() == ErrorKind::TimedOut), "{lost}");
    let response = FrameKind::SnapshotResponse as u8;
    for bytes in [frame(response, 1 << 30, &[]), b"any bytes that are no frame".to_vec(), frame(1, 0, &[])] {
        let lost = with_a_handmade_sender(move |socket| socket.write_all(&bytes).unwrap(), PATIENCE);
        assert!(matches!(&lost, PullError::Lost(error) if error.kind() == ErrorKind::InvalidData), "{lost}");
    }
}

#[test]
fn a_snapshot_comes_inside_the_process() {
    let network = ChannelNetwork::new();
    let one = network.join(NodeId(1), Arc::new(Inbox::default()));
    let two = network.join(NodeId(2), Arc::new(Inbox::default()));
    assert_eq!(two.connect(NodeId(1)).err().unwrap().kind(), ErrorKind::NotFound);
    one.serve(serving(None));
    let store = open(2);
    let mut fetch = fetch(&store);
    // The link is cut in the middle, and mended.
    let cut_off = |progress: &Progress| {
        if progress.bytes_done > 1 << 20 {
            network.cut(NodeId(1), NodeId(2));
        }
        true
    };
    let outcome = pull(&mut fetch, &mut *two.connect(NodeId(1)).unwrap(), PATIENCE, &cut_off);
    assert!(matches!(outcome, Err(PullError::Lost(_))), "{outcome:?}");
    assert!(two.connect(NodeId(1)).is_err());
    network.heal();
    pull_from(&two, &mut fetch).unwrap();
    assert_eq!(fetch.progress().bytes_received, fetch.progress().bytes_total, "nothing twice");
    assert!(read(&fetch.install().unwrap()) == state());
    one.shutdown();
    assert_eq!(two.connect(NodeId(1)).err().unwrap().kind(), ErrorKind::NotFound);
}
