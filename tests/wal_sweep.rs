//! The power goes at every sync of many workloads, at every call that fails, and within the recovery after it.
//!
//! A sweep goes through seeded workloads until it has judged as many states of the disk as it was asked for: few
//! by default; `TENURE_CRASHES=1000000` and `TENURE_FLIPS=1000000` ask for more, `TENURE_FIRST_SEED` for others. It
//! prints what it has seen.
//!
//! At each sync the unsynced sectors and names may survive in any subset. If there are few, all of them are tried, with
//! every version of each; of up to ten, every subset, each survivor in a version drawn at random, garbage included; of
//! more, random ones.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;
#[path = "support/wal_flips.rs"]
mod flips;
#[path = "support/wal_bytes.rs"]
mod format;
#[path = "support/wal_model.rs"]
mod model;
#[path = "support/wal_run.rs"]
mod run;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use fates::{AllFates, Rng};
use fixture::small_config;
use format::{oldest_needed, segment, seqs};
use model::reopen;
use run::{DIR, Run, judge, run};
use tenure::sim::disk::{Fault, SimFs};
use tenure::wal::Wal;

/// How many states to judge.
fn asked_for(variable: &str, by_default: u64) -> u64 {
    std::env::var(variable).map_or(by_default, |count| count.parse().unwrap())
}

/// What a sweep has seen.
#[derive(Default, Debug)]
struct Sweep {
    workloads: u64,
    sync_points: u64,
    /// Of them, those at which every subset of what was unsynced was tried.
    exhausted: u64,
    failing_calls: u64,
    interrupted_recoveries: u64,
    killed_and_recovered: u64,
    exhaustive_states: u64,
    random_states: u64,
    /// States in which some but not all of what was unsynced survived.
    partial: u64,
    /// How many of them had their recovery cut short, too, in turn.
    judged: u64,
    /// States of logs that had begun to give back segments, in which entries had been copied forward, and in which the
    /// power went before a segment that had been given back had lost its name.
    given_back: u64,
    copied: u64,
    left_over: u64,
    /// How many unsynced things there were.
    unsynced: BTreeSet<usize>,
}

impl Sweep {
    fn states(&self) -> u64 {
        self.exhaustive_states + self.random_states
    }

    /// Runs a seeded workload up to one in so many of its calls, and lets the power go there.
    fn workload(&mut self, seed: u64, most: usize, visited: u64, budget: u64) {
        let steps = 3 + seed * 7 % 26;
        self.workloads += 1;
        let mut rng = Rng(seed);
        for call in 0..run(seed, steps, None).fs.calls() {
            if rng.below(visited) > 0 {
                continue;
            }
            let story = format!("seed {seed}, {steps} steps, call {call}");
            let fail = |kind, takes_effect| run(seed, steps, Some(Fault { call, takes_effect, kind }));
            let cut = fail(ErrorKind::Other, true);
            if cut.fs.last_was_sync() {
                self.sync_points += 1;
                self.crash_point(&cut, most, &mut rng, &story);
                self.kill_and_recover(cut, &mut rng, &story);
            } else {
                self.failing_call(&cut, &mut rng, &story);
            }
            for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
                let failed = fail(kind, false);
                assert!(failed.failed, "{story} failed and nobody noticed");
                self.failing_call(&failed, &mut rng, &format!("{story}, {kind:?}"));
            }
            if self.states() >= budget {
                return;
            }
        }
    }

    /// Judges one state; sometimes its recovery is cut short, too.
    fn state(&mut self, run: &Run, disk: &SimFs, story: &str) {
        self.judged += 1;
        if self.judged.is_multiple_of(16) {
            self.interrupt_recovery(run, disk, story);
        }
        if let [oldest, .., newest] = seqs(&disk.names())[..] {
            self.given_back += u64::from(oldest > 1);
            self.left_over += u64::from(oldest < oldest_needed(&disk.content(&segment(newest))));
        }
        self.copied += u64::from(run.copied > 0);
        let survived = judge(run, disk, story);
        self.partial += u64::from(survived > run.synced && survived + 1 < run.history.len());
    }

    /// Everything that may be left of what is unsynced now.
    fn crash_point(&mut self, run: &Run, most: usize, rng: &mut Rng, story: &str) {
        let ways = ways(&run.fs);
        self.unsynced.insert(ways.len());
        let all = ways.iter().try_fold(1_usize, |all, ways| all.checked_mul(*ways).filter(|all| *all <= most));
        let subsets_fit = ways.len() <= 10 && 1 << ways.len() <= most;
        if all.is_some() || subsets_fit {
            self.exhausted += 1;
            let mut fates = AllFates::default();
            loop {
                let disk = run.fs.crash(|ways| match all {
                    Some(_) => fates.pick(ways),
                    None if fates.pick(2) == 0 => 0,
                    None => 1 + rng.pick(ways - 1),
                });
                self.exhaustive_states += 1;
                self.state(run, &disk, &format!("{story}, state {}", self.states()));
                if !fates.advance() {
                    return;
                }
            }
        }
        for nth in 0..most as u64 / 8 {
            // Few survive, or many, or about half.
            let survivors = [1, 4, 7][nth as usize % 3];
            let disk = run.fs.crash(|ways| if rng.below(8) < survivors { 1 + rng.pick(ways - 1) } else { 0 });
            self.random_states += 1;
            self.state(run, &disk, &format!("{story}, random state {nth}"));
        }
    }

    /// A call fails: with this error, and with or without its effect. Some states of what it leaves behind.
    fn failing_call(&mut self, run: &Run, rng: &mut Rng, story: &str) {
        self.failing_calls += 1;
        let unsynced = !ways(&run.fs).is_empty();
        for nth in 0..if unsynced { 3 } else { 1 } {
            let disk = run.fs.crash(|ways| if nth == 0 { 0 } else { rng.pick(ways) });
            self.random_states += 1;
            self.state(run, &disk, &format!("{story}, state {nth}"));
        }
    }

    /// The power goes again at each call of the recovery. As all of `disk` is durable, whoever recovers it must find
    /// the same, however often that was tried before.
    fn interrupt_recovery(&mut self, run: &Run, disk: &SimFs, story: &str) {
        let Ok((wal, _, expected)) = reopen(&disk.copy(), Path::new(DIR)) else { return };
        drop(wal);
        let mut rng = Rng(self.states());
        for call in 0.. {
            let again = disk.copy();
            again.inject(Fault { call, takes_effect: true, kind: ErrorKind::Other });
            if Wal::open(Arc::new(again.clone()), Path::new(DIR), small_config()).is_ok() {
                return;
            }
            if ways(&again).is_empty() {
                continue; // so far it has only read
            }
            let cut = again.crash(|ways| rng.pick(ways));
            self.interrupted_recoveries += 1;
            self.random_states += 1;
            judge(run, &cut.copy(), &format!("{story}, call {call} of its recovery"));
            let (.., found) = reopen(&cut, Path::new(DIR)).unwrap_or_else(|error| panic!("{story}, {call}: {error}"));
            assert_eq!(
                found, expected,
                "{story}: an interrupted recovery, call {call}, changed what the next one finds"
            );
        }
    }

    /// The process is killed where `run` stands, the system lives on; the next process recovers, and the power goes
    /// during that or after it. What a finished recovery has found stays.
    fn kill_and_recover(&mut self, mut run: Run, rng: &mut Rng, story: &str) {
        let call = run.fs.calls() + rng.below(24);
        run.fs.inject(Fault { call, takes_effect: true, kind: ErrorKind::Other });
        if let Ok((wal, _, model)) = reopen(&run.fs, Path::new(DIR)) {
            drop(wal);
            run.synced = run.history.iter().rposition(|then| *then == model).unwrap();
        }
        self.killed_and_recovered += 1;
        for nth in 0..2 {
            let disk = run.fs.crash(|ways| if nth == 0 { 0 } else { rng.pick(ways) });
            self.random_states += 1;
            self.state(&run, &disk, &format!("{story}, killed and recovered up to call {call}, state {nth}"));
        }
    }
}

/// In how many ways each unsynced thing may end, if all names survive.
fn ways(fs: &SimFs) -> Vec<usize> {
    let mut all = Vec::new();
    let _ = fs.crash(|ways| {
        all.push(ways);
        1
    });
    all
}

/// `b42`, `d01`, `d07`, `d17`: what was acknowledged is there, what is there was written, and recovering again finds the
/// same; wherever the power goes.
#[test]
fn wherever_the_power_goes_the_log_is_that_after_some_write_and_none_acknowledged_is_lost() {
    let budget = asked_for("TENURE_CRASHES", 1_500);
    // A small share visits one call in six and tries fewer states there, but sees more workloads.
    let (most, visited) = if budget >= 100_000 { (4096, 1) } else { (256, 6) };
    let mut sweep = Sweep::default();
    for seed in asked_for("TENURE_FIRST_SEED", 0).. {
        sweep.workload(seed, most, visited, budget);
        if sweep.states() >= budget {
            break;
        }
    }
    println!("{sweep:#?}\n{} crash states, 0 bad recoveries", sweep.states());
    assert!(sweep.partial > budget / 100, "too few states in which a part survived");
    let given_back = [sweep.given_back, sweep.copied, sweep.left_over];
    assert!(given_back.into_iter().all(|states| states > 0), "too few states of a log that gives space back");
}

/// Every flipped bit of what carries meaning is noticed.
#[test]
fn no_flipped_bit_of_what_carries_meaning_goes_unnoticed() {
    let budget = asked_for("TENURE_FLIPS", 4_000);
    let mut seen = flips::Seen::default();
    for seed in asked_for("TENURE_FIRST_SEED", 0).. {
        seen.flip_bits_of_a_log(seed, (budget / 40).clamp(100, 4000));
        if seen.flips() >= budget {
            break;
        }
    }
    println!("{seen:#?}\n{} flipped bits, none unnoticed", seen.flips());
    assert!(seen.refused > budget / 3 && seen.cut > budget / 100, "{seen:?}");
}
