//! AppendEntries at the receiver: heartbeat, log check, append, commit (dissertation §3.5; rows `o18`-`o20`, `r02`).

use crate::core::role::{Owed, Role};
use crate::core::{Core, Event, Fatal, Output};
use crate::log::LogSlice;
use crate::message::{AppendEntries, AppendOutcome, AppendResponse, Body, Stamp};
use crate::time::Instant;
use crate::types::{EntryId, Index, NodeId, RoundId, Term};

impl Core {
    pub(super) fn on_append_entries(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        append: AppendEntries,
        out: &mut Output,
    ) {
        if term < self.hard_state.term {
            let echo = Echo { stamp: append.stamp, round: append.round, term };
            return self.answer_append(now, from, echo, AppendOutcome::OldTerm, out);
        }
        if let Some(other) = self.other_leader(from, term) {
            return self.stop(Fatal::TwoLeaders { term, one: other, other: from }, out);
        }
        if term > self.hard_state.term {
            self.adopt_term(now, term, Some(from), out);
        }
        self.rank = append.rank;
        self.follow(now, from, out);
        self.note_freshness(now, from, &append);
        let AppendEntries { stamp, round, commit, snapshot, slice, .. } = append;
        let (echo, prev) = (Echo { stamp, round, term }, slice.prev());
        match self.take_slice(from, slice, out) {
            Ok(outcome) => {
                if let AppendOutcome::Mismatch { .. } = outcome
                    && snapshot
                {
                    self.want_snapshot(from, prev, out);
                }
                if let AppendOutcome::Accepted { .. } = outcome {
                    self.advance_commit_as_follower(commit, out);
                    self.owe_durability(echo);
                }
                self.answer_append(now, from, echo, outcome, out);
            }
            Err(fatal) => self.stop(fatal, out),
        }
    }

    /// Another node that leads, or led, this very term: votes were given twice (row `o20`).
    fn other_leader(&self, from: NodeId, term: Term) -> Option<NodeId> {
        let promised = self.promise.filter(|promise| promise.term == term).and_then(|promise| promise.leader);
        let abdicated = self.abdicated.filter(|token| token.term == term).map(|token| token.leader);
        let known = self.leader.or(promised).or(abdicated).filter(|_| term == self.hard_state.term);
        known.filter(|leader| *leader != from)
    }

    /// Accepts `leader` as the leader of the current term: follows it, restarts the election timer, promises. One that
    /// has abdicated is not followed any more, although its last entries are taken (rule `p09`).
    fn follow(&mut self, now: Instant, leader: NodeId, out: &mut Output) {
        if self.has_abdicated(leader, self.hard_state.term) {
            return;
        }
        let follows = matches!(self.role, Role::Follower(_)) && self.leader == Some(leader);
        if follows {
            self.restart_election_timer(now);
        } else {
            let deadline = now + self.election_timeout();
            self.become_follower(Some(leader), deadline, out);
        }
        self.abdicated = self.abdicated.filter(|token| token.term >= self.hard_state.term);
        // By its own log it is no member: what it has been told of stays true.
        self.removed &= !self.configuration().is_member(self.config.id);
        self.held_back = None;
        self.last_round = None;
        self.give_promise(now, leader);
    }

    /// Checks `prev`, removes what conflicts and appends what is new.
    fn take_slice(&mut self, leader: NodeId, slice: LogSlice, out: &mut Output) -> Result<AppendOutcome, Fatal> {
        let prev = slice.prev();
        // What is up to the base was committed: no leader has anything else there (bug `c11`).
        let base = self.log.base();
        if prev.index == base.index && prev != base {
            return Err(Fatal::CommittedOverwritten { leader, ours: base, theirs: prev });
        }
        if prev.index >= base.index && !self.log.contains(prev) {
            return Ok(self.mismatch(prev));
        }
        let slice = self.within_write_budget(slice);
        let last = slice.last().index;
        let verified = match self.log.first_missing(&slice) {
            Some(missing) => self.overwrite_from(leader, missing, slice, out)?,
            None => last,
        };
        if let Role::Follower(follower) = &mut self.role {
            follower.verified = follower.verified.max(verified);
        }
        Ok(AppendOutcome::Accepted { matched: last.min(self.disk.durable()) })
    }

    /// While the disk is far behind only the heartbeat in an append is taken; the leader sends the entries again.
    fn within_write_budget(&self, mut slice: LogSlice) -> LogSlice {
        if self.disk.pending_bytes() > self.config.limits.uncommitted_bytes {
            slice.clear();
        }
        slice
    }

    /// Replaces the log from `missing` on by the entries of `slice`; returns the last index appended.
    fn overwrite_from(
        &mut self,
        leader: NodeId,
        missing: EntryId,
        slice: LogSlice,
        out: &mut Output,
    ) -> Result<Index, Fatal> {
        let last = slice.last().index;
        if let Some(term) = self.log.term_at(missing.index) {
            let ours = EntryId { index: missing.index, term };
            self.may_truncate(leader, ours, missing)?;
            self.truncate_from(missing.index, out);
        }
        for entry in slice.into_entries().into_iter().skip_while(|entry| entry.id.index < missing.index) {
            self.append(entry, out);
            if let Some(fatal) = self.stopped {
                return Err(fatal);
            }
        }
        Ok(last)
    }

    /// What is committed stays; and a leader never overwrites what it sent itself (leader append-only).
    fn may_truncate(&self, leader: NodeId, ours: EntryId, theirs: EntryId) -> Result<(), Fatal> {
        let verified = match &self.role {
            Role::Follower(follower) => follower.verified,
            _ => Index::ZERO,
        };
        if ours.index <= self.commit {
            Err(Fatal::CommittedOverwritten { leader, ours, theirs })
        } else if ours.index <= verified {
            Err(Fatal::LeaderContradictsItself { leader, ours, theirs })
        } else {
            Ok(())
        }
    }

    fn truncate_from(&mut self, index: Index, out: &mut Output) {
        self.counters.truncations += 1;
        self.log.truncate_from(index);
        self.disk.truncate(index, out);
        out.events.push(Event::Truncated { from: index });
        if self.configurations.index_in_use() >= index {
            self.configurations.truncate_from(index);
            out.events.push(Event::Configuration { index: self.configurations.index_in_use() });
        }
    }

    /// The hint that lets the leader skip a whole term at once (row `r02`).
    fn mismatch(&self, prev: EntryId) -> AppendOutcome {
        let conflict = self.log.term_at(prev.index).zip(self.log.first_of_term_at(prev.index));
        AppendOutcome::Mismatch { prev: prev.index, last: self.log.last(), conflict }
    }

    /// Commit follows the leader's up to where the logs are known to agree, not up to whatever stands behind (bug `b28`).
    fn advance_commit_as_follower(&mut self, leader_commit: Index, out: &mut Output) {
        if let Role::Follower(follower) = &self.role {
            let verified = follower.verified;
            self.advance_commit(leader_commit.min(verified), out);
            // Otherwise more is committed than is here, and it may be a member again by that.
            if leader_commit <= verified {
                self.note_removal(out);
            }
        }
    }

    /// Notes that the entries' durability must be reported later (rule `p01`).
    fn owe_durability(&mut self, echo: Echo) {
        let durable = self.disk.durable();
        if let Role::Follower(follower) = &mut self.role {
            let owed = Owed { stamp: echo.stamp, round: echo.round, last: follower.verified };
            follower.owed = (follower.verified > durable).then_some(owed);
        }
    }

    /// More is durable: the further answer to what was appended.
    pub(super) fn report_durability(&mut self, now: Instant, out: &mut Output) {
        let durable = self.disk.durable();
        let (Role::Follower(follower), Some(leader)) = (&mut self.role, self.leader) else { return };
        let Some(owed) = follower.owed else { return };
        let matched = follower.verified.min(durable);
        if durable >= owed.last {
            follower.owed = None;
        }
        let echo = Echo { stamp: owed.stamp, round: owed.round, term: self.hard_state.term };
        self.answer_append(now, leader, echo, AppendOutcome::Accepted { matched }, out);
    }

    fn answer_append(&mut self, now: Instant, to: NodeId, echo: Echo, outcome: AppendOutcome, out: &mut Output) {
        let Echo { stamp, round, term } = echo;
        let promises = outcome != AppendOutcome::OldTerm && !self.has_abdicated(to, term);
        let promise_ms = if promises { self.promise_ms() } else { 0 };
        let (sent, priority) = (self.own_stamp(now), self.config.priority);
        let response = AppendResponse { stamp, round, request_term: term, promise_ms, sent, priority, outcome };
        self.send(to, Body::AppendResponse(response), out);
    }
}

/// What an answer repeats of its request.
#[derive(Clone, Copy)]
struct Echo {
    stamp: Stamp,
    round: RoundId,
    term: Term,
}
