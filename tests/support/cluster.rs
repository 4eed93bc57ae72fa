//! A cluster in virtual time: the node's own shard, a network and disks that fail, and judges that look on.
//!
//! One seed decides everything. Each event is a delivery, a finished sync, an applied batch or a timer; between events
//! the judges check what must hold at every instant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use tenure::config::{CoreConfig, Limits, Timing};
use tenure::core::{Consistency, CoreStatus, Event as CoreEvent, Lease, Load, RoleKind};
use tenure::log::{Entry, EntryKind, Write};
use tenure::message::Message;
use tenure::runtime::driver::{Committed, Effects, Shard, ShardInput};
use tenure::runtime::{Answer, ReadReply, Reply, TransferError, TransferReply};
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, GroupId, Index, NodeId, Term};

pub use super::client::Told;
use super::client::{Ledger, ReadSlip, Slip, TransferSlip};
use super::clock::NodeClock;
use super::disk::Disk;
use super::lone::{GROUP, ms, voters};

#[path = "judges.rs"]
mod judges;

/// How bad the world is. All times in ms, all chances in percent.
#[derive(Clone, Debug)]
pub struct Weather {
    pub delay: (u64, u64),
    pub loss: u64,
    pub duplication: u64,
    /// Chance that a message is delayed by up to this many ms more, overtaking being the point.
    pub straggle: (u64, u64),
    pub sync: (u64, u64),
    /// Chance that a sync takes up to this many ms more: a disk that hangs.
    pub stall: (u64, u64),
}

impl Weather {
    pub fn fair() -> Self {
        Self { delay: (1, 2), loss: 0, duplication: 0, straggle: (0, 0), sync: (0, 1), stall: (0, 0) }
    }

    /// `l09`: 0-27 ms, 10 % lost, some answers up to 7 s late.
    pub fn lab() -> Self {
        Self { delay: (0, 27), loss: 10, duplication: 2, straggle: (3, 7000), sync: (0, 10), stall: (0, 0) }
    }
}

enum Happening {
    Deliver(Message),
    Synced { node: u64, incarnation: u64 },
    Applied { node: u64, incarnation: u64, index: Index },
    Loaded { node: u64, incarnation: u64, load: Load },
    Resume { node: u64, incarnation: u64, jumped: bool },
}

pub struct Member {
    shard: Option<Shard>,
    pub disk: Disk,
    /// The state machine, in memory: (id, command) of every applied command.
    pub applied: Vec<(EntryId, Bytes)>,
    applied_index: Index,
    waiting_reads: Vec<(Index, ReadReply)>,
    incarnation: u64,
    syncing: bool,
    /// The state machine does not come back from `apply`; what is committed meanwhile waits.
    blocked: Option<Vec<Committed>>,
    /// The process is stopped; what comes in meanwhile waits.
    paused: Option<Vec<ShardInput>>,
    clock: NodeClock,
    /// The lease as threads beside the shard may use it.
    pub published: Option<Lease>,
}

pub struct Cluster {
    pub seed: u64,
    pub now: Instant,
    pub weather: Weather,
    pub members: BTreeMap<u64, Member>,
    /// Directed links that carry nothing.
    pub cut: BTreeSet<(u64, u64)>,
    pub messages: u64,
    pub bytes: u64,
    pub leader_changes: u64,
    pub truncations: u64,
    pub abdications: u64,
    template: CoreConfig,
    rng: Xoshiro256PlusPlus,
    happenings: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: BTreeMap<u64, Happening>,
    sequence: u64,
    /// Who stood for election, by term: two in one term may split the vote.
    pub candidates: BTreeMap<Term, BTreeSet<u64>>,
    // What the judges remember.
    leaders: BTreeMap<Term, u64>,
    committed: BTreeMap<Index, (Term, Bytes)>,
    proposals: Vec<(Bytes, Arc<Slip>)>,
    ledger: Ledger,
    open_reads: Vec<Arc<ReadSlip>>,
    transfers: Vec<Arc<TransferSlip>>,
    /// Reads that were confirmed, by consistency; those that a published lease answered as `published`.
    pub answered: BTreeMap<&'static str, usize>,
}

/// Collects what one flush wants done.
#[derive(Default)]
struct Wanted {
    messages: Vec<Message>,
    writes: Vec<Write>,
    applies: Vec<Committed>,
    reads: Vec<(Index, ReadReply)>,
    loads: Vec<Load>,
    answers: Vec<Answer>,
    events: Vec<CoreEvent>,
    /// The last change, if there was one.
    lease: Option<Option<Lease>>,
}

impl Effects for Wanted {
    fn lease(&mut self, _group: GroupId, lease: Option<Lease>) {
        assert!(self.messages.is_empty() && self.applies.is_empty(), "a lease is told before everything else");
        self.lease = Some(lease);
    }

    fn send(&mut self, messages: &mut Vec<Message>) {
        self.messages.append(messages);
    }

    fn persist(&mut self, _group: GroupId, write: Write) {
        self.writes.push(write);
    }

    fn apply(&mut self, _group: GroupId, entries: Vec<Committed>) {
        self.applies.extend(entries);
    }

    fn read(&mut self, _group: GroupId, index: Index, reply: ReadReply) {
        self.reads.push((index, reply));
    }

    fn load(&mut self, _group: GroupId, load: Load) {
        self.loads.push(load);
    }

    fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    fn event(&mut self, _group: GroupId, event: CoreEvent) {
        self.events.push(event);
    }
}

impl Cluster {
    pub fn new(seed: u64, size: u64, weather: Weather) -> Self {
        Self::with(seed, size, weather, Timing::default(), Limits::default())
    }

    pub fn with(seed: u64, size: u64, weather: Weather, timing: Timing, limits: Limits) -> Self {
        let mut template = CoreConfig::new(NodeId(1), GROUP, 0);
        (template.timing, template.limits) = (timing, limits);
        Self::like(seed, size, weather, template)
    }

    /// A cluster whose nodes are configured like `template`, but for their ids and seeds.
    pub fn like(seed: u64, size: u64, weather: Weather, template: CoreConfig) -> Self {
        let member = |id| {
            let disk = Disk::founded(voters(size));
            let member = Member {
                shard: None,
                disk,
                applied: Vec::new(),
                applied_index: Index::ZERO,
                waiting_reads: Vec::new(),
                incarnation: 0,
                syncing: false,
                blocked: None,
                paused: None,
                clock: NodeClock::true_time(),
                published: None,
            };
            (id, member)
        };
        let mut cluster = Self {
            seed,
            now: Instant::ZERO + Duration::from_secs(1000),
            weather,
            members: (1..=size).map(member).collect(),
            cut: BTreeSet::new(),
            messages: 0,
            bytes: 0,
            leader_changes: 0,
            truncations: 0,
            abdications: 0,
            template,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            happenings: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            candidates: BTreeMap::new(),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            proposals: Vec::new(),
            ledger: Ledger::default(),
            open_reads: Vec::new(),
            transfers: Vec::new(),
            answered: BTreeMap::new(),
        };
        for id in cluster.ids() {
            cluster.restart(id);
        }
        cluster
    }

    pub fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    /// A random number in `range` (inclusive), from the cluster's seed.
    pub fn draw(&mut self, range: (u64, u64)) -> u64 {
        self.rng.random_range(range.0..=range.1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.draw((0, 99)) < percent
    }

    // ---- faults ----------------------------------------------------------------------------------------------------

    /// The process dies. Of the writes that were not durable, a random number of the oldest reached the disk.
    pub fn crash(&mut self, id: u64) {
        let kept = self.draw((0, 4));
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.shard.take().is_none() {
            return;
        }
        for _ in 0..kept {
            member.disk.sync_one();
        }
        member.disk.crash();
        member.incarnation += 1;
        member.syncing = false;
        member.applied.clear();
        member.applied_index = Index::ZERO;
        member.waiting_reads.clear();
        (member.blocked, member.paused, member.published) = (None, None, None);
    }

    /// The process is stopped until [`Cluster::resume`]: what comes in waits, time goes on. A sync that is under way ends.
    pub fn pause(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id).filter(|member| member.shard.is_some()) {
            member.paused.get_or_insert_default();
        }
    }

    /// The same for so many ms. If the machine slept as well, it notices when it wakes up (rule `p16`).
    pub fn pause_for(&mut self, id: u64, millis: u64, jumped: bool) {
        self.pause(id);
        let incarnation = self.members[&id].incarnation;
        self.schedule(ms(millis), Happening::Resume { node: id, incarnation, jumped });
    }

    /// The process goes on with everything that waited, in one round.
    pub fn resume(&mut self, id: u64) {
        let waiting = self.members.get_mut(&id).and_then(|member| member.paused.take());
        for input in waiting.into_iter().flatten() {
            self.hand_in(id, input);
        }
        self.carry_out(id);
    }

    pub fn is_paused(&self, id: u64) -> bool {
        self.members[&id].paused.is_some()
    }

    /// A node's clock runs faster than true time by so many millionths.
    pub fn set_clock_rate(&mut self, id: u64, rate_ppm: i64) {
        let now = self.now;
        self.members.get_mut(&id).unwrap().clock.set_rate(now, rate_ppm);
    }

    /// A node that is down comes back with another beginning of time.
    pub fn shift_clock(&mut self, id: u64, by: Duration) {
        assert!(!self.is_up(id), "a running node would notice");
        self.members.get_mut(&id).unwrap().clock.shift(by);
    }

    /// A node is told that its clock jumped (rule `p16`).
    pub fn clock_jumped(&mut self, id: u64) {
        self.input(id, ShardInput::ClockJumped);
    }

    /// The state machine of a node blocks until [`Cluster::unblock`].
    pub fn block(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.blocked.get_or_insert_default();
        }
    }

    pub fn unblock(&mut self, id: u64) {
        let waiting = self.members.get_mut(&id).and_then(|member| member.blocked.take());
        for committed in waiting.into_iter().flatten() {
            self.apply(id, committed);
        }
    }

    pub fn restart(&mut self, id: u64) {
        let seed = self.rng.next_u64();
        let mut config = self.template.clone();
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.shard.is_some() {
            return;
        }
        let now = member.clock.at(self.now);
        (config.id, config.seed) = (NodeId(id), seed);
        let mut shard = Shard::new();
        shard.open(&mut || now, config, member.disk.restore(Index::ZERO)).expect("the disk holds a group");
        member.shard = Some(shard);
        self.carry_out(id);
    }

    pub fn is_up(&self, id: u64) -> bool {
        self.members[&id].shard.is_some()
    }

    /// Cuts every link between the two sides, both ways.
    pub fn partition(&mut self, side: &[u64]) {
        for a in self.ids() {
            for b in self.ids() {
                if side.contains(&a) != side.contains(&b) {
                    self.cut.insert((a, b));
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    // ---- clients ---------------------------------------------------------------------------------------------------

    /// Proposes a command at a node; its fate is in [`Cluster::told`].
    pub fn propose(&mut self, id: u64, command: impl Into<Bytes>) -> usize {
        let command = command.into();
        let slip = Slip::new();
        self.proposals.push((command.clone(), slip.clone()));
        self.input(id, ShardInput::Propose { group: GROUP, command, reply: Reply::new(slip) });
        self.proposals.len() - 1
    }

    pub fn told(&self, proposal: usize) -> Told {
        self.proposals[proposal].1.told.lock().unwrap().clone()
    }

    /// Asks a node for a linearizable read; judged when it is answered.
    pub fn read(&mut self, id: u64) {
        self.read_as(id, Consistency::Linearizable);
    }

    /// Asks a node for a read; judged when it is answered. As a group's handle does, it uses a published lease without
    /// asking the shard.
    pub fn read_as(&mut self, id: u64, consistency: Consistency) {
        let floor = self.ledger.floor(consistency, self.now, self.template.timing.clock_drift_ppm);
        let slip = Arc::new(ReadSlip { node: id, consistency, asked: self.now, floor, told: Default::default() });
        self.open_reads.push(slip.clone());
        let reply = ReadReply::new(slip);
        match self.usable_lease(id).filter(|_| consistency == Consistency::Lease && !self.is_paused(id)) {
            Some(lease) => {
                *self.answered.entry("published").or_default() += 1;
                self.members.get_mut(&id).unwrap().waiting_reads.push((lease.read_index, reply));
                self.answer_waiting(id);
                self.judge_reads();
            }
            None => self.input(id, ShardInput::Read { group: GROUP, consistency, reply }),
        }
    }

    /// The published lease of a node, if it lasts on the node's own clock.
    pub fn usable_lease(&self, id: u64) -> Option<Lease> {
        let member = &self.members[&id];
        member.published.filter(|lease| member.clock.at(self.now) < lease.until)
    }

    /// Asks a node to hand leadership over; what became of it is in [`Cluster::transferred`].
    pub fn transfer(&mut self, id: u64, target: Option<u64>) -> usize {
        let slip = Arc::new(TransferSlip::default());
        self.transfers.push(slip.clone());
        let (target, reply) = (target.map(NodeId), TransferReply::new(slip));
        self.input(id, ShardInput::Transfer { group: GROUP, target, reply });
        self.transfers.len() - 1
    }

    pub fn transferred(&self, transfer: usize) -> Option<Result<NodeId, TransferError>> {
        *self.transfers[transfer].told.lock().unwrap()
    }

    /// How many transfers ended in a successor.
    pub fn handed_over(&self) -> usize {
        (0..self.transfers.len()).filter(|transfer| matches!(self.transferred(*transfer), Some(Ok(_)))).count()
    }

    pub fn leader(&self) -> Option<u64> {
        let leads = |id: &u64| self.role(*id) == Some(RoleKind::Leader);
        self.ids().into_iter().filter(leads).max_by_key(|id| self.term(*id))
    }

    pub fn role(&self, id: u64) -> Option<RoleKind> {
        Some(self.status(id)?.role)
    }

    pub fn term(&self, id: u64) -> u64 {
        self.status(id).map_or(0, |status| status.term.0)
    }

    pub fn commit(&self, id: u64) -> u64 {
        self.status(id).map_or(0, |status| status.commit.0)
    }

    pub fn status(&self, id: u64) -> Option<CoreStatus> {
        Some(self.members[&id].shard.as_ref()?.status(GROUP)?.core)
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    pub fn run_for(&mut self, millis: u64) {
        let end = self.now + ms(millis);
        while self.next_time().is_some_and(|time| time <= end) {
            self.advance();
        }
        self.now = end;
    }

    /// Runs until `done`, at most for `millis`. Returns the time that passed, `None` if it did not come to that.
    pub fn run_until(&mut self, millis: u64, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + ms(millis));
        while !done(self) {
            if self.next_time().is_none_or(|time| time > end) {
                self.now = end;
                return None;
            }
            self.advance();
        }
        Some(self.now.since(start))
    }

    fn next_time(&self) -> Option<Instant> {
        let timer = self.next_timer().map(|(deadline, _)| deadline);
        let happening = self.happenings.peek().map(|Reverse((time, _))| *time);
        timer.into_iter().chain(happening).min()
    }

    fn next_timer(&self) -> Option<(Instant, u64)> {
        let deadline = |(id, member): (&u64, &Member)| {
            let deadline = member.shard.as_ref().filter(|_| member.paused.is_none())?.next_deadline()?;
            Some((member.clock.when(deadline), *id))
        };
        self.members.iter().filter_map(deadline).min()
    }

    fn advance(&mut self) {
        let timer = self.next_timer();
        let happening = self.happenings.peek().map(|Reverse((time, _))| *time);
        match (timer, happening) {
            (Some((deadline, id)), time) if time.is_none_or(|time| deadline <= time) => {
                self.now = self.now.max(deadline);
                self.input(id, ShardInput::Deadline);
            }
            (_, Some(time)) => {
                self.now = self.now.max(time);
                if let Some(Reverse((_, key))) = self.happenings.pop()
                    && let Some(happening) = self.pending.remove(&key)
                {
                    self.happen(happening);
                }
            }
            (_, None) => {}
        }
    }

    fn schedule(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.happenings.push(Reverse((self.now + delay, self.sequence)));
        self.pending.insert(self.sequence, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver(message) if self.cut.contains(&(message.from.0, message.to.0)) => {}
            Happening::Deliver(message) => self.input(message.to.0, ShardInput::Received(vec![message])),
            Happening::Synced { node, incarnation } if self.lives(node, incarnation) => {
                let Some(member) = self.members.get_mut(&node) else { return };
                member.syncing = false;
                if let Some(seq) = member.disk.sync() {
                    self.input(node, ShardInput::Durable { group: GROUP, seq });
                }
            }
            Happening::Applied { node, incarnation, index } if self.lives(node, incarnation) => {
                self.input(node, ShardInput::Applied { group: GROUP, index });
            }
            Happening::Loaded { node, incarnation, load } if self.lives(node, incarnation) => {
                let entries = Some(self.members[&node].disk.read(load.first, load.last, load.max_bytes));
                self.input(node, ShardInput::Loaded { group: GROUP, load, entries });
            }
            Happening::Resume { node, incarnation, jumped } if self.lives(node, incarnation) => {
                if let Some(waiting) = self.members.get_mut(&node).and_then(|member| member.paused.as_mut())
                    && jumped
                {
                    waiting.insert(0, ShardInput::ClockJumped);
                }
                self.resume(node);
            }
            _ => {}
        }
    }

    fn lives(&self, node: u64, incarnation: u64) -> bool {
        self.members[&node].incarnation == incarnation && self.is_up(node)
    }

    fn input(&mut self, id: u64, input: ShardInput) {
        if let Some(waiting) = self.members.get_mut(&id).and_then(|member| member.paused.as_mut()) {
            return waiting.push(input);
        }
        self.hand_in(id, input);
        self.carry_out(id);
    }

    fn hand_in(&mut self, id: u64, input: ShardInput) {
        let mut wanted = Wanted::default();
        if let Some(member) = self.members.get_mut(&id)
            && let Some(shard) = member.shard.as_mut()
        {
            let now = member.clock.at(self.now);
            shard.handle(&mut || now, input, &mut wanted);
        }
        self.do_wanted(id, wanted);
    }

    fn carry_out(&mut self, id: u64) {
        let mut wanted = Wanted::default();
        if let Some(member) = self.members.get_mut(&id)
            && let Some(shard) = member.shard.as_mut()
        {
            let now = member.clock.at(self.now);
            shard.flush(&mut || now, &mut wanted);
        }
        self.do_wanted(id, wanted);
        self.judge_leaders();
        self.judge_leases();
        self.judge_reads();
    }

    fn do_wanted(&mut self, id: u64, wanted: Wanted) {
        if let Some(lease) = wanted.lease {
            self.publish(id, lease);
        }
        for message in wanted.messages {
            self.post(message);
        }
        for event in wanted.events {
            if let CoreEvent::Stopped(fatal) = event {
                panic!("seed {}: n{id} stopped: {fatal}", self.seed);
            }
            // These disks keep what they have synced.
            assert!(!matches!(event, CoreEvent::TailLost { .. }), "seed {}: {event:?}", self.seed);
            self.truncations += u64::from(matches!(event, CoreEvent::Truncated { .. }));
            self.abdications += u64::from(matches!(event, CoreEvent::Abdicated { .. }));
        }
        let incarnation = self.members[&id].incarnation;
        if !wanted.writes.is_empty() {
            self.write(id, incarnation, wanted.writes);
        }
        for load in wanted.loads {
            let delay = ms(self.draw((0, 2)));
            self.schedule(delay, Happening::Loaded { node: id, incarnation, load });
        }
        for committed in wanted.applies {
            self.apply(id, committed);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.waiting_reads.extend(wanted.reads);
        }
        self.answer_waiting(id);
        for answer in wanted.answers {
            answer.give();
        }
    }

    /// Answers the reads whose index is applied.
    fn answer_waiting(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let (ready, waiting) = std::mem::take(&mut member.waiting_reads)
            .into_iter()
            .partition(|(index, _)| *index <= member.applied_index);
        member.waiting_reads = waiting;
        for (index, reply) in ready {
            reply.answered(Ok(index));
        }
    }

    fn write(&mut self, id: u64, incarnation: u64, writes: Vec<Write>) {
        let mut delay = self.draw(self.weather.sync);
        let (chance, most) = self.weather.stall;
        if chance > 0 && self.chance(chance) {
            delay += self.draw((0, most));
        }
        let delay = ms(delay);
        let Some(member) = self.members.get_mut(&id) else { return };
        member.disk.pending.extend(writes);
        if !std::mem::replace(&mut member.syncing, true) {
            self.schedule(delay, Happening::Synced { node: id, incarnation });
        }
    }

    fn post(&mut self, message: Message) {
        self.messages += 1;
        if let tenure::message::Body::AppendEntries(append) = &message.body {
            self.bytes += append.slice.bytes() as u64;
        }
        if self.chance(self.weather.loss) {
            return;
        }
        let copies = if self.chance(self.weather.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let mut delay = self.draw(self.weather.delay);
            let (chance, most) = self.weather.straggle;
            if self.chance(chance) {
                delay += self.draw((0, most));
            }
            // Microseconds, so that not everything happens at once.
            let delay = ms(delay) + Duration::from_micros(self.draw((0, 999)));
            self.schedule(delay, Happening::Deliver(message.clone()));
        }
    }

    // ---- state machines --------------------------------------------------------------------------------------------

    /// State machine safety: no two nodes apply different entries at one index; each node applies in order, once.
    fn apply(&mut self, id: u64, committed: Committed) {
        if let Some(waiting) = self.members.get_mut(&id).and_then(|member| member.blocked.as_mut()) {
            return waiting.push(committed);
        }
        let Committed { entry, reply } = committed;
        let Entry { id: entry_id, kind, payload } = entry;
        let seed = self.seed;
        let first = self.committed.entry(entry_id.index).or_insert((entry_id.term, payload.clone()));
        assert_eq!(*first, (entry_id.term, payload.clone()), "seed {seed}: n{id} applies another {entry_id}");
        let Some(member) = self.members.get_mut(&id) else { return };
        assert_eq!(entry_id.index, member.applied_index.next(), "seed {seed}: n{id} applies out of order");
        assert!(
            member.disk.entries.iter().any(|durable| durable.id == entry_id),
            "seed {seed}: n{id} applies {entry_id}, which is not durable there"
        );
        member.applied_index = entry_id.index;
        if kind == EntryKind::Command {
            member.applied.push((entry_id, payload));
        }
        if let Some(reply) = reply {
            reply.applied(entry_id, ());
            self.ledger.acknowledged(self.now, entry_id.index);
        }
        let incarnation = member.incarnation;
        self.schedule(Duration::ZERO, Happening::Applied { node: id, incarnation, index: entry_id.index });
    }
}
