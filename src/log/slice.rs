//! A piece of a log, well formed by construction.

use std::fmt;

use crate::log::Entry;
use crate::types::EntryId;

/// Entries that follow `prev` without a gap, in terms that never fall.
///
/// [`LogSlice::new`] is the only door, so whoever holds one may rely on it:
/// 1. the first entry has index `prev.index + 1`, each further one the next index;
/// 2. no term is below that of its predecessor (`prev` included), none is 0;
/// 3. `prev` is [`EntryId::ZERO`] exactly when its index is 0.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LogSlice {
    prev: EntryId,
    entries: Vec<Entry>,
    bytes: usize,
}

/// Why entries are not a [`LogSlice`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedSlice {
    /// The predecessor has an index without a term or a term without an index.
    #[error("the predecessor {0} has an index without a term or a term without an index")]
    Predecessor(EntryId),
    /// An entry does not have the index after its predecessor's.
    #[error("entry {found} follows {after}: its index leaves a gap or repeats")]
    Index {
        /// The predecessor.
        after: EntryId,
        /// The entry in the wrong place.
        found: EntryId,
    },
    /// An entry's term is 0 or below its predecessor's.
    #[error("entry {found} follows {after}: its term falls")]
    Term {
        /// The predecessor.
        after: EntryId,
        /// The entry of an older term.
        found: EntryId,
    },
}

impl LogSlice {
    /// Checks the properties above and takes the entries.
    ///
    /// # Errors
    /// [`MalformedSlice`] names the first entry that breaks one of them.
    pub fn new(prev: EntryId, entries: Vec<Entry>) -> Result<Self, MalformedSlice> {
        if (prev.index.0 == 0) != (prev.term.0 == 0) {
            return Err(MalformedSlice::Predecessor(prev));
        }
        let (mut after, mut bytes) = (prev, 0);
        for entry in &entries {
            let found = entry.id;
            if after.index.0.checked_add(1) != Some(found.index.0) {
                return Err(MalformedSlice::Index { after, found });
            }
            if found.term < after.term || found.term.0 == 0 {
                return Err(MalformedSlice::Term { after, found });
            }
            after = found;
            bytes += entry.payload.len();
        }
        Ok(Self { prev, entries, bytes })
    }

    /// The entry before the first.
    #[must_use]
    pub fn prev(&self) -> EntryId {
        self.prev
    }

    /// The last entry, `prev` if there is none.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.prev, |entry| entry.id)
    }

    /// The entries in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries themselves.
    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether it carries nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries it carries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Joins `more` to the end.
    ///
    /// # Errors
    /// Gives `more` back unchanged if it does not start where this one ends.
    pub fn join(&mut self, more: Self) -> Result<(), Self> {
        if more.prev != self.last() {
            return Err(more);
        }
        self.bytes += more.bytes;
        self.entries.extend(more.entries);
        Ok(())
    }

    /// Keeps the predecessor and drops every entry.
    pub fn clear(&mut self) {
        self.bytes = 0;
        self.entries.clear();
    }

    /// Payload bytes it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Debug for LogSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} {:?}", self.prev, self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::EntryKind;
    use bytes::Bytes;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { id: EntryId::new(index, term), kind: EntryKind::Command, payload: Bytes::new() }
    }

    fn slice(prev: EntryId, ids: &[(u64, u64)]) -> Result<LogSlice, MalformedSlice> {
        LogSlice::new(prev, ids.iter().map(|(index, term)| entry(*index, *term)).collect())
    }

    #[test]
    fn gaps_falling_terms_and_half_predecessors_are_refused() {
        let start = EntryId::new(3, 2);
        assert!(slice(start, &[(4, 2), (5, 4)]).is_ok());
        assert!(matches!(slice(start, &[(5, 2)]), Err(MalformedSlice::Index { .. })));
        assert!(matches!(slice(start, &[(4, 2), (4, 2)]), Err(MalformedSlice::Index { .. })));
        assert!(matches!(slice(start, &[(4, 1)]), Err(MalformedSlice::Term { .. })));
        assert!(matches!(slice(EntryId::ZERO, &[(1, 0)]), Err(MalformedSlice::Term { .. })));
        assert!(matches!(slice(EntryId::new(0, 1), &[]), Err(MalformedSlice::Predecessor(_))));
        assert!(matches!(slice(EntryId::new(1, 0), &[]), Err(MalformedSlice::Predecessor(_))));
        let end = EntryId::new(u64::MAX, 1);
        assert!(matches!(slice(end, &[(0, 1)]), Err(MalformedSlice::Index { .. })), "the index must not wrap");
    }

    #[test]
    fn slices_join_only_without_a_gap() {
        let mut first = slice(EntryId::ZERO, &[(1, 1), (2, 1)]).unwrap();
        let gap = slice(EntryId::new(3, 1), &[(4, 1)]).unwrap();
        assert_eq!(first.join(gap.clone()), Err(gap));
        first.join(slice(EntryId::new(2, 1), &[(3, 2)]).unwrap()).unwrap();
        assert_eq!((first.last(), first.len()), (EntryId::new(3, 2), 3));
    }
}
