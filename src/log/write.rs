//! What a core asks to be made durable.

use crate::log::Entry;
use crate::time::Duration;
use crate::types::{Index, NodeId, Term, WriteSeq};

/// What must survive a restart beside the log (dissertation figure 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct HardState {
    /// The newest term this node has taken part in.
    pub term: Term,
    /// The node it voted for in that term. Cleared only when the term moves (row `l19`).
    pub vote: Option<NodeId>,
    /// The longest promise this node may have given (rule `p06`).
    pub longest_promise: Duration,
}

/// One numbered write of one group: carried out in order, whole or not at all.
///
/// The order within a write is: hard state, truncation, entries. A write is durable when `Durable(seq)` may be said
/// for it and, with it, for every earlier one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Write {
    /// Its number, one more than that of the write before.
    pub seq: WriteSeq,
    /// The hard state to keep from now on, if it changed.
    pub hard_state: Option<HardState>,
    /// Entries from this index on are removed before `entries` are appended.
    pub truncate_from: Option<Index>,
    /// Entries to append, contiguous and in order.
    pub entries: Vec<Entry>,
}
