//! Reads entries back, from any thread, while the log grows.
//!
//! Where the entries are is looked up under a lock; the bytes are read outside of it. Written bytes do not change as
//! long as their segment is needed, so a truncation meanwhile does no harm: what is returned was the log at the moment
//! of the look-up. Every byte returned has passed its checksum in this very read. If it has not, and the segment was
//! given up meanwhile, its file may have begun another life: the entries are gone, or copied, and looked up again.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;

use crate::log::{Entry, EntryKind};
use crate::sync::{Arc, Mutex};
use crate::types::{EntryId, GroupId, Index};
use crate::wal::error::{Damage, WalError};
use crate::wal::index::{Places, Run};
use crate::wal::record::{self, ROW_BYTES};
use crate::wal::segment;
use crate::wal::window::Window;

/// Runs looked up for one read. More are left for the next one.
const RUNS_AT_ONCE: usize = 1024;
/// Small runs lie close together: they are read this much at once.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// Reads entries from the log. Cheap to clone; outlives the [`Wal`](super::Wal).
#[derive(Clone)]
pub struct WalReader {
    places: Arc<Mutex<Places>>,
    dir: Arc<PathBuf>,
}

impl WalReader {
    pub(super) fn new(places: Arc<Mutex<Places>>, dir: PathBuf) -> Self {
        Self { places, dir: Arc::new(dir) }
    }

    /// Entries from `first` to at most `last` (inclusive), in order: at least one, and no further one that would bring
    /// the payloads above `max_bytes`. It may return fewer than fit; ask again from where it stopped. Entries that are
    /// written and not yet durable are returned too. Blocks on the disk.
    ///
    /// # Errors
    /// [`WalError::Compacted`] if `first` is not in the log any more, [`WalError::NotInLog`] if it is not in the log for
    /// another reason or `last < first`; [`WalError::Damaged`] if bytes on disk
    /// are wrong (nothing is returned then, not even the entries before); [`WalError::Io`].
    pub fn read(&self, group: GroupId, first: Index, last: Index, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        loop {
            let (runs, base) = {
                let places = self.places.lock();
                (places.runs(group, first, last, RUNS_AT_ONCE), places.base(group))
            };
            if first <= base.index && base != EntryId::ZERO {
                return Err(WalError::Compacted { group, index: first, base });
            }
            let read = self.read_runs(group, &runs, (first, last), max_bytes);
            if read.is_ok() || !self.any_given_up(&runs) {
                return read;
            }
        }
    }

    fn any_given_up(&self, runs: &[Run]) -> bool {
        let places = self.places.lock();
        runs.iter().any(|run| places.segment(run.seq).is_none())
    }

    fn read_runs(
        &self,
        group: GroupId,
        runs: &[Run],
        (first, last): (Index, Index),
        max_bytes: usize,
    ) -> Result<Vec<Entry>, WalError> {
        let mut read = Read { reader: self, group, max_bytes, bytes: 0, entries: Vec::new(), window: None };
        for run in runs {
            let last_here = last.min(run.last());
            if !read.run(run, first.max(run.first.index), last_here)? {
                break;
            }
        }
        if read.entries.is_empty() { Err(WalError::NotInLog { group, index: first }) } else { Ok(read.entries) }
    }
}

impl fmt::Debug for WalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalReader({})", self.dir.display())
    }
}

/// One read on its way.
struct Read<'a> {
    reader: &'a WalReader,
    group: GroupId,
    max_bytes: usize,
    bytes: usize,
    entries: Vec<Entry>,
    /// The stretch of the segment it is in.
    window: Option<(u64, Window)>,
}

impl Read<'_> {
    /// Takes entries out of one run; `false` once the byte limit is reached.
    fn run(&mut self, run: &Run, first: Index, last: Index) -> Result<bool, WalError> {
        let skip = run.skip as usize + (first.0 - run.first.index.0) as usize;
        let table = self.get(run, u64::from(run.table_at), run.table_rows as usize * ROW_BYTES)?.to_vec();
        if crc32c::crc32c(&table) != run.table_crc {
            return Err(self.hole(run, u64::from(run.table_at), first));
        }
        let skipped: u64 = record::rows(&table).take(skip).map(|row| u64::from(row.bytes)).sum();
        let mut data_at = u64::from(run.data_at) + skipped;
        let mut index = first;
        for row in record::rows(&table).skip(skip) {
            if index > last {
                break;
            }
            let length = row.bytes as usize;
            if !self.entries.is_empty() && self.bytes.saturating_add(length) > self.max_bytes {
                return Ok(false);
            }
            let payload = Bytes::copy_from_slice(self.get(run, data_at, length)?);
            let kind = EntryKind::from_u8(row.kind).filter(|_| crc32c::crc32c(&payload) == row.crc);
            let Some(kind) = kind else { return Err(self.hole(run, data_at, index)) };
            self.bytes = self.bytes.saturating_add(length);
            self.entries.push(Entry { id: EntryId { index, term: run.first.term }, kind, payload });
            data_at += u64::from(row.bytes);
            index = index.next();
        }
        Ok(true)
    }

    fn get(&mut self, run: &Run, offset: u64, length: usize) -> Result<&[u8], WalError> {
        let path = || segment::path(&self.reader.dir, run.seq);
        if self.window.as_ref().is_none_or(|(seq, _)| *seq != run.seq) {
            let file = self.reader.places.lock().segment(run.seq);
            let file = file.ok_or_else(|| WalError::MissingSegment { seq: run.seq, file: path() })?;
            let window = Window::new(file, READ_AHEAD_BYTES).map_err(WalError::io("reading", &path()))?;
            self.window = Some((run.seq, window));
        }
        let hole = Damage::Hole { group: self.group, entry: run.first };
        let bytes = match &mut self.window {
            Some((_, window)) => window.get(offset, length).map_err(WalError::io("reading", &path()))?,
            None => None,
        };
        bytes.ok_or_else(|| WalError::damaged(&path(), offset, hole))
    }

    fn hole(&self, run: &Run, offset: u64, index: Index) -> WalError {
        let entry = EntryId { index, term: run.first.term };
        let path = segment::path(&self.reader.dir, run.seq);
        WalError::damaged(&path, offset, Damage::Hole { group: self.group, entry })
    }
}
