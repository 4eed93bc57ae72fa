//! The in-process network.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod transport_support;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use tenure::message::Message;
use tenure::transport::{ChannelNetwork, ChannelTransport, Inbound, Transport};
use tenure::types::{GroupId, NodeId};
use transport_support::*;

fn send(transport: &ChannelTransport, messages: impl IntoIterator<Item = Message>) {
    let mut batch = messages.into_iter().collect();
    transport.send(&mut batch);
    assert!(batch.is_empty());
}

#[test]
fn nodes_exchange_messages_in_order() {
    let network = ChannelNetwork::new();
    let inboxes = [Arc::new(Inbox::default()), Arc::new(Inbox::default())];
    let one = network.join(NodeId(1), inboxes[0].clone());
    let two = network.join(NodeId(2), inboxes[1].clone());
    send(&two, every_kind(2, 1));
    assert_eq!(inboxes[0].wait_for(KINDS), every_kind(2, 1));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let one = &one;
            scope.spawn(move || (0..500).for_each(|number| send(one, [numbered(1, 2, thread, number)])));
        }
    });
    let messages = inboxes[1].wait_for(2000);
    for thread in 0..4 {
        let of_thread = messages.iter().filter(|message| message.group == GroupId(thread));
        assert_eq!(of_thread.map(number_of).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
    }
}

/// Holds the delivering thread until told to go on.
struct Gate {
    entered: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
    inbox: Inbox,
}

impl Inbound for Gate {
    fn receive(&self, messages: Vec<Message>) {
        let _ = self.entered.send(());
        let _ = self.go_on.lock().unwrap().recv();
        self.inbox.receive(messages);
    }
}

fn gate() -> (Arc<Gate>, Receiver<()>, SyncSender<()>) {
    let (entered, has_entered) = sync_channel(100);
    let (let_go, go_on) = sync_channel(100);
    (Arc::new(Gate { entered, go_on: Mutex::new(go_on), inbox: Inbox::default() }), has_entered, let_go)
}

/// `l24`: two nodes are stuck in `receive` while both send to each other: every queue fills, nobody blocks, what does
/// not fit is dropped and counted, and what fitted is delivered afterwards.
#[test]
fn l24_full_queues_drop_and_count_and_never_deadlock() {
    let network = ChannelNetwork::with_capacity(10);
    let ((gate_one, in_one, go_one), (gate_two, in_two, go_two)) = (gate(), gate());
    let one = network.join(NodeId(1), gate_one.clone());
    let two = network.join(NodeId(2), gate_two.clone());
    send(&one, [numbered(1, 2, 1, 0)]);
    send(&two, [numbered(2, 1, 1, 0)]);
    in_one.recv().unwrap();
    in_two.recv().unwrap();

    for number in 1..=25 {
        send(&one, [numbered(1, 2, 1, number)]);
        send(&two, [numbered(2, 1, 1, number)]);
    }
    for (me, other) in [(&one, NodeId(2)), (&two, NodeId(1))] {
        let stats = me.stats();
        assert_eq!((stats.peers[&other].sent_messages, stats.peers[&other].dropped_messages), (11, 15));
        assert_eq!(stats.inbound.dropped_messages, 15);
    }
    for (gate, go_on) in [(gate_one, go_one), (gate_two, go_two)] {
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        let numbers: Vec<u64> = gate.inbox.wait_for(11).iter().map(number_of).collect();
        assert_eq!(numbers, (0..=10).collect::<Vec<_>>());
    }
}

#[test]
fn cut_links_drop_one_way_and_heal() {
    let network = ChannelNetwork::new();
    let inboxes = [Arc::new(Inbox::default()), Arc::new(Inbox::default())];
    let one = network.join(NodeId(1), inboxes[0].clone());
    let two = network.join(NodeId(2), inboxes[1].clone());
    network.cut(NodeId(1), NodeId(2));
    send(&one, [numbered(1, 2, 1, 1)]);
    send(&two, [numbered(2, 1, 1, 1)]);
    inboxes[0].wait_for(1);
    network.isolate(NodeId(1));
    send(&two, [numbered(2, 1, 1, 2)]);
    assert_eq!(two.stats().peers[&NodeId(1)].dropped_messages, 1);
    network.heal();
    send(&one, [numbered(1, 2, 1, 3)]);
    assert_eq!(inboxes[1].wait_for(1), vec![numbered(1, 2, 1, 3)]);
    assert_eq!(one.stats().peers[&NodeId(2)].dropped_messages, 1);
}

/// A node that joins again takes the place of the one before, also if the one before shuts down afterwards.
#[test]
fn a_node_that_joins_again_takes_over() {
    let network = ChannelNetwork::new();
    let inboxes: Vec<_> = (0..3).map(|_| Arc::new(Inbox::default())).collect();
    let one = network.join(NodeId(1), inboxes[0].clone());
    let before = network.join(NodeId(2), inboxes[1].clone());
    let _after = network.join(NodeId(2), inboxes[2].clone());
    drop(before);
    send(&one, [numbered(1, 2, 1, 1), numbered(1, 3, 1, 1)]);
    inboxes[2].wait_for(1);
    assert_eq!(inboxes[1].len(), 0);
    assert_eq!(one.stats().unknown_receiver, 1);
}

/// A node that has shut down neither hears nor speaks.
#[test]
fn a_node_that_has_shut_down_is_silent() {
    let network = ChannelNetwork::new();
    let inboxes = [Arc::new(Inbox::default()), Arc::new(Inbox::default())];
    let one = network.join(NodeId(1), inboxes[0].clone());
    let two = network.join(NodeId(2), inboxes[1].clone());
    one.shutdown();
    send(&one, [numbered(1, 2, 1, 1)]);
    send(&two, [numbered(2, 1, 1, 1)]);
    drop(two);
    assert_eq!((inboxes[0].len(), inboxes[1].len()), (0, 0));
}
