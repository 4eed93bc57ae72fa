//! Answers to what the core has really asked, bent in every field.

use arbitrary::Arbitrary;
use tenure::message::{Message, Refusal, Verdict, VoteRequest, VoteResponse};
use tenure::time::Duration;
use tenure::types::{Index, NodeId, RoundId, Term};

use crate::{Near, NearEntry, Peer, Subject};

/// Which of the sent messages is answered, and by whom.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Answered {
    /// Counted from the newest.
    back: u8,
    /// Somebody else than the one who was asked.
    by: Option<Peer>,
}

impl Answered {
    /// The message answered and the answer's sender, among those that `wanted` picks.
    pub fn of<'a, T>(
        self,
        subject: &'a Subject,
        wanted: impl Fn(&'a Message) -> Option<T>,
    ) -> Option<(NodeId, Term, T)> {
        let fitting: Vec<_> = subject.sent.iter().rev().filter_map(|sent| Some((sent, wanted(sent)?))).collect();
        let at = usize::from(self.back).checked_rem(fitting.len())?;
        let (sent, body) = fitting.into_iter().nth(at)?;
        Some((self.by.map_or(sent.to, Peer::id), sent.term, body))
    }
}

/// An answer to a vote or pre-vote request.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct VoteAnswer {
    pub answered: Answered,
    /// The answering node's own term.
    pub term: Near,
    round: Near,
    campaign_term: Near,
    verdict: AnyVerdict,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum AnyVerdict {
    Granted,
    GrantedToo,
    OldTerm,
    Promised { leader: Option<Peer>, term: u64, millis: u16 },
    AlreadyVoted(Peer),
    LogBehind(NearEntry),
    Removed { configuration: Near },
    CannotVote,
}

impl VoteAnswer {
    pub fn to(&self, request: &VoteRequest, subject: &Subject) -> VoteResponse {
        let verdict = match self.verdict {
            AnyVerdict::Granted | AnyVerdict::GrantedToo => Verdict::Granted,
            AnyVerdict::OldTerm => Verdict::Refused(Refusal::OldTerm),
            AnyVerdict::Promised { leader, term, millis } => Verdict::Refused(Refusal::Promised {
                leader: leader.map(Peer::id),
                term: Term(term),
                remaining: Duration::from_millis(u64::from(millis)),
            }),
            AnyVerdict::AlreadyVoted(other) => Verdict::Refused(Refusal::AlreadyVoted(other.id())),
            AnyVerdict::LogBehind(last) => Verdict::Refused(Refusal::LogBehind { last: last.of(subject) }),
            AnyVerdict::Removed { configuration } => {
                let configuration = Index(configuration.to(request.configuration.0));
                Verdict::Refused(Refusal::Removed { configuration })
            }
            AnyVerdict::CannotVote => Verdict::Refused(Refusal::CannotVote),
        };
        VoteResponse {
            round: RoundId(self.round.to(request.round.0)),
            campaign_term: Term(self.campaign_term.to(request.campaign_term.0)),
            verdict,
        }
    }
}
