//! The snapshots of one group: what is there, what is on its way, and when the next is due.

use std::time::Instant as Stopwatch;

use super::{SnapshotInfo, SnapshotOptions, SnapshotStatus};
use crate::core::Install;
use crate::metrics::SnapshotCounters;
use crate::snapshot::{Progress, Snapshot, SnapshotStore};
use crate::sync::Mutex;
use crate::time::Duration;
use crate::types::{GroupId, Index};

/// After an attempt that failed the next waits so long, twice as long each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// After a snapshot that could not be taken.
const RETRY: Duration = Duration::from_secs(10);

/// After a snapshot the log asks for none as long as that took, and so long at least.
const RELIEF: Duration = Duration::from_millis(50);

/// Shared by a group's handles, its apply thread, the shard and the two threads for snapshots.
pub(in crate::runtime) struct Shelf {
    pub(in crate::runtime) group: GroupId,
    pub(in crate::runtime) store: SnapshotStore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    making: bool,
    /// What a leader offered last.
    offered: Option<Install>,
    /// Since a snapshot began to be fetched, until it is restored.
    fetching: Option<Progress>,
    /// No attempt to fetch before then.
    not_before: Option<Stopwatch>,
    failures_in_a_row: u32,
    /// When the snapshot began that is being made, or was made last.
    began_at: Option<Stopwatch>,
    /// Until when the log does not ask for another.
    relieved_until: Option<Stopwatch>,
    counters: SnapshotCounters,
    last_error: Option<String>,
}

impl Shelf {
    pub(super) fn new(group: GroupId, store: SnapshotStore) -> Self {
        Self { group, store, state: Mutex::default() }
    }

    pub(in crate::runtime) fn status(&self) -> SnapshotStatus {
        let newest = self.store.newest().map(|snapshot| info(&snapshot));
        let state = self.state.lock();
        SnapshotStatus {
            newest,
            making: state.making,
            fetching: state.fetching,
            counters: state.counters,
            last_error: state.last_error.clone(),
        }
    }

    // ---- taking ----------------------------------------------------------------------------------------------------

    /// Whether one may be made now: one at a time.
    pub(in crate::runtime) fn begin_taking(&self) -> bool {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.making, true) {
            return false;
        }
        state.began_at = Some(Stopwatch::now());
        true
    }

    /// It was not taken, for no fault of anybody.
    pub(in crate::runtime) fn not_taken(&self) {
        self.state.lock().making = false;
    }

    pub(super) fn taken(&self, result: &Result<Snapshot, String>) {
        let (mut state, now) = (self.state.lock(), Stopwatch::now());
        state.making = false;
        let took = state.began_at.map_or(RELIEF, |began| now - began);
        state.relieved_until = Some(now + took.max(RELIEF));
        match result {
            Ok(snapshot) => {
                state.counters.taken += 1;
                state.counters.taken_bytes += snapshot.manifest().bytes();
            }
            Err(error) => {
                state.counters.failed += 1;
                state.last_error = Some(error.clone());
            }
        }
    }

    /// Whether the group may be asked to make the log shorter: not all the time.
    pub(super) fn may_press(&self) -> bool {
        let (mut state, now) = (self.state.lock(), Stopwatch::now());
        let may = !state.making && state.relieved_until.is_none_or(|until| until <= now);
        if may {
            state.relieved_until = Some(now + RELIEF);
        }
        may
    }

    // ---- fetching --------------------------------------------------------------------------------------------------

    /// A leader offers a snapshot that is lacking here. Whether somebody has to begin to fetch it.
    pub(in crate::runtime) fn offer(&self, install: Install) -> bool {
        let mut state = self.state.lock();
        state.offered = Some(install);
        let waits = state.not_before.is_some_and(|until| Stopwatch::now() < until);
        if state.fetching.is_some() || waits {
            return false;
        }
        state.fetching = Some(Progress::default());
        true
    }

    pub(super) fn offered(&self) -> Option<Install> {
        self.state.lock().offered
    }

    /// Whether a leader offered something that is not `applied` yet: by now the log may have brought it.
    pub(super) fn lacks_what_is_offered(&self, applied: Index) -> bool {
        self.offered().is_some_and(|offer| offer.last.index > applied)
    }

    /// The transfer is so far, and so many bytes came in since the last time.
    pub(super) fn note_progress(&self, progress: Progress, received: u64) {
        let mut state = self.state.lock();
        state.fetching = Some(progress);
        state.counters.fetched_bytes += received;
    }

    pub(super) fn not_fetched(&self, error: String) {
        let mut state = self.state.lock();
        state.fetching = None;
        let pause = FIRST_PAUSE * 2u32.pow(state.failures_in_a_row.min(10));
        state.not_before = Some(Stopwatch::now() + pause.min(LONGEST_PAUSE));
        state.failures_in_a_row += 1;
        state.counters.fetch_failed += 1;
        state.last_error = Some(error);
    }

    /// What was fetched is restored, or of no use any more.
    pub(in crate::runtime) fn fetch_over(&self, restored: bool) {
        let mut state = self.state.lock();
        state.fetching = None;
        (state.not_before, state.failures_in_a_row) = (None, 0);
        state.counters.installed += u64::from(restored);
    }
}

fn info(snapshot: &Snapshot) -> SnapshotInfo {
    let manifest = snapshot.manifest();
    let about = manifest.about();
    SnapshotInfo {
        id: snapshot.id(),
        last: about.last,
        bytes: manifest.bytes(),
        maker: about.maker,
        created_ms: about.created_ms,
    }
}

/// When the next snapshot of a group is due; kept by its apply thread.
pub(in crate::runtime) struct Pace {
    options: SnapshotOptions,
    /// Bytes of commands applied since the last.
    bytes: u64,
    /// So many make the next due.
    bytes_due: u64,
    /// When age makes it due, if something was applied since.
    age_due: Option<Stopwatch>,
    /// Something was applied since the last.
    anything: bool,
    /// The log is of no use without a snapshot that is not there.
    overdue: bool,
    /// When one that failed is tried again.
    retry_at: Option<Stopwatch>,
}

impl Pace {
    /// `phase`, any number, spreads the groups; `overdue`: the log begins behind something, and no snapshot covers it.
    pub(in crate::runtime) fn new(options: SnapshotOptions, phase: u64, overdue: bool) -> Self {
        let share = |whole: u64| whole - (u128::from(whole / 2) * u128::from(phase) / u128::from(u64::MAX)) as u64;
        let age = |age: Duration| Stopwatch::now() + Duration::from_millis(share(age.as_millis() as u64));
        let (bytes_due, age_due) = (share(options.log_bytes), options.max_age.map(age));
        Self { options, bytes: 0, bytes_due, age_due, anything: false, overdue, retry_at: None }
    }

    pub(in crate::runtime) fn applied(&mut self, bytes: usize) {
        self.anything = true;
        self.bytes += bytes as u64;
    }

    pub(in crate::runtime) fn is_due(&self) -> bool {
        let by_size = self.options.log_bytes > 0 && self.bytes >= self.bytes_due;
        let by_age = self.anything && self.age_due.is_some_and(|due| due <= Stopwatch::now());
        let again = self.retry_at.is_some_and(|at| at <= Stopwatch::now());
        self.overdue || by_size || by_age || again
    }

    /// How long until age makes one due, or one that failed is tried again. What is due already waits for the one before it.
    pub(in crate::runtime) fn patience(&self) -> Option<Duration> {
        let due = [self.age_due.filter(|_| self.anything), self.retry_at].into_iter().flatten();
        let left = due.filter_map(|due| due.checked_duration_since(Stopwatch::now())).min()?;
        Some(left + Duration::from_millis(1))
    }

    /// The one that was due could not be taken: it is tried again after a while.
    pub(in crate::runtime) fn failed(&mut self) {
        self.retry_at = Some(Stopwatch::now() + RETRY);
    }

    /// Whether the log is of no use without it.
    pub(in crate::runtime) fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// One begins to be taken, or another node's took its place.
    pub(in crate::runtime) fn restart(&mut self) {
        (self.bytes, self.bytes_due, self.anything, self.overdue) = (0, self.options.log_bytes, false, false);
        self.age_due = self.options.max_age.map(|age| Stopwatch::now() + age);
        self.retry_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(log_bytes: u64) -> SnapshotOptions {
        SnapshotOptions { log_bytes, ..SnapshotOptions::default() }
    }

    #[test]
    fn the_first_snapshot_is_due_between_half_and_all_of_the_bytes() {
        let due_at = |phase: u64| {
            let mut pace = Pace::new(options(1000), phase, false);
            (1..=2000).find(|_| {
                pace.applied(1);
                pace.is_due()
            })
        };
        assert_eq!((due_at(0), due_at(u64::MAX), due_at(u64::MAX / 2)), (Some(1000), Some(500), Some(751)));
        let mut pace = Pace::new(options(1000), u64::MAX, false);
        pace.applied(700);
        pace.restart();
        pace.applied(700);
        assert!(!pace.is_due(), "the second has its full distance");
    }

    #[test]
    fn size_0_and_no_age_take_none_by_themselves() {
        let mut pace = Pace::new(options(0), 0, false);
        pace.applied(usize::MAX / 2);
        assert!(!pace.is_due() && pace.patience().is_none());
        assert!(Pace::new(options(0), 0, true).is_due(), "unless the log needs one");
    }

    #[test]
    fn one_that_failed_is_tried_again() {
        let mut pace = Pace::new(options(0), 0, true);
        pace.restart();
        pace.failed();
        assert!(!pace.is_due() && pace.patience().is_some_and(|left| left > RETRY / 2));
        pace.retry_at = Some(Stopwatch::now());
        assert!(pace.is_due());
        pace.restart();
        assert!(!pace.is_due());
    }

    #[test]
    fn age_counts_only_what_was_applied() {
        let by_age = SnapshotOptions { max_age: Some(Duration::ZERO), ..options(0) };
        let mut pace = Pace::new(by_age, 0, false);
        assert!(!pace.is_due() && pace.patience().is_none());
        pace.applied(1);
        assert!(pace.is_due() && pace.patience().is_none());
    }
}
