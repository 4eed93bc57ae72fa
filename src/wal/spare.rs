//! Spare segments: files that are zero-filled and synced before they are needed, or were segments before.
//!
//! Overwriting written blocks makes a sync faster and its latency flatter than letting a file grow. Making such a
//! file takes long, so a thread of the log's own keeps some ready. Segments that the log does not need any more become
//! spares under another name; what is too many is removed, by that thread, because removing a large file takes long, too.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::{Receiver, Sender, bounded};
use crate::wal::config::WalConfig;
use crate::wal::error::WalError;
use crate::wal::fs::{File, Fs};
use crate::wal::segment;

/// Zeros are written, and synced, in pieces of this size, so that they delay the log's own syncs only a little.
const PIECE_BYTES: usize = 1 << 20;

/// A file of the right length, ready to become a segment.
pub(super) struct Spare {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    /// It was a segment before: there may be more in it than zeros.
    pub(super) reused: bool,
}

/// Hands out spares. Dropping it ends and joins the thread.
pub(super) struct Spares {
    plan: Plan,
    /// How many are prepared.
    ahead: usize,
    preparer: Option<Preparer>,
}

impl Spares {
    /// Takes over the spares that are in `dir`, and segments before `oldest_seq`, and removes what was left half made.
    pub(super) fn start(fs: Arc<dyn Fs>, dir: &Path, config: &WalConfig, oldest_seq: u64) -> Result<Self, WalError> {
        let stop = Arc::new(AtomicBool::new(false));
        let oldest_seq = Arc::new(AtomicU64::new(oldest_seq));
        let plan = Plan { fs, dir: dir.to_path_buf(), bytes: config.segment_bytes, oldest_seq, stop };
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

    /// The segments before `oldest_seq` are not needed any more; a newer one says so, durably. Without a thread they
    /// become spares here and now.
    pub(super) fn reclaim(&self, oldest_seq: u64) -> Result<(), WalError> {
        self.plan.oldest_seq.store(oldest_seq, Ordering::Relaxed);
        match &self.preparer {
            Some(preparer) => preparer.wake(),
            None => Maker::new(self.plan.clone())?.keep(1)?,
        }
        Ok(())
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
    /// Tells it that there is something to do.
    work: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// None if nothing is to be made ahead.
    fn start(mut maker: Maker, ahead: usize) -> io::Result<Option<Self>> {
        if ahead == 0 {
            return Ok(None);
        }
        let (sender, ready) = bounded(ahead);
        let (work, wait) = bounded(1);
        let body = move || while maker.work(&sender).is_ok() && wait.recv().is_ok() && maker.reclaim().is_ok() {};
        let thread = std::thread::Builder::new().name("tenure-wal-spare".into()).spawn(body)?;
        Ok(Some(Self { ready: Some(ready), work: Some(work), thread: Some(thread) }))
    }

    /// Waits for a spare; `None` if the thread has ended and there is none left.
    fn take(&self) -> Option<Spare> {
        let spare = self.ready.as_ref()?.recv().ok();
        self.wake();
        spare
    }

    fn wake(&self) {
        if let Some(work) = &self.work {
            // If it cannot be told, it has been told already, or it has ended.
            let _ = work.try_send(());
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        // It may be waiting for something to do.
        (self.ready, self.work) = (None, None);
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
    /// The oldest segment that is needed.
    oldest_seq: Arc<AtomicU64>,
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
                maker.keep_or_remove(&maker.plan.dir.join(name))?;
            } else if number_of(&name, ".tmp").is_some() {
                maker.remove(&maker.plan.dir.join(name))?;
            }
        }
        maker.reclaim()?;
        Ok(maker)
    }

    /// Makes spares of the segments that are not needed any more.
    ///
    /// The new names are not synced: where a crash takes them back, the next opening finds the segments once more. They
    /// become durable with the name of the next segment.
    fn reclaim(&mut self) -> Result<(), WalError> {
        let names = self.plan.fs.list(&self.plan.dir).map_err(WalError::io("listing", &self.plan.dir))?;
        let oldest_seq = self.plan.oldest_seq.load(Ordering::Relaxed);
        let mut seqs: Vec<u64> = names.iter().filter_map(|name| segment::seq_of(name)).collect();
        seqs.retain(|seq| *seq < oldest_seq);
        seqs.sort_unstable();
        for seq in seqs {
            let (old, new) = (segment::path(&self.plan.dir, seq), self.path(self.next_number, ".seg"));
            self.next_number += 1;
            self.plan.fs.rename(&old, &new).map_err(WalError::io("renaming", &old))?;
            self.keep_or_remove(&new)?;
        }
        Ok(())
    }

    /// Makes as many spares as are asked for, and removes what is left over.
    fn work(&mut self, ready: &Sender<Spare>) -> Result<(), WalError> {
        while !ready.is_full() {
            let spare = self.next()?;
            ready.send(spare).map_err(|_| WalError::Failed)?;
        }
        self.keep(0)
    }

    /// Removes all but `count` of the spares that were found.
    fn keep(&mut self, count: usize) -> Result<(), WalError> {
        while self.found.len() > count {
            let Some(spare) = self.found.pop() else { break };
            self.remove(&spare.path)?;
        }
        Ok(())
    }

    fn keep_or_remove(&mut self, path: &Path) -> Result<(), WalError> {
        let io = |error| WalError::io("reading", path)(error);
        let file = self.plan.fs.open(path).map_err(WalError::io("opening", path))?;
        if file.length().map_err(io)? != self.plan.bytes {
            return self.remove(path);
        }
        // Every segment begins with a header.
        let mut beginning = [0; 8];
        file.pread(&mut beginning, 0).map_err(io)?;
        self.found.push(Spare { file, path: path.to_path_buf(), reused: beginning != [0; 8] });
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), WalError> {
        self.plan.fs.remove(path).map_err(WalError::io("removing", path))
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
        Ok(Spare { file, path, reused: false })
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
