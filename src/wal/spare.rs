//! Spare segments: files that are zero-filled and synced before they are needed.
//!
//! Overwriting written blocks makes a sync faster and its latency flatter than letting a file grow. Making such a
//! file takes long, so a thread of the log's own keeps some ready.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::channel::{Receiver, bounded};
use crate::wal::config::WalConfig;
use crate::wal::error::WalError;
use crate::wal::fs::{File, Fs};

/// Zeros are written, and synced, in pieces of this size, so that they delay the log's own syncs only a little.
const PIECE_BYTES: usize = 1 << 20;

/// A file of the right length, ready to become a segment.
pub(super) struct Spare {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
}

/// Hands out spares. Dropping it ends and joins the thread.
pub(super) struct Spares {
    maker: Option<Maker>,
    ready: Option<Receiver<Result<Spare, WalError>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Spares {
    /// Takes over the spares that are in `dir` and removes what was left half made.
    pub(super) fn start(fs: Arc<dyn Fs>, dir: &Path, config: &WalConfig) -> Result<Self, WalError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut maker = Maker::new(fs, dir, config.segment_bytes, Arc::clone(&stop))?;
        let Some(capacity) = config.spare_segments.checked_sub(1) else {
            return Ok(Self { maker: Some(maker), ready: None, stop, thread: None });
        };
        // One spare waits in the thread's hand, the others in the channel.
        let (sender, ready) = bounded(capacity);
        let body = move || {
            loop {
                let spare = maker.next();
                let failed = spare.is_err();
                if sender.send(spare).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("tenure-wal-spare".into()).spawn(body);
        let thread = thread.map_err(WalError::io("starting the thread that prepares segments for", dir))?;
        Ok(Self { maker: None, ready: Some(ready), stop, thread: Some(thread) })
    }

    /// A spare. Blocks until there is one.
    pub(super) fn take(&mut self) -> Result<Spare, WalError> {
        match (&mut self.maker, &self.ready) {
            (Some(maker), _) => maker.next(),
            // The thread ends after it has handed over an error, which failed the log.
            (None, Some(ready)) => ready.recv().unwrap_or(Err(WalError::Failed)),
            (None, None) => Err(WalError::Failed),
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // It has no way to panic; if it did, there would be nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

struct Maker {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    bytes: u64,
    next_number: u64,
    found: Vec<Spare>,
    stop: Arc<AtomicBool>,
}

impl Maker {
    fn new(fs: Arc<dyn Fs>, dir: &Path, bytes: u64, stop: Arc<AtomicBool>) -> Result<Self, WalError> {
        let mut maker = Self { fs, dir: dir.to_path_buf(), bytes, next_number: 1, found: Vec::new(), stop };
        for name in maker.fs.list(dir).map_err(WalError::io("listing", dir))? {
            if let Some(number) = number_of(&name, ".seg") {
                maker.next_number = maker.next_number.max(number.saturating_add(1));
                maker.keep_or_remove(&name)?;
            } else if number_of(&name, ".tmp").is_some() {
                maker.remove(&name)?;
            }
        }
        Ok(maker)
    }

    fn keep_or_remove(&mut self, name: &str) -> Result<(), WalError> {
        let path = self.dir.join(name);
        let file = self.fs.open(&path).map_err(WalError::io("opening", &path))?;
        if file.length().map_err(WalError::io("reading", &path))? == self.bytes {
            self.found.push(Spare { file, path });
            return Ok(());
        }
        self.remove(name)
    }

    fn remove(&self, name: &str) -> Result<(), WalError> {
        let path = self.dir.join(name);
        self.fs.remove(&path).map_err(WalError::io("removing", &path))
    }

    fn next(&mut self) -> Result<Spare, WalError> {
        match self.found.pop() {
            Some(spare) => Ok(spare),
            None => self.make(),
        }
    }

    fn make(&mut self) -> Result<Spare, WalError> {
        let number = self.next_number;
        self.next_number += 1;
        let (temporary, path) = (self.path(number, ".tmp"), self.path(number, ".seg"));
        let file = self.fs.create(&temporary).map_err(WalError::io("creating", &temporary))?;
        self.fill(&*file).map_err(WalError::io("filling", &temporary))?;
        self.fs.rename(&temporary, &path).map_err(WalError::io("renaming", &temporary))?;
        self.fs.sync_dir(&self.dir).map_err(WalError::io("syncing", &self.dir))?;
        Ok(Spare { file, path })
    }

    fn fill(&self, file: &dyn File) -> io::Result<()> {
        let zeros = vec![0; PIECE_BYTES.min(self.bytes as usize)];
        let mut offset = 0;
        while offset < self.bytes {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("the log is being closed"));
            }
            let piece = (zeros.len() as u64).min(self.bytes - offset);
            file.pwrite(&zeros[..piece as usize], offset)?;
            file.sync_data()?;
            offset += piece;
        }
        Ok(())
    }

    fn path(&self, number: u64, suffix: &str) -> PathBuf {
        self.dir.join(format!("spare-{number:020}{suffix}"))
    }
}

fn number_of(name: &str, suffix: &str) -> Option<u64> {
    name.strip_prefix("spare-")?.strip_suffix(suffix)?.parse().ok()
}
