//! Carries a plan out, and judges the end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::client::Clients;
use super::judges::{Violation, broken, require};
use super::linearizability::{self, CheckError};
use super::plan::Plan;
use super::strike::Remedy;
use super::subject::Subject;
use super::tally::Tally;
use super::trace::Trace;
use super::world::{Setup, World};
use crate::core::Consistency;
use crate::time::{Duration, Instant};
use crate::types::NodeId;

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// What happened how often.
    pub tally: Tally,
    /// From the moment everything was healed until a leader was there.
    pub healed_in: Duration,
    /// The record; its hash is equal for equal runs.
    pub trace: Trace,
}

/// Runs `plan` on `subject`, and records everything if `trace` says so.
#[must_use]
pub fn run<S: Subject + Clone + 'static>(plan: &Plan, subject: &S, trace: bool) -> Report {
    run_with_judge(plan, subject, trace, None)
}

/// The same, but listens to one judge alone (any but "nothing panics"), if one is named: for showing that it would notice
/// by itself what others notice before it.
#[must_use]
pub fn run_with_judge<S: Subject + Clone + 'static>(
    plan: &Plan,
    subject: &S,
    trace: bool,
    judge: Option<&'static str>,
) -> Report {
    let (machines, digests) = (subject.clone(), subject.clone());
    let setup = Setup {
        seed: plan.seed,
        nodes: plan.nodes,
        founders: plan.founders,
        core: plan.core.clone(),
        weather: plan.weather.clone(),
        sync: plan.sync,
        apply: plan.apply,
        gather: plan.gather,
        snapshots: plan.snapshots.clone(),
        trace,
        machine: Box::new(move |node, left| machines.machine(node, left)),
        digest: Box::new(move |machine| digests.digest(machine)),
    };
    if let Err(what) = plan.check() {
        return failed("a plan can be run", what);
    }
    let run = || {
        let mut world = World::new(setup)?;
        (world.only, world.judge_wild_clocks) = (judge, plan.judge_wild_clocks);
        Ok(Run::new(plan, subject, world).carry_out())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(report)) => report,
        Ok(Err(what)) => failed("a plan can be run", what),
        // The panic hook has said what and where.
        Err(_) => failed("nothing panics", "the engine, the state machine or the simulator panicked".to_owned()),
    }
}

/// A run that came to nothing.
fn failed(judge: &'static str, what: String) -> Report {
    let violation = Violation { judge, at: Instant::ZERO, node: None, what };
    let (tally, trace) = (Tally::default(), Trace::default());
    Report { violation: Some(violation), tally, healed_in: Duration::ZERO, trace }
}

/// Alarms of faults are told from those of clients by these bits.
const BEGINS: u64 = 1 << 63;
const ENDS: u64 = 1 << 62;

/// Row `l03` and others speak of some timeouts; this is the hard limit.
const HEAL_LIMIT: u32 = 40;

/// A learner may have a long log to catch up on, through a window of a single entry.
const CATCH_UP_LIMIT: u32 = 1000;

struct Run<'a, S: Subject> {
    plan: &'a Plan,
    subject: &'a S,
    world: World<S::Machine>,
    clients: Clients<S>,
    begun: Instant,
    /// What ends the faults that are on, by their numbers.
    remedies: BTreeMap<usize, Remedy>,
    /// Everything was healed: no fault begins any more.
    calm: bool,
}

impl<'a, S: Subject> Run<'a, S> {
    fn new(plan: &'a Plan, subject: &'a S, world: World<S::Machine>) -> Self {
        let clients = Clients::new(plan.clients.clone(), plan.seed, plan.nodes);
        let begun = world.now();
        Self { plan, subject, world, clients, begun, remedies: BTreeMap::new(), calm: false }
    }

    fn carry_out(mut self) -> Report {
        for (id, rate) in (1..).zip(&self.plan.clocks).filter(|(_, rate)| **rate != 0) {
            self.world.set_clock_rate(id, *rate);
        }
        for (number, fault) in (0..).zip(&self.plan.faults) {
            self.world.set_alarm(fault.at, BEGINS | number);
        }
        self.clients.begin_all(&mut self.world);
        self.go_on_until(self.begun + self.plan.lasting);
        let healed_in = self.heal_and_judge();
        let Self { mut world, clients, .. } = self;
        if world.violation().is_none() {
            judge_history(self.subject, clients, &mut world);
        }
        let lasted = world.now().since(self.begun);
        world.tally.simulated_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        world.tally.lost_elections = world.votes.lost_elections() as u64;
        world.tally.contested_terms = world.contested_terms() as u64;
        Report { violation: world.violation.take(), tally: world.tally, healed_in, trace: world.trace }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    fn go_on_until(&mut self, end: Instant) {
        while self.world.next_event().is_some_and(|at| at <= end) && self.world.violation().is_none() {
            self.step();
        }
        self.world.now = self.world.now.max(end);
    }

    /// Goes on until `done`, for at most `patience`. Whether it came to that.
    fn go_on_while(&mut self, patience: Duration, mut undone: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.world.now() + patience;
        while undone(self) {
            if self.world.violation().is_some() || self.world.next_event().is_none_or(|at| at > end) {
                return false;
            }
            self.step();
        }
        true
    }

    fn step(&mut self) {
        self.world.step();
        for token in self.world.take_alarms() {
            if token & BEGINS != 0 {
                self.begin_fault((token & !BEGINS) as usize);
            } else if token & ENDS != 0 {
                self.end_fault((token & !ENDS) as usize);
            } else {
                self.clients.alarm(self.subject, token, &mut self.world);
            }
        }
        // Whoever is told something may ask again at once, and be told at once.
        for _ in 0..100 {
            let told = self.world.take_told();
            if told.is_empty() {
                break;
            }
            for (token, node, told) in told {
                self.clients.told(self.subject, token, node, told, &mut self.world);
            }
        }
    }

    // ---- faults ----------------------------------------------------------------------------------------------------

    fn begin_fault(&mut self, number: usize) {
        let Some(fault) = self.plan.faults.get(number).filter(|_| !self.calm) else { return };
        let before = self.world.trace.moments.len();
        if let Some(remedy) = self.world.strike(fault) {
            self.remedies.insert(number, remedy);
            let until = self.world.now() + fault.lasting;
            self.world.trace.lasts(before, until);
            self.world.set_alarm(fault.lasting, ENDS | number as u64);
        }
    }

    fn end_fault(&mut self, number: usize) {
        if let Some(remedy) = self.remedies.remove(&number).filter(|_| !self.calm) {
            self.world.relieve(remedy);
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Everything is healed: a leader is there in time, a write is applied everywhere in time, everybody was answered.
    fn heal_and_judge(&mut self) -> Duration {
        self.calm = true;
        self.world.heal();
        let e = self.plan.core.timing.promise();
        let begun = self.world.now();
        let led = self.go_on_while(e * HEAL_LIMIT, |run| !run.world.is_led());
        let healed_in = self.world.now().since(begun);
        self.world.tally.heals += 1;
        self.world.tally.heal_ms += u64::try_from(healed_in.as_millis()).unwrap_or(u64::MAX);
        self.judge(led, "a leader within 40 E", || "nobody leads".to_owned());
        self.judge_progress(begun);
        self.clients.done = true;
        let all = self.go_on_while(e * CATCH_UP_LIMIT, |run| !run.all_have_everything());
        self.judge(all, "progress after healing", || "a member never gets everything".to_owned());
        // Reads of a node that no leader speaks to any more are refused after ten.
        self.go_on_until(self.world.now() + e * 13);
        self.judge_idle();
        let open = self.world.asked.open();
        self.judge(open == 0, "everybody is answered", || format!("{open} requests were never answered"));
        for id in self.world.ids() {
            self.world.compare_digests(id);
        }
        let durable = self.world.logs.judge_all_durable();
        self.world.judge(durable);
        self.world.judge_disks();
        healed_in
    }

    fn judge(&mut self, holds: bool, judge: &'static str, what: impl FnOnce() -> String) {
        self.world.judge(require(holds, judge, 0, what).map_err(|violation| Violation { node: None, ..violation }));
    }

    /// A new write is applied on every voter within 6 E of a leader that stays. Learners may have a long log to catch up on,
    /// through a small window.
    fn judge_progress(&mut self, begun: Instant) {
        let e = self.plan.core.timing.promise();
        let last = Instant::ZERO + begun.since(Instant::ZERO) + e * HEAL_LIMIT;
        while self.world.violation().is_none() {
            let target = self.world.logs.committed().next();
            let behind = |run: &mut Self| {
                let in_force = run.world.logs.in_force();
                let voters = in_force.members().into_iter().filter(|id| in_force.is_voter(*id));
                let applied = |id: NodeId| run.world.core(id.0).map(|core| core.pulse().applied);
                voters.map(applied).any(|applied| applied.is_none_or(|applied| applied < target))
            };
            // Clients write all the time; if they have nothing to write, a read shows as much.
            if let Some(leader) = self.world.leader() {
                self.world.read(leader, Consistency::Linearizable);
                self.clients.write(self.subject, leader, &mut self.world);
            }
            if self.go_on_while(e * 6, behind) {
                return;
            }
            let now = self.world.now();
            self.judge(now < last, "progress after healing", || format!("{target} is not applied everywhere"));
            self.go_on_until(now + e);
        }
    }

    fn all_have_everything(&self) -> bool {
        let committed = self.world.logs.committed();
        let done = |id: NodeId| self.world.core(id.0).is_some_and(|core| core.pulse().applied == committed);
        self.world.logs.in_force().members().into_iter().all(done)
    }

    /// A healthy cluster that nobody asks anything is quiet.
    fn judge_idle(&mut self) {
        let timing = &self.plan.core.timing;
        let (e, heartbeat) = (timing.promise(), timing.heartbeat_interval);
        let before = self.world.tally().messages;
        self.go_on_until(self.world.now() + e * 2);
        let sent = self.world.tally().messages - before;
        let beats = (e * 2).as_nanos() / heartbeat.as_nanos() + 2;
        let allowed = 3 * beats as u64 * self.plan.nodes + 50;
        self.judge(sent <= allowed, "no message storm", || {
            format!("{sent} messages within 2 E, nobody asked anything")
        });
    }
}

/// No client could tell the cluster from one machine that never fails.
fn judge_history<S: Subject>(subject: &S, clients: Clients<S>, world: &mut World<S::Machine>) {
    let mut keys: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    // Where a clock was beyond the bound, reads under a lease promise nothing; everything else does.
    for call in clients.history(world.judges_leases()) {
        keys.entry(subject.key(&call.operation)).or_default().push(call);
    }
    for (key, calls) in keys {
        world.tally.histories += 1;
        match linearizability::check(&subject.model(), &calls) {
            Ok(()) => {}
            Err(CheckError::Undecided { .. }) => world.tally.undecided += 1,
            Err(error) => world.judge(broken("linearizability", 0, format!("key {key}: {error}"))),
        }
    }
}
