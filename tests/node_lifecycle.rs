//! Founding, opening, creating and closing: what is allowed once, what must be refused, what survives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod node_support;

use node_support::{Cluster, GROUP, Journal, LONG, Recorder, cluster_id, wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use tenure::quorum::Configuration;
use tenure::runtime::{GroupError, Node, NodeConfig, OpenError};
use tenure::state_machine::{ApplyError, Command, StateMachine};
use tenure::types::{GroupId, Index, NodeId};
use tenure::wal::WalError;

/// `l25`: a group of one elects itself, commits, restarts, and has everything.
#[test]
fn l25_a_lone_node_restarts_with_everything() {
    let mut cluster = Cluster::start(1);
    for round in 0..3 {
        for nth in 0..10 {
            cluster.propose(format!("round {round} command {nth}"));
        }
        cluster.stop(1);
        cluster.run(1);
    }
    cluster.propose("last");
    cluster.assert_equal_and_complete();
}

/// A log many times longer than what is kept in memory and in one segment is applied again from disk.
#[test]
fn a_long_log_is_applied_again_from_disk() {
    let mut cluster = Cluster::start_with(1, |config| {
        node_support::fast(config);
        config.limits.cache_bytes = 4096;
        config.limits.apply_bytes = 16 << 10;
        config.wal.segment_bytes = 128 << 10;
        config.wal.batch_bytes = 32 << 10;
        config.limits.command_bytes = 32 << 10;
    });
    cluster.propose("first");
    let commands: Vec<bytes::Bytes> = (0..500).map(|nth| format!("{nth:0>2000}").into()).collect();
    for ticket in cluster.running[&1].group.propose_batch(commands.clone()) {
        wait(ticket).unwrap();
    }
    cluster.acknowledged.extend(commands);
    cluster.stop(1);
    cluster.run(1);
    cluster.propose("last");
    cluster.assert_equal_and_complete();
}

#[test]
fn a_directory_is_founded_once_and_opened_by_one() {
    let mut cluster = Cluster::start(1);
    let again = Node::found(cluster.dir(1), cluster_id(), NodeId(1));
    assert!(matches!(again, Err(OpenError::Wal(WalError::AlreadyFounded { .. } | WalError::Locked { .. }))));
    assert!(matches!(Node::open(cluster.config(1)), Err(OpenError::Wal(WalError::Locked { .. }))));
    assert!(matches!(Node::open(cluster.config(9)), Err(OpenError::Wal(WalError::NotFounded { .. }))));
    cluster.stop(1);
    cluster.run(1);
}

#[test]
fn groups_are_created_once_and_opened_once() {
    let cluster = Cluster::start(1);
    let node = &cluster.running[&1].node;
    let alone = || Configuration::of_voters([NodeId(1)]).unwrap();
    let machine = || Recorder(Journal::default());
    assert!(matches!(node.create_group(GROUP, alone(), machine()), Err(GroupError::Exists(GROUP))));
    assert!(matches!(node.open_group(GROUP, machine()), Err(GroupError::Open(GROUP))));
    assert!(matches!(node.open_group(GroupId(7), machine()), Err(GroupError::Unknown(GroupId(7)))));
    assert_eq!(node.groups(), [GROUP]);
    node.shutdown(LONG).unwrap();
    assert!(matches!(node.create_group(GroupId(7), alone(), machine()), Err(GroupError::ShutDown)));
}

/// Every file of a node is on its file system, also what it remembers of its peers.
#[cfg(feature = "sim")]
#[test]
fn a_node_on_a_simulated_disk_touches_no_other() {
    use tenure::sim::disk::SimFs;
    let dir = std::path::Path::new("/simulated/node");
    let disks = [SimFs::new(), SimFs::new()];
    let nodes = [1, 2].map(|id| {
        let fs = &disks[id as usize - 1];
        Node::found_on(fs, dir, cluster_id(), NodeId(id)).unwrap();
        let mut config = NodeConfig::new(dir, "127.0.0.1:0".parse().unwrap());
        node_support::fast(&mut config);
        config.fs = Arc::new(fs.clone());
        Node::open(config).unwrap()
    });
    nodes[0].set_peer(NodeId(2), nodes[1].local_addr().unwrap().to_string()).unwrap();
    let remembered = |fs: &SimFs| fs.names().iter().any(|path| path.ends_with("peers")).then_some(());
    node_support::wait_for("each to remember the other", || disks.iter().try_for_each(remembered));
    drop(nodes);
    assert!(!dir.exists());
}

/// Does what a test wants when it is asked how far it is.
struct Asked<F>(F);

impl<F: Fn() -> Index + Send + 'static> StateMachine for Asked<F> {
    type Output = ();

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
        Ok(vec![(); commands.len()])
    }

    fn applied(&self) -> Index {
        (self.0)()
    }
}

/// A caller's code that runs while a group is created or opened may look at the node.
#[test]
fn a_callback_may_look_at_the_node_while_a_group_is_opened() {
    let mut cluster = Cluster::start(1);
    cluster.propose("x");
    cluster.stop(1);
    let node = Arc::new(Node::open(cluster.config(1)).unwrap());
    let (done, finished) = mpsc::channel();
    let work = {
        let node = node.clone();
        move || {
            let looking = || {
                let node = Arc::downgrade(&node);
                Asked(move || {
                    let groups = node.upgrade().unwrap().groups();
                    assert!(groups.contains(&GROUP), "{groups:?}");
                    Index::ZERO
                })
            };
            node.open_group(GROUP, looking()).unwrap();
            node.create_group(GroupId(2), Configuration::of_voters([NodeId(1)]).unwrap(), looking()).unwrap();
            done.send(()).unwrap();
        }
    };
    std::thread::spawn(work);
    finished.recv_timeout(LONG / 4).expect("it waits for itself");
    assert_eq!(node.groups(), [GROUP, GroupId(2)]);
}

/// A group whose first entry is on disk and that could not be started all the same is not founded a second time, which
/// the log would take for damage: it exists, and is opened.
#[test]
fn a_group_that_was_founded_and_not_started_can_be_opened() {
    let cluster = Cluster::start(1);
    let node = &cluster.running[&1].node;
    let (group, alone) = (GroupId(2), || Configuration::of_voters([NodeId(1)]).unwrap());
    let asked = AtomicU64::new(0);
    // Applied 0 when it is asked before the founding, 5 afterwards, where the log holds one entry.
    let fickle = Asked(move || Index(5 * asked.fetch_add(1, Ordering::Relaxed).min(1)));
    assert!(matches!(node.create_group(group, alone(), fickle), Err(GroupError::Start(_))));
    assert_eq!(node.groups(), [GROUP, group]);
    let again = node.create_group(group, alone(), Recorder(Journal::default()));
    assert!(matches!(again, Err(GroupError::Exists(id)) if id == group), "{:?}", again.err());
    let opened = node.open_group(group, Recorder(Journal::default())).unwrap();
    node_support::wait_for("it to lead", || wait(opened.propose("y")).ok());
    assert!(!node.metrics().log.failed);
}

/// What was wrong before anything was written leaves no trace.
#[test]
fn a_group_that_was_not_founded_can_be_created_later() {
    let cluster = Cluster::start(1);
    let node = &cluster.running[&1].node;
    let (group, elsewhere) = (GroupId(2), Configuration::of_voters([NodeId(9)]).unwrap());
    let refused = node.create_group(group, elsewhere, Recorder(Journal::default()));
    assert!(matches!(refused, Err(GroupError::NotAMember { node: NodeId(1) })));
    assert_eq!(node.groups(), [GROUP]);
    let alone = Configuration::of_voters([NodeId(1)]).unwrap();
    node.create_group(group, alone, Recorder(Journal::default())).unwrap();
}

/// A group that was created and never opened again is still on disk, and its node can be used for others.
#[test]
fn a_group_may_stay_closed() {
    let mut cluster = Cluster::start(1);
    cluster.propose("x");
    cluster.stop(1);
    let node = Node::open(cluster.config(1)).unwrap();
    assert_eq!(node.groups(), [GROUP]);
    let other = node
        .create_group(GroupId(2), Configuration::of_voters([NodeId(1)]).unwrap(), Recorder(Journal::default()))
        .unwrap();
    node_support::wait_for("it to lead", || wait(other.propose("y")).ok());
    drop(node);
    cluster.run(1);
    cluster.propose("z");
    cluster.assert_equal_and_complete();
}

/// One proposal wave larger than a segment: the log takes it in parts.
#[test]
fn a_wave_longer_than_a_segment_is_written_in_parts() {
    let mut cluster = Cluster::start(1);
    cluster.propose("first");
    let commands: Vec<bytes::Bytes> = (0..100_u8).map(|nth| vec![nth; 60_000].into()).collect();
    for ticket in cluster.running[&1].group.propose_batch(commands.clone()) {
        wait(ticket).unwrap();
    }
    cluster.acknowledged.extend(commands);
    cluster.stop(1);
    cluster.run(1);
    cluster.propose("last");
    cluster.assert_equal_and_complete();
}

#[test]
fn knobs_that_do_not_fit_together_are_refused_before_anything_is_touched() {
    let refused = |change: fn(&mut NodeConfig)| {
        let mut config = NodeConfig::new("/nowhere", "127.0.0.1:0".parse().unwrap());
        change(&mut config);
        match Node::open(config) {
            Err(OpenError::Config(error)) => error.knob,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|config| config.wal.segment_bytes = 1), "segment_bytes");
    assert_eq!(refused(|config| config.limits.command_bytes = 60 << 20), "command_bytes");
}

/// A node whose directory was wiped and founded again under the old id would vote twice: its peers remember its store,
/// also after their own restart, and do not let it in.
#[test]
fn a_node_with_a_wiped_disk_is_not_let_in_under_its_old_id() {
    let mut cluster = Cluster::start(3);
    cluster.propose("x");
    for id in 1..=3 {
        let connected = || {
            let peers = cluster.running[&id].node.metrics().transport.inbound;
            (peers.connections == 2).then_some(())
        };
        node_support::wait_for("everybody to have seen everybody", connected);
    }
    cluster.stop_all();
    std::fs::remove_dir_all(cluster.dir(3)).unwrap();
    Node::found(cluster.dir(3), cluster_id(), NodeId(3)).unwrap();
    cluster.run(3);
    cluster.run(1);
    cluster.run(2);
    cluster.propose("y");
    let refused = |id: u64| cluster.running[&id].node.metrics().transport.inbound.refused;
    node_support::wait_for("the refusal", || (refused(1) > 0 && refused(2) > 0).then_some(()));
    let wiped = cluster.running[&3].group.status().unwrap().core;
    assert_eq!(wiped.commit.0, 1, "it heard nothing: {wiped:?}");
}
