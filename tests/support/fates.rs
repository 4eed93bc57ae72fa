//! Who decides what survives a crash, and other small draws.

#![allow(dead_code, reason = "each test program uses a part of it")]

/// Walks through every combination of fates, like an odometer.
#[derive(Default)]
pub(crate) struct AllFates {
    digits: Vec<(usize, usize)>,
    at: usize,
}

impl AllFates {
    pub(crate) fn pick(&mut self, ways: usize) -> usize {
        if self.at == self.digits.len() {
            self.digits.push((0, ways));
        }
        self.at += 1;
        self.digits[self.at - 1].0
    }

    /// Goes on to the next combination; `false` once all have been seen.
    pub(crate) fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((digit, ways)) = self.digits.last_mut() {
            *digit += 1;
            if *digit < *ways {
                return true;
            }
            self.digits.pop();
        }
        false
    }
}

/// A small seeded generator (SplitMix64).
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn pick(&mut self, ways: usize) -> usize {
        self.below(ways as u64) as usize
    }
}
