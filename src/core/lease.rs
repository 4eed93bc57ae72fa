//! Leases: what a quorum's promises allow a leader to do alone (rules `p05`, `p07`, `p08`, `p16`; dissertation §6.4.1).
//!
//! A promise is counted from when the message *left* that it answers, and for less than it was given for: clocks may
//! differ in rate by `rho`, so `1 - 2 rho` of it, less a guard. The quorum-th largest end is the end of the lease: until
//! then no other node can have been elected, whatever it thinks, so what this leader knows to be committed is all there
//! is. The argument in full is in `docs/safety.md`.

use crate::core::role::Role;
use crate::core::{Core, Lease};
use crate::message::AppendResponse;
use crate::time::{Duration, Instant};

const MILLION: u32 = 1_000_000;

impl Core {
    /// The lease that other threads may use; `None` while there is none, or if the group was not opened with lease reads.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        match &self.role {
            Role::Leader(leader) if self.config.lease_reads && self.committed_in_term() && self.stopped.is_none() => {
                let usable = leader.lease_until > Instant::ZERO;
                let (epoch, read_index, until) = (self.lease_epoch, self.commit, leader.lease_until);
                usable.then_some(Lease { epoch, read_index, until })
            }
            _ => None,
        }
    }

    /// Whether a read may be answered now by the lease alone (rule `p07`). The commit index is taken in this step, whose
    /// time was sampled before it began and after the state it works on was reached.
    pub(super) fn holds_lease(&self, now: Instant) -> bool {
        self.lease().is_some_and(|lease| now < lease.until)
    }

    /// Whether this leader has committed an entry of its term, and so knows of everything committed before.
    pub(super) fn committed_in_term(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.commit >= leader.opened.index)
    }

    /// Up to when, on our clock, the promise in `answer` binds its sender (rule `p05`).
    pub(super) fn promised_until(&self, answer: &AppendResponse) -> Instant {
        let Role::Leader(leader) = &self.role else { return Instant::ZERO };
        if answer.stamp < leader.lease_from {
            return Instant::ZERO;
        }
        // Nobody is trusted for longer than we would promise ourselves: a published lease ends within E (rule `p07`).
        let promised = Duration::from_millis(u64::from(answer.promise_ms)).min(self.config.timing.promise());
        let trusted = promised * (MILLION - 2 * self.config.timing.clock_drift_ppm) / MILLION;
        answer.stamp + trusted - self.config.timing.lease_guard
    }

    /// Takes stock at the end of a step: the lease lasts as long as the promises of a quorum, this node's own among them
    /// as long as its disk answers (rules `p05`, `p11`). Learners do not count.
    pub(super) fn renew_lease(&mut self, now: Instant) {
        let Role::Leader(leader) = &self.role else { return };
        let own = if self.disk_stalls(now) { Instant::ZERO } else { now + self.config.timing.promise() };
        let until = self.configuration().reached(|voter| match leader.peers.get(&voter) {
            Some(peer) => peer.contact.promised_until,
            None if voter == self.config.id => own,
            None => Instant::ZERO,
        });
        if let Role::Leader(leader) = &mut self.role {
            leader.lease_until = until;
            leader.published = leader.published.max(until);
        }
    }

    /// Nobody may use the lease any more; promises given before `now` are forgotten (rules `p08`, `p16`).
    pub(super) fn revoke_lease(&mut self, now: Instant) {
        let Role::Leader(leader) = &mut self.role else { return };
        self.lease_epoch += 1;
        leader.lease_until = Instant::ZERO;
        leader.lease_from = now;
        for peer in leader.peers.values_mut() {
            peer.contact.promised_until = Instant::ZERO;
        }
    }

    /// The machine slept or its clock jumped (rule `p16`): what was measured across that moment is not trusted. A leader
    /// earns its lease anew; a promise that ran when the clock was last looked at starts over, which is always safe.
    pub(super) fn clock_jumped(&mut self, now: Instant) {
        self.revoke_lease(now);
        let (given, forgotten) = (self.config.timing.promise(), self.hard_state.longest_promise);
        if let Some(promise) = self.promise.as_mut().filter(|promise| promise.until > self.stepped_at) {
            let length = if promise.leader.is_some() { given } else { forgotten };
            promise.until = promise.until.max(now + length);
        }
        self.unbroken_since = now;
        self.restart_election_timer(now);
    }
}
