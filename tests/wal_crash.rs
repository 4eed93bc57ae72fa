//! Power cuts and failing calls on a simulated disk.
//!
//! The oracle: what is recovered equals the log after some whole number of writes, at least those that had been synced
//! and at most those that had been begun; a second recovery gives the same; and the log can be written on.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;
#[path = "support/wal_model.rs"]
mod model;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use fates::{AllFates, Rng};
use fixture::{entry, hard_state, identity, small_config, write};
use model::{Model, reopen};
use tenure::log::{EntryKind, Write};
use tenure::sim::disk::{Fault, SimFs};
use tenure::types::{GroupId, Index};
use tenure::wal::{self, Wal, WalError};

const DIR: &str = "/log";

/// A run of a seeded workload: the log after every write, and how far it was synced.
struct Run {
    fs: SimFs,
    history: Vec<Model>,
    synced: usize,
    founded: bool,
    /// Whether a call failed.
    failed: bool,
}

impl Run {
    fn model(&self) -> &Model {
        self.history.last().unwrap()
    }
}

/// Founds, opens and works for `steps` steps, or until a call fails.
fn run(seed: u64, steps: u64, fault: Option<Fault>) -> Run {
    let fs = SimFs::new();
    if let Some(fault) = fault {
        fs.inject(fault);
    }
    let mut run = Run { fs, history: vec![Model::default()], synced: 0, founded: false, failed: true };
    let work = work(&mut run, seed, steps);
    run.failed = work.is_err();
    run
}

fn work(run: &mut Run, seed: u64, steps: u64) -> Result<(), WalError> {
    let mut rng = Rng(seed);
    let dir = Path::new(DIR);
    wal::found(&run.fs, dir, &identity())?;
    run.founded = true;
    let (mut wal, _) = Wal::open(Arc::new(run.fs.clone()), dir, small_config())?;
    for _ in 0..steps {
        match rng.below(8) {
            0..4 => {
                let writes = random_writes(run, &mut rng);
                must_stay_failed(&mut wal, |wal| wal.append(&writes))?;
            }
            4 => must_stay_failed(&mut wal, Wal::floor)?,
            5 if rng.below(3) == 0 => {
                drop(wal);
                wal = Wal::open(Arc::new(run.fs.clone()), dir, small_config())?.0;
                run.synced = run.history.len() - 1;
            }
            _ => {
                must_stay_failed(&mut wal, Wal::sync)?;
                run.synced = run.history.len() - 1;
            }
        }
    }
    Ok(())
}

/// `d01`, `d17`: after a failed call nothing succeeds any more.
fn must_stay_failed(wal: &mut Wal, call: impl FnOnce(&mut Wal) -> Result<(), WalError>) -> Result<(), WalError> {
    let result = call(wal);
    if result.is_err() {
        assert!(matches!(wal.sync(), Err(WalError::Failed)));
        assert!(matches!(wal.append(&[]), Err(WalError::Failed)));
        assert!(matches!(wal.floor(), Err(WalError::Failed)));
    }
    result
}

fn random_writes(run: &mut Run, rng: &mut Rng) -> Vec<(GroupId, Write)> {
    let mut writes = Vec::new();
    for _ in 0..1 + rng.below(3) {
        let mut model = run.model().clone();
        let (group, write) = model.random_write(rng);
        if write == Default::default() {
            continue;
        }
        model.apply(group, &write);
        run.history.push(model);
        writes.push((group, write));
    }
    writes
}

/// Checks one state of the disk against the run that led to it. How many writes survived.
fn judge(run: &Run, disk: &SimFs, story: &str) -> usize {
    let dir = Path::new(DIR);
    let (wal, recovered, model) = match reopen(disk, dir) {
        Err(WalError::NotFounded { .. }) if !run.founded => {
            wal::found(disk, dir, &identity()).unwrap_or_else(|error| panic!("{story}: cannot found: {error}"));
            return 0;
        }
        opened => opened.unwrap_or_else(|error| panic!("{story}: {error}")),
    };
    let survived = run.history.iter().rposition(|then| *then == model);
    let survived = survived.unwrap_or_else(|| panic!("{story}: recovered what never was: {model:?}"));
    assert!(survived >= run.synced, "{story}: synced {} writes, {survived} are there", run.synced);
    drop(wal);

    let (mut wal, again, model_again) = reopen(disk, dir).unwrap_or_else(|error| panic!("{story}: again: {error}"));
    assert_eq!((&again, &model_again), (&recovered, &model), "{story}: a second recovery differs");

    // Writing on must not bring anything back that was cut.
    let mut rng = Rng(survived as u64);
    let mut model = model;
    for _ in 0..3 {
        let (group, write) = model.random_write(&mut rng);
        model.apply(group, &write);
        wal.append(&[(group, write)]).unwrap_or_else(|error| panic!("{story}: writing on: {error}"));
    }
    wal.sync().unwrap();
    drop(wal);
    let (_, _, after) = reopen(&disk.crash(|_| 0), dir).unwrap_or_else(|error| panic!("{story}: after: {error}"));
    model.groups.retain(|_, group| group.hard_state != Default::default());
    assert_eq!(after, model, "{story}: written on, then recovered");
    survived
}

#[test]
fn any_subset_of_unsynced_sectors_may_survive() {
    let (mut images, mut partial) = (0u64, 0u64);
    for seed in 0..24 {
        for steps in [3, 8, 20] {
            let run = run(seed, steps, None);
            assert!(!run.failed);
            let mut fates = AllFates::default();
            let mut rng = Rng(seed);
            for image in 0..60 {
                // Few pending sectors: all combinations. Many: the rest at random.
                let disk = if image < 40 { run.fs.crash(|n| fates.pick(n)) } else { run.fs.crash(|n| rng.pick(n)) };
                let survived = judge(&run, &disk, &format!("seed {seed}, {steps} steps, image {image}"));
                images += 1;
                partial += u64::from(survived > run.synced && survived + 1 < run.history.len());
                if image < 40 && !fates.advance() {
                    break;
                }
            }
        }
    }
    assert!(images > 1_500 && partial > 0, "{images} images, {partial} kept a part of what was not synced");
}

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

#[test]
fn power_may_go_at_every_call() {
    for seed in 0..2 {
        let calls = run(seed, 25, None).fs.calls();
        for call in 0..calls {
            for takes_effect in [false, true] {
                let run = run(seed, 25, Some(Fault { call, takes_effect, kind: ErrorKind::Other }));
                let mut rng = Rng(call);
                for image in 0..3 {
                    let story = format!("seed {seed}, call {call}, {takes_effect}, image {image}");
                    let disk = run.fs.crash(|n| if image == 0 { 0 } else { rng.pick(n) });
                    judge(&run, &disk, &story);
                }
            }
        }
    }
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

/// Recovery itself may be interrupted, at any of its calls.
#[test]
fn recovery_can_be_interrupted() {
    for seed in 0..6 {
        let run = run(seed, 15, None);
        let mut rng = Rng(seed);
        let torn = run.fs.crash(|n| rng.pick(n));
        for call in 0..60 {
            let disk = torn.copy();
            disk.inject(Fault { call, takes_effect: true, kind: ErrorKind::Other });
            if Wal::open(Arc::new(disk.clone()), Path::new(DIR), small_config()).is_ok() {
                break;
            }
            judge(&run, &disk.crash(|n| rng.pick(n)), &format!("seed {seed}, call {call} of recovery"));
        }
    }
}
