//! The format of the log's files, written down a second time, so that tests can damage them on purpose.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::fixture::identity;

/// Length of a segment's header in these tests.
pub(crate) const HEADER: usize = 4096;

/// The path of a segment.
pub(crate) fn segment(seq: u64) -> PathBuf {
    Path::new("/log").join(format!("wal-{seq:020}.seg"))
}

/// The numbers of the segments among these files, rising.
pub(crate) fn seqs(names: &[PathBuf]) -> Vec<u64> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("wal-")?.strip_suffix(".seg")?.parse().ok();
    let mut seqs: Vec<u64> = names.iter().filter_map(number).collect();
    seqs.sort_unstable();
    seqs
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

/// The same for a segment's header.
pub(crate) fn reseal_header(content: &mut [u8]) {
    let sum = crc32c(crc32c(0, &content[..12]), &content[16..HEADER]);
    content[12..16].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C, bit by bit: an implementation of its own, so that the format does not depend on one library.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// What a byte of a log's file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    Identity,
    Header,
    /// Of the batch that begins at `start`; whether something on disk proves that it was durable.
    Batch {
        start: usize,
        lsn: u64,
        proved: bool,
    },
    Nothing,
}

/// Where a batch begins, its payload begins, and that ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BatchPlace {
    pub(crate) start: usize,
    pub(crate) payload: usize,
    pub(crate) end: usize,
    lsn: u64,
    durable_lsn: u64,
    proved: bool,
}

/// The batches of a whole log, by segment.
pub(crate) struct Reading(BTreeMap<u64, Vec<BatchPlace>>);

impl Reading {
    /// Reads the segments that are needed, up to `newest`, and that one up to `torn` if what follows there is a torn write.
    pub(crate) fn of(newest: u64, content: impl Fn(u64) -> Vec<u8>, torn: Option<usize>) -> Self {
        let oldest = oldest_needed(&content(newest));
        let segments = (oldest..=newest).map(|seq| {
            let bytes = content(seq);
            let end = if seq < newest { Some(u64_at(&content(seq + 1), 72) as usize) } else { torn };
            let mut batches = places(&bytes, end.unwrap_or(bytes.len()));
            let stated = if seq < newest { u64::MAX } else { batches.iter().map(|b| b.durable_lsn).max().unwrap_or(0) };
            // The newest statement proves all before the batch that makes it, and says nothing of itself.
            batches.iter_mut().for_each(|batch| batch.proved = batch.lsn <= stated);
            (seq, batches)
        });
        Self(segments.collect())
    }

    pub(crate) fn batches_of(&self, file: &Path) -> Option<&[BatchPlace]> {
        let (_, batches) = self.0.iter().find(|(seq, _)| segment(**seq) == file)?;
        Some(batches)
    }

    pub(crate) fn of_byte(&self, file: &Path, at: usize) -> Meaning {
        if file.file_name().is_some_and(|name| name == "identity") {
            return Meaning::Identity;
        }
        let Some(batches) = self.batches_of(file) else { return Meaning::Nothing };
        if at < HEADER {
            return Meaning::Header;
        }
        let batch = batches.iter().find(|batch| (batch.start..batch.end).contains(&at));
        batch.map_or(Meaning::Nothing, |batch| Meaning::Batch {
            start: batch.start,
            lsn: batch.lsn,
            proved: batch.proved,
        })
    }
}

/// The batches from the header to `end`, one behind the other.
fn places(content: &[u8], end: usize) -> Vec<BatchPlace> {
    let mut places = Vec::new();
    for start in batches(content) {
        if start >= end || content.get(start..start + 4) != Some(b"TWAB") {
            break;
        }
        let number = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap()) as usize;
        let payload = start + 48 + number(start + 24);
        let (lsn, durable_lsn) = (u64_at(content, start + 8), u64_at(content, start + 16));
        places.push(BatchPlace { start, payload, end: payload + number(start + 28), lsn, durable_lsn, proved: false });
    }
    places
}

/// The oldest segment needed, as the newest one says.
pub(crate) fn oldest_needed(newest: &[u8]) -> u64 {
    u64_at(newest, 48)
}

fn u64_at(content: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(content[at..at + 8].try_into().unwrap())
}
