//! A limit in bytes per second, as a value: it says when, and somebody else waits.

use crate::time::{Duration, Instant};

/// Gives out times at which bytes may leave, one after the other, to whoever asks: who asks first leaves first.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    /// `None`: no limit.
    bytes_per_second: Option<u64>,
    /// When everything that was given out will have left.
    free_at: Instant,
    /// Counts changes of the limit: a time that was given out before one is void.
    epoch: u64,
}

/// A time that was given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// When the bytes may leave.
    pub at: Instant,
    epoch: u64,
}

impl Throttle {
    /// A limit; 0 counts as 1.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, ..Self::default() }
    }

    /// Another limit. What was reserved and has not left must be reserved again: see [`holds`](Self::holds).
    pub fn set(&mut self, bytes_per_second: Option<u64>) {
        *self = Self { bytes_per_second, free_at: Instant::ZERO, epoch: self.epoch + 1 };
    }

    /// When `bytes` more may leave: now, or when what was given out before has had its time. There is no credit for
    /// silence, so nothing ever leaves faster than the limit but by one reservation.
    pub fn reserve(&mut self, now: Instant, bytes: u64) -> Reservation {
        let at = self.free_at.max(now);
        if let Some(rate) = self.bytes_per_second {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            self.free_at = at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        Reservation { at, epoch: self.epoch }
    }

    /// Whether the limit is still the one under which this was given out.
    #[must_use]
    pub fn holds(&self, reservation: Reservation) -> bool {
        reservation.epoch == self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn bytes_leave_at_the_rate_whoever_asks_and_silence_earns_nothing() {
        let mut throttle = Throttle::new(Some(1000));
        assert_eq!(throttle.reserve(at(0), 100).at, at(0));
        assert_eq!(throttle.reserve(at(0), 100).at, at(100));
        assert_eq!(throttle.reserve(at(50), 300).at, at(200));
        assert_eq!(throttle.reserve(at(9000), 100).at, at(9000));
        let late = throttle.reserve(at(9000), 100);
        assert_eq!(late.at, at(9100));
        assert!(throttle.holds(late));
        throttle.set(None);
        assert!(!throttle.holds(late));
        assert_eq!(throttle.reserve(at(9050), 1 << 40).at, at(9050));
        assert_eq!(throttle.reserve(at(9050), 1).at, at(9050));
    }
}
