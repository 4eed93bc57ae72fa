//! A disk that can lose power, for everything that writes through [`Fs`].
//!
//! What is written but not synced is pending, sector by sector (512 B), and so are the entries of directories. A crash
//! asks for the fate of each pending thing alone: any subset may survive, in any order. A sector is written whole or
//! not at all, unless nothing but zeros was ever synced in it: then it may also hold garbage.
//!
//! Every call is counted; one of them can be made to fail, before or after it took effect.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::sync::{Arc, Mutex, MutexGuard};
use crate::wal::{File, Fs, Lock};

const SECTOR: usize = 512;

/// The disk. Clones share it.
#[derive(Clone, Default)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Clone, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    calls: u64,
    last_was_sync: bool,
    fault: Option<Fault>,
    faults_fired: u64,
    /// After so many more calls the process that uses it is dead.
    halt_in: Option<u64>,
    /// Whoever has handles of it does not live any more: no call has an effect.
    dead: bool,
}

/// Copies of a disk share the bytes that neither of them changes.
#[derive(Clone, Default)]
struct Inode {
    content: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Every version of a sector since the last sync.
    pending: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Sectors that were reached by a write of more than zeros, since the last sync and before it. Content would not tell:
    /// data may be zeros, too.
    touched: BTreeSet<usize>,
    used: BTreeSet<usize>,
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// One call that fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which call, counted from 0.
    pub call: u64,
    /// Whether it takes effect all the same. A failed sync makes nothing durable either way; what it leaves behind is
    /// still dirty, or, if this is false, counted as clean: still to be read, and never written again by itself.
    pub takes_effect: bool,
    /// What the call says.
    pub kind: io::ErrorKind,
}

impl SimFs {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock()
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Whether the latest call was a sync, of a file or a directory, successful or not.
    pub fn last_was_sync(&self) -> bool {
        self.disk().last_was_sync
    }

    /// Makes one call fail.
    pub fn inject(&self, fault: Fault) {
        self.disk().fault = Some(fault);
    }

    /// How many calls have failed because they were to.
    #[must_use]
    pub fn faults_fired(&self) -> u64 {
        self.disk().faults_fired
    }

    /// Nothing fails any more.
    pub fn clear_fault(&self) {
        self.disk().fault = None;
    }

    /// The process that uses it dies after so many more calls, or does not: from then on every call fails and has no effect.
    /// Returns how many were left.
    pub fn halt_after(&self, calls: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.disk().halt_in, calls)
    }

    /// Whether its process has died of that.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.disk().dead
    }

    /// The disk as the next process finds it if the one before was killed: with everything written, synced or not. What is
    /// done with the dead one's handles fails and reaches nothing.
    #[must_use]
    pub fn outlive(&self) -> Self {
        let mut disk = std::mem::replace(&mut *self.disk(), Disk { dead: true, ..Disk::default() });
        (disk.dead, disk.halt_in, disk.locks) = (false, None, BTreeSet::new());
        disk.free_unnamed();
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// The disk as a power cut leaves it. `fate(n)` picks one of `n` ways for each pending thing: 0 is lost, then come
    /// what was written to it, oldest first, and garbage, if that is possible.
    pub fn crash(&self, mut fate: impl FnMut(usize) -> usize) -> Self {
        let mut disk = self.disk().clone();
        let mut names = disk.durable_names.clone();
        for change in disk.pending_names.iter().filter(|_| fate(2) == 1) {
            change.apply(&mut names);
        }
        for inode in names.values() {
            disk.inodes[*inode].crash(&mut fate);
        }
        let mut disk = Disk { inodes: disk.inodes, durable_names: names.clone(), names, ..Disk::default() };
        disk.free_unnamed();
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// What a power cut leaves of a directory if nothing that is not synced survives.
    #[must_use]
    pub fn synced(&self, dir: &Path) -> Self {
        let disk = self.disk();
        let mut synced = Disk::default();
        for (path, inode) in disk.durable_names.iter().filter(|(path, _)| path.starts_with(dir)) {
            let durable = disk.inodes[*inode].durable.clone();
            synced.names.insert(path.clone(), synced.inodes.len());
            synced.inodes.push(Inode { content: durable.clone(), durable, ..Inode::default() });
        }
        synced.durable_names = synced.names.clone();
        Self { disk: Arc::new(Mutex::new(synced)) }
    }

    /// An independent copy as if everything had been synced; the owner of its locks is gone.
    pub fn copy(&self) -> Self {
        let Disk { mut inodes, names, .. } = self.disk().clone();
        for inode in &mut inodes {
            inode.sync();
            inode.content = inode.durable.clone();
        }
        let disk = Disk { inodes, durable_names: names.clone(), names, ..Disk::default() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// The files on it.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// What is in a file, synced or not; empty if there is none.
    #[must_use]
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let disk = self.disk();
        disk.names.get(path).map(|inode| disk.inodes[*inode].content.to_vec()).unwrap_or_default()
    }

    /// Replaces a file's content, durably.
    pub fn set_content(&self, path: &Path, content: Vec<u8>) {
        let mut disk = self.disk();
        let inode = disk.names[path];
        let content = Arc::new(content);
        let used = (0..content.len().div_ceil(SECTOR)).collect();
        disk.inodes[inode] = Inode { durable: content.clone(), content, used, ..Inode::default() };
    }

    /// Makes a file, durably.
    pub fn adopt(&self, path: &Path, content: Vec<u8>) {
        let mut disk = self.disk();
        disk.inodes.push(Inode::default());
        let inode = disk.inodes.len() - 1;
        disk.names.insert(path.to_path_buf(), inode);
        disk.durable_names.insert(path.to_path_buf(), inode);
        drop(disk);
        self.set_content(path, content);
    }

    /// Changes a file's content, durably.
    pub fn alter(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content(path);
        change(&mut content);
        self.set_content(path, content);
    }

    /// Removes a file, durably.
    pub fn forget(&self, path: &Path) {
        let mut disk = self.disk();
        disk.names.remove(path);
        disk.durable_names.remove(path);
    }

    /// Counts a call and carries it out, unless it is the one to fail.
    fn call<T>(&self, effect: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk();
        let call = disk.calls;
        disk.calls += 1;
        disk.last_was_sync = false;
        disk.live_on()?;
        match disk.fires(call) {
            None => effect(&mut disk),
            Some(fault) => {
                if fault.takes_effect {
                    effect(&mut disk)?;
                }
                Err(io::Error::new(fault.kind, "injected"))
            }
        }
    }

    fn sync(&self, effect: impl FnOnce(&mut Disk), forget: impl FnOnce(&mut Disk)) -> io::Result<()> {
        let mut disk = self.disk();
        let call = disk.calls;
        disk.calls += 1;
        disk.last_was_sync = true;
        disk.live_on()?;
        match disk.fires(call) {
            Some(fault) => {
                if !fault.takes_effect {
                    forget(&mut disk);
                }
                Err(io::Error::new(fault.kind, "injected"))
            }
            None => {
                effect(&mut disk);
                Ok(())
            }
        }
    }

    fn file(&self, inode: usize) -> Arc<dyn File> {
        Arc::new(SimFile { fs: self.clone(), inode })
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl NameChange {
    /// Whose sync makes it durable.
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Create(path, _) | Self::Rename(_, path) | Self::Remove(path) => path.parent(),
        }
    }
}

impl Disk {
    /// Whether whoever makes this call lives to see it.
    fn live_on(&mut self) -> io::Result<()> {
        self.dead |= self.halt_in == Some(0);
        self.halt_in = self.halt_in.map(|left| left.saturating_sub(1));
        if self.dead { Err(io::Error::other("its process is dead")) } else { Ok(()) }
    }

    /// Files without a name, which nobody has open, take no room any more.
    fn free_unnamed(&mut self) {
        let pending = self.pending_names.iter().filter_map(|change| match change {
            NameChange::Create(_, inode) => Some(inode),
            _ => None,
        });
        let named: BTreeSet<_> =
            self.names.values().chain(self.durable_names.values()).chain(pending).copied().collect();
        for (_, inode) in self.inodes.iter_mut().enumerate().filter(|(number, _)| !named.contains(number)) {
            *inode = Inode::default();
        }
    }

    /// The fault of this call, if it is the one that is to fail.
    fn fires(&mut self, call: u64) -> Option<Fault> {
        let fault = self.fault.take_if(|fault| fault.call == call);
        self.faults_fired += u64::from(fault.is_some());
        fault
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        let content = Arc::make_mut(&mut self.content);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
        let zeros = bytes.chunks(SECTOR).all(|chunk| *chunk == [0; SECTOR][..chunk.len()]);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let start = sector * SECTOR;
            let version = content[start..content.len().min(start + SECTOR)].to_vec();
            self.pending.entry(sector).or_default().push(version);
            if !zeros {
                self.touched.insert(sector);
            }
        }
    }

    /// Only what is pending reaches the disk: what is counted as clean is not looked at.
    fn sync(&mut self) {
        for (sector, mut versions) in std::mem::take(&mut self.pending) {
            if let Some(newest) = versions.pop() {
                self.keep(sector, &newest);
            }
        }
        self.touched.clear();
    }

    fn keep(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector * SECTOR;
        let end = start + bytes.len();
        let durable = Arc::make_mut(&mut self.durable);
        if durable.len() < end {
            durable.resize(end, 0);
        }
        durable[start..end].copy_from_slice(bytes);
        if self.touched.contains(&sector) {
            self.used.insert(sector);
        }
    }

    fn crash(&mut self, fate: &mut impl FnMut(usize) -> usize) {
        let pending = std::mem::take(&mut self.pending);
        for (sector, versions) in pending {
            let start = sector * SECTOR;
            let synced = self.durable.get(start..self.durable.len().min(start + SECTOR)).unwrap_or_default();
            // What is written once more as it was stays as it was.
            let anew = versions.iter().any(|version| version != synced);
            let can_be_garbled = anew && !self.used.contains(&sector);
            let survivor = match fate(1 + versions.len() + usize::from(can_be_garbled)) {
                0 => continue,
                way if way <= versions.len() => versions[way - 1].clone(),
                _ => versions[0].iter().map(|byte| byte.wrapping_mul(31) ^ 0xa5).collect(),
            };
            self.keep(sector, &survivor);
        }
        self.touched.clear();
        self.content.clone_from(&self.durable);
    }
}

impl Fs for SimFs {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.call(|_| Ok(()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.call(|disk| {
            let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
            Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inode = self.call(|disk| {
            disk.inodes.push(Inode::default());
            let inode = disk.inodes.len() - 1;
            disk.change_names(NameChange::Create(path.to_path_buf(), inode));
            Ok(inode)
        })?;
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let found = self.call(|disk| disk.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into()))?;
        Ok(self.file(found))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|disk| {
            let inode = disk.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
            disk.change_names(NameChange::Create(to.to_path_buf(), inode));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|disk| {
            disk.change_names(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|disk| {
            disk.change_names(NameChange::Remove(path.to_path_buf()));
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let effect = |disk: &mut Disk| {
            let (of_dir, others) =
                std::mem::take(&mut disk.pending_names).into_iter().partition(|change| change.directory() == Some(dir));
            disk.pending_names = others;
            let of_dir: Vec<NameChange> = of_dir;
            of_dir.iter().for_each(|change| change.apply(&mut disk.durable_names));
        };
        self.sync(effect, |_| ())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let taken = self.call(|disk| Ok(disk.locks.insert(path.to_path_buf())));
        if taken.is_err() {
            // The file that was locked is closed again.
            self.disk().locks.remove(path);
        }
        let taken = taken?;
        let lock = || Box::new(SimLock { fs: self.clone(), path: path.to_path_buf() }) as Box<dyn Lock>;
        Ok(taken.then(lock))
    }
}

struct SimLock {
    fs: SimFs,
    path: PathBuf,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.disk().locks.remove(&self.path);
    }
}

struct SimFile {
    fs: SimFs,
    inode: usize,
}

impl File for SimFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.fs.call(|disk| {
            let content = &disk.inodes[self.inode].content;
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let found = content.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(found);
            Ok(())
        })
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.call(|disk| {
            disk.inodes[self.inode].write(bytes, usize::try_from(offset).map_err(io::Error::other)?);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.sync(|disk| disk.inodes[self.inode].sync(), |disk| disk.inodes[self.inode].pending.clear())
    }

    fn length(&self) -> io::Result<u64> {
        self.fs.call(|disk| Ok(disk.inodes[self.inode].content.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with a synced sector of zeros, over which `bytes` are written.
    fn written_over_zeros(bytes: &[u8]) -> SimFs {
        let (fs, path) = (SimFs::new(), Path::new("/d/f"));
        let file = fs.create(path).unwrap();
        file.pwrite(&[0; SECTOR], 0).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        file.pwrite(bytes, 0).unwrap();
        fs
    }

    #[test]
    fn only_what_was_never_anything_but_zeros_can_be_garbled() {
        let most = |bytes: &[u8]| {
            let mut most = 0;
            let disk = written_over_zeros(bytes).crash(|ways| {
                most = ways;
                ways - 1
            });
            (most, disk.content(Path::new("/d/f")))
        };
        let (ways, garbled) = most(&[7; SECTOR]);
        assert_eq!(ways, 3, "lost, written, or garbage");
        assert!(garbled != [0; SECTOR] && garbled != [7; SECTOR]);
        assert_eq!(most(&[0; SECTOR]), (2, vec![0; SECTOR]), "written as it was, it stays as it was");

        // Data whose end, in a second sector, happens to be zeros; then more behind it.
        let mut data = vec![7; SECTOR];
        data.extend([0; 8]);
        let fs = written_over_zeros(&data);
        let file = fs.open(Path::new("/d/f")).unwrap();
        file.sync_data().unwrap();
        file.pwrite(&[9; 8], SECTOR as u64 + 8).unwrap();
        let disk = fs.crash(|ways| ways - 1);
        assert_eq!(
            disk.content(Path::new("/d/f"))[SECTOR..],
            [[0; 8], [9; 8]].concat(),
            "synced data is never garbled"
        );
    }
}
