//! Values near those that the core has, and messages' parts made of them.

use arbitrary::Arbitrary;
use bytes::Bytes;
use tenure::config::Priority;
use tenure::log::{Entry, EntryKind, LogSlice};
use tenure::message::{Abdicated, Body, Rank, Stamp};
use tenure::quorum::Configuration;
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, Index, NodeId, Term};

use crate::Subject;

/// A number: the one at hand, one beside it, or any.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Near {
    Same,
    Beside(i8),
    Any(u64),
}

impl Near {
    pub fn to(self, base: u64) -> u64 {
        match self {
            Self::Same => base,
            Self::Beside(step) => base.saturating_add_signed(i64::from(step)),
            Self::Any(number) => number,
        }
    }
}

/// A node: mostly one of the group.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Peer(u8);

impl Peer {
    /// Nodes 2 to 5 mostly; sometimes the subject itself (1), a stranger, or nobody (0).
    pub fn id(self) -> NodeId {
        match self.0 {
            255 => NodeId(0),
            254 => NodeId(1),
            253 => NodeId(99),
            other => NodeId(2 + u64::from(other % 4)),
        }
    }
}

/// The leader that the core knows, or anybody.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Speaker {
    Leader,
    Peer(Peer),
}

impl Speaker {
    pub fn id(self, subject: &Subject) -> NodeId {
        match self {
            Self::Leader => subject.core.status().leader.unwrap_or(NodeId(2)),
            Self::Peer(peer) => peer.id(),
        }
    }
}

/// How much somebody wants to lead.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum AnyPriority {
    Normal,
    Low,
    High,
}

impl From<AnyPriority> for Priority {
    fn from(any: AnyPriority) -> Self {
        match any {
            AnyPriority::Normal => Self::Normal,
            AnyPriority::Low => Self::Low,
            AnyPriority::High => Self::High,
        }
    }
}

/// A place in the line of succession, with slots up to more than an hour.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum AnyRank {
    Early { place: u8, millis: u8 },
    Made { place: u32, micros: u32 },
}

impl From<AnyRank> for Rank {
    fn from(any: AnyRank) -> Self {
        match any {
            AnyRank::Early { place, millis } => {
                Self { place: u32::from(place), slot: Duration::from_millis(u64::from(millis)) }
            }
            AnyRank::Made { place, micros } => Self { place, slot: Duration::from_micros(u64::from(micros)) },
        }
    }
}

/// What a leader gives back of a follower's answers: the stamp of one that the core has sent, or one near it.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Fresh {
    /// Counted from the newest.
    back: u8,
    stamp: Near,
}

impl Fresh {
    /// That of the newest answer.
    pub(crate) fn newest() -> Self {
        Self { back: 0, stamp: Near::Same }
    }

    pub fn of(self, subject: &Subject) -> Stamp {
        let stamps = subject.sent.iter().rev().filter_map(|sent| match &sent.body {
            Body::AppendResponse(answer) => Some(answer.sent),
            _ => None,
        });
        let stamp = stamps.take(usize::from(self.back) + 1).last().unwrap_or(subject.now);
        Instant::from_nanos(self.stamp.to(stamp.as_nanos()))
    }
}

/// An entry's id: one of the core's log, or made of numbers near its last.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum NearEntry {
    FromEnd(u8),
    Made(Near, Near),
}

impl NearEntry {
    pub fn of(self, subject: &Subject) -> EntryId {
        let log = subject.core.log();
        let last = log.last();
        match self {
            Self::FromEnd(back) => {
                let index = Index(last.index.0.saturating_sub(u64::from(back)));
                log.term_at(index).map_or(EntryId::ZERO, |term| EntryId { term, index })
            }
            Self::Made(index, term) => EntryId::new(index.to(last.index.0), term.to(last.term.0)),
        }
    }
}

/// A token of abdication near the core's leader and term.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Abdication {
    leader: Peer,
    term: Near,
}

impl Abdication {
    pub fn of(self, subject: &Subject) -> Abdicated {
        Abdicated { leader: self.leader.id(), term: Term(self.term.to(subject.core.status().term.0)) }
    }
}

/// A stretch of log: where it begins and by how much the term rises from entry to entry.
#[derive(Arbitrary, Debug, Clone)]
pub struct Entries {
    prev: NearEntry,
    steps: Vec<EntrySketch>,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
struct EntrySketch {
    term_step: u8,
    kind: u8,
    bytes: u8,
}

impl Entries {
    /// `None` if they are not well formed: that is found out at the door, before the core.
    pub fn of(&self, subject: &Subject) -> Option<LogSlice> {
        let prev = self.prev.of(subject);
        let mut id = prev;
        let entries = self.steps.iter().take(64).map(|sketch| {
            id = EntryId { index: id.index.next(), term: Term(id.term.0.saturating_add(u64::from(sketch.term_step))) };
            sketch.entry(id)
        });
        LogSlice::new(prev, entries.collect()).ok()
    }
}

impl EntrySketch {
    fn entry(self, id: EntryId) -> Entry {
        let (kind, payload) = match self.kind {
            0 => (EntryKind::Noop, Bytes::new()),
            1 => (EntryKind::Configuration, configuration(self.bytes)),
            2 => (EntryKind::Configuration, Bytes::from(vec![self.bytes; usize::from(self.bytes % 8)])),
            _ => (EntryKind::Command, Bytes::from(vec![self.bytes; usize::from(self.bytes)])),
        };
        Entry { id, kind, payload }
    }
}

/// The voters whose bits are set; the founders if none is.
fn configuration(bits: u8) -> Bytes {
    let voters = (0..5).filter(|bit| bits >> bit & 1 == 1).map(|bit| NodeId(bit + 1));
    Configuration::of_voters(voters).map_or_else(|_| Bytes::new(), |configuration| configuration.encode())
}
