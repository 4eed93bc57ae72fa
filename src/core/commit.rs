//! What is committed, and how it reaches the state machine (dissertation §3.5, §3.6.2).

use std::collections::VecDeque;

use crate::core::role::Role;
use crate::core::{Core, Load, LoadPurpose, Output};
use crate::log::Entry;
use crate::time::Instant;
use crate::types::Index;

/// How far the state machine is, and what is on its way there.
///
/// Invariant: `applied <= handed <= min(commit, durable here)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ApplyCursor {
    /// The last index handed out.
    pub(super) handed: Index,
    /// The last index reported as applied.
    pub(super) applied: Index,
    /// What was handed out and not yet applied: (last index, bytes of memory).
    in_flight: VecDeque<(Index, usize)>,
    in_flight_bytes: usize,
    loading: Option<Load>,
}

impl ApplyCursor {
    pub(super) fn new(applied: Index) -> Self {
        Self { handed: applied, applied, in_flight: VecDeque::new(), in_flight_bytes: 0, loading: None }
    }

    pub(super) fn awaits(&self, load: Load) -> bool {
        self.loading == Some(load)
    }

    /// The state machine was replaced: it has applied up to `index`. What was handed out behind that meanwhile comes to it
    /// all the same, once (bug `b56`).
    pub(super) fn jumped_to(&mut self, index: Index) {
        self.handed = self.handed.max(index);
        self.loading = self.loading.filter(|load| load.first > index);
        self.applied(index);
    }

    fn hand(&mut self, entries: Vec<Entry>, out: &mut Output) {
        let Some(last) = entries.last() else { return };
        let bytes = entries.iter().map(Entry::footprint).sum();
        self.handed = last.id.index;
        self.in_flight.push_back((self.handed, bytes));
        self.in_flight_bytes += bytes;
        out.apply.extend(entries);
    }

    fn applied(&mut self, index: Index) {
        self.applied = self.applied.max(index.min(self.handed));
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(last, _)| *last <= self.applied) {
            self.in_flight_bytes -= bytes;
        }
    }
}

impl Core {
    /// Commits what a quorum has made durable. Only an entry of the own term is committed by counting; what stands
    /// before it is committed with it (row `r05`, figure 3.7, bug `b29`).
    pub(super) fn commit_by_quorum(&mut self, now: Instant, out: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        let durable = |voter| match leader.peers.get(&voter) {
            Some(peer) => peer.counted_match(),
            None if voter == self.config.id => self.disk.durable(),
            None => Index::ZERO,
        };
        let reached = self.configuration().reached(durable);
        if reached > self.commit && self.log.term_at(reached) == Some(self.hard_state.term) {
            self.advance_commit(reached, out);
            self.note_removal(out);
            self.start_round_if_due(now, out);
        }
    }

    /// Commit never goes back.
    pub(super) fn advance_commit(&mut self, commit: Index, out: &mut Output) {
        if commit <= self.commit {
            return;
        }
        self.commit = commit;
        if let Role::Leader(leader) = &mut self.role {
            leader.committed(commit);
        }
        self.hand_out(out);
    }

    /// Hands committed entries that are durable here to the state machine, as many as it has room for (row `s01`,
    /// bug `b38`).
    pub(super) fn hand_out(&mut self, out: &mut Output) {
        let end = self.commit.min(self.disk.durable());
        while self.apply.handed < end && self.apply.loading.is_none() {
            let room = self.config.limits.apply_bytes.saturating_sub(self.apply.in_flight_bytes);
            if room == 0 {
                return;
            }
            let first = self.apply.handed.next();
            // Entries without payload take memory, too.
            let last = end.min(first.plus((room / size_of::<Entry>()) as u64));
            match self.log.cached(first, last, usize::MAX, room) {
                Some(entries) => self.apply.hand(entries, out),
                None => {
                    let term = self.hard_state.term;
                    let load = Load { purpose: LoadPurpose::Apply, term, first, last, max_bytes: room };
                    self.apply.loading = Some(load);
                    out.loads.push(load);
                }
            }
        }
    }

    /// Entries that the disk was asked for. They are committed: a change of term meanwhile does not matter.
    pub(super) fn loaded_for_apply(&mut self, entries: Vec<Entry>, out: &mut Output) {
        self.apply.loading = None;
        self.apply.hand(entries, out);
        self.hand_out(out);
    }

    /// The state machine has applied up to `index`.
    pub(super) fn applied_up_to(&mut self, index: Index, out: &mut Output) {
        self.apply.applied(index);
        self.hand_out(out);
    }

    /// Drops cached entries beyond the budget; what is not durable cannot be read back and stays.
    pub(super) fn shrink_cache(&mut self) {
        self.log.shrink_cache(self.config.limits.cache_bytes, self.disk.durable());
    }
}
