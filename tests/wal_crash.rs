//! Failing calls on a simulated disk, and what a batch costs. `wal_sweep` cuts the power.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;
#[path = "support/wal_model.rs"]
mod model;
#[path = "support/wal_run.rs"]
mod run;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use fates::AllFates;
use fixture::{entry, hard_state, identity, small_config, write};
use model::{Model, reopen};
use run::{DIR, judge, run};
use tenure::log::{EntryKind, Write};
use tenure::sim::disk::{Fault, SimFs};
use tenure::types::{GroupId, Index};
use tenure::wal::{self, Wal};

/// One write and one sync per batch, however many groups are in it; nothing when there is nothing to do.
#[test]
fn a_batch_costs_one_write_and_one_sync() {
    let (fs, dir) = (SimFs::new(), Path::new(DIR));
    wal::found(&fs, dir, &identity()).unwrap();
    let (mut wal, _) = Wal::open(Arc::new(fs.clone()), dir, small_config()).unwrap();
    let state = Some(hard_state(1, None));
    let many = |first: u64| -> Vec<_> {
        (0..20).map(|g| (GroupId(g), Write { hard_state: state, ..write(&[(first, 1)]) })).collect()
    };
    wal.append(&many(1)).unwrap();
    wal.sync().unwrap();
    let mut calls = fs.calls();
    let mut cost = |expected: u64, what: &str| {
        assert_eq!(fs.calls() - calls, expected, "{what}");
        calls = fs.calls();
    };
    wal.append(&many(2)).unwrap();
    cost(1, "an append of 20 groups");
    wal.sync().unwrap();
    cost(1, "a sync");
    wal.sync().unwrap();
    cost(0, "a sync of nothing");
    wal.append(&[]).unwrap();
    wal.append(&[(GroupId(1), Write::default())]).unwrap();
    cost(0, "an append of nothing");
    wal.floor().unwrap();
    cost(1, "a floor");
    wal.floor().unwrap();
    cost(0, "a floor that says nothing new");
    wal.sync().unwrap();
    wal.floor().unwrap();
    cost(1, "the sync of a floor, which is nothing new to say");
}

/// `b42`: hard state, truncation and entries of one write are there together or not at all, whichever of its sectors
/// survive.
#[test]
fn b42_a_write_is_whole_or_not_at_all() {
    let (fs, dir) = (SimFs::new(), Path::new(DIR));
    wal::found(&fs, dir, &identity()).unwrap();
    let (mut wal, _) = Wal::open(Arc::new(fs.clone()), dir, small_config()).unwrap();
    let group = GroupId(1);
    let first = Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1), (2, 1), (3, 1)]) };
    let large = (2..6).map(|index| entry(index, 2, EntryKind::Command, &[index as u8; 300])).collect();
    let second = Write {
        hard_state: Some(hard_state(2, Some(2))),
        truncate_from: Some(Index(2)),
        entries: large,
        ..Write::default()
    };
    let mut before = Model::default();
    before.apply(group, &first);
    let mut after = before.clone();
    after.apply(group, &second);
    wal.append(&[(group, first)]).unwrap();
    wal.sync().unwrap();
    wal.append(&[(group, second)]).unwrap();

    let (mut fates, mut whole, mut cut) = (AllFates::default(), 0, 0);
    loop {
        let (_, recovered, model) = reopen(&fs.crash(|ways| fates.pick(ways)), dir).unwrap();
        match model {
            model if model == after => whole += 1,
            model if model == before => cut += 1,
            other => panic!("neither before nor after: {other:?} {recovered:?}"),
        }
        if !fates.advance() {
            break;
        }
    }
    assert!(whole >= 1 && cut >= 20, "{whole} {cut}");
}

/// `d01`, `d17`: an error of any call is noticed; nothing is acknowledged after it, and the process may open again.
#[test]
fn d01_d17_no_error_of_any_call_is_swallowed() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        let calls = run(3, 30, None).fs.calls();
        for call in 0..calls {
            let run = run(3, 30, Some(Fault { call, takes_effect: false, kind }));
            assert!(run.failed, "call {call} failed and nobody noticed");
            judge(&run, &run.fs.copy(), &format!("call {call}"));
        }
    }
}

/// `d01`: after a failed sync the system shows bytes as written that the disk never took. A log that is opened on them
/// has them written again before it relies on them.
#[test]
fn d01_opening_after_a_failed_sync_writes_again_what_it_relies_on() {
    let (fs, dir, group) = (SimFs::new(), Path::new(DIR), GroupId(1));
    wal::found(&fs, dir, &identity()).unwrap();
    let (mut wal, _) = Wal::open(Arc::new(fs.clone()), dir, small_config()).unwrap();
    wal.append(&[(group, Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1)]) })]).unwrap();
    wal.sync().unwrap();
    wal.append(&[(group, write(&[(2, 1)]))]).unwrap();
    wal.append(&[(group, write(&[(3, 1)]))]).unwrap();
    fs.inject(Fault { call: fs.calls(), takes_effect: false, kind: ErrorKind::Other });
    assert!(wal.sync().is_err());
    drop(wal);

    let (wal, recovered, model) = reopen(&fs, dir).unwrap();
    assert_eq!(recovered.groups[&group].log.last().index, Index(3));
    drop(wal);
    let (_, again, model_again) = reopen(&fs.crash(|_| 0), dir).unwrap();
    assert_eq!((again, model_again), (recovered, model), "the power cut took what opening had relied on");
}

/// An error that the thread that prepares segments met, long ago perhaps, does not fail the log: what it could not make
/// is made when it is needed.
#[test]
fn an_error_while_a_segment_is_prepared_does_not_fail_the_log_later() {
    let (founded, dir) = (SimFs::new(), Path::new(DIR));
    wal::found(&founded, dir, &identity()).unwrap();
    let fs = founded.copy();
    drop(Wal::open(Arc::new(fs.clone()), dir, small_config()).unwrap());
    // What comes after these are calls of the thread: create, write, sync, rename, sync of the directory.
    let opening = fs.calls();
    for call in opening..opening + 5 {
        let fs = founded.copy();
        fs.inject(Fault { call, takes_effect: false, kind: ErrorKind::StorageFull });
        let mut config = small_config();
        config.spare_segments = 1;
        let (mut wal, _) = Wal::open(Arc::new(fs.clone()), dir, config).unwrap();
        while fs.calls() <= call {
            std::thread::yield_now();
        }
        let mut model = Model::default();
        for index in 1..=100 {
            let state = (index == 1).then(|| hard_state(1, None));
            let entries = vec![entry(index, 1, EntryKind::Command, &[7; 1000])];
            let write = Write { hard_state: state, entries, ..Write::default() };
            model.apply(GroupId(1), &write);
            wal.append(&[(GroupId(1), write)]).unwrap_or_else(|error| panic!("call {call}: {error}"));
        }
        wal.sync().unwrap();
        drop(wal);
        assert_eq!(reopen(&fs.crash(|_| 0), dir).unwrap().2, model);
    }
}
