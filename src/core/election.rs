//! Elections: pre-vote (dissertation §9.6), vote (§3.4, §3.6.1), and the timers that start and end them.

use bytes::Bytes;

use crate::core::role::{Candidate, Follower, Leader, PreCandidate, Role};
use crate::core::round::{Mandate, Round};
use crate::core::standing::Obstacle;
use crate::core::{ChangeError, Core, Event, Output, ReadError, TransferError};
use crate::log::{Entry, EntryKind};
use crate::message::{Body, Message, Refusal, Verdict, VoteRequest, VoteResponse};
use crate::quorum::Tally;
use crate::time::Instant;
use crate::types::{EntryId, Index, NodeId, Term};

impl Core {
    // ---- timers ----------------------------------------------------------------------------------------------------

    /// The election timer fired (row `o02`): this node stands, unless something forbids it (rule `p14`).
    pub(super) fn election_timer_fired(&mut self, now: Instant, out: &mut Output) {
        self.held_back = self.obstacle(now);
        match self.held_back {
            Some(Obstacle::Promised { until, .. }) => {
                let deadline = until + self.short_timeout();
                self.set_election_deadline(deadline);
            }
            Some(_) => {
                // It does not stand, but it has waited long enough for this leader.
                let deadline = now + self.election_timeout();
                self.become_follower(None, deadline, out);
            }
            None if self.configuration().is_sole_voter(self.config.id) => self.become_candidate(now, out),
            None => self.become_pre_candidate(now, out),
        }
    }

    pub(super) fn restart_election_timer(&mut self, now: Instant) {
        if matches!(self.role, Role::Follower(_)) {
            let deadline = now + self.election_timeout();
            self.set_election_deadline(deadline);
        }
    }

    fn set_election_deadline(&mut self, deadline: Instant) {
        if let Role::Follower(follower) = &mut self.role {
            follower.election_deadline = deadline;
        }
    }

    // ---- changes of role -------------------------------------------------------------------------------------------

    /// Follower from now on, of `leader` if it is known. Within a term this leaves the vote alone (row `l19`).
    ///
    /// Whoever led until now leads no more before anything else can be said: the lease is void, and those who waited for
    /// this leader are told (rule `p08`).
    pub(super) fn become_follower(&mut self, leader: Option<NodeId>, election_deadline: Instant, out: &mut Output) {
        if matches!(self.role, Role::Leader(_)) {
            self.lease_epoch += 1;
            self.refuse_reads(ReadError::NotLeader { leader }, out);
            self.give_up_transfer(TransferError::LeadershipLost, out);
            self.give_up_change(ChangeError::LeadershipLost, out);
        }
        self.last_round = self.round_report().or_else(|| self.last_round.take());
        self.disk.withdraw_vote_requests();
        self.leader = leader;
        self.role = Role::Follower(Follower { election_deadline, verified: Index::ZERO, owed: None });
    }

    /// Takes part in a newer term, with its leader if that is who told us: no vote yet. A follower's timer runs on (row
    /// `l03`), another role's dies with it.
    pub(super) fn adopt_term(&mut self, now: Instant, term: Term, leader: Option<NodeId>, out: &mut Output) {
        debug_assert!(term > self.hard_state.term, "terms only rise");
        let deadline = match &self.role {
            Role::Follower(follower) => follower.election_deadline,
            // Its election timer had run out, and a newer term is no sign of a leader.
            Role::PreCandidate(_) => now + self.short_timeout(),
            Role::Candidate(_) | Role::Leader(_) => now + self.election_timeout(),
        };
        self.become_follower(leader, deadline, out);
        self.hard_state.term = term;
        self.hard_state.vote = None;
        self.save_hard_state(out);
    }

    /// Asks around, changing nothing that lasts: neither term nor vote (row `o03`).
    fn become_pre_candidate(&mut self, now: Instant, out: &mut Output) {
        self.counters.pre_vote_rounds += 1;
        self.leader = None;
        let term = self.hard_state.term;
        let mut round = Round::new(self.vote_request(term.next()), term);
        round.record(self.config.id, Verdict::Granted);
        self.ask_voters(Body::PreVote(round.request()), out);
        let pre_vote_deadline = now + self.config.timing.pre_vote_timeout;
        self.role = Role::PreCandidate(PreCandidate { pre_vote_deadline, round });
        self.count_pre_votes(now, out);
    }

    /// Stands for election in the next term (rows `o09`, `o10`). The requests wait inside until term and vote are
    /// durable, and only then does the own vote count.
    pub(super) fn become_candidate(&mut self, now: Instant, out: &mut Output) {
        self.counters.elections += 1;
        self.leader = None;
        self.hard_state.term = self.hard_state.term.next();
        self.hard_state.vote = Some(self.config.id);
        self.save_hard_state(out);
        let term = self.hard_state.term;
        let round = Round::new(self.vote_request(term), term);
        self.ask_voters(Body::Vote(round.request()), out);
        let vote_deadline = now + self.config.timing.vote_timeout;
        self.role = Role::Candidate(Candidate { vote_deadline, round, own_vote: self.disk.hard_state_seq() });
    }

    /// Leads the term it has a mandate for (row `o16`): opens it with a no-op and writes to every peer at once.
    fn become_leader(&mut self, now: Instant, mandate: &Mandate, out: &mut Output) {
        debug_assert_eq!(mandate.term, self.hard_state.term, "a mandate is used in the step in which it is won");
        self.counters.elections_won += 1;
        (self.rank, self.held_back, self.last_round) = (None, None, None);
        self.leader = Some(self.config.id);
        let opened = EntryId { term: mandate.term, index: self.log.last().index.next() };
        let peers = self.configuration().members().into_iter().filter(|member| *member != self.config.id);
        self.role = Role::Leader(Leader::new(now, opened, self.next_round, peers));
        self.append(Entry { id: opened, kind: EntryKind::Noop, payload: Bytes::new() }, out);
        self.write_to_all(now, out);
    }

    // ---- asking ----------------------------------------------------------------------------------------------------

    fn vote_request(&mut self, campaign_term: Term) -> VoteRequest {
        self.next_round = self.next_round.next();
        VoteRequest {
            round: self.next_round,
            campaign_term,
            last: self.log.last(),
            configuration: self.configurations.index_in_use(),
            abdicated: self.abdicated,
        }
    }

    fn ask_voters(&mut self, body: Body, out: &mut Output) {
        for member in self.configuration().members() {
            if member != self.config.id && self.configuration().is_voter(member) {
                self.send(member, body.clone(), out);
            }
        }
    }

    // ---- being asked -----------------------------------------------------------------------------------------------

    /// A pre-vote request never changes the receiver's term, vote, role or timer (rows `o04`-`o06`).
    pub(super) fn on_pre_vote(&mut self, now: Instant, from: NodeId, request: VoteRequest, out: &mut Output) {
        let refusal = if request.campaign_term < self.hard_state.term {
            Some(Refusal::OldTerm)
        } else {
            // Whoever was removed is to know that, and not that there is a leader.
            self.membership_refusal(from, &request)
                .or_else(|| self.refusal(now, from, &request))
                .or_else(|| self.log_refusal(&request))
                .or_else(|| self.disk_stalls(now).then_some(Refusal::CannotVote))
        };
        let response = answer(&request, refusal);
        self.send(from, Body::PreVoteResponse(response), out);
    }

    /// A vote request (rows `o11`-`o13`). A promise refuses it before its term is looked at.
    pub(super) fn on_vote(&mut self, now: Instant, from: NodeId, request: VoteRequest, out: &mut Output) {
        let refusal = if request.campaign_term < self.hard_state.term {
            Some(Refusal::OldTerm)
        } else if let Some(promised) = self.refusal(now, from, &request) {
            Some(promised)
        } else {
            if request.campaign_term > self.hard_state.term {
                self.adopt_term(now, request.campaign_term, None, out);
            }
            self.vote_refusal(from, &request)
        };
        if refusal.is_none() {
            self.grant(now, from, out);
        }
        let response = answer(&request, refusal);
        self.send(from, Body::VoteResponse(response), out);
    }

    /// One vote per term (row `l19`), and only for a log at least as new as ours.
    fn vote_refusal(&self, from: NodeId, request: &VoteRequest) -> Option<Refusal> {
        match self.hard_state.vote {
            Some(other) if other != from => Some(Refusal::AlreadyVoted(other)),
            _ => self.log_refusal(request),
        }
    }

    /// The asker's configuration, or a newer one, is committed, and the asker is no voter in it (rule `p14`). Real votes
    /// are never refused for that.
    fn membership_refusal(&self, asker: NodeId, request: &VoteRequest) -> Option<Refusal> {
        let (configuration, committed) = self.configurations.committed(self.commit);
        let removed = configuration >= request.configuration && !committed.is_voter(asker);
        removed.then_some(Refusal::Removed { configuration })
    }

    fn log_refusal(&self, request: &VoteRequest) -> Option<Refusal> {
        let last = self.log.last();
        (last > request.last).then_some(Refusal::LogBehind { last })
    }

    /// Gives the vote, or gives it again. The answer waits until the vote is durable.
    fn grant(&mut self, now: Instant, candidate: NodeId, out: &mut Output) {
        if self.hard_state.vote != Some(candidate) {
            self.hard_state.vote = Some(candidate);
            self.save_hard_state(out);
        }
        if matches!(self.role, Role::Follower(_)) {
            self.restart_election_timer(now);
        } else {
            let deadline = now + self.election_timeout();
            self.become_follower(None, deadline, out);
        }
    }

    // ---- counting --------------------------------------------------------------------------------------------------

    /// Row `o07`.
    pub(super) fn on_pre_vote_response(
        &mut self,
        now: Instant,
        message: &Message,
        answer: VoteResponse,
        out: &mut Output,
    ) {
        match &mut self.role {
            Role::PreCandidate(candidate) if candidate.round.awaits(&answer, self.hard_state.term) => {
                candidate.round.record(message.from, answer.verdict);
            }
            _ => return self.counters.stale_answers += 1,
        }
        if self.higher_term_ends_round(now, message, answer, out) {
            return;
        }
        self.count_pre_votes(now, out);
    }

    fn count_pre_votes(&mut self, now: Instant, out: &mut Output) {
        let Role::PreCandidate(candidate) = &self.role else { return };
        if candidate.round.removed(self.configuration()) {
            self.removed = true;
            out.events.push(Event::Removed);
        }
        match candidate.round.tally(self.configuration()) {
            Tally::Won => self.become_candidate(now, out),
            Tally::Lost => self.round_lost(now, out),
            Tally::Open => {}
        }
    }

    /// Row `o14`.
    pub(super) fn on_vote_response(&mut self, now: Instant, message: &Message, answer: VoteResponse, out: &mut Output) {
        match &mut self.role {
            Role::Candidate(candidate) if candidate.round.awaits(&answer, self.hard_state.term) => {
                candidate.round.record(message.from, answer.verdict);
            }
            _ => return self.counters.stale_answers += 1,
        }
        if self.higher_term_ends_round(now, message, answer, out) {
            return;
        }
        self.count_votes(now, out);
    }

    /// The own vote counts once it is durable (row `o10`, bug `b11`).
    pub(super) fn own_vote_durable(&mut self, now: Instant, out: &mut Output) {
        let id = self.config.id;
        if let Role::Candidate(candidate) = &mut self.role
            && self.disk.is_durable(candidate.own_vote)
            && !candidate.round.has_ballot_of(id)
        {
            candidate.round.record(id, Verdict::Granted);
            self.count_votes(now, out);
        }
    }

    fn count_votes(&mut self, now: Instant, out: &mut Output) {
        let Role::Candidate(candidate) = &self.role else { return };
        if let Some(mandate) = candidate.round.mandate(self.configuration()) {
            self.become_leader(now, &mandate, out);
        } else if candidate.round.tally(self.configuration()) == Tally::Lost {
            self.round_lost(now, out);
        }
    }

    /// A responder that has seen a newer term ends the round: this node follows in that term (bugs `b04`, `b05`, `c20`).
    fn higher_term_ends_round(
        &mut self,
        now: Instant,
        message: &Message,
        answer: VoteResponse,
        out: &mut Output,
    ) -> bool {
        if let Verdict::Refused(reason) = answer.verdict {
            out.events.push(Event::Refused { by: message.from, reason });
        }
        let newer = message.term > self.hard_state.term;
        if newer {
            self.adopt_term(now, message.term, None, out);
        }
        newer
    }

    /// The round can no longer win (rule `p13`), or its timer fired (rows `o08`, `o15`): wait until promises that lost it
    /// have ended, else draw a new timeout.
    pub(super) fn round_lost(&mut self, now: Instant, out: &mut Output) {
        let wait = match &self.role {
            Role::PreCandidate(PreCandidate { round, .. }) | Role::Candidate(Candidate { round, .. }) => {
                round.promises_end_in(self.configuration())
            }
            Role::Follower(_) | Role::Leader(_) => None,
        };
        let timeout = match wait {
            // Whatever the others say, this node stands again in time.
            Some(wait) => wait.min(self.config.timing.election_timeout_max) + self.short_timeout(),
            None => {
                // Its place did not help: next time it takes its chance like anybody else.
                self.rank = None;
                self.random_election_timeout()
            }
        };
        self.become_follower(None, now + timeout, out);
    }
}

fn answer(request: &VoteRequest, refusal: Option<Refusal>) -> VoteResponse {
    let verdict = refusal.map_or(Verdict::Granted, Verdict::Refused);
    VoteResponse { round: request.round, campaign_term: request.campaign_term, verdict }
}
