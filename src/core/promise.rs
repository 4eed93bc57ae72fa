//! Promises: while a live leader holds a majority, nobody helps to depose it (seed rows `o05`, `o12`; rules `p01`-`p04`,
//! `p06`). The dissertation's §4.2.3 and §6.4.1 describe the idea for one message kind; here it is one rule for all.

use crate::core::fingerprint::project;
use crate::core::role::Role;
use crate::core::{Core, Output};
use crate::message::{Refusal, VoteRequest};
use crate::time::Instant;
use crate::types::{NodeId, Term};

/// "I will not help to depose `leader` before `until`."
///
/// It belongs to the node, not to a role: role changes, higher terms in answers and configuration changes leave it
/// as it is (rule `p02`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    /// `None` after a restart: whom it promised is forgotten, that it may have promised is not (rule `p06`).
    pub(super) leader: Option<NodeId>,
    pub(super) term: Term,
    pub(super) until: Instant,
}

project!(Promise { leader, term, until });

impl Promise {
    /// Exceptions (a), (b) and (c) of rule `p03`: helping this asker deposes nobody who still leads.
    fn allows(&self, asker: NodeId, request: &VoteRequest) -> bool {
        let asker_is_the_leader = self.leader == Some(asker);
        let leader_abdicated = request.abdicated.is_some_and(|token| {
            token.term > self.term
                || (token.term == self.term && self.leader.is_none_or(|leader| leader == token.leader))
        });
        let leader_was_succeeded = request.last.term > self.term;
        asker_is_the_leader || leader_abdicated || leader_was_succeeded
    }
}

impl Core {
    /// The length of a promise on the wire, cut to whole milliseconds: shorter is safe.
    pub(super) fn promise_ms(&self) -> u32 {
        u32::try_from(self.config.timing.promise().as_millis()).unwrap_or(u32::MAX)
    }

    /// The length to which promises given before the last start are held (rule `p06`): once this node has run for so
    /// long, none of them can still be running, and the length in use now is enough. That is for a follower to note: a
    /// leader's messages would have to wait for the disk.
    pub(super) fn forget_longer_promises(&mut self, now: Instant, out: &mut Output) {
        let (longest, in_use) = (self.hard_state.longest_promise, self.config.timing.promise());
        let follows = matches!(self.role, Role::Follower(_));
        if follows && longest > in_use && self.unbroken_since + longest <= now {
            self.hard_state.longest_promise = in_use;
            self.save_hard_state(out);
        }
    }

    /// Promises `leader`, whose message of the current term was just accepted (rule `p01`).
    pub(super) fn give_promise(&mut self, now: Instant, leader: NodeId) {
        let term = self.hard_state.term;
        let until = now + self.config.timing.promise();
        let longest = match self.promise {
            Some(earlier) if earlier.term == term => earlier.until.max(until),
            _ => until,
        };
        self.promise = Some(Promise { leader: Some(leader), term, until: longest });
    }

    /// The promise of a node that starts with a past: it may have promised and forgotten (rule `p06`).
    pub(super) fn promise_after_restart(&self, now: Instant) -> Option<Promise> {
        let has_a_past = self.hard_state.term > Term::ZERO;
        let alone = self.configuration().is_sole_voter(self.config.id);
        let until = now + self.hard_state.longest_promise;
        (has_a_past && !alone).then_some(Promise { leader: None, term: self.hard_state.term, until })
    }

    /// The promise that is still running.
    pub(super) fn running_promise(&self, now: Instant) -> Option<Promise> {
        self.promise.filter(|promise| promise.until > now)
    }

    /// Whether a promise, or this node's own leadership, forbids helping `asker` (rules `p03`, `p04`).
    pub(super) fn refusal(&self, now: Instant, asker: NodeId, request: &VoteRequest) -> Option<Refusal> {
        let promised = self.running_promise(now).filter(|promise| !promise.allows(asker, request));
        let refused = |leader, term, until: Instant| Refusal::Promised { leader, term, remaining: until.since(now) };
        match promised {
            Some(promise) => Some(refused(promise.leader, promise.term, promise.until)),
            None => self
                .leads_until(now)
                .filter(|until| *until > now)
                .map(|until| refused(Some(self.config.id), self.hard_state.term, until)),
        }
    }

    /// Up to when a quorum's newest echoes protect this leader: a promise length after [`quorum_was_here`].
    ///
    /// [`quorum_was_here`]: Self::quorum_was_here
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        Some(self.quorum_was_here(now)? + self.config.timing.promise())
    }

    /// The `base` of the rules: a quorum followed this leader at this time, and perhaps later: the quorum-th largest stamp
    /// echoed. `None` if it does not lead or a quorum has not answered it yet.
    pub(super) fn quorum_was_here(&self, now: Instant) -> Option<Instant> {
        let Role::Leader(leader) = &self.role else { return None };
        let stamp = |voter| match leader.peers.get(&voter) {
            Some(peer) => peer.contact.echoed,
            None => (voter == self.config.id).then_some(now),
        };
        self.configuration().reached(stamp)
    }
}
