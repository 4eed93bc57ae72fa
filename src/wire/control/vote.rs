//! Votes, pre-votes, their answers, and the farewell of a leader that makes room for them.

use std::time::Duration;

use super::{Envelope, Understood};
use crate::message::{Abdicate, Abdicated, Refusal, Verdict, VoteRequest, VoteResponse};
use crate::types::{EntryId, Index, NodeId, RoundId, Term};
use crate::wire::DecodeError;

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
        #[prost(uint64, tag = "10")]
        configuration: u64,
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
        #[prost(uint64, tag = "14")]
        configuration: u64,
    }
}

/// Numbers of [`VoteResponseControl::verdict`]; 0 is a missing verdict.
mod verdict {
    pub(super) const GRANTED: u32 = 1;
    pub(super) const OLD_TERM: u32 = 2;
    pub(super) const PROMISED: u32 = 3;
    pub(super) const ALREADY_VOTED: u32 = 4;
    pub(super) const LOG_BEHIND: u32 = 5;
    pub(super) const REMOVED: u32 = 6;
    pub(super) const CANNOT_VOTE: u32 = 7;
}

control! {
    /// The farewell of a leader.
    AbdicateControl {
        #[prost(uint64, optional, tag = "5")]
        successor: Option<u64>,
    }
}

impl VoteRequestControl {
    pub(in crate::wire) fn new(envelope: Envelope, request: &VoteRequest) -> Self {
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
            configuration: request.configuration.0,
        }
    }

    pub(in crate::wire) fn read(&self) -> VoteRequest {
        VoteRequest {
            round: RoundId(self.round),
            campaign_term: Term(self.campaign_term),
            last: EntryId::new(self.last_index, self.last_term),
            configuration: Index(self.configuration),
            abdicated: self
                .abdicated
                .as_ref()
                .map(|token| Abdicated { leader: NodeId(token.leader), term: Term(token.term) }),
        }
    }
}

impl VoteResponseControl {
    pub(in crate::wire) fn new(envelope: Envelope, response: &VoteResponse) -> Self {
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
            Verdict::Refused(Refusal::LogBehind { last }) => {
                control.verdict = verdict::LOG_BEHIND;
                control.last_index = last.index.0;
                control.last_term = last.term.0;
            }
            Verdict::Refused(Refusal::Removed { configuration }) => {
                control.verdict = verdict::REMOVED;
                control.configuration = configuration.0;
            }
            Verdict::Refused(Refusal::CannotVote) => control.verdict = verdict::CANNOT_VOTE,
        }
        control
    }

    pub(in crate::wire) fn read(&self) -> Result<Understood<VoteResponse>, DecodeError> {
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
            verdict::REMOVED => Verdict::Refused(Refusal::Removed { configuration: Index(self.configuration) }),
            verdict::CANNOT_VOTE => Verdict::Refused(Refusal::CannotVote),
            _ => return Ok(Understood::Unknown),
        };
        Ok(Understood::Known(VoteResponse {
            round: RoundId(self.round),
            campaign_term: Term(self.campaign_term),
            verdict,
        }))
    }
}

impl AbdicateControl {
    pub(in crate::wire) fn new(envelope: Envelope, abdicate: &Abdicate) -> Self {
        let Envelope { group, from, to, term } = envelope;
        Self { group, from, to, term, successor: abdicate.successor.map(|node| node.0) }
    }

    pub(in crate::wire) fn read(&self) -> Abdicate {
        Abdicate { successor: self.successor.map(NodeId) }
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
        fits(&VoteRequestControl {
            group,
            from,
            to,
            term,
            round: MAX,
            campaign_term: MAX,
            last_index: MAX,
            last_term: MAX,
            abdicated: Some(AbdicatedControl { leader: MAX, term: MAX }),
            configuration: MAX,
        });
        fits(&VoteResponseControl {
            group,
            from,
            to,
            term,
            round: MAX,
            campaign_term: MAX,
            verdict: u32::MAX,
            leader: Some(MAX),
            promised_term: MAX,
            remaining_ns: MAX,
            voted_for: MAX,
            last_index: MAX,
            last_term: MAX,
            configuration: MAX,
        });
        fits(&AbdicateControl { group, from, to, term, successor: Some(MAX) });
    }
}
