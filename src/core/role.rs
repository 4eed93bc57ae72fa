//! The four roles (dissertation §3.3, figure 3.3; §9.6 for the pre-candidate).
//!
//! A role owns what exists only while it lasts, its timer first of all: leaving a role cancels its timer (row `o21`).

use std::collections::{BTreeMap, VecDeque};

use crate::config::Timing;
use crate::core::fingerprint::project;
use crate::core::membership::Changing;
use crate::core::progress::Progress;
use crate::core::read::Reads;
use crate::core::round::Round;
use crate::core::succession::Line;
use crate::core::{RoleKind, TransferId};
use crate::message::Stamp;
use crate::time::Instant;
use crate::types::{EntryId, Index, NodeId, RoundId, WriteSeq};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// Follows a leader or waits for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Follower {
    /// When it stands, if no leader is heard of before.
    pub(super) election_deadline: Instant,
    /// The last index up to which this log is known to agree with the leader's.
    pub(super) verified: Index,
    /// An append whose entries were not durable when it was answered: it gets a further answer (rule `p01`).
    pub(super) owed: Option<Owed>,
}

/// What the further answer echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) stamp: Stamp,
    pub(super) round: RoundId,
    /// The answer is complete once this index is durable.
    pub(super) last: Index,
}

/// Asks whether it could win before it disturbs anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PreCandidate {
    pub(super) pre_vote_deadline: Instant,
    pub(super) round: Round,
}

/// Stands for election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) vote_deadline: Instant,
    pub(super) round: Round,
    /// The write that holds its own vote, which counts once it is durable (bug `b11`).
    pub(super) own_vote: WriteSeq,
}

/// Leads. The heartbeat timer is one deadline per peer, so that replication traffic counts as heartbeat (row `l27`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) peers: BTreeMap<NodeId, Progress>,
    /// The no-op that opened the term; reads wait until it is committed (bug `b70`).
    pub(super) opened: EntryId,
    /// The newest leadership confirmation asked for.
    pub(super) round: RoundId,
    pub(super) reads: Reads,
    /// When it was elected, or appended the configuration in use: from here on a quorum has `E` to answer (rule `p10`, bug
    /// `b13`).
    pub(super) configured_at: Instant,
    /// The lease ends here (rule `p05`).
    pub(super) lease_until: Instant,
    /// Only what left since then earns a lease (rule `p16`).
    pub(super) lease_from: Instant,
    /// The transfer that is open (rule `p09`).
    pub(super) transfer: Option<Transfer>,
    /// The change of members that is open.
    pub(super) changing: Option<Box<Changing>>,
    /// No lease that was told to anybody ends later (rule `p15`).
    pub(super) published: Instant,
    pub(super) line: Line,
    /// Entries of this term that are not committed, per batch, oldest first.
    pub(super) uncommitted: VecDeque<Batch>,
    pub(super) uncommitted_entries: usize,
    pub(super) uncommitted_bytes: usize,
}

/// Leadership on its way to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) id: TransferId,
    /// `None`: whoever is fit first.
    pub(super) target: Option<NodeId>,
    /// The target is to answer something that left since then.
    pub(super) began: Instant,
    /// Then this node gives up handing over and leads on.
    pub(super) deadline: Instant,
}

/// Proposals that were appended together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    pub(super) last: Index,
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

project!(Follower { election_deadline, verified, owed });
project!(PreCandidate { pre_vote_deadline, round });
project!(Candidate { vote_deadline, round, own_vote });
project!(Leader {
    peers,
    opened,
    round,
    reads,
    configured_at,
    lease_until,
    lease_from,
    transfer,
    changing,
    published,
    line,
    uncommitted,
    uncommitted_entries,
    uncommitted_bytes,
});
project!(Transfer { id, target, began, deadline });

impl Role {
    pub(super) fn kind(&self) -> RoleKind {
        match self {
            Self::Follower(_) => RoleKind::Follower,
            Self::PreCandidate(_) => RoleKind::PreCandidate,
            Self::Candidate(_) => RoleKind::Candidate,
            Self::Leader(_) => RoleKind::Leader,
        }
    }

    /// The time at which this role has something to do by itself (row `o21`).
    pub(super) fn deadline(&self, timing: &Timing) -> Option<Instant> {
        match self {
            Self::Follower(follower) => Some(follower.election_deadline),
            Self::PreCandidate(candidate) => Some(candidate.pre_vote_deadline),
            Self::Candidate(candidate) => Some(candidate.vote_deadline),
            Self::Leader(leader) => leader.deadline(timing),
        }
    }
}

impl Leader {
    /// Knows nothing yet of its peers but that they get everything after the no-op that opens the term (row `o16`).
    pub(super) fn new(now: Instant, opened: EntryId, round: RoundId, peers: impl Iterator<Item = NodeId>) -> Self {
        Self {
            peers: peers.map(|peer| (peer, Progress::new(opened.index))).collect(),
            opened,
            round,
            reads: Reads::default(),
            configured_at: now,
            lease_until: Instant::ZERO,
            lease_from: Instant::ZERO,
            transfer: None,
            changing: None,
            published: Instant::ZERO,
            line: Line::default(),
            uncommitted: VecDeque::new(),
            uncommitted_entries: 0,
            uncommitted_bytes: 0,
        }
    }

    /// A member to be written to from now on, if it is not already: first after `last`.
    pub(super) fn welcome(&mut self, member: NodeId, last: Index) {
        self.peers.entry(member).or_insert_with(|| Progress::new(last));
    }

    /// The next heartbeat or the next request that has waited too long.
    fn deadline(&self, timing: &Timing) -> Option<Instant> {
        let of_peer = |peer: &Progress| {
            let heartbeat = peer.heartbeat_deadline(timing.heartbeat_interval);
            peer.rpc_deadline(timing.rpc_timeout).map_or(heartbeat, |rpc| rpc.min(heartbeat))
        };
        self.peers.values().map(of_peer).min()
    }

    /// Takes committed batches out of the uncommitted count.
    pub(super) fn committed(&mut self, commit: Index) {
        while let Some(batch) = self.uncommitted.pop_front_if(|batch| batch.last <= commit) {
            self.uncommitted_entries -= batch.entries;
            self.uncommitted_bytes -= batch.bytes;
        }
    }
}
