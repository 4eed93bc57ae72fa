//! One file that is being received, and what of it is here.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::digest::{Digest, Hasher};
use super::error::SnapshotError;
use super::manifest::ManifestFile;
use super::store::Shared;
use crate::sync::Arc;
use crate::wal::File;

/// Where to look for what is here already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    /// As a file of another snapshot, else in part.
    Any,
    /// In part.
    Part,
}

/// What [`Incoming::check_some`] saw.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// Nothing that changes how much is here.
    Nothing,
    /// So many bytes that were here before.
    Found(u64),
    /// So many bytes are not any more what was written a moment ago.
    Lost(u64),
    /// So many bytes that were found belong to a file that is damaged further on, and is not used.
    NotTheFile(u64),
}

pub(super) struct Incoming {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// It is a file of another snapshot, which is looked at and never written.
    whole: bool,
    /// The length of what was here.
    local_bytes: u64,
    /// The first chunk that may be here and was not looked at; all, once everything was.
    unchecked: u32,
    chunks: u32,
    /// Which chunks are here and agree with the manifest.
    have: Vec<bool>,
    asked: BTreeSet<u32>,
    /// No chunk before this one is still to be asked for.
    ask_from: u32,
    /// Chunks at the beginning whose bytes are in the digest.
    hashed: u32,
    hasher: Hasher,
    unsynced: u64,
    /// The name of the file is durable, too.
    named: bool,
    corrupt: u32,
}

impl Incoming {
    /// Looks for `file` among what is here, and opens it.
    pub(super) fn new(shared: &Arc<Shared>, file: &ManifestFile, local: Local) -> Result<Self, SnapshotError> {
        let path = shared.data_path(file.digest);
        if local == Local::Any
            && let Some((opened, length)) = open(shared, &path, true)?
            && length == file.bytes
        {
            return Ok(Self::of(shared, file, path, opened, Some(length), true));
        }
        let path = shared.part_path(file.digest);
        if let Some((opened, length)) = open(shared, &path, false)?
            && length <= file.bytes
        {
            return Ok(Self::of(shared, file, path, opened, Some(length), false));
        }
        let created = shared.fs.create(&path).map_err(SnapshotError::io("creating", &path))?;
        Ok(Self::of(shared, file, path, created, None, false))
    }

    fn of(
        shared: &Arc<Shared>,
        file: &ManifestFile,
        path: PathBuf,
        opened: Arc<dyn File>,
        local_bytes: Option<u64>,
        whole: bool,
    ) -> Self {
        let chunks = file.chunks();
        Self {
            shared: shared.clone(),
            path,
            file: opened,
            whole,
            unchecked: if local_bytes.is_some() { 0 } else { chunks },
            local_bytes: local_bytes.unwrap_or(0),
            chunks,
            have: vec![false; chunks as usize],
            asked: BTreeSet::new(),
            ask_from: 0,
            hashed: 0,
            hasher: Hasher::default(),
            unsynced: 0,
            named: false,
            corrupt: 0,
        }
    }

    /// Looks at one chunk that may be here, or adds one that is to the digest. `None` if there was nothing to do.
    pub(super) fn check_some(
        &mut self,
        file: &ManifestFile,
        chunk_bytes: u32,
    ) -> Result<Option<Checked>, SnapshotError> {
        let scans = self.unchecked < self.chunks;
        let number = if scans { self.unchecked } else { self.hashed };
        if !scans && !self.has(number) {
            return Ok(None);
        }
        let Some(chunk) = file.chunk(number, chunk_bytes) else { return Ok(None) };
        let length = u64::from(chunk.length);
        if scans && chunk.offset + length > self.local_bytes {
            self.unchecked = self.chunks;
            return Ok(Some(Checked::Nothing));
        }
        self.unchecked += u32::from(scans);
        let mut bytes = vec![0; chunk.length as usize];
        self.file.pread(&mut bytes, chunk.offset).map_err(SnapshotError::io("reading", &self.path))?;
        if crc32c::crc32c(&bytes) == chunk.checksum {
            self.have[number as usize] = true;
            if number == self.hashed {
                self.hasher.update(&bytes);
                self.hashed += 1;
            }
            return Ok(Some(if scans { Checked::Found(length) } else { Checked::Nothing }));
        }
        if self.whole {
            // What lies here as a complete file is damaged; it is received like any other.
            *self = Self::new(&self.shared.clone(), file, Local::Part)?;
            return Ok(Some(Checked::NotTheFile(chunk.offset)));
        }
        let had = std::mem::take(&mut self.have[number as usize]);
        self.ask_from = self.ask_from.min(number);
        Ok(Some(if had { Checked::Lost(length) } else { Checked::Nothing }))
    }

    /// Whether all of it is here and in the digest.
    pub(super) fn is_full(&self) -> bool {
        self.unchecked >= self.chunks && self.hashed == self.chunks
    }

    pub(super) fn digest(&self) -> Digest {
        self.hasher.finish()
    }

    /// Whether it is a file of another snapshot, which has its name already.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Gives the file the name that says what is in it, durably but for the name.
    pub(super) fn finish(self, digest: Digest) -> Result<(), SnapshotError> {
        self.sync()?;
        self.shared.rename(&self.path, &self.shared.data_path(digest))
    }

    /// After a failed sync nobody knows what of the file is durable, and what is read from it is what memory has: another
    /// sync may succeed and mean nothing. So this file is given up, or the next attempt would go on with it.
    fn sync(&self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(|error| {
            let _ = self.shared.fs.remove(&self.path);
            SnapshotError::io("syncing", &self.path)(error)
        })
    }

    pub(super) fn has(&self, chunk: u32) -> bool {
        self.have.get(chunk as usize).copied().unwrap_or(false)
    }

    pub(super) fn is_asked(&self, chunk: u32) -> bool {
        self.asked.contains(&chunk)
    }

    /// Whether there is something to ask, now or once everything here was looked at.
    pub(super) fn has_to_ask(&self) -> bool {
        self.unchecked < self.chunks || self.next_to_ask().is_some()
    }

    /// The next chunk to ask for, which is asked for from now on.
    pub(super) fn ask(&mut self) -> Option<u32> {
        let chunk = self.next_to_ask()?;
        self.ask_from = chunk + 1;
        self.asked.insert(chunk);
        Some(chunk)
    }

    fn next_to_ask(&self) -> Option<u32> {
        if self.unchecked < self.chunks {
            return None;
        }
        (self.ask_from..self.chunks).find(|chunk| !self.has(*chunk) && !self.is_asked(*chunk))
    }

    /// An answer came, good or bad.
    pub(super) fn answered(&mut self, chunk: u32) {
        self.asked.remove(&chunk);
        self.ask_from = self.ask_from.min(chunk);
    }

    pub(super) fn forget_asked(&mut self) {
        self.asked.clear();
        self.ask_from = 0;
    }

    /// How often wrong bytes came.
    pub(super) fn note_corrupt(&mut self) -> u32 {
        self.corrupt += 1;
        self.corrupt
    }

    /// Writes a chunk whose checksum was found right.
    pub(super) fn write(
        &mut self,
        chunk: u32,
        offset: u64,
        bytes: &[u8],
        sync_bytes: u64,
    ) -> Result<(), SnapshotError> {
        self.file.pwrite(bytes, offset).map_err(SnapshotError::io("writing", &self.path))?;
        self.have[chunk as usize] = true;
        if chunk == self.hashed {
            self.hasher.update(bytes);
            self.hashed += 1;
        }
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= sync_bytes {
            self.unsynced = 0;
            self.sync()?;
            if !std::mem::replace(&mut self.named, true) {
                self.shared.sync_dir()?;
            }
        }
        Ok(())
    }
}

/// A file and its length.
type Opened = (Arc<dyn File>, u64);

/// An existing file; `None` if there is none. One whose content has a name is not opened for writing.
fn open(shared: &Shared, path: &Path, whole: bool) -> Result<Option<Opened>, SnapshotError> {
    let opened = if whole { shared.fs.open_read(path) } else { shared.fs.open(path) };
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => {
            let file = opened.map_err(SnapshotError::io("opening", path))?;
            let length = file.length().map_err(SnapshotError::io("reading", path))?;
            Ok(Some((file, length)))
        }
    }
}
