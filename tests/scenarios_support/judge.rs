//! Judges look at all nodes after every step and know more than any of them: true time, and everything that happened.

use std::collections::BTreeMap;

use tenure::core::{Consistency, Core, ReadAnswer, ReadId, RoleKind};
use tenure::log::Entry;
use tenure::time::Duration;
use tenure::types::{EntryId, Index, NodeId, Term};

#[derive(Default)]
pub(crate) struct Judge {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that some node has known to be committed.
    committed: BTreeMap<Index, EntryId>,
    /// When the newest committed entry became so, in true time.
    history: Vec<(Duration, Index)>,
    /// Every entry that some state machine applied.
    applied: BTreeMap<Index, Entry>,
    /// What an open read must see at least.
    floors: BTreeMap<ReadId, Index>,
    /// Everything that was found, each once, and how much of it was taken.
    violations: Vec<String>,
    taken: usize,
}

impl Judge {
    /// What was found since this was asked last.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let new = self.violations[self.taken..].to_vec();
        self.taken = self.violations.len();
        new
    }

    fn violation(&mut self, what: String) {
        if !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }

    /// A node has taken a step: its own invariants, one leader per term, one entry per committed index, and a leader has
    /// all that was committed before it.
    pub(crate) fn stepped(&mut self, elapsed: Duration, core: &Core) {
        if let Err(violation) = core.check_invariants() {
            self.violation(violation.to_string());
        }
        let status = core.status();
        if status.role == RoleKind::Leader {
            self.leads(status.id, status.term, core);
        }
        let (known, commit) = (self.newest_committed(), status.commit);
        for index in known.0 + 1..=commit.0 {
            self.commits(elapsed, status.id, Index(index), core);
        }
        if let Some(ours) = core.log().term_at(commit).map(|term| EntryId { term, index: commit }) {
            self.agrees(status.id, ours);
        }
    }

    fn leads(&mut self, node: NodeId, term: Term, core: &Core) {
        let first = self.leaders.insert(term, node);
        match first {
            None => {
                let missing = self.committed.values().find(|entry| !core.log().contains(**entry)).copied();
                if let Some(entry) = missing {
                    self.violation(format!("{node} leads {term} without {entry}, which is committed"));
                }
            }
            Some(other) if other != node => self.violation(format!("two leaders in {term}: {other} and {node}")),
            Some(_) => {}
        }
    }

    fn commits(&mut self, elapsed: Duration, node: NodeId, index: Index, core: &Core) {
        match core.log().term_at(index) {
            Some(term) => {
                self.committed.insert(index, EntryId { term, index });
                self.history.push((elapsed, index));
            }
            None => self.violation(format!("{node} commits {index}, which it does not have")),
        }
    }

    fn agrees(&mut self, node: NodeId, ours: EntryId) {
        match self.committed.get(&ours.index) {
            Some(theirs) if *theirs != ours => {
                let theirs = *theirs;
                self.violation(format!("{node} has committed {ours}, but {theirs} is committed there"));
            }
            _ => {}
        }
    }

    /// A lease that may be used at this true instant: nobody else leads, not even without a lease, and it knows of all
    /// that is committed. `others` are the other nodes that are up.
    pub(crate) fn usable(&mut self, holder: &Core, read_index: Index, others: &[&Core]) {
        let (node, term) = (holder.config().id, holder.status().term);
        for other in others.iter().map(|other| other.status()) {
            if other.role == RoleKind::Leader && other.term > term {
                let (other, later) = (other.id, other.term);
                self.violation(format!("{other} leads {later} while {node} may still use its lease of {term}"));
            }
        }
        let newest = self.newest_committed();
        if read_index < newest {
            self.violation(format!("{node} may read at index {read_index} by its lease, but {newest} is committed"));
        }
    }

    /// A state machine applies an entry: the one after its last, the same everywhere, committed and on its disk.
    pub(crate) fn applies(&mut self, node: NodeId, before: Option<&Entry>, on_disk: &[Entry], entry: &Entry) {
        let expected = before.map_or(Index(1), |before| before.id.index.next());
        if entry.id.index != expected {
            self.violation(format!("{node} applies {} where {expected} is next", entry.id));
        }
        if !on_disk.contains(entry) {
            self.violation(format!("{node} applies {}, which is not on its disk", entry.id));
        }
        if self.committed.get(&entry.id.index) != Some(&entry.id) {
            self.violation(format!("{node} applies {}, which is not committed", entry.id));
        }
        let first = self.applied.entry(entry.id.index).or_insert_with(|| entry.clone());
        if first != entry {
            let first = first.id;
            self.violation(format!("{node} applies {}, another applied {first} with other content there", entry.id));
        }
    }

    /// The newest index that any node has known to be committed.
    pub(crate) fn newest_committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index::ZERO, |(index, _)| *index)
    }

    /// The newest index that was committed at this true time.
    fn committed_at(&self, elapsed: Duration) -> Index {
        self.history.iter().rev().find(|(time, _)| *time <= elapsed).map_or(Index::ZERO, |(_, index)| *index)
    }

    /// Somebody asks for a read now.
    pub(crate) fn asked(&mut self, elapsed: Duration, id: ReadId, consistency: Consistency) {
        let floor = match consistency {
            Consistency::Local => Index::ZERO,
            Consistency::Follower(bound) => elapsed.checked_sub(bound).map_or(Index::ZERO, |at| self.committed_at(at)),
            _ => self.newest_committed(),
        };
        self.floors.insert(id, floor);
    }

    /// A read is answered: it must see what was committed when it was asked for.
    pub(crate) fn answered(&mut self, node: NodeId, answer: &ReadAnswer) {
        let Some(floor) = self.floors.remove(&answer.id) else {
            return self.violation(format!("{node} answers read {}, which nobody waits for", answer.id.0));
        };
        if let Ok(index) = answer.result
            && index < floor
        {
            let id = answer.id.0;
            self.violation(format!("{node} answers read {id} at index {index}, {floor} was committed before: stale"));
        }
    }

    pub(crate) fn note(&mut self, what: String) {
        self.violation(what);
    }
}
