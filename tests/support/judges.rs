//! Who looks on: what must hold at every instant, what must hold at the end.

use std::collections::BTreeSet;

use tenure::core::{Consistency, Lease, RoleKind};
use tenure::types::Term;

use super::super::client::{ReadSlip, Told, name};
use super::super::lone::ms;
use super::{Cluster, Member, Weather};

impl Cluster {
    /// Election safety: at most one leader per term.
    pub(super) fn judge_leaders(&mut self) {
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

    pub(super) fn publish(&mut self, id: u64, lease: Option<Lease>) {
        let member = self.members.get_mut(&id).unwrap();
        let longest = member.clock.at(self.now) + self.template.timing.promise();
        assert!(lease.is_none_or(|lease| lease.until <= longest), "seed {}: n{id} publishes {lease:?}", self.seed);
        member.published = lease;
    }

    /// At any true time at most one node may read under a lease (`docs/safety.md`), and it would see everything that was
    /// acknowledged to anybody. Leases change in events only, and in between they can but end.
    pub(super) fn judge_leases(&self) {
        let usable: Vec<_> = self.ids().into_iter().filter_map(|id| Some((id, self.usable_lease(id)?))).collect();
        assert!(usable.len() <= 1, "seed {}: at {:?} leases of {usable:?}", self.seed, self.now);
        for (id, lease) in usable {
            let newest = self.ledger.newest();
            let seed = self.seed;
            assert!(lease.read_index >= newest, "seed {seed}: n{id} would read at {lease:?}, {newest} is acknowledged");
        }
    }

    /// No read misses what it must see.
    pub(super) fn judge_reads(&mut self) {
        let answered: Vec<_> = self.open_reads.extract_if(.., |slip| slip.told.lock().unwrap().is_some()).collect();
        for slip in answered {
            if let Some(Ok(index)) = *slip.told.lock().unwrap() {
                let ReadSlip { node, consistency, asked, floor, .. } = *slip;
                let (seed, now) = (self.seed, self.now);
                assert!(
                    index >= floor,
                    "seed {seed}: stale read at n{node}, {consistency:?}, asked at {asked:?}, answered at {now:?}: \
                     saw {index}, {floor} was acknowledged before"
                );
                if matches!(consistency, Consistency::Linearizable | Consistency::Lease) {
                    // What was read is known: no later read may miss it.
                    self.ledger.acknowledged(now, index);
                }
                *self.answered.entry(name(consistency)).or_default() += 1;
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
        self.answered.iter().filter(|(name, _)| **name != "published").map(|(_, count)| count).sum()
    }

    /// Nobody waits for ever.
    fn judge_waiting(&self) {
        for (command, slip) in &self.proposals {
            let told = slip.told.lock().unwrap();
            assert_ne!(*told, Told::Nothing, "seed {}: {command:?} was never answered", self.seed);
        }
        let open = self.open_reads.first().map(|slip| (slip.node, slip.consistency, slip.asked));
        assert_eq!(open, None, "seed {}: a read was never answered", self.seed);
        for number in 0..self.transfers.len() {
            assert!(self.transferred(number).is_some(), "seed {}: transfer {number} was never answered", self.seed);
        }
    }

    pub fn acknowledged(&self) -> usize {
        let acknowledged = |told: &Told| matches!(told, Told::Committed(_));
        self.proposals.iter().filter(|(_, slip)| acknowledged(&slip.told.lock().unwrap())).count()
    }

    /// Liveness: with all faults gone a leader is there within `40 E`, and a new write is applied everywhere soon.
    pub fn judge_liveness(&mut self) {
        let (seed, e) = (self.seed, self.template.timing.election_timeout_min.as_millis() as u64);
        for id in self.ids() {
            self.resume(id);
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
        self.run_for(2 * e);
        self.judge_waiting();
    }
}
