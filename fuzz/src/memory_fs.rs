//! A file system in memory, for logs that are to be damaged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure::wal::{File, Fs, Lock};

/// Files by path. There is one directory tree and nothing is ever lost.
#[derive(Default)]
pub struct MemoryFs {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
    locked: Arc<AtomicBool>,
}

#[derive(Default)]
pub struct MemoryFile(Mutex<Vec<u8>>);

struct MemoryLock(Arc<AtomicBool>);

impl MemoryFs {
    /// The bytes of every file, by path.
    pub fn dump(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        held(&self.files).iter().map(|(path, file)| (path.clone(), held(&file.0).clone())).collect()
    }

    /// A file system with these files.
    pub fn of(files: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (path, Arc::new(MemoryFile(Mutex::new(bytes)))));
        Self { files: Mutex::new(files.collect()), locked: Arc::default() }
    }
}

impl Fs for MemoryFs {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = held(&self.files);
        let inside = files.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemoryFile::default());
        held(&self.files).insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = held(&self.files).get(path).cloned();
        file.map(|file| file as Arc<dyn File>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = held(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        held(&self.files).remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let taken = self.locked.swap(true, Ordering::SeqCst);
        Ok((!taken).then(|| Box::new(MemoryLock(self.locked.clone())) as Box<dyn Lock>))
    }
}

impl File for MemoryFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = held(&self.0);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn pwrite(&self, written: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = held(&self.0);
        let end = offset as usize + written.len();
        assert!(end <= 64 << 20, "the log writes far beyond its segment");
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(written);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(held(&self.0).len() as u64)
    }
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
