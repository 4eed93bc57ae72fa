//! The shard alone: no threads, a clock that is a counter.

use super::*;
use crate::config::CoreConfig;
use crate::core::RoleKind;
use crate::message::Body;
use crate::quorum::Configuration;
use crate::runtime::{ReadTicket, Ticket};
use crate::time::Duration;
use crate::types::NodeId;

const GROUP: GroupId = GroupId(1);

/// Keeps everything a shard wants done.
#[derive(Default)]
struct Kept {
    sent: Vec<Message>,
    writes: Vec<(GroupId, Write)>,
    applies: Vec<(GroupId, Vec<Committed>)>,
}

impl Effects for Kept {
    fn send(&mut self, messages: &mut Vec<Message>) {
        self.sent.append(messages);
    }
    fn persist(&mut self, group: GroupId, write: Write) {
        self.writes.push((group, write));
    }
    fn apply(&mut self, group: GroupId, entries: Vec<Committed>) {
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
            let config = CoreConfig::new(NodeId(1), group, 7);
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

    fn propose(&mut self, group: GroupId) -> Ticket<()> {
        let (ticket, reply) = Ticket::new();
        self.handle(ShardInput::Propose { group, command: Bytes::from_static(b"x"), reply });
        ticket
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
        let (_ticket, reply) = ReadTicket::new();
        bench.handle(ShardInput::Read { group: GROUP, reply });
    }
    let _ticket = bench.propose(GROUP);
    bench.flush();
    assert_eq!(bench.shard.counters().steps - steps, 11);
    assert_eq!(bench.readings - readings, 11);
}

/// `p00`: a message's stamp is the time of the step that made it, later than everything that was queued before.
#[test]
fn p00_stamps_are_those_of_the_step_and_not_of_the_queue() {
    let mut bench = Bench::new(1, [1, 2, 3]);
    while bench.kept.sent.is_empty() {
        bench.time = bench.time.max(bench.shard.next_deadline().unwrap());
        bench.handle(ShardInput::Deadline);
        bench.flush();
        bench.sync();
    }
    for _ in 0..3 {
        let asked = std::mem::take(&mut bench.kept.sent);
        let answers = asked.into_iter().filter(|message| message.to == NodeId(2)).map(agreeing).collect();
        bench.handle(ShardInput::Received(answers));
        bench.flush();
        bench.sync();
    }
    assert_eq!(bench.shard.status(GROUP).unwrap().core.role, RoleKind::Leader);
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

/// What a peer answers that agrees with everything.
fn agreeing(request: Message) -> Message {
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
            promise_ms: 0,
            sent: Instant::ZERO,
            priority: crate::config::Priority::Normal,
            outcome: AppendOutcome::Accepted { matched: append.slice.last().index },
        }),
        other => other.clone(),
    };
    Message { from: request.to, to: request.from, body, ..request }
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
