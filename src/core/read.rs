//! Linearizable reads without writing to the log: ReadIndex (dissertation §6.4).
//!
//! A read takes the commit index and waits until a quorum has answered a message that left after the read came. Each
//! read asks for a new confirmation round; a round is a number made here, never reused, so no late answer of an earlier
//! one can confirm a later read (bug `b71`). Reads that come before the buffer is sent share one message per peer.

use crate::core::role::{Role, WaitingRead};
use crate::core::{Core, Output, ReadAnswer, ReadError, ReadId};
use crate::time::Instant;
use crate::types::{NodeId, RoundId};

impl Core {
    pub(super) fn read(&mut self, now: Instant, id: ReadId, out: &mut Output) {
        let limit = self.config.limits.waiting_reads;
        let committed_in_term = self.commit;
        let result = match &mut self.role {
            Role::Leader(leader) if leader.reads.len() + leader.early_reads.len() >= limit => {
                Err(ReadError::Overloaded)
            }
            Role::Leader(leader) if committed_in_term < leader.opened.index => {
                return leader.early_reads.push(id);
            }
            Role::Leader(_) => return self.confirm(now, vec![id], out),
            _ => Err(ReadError::NotLeader { leader: self.leader }),
        };
        out.reads.push(ReadAnswer { id, result });
    }

    /// Reads that waited for the first commit of the term (bug `b70`).
    pub(super) fn start_early_reads(&mut self, now: Instant, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role
            && self.commit >= leader.opened.index
            && !leader.early_reads.is_empty()
        {
            let waiting = std::mem::take(&mut leader.early_reads);
            self.confirm(now, waiting, out);
        }
    }

    /// Starts one confirmation round for `ids`.
    fn confirm(&mut self, now: Instant, ids: Vec<ReadId>, out: &mut Output) {
        self.next_round = self.next_round.next();
        let (round, index) = (self.next_round, self.commit);
        if let Role::Leader(leader) = &mut self.role {
            leader.round = round;
            leader.reads.extend(ids.into_iter().map(|id| WaitingRead { round, index, id }));
        }
        self.write_to_all(now, out);
        self.answer_confirmed_reads(out);
    }

    /// Answers the reads whose round a quorum of voters has echoed; learners do not count (bug `b74`).
    pub(super) fn answer_confirmed_reads(&mut self, out: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.reads.is_empty() {
            return;
        }
        let echoed = |voter| match leader.peers.get(&voter) {
            Some(peer) => peer.round,
            None if voter == self.config.id => leader.round,
            None => RoundId(0),
        };
        let confirmed = self.configuration().reached(echoed);
        if let Role::Leader(leader) = &mut self.role {
            while let Some(read) = leader.reads.pop_front_if(|read| read.round <= confirmed) {
                out.reads.push(ReadAnswer { id: read.id, result: Ok(read.index) });
            }
        }
    }

    /// Leadership ends: whoever waits is told (bug `b74`).
    pub(super) fn give_up_reads(&mut self, new_leader: Option<NodeId>, out: &mut Output) {
        self.refuse_reads(ReadError::NotLeader { leader: new_leader }, out);
    }

    pub(super) fn refuse_reads(&mut self, error: ReadError, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role {
            let waiting = leader.reads.drain(..).map(|read| read.id).chain(leader.early_reads.drain(..));
            out.reads.extend(waiting.map(|id| ReadAnswer { id, result: Err(error) }));
        }
    }
}
