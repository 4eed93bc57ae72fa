//! A disk whose power goes at a given call: that one and all after it fail and do nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure::sim::disk::SimFs;
use tenure::wal::{File, Fs, Lock};

#[derive(Clone)]
pub struct CutFs {
    pub disk: SimFs,
    left: Arc<AtomicU64>,
}

struct CutFile {
    file: Arc<dyn File>,
    fs: CutFs,
}

impl CutFs {
    /// The power goes after `calls` calls.
    pub fn new(disk: SimFs, calls: u64) -> Self {
        Self { disk, left: Arc::new(AtomicU64::new(calls)) }
    }

    /// Whether it has gone.
    pub fn is_off(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn on<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok_and(|left| left > 1) { call() } else { Err(io::Error::other("the power is off")) }
    }

    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(CutFile { file, fs: self.clone() })
    }
}

impl Fs for CutFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.on(|| self.disk.create_dir(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.on(|| self.disk.list(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.on(|| self.disk.create(path))?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.file(self.on(|| self.disk.open(path))?))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on(|| self.disk.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.on(|| self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.on(|| self.disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.on(|| self.disk.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.on(|| self.disk.lock(path))
    }
}

impl File for CutFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.fs.on(|| self.file.pread(buffer, offset))
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.on(|| self.file.pwrite(bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.on(|| self.file.sync_data())
    }

    fn length(&self) -> io::Result<u64> {
        self.fs.on(|| self.file.length())
    }
}
