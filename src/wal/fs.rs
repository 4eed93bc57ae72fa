//! Every file access of the log and of snapshots goes through [`Fs`], so that a simulated disk can stand in for the real
//! one.
//!
//! The trait is as small as they need: whole reads and writes at an offset, a sync whose result is checked, and
//! the operations on a directory that must each be followed by [`Fs::sync_dir`] to be durable.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::sync::Arc;

/// A directory tree on some device. Object safe; shared by the log's threads.
pub trait Fs: Send + Sync + 'static {
    /// Makes a directory and its parents; succeeds if it exists.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in `dir`, in any order. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes an empty file for reading and writing; one of this name that exists is emptied.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// What the system says; `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading; it may be one that this process must not write.
    ///
    /// # Errors
    /// What the system says; `NotFound` if there is none.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    /// Gives a file a second name, which may be in another directory of the same device.
    ///
    /// # Errors
    /// What the system says; `Unsupported` (the default) where files have one name each.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives a file another name in the same directory, atomically, replacing a file of that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created, renamed and removed in `dir` durable. Blocks.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock `path`, `None` if somebody else has it. Never waits; dropping the value releases it,
    /// and so does the end of the process.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// A lock that lasts as long as the value.
pub trait Lock: Send + Sync {}

/// An open file. Reads and writes name their offset, so threads may share it.
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; else what the system says.
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. Not durable before [`File::sync_data`].
    ///
    /// # Errors
    /// What the system says; part of it may have been written.
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written so far durable. Blocks.
    ///
    /// # Errors
    /// What the system says. Afterwards nobody knows what is durable: a second try may succeed and mean nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;
}

/// How many directories of the path, from its end, are to be made.
pub(crate) fn missing_levels(fs: &dyn Fs, dir: &Path) -> io::Result<usize> {
    let mut missing = 0;
    for level in dir.ancestors().take_while(|level| !level.as_os_str().is_empty()) {
        match fs.list(level) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// What must be synced for `dir` to be found again after a power cut if its last `missing` levels were made just now: the
/// directory above each of them, or above `dir` at least.
pub(crate) fn parents_of_new(dir: &Path, missing: usize) -> impl Iterator<Item = &Path> {
    let parents = dir.ancestors().take(missing.max(1)).map_while(Path::parent);
    parents.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// The system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(std::fs::File::open(path)?)))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

struct RealFile(std::fs::File);

impl File for RealFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The system drops a flock with the last descriptor of the open file.
struct RealLock {
    _file: std::fs::File,
}

impl Lock for RealLock {}
