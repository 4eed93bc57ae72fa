//! Snapshots as the core sees them: where the log begins, and peers that need what is no longer in it (dissertation §5;
//! rows `r03`, `o19`).
//!
//! Taking, storing and fetching is somebody else's. The core is told what there is, gives up what is in it, offers it to
//! peers whose next entry is gone (an append with a flag, after the snapshot's last entry), and asks for one that it is
//! offered and lacks.

use bytes::Bytes;

use crate::core::progress::Progress;
use crate::core::role::Role;
use crate::core::{Core, Fatal, Install, Output};
use crate::log::Compaction;
use crate::quorum::Configuration;
use crate::time::Instant;
use crate::types::{EntryId, Index, NodeId};

impl Core {
    /// A snapshot up to `last` is here: what it covers is given up, but for some entries for peers that are a little
    /// behind, and more for those that are known to be on their way.
    pub(super) fn snapshot_taken(&mut self, now: Instant, last: EntryId, out: &mut Output) {
        if last.index > self.apply.applied || !self.log.contains(last) {
            return;
        }
        self.snapshot = self.snapshot.max(Some(last));
        let limits = &self.config.limits;
        let behind = |entries: usize| Index(last.index.0.saturating_sub(entries as u64));
        let (always, at_most) = (behind(limits.retained_entries), behind(limits.retained_for_peers));
        let needed = self.needed_by_peers(now).unwrap_or(always).max(at_most);
        self.compact_to(needed.min(always), out);
    }

    /// After a restart the state machine may still need some of what is in the newest snapshot.
    pub(super) fn log_too_long(&mut self, out: &mut Output) {
        if let Some(snapshot) = self.snapshot {
            self.compact_to(snapshot.index.min(self.apply.applied), out);
        }
    }

    /// Up to where every peer who answers has the log. One that is fetching a snapshot needs what is behind that, which
    /// cannot be before the log's base.
    fn needed_by_peers(&self, now: Instant) -> Option<Index> {
        let Role::Leader(leader) = &self.role else { return None };
        let promise = self.config.timing.promise();
        let answers = |peer: &&Progress| peer.contact.answered_at.is_some_and(|at| now.since(at) < promise);
        leader.peers.values().filter(answers).map(|peer| peer.match_index).min()
    }

    /// What a snapshot of the state up to `index` is to be labelled with: the last entry in it, and the configuration in
    /// use as of that entry (its index and bytes). `None` if the log does not reach back so far, or is not applied so far.
    #[must_use]
    pub fn snapshot_at(&self, index: Index) -> Option<(EntryId, (Index, Bytes))> {
        let term = self.log.term_at(index).filter(|_| index <= self.commit)?;
        let (at, configuration) = self.configurations.committed(index);
        Some((EntryId { term, index }, (at, configuration.encode())))
    }

    fn compact_to(&mut self, index: Index, out: &mut Output) {
        let Some((last, configuration)) = self.snapshot_at(index).filter(|_| index > self.log.base().index) else {
            return;
        };
        self.begin_log_behind(last);
        self.configurations.forget_before(configuration.0);
        let compaction = Compaction { last, configuration };
        self.disk.compact(compaction, out);
    }

    fn begin_log_behind(&mut self, last: EntryId) {
        self.log.compact(last);
        if let Role::Leader(leader) = &mut self.role {
            leader.peers.values_mut().for_each(|peer| peer.given_up_to(last.index));
        }
    }

    /// The state machine was replaced by a snapshot of another node. What the log holds behind it stays if the logs agree
    /// there, else all of it goes (bugs `b53`, `c10`); the configuration is the snapshot's (bug `c13`).
    pub(super) fn snapshot_installed(
        &mut self,
        now: Instant,
        last: EntryId,
        configuration: (Index, Configuration),
        out: &mut Output,
    ) {
        if let Some(ours) = self.contradiction(last) {
            return self.abdicate_and_stop(now, Fatal::SnapshotContradicts { ours, theirs: last }, out);
        }
        if last.index <= self.apply.applied {
            return;
        }
        self.snapshot = self.snapshot.max(Some(last));
        if last.term > self.hard_state.term {
            // Whoever made it was in that term.
            self.adopt_term(now, last.term, None, out);
        }
        let keeps = self.log.contains(last);
        let compaction = Compaction { last, configuration: (configuration.0, configuration.1.encode()) };
        self.begin_log_behind(last);
        if keeps {
            self.configurations.forget_before(configuration.0);
        } else {
            self.configurations.become_only(configuration);
        }
        self.disk.install(compaction, keeps, out);
        self.commit = self.commit.max(last.index);
        self.apply.jumped_to(last.index);
        self.hand_out(out);
    }

    /// The committed entry that stands where a snapshot is said to end in `last`, if it is another one: then the state machine
    /// must not be replaced by it.
    #[must_use]
    pub fn contradiction(&self, last: EntryId) -> Option<EntryId> {
        let ours = self.snapshot_at(last.index).map(|(ours, _)| ours);
        ours.filter(|ours| *ours != last)
    }

    /// Asks for the snapshot that a leader offers with an append whose `prev` is not here.
    pub(super) fn want_snapshot(&mut self, from: NodeId, last: EntryId, out: &mut Output) {
        if last.index > self.commit {
            out.install = Some(Install { from, last });
        }
    }

    /// What an append to a peer whose next entry is gone stands behind: the snapshot's last entry, and whether there is a
    /// snapshot. Without one the peer hears that somebody leads, and no more.
    pub(super) fn offer(&self) -> (EntryId, bool) {
        let end = self.snapshot.filter(|end| end.index >= self.log.base().index);
        (end.unwrap_or(self.log.base()), end.is_some())
    }
}
