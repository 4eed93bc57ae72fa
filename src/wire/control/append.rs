//! AppendEntries and its answer.

use std::time::Duration;

use super::{Envelope, Understood};
use crate::config::Priority;
use crate::log::LogSlice;
use crate::message::{AppendEntries, AppendOutcome, AppendResponse, Rank};
use crate::time::Instant;
use crate::types::{EntryId, Index, RoundId, Term};
use crate::wire::DecodeError;

control! {
    /// AppendEntries without the entries themselves, which follow as raw bytes.
    AppendEntriesControl {
        #[prost(fixed64, tag = "5")]
        stamp: u64,
        #[prost(uint64, tag = "6")]
        round: u64,
        #[prost(uint64, tag = "7")]
        commit: u64,
        #[prost(uint64, tag = "8")]
        prev_index: u64,
        #[prost(uint64, tag = "9")]
        prev_term: u64,
        #[prost(uint32, tag = "10")]
        entries: u32,
        #[prost(message, optional, tag = "11")]
        rank: Option<RankControl>,
        #[prost(fixed64, optional, tag = "12")]
        fresh: Option<u64>,
        #[prost(bool, tag = "13")]
        snapshot: bool,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct RankControl {
    #[prost(uint32, tag = "1")]
    place: u32,
    #[prost(uint32, tag = "2")]
    slot_us: u32,
}

control! {
    /// Answers to AppendEntries.
    AppendResponseControl {
        #[prost(fixed64, tag = "5")]
        stamp: u64,
        #[prost(uint64, tag = "6")]
        round: u64,
        #[prost(uint64, tag = "7")]
        request_term: u64,
        #[prost(uint32, tag = "8")]
        promise_ms: u32,
        /// See [`outcome`].
        #[prost(uint32, tag = "9")]
        outcome: u32,
        #[prost(uint64, tag = "10")]
        matched: u64,
        #[prost(uint64, tag = "11")]
        prev_index: u64,
        #[prost(uint64, tag = "12")]
        last_index: u64,
        #[prost(uint64, tag = "13")]
        last_term: u64,
        #[prost(message, optional, tag = "14")]
        conflict: Option<ConflictControl>,
        #[prost(fixed64, tag = "15")]
        sent: u64,
        /// See [`priority`].
        #[prost(uint32, tag = "16")]
        priority: u32,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ConflictControl {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    first_index: u64,
}

/// Numbers of [`AppendResponseControl::outcome`]; 0 is a missing outcome.
mod outcome {
    pub(super) const OLD_TERM: u32 = 1;
    pub(super) const ACCEPTED: u32 = 2;
    pub(super) const MISMATCH: u32 = 3;
}

/// Numbers of [`AppendResponseControl::priority`]. The one of older writers, who have none to state, is 0.
mod priority {
    pub(super) const NORMAL: u32 = 0;
    pub(super) const LOW: u32 = 1;
    pub(super) const HIGH: u32 = 2;
}

impl AppendEntriesControl {
    pub(in crate::wire) fn new(envelope: Envelope, append: &AppendEntries) -> Self {
        let Envelope { group, from, to, term } = envelope;
        Self {
            group,
            from,
            to,
            term,
            stamp: append.stamp.as_nanos(),
            round: append.round.0,
            commit: append.commit.0,
            prev_index: append.slice.prev().index.0,
            prev_term: append.slice.prev().term.0,
            // A slice of more entries than this is over every frame limit and refused by the encoder.
            entries: u32::try_from(append.slice.len()).unwrap_or(u32::MAX),
            rank: append.rank.map(RankControl::new),
            fresh: append.fresh.map(Instant::as_nanos),
            snapshot: append.snapshot,
        }
    }

    pub(in crate::wire) fn entries(&self) -> u32 {
        self.entries
    }

    pub(in crate::wire) fn prev(&self) -> EntryId {
        EntryId::new(self.prev_index, self.prev_term)
    }

    pub(in crate::wire) fn read(&self, slice: LogSlice) -> AppendEntries {
        AppendEntries {
            stamp: Instant::from_nanos(self.stamp),
            round: RoundId(self.round),
            commit: Index(self.commit),
            rank: self.rank.as_ref().map(RankControl::read),
            fresh: self.fresh.map(Instant::from_nanos),
            snapshot: self.snapshot,
            slice,
        }
    }
}

impl RankControl {
    /// The slot in whole microseconds, at most 71 minutes: only timeouts follow from it, and none is that exact or long.
    fn new(rank: Rank) -> Self {
        Self { place: rank.place, slot_us: u32::try_from(rank.slot.as_micros()).unwrap_or(u32::MAX) }
    }

    fn read(&self) -> Rank {
        Rank { place: self.place, slot: Duration::from_micros(u64::from(self.slot_us)) }
    }
}

impl AppendResponseControl {
    pub(in crate::wire) fn new(envelope: Envelope, response: &AppendResponse) -> Self {
        let Envelope { group, from, to, term } = envelope;
        let mut control = Self {
            group,
            from,
            to,
            term,
            stamp: response.stamp.as_nanos(),
            round: response.round.0,
            request_term: response.request_term.0,
            promise_ms: response.promise_ms,
            sent: response.sent.as_nanos(),
            priority: match response.priority {
                Priority::Normal => priority::NORMAL,
                Priority::Low => priority::LOW,
                Priority::High => priority::HIGH,
            },
            ..Self::default()
        };
        match response.outcome {
            AppendOutcome::OldTerm => control.outcome = outcome::OLD_TERM,
            AppendOutcome::Accepted { matched } => {
                control.outcome = outcome::ACCEPTED;
                control.matched = matched.0;
            }
            AppendOutcome::Mismatch { prev, last, conflict } => {
                control.outcome = outcome::MISMATCH;
                control.prev_index = prev.0;
                control.last_index = last.index.0;
                control.last_term = last.term.0;
                control.conflict = conflict.map(|(term, first)| ConflictControl { term: term.0, first_index: first.0 });
            }
        }
        control
    }

    pub(in crate::wire) fn read(&self) -> Result<Understood<AppendResponse>, DecodeError> {
        let outcome = match self.outcome {
            0 => return Err(DecodeError::Value { what: "the outcome of an append", value: 0 }),
            outcome::OLD_TERM => AppendOutcome::OldTerm,
            outcome::ACCEPTED => AppendOutcome::Accepted { matched: Index(self.matched) },
            outcome::MISMATCH => AppendOutcome::Mismatch {
                prev: Index(self.prev_index),
                last: EntryId::new(self.last_index, self.last_term),
                conflict: self.conflict.as_ref().map(|hint| (Term(hint.term), Index(hint.first_index))),
            },
            _ => return Ok(Understood::Unknown),
        };
        Ok(Understood::Known(AppendResponse {
            stamp: Instant::from_nanos(self.stamp),
            round: RoundId(self.round),
            request_term: Term(self.request_term),
            promise_ms: self.promise_ms,
            sent: Instant::from_nanos(self.sent),
            priority: match self.priority {
                priority::LOW => Priority::Low,
                priority::HIGH => Priority::High,
                // Also a newer writer's: an acknowledgment is worth too much to be skipped for a wish.
                _ => Priority::Normal,
            },
            outcome,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LARGEST, fits};
    use super::*;

    const MAX: u64 = u64::MAX;

    /// Every field at its largest at once, which no message has: new fields must be added here, or it does not compile.
    #[test]
    fn the_largest_fit_what_is_set_aside_for_them() {
        let Envelope { group, from, to, term } = LARGEST;
        fits(&AppendEntriesControl {
            group,
            from,
            to,
            term,
            stamp: MAX,
            round: MAX,
            commit: MAX,
            prev_index: MAX,
            prev_term: MAX,
            entries: u32::MAX,
            rank: Some(RankControl { place: u32::MAX, slot_us: u32::MAX }),
            fresh: Some(MAX),
            snapshot: true,
        });
        fits(&AppendResponseControl {
            group,
            from,
            to,
            term,
            stamp: MAX,
            round: MAX,
            request_term: MAX,
            promise_ms: u32::MAX,
            outcome: u32::MAX,
            matched: MAX,
            prev_index: MAX,
            last_index: MAX,
            last_term: MAX,
            conflict: Some(ConflictControl { term: MAX, first_index: MAX }),
            sent: MAX,
            priority: u32::MAX,
        });
    }
}
