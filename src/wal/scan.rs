//! Reads the batches of one segment, and looks for evidence where one is bad.

use std::path::{Path, PathBuf};

use crate::types::{EntryId, Index};
use crate::wal::codec::is_zero;
use crate::wal::error::{Damage, Proof, WalError};
use crate::wal::fs::File;
use crate::wal::record::{self, ALIGN, BatchHeader, HEADER_BYTES, Item, ItemBody, ItemError};
use crate::wal::segment::{self, SegmentHeader};
use crate::wal::window::Window;

use crate::sync::Arc;

/// How much of a segment is in memory at once, unless a batch is larger.
const READ_BYTES: usize = 1 << 20;
/// Evidence is looked for block by block; empty blocks are passed over quickly.
const BLOCK_BYTES: usize = 4096;

/// A segment being read.
pub(super) struct Scan {
    path: PathBuf,
    window: Window,
    seed: u32,
    version: u32,
}

/// A batch whose every checksum is right.
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    /// Header, item headers and tables.
    pub(super) head: Vec<u8>,
    pub(super) items: Vec<Item>,
}

/// A batch that is not whole: torn, or damaged.
pub(super) struct Bad {
    /// Where the bytes are that are wrong.
    offset: u64,
    /// What is known to be lost; `None` if not even the header can be read.
    lost: Option<Damage>,
    /// From where on there may be other batches.
    resume: u64,
}

impl Bad {
    /// The error, once it is proved that the batch was durable.
    pub(super) fn into_error(self, path: &Path, lsn: u64, proof: Proof) -> WalError {
        WalError::damaged(path, self.offset, self.lost.unwrap_or(Damage::Batch { lsn, proof }))
    }
}

/// What lies behind the last good batch of the log.
pub(super) enum Behind {
    /// Zeros, or no room for a batch.
    Nothing,
    /// Something that proves nothing: a write that the crash cut short.
    Torn,
    /// Proof that a batch is missing here that was durable.
    Proof(Proof),
}

impl Scan {
    pub(super) fn new(path: PathBuf, file: Arc<dyn File>, header: &SegmentHeader) -> Result<Self, WalError> {
        let window = Window::new(file, READ_BYTES).map_err(WalError::io("reading", &path))?;
        Ok(Self { path, window, seed: header.checksum_seed(), version: header.version })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The batch at `offset`, which must be number `lsn`, end by `end` and follow one of `prev_bytes`.
    ///
    /// A batch with the right checksum that does not belong here is no torn write and an error at once.
    pub(super) fn batch(
        &mut self,
        offset: u64,
        end: u64,
        lsn: u64,
        prev_bytes: u32,
    ) -> Result<Result<Batch, Bad>, WalError> {
        let Some((header, head)) = self.verified(offset, end, |_| true)? else {
            return Ok(Err(Bad { offset, lost: None, resume: offset + ALIGN }));
        };
        let malformed = |what| WalError::damaged(&self.path, offset, Damage::Malformed { lsn, what });
        let items = header.items(&head).map_err(|error| match error {
            ItemError::Malformed(what) => malformed(what),
            ItemError::Unsupported(what) => self.unsupported(offset, what),
        })?;
        if header.stamp.lsn != lsn {
            return Err(malformed("it has another number"));
        }
        if header.stamp.prev_bytes != prev_bytes || header.stamp.durable_lsn >= lsn {
            return Err(malformed("it does not follow the batch before it"));
        }
        let batch = Batch { header, head, items };
        Ok(match self.first_lost(offset, &batch)? {
            Some((at, lost)) => Err(Bad { offset: at, lost: Some(lost), resume: offset + header.total_bytes() }),
            None => Ok(batch),
        })
    }

    /// A batch at `offset` byte by byte as it was checked, for writing it again.
    pub(super) fn bytes(&mut self, offset: u64, batch: &Batch) -> Result<Vec<u8>, WalError> {
        let data_bytes = batch.header.total_bytes() as usize - batch.head.len();
        let at = offset + batch.head.len() as u64;
        let data = self.window.get(at, data_bytes).map_err(WalError::io("reading", &self.path))?;
        Ok([&batch.head, data.unwrap_or_default()].concat())
    }

    /// Bytes of a batch at `offset`, which has been read whole before.
    pub(super) fn data(&mut self, offset: u64, item: &Item, skip: usize, length: usize) -> Result<&[u8], WalError> {
        let at = offset + item.data.start as u64 + skip as u64;
        let bytes = self.window.get(at, length).map_err(WalError::io("reading", &self.path))?;
        bytes.ok_or_else(|| WalError::damaged(&self.path, at, Damage::SegmentHeader))
    }

    /// What lies behind the end of the log: batch `lsn` was expected at `offset` and is bad.
    pub(super) fn behind(&mut self, offset: u64, bad: &Bad, lsn: u64) -> Result<Behind, WalError> {
        let file_bytes = self.window.file_bytes();
        let mut empty = true;
        let mut block_at = offset;
        while block_at < file_bytes {
            let length = (file_bytes - block_at).min(BLOCK_BYTES as u64) as usize;
            if !self.is_zero(block_at, length)? {
                empty = false;
                if let Some(proof) = self.proof_in(block_at.max(bad.resume), block_at + length as u64, lsn)? {
                    return Ok(Behind::Proof(proof));
                }
            }
            block_at += length as u64;
        }
        Ok(if empty { Behind::Nothing } else { Behind::Torn })
    }

    /// A batch that begins in `from..to` and was written when `lsn` was durable.
    fn proof_in(&mut self, from: u64, to: u64, lsn: u64) -> Result<Option<Proof>, WalError> {
        let file_bytes = self.window.file_bytes();
        for offset in (from..to).step_by(ALIGN as usize) {
            let later = |header: &BatchHeader| header.stamp.lsn > lsn && header.stamp.durable_lsn >= lsn;
            if let Some((header, _)) = self.verified(offset, file_bytes, later)? {
                return Ok(Some(Proof::LaterBatch { lsn: header.stamp.lsn, offset }));
            }
        }
        Ok(None)
    }

    /// The header and head at `offset` if `wanted` and their checksum is right.
    fn verified(
        &mut self,
        offset: u64,
        end: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(BatchHeader, Vec<u8>)>, WalError> {
        let io = |error| WalError::io("reading", &self.path)(error);
        let Some(room) = end.checked_sub(offset) else { return Ok(None) };
        let Some(bytes) = self.window.get(offset, HEADER_BYTES).map_err(io)? else { return Ok(None) };
        let Some(header) = BatchHeader::read(bytes, room).filter(wanted) else { return Ok(None) };
        let Some(head) = self.window.get(offset, header.head_bytes()).map_err(io)? else { return Ok(None) };
        Ok(header.verify(head, self.seed).then(|| (header, head.to_vec())))
    }

    /// The first item or entry whose data is wrong, and where that is.
    fn first_lost(&mut self, offset: u64, batch: &Batch) -> Result<Option<(u64, Damage)>, WalError> {
        // All of it is in memory from here on: what is checked is what `data` and `bytes` return.
        let whole = batch.header.total_bytes() as usize;
        self.window.get(offset, whole).map_err(WalError::io("reading", &self.path))?;
        for item in &batch.items {
            let at = offset + item.data.start as u64;
            match item.body {
                ItemBody::Floor => {}
                ItemBody::Compact { last, .. } => {
                    if !self.intact(at, item.data.len(), item.data_crc)? {
                        return Ok(Some((at, Damage::Compaction { group: item.group, last })));
                    }
                }
                ItemBody::HardState { term } => {
                    if !self.intact(at, item.data.len(), item.data_crc)? {
                        return Ok(Some((at, Damage::HardState { group: item.group, term })));
                    }
                }
                ItemBody::Entries { first, .. } | ItemBody::Copy { first, .. } => {
                    let mut row_at = at;
                    for (nth, row) in record::rows(&batch.head[item.table.clone()]).enumerate() {
                        if !self.intact(row_at, row.bytes as usize, row.crc)? {
                            let index = Index(first.index.0 + nth as u64);
                            let entry = EntryId { index, term: first.term };
                            return Ok(Some((row_at, Damage::Hole { group: item.group, entry })));
                        }
                        row_at += u64::from(row.bytes);
                    }
                }
            }
        }
        Ok(None)
    }

    fn intact(&mut self, offset: u64, length: usize, crc: u32) -> Result<bool, WalError> {
        let bytes = self.window.get(offset, length).map_err(WalError::io("reading", &self.path))?;
        Ok(bytes.is_some_and(|bytes| crc32c::crc32c(bytes) == crc))
    }

    fn is_zero(&mut self, offset: u64, length: usize) -> Result<bool, WalError> {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        let bytes = self.window.get(offset, length).map_err(WalError::io("reading", &self.path))?;
        Ok(bytes.is_some_and(|bytes| if length == BLOCK_BYTES { bytes == ZEROS } else { is_zero(bytes) }))
    }

    fn unsupported(&self, offset: u64, what: String) -> WalError {
        let (found, supported) = (self.version, segment::VERSION);
        WalError::Unsupported { file: self.path.clone(), offset, what, found, supported }
    }
}
