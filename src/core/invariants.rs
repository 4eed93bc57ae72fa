//! What one node can see of Raft's invariants, each a named check (design: `docs/rules.md`, row `r08`).
//!
//! Tests and simulation run them after every step; in production a caller may run them and count.

use crate::core::Core;
use crate::core::role::Role;
use crate::types::{Index, NodeId};

/// A broken invariant: a bug in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node}: broken invariant: {name}")]
pub struct Violation {
    /// Where.
    pub node: NodeId,
    /// The invariant, as a sentence.
    pub name: &'static str,
}

impl Core {
    /// Checks every invariant that this node can see. Costs a walk over the peers and the term runs.
    ///
    /// # Errors
    /// [`Violation`] names the first broken one: a bug, worth a report.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        let broken = self.log_violation().or_else(|| self.role_violation()).or_else(|| self.held_violation());
        broken.map_or(Ok(()), |name| Err(Violation { node: self.config.id, name }))
    }

    fn log_violation(&self) -> Option<&'static str> {
        let last = self.log.last();
        let durable = self.disk.durable();
        let cached_agree = self.log.cached_entries().all(|entry| self.log.contains(entry.id));
        let runs_rise = self.log.runs().windows(2).all(|w| w[0].first < w[1].first && w[0].term < w[1].term);
        let configurations_in_log = self.configurations.indexes().all(|at| at <= last.index);
        let configurations_rise = self.configurations.indexes().is_sorted_by(|a, b| a < b);
        first_broken([
            (durable <= last.index, "durable is at most the last index"),
            (self.commit <= last.index, "commit is at most the last index"),
            (self.apply.handed <= self.commit, "only committed entries are handed out"),
            (self.apply.handed <= durable, "only durable entries are handed out"),
            (self.apply.applied <= self.apply.handed, "only handed out entries are applied"),
            (last.term <= self.hard_state.term, "no entry is of a term newer than the current one"),
            (runs_rise, "term runs rise"),
            (cached_agree, "cached entries agree with the term runs"),
            (configurations_in_log && configurations_rise, "configurations stand in the log, in order"),
            (self.log.cached_from() <= durable.next(), "what is not durable is in memory"),
        ])
    }

    fn role_violation(&self) -> Option<&'static str> {
        let id = self.config.id;
        let own_vote = self.hard_state.vote == Some(id);
        match &self.role {
            Role::Follower(follower) => first_broken([
                (follower.verified <= self.log.last().index, "a follower has what it verified"),
                (self.leader != Some(id), "a follower does not follow itself"),
            ]),
            Role::PreCandidate(_) => first_broken([(self.leader.is_none(), "a pre-candidate knows no leader")]),
            Role::Candidate(_) => first_broken([
                (self.leader.is_none(), "a candidate knows no leader"),
                (own_vote, "a candidate voted for itself"),
            ]),
            Role::Leader(leader) => {
                let peers = leader.peers.values().find_map(|peer| peer.violation(&self.config.limits));
                let matched = leader.peers.values().map(|peer| peer.match_index).max().unwrap_or(Index::ZERO);
                let batches: usize = leader.uncommitted.iter().map(|batch| batch.entries).sum();
                peers.or(first_broken([
                    (own_vote, "a leader voted for itself"),
                    (self.leader == Some(id), "a leader knows that it leads"),
                    (self.disk.is_durable(self.disk.hard_state_seq()), "a leader's term and vote are durable"),
                    (matched <= self.log.last().index, "no peer matches beyond the log"),
                    (batches == leader.uncommitted_entries, "uncommitted entries are counted"),
                    (leader.reads.newest_round() <= Some(leader.round), "reads wait for rounds asked for"),
                    (leader.lease_until <= self.stepped_at + self.config.timing.promise(), "a lease ends within E"),
                ]))
            }
        }
    }

    fn held_violation(&self) -> Option<&'static str> {
        let nothing_waits = self.disk.held().next().is_none();
        let durable = self.disk.is_durable(self.disk.hard_state_seq());
        first_broken([(nothing_waits || !durable, "messages wait only for a write that is not durable")])
    }
}

fn first_broken<const N: usize>(checks: [(bool, &'static str); N]) -> Option<&'static str> {
    checks.into_iter().find(|(holds, _)| !holds).map(|(_, name)| name)
}
