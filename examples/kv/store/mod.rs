//! The data, and what operations do to it.
//!
//! One state machine ([`Machine`]) executes operations; where the pairs are kept is a [`Store`]: [`memory`] or
//! [`durable`]. The machine collects the changes of one batch beside the store, so that an operation sees those before
//! it, and hands them over as one: a store never shows, and never keeps, half a batch.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use tenure::state_machine::{ApplyError, Command, SnapshotFiles, SnapshotSource, StateMachine};
use tenure::types::Index;

use super::operation::{Condition, Operation};

pub(crate) mod durable;
mod image;
pub(crate) mod memory;

/// What is stored, in three numbers. Equal at equal `applied` on every node, or the nodes have diverged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// The last command whose effect is in.
    pub(crate) applied: Index,
    /// Number of keys.
    pub(crate) keys: u64,
    /// Sum of a checksum of every pair: no order of the pairs matters, and one change costs one addition.
    pub(crate) digest: u64,
}

/// The changes of one batch: the new value of a key, or `None` if it goes.
pub(crate) type Changes = HashMap<Bytes, Option<Bytes>>;

/// A store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The engine failed; the message is its own.
    #[error("the storage engine failed: {0}")]
    Engine(String),
    /// A snapshot cannot be read.
    #[error("the snapshot cannot be read: {0}")]
    Image(String),
    /// The values asked for are longer than the reply may be.
    #[error("the values have more than {limit} bytes together; ask for fewer at once")]
    TooMuch {
        /// The limit in force.
        limit: usize,
    },
}

/// Adds up the lengths of values while they are fetched.
struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    fn new(limit: usize) -> Self {
        Self { left: limit, limit }
    }

    fn take(&mut self, value: Option<&[u8]>) -> Result<(), StoreError> {
        let rest = self.left.checked_sub(value.map_or(0, <[u8]>::len));
        self.left = rest.ok_or(StoreError::TooMuch { limit: self.limit })?;
        Ok(())
    }
}

/// Where the pairs are kept. Written by one thread (the state machine's), read by any.
pub(crate) trait Store: Send + Sync + 'static {
    /// The value of one key, for the writing thread.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The values of `keys`, all of one instant between two batches, at most `limit` bytes together.
    fn get_all(&self, keys: &[Bytes], limit: usize) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// How many of `keys` exist, all of one instant; a key that is named twice counts twice.
    fn count_existing(&self, keys: &[Bytes]) -> Result<usize, StoreError>;

    /// Takes a batch of changes and the totals after it, atomically.
    fn commit(&self, changes: Changes, totals: Totals) -> Result<(), StoreError>;

    /// As of the last batch.
    fn totals(&self) -> Totals;

    /// Totals counted anew from every pair, all of one instant: evidence against [`totals`](Self::totals), which are
    /// only carried along. Takes time in proportion to the data.
    fn count(&self) -> Result<Totals, StoreError>;

    /// The last index whose effect is in the store: of the last batch, or of the snapshot it was restored from, which may
    /// end with an entry that is no command.
    fn applied(&self) -> Index;

    /// The last index whose effect survives a power cut.
    fn durable(&self) -> Index;

    /// The [`image`] of the state as of the last batch, for the writing thread. Quick, whatever the size; to be read on any
    /// thread while batches are taken.
    fn image(&self) -> Result<Box<dyn Read + Send>, StoreError>;

    /// Replaces everything by an image with the effect of every entry up to `last`: as one step, also for readers, and as
    /// durably as the store is. After an error everything is as it was.
    fn replace(&self, image: &mut dyn Read, last: Index) -> Result<(), StoreError>;
}

/// What an operation answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Done,
    /// The condition did not hold; nothing changed.
    NotMet,
    /// A number: keys removed, or the counter's new value.
    Number(i64),
    /// Refused for a reason that follows from the data; nothing changed.
    Refused(Refusal),
}

/// Why an operation changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("value is not an integer or out of range")]
    NoInteger,
    #[error("increment or decrement would overflow")]
    Overflow,
    #[error("this node cannot read the operation in the log; upgrade it")]
    UnknownOperation,
}

/// The replicated state machine: executes operations on a store.
pub(crate) struct Machine {
    store: Arc<dyn Store>,
}

impl Machine {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

impl StateMachine for Machine {
    type Output = Outcome;

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, ApplyError> {
        let Some(last) = commands.last() else { return Ok(Vec::new()) };
        let mut batch = Batch::new(&*self.store);
        let outcomes = commands.iter().map(|command| batch.execute(command.data.clone())).collect::<Result<_, _>>();
        let outcomes = outcomes.map_err(|error| ApplyError(error.to_string()))?;
        batch.totals.applied = last.id.index;
        self.store.commit(batch.changes, batch.totals).map_err(|error| ApplyError(error.to_string()))?;
        Ok(outcomes)
    }

    fn applied(&self) -> Index {
        self.store.applied()
    }

    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        let image = self.store.image().map_err(|error| ApplyError(error.to_string()))?;
        Ok(Some(SnapshotSource::Stream(image)))
    }

    fn restore(&mut self, snapshot: &SnapshotFiles) -> Result<(), ApplyError> {
        let mut image = snapshot.stream().map_err(|error| ApplyError(error.to_string()))?;
        self.store.replace(&mut image, snapshot.last().index).map_err(|error| ApplyError(error.to_string()))
    }
}

/// Operations under execution, their changes not yet in the store.
struct Batch<'a> {
    store: &'a dyn Store,
    changes: Changes,
    totals: Totals,
}

impl<'a> Batch<'a> {
    fn new(store: &'a dyn Store) -> Self {
        Self { store, changes: Changes::new(), totals: store.totals() }
    }

    fn execute(&mut self, command: Bytes) -> Result<Outcome, StoreError> {
        match Operation::decode(command) {
            Ok(Operation::Set { key, value, condition }) => self.set(key, value, &condition),
            Ok(Operation::Delete { keys }) => self.delete(keys),
            Ok(Operation::Increment { key }) => self.increment(key),
            Err(_) => Ok(Outcome::Refused(Refusal::UnknownOperation)),
        }
    }

    fn set(&mut self, key: Bytes, value: Bytes, condition: &Condition) -> Result<Outcome, StoreError> {
        let old = self.get(&key)?;
        let met = match condition {
            Condition::Always => true,
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
            Condition::IfEqual(expected) => old.as_ref() == Some(expected),
        };
        if !met {
            return Ok(Outcome::NotMet);
        }
        self.replace(key, old.as_deref(), Some(value));
        Ok(Outcome::Done)
    }

    fn delete(&mut self, keys: Vec<Bytes>) -> Result<Outcome, StoreError> {
        let mut removed = 0;
        for key in keys {
            let old = self.get(&key)?;
            if old.is_some() {
                removed += 1;
                self.replace(key, old.as_deref(), None);
            }
        }
        Ok(Outcome::Number(removed))
    }

    fn increment(&mut self, key: Bytes) -> Result<Outcome, StoreError> {
        let old = self.get(&key)?;
        let number = match &old {
            None => 0,
            Some(text) => match integer(text) {
                Some(number) => number,
                None => return Ok(Outcome::Refused(Refusal::NoInteger)),
            },
        };
        let Some(number) = number.checked_add(1) else { return Ok(Outcome::Refused(Refusal::Overflow)) };
        self.replace(key, old.as_deref(), Some(Bytes::from(number.to_string())));
        Ok(Outcome::Number(number))
    }

    /// The value as the operations before this one leave it.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(key),
        }
    }

    fn replace(&mut self, key: Bytes, old: Option<&[u8]>, new: Option<Bytes>) {
        if let Some(old) = old {
            self.totals.remove(&key, old);
        }
        if let Some(new) = &new {
            self.totals.add(&key, new);
        }
        self.changes.insert(key, new);
    }
}

impl Totals {
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.keys = self.keys.wrapping_add(1);
        self.digest = self.digest.wrapping_add(checksum(key, value));
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.keys = self.keys.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(checksum(key, value));
    }
}

/// An integer as `INCR` takes it: the shortest decimal text of a 64-bit number.
fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// A 64-bit checksum of one pair; it is stored, so it must never change.
fn checksum(key: &[u8], value: &[u8]) -> u64 {
    mix(hash(hash(0x9e37_79b9_7f4a_7c15, key), value))
}

/// Eight bytes at a time; the length goes in too, so that `("ab", "c")` is not `("a", "bc")`.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(seed ^ bytes.len() as u64), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}

/// Spreads every bit over all others (two rounds of multiply and fold).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

#[cfg(test)]
mod restore_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use tenure::types::EntryId;

    use super::super::operation::MAX_KEY_BYTES;
    use super::durable::Durable;
    use super::memory::Memory;

    pub(super) fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    pub(super) fn set(key: &str, value: &str, condition: Condition) -> Operation {
        Operation::Set { key: bytes(key), value: bytes(value), condition }
    }

    pub(super) fn increment(key: &str) -> Operation {
        Operation::Increment { key: bytes(key) }
    }

    pub(super) fn delete(keys: &[&str]) -> Operation {
        Operation::Delete { keys: keys.iter().map(|key| bytes(key)).collect() }
    }

    pub(super) fn commands(first: u64, operations: &[Operation]) -> Vec<Command> {
        let command =
            |(index, operation): (u64, &Operation)| Command { id: EntryId::new(index, 1), data: operation.encode() };
        (first..).zip(operations).map(command).collect()
    }

    /// Both stores, each with a machine of its own.
    fn both(test: impl Fn(&Arc<dyn Store>, &mut Machine)) {
        let dir = tempfile::tempdir().unwrap();
        let stores: [Arc<dyn Store>; 2] = [
            Arc::new(Memory::new()),
            Arc::new(Durable::open(dir.path(), &slog::Logger::root(slog::Discard, slog::o!())).unwrap()),
        ];
        for store in stores {
            test(&store, &mut Machine::new(store.clone()));
        }
    }

    #[test]
    fn an_operation_sees_those_before_it_in_its_batch() {
        both(|store, machine| {
            let batch = commands(
                1,
                &[
                    set("k", "a", Condition::IfAbsent),
                    set("k", "b", Condition::IfAbsent),
                    set("k", "c", Condition::IfEqual(bytes("a"))),
                    set("k", "d", Condition::IfEqual(bytes("a"))),
                    increment("n"),
                    increment("n"),
                    delete(&["k", "k", "missing"]),
                    set("k", "e", Condition::IfPresent),
                ],
            );
            use Outcome::{Done, NotMet, Number};
            let expected = vec![Done, NotMet, Done, NotMet, Number(1), Number(2), Number(1), NotMet];
            assert_eq!(machine.apply(&batch).unwrap(), expected);
            assert_eq!(store.get_all(&[bytes("k"), bytes("n")], 99).unwrap(), [None, Some(bytes("2"))]);
            assert_eq!(store.totals().applied, Index(8));
        });
    }

    #[test]
    fn more_bytes_than_a_reply_may_have_are_refused() {
        both(|store, machine| {
            machine.apply(&commands(1, &[set("k", "12345", Condition::Always)])).unwrap();
            let twice = [bytes("k"), bytes("k")];
            assert!(store.get_all(&twice, 10).is_ok());
            assert_eq!(store.count_existing(&[bytes("k"), bytes("j"), bytes("k")]), Ok(2));
            assert_eq!(store.get_all(&twice, 9), Err(StoreError::TooMuch { limit: 9 }));
        });
    }

    #[test]
    fn the_shortest_and_the_longest_key_can_be_stored() {
        both(|store, machine| {
            let longest = "k".repeat(MAX_KEY_BYTES);
            let keys = ["", &longest];
            let sets: Vec<Operation> = keys.iter().map(|key| set(key, "v", Condition::Always)).collect();
            machine.apply(&commands(1, &sets)).unwrap();
            assert_eq!(store.get_all(&keys.map(bytes), 99).unwrap(), [Some(bytes("v")), Some(bytes("v"))]);
            assert_eq!(store.count().unwrap(), store.totals());
        });
    }

    #[test]
    fn increment_takes_only_integers_and_never_wraps() {
        both(|_, machine| {
            let refused =
                [("-", Refusal::NoInteger), ("01", Refusal::NoInteger), ("9223372036854775807", Refusal::Overflow)];
            for (text, refusal) in refused {
                let batch = commands(1, &[set("n", text, Condition::Always), increment("n")]);
                assert_eq!(machine.apply(&batch).unwrap()[1], Outcome::Refused(refusal), "{text}");
            }
            let batch = commands(3, &[set("n", "-1", Condition::Always), increment("n")]);
            assert_eq!(machine.apply(&batch).unwrap()[1], Outcome::Number(0));
        });
    }

    #[test]
    fn bytes_that_are_no_operation_change_nothing_and_stop_nothing() {
        both(|store, machine| {
            let noise = Command { id: EntryId::new(1, 1), data: bytes("noise") };
            assert_eq!(machine.apply(&[noise]).unwrap(), [Outcome::Refused(Refusal::UnknownOperation)]);
            assert_eq!(store.totals(), Totals { applied: Index(1), keys: 0, digest: 0 });
        });
    }

    #[test]
    fn totals_carried_along_are_the_totals_counted() {
        both(|store, machine| {
            let many: Vec<Operation> = (0..200)
                .map(|n| match n % 5 {
                    0 => delete(&[&format!("k{}", n / 2), "k1"]),
                    1 => increment("n"),
                    _ => set(&format!("k{n}"), &"v".repeat(n % 40), Condition::Always),
                })
                .collect();
            for (batch, operations) in many.chunks(7).enumerate() {
                machine.apply(&commands(batch as u64 * 7 + 1, operations)).unwrap();
                assert_eq!(store.count().unwrap(), store.totals());
            }
            assert!(store.totals().keys > 100);
        });
    }

    #[test]
    fn the_digest_tells_pairs_apart() {
        let digests = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("c", "ab")].map(|(key, value)| {
            let mut totals = Totals::default();
            totals.add(key.as_bytes(), value.as_bytes());
            totals.digest
        });
        let distinct: std::collections::HashSet<u64> = digests.into_iter().collect();
        assert_eq!(distinct.len(), digests.len());
        assert_eq!(checksum(b"key", b"value"), 2_767_437_006_258_106_560, "it is stored: it must never change");
    }

    #[test]
    fn a_durable_store_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let before = {
            let store: Arc<dyn Store> = Arc::new(Durable::open(dir.path(), &logger).unwrap());
            let mut machine = Machine::new(store.clone());
            assert_eq!((machine.applied(), store.durable()), (Index(0), Index(0)));
            machine.apply(&commands(5, &[set("k", "v", Condition::Always), increment("n")])).unwrap();
            store.totals()
        };
        let store: Arc<dyn Store> = Arc::new(Durable::open(dir.path(), &logger).unwrap());
        assert_eq!(store.totals(), before);
        assert_eq!((store.applied(), store.durable()), (Index(6), Index(6)), "opening syncs what it found");
        assert_eq!(store.count().unwrap(), before);
    }
}
