//! Reads a file piece by piece, never more into memory than the file has.

use std::io;

use crate::sync::Arc;
use crate::wal::fs::File;

/// A stretch of a file in memory.
pub(super) struct Window {
    file: Arc<dyn File>,
    file_bytes: u64,
    /// How much is read at once, unless more is asked for.
    stride: usize,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Arc<dyn File>, stride: usize) -> io::Result<Self> {
        let file_bytes = file.length()?;
        Ok(Self { file, file_bytes, stride, start: 0, bytes: Vec::new() })
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// `length` bytes from `offset` on; `None` if the file ends before.
    pub(super) fn get(&mut self, offset: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let Some(room) = self.file_bytes.checked_sub(offset) else { return Ok(None) };
        if length as u64 > room {
            return Ok(None);
        }
        let end = offset + length as u64;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = (length.max(self.stride) as u64).min(room) as usize;
            // Emptied first: after a failed read nothing stale must be taken for the file's content.
            self.bytes.clear();
            self.start = offset;
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(wanted, 0);
            self.file.pread(&mut bytes, offset)?;
            self.bytes = bytes;
        }
        let at = (offset - self.start) as usize;
        Ok(self.bytes.get(at..at + length))
    }
}
