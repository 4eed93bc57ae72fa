//! What clients ask of nodes, and what that obliges everybody to.

use std::collections::BTreeMap;

use super::judges::require;
use super::mailbox::Told;
use super::node::GROUP;
use super::world::World;
use crate::core::{Change, Consistency};
use crate::runtime::driver::ShardInput;
use crate::runtime::{ChangeReply, ReadReply, Reply, TransferReply};
use crate::state_machine::StateMachine;
use crate::types::{Index, NodeId};

/// What was asked and not answered, by token.
#[derive(Default)]
pub(super) struct Asked {
    next: u64,
    /// The names of the commands.
    proposals: BTreeMap<u64, u64>,
    reads: BTreeMap<u64, (Consistency, Index)>,
    transfers: BTreeMap<u64, u64>,
    changes: BTreeMap<u64, u64>,
}

impl Asked {
    fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// How many wait for an answer.
    pub(super) fn open(&self) -> usize {
        self.proposals.len() + self.reads.len() + self.transfers.len() + self.changes.len()
    }
}

impl<M: StateMachine> World<M> {
    /// Proposes a command at a node. Commands must differ from each other. What becomes of it comes out of
    /// [`World::take_told`] under the token returned here; a node that is down does not answer at all.
    pub fn propose(&mut self, id: u64, command: bytes::Bytes) -> u64 {
        let token = self.asked.token();
        let name = self.fates.proposed(&command);
        if self.node(id).life.is_some() {
            self.asked.proposals.insert(token, name);
            let reply = Reply::new(self.mailbox.slip(token));
            self.input(id, ShardInput::Propose { group: GROUP, command, reply });
        }
        token
    }

    /// Asks a node for a read, as [`propose`](Self::propose). As a group's handle does, it uses a published lease
    /// without asking the shard.
    pub fn read(&mut self, id: u64, consistency: Consistency) -> u64 {
        let token = self.asked.token();
        if self.node(id).life.is_none() {
            return token;
        }
        let floor = self.leases.floor(consistency, self.now, self.core.timing.clock_drift_ppm);
        self.asked.reads.insert(token, (consistency, floor));
        let reply = ReadReply::new(self.mailbox.slip(token));
        let paused = self.node(id).life.as_ref().is_some_and(|life| life.paused.is_some());
        match self.usable_lease(id).filter(|_| consistency == Consistency::Lease && !paused) {
            Some(lease) => {
                self.tally.lease_reads += 1;
                if let Some(life) = &mut self.node_mut(id).life {
                    life.waiting_reads.push((lease.read_index, reply));
                }
                self.answer_reads(id);
                self.collect_told(id);
            }
            None => self.input(id, ShardInput::Read { group: GROUP, consistency, reply }),
        }
        token
    }

    /// Asks a node to hand leadership over, as [`propose`](Self::propose).
    pub fn transfer(&mut self, id: u64, target: Option<u64>) -> u64 {
        let token = self.asked.token();
        if self.node(id).life.is_some() {
            self.tally.transfers += 1;
            self.fault(Some(id), || match target {
                Some(target) => format!("asked to hand over to n{target}"),
                None => "asked to hand over".to_owned(),
            });
            self.asked.transfers.insert(token, id);
            let (target, reply) = (target.map(NodeId), TransferReply::new(self.mailbox.slip(token)));
            self.input(id, ShardInput::Transfer { group: GROUP, target, reply });
        }
        token
    }

    /// Asks a node to change the members, as [`propose`](Self::propose).
    pub fn change(&mut self, id: u64, change: Change) -> u64 {
        let token = self.asked.token();
        if self.node(id).life.is_some() {
            self.tally.changes += 1;
            self.fault(Some(id), || format!("asked to change the members to {}", change.to));
            self.asked.changes.insert(token, id);
            let reply = ChangeReply::new(self.mailbox.slip(token));
            self.input(id, ShardInput::Change { group: GROUP, change, reply });
        }
        token
    }

    /// Somebody was told something by node `id`.
    pub(super) fn judge_told(&mut self, id: u64, token: u64, told: &Told<M::Output>) {
        match told {
            Told::Applied(entry, _) => {
                let Some(name) = self.asked.proposals.remove(&token) else { return self.judge_twice(id, token) };
                let verdict = self.fates.told(id, name, Some(*entry));
                self.judge(verdict);
            }
            Told::Failed(error) => {
                let Some(name) = self.asked.proposals.remove(&token) else { return self.judge_twice(id, token) };
                if error.certainly_not_committed() {
                    let verdict = self.fates.told(id, name, None);
                    self.judge(verdict);
                } else {
                    self.fates.unknown(name);
                }
            }
            Told::Read(answer) => {
                let Some((consistency, floor)) = self.asked.reads.remove(&token) else {
                    return self.judge_twice(id, token);
                };
                if let Ok(index) = answer {
                    self.count_read(consistency);
                    if self.judges_leases() || consistency == Consistency::Linearizable {
                        let verdict = self.leases.read(id, self.now, consistency, floor, *index);
                        self.judge(verdict);
                    }
                }
            }
            Told::Transferred(_) => {
                if self.asked.transfers.remove(&token).is_none() {
                    self.judge_twice(id, token);
                }
            }
            Told::Changed(result) => {
                self.tally.changed += u64::from(result.is_ok());
                if self.asked.changes.remove(&token).is_none() {
                    self.judge_twice(id, token);
                }
            }
        }
    }

    fn judge_twice(&mut self, id: u64, token: u64) {
        self.judge(require(false, "each is answered once", id, || format!("request {token} was answered again")));
    }

    fn count_read(&mut self, consistency: Consistency) {
        match consistency {
            Consistency::Lease => self.tally.reads_by_lease_or_quorum += 1,
            Consistency::Linearizable => self.tally.quorum_reads += 1,
            Consistency::Follower(_) => self.tally.bounded_reads += 1,
            _ => {}
        }
    }
}
