//! A cluster in virtual time: the engine's own shards and logs, a network and disks that fail, and judges that look on.
//!
//! One seed decides everything. Each event is a delivery, a finished sync, an applied batch, a timer or an alarm; the
//! judges look at each.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::mem;

use bytes::Bytes;

use super::clock::NodeClock;
use super::dice::{Dice, Span};
use super::disk::SimFs;
use super::faults::Ambush;
use super::judges::{Fates, Leases, Logs, Verdict, Violation, Votes};
use super::mailbox::{Mailbox, Told};
use super::network::{Network, Weather};
use super::node::{self, Node, Wanted};
use super::snapshots::{SnapshotPlan, Step};
use super::tally::Tally;
use super::trace::{Scene, Trace};
use super::transfer::{Bulk, Parcel};
use crate::config::CoreConfig;
use crate::core::{Core, Load, Pulse, RoleKind};
use crate::message::{Body, Message};
use crate::quorum::{self, Configuration};
use crate::runtime::driver::ShardInput;
use crate::state_machine::StateMachine;
use crate::time::{Duration, Instant};
use crate::types::{Index, NodeId};
use crate::wal::WalConfig;
use crate::wire::codec;

/// What a world is made of.
pub struct Setup<M> {
    /// Decides everything that is random.
    pub seed: u64,
    /// How many nodes, 1 to 31; their ids are 1, 2 and so on.
    pub nodes: u64,
    /// How many of them found the group; the others are there to join it.
    pub founders: u64,
    /// How each is configured, but for its id and seed.
    pub core: CoreConfig,
    /// The network.
    pub weather: Weather,
    /// How long a sync takes.
    pub sync: Span,
    /// How long a call of a state machine takes.
    pub apply: Span,
    /// How long inputs of a node gather before they are handed in together; none means each alone.
    pub gather: Span,
    /// Snapshots of the state machines.
    pub snapshots: SnapshotPlan,
    /// Whether everything is recorded.
    pub trace: bool,
    /// Makes a node's state machine, at each start; it is given the one that was left when the process before it died.
    pub machine: Box<dyn FnMut(NodeId, Option<M>) -> M>,
    /// A number that is equal for equal states of the machine.
    pub digest: Box<dyn Fn(&M) -> u64>,
}

impl<M> Setup<M> {
    /// A healthy world.
    #[must_use]
    pub fn new(seed: u64, nodes: u64, mut machine: impl FnMut(NodeId) -> M + 'static) -> Self {
        Self {
            seed,
            nodes,
            founders: nodes,
            core: CoreConfig::new(NodeId(1), node::GROUP, 0),
            weather: Weather::fair(),
            sync: Span::micros(100, 2000),
            apply: Span::exactly(Duration::ZERO),
            gather: Span::exactly(Duration::ZERO),
            snapshots: SnapshotPlan::default(),
            trace: false,
            machine: Box::new(move |node, _| machine(node)),
            digest: Box::new(|_| 0),
        }
    }
}

/// Something that is due.
pub(super) struct Due {
    at: Instant,
    /// Tells events of one moment apart: first come, first served.
    number: u64,
    what: Happening,
}

pub(super) enum Happening {
    Deliver { from: u64, to: u64, frame: Bytes, number: u64, flipped: bool },
    Synced { node: u64, incarnation: u64 },
    Idle { node: u64, incarnation: u64, batches: u64 },
    Apply { node: u64, incarnation: u64 },
    Enter { node: u64, incarnation: u64 },
    Loaded { node: u64, incarnation: u64, load: Load },
    Snapshot { node: u64, incarnation: u64, step: Step },
    Bulk(Parcel),
    Resume { node: u64, incarnation: u64 },
    Restart { node: u64 },
    Die { node: u64, incarnation: u64, ambush: Ambush },
    Alarm(u64),
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest: a `BinaryHeap` hands out the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// A cluster and everything around it. Its nodes are called 1, 2 and so on, up to [`Setup::nodes`]; to speak of another one is
/// a mistake in a test, and panics.
pub struct World<M: StateMachine> {
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node<M>>,
    pub(super) network: Network,
    pub(super) core: CoreConfig,
    pub(super) wal: WalConfig,
    pub(super) sync: Span,
    pub(super) apply: Span,
    pub(super) gather: Span,
    pub(super) snapshots: SnapshotPlan,
    pub(super) bulk: Bulk,
    pub(super) machine: Box<dyn FnMut(NodeId, Option<M>) -> M>,
    pub(super) digest: Box<dyn Fn(&M) -> u64>,
    /// Seeds of processes, fates of unsynced sectors, delays of disks.
    pub(super) dice: Dice,
    agenda: BinaryHeap<Due>,
    number: u64,
    frames: u64,
    pub(super) mailbox: Mailbox<M::Output>,
    /// What was told and nobody has looked at, with the token and the node.
    told: Vec<(u64, u64, Told<M::Output>)>,
    alarms: Vec<u64>,
    /// Steps of nodes without the clock moving on.
    standstill: u32,
    pub(super) tally: Tally,
    pub(super) trace: Trace,
    pub(super) logs: Logs,
    pub(super) votes: Votes,
    pub(super) leases: Leases,
    pub(super) fates: Fates,
    pub(super) violation: Option<Violation>,
    pub(super) asked: super::ask::Asked,
    /// Whether every clock has stayed within the bound: leases are trusted only then.
    pub(super) clocks_within_bound: bool,
    /// Leases are judged all the same: for showing that the judge would notice.
    pub(super) judge_wild_clocks: bool,
    /// The others are not listened to: for showing that this one would notice by itself.
    pub(super) only: Option<&'static str>,
    /// For the next leaders.
    pub(super) ambushes: VecDeque<Ambush>,
    wanted: Wanted,
}

/// When worlds begin: clocks may be set back a little.
pub(super) const BEGINNING: Duration = Duration::from_secs(1000);

/// The size of a segment of a simulated log: small, so that logs have many.
const SEGMENT_BYTES: u64 = 32 << 10;

/// The longest body of a frame.
pub(super) const FRAME_BYTES: usize = 64 << 20;

/// So many steps at one moment are a loop that does not end.
const STANDSTILL: u32 = 20_000;

impl<M: StateMachine> World<M> {
    /// Founds a cluster and starts every node.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(setup: Setup<M>) -> Result<Self, String> {
        let Setup {
            seed,
            nodes: size,
            founders,
            core,
            weather,
            sync,
            apply,
            gather,
            trace,
            machine,
            digest,
            snapshots,
        } = setup;
        if !(1..=31).contains(&size) {
            return Err("a world has 1 to 31 nodes".to_owned());
        }
        if !(1..=size).contains(&founders) {
            return Err(format!("of {size} nodes 1 to {size} can found a group, not {founders}"));
        }
        let mut wal = WalConfig::default();
        (wal.segment_bytes, wal.batch_bytes, wal.spare_segments) = (SEGMENT_BYTES, SEGMENT_BYTES as usize / 2, 0);
        wal.soft_bytes = SEGMENT_BYTES * 2;
        let mut world = Self {
            now: Instant::ZERO + BEGINNING,
            nodes: Vec::new(),
            network: Network::new(size as usize, weather, seed),
            core,
            wal,
            sync,
            apply,
            gather,
            snapshots,
            bulk: Bulk::new(seed),
            machine,
            digest,
            dice: Dice::new(seed, "world"),
            agenda: BinaryHeap::new(),
            number: 0,
            frames: 0,
            mailbox: Mailbox::new(),
            told: Vec::new(),
            alarms: Vec::new(),
            standstill: 0,
            tally: Tally { runs: 1, ..Tally::default() },
            trace: Trace::new(trace),
            logs: Logs::new(size as usize),
            votes: Votes::default(),
            leases: Leases::default(),
            fates: Fates::default(),
            violation: None,
            asked: super::ask::Asked::default(),
            clocks_within_bound: true,
            judge_wild_clocks: false,
            only: None,
            ambushes: VecDeque::new(),
            wanted: Wanted::default(),
        };
        world.found(size, founders)?;
        Ok(world)
    }

    fn found(&mut self, size: u64, founders: u64) -> Result<(), String> {
        let voters = Configuration::of_voters((1..=founders).map(NodeId)).map_err(|error| error.to_string())?;
        for id in 1..=size {
            let disk = SimFs::new();
            node::prepare(&disk, id).map_err(|error| error.to_string())?;
            if id <= founders {
                let write = node::found(&disk, self.wal.clone(), voters.clone()).map_err(|error| error.to_string())?;
                self.logs.written(id, &write, None).map_err(|violation| violation.to_string())?;
                self.logs.appended(id, [write].into_iter());
                self.logs.synced(id);
            }
            // Every clock has a beginning of its own.
            let (started_at, mut clock) = (self.now, NodeClock::true_time());
            clock.shift(self.dice.duration(Span(Duration::ZERO, BEGINNING)));
            let (slow, hung, blocked) = (Duration::ZERO, false, false);
            self.nodes.push(Node {
                id,
                clock,
                disk,
                incarnation: 0,
                life: None,
                left: None,
                slow,
                hung,
                blocked,
                doom: None,
                started_at,
            });
        }
        for id in 1..=size {
            self.start(id, true).map_err(|error| format!("n{id}: {error}"))?;
        }
        Ok(())
    }

    // ---- looking ---------------------------------------------------------------------------------------------------

    /// The true time. Nodes have clocks of their own.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The nodes, up or not.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// A node's core; `None` if it is not up.
    #[must_use]
    pub fn core(&self, id: u64) -> Option<&Core> {
        self.node(id).life.as_ref()?.shard.core(node::GROUP)
    }

    /// A node's role; `None` if it is not up.
    #[must_use]
    pub fn role(&self, id: u64) -> Option<RoleKind> {
        Some(self.core(id)?.pulse().role)
    }

    /// Of the nodes that lead, the one of the newest term.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        let pulse = |node: &Node<M>| Some((self.core(node.id)?.pulse(), node.id));
        let leaders = self.nodes.iter().filter_map(pulse).filter(|(pulse, _)| pulse.role == RoleKind::Leader);
        leaders.max_by_key(|(pulse, _)| pulse.term).map(|(_, id)| id)
    }

    /// Whether a quorum follows one leader of the newest term there is.
    #[must_use]
    pub fn is_led(&self) -> bool {
        let pulses: Vec<_> = self.nodes.iter().filter_map(|node| self.core(node.id).map(Core::pulse)).collect();
        let Some(newest) = pulses.iter().map(|pulse| pulse.term).max() else { return false };
        let Some(leader) = self.leader() else { return false };
        let follows = |pulse: Pulse| pulse.term == newest && pulse.leader == Some(NodeId(leader));
        let with_it = |id: NodeId| self.core(id.0).is_some_and(|core| follows(core.pulse()));
        self.core(leader).is_some_and(|core| core.configuration().tally(|id| Some(with_it(id))) == quorum::Tally::Won)
    }

    /// A node's state machine; `None` if it is not up.
    #[must_use]
    pub fn machine(&self, id: u64) -> Option<&M> {
        Some(&self.node(id).life.as_ref()?.machine)
    }

    /// What happened so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The record.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// In how many terms more than one node stood.
    #[must_use]
    pub fn contested_terms(&self) -> usize {
        self.votes.contested()
    }

    /// The first promise that was broken, if one was.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(super) fn node(&self, id: u64) -> &Node<M> {
        &self.nodes[id as usize - 1]
    }

    pub(super) fn node_mut(&mut self, id: u64) -> &mut Node<M> {
        &mut self.nodes[id as usize - 1]
    }

    /// Keeps the first broken promise, with the time.
    pub(super) fn judge(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict
            && self.violation.is_none()
            && self.only.is_none_or(|only| only == violation.judge)
        {
            let violation = Violation { at: self.now, ..violation };
            let Violation { judge, node, what, .. } = &violation;
            self.trace.record(self.now, || Scene::Broken { node: *node, text: format!("{judge}: {what}") });
            self.violation = Some(violation);
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    /// When the next event is; `None` if nothing will ever happen again.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        let timer = self.next_timer().map(|(at, _)| at);
        let due = self.agenda.peek().map(|due| due.at);
        timer.into_iter().chain(due).min()
    }

    fn next_timer(&self) -> Option<(Instant, u64)> {
        let wake = |node: &Node<M>| {
            let life = node.life.as_ref().filter(|life| life.paused.is_none())?;
            Some((life.wake?, node.id))
        };
        self.nodes.iter().filter_map(wake).min()
    }

    /// The next event happens.
    pub fn step(&mut self) {
        let timer = self.next_timer();
        let due = self.agenda.peek().map(|due| due.at);
        match timer {
            Some((at, id)) if due.is_none_or(|due| at <= due) => {
                self.move_to(at);
                self.trace.count(id);
                self.input(id, ShardInput::Deadline);
            }
            _ => {
                let Some(Due { at, what, .. }) = self.agenda.pop() else { return };
                self.move_to(at);
                self.happen(what);
            }
        }
        self.tally.events += 1;
    }

    fn move_to(&mut self, at: Instant) {
        self.standstill = if at > self.now { 0 } else { self.standstill + 1 };
        if self.standstill > STANDSTILL {
            let what = format!("{STANDSTILL} events, and no time passes");
            self.judge(super::judges::broken("nobody spins", 0, what));
        }
        self.now = self.now.max(at);
        self.trace.count(at.as_nanos());
    }

    /// Everything until `end` happens.
    pub fn run_until_time(&mut self, end: Instant) {
        while self.violation.is_none() && self.next_event().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Lets an alarm go off; [`World::take_alarms`] tells.
    pub fn set_alarm(&mut self, delay: Duration, token: u64) {
        self.schedule(delay, Happening::Alarm(token));
    }

    /// The alarms that went off since the last call.
    pub fn take_alarms(&mut self) -> Vec<u64> {
        mem::take(&mut self.alarms)
    }

    /// What was told since the last call: the token of who asked, the node, and what. Reads are to be carried out at
    /// once: the node's state machine has applied what they must see.
    pub fn take_told(&mut self) -> Vec<(u64, u64, Told<M::Output>)> {
        mem::take(&mut self.told)
    }

    pub(super) fn collect_told(&mut self, id: u64) {
        for (token, told) in self.mailbox.empty() {
            self.judge_told(id, token, &told);
            self.told.push((token, id, told));
        }
    }

    pub(super) fn schedule(&mut self, delay: Duration, what: Happening) {
        self.schedule_at(self.now + delay, what);
    }

    pub(super) fn schedule_at(&mut self, at: Instant, what: Happening) {
        self.number += 1;
        self.agenda.push(Due { at, number: self.number, what });
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Deliver { from, to, frame, number, flipped } => self.deliver(from, to, &frame, number, flipped),
            Happening::Synced { node, incarnation } if self.lives(node, incarnation) => self.synced(node),
            Happening::Idle { node, incarnation, batches } if self.lives(node, incarnation) => self.idle(node, batches),
            Happening::Apply { node, incarnation } if self.lives(node, incarnation) => {
                if let Some(life) = &mut self.node_mut(node).life {
                    (life.applying, life.apply_now) = (false, true);
                }
                self.apply_backlog(node);
                self.settle(node);
            }
            Happening::Loaded { node, incarnation, load } if self.lives(node, incarnation) => self.loaded(node, load),
            Happening::Resume { node, incarnation } if self.lives(node, incarnation) => {
                self.resume(node);
            }
            Happening::Enter { node, incarnation } if self.lives(node, incarnation) => self.enter(node),
            Happening::Snapshot { node, incarnation, step } if self.lives(node, incarnation) => {
                self.snapshot_step(node, step);
            }
            Happening::Bulk(parcel) => self.deliver_bulk(parcel),
            Happening::Restart { node } => self.restart(node),
            Happening::Die { node, incarnation, ambush } if self.lives(node, incarnation) => {
                self.crash_for(node, ambush.power_lost, ambush.down);
            }
            Happening::Alarm(token) => self.alarms.push(token),
            _ => {}
        }
    }

    fn lives(&self, id: u64, incarnation: u64) -> bool {
        let node = self.node(id);
        node.incarnation == incarnation && node.life.is_some()
    }

    // ---- the network -----------------------------------------------------------------------------------------------

    fn deliver(&mut self, from: u64, to: u64, frame: &Bytes, number: u64, flipped: bool) {
        let lost = |why| move || Scene::Lost { frame: number, why };
        if self.network.is_cut((from, to)) {
            self.tally.cut += 1;
            return self.trace.record(self.now, lost("cut"));
        }
        if self.node(to).life.is_none() {
            return self.trace.record(self.now, lost("down"));
        }
        let mut messages = Vec::new();
        let read = codec::decode_frame(frame, FRAME_BYTES, &mut messages);
        if flipped {
            let noticed = read.is_err();
            self.judge(super::judges::require(noticed, "a flipped bit is noticed", to, || format!("{messages:?}")));
        }
        if read.is_err() {
            return self.trace.record(self.now, lost("damaged"));
        }
        self.trace.count(number);
        self.trace.record(self.now, || Scene::Arrived { frame: number });
        self.input(to, ShardInput::Received(messages));
    }

    /// Sends what one flush of a node wants sent: one frame for each receiver.
    fn post(&mut self, from: u64, messages: &mut Vec<Message>) {
        let durable = self.logs.durable_hard_state(from);
        let term = self.core(from).map(|core| core.pulse().term);
        for message in &*messages {
            // What was said in an earlier term may have been overtaken within the same flush.
            let old = Some(message.term) != term;
            let is_durable = |index| old || self.logs.durable_as_written(from, index);
            let verdict = self.votes.sent(message, durable, is_durable);
            self.judge(verdict);
            if let Body::AppendEntries(append) = &message.body {
                self.tally.payload_bytes += append.slice.bytes() as u64;
                if append.snapshot {
                    let matched = self.votes.known_match(from, message.term, message.to.0);
                    let verdict = self.logs.offered(from, message.to.0, matched);
                    self.judge(verdict);
                }
            }
        }
        let mut frames = Vec::new();
        while let Some(to) = messages.first().map(|message| message.to) {
            let batch: Vec<_> = messages.extract_if(.., |message| message.to == to).collect();
            self.tally.messages += batch.len() as u64;
            codec::encode(&batch, FRAME_BYTES, &mut frames);
            for message in batch {
                let frame = self.frames + 1;
                self.trace.record(self.now, || Scene::Sent { message, frame });
            }
            for frame in frames.drain(..) {
                self.post_frame((from, to.0), &frame.bytes);
            }
        }
    }

    fn post_frame(&mut self, link: (u64, u64), frame: &Bytes) {
        self.frames += 1;
        self.tally.frames += 1;
        self.trace.count(u64::from(crc32c::crc32c(frame)));
        let number = self.frames;
        let arrivals = self.network.post(self.now, link, frame, &mut self.tally);
        if arrivals[0].is_none() {
            let why = if self.network.is_cut(link) { "cut" } else { "lost" };
            self.trace.record(self.now, || Scene::Lost { frame: number, why });
        }
        for arrival in arrivals.into_iter().flatten() {
            let super::network::Arrival { at, frame, flipped } = arrival;
            self.schedule_at(at, Happening::Deliver { from: link.0, to: link.1, frame, number, flipped });
        }
    }

    // ---- inputs and what follows from them -------------------------------------------------------------------------

    /// Something happens to a node.
    pub(super) fn input(&mut self, id: u64, input: ShardInput) {
        let paused = self.node_mut(id).life.as_mut().and_then(|life| life.paused.as_mut());
        if let Some(paused) = paused {
            return paused.waiting.push(input);
        }
        if self.gather.1 > Duration::ZERO {
            return self.put_into_inbox(id, input);
        }
        self.hand_in(id, input);
        self.settle(id);
    }

    /// Whoever enters a shard takes along what others have brought.
    fn put_into_inbox(&mut self, id: u64, input: ShardInput) {
        let incarnation = self.node(id).incarnation;
        let Some(life) = &mut self.node_mut(id).life else { return };
        // Its timer has fired; when to fire next is known after the round.
        life.wake = life.wake.filter(|_| !matches!(input, ShardInput::Deadline));
        life.inbox.push(input);
        if life.inbox.len() == 1 {
            let delay = self.dice.duration(self.gather);
            self.schedule(delay, Happening::Enter { node: id, incarnation });
        }
    }

    fn enter(&mut self, id: u64) {
        let Some(life) = &mut self.node_mut(id).life else { return };
        let inputs = mem::take(&mut life.inbox);
        if let Some(paused) = &mut life.paused {
            return paused.waiting.extend(inputs);
        }
        for input in inputs {
            self.hand_in(id, input);
        }
        self.settle(id);
    }

    pub(super) fn hand_in(&mut self, id: u64, input: ShardInput) {
        let mut wanted = mem::take(&mut self.wanted);
        let now = self.now;
        let installed = match &input {
            ShardInput::SnapshotInstalled { last, .. } => last.index,
            _ => Index::ZERO,
        };
        let node = self.node_mut(id);
        let local = node.clock.at(now);
        if let Some(life) = &mut node.life {
            life.shard.handle(&mut || local, input, &mut wanted);
            life.desk.installed.0 = life.desk.installed.0.max(installed);
        }
        self.carry_out(id, wanted);
    }

    /// Carries out everything that follows from what was handed in, and from that again.
    pub(super) fn settle(&mut self, id: u64) {
        let now = self.now;
        for round in 0.. {
            if round > STANDSTILL {
                let what = format!("{STANDSTILL} flushes in a row");
                return self.judge(super::judges::broken("nobody spins", id, what));
            }
            let node = self.node_mut(id);
            let local = node.clock.at(now);
            let Some(life) = &mut node.life else { return };
            if life.paused.is_some() {
                break;
            }
            let mut wanted = mem::take(&mut self.wanted);
            let Some(life) = &mut self.node_mut(id).life else { return };
            life.shard.flush(&mut || local, &mut wanted);
            self.carry_out(id, wanted);
            if let Some(life) = &mut self.node_mut(id).life {
                // What it handed out before it heard of a snapshot has come out by now.
                life.desk.installed.1 = life.desk.installed.0;
            }
            // The core's log is what the judges know of it only right after a flush.
            if let Some(pulse) = self.core(id).map(Core::pulse) {
                let verdict = self.logs.committed_up_to(id, pulse.commit, pulse.term);
                self.judge(verdict);
            }
            let applied = self.apply_backlog(id);
            let unsettled = self.node_mut(id).life.as_mut().is_some_and(|life| mem::take(&mut life.unsettled));
            // A broken promise may be one that this never ends.
            if !(applied || unsettled) || self.violation.is_some() {
                break;
            }
        }
        self.look_at(id);
        self.collect_told(id);
    }

    /// After a step: when the node wants to be called, and whether anything went back.
    fn look_at(&mut self, id: u64) {
        let Node { clock, life, .. } = self.node_mut(id);
        let Some(life) = life else { return };
        life.wake = life.shard.next_deadline().map(|deadline| clock.when(deadline));
        let Some(core) = life.shard.core(node::GROUP) else { return };
        let (pulse, base) = (core.pulse(), core.log().base());
        let risen = mem::replace(&mut life.commit, pulse.commit) < pulse.commit;
        if risen {
            self.trace.record(self.now, || Scene::Committed { node: NodeId(id), index: pulse.commit });
        }
        let verdict = self.votes.stepped(id, pulse);
        self.judge(verdict);
        let same = self.logs.durable_as_written(id, pulse.durable);
        self.judge(super::judges::require(same, "what is called durable is", id, || format!("{pulse:?}")));
        let in_use = self.core(id).map(Core::configuration);
        let verdict = in_use.map_or(Ok(()), |in_use| self.logs.judge_view(id, base, pulse.last, in_use));
        self.judge(verdict);
        if self.tally.events.is_multiple_of(LOOK_CLOSER) {
            self.look_closer(id);
        }
    }

    /// Takes back the buffer for the next flush.
    pub(super) fn return_buffer(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    pub(super) fn send(&mut self, from: u64, messages: &mut Vec<Message>) {
        if !messages.is_empty() {
            self.post(from, messages);
        }
    }
}

/// Every so many events the checks that cost more are made.
const LOOK_CLOSER: u64 = 32;
