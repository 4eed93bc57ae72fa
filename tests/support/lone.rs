//! One core on a bench, with its disk and its clock in the tester's hands.

use bytes::Bytes;
use tenure::config::CoreConfig;
use tenure::config::Priority;
use tenure::core::{
    Change, ChangeAnswer, ChangeId, Consistency, Core, Event, Input, Install, Load, Output, Proposed, ReadAnswer,
    ReadId, RoleKind, TransferAnswer, TransferId,
};
use tenure::log::{Entry, EntryKind, HardState, LogSlice};
use tenure::message::{
    Abdicate, AppendEntries, AppendOutcome, AppendResponse, Body, Message, Verdict, VoteRequest, VoteResponse,
};
use tenure::quorum::Configuration;
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, GroupId, Index, NodeId, RoundId, Term};

use super::disk::Disk;

pub const GROUP: GroupId = GroupId(1);
/// `E` of every test, in ms.
pub const E: u64 = 1000;

pub fn voters(count: u64) -> Configuration {
    Configuration::of_voters((1..=count).map(NodeId)).unwrap()
}

pub fn command(index: u64, term: u64) -> Entry {
    Entry { id: EntryId::new(index, term), kind: EntryKind::Command, payload: Bytes::from(format!("c{index}@{term}")) }
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Node 1 of a group, alone with messages that the test writes.
pub struct Lone {
    pub core: Core,
    pub now: Instant,
    pub disk: Disk,
    /// Whether writes become durable within the step that asks for them.
    pub prompt_disk: bool,
    /// Whether entries are read within the step that asks for them; else the tester answers `waiting_loads`.
    pub prompt_loads: bool,
    pub waiting_loads: Vec<Load>,
    pub events: Vec<Event>,
    pub applied: Vec<Entry>,
    pub reads: Vec<ReadAnswer>,
    pub transfers: Vec<TransferAnswer>,
    pub changes: Vec<ChangeAnswer>,
    /// Snapshots that it wants.
    pub installs: Vec<Install>,
    pub loads: u64,
    pub writes: u64,
}

impl Lone {
    /// Node 1 of a group of `count` voters, founded just now.
    pub fn of(count: u64) -> Self {
        Self::start(config(|_| ()), Disk::founded(voters(count)))
    }

    /// Node 1 of three, restarted long ago: `terms` are the terms of entries 2.. of its log.
    pub fn with_log(term: u64, terms: &[u64]) -> Self {
        let hard_state = HardState { term: Term(term), vote: None, longest_promise: ms(E) };
        let mut lone = Self::start(config(|_| ()), Disk::with_history(voters(3), hard_state, terms));
        lone.now = lone.now + ms(E);
        lone
    }

    pub fn start(config: CoreConfig, disk: Disk) -> Self {
        Self::start_with(config, disk, true)
    }

    pub fn start_with(config: CoreConfig, disk: Disk, prompt_disk: bool) -> Self {
        Self::start_at(Instant::ZERO + Duration::from_secs(1000), config, disk, prompt_disk)
    }

    fn start_at(now: Instant, config: CoreConfig, disk: Disk, prompt_disk: bool) -> Self {
        let mut out = Output::new();
        let core = Core::new(config, disk.restore(disk.base().index), now, &mut out).unwrap();
        let mut lone = Self {
            core,
            now,
            disk,
            prompt_disk,
            prompt_loads: true,
            waiting_loads: Vec::new(),
            events: Vec::new(),
            applied: Vec::new(),
            reads: Vec::new(),
            transfers: Vec::new(),
            changes: Vec::new(),
            installs: Vec::new(),
            loads: 0,
            writes: 0,
        };
        lone.carry_out(out);
        lone
    }

    /// The same disk after a crash and a restart.
    pub fn restart(mut self) -> Self {
        self.disk.crash();
        Self::start_at(self.now, self.core.config().clone(), self.disk, true)
    }

    pub fn step(&mut self, input: Input) -> Vec<Message> {
        let mut out = Output::new();
        let at_deadline = matches!(input, Input::Deadline);
        self.core.step(self.now, input, &mut out);
        let next = self.core.next_deadline();
        assert!(!at_deadline || next.is_none_or(|next| next > self.now), "a timer that fired is over");
        self.carry_out(out)
    }

    fn carry_out(&mut self, mut out: Output) -> Vec<Message> {
        let mut sent = Vec::new();
        loop {
            self.core.check_invariants().unwrap();
            sent.append(&mut out.messages);
            self.events.append(&mut out.events);
            self.reads.append(&mut out.reads);
            self.transfers.append(&mut out.transfers);
            self.changes.append(&mut out.changes);
            self.installs.extend(out.install.take());
            self.writes += out.writes.len() as u64;
            self.disk.pending.extend(out.writes.drain(..));
            for load in std::mem::take(&mut out.loads) {
                self.loads += 1;
                if !self.prompt_loads {
                    self.waiting_loads.push(load);
                    continue;
                }
                let entries = Some(self.disk.read(load.first, load.last, load.max_bytes));
                self.core.step(self.now, Input::Loaded { load, entries }, &mut out);
            }
            if let Some(last) = out.apply.last().map(|entry| entry.id.index) {
                self.applied.append(&mut out.apply);
                self.core.step(self.now, Input::Applied(last), &mut out);
            }
            if self.prompt_disk
                && let Some(seq) = self.disk.sync()
            {
                self.core.step(self.now, Input::Durable(seq), &mut out);
            }
            out.proposed = None;
            if out.is_empty() {
                return sent;
            }
        }
    }

    /// The disk catches up.
    pub fn sync(&mut self) -> Vec<Message> {
        match self.disk.sync() {
            Some(seq) => self.step(Input::Durable(seq)),
            None => Vec::new(),
        }
    }

    /// The oldest write becomes durable, the others do not yet.
    pub fn sync_one(&mut self) -> Vec<Message> {
        match self.disk.sync_one() {
            Some(seq) => self.step(Input::Durable(seq)),
            None => Vec::new(),
        }
    }

    /// Lets `millis` pass, stepping at every deadline on the way.
    pub fn pass(&mut self, millis: u64) -> Vec<Message> {
        let end = self.now + ms(millis);
        let mut sent = Vec::new();
        while let Some(deadline) = self.core.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            sent.extend(self.step(Input::Deadline));
        }
        self.now = end;
        sent
    }

    /// Lets `millis` pass, a tenth of a second at a time, while `peers` answer every append.
    pub fn pass_with(&mut self, peers: &[u64], millis: u64) -> Vec<Message> {
        let mut all = Vec::new();
        for _ in 0..millis / 100 {
            let sent = self.pass(100);
            for peer in peers {
                self.accept(*peer, &sent);
            }
            all.extend(sent);
        }
        all
    }

    /// Lets time pass up to the next deadline and steps there.
    pub fn pass_to_deadline(&mut self) -> Vec<Message> {
        self.now = self.now.max(self.core.next_deadline().expect("a deadline"));
        self.step(Input::Deadline)
    }

    pub fn role(&self) -> RoleKind {
        self.core.status().role
    }

    pub fn term(&self) -> u64 {
        self.core.status().term.0
    }

    pub fn leader(&self) -> Option<u64> {
        self.core.status().leader.map(|leader| leader.0)
    }

    pub fn vote(&self) -> Option<u64> {
        self.core.status().vote.map(|vote| vote.0)
    }

    pub fn commit(&self) -> u64 {
        self.core.status().commit.0
    }

    pub fn last(&self) -> EntryId {
        self.core.status().last
    }

    pub fn deadline(&self) -> Instant {
        self.core.next_deadline().expect("a deadline")
    }

    pub fn propose(&mut self, commands: &[&'static str]) -> (Proposed, Vec<Message>) {
        let commands = commands.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        let mut out = Output::new();
        self.core.step(self.now, Input::Propose(commands), &mut out);
        let proposed = out.proposed.take().expect("an answer to the proposal");
        (proposed, self.carry_out(out))
    }

    pub fn read(&mut self, id: u64) -> Vec<Message> {
        self.read_as(id, Consistency::Linearizable)
    }

    pub fn read_as(&mut self, id: u64, consistency: Consistency) -> Vec<Message> {
        self.step(Input::Read(ReadId(id), consistency))
    }

    /// Asks to hand leadership over to a node, or to the best.
    pub fn transfer(&mut self, id: u64, target: Option<u64>) -> Vec<Message> {
        self.step(Input::Transfer(TransferId(id), target.map(NodeId)))
    }

    /// Asks for a change of the members.
    pub fn change(&mut self, id: u64, change: Change) -> Vec<Message> {
        self.step(Input::Change(ChangeId(id), change))
    }

    /// An abdication of `from` as leader of `term`.
    pub fn abdication_of(&mut self, from: u64, term: u64, successor: Option<u64>) -> Vec<Message> {
        self.receive(from, term, Body::Abdicate(Abdicate { successor: successor.map(NodeId) }))
    }

    // ---- messages from others --------------------------------------------------------------------------------------

    pub fn receive(&mut self, from: u64, term: u64, body: Body) -> Vec<Message> {
        let message = Message { group: GROUP, from: NodeId(from), to: NodeId(1), term: Term(term), body };
        self.step(Input::Received(message))
    }

    /// A pre-vote of `from`, whose term is `term`.
    pub fn pre_vote_from(&mut self, from: u64, term: u64, last: EntryId) -> Verdict {
        self.pre_vote_of_configuration(from, term, last, Index(1))
    }

    /// A pre-vote of `from`, whose latest configuration stands at `configuration`.
    pub fn pre_vote_of_configuration(&mut self, from: u64, term: u64, last: EntryId, configuration: Index) -> Verdict {
        let (round, campaign_term) = (RoundId(77), Term(term + 1));
        let request = VoteRequest { round, campaign_term, last, configuration, abdicated: None };
        self.ask_for_pre_vote(from, term, request)
    }

    fn ask_for_pre_vote(&mut self, from: u64, term: u64, request: VoteRequest) -> Verdict {
        let sent = self.receive(from, term, Body::PreVote(request));
        match sent.last().map(|message| &message.body) {
            Some(Body::PreVoteResponse(response)) => response.verdict,
            other => panic!("no answer to a pre-vote: {other:?}"),
        }
    }

    pub fn vote_from(&mut self, from: u64, term: u64, last: EntryId) -> Vec<Message> {
        let request = VoteRequest {
            round: RoundId(77),
            campaign_term: Term(term),
            last,
            configuration: Index(1),
            abdicated: None,
        };
        self.receive(from, term, Body::Vote(request))
    }

    pub fn append_from(
        &mut self,
        from: u64,
        term: u64,
        prev: EntryId,
        entries: Vec<Entry>,
        commit: u64,
    ) -> Vec<Message> {
        let slice = LogSlice::new(prev, entries).unwrap();
        // A stamp is opaque to its receiver.
        let stamp = Instant::from_nanos(self.now.as_nanos() * 3);
        let append = AppendEntries {
            stamp,
            round: RoundId(5),
            commit: Index(commit),
            rank: None,
            fresh: None,
            snapshot: false,
            slice,
        };
        self.receive(from, term, Body::AppendEntries(append))
    }

    /// A heartbeat of a leader whose log is ours.
    pub fn heartbeat_from(&mut self, from: u64, term: u64) -> Vec<Message> {
        let last = self.last();
        self.append_from(from, term, last, vec![], 0)
    }

    /// Answers every vote and pre-vote request in `sent` in the name of `voter`.
    pub fn grant(&mut self, voter: u64, sent: &[Message]) -> Vec<Message> {
        self.answer_votes(voter, sent, Verdict::Granted)
    }

    pub fn answer_votes(&mut self, voter: u64, sent: &[Message], verdict: Verdict) -> Vec<Message> {
        let term = sent.first().map_or(0, |message| message.term.0);
        self.answer_votes_in_term(voter, sent, verdict, term)
    }

    /// As [`answer_votes`](Self::answer_votes), by a voter that is in `term` itself.
    pub fn answer_votes_in_term(&mut self, voter: u64, sent: &[Message], verdict: Verdict, term: u64) -> Vec<Message> {
        let mut answers = Vec::new();
        for message in sent.iter().filter(|message| message.to == NodeId(voter)) {
            let response = |request: &VoteRequest| VoteResponse {
                round: request.round,
                campaign_term: request.campaign_term,
                verdict,
            };
            answers.extend(match &message.body {
                Body::PreVote(request) => self.receive(voter, term, Body::PreVoteResponse(response(request))),
                Body::Vote(request) => self.receive(voter, term, Body::VoteResponse(response(request))),
                _ => Vec::new(),
            });
        }
        answers
    }

    /// Answers every append in `sent` in the name of `peer`: taken and durable.
    pub fn accept(&mut self, peer: u64, sent: &[Message]) -> Vec<Message> {
        let mut answers = Vec::new();
        for (term, append) in appends_to(peer, sent) {
            let outcome = AppendOutcome::Accepted { matched: append.slice.last().index };
            answers.extend(self.answer_append(peer, term, &append, outcome));
        }
        answers
    }

    pub fn answer_append(
        &mut self,
        peer: u64,
        term: Term,
        append: &AppendEntries,
        outcome: AppendOutcome,
    ) -> Vec<Message> {
        self.answer_append_as(peer, term, append, outcome, |_| ())
    }

    /// As [`answer_append`](Self::answer_append), with something different about the answer.
    pub fn answer_append_as(
        &mut self,
        peer: u64,
        term: Term,
        append: &AppendEntries,
        outcome: AppendOutcome,
        change: impl FnOnce(&mut AppendResponse),
    ) -> Vec<Message> {
        self.receive(peer, term.0, Body::AppendResponse(answer_to(term, append, outcome, change)))
    }

    /// Elects node 1 by the grant of node 2 (and 3, of five). Returns what it sent as new leader.
    pub fn elect(&mut self) -> Vec<Message> {
        let majority = self.core.status().configuration.voters().quorum() as u64;
        let mut sent = self.stand();
        for _ in ["pre-vote", "vote"] {
            let mut answers = Vec::new();
            for voter in 2..=majority {
                answers.extend(self.grant(voter, &sent));
            }
            sent = answers;
        }
        assert_eq!(self.role(), RoleKind::Leader);
        sent
    }

    /// Lets time pass until node 1 asks for (pre-)votes.
    pub fn stand(&mut self) -> Vec<Message> {
        for _ in 0..10 {
            let sent = self.pass_to_deadline();
            if !matches!(self.role(), RoleKind::Follower) {
                return sent;
            }
        }
        panic!("never stood for election");
    }
}

/// An answer to `append`, which left in `request_term`.
pub fn answer_to(
    request_term: Term,
    append: &AppendEntries,
    outcome: AppendOutcome,
    change: impl FnOnce(&mut AppendResponse),
) -> AppendResponse {
    let mut response = AppendResponse {
        stamp: append.stamp,
        round: append.round,
        request_term,
        promise_ms: E as u32,
        // Opaque to the leader; different in every answer.
        sent: append.stamp + ms(7),
        priority: Priority::Normal,
        outcome,
    };
    change(&mut response);
    response
}

pub fn config(change: impl FnOnce(&mut CoreConfig)) -> CoreConfig {
    let mut config = CoreConfig::new(NodeId(1), GROUP, 42);
    change(&mut config);
    config
}

pub fn appends_to(peer: u64, sent: &[Message]) -> Vec<(Term, AppendEntries)> {
    let to_peer = sent.iter().filter(|message| message.to == NodeId(peer));
    to_peer
        .filter_map(|message| match &message.body {
            Body::AppendEntries(append) => Some((message.term, append.clone())),
            _ => None,
        })
        .collect()
}

pub fn vote_verdicts(sent: &[Message]) -> Vec<(NodeId, Term, Verdict)> {
    let verdict = |message: &Message| match &message.body {
        Body::VoteResponse(response) => Some((message.to, message.term, response.verdict)),
        _ => None,
    };
    sent.iter().filter_map(verdict).collect()
}

/// The outcomes of the append answers in `sent`, with the promise they carry.
pub fn append_outcomes(sent: &[Message]) -> Vec<(AppendOutcome, u32)> {
    let outcome = |message: &Message| match &message.body {
        Body::AppendResponse(response) => Some((response.outcome, response.promise_ms)),
        _ => None,
    };
    sent.iter().filter_map(outcome).collect()
}
