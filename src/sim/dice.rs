//! Everything random in a world comes from here: one seed, and a stream of its own for every purpose.
//!
//! Streams of their own, so that leaving out one fault or one client changes as little as possible of everything else:
//! that is what makes shrinking work.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use crate::time::Duration;

/// From the first to the second, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(pub Duration, pub Duration);

impl Span {
    /// Always this long.
    #[must_use]
    pub const fn exactly(duration: Duration) -> Self {
        Self(duration, duration)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn millis(from: u64, to: u64) -> Self {
        Self(Duration::from_millis(from), Duration::from_millis(to))
    }

    /// In microseconds.
    #[must_use]
    pub const fn micros(from: u64, to: u64) -> Self {
        Self(Duration::from_micros(from), Duration::from_micros(to))
    }
}

/// One stream of random draws.
#[derive(Clone, Debug)]
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// The stream for `purpose` under `seed`. Different purposes give different streams.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let label = purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(Xoshiro256PlusPlus::seed_from_u64(seed ^ label))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `from` to `to`, both inclusive; `from` if there is none.
    pub fn number(&mut self, from: u64, to: u64) -> u64 {
        if to <= from { from } else { self.0.random_range(from..=to) }
    }

    /// True this often in a million. Draws nothing for 0.
    pub fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.0.random_range(0..1_000_000) < ppm
    }

    /// A time within `span`. Draws nothing if there is no choice.
    pub fn duration(&mut self, span: Span) -> Duration {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.number(nanos(span.0), nanos(span.1)))
    }

    /// One of these; `None` if there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let last = from.len().checked_sub(1)?;
        from.get(self.number(0, last as u64) as usize)
    }
}
