//! The pairs on disk, in the LSM tree of `fjall`.
//!
//! A batch and the index it ends with are one atomic write, so after a crash the state is that of some index, which it
//! knows. The engine's own journal is *not* synced per batch: what a power cut takes from it is still in the replicated
//! log and is applied again. A thread of its own syncs it once in a while, and only what it has synced is reported as
//! durable, for the log may be cut off below that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::Mutex;
use slog::{Logger, error};
use tenure::types::Index;

use super::{Budget, Changes, Store, StoreError, Totals};

/// How often the engine's journal is synced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Version of the record of totals.
const VERSION: u8 = 1;

/// The key of the record of totals in the keyspace `meta`.
const TOTALS: &str = "totals";

/// A directory of the storage engine.
pub(crate) struct Durable {
    database: Database,
    pairs: Keyspace,
    meta: Keyspace,
    totals: Mutex<Totals>,
    opened_at: Index,
    synced: Arc<AtomicU64>,
    /// Dropped first, which ends the thread.
    stop: Option<Sender<()>>,
    syncer: Option<JoinHandle<()>>,
}

impl Durable {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// [`StoreError`] if the engine cannot open it or it was written by a later version.
    pub(crate) fn open(dir: &Path, logger: &Logger) -> Result<Self, StoreError> {
        let database = Database::builder(dir).worker_threads(1).open()?;
        let pairs = database.keyspace("pairs", KeyspaceCreateOptions::default)?;
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default)?;
        let totals = meta.get(TOTALS)?.map_or(Ok(Totals::default()), |record| decode(&record))?;
        // What a killed process had written is back from the journal, but perhaps not on disk yet.
        database.persist(PersistMode::SyncAll)?;
        let synced = Arc::new(AtomicU64::new(totals.applied.0));
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
            pairs,
            meta,
            totals: Mutex::new(totals),
            opened_at: totals.applied,
            synced,
            stop: Some(stop),
            syncer: Some(syncer),
        })
    }
}

/// Makes everything applied so far durable, and says so.
fn sync(database: &Database, meta: &Keyspace, synced: &AtomicU64) -> Result<(), StoreError> {
    let applied = meta.get(TOTALS)?.map_or(Ok(Totals::default()), |record| decode(&record))?.applied;
    if applied.0 > synced.load(Ordering::Acquire) {
        database.persist(PersistMode::SyncAll)?;
        synced.store(applied.0, Ordering::Release);
    }
    Ok(())
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
        Ok(self.pairs.get(stored(key))?.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Through a snapshot: a plain get would see a batch while it is being written.
    fn get_all(&self, keys: &[Bytes], limit: usize) -> Result<Vec<Option<Bytes>>, StoreError> {
        let snapshot = self.database.snapshot();
        let mut budget = Budget::new(limit);
        let get = |key: &Bytes| {
            let value = snapshot.get(&self.pairs, stored(key))?;
            budget.take(value.as_deref())?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        };
        keys.iter().map(get).collect()
    }

    fn count_existing(&self, keys: &[Bytes]) -> Result<usize, StoreError> {
        let snapshot = self.database.snapshot();
        let exists = |key: &Bytes| Ok::<_, StoreError>(usize::from(snapshot.contains_key(&self.pairs, stored(key))?));
        keys.iter().map(exists).sum()
    }

    fn commit(&self, changes: Changes, totals: Totals) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.pairs, stored(&key), &value[..]),
                None => batch.remove(&self.pairs, stored(&key)),
            }
        }
        batch.insert(&self.meta, TOTALS, encode(totals));
        batch.commit()?;
        *self.totals.lock() = totals;
        Ok(())
    }

    fn totals(&self) -> Totals {
        *self.totals.lock()
    }

    fn count(&self) -> Result<Totals, StoreError> {
        let snapshot = self.database.snapshot();
        let record = snapshot.get(&self.meta, TOTALS)?;
        let applied = record.map_or(Ok(Totals::default()), |record| decode(&record))?.applied;
        let mut totals = Totals { applied, ..Totals::default() };
        for pair in snapshot.iter(&self.pairs) {
            let (key, value) = pair.into_inner()?;
            totals.add(key.get(1..).unwrap_or_default(), &value);
        }
        Ok(totals)
    }

    fn applied(&self) -> Index {
        self.opened_at
    }

    fn durable(&self) -> Index {
        Index(self.synced.load(Ordering::Acquire))
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
        return Err(StoreError::Engine(
            "the record of totals has another version: was this written by a later one?".into(),
        ));
    }
    let (applied, keys, digest) = (record.get_u64_le(), record.get_u64_le(), record.get_u64_le());
    Ok(Totals { applied: Index(applied), keys, digest })
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        Self::Engine(error.to_string())
    }
}
