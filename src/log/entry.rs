//! One entry of the log.

use bytes::Bytes;
use std::fmt;

use crate::types::EntryId;

/// What an entry is for. The numbers are those of the wire and of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A command for the state machine.
    Command = 0,
    /// The empty entry with which a leader opens its term (row `o16`, dissertation §6.4).
    Noop = 1,
    /// A configuration of the group; in use from the moment it is appended (dissertation §4.1).
    Configuration = 2,
}

impl EntryKind {
    /// The kind with this number, `None` if this version knows none.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Command),
            1 => Some(Self::Noop),
            2 => Some(Self::Configuration),
            _ => None,
        }
    }
}

/// One entry. Cloning it shares the payload (row `l28`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its place and term.
    pub id: EntryId,
    /// What it is for.
    pub kind: EntryKind,
    /// The command, an encoded [`Configuration`](crate::quorum::Configuration), or nothing.
    pub payload: Bytes,
}

impl Entry {
    /// Bytes of memory that a cached entry takes: what budgets count, so that empty commands are not free.
    #[must_use]
    pub fn footprint(&self) -> usize {
        size_of::<Self>() + self.payload.len()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            EntryKind::Command => write!(f, "{}", self.id),
            EntryKind::Noop => write!(f, "{}(noop)", self.id),
            EntryKind::Configuration => write!(f, "{}(configuration)", self.id),
        }
    }
}
