//! How a group begins on a node: its log, its state machine and its newest snapshot put together.
//!
//! A crash may have come between any two steps of taking in a snapshot: it is stored first, then the state machine is
//! replaced, then the log begins behind it. Whatever is missing of that is done now.

use crate::core::Restored;
use crate::quorum::Configuration;
use crate::types::{EntryId, Index};

/// A snapshot that is here: its last entry, and the configuration in use as of that entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) last: EntryId,
    pub(crate) configuration: (Index, Configuration),
}

/// How a group begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// What its core starts from.
    pub(crate) restored: Restored,
    /// How far the state machine is, once it is restored.
    pub(crate) applied: Index,
    /// The state machine has to be restored from the newest snapshot before anything else.
    pub(crate) restores: bool,
    /// The log has yet to begin behind this snapshot: it is to be told to the core before anything else.
    pub(crate) installed: Option<Stored>,
}

impl Beginning {
    /// Of a log that was recovered, a state machine that has `applied` so much, and the newest snapshot that is here.
    pub(crate) fn new(restored: Restored, applied: Index, newest: Option<Stored>) -> Self {
        let base = restored.log.base().index;
        let plain = |restored| Self {
            restored: Restored { applied, snapshot: None, ..restored },
            applied,
            restores: false,
            installed: None,
        };
        // One that ends before the log begins is of no use, nor is one that contradicts what was compacted (bug `c09`).
        let fits = |newest: &Stored| newest.last.index > base || newest.last == restored.log.base();
        let Some(newest) = newest.filter(fits) else { return plain(restored) };
        let last = newest.last;
        if restored.log.contains(last) {
            // A state machine that has something goes on from there: the log is quicker than starting over.
            let restores = applied < last.index && (applied < base || applied == Index::ZERO);
            let applied = if restores { last.index } else { applied };
            let restored = Restored { applied, snapshot: Some(last), ..restored };
            Self { restored, applied, restores, installed: None }
        } else if applied <= last.index {
            let restored = Restored { applied: base, snapshot: None, ..restored };
            Self { restored, applied: last.index, restores: applied < last.index, installed: Some(newest) }
        } else {
            plain(restored)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Entry, EntryKind, HardState, Log};
    use bytes::Bytes;

    /// A log of term 1 that begins behind `base` and ends at `last`.
    fn log(base: u64, last: u64) -> Restored {
        let mut log = Log::new();
        if base > 0 {
            log.compact(EntryId::new(base, 1));
        }
        for index in base + 1..=last {
            log.append(Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, payload: Bytes::new() });
        }
        Restored { hard_state: HardState::default(), log, ..Restored::joining() }
    }

    fn stored(index: u64, term: u64) -> Option<Stored> {
        Some(Stored { last: EntryId::new(index, term), configuration: (Index(1), Configuration::default()) })
    }

    /// Applied by the machine, applied for the core, restored, known snapshot, installed.
    fn begins(restored: Restored, applied: u64, newest: Option<Stored>) -> (u64, u64, bool, Option<u64>, bool) {
        let begins = Beginning::new(restored, Index(applied), newest);
        let known = begins.restored.snapshot.map(|last| last.index.0);
        (begins.applied.0, begins.restored.applied.0, begins.restores, known, begins.installed.is_some())
    }

    #[test]
    fn without_a_snapshot_the_log_is_applied_from_where_the_state_machine_is() {
        assert_eq!(begins(log(0, 9), 0, None), (0, 0, false, None, false));
        assert_eq!(begins(log(0, 9), 7, None), (7, 7, false, None, false));
    }

    #[test]
    fn a_state_machine_in_memory_begins_with_the_snapshot() {
        assert_eq!(begins(log(0, 9), 0, stored(5, 1)), (5, 5, true, Some(5), false));
        assert_eq!(begins(log(3, 9), 0, stored(5, 1)), (5, 5, true, Some(5), false));
        assert_eq!(begins(log(5, 9), 0, stored(5, 1)), (5, 5, true, Some(5), false));
    }

    /// It is taken back to the snapshot only if the log does not reach back to it.
    #[test]
    fn a_durable_state_machine_goes_on_from_where_it_is() {
        assert_eq!(begins(log(3, 9), 4, stored(5, 1)), (4, 4, false, Some(5), false));
        assert_eq!(begins(log(3, 9), 7, stored(5, 1)), (7, 7, false, Some(5), false));
        assert_eq!(begins(log(3, 9), 2, stored(5, 1)), (5, 5, true, Some(5), false));
    }

    /// A crash while a snapshot of another node was taken in: before or after the state machine was replaced (bug `c10`).
    #[test]
    fn an_interrupted_installation_is_completed() {
        assert_eq!(begins(log(0, 9), 7, stored(20, 2)), (20, 0, true, None, true));
        assert_eq!(begins(log(3, 9), 20, stored(20, 2)), (20, 3, false, None, true));
        assert_eq!(begins(log(0, 0), 0, stored(20, 2)), (20, 0, true, None, true));
        assert_eq!(begins(log(3, 9), 7, stored(8, 2)), (8, 3, true, None, true), "another entry stands there");
    }

    /// The core refuses these: a state machine before or beyond its log, and nothing that helps.
    #[test]
    fn what_does_not_fit_is_left_to_the_core_to_refuse() {
        assert_eq!(begins(log(5, 9), 0, stored(4, 1)), (0, 0, false, None, false));
        assert_eq!(begins(log(3, 9), 30, stored(20, 2)), (30, 30, false, None, false));
        assert_eq!(begins(log(5, 9), 0, stored(5, 2)), (0, 0, false, None, false));
    }
}
