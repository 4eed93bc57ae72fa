//! Three cores, or four, their disks and a network as a value, driven one small step at a time and judged after each.
//!
//! Nothing is random here: a list of steps decides everything, so a list that fails can be made shorter. Any list is
//! a legal history of a group, however strange: messages are lost, doubled and overtake each other, disks are slow
//! and forget at a crash what was not synced, time stands still or leaps from one deadline to a later one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tenure::config::CoreConfig;
use tenure::core::{
    Change, ChangeId, Consistency, Core, Input, Load, Output, ReadAnswer, ReadId, RoleKind, TransferId,
};
use tenure::log::{Entry, EntryKind};
use tenure::message::{Body, Message, Verdict};
use tenure::quorum::{Configuration, Tally, Voters};
use tenure::time::Instant;
use tenure::types::{EntryId, Index, NodeId, Term};

use super::disk::Disk;
use super::lone::{E, GROUP, ms, voters};
pub use super::steps::Step;

/// Who founds the group.
const FOUNDERS: u64 = 3;
/// Who may join it.
const NEWCOMER: u64 = 4;
/// Messages on their way; the oldest are lost beyond that.
const ON_THE_WAY: usize = 64;

struct Node {
    /// `None` while it is down.
    core: Option<Core>,
    disk: Disk,
    loads: VecDeque<Load>,
    /// What it was given to apply in this life, up to here; and what of that it has applied.
    handed: Index,
    applied: Index,
    commit: Index,
    starts: u64,
}

/// A read that waits: who was asked, for what, and the least that it must see.
struct Waiting {
    node: u64,
    floor: Index,
}

pub struct Trio {
    now: Instant,
    nodes: BTreeMap<u64, Node>,
    network: VecDeque<Message>,
    /// Who hears nobody and is heard by nobody.
    cut: BTreeSet<NodeId>,
    template: CoreConfig,
    reads: BTreeMap<ReadId, Waiting>,
    transfers: BTreeSet<TransferId>,
    changes: BTreeSet<ChangeId>,
    asked: u64,
    // What the judges remember.
    leaders: BTreeMap<Term, u64>,
    votes: BTreeMap<(u64, Term), u64>,
    terms: BTreeMap<u64, Term>,
    contents: BTreeMap<EntryId, Bytes>,
    committed: BTreeMap<Index, EntryId>,
    /// Every configuration that anybody has written.
    configurations: BTreeMap<EntryId, Configuration>,
    /// What was committed from when on: for reads that may be a little old.
    commits: Vec<(Instant, Index)>,
    /// What happened, for tests of the tests.
    pub seen: Seen,
}

/// How often something interesting happened.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    pub leaders: u64,
    pub commits: u64,
    pub truncations: u64,
    pub reads: u64,
    pub transfers: u64,
    /// Changes of the members that came to their end, and joint configurations that were committed.
    pub changes: u64,
    pub joint: u64,
    pub restarts: u64,
    pub loads: u64,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.leaders += other.leaders;
        self.commits += other.commits;
        self.truncations += other.truncations;
        self.reads += other.reads;
        self.transfers += other.transfers;
        self.changes += other.changes;
        self.joint += other.joint;
        self.restarts += other.restarts;
        self.loads += other.loads;
    }
}

impl Trio {
    /// Three founders. Bits of `setup`: lease reads, succession, tiny limits, and whether a fourth node may join and the
    /// members change.
    pub fn new(setup: u8) -> Self {
        let mut template = CoreConfig::new(NodeId(1), GROUP, 0);
        template.lease_reads = setup & 1 != 0;
        template.succession = setup & 2 != 0;
        if setup & 4 != 0 {
            let limits = &mut template.limits;
            (limits.append_bytes, limits.append_entries) = (64, 2);
            (limits.window_bytes, limits.window_entries) = (128, 4);
            (limits.uncommitted_bytes, limits.uncommitted_entries) = (256, 8);
            (limits.apply_bytes, limits.cache_bytes, limits.waiting_reads) = (64, 64, 2);
        }
        let node = |id| {
            let disk = if id == NEWCOMER { Disk::joining() } else { Disk::founded(voters(FOUNDERS)) };
            let zero = Index::ZERO;
            let loads = VecDeque::new();
            (id, Node { core: None, disk, loads, handed: zero, applied: zero, commit: zero, starts: 0 })
        };
        let mut trio = Self {
            now: Instant::ZERO + ms(1_000_000),
            nodes: (1..=if setup & 8 != 0 { NEWCOMER } else { FOUNDERS }).map(node).collect(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            template,
            reads: BTreeMap::new(),
            transfers: BTreeSet::new(),
            changes: BTreeSet::new(),
            asked: 0,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            terms: BTreeMap::new(),
            contents: BTreeMap::new(),
            committed: BTreeMap::new(),
            configurations: BTreeMap::from([(EntryId::new(1, 1), voters(FOUNDERS))]),
            commits: Vec::new(),
            seen: Seen::default(),
        };
        trio.ids().into_iter().for_each(|id| trio.restart(id));
        trio
    }

    fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    fn id(&self, node: u8) -> u64 {
        u64::from(node) % self.nodes.len() as u64 + 1
    }

    pub fn step(&mut self, step: Step) {
        match step {
            Step::Deliver(nth) => self.deliver(nth, true),
            Step::Double(nth) => self.deliver(nth, false),
            Step::Lose(nth) => _ = self.nth(nth).and_then(|nth| self.network.remove(nth)),
            Step::Deadline(node) => self.deadline(self.id(node)),
            Step::Wait(centis) => self.now = self.now + ms(10 * u64::from(centis)),
            Step::Sync(node) => self.sync_one(self.id(node)),
            Step::Load(node) => self.load(self.id(node)),
            Step::Apply(node) => self.apply(self.id(node)),
            Step::Propose(node, count) => {
                let commands = (0..count % 8).map(|nth| Bytes::from(vec![nth; usize::from(count)]));
                self.input(self.id(node), Input::Propose(commands.collect()));
            }
            Step::Read(node, kind) => self.read(self.id(node), kind),
            Step::Transfer(node, to) => self.transfer(self.id(node), to),
            Step::Change(to) => self.change(to),
            Step::ClockJumped(node) => self.input(self.id(node), Input::ClockJumped),
            Step::Crash(node, kept) => self.crash(self.id(node), kept),
            Step::Restart(node) => self.restart(self.id(node)),
            Step::Cut(node) => {
                let alone = NodeId(self.id(node));
                if !self.cut.remove(&alone) {
                    self.cut.insert(alone);
                    self.network.retain(|message| message.from != alone && message.to != alone);
                }
            }
            Step::GoOn(count) => (0..count % 64).for_each(|_| self.go_on()),
        }
        self.judge_all();
    }

    // ---- what happens ----------------------------------------------------------------------------------------------

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("one of three")
    }

    fn nth(&self, nth: u8) -> Option<usize> {
        usize::from(nth).checked_rem(self.network.len())
    }

    fn deliver(&mut self, nth: u8, gone: bool) {
        let Some(at) = self.nth(nth) else { return };
        let message = if gone { self.network.remove(at) } else { self.network.get(at).cloned() };
        if let Some(message) = message {
            self.input(message.to.0, Input::Received(message));
        }
    }

    /// Time goes by up to the node's next deadline, whatever others have missed then.
    fn deadline(&mut self, id: u64) {
        if let Some(deadline) = self.node(id).core.as_ref().and_then(Core::next_deadline) {
            self.now = self.now.max(deadline);
            self.input(id, Input::Deadline);
            let next = self.node(id).core.as_ref().and_then(Core::next_deadline);
            assert!(next.is_none_or(|next| next > self.now), "n{id}: a timer that fired is over");
        }
    }

    fn sync_one(&mut self, id: u64) {
        let node = self.node(id);
        let up = node.core.is_some();
        if let Some(seq) = node.disk.sync_one().filter(|_| up) {
            self.input(id, Input::Durable(seq));
        }
    }

    fn load(&mut self, id: u64) {
        let node = self.node(id);
        if let Some(load) = node.loads.pop_front() {
            let found = node.disk.read(load.first, load.last, load.max_bytes);
            self.seen.loads += 1;
            self.input(id, Input::Loaded { load, entries: (!found.is_empty()).then_some(found) });
        }
    }

    fn apply(&mut self, id: u64) {
        let node = self.node(id);
        if node.core.is_some() && node.applied < node.handed {
            node.applied = node.handed;
            self.input(id, Input::Applied(self.nodes[&id].handed));
        }
    }

    fn read(&mut self, node: u64, kind: u8) {
        let newest = self.commits.last().map_or(Index::ZERO, |(_, index)| *index);
        let age = ms(20 * u64::from(kind / 4));
        let (consistency, floor) = match kind % 4 {
            0 => (Consistency::Linearizable, newest),
            1 => (Consistency::Lease, newest),
            2 => (Consistency::Local, Index::ZERO),
            _ => {
                let old = self.commits.iter().rev().find(|(when, _)| *when + age < self.now);
                (Consistency::Follower(age), old.map_or(Index::ZERO, |(_, index)| *index))
            }
        };
        if self.nodes[&node].core.is_some() {
            self.asked += 1;
            self.reads.insert(ReadId(self.asked), Waiting { node, floor });
            self.input(node, Input::Read(ReadId(self.asked), consistency));
        }
    }

    fn transfer(&mut self, node: u64, to: u8) {
        if self.nodes[&node].core.is_some() {
            self.asked += 1;
            self.transfers.insert(TransferId(self.asked));
            let to = (to > 0).then_some(NodeId(u64::from(to % 5)));
            self.input(node, Input::Transfer(TransferId(self.asked), to));
        }
    }

    /// Without newcomers the members stay as they are.
    fn change(&mut self, to: u8) {
        let those = |bits: u8| Voters::from_nodes((1..=NEWCOMER).filter(|id| bits >> (id - 1) & 1 == 1).map(NodeId));
        let (voters, learners) = (those(to & 15), those(to >> 4 & !to));
        let Ok(to) = Configuration::new(voters, Voters::default(), learners) else { return };
        if let Some(leader) = self.leader().filter(|_| self.nodes.contains_key(&NEWCOMER)) {
            self.asked += 1;
            self.changes.insert(ChangeId(self.asked));
            let change = Change { expected: None, to, patience: ms(2 * E) };
            self.input(leader, Input::Change(ChangeId(self.asked), change));
        }
    }

    /// The power goes. Of what was not durable the first `kept` writes are there all the same.
    fn crash(&mut self, id: u64, kept: u8) {
        let node = self.node(id);
        if node.core.take().is_some() {
            (0..kept % 4).for_each(|_| _ = node.disk.sync_one());
            node.disk.crash();
            node.loads.clear();
            self.reads.retain(|_, waiting| waiting.node != id);
        }
    }

    fn restart(&mut self, id: u64) {
        let now = self.now;
        let mut config = self.template.clone();
        let node = self.node(id);
        if node.core.is_some() {
            return;
        }
        node.starts += 1;
        (config.id, config.seed) = (NodeId(id), node.starts);
        // Node 3 has its state machine on disk, the others in memory.
        if id != 3 {
            node.applied = Index::ZERO;
        }
        (node.handed, node.commit) = (node.applied, Index::ZERO);
        let mut out = Output::new();
        let core = Core::new(config, node.disk.restore(node.applied), now, &mut out);
        node.core = Some(core.expect("the disk holds a group"));
        self.seen.restarts += 1;
        self.carry_out(id, out);
    }

    /// The next thing that happens when nothing goes wrong: something on its way arrives, or else what a disk or a
    /// state machine was given is done, or else the next deadline comes.
    fn go_on(&mut self) {
        if !self.network.is_empty() {
            return self.deliver(0, true);
        }
        for id in self.ids() {
            let node = self.node(id);
            if node.core.is_none() {
                continue;
            }
            if !node.disk.pending.is_empty() {
                return self.sync_one(id);
            }
            if !node.loads.is_empty() {
                return self.load(id);
            }
            if node.applied < node.handed {
                return self.apply(id);
            }
        }
        let next = |id: &u64| self.nodes[id].core.as_ref().and_then(Core::next_deadline);
        if let Some(id) = self.ids().into_iter().filter(|id| next(id).is_some()).min_by_key(next) {
            self.deadline(id);
        }
    }

    fn input(&mut self, id: u64, input: Input) {
        let now = self.now;
        let mut out = Output::new();
        let Some(core) = &mut self.node(id).core else { return };
        core.step(now, input, &mut out);
        self.carry_out(id, out);
    }

    fn carry_out(&mut self, id: u64, out: Output) {
        for message in out.messages {
            self.judge_vote(&message);
            if !self.cut.contains(&message.from) && !self.cut.contains(&message.to) {
                self.network.push_back(message);
            }
        }
        while self.network.len() > ON_THE_WAY {
            self.network.pop_front();
        }
        self.seen.truncations += out.writes.iter().filter(|write| write.truncate_from.is_some()).count() as u64;
        for entry in out.writes.iter().flat_map(|write| &write.entries) {
            if entry.kind == EntryKind::Configuration {
                let configuration = Configuration::decode(&entry.payload).expect("a configuration");
                self.configurations.insert(entry.id, configuration);
            }
            let known = self.contents.entry(entry.id).or_insert_with(|| entry.payload.clone());
            assert_eq!(*known, entry.payload, "n{id}: log matching: two commands at {}", entry.id);
        }
        let node = self.node(id);
        node.disk.pending.extend(out.writes);
        node.loads.extend(out.loads);
        self.judge_one(id);
        out.apply.iter().for_each(|entry| self.judge_apply(id, entry));
        out.reads.iter().for_each(|answer| self.judge_read(id, answer));
        for answer in out.transfers {
            assert!(self.transfers.remove(&answer.id), "{answer:?} to nobody, or again");
            self.seen.transfers += u64::from(answer.result.is_ok());
        }
        for answer in out.changes {
            assert!(self.changes.remove(&answer.id), "{answer:?} to nobody, or again");
            self.seen.changes += u64::from(answer.result.is_ok());
        }
    }

    // ---- judges ----------------------------------------------------------------------------------------------------

    /// One vote per node and term, restarts or not.
    fn judge_vote(&mut self, message: &Message) {
        let (voter, term, candidate) = match &message.body {
            Body::Vote(request) => (message.from, request.campaign_term, message.from),
            Body::VoteResponse(answer) if answer.verdict == Verdict::Granted => {
                (message.from, answer.campaign_term, message.to)
            }
            _ => return,
        };
        let vote = *self.votes.entry((voter.0, term)).or_insert(candidate.0);
        assert_eq!(vote, candidate.0, "{voter} voted twice in {term}");
        let on_disk = &self.nodes[&voter.0].disk.hard_state;
        assert_eq!((on_disk.term, on_disk.vote), (term, Some(candidate)), "{message:?} before it is durable");
    }

    /// What one node shows: its own invariants; terms and commit never go back; one leader per term, who has all that
    /// is committed.
    fn judge_one(&mut self, id: u64) {
        let Some(core) = &self.nodes[&id].core else { return };
        core.check_invariants().unwrap_or_else(|violation| panic!("{violation}"));
        let status = core.status();
        assert_eq!(status.stopped, None, "n{id} stopped");
        let term = self.terms.entry(id).or_default();
        let durable = self.nodes[&id].disk.hard_state.term;
        assert!(status.term >= durable.max((*term).min(durable)), "n{id}: the term fell to {}", status.term);
        *term = status.term;
        assert!(status.commit >= self.nodes[&id].commit, "n{id}: commit fell to {}", status.commit);
        if status.role == RoleKind::Leader {
            let known = self.leaders.entry(status.term).or_insert_with(|| {
                self.seen.leaders += 1;
                id
            });
            assert_eq!(*known, id, "election safety: two leaders in {}", status.term);
        }
        let log = core.log();
        for index in (self.nodes[&id].commit.0 + 1..=status.commit.0).map(Index) {
            let id_there = EntryId { index, term: log.term_at(index).expect("commit is within the log") };
            if !self.committed.contains_key(&index)
                && self.configurations.get(&id_there).is_some_and(|it| it.is_joint())
            {
                self.seen.joint += 1;
            }
            let known = *self.committed.entry(index).or_insert(id_there);
            assert_eq!(known, id_there, "n{id}: state machine safety: committed at {index}");
        }
        if status.commit > self.commits.last().map_or(Index::ZERO, |(_, index)| *index) {
            self.commits.push((self.now, status.commit));
            self.seen.commits += 1;
        }
        self.node(id).commit = status.commit;
    }

    /// In order, once, committed, durable here.
    fn judge_apply(&mut self, id: u64, entry: &Entry) {
        let node = self.nodes.get_mut(&id).expect("one of three");
        assert_eq!(entry.id.index, node.handed.next(), "n{id}: applied out of order");
        assert_eq!(self.committed.get(&entry.id.index), Some(&entry.id), "n{id}: applied what is not committed");
        let durable = node.disk.entries.get(entry.id.index.0 as usize - 1);
        assert_eq!(durable, Some(entry), "n{id}: applied what is not durable");
        node.handed = entry.id.index;
    }

    /// Once, and nothing is missed that it had to see.
    fn judge_read(&mut self, id: u64, answer: &ReadAnswer) {
        let Some(Waiting { node, floor }) = self.reads.remove(&answer.id) else {
            panic!("n{id}: {answer:?} to nobody, or again");
        };
        assert_eq!(node, id, "{answer:?} by another node");
        if let Ok(index) = answer.result {
            assert!(index >= floor, "n{id}: stale read: {index}, but {floor} was committed before it was asked for");
            self.seen.reads += 1;
        }
    }

    /// What takes the whole cluster to see.
    fn judge_all(&self) {
        let cores: Vec<_> = self.nodes.values().filter_map(|node| node.core.as_ref()).collect();
        for (nth, one) in cores.iter().enumerate() {
            for other in &cores[nth + 1..] {
                judge_matching(one, other);
            }
            self.judge_leader(one);
        }
        if let Some((_, newest)) = self.committed.last_key_value() {
            let holds = |node: &&Node| {
                node.disk.entries.get(newest.index.0 as usize - 1).is_some_and(|entry| entry.id == *newest)
            };
            let others = |id: NodeId| self.nodes.get(&id.0).map(|node| !holds(&node));
            let lost = self.configuration().tally(others) == Tally::Won;
            assert!(!lost, "durability: {newest} is committed, and a quorum does not have it");
            self.judge_overlap(&cores, *newest);
        }
    }

    /// The latest configuration that is known to be committed.
    fn configuration(&self) -> &Configuration {
        let committed = self.committed.values().rev().find_map(|id| self.configurations.get(id));
        committed.unwrap_or(&self.configurations[&EntryId::new(1, 1)])
    }

    /// Two that could be elected, since they have all that is committed, cannot be without a voter of both.
    fn judge_overlap(&self, cores: &[&Core], newest: EntryId) {
        let electable = cores.iter().filter(|core| core.log().contains(newest));
        let in_use: Vec<_> = electable.map(|core| (core.config().id, core.status().configuration)).collect();
        for (at, (one, ours)) in in_use.iter().enumerate() {
            for (other, theirs) in &in_use[at + 1..] {
                let apart = ours != theirs && !quorums_overlap(ours, theirs);
                assert!(!apart, "{one} uses {ours} and {other} {theirs}, which could decide without each other");
            }
        }
    }

    /// A leader has every committed entry of older terms, and what it counts as its peers' is on their disks.
    fn judge_leader(&self, core: &Core) {
        let status = core.status();
        if status.role != RoleKind::Leader {
            return;
        }
        if let Some((_, newest)) = self.committed.iter().rev().find(|(_, entry)| entry.term < status.term) {
            assert!(
                core.log().contains(*newest),
                "leader completeness: {} of {} lacks {newest}",
                status.id,
                status.term
            );
        }
        for (peer, matched) in status.peers {
            let disk = &self.nodes[&peer.0].disk;
            // A leader of a later term may have replaced what was there.
            if disk.hard_state.term <= status.term && matched > Index::ZERO {
                let there = disk.entries.get(matched.0 as usize - 1).map(|entry| entry.id.term);
                assert_eq!(there, core.log().term_at(matched), "{} counts {matched} of {peer}", status.id);
            }
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Everybody is up and nothing goes wrong any more: soon there is a leader, and a new command is applied everywhere;
    /// nobody waits for ever.
    pub fn judge_liveness(&mut self) {
        self.cut.clear();
        self.ids().into_iter().for_each(|id| self.restart(id));
        let end = self.now + ms(40 * E);
        let mut asked: Option<(EntryId, Instant)> = None;
        while !asked.is_some_and(|(last, _)| self.is_applied_everywhere(last)) {
            assert!(self.now < end, "within 40 E no leader, or nothing new is applied: {asked:?}");
            // A leader that is already replaced and does not know it yet takes commands, too: then they are lost.
            if asked.is_none_or(|(_, when)| self.now.since(when) > ms(6 * E)) {
                asked = self.propose_last().map(|last| (last, self.now));
            }
            self.go_on();
            self.judge_all();
        }
        let end = self.now + ms(3 * E);
        while self.now < end {
            self.go_on();
        }
        assert!(self.reads.is_empty(), "a read was never answered");
        assert!(!self.configuration().is_joint(), "a joint configuration was never left");
    }

    fn is_applied_everywhere(&self, id: EntryId) -> bool {
        let applied = |member: NodeId| self.nodes[&member.0].applied >= id.index;
        self.committed.get(&id.index) == Some(&id) && self.configuration().members().into_iter().all(applied)
    }

    /// Whoever leads, in the newest term if there are several.
    fn leader(&self) -> Option<u64> {
        let term = |id: &u64| {
            let status = self.nodes[id].core.as_ref()?.status();
            (status.role == RoleKind::Leader).then_some(status.term)
        };
        self.ids().into_iter().filter(|id| term(id).is_some()).max_by_key(term)
    }

    /// Proposes one command to whoever leads.
    fn propose_last(&mut self) -> Option<EntryId> {
        let leader = self.leader()?;
        let (now, mut out) = (self.now, Output::new());
        let core = self.node(leader).core.as_mut()?;
        core.step(now, Input::Propose(vec![Bytes::from_static(b"last")]), &mut out);
        let accepted = out.proposed.take().filter(|answer| answer.accepted == 1);
        self.carry_out(leader, out);
        accepted.map(|answer| answer.first)
    }
}

/// Log matching: where two logs hold the same entry, they are the same up to there.
fn judge_matching(one: &Core, other: &Core) {
    let (one, other) = (one.log(), other.log());
    let mut index = one.last().index.min(other.last().index);
    while index > Index::ZERO && one.term_at(index) != other.term_at(index) {
        index = index.previous();
    }
    while index > Index::ZERO {
        assert_eq!(one.term_at(index), other.term_at(index), "log matching at {index}");
        index = index.previous();
    }
}

/// Whether every quorum of `one` shares a node with every quorum of `other`, by trying all sets of nodes.
fn quorums_overlap(one: &Configuration, other: &Configuration) -> bool {
    let wins = |configuration: &Configuration, side: u64, yes: bool| {
        configuration.tally(|node| Some((side >> node.0 & 1 == 1) == yes)) == Tally::Won
    };
    !(0..2 << NEWCOMER).any(|side| wins(one, side, true) && wins(other, side, false))
}
