//! The clock of a node.

use rustix::time::{ClockId, clock_gettime};

use crate::time::Instant;

/// Monotonic time that runs on while the machine is suspended (`CLOCK_BOOTTIME`): a leader that slept must not believe
/// that its lease has waited for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock;

impl Clock {
    /// The time now. Sample it immediately before each step (rule `p00`).
    pub(super) fn now(self) -> Instant {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn the_clock_moves_forward_at_the_rate_of_the_systems() {
        let (before, system) = (Clock.now(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(5));
        let (passed, system) = (Clock.now().since(before), system.elapsed());
        assert!(passed >= Duration::from_millis(5));
        assert!(passed.abs_diff(system) < Duration::from_secs(1));
    }
}
