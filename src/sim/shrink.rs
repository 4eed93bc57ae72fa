//! Makes a failing run short: leaves out faults, then clients and operations, then nodes and bad weather, and the time
//! after the failure, as long as a run still fails.

use super::network::Weather;
use super::plan::{Fault, Plan, Strike, Target};
use super::run::{Report, run};
use super::snapshots::SnapshotPlan;
use super::subject::Subject;
use crate::time::{Duration, Instant};

/// A short story.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What was left of the plan.
    pub plan: Plan,
    /// What becomes of it, with everything recorded.
    pub report: Report,
    /// How many runs it took.
    pub runs: u32,
}

/// Shrinks `plan`, whose run breaks a promise, to one that is shorter and breaks a promise that the same judge notices.
/// Tries at most `budget` runs. `None` if the run of `plan` breaks none.
pub fn shrink<S: Subject + Clone + 'static>(plan: &Plan, subject: &S, budget: u32) -> Option<Shrunk> {
    let first = run(plan, subject, false).violation?;
    let mut search = Search { subject, judge: first.judge, plan: plan.clone(), left: budget };
    search.cut_off(first.at);
    while search.round() && search.left > 0 {}
    let Search { plan, left, .. } = search;
    let report = run(&plan, subject, true);
    Some(Shrunk { plan, report, runs: budget - left })
}

struct Search<'a, S> {
    subject: &'a S,
    judge: &'static str,
    /// The shortest that fails so far.
    plan: Plan,
    left: u32,
}

impl<S: Subject + Clone + 'static> Search<'_, S> {
    /// Takes `candidate` if its run fails in the same way.
    fn accept(&mut self, candidate: Plan) -> bool {
        if self.left == 0 || candidate == self.plan {
            return false;
        }
        self.left -= 1;
        let found = run(&candidate, self.subject, false).violation.filter(|violation| violation.judge == self.judge);
        let Some(found) = found else { return false };
        self.plan = candidate;
        self.cut_off(found.at);
        true
    }

    /// Nothing that was to happen after the failure matters.
    fn cut_off(&mut self, at: Instant) {
        let begun = Instant::ZERO + super::world::BEGINNING;
        let lasting = at.since(begun) + Duration::from_millis(1);
        if at > begun && lasting < self.plan.lasting {
            self.plan.lasting = lasting;
            self.plan.faults.retain(|fault| fault.at < lasting);
        }
    }

    /// Tries everything once; whether anything helped.
    fn round(&mut self) -> bool {
        let mut helped = self.drop_faults();
        helped |= self.simplify();
        helped |= self.shorten_faults();
        helped | self.drop_nodes()
    }

    /// Leaves out ever smaller parts of the faults (delta debugging).
    fn drop_faults(&mut self) -> bool {
        let mut helped = false;
        let mut part = self.plan.faults.len().div_ceil(2);
        while part > 0 {
            let mut from = 0;
            while from < self.plan.faults.len() {
                let mut candidate = self.plan.clone();
                let to = (from + part).min(candidate.faults.len());
                candidate.faults.drain(from..to);
                if self.accept(candidate) {
                    helped = true;
                } else {
                    from += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
        helped
    }

    /// Does without clients, operations, kinds of read, bad weather, slow disks and wrong clocks.
    fn simplify(&mut self) -> bool {
        let quiet = Plan::quiet(self.plan.seed, self.plan.nodes, self.plan.lasting);
        let changes: [&dyn Fn(&mut Plan); 12] = [
            &|plan| plan.clients.operations = plan.clients.operations.min(4000) / 2,
            &|plan| plan.clients.operations = plan.clients.operations.min(4000) * 3 / 4,
            &|plan| plan.clients.count = (plan.clients.count / 2).max(1),
            &|plan| plan.clients.reads.truncate(1),
            &|plan| plan.weather = Weather::fair(),
            &|plan| (plan.weather.loss_ppm, plan.weather.duplication_ppm, plan.weather.flip_ppm) = (0, 0, 0),
            &|plan| plan.weather.straggle_ppm = 0,
            &|plan| (plan.sync, plan.apply, plan.gather) = (quiet.sync, quiet.apply, quiet.gather),
            &|plan| plan.clocks = quiet.clocks.clone(),
            &|plan| plan.snapshots = quiet.snapshots.clone(),
            &|plan| plan.snapshots = SnapshotPlan { every: plan.snapshots.every, ..quiet.snapshots.clone() },
            &|plan| plan.core.limits = quiet.core.limits.clone(),
        ];
        let mut helped = false;
        for change in changes {
            let mut candidate = self.plan.clone();
            change(&mut candidate);
            helped |= self.accept(candidate);
        }
        helped
    }

    /// Each fault for half of the time.
    fn shorten_faults(&mut self) -> bool {
        let mut helped = false;
        for number in 0..self.plan.faults.len() {
            let mut candidate = self.plan.clone();
            if let Some(fault) = candidate.faults.get_mut(number) {
                fault.lasting /= 2;
                helped |= fault.lasting > Duration::from_millis(10) && self.accept(candidate);
            }
        }
        helped
    }

    /// Does without the node of the highest number.
    fn drop_nodes(&mut self) -> bool {
        let Some(nodes) = self.plan.nodes.checked_sub(1).filter(|nodes| *nodes > 0) else { return false };
        let mut candidate = self.plan.clone();
        candidate.nodes = nodes;
        candidate.founders = candidate.founders.min(nodes);
        candidate.clocks.truncate(nodes as usize);
        candidate.faults = candidate.faults.into_iter().filter_map(|fault| without(fault, nodes + 1)).collect();
        self.accept(candidate)
    }
}

/// The fault in a world that has no node `gone`.
fn without(mut fault: Fault, gone: u64) -> Option<Fault> {
    match &mut fault.strike {
        Strike::Cut { links } => links.retain(|(from, to)| *from != gone && *to != gone),
        Strike::CutLeader { from, .. } => *from &= !(1 << gone),
        Strike::ClockRate { node, .. } if *node == gone => return None,
        Strike::Transfer { to, .. } => *to = to.filter(|to| *to != gone),
        _ => {}
    }
    let target = match &mut fault.strike {
        Strike::Crash { node, .. }
        | Strike::Pause { node, .. }
        | Strike::SlowDisk { node, .. }
        | Strike::HangDisk { node }
        | Strike::FailDisk { node, .. }
        | Strike::DieAtSnapshot { node, .. }
        | Strike::ClockJump { node, .. }
        | Strike::BlockMachine { node }
        | Strike::Change { node, .. }
        | Strike::Transfer { node, .. } => node,
        _ => return Some(fault),
    };
    match target {
        Target::Node(id) if *id == gone => return None,
        Target::Leader(id) if *id == gone => *id = 1,
        _ => {}
    }
    Some(fault)
}
