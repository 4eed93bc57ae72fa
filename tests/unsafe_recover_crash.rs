//! Carrying out a recovery on a disk whose calls fail and that loses power: the group is as it was, or recovered.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;
#[path = "support/wal_model.rs"]
mod model;

use std::io::{Cursor, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use fates::{AllFates, Rng};
use fixture::{hard_state, identity, small_config, write};
use model::{Model, reopen};
use tenure::NodeConfig;
use tenure::core::Restored;
use tenure::log::{EntryKind, Write};
use tenure::quorum::Configuration;
use tenure::sim::disk::{Fault, SimFs};
use tenure::snapshot::{SnapshotStore, StoreConfig};
use tenure::state_machine::SnapshotSource;
use tenure::types::{EntryId, GroupId, Index, NodeId, Term};
use tenure::unsafe_recover::{Offline, Plan, RecoverError};
use tenure::wal::{self, Wal};

const DIR: &str = "node";
const GROUP: GroupId = GroupId(1);

fn config(fs: &SimFs) -> NodeConfig {
    let mut config = NodeConfig::new(DIR, "127.0.0.1:0".parse().unwrap());
    (config.fs, config.wal) = (Arc::new(fs.clone()), small_config());
    for lost in [2, 3, 4, 5] {
        // Nobody listens there.
        config.peers.insert(NodeId(lost), "127.0.0.1:1".into());
    }
    config
}

fn voters() -> Configuration {
    Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap()
}

/// The disk of node 1 of three, with two groups, whose logs end at 4@7 and nearly fill a segment.
fn disk() -> SimFs {
    let (fs, dir) = (SimFs::new(), Path::new(DIR));
    wal::found(&fs, dir, &identity()).unwrap();
    let (mut log, _) = Wal::open(Arc::new(fs.clone()), dir, small_config()).unwrap();
    let (founding, _) = Restored::founding(voters());
    let later = Write { hard_state: Some(hard_state(7, Some(2))), ..write(&[(2, 3), (3, 3), (4, 7)]) };
    for group in [GROUP, GroupId(2)] {
        log.append(&[(group, founding.clone()), (group, later.clone())]).unwrap();
    }
    log.sync().unwrap();
    fs
}

/// A snapshot that was fetched from another node and is not in the log yet: a crash came between.
fn with_fetched_snapshot(fs: &SimFs) {
    let dir = Path::new(DIR).join("snapshots/1");
    let store = StoreConfig::new(identity().cluster, GROUP, NodeId(1));
    let store = SnapshotStore::open(Arc::new(fs.clone()), &dir, store).unwrap();
    let content = SnapshotSource::Stream(Box::new(Cursor::new(b"the state".to_vec())));
    let four = Configuration::of_voters([1, 2, 3, 4].map(NodeId)).unwrap();
    store.make(EntryId::new(20, 9), (Index(15), four.encode()), 0, content, &|| true).unwrap();
}

fn plan(fs: &SimFs) -> Plan {
    Offline::open(&config(fs)).unwrap().plan(GROUP).unwrap()
}

fn recover(fs: &SimFs, token: &str) -> Result<Plan, RecoverError> {
    Offline::open(&config(fs))?.carry_out(GROUP, token)
}

fn held(fs: &SimFs) -> Model {
    let (_, _, model) = reopen(fs, Path::new(DIR)).unwrap();
    model
}

/// What the write leaves, and that nothing else does.
#[test]
fn one_write_makes_this_node_the_only_voter() {
    let fs = disk();
    let (before, plan) = (held(&fs), plan(&fs));
    recover(&fs, &plan.token().to_string()).unwrap();
    let after = held(&fs);
    assert_eq!(after.groups[&GroupId(2)], before.groups[&GroupId(2)], "another group");
    let (was, is) = (&before.groups[&GROUP], &after.groups[&GROUP]);
    assert_eq!(is.entries[..4], was.entries[..]);
    let appended = &is.entries[4];
    assert_eq!((appended.id, appended.kind), (plan.entry, EntryKind::Configuration));
    assert_eq!((appended.id.index, is.entries.len()), (Index(5), 5));
    assert_eq!(Configuration::decode(&appended.payload).unwrap().to_string(), "n1, barred n2 n3");
    // Nobody else gets this node's vote in the term of an entry that nobody was elected to write.
    assert_eq!((is.hard_state.term, is.hard_state.vote), (plan.entry.term, Some(NodeId(1))));
    assert_eq!(is.hard_state.longest_promise, was.hard_state.longest_promise, "a promise is kept");
    assert!(plan.entry.term > Term((1 << 32) + 7));
}

/// Two survivors that are both recovered, against all advice, do not call different entries by one name.
#[test]
fn no_two_survivors_leap_to_the_same_term() {
    let (fs, other) = (disk(), SimFs::new());
    let mut elsewhere = identity();
    elsewhere.store.0 += 1;
    wal::found(&other, Path::new(DIR), &elsewhere).unwrap();
    let (mut log, _) = Wal::open(Arc::new(other.clone()), Path::new(DIR), small_config()).unwrap();
    let (founding, _) = Restored::founding(voters());
    let later = Write { hard_state: Some(hard_state(7, Some(2))), ..write(&[(2, 3), (3, 3), (4, 7)]) };
    log.append(&[(GROUP, founding), (GROUP, later)]).unwrap();
    log.sync().unwrap();
    drop(log);
    let (one, two) = (plan(&fs), plan(&other));
    assert_eq!((one.last, one.term), (two.last, two.term));
    assert_ne!(one.entry.term, two.entry.term);
}

/// What a crash kept from being taken in is taken in with the recovery.
#[test]
fn a_snapshot_that_was_not_installed_yet_comes_first() {
    let fs = disk();
    with_fetched_snapshot(&fs);
    let plan = plan(&fs);
    assert_eq!((plan.last, plan.base, plan.committed), (EntryId::new(20, 9), EntryId::new(20, 9), Index(20)));
    assert_eq!((plan.entry.index, plan.uncertain()), (Index(21), None));
    assert!(plan.to_string().contains("Nothing: every entry here is committed already"));
    recover(&fs, &plan.token().to_string()).unwrap();
    let group = held(&fs).groups[&GROUP].clone();
    assert_eq!((group.base(), group.last()), (EntryId::new(20, 9), plan.entry));
    assert_eq!(Configuration::decode(&group.entries[0].payload).unwrap().to_string(), "n1, barred n2 n3 n4");
}

/// The latest configuration may never have been committed: a quorum of the one before it counts as well, and its members are
/// barred.
#[test]
fn the_configuration_before_the_latest_counts() {
    let fs = disk();
    let (mut log, _) = Wal::open(Arc::new(fs.clone()), Path::new(DIR), small_config()).unwrap();
    let alone = Configuration::of_voters([1, 5].map(NodeId)).unwrap();
    let entry = fixture::entry(5, 7, EntryKind::Configuration, &alone.encode());
    log.append(&[(GROUP, Write { entries: vec![entry], ..Write::default() })]).unwrap();
    log.sync().unwrap();
    drop(log);
    let plan = plan(&fs);
    assert_eq!(plan.becomes.to_string(), "n1, barred n2 n3 n5");
    assert_eq!(plan.configurations.len(), 2);
    assert_eq!(plan.committed, Index(1));
}

/// Power cuts at every call that carrying out makes, with every subset of what was not synced if there are few.
#[test]
fn a_crash_leaves_the_group_as_it_was_or_recovered() {
    let (plain, fetched) = (disk(), disk());
    with_fetched_snapshot(&fetched);
    let (mut as_before, mut recovered) = (0, 0);
    for fs in [plain, fetched] {
        let token = plan(&fs).token().to_string();
        let (before, done) = (held(&fs), fs.crash(|_| 1));
        let began = done.calls();
        recover(&done, &token).unwrap();
        let (calls, after) = (done.calls() - began, held(&done));
        for (call, takes_effect) in (0..calls).flat_map(|call| [(call, false), (call, true)]) {
            let fs = fs.crash(|_| 1);
            fs.inject(Fault { call: fs.calls() + call, takes_effect, kind: ErrorKind::StorageFull });
            let outcome = recover(&fs, &token);
            fs.clear_fault();
            each_crash(&fs, |crashed| {
                let state = held(crashed);
                let possible = match outcome {
                    Ok(_) => state == after,
                    Err(RecoverError::Unknown(_)) => state == before || state == after,
                    Err(_) => state == before,
                };
                assert!(possible, "call {call} of {calls}, {outcome:?}: {state:?}");
                as_before += u32::from(state == before);
                recovered += u32::from(state == after);
            });
        }
    }
    assert!(as_before >= 100 && recovered >= 8, "{as_before} {recovered}");
}

/// The disk as a power cut may leave it: in every way, or in some of very many.
fn each_crash(fs: &SimFs, mut judge: impl FnMut(&SimFs)) {
    let mut fates = AllFates::default();
    for _ in 0..200 {
        judge(&fs.crash(|ways| fates.pick(ways)));
        if !fates.advance() {
            return;
        }
    }
    let mut rng = Rng(7);
    (0..100).for_each(|_| judge(&fs.crash(|ways| rng.pick(ways))));
}
