//! The pairs in memory: nothing survives, the log rebuilds them.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::RwLock;
use tenure::types::Index;

use super::{Budget, Changes, Store, StoreError, Totals};

/// A hash map under a lock that a batch takes once.
pub(crate) struct Memory {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    pairs: HashMap<Bytes, Bytes>,
    totals: Totals,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { state: RwLock::default() }
    }
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.read().pairs.get(key).cloned())
    }

    fn get_all(&self, keys: &[Bytes], limit: usize) -> Result<Vec<Option<Bytes>>, StoreError> {
        let state = self.state.read();
        let mut budget = Budget::new(limit);
        let get = |key: &Bytes| {
            let value = state.pairs.get(key);
            budget.take(value.map(|value| &value[..])).map(|()| value.cloned())
        };
        keys.iter().map(get).collect()
    }

    fn count_existing(&self, keys: &[Bytes]) -> Result<usize, StoreError> {
        let state = self.state.read();
        Ok(keys.iter().filter(|key| state.pairs.contains_key(*key)).count())
    }

    fn commit(&self, changes: Changes, totals: Totals) -> Result<(), StoreError> {
        let mut state = self.state.write();
        for (key, value) in changes {
            match value {
                // Copied: what comes from the log is a slice of a larger buffer, which it would keep alive.
                Some(value) => state.pairs.insert(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)),
                None => state.pairs.remove(&key),
            };
        }
        state.totals = totals;
        Ok(())
    }

    fn totals(&self) -> Totals {
        self.state.read().totals
    }

    fn count(&self) -> Result<Totals, StoreError> {
        let state = self.state.read();
        let mut totals = Totals { applied: state.totals.applied, ..Totals::default() };
        state.pairs.iter().for_each(|(key, value)| totals.add(key, value));
        Ok(totals)
    }

    fn applied(&self) -> Index {
        Index::ZERO
    }

    fn durable(&self) -> Index {
        Index::ZERO
    }
}
