//! The pairs in memory: nothing survives, the newest snapshot and the log rebuild them.
//!
//! They are divided into many small maps, each shared until it changes. Who wants the whole state as of one moment takes a
//! share in each, which is quick however much data there is; a map that is changed while somebody else has a share in it
//! is copied first. So a snapshot costs no pause, but one small copy at the first change of each map while it lasts.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tenure::types::Index;

use super::image::{self, Image};
use super::{Budget, Changes, Store, StoreError, Totals, hash};

/// How many maps. With ten million pairs, a copy of one takes less than a millisecond.
const SHARDS: usize = 1 << 12;

/// Maps under a lock that a batch takes once.
pub(crate) struct Memory {
    state: RwLock<State>,
}

type Shard = Arc<HashMap<Bytes, Bytes>>;

#[derive(Clone)]
struct State {
    /// Invariant: `SHARDS` of them.
    shards: Vec<Shard>,
    totals: Totals,
    /// The last entry of the snapshot that it was restored from.
    restored: Index,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { state: RwLock::new(State::empty()) }
    }
}

impl State {
    fn empty() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, totals: Totals::default(), restored: Index::ZERO }
    }

    fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.shards[shard_of(key)].get(key)
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) {
        // Copied: what comes from the log is a slice of a larger buffer, which it would keep alive.
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Arc::make_mut(&mut self.shards[shard_of(&key)]).insert(key, value);
    }

    fn remove(&mut self, key: &[u8]) {
        Arc::make_mut(&mut self.shards[shard_of(key)]).remove(key);
    }
}

fn shard_of(key: &[u8]) -> usize {
    // The upper bits, lest maps of a shard see keys whose hashes have something in common.
    (hash(0, key) >> 52) as usize % SHARDS
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.read().get(key).cloned())
    }

    fn get_all(&self, keys: &[Bytes], limit: usize) -> Result<Vec<Option<Bytes>>, StoreError> {
        let state = self.state.read();
        let mut budget = Budget::new(limit);
        let get = |key: &Bytes| {
            let value = state.get(key);
            budget.take(value.map(|value| &value[..])).map(|()| value.cloned())
        };
        keys.iter().map(get).collect()
    }

    fn count_existing(&self, keys: &[Bytes]) -> Result<usize, StoreError> {
        let state = self.state.read();
        Ok(keys.iter().filter(|key| state.get(key).is_some()).count())
    }

    fn commit(&self, changes: Changes, totals: Totals) -> Result<(), StoreError> {
        let mut state = self.state.write();
        for (key, value) in changes {
            match value {
                Some(value) => state.insert(&key, &value),
                None => state.remove(&key),
            }
        }
        state.totals = totals;
        Ok(())
    }

    fn totals(&self) -> Totals {
        self.state.read().totals
    }

    fn count(&self) -> Result<Totals, StoreError> {
        let State { shards, totals, .. } = self.state.read().clone();
        let mut counted = Totals { applied: totals.applied, ..Totals::default() };
        shards.iter().flat_map(|shard| shard.iter()).for_each(|(key, value)| counted.add(key, value));
        Ok(counted)
    }

    fn applied(&self) -> Index {
        let state = self.state.read();
        state.totals.applied.max(state.restored)
    }

    fn durable(&self) -> Index {
        Index::ZERO
    }

    fn image(&self) -> Result<Box<dyn Read + Send>, StoreError> {
        let State { shards, totals, .. } = self.state.read().clone();
        // Each share is given up as soon as its pairs are on their way.
        let pairs =
            |shard: Shard| shard.iter().map(|(key, value)| Ok((key.clone(), value.clone()))).collect::<Vec<_>>();
        Ok(Box::new(Image::new(totals, shards.into_iter().flat_map(pairs))))
    }

    fn replace(&self, from: &mut dyn Read, last: Index) -> Result<(), StoreError> {
        let mut state = State { restored: last, ..State::empty() };
        state.totals = image::load(from, |key, value| {
            state.insert(&key, &value);
            Ok(())
        })?;
        *self.state.write() = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever changes pairs while a snapshot is read pays for a small part of them, once.
    #[test]
    fn a_snapshot_shares_what_does_not_change() {
        let store = Memory::new();
        let changes = (0..20_000).map(|n| (format!("k{n}").into(), Some(Bytes::from("v")))).collect();
        store.commit(changes, Totals::default()).unwrap();
        let largest = store.state.read().shards.iter().map(|shard| shard.len()).max();
        assert!(largest < Some(40), "{largest:?} pairs in one map");

        let image = store.image().unwrap();
        let shared = || store.state.read().shards.iter().filter(|shard| Arc::strong_count(shard) > 1).count();
        assert_eq!(shared(), SHARDS);
        store.commit([(Bytes::from("k1"), None)].into(), Totals::default()).unwrap();
        assert_eq!(shared(), SHARDS - 1);
        drop(image);
        assert_eq!(shared(), 0);
    }
}
