//! A log file written over and over: zero-filled once, so that a sync has no metadata to write.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The length of the file, and the most that one batch may have.
pub(crate) const BYTES: usize = 64 << 20;
const ZEROS: usize = 1 << 20;

pub(crate) struct Log {
    file: File,
    end: usize,
    sync: bool,
}

impl Log {
    /// Opens the file, and fills it with zeros unless a run before has done so.
    pub(crate) fn open(path: &Path, sync: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() != BYTES as u64 {
            let zeros = vec![0; ZEROS];
            (0..BYTES).step_by(ZEROS).try_for_each(|at| file.write_all_at(&zeros, at as u64))?;
            file.sync_all()?;
        }
        Ok(Self { file, end: 0, sync })
    }

    /// One write and one sync; starts over at the end of the file.
    pub(crate) fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.end + batch.len() > BYTES {
            self.end = 0;
        }
        self.file.write_all_at(batch, self.end as u64)?;
        self.end += batch.len();
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }
}
