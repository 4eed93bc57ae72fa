//! The format of the log's files, written down a second time, so that tests can damage them on purpose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

use std::path::{Path, PathBuf};

use crate::fixture::identity;

/// Length of a segment's header in these tests.
pub(crate) const HEADER: usize = 4096;

/// The path of a segment.
pub(crate) fn segment(seq: u64) -> PathBuf {
    Path::new("/log").join(format!("wal-{seq:020}.seg"))
}

/// Where each batch of a segment begins, by the lengths in their headers.
pub(crate) fn batches(content: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = HEADER;
    while content.get(at..at + 4) == Some(b"TWAB") {
        starts.push(at);
        let number = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap()) as usize;
        at += (48 + number(at + 24) + number(at + 28)).next_multiple_of(8);
    }
    starts.push(at);
    starts
}

/// Recomputes a batch's checksum after its head was changed on purpose.
pub(crate) fn reseal(content: &mut [u8], at: usize, seq: u64) {
    let meta = u32::from_le_bytes(content[at + 24..at + 28].try_into().unwrap()) as usize;
    let seed = crc32c(0, &(identity().store.0 ^ u128::from(seq)).to_le_bytes());
    let sum = crc32c(seed, &content[at + 8..at + 48 + meta]);
    content[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C, bit by bit: an implementation of its own, so that the format does not depend on one library.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}
