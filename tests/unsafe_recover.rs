//! Groups that lost their quorum for good, and the one node that goes on: real files, real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod node_support;

use bytes::Bytes;
use node_support::{Cluster, GROUP, LONG, Recorder, cluster_id, wait_for};
use std::collections::BTreeSet;
use std::time::Duration;
use tenure::NodeConfig;
use tenure::core::{ChangeError as Refused, RoleKind};
use tenure::log::{Entry, EntryKind, Write};
use tenure::quorum::{Configuration, Voters};
use tenure::runtime::{Change, ChangeError, Node};
use tenure::types::{EntryId, GroupId, Index, NodeId, Term};
use tenure::unsafe_recover::{CompareError, Offline, RecoverError, compare};
use tenure::wal::{Wal, WalError};

/// What node `id` is recovered with: the others were reachable where the running ones are now, and the rest nowhere.
fn config(cluster: &Cluster, id: u64) -> NodeConfig {
    let mut config = cluster.config(id);
    for other in (1..=cluster.size).filter(|other| *other != id) {
        let running = cluster.running.get(&other).and_then(|running| running.node.local_addr());
        // Nobody listens on port 1 of this machine.
        config.peers.insert(NodeId(other), running.map_or("127.0.0.1:1".into(), |address| address.to_string()));
    }
    config
}

fn offline(cluster: &Cluster, id: u64) -> Offline {
    Offline::open(&config(cluster, id)).unwrap()
}

/// Makes the plan for `id`, confirms it, and starts the node alone: nobody dials it, it dials nobody.
fn recover(cluster: &mut Cluster, id: u64) {
    let plan = offline(cluster, id).plan(GROUP).unwrap();
    offline(cluster, id).carry_out(GROUP, &plan.token().to_string()).unwrap();
    cluster.run_alone(id);
}

/// Makes the voters these, and waits until they are.
fn change(cluster: &Cluster, leader: u64, voters: &[u64]) {
    wait_for("a change of members", || {
        let to = Configuration::of_voters(voters.iter().copied().map(NodeId)).unwrap();
        let asked = cluster.running[&leader].group.change(Change { expected: None, to, patience: LONG });
        asked.wait_timeout(LONG).ok()?.ok()
    });
}

/// Commands that node `id` applied.
fn journal(cluster: &Cluster, id: u64) -> BTreeSet<Bytes> {
    cluster.running[&id].journal.lock().unwrap().iter().map(|(_, command)| command.clone()).collect()
}

/// Two of three are lost for good. The third has everything that was acknowledged, leads, and takes in two fresh nodes.
#[test]
fn a_survivor_leads_with_everything_it_had_and_fresh_nodes_join() {
    let mut cluster = Cluster::start(3);
    for nth in 0..50 {
        cluster.propose(format!("command {nth}"));
    }
    cluster.assert_equal_and_complete();
    cluster.stop_all();

    let plan = offline(&cluster, 3).plan(GROUP).unwrap();
    let (old_term, last) = (plan.term, plan.last);
    let text = plan.to_string();
    for said in ["UNSAFE", "may be lost", "may come back", "n1 and n2 never come back", "n3, barred n1 n2"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(text.ends_with(&plan.token().to_string()));
    assert_eq!((plan.entry.index, plan.uncertain()), (last.index.next(), Some((Index(2), last.index))));
    assert!(plan.entry.term > Term(old_term.0 + (1 << 32)), "no election reaches this term");

    recover(&mut cluster, 3);
    assert_eq!(cluster.leader(), 3);
    cluster.propose("alone");
    cluster.run_newcomer(4);
    cluster.run_newcomer(5);
    change(&cluster, 3, &[3, 4, 5]);
    cluster.propose("three again");
    cluster.assert_equal_and_complete();

    // It is a group like any other: it survives the survivor, and remembers whom it does not hear.
    cluster.stop(3);
    cluster.propose("without the survivor");
    let leader = &cluster.running[&cluster.leader()];
    let status = leader.group.status().unwrap().core;
    assert_eq!(status.configuration.to_string(), "n3 n4 n5, barred n1 n2");
    let to = Configuration::of_voters([2, 4, 5].map(NodeId)).unwrap();
    let refused = leader.group.change(Change { expected: None, to, patience: LONG }).wait();
    assert_eq!(refused, Err(ChangeError::Group(Refused::Barred(NodeId(2)))));
}

/// The log of the survivor begins behind a snapshot, of the time when the others were members: fresh nodes get that, and
/// then hear whom they do not listen to.
#[test]
fn fresh_nodes_join_a_survivor_whose_log_is_compacted() {
    let mut cluster = Cluster::start_with(3, |config| {
        node_support::fast(config);
        (config.limits.retained_entries, config.limits.retained_for_peers) = (0, 0);
    });
    for nth in 0..50 {
        cluster.propose(format!("command {nth}"));
    }
    cluster.assert_equal_and_complete();
    let taken = cluster.running[&3].group.snapshot().wait().unwrap();
    wait_for("a shorter log", || (cluster.running[&3].group.status()?.core.base == taken).then_some(()));
    cluster.stop_all();
    let plan = offline(&cluster, 3).plan(GROUP).unwrap();
    assert_eq!((plan.snapshot, plan.base), (Some(taken), taken));
    assert!(plan.committed >= taken.index && plan.damaged_snapshots.is_empty());
    recover(&mut cluster, 3);
    cluster.propose("alone");
    cluster.run_newcomer(4);
    change(&cluster, 3, &[3, 4]);
    let installed = cluster.running[&4].group.snapshots().counters.installed;
    assert!(installed > 0, "it had to begin with the snapshot");
    cluster.assert_equal_and_complete();
    let configuration = cluster.running[&4].group.status().unwrap().core.configuration;
    assert_eq!(configuration.to_string(), "n3 n4, barred n1 n2");
}

/// What never was committed comes back: the plan said that it may.
#[test]
fn what_was_not_committed_may_come_back() {
    let mut cluster = Cluster::start(3);
    let (leader, ticket) = loop {
        cluster.propose("committed");
        let leader = cluster.leader();
        let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
        others.iter().for_each(|id| cluster.stop(*id));
        let ticket = cluster.running[&leader].group.propose("never acknowledged");
        // It leads for an election timeout without the others, unless the machine is slow: then once more.
        let refused = ticket.wait_timeout(Duration::from_millis(20));
        match refused {
            Err(open) => break (leader, open),
            Ok(_) => others.iter().for_each(|id| cluster.run(*id)),
        }
    };
    wait_for("the entry on disk", || {
        let core = cluster.running[&leader].group.status()?.core;
        (core.durable == core.last.index && core.last.index > core.commit).then_some(())
    });
    cluster.stop(leader);
    assert!(node_support::wait(ticket).is_err());
    recover(&mut cluster, leader);
    cluster.propose("alone");
    assert!(journal(&cluster, leader).contains(&Bytes::from("never acknowledged")));
    cluster.assert_equal_and_complete();
}

/// The two that were thought lost come back with their disks, find each other, and are a quorum of what the group was. They
/// cannot be kept from that, but nobody in the recovered group hears them, whoever leads there and whatever their term.
#[test]
fn who_comes_back_with_an_old_disk_is_not_heard() {
    let mut cluster = Cluster::start(3);
    for nth in 0..10 {
        cluster.propose(format!("command {nth}"));
    }
    cluster.assert_equal_and_complete();
    cluster.stop_all();
    recover(&mut cluster, 3);
    cluster.propose("recovered");
    let before = cluster.running[&3].group.status().unwrap().core;

    // They and the survivor know where all of them are.
    cluster.run(1);
    cluster.run(2);
    let pair = [1, 2].map(|id| cluster.running[&id].group.clone());
    wait_for("the two elect one of them", || {
        pair.iter().find(|group| node_support::wait(group.propose("of the other fork")).is_ok())
    });
    let core = wait_for("the survivor is spoken to", || {
        let core = cluster.running[&3].group.status()?.core;
        (core.counters.barred > 20).then_some(core)
    });
    assert_eq!((core.role, core.term, core.counters.truncations), (RoleKind::Leader, before.term, 0));
    let survivor = &cluster.running[&3].group;
    assert!(node_support::wait(survivor.propose("and goes on")).is_ok());
    assert!(journal(&cluster, 3).contains(&Bytes::from("and goes on")));
    assert!(!journal(&cluster, 3).contains(&Bytes::from("of the other fork")));
    assert!(!journal(&cluster, 1).contains(&Bytes::from("recovered")));
}

/// One of the other two is there: with this node that is a quorum, and nothing is lost.
#[test]
fn it_is_refused_while_a_quorum_answers() {
    let mut cluster = Cluster::start(3);
    cluster.propose("something");
    cluster.stop(3);
    cluster.stop(1);
    let refused = offline(&cluster, 3).plan(GROUP).unwrap_err();
    assert!(matches!(&refused, RecoverError::QuorumAnswers { answering } if *answering == [NodeId(2)]), "{refused}");
    // A plan of the time when it was away does not help.
    let address = config(&cluster, 3);
    cluster.stop(2);
    let plan = Offline::open(&address).unwrap().plan(GROUP).unwrap();
    cluster.run_alone(2);
    let refused = offline(&cluster, 3).carry_out(GROUP, &plan.token().to_string()).unwrap_err();
    assert!(matches!(refused, RecoverError::QuorumAnswers { .. }), "{refused}");
    // Nothing happened: started again, the two are the group they were.
    cluster.run(3);
    cluster.propose("as if nothing had been");
    cluster.assert_equal_and_complete();
}

/// The latest configuration here may never have been committed: a quorum of the one before may be serving clients.
#[test]
fn it_is_refused_while_a_quorum_of_the_configuration_before_answers() {
    let mut cluster = Cluster::start(3);
    cluster.propose("something");
    cluster.stop_all();
    let mut there = config(&cluster, 3);
    let last = Offline::open(&there).unwrap().plan(GROUP).unwrap().last;
    let (mut log, recovered) = Wal::open(there.fs.clone(), &there.dir, there.wal.clone()).unwrap();
    let id = EntryId { term: recovered.groups[&GROUP].hard_state.term, index: last.index.next() };
    let payload = Configuration::of_voters([3, 5].map(NodeId)).unwrap().encode();
    let entries = vec![Entry { id, kind: EntryKind::Configuration, payload }];
    log.append(&[(GROUP, Write { entries, ..Write::default() })]).unwrap();
    log.sync().unwrap();
    drop(log);
    cluster.run_alone(2);
    there.peers.extend(config(&cluster, 3).peers);
    there.peers.insert(NodeId(5), "127.0.0.1:1".into());
    let refused = Offline::open(&there).unwrap().plan(GROUP).unwrap_err();
    assert!(matches!(&refused, RecoverError::QuorumAnswers { answering } if *answering == [NodeId(2)]), "{refused}");
    cluster.stop(2);
    let plan = Offline::open(&there).unwrap().plan(GROUP).unwrap();
    assert_eq!(plan.becomes.to_string(), "n3, barred n1 n2 n5");
}

/// Somebody else at the address of a lost member is not that member.
#[test]
fn another_node_at_an_old_address_is_no_answer() {
    let mut cluster = Cluster::start(3);
    cluster.propose("something");
    cluster.stop_all();
    cluster.run_alone(9);
    let address = cluster.running[&9].node.local_addr().unwrap().to_string();
    let mut config = config(&cluster, 3);
    config.peers.insert(NodeId(2), address);
    let plan = Offline::open(&config).unwrap().plan(GROUP).unwrap();
    assert!(!plan.others[&NodeId(2)].answers());
    assert!(plan.to_string().contains("n9 answers at this address"), "{plan}");
}

#[test]
fn it_is_refused_where_it_makes_no_sense() {
    let mut cluster = Cluster::start(3);
    cluster.propose("something");
    let running = Offline::open(&config(&cluster, 3)).unwrap_err();
    assert!(matches!(running, RecoverError::Wal(WalError::Locked { .. })), "{running}");
    // A learner was never counted on.
    cluster.run_newcomer(4);
    let leader = cluster.leader_of_members();
    wait_for("a learner", || {
        let voters = Voters::from_nodes([1, 2, 3].map(NodeId));
        let to = Configuration::new(voters, Voters::default(), Voters::from_nodes([NodeId(4)])).unwrap();
        let asked = cluster.running[&leader].group.change(Change { expected: None, to, patience: LONG });
        asked.wait_timeout(LONG).ok()?.ok()
    });
    wait_for("the learner knows", || {
        let known = cluster.running[&4].group.status()?.core;
        known.configuration.is_member(NodeId(4)).then_some(())
    });
    cluster.stop_all();
    let learner = offline(&cluster, 4).plan(GROUP).unwrap_err();
    assert!(matches!(learner, RecoverError::NotAVoter { .. }), "{learner}");

    let unknown = offline(&cluster, 3).plan(GroupId(77)).unwrap_err();
    assert!(matches!(unknown, RecoverError::UnknownGroup(GroupId(77))), "{unknown}");
    let unasked = Offline::open(&cluster.config(3)).unwrap().plan(GROUP).unwrap_err();
    assert!(matches!(unasked, RecoverError::NoAddress(_)), "{unasked}");
    let wrong = offline(&cluster, 3).carry_out(GROUP, "recover-n3-g1-000000000000").unwrap_err();
    assert!(matches!(wrong, RecoverError::WrongToken { .. }), "{wrong}");
    let old = offline(&cluster, 3).plan(GROUP).unwrap();
    let done = offline(&cluster, 3).carry_out(GROUP, &old.token().to_string()).unwrap();
    assert_eq!(done.becomes.to_string(), "n3, barred n1 n2 n4");
    let again = offline(&cluster, 3).carry_out(GROUP, &old.token().to_string()).unwrap_err();
    assert!(matches!(&again, RecoverError::QuorumAnswers { answering } if answering.is_empty()), "{again}");
}

/// A plan is of one moment: what was written since is not confirmed by it.
#[test]
fn a_plan_made_before_something_changed_confirms_nothing() {
    let mut cluster = Cluster::start(3);
    cluster.propose("before");
    cluster.stop_all();
    let old = offline(&cluster, 3).plan(GROUP).unwrap().token().to_string();
    // It stood for election, or voted, or took in an entry.
    for id in 1..=3 {
        cluster.run(id);
    }
    cluster.propose("after");
    cluster.assert_equal_and_complete();
    cluster.stop_all();
    let refused = offline(&cluster, 3).carry_out(GROUP, &old).unwrap_err();
    assert!(matches!(refused, RecoverError::WrongToken { .. }), "{refused}");
}

/// Of five nodes two survive: the one whose log is newer is found, and recovering it loses nothing that either has.
#[test]
fn the_most_up_to_date_survivor_is_found() {
    let mut cluster = Cluster::start(5);
    cluster.propose("all five");
    cluster.assert_equal_and_complete();
    let away = 1;
    cluster.stop(away);
    cluster.propose("four");
    let knows =
        wait_for("somebody who has it", || (2..=5).find(|id| journal(&cluster, *id).contains(&Bytes::from("four"))));
    cluster.stop_all();
    let plans: Vec<_> = [away, knows].map(|id| offline(&cluster, id).plan(GROUP).unwrap()).into();
    let compared = compare(&plans).unwrap();
    assert_eq!((compared.ranking[0].0, compared.contradict.len()), (NodeId(knows), 0));
    assert!(compared.to_string().starts_with(&format!("n{knows}")));
    assert_eq!(compare(&[]), Err(CompareError::Nothing));
    let twice = [plans[0].clone(), plans[0].clone()];
    assert_eq!(compare(&twice), Err(CompareError::SameNode(NodeId(away))));
    recover(&mut cluster, knows);
    cluster.propose("one of five");
    cluster.assert_equal_and_complete();
}

/// Several groups on one node: each is recovered for itself, the others stay as they are.
#[test]
fn groups_are_recovered_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let other = GroupId(2);
    Node::found(dir.path(), cluster_id(), NodeId(3)).unwrap();
    let mut config = NodeConfig::new(dir.path(), "127.0.0.1:0".parse().unwrap());
    node_support::fast(&mut config);
    for lost in [1, 2] {
        config.peers.insert(NodeId(lost), "127.0.0.1:1".into());
    }
    let node = Node::open(config.clone()).unwrap();
    for group in [GROUP, other] {
        let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
        node.create_group(group, voters, Recorder(node_support::Journal::default())).unwrap();
    }
    node.shutdown(LONG).unwrap();
    let before = Offline::open(&config).unwrap().plan(GROUP).unwrap();
    let plan = Offline::open(&config).unwrap().plan(other).unwrap();
    assert_ne!(plan.token(), before.token());
    Offline::open(&config).unwrap().carry_out(other, &plan.token().to_string()).unwrap();
    let node = Node::open(config.clone()).unwrap();
    let groups = [GROUP, other].map(|id| node.open_group(id, Recorder(node_support::Journal::default())).unwrap());
    wait_for("the recovered group leads", || (groups[1].status()?.core.role == RoleKind::Leader).then_some(()));
    assert_ne!(groups[0].status().unwrap().core.role, RoleKind::Leader);
    node.shutdown(LONG).unwrap();
}
