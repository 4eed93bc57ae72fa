//! Replication at the leader: proposals, appends, heartbeats and their answers (dissertation §3.5, §10.2.1).

use bytes::Bytes;

use crate::core::effects::unsent_append;
use crate::core::progress::{Progress, Sent};
use crate::core::role::{Batch, Role};
use crate::core::{Core, Event, Fatal, Load, LoadPurpose, Output, ProposeError, Proposed};
use crate::log::{Entry, EntryKind, Log, LogSlice};
use crate::message::{AppendEntries, AppendOutcome, AppendResponse, Body, Message};
use crate::time::Instant;
use crate::types::{EntryId, Index, NodeId, Term};

/// Whether a peer is written to even if there is nothing new for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Urge {
    /// Only entries are worth a message.
    Entries,
    /// A heartbeat or a confirmation is due: an empty append will do.
    Always,
}

impl Core {
    // ---- proposals -------------------------------------------------------------------------------------------------

    /// Appends commands and sends them at once (row `r01`); the first that does not fit ends the batch.
    pub(super) fn propose(&mut self, now: Instant, commands: Vec<Bytes>, out: &mut Output) {
        let first = EntryId { term: self.hard_state.term, index: self.log.last().index.next() };
        let mut batch = Batch { last: Index::ZERO, entries: 0, bytes: 0 };
        let mut refused = None;
        for command in commands {
            if let Err(error) = self.room_for(&command, &batch) {
                refused = Some(error);
                break;
            }
            let id = EntryId { term: first.term, index: first.index.plus(batch.entries as u64) };
            let entry = Entry { id, kind: EntryKind::Command, payload: command };
            batch.last = id.index;
            batch.entries += 1;
            batch.bytes += entry.footprint();
            self.append(entry, out);
        }
        out.proposed = Some(Proposed { first, accepted: batch.entries, refused });
        if batch.entries > 0 {
            self.count_uncommitted(batch);
            self.write_entries_to_all(now, out);
        }
    }

    fn room_for(&self, command: &Bytes, batch: &Batch) -> Result<(), ProposeError> {
        let limits = &self.config.limits;
        let Role::Leader(leader) = &self.role else { return Err(ProposeError::NotLeader { leader: self.leader }) };
        if self.drains() {
            return Err(ProposeError::Transferring);
        }
        if command.len() > limits.command_bytes {
            return Err(ProposeError::TooLarge { bytes: command.len(), limit: limits.command_bytes });
        }
        let entries = leader.uncommitted_entries + batch.entries;
        let bytes = leader.uncommitted_bytes + batch.bytes;
        let full = entries >= limits.uncommitted_entries || bytes >= limits.uncommitted_bytes;
        if full { Err(ProposeError::Overloaded) } else { Ok(()) }
    }

    fn count_uncommitted(&mut self, batch: Batch) {
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted.push_back(batch);
            leader.uncommitted_entries += batch.entries;
            leader.uncommitted_bytes += batch.bytes;
        }
    }

    // ---- writing to peers ------------------------------------------------------------------------------------------

    /// Heartbeats that are due, and peers that have not answered for too long (rows `o17`, `l17`).
    pub(super) fn leader_timer_fired(&mut self, now: Instant, out: &mut Output) {
        if !self.still_leads(now, out) {
            return;
        }
        let timing = self.config.timing.clone();
        let Role::Leader(leader) = &mut self.role else { return };
        let mut due = Vec::new();
        for (peer, progress) in &mut leader.peers {
            let unanswered = progress.rpc_deadline(timing.rpc_timeout).is_some_and(|deadline| deadline <= now);
            if unanswered {
                progress.probe_after(progress.match_index);
            }
            if unanswered || progress.heartbeat_deadline(timing.heartbeat_interval) <= now {
                due.push(*peer);
            }
        }
        if !due.is_empty() {
            self.line_up(now);
            self.start_round(now, out);
        }
        for peer in due {
            self.write_to(peer, Urge::Always, now, out);
        }
        self.go_on_changing(now, out);
    }

    /// Writes to every peer, entries or not.
    pub(super) fn write_to_all(&mut self, now: Instant, out: &mut Output) {
        for peer in self.peers() {
            self.write_to(peer, Urge::Always, now, out);
        }
    }

    fn write_entries_to_all(&mut self, now: Instant, out: &mut Output) {
        self.line_up(now);
        for peer in self.peers() {
            self.write_to(peer, Urge::Entries, now, out);
        }
    }

    fn peers(&self) -> Vec<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.peers.keys().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// Sends a peer what its window has room for. Never waits for another peer (rows `l02`, `s03`).
    pub(super) fn write_to(&mut self, peer: NodeId, mut urge: Urge, now: Instant, out: &mut Output) {
        while let Some(progress) = self.progress(peer) {
            let next = progress.next_index;
            let entries = self.next_entries(peer, out);
            let sent_entries = !entries.is_empty();
            if sent_entries || urge == Urge::Always {
                self.send_append(peer, next, entries, now, out);
            }
            if !sent_entries || self.stopped.is_some() {
                return;
            }
            urge = Urge::Entries;
        }
    }

    /// The entries that a peer gets next; asks the disk for them if they are no longer in memory.
    fn next_entries(&mut self, peer: NodeId, out: &mut Output) -> Vec<Entry> {
        let (log, last, term) = (&self.log, self.log.last().index, self.hard_state.term);
        let Role::Leader(leader) = &mut self.role else { return Vec::new() };
        let Some(progress) = leader.peers.get_mut(&peer) else { return Vec::new() };
        let first = progress.next_index;
        if first <= log.base().index {
            return Vec::new();
        }
        let Some((max_entries, max_bytes)) = progress.room(&self.config.limits).filter(|_| first <= last) else {
            return Vec::new();
        };
        log.cached(first, last, max_entries, max_bytes).unwrap_or_else(|| {
            let last = last.min(first.plus(max_entries as u64 - 1));
            let load = Load { purpose: LoadPurpose::Peer(peer), term, first, last, max_bytes };
            progress.loading = Some(load);
            out.loads.push(load);
            Vec::new()
        })
    }

    /// Entries that the disk was asked for.
    pub(super) fn loaded_for_peer(
        &mut self,
        now: Instant,
        peer: NodeId,
        load: Load,
        entries: Vec<Entry>,
        out: &mut Output,
    ) {
        let Some(progress) = self.progress_mut(peer) else { return };
        progress.loading = None;
        if progress.next_index == load.first {
            self.send_append(peer, load.first, entries, now, out);
        }
        self.write_to(peer, Urge::Entries, now, out);
    }

    /// Sends one append that starts at `next`; joins it to one that has not left yet.
    fn send_append(&mut self, peer: NodeId, next: Index, entries: Vec<Entry>, now: Instant, out: &mut Output) {
        let index = next.previous();
        let (prev, entries, snapshot) = match self.log.term_at(index) {
            Some(term) => (EntryId { term, index }, entries, false),
            None => {
                let (end, snapshot) = self.offer();
                (end, Vec::new(), snapshot)
            }
        };
        let Ok(slice) = LogSlice::new(prev, entries) else {
            // What came back from the disk is not what was written there.
            return self.abdicate_and_stop(now, Fatal::LogFailed, out);
        };
        let (term, commit, rank) = (self.hard_state.term, self.commit, self.rank_of(peer));
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        let fresh = progress.contact.fresh;
        let mut sent = Sent { last: slice.last().index, entries: slice.len(), bytes: slice.bytes(), stamp: now };
        let limits = &self.config.limits;
        let unsent = unsent_append(&mut out.messages, peer, term).filter(|unsent| {
            unsent.snapshot == snapshot
                && unsent.slice.len() + slice.len() <= limits.append_entries
                && unsent.slice.bytes() + slice.bytes() <= limits.append_bytes
        });
        let slice = match unsent {
            Some(unsent) => match unsent.slice.join(slice) {
                Ok(()) => {
                    (unsent.round, unsent.commit, unsent.rank, unsent.fresh) = (leader.round, commit, rank, fresh);
                    // It counts from when the first part was stamped: earlier is safe (rule `p00`).
                    sent.stamp = unsent.stamp;
                    return progress.joined(sent, now);
                }
                Err(apart) => apart,
            },
            None => slice,
        };
        progress.sent(sent, now);
        let append = AppendEntries { stamp: now, round: leader.round, commit, rank, fresh, snapshot, slice };
        self.send(peer, Body::AppendEntries(append), out);
    }

    // ---- answers ---------------------------------------------------------------------------------------------------

    /// Row `s05`: an answer counts only for the term in which its request left, and match never goes back.
    pub(super) fn on_append_response(
        &mut self,
        now: Instant,
        message: &Message,
        answer: AppendResponse,
        out: &mut Output,
    ) {
        let from = message.from;
        if !matches!(self.role, Role::Leader(_)) || answer.request_term != self.hard_state.term {
            self.counters.stale_answers += 1;
            return;
        }
        if self.progress(from).is_none() {
            return;
        }
        if !self.asked(now, &answer) {
            self.counters.misdirected += 1;
            return;
        }
        if message.term > self.hard_state.term {
            // Whoever is on the way out deposes nobody (rule `p12`).
            if self.configuration().is_member(from) {
                self.higher_term_at_peer(now, message.term, out);
            }
            return;
        }
        match answer.outcome {
            AppendOutcome::OldTerm => self.counters.misdirected += 1,
            AppendOutcome::Accepted { matched } => self.on_accepted(now, from, answer, matched, out),
            AppendOutcome::Mismatch { prev, last, conflict } => {
                self.on_mismatch(now, from, answer, Rejection { prev, last, conflict }, out);
            }
        }
        self.answer_confirmed_reads(now, out);
        self.hand_over_if_ready(now, out);
        self.go_on_changing(now, out);
    }

    /// A member has seen a newer term. As long as the majority is still ours it is the member that is stranded: to bring it
    /// back this node campaigns in a term above both, at most once per `E`; as the leader promised to, it is not refused
    /// (rule `p12`). Otherwise somebody else may lead: it steps down.
    fn higher_term_at_peer(&mut self, now: Instant, term: Term, out: &mut Output) {
        if self.leads_until(now).is_none_or(|until| until <= now) || self.obstacle(now).is_some() {
            return self.adopt_term(now, term, None, out);
        }
        let e = self.config.timing.promise();
        if self.rescued_at.is_some_and(|last| now < last + e) {
            return;
        }
        self.rescued_at = Some(now);
        self.counters.rescues += 1;
        self.adopt_term(now, term, None, out);
        self.become_candidate(now, out);
    }

    /// Whether an answer echoes what this leader may have sent: a stamp from the future would protect it for ever.
    fn asked(&self, now: Instant, answer: &AppendResponse) -> bool {
        match &self.role {
            Role::Leader(leader) => answer.stamp <= now && answer.round <= leader.round,
            _ => false,
        }
    }

    fn on_accepted(&mut self, now: Instant, from: NodeId, answer: AppendResponse, matched: Index, out: &mut Output) {
        if matched > self.log.last().index {
            self.counters.misdirected += 1;
            return;
        }
        self.heard(now, from, &answer);
        if let Some(progress) = self.progress_mut(from) {
            progress.accepted(matched, answer.stamp, now);
        }
        self.note_lesson(now, from);
        self.commit_by_quorum(now, out);
        self.write_to(from, Urge::Entries, now, out);
    }

    fn on_mismatch(
        &mut self,
        now: Instant,
        from: NodeId,
        answer: AppendResponse,
        rejection: Rejection,
        out: &mut Output,
    ) {
        self.heard(now, from, &answer);
        let log = &self.log;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        let matched = progress.match_index;
        if progress.proves_loss(rejection.last.index, answer.stamp) {
            progress.lost_tail(rejection.last.index, answer.stamp);
            self.counters.tails_lost += 1;
            out.events.push(Event::TailLost { peer: from, matched, last: rejection.last.index });
        } else if progress.rejection_counts(rejection.prev) || rejection.ends_an_offer(log, progress.next_index) {
            progress.probe_after(rejection.retry_after(log));
        } else {
            return;
        }
        self.write_to(from, Urge::Always, now, out);
    }

    /// Notes what an answer proves about its sender, and about the freshness of earlier ones.
    fn heard(&mut self, now: Instant, from: NodeId, answer: &AppendResponse) {
        let promised_until = self.promised_until(answer);
        if let Some(progress) = self.progress_mut(from) {
            progress.contact.heard(now, answer, promised_until);
        }
        let confirmed = self.quorum_was_here(now).filter(|_| self.committed_in_term());
        if let Some(confirmed) = confirmed
            && let Role::Leader(leader) = &mut self.role
        {
            leader.peers.values_mut().for_each(|peer| peer.contact.confirmed(confirmed));
        }
        if let Some(progress) = self.progress_mut(from) {
            progress.contact.await_confirmation(now, answer.sent);
        }
    }

    pub(super) fn progress(&self, peer: NodeId) -> Option<&Progress> {
        match &self.role {
            Role::Leader(leader) => leader.peers.get(&peer),
            _ => None,
        }
    }

    fn progress_mut(&mut self, peer: NodeId) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Leader(leader) => leader.peers.get_mut(&peer),
            _ => None,
        }
    }
}

/// A rejected append.
struct Rejection {
    prev: Index,
    last: EntryId,
    conflict: Option<(Term, Index)>,
}

impl Rejection {
    /// Whether a peer whose next entry was gone, so that it was offered a snapshot, has come as far as the log reaches back:
    /// by an older one, or by another leader. It can go on without the one that is offered now.
    fn ends_an_offer(&self, log: &Log, next: Index) -> bool {
        let base = log.base().index;
        next <= base && self.retry_after(log) >= base
    }

    /// The index after which to try next: one round per conflicting term on either side (row `r02`, bug `b30`).
    fn retry_after(&self, log: &Log) -> Index {
        let agree = match self.conflict {
            // Its log ends early: at its last entry at best, or before what we have of newer terms.
            None => log.last_index_up_to_term(self.last.term).min(self.last.index),
            Some((term, first)) => {
                let ours = log.last_index_up_to_term(term).min(self.prev);
                let we_have_that_term = log.term_at(ours) == Some(term) && ours >= first;
                if we_have_that_term { ours } else { ours.min(first.previous()) }
            }
        };
        agree.min(self.prev.previous())
    }
}
