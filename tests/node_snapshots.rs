//! Snapshots in running nodes: real files, real sockets, real threads (rows `r03`, `o19`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod node_support;

use node_support::{Cluster, GROUP, Journal, LONG, Recorder, applied, cluster_id, wait, wait_for};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tenure::core::RoleKind;
use tenure::quorum::{Configuration, Voters};
use tenure::runtime::{Change, GroupError, Node, NodeConfig, SnapshotTicket, TakeError};
use tenure::snapshot::{SnapshotStore, StoreConfig};
use tenure::state_machine::{ApplyError, Command, SnapshotSource, StateMachine};
use tenure::types::{EntryId, GroupId, Index, NodeId};
use tenure::wal::RealFs;

/// Snapshots are taken all the time, and nothing stays behind them for slow peers.
fn compacting(config: &mut NodeConfig) {
    node_support::fast(config);
    config.snapshots.log_bytes = 20_000;
    (config.limits.retained_entries, config.limits.retained_for_peers) = (0, 0);
    config.limits.cache_bytes = 4096;
}

fn write(cluster: &mut Cluster, count: usize) {
    for nth in 0..count {
        cluster.propose(format!("{nth:0>200}"));
    }
}

fn base(cluster: &Cluster, id: u64) -> EntryId {
    cluster.running[&id].group.status().unwrap().core.base
}

fn installed(cluster: &Cluster, id: u64) -> u64 {
    cluster.running[&id].group.snapshots().counters.installed
}

fn took(ticket: SnapshotTicket) -> Result<EntryId, TakeError> {
    ticket.wait_timeout(LONG).unwrap_or_else(|_| panic!("a ticket was never answered"))
}

/// `r03`, `o19`: a member that was away for so long that the others have given up what it needs gets a snapshot, and goes on
/// with the log; so does a node that is added.
#[test]
fn r03_o19_who_is_behind_the_beginning_of_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::start_with(3, compacting);
    write(&mut cluster, 20);
    let leader = cluster.leader();
    let away = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(away);
    let left = Index(20);
    write(&mut cluster, 300);
    for id in cluster.running.keys() {
        wait_for("a log that begins behind what the other has", || (base(&cluster, *id).index > left).then_some(()));
    }
    cluster.run(away);
    write(&mut cluster, 50);
    cluster.assert_equal_and_complete();
    assert!(installed(&cluster, away) >= 1);
    assert_eq!((1..=3).filter(|id| *id != away).map(|id| installed(&cluster, id)).sum::<u64>(), 0, "nobody else did");

    cluster.run_newcomer(4);
    wait_for("the newcomer to be a voter", || {
        let leader = cluster.leader_of_members();
        let group = &cluster.running[&leader].group;
        if group.status()?.core.configuration.is_voter(NodeId(4)) {
            return Some(());
        }
        let to = Configuration::of_voters((1..=4).map(NodeId)).unwrap();
        let change = Change { expected: None, to, patience: LONG };
        group.change(change).wait_timeout(LONG).ok()?.ok().map(|_| ())
    });
    write(&mut cluster, 20);
    cluster.assert_equal_and_complete();
    assert!(installed(&cluster, 4) >= 1);
    let metrics = cluster.running[&4].node.metrics();
    assert!(metrics.snapshots.installed >= 1 && metrics.snapshots.fetched_bytes > 0);
}

/// A member that is only a little behind goes on with the log (issue: never a snapshot for these).
#[test]
fn r03_who_is_a_little_behind_gets_no_snapshot() {
    let mut cluster = Cluster::start_with(3, |config| {
        compacting(config);
        config.limits.retained_entries = 10_000;
    });
    write(&mut cluster, 20);
    let leader = cluster.leader();
    let away = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(away);
    write(&mut cluster, 300);
    wait_for("a snapshot", || cluster.running[&leader].group.snapshots().newest);
    cluster.run(away);
    cluster.assert_equal_and_complete();
    assert_eq!((1..=3).map(|id| installed(&cluster, id)).sum::<u64>(), 0);
}

/// State machines in memory come back from their snapshots and the log behind them, although the log does not go back to the
/// beginning any more.
#[test]
fn r03_a_restarted_cluster_begins_with_its_snapshots() {
    let mut cluster = Cluster::start_with(3, compacting);
    for _ in 0..3 {
        write(&mut cluster, 150);
        for id in 1..=3 {
            wait_for("a compacted log", || (base(&cluster, id).index > Index(50)).then_some(()));
        }
        cluster.stop_all();
        for id in 1..=3 {
            cluster.run(id);
        }
    }
    write(&mut cluster, 10);
    cluster.assert_equal_and_complete();
    assert_eq!((1..=3).map(|id| installed(&cluster, id)).sum::<u64>(), 0, "each from its own");
}

/// What the files below a directory take, but for the spare segments.
fn bytes_below(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().filter_map(Result::ok);
    let bytes = entries.filter_map(|entry| {
        let data = entry.metadata().ok()?;
        Some(if data.is_dir() { bytes_below(&entry.path()) } else { data.len() })
    });
    bytes.sum()
}

/// Keeps the last command.
#[derive(Default)]
struct Last(Vec<u8>);

impl StateMachine for Last {
    type Output = ();
    fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
        self.0 = commands.last().map(|command| command.data.to_vec()).unwrap_or_default();
        Ok(vec![(); commands.len()])
    }
    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        Ok(Some(SnapshotSource::Stream(Box::new(std::io::Cursor::new(self.0.clone())))))
    }
}

/// A log that has become too long makes the groups that keep it so take a snapshot, though none is due by its own size, and
/// nothing stays for peers that are a little behind: a steady load of 20 times the limit never takes more than the limit,
/// three segments, two snapshots, and what comes while a snapshot is made.
#[test]
fn a_log_that_is_too_long_asks_for_snapshots() {
    const SOFT: u64 = 4 << 20;
    let cluster = Cluster::start_with(1, |config| {
        node_support::fast(config);
        config.snapshots.log_bytes = 0;
        config.wal.soft_bytes = SOFT;
    });
    let node = &cluster.running[&1].node;
    let voters = Configuration::of_voters([NodeId(1)]).unwrap();
    let group = node.create_group(GroupId(2), voters, Last::default()).unwrap();
    let (mut written, mut most) = (0, 0);
    while written < 20 * SOFT {
        wait_for("a leader", || group.propose(vec![7; 60_000]).wait_timeout(LONG).ok()?.ok());
        written += 60_000;
        // The load is steady, not as fast as it can be.
        std::thread::sleep(Duration::from_millis(2));
        most = most.max(bytes_below(&cluster.dir(1)));
    }
    assert!(group.snapshots().counters.taken >= 2 && group.status().unwrap().core.base > EntryId::ZERO);
    assert!(most <= 4 * SOFT, "{most} bytes");
}

/// A receiver goes on pulling from the node that it began with when another one leads.
#[test]
fn a_transfer_goes_on_over_a_change_of_leader() {
    let mut cluster = Cluster::start_with(3, |config| {
        compacting(config);
        config.snapshots.log_bytes = 0;
        config.snapshots.send_bytes_per_second = Some(1 << 20);
        config.snapshots.chunk_bytes = 16 << 10;
    });
    for nth in 0..40 {
        cluster.propose(format!("{nth:0>60000}"));
    }
    cluster.assert_equal_and_complete();
    for running in cluster.running.values() {
        took(running.group.snapshot()).unwrap();
    }
    cluster.run_newcomer(4);
    let maker = cluster.leader_of_members();
    let (voters, learners) = (Voters::from_nodes((1..=3).map(NodeId)), Voters::from_nodes([NodeId(4)]));
    let to = Configuration::new(voters, Voters::default(), learners).unwrap();
    let change = Change { expected: None, to, patience: LONG };
    cluster.running[&maker].group.change(change).wait_timeout(LONG).ok().unwrap().unwrap();
    let fetching = |cluster: &Cluster| cluster.running[&4].group.snapshots().fetching;
    wait_for("some of the snapshot", || fetching(&cluster).filter(|progress| progress.bytes_done > 100_000));
    cluster.running[&maker].group.transfer(None).wait_timeout(LONG).ok().unwrap().unwrap();
    wait_for("another leader", || (cluster.leader_of_members() != maker).then_some(()));
    wait_for("the snapshot", || (installed(&cluster, 4) > 0).then_some(()));
    let served = |id: u64| cluster.running[&id].node.metrics().snapshots_served.bytes;
    let others: u64 = (1..=3).filter(|id| *id != maker).map(served).sum();
    assert_eq!(others, 0, "nobody else was asked");
    cluster.propose("and on");
    cluster.assert_equal_and_complete();
}

/// Makes `node` a learner beside the only voter.
fn add_learner(cluster: &Cluster, node: u64) {
    let (voters, learners) = (Voters::from_nodes([NodeId(1)]), Voters::from_nodes([NodeId(node)]));
    let to = Configuration::new(voters, Voters::default(), learners).unwrap();
    let change = Change { expected: None, to, patience: LONG };
    cluster.running[&1].group.change(change).wait_timeout(LONG).ok().unwrap().unwrap();
}

/// Who has fetched a snapshot needs no other: it goes on with the log, which stays behind that one, though a newer snapshot was
/// taken meanwhile and is offered.
#[test]
fn r03_a_snapshot_taken_during_a_transfer_is_not_fetched_too() {
    let mut cluster = Cluster::start_with(1, |config| {
        compacting(config);
        config.limits.retained_for_peers = 1_000_000;
        config.snapshots.log_bytes = 0;
        config.snapshots.send_bytes_per_second = Some(512 << 10);
        config.snapshots.chunk_bytes = 16 << 10;
    });
    for nth in 0..20 {
        cluster.propose(format!("{nth:0>60000}"));
    }
    let first = took(cluster.running[&1].group.snapshot()).unwrap();
    wait_for("a compacted log", || (base(&cluster, 1) == first).then_some(()));
    cluster.run_newcomer(2);
    add_learner(&cluster, 2);
    let snapshots = |cluster: &Cluster| cluster.running[&2].group.snapshots();
    wait_for("some of it", || snapshots(&cluster).fetching.filter(|progress| progress.bytes_done > 100_000));
    cluster.propose("more");
    let second = took(cluster.running[&1].group.snapshot()).unwrap();
    wait_for("everything", || (applied(&cluster.running[&2].group) >= second.index).then_some(()));
    wait_for("the end of transfers", || snapshots(&cluster).fetching.is_none().then_some(()));
    let counters = snapshots(&cluster).counters;
    assert_eq!((counters.installed, counters.fetch_failed), (1, 0));
    let bytes = cluster.running[&1].group.snapshots().newest.unwrap().bytes;
    assert!(counters.fetched_bytes < bytes * 2, "the newer one was given up: {}", counters.fetched_bytes);
    assert_eq!(base(&cluster, 1), first, "it was kept");
}

/// On demand: the answer is the last entry, which is as far as was applied; asked again with nothing new, the same; and the
/// log begins behind it.
#[test]
fn a_snapshot_is_taken_when_somebody_asks_for_it() {
    let mut cluster = Cluster::start_with(1, |config| {
        compacting(config);
        config.snapshots.log_bytes = 0;
    });
    let last = cluster.propose("something").id;
    let group = &cluster.running[&1].group;
    assert_eq!((took(group.snapshot()), took(group.snapshot())), (Ok(last), Ok(last)));
    wait_for("a compacted log", || (base(&cluster, 1) == last).then_some(()));
    let status = group.snapshots();
    assert_eq!((status.counters.taken, status.counters.failed, status.making), (1, 0, false));
    assert_eq!(status.newest.map(|newest| (newest.last, newest.maker)), Some((last, NodeId(1))));
    let several: Vec<_> = (0..50).map(|_| group.snapshot()).collect();
    assert!(several.into_iter().all(|ticket| took(ticket) == Ok(last)));
    let group = group.clone();
    cluster.stop(1);
    assert_eq!(took(group.snapshot()), Err(TakeError::ShutDown));
}

/// Hands out a snapshot that is not read before the gate is open.
struct Gated(crossbeam_channel::Receiver<()>);

impl StateMachine for Gated {
    type Output = ();
    fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
        Ok(vec![(); commands.len()])
    }
    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        Ok(Some(SnapshotSource::Stream(Box::new(Gate(self.0.clone())))))
    }
}

struct Gate(crossbeam_channel::Receiver<()>);

impl std::io::Read for Gate {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

/// `c25`: who wants a snapshot while one is being made gets the next, with what was applied meanwhile. Commands are applied
/// while it is made.
#[test]
fn c25_a_wish_for_a_snapshot_while_one_is_made_is_not_lost() {
    let cluster = Cluster::start_with(1, compacting);
    let voters = Configuration::of_voters([NodeId(1)]).unwrap();
    let (open, gate) = crossbeam_channel::unbounded();
    let group = cluster.running[&1].node.create_group(GroupId(2), voters, Gated(gate)).unwrap();
    let propose = || wait_for("a leader", || group.propose("x").wait_timeout(LONG).ok()?.ok());
    let first = propose().id;
    let one = group.snapshot();
    wait_for("a snapshot in the making", || group.snapshots().making.then_some(()));
    let second = propose().id;
    let two = group.snapshot();
    let (one, two) = (one.wait_timeout(Duration::ZERO).err().unwrap(), two.wait_timeout(Duration::ZERO).err().unwrap());
    open.send(()).unwrap();
    assert_eq!(took(one), Ok(first));
    open.send(()).unwrap();
    assert_eq!(took(two), Ok(second));
}

/// Hands out a snapshot whose source panics when it is read: its first one, the others are empty.
#[derive(Default)]
struct PanicsOnce(bool);

impl StateMachine for PanicsOnce {
    type Output = ();
    fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
        Ok(vec![(); commands.len()])
    }
    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        let first = !std::mem::replace(&mut self.0, true);
        let source: Box<dyn std::io::Read + Send> = if first { Box::new(Panics) } else { Box::new(std::io::empty()) };
        Ok(Some(SnapshotSource::Stream(source)))
    }
}

struct Panics;

impl std::io::Read for Panics {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        panic!("no bytes today")
    }
}

/// The panic of a source is one snapshot that failed: whoever waits hears of it, and the next one is taken, of all groups.
#[test]
fn a_source_that_panics_is_a_snapshot_that_failed() {
    let mut cluster = Cluster::start_with(1, compacting);
    let last = cluster.propose("something").id;
    let voters = Configuration::of_voters([NodeId(1)]).unwrap();
    let group = cluster.running[&1].node.create_group(GroupId(2), voters, PanicsOnce::default()).unwrap();
    let first = wait_for("a leader", || group.propose("x").wait_timeout(LONG).ok()?.ok()).id;
    let error = took(group.snapshot()).unwrap_err();
    assert!(matches!(&error, TakeError::Failed(why) if why.contains("no bytes today")), "{error}");
    assert_eq!((group.snapshots().counters.failed, group.snapshots().making), (1, false));
    assert_eq!(took(cluster.running[&1].group.snapshot()), Ok(last));
    assert_eq!(took(group.snapshot()), Ok(first));
}

/// Takes no snapshots, and is given none.
struct Plain;

impl StateMachine for Plain {
    type Output = ();
    fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
        Ok(vec![(); commands.len()])
    }
}

#[test]
fn a_state_machine_without_snapshots_says_so_and_keeps_its_log() {
    let cluster = Cluster::start_with(1, compacting);
    let voters = Configuration::of_voters([NodeId(1)]).unwrap();
    let plain = cluster.running[&1].node.create_group(GroupId(2), voters, Plain).unwrap();
    for _ in 0..300 {
        wait_for("a leader", || plain.propose(vec![0; 200]).wait_timeout(LONG).ok()?.ok());
    }
    assert_eq!(took(plain.snapshot()), Err(TakeError::Unsupported));
    assert_eq!(plain.status().unwrap().core.base, EntryId::ZERO);
}

/// Changes a byte in the data of a node's only snapshot.
fn damage_snapshot(cluster: &Cluster, id: u64) {
    let dir = cluster.dir(id).join("snapshots").join("1");
    let data = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let data = data.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "data")).unwrap();
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&data, bytes).unwrap();
}

/// A damaged snapshot is found out, and what was compacted into it is not made up (bug `d15`): the group does not open, with
/// an error that says why, again and again; the others go on.
#[test]
fn d15_a_damaged_snapshot_refuses_to_open() {
    let mut cluster = Cluster::start_with(1, |config| {
        compacting(config);
        config.snapshots.log_bytes = 0;
    });
    write(&mut cluster, 30);
    let last = took(cluster.running[&1].group.snapshot()).unwrap();
    wait_for("a compacted log", || (base(&cluster, 1) == last).then_some(()));
    cluster.stop(1);
    damage_snapshot(&cluster, 1);

    let node = Node::open(cluster.config(1)).unwrap();
    let error = node.open_group(GROUP, Recorder(Journal::default())).unwrap_err();
    assert!(matches!(error, GroupError::Restore { last: of, .. } if of == last), "{error}");
    let error = node.open_group(GROUP, Recorder(Journal::default())).unwrap_err();
    assert!(matches!(error, GroupError::Start(_)), "{error}");
    assert!(error.to_string().contains("restore"), "{error}");
}

/// Whoever finds out while it sends a snapshot that it is damaged takes another, at once: the log behind it is of no use to a
/// newcomer, nor to itself after a restart.
#[test]
fn d15_a_running_node_replaces_a_damaged_snapshot() {
    let mut cluster = Cluster::start_with(1, |config| {
        compacting(config);
        config.snapshots.log_bytes = 0;
    });
    write(&mut cluster, 30);
    let last = took(cluster.running[&1].group.snapshot()).unwrap();
    wait_for("a compacted log", || (base(&cluster, 1) == last).then_some(()));
    damage_snapshot(&cluster, 1);
    cluster.run_newcomer(2);
    add_learner(&cluster, 2);
    wait_for("another snapshot", || (installed(&cluster, 2) > 0).then_some(()));
    cluster.assert_equal_and_complete();
    cluster.stop(2);
    cluster.stop(1);
    cluster.run(1);
    cluster.propose("after a restart");
    cluster.assert_equal_and_complete();
}

/// A backup of one cluster becomes the beginning of another one with other nodes.
#[test]
fn a_backup_is_restored_into_a_new_cluster() {
    let mut old = Cluster::start_with(1, compacting);
    write(&mut old, 30);
    took(old.running[&1].group.snapshot()).unwrap();
    let store = old.running[&1].node.snapshot_store(GROUP).unwrap();
    let mut backup = Vec::new();
    store.newest().unwrap().export(&mut backup, &|| true).unwrap();
    let before = old.running[&1].journal.lock().unwrap().clone();

    let mut new = Cluster { running: BTreeMap::new(), ..Cluster::start_with(0, compacting) };
    let voters = Configuration::of_voters([11, 12, 13].map(NodeId)).unwrap();
    for id in [11, 12, 13] {
        Node::found(new.dir(id), cluster_id(), NodeId(id)).unwrap();
        let node = Node::open(new.config(id)).unwrap();
        let journal = Journal::default();
        let machine = || Recorder(journal.clone());
        let half = &mut &backup[..backup.len() / 2];
        let error = node.restore_group(GROUP, voters.clone(), half, machine()).unwrap_err();
        assert!(matches!(error, GroupError::Snapshots(_)), "{error}");
        assert!(node.groups().is_empty(), "nothing was founded");
        let group = node.restore_group(GROUP, voters.clone(), &mut &backup[..], machine()).unwrap();
        assert_eq!(*journal.lock().unwrap(), before);
        assert_eq!(applied(&group), Index(1), "the snapshot is the first entry");
        new.adopt(id, node, group, journal.clone());
    }
    new.propose("in the new cluster");
    for running in new.running.values() {
        wait_for("the same everywhere", || (running.journal.lock().unwrap().len() == before.len() + 1).then_some(()));
    }
    // And it lives on as any other.
    let old_leader = new.leader();
    new.stop(old_leader);
    new.run(old_leader);
    new.propose("after a restart");
    for running in new.running.values() {
        wait_for("the same everywhere", || (running.journal.lock().unwrap().len() >= before.len() + 2).then_some(()));
    }
    let error = new.running[&11].node.restore_group(GROUP, voters, &mut &backup[..], Plain).unwrap_err();
    assert!(matches!(error, GroupError::Exists(GROUP)), "{error}");
}

/// What an attempt to restore a backup has left, which a crash ended before the group was founded, is nothing that a group begins
/// with that is joined afterwards: others may have founded it with something else.
#[test]
fn leftovers_of_a_restoration_are_not_what_a_group_is_joined_with() {
    let cluster = Cluster::start_with(0, compacting);
    Node::found(cluster.dir(1), cluster_id(), NodeId(1)).unwrap();
    let dir = cluster.dir(1).join("snapshots").join("1");
    let store = SnapshotStore::open(Arc::new(RealFs), &dir, StoreConfig::new(cluster_id(), GROUP, NodeId(1))).unwrap();
    let configuration = (Index(1), Configuration::of_voters([NodeId(1)]).unwrap().encode());
    let source = SnapshotSource::Stream(Box::new(&b"of a backup"[..]));
    store.make(EntryId::new(1, 1), configuration, 0, source, &|| true).unwrap();

    let node = Node::open(cluster.config(1)).unwrap();
    let group = node.join_group(GROUP, Plain).unwrap();
    let begins = group.status().unwrap().core.applied;
    assert_eq!((begins, group.snapshots().newest), (Index::ZERO, None));
}

/// A node whose state machine fails while a snapshot replaces its state stops the group and says so; the others go on.
#[test]
fn a_failed_restore_stops_the_group_here_alone() {
    let mut cluster = Cluster::start_with(3, compacting);
    write(&mut cluster, 300);
    Node::found(cluster.dir(4), cluster_id(), NodeId(4)).unwrap();
    let mut config = cluster.config(4);
    config.limits.waiting_reads = 5;
    let node = Node::open(config).unwrap();
    let failing = node.join_group(GROUP, Plain).unwrap();
    for (id, running) in &cluster.running {
        let address = node.local_addr().unwrap().to_string();
        running.node.set_peer(NodeId(4), address).unwrap();
        node.set_peer(NodeId(*id), running.node.local_addr().unwrap().to_string()).unwrap();
    }
    let leader = cluster.leader();
    let group = &cluster.running[&leader].group;
    let (voters, learners) = (Voters::from_nodes((1..=3).map(NodeId)), Voters::from_nodes([NodeId(4)]));
    let to = Configuration::new(voters, Voters::default(), learners).unwrap();
    let change = Change { expected: None, to, patience: LONG };
    let _ = group.change(change).wait_timeout(LONG);
    wait_for("the group to stop there", || failing.status()?.core.stopped);
    assert_eq!(
        took(failing.snapshot()).unwrap_err().to_string(),
        "the group has stopped on this node: the state machine failed"
    );
    // However often it is asked: nobody waits there.
    for _ in 0..10 {
        assert!(matches!(took(failing.snapshot()), Err(TakeError::Stopped(_))));
    }
    wait_for("a leader", || (cluster.running[&leader].group.status()?.core.role == RoleKind::Leader).then_some(()));
    assert!(wait(cluster.running[&cluster.leader()].group.propose("goes on")).is_ok());
}
