//! The faults of a plan happen to a world, and end.

use super::network::{Link, written};
use super::plan::{Fault, Strike, Target};
use super::world::World;
use crate::core::Change;
use crate::quorum::{Configuration, Voters};
use crate::state_machine::StateMachine;
use crate::time::Duration;
use crate::types::NodeId;

/// What ends a fault that lasts.
pub(super) enum Remedy {
    Mend(Vec<Link>),
    EndSquall,
    QuickDisk(u64),
    UnhangDisk(u64),
    ReplaceProcess(u64),
    UnblockMachine(u64),
}

impl<M: StateMachine> World<M> {
    /// The fault happens. Returns what ends it, if it does not end by itself.
    pub(super) fn strike(&mut self, fault: &Fault) -> Option<Remedy> {
        let lasting = fault.lasting;
        match &fault.strike {
            Strike::Crash { node, power_lost } => self.crash_for(self.who(*node), *power_lost, lasting),
            Strike::CrashAll { power_lost } => self.crash_all_for(*power_lost, lasting),
            Strike::Ambush { after, power_lost } => self.lay_ambush(*after, *power_lost, lasting),
            Strike::Pause { node, asleep } => self.pause_for(self.who(*node), lasting, *asleep),
            Strike::ClockRate { node, rate_ppm } => self.set_clock_rate(*node, *rate_ppm),
            Strike::ClockJump { node, by } => self.jump_clock(self.who(*node), *by),
            Strike::Transfer { node, to } => drop(self.transfer(self.who(*node), *to)),
            Strike::Change { node, voters, learners, patience } => {
                self.change_to(self.who(*node), *voters, *learners, *patience);
            }
            Strike::Cut { links } => {
                self.tally.one_ways += u64::from(links.len() == 1);
                self.tally.graphs += u64::from(links.len() > 1);
                return Some(self.cut_for_a_while(None, links.clone()));
            }
            Strike::CutLeader { from, outgoing, incoming } => {
                self.tally.leaders_cut_off += 1;
                let leader = self.leader().unwrap_or(1);
                let links = links_of_leader(leader, &self.ids(), *from, *outgoing, *incoming);
                return Some(self.cut_for_a_while(Some(leader), links));
            }
            Strike::Squall { weather } => {
                self.tally.squalls += 1;
                self.fault(None, || format!("squall: {weather}"));
                self.network.begin_squall(weather.clone());
                return Some(Remedy::EndSquall);
            }
            Strike::SlowDisk { node, by } => {
                let id = self.who(*node);
                self.slow_disk(id, *by);
                return Some(Remedy::QuickDisk(id));
            }
            Strike::HangDisk { node } => {
                let id = self.who(*node);
                self.hang_disk(id);
                return Some(Remedy::UnhangDisk(id));
            }
            Strike::FailDisk { node, skip, takes_effect } => {
                let id = self.who(*node);
                self.fail_disk(id, *skip, *takes_effect);
                return Some(Remedy::ReplaceProcess(id));
            }
            Strike::DieAtSnapshot { node, after, power_lost } => {
                self.doom(self.who(*node), *after, *power_lost, lasting);
            }
            Strike::BlockMachine { node } => {
                let id = self.who(*node);
                self.block_machine(id);
                return Some(Remedy::UnblockMachine(id));
            }
        }
        None
    }

    /// The fault ends.
    pub(super) fn relieve(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Mend(links) => self.mend(&links),
            Remedy::EndSquall => self.network.end_squall(),
            Remedy::QuickDisk(id) => self.slow_disk(id, Duration::ZERO),
            Remedy::UnhangDisk(id) => self.unhang_disk(id),
            Remedy::ReplaceProcess(id) => self.replace_process(id),
            Remedy::UnblockMachine(id) => self.unblock_machine(id),
        }
    }

    /// Whoever asks does not know what is in use. What makes no configuration of these nodes is not asked.
    fn change_to(&mut self, id: u64, voters: u64, learners: u64, patience: Duration) {
        let ids = self.ids();
        let set = |bits: u64| Voters::from_nodes(ids.iter().filter(|id| bits >> **id & 1 == 1).copied().map(NodeId));
        if let Ok(to) = Configuration::new(set(voters), Voters::default(), set(learners & !voters)) {
            self.change(id, Change { expected: None, to, patience });
        }
    }

    fn who(&self, target: Target) -> u64 {
        match target {
            Target::Node(id) => id,
            Target::Leader(otherwise) => self.leader().unwrap_or(otherwise),
        }
    }

    fn crash_all_for(&mut self, power_lost: bool, lasting: Duration) {
        for id in self.ids() {
            // Not all are back at the same time.
            let longer = Duration::from_micros(self.dice.number(0, 100_000));
            self.crash_for(id, power_lost, lasting + longer);
        }
    }

    fn cut_for_a_while(&mut self, node: Option<u64>, links: Vec<Link>) -> Remedy {
        self.fault(node, || format!("cut {}", written(&links)));
        self.cut(&links);
        Remedy::Mend(links)
    }
}

fn links_of_leader(leader: u64, ids: &[u64], from: u64, outgoing: bool, incoming: bool) -> Vec<Link> {
    let others = ids.iter().filter(|id| **id != leader && from >> **id & 1 == 1);
    let out = others.clone().filter(|_| outgoing).map(|id| (leader, *id));
    out.chain(others.filter(|_| incoming).map(|id| (*id, leader))).collect()
}
