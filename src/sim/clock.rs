//! A node's own clock: it begins anywhere and runs at its own rate, as the rules allow (`docs/time.md`).

use crate::time::{Duration, Instant};

const MILLION: u128 = 1_000_000;

/// The clock of one node.
#[derive(Clone, Debug)]
pub(super) struct NodeClock {
    /// How much faster than true time it runs, in millionths.
    rate_ppm: i64,
    /// From this moment of true time on, when it showed `base`.
    since: Instant,
    base: Instant,
}

impl NodeClock {
    /// A clock that shows the true time.
    pub(super) fn true_time() -> Self {
        Self { rate_ppm: 0, since: Instant::ZERO, base: Instant::ZERO }
    }

    /// What it shows at `now`.
    pub(super) fn at(&self, now: Instant) -> Instant {
        let passed = u128::from(now.as_nanos() - self.since.as_nanos());
        self.base + nanos(passed * self.rate() / MILLION)
    }

    /// The first moment of true time at which it shows `local`; the past if it was set later than that.
    pub(super) fn when(&self, local: Instant) -> Instant {
        let left = local.since(self.base).as_nanos();
        self.since + nanos((left * MILLION).div_ceil(self.rate()))
    }

    /// Runs at another rate from `now` on.
    pub(super) fn set_rate(&mut self, now: Instant, rate_ppm: i64) {
        (self.base, self.since, self.rate_ppm) = (self.at(now), now, rate_ppm);
    }

    /// Shows so much more from now on. Only for a node that is down or is told of it: no clock may do that in secret.
    pub(super) fn shift(&mut self, by: Duration) {
        self.base = self.base + by;
    }

    /// Shows `local` at `now`. Only for a node that is told of it.
    pub(super) fn set(&mut self, now: Instant, local: Instant) {
        (self.base, self.since) = (local, now);
    }

    fn rate(&self) -> u128 {
        (1_000_000 + self.rate_ppm) as u128
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_and_its_inverse_agree() {
        let mut clock = NodeClock::true_time();
        clock.shift(Duration::from_secs(77));
        let mut now = Instant::from_nanos(1_000_000_000_000);
        for rate in [-10_000, 10_000, 1, -1, 0] {
            clock.set_rate(now, rate);
            for step in [1, 999, 1_000_003, 5_000_000_000] {
                let local = clock.at(now) + Duration::from_nanos(step);
                let when = clock.when(local);
                assert!(clock.at(when) >= local && clock.at(when - Duration::from_nanos(1)) < local, "{rate} {step}");
                now = now + Duration::from_nanos(step);
            }
        }
    }
}
