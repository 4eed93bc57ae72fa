//! What distinguishes one situation from another, for exploring all runs of a small cluster: two cores that are hashed
//! alike will do the same from here on, whatever led there.
//!
//! So it is a projection that is hashed: times relative to now, rounds and writes relative to the newest, and nothing of
//! what is the same all along (the configuration of the core) or decides nothing: the generator, counters, reports to people, and
//! how fresh a follower's knowledge is, on which only reads with a bound on staleness rely.
//!
//! Every struct names all of its fields, beside its declaration: a new one does not compile before it is decided.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use crate::config::Priority;
use crate::core::commit::ApplyCursor;
use crate::core::configurations::Configurations;
use crate::core::progress::Flow;
use crate::core::read::Reader;
use crate::core::role::{Batch, Owed, Role};
use crate::core::{Core, Fatal, Load, ReadId, RoleKind, TransferId};
use crate::log::{HardState, Log, LogSlice};
use crate::message::{
    Abdicate, Abdicated, AppendEntries, AppendOutcome, AppendResponse, Body, Message, Rank, ReadIndex,
    ReadIndexResponse, Refusal, Verdict, VoteRequest, VoteResponse,
};
use crate::quorum::Configuration;
use crate::time::{Duration, Instant};
use crate::types::{EntryId, GroupId, Index, NodeId, RoundId, Term, WriteSeq};

/// Rounds as old as this, and those of an earlier run, are all the same: answers to them count for nothing.
const FORGOTTEN_ROUNDS: u64 = 1 << 16;
/// So many grains ago is long ago.
const LONG_AGO: u64 = 8;

/// What the times, rounds and writes of one node are measured from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    node: NodeId,
    now: Instant,
    newest_round: RoundId,
    durable: WriteSeq,
}

/// What a cluster's cores and messages are measured from. Messages echo times and rounds of other nodes, so it takes all
/// of them to compare one.
#[derive(Clone, Debug)]
pub struct Frame {
    grain: Duration,
    origins: Vec<Origin>,
}

impl Frame {
    /// The frame of these cores, each at its own time. Times are rounded up to whole `grain`s; what is longer ago than
    /// eight of them counts as equally long ago. A grain of a quarter of `E` hides the random part of a timeout.
    #[must_use]
    pub fn new<'a>(grain: Duration, cores: impl IntoIterator<Item = (&'a Core, Instant)>) -> Self {
        let origin = |(core, now): (&Core, Instant)| Origin {
            node: core.config.id,
            now,
            newest_round: core.next_round,
            durable: core.disk.durable_seq(),
        };
        Self { grain, origins: cores.into_iter().map(origin).collect() }
    }

    /// Hashes what distinguishes a core from another with the same configuration.
    pub fn core(&self, core: &Core, hasher: &mut impl Hasher) {
        if let Some(origin) = self.origin(core.config.id) {
            core.project(&mut Projection { frame: self, origin, leader: core.leader, hasher });
        }
    }

    /// Hashes what distinguishes a message from another.
    pub fn message(&self, message: &Message, hasher: &mut impl Hasher) {
        let asker = match &message.body {
            Body::PreVote(_) | Body::Vote(_) | Body::AppendEntries(_) | Body::Abdicate(_) | Body::ReadIndex(_) => {
                message.from
            }
            Body::PreVoteResponse(_) | Body::VoteResponse(_) | Body::AppendResponse(_) | Body::ReadIndexResponse(_) => {
                message.to
            }
        };
        if let Some(origin) = self.origin(asker) {
            message.project(&mut Projection { frame: self, origin, leader: None, hasher });
        }
    }

    fn origin(&self, node: NodeId) -> Option<Origin> {
        self.origins.iter().find(|origin| origin.node == node).copied()
    }
}

/// A hasher that knows what to measure from.
pub(super) struct Projection<'a, H> {
    frame: &'a Frame,
    /// Whose times, rounds and writes are being hashed.
    origin: Origin,
    /// Whom the core that is being hashed follows.
    leader: Option<NodeId>,
    hasher: &'a mut H,
}

impl<H: Hasher> Projection<'_, H> {
    fn plain(&mut self, value: &impl Hash) {
        value.hash(self.hasher);
    }

    /// Measures what `of_another` hashes from another node's origin.
    fn measured_from(&mut self, node: Option<NodeId>, of_another: impl FnOnce(&mut Self)) {
        let own = self.origin;
        self.origin = node.and_then(|node| self.frame.origin(node)).unwrap_or(own);
        of_another(self);
        self.origin = own;
    }

    fn grains(&self, duration: Duration) -> u128 {
        duration.as_nanos().div_ceil(self.frame.grain.as_nanos().max(1))
    }
}

/// What can be hashed that way.
pub(super) trait Project {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>);
}

/// Projects a struct field by field; `left_out` marks those that decide nothing.
macro_rules! project {
    ($type:ty { $($field:ident $(: $how:ident)?),* $(,)? }) => {
        impl $crate::core::fingerprint::Project for $type {
            fn project<H: std::hash::Hasher>(&self, into: &mut $crate::core::fingerprint::Projection<'_, H>) {
                let Self { $($field),* } = self;
                $($crate::core::fingerprint::project!(@ into $field $($how)?);)*
            }
        }
    };
    (@ $into:ident $field:ident) => { $crate::core::fingerprint::Project::project($field, $into) };
    (@ $into:ident $field:ident left_out) => { let _ = $field; };
}
pub(super) use project;

// ---- numbers that are relative -------------------------------------------------------------------------------------

impl Project for Instant {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        let (now, grain) = (to.origin.now, to.frame.grain.as_nanos().max(1));
        let ago = now.since(*self).as_nanos() / grain;
        to.plain(&(to.grains(self.since(now)), ago.min(u128::from(LONG_AGO))));
    }
}

impl Project for Duration {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        to.plain(&to.grains(*self));
    }
}

impl Project for RoundId {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        to.plain(&to.origin.newest_round.0.wrapping_sub(self.0).min(FORGOTTEN_ROUNDS));
    }
}

impl Project for WriteSeq {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        to.plain(&self.0.saturating_sub(to.origin.durable.0));
    }
}

// ---- what is as it is ----------------------------------------------------------------------------------------------

macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Project for $type {
            fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
                to.plain(self);
            }
        })*
    };
}
plain!(bool, u32, usize, NodeId, GroupId, Term, Index, EntryId, HardState, Log, LogSlice, Configurations, RoleKind);
plain!(Abdicated, Rank, Priority, AppendOutcome, ApplyCursor, Batch, Load, ReadId, TransferId, Fatal, Configuration);

impl<T: Project> Project for Option<T> {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        to.plain(&self.is_some());
        self.iter().for_each(|value| value.project(to));
    }
}

impl<T: Project> Project for Box<T> {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        (**self).project(to);
    }
}

impl<A: Project, B: Project> Project for (A, B) {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        self.0.project(to);
        self.1.project(to);
    }
}

impl<A: Project, B: Project, C: Project> Project for (A, B, C) {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        self.0.project(to);
        self.1.project(to);
        self.2.project(to);
    }
}

impl<T: Project> Project for Vec<T> {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        to.plain(&self.len());
        self.iter().for_each(|value| value.project(to));
    }
}

impl<T: Project> Project for VecDeque<T> {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        to.plain(&self.len());
        self.iter().for_each(|value| value.project(to));
    }
}

impl<K: Project, V: Project> Project for BTreeMap<K, V> {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        to.plain(&self.len());
        for (key, value) in self {
            key.project(to);
            value.project(to);
        }
    }
}

// ---- what differs by variant ---------------------------------------------------------------------------------------

/// Which variant it is, before what is in it.
fn variant<T, H: Hasher>(of: &T, to: &mut Projection<'_, H>) {
    to.plain(&std::mem::discriminant(of));
}

impl Project for Role {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        variant(self, to);
        match self {
            Self::Follower(follower) => follower.project(to),
            Self::PreCandidate(candidate) => candidate.project(to),
            Self::Candidate(candidate) => candidate.project(to),
            Self::Leader(leader) => leader.project(to),
        }
    }
}

impl Project for Flow {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        variant(self, to);
        match self {
            Self::Probe(sent) => sent.project(to),
            Self::Replicate => {}
        }
    }
}

impl Project for Reader {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        variant(self, to);
        match self {
            Self::Here(id) => id.project(to),
            Self::Peer(node, round) => {
                node.project(to);
                to.measured_from(Some(*node), |to| round.project(to));
            }
        }
    }
}

impl Project for Verdict {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        match self {
            Self::Refused(Refusal::Promised { leader, term, remaining }) => {
                (*leader, *term).project(to);
                remaining.project(to);
            }
            Self::Granted | Self::Refused(_) => to.plain(self),
        }
    }
}

impl Project for Body {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        variant(self, to);
        match self {
            Self::PreVote(request) | Self::Vote(request) => request.project(to),
            Self::PreVoteResponse(response) | Self::VoteResponse(response) => response.project(to),
            Self::AppendEntries(append) => append.project(to),
            Self::AppendResponse(response) => response.project(to),
            Self::Abdicate(abdicate) => abdicate.project(to),
            Self::ReadIndex(ask) => ask.project(to),
            Self::ReadIndexResponse(response) => response.project(to),
        }
    }
}

/// It echoes times and rounds of the leader.
impl Project for Owed {
    fn project<H: Hasher>(&self, to: &mut Projection<'_, H>) {
        let Self { stamp, round, last } = self;
        last.project(to);
        to.measured_from(to.leader, |to| {
            stamp.project(to);
            round.project(to);
        });
    }
}

// ---- messages, which are declared where the core is not known ------------------------------------------------------

project!(Message { group, from, to, term, body });
project!(VoteRequest { round, campaign_term, last, configuration, abdicated });
project!(VoteResponse { round, campaign_term, verdict });
project!(AppendEntries { stamp, round, commit, rank, fresh: left_out, snapshot, slice });
project!(AppendResponse { stamp, round, request_term, promise_ms, sent: left_out, priority, outcome });
project!(Abdicate { successor });
project!(ReadIndex { round, lease });
project!(ReadIndexResponse { round, request_term, index });
