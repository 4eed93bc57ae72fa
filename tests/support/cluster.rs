//! A cluster in virtual time: the node's own shard, a network and disks that fail, and judges that look on.
//!
//! One seed decides everything. Each event is a delivery, a finished sync, an applied batch or a timer; between events
//! the judges check what must hold at every instant.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use tenure::config::{CoreConfig, Limits, Timing};
use tenure::core::{Consistency, CoreStatus, Event as CoreEvent, Lease, Load, RoleKind};
use tenure::log::{Entry, EntryKind, Write};
use tenure::message::Message;
use tenure::runtime::driver::{Committed, Effects, Shard, ShardInput};
use tenure::runtime::{Answer, ProposalError, Proposer, ReadError, ReadReply, Reader, Reply};
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, GroupId, Index, NodeId, Term};

use super::disk::Disk;
use super::lone::{GROUP, ms, voters};

/// How bad the world is. All times in ms, all chances in percent.
#[derive(Clone, Debug)]
pub struct Weather {
    pub delay: (u64, u64),
    pub loss: u64,
    pub duplication: u64,
    /// Chance that a message is delayed by up to this many ms more, overtaking being the point.
    pub straggle: (u64, u64),
    pub sync: (u64, u64),
}

impl Weather {
    pub fn fair() -> Self {
        Self { delay: (1, 2), loss: 0, duplication: 0, straggle: (0, 0), sync: (0, 1) }
    }

    /// `l09`: 0-27 ms, 10 % lost, some answers up to 7 s late.
    pub fn lab() -> Self {
        Self { delay: (0, 27), loss: 10, duplication: 2, straggle: (3, 7000), sync: (0, 10) }
    }
}

enum Happening {
    Deliver(Message),
    Synced { node: u64, incarnation: u64 },
    Applied { node: u64, incarnation: u64, index: Index },
    Loaded { node: u64, incarnation: u64, load: Load },
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
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Nothing,
    Committed(EntryId),
    Refused(ProposalError),
}

struct Slip {
    told: Mutex<Told>,
}

impl Proposer for Slip {
    fn applied(self: Arc<Self>, id: EntryId, _output: &mut dyn Any) {
        *self.told.lock().unwrap() = Told::Committed(id);
    }

    fn failed(self: Arc<Self>, error: ProposalError) {
        *self.told.lock().unwrap() = Told::Refused(error);
    }
}

struct ReadSlip {
    /// The newest acknowledged index when the read began: what it must see.
    floor: Index,
    told: Mutex<Option<Result<Index, ReadError>>>,
}

impl Reader for ReadSlip {
    fn answered(self: Arc<Self>, result: Result<Index, ReadError>) {
        if let Ok(index) = result {
            assert!(index >= self.floor, "stale read: saw {index}, {} was acknowledged before", self.floor);
        }
        *self.told.lock().unwrap() = Some(result);
    }
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
    reads: Vec<Arc<ReadSlip>>,
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
}

impl Effects for Wanted {
    fn lease(&mut self, _group: GroupId, _lease: Option<Lease>) {}

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
            template,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            happenings: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            candidates: BTreeMap::new(),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            proposals: Vec::new(),
            reads: Vec::new(),
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
        member.blocked = None;
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
        let (now, mut config) = (self.now, self.template.clone());
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.shard.is_some() {
            return;
        }
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
        let slip = Arc::new(Slip { told: Mutex::new(Told::Nothing) });
        self.proposals.push((command.clone(), slip.clone()));
        self.input(id, ShardInput::Propose { group: GROUP, command, reply: Reply::new(slip) });
        self.proposals.len() - 1
    }

    pub fn told(&self, proposal: usize) -> Told {
        self.proposals[proposal].1.told.lock().unwrap().clone()
    }

    /// Asks a node for a linearizable read; judged when it is answered.
    pub fn read(&mut self, id: u64) {
        let acknowledged = self.proposals.iter().filter_map(|(_, slip)| match *slip.told.lock().unwrap() {
            Told::Committed(id) => Some(id.index),
            _ => None,
        });
        let floor = acknowledged.max().unwrap_or(Index::ZERO);
        let slip = Arc::new(ReadSlip { floor, told: Mutex::new(None) });
        self.reads.push(slip.clone());
        self.input(
            id,
            ShardInput::Read { group: GROUP, consistency: Consistency::Linearizable, reply: ReadReply::new(slip) },
        );
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
        let deadline = |(id, member): (&u64, &Member)| Some((member.shard.as_ref()?.next_deadline()?, *id));
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
            _ => {}
        }
    }

    fn lives(&self, node: u64, incarnation: u64) -> bool {
        self.members[&node].incarnation == incarnation && self.is_up(node)
    }

    fn input(&mut self, id: u64, input: ShardInput) {
        let now = self.now;
        let mut wanted = Wanted::default();
        if let Some(shard) = self.members.get_mut(&id).and_then(|member| member.shard.as_mut()) {
            shard.handle(&mut || now, input, &mut wanted);
        }
        self.do_wanted(id, wanted);
        self.carry_out(id);
    }

    fn carry_out(&mut self, id: u64) {
        let now = self.now;
        let mut wanted = Wanted::default();
        if let Some(shard) = self.members.get_mut(&id).and_then(|member| member.shard.as_mut()) {
            shard.flush(&mut || now, &mut wanted);
        }
        self.do_wanted(id, wanted);
        self.judge_leaders();
    }

    fn do_wanted(&mut self, id: u64, wanted: Wanted) {
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
        let Some(member) = self.members.get_mut(&id) else { return };
        member.waiting_reads.extend(wanted.reads);
        let (ready, waiting) = std::mem::take(&mut member.waiting_reads)
            .into_iter()
            .partition(|(index, _)| *index <= member.applied_index);
        member.waiting_reads = waiting;
        for (index, reply) in ready {
            reply.answered(Ok(index));
        }
        for answer in wanted.answers {
            answer.give();
        }
    }

    fn write(&mut self, id: u64, incarnation: u64, writes: Vec<Write>) {
        let delay = ms(self.draw(self.weather.sync));
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

    // ---- judges ----------------------------------------------------------------------------------------------------

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
        }
        let incarnation = member.incarnation;
        self.schedule(Duration::ZERO, Happening::Applied { node: id, incarnation, index: entry_id.index });
    }

    /// Election safety: at most one leader per term.
    fn judge_leaders(&mut self) {
        for id in self.ids() {
            let term = Term(self.term(id));
            if self.role(id) == Some(RoleKind::Candidate) {
                self.candidates.entry(term).or_default().insert(id);
            }
            if self.role(id) == Some(RoleKind::Leader) {
                let known = self.leaders.entry(term).or_insert_with(|| {
                    self.leader_changes += 1;
                    id
                });
                assert_eq!(*known, id, "seed {}: two leaders in {term}", self.seed);
            }
        }
    }

    /// At the end: every acknowledged command is committed, each exactly once, and a quorum's disks hold it; refused
    /// ones are nowhere.
    pub fn judge_clients(&self) {
        let seed = self.seed;
        for (command, slip) in &self.proposals {
            let times = self.committed.values().filter(|(_, payload)| payload == command).count();
            match &*slip.told.lock().unwrap() {
                Told::Committed(id) => {
                    assert_eq!(times, 1, "seed {seed}: acknowledged as {id}: {command:?}");
                    let holds = |member: &&Member| member.disk.entries.iter().any(|entry| entry.id == *id);
                    let holders = self.members.values().filter(holds).count();
                    assert!(holders > self.members.len() / 2, "seed {seed}: {id} is on {holders} disks only");
                }
                Told::Refused(error) if error.certainly_not_committed() => {
                    assert_eq!(times, 0, "seed {seed}: refused ({error}) and committed: {command:?}");
                }
                Told::Refused(_) | Told::Nothing => assert!(times <= 1, "seed {seed}: twice: {command:?}"),
            }
        }
    }

    /// Reads that were confirmed; each was judged when it was.
    pub fn answered_reads(&self) -> usize {
        self.reads.iter().filter(|slip| matches!(*slip.told.lock().unwrap(), Some(Ok(_)))).count()
    }

    pub fn acknowledged(&self) -> usize {
        let acknowledged = |told: &Told| matches!(told, Told::Committed(_));
        self.proposals.iter().filter(|(_, slip)| acknowledged(&slip.told.lock().unwrap())).count()
    }

    /// Liveness: with all faults gone a leader is there within `40 E`, and a new write is applied everywhere soon.
    pub fn judge_liveness(&mut self) {
        let (seed, e) = (self.seed, self.template.timing.election_timeout_min.as_millis() as u64);
        for id in self.ids() {
            self.restart(id);
        }
        self.heal();
        self.weather = Weather::fair();
        let start = self.now;
        loop {
            self.run_until(e, |cluster| cluster.leader().is_some());
            if let Some(leader) = self.leader() {
                let number = self.proposals.len();
                let last = self.propose(leader, format!("last {number}"));
                self.run_until(6 * e, |cluster| cluster.told(last) != Told::Nothing);
                if let Told::Committed(id) = self.told(last) {
                    let applied =
                        |cluster: &Self| cluster.members.values().all(|member| member.applied_index >= id.index);
                    assert!(self.run_until(6 * e, applied).is_some(), "seed {seed}: {id} is not applied everywhere");
                    break;
                }
            }
            assert!(self.now.since(start) < ms(40 * e), "seed {seed}: no progress after healing");
            self.run_for(e / 10);
        }
        let logs: BTreeSet<_> = self.members.values().map(|member| member.applied.clone()).collect();
        assert_eq!(logs.len(), 1, "seed {seed}: the state machines differ");
    }
}
