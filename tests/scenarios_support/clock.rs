//! The clock of one node: its own start, its own rate. True time is a [`Duration`] since the story began, a node's time
//! an [`Instant`]; nothing compares the instants of two nodes.

use tenure::time::{Duration, Instant};
use tenure::types::NodeId;

const MILLION: u128 = 1_000_000;

/// Shows `shown` at true time `since`, and from then on runs at its rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    since: Duration,
    shown: Instant,
    /// Local nanoseconds per million true ones.
    rate: u128,
}

impl Clock {
    /// A clock at the right rate that starts at a time of its own.
    pub(crate) fn of(node: NodeId) -> Self {
        let shown = Instant::from_nanos(1_000_000_000_000 + node.0 * 77_712_345_678_901);
        Self { since: Duration::ZERO, shown, rate: MILLION }
    }

    /// What it shows at this true time.
    pub(crate) fn at(&self, elapsed: Duration) -> Instant {
        let passed = (elapsed - self.since).as_nanos() * self.rate / MILLION;
        self.shown + nanos(passed)
    }

    /// The first true time at which it shows `local` or later.
    pub(crate) fn reaches(&self, local: Instant) -> Duration {
        let passed = local.since(self.shown).as_nanos() * MILLION;
        self.since + nanos(passed.div_ceil(self.rate))
    }

    /// From now on it is fast or slow by so many millionths.
    pub(crate) fn set_rate(&mut self, elapsed: Duration, ppm: i64) {
        self.shown = self.at(elapsed);
        self.since = elapsed;
        self.rate = MILLION.saturating_add_signed(i128::from(ppm));
    }
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[test]
fn a_fast_clock_reaches_a_time_earlier_and_never_before_it_shows_it() {
    let mut clock = Clock::of(NodeId(3));
    clock.set_rate(Duration::from_secs(2), 10_000);
    let start = clock.at(Duration::from_secs(2));
    let reached = clock.reaches(start + Duration::from_secs(101));
    assert_eq!(reached, Duration::from_secs(102));
    for odd in 1..1000 {
        let local = start + Duration::from_nanos(odd);
        assert!(clock.at(clock.reaches(local)) >= local);
    }
}
