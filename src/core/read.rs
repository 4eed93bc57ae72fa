//! Reads at the leader (dissertation §6.4): up to where must the state machine be before it may be read?
//!
//! A linearizable read takes the commit index and waits until a quorum has answered a message that left after the read
//! came. A round of such messages has a number made here, never reused, so no late answer of an earlier one can confirm a
//! later read (bug `b71`). Reads that come while a round is on its way wait together for the next; those that come
//! before its messages have left the buffer still join it. A lease spares the round (rule `p07`, see `lease`); what
//! followers do is in `forward`.

use std::collections::VecDeque;

use crate::core::effects::unsent_append;
use crate::core::fingerprint::project;
use crate::core::role::Role;
use crate::core::{Consistency, Core, Output, ReadAnswer, ReadError, ReadId};
use crate::message::{Body, ReadIndex, ReadIndexResponse};
use crate::time::{Duration, Instant};
use crate::types::{Index, NodeId, RoundId, Term};

/// The reads a leader has not answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// Rounds on their way, oldest first, with those whom each confirms.
    confirming: VecDeque<Confirmation>,
    /// Those who wait for a round to begin: for one on its way to end, or for the first commit of the term (bug `b70`).
    queued: Vec<Reader>,
    /// How many both are.
    waiting: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Confirmation {
    round: RoundId,
    /// The commit index when the round began.
    index: Index,
    readers: Vec<Reader>,
}

project!(Reads { confirming, queued, waiting });
project!(Confirmation { round, index, readers });

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Here(ReadId),
    /// A follower, on behalf of its readers.
    Peer(NodeId, RoundId),
}

impl Reads {
    fn push(&mut self, reader: Reader) {
        self.queued.push(reader);
        self.waiting += 1;
    }

    /// The readers of a round that is over, and what they may read.
    fn take_confirmed(&mut self, confirmed: RoundId) -> Option<(Index, Vec<Reader>)> {
        let Confirmation { index, readers, .. } = self.confirming.pop_front_if(|oldest| oldest.round <= confirmed)?;
        self.waiting -= readers.len();
        Some((index, readers))
    }

    /// The newest round that somebody waits for, for checks.
    pub(super) fn newest_round(&self) -> Option<RoundId> {
        self.confirming.back().map(|confirmation| confirmation.round)
    }

    fn take_all(&mut self) -> Vec<Reader> {
        self.waiting = 0;
        let confirming = self.confirming.drain(..).flat_map(|confirmation| confirmation.readers);
        confirming.chain(self.queued.drain(..)).collect()
    }
}

impl Core {
    pub(super) fn read(&mut self, now: Instant, id: ReadId, consistency: Consistency, out: &mut Output) {
        let known = match consistency {
            Consistency::Local => Some(self.apply.applied),
            Consistency::Follower(max_staleness) => {
                let known = self.known_within(now, max_staleness);
                self.counters.stale_reads += u64::from(known.is_some());
                known
            }
            Consistency::Lease if self.holds_lease(now) => {
                self.counters.lease_reads += 1;
                Some(self.commit)
            }
            Consistency::Lease | Consistency::Linearizable => None,
        };
        match (known, &self.role) {
            (Some(index), _) => out.reads.push(ReadAnswer { id, result: Ok(index) }),
            (None, Role::Leader(_)) => self.await_confirmation(now, Reader::Here(id), out),
            (None, _) => self.forward_read(now, id, consistency == Consistency::Lease, out),
        }
    }

    /// An index that covers everything acknowledged longer than `max_staleness` ago, if this node knows one.
    fn known_within(&self, now: Instant, max_staleness: Duration) -> Option<Index> {
        let (since, index) = match &self.role {
            Role::Leader(_) if self.committed_in_term() => (self.quorum_was_here(now)?, self.commit),
            _ => self.fresh?,
        };
        // Nobody knows how long ago it was what a clock said before it jumped (rule `p16`).
        let measured = since >= self.unbroken_since && now.since(since) <= max_staleness;
        // What is not here yet may be long in coming.
        (measured && index <= self.commit).then_some(index)
    }

    /// A follower asks for its readers. Nobody asks a leader of an older term, and who is no member gets no entries to
    /// read.
    pub(super) fn on_read_index(&mut self, now: Instant, from: NodeId, term: Term, ask: ReadIndex, out: &mut Output) {
        let reader = Reader::Peer(from, ask.round);
        let member = self.configuration().is_member(from);
        if !matches!(self.role, Role::Leader(_)) || term != self.hard_state.term || !member {
            let response = ReadIndexResponse { round: ask.round, request_term: term, index: None };
            self.send(from, Body::ReadIndexResponse(response), out);
        } else if ask.lease && self.holds_lease(now) {
            self.answer(reader, Ok(self.commit), out);
        } else {
            self.await_confirmation(now, reader, out);
        }
    }

    fn await_confirmation(&mut self, now: Instant, reader: Reader, out: &mut Output) {
        let limit = self.config.limits.waiting_reads;
        match &mut self.role {
            Role::Leader(leader) if leader.reads.waiting < limit => leader.reads.push(reader),
            _ => return self.answer(reader, Err(ReadError::Overloaded), out),
        }
        self.start_round_if_due(now, out);
    }

    /// Starts the next round if there is somebody for it, the term has a commit, and no other round is on its way.
    pub(super) fn start_round_if_due(&mut self, now: Instant, out: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.reads.confirming.is_empty() || self.round_has_not_left(out) {
            self.start_round(now, out);
        }
    }

    /// Whether the messages of the newest round are still in the buffer: they can carry a newer one instead.
    fn round_has_not_left(&self, out: &mut Output) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let term = self.hard_state.term;
        leader.peers.keys().all(|peer| unsent_append(&mut out.messages, *peer, term).is_some())
    }

    /// Asks a quorum on behalf of everybody who is queued. Called at each heartbeat as well: the round on its way may
    /// have been lost.
    pub(super) fn start_round(&mut self, now: Instant, out: &mut Output) {
        if !self.committed_in_term() {
            return;
        }
        let shares_messages = self.round_has_not_left(out);
        let Role::Leader(leader) = &mut self.role else { return };
        let readers = std::mem::take(&mut leader.reads.queued);
        if readers.is_empty() {
            return;
        }
        self.counters.read_rounds += u64::from(!shares_messages);
        self.next_round = self.next_round.next();
        leader.round = self.next_round;
        leader.reads.confirming.push_back(Confirmation { round: leader.round, index: self.commit, readers });
        self.write_to_all(now, out);
        self.answer_confirmed_reads(now, out);
    }

    /// Answers the reads whose round a quorum of voters has echoed; learners do not count (bug `b74`).
    pub(super) fn answer_confirmed_reads(&mut self, now: Instant, out: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.reads.confirming.is_empty() {
            return;
        }
        let confirmed = self.configuration().reached(|voter| match leader.peers.get(&voter) {
            Some(peer) => peer.contact.round,
            None if voter == self.config.id => leader.round,
            None => RoundId(0),
        });
        while let Role::Leader(leader) = &mut self.role
            && let Some((index, readers)) = leader.reads.take_confirmed(confirmed)
        {
            for reader in readers {
                self.answer(reader, Ok(index), out);
            }
        }
        self.start_round_if_due(now, out);
    }

    fn answer(&mut self, reader: Reader, result: Result<Index, ReadError>, out: &mut Output) {
        match reader {
            Reader::Here(id) => out.reads.push(ReadAnswer { id, result }),
            Reader::Peer(node, round) => {
                self.counters.forwarded_reads += u64::from(result.is_ok());
                let response = ReadIndexResponse { round, request_term: self.hard_state.term, index: result.ok() };
                self.send(node, Body::ReadIndexResponse(response), out);
            }
        }
    }

    /// Leadership ends: whoever waits is told (bug `b74`).
    pub(super) fn refuse_reads(&mut self, error: ReadError, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role {
            for reader in leader.reads.take_all() {
                self.answer(reader, Err(error), out);
            }
        }
        self.refuse_forwarded(error, out);
    }
}
