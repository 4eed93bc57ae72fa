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
    plan: Plan,
    /// How many are prepared.
    ahead: usize,
    preparer: Option<Preparer>,
}

impl Spares {
    /// Takes over the spares that are in `dir` and removes what was left half made.
    pub(super) fn start(fs: Arc<dyn Fs>, dir: &Path, config: &WalConfig) -> Result<Self, WalError> {
        let stop = Arc::new(AtomicBool::new(false));
        let plan = Plan { fs, dir: dir.to_path_buf(), bytes: config.segment_bytes, stop };
        let maker = Maker::new(plan.clone())?;
        let ahead = config.spare_segments;
        let preparer = Preparer::start(maker, ahead);
        let preparer = preparer.map_err(WalError::io("starting the thread that prepares segments for", dir))?;
        Ok(Self { plan, ahead, preparer })
    }

    /// A spare. Blocks until there is one.
    pub(super) fn take(&mut self) -> Result<Spare, WalError> {
        let prepared = self.preparer.as_ref().and_then(Preparer::take);
        prepared.map_or_else(|| self.make_now(), Ok)
    }

    /// Without a thread, or after it has met an error, which may be over: only an error here and now counts. The next
    /// ones are prepared again, if there is a thread to be had.
    fn make_now(&mut self) -> Result<Spare, WalError> {
        self.preparer = None;
        let mut maker = Maker::new(self.plan.clone())?;
        let spare = maker.next()?;
        self.preparer = Preparer::start(maker, self.ahead).unwrap_or(None);
        Ok(spare)
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.plan.stop.store(true, Ordering::Relaxed);
    }
}

/// The thread. It ends at the first error.
struct Preparer {
    ready: Option<Receiver<Spare>>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// None if nothing is to be made ahead.
    fn start(mut maker: Maker, ahead: usize) -> io::Result<Option<Self>> {
        // One spare waits in the thread's hand, the others in the channel.
        let Some(capacity) = ahead.checked_sub(1) else { return Ok(None) };
        let (sender, ready) = bounded(capacity);
        let body = move || while maker.next().is_ok_and(|spare| sender.send(spare).is_ok()) {};
        let thread = std::thread::Builder::new().name("tenure-wal-spare".into()).spawn(body)?;
        Ok(Some(Self { ready: Some(ready), thread: Some(thread) }))
    }

    /// Waits for a spare; `None` if the thread has ended and there is none left.
    fn take(&self) -> Option<Spare> {
        self.ready.as_ref()?.recv().ok()
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        // It may be waiting to hand one over.
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // It has no way to panic; if it did, there would be nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

/// What to make, and where.
#[derive(Clone)]
struct Plan {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    bytes: u64,
    /// The log is being closed: leave what is half made.
    stop: Arc<AtomicBool>,
}

struct Maker {
    plan: Plan,
    next_number: u64,
    found: Vec<Spare>,
}

impl Maker {
    fn new(plan: Plan) -> Result<Self, WalError> {
        let names = plan.fs.list(&plan.dir).map_err(WalError::io("listing", &plan.dir))?;
        let mut maker = Self { plan, next_number: 1, found: Vec::new() };
        for name in names {
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
        let path = self.plan.dir.join(name);
        let file = self.plan.fs.open(&path).map_err(WalError::io("opening", &path))?;
        if file.length().map_err(WalError::io("reading", &path))? == self.plan.bytes {
            self.found.push(Spare { file, path });
            return Ok(());
        }
        self.remove(name)
    }

    fn remove(&self, name: &str) -> Result<(), WalError> {
        let path = self.plan.dir.join(name);
        self.plan.fs.remove(&path).map_err(WalError::io("removing", &path))
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
        let file = self.plan.fs.create(&temporary).map_err(WalError::io("creating", &temporary))?;
        self.fill(&*file).map_err(WalError::io("filling", &temporary))?;
        self.plan.fs.rename(&temporary, &path).map_err(WalError::io("renaming", &temporary))?;
        self.plan.fs.sync_dir(&self.plan.dir).map_err(WalError::io("syncing", &self.plan.dir))?;
        Ok(Spare { file, path })
    }

    fn fill(&self, file: &dyn File) -> io::Result<()> {
        let zeros = vec![0; PIECE_BYTES.min(self.plan.bytes as usize)];
        let mut offset = 0;
        while offset < self.plan.bytes {
            if self.plan.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("the log is being closed"));
            }
            let piece = (zeros.len() as u64).min(self.plan.bytes - offset);
            file.pwrite(&zeros[..piece as usize], offset)?;
            file.sync_data()?;
            offset += piece;
        }
        Ok(())
    }

    fn path(&self, number: u64, suffix: &str) -> PathBuf {
        self.plan.dir.join(format!("spare-{number:020}{suffix}"))
    }
}

fn number_of(name: &str, suffix: &str) -> Option<u64> {
    name.strip_prefix("spare-")?.strip_suffix(suffix)?.parse().ok()
}
