//! What must be true in every state, each a named check.

use std::rc::Rc;

use tenure::core::{RoleKind, Violation};
use tenure::log::Entry;
use tenure::message::{Body, Message, Verdict};
use tenure::types::{Index, NodeId, Term};

use super::cluster::Cluster;
use super::node::{Effects, Node, View};

/// A check that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) check: &'static str,
    pub(crate) detail: String,
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        broken("invariants of a core", violation.to_string())
    }
}

fn broken(check: &'static str, detail: String) -> Broken {
    Broken { check, detail }
}

fn holds(holds: bool, check: &'static str, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(broken(check, detail())) }
}

/// What was and has left no other trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// Who led each term.
    leaders: Vec<(Term, NodeId)>,
    /// Who told whom that he votes for him in which term; candidates tell it themselves.
    votes: Vec<(NodeId, Term, NodeId)>,
    /// What is committed, and in which term it was first known to be.
    committed: Vec<(Entry, Term)>,
}

impl History {
    /// The history of nodes that have just been started: what founded the group is committed.
    pub(crate) fn new(nodes: &[Rc<Node>]) -> Self {
        let founded = nodes[0].log[0].clone();
        let committed = vec![(founded.clone(), founded.id.term)];
        Self { committed, ..Self::default() }
    }
}

impl Cluster {
    /// Everything, after a step of the node at this place.
    pub(crate) fn check(&mut self, at: usize, before: View, effects: &Effects) -> Result<(), Broken> {
        self.check_node(at, before)?;
        self.check_votes(at, &effects.messages)?;
        self.check_commit(at)?;
        self.check_applied(at, &effects.applied)?;
        self.check_leader(at)?;
        self.check_logs(at)?;
        self.check_durability()?;
        self.check_leases()
    }

    /// After a restart of the node at this place.
    pub(crate) fn check_restart(&mut self, at: usize) -> Result<(), Broken> {
        self.nodes[at].core.check_invariants()?;
        self.check_logs(at)?;
        self.check_durability()
    }

    fn check_node(&self, at: usize, before: View) -> Result<(), Broken> {
        let node = &self.nodes[at];
        let now = node.view;
        node.core.check_invariants()?;
        holds(!now.stopped, "no group stops", || format!("{:?}", node.core.status().stopped))?;
        holds(now.term >= before.term, "a term never falls", || format!("{before:?} {now:?}"))?;
        holds(now.commit >= before.commit, "commit never falls", || format!("{before:?} {now:?}"))?;
        let written = node.log.last().map(|entry| entry.id);
        holds(written == Some(now.last), "what is in the log was written", || format!("{written:?} {now:?}"))?;
        let leads_on = (before.role, before.term, now.role) == (RoleKind::Leader, now.term, RoleKind::Leader);
        holds(!leads_on || node.core.log().contains(before.last), "a leader only appends", || format!("{before:?}"))
    }

    /// A vote is on disk before anybody hears of it, and it is the only one of its term.
    fn check_votes(&mut self, at: usize, sent: &[Message]) -> Result<(), Broken> {
        for message in sent {
            let (term, candidate) = match &message.body {
                Body::Vote(request) => (request.campaign_term, message.from),
                Body::VoteResponse(answer) if answer.verdict == Verdict::Granted => (answer.campaign_term, message.to),
                _ => continue,
            };
            let (voter, disk) = (message.from, self.nodes[at].disk.hard_state);
            let durable = (disk.term, disk.vote) == (term, Some(candidate)) || disk.term > term;
            holds(durable, "a vote is durable before it is told", || format!("{message:?}"))?;
            let other = self.history.votes.iter().find(|vote| (vote.0, vote.1) == (voter, term));
            match other {
                Some((_, _, other)) => {
                    let detail = || format!("{voter} in {term} for {other} and {candidate}");
                    holds(*other == candidate, "one vote per node and term", detail)?;
                }
                None => {
                    let votes = &mut Rc::make_mut(&mut self.history).votes;
                    votes.push((voter, term, candidate));
                    votes.sort_unstable();
                }
            }
        }
        Ok(())
    }

    /// What is committed stays, at every node.
    fn check_commit(&mut self, at: usize) -> Result<(), Broken> {
        let node = self.nodes[at].clone();
        let up_to = node.view.commit.0 as usize;
        for (entry, (committed, _)) in node.log[..up_to].iter().zip(&self.history.committed) {
            let detail = || format!("{}: {entry:?}, but {committed:?} is committed", node.id);
            holds(entry == committed, "what is committed stays", detail)?;
        }
        let known = self.history.committed.len();
        if up_to > known {
            let newly = node.log[known..up_to].iter().map(|entry| (entry.clone(), node.view.term));
            Rc::make_mut(&mut self.history).committed.extend(newly);
        }
        Ok(())
    }

    /// Every node applies what is committed, each index once and in order.
    fn check_applied(&mut self, at: usize, applied: &[Entry]) -> Result<(), Broken> {
        for entry in applied {
            let index = entry.id.index;
            let in_order = index == self.nodes[at].applied.next();
            holds(in_order, "state machine safety", || format!("{entry:?} is not next at {}", self.nodes[at].id))?;
            let committed = self.history.committed.get(index.0 as usize - 1).map(|(entry, _)| entry);
            let detail = || format!("applied {entry:?}, committed {committed:?}");
            holds(committed == Some(entry), "state machine safety", detail)?;
            self.node_mut(at).applied = index;
        }
        Ok(())
    }

    /// Election safety and leader completeness.
    fn check_leader(&mut self, at: usize) -> Result<(), Broken> {
        let node = self.nodes[at].clone();
        if node.view.role != RoleKind::Leader {
            return Ok(());
        }
        let term = node.view.term;
        match self.history.leaders.iter().find(|(of, _)| *of == term) {
            Some((_, other)) => {
                holds(*other == node.id, "election safety", || format!("{other} and {} lead {term}", node.id))?;
            }
            None => {
                let leaders = &mut Rc::make_mut(&mut self.history).leaders;
                leaders.push((term, node.id));
                leaders.sort_unstable();
            }
        }
        let earlier = self.history.committed.iter().filter(|(_, committed_in)| *committed_in < term);
        for (entry, _) in earlier {
            let detail = || format!("{} leads {term} without {entry:?}", node.id);
            holds(node.log.get(entry.id.index.0 as usize - 1) == Some(entry), "leader completeness", detail)?;
        }
        Ok(())
    }

    /// Log matching: the same index and term mean the same entry, and the same before it.
    fn check_logs(&self, at: usize) -> Result<(), Broken> {
        let one = &self.nodes[at];
        for other in self.nodes.iter().filter(|other| other.id != one.id) {
            let both = || one.log.iter().zip(&other.log);
            let Some(agree) = both().rposition(|(one, other)| one.id == other.id) else { continue };
            let parted = both().take(agree + 1).find(|(one, other)| one != other);
            holds(parted.is_none(), "log matching", || format!("{} and {}: {parted:?}", one.id, other.id))?;
        }
        Ok(())
    }

    /// What is committed is on a quorum of disks.
    fn check_durability(&self) -> Result<(), Broken> {
        for (entry, _) in &self.history.committed {
            let holders = self.nodes.iter().filter(|node| node.holds_durably(entry.id)).count();
            holds(holders > self.nodes.len() / 2, "durability", || format!("{entry:?} is on {holders} disks"))?;
        }
        Ok(())
    }

    /// At most one node can answer alone, and it knows everything. Clocks of their own prove nothing.
    pub(crate) fn check_leases(&self) -> Result<(), Broken> {
        if self.rules.shared_clock.is_none() {
            return Ok(());
        }
        let lease = |node: &Rc<Node>| Some((node.id, node.core.lease().filter(|lease| node.now < lease.until)?));
        let usable: Vec<_> = self.nodes.iter().filter_map(lease).collect();
        holds(usable.len() <= 1, "lease exclusivity", || format!("{usable:?}"))?;
        let newest = Index(self.history.committed.len() as u64);
        let stale = usable.iter().find(|(_, lease)| lease.read_index < newest);
        holds(stale.is_none(), "a lease knows what is committed", || format!("{stale:?}, {newest} is committed"))
    }
}
