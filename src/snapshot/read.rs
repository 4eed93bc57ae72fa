//! A snapshot that is complete: read in chunks whose checksums are compared every time.

use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;

use super::digest::Hasher;
use super::error::{Damage, SnapshotError};
use super::manifest::{Manifest, SnapshotId};
use super::store::{Held, Shared};
use crate::state_machine::{SnapshotFile, SnapshotFiles};
use crate::sync::Arc;
use crate::types::EntryId;

/// A complete snapshot. Its files stay for as long as there is a clone of this value.
#[derive(Clone)]
pub struct Snapshot {
    store: Arc<Shared>,
    held: Arc<Held>,
}

impl Snapshot {
    pub(super) fn new(store: Arc<Shared>, held: Arc<Held>) -> Self {
        Self { store, held }
    }

    /// What it consists of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.held.manifest
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.held.manifest.id()
    }

    /// The last entry whose effect is in it.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.held.manifest.last()
    }

    /// Reads a chunk of a file, by their numbers; `None` if there is none of these. Blocks.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if it is not what was written: from then on the store does not hand the snapshot out any
    /// more. [`SnapshotError::Io`].
    pub fn read_chunk(&self, file: usize, chunk: u32) -> Result<Option<Bytes>, SnapshotError> {
        let Some(piece) = self.manifest().chunk(file, chunk) else { return Ok(None) };
        let path = self.store.data_path(self.manifest().files()[file].digest);
        let read = || {
            let opened = self.store.fs.open_read(&path).map_err(SnapshotError::io("opening", &path))?;
            let mut bytes = vec![0; piece.length as usize];
            match opened.pread(&mut bytes, piece.offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let found = opened.length().map_err(SnapshotError::io("reading", &path))?;
                    let expected = self.manifest().files()[file].bytes;
                    return Err(SnapshotError::damaged(&path, Damage::Length { expected, found }));
                }
                other => other.map_err(SnapshotError::io("reading", &path))?,
            }
            if crc32c::crc32c(&bytes) != piece.checksum {
                return Err(SnapshotError::damaged(&path, Damage::Chunk(chunk)));
            }
            Ok(Some(Bytes::from(bytes)))
        };
        read().inspect_err(|error| self.store.note_damaged(&self.held, error))
    }

    /// Reads everything and compares checksums and digests. Blocks, for as long as the disk takes; `go_on` is asked before
    /// every chunk.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] as for [`read_chunk`](Self::read_chunk), [`SnapshotError::Stopped`] if `go_on` said no,
    /// [`SnapshotError::Io`].
    pub fn verify(&self, go_on: &dyn Fn() -> bool) -> Result<(), SnapshotError> {
        for (number, file) in self.manifest().files().iter().enumerate() {
            let mut hasher = Hasher::default();
            for chunk in 0..file.chunks() {
                if !go_on() {
                    return Err(SnapshotError::Stopped);
                }
                hasher.update(&self.read_chunk(number, chunk)?.unwrap_or_default());
            }
            let found = hasher.finish();
            if found != file.digest {
                let error = SnapshotError::damaged(&self.store.data_path(file.digest), Damage::Digest(found));
                self.store.note_damaged(&self.held, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What a state machine restores from. The value keeps the snapshot from being removed.
    #[must_use]
    pub fn files(&self) -> SnapshotFiles {
        let file = |number: usize| {
            let (snapshot, file) = (self.clone(), &self.manifest().files()[number]);
            let path = self.store.data_path(file.digest);
            let reader = move || ChunkReader { snapshot: snapshot.clone(), file: number, next: 0, rest: Bytes::new() };
            SnapshotFile::new(file.name.as_str(), file.bytes, path, Box::new(move || Ok(Box::new(reader()))))
        };
        SnapshotFiles::new(self.last(), (0..self.manifest().files().len()).map(file).collect())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.manifest().fmt(f)
    }
}

/// A file from its beginning to its end, in checked chunks.
struct ChunkReader {
    snapshot: Snapshot,
    file: usize,
    next: u32,
    rest: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.snapshot.read_chunk(self.file, self.next) {
                Ok(None) => return Ok(0),
                Ok(Some(bytes)) => self.rest = bytes,
                Err(SnapshotError::Io { error, .. }) => return Err(error),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            self.next += 1;
        }
        let taken = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
