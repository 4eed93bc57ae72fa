//! The clock of a node, and who watches it (rule `p16`).

use rustix::time::{ClockId, clock_gettime};

use crate::sync::Arc;
use crate::time::{Duration, Instant};

/// Where time comes from: the system, or a test.
pub(super) trait TimeSource: Send + Sync + 'static {
    /// Monotonic time that runs on while the machine is suspended.
    fn boottime(&self) -> Instant;

    /// Monotonic time that stands still meanwhile.
    fn monotonic(&self) -> Instant;
}

/// The system's clocks.
struct System;

impl TimeSource for System {
    fn boottime(&self) -> Instant {
        read(ClockId::Boottime)
    }

    fn monotonic(&self) -> Instant {
        read(ClockId::Monotonic)
    }
}

fn read(id: ClockId) -> Instant {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Monotonic time that runs on while the machine is suspended (`CLOCK_BOOTTIME`): a leader that slept must not believe
/// that its lease has waited for it.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn TimeSource>);

impl Clock {
    /// The system's.
    pub(super) fn system() -> Self {
        Self::of(System)
    }

    pub(super) fn of(source: impl TimeSource) -> Self {
        Self(Arc::new(source))
    }

    /// The time now. Sample it immediately before each step (rule `p00`).
    pub(super) fn now(&self) -> Instant {
        self.0.boottime()
    }

    /// How long the machine has been suspended since it was started: by so much the two clocks differ.
    fn suspended(&self) -> Duration {
        let (mut before, mut boottime) = (Instant::ZERO, Instant::ZERO);
        for _ in 0..LOOKS {
            before = self.0.monotonic();
            boottime = self.0.boottime();
            if self.0.monotonic().since(before) < AT_ONCE {
                break;
            }
        }
        boottime.since(before)
    }
}

/// A thread that is put aside between two clocks finds them apart: it looks again, so often.
const LOOKS: usize = 3;
/// Clocks that were read within this are read at once.
const AT_ONCE: Duration = Duration::from_millis(10);
/// A change by more than this is a jump.
const JUMP: Duration = Duration::from_millis(100);

/// Notices that the machine was suspended or that a clock was set, by the difference between two clocks that otherwise
/// run at one rate.
pub(super) struct ClockGuard {
    suspended: Duration,
}

impl ClockGuard {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { suspended: clock.suspended() }
    }

    /// By how much the clocks have moved against each other since the last jump, if that is one. Small moves add up.
    pub(super) fn look(&mut self, clock: &Clock) -> Option<Duration> {
        let suspended = clock.suspended();
        let moved = suspended.abs_diff(self.suspended);
        if moved <= JUMP {
            return None;
        }
        self.suspended = suspended;
        Some(moved)
    }
}

/// A clock that a test moves.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::sync::atomic::{AtomicU64, Ordering};

    /// The system's clocks, and how much was slept beside.
    #[derive(Clone, Default)]
    pub(in crate::runtime) struct Sleeper(Arc<AtomicU64>);

    impl Sleeper {
        pub(in crate::runtime) fn suspend(&self, time: Duration) {
            self.0.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
        }
    }

    impl TimeSource for Sleeper {
        fn boottime(&self) -> Instant {
            System.boottime() + Duration::from_nanos(self.0.load(Ordering::SeqCst))
        }

        fn monotonic(&self) -> Instant {
            System.monotonic()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Sleeper;
    use super::*;
    use crate::sync::Mutex;

    #[test]
    fn the_clock_moves_forward_at_the_rate_of_the_systems() {
        let clock = Clock::system();
        let (before, system) = (clock.now(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(5));
        let (passed, system) = (clock.now().since(before), system.elapsed());
        assert!(passed >= Duration::from_millis(5));
        assert!(passed.abs_diff(system) < Duration::from_secs(1));
    }

    /// `p16`: more than a tenth of a second is a jump, once; less is not, but adds up.
    #[test]
    fn p16_a_suspended_machine_is_noticed_once() {
        let sleeper = Sleeper::default();
        let clock = Clock::of(sleeper.clone());
        let mut guard = ClockGuard::new(&clock);
        assert_eq!(guard.look(&clock), None);
        sleeper.suspend(Duration::from_secs(5));
        let jump = guard.look(&clock).unwrap();
        assert!(jump.abs_diff(Duration::from_secs(5)) < JUMP, "{jump:?}");
        assert_eq!(guard.look(&clock), None);
        sleeper.suspend(Duration::from_millis(70));
        assert_eq!(guard.look(&clock), None);
        sleeper.suspend(Duration::from_millis(70));
        assert!(guard.look(&clock).is_some());
    }

    /// A thread that is put aside for a second between reading one clock and the other.
    struct Interrupted {
        readings: Mutex<u64>,
        lost: fn(u64) -> u64,
    }

    impl TimeSource for Interrupted {
        fn boottime(&self) -> Instant {
            self.monotonic()
        }

        fn monotonic(&self) -> Instant {
            let mut readings = self.readings.lock();
            *readings += 1;
            Instant::from_nanos((self.lost)(*readings) * 1_000_000_000 + *readings)
        }
    }

    /// `p16`: being put aside is no jump, unless it happens every time.
    #[test]
    fn p16_a_thread_that_was_put_aside_is_no_jump() {
        // The guard's first look takes readings 1 to 3.
        let once = Clock::of(Interrupted { readings: Mutex::new(0), lost: |reading| u64::from(reading >= 5) });
        let mut guard = ClockGuard::new(&once);
        assert_eq!(guard.look(&once), None);
        let always = Clock::of(Interrupted { readings: Mutex::new(0), lost: |reading| reading.saturating_sub(3) });
        let mut guard = ClockGuard::new(&always);
        assert!(guard.look(&always).is_some());
    }
}
