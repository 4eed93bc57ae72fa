//! Reads without the shard, transfers and the clock's guard, over the threads of a node and a log in memory.

use super::tests::{Counting, GROUP, LONG, WaitLong, alone_with, leader, settings, start, three};
use super::*;
use crate::core::Fatal;
use crate::runtime::clock::testing::Sleeper;
use crate::runtime::{Consistency, ReadError, ReadTicket, TransferError};
use crate::sync::channel;
use crate::transport::ChannelNetwork;
use std::panic::AssertUnwindSafe;
use std::thread;

/// A node whose groups allow reads under a lease of about `millis`.
fn leased(id: u64, millis: u64) -> Settings {
    let mut settings = settings(id);
    settings.timing = Timing::from_election_timeout(Duration::from_millis(millis));
    settings.options.every.lease_reads = true;
    settings
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Stopwatch::now();
    while !done() {
        assert!(begun.elapsed() < LONG, "waited too long for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// `p07`: with a lease a read is answered on the caller's thread, before the call returns, and the shard is not entered.
/// What was acknowledged before is applied: nothing is waited for.
#[test]
fn p07_a_read_under_a_lease_does_not_enter_the_shard() {
    let alone = alone_with(leased(1, 300));
    let written = alone.group.propose("x").wait_long().unwrap().id.index;
    let before = alone.engine.metrics();
    for _ in 0..1000 {
        assert_eq!(alone.group.read(Consistency::Lease).wait_timeout(Duration::ZERO).ok(), Some(Ok(written)));
        assert!(alone.group.try_read(Consistency::Lease).is_none_or(|index| index >= written));
    }
    let (told, heard) = channel::unbounded();
    alone.group.read_with(Consistency::Lease, move |answer| told.send((answer, thread::current().id())).unwrap());
    assert_eq!(heard.recv_timeout(LONG).unwrap(), (Ok(written), thread::current().id()));

    let after = alone.engine.metrics();
    // A lone leader renews its lease when it is asked; on a machine that stood still it had run out.
    let asked = after.shard.reads - before.shard.reads;
    assert!(asked <= 10, "{asked} reads entered the shard");
    assert!(after.reads.lease >= 2001 - 2 * asked - 1, "{:?}", after.reads);
    assert!(after.entering.rounds - before.entering.rounds <= 2 * asked + 2);
    assert_eq!(after.log.syncs, before.log.syncs);
    alone.end();
}

/// `p07`: a group that was not opened with lease reads has no lease to be used: such reads are confirmed, and right.
#[test]
fn p07_without_the_option_a_lease_read_is_confirmed() {
    let alone = alone_with(settings(1));
    let written = alone.group.propose("x").wait_long().unwrap().id.index;
    assert_eq!(alone.group.try_read(Consistency::Lease), None);
    assert_eq!(alone.group.read(Consistency::Lease).wait_long(), Ok(written));
    let metrics = alone.engine.metrics();
    assert_eq!((metrics.reads.lease, metrics.shard.reads), (0, 1));
    alone.end();
}

/// `p07`: a state machine that is behind is waited for, in its own queue, which is bounded; the shard is not asked.
#[test]
fn p07_a_read_under_a_lease_waits_for_the_state_machine() {
    let mut settings = leased(1, 2000);
    settings.limits.waiting_reads = 3;
    let alone = alone_with(settings);
    let blocked = alone.group.propose("block");
    wait_until("the commit", || {
        let core = alone.group.status().unwrap().core;
        core.commit == core.last.index
    });
    let before = alone.engine.metrics();
    assert_eq!(alone.group.try_read(Consistency::Lease), None, "it would have to wait");
    let mut reads: Vec<_> = (0..2).map(|_| alone.group.read(Consistency::Lease)).collect();
    let (told, heard) = channel::unbounded();
    alone.group.read_with(Consistency::Lease, move |answer| told.send(answer).unwrap());
    assert_eq!(alone.group.read(Consistency::Lease).wait_long(), Err(ReadError::Overloaded));
    let Err(waiting) = reads.remove(0).wait_timeout(Duration::from_millis(20)) else { panic!("not applied yet") };
    reads.push(waiting);
    alone.gate.send(()).unwrap();
    let written = blocked.wait_long().unwrap().id.index;
    for read in reads {
        assert_eq!(read.wait_long(), Ok(written));
    }
    assert_eq!(heard.recv_timeout(LONG), Ok(Ok(written)));
    let after = alone.engine.metrics();
    assert_eq!((after.reads.lease_waited, after.shard.reads - before.shard.reads), (4, 0));
    assert_eq!(after.apply.reads_refused, 1);
    alone.end();
}

/// A callback that is answered on its caller's thread may read and propose again, as deep as it likes.
#[test]
fn callbacks_that_read_again_never_recurse() {
    fn again(group: &Group<u64>, consistency: Consistency, left: u32, done: channel::Sender<bool>) {
        let next = group.clone();
        group.read_with(consistency, move |answer| {
            assert!(answer.is_ok(), "{answer:?}");
            if left > 0 {
                return again(&next, consistency, left - 1, done);
            }
            // What is brought in from a callback is not left behind.
            next.propose_with("x", move |outcome| done.send(outcome.is_ok()).unwrap());
        });
    }
    let alone = alone_with(leased(1, 300));
    for consistency in [Consistency::Lease, Consistency::Local, Consistency::Linearizable] {
        let (done, wait) = channel::bounded(1);
        again(&alone.group, consistency, 50_000, done);
        assert_eq!(wait.recv_timeout(LONG), Ok(true));
    }
    alone.end();
}

/// A local read is answered at once with what is applied here, and refused once nothing is applied any more.
#[test]
fn a_local_read_tells_what_is_applied_here() {
    let network = ChannelNetwork::new();
    let (engine, _) = start(settings(1), &network);
    let (_gate, gate) = channel::unbounded();
    let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
    let follower = engine.found_group(GROUP, voters, Counting { applied: 0, gate }).unwrap();
    wait_until("what founded the group", || follower.read(Consistency::Local).wait_long() == Ok(Index(1)));
    assert_eq!(engine.metrics().shard.reads, 0, "nobody leads, and nobody was asked");
    engine.shutdown(LONG).unwrap();
    assert_eq!(follower.read(Consistency::Local).wait_long(), Err(ReadError::ShutDown));

    let alone = alone_with(leased(1, 300));
    alone.group.propose("fail").wait_long().unwrap_err();
    for consistency in [Consistency::Local, Consistency::Lease, Consistency::Linearizable] {
        let refused = alone.group.read(consistency).wait_long();
        assert_eq!(refused, Err(ReadError::Stopped(Fatal::StateMachineFailed)), "{consistency:?}");
    }
    alone.end();
}

/// `p08`: a group that was closed leaves no lease behind, however long it would have lasted.
#[test]
fn p08_a_node_that_is_shut_down_answers_no_lease_read() {
    let alone = alone_with(leased(1, 2000));
    alone.group.propose("x").wait_long().unwrap();
    assert!(alone.group.try_read(Consistency::Lease).is_some());
    alone.engine.shutdown(LONG).unwrap();
    assert_eq!(alone.group.try_read(Consistency::Lease), None);
    assert_eq!(alone.group.read(Consistency::Lease).wait_long(), Err(ReadError::ShutDown));
    alone.end();
}

/// `p16`: a leader whose machine slept gives its lease up before it looks at what waited, although by its time the lease
/// would still last; once a quorum has answered again it has another.
#[test]
fn p16_a_leader_that_slept_earns_its_lease_anew() {
    let network = ChannelNetwork::new();
    let sleeper = Sleeper::default();
    let clock = Clock::of(sleeper.clone());
    let nodes = three(&network, |id| Settings { clock: clock.clone(), ..leased(id, 1500) });
    let leads = leader(&nodes);
    let (engine, group) = &nodes[leads];
    wait_until("a lease", || group.try_read(Consistency::Lease).is_some());
    let counted = || group.status().unwrap().core.counters.lease_reads;

    network.isolate(NodeId(leads as u64 + 1));
    let ask = || {
        let (ticket, reply) = ReadTicket::new();
        engine.entrance.complete([ShardInput::Read { group: GROUP, consistency: Consistency::Lease, reply }]);
        ticket
    };
    assert!(ask().wait_timeout(LONG).is_ok_and(|read| read.is_ok()), "by the lease that still lasts");
    assert_eq!(counted(), 1);
    sleeper.suspend(Duration::from_millis(500));
    let waiting = ask();
    assert_eq!((counted(), group.try_read(Consistency::Lease)), (1, None));
    network.heal();
    assert!(waiting.wait_long().is_ok(), "confirmed by a quorum");
    wait_until("another lease", || group.try_read(Consistency::Lease).is_some());
    for (engine, _) in nodes {
        engine.shutdown(LONG).unwrap();
    }
}

/// `p09`: leadership goes where it is asked to go, the ticket says where, and proposals go on there.
#[test]
fn p09_leadership_goes_to_the_target() {
    let network = ChannelNetwork::new();
    let nodes = three(&network, |id| leased(id, 300));
    let old = leader(&nodes);
    let target = NodeId((old as u64 + 1) % 3 + 1);
    let refused = nodes[target.0 as usize - 1].1.transfer(None).wait_long();
    assert!(matches!(refused, Err(TransferError::NotLeader { .. })), "{refused:?}");
    assert_eq!(nodes[old].1.transfer(Some(NodeId(9))).wait_long(), Err(TransferError::NotAVoter(NodeId(9))));
    assert_eq!(nodes[old].1.transfer(Some(NodeId(old as u64 + 1))).wait_long(), Ok(NodeId(old as u64 + 1)));

    assert_eq!(nodes[old].1.transfer(Some(target)).wait_long(), Ok(target));
    assert_eq!(nodes[old].1.try_read(Consistency::Lease), None, "`p08`");
    wait_until("the target to lead", || {
        nodes[old].1.status().unwrap().core.leader == Some(target)
            && nodes[target.0 as usize - 1].1.propose("x").wait_long().is_ok()
    });
    let (told, heard) = channel::unbounded();
    nodes[target.0 as usize - 1].1.transfer_with(None, move |answer| told.send(answer).unwrap());
    let next = heard.recv_timeout(LONG).unwrap().unwrap();
    assert_ne!(next, target);
    for (engine, _) in &nodes {
        engine.shutdown(LONG).unwrap();
    }
    assert_eq!(nodes[old].1.transfer(None).wait_long(), Err(TransferError::ShutDown));
}

/// `p09`, `l24`: a transfer is refused by a full inbox like any other input of a client, and a lone voter has nobody.
#[test]
fn p09_l24_a_transfer_may_be_refused_at_the_door() {
    let mut settings = settings(1);
    settings.inbox.clients = 10;
    let alone = alone_with(settings);
    let transfers = alone.engine.entrance.look(|_| (0..100).map(|_| alone.group.transfer(None)).collect::<Vec<_>>());
    let answers: Vec<_> = transfers.into_iter().map(|ticket| ticket.wait_long()).collect();
    let count = |error| answers.iter().filter(|answer| **answer == Err(error)).count();
    assert_eq!((count(TransferError::NoOtherVoter), count(TransferError::Overloaded)), (10, 90));
    alone.end();
}

/// `p09`: a node that leaves hands over all that it leads, at once, and is gone soon after; who had proposed is told.
#[test]
fn p09_a_node_that_leaves_hands_over_everything() {
    let network = ChannelNetwork::new();
    let nodes = three(&network, |id| leased(id, 2000));
    let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
    let machine = || Counting { applied: 0, gate: channel::unbounded().1 };
    let old = leader(&nodes);
    let id = NodeId(old as u64 + 1);
    let others: Vec<_> = (2..=5).map(GroupId).collect();
    let mut handles = Vec::new();
    for group in &others {
        for (engine, _) in &nodes {
            handles.push(engine.found_group(*group, voters.clone(), machine()).unwrap());
        }
    }
    // Everything is led by the node that will leave.
    let of = |node: usize| handles.iter().skip(node).step_by(3);
    wait_until("it to lead everything", || {
        for handle in &handles {
            let _ = handle.transfer(Some(id)).wait_long();
        }
        of(old).all(|handle| handle.status().unwrap().core.role == crate::core::RoleKind::Leader)
    });
    let tickets: Vec<_> = (0..200).map(|_| nodes[old].1.propose("x")).collect();

    nodes[old].0.leave(LONG).unwrap();
    assert!(tickets.into_iter().all(|ticket| ticket.wait_long().is_ok()), "accepted, and so committed and applied");
    let next = (old + 1) % 3;
    for handle in of(next).chain([&nodes[next].1]) {
        // The successor led before the old leader was gone; this may not be it, and may not have heard.
        wait_until("the news", || handle.status().unwrap().core.leader.is_some_and(|leader| leader != id));
    }
    nodes[old].0.leave(Duration::ZERO).unwrap();
    for (engine, _) in &nodes {
        engine.shutdown(LONG).unwrap();
    }
}

/// `p09`: who has less time than an election timeout, and nobody to hand over to, still has time for its threads.
#[test]
fn p09_leaving_in_a_hurry_leaves_time_for_the_threads() {
    let network = ChannelNetwork::new();
    let nodes = three(&network, |id| leased(id, 2000));
    let leads = leader(&nodes);
    network.isolate(NodeId(leads as u64 + 1));
    nodes[leads].0.leave(Duration::from_millis(1500)).unwrap();
    for (engine, _) in nodes {
        engine.shutdown(LONG).unwrap();
    }
}

/// `p09`: leaving is bounded: without anybody to hand over to, or with a state machine that blocks, it takes an election
/// timeout or what it was given, whichever is less.
#[test]
fn p09_leaving_is_bounded() {
    let network = ChannelNetwork::new();
    let nodes = three(&network, |id| leased(id, 400));
    let leads = leader(&nodes);
    network.isolate(NodeId(leads as u64 + 1));
    let begun = Stopwatch::now();
    nodes[leads].0.leave(Duration::from_secs(5)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4));
    for (engine, _) in nodes {
        engine.shutdown(LONG).unwrap();
    }

    let alone = alone_with(leased(1, 300));
    let blocked = alone.group.propose("block");
    wait_until("the commit", || {
        let core = alone.group.status().unwrap().core;
        core.commit == core.last.index
    });
    let begun = Stopwatch::now();
    if let Err(stuck) = alone.engine.leave(Duration::from_millis(100)) {
        // On a busy machine others may not have ended in this time either.
        assert!(stuck.threads.iter().any(|thread| thread == "tenure-apply-g1"), "{stuck}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(blocked);
    alone.end();
}

/// Keeps what is logged at info and above: level and message.
#[derive(Clone, Default)]
struct Said(Arc<AssertUnwindSafe<Mutex<Lines>>>);

type Lines = Vec<(slog::Level, String)>;

impl slog::Drain for Said {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level().is_at_least(slog::Level::Info) {
            self.0.lock().push((record.level(), record.msg().to_string()));
        }
        Ok(())
    }
}

/// The log says after every lost round why nobody leads, and warns once when that has lasted for long.
#[test]
fn a_node_without_a_leader_warns_once() {
    let said = Said::default();
    let logger = Logger::root(said.clone(), slog::o!());
    let (engine, _) = start(Settings { logger, ..settings(1) }, &ChannelNetwork::new());
    let (_gate, gate) = channel::unbounded();
    let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
    let group = engine.found_group(GROUP, voters, Counting { applied: 0, gate }).unwrap();
    let count = |level, what: &str| said.0.lock().iter().filter(|line| **line == (level, what.to_owned())).count();
    wait_until("the warning", || count(slog::Level::Warning, "no leader for long") > 0);
    let rounds = count(slog::Level::Info, "lost a round");
    wait_until("more rounds", || count(slog::Level::Info, "lost a round") > rounds + 3);
    assert_eq!(count(slog::Level::Warning, "no leader for long"), 1);
    assert!(group.status().unwrap().core.no_leader.unwrap().to_string().contains("silent"));
    engine.shutdown(LONG).unwrap();
}
