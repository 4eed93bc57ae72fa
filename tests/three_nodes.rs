//! Three nodes, and five, in one process: real files, real sockets, real threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod node_support;

use node_support::{Cluster, GROUP, wait, wait_for};
use std::time::Duration;
use tenure::core::RoleKind;
use tenure::quorum::Configuration;
use tenure::runtime::{Change, ChangeTicket, Consistency, ProposalError};
use tenure::types::{Index, NodeId};

/// They elect a leader, agree on commands, read linearizably, also at followers, which say who leads.
#[test]
fn three_nodes_elect_replicate_and_read() {
    let mut cluster = Cluster::start(3);
    for nth in 0..50 {
        cluster.propose(format!("command {nth}"));
    }
    // A slow machine may cost a leader its role at any moment: then it is tried again.
    let leader = node_support::wait_for("a batch that one leader commits", || {
        let leader = cluster.leader();
        let batch = (0..2000).map(|nth| format!("{nth}").into()).collect();
        let tickets = cluster.running[&leader].group.propose_batch(batch);
        let outcomes: Vec<_> = tickets.into_iter().map(wait).collect();
        let outputs: Vec<usize> =
            outcomes.into_iter().map(|outcome| outcome.map(|done| done.output)).collect::<Result<_, _>>().ok()?;
        assert!(outputs.windows(2).all(|pair| pair[1] == pair[0] + 1), "applied in the order proposed");
        Some(leader)
    });
    for (_, follower) in cluster.running.iter().filter(|(id, _)| **id != leader) {
        node_support::wait_for("a follower that says who leads", || match wait(follower.group.propose("x")) {
            Err(ProposalError::NotLeader { leader }) => leader,
            _ => None,
        });
        assert!(follower.group.read(Consistency::Linearizable).wait().unwrap() > Index(2050));
        assert!(follower.journal.lock().unwrap().len() >= 2050);
    }
    cluster.assert_equal_and_complete();
}

/// A node that was away catches up from the leader's log, on disk and in memory; nothing acknowledged is lost.
#[test]
fn a_stopped_follower_catches_up_after_its_restart() {
    let mut cluster = Cluster::start_with(3, |config| {
        node_support::fast(config);
        // What the follower misses must be loaded from disk.
        config.limits.cache_bytes = 4096;
        config.limits.apply_bytes = 8192;
    });
    cluster.propose("before");
    let leader = cluster.leader();
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(follower);
    for nth in 0..200 {
        cluster.propose(format!("{nth:0>1000}"));
    }
    cluster.run(follower);
    cluster.assert_equal_and_complete();
    assert_eq!(
        cluster.running[&follower].journal.lock().unwrap().len(),
        cluster.running[&leader].journal.lock().unwrap().len()
    );
}

/// When the leader goes, another one takes over with everything that was acknowledged; the old one comes back as a
/// follower.
#[test]
fn a_stopped_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::start(3);
    for round in 0..3 {
        for nth in 0..20 {
            cluster.propose(format!("round {round} command {nth}"));
        }
        let old = cluster.leader();
        cluster.stop(old);
        cluster.propose(format!("after round {round}"));
        cluster.run(old);
    }
    cluster.assert_equal_and_complete();
}

/// All nodes at once, and state machines that start empty: the whole log is applied again, also what was committed by
/// a leader that is gone (bug `b43`).
#[test]
fn b43_a_cluster_restarted_as_a_whole_has_everything() {
    let mut cluster = Cluster::start(3);
    for nth in 0..100 {
        cluster.propose(format!("command {nth}"));
    }
    cluster.stop_all();
    for id in 1..=3 {
        cluster.run(id);
    }
    cluster.propose("one more");
    cluster.assert_equal_and_complete();
}

/// Five nodes go on while two are away.
#[test]
fn five_nodes_go_on_without_two() {
    let mut cluster = Cluster::start(5);
    cluster.propose("all five");
    let leader = cluster.leader();
    for id in (1..=5).filter(|id| *id != leader).take(2).collect::<Vec<_>>() {
        cluster.stop(id);
    }
    for nth in 0..20 {
        cluster.propose(format!("command {nth}"));
    }
    cluster.assert_equal_and_complete();
}

/// Without a quorum nothing is acknowledged, and a shutdown ends the wait as an unknown outcome.
#[test]
fn without_a_quorum_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3);
    cluster.propose("with a quorum");
    let leader = cluster.leader();
    for id in (1..=3).filter(|id| *id != leader).collect::<Vec<_>>() {
        cluster.stop(id);
    }
    let alone = &cluster.running[&leader];
    let ticket = alone.group.propose("alone");
    let read = alone.group.read(Consistency::Linearizable);
    wait_for("the entry in the log", || {
        (alone.group.status()?.core.durable == alone.group.status()?.core.last.index).then_some(())
    });
    cluster.stop(leader);
    assert!(!wait(ticket).unwrap_err().certainly_not_committed());
    assert!(read.wait().is_err());
}

/// Several groups share a node's log, network and timer, and do not mix.
#[test]
fn groups_share_a_node_and_do_not_mix() {
    use node_support::{Journal, Recorder};
    use tenure::quorum::Configuration;
    use tenure::types::GroupId;

    let cluster = Cluster::start(3);
    let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
    let mut others = Vec::new();
    for running in cluster.running.values() {
        for id in 2..=20 {
            let journal = Journal::default();
            let group = running.node.create_group(GroupId(id), voters.clone(), Recorder(journal.clone())).unwrap();
            others.push((group, journal));
        }
    }
    for id in 2..=20 {
        wait_for("a leader", || {
            let leads = others
                .iter()
                .find(|(group, _)| group.id() == GroupId(id) && group.status().unwrap().core.role == RoleKind::Leader);
            wait(leads?.0.propose(format!("for {id}"))).ok()
        });
    }
    for (group, journal) in &others {
        let journal = wait_for("its command", || {
            let journal = journal.lock().unwrap();
            (!journal.is_empty()).then(|| journal.clone())
        });
        assert!(journal.iter().all(|(_, command)| *command == format!("for {}", group.id().0)));
    }
    assert!(
        cluster.running.values().all(|running| running.node.groups().len() == 20 && running.node.groups()[0] == GROUP)
    );
}

/// All nodes are swapped one after the other while clients write: newcomers catch up and vote, the old ones go, the leader
/// hands over when its turn comes. Nothing acknowledged is lost.
#[test]
fn p15_all_members_are_swapped_while_clients_write() {
    let mut cluster = Cluster::start(3);
    for old in 1..=3 {
        for nth in 0..20 {
            cluster.propose(format!("before {old} goes: {nth}"));
        }
        let new = old + 3;
        cluster.run_newcomer(new);
        let voters = Configuration::of_voters((old + 1..=new).map(NodeId)).unwrap();
        wait_for("the change", || {
            let leader = &cluster.running[&cluster.leader_of_members()].group;
            let in_use = leader.status()?.core;
            if in_use.configuration == voters && in_use.commit >= in_use.configuration_index {
                return Some(());
            }
            let change = Change { expected: None, to: voters.clone(), patience: Duration::from_secs(30) };
            let ticket: ChangeTicket = leader.change(change);
            ticket.wait_timeout(node_support::LONG).unwrap_or_else(|_| panic!("no answer")).ok()?;
            Some(())
        });
        let gone = &cluster.running[&old].group;
        wait_for("the old one to know", || {
            let core = gone.status()?.core;
            let known = !core.configuration.is_member(NodeId(old)) && core.commit >= core.configuration_index;
            // Or it has only heard, when it asked for votes.
            (known || core.no_leader?.obstacle.is_some()).then_some(())
        });
        cluster.stop(old);
    }
    cluster.propose("after all");
    cluster.assert_equal_and_complete();
}

/// A newcomer is told where the others are, to answer them; nobody is told where it is but the leader that adds it: the
/// configuration says so to everybody, also after a restart without any peers in the settings, and when a node has moved.
#[test]
fn members_find_each_other_by_the_configuration() {
    let mut cluster = Cluster::start(3);
    cluster.propose("before");
    let leader = cluster.leader();
    cluster.run_alone(4);
    let address = |cluster: &Cluster, id: u64| cluster.running[&id].node.local_addr().unwrap().to_string();
    for other in 1..=3 {
        cluster.running[&4].node.set_peer(NodeId(other), address(&cluster, other)).unwrap();
    }
    // What stands behind the space is not dialed.
    let located = |cluster: &Cluster| {
        let all = Configuration::of_voters((1..=4).map(NodeId)).unwrap();
        let place = |id| format!("{} and more", address(cluster, id));
        (1..=4).fold(all, |all, id| all.with_address(NodeId(id), &place(id)).unwrap())
    };
    wait_for("the newcomer to be a voter", || {
        let change = Change { expected: None, to: located(&cluster), patience: Duration::from_secs(30) };
        let (answered, answer) = std::sync::mpsc::channel();
        let group = &cluster.running[&cluster.leader_of_members()].group;
        group.change_with(change, move |result| answered.send(result).unwrap());
        answer.recv_timeout(node_support::LONG).unwrap_or_else(|_| panic!("no answer")).ok()
    });
    // The newcomer is needed now, and so it has to reach the others and they it.
    cluster.stop(leader);
    cluster.propose("without the first leader");
    // It comes back at another port, where nobody looks for it before the configuration says so.
    cluster.run_alone(leader);
    wait_for("the moved one to be told of", || {
        let mut to = Configuration::of_voters((1..=4).map(NodeId)).unwrap();
        for id in cluster.running.keys() {
            to = to.with_address(NodeId(*id), &address(&cluster, *id)).unwrap();
        }
        let change = Change { expected: None, to, patience: Duration::from_secs(30) };
        let leader = cluster.running.values().find(|one| one.group.status().unwrap().core.role == RoleKind::Leader)?;
        leader.group.change(change).wait_timeout(node_support::LONG).unwrap_or_else(|_| panic!("no answer")).ok()
    });
    cluster.propose("after the move");
    cluster.assert_equal_and_complete();
}
