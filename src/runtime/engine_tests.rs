//! The threads of a node over a log in memory: what does not need a disk or a network to be shown.

use super::*;
use crate::core::Fatal;
use crate::log::Write;
use crate::runtime::{
    Consistency, Interruption, Outcome, ProposalError, ReadError, ReadTicket, Ticket, TransferError, TransferTicket,
};
use crate::state_machine::{ApplyError, Command};
use crate::sync::channel;
use crate::transport::{ChannelNetwork, TransportStats};
use bytes::Bytes;
use std::convert::Infallible;

pub(super) const GROUP: GroupId = GroupId(1);
pub(super) const LONG: Duration = Duration::from_secs(20);

/// A log in memory that can be told to wait or to fail.
#[derive(Clone, Default)]
pub(super) struct Memory(pub(super) Arc<MemoryState>);

#[derive(Default)]
pub(super) struct MemoryState {
    pub(super) broken: Mutex<bool>,
    /// Holding it stops the disk.
    pub(super) stalled: Mutex<()>,
    pub(super) floors: Mutex<u64>,
    /// How often it has something to copy yet, and whether what was copied is not synced.
    pub(super) untidy: Mutex<(u64, bool)>,
}

impl Device for Memory {
    type Error = &'static str;

    fn append(&mut self, _writes: &[(GroupId, Write)]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Self::Error> {
        drop(self.0.stalled.lock());
        self.0.untidy.lock().1 = false;
        if *self.0.broken.lock() { Err("broken on purpose") } else { Ok(()) }
    }

    fn floor(&mut self) -> Result<(), Self::Error> {
        *self.0.floors.lock() += 1;
        Ok(())
    }

    fn tidy(&mut self, budget: usize) -> Result<u64, Self::Error> {
        let (times, unsynced) = &mut *self.0.untidy.lock();
        let copied = budget as u64 * u64::from(*times > 0);
        *times = times.saturating_sub(1);
        *unsynced |= copied > 0;
        Ok(copied)
    }
    fn pressure(&self) -> Vec<GroupId> {
        Vec::new()
    }
}

/// Counts what it applied; does what the command says.
pub(super) struct Counting {
    pub(super) applied: u64,
    /// Blocks at the command "block" until it hears something or is let go.
    pub(super) gate: channel::Receiver<()>,
}

impl StateMachine for Counting {
    type Output = u64;

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<u64>, ApplyError> {
        let mut outputs = Vec::new();
        for command in commands {
            match &command.data[..] {
                b"panic" => panic!("on purpose"),
                b"fail" => return Err(ApplyError("on purpose".to_owned())),
                b"block" => _ = self.gate.recv(),
                // Takes one to show that it is here.
                b"hold" => _ = self.gate.recv().and_then(|()| self.gate.recv()),
                b"short" => return Ok(Vec::new()),
                _ => {}
            }
            self.applied += 1;
            outputs.push(self.applied);
        }
        Ok(outputs)
    }
}

/// Waiting that fails the test instead of hanging it.
pub(super) trait WaitLong {
    type Answer;
    fn wait_long(self) -> Self::Answer;
}

impl<O: Send + 'static> WaitLong for Ticket<O> {
    type Answer = Outcome<O>;
    fn wait_long(self) -> Outcome<O> {
        self.wait_timeout(LONG).unwrap_or_else(|_| panic!("a ticket was never answered"))
    }
}

impl WaitLong for ReadTicket {
    type Answer = Result<Index, ReadError>;
    fn wait_long(self) -> Self::Answer {
        self.wait_timeout(LONG).unwrap_or_else(|_| panic!("a read was never answered"))
    }
}

impl WaitLong for TransferTicket {
    type Answer = Result<NodeId, TransferError>;
    fn wait_long(self) -> Self::Answer {
        self.wait_timeout(LONG).unwrap_or_else(|_| panic!("a transfer was never answered"))
    }
}

impl Engine {
    pub(super) fn found_group<S: StateMachine>(
        &self,
        group: GroupId,
        configuration: Configuration,
        machine: S,
    ) -> Result<Group<S::Output>, GroupError> {
        self.check_founder(&configuration)?;
        let restored = self.found(group, Restored::founding(configuration), machine.applied())?;
        self.open_group(group, restored, machine)
    }
}

pub(super) struct Alone {
    pub(super) engine: Engine,
    pub(super) group: Group<u64>,
    pub(super) disk: Memory,
    pub(super) gate: channel::Sender<()>,
}

pub(super) fn settings(id: u64) -> Settings {
    Settings {
        id: NodeId(id),
        timing: Timing::from_election_timeout(Duration::from_millis(50)),
        limits: Limits::default(),
        inbox: InboxLimits::default(),
        options: Options::default(),
        clock: Clock::system(),
        batch_bytes: 1 << 20,
        logger: Logger::root(slog::Discard, slog::o!()),
    }
}

pub(super) fn start(settings: Settings, network: &ChannelNetwork) -> (Engine, Memory) {
    let (disk, id) = (Memory::default(), settings.id);
    let nothing_to_load = |_: GroupId, _: &Load| -> Result<Option<Vec<Entry>>, &str> { Err("everything is cached") };
    let connect = |inbound| -> Result<Arc<dyn Transport>, EngineError> { Ok(Arc::new(network.join(id, inbound))) };
    (Engine::start(settings, None, disk.clone(), nothing_to_load, connect).unwrap(), disk)
}

pub(super) fn alone_with(settings: Settings) -> Alone {
    let (engine, disk) = start(settings, &ChannelNetwork::new());
    let (gate, wait) = channel::unbounded();
    let machine = Counting { applied: 0, gate: wait };
    let group = engine.found_group(GROUP, Configuration::of_voters([NodeId(1)]).unwrap(), machine).unwrap();
    let alone = Alone { engine, group, disk, gate };
    alone.until_it_leads();
    alone
}

pub(super) fn alone() -> Alone {
    alone_with(settings(1))
}

/// Nodes 1 to 3 of one group, each over a log in memory.
pub(super) fn three(network: &ChannelNetwork, settings: impl Fn(u64) -> Settings) -> Vec<(Engine, Group<u64>)> {
    let voters = Configuration::of_voters([1, 2, 3].map(NodeId)).unwrap();
    let node = |id| {
        let (engine, _) = start(settings(id), network);
        let (_, gate) = channel::unbounded();
        let group = engine.found_group(GROUP, voters.clone(), Counting { applied: 0, gate }).unwrap();
        (engine, group)
    };
    (1..=3).map(node).collect()
}

/// Which of `nodes` answers a proposal.
pub(super) fn leader(nodes: &[(Engine, Group<u64>)]) -> usize {
    loop {
        let accepted = nodes.iter().position(|(_, group)| group.propose("x").wait_long().is_ok());
        if let Some(leader) = accepted {
            return leader;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Alone {
    /// The first proposals may come before the election.
    fn until_it_leads(&self) {
        while self.group.propose("hello").wait_long() == Err(ProposalError::NotLeader { leader: None }) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn end(self) {
        drop(self.gate);
        self.engine.shutdown(LONG).unwrap();
    }
}

/// `l25`: a group of one elects itself, commits and applies, and answers with the machine's outputs, in order.
#[test]
fn l25_a_lone_node_elects_itself_and_answers_in_order() {
    let alone = alone();
    let tickets = alone.group.propose_batch((0..1000).map(|_| Bytes::from_static(b"x")).collect());
    let outputs: Vec<u64> = tickets.into_iter().map(|ticket| ticket.wait_long().unwrap().output).collect();
    assert_eq!(outputs, (2..=1001).collect::<Vec<_>>());
    let last = alone.group.status().unwrap().core.last.index;
    assert_eq!(alone.group.read(Consistency::Linearizable).wait_long(), Ok(last));
    let metrics = alone.engine.metrics();
    assert_eq!(metrics.apply.commands, 1001);
    assert!(metrics.log.writes >= metrics.log.batches && metrics.log.syncs > 0);
    alone.end();
}

/// Commands of one drain share an append, and writes of one batch a sync.
#[test]
fn proposals_that_wait_together_travel_together() {
    let alone = alone();
    let before = alone.engine.metrics();
    let tickets = alone.group.propose_batch((0..5000).map(|_| Bytes::from_static(b"x")).collect());
    for ticket in tickets {
        ticket.wait_long().unwrap();
    }
    let after = alone.engine.metrics();
    assert_eq!(after.shard.append_batches - before.shard.append_batches, 1);
    assert_eq!(after.log.syncs - before.log.syncs, 1);
    alone.end();
}

/// `c32`: a state machine that panics, fails or miscounts stops its group with a typed error for everybody, and
/// nothing else.
#[test]
fn c32_a_failing_state_machine_stops_its_group_only() {
    for poison in ["panic", "fail", "short"] {
        let alone = alone();
        let (_gate, wait) = channel::unbounded();
        let other = Counting { applied: 0, gate: wait };
        let voters = Configuration::of_voters([NodeId(1)]).unwrap();
        let other = alone.engine.found_group(GroupId(2), voters, other).unwrap();

        let tickets = alone.group.propose_batch(vec![Bytes::from(poison), Bytes::from_static(b"behind it")]);
        for ticket in tickets {
            let stopped = Interruption::Stopped(Fatal::StateMachineFailed);
            assert_eq!(ticket.wait_long(), Err(ProposalError::Unknown(stopped)), "{poison}");
        }
        let refused = alone.group.propose("later").wait_long().unwrap_err();
        assert_eq!(refused, ProposalError::Stopped(Fatal::StateMachineFailed));
        assert!(refused.certainly_not_committed());
        let read = alone.group.read(Consistency::Linearizable).wait_long();
        assert_eq!(read, Err(ReadError::Stopped(Fatal::StateMachineFailed)));
        assert_eq!(alone.group.status().unwrap().core.stopped, Some(Fatal::StateMachineFailed));

        while other.propose("x").wait_long().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(alone.engine.metrics().apply.failed, 1);
        alone.end();
    }
}

/// After a failed sync nothing is acknowledged, everybody is told, and no group is created any more.
#[test]
fn a_failed_disk_acknowledges_nothing_and_tells_everybody() {
    let alone = alone();
    *alone.disk.0.broken.lock() = true;
    let lost = alone.group.propose("x").wait_long().unwrap_err();
    assert_eq!(lost, ProposalError::Unknown(Interruption::Stopped(Fatal::LogFailed)));
    *alone.disk.0.broken.lock() = false;
    assert_eq!(alone.group.propose("x").wait_long(), Err(ProposalError::Stopped(Fatal::LogFailed)));
    let (_gate, wait) = channel::unbounded();
    let voters = Configuration::of_voters([NodeId(1)]).unwrap();
    let created = alone.engine.found_group(GroupId(2), voters, Counting { applied: 0, gate: wait });
    assert!(matches!(created, Err(GroupError::LogFailed)));
    assert!(alone.engine.metrics().log.failed);
    alone.end();
}

/// A read that was confirmed at an index that the stopped core will never hand out is refused, not left waiting. What
/// was handed out before is still applied.
#[test]
fn a_stopped_group_refuses_the_reads_that_wait_for_its_state_machine() {
    let mut settings = settings(1);
    settings.limits.apply_bytes = 1000;
    let alone = alone_with(settings);
    // The command that blocks, and ten behind it.
    let all = alone.group.status().unwrap().core.last.index.plus(11);
    let committed = || {
        let core = alone.group.status().unwrap().core;
        core.commit >= all && core.commit == core.last.index
    };
    let blocked = alone.group.propose("block");
    let behind: Vec<_> = (0..10).map(|_| alone.group.propose(vec![0; 500])).collect();
    while !committed() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let read = alone.group.read(Consistency::Linearizable);
    *alone.disk.0.broken.lock() = true;
    assert!(alone.group.propose("x").wait_long().is_err());
    alone.gate.send(()).unwrap();
    assert_eq!(read.wait_long(), Err(ReadError::Stopped(Fatal::LogFailed)));
    drop((blocked, behind));
    alone.end();
}

/// `l24`, `s01`, `d16`: a state machine that blocks and a disk that stalls fill every queue. Proposals end in
/// `Overloaded`, reads too, the leader stays leader, and when both go on everything that was accepted is answered.
#[test]
fn l24_every_full_queue_pushes_back_and_recovers() {
    let mut settings = settings(1);
    settings.limits.uncommitted_entries = 100;
    settings.limits.waiting_reads = 10;
    let alone = alone_with(settings);
    let term = alone.group.status().unwrap().core.term;

    let blocked = alone.group.propose("block");
    while alone.group.status().unwrap().core.commit < alone.group.status().unwrap().core.last.index {
        std::thread::sleep(Duration::from_millis(1));
    }
    let reads: Vec<_> = (0..100).map(|_| alone.group.read(Consistency::Linearizable)).collect();
    let stall = alone.disk.0.stalled.lock();
    let tickets: Vec<_> = (0..1000).map(|_| alone.group.propose("x")).collect();
    std::thread::sleep(Duration::from_millis(120));
    let status = alone.group.status().unwrap();
    assert_eq!((status.core.role, status.core.term), (crate::core::RoleKind::Leader, term));
    drop(stall);
    alone.gate.send(()).unwrap();

    assert!(blocked.wait_long().is_ok());
    let (mut applied, mut overloaded) = (0, 0);
    for ticket in tickets {
        match ticket.wait_long() {
            Ok(_) => applied += 1,
            Err(ProposalError::Overloaded) => overloaded += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!((1..=101).contains(&applied), "{applied}");
    assert_eq!(applied + overloaded, 1000);
    let answers: Vec<_> = reads.into_iter().map(|ticket| ticket.wait_long()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(ReadError::Overloaded)).count(), 90);
    assert!(alone.group.propose("x").wait_long().is_ok(), "and it goes on");
    alone.end();
}

/// `l24`: the inbox itself is full while the shard is busy.
#[test]
fn l24_a_full_inbox_refuses_clients_with_overloaded() {
    let mut settings = settings(1);
    settings.inbox.clients = 10;
    let alone = alone_with(settings);
    let outcomes: Vec<_> = alone
        .engine
        .entrance
        .look(|_| (0..100).map(|_| alone.group.propose("x")).collect::<Vec<_>>())
        .into_iter()
        .map(|ticket| ticket.wait_long())
        .collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(ProposalError::Overloaded)).count(), 90);
    assert_eq!(alone.engine.metrics().inbox.clients_refused, 90);
    alone.end();
}

/// A command that is too long is refused alone: those proposed with it are not.
#[test]
fn a_command_that_is_too_long_does_not_take_others_with_it() {
    let mut settings = settings(1);
    settings.limits.command_bytes = 10;
    let alone = alone_with(settings);
    let commands = ["tiny", "much too long for it", "tiny"].map(Bytes::from).to_vec();
    let outcomes: Vec<_> = alone.group.propose_batch(commands).into_iter().map(|ticket| ticket.wait_long()).collect();
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1], Err(ProposalError::TooLarge { bytes: 20, limit: 10 }));
    alone.end();
}

/// A callback may propose, also one that is told of a refusal on the proposer's own stack: it does not recurse.
#[test]
fn callbacks_may_propose_again_and_never_recurse() {
    fn again(group: &Group<u64>, left: u32, done: channel::Sender<u32>) {
        let next = group.clone();
        group.propose_with(vec![0; 64], move |outcome| {
            assert!(matches!(outcome, Err(ProposalError::TooLarge { .. })));
            if left == 0 { done.send(left).unwrap() } else { again(&next, left - 1, done) }
        });
    }
    let mut settings = settings(1);
    settings.limits.command_bytes = 10;
    let alone = alone_with(settings);
    let (done, wait) = channel::bounded(1);
    // Deep enough to overflow the stack if every refusal were told on top of the one before.
    again(&alone.group, 100_000, done);
    assert_eq!(wait.recv_timeout(LONG), Ok(0));
    alone.end();
}

/// Callbacks that are told together and propose again are appended together: answering does not undo batching.
#[test]
fn what_callbacks_propose_travels_together() {
    let alone = alone();
    let (told, wait) = channel::unbounded();
    let stall = alone.disk.0.stalled.lock();
    for _ in 0..100 {
        let (group, told) = (alone.group.clone(), told.clone());
        alone.group.propose_with("x", move |_| group.propose_with("y", move |outcome| told.send(outcome).unwrap()));
    }
    let before = alone.engine.metrics().shard.append_batches;
    drop(stall);
    for _ in 0..100 {
        assert!(wait.recv_timeout(LONG).unwrap().is_ok());
    }
    let batches = alone.engine.metrics().shard.append_batches - before;
    assert!(batches <= 10, "{batches} appends for 100 commands");
    alone.end();
}

/// `l01`, `c32`: a shutdown tells everybody, refuses what comes later, and is bounded even if a state machine never
/// returns; the second one finds it ended.
#[test]
fn l01_shutdown_answers_everybody_and_is_bounded() {
    let alone = alone();
    let blocked = alone.group.propose("hold");
    let read = loop {
        let status = alone.group.status().unwrap();
        if status.core.commit == status.core.last.index {
            break alone.group.read(Consistency::Linearizable);
        }
    };
    alone.gate.send(()).unwrap();
    while !alone.gate.is_empty() {
        std::thread::yield_now();
    }
    let stuck = alone.engine.shutdown(Duration::from_millis(100)).unwrap_err();
    assert!(stuck.threads.iter().any(|thread| thread == "tenure-apply-g1"), "{stuck}");
    let late = alone.group.propose("x").wait_long().unwrap_err();
    assert!(late == ProposalError::ShutDown && late.certainly_not_committed());
    assert_eq!(alone.group.read(Consistency::Linearizable).wait_long(), Err(ReadError::ShutDown));
    assert!(alone.group.status().is_none());

    drop(alone.gate);
    alone.engine.shutdown(LONG).unwrap();
    // The machine had the command in hand and returned: that answer is given. The read may have been taken with it.
    assert!(blocked.wait_long().is_ok());
    assert!(matches!(read.wait_long(), Ok(_) | Err(ReadError::ShutDown)));
}

/// A shutdown with proposals under way ends each of them, as committed, refused or unknown.
#[test]
fn l01_shutdown_under_load_leaves_no_ticket_open() {
    let alone = alone();
    let stall = alone.disk.0.stalled.lock();
    let tickets: Vec<_> = (0..100).map(|_| alone.group.propose("x")).collect();
    let stuck = alone.engine.shutdown(Duration::from_millis(50)).unwrap_err();
    assert!(stuck.threads.iter().any(|thread| thread == "tenure-persist"), "{stuck}");
    for ticket in tickets {
        assert_eq!(ticket.wait_long(), Err(ProposalError::Unknown(Interruption::ShutDown)));
    }
    drop(stall);
    alone.end();
}

/// `s02`, `r06`: an idle node notes once that its log is durable, then nothing wakes but the leader's own timer.
#[test]
fn s02_an_idle_node_sleeps() {
    let alone = alone();
    std::thread::sleep(Duration::from_millis(100));
    let (before, floors) = (alone.engine.metrics(), *alone.disk.0.floors.lock());
    assert!(floors >= 1);
    std::thread::sleep(Duration::from_millis(200));
    let after = alone.engine.metrics();
    assert_eq!(*alone.disk.0.floors.lock(), floors);
    assert_eq!(after.log.wake_ups, before.log.wake_ups);
    assert_eq!(after.apply.wake_ups, before.apply.wake_ups);
    assert!(after.entering.rounds - before.entering.rounds <= 50, "{:?} {:?}", before.entering, after.entering);
    alone.end();
}

/// What was recovered is noted to be durable too, although nobody writes.
#[test]
fn a_log_that_was_opened_is_noted_to_be_durable() {
    let (engine, disk) = start(settings(1), &ChannelNetwork::new());
    while *disk.0.floors.lock() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    engine.shutdown(LONG).unwrap();
}

/// The log gives back space between batches and when nothing comes, and what it copies for that becomes durable.
#[test]
fn the_log_is_kept_tidy_between_batches_and_when_idle() {
    let alone = alone();
    *alone.disk.0.untidy.lock() = (5, false);
    let floors = *alone.disk.0.floors.lock();
    alone.group.propose(Bytes::from_static(b"x")).wait_long().unwrap();
    let begun = std::time::Instant::now();
    while *alone.disk.0.untidy.lock() != (0, false) || *alone.disk.0.floors.lock() == floors {
        assert!(begun.elapsed() < LONG, "{:?}", *alone.disk.0.untidy.lock());
        std::thread::sleep(Duration::from_millis(1));
    }
    alone.end();
}

/// A group needs its founder among its members and a state machine that is not ahead of the log.
#[test]
fn creating_a_group_checks_before_anything_is_written() {
    let alone = alone();
    let (_gate, gate) = channel::unbounded();
    let machine = Counting { applied: 0, gate };
    let elsewhere = Configuration::of_voters([NodeId(2)]).unwrap();
    let refused = alone.engine.found_group(GroupId(2), elsewhere, machine);
    assert!(matches!(refused, Err(GroupError::NotAMember { node: NodeId(1) })));

    struct Ahead;
    impl StateMachine for Ahead {
        type Output = ();
        fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
            Ok(vec![(); commands.len()])
        }
        fn applied(&self) -> Index {
            Index(5)
        }
    }
    let here = Configuration::of_voters([NodeId(1)]).unwrap();
    let refused = alone.engine.found_group(GroupId(2), here, Ahead);
    assert!(matches!(refused, Err(GroupError::Start(StartError::AppliedBeyondLog { .. }))));
    alone.end();
}

/// Three engines over an in-process network: a leader is elected, commands are applied everywhere, and a leader that
/// is cut off tells its callers that the outcome is unknown once it learns that it was deposed (`c33`).
#[test]
fn c33_a_deposed_leader_answers_unknown() {
    let network = ChannelNetwork::new();
    let nodes = three(&network, settings);
    let old = leader(&nodes);
    network.isolate(NodeId(old as u64 + 1));
    let lost = nodes[old].1.propose("lost");
    let others = || nodes.iter().enumerate().filter(|(nth, _)| *nth != old).map(|(_, node)| node);
    while !others().any(|(_, group)| matches!(group.propose("y").wait_timeout(LONG), Ok(Ok(_)))) {
        std::thread::sleep(Duration::from_millis(5));
    }
    network.heal();
    let error = lost.wait_long().unwrap_err();
    assert!(matches!(error, ProposalError::Unknown(Interruption::LeadershipLost { .. })), "{error}");
    for (engine, _) in nodes {
        engine.shutdown(LONG).unwrap();
    }
}

/// Every message of a dead transport is lost and counted, and nothing else happens.
struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, batch: &mut Vec<crate::message::Message>) {
        batch.clear();
    }
    fn stats(&self) -> TransportStats {
        TransportStats::default()
    }
    fn shutdown(&self) {}
}

/// Knobs are checked before anything is started.
#[test]
fn a_bad_knob_starts_nothing() {
    let mut settings = settings(1);
    settings.timing.heartbeat_interval = Duration::ZERO;
    let read = |_: GroupId, _: &Load| -> Result<Option<Vec<Entry>>, Infallible> { Ok(None) };
    let started = Engine::start(settings, None, Memory::default(), read, |_| Ok(Arc::new(Nowhere)));
    assert!(matches!(started, Err(EngineError::Config(_))));
}

/// No input is left behind when many threads enter at once. Nothing else would drain it here: there is no group, so no
/// timer, and every read of a group that is not open is answered at once.
#[test]
fn no_input_is_left_in_the_inbox() {
    let (engine, _) = start(settings(1), &ChannelNetwork::new());
    let group = Group::<u64>::new(GROUP, engine.entrance.clone(), Arc::new(Annex::new(Index::ZERO, 1, None)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5000 {
                    assert_eq!(group.read(Consistency::Linearizable).wait_long(), Err(ReadError::ShutDown));
                }
            });
        }
    });
    engine.shutdown(LONG).unwrap();
}
