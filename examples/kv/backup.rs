//! `RAFT BACKUP`: a snapshot of this node, as one file on its host.
//!
//! Nobody who reaches the port for clients is asked who he is, and what is in the file is what clients wrote. So the order
//! must be no way to write just anywhere: a node writes backups below one directory, and overwrites nothing.
//!
//! A thread of its own waits for the snapshot and copies it. The file is written under another name, synced, renamed, and the
//! directory synced: a file that has the right name is whole.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tenure::runtime::{Group, Node};
use tenure::snapshot::Snapshot;
use tenure::types::EntryId;

use super::note;
use super::replica::{Done, Failure};
use super::store::Outcome;

/// A backup that is there, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backup {
    pub(crate) path: PathBuf,
    /// The last entry whose effect is in it.
    pub(crate) last: EntryId,
    pub(crate) bytes: u64,
}

/// A file that was asked for, and who waits for it.
type Order = (PathBuf, Done<Backup>);

/// Takes orders for backups; the thread that carries them out ends when this is dropped.
pub(crate) struct Backups {
    orders: Sender<Order>,
}

impl Backups {
    /// Starts the thread. It writes below `dir`, which is made when it is needed if `own`: another one may be a disk that is
    /// not mounted just now.
    pub(crate) fn start(node: Arc<Node>, group: Group<Outcome>, dir: PathBuf, own: bool) -> io::Result<Self> {
        // One is written and one waits.
        let (orders, received) = bounded(1);
        let writer = Writer { node, group, dir: std::path::absolute(dir)?, own };
        std::thread::Builder::new().name("kv-backup".into()).spawn(move || writer.run(&received))?;
        Ok(Self { orders })
    }

    /// Does not block.
    pub(crate) fn order(&self, name: PathBuf, done: Done<Backup>) {
        match self.orders.try_send((name, done)) {
            Ok(()) => {}
            Err(TrySendError::Full((_, done))) => {
                done(Err(Failure::Busy("other backups are being written here; ask again later".into())));
            }
            Err(TrySendError::Disconnected((_, done))) => done(Err(Failure::Stopped("backups have stopped".into()))),
        }
    }
}

struct Writer {
    node: Arc<Node>,
    group: Group<Outcome>,
    dir: PathBuf,
    own: bool,
}

impl Writer {
    fn run(&self, orders: &Receiver<Order>) {
        for (name, done) in orders {
            done(self.back_up(&name));
        }
    }

    fn back_up(&self, name: &Path) -> Result<Backup, Failure> {
        let path = place(&self.dir, name).map_err(Failure::Refused)?;
        if self.own {
            note::make_dir(&self.dir).map_err(|error| Failure::Refused(cannot(&path, &error)))?;
        }
        // A snapshot costs something: what is seen to be impossible is refused before.
        check(&path).map_err(Failure::Refused)?;
        self.group.snapshot().wait()?;
        let newest = self.node.snapshot_store(super::serve::GROUP).and_then(|store| store.newest());
        let Some(snapshot) = newest else {
            return Err(Failure::Refused("the snapshot was found to be damaged: see the log, and ask again".into()));
        };
        let bytes = write(&snapshot, &path, &|| self.group.status().is_some()).map_err(Failure::Refused)?;
        Ok(Backup { path, last: snapshot.last(), bytes })
    }
}

/// Where the backup of this name is to be.
fn place(dir: &Path, name: &Path) -> Result<PathBuf, String> {
    let path = dir.join(name);
    let below = path.strip_prefix(dir).map(Path::components).ok();
    let plain = |mut parts: std::path::Components<'_>| parts.all(|part| matches!(part, Component::Normal(_)));
    if below.is_some_and(|parts| parts.clone().next().is_some() && plain(parts)) {
        return Ok(path);
    }
    let dir = dir.display();
    Err(format!("this node writes backups below {dir} only; name a file there, or start it with another --backup-dir"))
}

fn check(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(_) => return Err(taken(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(path, &error)),
    }
    let dir = directory(path);
    if dir.is_dir() { Ok(()) } else { Err(cannot(path, &format!("there is no directory {}; make it", dir.display()))) }
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn taken(path: &Path) -> String {
    format!("{} exists already and is left as it is; give another name", path.display())
}

fn cannot(path: &Path, why: &dyn Display) -> String {
    format!("cannot write the backup {}: {why}", path.display())
}

/// Writes the file, and returns its length. What was begun is removed if it fails; what a crash leaves has a name that ends
/// in `.part`.
fn write(snapshot: &Snapshot, path: &Path, go_on: &dyn Fn() -> bool) -> Result<u64, String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let filled = fill(snapshot, &beside, go_on).map_err(|error| cannot(path, &error));
    let named = filled.and_then(|bytes| {
        // Whoever was faster keeps what is his.
        match renameat_with(CWD, &beside, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(bytes),
            Err(rustix::io::Errno::EXIST) => Err(taken(path)),
            Err(error) => Err(cannot(path, &error)),
        }
    });
    if named.is_err() {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_file(&beside);
    }
    let synced = |error| format!("{} may not outlive a crash, delete it and ask again: {error}", path.display());
    let bytes = named?;
    note::sync_dir(directory(path)).map_err(synced)?;
    Ok(bytes)
}

fn fill(snapshot: &Snapshot, path: &Path, go_on: &dyn Fn() -> bool) -> Result<u64, Box<dyn std::error::Error>> {
    let mut file = File::create(path)?;
    snapshot.export(&mut file, go_on)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_stay_below_their_directory() {
        let place = |name: &str| place(Path::new("/b"), Path::new(name));
        assert_eq!(place("x"), Ok("/b/x".into()));
        assert_eq!(place("/b/c/x"), Ok("/b/c/x".into()));
        for outside in ["", ".", "/b", "/b/", "..", "../x", "c/../../x", "/etc/x", "/bb", "/b/../etc/x"] {
            assert!(place(outside).is_err_and(|why| why.contains("below /b only")), "{outside}");
        }
    }
}
