//! Leases, reads at followers and leaving in order, with real files, real sockets and real threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod node_support;

use node_support::{Cluster, GROUP, LONG, applied, wait, wait_for};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tenure::config::{Priority, Timing};
use tenure::core::RoleKind;
use tenure::runtime::{Consistency, GroupOptions, NodeConfig, ProposalError};
use tenure::types::{GroupId, NodeId};

/// Reads may rely on leases, which last for about a second.
fn leased(config: &mut NodeConfig) {
    node_support::fast(config);
    config.timing = Timing::from_election_timeout(Duration::from_secs(1));
    config.group.lease_reads = true;
}

/// `p07`: a read under a lease costs no message, no sync and no entry into the shard, at whatever rate it is asked for.
#[test]
fn p07_a_lease_read_costs_no_message_and_no_sync() {
    const READS: u64 = 20_000;
    let mut cluster = Cluster::start_with(3, leased);
    cluster.propose("x");
    let leader = &cluster.running[&cluster.leader()];
    wait_for("a lease", || leader.group.try_read(Consistency::Lease));
    // The farewells of the election are over, and the log has noted that it is idle.
    std::thread::sleep(Duration::from_millis(200));

    let (before, begun) = (leader.node.metrics(), Instant::now());
    let index = applied(&leader.group);
    for _ in 0..READS {
        assert_eq!(leader.group.read(Consistency::Lease).wait_timeout(LONG).ok(), Some(Ok(index)));
    }
    let (after, took) = (leader.node.metrics(), begun.elapsed());

    let asked = after.shard.reads - before.shard.reads;
    assert_eq!(after.reads.lease - before.reads.lease + asked, READS);
    assert!(asked < READS / 100, "{asked} of {READS} reads entered the shard");
    assert_eq!(after.log.syncs, before.log.syncs, "not one sync");
    assert_eq!(after.shard.proposals, before.shard.proposals);
    // Two heartbeats every 100 ms, and those that confirm what a lapse of the lease sent to the shard.
    let heartbeats = 2 * (took.as_millis() as u64 / 100 + 2);
    let sent = after.shard.sent - before.shard.sent;
    assert!(sent <= heartbeats + 2 * asked, "{sent} messages in {took:?}, {asked} reads confirmed");
    assert!(after.entering.rounds - before.entering.rounds <= 4 * heartbeats + 8 * asked + 8);
}

/// Linearizable reads at followers see what was acknowledged anywhere; local ones what is applied here; those bounded
/// in staleness are answered by the follower alone while it hears its leader.
#[test]
fn followers_answer_reads_of_every_consistency() {
    let mut cluster = Cluster::start_with(3, leased);
    cluster.propose("first");
    let leader = cluster.leader();
    let followers: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    for nth in 0..20 {
        let written = cluster.propose(format!("{nth}")).id.index;
        for follower in &followers {
            let group = &cluster.running[follower].group;
            for consistency in [Consistency::Linearizable, Consistency::Lease] {
                let read = group.read(consistency).wait_timeout(LONG).ok().unwrap();
                assert!(read.unwrap() >= written, "{consistency:?}");
                assert!(cluster.running[follower].journal.lock().unwrap().len() > nth);
            }
            let local = group.read(Consistency::Local).wait().unwrap();
            assert!(local >= written && local == group.try_read(Consistency::Local).unwrap());
        }
    }
    let group = &cluster.running[&followers[0]].group;
    let alone = || group.status().unwrap().core.counters.stale_reads;
    wait_for("an answer of the follower alone", || {
        let before = alone();
        group.read(Consistency::Follower(Duration::from_secs(60))).wait_timeout(LONG).ok()?.ok()?;
        (alone() > before).then_some(())
    });
}

/// `p09`: while clients write as fast as they can, the leader leaves. Another one leads when it is gone, and
/// everything that was acknowledged is there.
#[test]
fn p09_a_leader_that_leaves_under_load_loses_nothing() {
    let mut cluster = Cluster::start_with(3, leased);
    cluster.propose("before");
    for round in 0..2 {
        let old = cluster.leader();
        let over = AtomicBool::new(false);
        let groups: Vec<_> = cluster.running.values().map(|running| running.group.clone()).collect();
        let (acknowledged, pause) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut acknowledged, mut last, mut pause) = (Vec::new(), Instant::now(), Duration::ZERO);
                let mut nth = 0;
                while !over.load(Ordering::Relaxed) {
                    let group = &groups[nth % groups.len()];
                    let tickets: Vec<_> = (0..20).map(|_| group.propose(format!("{round} {nth}"))).collect();
                    for ticket in tickets {
                        match wait(ticket) {
                            Ok(applied) => acknowledged.push(applied.id),
                            Err(ProposalError::NotLeader { .. } | ProposalError::ShutDown) => break,
                            Err(_) => continue,
                        }
                        pause = pause.max(last.elapsed());
                        last = Instant::now();
                    }
                    nth += 1;
                }
                (acknowledged, pause)
            });
            std::thread::sleep(Duration::from_millis(300));
            let leaving = cluster.running.remove(&old).unwrap();
            leaving.node.leave(LONG).unwrap();
            let leads = cluster
                .running
                .values()
                .any(|running| running.group.status().is_some_and(|status| status.core.role == RoleKind::Leader));
            assert!(leads, "another node leads when the old leader is gone");
            std::thread::sleep(Duration::from_millis(300));
            over.store(true, Ordering::Relaxed);
            writer.join().unwrap()
        });
        assert!(pause < Duration::from_secs(10), "{pause:?} without an acknowledgement");
        let newest = *acknowledged.iter().max().unwrap();
        for running in cluster.running.values() {
            wait_for("everything applied", || (applied(&running.group) >= newest.index).then_some(()));
            let journal = running.journal.lock().unwrap();
            let ids: std::collections::BTreeSet<_> = journal.iter().map(|(id, _)| *id).collect();
            assert!(acknowledged.iter().all(|id| ids.contains(id)), "acknowledged and lost");
        }
        cluster.run(old);
    }
    cluster.assert_equal_and_complete();
}

/// `p09`: leadership is handed over on request, and the node stays.
#[test]
fn p09_a_node_hands_over_what_it_leads_and_stays() {
    let mut cluster = Cluster::start_with(3, leased);
    cluster.propose("before");
    let old = cluster.leader();
    let heir = NodeId(old % 3 + 1);
    assert_eq!(cluster.running[&old].group.transfer(Some(heir)).wait_timeout(LONG).ok(), Some(Ok(heir)));
    wait_for("the heir to lead", || (cluster.leader() == heir.0).then_some(()));
    cluster.propose("between");
    let handed_over = cluster.running[&heir.0].node.hand_over(LONG);
    assert!(matches!(handed_over[&GROUP], Ok(next) if next != heir), "{handed_over:?}");
    assert!(cluster.running[&old].node.hand_over(LONG).len() <= 1);
    cluster.propose("after");
    cluster.assert_equal_and_complete();
}

/// A group's options are those of its node, or its own; among nodes that are fit the one of highest priority leads.
#[test]
fn a_group_has_its_options() {
    fn options(config: &mut NodeConfig) {
        leased(config);
        let mut confirmed = GroupOptions::default();
        confirmed.priority = Priority::High;
        config.groups.insert(GroupId(2), confirmed);
    }
    let cluster = Cluster::start_with(1, options);
    let node = &cluster.running[&1].node;
    let alone = tenure::quorum::Configuration::of_voters([NodeId(1)]).unwrap();
    let machine = node_support::Recorder(node_support::Journal::default());
    let second = node.create_group(GroupId(2), alone, machine).unwrap();
    for group in [&cluster.running[&1].group, &second] {
        wait_for("it to lead", || wait(group.propose("x")).ok());
    }
    assert!(cluster.running[&1].group.try_read(Consistency::Lease).is_some());
    assert_eq!(second.try_read(Consistency::Lease), None);
}

/// Whoever looks finds out why nobody leads.
#[test]
fn a_group_without_a_leader_says_why() {
    let mut cluster = Cluster::start(3);
    cluster.propose("x");
    let leader = cluster.leader();
    for id in (1..=3).filter(|id| *id != leader).collect::<Vec<_>>() {
        cluster.stop(id);
    }
    let left = &cluster.running[&leader].group;
    wait_for("it to give up and to be refused by silence", || {
        let core = left.status()?.core;
        let why = core.no_leader?.to_string();
        (core.counters.abdications >= 1 && why.contains("silent")).then_some(())
    });
}
