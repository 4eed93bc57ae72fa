//! Giving up leadership for good: transfers, a lost quorum, a stalled disk (rules `p09`-`p11`; dissertation §3.10).
//!
//! A transfer drains first: proposals are refused until the target has the whole log. Then, in one step, the leader
//! becomes a follower that will never lead in this term again, and says so to everybody. From that message on promises to
//! it are void, so the successor can win at once; and as it never leads again in this term, it does not matter how late
//! the message arrives. Before that step a transfer can be given up, after it never.

use std::cmp::Reverse;

use crate::core::progress::Progress;
use crate::core::role::{Leader, Role, Transfer};
use crate::core::{Abdication, Core, Event, Fatal, Output, TransferAnswer, TransferError, TransferId};
use crate::message::{Abdicate, Abdicated, Body};
use crate::time::{Duration, Instant};
use crate::types::{NodeId, Term};

impl Core {
    // ---- transfers -------------------------------------------------------------------------------------------------

    /// Begins to hand leadership over to `target`, or to whoever is fit first.
    pub(super) fn transfer(&mut self, now: Instant, id: TransferId, target: Option<NodeId>, out: &mut Output) {
        let refused = match &self.role {
            Role::Leader(leader) => match target {
                Some(target) if target == self.config.id => {
                    return out.transfers.push(TransferAnswer { id, result: Ok(target) });
                }
                Some(target) if !self.configuration().is_voter(target) => Some(TransferError::NotAVoter(target)),
                None if self.configuration().is_sole_voter(self.config.id) => Some(TransferError::NoOtherVoter),
                _ if leader.transfer.is_some() => Some(TransferError::InProgress),
                _ => None,
            },
            _ => Some(TransferError::NotLeader { leader: self.leader }),
        };
        if let Some(error) = refused {
            return out.transfers.push(TransferAnswer { id, result: Err(error) });
        }
        let deadline = now + self.config.timing.promise();
        if let Role::Leader(leader) = &mut self.role {
            leader.transfer = Some(Transfer { id, target, began: now, deadline });
        }
        // Whoever is there answers within a round trip; that it answered before does not say that it still is.
        self.write_to_all(now, out);
    }

    /// Whether leadership is being handed over: no proposals are taken.
    pub(super) fn drains(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.transfer.is_some())
    }

    /// Hands over as soon as everything is committed and the target has it all.
    pub(super) fn hand_over_if_ready(&mut self, now: Instant, out: &mut Output) {
        let Role::Leader(Leader { transfer: Some(transfer), .. }) = &self.role else { return };
        let (Transfer { id, target, began, .. }, last) = (*transfer, self.log.last().index);
        let ready = |peer: &Progress| {
            let has_everything = self.commit == last && peer.counted_match() == last;
            has_everything && peer.contact.echoed >= Some(began)
        };
        let heir = target
            .or_else(|| self.fittest(now))
            .filter(|heir| self.answers(now, *heir) && self.progress(*heir).is_some_and(ready));
        if let Some(heir) = heir {
            if let Role::Leader(leader) = &mut self.role {
                leader.transfer = None;
            }
            out.transfers.push(TransferAnswer { id, result: Ok(heir) });
            self.abdicate(now, Some(heir), Abdication::Transfer, out);
        }
    }

    /// The voter that has most of the log among those that answer; of several the one that wants most to lead.
    pub(super) fn fittest(&self, now: Instant) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let fit =
            leader.peers.iter().filter(|(node, _)| self.configuration().is_voter(**node) && self.answers(now, **node));
        let fitness =
            |(node, peer): &(&NodeId, &Progress)| (peer.counted_match(), peer.contact.priority, Reverse(**node));
        fit.max_by_key(fitness).map(|(node, _)| *node)
    }

    /// Whether a peer has answered within one heartbeat.
    fn answers(&self, now: Instant, node: NodeId) -> bool {
        let answered = self.progress(node).and_then(|peer| peer.contact.answered_at);
        answered.is_some_and(|at| now <= at + self.config.timing.heartbeat_interval)
    }

    /// It comes to nothing: too long, and this node leads on (bug `b75`), or leadership was lost otherwise.
    pub(super) fn give_up_transfer(&mut self, error: TransferError, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(Transfer { id, .. }) = leader.transfer.take()
        {
            out.transfers.push(TransferAnswer { id, result: Err(error) });
        }
    }

    // ---- giving up -------------------------------------------------------------------------------------------------

    /// What a leader has to ask itself when its timer fires: whether a quorum still answers (rule `p10`), its disk still
    /// writes (rule `p11`), and an open transfer still has time. Returns whether it still leads.
    pub(super) fn still_leads(&mut self, now: Instant, out: &mut Output) -> bool {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.quorum_deadline()) {
            self.abdicate(now, self.fittest(now), Abdication::QuorumLost, out);
        } else if due(self.stall_deadline()) {
            self.abdicate(now, self.fittest(now), Abdication::DiskStalled, out);
        } else if due(self.transfer_deadline()) {
            self.give_up_transfer(TransferError::TimedOut, out);
        }
        matches!(self.role, Role::Leader(_))
    }

    /// The log or the state machine failed: whoever can still work takes over (rule `p11`, bug `d10`).
    pub(super) fn abdicate_and_stop(&mut self, now: Instant, fatal: Fatal, out: &mut Output) {
        if matches!(self.role, Role::Leader(_)) {
            self.abdicate(now, self.fittest(now), Abdication::Failed, out);
        }
        self.stop(fatal, out);
    }

    /// When a leader steps down because no answer of a quorum has arrived for `E`, counted at the earliest
    /// from its election and from when the configuration in use was appended. This node always counts, so a lone voter never does.
    fn quorum_deadline(&self) -> Option<Instant> {
        let Role::Leader(leader) = &self.role else { return None };
        if self.configuration().is_sole_voter(self.config.id) {
            return None;
        }
        let heard = self.configuration().reached(|voter| match leader.peers.get(&voter) {
            Some(peer) => peer.contact.answered_at,
            None => Some(Instant::from_nanos(u64::MAX)),
        });
        Some(heard.unwrap_or(Instant::ZERO).max(leader.configured_at) + self.config.timing.promise())
    }

    /// When a leader whose log waits for its disk has waited too long. A lone voter has nobody to hand over to.
    fn stall_deadline(&self) -> Option<Instant> {
        let entries_wait = self.disk.durable() < self.log.last().index;
        let leads_others = matches!(self.role, Role::Leader(_)) && !self.configuration().is_sole_voter(self.config.id);
        let since = self.disk.waiting_since().filter(|_| entries_wait && leads_others);
        since.map(|since| since + self.config.timing.disk_stall_limit)
    }

    fn transfer_deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => leader.transfer.as_ref().map(|transfer| transfer.deadline),
            _ => None,
        }
    }

    /// The next time at which [`still_leads`](Self::still_leads) has something to find out.
    pub(super) fn leadership_deadline(&self) -> Option<Instant> {
        [self.quorum_deadline(), self.stall_deadline(), self.transfer_deadline()].into_iter().flatten().min()
    }

    /// Whether the oldest write has been on its way to the disk for longer than the limit. That write is also the probe:
    /// when it comes back, the disk works again.
    pub(super) fn disk_stalls(&self, now: Instant) -> bool {
        self.disk.waiting_since().is_some_and(|since| since + self.config.timing.disk_stall_limit <= now)
    }

    /// Ends this leadership for good and tells everybody.
    pub(super) fn abdicate(&mut self, now: Instant, successor: Option<NodeId>, why: Abdication, out: &mut Output) {
        self.counters.abdications += 1;
        self.abdicated = Some(Abdicated { leader: self.config.id, term: self.hard_state.term });
        let deadline = now + self.timeout_after_abdication();
        self.become_follower(None, deadline, out);
        let (members, id) = (self.configuration().members(), self.config.id);
        for member in members.into_iter().filter(|member| *member != id) {
            self.send(member, Body::Abdicate(Abdicate { successor }), out);
        }
        out.events.push(Event::Abdicated { successor, why });
    }

    // ---- being told ------------------------------------------------------------------------------------------------

    /// A leader's farewell: heeded only in the very term it speaks of, by a node that is promised to nobody else.
    pub(super) fn on_abdicate(&mut self, now: Instant, from: NodeId, term: Term, abdicate: Abdicate, out: &mut Output) {
        let bound_otherwise = self
            .running_promise(now)
            .is_some_and(|promise| promise.term != term || promise.leader.is_some_and(|leader| leader != from));
        let another_leads = self.leader.is_some_and(|leader| leader != from);
        let known = self.has_abdicated(from, term);
        if term != self.hard_state.term || bound_otherwise || another_leads || known {
            self.counters.stale_answers += 1;
            return;
        }
        self.promise = None;
        self.abdicated = Some(Abdicated { leader: from, term });
        if abdicate.successor == Some(self.config.id) && self.obstacle(now).is_none() {
            self.become_candidate(now, out);
        } else {
            let deadline = now + self.timeout_after_abdication();
            self.become_follower(None, deadline, out);
        }
    }

    /// Whether `leader` said that it leads `term` no more.
    pub(super) fn has_abdicated(&self, leader: NodeId, term: Term) -> bool {
        self.abdicated == Some(Abdicated { leader, term })
    }

    /// The successor has so much of a start over the others: `[E/2, E)`.
    fn timeout_after_abdication(&mut self) -> Duration {
        let half = self.config.timing.promise() / 2;
        half + self.random_below(half)
    }
}
