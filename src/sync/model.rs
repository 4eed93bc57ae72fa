//! A model checker's locks in the shape of `parking_lot`'s, and how to have a scenario checked.

#![allow(clippy::unwrap_used, clippy::panic)]

pub(crate) mod channel;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[cfg(loom)]
use loom as checker;
#[cfg(all(shuttle, not(loom)))]
use shuttle as checker;

pub(crate) use checker::sync::atomic;
pub(crate) use checker::thread;
pub(crate) use checker::thread::{JoinHandle, yield_now};
pub(crate) use checker::thread_local as local;
#[cfg(all(shuttle, not(loom)))]
pub(crate) use shuttle::thread::spawn;

/// The checkers' own does not know the initializers that are constant.
macro_rules! local_of_constant {
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };)*) => {
        $($crate::sync::model::local! { $(#[$attribute])* static $name: $type = $value })*
    };
}
pub(crate) use local_of_constant as thread_local;

/// Runs `scenario` under every schedule, and with every value that a load may see.
#[cfg(loom)]
pub(crate) fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    check(None, scenario);
}

/// The same, but a thread is interrupted at most so often. Most bugs need one or two interruptions, and without a bound
/// larger scenarios never end.
#[cfg(loom)]
pub(crate) fn explore_bounded(interruptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    check(Some(interruptions), scenario);
}

#[cfg(loom)]
fn check(interruptions: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions;
    model.max_branches = 100_000;
    let scenario = std::sync::Arc::new(scenario);
    model.check(move || {
        let scenario = scenario.clone();
        // Not here, where the stack is small.
        spawn(move || scenario()).join().unwrap();
    });
}

/// Runs `scenario` under random schedules.
#[cfg(all(shuttle, not(loom)))]
pub(crate) fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    explore_random(2_000, scenario);
}

#[cfg(all(shuttle, not(loom)))]
pub(crate) fn explore_bounded(_interruptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    explore_random(2_000, scenario);
}

/// Runs `scenario` so often, times `SHUTTLE_RUNS` percent: half of the runs draw a thread for every step, the others give
/// each thread a rank that changes now and then, which holds some back for long.
#[cfg(all(shuttle, not(loom)))]
pub(crate) fn explore_random(runs: usize, scenario: impl Fn() + Send + Sync + 'static) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    let percent = std::env::var("SHUTTLE_RUNS").map_or(100, |percent| percent.parse().unwrap());
    let runs = (runs * percent / 200).max(1);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    let scenario = std::sync::Arc::new(scenario);
    let again = scenario.clone();
    shuttle::Runner::new(RandomScheduler::new(runs), config.clone()).run(move || scenario());
    shuttle::Runner::new(PctScheduler::new(3, runs), config).run(move || again());
}

/// Starts a thread of a scenario; with a stack on which a whole shard can be built.
#[cfg(loom)]
pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    const STACK_WORDS: usize = 1 << 15;
    loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(body).unwrap()
}

/// Waits that are to last longer never end by themselves; shorter ones may end at any moment.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

/// `None` only while its thread waits for a condition.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: Option<checker::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checker::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, guard: Some(self.0.lock().unwrap()) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.0.try_lock().ok()?;
        Some(MutexGuard { mutex: self, guard: Some(guard) })
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().unwrap()
    }
}

#[derive(Default)]
pub(crate) struct Condvar {
    condition: checker::sync::Condvar,
    /// The checkers do not tell whether a notification found somebody asleep.
    asleep: AtomicUsize,
}

pub(crate) struct WaitResult(bool);

impl WaitResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.asleep.fetch_add(1, Ordering::Relaxed);
        guard.guard = guard.guard.take().map(|guard| self.condition.wait(guard).unwrap());
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Duration) -> WaitResult {
        if limit >= FOR_EVER {
            self.wait(guard);
            return WaitResult(false);
        }
        // The others may do anything meanwhile, or nothing: a wait that somebody ended looks the same.
        guard.guard = None;
        yield_now();
        guard.guard = guard.mutex.lock().guard;
        WaitResult(true)
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitResult {
        self.wait_for(guard, deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn notify_one(&self) -> bool {
        let one_less = |asleep: usize| asleep.checked_sub(1);
        let found = self.asleep.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        self.condition.notify_one();
        found
    }

    pub(crate) fn notify_all(&self) {
        self.asleep.store(0, Ordering::Relaxed);
        self.condition.notify_all();
    }
}
