//! Logs and state machines: log matching, leader append-only, leader completeness, state machine safety, durability and
//! recovery (dissertation figure 3.2, rows `s01` and `s05`).
//!
//! A log is kept as a chain: the hash at an index covers every entry up to it. So two logs agree up to an index if their
//! hashes there are equal, and each check costs the same however long the logs are.

use std::collections::{HashMap, VecDeque};

use super::{Verdict, broken, mix, require};
use crate::log::{Entry, EntryKind, HardState, Write};
use crate::quorum::{Configuration, Tally};
use crate::types::{EntryId, Index, NodeId, Term};
use crate::wal::RecoveredGroup;

/// An entry and everything before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Link {
    term: Term,
    hash: u64,
}

/// A log; `links[i]` is the entry at index `i + 1`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Chain {
    links: Vec<Link>,
    /// The configurations in it, each with its index.
    configurations: Vec<(Index, Configuration)>,
}

impl Chain {
    fn at(&self, index: Index) -> Option<Link> {
        self.links.get(usize::try_from(index.0.checked_sub(1)?).ok()?).copied()
    }

    fn last(&self) -> EntryId {
        EntryId { index: Index(self.links.len() as u64), term: self.links.last().map_or(Term::ZERO, |link| link.term) }
    }

    /// The link that `entry` would be behind the last one.
    fn next(&self, entry: &Entry) -> Link {
        let before = self.links.last().map_or(0, |link| link.hash);
        let content = u64::from(crc32c::crc32c(&entry.payload)) << 8 | entry.kind as u64;
        Link { term: entry.id.term, hash: mix(mix(before, entry.id.term.0), content) }
    }

    fn truncate_from(&mut self, from: Index) {
        self.links.truncate(from.previous().0 as usize);
        self.configurations.retain(|(at, _)| *at < from);
    }

    fn push(&mut self, entry: &Entry) -> Link {
        let link = self.next(entry);
        self.links.push(link);
        if entry.kind == EntryKind::Configuration {
            self.configurations.extend(Configuration::decode(&entry.payload).map(|decoded| (entry.id.index, decoded)));
        }
        link
    }

    /// The one in use.
    fn configuration(&self) -> Option<&Configuration> {
        self.configurations.last().map(|(_, configuration)| configuration)
    }

    /// `false` if the entries do not follow what is there.
    fn carry_out(&mut self, write: &Write) -> bool {
        if let Some(from) = write.truncate_from {
            self.truncate_from(from);
        }
        for entry in &write.entries {
            if entry.id.index != self.last().index.next() {
                return false;
            }
            self.push(entry);
        }
        true
    }
}

/// What is known of one node's log.
#[derive(Clone, Default)]
struct NodeLog {
    /// As its core sees it.
    written: Chain,
    /// As it is on disk whatever happens.
    durable: Chain,
    durable_hard_state: HardState,
    /// Handed to the file system and not synced, in order: any number of the first of them may survive.
    unsynced: VecDeque<Write>,
    leads: Option<Term>,
    applied: Index,
}

/// A committed entry.
#[derive(Clone, Copy, Debug)]
struct Committed {
    link: Link,
    /// It was committed in this term or an earlier one.
    by: Term,
}

/// All logs.
pub(in crate::sim) struct Logs {
    nodes: Vec<NodeLog>,
    /// The latest configuration that is committed, and where it stands.
    in_force: (Index, Configuration),
    /// All that were committed, in order.
    once_in_force: Vec<Configuration>,
    /// Every entry that any log ever held.
    ever: HashMap<EntryId, Link>,
    /// By index, from 1.
    committed: Vec<Committed>,
    /// Digests of state machines, by applied index.
    digests: HashMap<Index, u64>,
}

impl Logs {
    pub(in crate::sim) fn new(size: usize) -> Self {
        Self {
            nodes: vec![NodeLog::default(); size],
            in_force: (Index::ZERO, Configuration::default()),
            once_in_force: Vec::new(),
            ever: HashMap::new(),
            committed: Vec::new(),
            digests: HashMap::new(),
        }
    }

    fn node(&mut self, id: u64) -> &mut NodeLog {
        &mut self.nodes[id as usize - 1]
    }

    pub(in crate::sim) fn durable_hard_state(&self, id: u64) -> HardState {
        self.nodes[id as usize - 1].durable_hard_state
    }

    pub(in crate::sim) fn durable_last(&self, id: u64) -> Index {
        self.nodes[id as usize - 1].durable.last().index
    }

    /// Whether what is durable up to `index` is what the core has there.
    pub(in crate::sim) fn durable_as_written(&self, id: u64, index: Index) -> bool {
        let node = &self.nodes[id as usize - 1];
        index == Index::ZERO || (node.durable.at(index).is_some() && node.durable.at(index) == node.written.at(index))
    }

    pub(in crate::sim) fn unsynced(&self, id: u64) -> usize {
        self.nodes[id as usize - 1].unsynced.len()
    }

    pub(in crate::sim) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// A core wants this written, which leads now if it does, and in which term.
    pub(in crate::sim) fn written(&mut self, id: u64, write: &Write, leads: Option<Term>) -> Verdict {
        if let Some(from) = write.truncate_from {
            self.judge_truncation(id, from, leads)?;
        }
        let node = &mut self.nodes[id as usize - 1];
        if let Some(from) = write.truncate_from {
            node.written.truncate_from(from);
        }
        for entry in &write.entries {
            let last = node.written.last();
            require(entry.id.index == last.index.next(), "contiguous log", id, || {
                format!("{} after {last}", entry.id)
            })?;
            require(entry.id.term >= last.term, "terms rise along a log", id, || format!("{} after {last}", entry.id))?;
            let link = node.written.push(entry);
            let known = *self.ever.entry(entry.id).or_insert(link);
            require(known == link, "log matching", id, || format!("another {} or another log before it", entry.id))?;
        }
        Ok(())
    }

    fn judge_truncation(&self, id: u64, from: Index, leads: Option<Term>) -> Verdict {
        let node = &self.nodes[id as usize - 1];
        // A node leads at most once in a term: who led before and leads now led all the time.
        let led_on = leads.is_some() && leads == node.leads;
        require(!led_on, "leader append-only", id, || format!("it leads and truncates from {from}"))?;
        let holds_committed = |index: Index| {
            let committed = self.committed.get(index.previous().0 as usize);
            committed.is_some_and(|committed| node.written.at(index) == Some(committed.link))
        };
        require(!holds_committed(from), "committed for ever", id, || format!("truncates {from}, which is committed"))
    }

    /// The file system has these writes.
    pub(in crate::sim) fn appended(&mut self, id: u64, writes: impl Iterator<Item = Write>) {
        self.node(id).unsynced.extend(writes);
    }

    /// The disk has everything the file system has.
    pub(in crate::sim) fn synced(&mut self, id: u64) {
        let node = self.node(id);
        for write in std::mem::take(&mut node.unsynced) {
            node.durable.carry_out(&write);
            node.durable_hard_state = write.hard_state.unwrap_or(node.durable_hard_state);
        }
    }

    /// What a node found on its disk is what it had synced and some of the first of what it had written since. Returns
    /// how many of those.
    pub(in crate::sim) fn recovered(
        &mut self,
        id: u64,
        found: Option<&RecoveredGroup>,
    ) -> Result<usize, super::Violation> {
        let nothing = RecoveredGroup::default();
        let found = found.unwrap_or(&nothing);
        let node = self.node(id);
        let (mut chain, mut hard_state) = (node.durable.clone(), node.durable_hard_state);
        let fits = |chain: &Chain, hard_state: HardState| {
            let runs = found.log.runs().iter();
            found.hard_state == hard_state
                && found.log.last() == chain.last()
                && runs.map(|run| (run.first, run.term)).all(|(at, term)| chain.at(at).is_some_and(|l| l.term == term))
        };
        let mut survived = fits(&chain, hard_state).then(|| (0, chain.clone(), hard_state));
        for (count, write) in std::mem::take(&mut node.unsynced).iter().enumerate() {
            chain.carry_out(write);
            hard_state = write.hard_state.unwrap_or(hard_state);
            if fits(&chain, hard_state) {
                survived = Some((count + 1, chain.clone(), hard_state));
            }
        }
        let Some((count, chain, hard_state)) = survived else {
            let (durable, last) = (node.durable.last(), found.log.last());
            let what = format!("synced up to {durable} with {hard_state:?}, found {last} with {:?}", found.hard_state);
            return broken("nothing synced is lost", id, what).map(|()| 0);
        };
        (node.written, node.durable, node.durable_hard_state) = (chain.clone(), chain, hard_state);
        (node.leads, node.applied) = (None, Index::ZERO);
        Ok(count)
    }

    /// A node's role changed.
    pub(in crate::sim) fn role(&mut self, id: u64, leads: Option<Term>) -> Verdict {
        let node = &mut self.nodes[id as usize - 1];
        if node.leads == leads {
            return Ok(());
        }
        node.leads = leads;
        let Some(term) = leads else { return Ok(()) };
        // Entries committed in later terms than this leader's are none of its business: it was elected late.
        let owed = self.committed.partition_point(|committed| committed.by < term);
        let Some(last) = owed.checked_sub(1) else { return Ok(()) };
        let index = Index(owed as u64);
        let complete = node.written.at(index) == Some(self.committed[last].link);
        require(complete, "leader completeness", id, || format!("leads {term} without the committed entry at {index}"))
    }

    /// A node starts whose state machine has applied so much.
    pub(in crate::sim) fn started(&mut self, id: u64, applied: Index) {
        self.node(id).applied = applied;
    }

    /// A node, now in `term`, knows that everything up to `commit` is committed.
    pub(in crate::sim) fn committed_up_to(&mut self, id: u64, commit: Index, term: Term) -> Verdict {
        while self.committed() < commit {
            let index = self.committed().next();
            let Some(link) = self.nodes[id as usize - 1].written.at(index) else {
                return broken("committed is in the log", id, format!("{commit} is committed, {index} is not there"));
            };
            // It was committed in this term or before, and so was everything before it.
            for earlier in self.committed.iter_mut().rev().take_while(|earlier| earlier.by > term) {
                earlier.by = term;
            }
            self.committed.push(Committed { link, by: term });
            let configurations = &self.nodes[id as usize - 1].written.configurations;
            if let Some(configuration) = configurations.iter().find(|(at, _)| *at == index) {
                self.in_force = configuration.clone();
                self.once_in_force.push(configuration.1.clone());
            }
            self.judge_quorum(id, index, "committed by a quorum")?;
            self.judge_leaders(index)?;
        }
        let known = self.committed.get(commit.previous().0 as usize).map(|committed| committed.link);
        let same = commit == Index::ZERO || known == self.nodes[id as usize - 1].written.at(commit);
        require(same, "state machine safety", id, || format!("another {commit} is committed elsewhere"))
    }

    /// Whoever leads a later term has what turns out to be committed at `index`.
    fn judge_leaders(&self, index: Index) -> Verdict {
        let Committed { link, by } = self.committed[index.previous().0 as usize];
        for (id, node) in (1..).zip(&self.nodes) {
            let complete = node.leads.is_none_or(|term| term <= by) || node.written.at(index) == Some(link);
            require(complete, "leader completeness", id, || format!("leads without {index}, committed by {by}"))?;
        }
        Ok(())
    }

    /// A node hands an entry to its state machine.
    pub(in crate::sim) fn applied(&mut self, id: u64, entry: &Entry) -> Verdict {
        let index = entry.id.index;
        let node = &mut self.nodes[id as usize - 1];
        let last = std::mem::replace(&mut node.applied, index);
        require(index == last.next(), "applied in order", id, || format!("{index} after {last}"))?;
        let (link, durable) = (node.written.at(index), node.durable.at(index));
        let Some(link) = link else {
            return broken("applied what it has", id, format!("{} is not in its log", entry.id));
        };
        require(link.term == entry.id.term, "applied what it has", id, || format!("{} instead of {link:?}", entry.id))?;
        require(durable == Some(link), "applied what is durable", id, || format!("{} is not on its disk", entry.id))?;
        match self.committed.get(index.previous().0 as usize) {
            Some(committed) => require(committed.link == link, "state machine safety", id, || {
                format!("{} here, {} elsewhere", entry.id, committed.link.term)
            }),
            None => broken("applied what is committed", id, format!("{} is not committed", entry.id)),
        }
    }

    /// A node's digest after it has applied everything up to `index`.
    pub(in crate::sim) fn digest(&mut self, id: u64, index: Index, digest: u64) -> Verdict {
        let known = *self.digests.entry(index).or_insert(digest);
        require(known == digest, "equal state machines", id, || format!("differs from another's after {index}"))
    }

    /// A client was told that the entry at `index` is committed.
    pub(in crate::sim) fn acknowledged(&self, id: u64, entry: EntryId) -> Verdict {
        let committed = self.committed.get(entry.index.previous().0 as usize);
        let agreed = committed.is_some_and(|committed| committed.link.term == entry.term);
        require(agreed, "acknowledged is committed", id, || format!("{entry} was acknowledged"))?;
        self.judge_quorum(id, entry.index, "acknowledged is durable")
    }

    /// At the end: what was committed is still on the disks of a quorum.
    pub(in crate::sim) fn judge_all_durable(&self) -> Verdict {
        let last = self.committed();
        if last == Index::ZERO { Ok(()) } else { self.judge_quorum(0, last, "nothing committed is lost") }
    }

    /// The entry at `index`, which is committed, is on the disks of a quorum, whatever happens to what is not synced.
    fn judge_quorum(&self, id: u64, index: Index, judge: &'static str) -> Verdict {
        let link = self.committed[index.previous().0 as usize].link;
        let holds = |node: NodeId| self.nodes[node.0 as usize - 1].durable.at(index) == Some(link);
        let of_quorum = |configuration: &Configuration| configuration.tally(|node| Some(holds(node))) == Tally::Won;
        // A change may be under way: which of the two is in use is the leader's to know.
        let logs = self.nodes.iter().flat_map(|node| &node.written.configurations);
        let later = logs.filter(|(at, _)| *at > self.in_force.0).map(|(_, configuration)| configuration);
        let safe = std::iter::once(&self.in_force.1).chain(later).any(of_quorum);
        require(safe, judge, id, || {
            let holders: Vec<_> = (1..=self.nodes.len() as u64).map(NodeId).filter(|node| holds(*node)).collect();
            format!("{index} of {} is on the disks of {holders:?}, in force is {}", link.term, self.in_force.1)
        })
    }

    /// Whether no configuration that was ever committed left node `id` out as a voter. It may be the first to know of one.
    pub(in crate::sim) fn always_a_voter(&self, id: u64, commit: Index) -> bool {
        let known = self.nodes[id as usize - 1].written.configurations.iter().filter(|(at, _)| *at <= commit);
        let mut all = self.once_in_force.iter().chain(known.map(|(_, configuration)| configuration));
        all.all(|configuration| configuration.is_voter(NodeId(id)))
    }

    /// The members of the configuration that is committed.
    pub(in crate::sim) fn in_force(&self) -> &Configuration {
        &self.in_force.1
    }

    /// Of two nodes that could both be elected now, whoever is up and whatever was promised, one cannot be without somebody
    /// that the other cannot be without either (dissertation §4.1).
    pub(in crate::sim) fn judge_overlap(&self) -> Verdict {
        let able: Vec<_> = (1..).zip(&self.nodes).filter_map(|(id, node)| Some((id, self.electorate(node)?))).collect();
        for (at, (one, (configuration, voters))) in able.iter().enumerate() {
            for (other, (others, their_voters)) in &able[at + 1..] {
                let apart = configuration != others && disjoint(configuration, *voters, others, *their_voters);
                require(!apart, "configurations in use overlap", *one, || {
                    format!("n{one} could be elected in {configuration}, n{other} in {others}, by different nodes")
                })?;
            }
        }
        Ok(())
    }

    /// The configuration that a node would stand in, and who could vote for it, as bits; `None` if they are too few.
    fn electorate<'a>(&'a self, node: &'a NodeLog) -> Option<(&'a Configuration, u64)> {
        let configuration = node.written.configuration()?;
        let last = node.written.last();
        let grants = |id: NodeId| self.nodes[id.0 as usize - 1].durable.last() <= last;
        let voters = configuration.members().into_iter().filter(|id| configuration.is_voter(*id) && grants(*id));
        let voters = voters.fold(0, |bits, id| bits | 1 << id.0);
        wins(configuration, voters).then_some((configuration, voters))
    }
}

fn wins(configuration: &Configuration, voters: u64) -> bool {
    configuration.tally(|id| Some(voters >> id.0 & 1 == 1)) == Tally::Won
}

/// Whether some of `voters` are a quorum of one configuration and some others, none of them the same, of the other. Tries
/// all ways to share out those that could vote in both.
fn disjoint(one: &Configuration, voters: u64, other: &Configuration, others: u64) -> bool {
    let shared = voters & others;
    let mut given = shared;
    loop {
        if wins(one, voters & !shared | given) && wins(other, others & !given) {
            return true;
        }
        if given == 0 {
            return false;
        }
        given = (given - 1) & shared;
    }
}
