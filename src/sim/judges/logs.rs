//! Logs and state machines: log matching, leader append-only, leader completeness, state machine safety, durability and
//! recovery (dissertation figure 3.2, rows `s01` and `s05`).
//!
//! A log is kept as a chain: the hash at an index covers every entry up to it. So two logs agree up to an index if their
//! hashes there are equal, and each check costs the same however long the logs are. What a log has given up to a snapshot
//! stays in its chain, which knows where the log begins: a node has on disk what is in a snapshot of it.

use std::collections::{HashMap, VecDeque};

use super::chain::{Chain, Link, Truth};
use super::{Verdict, broken, require};
use crate::log::{Entry, HardState, Write};
use crate::quorum::{Configuration, Tally};
use crate::types::{EntryId, Index, NodeId, Term};
use crate::wal::RecoveredGroup;

/// What is known of one node's log.
#[derive(Clone, Default)]
pub(super) struct NodeLog {
    /// As its core sees it.
    pub(super) written: Chain,
    /// As it is on disk whatever happens.
    pub(super) durable: Chain,
    durable_hard_state: HardState,
    /// Handed to the file system and not synced, in order: any number of the first of them may survive.
    unsynced: VecDeque<Write>,
    pub(super) leads: Option<Term>,
    pub(super) applied: Index,
    /// The last entry of its newest snapshot that is on disk whatever happens.
    pub(super) snapshot: EntryId,
}

impl NodeLog {
    /// Whether `link` is at `index` whatever happens: in the log, or in a snapshot.
    fn keeps(&self, index: Index, link: Link, truth: &Truth) -> bool {
        self.durable.at(index) == Some(link) || (index <= self.snapshot.index && truth.at(index) == Some(link))
    }
}

/// All logs.
pub(in crate::sim) struct Logs {
    pub(super) nodes: Vec<NodeLog>,
    /// What is committed.
    pub(super) truth: Truth,
    /// Every entry that any log ever held.
    ever: HashMap<EntryId, Link>,
    /// Digests of state machines, by applied index.
    digests: HashMap<Index, u64>,
}

impl Logs {
    pub(in crate::sim) fn new(size: usize) -> Self {
        Self {
            nodes: vec![NodeLog::default(); size],
            truth: Truth::default(),
            ever: HashMap::new(),
            digests: HashMap::new(),
        }
    }

    pub(super) fn node(&mut self, id: u64) -> &mut NodeLog {
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
        index == Index::ZERO || node.written.at(index).is_some_and(|link| node.keeps(index, link, &self.truth))
    }

    pub(in crate::sim) fn unsynced(&self, id: u64) -> usize {
        self.nodes[id as usize - 1].unsynced.len()
    }

    pub(in crate::sim) fn committed(&self) -> Index {
        self.truth.last()
    }

    /// A core wants this written, which leads now if it does, and in which term.
    pub(in crate::sim) fn written(&mut self, id: u64, write: &Write, leads: Option<Term>) -> Verdict {
        if let Some(compaction) = &write.compaction {
            self.judge_compaction(id, compaction, leads)?;
        }
        if let Some(from) = write.truncate_from {
            self.judge_truncation(id, from, leads)?;
        }
        let node = &mut self.nodes[id as usize - 1];
        if let Some(compaction) = &write.compaction {
            node.written.compact(compaction.last, &self.truth);
        }
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
        let holds_committed = self.truth.at(from).is_some_and(|link| node.written.at(from) == Some(link));
        require(!holds_committed, "committed for ever", id, || format!("truncates {from}, which is committed"))
    }

    /// The file system has these writes.
    pub(in crate::sim) fn appended(&mut self, id: u64, writes: impl Iterator<Item = Write>) {
        self.node(id).unsynced.extend(writes);
    }

    /// The disk has everything the file system has.
    pub(in crate::sim) fn synced(&mut self, id: u64) {
        let node = &mut self.nodes[id as usize - 1];
        for write in std::mem::take(&mut node.unsynced) {
            node.durable.carry_out(&write, &self.truth);
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
        let node = &mut self.nodes[id as usize - 1];
        let (mut chain, mut hard_state) = (node.durable.clone(), node.durable_hard_state);
        let fits = |chain: &Chain, hard_state: HardState| {
            let runs = found.log.runs().iter();
            found.hard_state == hard_state
                && (found.log.base(), found.log.last()) == (chain.base(), chain.last())
                && runs.map(|run| (run.first, run.term)).all(|(at, term)| chain.at(at).is_some_and(|l| l.term == term))
        };
        let mut survived = fits(&chain, hard_state).then(|| (0, chain.clone(), hard_state));
        for (count, write) in std::mem::take(&mut node.unsynced).iter().enumerate() {
            chain.carry_out(write, &self.truth);
            hard_state = write.hard_state.unwrap_or(hard_state);
            if fits(&chain, hard_state) {
                survived = Some((count + 1, chain.clone(), hard_state));
            }
        }
        let Some((count, chain, hard_state)) = survived else {
            let (durable, last) = (node.durable.last(), found.log.last());
            let base = found.log.base();
            let what = format!(
                "synced up to {durable} with {hard_state:?}, found {last} behind {base} with {:?}",
                found.hard_state
            );
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
        let index = self.truth.committed_before(term);
        let complete = index == Index::ZERO || node.written.at(index) == self.truth.at(index);
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
            self.truth.push(link, term, self.nodes[id as usize - 1].written.configuration_at(index));
            self.judge_quorum(id, index, "committed by a quorum")?;
            self.judge_leaders(index, term)?;
        }
        let same = commit == Index::ZERO || self.truth.at(commit) == self.nodes[id as usize - 1].written.at(commit);
        require(same, "state machine safety", id, || format!("another {commit} is committed elsewhere"))
    }

    /// Whoever leads a later term has what turns out to be committed at `index`.
    fn judge_leaders(&self, index: Index, by: Term) -> Verdict {
        for (id, node) in (1..).zip(&self.nodes) {
            let complete = node.leads.is_none_or(|term| term <= by) || node.written.at(index) == self.truth.at(index);
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
        let Some(link) = node.written.at(index) else {
            return broken("applied what it has", id, format!("{} is not in its log", entry.id));
        };
        require(link.term == entry.id.term, "applied what it has", id, || format!("{} instead of {link:?}", entry.id))?;
        let durable = node.keeps(index, link, &self.truth);
        require(durable, "applied what is durable", id, || format!("{} is not on its disk", entry.id))?;
        match self.truth.at(index) {
            Some(committed) => require(committed == link, "state machine safety", id, || {
                format!("{} here, {} elsewhere", entry.id, committed.term)
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
        let agreed = self.truth.holds(entry);
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
        let Some(link) = self.truth.at(index) else { return Ok(()) };
        let holds = |node: NodeId| self.nodes[node.0 as usize - 1].keeps(index, link, &self.truth);
        let of_quorum = |configuration: &Configuration| configuration.tally(|node| Some(holds(node))) == Tally::Won;
        // A change may be under way: which of the two is in use is the leader's to know.
        let (since, in_force) = self.truth.in_force();
        let logs = self.nodes.iter().flat_map(|node| node.written.configurations());
        let later = logs.filter(|(at, _)| at > since).map(|(_, configuration)| configuration);
        let safe = std::iter::once(in_force).chain(later).any(of_quorum);
        require(safe, judge, id, || {
            let holders: Vec<_> = (1..=self.nodes.len() as u64).map(NodeId).filter(|node| holds(*node)).collect();
            format!("{index} of {} is on the disks of {holders:?}, in force is {in_force}", link.term)
        })
    }

    /// Whether no configuration that was ever committed left node `id` out as a voter. It may be the first to know of one.
    pub(in crate::sim) fn always_a_voter(&self, id: u64, commit: Index) -> bool {
        let known = self.nodes[id as usize - 1].written.configurations().iter().filter(|(at, _)| *at <= commit);
        let mut all = self.truth.once_in_force().iter().chain(known);
        all.all(|(_, configuration)| configuration.is_voter(NodeId(id)))
    }

    /// The members of the configuration that is committed.
    pub(in crate::sim) fn in_force(&self) -> &Configuration {
        &self.truth.in_force().1
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
        let (_, configuration) = node.written.configuration()?;
        let last = node.written.last();
        let has = |id: NodeId| &self.nodes[id.0 as usize - 1];
        let grants = |id: NodeId| has(id).durable.last().max(has(id).snapshot) <= last;
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
