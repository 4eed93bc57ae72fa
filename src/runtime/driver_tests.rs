//! The shard alone: no threads, a clock that is a counter.

use super::*;
use crate::config::CoreConfig;
use crate::core::{Fatal, RoleKind};
use crate::log::LogSlice;
use crate::message::{Abdicate, AppendEntries, Body};
use crate::quorum::Configuration;
use crate::runtime::{ReadTicket, Ticket, TransferTicket};
use crate::time::Duration;
use crate::types::{NodeId, RoundId, Term};

const GROUP: GroupId = GroupId(1);

/// Keeps everything a shard wants done.
#[derive(Default)]
struct Kept {
    sent: Vec<Message>,
    writes: Vec<(GroupId, Write)>,
    applies: Vec<(GroupId, Vec<Committed>)>,
    leases: BTreeMap<GroupId, Lease>,
    leaderless: Vec<Leaderless>,
    installs: Vec<(GroupId, Install)>,
    /// What was wanted, in order.
    calls: Vec<Call>,
}

#[derive(Debug, PartialEq, Eq)]
enum Call {
    Lease(Option<Index>),
    Apply(Index),
    /// The highest commit index told to anybody, or a farewell.
    Send {
        commit: Index,
        farewell: bool,
    },
}

impl Effects for Kept {
    fn lease(&mut self, group: GroupId, lease: Option<Lease>) {
        self.calls.push(Call::Lease(lease.map(|lease| lease.read_index)));
        self.leases.remove(&group);
        self.leases.extend(lease.map(|lease| (group, lease)));
    }
    fn send(&mut self, messages: &mut Vec<Message>) {
        let commit = |message: &Message| match &message.body {
            Body::AppendEntries(append) => append.commit,
            _ => Index::ZERO,
        };
        let commit = messages.iter().map(commit).max().unwrap_or_default();
        let farewell = messages.iter().any(|message| matches!(message.body, Body::Abdicate(_)));
        self.calls.push(Call::Send { commit, farewell });
        self.sent.append(messages);
    }
    fn persist(&mut self, group: GroupId, write: Write) {
        self.writes.push((group, write));
    }
    fn apply(&mut self, group: GroupId, entries: Vec<Committed>) {
        self.calls.extend(entries.last().map(|last| Call::Apply(last.entry.id.index)));
        self.applies.push((group, entries));
    }
    fn read(&mut self, _group: GroupId, index: Index, reply: ReadReply) {
        reply.answered(Ok(index));
    }
    fn load(&mut self, _group: GroupId, _load: Load) {}
    fn answer(&mut self, answer: Answer) {
        answer.give();
    }
    fn event(&mut self, _group: GroupId, _event: Event) {}

    fn members(&mut self, _group: GroupId, _configuration: &Configuration) {}
    fn install(&mut self, group: GroupId, install: Install) {
        self.installs.push((group, install));
    }

    fn leaderless(&mut self, _group: GroupId, how: Leaderless) {
        self.leaderless.push(how);
    }
}

/// One node's shard, its effects, and a clock that moves by a nanosecond whenever it is read.
struct Bench {
    shard: Shard,
    kept: Kept,
    time: Instant,
    readings: u64,
}

impl Bench {
    fn new(groups: u64, voters: impl IntoIterator<Item = u64> + Clone) -> Self {
        let (shard, kept) = (Shard::new(), Kept::default());
        let mut bench = Self { shard, kept, time: Instant::from_nanos(1_000_000_000), readings: 0 };
        for group in (1..=groups).map(GroupId) {
            let voters = Configuration::of_voters(voters.clone().into_iter().map(NodeId)).unwrap();
            let (_, restored) = Restored::founding(voters);
            let mut config = CoreConfig::new(NodeId(1), group, 7);
            config.lease_reads = true;
            let Self { shard, time, readings, .. } = &mut bench;
            shard.open(&mut reading(time, readings), config, restored).unwrap();
        }
        bench.flush();
        bench
    }

    fn handle(&mut self, input: ShardInput) {
        let Self { shard, kept, time, readings } = self;
        shard.handle(&mut reading(time, readings), input, kept);
    }

    fn flush(&mut self) {
        let Self { shard, kept, time, readings } = self;
        shard.flush(&mut reading(time, readings), kept);
    }

    /// Makes everything durable that was handed out.
    fn sync(&mut self) {
        for (group, write) in std::mem::take(&mut self.kept.writes) {
            self.handle(ShardInput::Durable { group, seq: write.seq });
        }
        self.flush();
    }

    /// A lone voter's election: its time comes, its vote becomes durable.
    fn elect(&mut self) {
        while self.shard.status(GROUP).unwrap().core.role != RoleKind::Leader {
            self.time = self.time.max(self.shard.next_deadline().unwrap_or(self.time));
            self.handle(ShardInput::Deadline);
            self.flush();
            self.sync();
        }
        self.sync();
    }

    /// The peers answer everything that was sent to them, until nothing is sent any more.
    fn answer(&mut self, peers: &[u64]) {
        loop {
            let asked = std::mem::take(&mut self.kept.sent);
            let answers: Vec<_> =
                asked.into_iter().filter(|message| peers.contains(&message.to.0)).filter_map(agreeing).collect();
            if answers.is_empty() {
                return;
            }
            self.handle(ShardInput::Received(answers));
            self.flush();
        }
    }

    /// Node 1 of several leads, its term's first entry is committed, and its disk is idle.
    fn elect_by(&mut self, peers: &[u64]) {
        while self.shard.status(GROUP).unwrap().core.role != RoleKind::Leader {
            self.time = self.time.max(self.shard.next_deadline().unwrap_or(self.time));
            self.handle(ShardInput::Deadline);
            self.flush();
            while !(self.kept.sent.is_empty() && self.kept.writes.is_empty()) {
                self.answer(peers);
                self.sync();
            }
        }
        self.finish();
    }

    /// The state machine has done what it was given.
    fn finish(&mut self) {
        for (group, entries) in std::mem::take(&mut self.kept.applies) {
            let index = entries.last().unwrap().entry.id.index;
            for Committed { entry, reply } in entries {
                if let Some(reply) = reply {
                    reply.applied(entry.id, ());
                }
            }
            self.handle(ShardInput::Applied { group, index });
        }
        self.flush();
    }

    /// Time passes, with every deadline on the way; the peers answer.
    fn pass(&mut self, time: Duration, peers: &[u64]) {
        let end = self.time + time;
        while let Some(deadline) = self.shard.next_deadline().filter(|deadline| *deadline <= end) {
            self.time = self.time.max(deadline);
            self.handle(ShardInput::Deadline);
            self.flush();
            self.answer(peers);
        }
        self.time = self.time.max(end);
    }

    fn propose(&mut self, group: GroupId) -> Ticket<()> {
        let (ticket, reply) = Ticket::new();
        self.handle(ShardInput::Propose { group, command: Bytes::from_static(b"x"), reply });
        ticket
    }

    fn read(&mut self, consistency: Consistency) -> ReadTicket {
        let (ticket, reply) = ReadTicket::new();
        self.handle(ShardInput::Read { group: GROUP, consistency, reply });
        ticket
    }

    fn transfer(&mut self, target: Option<u64>) -> TransferTicket {
        let (ticket, reply) = TransferTicket::new();
        self.handle(ShardInput::Transfer { group: GROUP, target: target.map(NodeId), reply });
        ticket
    }

    fn core(&self) -> crate::core::CoreStatus {
        self.shard.status(GROUP).unwrap().core
    }
}

fn reading<'a>(time: &'a mut Instant, readings: &'a mut u64) -> impl FnMut() -> Instant + 'a {
    || {
        *readings += 1;
        *time = *time + Duration::from_nanos(1);
        *time
    }
}

fn answered<O: Send + 'static>(ticket: Ticket<O>) -> Option<crate::runtime::Outcome<O>> {
    ticket.wait_timeout(Duration::ZERO).ok()
}

/// `p00`: every step reads the clock itself, after the step before it; a drain never shares one reading.
#[test]
fn p00_every_step_samples_the_clock_itself() {
    let mut bench = Bench::new(1, [1]);
    bench.elect();
    let (steps, readings) = (bench.shard.counters().steps, bench.readings);
    for _ in 0..10 {
        let _ticket = bench.read(Consistency::Linearizable);
    }
    let _ticket = bench.propose(GROUP);
    bench.flush();
    assert_eq!(bench.shard.counters().steps - steps, 11);
    assert_eq!(bench.readings - readings, 11);
    // Messages that came together are steps of their own.
    let body = Body::Abdicate(Abdicate { successor: None });
    let message = Message { group: GROUP, from: NodeId(2), to: NodeId(1), term: Term(1), body };
    bench.handle(ShardInput::Received(vec![message; 5]));
    assert_eq!(bench.readings - readings, 16);
}

/// `p00`: a message's stamp is the time of the step that made it, later than everything that was queued before.
#[test]
fn p00_stamps_are_those_of_the_step_and_not_of_the_queue() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    bench.elect_by(&[2]);
    bench.kept.sent.clear();
    let queued_at = bench.time;
    let _ticket = bench.propose(GROUP);
    bench.time = bench.time + Duration::from_millis(3);
    bench.flush();
    let stamps: Vec<_> = bench
        .kept
        .sent
        .iter()
        .filter_map(|message| match &message.body {
            Body::AppendEntries(append) => Some(append.stamp),
            _ => None,
        })
        .collect();
    assert!(!stamps.is_empty());
    assert!(stamps.iter().all(|stamp| *stamp >= queued_at + Duration::from_millis(3)), "{stamps:?}");
}

/// What a peer answers that agrees with everything; `None` to what needs no answer.
fn agreeing(request: Message) -> Option<Message> {
    use crate::message::{AppendOutcome, AppendResponse, Verdict, VoteResponse};
    let respond = |request: &crate::message::VoteRequest| VoteResponse {
        round: request.round,
        campaign_term: request.campaign_term,
        verdict: Verdict::Granted,
    };
    let body = match &request.body {
        Body::PreVote(asked) => Body::PreVoteResponse(respond(asked)),
        Body::Vote(asked) => Body::VoteResponse(respond(asked)),
        Body::AppendEntries(append) => Body::AppendResponse(AppendResponse {
            stamp: append.stamp,
            round: append.round,
            request_term: request.term,
            promise_ms: 1000,
            sent: Instant::ZERO,
            priority: crate::config::Priority::Normal,
            outcome: AppendOutcome::Accepted { matched: append.slice.last().index },
        }),
        _ => return None,
    };
    Some(Message { from: request.to, to: request.from, body, ..request })
}

/// Everything proposed in one drain is one append and one write, and answered in order once it is applied.
#[test]
fn proposals_of_one_drain_become_one_write() {
    let mut bench = Bench::new(1, [1]);
    bench.elect();
    bench.kept.applies.clear();
    let tickets: Vec<_> = (0..100).map(|_| bench.propose(GROUP)).collect();
    assert!(bench.kept.writes.is_empty(), "nothing before the flush");
    bench.flush();
    assert_eq!(bench.kept.writes.len(), 1);
    assert_eq!(bench.kept.writes[0].1.entries.len(), 100);
    assert!(bench.kept.applies.is_empty(), "nothing is applied before it is durable");

    bench.sync();
    let applied = std::mem::take(&mut bench.kept.applies).into_iter().flat_map(|(_, entries)| entries);
    for Committed { entry, reply } in applied {
        reply.unwrap().applied(entry.id, ());
    }
    let indexes: Vec<_> = tickets.into_iter().map(|ticket| answered(ticket).unwrap().unwrap().id.index.0).collect();
    assert!(indexes.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

/// Writes of all groups touched come out of one flush; one deadline per group is kept.
#[test]
fn one_flush_serves_every_group() {
    let mut bench = Bench::new(100, [1]);
    assert_eq!(bench.shard.ids().len(), 100);
    bench.sync();
    bench.time = bench.time + Duration::from_secs(10);
    bench.handle(ShardInput::Deadline);
    bench.flush();
    let groups: BTreeSet<_> = bench.kept.writes.iter().map(|(group, _)| *group).collect();
    assert_eq!(groups.len(), 100, "every group campaigns");
    assert!(bench.shard.deadlines.len() <= 100);
}

/// What is for nobody here is refused or dropped and counted.
#[test]
fn inputs_for_unknown_groups_do_no_harm() {
    let mut bench = Bench::new(1, [1, 2]);
    let unknown = GroupId(9);
    let refused = bench.propose(unknown);
    assert_eq!(answered(refused), Some(Err(ProposalError::ShutDown)));
    bench.handle(ShardInput::Durable { group: unknown, seq: WriteSeq(1) });
    bench.handle(ShardInput::Applied { group: unknown, index: Index(1) });
    let follower = bench.propose(GROUP);
    bench.flush();
    assert_eq!(answered(follower), Some(Err(ProposalError::NotLeader { leader: None })));
    assert_eq!(bench.shard.counters().refused, 2);
}

/// Closing a group tells what was appended "unknown" and what was not "shut down", and leaves no deadline behind.
#[test]
fn closing_a_group_answers_everybody() {
    let mut bench = Bench::new(1, [1]);
    bench.elect();
    let appended = bench.propose(GROUP);
    bench.flush();
    let waiting = bench.propose(GROUP);
    bench.shard.close(GROUP, &mut bench.kept);
    bench.flush();
    assert_eq!(answered(appended), Some(Err(ProposalError::Unknown(Interruption::ShutDown))));
    assert_eq!(answered(waiting), Some(Err(ProposalError::ShutDown)));
    assert_eq!((bench.shard.next_deadline(), bench.shard.status(GROUP)), (None, None));
}

/// `p07`, `p08`: what other threads may use of a lease is told before anything else of the same flush. The read index
/// covers an entry before it is applied and before a peer hears that it is committed; a lease that is over is taken away
/// before the farewell leaves.
#[test]
fn p07_p08_the_lease_is_told_before_anything_else() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    bench.elect_by(&[2, 3]);
    bench.sync();
    bench.kept.calls.clear();

    let ticket = bench.propose(GROUP);
    bench.flush();
    bench.sync();
    bench.answer(&[2]);
    let last = bench.core().last.index;
    let told = |call: &Call| matches!(call, Call::Lease(Some(index)) if *index >= last);
    let learned = |call: &Call| match call {
        Call::Apply(index) => *index >= last,
        Call::Send { commit, .. } => *commit >= last,
        Call::Lease(_) => false,
    };
    let calls = &bench.kept.calls;
    assert!(calls.iter().position(told).unwrap() < calls.iter().position(learned).unwrap(), "{calls:?}");
    bench.pass(Duration::from_millis(100), &[2]);
    let told_of = bench.kept.calls.iter().filter(|call| learned(call)).count();
    assert!(told_of >= 2, "applied, and a peer was told: {:?}", bench.kept.calls);
    bench.finish();
    assert!(answered(ticket).unwrap().is_ok());

    bench.kept.calls.clear();
    let transfer = bench.transfer(Some(2));
    bench.flush();
    bench.answer(&[2]);
    assert_eq!(answered_transfer(transfer), Some(Ok(NodeId(2))));
    let revoked = bench.kept.calls.iter().position(|call| *call == Call::Lease(None));
    let farewell = bench.kept.calls.iter().position(|call| matches!(call, Call::Send { farewell: true, .. }));
    assert!(revoked.unwrap() < farewell.unwrap(), "{:?}", bench.kept.calls);
}

fn answered_transfer(ticket: TransferTicket) -> Option<Result<NodeId, TransferError>> {
    ticket.wait_timeout(Duration::ZERO).ok()
}

/// `p07`: a lease that has not changed is not told again; one that got longer or covers more is.
#[test]
fn p07_only_a_lease_that_changed_is_told() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    bench.elect_by(&[2, 3]);
    let lease = bench.kept.leases[&GROUP];
    assert_eq!(lease.read_index, bench.core().commit);
    bench.kept.calls.clear();
    let _read = bench.read(Consistency::Local);
    bench.flush();
    assert_eq!(bench.kept.calls, []);
    bench.pass(Duration::from_millis(200), &[2, 3]);
    assert!(bench.kept.leases[&GROUP].until > lease.until);
}

/// `p16`: a jump of the clock takes every group's lease away until a message that left after it was answered.
#[test]
fn p16_a_clock_that_jumped_ends_every_lease() {
    let mut bench = Bench::new(2, [1, 2, 3]);
    bench.elect_by(&[2, 3]);
    assert_eq!(bench.kept.leases.len(), 2);
    bench.handle(ShardInput::ClockJumped);
    bench.flush();
    assert_eq!(bench.kept.leases.len(), 0);
    bench.pass(Duration::from_millis(200), &[2, 3]);
    assert_eq!(bench.kept.leases.len(), 2);
}

/// `p09`: whoever asks for a transfer is told what became of it, also if the group ends before.
#[test]
fn p09_a_transfer_is_always_answered() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    let early = bench.transfer(None);
    bench.flush();
    assert_eq!(answered_transfer(early), Some(Err(TransferError::NotLeader { leader: None })));
    bench.elect_by(&[2, 3]);
    let stranger = bench.transfer(Some(9));
    bench.flush();
    assert_eq!(answered_transfer(stranger), Some(Err(TransferError::NotAVoter(NodeId(9)))));
    bench.pass(Duration::from_millis(900), &[2]);

    let (late, second) = (bench.transfer(Some(3)), bench.transfer(None));
    bench.flush();
    assert_eq!(answered_transfer(second), Some(Err(TransferError::InProgress)));
    bench.pass(Duration::from_secs(1), &[2]);
    assert_eq!(answered_transfer(late), Some(Err(TransferError::TimedOut)));
    assert_eq!(bench.core().role, RoleKind::Leader);

    let open = bench.transfer(Some(3));
    bench.flush();
    bench.shard.close(GROUP, &mut bench.kept);
    assert_eq!(answered_transfer(open), Some(Err(TransferError::ShutDown)));
    let closed = bench.transfer(None);
    assert_eq!(answered_transfer(closed), Some(Err(TransferError::ShutDown)));
    assert_eq!(bench.kept.leases.len(), 0, "`p08`: the lease ends with the group");
    assert_eq!(bench.shard.counters().transfers, 6);
}

/// `p11`, `c33`: a leader whose own disk is slower than its quorum's may lose its role with commands that are committed
/// and not yet durable here. They are answered with their output once they are applied, not as unknown; those that are
/// not committed are unknown.
#[test]
fn p11_what_is_committed_is_answered_although_leadership_was_lost() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    bench.elect_by(&[2, 3]);
    let committed = bench.propose(GROUP);
    bench.flush();
    bench.answer(&[2, 3]);
    assert_eq!(bench.core().commit, bench.core().last.index);
    assert!(bench.core().durable < bench.core().commit, "its own disk has not moved");
    bench.pass(Duration::from_millis(1950), &[2, 3]);
    assert_eq!(bench.core().role, RoleKind::Leader);
    let lost = bench.propose(GROUP);
    bench.flush();
    bench.pass(Duration::from_millis(100), &[]);
    assert_eq!((bench.core().role, bench.core().counters.abdications), (RoleKind::Follower, 1));
    let lost = answered(lost);
    assert!(matches!(lost, Some(Err(ProposalError::Unknown(Interruption::LeadershipLost { .. })))), "{lost:?}");
    let Err(committed) = committed.wait_timeout(Duration::ZERO) else { panic!("nothing is applied yet") };
    bench.sync();
    bench.finish();
    assert!(answered(committed).unwrap().is_ok());
    assert_eq!(bench.shard.counters().unknown, 1);
}

/// `c33`: a leader has committed a command that is not applied here yet, loses its role, and gets a snapshot in place of its
/// log: whoever waits for the command learns that nobody knows what became of it.
#[test]
fn c33_a_snapshot_in_place_of_an_entry_leaves_its_outcome_unknown() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    bench.elect_by(&[2, 3]);
    let waiting = bench.propose(GROUP);
    bench.flush();
    bench.answer(&[2, 3]);
    let (commit, term) = (bench.core().commit, bench.core().term);
    assert!(bench.core().durable < commit, "its own disk has not moved");
    bench.pass(Duration::from_millis(2_000), &[]);
    assert_ne!(bench.core().role, RoleKind::Leader);
    let Err(waiting) = waiting.wait_timeout(Duration::ZERO) else { panic!("it is committed") };

    let last = EntryId { term, index: commit.plus(10) };
    let prev = EntryId { term, index: last.index };
    let offer = |bench: &mut Bench| {
        let slice = LogSlice::new(prev, Vec::new()).unwrap();
        let (stamp, round, term) = (Instant::from_nanos(1), RoundId(1), Term(term.0 + 1));
        let append = AppendEntries { stamp, round, commit: last.index, rank: None, fresh: None, snapshot: true, slice };
        let message = Message { group: GROUP, from: NodeId(2), to: NodeId(1), term, body: Body::AppendEntries(append) };
        bench.handle(ShardInput::Received(vec![message]));
        bench.flush();
    };
    offer(&mut bench);
    offer(&mut bench);
    assert_eq!(bench.kept.installs, vec![(GROUP, Install { from: NodeId(2), last }); 2], "asked for until it is here");
    let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
    bench.handle(ShardInput::SnapshotInstalled { group: GROUP, last, configuration: (Index(1), voters) });
    bench.flush();
    let installed = Interruption::SnapshotInstalled { last: last.index };
    assert_eq!(answered(waiting), Some(Err(ProposalError::Unknown(installed))));
    assert_eq!(bench.shard.counters().unknown, 1);
    let read = bench.read(Consistency::Local);
    bench.flush();
    assert_eq!(read.wait_timeout(Duration::ZERO).ok(), Some(Ok(last.index)), "the state machine is there already");
}

/// `c09`: a snapshot that contradicts what is committed replaced nothing: the group stops, and nobody is told that the state
/// machine is further than it is.
#[test]
fn c09_a_snapshot_that_contradicts_answers_nobody() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    bench.elect_by(&[2, 3]);
    let waiting = bench.propose(GROUP);
    bench.flush();
    bench.answer(&[2, 3]);
    let (commit, term) = (bench.core().commit, bench.core().term);
    assert!(bench.core().durable < commit, "its own disk has not moved");
    let theirs = EntryId { term: Term(term.0 + 1), index: commit };
    let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
    bench.handle(ShardInput::SnapshotInstalled { group: GROUP, last: theirs, configuration: (Index(1), voters) });
    bench.flush();
    let stopped = Fatal::SnapshotContradicts { ours: EntryId { term, index: commit }, theirs };
    assert_eq!(bench.core().stopped, Some(stopped));
    assert_eq!(answered(waiting), Some(Err(ProposalError::Unknown(Interruption::Stopped(stopped)))));
}

/// A group without a leader says why after each lost round, and once that it has lasted for long; the same again after
/// the next leader is gone.
#[test]
fn a_group_without_a_leader_says_why_and_warns_once() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    bench.sync();
    for _ in 0..2 {
        bench.kept.leaderless.clear();
        bench.pass(Duration::from_secs(30), &[]);
        let told = &bench.kept.leaderless;
        assert!(told.len() > 5, "{told:?}");
        assert_eq!(told.iter().filter(|how| how.long).count(), 1);
        let warning = told.iter().find(|how| how.long).unwrap();
        assert!((10..13).contains(&warning.lasting.as_secs()), "{warning:?}");
        assert!(warning.why.to_string().contains("n2 silent"), "{}", warning.why);
        bench.elect_by(&[2, 3]);
        bench.kept.leaderless.clear();
        bench.pass(Duration::from_millis(900), &[]);
        assert_eq!(bench.kept.leaderless, []);
    }
}
