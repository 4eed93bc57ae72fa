//! What the members of a group say to each other (dissertation figure 3.1, §9.6 for pre-vote).
//!
//! Every message states its sender's term. Every answer echoes what its request carried (term, round, stamp), so that
//! the asker compares it with what was true when the request left, never with "now".

use std::fmt;

use crate::config::Priority;
use crate::log::LogSlice;
use crate::time::{Duration, Instant};
use crate::types::{EntryId, GroupId, Index, NodeId, RoundId, Term};

/// One message of one group.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The group it belongs to.
    pub group: GroupId,
    /// Who sent it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's current term. (A pre-vote asks about the term after it.)
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// "Would you vote for me in the term after mine?" Changes nothing at the receiver.
    PreVote(VoteRequest),
    /// Answer to [`Body::PreVote`].
    PreVoteResponse(VoteResponse),
    /// "Vote for me in my term."
    Vote(VoteRequest),
    /// Answer to [`Body::Vote`].
    VoteResponse(VoteResponse),
    /// Heartbeat and replication in one.
    AppendEntries(AppendEntries),
    /// Answer to [`Body::AppendEntries`].
    AppendResponse(AppendResponse),
    /// "I led this term and never will again." The sender is the leader that was, the message's term the one it led.
    Abdicate(Abdicate),
    /// "Up to where must I have applied to read linearizably?"
    ReadIndex(ReadIndex),
    /// Answer to [`Body::ReadIndex`].
    ReadIndexResponse(ReadIndexResponse),
}

/// PreVote and Vote: who asks is [`Message::from`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VoteRequest {
    /// The asker's round, echoed in the answer.
    pub round: RoundId,
    /// The term in which the asker wants to lead: its own for a vote, the one after it for a pre-vote.
    pub campaign_term: Term,
    /// The last entry of the asker's log.
    pub last: EntryId,
    /// Where the latest configuration in the asker's log stands (rule `p14`).
    pub configuration: Index,
    /// The abdication that frees the receiver from its promise (rule `p03` b).
    pub abdicated: Option<Abdicated>,
}

/// A leader that gave up its term for good (rule `p09`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Abdicated {
    /// Who led.
    pub leader: NodeId,
    /// In which term.
    pub term: Term,
}

/// Answer to PreVote and Vote; [`Message::term`] is the responder's own term.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VoteResponse {
    /// Echo of the request's round.
    pub round: RoundId,
    /// Echo of the request's campaign term.
    pub campaign_term: Term,
    /// The answer.
    pub verdict: Verdict,
}

/// Granted or refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// No, because.
    Refused(Refusal),
}

/// Why a vote or pre-vote was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The request's term is below the responder's (rows `o04`, `o11`).
    OldTerm,
    /// The responder promised not to help depose a leader (rules `p03`, `p04`).
    Promised {
        /// Whom it promised; unknown after a restart.
        leader: Option<NodeId>,
        /// The term of that leader.
        term: Term,
        /// How long the promise still lasts on the responder's clock.
        remaining: Duration,
    },
    /// It voted for somebody else in this term (row `o13`).
    AlreadyVoted(NodeId),
    /// Its log is newer than the asker's (row `o06`).
    LogBehind {
        /// The responder's last entry.
        last: EntryId,
    },
    /// A configuration that the asker has not seen is committed, and it is no voter there (rule `p14`). Answers
    /// pre-votes only.
    Removed {
        /// Where that configuration stands.
        configuration: Index,
    },
    /// The responder can vote for nobody now: its disk does not answer (rules `p11`, `p14`). Answers pre-votes only.
    CannotVote,
}

/// The time at which a request left, on its sender's clock. Opaque to the receiver, who echoes it.
pub type Stamp = Instant;

/// AppendEntries: heartbeat and replication in one message (row `o17`).
#[derive(Clone, PartialEq, Eq)]
pub struct AppendEntries {
    /// When it left, echoed in the answer (rule `p05`).
    pub stamp: Stamp,
    /// The newest leadership confirmation asked for, echoed in the answer (dissertation §6.4).
    pub round: RoundId,
    /// The leader's commit index.
    pub commit: Index,
    /// Where the receiver stands in the line of succession; `None` if it has no place there.
    pub rank: Option<Rank>,
    /// The newest [`AppendResponse::sent`] of the receiver that a quorum has confirmed this leader after: `commit`
    /// covers everything that was acknowledged to anybody before then.
    pub fresh: Option<Stamp>,
    /// The sender has a snapshot that ends with the entry before the slice, and not all of what comes before it any more:
    /// who does not hold that entry fetches the snapshot (dissertation §5; InstallSnapshot is one message with this).
    pub snapshot: bool,
    /// The entries and the one before them.
    pub slice: LogSlice,
}

/// A follower's place in the line of succession: how long after the others' silence it stands.
///
/// Only timeouts follow from it. Whoever has a wrong one, or none, is elected by the same rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Rank {
    /// 0 stands first.
    pub place: u32,
    /// The time between two places: a few round trips as the leader measured them.
    pub slot: Duration,
}

/// Answer to AppendEntries; [`Message::term`] is the responder's own term.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AppendResponse {
    /// Echo of the request's stamp.
    pub stamp: Stamp,
    /// Echo of the request's round.
    pub round: RoundId,
    /// Echo of the request's term: the answer counts only for this term (row `s05`).
    pub request_term: Term,
    /// The promise this answer carries, in ms; 0 for none (rule `p01`).
    pub promise_ms: u32,
    /// When the answer was made, on a clock of its sender that is opaque to the leader, who may echo it
    /// ([`AppendEntries::fresh`]).
    pub sent: Stamp,
    /// How much the responder wants to lead.
    pub priority: Priority,
    /// What became of the entries.
    pub outcome: AppendOutcome,
}

/// What became of the entries of an AppendEntries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppendOutcome {
    /// The request's term is below the responder's (row `o18`).
    OldTerm,
    /// The log agrees with the leader's up to the request's last entry, and is durable up to here.
    Accepted {
        /// `min(prev + entries, durable)`.
        matched: Index,
    },
    /// The responder's log does not hold the request's `prev` (row `r02`).
    Mismatch {
        /// The index of `prev` in the request.
        prev: Index,
        /// The last entry of the responder's log.
        last: EntryId,
        /// The term that the responder has at `prev` and the first index of that term there; `None` if its log ends
        /// before `prev`.
        conflict: Option<(Term, Index)>,
    },
}

/// A leader's farewell (rule `p09`): promises to it are void, and it answers no more reads. The leader and the term are
/// those of the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abdicate {
    /// Who is to stand at once; `None` if nobody is known to be fit.
    pub successor: Option<NodeId>,
}

/// A follower's question on behalf of its readers (dissertation §6.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadIndex {
    /// The asker's number for it, echoed in the answer.
    pub round: RoundId,
    /// Whether the leader's lease is good enough.
    pub lease: bool,
}

/// Answer to ReadIndex.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadIndexResponse {
    /// Echo of the request's round.
    pub round: RoundId,
    /// Echo of the request's term: the answer counts only there.
    pub request_term: Term,
    /// Read once this index is applied; `None`: the responder does not lead, or has too many readers.
    pub index: Option<Index>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{} {} {:?}", self.from, self.to, self.term, self.body)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PreVote(request) => write!(f, "PreVote {request:?}"),
            Self::PreVoteResponse(response) => write!(f, "PreVoteResponse {response:?}"),
            Self::Vote(request) => write!(f, "Vote {request:?}"),
            Self::VoteResponse(response) => write!(f, "VoteResponse {response:?}"),
            Self::AppendEntries(append) => write!(f, "Append {append:?}"),
            Self::AppendResponse(response) => write!(f, "AppendResponse {response:?}"),
            Self::Abdicate(Abdicate { successor: Some(successor) }) => write!(f, "Abdicate to {successor}"),
            Self::Abdicate(Abdicate { successor: None }) => f.write_str("Abdicate"),
            Self::ReadIndex(ReadIndex { round, lease }) => {
                write!(f, "ReadIndex {round}{}", if *lease { " by lease" } else { "" })
            }
            Self::ReadIndexResponse(ReadIndexResponse { round, request_term, index }) => match index {
                Some(index) => write!(f, "ReadIndexResponse to {request_term} {round} index {index}"),
                None => write!(f, "ReadIndexResponse to {request_term} {round} refused"),
            },
        }
    }
}

impl fmt::Debug for AppendEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} commit {} {}", self.slice, self.commit, self.round)?;
        f.write_str(if self.snapshot { " snapshot" } else { "" })?;
        match self.rank {
            Some(rank) => write!(f, " rank {}", rank.place),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for VoteRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} last {}", self.campaign_term, self.round, self.last)?;
        match self.abdicated {
            Some(token) => write!(f, " abdicated {} {}", token.leader, token.term),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for VoteResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.campaign_term, self.round, self.verdict)
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::Refused(reason) => write!(f, "refused ({reason})"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldTerm => f.write_str("old term"),
            Self::Promised { leader: Some(leader), term, remaining } => {
                write!(f, "promised to {leader} of {term} for {remaining:?}")
            }
            Self::Promised { leader: None, term, remaining } => {
                write!(f, "may have promised in {term}, for {remaining:?}")
            }
            Self::AlreadyVoted(other) => write!(f, "voted for {other}"),
            Self::LogBehind { last } => write!(f, "log behind {last}"),
            Self::Removed { configuration } => write!(f, "removed by the configuration at {configuration}"),
            Self::CannotVote => f.write_str("cannot vote"),
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for AppendResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {} {} promise {} ms {:?}", self.request_term, self.round, self.promise_ms, self.outcome)
    }
}

impl fmt::Debug for AppendOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldTerm => f.write_str("old term"),
            Self::Accepted { matched } => write!(f, "match {matched}"),
            Self::Mismatch { prev, last, conflict: Some((term, first)) } => {
                write!(f, "mismatch at {prev}: {term} from {first}, last {last}")
            }
            Self::Mismatch { prev, last, conflict: None } => write!(f, "mismatch at {prev}: last {last}"),
        }
    }
}
