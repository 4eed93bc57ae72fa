//! Any message at all, for properties.

#![allow(clippy::unwrap_used, unreachable_pub)]

use std::time::Duration;

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen};
use tenure::config::Priority;
use tenure::log::{Entry, EntryKind, LogSlice};
use tenure::message::{
    Abdicate, Abdicated, AppendEntries, AppendOutcome, AppendResponse, Body, Message, Rank, ReadIndex,
    ReadIndexResponse, Refusal, Verdict, VoteRequest, VoteResponse,
};
use tenure::time::Instant;
use tenure::types::{EntryId, GroupId, Index, NodeId, RoundId, Term};

/// Any message at all.
#[derive(Clone, Debug)]
pub struct AnyMessage(pub Message);

fn any<T: Arbitrary + Copy>(g: &mut Gen) -> T {
    T::arbitrary(g)
}

/// A small number, as those of a young group are, or any.
fn number(g: &mut Gen) -> u64 {
    if any(g) { any::<u64>(g) % 12 } else { any(g) }
}

fn any_id(g: &mut Gen) -> EntryId {
    EntryId::new(number(g), number(g))
}

fn any_slice(g: &mut Gen) -> LogSlice {
    let prev = match any::<u8>(g) % 4 {
        0 => EntryId::ZERO,
        _ => EntryId::new(number(g) % (1 << 60) + 1, number(g) % (1 << 60) + 1),
    };
    let mut id = prev;
    let entries = (0..any::<usize>(g) % 40)
        .map(|_| {
            let step = if any::<u8>(g) < 40 { u64::from(any::<u8>(g)) } else { 0 };
            id = EntryId::new(id.index.next(), (id.term.0 + step).max(1));
            let kind = EntryKind::from_u8(any::<u8>(g) % 3).unwrap();
            Entry { id, kind, payload: Bytes::from(Vec::<u8>::arbitrary(g)) }
        })
        .collect();
    LogSlice::new(prev, entries).unwrap()
}

fn any_verdict(g: &mut Gen) -> Verdict {
    match any::<u8>(g) % 7 {
        0 => Verdict::Granted,
        1 => Verdict::Refused(Refusal::OldTerm),
        2 => Verdict::Refused(Refusal::Promised {
            leader: Option::<u64>::arbitrary(g).map(NodeId),
            term: Term(number(g)),
            remaining: Duration::from_nanos(any(g)),
        }),
        3 => Verdict::Refused(Refusal::AlreadyVoted(NodeId(number(g)))),
        4 => Verdict::Refused(Refusal::Removed { configuration: Index(number(g)) }),
        5 => Verdict::Refused(Refusal::CannotVote),
        _ => Verdict::Refused(Refusal::LogBehind { last: any_id(g) }),
    }
}

fn any_outcome(g: &mut Gen) -> AppendOutcome {
    match any::<u8>(g) % 3 {
        0 => AppendOutcome::OldTerm,
        1 => AppendOutcome::Accepted { matched: Index(number(g)) },
        _ => AppendOutcome::Mismatch {
            prev: Index(number(g)),
            last: any_id(g),
            conflict: any::<bool>(g).then(|| (Term(number(g)), Index(number(g)))),
        },
    }
}

/// What travels exactly: slots of whole microseconds.
fn any_rank(g: &mut Gen) -> Rank {
    Rank { place: any(g), slot: Duration::from_micros(any::<u32>(g).into()) }
}

fn any_priority(g: &mut Gen) -> Priority {
    [Priority::Low, Priority::Normal, Priority::High][any::<usize>(g) % 3]
}

impl Arbitrary for AnyMessage {
    fn arbitrary(g: &mut Gen) -> Self {
        let vote = |g: &mut Gen| VoteRequest {
            round: RoundId(number(g)),
            campaign_term: Term(number(g)),
            last: any_id(g),
            configuration: Index(number(g)),
            abdicated: any::<bool>(g).then(|| Abdicated { leader: NodeId(number(g)), term: Term(number(g)) }),
        };
        let answer = |g: &mut Gen| VoteResponse {
            round: RoundId(number(g)),
            campaign_term: Term(number(g)),
            verdict: any_verdict(g),
        };
        let body = match any::<u8>(g) % 9 {
            0 => Body::PreVote(vote(g)),
            1 => Body::PreVoteResponse(answer(g)),
            2 => Body::Vote(vote(g)),
            3 => Body::VoteResponse(answer(g)),
            4 => Body::AppendEntries(AppendEntries {
                stamp: Instant::from_nanos(any(g)),
                round: RoundId(number(g)),
                commit: Index(number(g)),
                rank: any::<bool>(g).then(|| any_rank(g)),
                fresh: Option::<u64>::arbitrary(g).map(Instant::from_nanos),
                snapshot: false,
                slice: any_slice(g),
            }),
            5 => Body::AppendResponse(AppendResponse {
                stamp: Instant::from_nanos(any(g)),
                round: RoundId(number(g)),
                request_term: Term(number(g)),
                promise_ms: any(g),
                sent: Instant::from_nanos(any(g)),
                priority: any_priority(g),
                outcome: any_outcome(g),
            }),
            6 => Body::Abdicate(Abdicate { successor: Option::<u64>::arbitrary(g).map(NodeId) }),
            7 => Body::ReadIndex(ReadIndex { round: RoundId(number(g)), lease: any(g) }),
            _ => Body::ReadIndexResponse(ReadIndexResponse {
                round: RoundId(number(g)),
                request_term: Term(number(g)),
                index: Option::<u64>::arbitrary(g).map(Index),
            }),
        };
        let (group, from, to) = (GroupId(number(g)), NodeId(number(g)), NodeId(number(g)));
        Self(Message { group, from, to, term: Term(number(g)), body })
    }

    /// Fewer entries, or none of what may be missing.
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let Body::AppendEntries(append) = &self.0.body else { return quickcheck::empty_shrinker() };
        let (append, message) = (append.clone(), self.0.clone());
        let prefix = |length: usize| LogSlice::new(append.slice.prev(), append.slice.entries()[..length].to_vec());
        let shorter: Vec<_> = append.slice.len().shrink().filter_map(|length| prefix(length).ok()).collect();
        Box::new(shorter.into_iter().map(move |slice| {
            let body = Body::AppendEntries(AppendEntries { rank: None, fresh: None, slice, ..append.clone() });
            Self(Message { body, ..message.clone() })
        }))
    }
}
