//! Why there is no leader, as far as this node can tell: what keeps it from standing, and who refused it what.

use std::fmt;

use crate::core::Core;
use crate::core::role::{Candidate, PreCandidate, Role};
use crate::core::round::Round;
use crate::message::Verdict;
use crate::time::Instant;
use crate::types::{NodeId, Term};

/// What keeps a node from standing for election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// It is no voter in its latest configuration, nor in the latest that it knows to be committed.
    NotAVoter,
    /// A quorum says that it was removed from the group (rule `p14`).
    Removed,
    /// Its disk has not completed a write for too long (rule `p11`).
    DiskStalled,
    /// It promised not to help depose a leader, itself included (rule `p03`).
    Promised {
        /// Whom; unknown after a restart.
        leader: Option<NodeId>,
        /// The term of that leader.
        term: Term,
        /// Until when, on this node's clock.
        until: Instant,
    },
}

/// What became of a round of votes or pre-votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundReport {
    /// Whether it asked for pre-votes only.
    pub pre_vote: bool,
    /// The term it was about.
    pub term: Term,
    /// Who answered what, this node included.
    pub answers: Vec<(NodeId, Verdict)>,
    /// The voters that have not answered.
    pub silent: Vec<NodeId>,
}

/// Why a node knows no leader.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NoLeader {
    /// What kept it from standing when its election timer fired last.
    pub obstacle: Option<Obstacle>,
    /// The round it is in, or else its last one since it had a leader.
    pub round: Option<RoundReport>,
}

impl Core {
    /// What keeps this node from standing at `now`.
    pub(super) fn obstacle(&self, now: Instant) -> Option<Obstacle> {
        if !self.may_be_needed() {
            return Some(Obstacle::NotAVoter);
        }
        if self.removed {
            return Some(Obstacle::Removed);
        }
        if self.disk_stalls(now) {
            return Some(Obstacle::DiskStalled);
        }
        let promise = self.running_promise(now)?;
        Some(Obstacle::Promised { leader: promise.leader, term: promise.term, until: promise.until })
    }

    /// Whether it is a voter in its latest configuration, or was and it is not known to be committed that it is no more: it
    /// may have the only log that can win (dissertation §4.2.2, decision 9).
    fn may_be_needed(&self) -> bool {
        let id = self.config.id;
        self.configuration().is_voter(id) || self.configurations.committed(self.commit).1.is_voter(id)
    }

    /// Why this node knows no leader; `None` if it knows one.
    pub(super) fn no_leader(&self) -> Option<NoLeader> {
        let round = || self.round_report().or_else(|| self.last_round.clone());
        self.leader.is_none().then(|| NoLeader { obstacle: self.held_back, round: round() })
    }

    /// The round this node is in.
    pub(super) fn round_report(&self) -> Option<RoundReport> {
        match &self.role {
            Role::PreCandidate(PreCandidate { round, .. }) => Some(self.report(round, true)),
            Role::Candidate(Candidate { round, .. }) => Some(self.report(round, false)),
            Role::Follower(_) | Role::Leader(_) => None,
        }
    }

    fn report(&self, round: &Round, pre_vote: bool) -> RoundReport {
        let voters = self.configuration().members().into_iter().filter(|node| self.configuration().is_voter(*node));
        let silent = voters.filter(|voter| !round.has_ballot_of(*voter)).collect();
        RoundReport { pre_vote, term: round.request().campaign_term, answers: round.answers(), silent }
    }
}

impl fmt::Display for NoLeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.obstacle, &self.round) {
            (None, None) => f.write_str("has not stood yet"),
            (Some(obstacle), None) => obstacle.fmt(f),
            (None, Some(round)) => round.fmt(f),
            (Some(obstacle), Some(round)) => write!(f, "{obstacle}; {round}"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAVoter => f.write_str("is no voter"),
            Self::Removed => f.write_str("was removed from the group"),
            Self::DiskStalled => f.write_str("its disk does not complete writes"),
            Self::Promised { leader: Some(leader), term, .. } => write!(f, "has promised {leader} of {term} to wait"),
            Self::Promised { leader: None, term, .. } => write!(f, "may have promised in {term} before its restart"),
        }
    }
}

impl fmt::Display for RoundReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asked for {} in {}", if self.pre_vote { "pre-votes" } else { "votes" }, self.term)?;
        for (voter, verdict) in &self.answers {
            write!(f, ", {voter} {verdict:?}")?;
        }
        for voter in &self.silent {
            write!(f, ", {voter} silent")?;
        }
        Ok(())
    }
}
