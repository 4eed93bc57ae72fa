//! Whom the peer port does not let in, and what it does not take from those it let in.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod transport_support;

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use slog::Drain as _;
use tenure::transport::{Transport, TransportError};
use tenure::types::{ClusterId, NodeId, StoreId};
use tenure::wire::frame::HEADER_BYTES;
use tenure::wire::handshake::{Answer, MAGIC, Refused};
use transport_support::*;

/// Collects what is logged at warn and above.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl slog::Drain for Warnings {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level().is_at_least(slog::Level::Warning) {
            self.0.lock().unwrap().push(record.msg().to_string());
        }
        Ok(())
    }
}

impl Warnings {
    fn logger(&self) -> slog::Logger {
        slog::Logger::root(self.clone(), slog::o!())
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Looks at the transport's statistics with every line, and passes the line on.
struct Looking(Arc<OnceLock<Arc<TestNode>>>, mpsc::Sender<String>);

impl slog::Drain for Looking {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if let Some(node) = self.0.get() {
            node.tcp.stats();
        }
        let _ = self.1.send(record.msg().to_string());
        Ok(())
    }
}

/// A logger is the caller's code: no lock is held while it runs.
#[test]
fn a_logger_may_look_at_the_transport() {
    let (node, (lines, logged)) = (Arc::new(OnceLock::new()), mpsc::channel());
    let mut ours = config(1);
    ours.logger = slog::Logger::root(Mutex::new(Looking(node.clone(), lines)).ignore_res(), slog::o!());
    let one = Arc::new(start(ours));
    assert!(node.set(one.clone()).is_ok());
    let see = |wanted: &str| while logged.recv_timeout(PATIENCE).expect(wanted) != wanted {};
    one.tcp.set_peer(NodeId(2), "127.0.0.1:1").unwrap();
    see("cannot reach a peer, will keep trying");
    let two = start(config(2));
    one.tcp.set_peer(NodeId(2), two.tcp.local_addr().to_string()).unwrap();
    see("connected");
    two.tcp.set_peer(NodeId(1), one.tcp.local_addr().to_string()).unwrap();
    see("accepted");
    drop(two);
    see("connection lost");
    one.tcp.shutdown();
}

/// A node that dials, and the one it dials; the dialer's last error.
fn dial_refused(dialer: tenure::transport::TcpConfig, acceptor: &TestNode, node: u64) -> (TestNode, String) {
    let one = start(dialer);
    one.tcp.set_peer(NodeId(node), acceptor.tcp.local_addr().to_string()).unwrap();
    // Several attempts, so that the logs have a chance to repeat themselves.
    let stats = one.wait(|stats| stats.peers[&NodeId(node)].failed_dials >= 3);
    assert!(!stats.peers[&NodeId(node)].connected);
    let error = stats.peers[&NodeId(node)].last_error.clone().unwrap();
    (one, error)
}

#[test]
fn a_node_of_another_cluster_is_refused_and_both_sides_say_so_once() {
    let (ours, theirs) = (Warnings::default(), Warnings::default());
    let mut config = config(2);
    config.logger = theirs.logger();
    let two = start(config);
    let mut config = self::config(1);
    config.identity.cluster = ClusterId::new("other").unwrap();
    config.logger = ours.logger();
    let (_one, error) = dial_refused(config, &two, 2);
    assert!(error.contains("wrong cluster") && error.contains("test"), "{error}");
    let stats = two.wait(|stats| stats.inbound.refused >= 3);
    let error = stats.inbound.last_error.unwrap();
    assert!(error.contains("n1") && error.contains("other"), "{error}");
    assert_eq!((ours.count(), theirs.count()), (1, 1));
    assert!(two.stores.0.lock().unwrap().is_empty(), "a stranger's store is not remembered");
}

#[test]
fn a_node_that_wanted_another_is_refused() {
    let two = start(config(2));
    let (_one, error) = dial_refused(config(1), &two, 7);
    assert!(error.contains("n2 answers at this address"), "{error}");
}

#[test]
fn a_node_with_our_own_id_is_refused() {
    let two = start(config(2));
    let mut socket = TcpStream::connect(two.tcp.local_addr()).unwrap();
    assert_eq!(greet(&mut socket, &hello(2, 2)), Some(Answer::Refused(Refused::SameNode)));
    assert_closed(&mut socket);
}

/// A dialer whose directory was replaced is refused by the acceptor.
#[test]
fn a_dialer_with_a_replaced_store_is_refused() {
    let two = start(config(2));
    two.stores.0.lock().unwrap().insert(NodeId(1), StoreId(0xabc));
    let (_one, error) = dial_refused(config(1), &two, 2);
    assert!(error.contains("store replaced") && error.contains("abc"), "{error}");
}

/// An acceptor whose directory was replaced is refused by the dialer: nothing is sent to it.
#[test]
fn an_acceptor_with_a_replaced_store_is_refused() {
    let two = start(config(2));
    let one = start(config(1));
    one.stores.0.lock().unwrap().insert(NodeId(2), StoreId(0xabc));
    one.tcp.set_peer(NodeId(2), two.tcp.local_addr().to_string()).unwrap();
    let stats = one.wait(|stats| stats.peers[&NodeId(2)].failed_dials >= 1);
    assert!(!stats.peers[&NodeId(2)].connected);
    let error = stats.peers[&NodeId(2)].last_error.clone().unwrap();
    assert!(error.contains("n2 comes with store") && error.contains("abc"), "{error}");
}

#[test]
fn a_version_without_overlap_is_refused_on_either_side() {
    let two = start(config(2));
    let mut socket = TcpStream::connect(two.tcp.local_addr()).unwrap();
    let newer = tenure::wire::handshake::Hello { versions: (2, 5), ..hello(1, 2) };
    assert_eq!(greet(&mut socket, &newer), Some(Answer::Refused(Refused::Version(1, 1))));
    assert_closed(&mut socket);

    let listener = TcpListener::bind(local()).unwrap();
    two.tcp.set_peer(NodeId(3), listener.local_addr().unwrap().to_string()).unwrap();
    let _socket = accept_with(&Answer::Accepted { version: 2, store: StoreId(3) }, &listener);
    let stats = two.wait(|stats| stats.peers[&NodeId(3)].failed_dials >= 1);
    assert!(stats.peers[&NodeId(3)].last_error.as_ref().unwrap().contains("version 2"));
}

#[test]
fn garbage_is_refused_at_its_first_bytes() {
    let two = start(config(2));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"X", &[0; 100], &[0xff; 1000]] {
        let mut socket = TcpStream::connect(two.tcp.local_addr()).unwrap();
        socket.write_all(garbage).unwrap();
        assert_closed(&mut socket);
    }
    two.wait(|stats| stats.inbound.refused == 4 && stats.inbound.handshakes == 0);
}

/// The header promises a body of 1 MiB: refused while none of it is there.
#[test]
fn an_oversized_handshake_is_refused_by_its_header() {
    let two = start(config(2));
    let mut socket = TcpStream::connect(two.tcp.local_addr()).unwrap();
    let large = frame_of(&[append(1, 2, 1, 1 << 20)]);
    socket.write_all(&[&MAGIC[..], &large.bytes[..HEADER_BYTES]].concat()).unwrap();
    assert_closed(&mut socket);
    let stats = two.wait(|stats| stats.inbound.refused == 1);
    assert!(stats.inbound.last_error.unwrap().contains("limit is 512"));
}

/// Whoever says nothing, or says it byte by byte, is shown the door after `handshake_timeout`.
#[test]
fn a_slow_handshake_is_cut_off() {
    let mut config = config(2);
    config.limits.handshake_timeout = Duration::from_millis(200);
    let two = start(config);
    let mut silent = TcpStream::connect(two.tcp.local_addr()).unwrap();
    let mut dribbling = TcpStream::connect(two.tcp.local_addr()).unwrap();
    let bytes = hello(1, 2).encode();
    // Slower than the deadline in all, though no pause is as long as it.
    for byte in &bytes[..bytes.len() - 1] {
        if dribbling.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_closed(&mut dribbling);
    assert_closed(&mut silent);
    let stats = two.wait(|stats| stats.inbound.refused == 2);
    assert!(stats.inbound.last_error.unwrap().contains("too long"));
}

#[test]
fn connections_over_the_limits_are_turned_away() {
    let mut config = config(2);
    config.limits.connections = 3;
    config.limits.handshakes = 2;
    config.limits.handshake_timeout = 2 * PATIENCE;
    let two = start(config);
    let address = two.tcp.local_addr();
    // Two in their handshake are all that may be.
    let half_open = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    two.wait(|stats| stats.inbound.handshakes == 2);
    assert_closed(&mut TcpStream::connect(address).unwrap());
    assert_eq!(two.tcp.stats().inbound.turned_away, 1);
    drop(half_open);
    two.wait(|stats| stats.inbound.handshakes == 0);

    let peers = [dial_as(1, 2, address), dial_as(3, 2, address), dial_as(4, 2, address)];
    two.wait(|stats| stats.inbound.connections == 3);
    assert_closed(&mut TcpStream::connect(address).unwrap());
    assert_eq!(two.tcp.stats().inbound.turned_away, 2);
    drop(peers);
    two.wait(|stats| stats.inbound.connections == 0);
    dial_as(1, 2, address);
}

#[test]
fn a_damaged_frame_ends_its_connection_and_no_other() {
    let two = start(config(2));
    let mut healthy = dial_as(3, 2, two.tcp.local_addr());
    let mut socket = dial_as(1, 2, two.tcp.local_addr());
    let good = frame_of(&[numbered(1, 2, 1, 1)]).bytes.to_vec();
    let mut bad = frame_of(&[append(1, 2, 1, 100)]).bytes.to_vec();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    socket.write_all(&[good, bad].concat()).unwrap();
    assert_closed(&mut socket);
    // What came whole before it is handed over.
    assert_eq!(two.inbox.wait_for(1), vec![numbered(1, 2, 1, 1)]);
    let stats = two.wait(|stats| stats.inbound.corrupt == 1);
    assert!(stats.inbound.last_error.unwrap().contains("frame body damaged"));
    healthy.write_all(&frame_of(&[numbered(3, 2, 1, 1)]).bytes).unwrap();
    two.inbox.wait_for(2);
}

#[test]
fn an_oversized_frame_is_refused_by_its_header() {
    let mut config = config(2);
    config.limits.frame_bytes = 10_000;
    let two = start(config);
    let mut socket = dial_as(1, 2, two.tcp.local_addr());
    let large = frame_of(&[append(1, 2, 1, 10_000)]);
    socket.write_all(&large.bytes[..HEADER_BYTES]).unwrap();
    assert_closed(&mut socket);
    let stats = two.wait(|stats| stats.inbound.corrupt == 1);
    assert!(stats.inbound.last_error.unwrap().contains("limit is 10000"));
}

/// A message that claims to be from somebody else, or is for somebody else, is dropped and counted.
#[test]
fn misdirected_messages_are_dropped_and_counted() {
    let two = start(config(2));
    let mut socket = dial_as(1, 2, two.tcp.local_addr());
    let messages = [numbered(9, 2, 1, 1), numbered(1, 2, 1, 2), numbered(1, 9, 1, 3)];
    socket.write_all(&frame_of(&messages).bytes).unwrap();
    assert_eq!(two.inbox.wait_for(1), vec![numbered(1, 2, 1, 2)]);
    assert_eq!(two.tcp.stats().inbound.misdirected, 2);
}

/// A frame of a kind that this version does not know is skipped; a handshake in the middle of a stream is not one.
#[test]
fn unknown_frames_are_skipped_and_misplaced_ones_are_not() {
    let two = start(config(2));
    let mut socket = dial_as(1, 2, two.tcp.local_addr());
    let with_kind = |kind: u8| {
        let mut bytes = frame_of(&[numbered(1, 2, 1, 1)]).bytes.to_vec();
        bytes[1] = kind;
        let own = crc32c::crc32c(&bytes[..12]);
        bytes[12..16].copy_from_slice(&own.to_le_bytes());
        bytes
    };
    socket.write_all(&[with_kind(200), with_kind(3)].concat()).unwrap();
    two.inbox.wait_for(1);
    assert_eq!(two.tcp.stats().inbound.unknown, 1);
    socket.write_all(&with_kind(1)).unwrap();
    assert_closed(&mut socket);
    two.wait(|stats| stats.inbound.corrupt == 1);
}

/// A peer that restarted leaves a ghost behind; its new connection replaces the ghost.
#[test]
fn a_newer_connection_of_the_same_peer_replaces_the_older() {
    let two = start(config(2));
    let mut older = dial_as(1, 2, two.tcp.local_addr());
    two.wait(|stats| stats.inbound.accepted == 1);
    let mut newer = dial_as(1, 2, two.tcp.local_addr());
    assert_closed(&mut older);
    newer.write_all(&frame_of(&[numbered(1, 2, 1, 5)]).bytes).unwrap();
    two.inbox.wait_for(1);
    two.wait(|stats| stats.inbound.connections == 1 && stats.inbound.superseded == 1);
}

/// Whoever accepts has nothing to say after its answer.
#[test]
fn an_acceptor_that_talks_back_is_disconnected() {
    let listener = TcpListener::bind(local()).unwrap();
    let one = start(config(1));
    one.tcp.set_peer(NodeId(2), listener.local_addr().unwrap().to_string()).unwrap();
    let mut chatty = accept_as(2, &listener);
    one.wait_connected(2);
    chatty.write_all(b"hello").unwrap();
    assert_closed(&mut chatty);
    let stats = one.wait(|stats| stats.peers[&NodeId(2)].last_error.is_some());
    assert!(stats.peers[&NodeId(2)].last_error.as_ref().unwrap().contains("only this node may use"));
}

#[test]
fn an_address_in_use_is_a_clear_error() {
    let one = start(config(1));
    let mut config = config(2);
    config.listen = one.tcp.local_addr();
    let result = tenure::transport::Tcp::start(config, one.stores.clone(), one.inbox.clone());
    assert!(matches!(result, Err(TransportError::Listen { .. })));
}
