//! One core, its disk and its clock, and a judge who looks at everything that comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tenure::config::CoreConfig;
use tenure::core::{
    Consistency, Core, CoreStatus, Input, LoadPurpose, Output, Restored, RoleKind, TransferAnswer, TransferId,
};
use tenure::log::{Entry, EntryKind, HardState, Log, TermRun, Write};
use tenure::message::{AppendOutcome, Body, Message, Verdict};
use tenure::quorum::Configuration;
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, GroupId, Index, NodeId, Term, WriteSeq};

use crate::Scene;
use crate::reads::Reads;

const GROUP: GroupId = GroupId(1);
pub(crate) const SUBJECT: NodeId = NodeId(1);
/// How many sent messages are kept to be answered.
const KEPT: usize = 64;

/// Node 1 of a group, whose other members are played by the fuzzer.
pub struct Subject {
    pub core: Core,
    pub now: Instant,
    /// The latest messages that the core has sent, oldest first.
    pub sent: Vec<Message>,
    reads: Reads,
    /// Transfers since the beginning: the next one's name.
    transfers: u64,
    open_transfers: BTreeSet<TransferId>,
    prompt_disk: bool,
    config: CoreConfig,
    /// What is durable.
    hard_state: HardState,
    entries: Vec<Entry>,
    pending: VecDeque<Write>,
    /// The last index handed out to be applied since the start.
    handed: Index,
    /// The newest (term, vote, commit) seen since the start.
    seen: (Term, Option<NodeId>, Index),
    /// Who has said yes to a vote of each term, whether it counted or not.
    grants: BTreeMap<Term, BTreeSet<NodeId>>,
    /// The largest match index that each node has ever stated in each term.
    acknowledged: BTreeMap<(Term, NodeId), Index>,
    /// The terms that the subject has led.
    led: BTreeSet<Term>,
    /// The terms whose leadership it gave up for good, and whom it named in its place.
    abdicated: BTreeMap<Term, Option<NodeId>>,
}

impl Subject {
    /// The subject of a scene; `None` if the scene makes no sense.
    pub fn new(scene: &Scene) -> Option<Self> {
        let voters = u64::from(scene.voters.clamp(1, 5));
        let founders = Configuration::of_voters((1..=voters).map(NodeId)).ok()?;
        let (founding, _) = Restored::founding(founders);
        let mut entries = founding.entries;
        for step in scene.history.iter().take(48) {
            let last = entries.last().map_or(EntryId::ZERO, |entry| entry.id);
            let id = EntryId { index: last.index.next(), term: Term(last.term.0.max(2) + u64::from(step % 3)) };
            entries.push(Entry { id, kind: EntryKind::Command, payload: Bytes::from_static(b"old") });
        }
        let last_term = entries.last().map_or(Term(1), |entry| entry.id.term);
        let hard_state = HardState {
            term: Term(last_term.0 + u64::from(scene.ahead % 4)),
            vote: scene.voted.then_some(NodeId(2)),
            longest_promise: Duration::from_secs(1),
        };
        let config = config(scene);
        let now = Instant::ZERO + Duration::from_secs(1000);
        let mut out = Output::new();
        let core = Core::new(config.clone(), restored(hard_state, &entries)?, now, &mut out).ok()?;
        let seen = (hard_state.term, hard_state.vote, Index::ZERO);
        let mut subject = Self {
            core,
            now,
            sent: Vec::new(),
            reads: Reads::default(),
            transfers: 0,
            open_transfers: BTreeSet::new(),
            prompt_disk: scene.prompt_disk,
            config,
            hard_state,
            entries,
            pending: VecDeque::new(),
            handed: Index::ZERO,
            seen,
            grants: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            led: BTreeSet::new(),
            abdicated: BTreeMap::new(),
        };
        subject.carry_out(out);
        Some(subject)
    }

    /// An envelope from `from` to the subject.
    pub fn message(&self, from: NodeId, term: u64, body: Body) -> Message {
        Message { group: GROUP, from, to: SUBJECT, term: Term(term), body }
    }

    /// Where the latest configuration on disk stands.
    pub fn configuration_index(&self) -> Index {
        let latest = self.entries.iter().rev().find(|entry| entry.kind == EntryKind::Configuration);
        latest.map_or(Index::ZERO, |entry| entry.id.index)
    }

    pub fn receive(&mut self, message: Message) {
        self.reads.hear();
        match &message.body {
            Body::VoteResponse(answer) if answer.verdict == Verdict::Granted => {
                self.grants.entry(answer.campaign_term).or_default().insert(message.from);
            }
            Body::AppendResponse(answer) => {
                if let AppendOutcome::Accepted { matched } = answer.outcome {
                    let known = self.acknowledged.entry((answer.request_term, message.from)).or_default();
                    *known = (*known).max(matched);
                }
                self.reads.hear_answer(message.from, answer);
            }
            Body::ReadIndex(question) => {
                self.reads.asked_by(message.from, message.term, *question, &self.core.status());
            }
            Body::ReadIndexResponse(answer) => self.reads.hear_index(message.from, answer),
            _ => {}
        }
        self.step(Input::Received(message));
    }

    pub(crate) fn step(&mut self, input: Input) {
        let mut out = Output::new();
        self.core.step(self.now, input, &mut out);
        self.carry_out(out);
    }

    pub(crate) fn read(&mut self, consistency: Consistency) {
        let id = self.reads.ask(consistency, &self.core.status());
        self.step(Input::Read(id, consistency));
    }

    pub(crate) fn transfer(&mut self, target: Option<NodeId>) {
        self.transfers += 1;
        let id = TransferId(self.transfers);
        self.open_transfers.insert(id);
        self.step(Input::Transfer(id, target));
    }

    pub(crate) fn pass_to_deadline(&mut self) {
        if let Some(deadline) = self.core.next_deadline() {
            self.now = self.now.max(deadline);
            self.step(Input::Deadline);
        }
    }

    pub(crate) fn sync_one(&mut self) {
        if let Some(seq) = self.write_one() {
            self.step(Input::Durable(seq));
        }
    }

    pub(crate) fn sync_all(&mut self) {
        while !self.pending.is_empty() {
            self.sync_one();
        }
    }

    /// The power goes: what was not durable is lost. Then the node starts again.
    pub(crate) fn restart(&mut self) {
        self.pending.clear();
        self.sent.clear();
        self.reads.forget();
        self.open_transfers.clear();
        self.handed = Index::ZERO;
        self.seen = (self.hard_state.term, self.hard_state.vote, Index::ZERO);
        let Some(restored) = restored(self.hard_state, &self.entries) else { return };
        let mut out = Output::new();
        let started = Core::new(self.config.clone(), restored, self.now, &mut out);
        self.core = started.expect("what a core has written, a core can start from");
        self.carry_out(out);
    }

    /// Does what the core wants until it wants nothing more, judging every bit of it.
    fn carry_out(&mut self, mut out: Output) {
        loop {
            self.core.check_invariants().expect("an invariant");
            self.judge_state();
            let status = self.core.status();
            out.messages.iter().for_each(|message| self.judge_message(message, &status));
            out.reads.drain(..).for_each(|answer| self.reads.judge_answer(&answer, &self.core, &status));
            out.transfers.drain(..).for_each(|answer| self.judge_transfer(&answer, &status));
            self.sent.append(&mut out.messages);
            self.pending.extend(out.writes.drain(..));
            let mut answers = Vec::new();
            for load in out.loads.drain(..) {
                let entries = self.load(load.first, load.last, load.max_bytes);
                assert!(!entries.is_empty() || matches!(load.purpose, LoadPurpose::Peer(_)), "{load:?} of nothing");
                answers.push(Input::Loaded { load, entries: (!entries.is_empty()).then_some(entries) });
            }
            if let Some(last) = self.take_applied(&mut out.apply) {
                answers.push(Input::Applied(last));
            }
            if self.prompt_disk
                && let Some(seq) = self.write_one()
            {
                answers.push(Input::Durable(seq));
            }
            (out.proposed, out.events) = (None, Vec::new());
            if answers.is_empty() {
                break;
            }
            answers.into_iter().for_each(|input| self.core.step(self.now, input, &mut out));
        }
        self.sent.drain(..self.sent.len().saturating_sub(KEPT));
    }

    /// Terms, votes and the commit index as Raft has them: nothing goes back.
    fn judge_state(&mut self) {
        let status = self.core.status();
        let (term, vote, commit) = self.seen;
        assert!(status.term >= term, "the term fell from {term} to {}", status.term);
        assert!(status.commit >= commit, "commit fell from {commit} to {}", status.commit);
        if status.term == term && vote.is_some() {
            assert_eq!(status.vote, vote, "the vote of {term} changed");
        }
        if status.stopped.is_none()
            && let Some(deadline) = self.core.next_deadline()
        {
            assert!(deadline + Duration::from_secs(3600) > self.now, "a deadline of long ago");
        }
        if status.role == RoleKind::Leader {
            self.judge_leader(&status, commit);
            self.led.insert(status.term);
            self.reads.note_leader();
        }
        self.seen = (status.term, status.vote, status.commit);
    }

    /// A leader was elected by a quorum, and commits what a quorum has, of its own term.
    fn judge_leader(&self, status: &CoreStatus, commit_before: Index) {
        assert!(!self.abdicated.contains_key(&status.term), "{status:?} leads again what it gave up (`p09`)");
        let said_yes = |node| node == SUBJECT || self.grants.get(&status.term).is_some_and(|yes| yes.contains(&node));
        let founders = self.configuration_when_elected(status.term);
        assert!(founders.reached(said_yes), "{status:?} was not elected");
        if status.commit > commit_before {
            let has = |node| match node {
                SUBJECT => Index(self.entries.len() as u64),
                other => self.acknowledged.get(&(status.term, other)).copied().unwrap_or_default(),
            };
            assert!(status.configuration.reached(has) >= status.commit, "{status:?} was not on a quorum");
            assert_eq!(self.core.log().term_at(status.commit), Some(status.term), "counted an entry of an older term");
        }
    }

    /// The configuration in use before a leader of `term` appended anything: nothing in its log is of that term then.
    fn configuration_when_elected(&self, term: Term) -> Configuration {
        let older = self.entries.iter().rev().filter(|entry| entry.id.term < term);
        let latest = older.filter(|entry| entry.kind == EntryKind::Configuration).map(|entry| &entry.payload).next();
        let decoded = latest.and_then(|payload| Configuration::decode(payload).ok());
        decoded.unwrap_or_else(|| self.core.status().configuration)
    }

    /// Every message may leave at once: so what it says must be true of the disk already.
    fn judge_message(&mut self, message: &Message, status: &CoreStatus) {
        let durable = self.hard_state;
        assert_eq!((message.from, message.group), (SUBJECT, GROUP));
        assert_ne!(message.to, SUBJECT, "{message:?} to itself");
        match &message.body {
            Body::Vote(asked) => {
                assert_eq!((durable.term, durable.vote), (asked.campaign_term, Some(SUBJECT)), "{message:?} too early");
            }
            Body::VoteResponse(answer) if answer.verdict == Verdict::Granted => {
                assert_eq!(
                    (durable.term, durable.vote),
                    (answer.campaign_term, Some(message.to)),
                    "{message:?} too early"
                );
            }
            Body::AppendResponse(answer) => {
                assert!(message.term <= durable.term, "{message:?} speaks for a term that is not durable");
                if let AppendOutcome::Accepted { matched } = answer.outcome {
                    assert!(matched.0 <= self.entries.len() as u64, "{message:?} acknowledges what is not durable");
                }
            }
            Body::AppendEntries(_) => {
                assert_eq!((durable.term, durable.vote), (message.term, Some(SUBJECT)));
                assert!(!self.abdicated.contains_key(&message.term), "{message:?} after its farewell");
            }
            Body::Abdicate(farewell) => {
                assert!(self.led.contains(&message.term), "{message:?} of a term that it did not lead");
                let fit = |node| node != SUBJECT && status.configuration.is_voter(node);
                assert!(farewell.successor.is_none_or(fit), "{message:?} names somebody who cannot lead");
                let named = *self.abdicated.entry(message.term).or_insert(farewell.successor);
                assert_eq!(named, farewell.successor, "{message:?}: two are to stand at once");
            }
            Body::ReadIndex(question) => {
                assert!(message.term <= durable.term, "{message:?} speaks for a term that is not durable");
                self.reads.forward(message.to, message.term, *question);
            }
            Body::ReadIndexResponse(answer) => {
                assert!(message.term <= durable.term, "{message:?} speaks for a term that is not durable");
                self.reads.judge_response(message.to, answer, &self.core, status);
            }
            _ => {}
        }
    }

    /// Each transfer is answered once. A successor has the whole log and was told; its leader leads no more.
    fn judge_transfer(&mut self, answer: &TransferAnswer, status: &CoreStatus) {
        assert!(self.open_transfers.remove(&answer.id), "{answer:?} to nobody, or again");
        let Ok(successor) = answer.result else { return };
        if successor == SUBJECT {
            assert_eq!(status.role, RoleKind::Leader, "{answer:?} of one that does not lead");
            return;
        }
        assert_eq!(self.abdicated.get(&status.term), Some(&Some(successor)), "{answer:?}, but it was not told");
        let has = self.acknowledged.get(&(status.term, successor)).copied().unwrap_or_default();
        assert!(has >= status.last.index, "{answer:?} has not got all of {}", status.last);
    }

    fn take_applied(&mut self, apply: &mut Vec<Entry>) -> Option<Index> {
        for entry in apply.drain(..) {
            assert_eq!(entry.id.index, self.handed.next(), "applied out of order");
            let on_disk = self.entries.get(entry.id.index.0 as usize - 1);
            assert_eq!(on_disk.map(|on_disk| on_disk.id), Some(entry.id), "applied but not durable");
            self.handed = entry.id.index;
        }
        (self.handed > self.core.status().applied).then_some(self.handed)
    }

    /// Carries out the oldest write.
    fn write_one(&mut self) -> Option<WriteSeq> {
        let write = self.pending.pop_front()?;
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            assert!(from > self.handed, "{from} was applied and is removed");
            self.entries.truncate(from.0 as usize - 1);
        }
        for entry in write.entries {
            assert_eq!(entry.id.index.0, self.entries.len() as u64 + 1, "a gap on disk");
            self.entries.push(entry);
        }
        Some(write.seq)
    }

    fn load(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        let wanted = self.entries.iter().filter(|entry| (first..=last).contains(&entry.id.index));
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_first = entry.id.index == first;
            bytes += entry.payload.len();
            is_first || bytes <= max_bytes
        };
        wanted.take_while(fits).cloned().collect()
    }
}

fn config(scene: &Scene) -> CoreConfig {
    let mut config = CoreConfig::new(SUBJECT, GROUP, 42);
    config.priority = scene.priority.into();
    config.lease_reads = scene.lease_reads;
    config.succession = scene.succession;
    if scene.tiny_limits {
        config.limits.append_bytes = 64;
        config.limits.append_entries = 2;
        config.limits.window_bytes = 128;
        config.limits.window_entries = 4;
        config.limits.uncommitted_bytes = 256;
        config.limits.uncommitted_entries = 8;
        config.limits.apply_bytes = 64;
        config.limits.cache_bytes = 64;
        config.limits.waiting_reads = 2;
    }
    config
}

/// What a node finds when it starts.
fn restored(hard_state: HardState, entries: &[Entry]) -> Option<Restored> {
    let mut runs: Vec<TermRun> = Vec::new();
    for entry in entries {
        if runs.last().is_none_or(|run| run.term != entry.id.term) {
            runs.push(TermRun { first: entry.id.index, term: entry.id.term });
        }
    }
    let configurations = entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
    let configurations: Result<_, _> = configurations
        .map(|entry| Configuration::decode(&entry.payload).map(|configuration| (entry.id.index, configuration)))
        .collect();
    Some(Restored {
        hard_state,
        log: Log::from_runs(EntryId::ZERO, runs, Index(entries.len() as u64))?,
        configurations: configurations.ok()?,
        applied: Index::ZERO,
        snapshot: None,
        founded_now: false,
    })
}
