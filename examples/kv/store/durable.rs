//! The pairs on disk, in the LSM tree of `fjall`.
//!
//! A batch and the index it ends with are one atomic write, so after a crash the state is that of some index, which it
//! knows. The engine's own journal is *not* synced per batch: what a power cut takes from it is still in the replicated
//! log and is applied again. A thread of its own syncs it once in a while, and only what it has synced is reported as
//! durable, for the log may be cut off below that.
//!
//! A snapshot is restored beside the pairs, into a keyspace of its own. Which keyspace counts is a record of its own, and
//! replacing that is the one step from the old state to the new; leftovers of a crash on the way are removed when the
//! directory is opened.

use std::io::Read;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::RwLock;
use slog::{Logger, error};
use tenure::types::Index;

use super::image::{self, Image};
use super::{Budget, Changes, Store, StoreError, Totals};

/// How often the engine's journal is synced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Version of the record of totals.
const VERSION: u8 = 1;

/// The key of the record of totals in the keyspace `meta`.
const TOTALS: &str = "totals";

/// The key of the record of the snapshot that was restored last, if any was.
const RESTORED: &str = "restored";

/// A snapshot is restored in batches of so many bytes.
const RESTORE_BATCH_BYTES: usize = 1 << 20;

/// A directory of the storage engine.
pub(crate) struct Durable {
    database: Database,
    meta: Keyspace,
    state: RwLock<State>,
    synced: Arc<AtomicU64>,
    /// Dropped first, which ends the thread.
    stop: Option<Sender<()>>,
    syncer: Option<JoinHandle<()>>,
}

/// What is exchanged when a snapshot is restored. Whoever reads the pairs holds the lock, or a snapshot of the engine.
struct State {
    pairs: Keyspace,
    totals: Totals,
    restored: Restored,
}

/// The snapshot that was restored last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Restored {
    /// The last entry whose effect is in it.
    last: Index,
    /// How many were restored: the name of the keyspace.
    generation: u64,
}

impl Durable {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// [`StoreError`] if the engine cannot open it or it was written by a later version.
    pub(crate) fn open(dir: &Path, logger: &Logger) -> Result<Self, StoreError> {
        let database = Database::builder(dir).worker_threads(1).open()?;
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default)?;
        let totals = read_totals(&meta)?;
        let restored = Restored::read(&meta)?;
        for name in database.list_keyspace_names() {
            if *name != *"meta" && *name != *restored.keyspace() {
                // Of a restoration that was not completed, or of the state before the last one.
                database.delete_keyspace(database.keyspace(&name, KeyspaceCreateOptions::default)?)?;
            }
        }
        let pairs = database.keyspace(&restored.keyspace(), KeyspaceCreateOptions::default)?;
        // What a killed process had written is back from the journal, but perhaps not on disk yet.
        database.persist(PersistMode::SyncAll)?;
        let synced = Arc::new(AtomicU64::new(totals.applied.max(restored.last).0));
        let (stop, stopped) = bounded::<()>(0);
        let syncer = {
            let (database, meta, synced, logger) = (database.clone(), meta.clone(), synced.clone(), logger.clone());
            let work = move || {
                while stopped.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    if let Err(error) = sync(&database, &meta, &synced) {
                        // The engine refuses every later write by itself; the state machine's thread reports that.
                        error!(logger, "syncing the store failed, it stays as durable as it was"; "error" => %error);
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name("kv-sync".into())
                .spawn(work)
                .map_err(|e| StoreError::Engine(e.to_string()))?
        };
        Ok(Self {
            database,
            meta,
            state: RwLock::new(State { pairs, totals, restored }),
            synced,
            stop: Some(stop),
            syncer: Some(syncer),
        })
    }

    /// Writes the pairs of an image into a keyspace, and syncs them.
    fn fill(&self, pairs: &Keyspace, from: &mut dyn Read) -> Result<Totals, StoreError> {
        let (mut batch, mut bytes) = (self.database.batch(), 0);
        let totals = image::load(from, |key, value| {
            batch.insert(pairs, stored(&key), &value[..]);
            bytes += key.len() + value.len();
            if bytes >= RESTORE_BATCH_BYTES {
                bytes = 0;
                mem::replace(&mut batch, self.database.batch()).commit()?;
            }
            Ok(())
        })?;
        batch.commit()?;
        self.database.persist(PersistMode::SyncAll)?;
        Ok(totals)
    }

    /// An empty keyspace, whatever an attempt before has left in it.
    fn empty_keyspace(&self, name: &str) -> Result<Keyspace, StoreError> {
        if self.database.keyspace_exists(name) {
            self.database.delete_keyspace(self.database.keyspace(name, KeyspaceCreateOptions::default)?)?;
        }
        Ok(self.database.keyspace(name, KeyspaceCreateOptions::default)?)
    }
}

impl Restored {
    fn keyspace(self) -> String {
        if self.generation == 0 { "pairs".into() } else { format!("pairs-{}", self.generation) }
    }

    fn read(meta: &Keyspace) -> Result<Self, StoreError> {
        let Some(record) = meta.get(RESTORED)? else { return Ok(Self::default()) };
        let mut record = &record[..];
        if record.len() != 17 || record.get_u8() != VERSION {
            return Err(another_version("of the snapshot restored"));
        }
        Ok(Self { last: Index(record.get_u64_le()), generation: record.get_u64_le() })
    }

    /// `version: u8 | last: u64 | generation: u64`, little endian.
    fn encode(self) -> Vec<u8> {
        let mut record = Vec::with_capacity(17);
        record.put_u8(VERSION);
        record.put_u64_le(self.last.0);
        record.put_u64_le(self.generation);
        record
    }
}

/// Makes everything applied so far durable, and says so.
fn sync(database: &Database, meta: &Keyspace, synced: &AtomicU64) -> Result<(), StoreError> {
    let applied = read_totals(meta)?.applied.max(Restored::read(meta)?.last);
    if applied.0 > synced.load(Ordering::Acquire) {
        database.persist(PersistMode::SyncAll)?;
        synced.fetch_max(applied.0, Ordering::AcqRel);
    }
    Ok(())
}

fn read_totals(meta: &Keyspace) -> Result<Totals, StoreError> {
    meta.get(TOTALS)?.map_or(Ok(Totals::default()), |record| decode(&record))
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(syncer) = self.syncer.take() {
            // It has nothing to say if it panicked: then it has not reported anything as durable either.
            let _ = syncer.join();
        }
    }
}

impl Store for Durable {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.read().pairs.get(stored(key))?.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Through a snapshot: a plain get would see a batch while it is being written.
    fn get_all(&self, keys: &[Bytes], limit: usize) -> Result<Vec<Option<Bytes>>, StoreError> {
        let state = self.state.read();
        let snapshot = self.database.snapshot();
        let mut budget = Budget::new(limit);
        let get = |key: &Bytes| {
            let value = snapshot.get(&state.pairs, stored(key))?;
            budget.take(value.as_deref())?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        };
        keys.iter().map(get).collect()
    }

    fn count_existing(&self, keys: &[Bytes]) -> Result<usize, StoreError> {
        let state = self.state.read();
        let snapshot = self.database.snapshot();
        let exists = |key: &Bytes| Ok::<_, StoreError>(usize::from(snapshot.contains_key(&state.pairs, stored(key))?));
        keys.iter().map(exists).sum()
    }

    fn commit(&self, changes: Changes, totals: Totals) -> Result<(), StoreError> {
        let pairs = self.state.read().pairs.clone();
        let mut batch = self.database.batch();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&pairs, stored(&key), &value[..]),
                None => batch.remove(&pairs, stored(&key)),
            }
        }
        batch.insert(&self.meta, TOTALS, encode(totals));
        batch.commit()?;
        self.state.write().totals = totals;
        Ok(())
    }

    fn totals(&self) -> Totals {
        self.state.read().totals
    }

    fn count(&self) -> Result<Totals, StoreError> {
        let state = self.state.read();
        let (pairs, snapshot) = (state.pairs.clone(), self.database.snapshot());
        drop(state);
        let record = snapshot.get(&self.meta, TOTALS)?;
        let applied = record.map_or(Ok(Totals::default()), |record| decode(&record))?.applied;
        let mut totals = Totals { applied, ..Totals::default() };
        for pair in snapshot.iter(&pairs) {
            let (key, value) = pair.into_inner()?;
            totals.add(key.get(1..).unwrap_or_default(), &value);
        }
        Ok(totals)
    }

    fn applied(&self) -> Index {
        let state = self.state.read();
        state.totals.applied.max(state.restored.last)
    }

    fn durable(&self) -> Index {
        Index(self.synced.load(Ordering::Acquire))
    }

    /// A snapshot of the engine. It keeps old versions of pairs from being compacted away until it has been read.
    fn image(&self) -> Result<Box<dyn Read + Send>, StoreError> {
        let State { pairs, totals, .. } = &*self.state.read();
        let found = self.database.snapshot().iter(pairs);
        // The files of a keyspace that is given up meanwhile stay as long as it is held.
        let held = pairs.clone();
        let pair = move |pair: fjall::Guard| {
            let _ = &held;
            let (key, value) = pair.into_inner()?;
            Ok((Bytes::copy_from_slice(key.get(1..).unwrap_or_default()), Bytes::copy_from_slice(&value)))
        };
        Ok(Box::new(Image::new(*totals, found.map(pair))))
    }

    fn replace(&self, from: &mut dyn Read, last: Index) -> Result<(), StoreError> {
        let before = self.state.read().restored;
        let restored = Restored { last, generation: before.generation + 1 };
        let pairs = self.empty_keyspace(&restored.keyspace())?;
        let totals = self.fill(&pairs, from)?;
        // From here on readers wait: they see everything of one state.
        let mut state = self.state.write();
        let mut batch = self.database.batch();
        batch.insert(&self.meta, TOTALS, encode(totals));
        batch.insert(&self.meta, RESTORED, restored.encode());
        batch.commit()?;
        self.database.persist(PersistMode::SyncAll)?;
        let old = mem::replace(&mut *state, State { pairs, totals, restored });
        drop(state);
        self.synced.fetch_max(last.0, Ordering::AcqRel);
        Ok(self.database.delete_keyspace(old.pairs)?)
    }
}

/// A key as the engine has it: behind one byte, because it takes no empty keys.
fn stored(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(b':');
    stored.extend_from_slice(key);
    stored
}

/// `version: u8 | applied: u64 | keys: u64 | digest: u64`, little endian.
fn encode(totals: Totals) -> Vec<u8> {
    let mut record = Vec::with_capacity(25);
    record.put_u8(VERSION);
    record.put_u64_le(totals.applied.0);
    record.put_u64_le(totals.keys);
    record.put_u64_le(totals.digest);
    record
}

fn decode(mut record: &[u8]) -> Result<Totals, StoreError> {
    if record.len() != 25 || record.get_u8() != VERSION {
        return Err(another_version("of totals"));
    }
    let (applied, keys, digest) = (record.get_u64_le(), record.get_u64_le(), record.get_u64_le());
    Ok(Totals { applied: Index(applied), keys, digest })
}

fn another_version(record: &str) -> StoreError {
    StoreError::Engine(format!("the record {record} has another version: was this written by a later one?"))
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        Self::Engine(error.to_string())
    }
}
