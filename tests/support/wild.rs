//! One core that is told anything: messages of liars, and a caller that makes every mistake there is.

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen};
use tenure::core::{Consistency, Core, Input, Load, Output, ReadId, TransferId};
use tenure::log::{HardState, Log, TermRun};
use tenure::message::{AppendOutcome, Body, Message, Verdict, VoteRequest, VoteResponse};
use tenure::time::Instant;
use tenure::types::{Index, NodeId, Term, WriteSeq};

use super::any_message::AnyMessage;
use super::disk::Disk;
use super::lone::{GROUP, answer_to, config, ms, voters};

/// One input, sensible or not.
#[derive(Clone, Debug)]
pub enum Wild {
    /// A message, as it is or made out to be of a peer.
    Message(AnyMessage, bool),
    /// A good answer to one of the last messages sent.
    Answer(u8),
    /// The same for all of them.
    AnswerAll,
    Deadline,
    Wait(u16),
    Propose(Vec<Vec<u8>>),
    Read(u64, u8),
    Transfer(u64, Option<u64>),
    ClockJumped,
    /// A write that there was, or that there never was, is said to be durable.
    Durable(u64),
    /// The next that is.
    Sync,
    Applied(u64),
    /// An answer to what was asked for, or to what was not: entries from anywhere, or none.
    Loaded {
        asked: bool,
        first: u64,
        count: u8,
        fails: bool,
    },
    WriteFailed,
    ApplyFailed,
}

impl Arbitrary for Wild {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) {
            0..70 => Self::Message(Arbitrary::arbitrary(g), u8::arbitrary(g) > 20),
            70..100 => Self::Answer(u8::arbitrary(g) % 8),
            100..120 => Self::AnswerAll,
            120..150 => Self::Deadline,
            150..160 => Self::Wait(u16::arbitrary(g) % 2000),
            160..180 => Self::Propose(Arbitrary::arbitrary(g)),
            180..190 => Self::Read(u64::arbitrary(g) % 8, u8::arbitrary(g)),
            190..195 => Self::Transfer(u64::arbitrary(g) % 8, Option::<u64>::arbitrary(g).map(|node| node % 5)),
            195..200 => Self::ClockJumped,
            200..205 => Self::Durable(if bool::arbitrary(g) { u64::arbitrary(g) } else { u64::arbitrary(g) % 8 }),
            205..235 => Self::Sync,
            235..240 => Self::Applied(if bool::arbitrary(g) { u64::arbitrary(g) } else { u64::arbitrary(g) % 16 }),
            240..254 => Self::Loaded {
                asked: u8::arbitrary(g) > 40,
                first: u64::arbitrary(g) % 16,
                count: u8::arbitrary(g) % 8,
                fails: u8::arbitrary(g) < 20,
            },
            254 => Self::WriteFailed,
            _ => Self::ApplyFailed,
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match self.clone() {
            Self::Message(message, made_out) => Box::new(message.shrink().map(move |m| Self::Message(m, made_out))),
            Self::Answer(nth) => Box::new(nth.shrink().map(Self::Answer)),
            Self::Wait(millis) => Box::new(millis.shrink().map(Self::Wait)),
            Self::Propose(commands) => Box::new(commands.shrink().map(Self::Propose)),
            Self::Durable(seq) => Box::new(seq.shrink().map(Self::Durable)),
            Self::Applied(index) => Box::new(index.shrink().map(Self::Applied)),
            _ => quickcheck::empty_shrinker(),
        }
    }
}

/// Node 1 of three with a log of some length.
pub struct WildNode {
    core: Core,
    now: Instant,
    /// The last few messages that it sent.
    sent: Vec<Message>,
    loads: Vec<Load>,
    /// The number of the newest write asked for, and of the newest that is durable.
    written: u64,
    synced: u64,
    seen: (Term, Option<NodeId>, Index),
}

impl WildNode {
    pub fn new(setup: u8) -> Self {
        let terms: &[u64] = [&[][..], &[1, 1], &[1, 2, 2, 4], &[3; 12]][usize::from(setup % 4)];
        let hard_state = HardState { term: Term(4), vote: None, longest_promise: ms(1000) };
        let disk = Disk::with_history(voters(3), hard_state, terms);
        let now = Instant::ZERO + ms(1_000_000);
        let config = config(|config| {
            config.lease_reads = setup & 4 != 0;
            if setup & 8 != 0 {
                (config.limits.append_bytes, config.limits.append_entries) = (64, 2);
                (config.limits.window_bytes, config.limits.window_entries) = (128, 4);
                (config.limits.apply_bytes, config.limits.cache_bytes, config.limits.waiting_reads) = (64, 64, 2);
                (config.limits.uncommitted_bytes, config.limits.uncommitted_entries) = (256, 8);
            }
        });
        let mut out = Output::new();
        let core = Core::new(config, disk.restore(Index::ZERO), now, &mut out).unwrap();
        let seen = (Term(4), None, Index::ZERO);
        let mut node =
            Self { core, now: now + ms(1000), sent: Vec::new(), loads: Vec::new(), written: 0, synced: 0, seen };
        node.carry_out(out);
        node
    }

    pub fn take(&mut self, wild: Wild) {
        match wild {
            Wild::Message(AnyMessage(message), made_out) => {
                let message = if made_out { self.made_out(message) } else { message };
                self.input(Input::Received(message));
            }
            Wild::Answer(nth) => self.answer(self.sent.len().wrapping_sub(1 + usize::from(nth))),
            Wild::AnswerAll => (0..self.sent.len()).for_each(|at| self.answer(at)),
            Wild::Deadline => {
                self.now = self.core.next_deadline().map_or(self.now, |deadline| deadline.max(self.now));
                self.input(Input::Deadline);
            }
            Wild::Wait(millis) => self.now = self.now + ms(u64::from(millis)),
            Wild::Propose(commands) => self.input(Input::Propose(commands.into_iter().map(Bytes::from).collect())),
            Wild::Read(id, kind) => {
                let kinds = [
                    Consistency::Linearizable,
                    Consistency::Lease,
                    Consistency::Local,
                    Consistency::Follower(ms(u64::from(kind))),
                ];
                self.input(Input::Read(ReadId(id), kinds[usize::from(kind % 4)]));
            }
            Wild::Transfer(id, to) => self.input(Input::Transfer(TransferId(id), to.map(NodeId))),
            Wild::ClockJumped => self.input(Input::ClockJumped),
            Wild::Durable(seq) => self.input(Input::Durable(WriteSeq(seq))),
            Wild::Sync if self.synced < self.written => {
                self.synced += 1;
                self.input(Input::Durable(WriteSeq(self.synced)));
            }
            Wild::Sync => {}
            Wild::Applied(index) => self.input(Input::Applied(Index(index))),
            Wild::Loaded { asked, first, count, fails } => self.loaded(asked, first, count, fails),
            Wild::WriteFailed => self.input(Input::WriteFailed),
            Wild::ApplyFailed => self.input(Input::ApplyFailed),
        }
    }

    /// The same message, such that it is not turned away at the door.
    fn made_out(&self, mut message: Message) -> Message {
        message.group = GROUP;
        (message.from, message.to) = (NodeId(2 + message.from.0 % 3), NodeId(1));
        if message.term.0 > 1 << 32 {
            message.term = Term(self.core.status().term.0 + message.term.0 % 2);
        }
        match &mut message.body {
            Body::PreVote(request) => request.campaign_term = message.term.next(),
            Body::Vote(request) => request.campaign_term = message.term,
            _ => {}
        }
        message
    }

    fn answer(&mut self, at: usize) {
        let Some(asked) = self.sent.get(at).cloned() else { return };
        let granted = |request: &VoteRequest| VoteResponse {
            round: request.round,
            campaign_term: request.campaign_term,
            verdict: Verdict::Granted,
        };
        let body = match &asked.body {
            Body::PreVote(request) => Body::PreVoteResponse(granted(request)),
            Body::Vote(request) => Body::VoteResponse(granted(request)),
            Body::AppendEntries(append) => {
                let outcome = AppendOutcome::Accepted { matched: append.slice.last().index };
                Body::AppendResponse(answer_to(asked.term, append, outcome, |_| ()))
            }
            _ => return,
        };
        self.input(Input::Received(Message { from: asked.to, to: asked.from, body, ..asked }));
    }

    fn loaded(&mut self, asked: bool, first: u64, count: u8, fails: bool) {
        let Some(mut load) = self.loads.pop() else { return };
        if !asked {
            load.first = Index(first);
        }
        let log = self.core.log();
        let entries = (load.first.0..load.first.0.saturating_add(count.into()))
            .map(|index| super::lone::command(index, log.term_at(Index(index)).map_or(7, |term| term.0)));
        let entries = (!fails).then(|| entries.collect());
        self.input(Input::Loaded { load, entries });
    }

    fn input(&mut self, input: Input) {
        let mut out = Output::new();
        self.core.step(self.now, input, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Output) {
        self.core.check_invariants().unwrap_or_else(|violation| panic!("{violation}"));
        let status = self.core.status();
        let (term, vote, commit) = self.seen;
        assert!(status.term >= term && status.commit >= commit, "{status:?} after {:?}", self.seen);
        assert!(status.term > term || vote.is_none() || status.vote == vote, "the vote of {term} changed");
        let runs: Vec<TermRun> = self.core.log().runs().to_vec();
        assert!(Log::from_runs(self.core.log().base(), runs, status.last.index).is_some(), "the log is well formed");
        self.seen = (status.term, status.vote, status.commit);
        for write in &out.writes {
            assert_eq!(write.seq.0, self.written + 1, "writes are numbered without a gap");
            self.written += 1;
        }
        if !out.messages.is_empty() {
            self.sent = out.messages;
        }
        self.loads.extend(out.loads);
    }
}
