//! The snapshots of one group on disk.
//!
//! All files lie in one directory, and their names say what they are:
//!
//! | name | |
//! | --- | --- |
//! | `<digest>.data` | a file of some snapshot, complete; named by its content |
//! | `<id>.manifest` | a complete snapshot: all its files are there |
//! | `<digest>.part` | a file that is being received |
//! | `<id>.wanted` | the snapshot that is being received |
//! | `<number>.tmp` | what is being written |
//!
//! **A snapshot is there when its manifest is**, and the manifest gets its name last, after everything it names was synced.
//! It loses it first, before any of its files goes. So a crash at any point leaves whole snapshots and leftovers, and
//! leftovers are what no manifest names: they are removed at open.
//!
//! Since files are named by their content, two snapshots with a file in common share it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::error::{Damage, SnapshotError};
use super::manifest::{MANIFEST_BYTES_MAX, Malformed, Manifest, SnapshotId};
use super::read::Snapshot;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::types::{ClusterId, GroupId, NodeId};
use crate::wal::{Fs, missing_levels, parents_of_new};

/// What a [`SnapshotStore`] needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Whose snapshots these are; others are refused.
    pub cluster: ClusterId,
    /// Of which group.
    pub group: GroupId,
    /// This node, as the maker of snapshots.
    pub node: NodeId,
    /// How many complete snapshots stay, the newest. Default 1, at least 1. Those that are in use stay, too.
    pub keep: usize,
    /// The length of the pieces in which snapshots made here are checked and sent. Default 256 KiB; 512 bytes to 1 MiB.
    /// A manifest has 4 bytes for each and must not be longer than 16 MiB: with the default a snapshot may have 1 TiB.
    pub chunk_bytes: u32,
}

impl StoreConfig {
    /// The defaults.
    #[must_use]
    pub fn new(cluster: ClusterId, group: GroupId, node: NodeId) -> Self {
        Self { cluster, group, node, keep: 1, chunk_bytes: 256 << 10 }
    }
}

/// The snapshots of one group. Clones share it.
#[derive(Clone)]
pub struct SnapshotStore {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    pub(super) config: StoreConfig,
    state: Mutex<State>,
    last_temporary: AtomicU64,
    /// A file that was linked could not be synced: another sync of it may succeed and mean nothing.
    pub(super) links_failed: AtomicBool,
    /// Told when a snapshot turns out to be damaged.
    on_damage: Mutex<Option<Arc<OnDamage>>>,
}

type OnDamage = dyn Fn() + Send + Sync;

#[derive(Default)]
struct State {
    /// Complete snapshots, oldest first.
    complete: Vec<Arc<Held>>,
    /// What is wrong with manifests that were found at open. Their files stay until there is a newer snapshot: a
    /// receiver may find in them what it needs.
    damaged: Vec<SnapshotError>,
    /// What is being received, now or since before a restart.
    wanted: Option<Arc<Manifest>>,
    fetching: bool,
    making: bool,
    /// Files that a snapshot in the making has finished.
    made: BTreeSet<Digest>,
}

/// A complete snapshot. It is in use as long as there is a reference to it beside the store's.
pub(super) struct Held {
    pub(super) manifest: Arc<Manifest>,
    pub(super) damaged: AtomicBool,
}

/// What the name of a file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Data(Digest),
    Manifest(SnapshotId),
    Part(Digest),
    Wanted(SnapshotId),
    Temporary,
    /// Not ours.
    Other,
}

impl SnapshotStore {
    /// Opens the directory of a group's snapshots, makes it if need be, and removes leftovers. Reads manifests and the
    /// lengths of files, not the files. Blocks.
    ///
    /// One store at a time may be open on a directory: the lock of the node's log sees to that.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]. Damage is no error here: see [`damaged`](Self::damaged).
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, config: StoreConfig) -> Result<Self, SnapshotError> {
        let missing = missing_levels(&*fs, dir).map_err(SnapshotError::io("looking for", dir))?;
        fs.create_dir(dir).map_err(SnapshotError::io("making", dir))?;
        for parent in parents_of_new(dir, missing) {
            fs.sync_dir(parent).map_err(SnapshotError::io("syncing", parent))?;
        }
        let dir = dir.to_path_buf();
        let (state, last_temporary, links_failed) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        let shared = Shared { fs, dir, config, state, last_temporary, links_failed, on_damage: Mutex::default() };
        let mut state = State::default();
        for name in shared.list()? {
            shared.find(&name, &mut state)?;
        }
        state.complete.sort_by_key(|held| held.manifest.last().index);
        if !state.complete.is_empty() {
            // What a killed process had not synced is found as well, and would be lost with the power.
            shared.sync_dir()?;
        }
        let newest = state.complete.last().map(|held| held.manifest.last().index);
        state.wanted.take_if(|wanted| Some(wanted.last().index) <= newest);
        shared.sweep(&mut state)?;
        *shared.state.lock() = state;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The newest snapshot that is not known to be damaged.
    #[must_use]
    pub fn newest(&self) -> Option<Snapshot> {
        let state = self.shared.state.lock();
        state.good().next_back().map(|held| Snapshot::new(self.shared.clone(), held.clone()))
    }

    /// The snapshot of this id, unless it is known to be damaged.
    #[must_use]
    pub fn get(&self, id: SnapshotId) -> Option<Snapshot> {
        let state = self.shared.state.lock();
        let found = state.good().find(|held| held.manifest.id() == id);
        found.map(|held| Snapshot::new(self.shared.clone(), held.clone()))
    }

    /// What was found to be damaged, at open or since: a text for each snapshot that cannot be used. Empty again once a
    /// newer snapshot is there.
    #[must_use]
    pub fn damaged(&self) -> Vec<String> {
        let state = self.shared.state.lock();
        let found_at_open = state.damaged.iter().map(ToString::to_string);
        let broken = state.complete.iter().filter(|held| held.damaged.load(Ordering::Relaxed));
        found_at_open.chain(broken.map(|held| format!("{:?} is damaged", held.manifest))).collect()
    }

    /// What was being received when the store was last in use: asking for it again goes on where that ended.
    #[must_use]
    pub fn partial(&self) -> Option<Arc<Manifest>> {
        self.shared.state.lock().wanted.clone()
    }

    /// What the store was opened with.
    #[must_use]
    pub fn config(&self) -> &StoreConfig {
        &self.shared.config
    }

    /// Removes what is of no use any more: older snapshots that were in use at the time a newer one came. Blocks.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn sweep(&self) -> Result<(), SnapshotError> {
        self.shared.sweep(&mut self.shared.state.lock())
    }

    /// Removes every snapshot that nobody uses, complete or not: of a group that does not exist. Blocks.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; [`SnapshotError::Busy`] while one is being made or received.
    pub fn clear(&self) -> Result<(), SnapshotError> {
        let mut state = self.shared.state.lock();
        if state.making || state.fetching {
            return Err(SnapshotError::Busy);
        }
        state.complete.retain(|held| Arc::strong_count(held) > 1);
        (state.damaged, state.wanted) = (Vec::new(), None);
        self.shared.sweep(&mut state)
    }

    /// Calls `tell` whenever a snapshot turns out to be damaged from now on, on the thread that reads it: it must not block.
    pub(crate) fn on_damage(&self, tell: impl Fn() + Send + Sync + 'static) {
        *self.shared.on_damage.lock() = Some(Arc::new(tell));
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl State {
    fn good(&self) -> impl DoubleEndedIterator<Item = &Arc<Held>> {
        self.complete.iter().filter(|held| !held.damaged.load(Ordering::Relaxed))
    }

    /// Refuses a snapshot that brings nothing new.
    fn newer(&self, manifest: &Manifest) -> Result<(), SnapshotError> {
        match self.good().next_back().map(|held| held.manifest.last()) {
            Some(newest) if newest.index >= manifest.last().index => {
                Err(SnapshotError::Stale { last: manifest.last(), newest })
            }
            _ => Ok(()),
        }
    }
}

impl Shared {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn data_path(&self, digest: Digest) -> PathBuf {
        self.path(&Kind::Data(digest).name())
    }

    pub(super) fn part_path(&self, digest: Digest) -> PathBuf {
        self.path(&Kind::Part(digest).name())
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.path(&format!("{}.tmp", self.last_temporary.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn list(&self) -> Result<Vec<String>, SnapshotError> {
        self.fs.list(&self.dir).map_err(SnapshotError::io("listing", &self.dir))
    }

    pub(super) fn sync_dir(&self) -> Result<(), SnapshotError> {
        self.fs.sync_dir(&self.dir).map_err(SnapshotError::io("syncing", &self.dir))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), SnapshotError> {
        self.fs.rename(from, to).map_err(SnapshotError::io("renaming", from))
    }

    /// Sets the snapshot up that a file of this name is part of, if it is a manifest.
    fn find(&self, name: &str, state: &mut State) -> Result<(), SnapshotError> {
        let (id, complete) = match Kind::of(name) {
            Kind::Manifest(id) => (id, true),
            Kind::Wanted(id) => (id, false),
            _ => return Ok(()),
        };
        match self.read_manifest(&self.path(name), id) {
            Ok(manifest) if complete => match self.missing_from(&manifest)? {
                None => state.complete.push(Arc::new(Held::new(Arc::new(manifest)))),
                Some(damaged) => state.damaged.push(damaged),
            },
            Ok(manifest) => {
                // A crash may leave two. What the newer one shares with the older one is kept.
                if state.wanted.as_ref().is_none_or(|other| other.last() < manifest.last()) {
                    state.wanted = Some(Arc::new(manifest));
                }
            }
            Err(SnapshotError::Damaged { .. }) if !complete => {}
            Err(damaged @ SnapshotError::Damaged { .. }) => state.damaged.push(damaged),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read_manifest(&self, path: &Path, id: SnapshotId) -> Result<Manifest, SnapshotError> {
        let file = self.fs.open_read(path).map_err(SnapshotError::io("opening", path))?;
        let length = file.length().map_err(SnapshotError::io("reading", path))?;
        let too_long = Malformed::TooMuch { what: "bytes", found: length, most: MANIFEST_BYTES_MAX as u64 };
        if length > MANIFEST_BYTES_MAX as u64 {
            return Err(SnapshotError::damaged(path, Damage::Manifest(too_long)));
        }
        let mut bytes = vec![0; length as usize];
        file.pread(&mut bytes, 0).map_err(SnapshotError::io("reading", path))?;
        let manifest = Manifest::decode(bytes.into());
        let manifest = manifest.map_err(|malformed| SnapshotError::damaged(path, Damage::Manifest(malformed)))?;
        if manifest.id() != id {
            return Err(SnapshotError::damaged(path, Damage::OtherManifest(manifest.id())));
        }
        self.belongs(&manifest)?;
        Ok(manifest)
    }

    /// The first file of a snapshot that is not there in its full length.
    fn missing_from(&self, manifest: &Manifest) -> Result<Option<SnapshotError>, SnapshotError> {
        for file in manifest.files() {
            let path = self.data_path(file.digest);
            let found = match self.fs.open_read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Some(SnapshotError::damaged(&path, Damage::Missing)));
                }
                opened => opened.and_then(|file| file.length()).map_err(SnapshotError::io("opening", &path))?,
            };
            if found != file.bytes {
                let damage = Damage::Length { expected: file.bytes, found };
                return Ok(Some(SnapshotError::damaged(&path, damage)));
            }
        }
        Ok(None)
    }

    pub(super) fn belongs(&self, manifest: &Manifest) -> Result<(), SnapshotError> {
        let about = manifest.about();
        if about.cluster == self.config.cluster && about.group == self.config.group {
            return Ok(());
        }
        Err(SnapshotError::Foreign { group: about.group, cluster: about.cluster.to_string() })
    }

    /// Refuses a snapshot that brings nothing new.
    pub(super) fn newer(&self, manifest: &Manifest) -> Result<(), SnapshotError> {
        self.state.lock().newer(manifest)
    }

    /// Writes a manifest under the name of its kind, atomically and durably.
    fn write_manifest(&self, manifest: &Manifest, kind: Kind) -> Result<(), SnapshotError> {
        let (temporary, path) = (self.temporary(), self.path(&kind.name()));
        let file = self.fs.create(&temporary).map_err(SnapshotError::io("creating", &temporary))?;
        file.pwrite(manifest.encoded(), 0).map_err(SnapshotError::io("writing", &temporary))?;
        file.sync_data().map_err(SnapshotError::io("syncing", &temporary))?;
        self.rename(&temporary, &path)?;
        self.sync_dir()
    }

    /// The one who makes a snapshot, until the guard is dropped.
    pub(super) fn begin_making(self: &Arc<Self>) -> Result<Making, SnapshotError> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.making, true) {
            return Err(SnapshotError::Busy);
        }
        Ok(Making(self.clone()))
    }

    /// The one who receives snapshots, until the guard is dropped.
    pub(super) fn begin_fetching(self: &Arc<Self>) -> Result<Fetching, SnapshotError> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.fetching, true) {
            return Err(SnapshotError::Busy);
        }
        Ok(Fetching(self.clone()))
    }

    /// Nobody will ask for this snapshot any more before there is another one.
    pub(super) fn note_damaged(&self, held: &Held, error: &SnapshotError) {
        if matches!(error, SnapshotError::Damaged { .. }) && !held.damaged.swap(true, Ordering::Relaxed) {
            let tell = self.on_damage.lock().clone();
            tell.inspect(|tell| tell());
        }
    }

    /// Adds a snapshot whose files are all there and whose manifest has its name, and removes what it replaces.
    fn complete(self: &Arc<Self>, mut state: MutexGuard<'_, State>, manifest: Arc<Manifest>) -> Snapshot {
        let held = Arc::new(Held::new(manifest));
        state.complete.retain(|other| other.manifest.id() != held.manifest.id());
        state.complete.push(held.clone());
        state.complete.sort_by_key(|held| held.manifest.last().index);
        state.damaged.clear();
        let newest = held.manifest.last().index;
        if !state.fetching {
            state.wanted.take_if(|wanted| wanted.last().index <= newest);
        }
        let snapshot = Snapshot::new(self.clone(), held);
        // The snapshot is there whether what it replaces can be removed now or at the next opportunity.
        let _ = self.sweep(&mut state);
        snapshot
    }

    /// Removes everything that nobody needs: manifests first, and their files once that is durable.
    fn sweep(&self, state: &mut State) -> Result<(), SnapshotError> {
        let all_good = state.good().count();
        let spare = all_good.saturating_sub(self.config.keep.max(1));
        let mut nth = 0;
        state.complete.retain(|held| {
            let good = !held.damaged.load(Ordering::Relaxed);
            nth += usize::from(good);
            // A damaged one stays, as what was found to be damaged at open does, until there is a newer one.
            let stays = if good { nth > spare } else { nth == all_good };
            stays || Arc::strong_count(held) > 1
        });
        let needed = state.needed();
        let found: Vec<(Kind, String)> = self.list()?.into_iter().map(|name| (Kind::of(&name), name)).collect();
        let damaged = !state.damaged.is_empty();
        let of_no_use = |kind: &Kind| match kind {
            Kind::Manifest(_) | Kind::Data(_) if damaged => false,
            // Whoever makes or receives one will need it in a moment.
            Kind::Temporary => !state.making && !state.fetching,
            Kind::Other => false,
            kind => !needed.contains(&kind.name()),
        };
        let (manifests, files): (Vec<_>, Vec<_>) = found
            .into_iter()
            .filter(|(kind, _)| of_no_use(kind))
            .partition(|(kind, _)| matches!(kind, Kind::Manifest(_) | Kind::Wanted(_)));
        self.remove(manifests)?;
        if !files.is_empty() {
            // Also if the manifest that named them was removed before, by a process that did not live to sync it.
            self.sync_dir()?;
        }
        self.remove(files)
    }

    fn remove(&self, files: Vec<(Kind, String)>) -> Result<(), SnapshotError> {
        for (_, name) in files {
            let path = self.path(&name);
            match self.fs.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SnapshotError::io("removing", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl State {
    /// The names of the files that stay.
    fn needed(&self) -> BTreeSet<String> {
        let mut needed: BTreeSet<String> = self.made.iter().map(|digest| Kind::Data(*digest).name()).collect();
        for held in &self.complete {
            needed.insert(Kind::Manifest(held.manifest.id()).name());
            needed.extend(held.manifest.files().iter().map(|file| Kind::Data(file.digest).name()));
        }
        if let Some(wanted) = &self.wanted {
            needed.insert(Kind::Wanted(wanted.id()).name());
            let digests = wanted.files().iter().map(|file| file.digest);
            needed.extend(digests.flat_map(|digest| [Kind::Data(digest).name(), Kind::Part(digest).name()]));
        }
        needed
    }
}

impl Held {
    fn new(manifest: Arc<Manifest>) -> Self {
        Self { manifest, damaged: AtomicBool::new(false) }
    }
}

impl Kind {
    fn of(name: &str) -> Self {
        let Some((stem, extension)) = name.split_once('.') else { return Self::Other };
        match (Digest::from_hex(stem), extension) {
            (Some(digest), "data") => Self::Data(digest),
            (Some(id), "manifest") => Self::Manifest(id),
            (Some(digest), "part") => Self::Part(digest),
            (Some(id), "wanted") => Self::Wanted(id),
            (None, "tmp") => Self::Temporary,
            _ => Self::Other,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Data(digest) => format!("{digest}.data"),
            Self::Manifest(id) => format!("{id}.manifest"),
            Self::Part(digest) => format!("{digest}.part"),
            Self::Wanted(id) => format!("{id}.wanted"),
            Self::Temporary | Self::Other => String::new(),
        }
    }
}

/// The right to make a snapshot.
pub(super) struct Making(Arc<Shared>);

impl Making {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// A file is complete and synced under its temporary name: it gets the one that says what is in it.
    pub(super) fn file_made(&self, temporary: &Path, digest: Digest) -> Result<(), SnapshotError> {
        self.0.state.lock().made.insert(digest);
        self.0.rename(temporary, &self.0.data_path(digest))
    }

    /// All files are there.
    pub(super) fn commit(self, manifest: Manifest) -> Result<Snapshot, SnapshotError> {
        self.0.sync_dir()?;
        // Under the lock, or a sweep meanwhile would find a manifest that nobody knows.
        let mut state = self.0.state.lock();
        state.newer(&manifest)?;
        self.0.write_manifest(&manifest, Kind::Manifest(manifest.id()))?;
        state.made.clear();
        state.making = false;
        Ok(self.0.complete(state, Arc::new(manifest)))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.making = false;
        state.made.clear();
        // What is left over now is removed at the next opportunity, too.
        let _ = self.0.sweep(&mut state);
    }
}

/// The right to receive snapshots.
pub(super) struct Fetching(Arc<Shared>);

impl Fetching {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// From now on `manifest` is what is being received, also after a restart. Parts of what was being received before
    /// are kept if they are parts of this one, too.
    pub(super) fn want(&self, manifest: &Arc<Manifest>) -> Result<(), SnapshotError> {
        self.0.belongs(manifest)?;
        let mut state = self.0.state.lock();
        state.newer(manifest)?;
        if state.wanted.as_ref().is_some_and(|wanted| wanted.id() == manifest.id()) {
            return Ok(());
        }
        self.0.write_manifest(manifest, Kind::Wanted(manifest.id()))?;
        state.wanted = Some(manifest.clone());
        self.0.sweep(&mut state)
    }

    /// All files of what is wanted are there.
    pub(super) fn commit(self, manifest: Arc<Manifest>) -> Result<Snapshot, SnapshotError> {
        self.0.sync_dir()?;
        let mut state = self.0.state.lock();
        state.newer(&manifest)?;
        let from = self.0.path(&Kind::Wanted(manifest.id()).name());
        self.0.rename(&from, &self.0.path(&Kind::Manifest(manifest.id()).name()))?;
        self.0.sync_dir()?;
        state.wanted = None;
        state.fetching = false;
        Ok(self.0.complete(state, manifest))
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.fetching = false;
        // Something newer was made meanwhile: what was received is of no use to anybody.
        let overtaken = state.wanted.as_ref().is_some_and(|wanted| state.newer(wanted).is_err());
        if overtaken {
            state.wanted = None;
            let _ = self.0.sweep(&mut state);
        }
    }
}
