//! Seeded workloads on a disk that loses power, and the judge of what is left.
//!
//! The oracle: what is recovered equals the log after some whole number of writes, at least those that had been synced
//! and at most those that had been begun; a second recovery gives the same; and the log can be written on.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use tenure::log::Write;
use tenure::sim::disk::{Fault, SimFs};
use tenure::types::GroupId;
use tenure::wal::{self, Fs, Wal, WalError};

use crate::fates::Rng;
use crate::fixture::{identity, small_config};
use crate::model::{Model, reopen};

pub(crate) const DIR: &str = "/log";

/// A run of a seeded workload: the log after every write, and how far it was synced.
pub(crate) struct Run {
    pub(crate) fs: SimFs,
    pub(crate) history: Vec<Model>,
    /// What led from each to the next.
    writes: Vec<(GroupId, Write)>,
    pub(crate) synced: usize,
    /// How many bytes were copied forward.
    pub(crate) copied: u64,
    founded: bool,
    /// Whether a call failed.
    pub(crate) failed: bool,
}

impl Run {
    fn model(&self) -> &Model {
        self.history.last().unwrap()
    }

    /// The power goes, and what is left is the log from now on.
    fn lose_power(&mut self, rng: &mut Rng) {
        self.fs = self.fs.crash(|ways| rng.pick(ways));
        let (_, _, model) = reopen(&self.fs.copy(), Path::new(DIR)).unwrap();
        let survived = self.history.iter().rposition(|then| *then == model).unwrap();
        self.history.truncate(survived + 1);
        self.writes.truncate(survived);
        self.synced = survived;
    }
}

/// Founds, opens and works for `steps` steps, or until a call fails. Two in three have lost power before, once or twice;
/// calls are counted in the last life.
pub(crate) fn run(seed: u64, steps: u64, fault: Option<Fault>) -> Run {
    let mut rng = Rng(seed);
    let (fs, history, writes) = (SimFs::new(), vec![Model::default()], Vec::new());
    let mut run = Run { fs, history, writes, synced: 0, copied: 0, founded: false, failed: true };
    for _ in 0..seed % 3 {
        work(&mut run, &mut rng, steps).unwrap();
        run.lose_power(&mut rng);
    }
    if let Some(fault) = fault {
        run.fs.inject(fault);
    }
    run.failed = work(&mut run, &mut rng, steps).is_err();
    run
}

fn work(run: &mut Run, rng: &mut Rng, steps: u64) -> Result<(), Box<dyn Error>> {
    let dir = Path::new(DIR);
    if !run.founded {
        wal::found(&run.fs, dir, &identity())?;
        run.founded = true;
    }
    let (mut wal, _) = Wal::open(Arc::new(run.fs.clone()), dir, small_config())?;
    run.synced = run.history.len() - 1;
    for _ in 0..steps {
        match rng.below(9) {
            0..4 => {
                let writes = random_writes(run, rng);
                must_stay_failed(&mut wal, |wal| wal.append(&writes))?;
            }
            4 => must_stay_failed(&mut wal, Wal::floor)?,
            5 if rng.below(3) == 0 => {
                drop(wal);
                if rng.below(2) == 0 {
                    leave_old_bytes_in_a_spare(&run.fs, rng)?;
                }
                wal = Wal::open(Arc::new(run.fs.clone()), dir, small_config())?.0;
                run.synced = run.history.len() - 1;
            }
            6 => {
                let budget = rng.pick(3000);
                must_stay_failed(&mut wal, |wal| wal.tidy(budget).map(|bytes| run.copied += bytes))?;
            }
            _ => {
                must_stay_failed(&mut wal, Wal::sync)?;
                run.synced = run.history.len() - 1;
            }
        }
    }
    Ok(())
}

/// A spare's content means nothing: here it is that of an older segment, as if that had been recycled.
fn leave_old_bytes_in_a_spare(fs: &SimFs, rng: &mut Rng) -> Result<(), Box<dyn Error>> {
    let mut segments = fs.names();
    segments.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wal-")));
    let old = fs.content(&segments[rng.pick(segments.len())]);
    let spare = Path::new(DIR).join(format!("spare-{:020}.seg", 100 + rng.below(100)));
    let file = fs.create(&spare)?;
    file.pwrite(&old, 0)?;
    file.sync_data()?;
    Ok(fs.sync_dir(Path::new(DIR))?)
}

/// `d01`, `d17`: after a failed call nothing succeeds any more.
fn must_stay_failed(wal: &mut Wal, call: impl FnOnce(&mut Wal) -> Result<(), WalError>) -> Result<(), WalError> {
    let result = call(wal);
    // What could not be read for a copy was not copied, and that is all.
    let read = matches!(result, Err(WalError::Io { action: "reading", .. }));
    if result.is_err() && !read {
        assert!(matches!(wal.sync(), Err(WalError::Failed)));
        assert!(matches!(wal.append(&[]), Err(WalError::Failed)));
        assert!(matches!(wal.floor(), Err(WalError::Failed)));
        assert!(matches!(wal.tidy(1000), Err(WalError::Failed)));
    }
    result
}

fn random_writes(run: &mut Run, rng: &mut Rng) -> Vec<(GroupId, Write)> {
    let mut writes = Vec::new();
    for _ in 0..1 + rng.below(3) {
        let mut model = run.model().clone();
        let (group, write) = model.random_write_or_compaction(rng);
        if write == Default::default() {
            continue;
        }
        model.apply(group, &write);
        run.history.push(model);
        run.writes.push((group, write.clone()));
        writes.push((group, write));
    }
    writes
}

/// Checks one state of the disk against the run that led to it. How many writes survived.
pub(crate) fn judge(run: &Run, disk: &SimFs, story: &str) -> usize {
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

    // Writing on must not bring anything back that was cut; least of all if what was lost is written again, for then
    // what lies behind it would fit.
    let mut rng = Rng(survived as u64);
    let mut model = model;
    let mut lost = run.writes.get(survived).cloned();
    for _ in 0..1 + survived % 3 {
        let (group, write) = lost.take().unwrap_or_else(|| model.random_write_or_compaction(&mut rng));
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
