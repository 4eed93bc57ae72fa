//! From what a state machine gives to a snapshot on disk, on a thread that has time.

use std::io::{self, Read};
use std::path::Path;

use bytes::{BufMut as _, Bytes};

use super::digest::{Digest, Hasher};
use super::error::SnapshotError;
use super::manifest::{About, Form, Manifest, ManifestFile};
use super::read::Snapshot;
use super::store::{Making, SnapshotStore};
use crate::state_machine::{SnapshotSource, SourceContent, SourceFile};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::types::{EntryId, Index};
use crate::wal::File;

/// Bytes written to a file before they are synced: so the disk's queue stays short for the log, which may be on the same
/// disk.
pub(super) const SYNC_BYTES: u64 = 8 << 20;

impl SnapshotStore {
    /// Makes a snapshot of what `source` gives, the state as of the entry `last`, and removes those that it replaces. The
    /// configuration is the one in use as of `last`, `created_ms` the time for people to read. Blocks, for as long as
    /// reading and writing takes; `go_on` is asked before every chunk.
    ///
    /// When it returns the snapshot is durable. After an error, or a crash on the way, everything is as before.
    ///
    /// # Errors
    /// [`SnapshotError`]: `Stale` if there is one that goes as far, `Busy` while another is being made, `Stopped` if
    /// `go_on` said no; else what went wrong with the source or the disk.
    pub fn make(
        &self,
        last: EntryId,
        configuration: (Index, Bytes),
        created_ms: u64,
        source: SnapshotSource,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Snapshot, SnapshotError> {
        let config = self.config();
        let (cluster, group, maker) = (config.cluster.clone(), config.group, config.node);
        let about = About { cluster, group, last, configuration, maker, created_ms };
        let making = self.shared().begin_making()?;
        // Before anything is read, whether it would be of use at all.
        making.shared().newer(&Manifest::new(about.clone(), Form::Files, config.chunk_bytes, Vec::new())?)?;
        let (form, sources, guard) = match source {
            SnapshotSource::Stream(stream) => {
                let file = SourceFile { name: ManifestFile::stream_name(), content: SourceContent::Stream(stream) };
                (Form::Stream, vec![file], None)
            }
            SnapshotSource::Files { files, guard } => (Form::Files, files, guard),
        };
        let writer = Writer { making: &making, chunk_bytes: config.chunk_bytes, go_on };
        let files = sources.into_iter().map(|source| writer.take(source)).collect::<Result<_, _>>()?;
        drop(guard);
        let manifest = Manifest::new(about, form, config.chunk_bytes, files)?;
        making.commit(manifest)
    }
}

/// Writes the files of a snapshot.
pub(super) struct Writer<'a> {
    pub(super) making: &'a Making,
    pub(super) chunk_bytes: u32,
    pub(super) go_on: &'a dyn Fn() -> bool,
}

impl Writer<'_> {
    /// Writes one file, durably but for its name.
    fn take(&self, SourceFile { name, content }: SourceFile) -> Result<ManifestFile, SnapshotError> {
        let shared = self.making.shared();
        let temporary = shared.temporary();
        let (bytes, digest, checksums) = match content {
            SourceContent::Stream(mut stream) => self.copy(&name, &mut stream, &temporary)?,
            SourceContent::Copy(path) => self.copy(&name, &mut self.open(&path)?, &temporary)?,
            SourceContent::Immutable(path) => match self.link(&name, &path, &temporary)? {
                Some(linked) => linked,
                None => self.copy(&name, &mut self.open(&path)?, &temporary)?,
            },
        };
        self.making.file_made(&temporary, digest)?;
        Ok(ManifestFile { name, bytes, digest, checksums })
    }

    /// Links a file that does not change any more, and reads it; `None` if it must be copied: it lies on another device,
    /// or nobody knows any more what of such files is durable.
    fn link(&self, name: &str, from: &Path, to: &Path) -> Result<Option<(u64, Digest, Bytes)>, SnapshotError> {
        let shared = self.making.shared();
        if shared.links_failed.load(Ordering::Relaxed) || shared.fs.link(from, to).is_err() {
            return Ok(None);
        }
        let mut linked = self.open(to)?;
        let read = self.through(name, &mut linked, |_, _| Ok(()))?;
        linked.file.sync_data().map_err(|error| {
            shared.links_failed.store(true, Ordering::Relaxed);
            SnapshotError::io("syncing", to)(error)
        })?;
        Ok(Some(read))
    }

    fn open(&self, path: &Path) -> Result<FileReader, SnapshotError> {
        let file = self.making.shared().fs.open_read(path).map_err(SnapshotError::io("opening", path))?;
        let length = file.length().map_err(SnapshotError::io("reading", path))?;
        Ok(FileReader { file, at: 0, length })
    }

    /// Copies `from` into a new file, durably but for its name. Returns its length, digest and checksums.
    pub(super) fn copy(
        &self,
        name: &str,
        from: &mut dyn Read,
        to: &Path,
    ) -> Result<(u64, Digest, Bytes), SnapshotError> {
        let file = self.making.shared().fs.create(to).map_err(SnapshotError::io("creating", to))?;
        let mut unsynced = 0;
        let copied = self.through(name, from, |bytes, offset| {
            file.pwrite(bytes, offset).map_err(SnapshotError::io("writing", to))?;
            unsynced += bytes.len() as u64;
            if unsynced >= SYNC_BYTES {
                unsynced = 0;
                file.sync_data().map_err(SnapshotError::io("syncing", to))?;
            }
            Ok(())
        })?;
        file.sync_data().map_err(SnapshotError::io("syncing", to))?;
        Ok(copied)
    }

    /// Reads `from` to its end in chunks.
    fn through(
        &self,
        name: &str,
        from: &mut dyn Read,
        mut each: impl FnMut(&[u8], u64) -> Result<(), SnapshotError>,
    ) -> Result<(u64, Digest, Bytes), SnapshotError> {
        let mut buffer = vec![0; self.chunk_bytes as usize];
        let (mut length, mut hasher, mut checksums) = (0, Hasher::default(), Vec::new());
        loop {
            if !(self.go_on)() {
                return Err(SnapshotError::Stopped);
            }
            let filled =
                fill(from, &mut buffer).map_err(|error| SnapshotError::Source { name: name.to_owned(), error })?;
            let chunk = &buffer[..filled];
            if !chunk.is_empty() {
                each(chunk, length)?;
                hasher.update(chunk);
                checksums.put_u32_le(crc32c::crc32c(chunk));
                length += filled as u64;
            }
            if filled < buffer.len() {
                return Ok((length, hasher.finish(), checksums.into()));
            }
        }
    }
}

/// Reads until the buffer is full or the source at its end.
pub(super) fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A file as a stream.
struct FileReader {
    file: Arc<dyn File>,
    at: u64,
    length: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.length - self.at).unwrap_or(usize::MAX).min(buffer.len());
        self.file.pread(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
