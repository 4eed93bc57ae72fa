//! How long a node waits before it stands, and the line of succession that keeps two from standing at once.
//!
//! Without anything better a timeout is random in `[E, T_max)` (dissertation §3.4; rows `l06`, `l20`, `l22`). A leader
//! does better: with each append it tells every follower its place in the line, fittest first, and how long a slot is. A
//! follower then waits `E + place x slot + jitter` after the last append, so when the leader dies one well-placed node
//! stands alone, and the next one a slot later if the first has died as well. Ranks act through timeouts only: whoever has
//! a wrong one, or none, is elected by the same rules. Somebody whose own round failed gives its place up for a random
//! timeout, so a line that is wrong cannot cause the same collision twice.

use crate::config::Priority;
use crate::core::Core;
use crate::core::fingerprint::project;
use crate::core::progress::Progress;
use crate::core::role::Role;
use crate::message::Rank;
use crate::time::{Duration, Instant};
use crate::types::{Index, NodeId};

/// A slot is so many round trips: a pre-vote, a vote, and time for the disks in between.
const ROUND_TRIPS: u32 = 4;

/// The order in which followers are to stand, as a leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    order: Vec<NodeId>,
    slot: Duration,
    made_at: Option<Instant>,
    /// The commit index when the line was made: who has not got that far by the next time is behind.
    commit: Index,
}

project!(Line { order, slot, made_at, commit });

impl Line {
    fn rank(&self, node: NodeId) -> Option<Rank> {
        let place = self.order.iter().position(|other| *other == node)?;
        Some(Rank { place: u32::try_from(place).ok()?, slot: self.slot })
    }
}

impl Core {
    // ---- the leader's side -----------------------------------------------------------------------------------------

    /// Makes the line anew, at most once per heartbeat interval so that it does not flicker.
    pub(super) fn line_up(&mut self, now: Instant) {
        let interval = self.config.timing.heartbeat_interval;
        let Role::Leader(leader) = &self.role else { return };
        let made_at = leader.line.made_at;
        if !self.config.succession || made_at.is_some_and(|made| now < made + interval) {
            return;
        }
        let expected = leader.line.commit;
        let fitness = |node: NodeId, peer: &Progress| {
            let answers = peer.contact.answered_at.is_some_and(|at| now <= at + interval * 2);
            let keeps_up = peer.match_index >= expected;
            // Not by match index alone: among nodes that keep up it changes with every message.
            (!(answers && keeps_up), std::cmp::Reverse(peer.contact.priority), node)
        };
        let voters = leader.peers.iter().filter(|(node, _)| self.configuration().is_voter(**node));
        let mut ranked: Vec<_> = voters.map(|(node, peer)| fitness(*node, peer)).collect();
        ranked.sort_unstable();
        let order = ranked.into_iter().map(|(_, _, node)| node).collect();
        let round_trip = leader.peers.values().filter_map(|peer| peer.contact.round_trip).max();
        let e = self.config.timing.promise();
        let slot = (round_trip.unwrap_or_default() * ROUND_TRIPS).clamp(e / 64, e / 8);
        let commit = self.commit;
        if let Role::Leader(leader) = &mut self.role {
            leader.line = Line { order, slot, made_at: Some(now), commit };
        }
    }

    pub(super) fn rank_of(&self, peer: NodeId) -> Option<Rank> {
        match &self.role {
            Role::Leader(leader) => leader.line.rank(peer),
            _ => None,
        }
    }

    // ---- the follower's side ---------------------------------------------------------------------------------------

    /// How long to wait for a sign of life: a fresh timeout for every wait.
    pub(super) fn election_timeout(&mut self) -> Duration {
        let (min, max) = (self.config.timing.election_timeout_min, self.config.timing.election_timeout_max);
        match self.turn() {
            Some(turn) if turn < max - min => min + turn,
            _ => self.random_election_timeout(),
        }
    }

    /// A timeout that owes nothing to the line: anywhere in `[E, T_max)`, in the lower half of it for a voter of high
    /// priority, in the upper half for one of low priority.
    pub(super) fn random_election_timeout(&mut self) -> Duration {
        let (min, max) = (self.config.timing.election_timeout_min, self.config.timing.election_timeout_max);
        let half = (max - min) / 2;
        match self.config.priority {
            Priority::High => min + self.random_below(half),
            Priority::Normal => min + self.random_below(max - min),
            Priority::Low => min + half + self.random_below(half),
        }
    }

    /// How long to wait once it is known that nothing forbids standing, in `[0, E/4)`, so that nodes freed by the same
    /// event do not stand together (rules `p13`, `p14`).
    pub(super) fn short_timeout(&mut self) -> Duration {
        let quarter = self.config.timing.promise() / 4;
        match self.turn() {
            Some(turn) if turn < quarter => turn,
            // Far back in the line: behind those before it, as far as there is room.
            Some(_) => quarter - quarter / 16 + self.random_below(quarter / 16),
            None => self.random_below(quarter),
        }
    }

    /// When this node's turn comes after the first possible moment. The jitter begins at a quarter of a slot, a round
    /// trip, by which time the promises of the others have ended as well.
    fn turn(&mut self) -> Option<Duration> {
        let Rank { place, slot } = self.rank.filter(|_| self.config.succession)?;
        let jitter = slot / 4 + self.random_below(slot / 4);
        slot.checked_mul(place)?.checked_add(jitter)
    }

    /// A random duration below `limit`.
    pub(super) fn random_below(&mut self, limit: Duration) -> Duration {
        use rand::Rng as _;
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if nanos == 0 { 0 } else { self.rng.next_u64() % nanos })
    }
}
