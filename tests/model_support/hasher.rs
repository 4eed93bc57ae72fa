//! Fingerprints of 128 bits: among ten million states two are confused with a probability of 10^-25.

use std::hash::{BuildHasherDefault, Hasher};

/// Two lanes, each folding a product of 128 bits into 64.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    lanes: [u64; 2],
}

const KEYS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

impl Wide {
    pub(crate) fn new() -> Self {
        Self { lanes: KEYS }
    }

    pub(crate) fn value(mut self) -> u128 {
        // Twice, so that each bit has reached each.
        self.write_u64(KEYS[1]);
        self.write_u64(KEYS[0]);
        u128::from(self.lanes[0]) << 64 | u128::from(self.lanes[1])
    }
}

impl Hasher for Wide {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        for (lane, key) in self.lanes.iter_mut().zip(KEYS) {
            let product = u128::from(*lane ^ word) * u128::from(key | 1);
            *lane = (product as u64) ^ ((product >> 64) as u64).wrapping_add(key.rotate_left(23));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.value() as u64
    }
}

/// For tables of fingerprints, which need no further mixing.
#[derive(Clone, Copy, Default)]
pub(crate) struct AsIs(u64);

pub(crate) type BuildAsIs = BuildHasherDefault<AsIs>;

impl Hasher for AsIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are looked up");
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
