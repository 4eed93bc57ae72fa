//! `l01`: no thread outlives its transport. A program of its own, for it counts the threads of the process.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod transport_support;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure::transport::{ChannelNetwork, Transport};
use tenure::types::NodeId;
use transport_support::*;

/// Names of the transport's threads that live now.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with("tenure-"))
        .collect()
}

/// Waits until there are so many: a thread names itself a moment after it starts, and the kernel takes it off its list
/// a moment after it was joined.
fn wait_for_threads(count: usize) {
    let start = Instant::now();
    while threads().len() != count {
        assert!(start.elapsed() < PATIENCE, "not {count}: {:?}", threads());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn l01_every_thread_is_gone_after_shutdown() {
    wait_for_threads(0);
    {
        let (one, two) = pair();
        let silent = TcpListener::bind(local()).unwrap();
        // In every state there is: connected both ways, in a handshake as dialer and as acceptor, resting.
        one.tcp.set_peer(NodeId(3), silent.local_addr().unwrap().to_string()).unwrap();
        one.tcp.set_peer(NodeId(4), "127.0.0.1:1".to_string()).unwrap();
        let _half_open = TcpStream::connect(one.tcp.local_addr()).unwrap();
        let _peer = dial_as(5, 1, one.tcp.local_addr());
        one.wait(|stats| stats.inbound.handshakes == 1 && stats.inbound.connections == 2);
        // Acceptor, three writers, three readers; acceptor, writer, reader.
        wait_for_threads(10);

        let start = Instant::now();
        one.tcp.shutdown();
        assert!(start.elapsed() < PATIENCE);
        let one_is_gone = two.wait(|stats| stats.inbound.connections == 0);
        assert_eq!(one_is_gone.inbound.corrupt, 0);
        one.tcp.shutdown();
    }
    wait_for_threads(0);

    let network = ChannelNetwork::new();
    let inbox = Arc::new(Inbox::default());
    let nodes: Vec<_> = (1..=3).map(|node| network.join(NodeId(node), inbox.clone())).collect();
    wait_for_threads(3);
    nodes[0].send(&mut vec![numbered(1, 2, 1, 1)]);
    inbox.wait_for(1);
    nodes[0].shutdown();
    nodes[0].shutdown();
    drop(nodes);
    wait_for_threads(0);
}
