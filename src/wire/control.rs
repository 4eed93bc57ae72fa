//! The control parts of messages: protobuf structs and their way from and to the core's types.
//!
//! Field numbers are a promise: a number is never given another meaning, new fields get new numbers, and every field
//! may be missing (older writers) and then is 0. Fields 1 to 4 are the envelope and the same in every message.

use std::time::Duration;

use super::DecodeError;
use crate::message::{
    Abdicated, AppendEntries, AppendOutcome, AppendResponse, Message, Refusal, Verdict, VoteRequest, VoteResponse,
};
use crate::time::Instant;
use crate::types::{EntryId, GroupId, Index, NodeId, RoundId, Term};

/// What a control part turns out to be.
pub(super) enum Understood<T> {
    /// This.
    Known(T),
    /// Something that a newer version says.
    Unknown,
}

/// Group, sender, receiver and term of a message.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    pub(super) group: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) term: u64,
}

impl Envelope {
    pub(super) fn of(message: &Message) -> Self {
        Self { group: message.group.0, from: message.from.0, to: message.to.0, term: message.term.0 }
    }

    pub(super) fn open(self, body: crate::message::Body) -> Message {
        Message {
            group: GroupId(self.group),
            from: NodeId(self.from),
            to: NodeId(self.to),
            term: Term(self.term),
            body,
        }
    }
}

/// Defines a control struct that begins with the envelope.
macro_rules! control {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct $name {
            #[prost(uint64, tag = "1")]
            group: u64,
            #[prost(uint64, tag = "2")]
            from: u64,
            #[prost(uint64, tag = "3")]
            to: u64,
            #[prost(uint64, tag = "4")]
            term: u64,
            $($(#[$field_doc])* $field: $type,)*
        }

        impl $name {
            pub(super) fn envelope(&self) -> Envelope {
                Envelope { group: self.group, from: self.from, to: self.to, term: self.term }
            }
        }
    };
}

control! {
    /// PreVote and Vote.
    VoteRequestControl {
        #[prost(uint64, tag = "5")]
        round: u64,
        #[prost(uint64, tag = "6")]
        campaign_term: u64,
        #[prost(uint64, tag = "7")]
        last_index: u64,
        #[prost(uint64, tag = "8")]
        last_term: u64,
        #[prost(message, optional, tag = "9")]
        abdicated: Option<AbdicatedControl>,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct AbdicatedControl {
    #[prost(uint64, tag = "1")]
    leader: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
}

control! {
    /// Answers to PreVote and Vote.
    VoteResponseControl {
        #[prost(uint64, tag = "5")]
        round: u64,
        #[prost(uint64, tag = "6")]
        campaign_term: u64,
        /// See [`verdict`].
        #[prost(uint32, tag = "7")]
        verdict: u32,
        #[prost(uint64, optional, tag = "8")]
        leader: Option<u64>,
        #[prost(uint64, tag = "9")]
        promised_term: u64,
        #[prost(uint64, tag = "10")]
        remaining_ns: u64,
        #[prost(uint64, tag = "11")]
        voted_for: u64,
        #[prost(uint64, tag = "12")]
        last_index: u64,
        #[prost(uint64, tag = "13")]
        last_term: u64,
    }
}

/// Numbers of [`VoteResponseControl::verdict`]; 0 is a missing verdict.
mod verdict {
    pub(super) const GRANTED: u32 = 1;
    pub(super) const OLD_TERM: u32 = 2;
    pub(super) const PROMISED: u32 = 3;
    pub(super) const ALREADY_VOTED: u32 = 4;
    pub(super) const LOG_BEHIND: u32 = 5;
}

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
    }
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

impl VoteRequestControl {
    pub(super) fn new(envelope: Envelope, request: &VoteRequest) -> Self {
        let Envelope { group, from, to, term } = envelope;
        Self {
            group,
            from,
            to,
            term,
            round: request.round.0,
            campaign_term: request.campaign_term.0,
            last_index: request.last.index.0,
            last_term: request.last.term.0,
            abdicated: request.abdicated.map(|token| AbdicatedControl { leader: token.leader.0, term: token.term.0 }),
        }
    }

    pub(super) fn read(&self) -> VoteRequest {
        VoteRequest {
            round: RoundId(self.round),
            campaign_term: Term(self.campaign_term),
            last: EntryId::new(self.last_index, self.last_term),
            configuration: Index(1),
            abdicated: self
                .abdicated
                .as_ref()
                .map(|token| Abdicated { leader: NodeId(token.leader), term: Term(token.term) }),
        }
    }
}

impl VoteResponseControl {
    pub(super) fn new(envelope: Envelope, response: &VoteResponse) -> Self {
        let Envelope { group, from, to, term } = envelope;
        let mut control = Self {
            group,
            from,
            to,
            term,
            round: response.round.0,
            campaign_term: response.campaign_term.0,
            ..Self::default()
        };
        match response.verdict {
            Verdict::Granted => control.verdict = verdict::GRANTED,
            Verdict::Refused(Refusal::OldTerm) => control.verdict = verdict::OLD_TERM,
            Verdict::Refused(Refusal::Promised { leader, term, remaining }) => {
                control.verdict = verdict::PROMISED;
                control.leader = leader.map(|node| node.0);
                control.promised_term = term.0;
                control.remaining_ns = u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX);
            }
            Verdict::Refused(Refusal::AlreadyVoted(other)) => {
                control.verdict = verdict::ALREADY_VOTED;
                control.voted_for = other.0;
            }
            Verdict::Refused(Refusal::Removed { .. } | Refusal::CannotVote) => {}
            Verdict::Refused(Refusal::LogBehind { last }) => {
                control.verdict = verdict::LOG_BEHIND;
                control.last_index = last.index.0;
                control.last_term = last.term.0;
            }
        }
        control
    }

    pub(super) fn read(&self) -> Result<Understood<VoteResponse>, DecodeError> {
        let verdict = match self.verdict {
            0 => return Err(DecodeError::Value { what: "the verdict of a vote", value: 0 }),
            verdict::GRANTED => Verdict::Granted,
            verdict::OLD_TERM => Verdict::Refused(Refusal::OldTerm),
            verdict::PROMISED => Verdict::Refused(Refusal::Promised {
                leader: self.leader.map(NodeId),
                term: Term(self.promised_term),
                remaining: Duration::from_nanos(self.remaining_ns),
            }),
            verdict::ALREADY_VOTED => Verdict::Refused(Refusal::AlreadyVoted(NodeId(self.voted_for))),
            verdict::LOG_BEHIND => {
                Verdict::Refused(Refusal::LogBehind { last: EntryId::new(self.last_index, self.last_term) })
            }
            _ => return Ok(Understood::Unknown),
        };
        Ok(Understood::Known(VoteResponse {
            round: RoundId(self.round),
            campaign_term: Term(self.campaign_term),
            verdict,
        }))
    }
}

impl AppendEntriesControl {
    pub(super) fn new(envelope: Envelope, append: &AppendEntries) -> Self {
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
        }
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    pub(super) fn prev(&self) -> EntryId {
        EntryId::new(self.prev_index, self.prev_term)
    }

    pub(super) fn read(&self, slice: crate::log::LogSlice) -> AppendEntries {
        AppendEntries {
            stamp: Instant::from_nanos(self.stamp),
            round: RoundId(self.round),
            commit: Index(self.commit),
            rank: None,
            fresh: None,
            slice,
        }
    }
}

impl AppendResponseControl {
    pub(super) fn new(envelope: Envelope, response: &AppendResponse) -> Self {
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

    pub(super) fn read(&self) -> Result<Understood<AppendResponse>, DecodeError> {
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
            sent: Instant::ZERO,
            priority: crate::config::Priority::Normal,
            outcome,
        }))
    }
}
