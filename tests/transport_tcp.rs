//! Nodes talk over real sockets on the loopback device: what arrives, in which order, and what happens when a peer
//! restarts, stalls or is not there.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod transport_support;

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant as Clock};

use tenure::message::{Body, Message};
use tenure::transport::{Inbound, Tcp, Transport};
use tenure::types::{GroupId, NodeId};
use transport_support::*;

#[test]
fn two_nodes_exchange_every_kind_of_message() {
    let (one, two) = pair();
    one.send(every_kind(1, 2));
    two.send(every_kind(2, 1));
    assert_eq!(two.inbox.wait_for(KINDS), every_kind(1, 2));
    assert_eq!(one.inbox.wait_for(KINDS), every_kind(2, 1));
    let stats = one.wait(|stats| stats.inbound.messages == KINDS as u64);
    assert_eq!(stats.peers[&NodeId(2)].sent_messages, KINDS as u64);
    assert_eq!(stats.peers[&NodeId(2)].dropped_messages, 0);
    assert_eq!(stats.inbound.unknown + stats.inbound.misdirected + stats.inbound.corrupt, 0);
}

/// A quiet connection takes a batch on the caller's thread: no hand-off to the writer, one frame for all of it.
#[test]
fn a_batch_leaves_from_the_callers_thread() {
    let (one, two) = pair();
    for round in 1..=100 {
        one.send((0..10).map(|number| numbered(1, 2, 1, number)));
        // It has left when `send` returns.
        let stats = one.tcp.stats();
        assert_eq!(stats.peers[&NodeId(2)].sent_messages, round * 10);
        assert_eq!(stats.peers[&NodeId(2)].sent_direct, round);
    }
    two.inbox.wait_for(1000);
}

/// Each of many threads sends numbers; every thread's numbers arrive in order, all of them.
#[test]
fn order_is_kept_under_load_from_many_threads() {
    const THREADS: u64 = 8;
    const BATCHES: u64 = 300;
    let (one, two) = pair();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let one = &one;
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    one.send((0..5).map(|number| numbered(1, 2, thread, batch * 5 + number)));
                }
            });
        }
    });
    let messages = two.inbox.wait_for((THREADS * BATCHES * 5) as usize);
    for thread in 0..THREADS {
        let of_thread = messages.iter().filter(|message| message.group == GroupId(thread));
        let numbers: Vec<u64> = of_thread.map(number_of).collect();
        assert_eq!(numbers, (0..BATCHES * 5).collect::<Vec<_>>());
    }
}

/// Far more than the socket's buffers hold, to a receiver that takes its time: frames leave in parts, from senders and
/// from the writer thread in turns, and every byte arrives where it belongs.
#[test]
fn large_messages_that_leave_in_parts_arrive_whole() {
    const MESSAGES: u64 = 120;
    let mut config = config(1);
    config.limits.queue_bytes = 128 << 20;
    let (one, two) = (start(config), start(self::config(2)));
    one.tcp.set_peer(NodeId(2), two.tcp.local_addr().to_string()).unwrap();
    one.wait_connected(2);
    for index in 1..=MESSAGES {
        one.send([append(1, 2, index, 300_000)]);
    }
    let messages = two.inbox.wait_for(MESSAGES as usize);
    let expected: Vec<Message> = (1..=MESSAGES).map(|index| append(1, 2, index, 300_000)).collect();
    assert!(messages == expected);
    assert_eq!(one.tcp.stats().peers[&NodeId(2)].dropped_messages, 0);
}

/// `l24`: a peer that does not read fills its queue; from then on messages are dropped and counted, and `send` comes
/// back all the same.
#[test]
fn l24_a_full_queue_drops_and_counts_and_never_blocks() {
    let listener = TcpListener::bind(local()).unwrap();
    let mut config = config(1);
    config.limits.queue_bytes = 8 << 20;
    let one = start(config);
    one.tcp.set_peer(NodeId(2), listener.local_addr().unwrap().to_string()).unwrap();
    let mut deaf = accept_as(2, &listener);
    one.wait_connected(2);

    let mut sent = 0;
    while one.tcp.stats().peers[&NodeId(2)].dropped_messages < 10 {
        one.send([append(1, 2, 1, 1 << 20)]);
        sent += 1;
        assert!(sent < 1000, "sockets do not hold a gigabyte");
    }
    let stats = one.tcp.stats().peers[&NodeId(2)].clone();
    assert!(stats.connected && stats.queued_bytes <= 8 << 20 && stats.queued_messages > 0, "{stats:?}");
    assert_eq!(stats.sent_messages + stats.queued_messages as u64 + stats.dropped_messages, sent);

    // It reads again: what was queued arrives, whole.
    let total = one.tcp.stats().peers[&NodeId(2)].clone();
    let frame = frame_of(&[append(1, 2, 1, 1 << 20)]).bytes;
    for _ in 0..total.sent_messages + total.queued_messages as u64 {
        let mut bytes = vec![0; frame.len()];
        deaf.read_exact(&mut bytes).unwrap();
        assert!(bytes == frame);
    }
    one.wait(|stats| stats.peers[&NodeId(2)].queued_messages == 0);
}

/// The count of messages is bounded as well as the bytes.
#[test]
fn l24_the_queue_is_bounded_in_messages_too() {
    let listener = TcpListener::bind(local()).unwrap();
    let mut config = config(1);
    config.limits.queue_messages = 100;
    let one = start(config);
    one.tcp.set_peer(NodeId(2), listener.local_addr().unwrap().to_string()).unwrap();
    let _deaf = accept_as(2, &listener);
    one.wait_connected(2);
    while one.tcp.stats().peers[&NodeId(2)].dropped_messages == 0 {
        one.send((0..60).map(|number| numbered(1, 2, 1, number)));
        assert!(one.tcp.stats().peers[&NodeId(2)].queued_messages <= 100);
    }
}

#[test]
fn a_peer_that_restarts_on_its_port_is_reached_again() {
    let (one, two) = pair();
    let address = two.tcp.local_addr();
    one.send(every_kind(1, 2));
    two.inbox.wait_for(KINDS);
    drop(two);
    let stats = one.wait(|stats| !stats.peers[&NodeId(2)].connected);
    assert!(stats.peers[&NodeId(2)].last_error.is_some());

    // Nobody is there: dropped and counted.
    one.send([numbered(1, 2, 1, 1)]);
    assert!(one.tcp.stats().peers[&NodeId(2)].dropped_messages >= 1);
    one.wait(|stats| stats.peers[&NodeId(2)].failed_dials >= 2);

    let mut config = config(2);
    config.listen = address;
    let two = start(config);
    one.wait_connected(2);
    one.send([numbered(1, 2, 1, 2)]);
    assert_eq!(two.inbox.wait_for(1), vec![numbered(1, 2, 1, 2)]);
    assert_eq!(one.tcp.stats().peers[&NodeId(2)].connects, 2);
}

/// The pause between attempts ends when the peer is seen alive: it dials us, so it can be dialed.
#[test]
fn a_peer_that_dials_is_dialed_at_once() {
    let gone = TcpListener::bind(local()).unwrap().local_addr().unwrap();
    let mut config = config(1);
    (config.limits.backoff_min, config.limits.backoff_max) = (2 * PATIENCE, 2 * PATIENCE);
    config.peers.insert(NodeId(2), gone.to_string());
    let one = start(config);
    one.wait(|stats| stats.peers[&NodeId(2)].failed_dials == 1);

    let mut config = self::config(2);
    config.listen = gone;
    config.peers.insert(NodeId(1), one.tcp.local_addr().to_string());
    let _two = start(config);
    one.wait_connected(2);
}

/// `s03`, `l02`: one peer does not answer, one never finishes its handshake, one cannot be resolved; the healthy one is
/// served as if they were not there.
#[test]
fn s03_l02_a_dead_address_never_delays_another_peer() {
    let silent = TcpListener::bind(local()).unwrap();
    let closed = TcpListener::bind(local()).unwrap().local_addr().unwrap();
    let two = start(config(2));
    let mut config = config(1);
    config.limits.handshake_timeout = 2 * PATIENCE;
    config.peers = [
        (NodeId(2), two.tcp.local_addr().to_string()),
        (NodeId(3), silent.local_addr().unwrap().to_string()),
        (NodeId(4), closed.to_string()),
        (NodeId(5), "no port here".into()),
    ]
    .into();
    let one = start(config);
    one.wait_connected(2);
    for number in 0..1000 {
        one.send((2..=5).map(|peer| numbered(1, peer, 1, number)));
    }
    two.inbox.wait_for(1000);
    let stats = one.wait(|stats| (4..=5).all(|peer| stats.peers[&NodeId(peer)].last_error.is_some()));
    assert_eq!(stats.peers[&NodeId(2)].dropped_messages, 0);
    for dead in 3..=5 {
        assert_eq!(stats.peers[&NodeId(dead)].dropped_messages, 1000, "n{dead}");
    }
    assert!(stats.peers[&NodeId(5)].last_error.as_ref().unwrap().contains("resolve"));
    // And none of them delays the end.
    let start = Clock::now();
    drop(one);
    assert!(start.elapsed() < PATIENCE);
}

/// A peer whose socket stays full for `dead_after` is given up, what waited for it is dropped, and it is dialed anew.
#[test]
fn a_peer_that_stopped_reading_is_given_up() {
    let listener = TcpListener::bind(local()).unwrap();
    let mut config = config(1);
    config.limits.dead_after = Duration::from_secs(1);
    let one = start(config);
    one.tcp.set_peer(NodeId(2), listener.local_addr().unwrap().to_string()).unwrap();
    let _deaf = accept_as(2, &listener);
    one.wait_connected(2);
    while one.tcp.stats().peers[&NodeId(2)].dropped_messages == 0 {
        one.send([append(1, 2, 1, 1 << 20)]);
    }
    let stats = one.wait(|stats| !stats.peers[&NodeId(2)].connected);
    assert_eq!(stats.peers[&NodeId(2)].queued_messages, 0);
    let mut again = accept_as(2, &listener);
    one.wait(|stats| stats.peers[&NodeId(2)].connects == 2);
    // Nothing of the first connection comes along, least of all the rest of a frame.
    one.send([numbered(1, 2, 1, 7)]);
    let frame = frame_of(&[numbered(1, 2, 1, 7)]).bytes;
    let mut bytes = vec![0; frame.len()];
    again.read_exact(&mut bytes).unwrap();
    assert!(bytes == frame);
}

#[test]
fn peers_come_go_and_move() {
    let (one, two, three) = (start(config(1)), start(config(2)), start(config(3)));
    one.send([numbered(1, 2, 1, 1)]);
    assert_eq!(one.tcp.stats().unknown_receiver, 1);

    // First at a wrong address, where n3 answers; then at the right one.
    one.tcp.set_peer(NodeId(2), three.tcp.local_addr().to_string()).unwrap();
    one.wait(|stats| stats.peers[&NodeId(2)].failed_dials > 0);
    one.tcp.set_peer(NodeId(2), two.tcp.local_addr().to_string()).unwrap();
    one.wait_connected(2);
    one.send([numbered(1, 2, 1, 2)]);
    two.inbox.wait_for(1);

    // The same address again does not disturb the connection.
    one.tcp.set_peer(NodeId(2), two.tcp.local_addr().to_string()).unwrap();
    one.tcp.set_peer(NodeId(1), "itself:1").unwrap();
    one.send([numbered(1, 2, 1, 3)]);
    two.inbox.wait_for(2);
    assert_eq!(one.tcp.stats().peers[&NodeId(2)].connects, 1);

    one.tcp.remove_peer(NodeId(2));
    one.tcp.remove_peer(NodeId(9));
    assert!(one.tcp.stats().peers.is_empty());
    two.wait(|stats| stats.inbound.connections == 0);
}

/// A message longer than a frame may be is dropped and counted; its neighbours are sent.
#[test]
fn a_message_that_fits_no_frame_is_dropped_alone() {
    let (one, two) = pair();
    one.send([numbered(1, 2, 1, 1), append(1, 2, 1, 5 << 20), numbered(1, 2, 1, 2)]);
    let numbers: Vec<u64> = two.inbox.wait_for(2).iter().map(number_of).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(one.tcp.stats().peers[&NodeId(2)].too_large, 1);
}

/// `l01`: shutting down twice, sending afterwards and shutting down from inside `receive` are all harmless.
#[test]
fn l01_shutdown_is_harmless_at_any_time() {
    let (one, two) = pair();
    one.tcp.shutdown();
    one.tcp.shutdown();
    one.send([numbered(1, 2, 1, 1)]);
    assert!(one.tcp.set_peer(NodeId(3), "127.0.0.1:1").is_err());
    two.wait(|stats| stats.inbound.connections == 0);
    assert_eq!(two.inbox.len(), 0);

    #[derive(Default)]
    struct Suicidal {
        tcp: OnceLock<Weak<Tcp>>,
        done: Mutex<bool>,
    }
    impl Inbound for Suicidal {
        fn receive(&self, _: Vec<Message>) {
            if let Some(tcp) = self.tcp.get().and_then(Weak::upgrade) {
                tcp.shutdown();
                *self.done.lock().unwrap() = true;
            }
        }
    }
    let inbound = Arc::new(Suicidal::default());
    let tcp = Arc::new(Tcp::start(config(3), Arc::new(Stores::default()), inbound.clone()).unwrap());
    inbound.tcp.set(Arc::downgrade(&tcp)).unwrap();
    two.tcp.set_peer(NodeId(3), tcp.local_addr().to_string()).unwrap();
    two.wait_connected(3);
    two.send([numbered(2, 3, 1, 1)]);
    let start = Clock::now();
    while !*inbound.done.lock().unwrap() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is decoded is what was sent also when many messages share a frame and a read ends anywhere.
#[test]
fn a_burst_of_mixed_sizes_arrives_in_order() {
    let (one, two) = pair();
    let sizes = [0, 1, 100, 5_000, 70_000, 200_000];
    let burst: Vec<Message> = (1..=200u64).map(|index| append(1, 2, index, sizes[index as usize % 6])).collect();
    for part in burst.chunks(17) {
        one.send(part.iter().cloned());
    }
    let messages = two.inbox.wait_for(200);
    assert!(messages == burst);
    assert!(messages.iter().all(|message| matches!(message.body, Body::AppendEntries(_))));
}
