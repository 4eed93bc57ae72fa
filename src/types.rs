//! The small numbers of Raft, each a type of its own so that a term cannot be passed as an index.
//!
//! They print as the papers write them: an entry at index 7 of term 3 is `7@3`, node 2 is `n2`.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// A member of a cluster. Chosen by the operator, never reused for another disk.
    NodeId, "n"
);
number!(
    /// One Raft group. Many groups may share a node.
    GroupId, "g"
);
number!(
    /// A term, the logical clock of Raft (dissertation §3.3). `0` means "before the first".
    Term, "t"
);
number!(
    /// A position in the log. The first entry has index 1; `0` means "before the first".
    Index, ""
);
number!(
    /// One round of votes, pre-votes or leadership confirmations, counted by the node that asks.
    RoundId, "r"
);
number!(
    /// The number of one [`Write`](crate::log::Write), counted per group from 1.
    WriteSeq, "w"
);

impl Term {
    /// Before the first term.
    pub const ZERO: Self = Self(0);

    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Index {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; the one before the first is [`Index::ZERO`] itself.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// This index moved forward by `count` entries.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl RoundId {
    /// The round after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl WriteSeq {
    /// The write after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Index and term of one entry; by log matching they name its content.
///
/// Ordered as Raft compares logs: term first, then index (dissertation §3.6.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// The term in which the entry was created.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl EntryId {
    /// "No entry": the predecessor of the first one.
    pub const ZERO: Self = Self { term: Term::ZERO, index: Index::ZERO };

    /// The entry at `index` of `term`.
    #[must_use]
    pub fn new(index: impl Into<Index>, term: impl Into<Term>) -> Self {
        Self { term: term.into(), index: index.into() }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index.0, self.term.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a cluster, 1 to 64 bytes of printable ASCII without spaces.
///
/// Two nodes talk only if their cluster ids are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClusterId(String);

/// Why a [`ClusterId`] was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a cluster id has 1 to {max} bytes of printable ASCII without spaces", max = ClusterId::MAX_BYTES)]
pub struct InvalidClusterId;

impl ClusterId {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidClusterId`] if it is empty, too long or not printable ASCII.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidClusterId> {
        let name = name.into();
        let fits = (1..=Self::MAX_BYTES).contains(&name.len());
        if fits && name.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(Self(name)) } else { Err(InvalidClusterId) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random number made with a node's directory: the same node id with another store id is another disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u128);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_the_papers() {
        assert_eq!(EntryId::new(7, 3).to_string(), "7@3");
        assert_eq!(format!("{:?} {:?} {:?}", NodeId(2), Term(5), GroupId(1)), "n2 t5 g1");
    }

    #[test]
    fn logs_compare_by_term_then_index() {
        assert!(EntryId::new(1, 3) > EntryId::new(9, 2));
        assert!(EntryId::new(9, 2) > EntryId::new(8, 2));
    }

    #[test]
    fn cluster_ids_are_short_printable_names() {
        assert!(ClusterId::new("orders-eu").is_ok());
        for bad in ["", "two words", "tab\t", &"x".repeat(65)] {
            assert_eq!(ClusterId::new(bad), Err(InvalidClusterId), "{bad:?}");
        }
    }
}
