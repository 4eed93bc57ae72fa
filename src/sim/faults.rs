//! What can be done to a world.

use super::dice::Span;
use super::disk::Fault as DiskFault;
use super::judges::broken;
use super::network::{Link, Weather};
use super::node::{self, Life, Paused};
use super::snapshots::Desk;
use super::trace::Scene;
use super::world::{Happening, World};
use crate::config::CoreConfig;
use crate::runtime::driver::ShardInput;
use crate::state_machine::StateMachine;
use crate::time::Duration;
use crate::types::NodeId;

/// What waits for the next leader.
#[derive(Clone, Copy)]
pub(super) struct Ambush {
    after: Duration,
    pub(super) power_lost: bool,
    pub(super) down: Duration,
}

impl<M: StateMachine> World<M> {
    pub(super) fn fault(&mut self, node: Option<u64>, text: impl FnOnce() -> String) {
        self.trace.record(self.now, || Scene::Fault { node: node.map(NodeId), text: text(), until: None });
    }

    // ---- processes -------------------------------------------------------------------------------------------------

    /// The process dies. If the machine loses its power with it, of everything that was not synced any subset of sectors
    /// reached the disk; otherwise the file system goes on with all of it.
    pub fn crash(&mut self, id: u64, power_lost: bool) {
        if self.node(id).life.is_none() {
            return;
        }
        self.fault(Some(id), || if power_lost { "loses power".to_owned() } else { "is killed".to_owned() });
        self.tally.crashes += 1;
        self.tally.crashes_in_a_sync += u64::from(self.logs.unsynced(id) > 0);
        let recently = self.now.since(self.node(id).started_at) < self.core.timing.promise();
        self.tally.crashes_in_a_row += u64::from(recently);
        let node = &mut self.nodes[id as usize - 1];
        node.incarnation += 1;
        if power_lost {
            let dice = &mut self.dice;
            node.disk = node.disk.crash(|ways| dice.number(0, ways as u64 - 1) as usize);
            node.clock.shift(dice.duration(Span(Duration::ZERO, Duration::from_secs(1000))));
        } else {
            node.disk = node.disk.outlive();
        }
        // Whoever waits for it hears nothing from it, but knows that the connection is gone.
        node.left = node.life.take().map(|life| life.machine);
        self.hang_up_all(id);
        self.votes.died(id);
        self.trace.record(self.now, || Scene::Died { node: NodeId(id) });
        self.collect_told(id);
    }

    /// The same, and the process is back after `down`.
    pub fn crash_for(&mut self, id: u64, power_lost: bool, down: Duration) {
        self.crash(id, power_lost);
        self.schedule(down, Happening::Restart { node: id });
    }

    /// The next leader to be elected dies `after` its election, and is back after `down`.
    pub fn lay_ambush(&mut self, after: Duration, power_lost: bool, down: Duration) {
        self.ambushes.push_back(Ambush { after, power_lost, down });
    }

    /// A node was elected.
    pub(super) fn spring_ambush(&mut self, id: u64) {
        if let Some(ambush) = self.ambushes.pop_front() {
            self.tally.ambushes += 1;
            let incarnation = self.node(id).incarnation;
            self.schedule(ambush.after, Happening::Die { node: id, incarnation, ambush });
        }
    }

    /// Starts a node's process, unless it is up.
    pub fn restart(&mut self, id: u64) {
        let fired = self.node(id).disk.faults_fired();
        if self.node(id).life.is_none()
            && let Err(error) = self.start(id, false)
        {
            // Only what was asked for may keep it from starting: a disk that fails then is tried again later.
            let failing = self.node(id).disk.faults_fired() > fired;
            self.tally.disk_errors += u64::from(failing);
            if failing {
                self.schedule(self.core.timing.promise(), Happening::Restart { node: id });
            } else {
                self.judge(broken("a node starts on its own disk", id, error));
            }
        }
    }

    pub(super) fn start(&mut self, id: u64, founded_now: bool) -> Result<(), String> {
        let (now, seed) = (self.now, self.dice.bits());
        let (wal, found, torn) = node::open(&self.node(id).disk, self.wal.clone())?;
        self.tally.torn_tails += u64::from(torn);
        match self.logs.recovered(id, found.as_ref()) {
            Ok(survived) => self.tally.unsynced_survived += u64::from(survived > 0),
            Err(violation) => self.judge(Err(violation)),
        }
        let verdict = self.votes.saved(id, self.logs.durable_hard_state(id));
        self.judge(verdict);
        let left = self.node_mut(id).left.take();
        let mut machine = (self.machine)(NodeId(id), left);
        let (mut begins, store) = match self.begin(id, found.as_ref(), founded_now, &mut machine) {
            Ok(begins) => begins,
            Err(error) => {
                self.node_mut(id).left = Some(machine);
                return Err(error);
            }
        };
        let (desk, installed) = (Desk::new(store, &self.snapshots), begins.installed.take());
        self.logs.started(id, begins.applied);
        let config = CoreConfig { id: NodeId(id), seed, group: node::GROUP, ..self.core.clone() };
        let node = self.node_mut(id);
        let local = node.clock.at(now);
        node.started_at = now;
        let faults_before = node.disk.faults_fired();
        match Life::start(config, wal, machine, begins, desk, local) {
            Ok(life) => node.life = Some(Life { faults_before, ..life }),
            Err((machine, error)) => {
                node.left = Some(machine);
                return Err(error);
            }
        }
        let term = self.core(id).map(|core| core.pulse().term).unwrap_or_default();
        self.trace.record(now, || Scene::Started { node: NodeId(id), term });
        self.compare_digests(id);
        if let Some(stored) = installed {
            self.complete_installation(id, stored);
        }
        self.settle(id);
        Ok(())
    }

    /// Whether a node's process runs, or is stopped.
    #[must_use]
    pub fn is_up(&self, id: u64) -> bool {
        self.node(id).life.is_some()
    }

    /// The process is stopped until [`World::resume`]: what comes in waits, time goes on. A sync under way ends.
    pub fn pause(&mut self, id: u64) {
        self.stand_still(id, false);
    }

    fn stand_still(&mut self, id: u64, asleep: bool) {
        let now = self.now;
        let node = self.node_mut(id);
        let fell_asleep = asleep.then(|| node.clock.at(now));
        if let Some(life) = node.life.as_mut().filter(|life| life.paused.is_none()) {
            life.paused = Some(Paused { waiting: Vec::new(), steps: Vec::new(), fell_asleep });
            self.trace.record(self.now, || Scene::Paused { node: NodeId(id), asleep });
        }
    }

    /// The same for so long. If the machine slept as well, its clock stood still, which it notices when it wakes up (rule
    /// `p16`).
    pub fn pause_for(&mut self, id: u64, lasting: Duration, asleep: bool) {
        if self.node(id).life.is_none() {
            return;
        }
        self.tally.pauses += 1;
        self.tally.suspends += u64::from(asleep);
        self.stand_still(id, asleep);
        let incarnation = self.node(id).incarnation;
        self.schedule(lasting, Happening::Resume { node: id, incarnation });
    }

    /// The process goes on with everything that waited, in one round.
    pub fn resume(&mut self, id: u64) {
        let paused = self.node_mut(id).life.as_mut().and_then(|life| life.paused.take());
        let Some(Paused { waiting, steps, fell_asleep }) = paused else { return };
        self.trace.record(self.now, || Scene::Resumed { node: NodeId(id) });
        if let Some(shown) = fell_asleep {
            let now = self.now;
            self.node_mut(id).clock.set(now, shown);
            self.hand_in(id, ShardInput::ClockJumped);
        }
        for input in waiting {
            self.hand_in(id, input);
        }
        self.settle(id);
        for step in steps {
            self.after(id, Span::exactly(Duration::ZERO), step);
        }
    }

    // ---- clocks ----------------------------------------------------------------------------------------------------

    /// A node's clock runs faster than true time by so many millionths.
    pub fn set_clock_rate(&mut self, id: u64, rate_ppm: i64) {
        self.fault(Some(id), || format!("clock {rate_ppm:+} ppm"));
        self.tally.clock_changes += 1;
        self.clocks_within_bound &= rate_ppm.unsigned_abs() <= u64::from(self.core.timing.clock_drift_ppm);
        let now = self.now;
        let node = self.node_mut(id);
        node.clock.set_rate(now, rate_ppm);
        if let Some(life) = &mut node.life {
            life.wake = life.wake.and(life.shard.next_deadline()).map(|deadline| node.clock.when(deadline));
        }
        self.judge_leases();
    }

    /// A node's clock jumps forward, which its process is told before anything else (rule `p16`). Not while it is stopped.
    pub fn jump_clock(&mut self, id: u64, by: Duration) {
        if self.node(id).life.as_ref().is_some_and(|life| life.paused.is_none()) {
            self.fault(Some(id), || format!("clock jumped by {by:.1?}"));
            self.tally.clock_jumps += 1;
            self.node_mut(id).clock.shift(by);
            self.hand_in(id, ShardInput::ClockJumped);
            self.settle(id);
        }
    }

    // ---- disks and state machines ----------------------------------------------------------------------------------

    /// Every sync of a node takes this much longer.
    pub fn slow_disk(&mut self, id: u64, by: Duration) {
        if by != self.node(id).slow {
            self.fault(Some(id), || {
                if by.is_zero() { "disk fast again".to_owned() } else { format!("disk slow by {by:.1?}") }
            });
        }
        self.node_mut(id).slow = by;
    }

    /// No sync of a node ends until [`World::unhang_disk`].
    pub fn hang_disk(&mut self, id: u64) {
        self.fault(Some(id), || "disk hangs".to_owned());
        self.tally.hung_disks += 1;
        self.node_mut(id).hung = true;
    }

    /// The disk answers again.
    pub fn unhang_disk(&mut self, id: u64) {
        self.node_mut(id).hung = false;
        if self.node(id).life.as_ref().is_some_and(|life| life.sync_waits) {
            self.synced(id);
        }
    }

    /// Of the next calls of a node's disk, the one after `skip` fails; its effect is there all the same or not.
    pub fn fail_disk(&mut self, id: u64, skip: u64, takes_effect: bool) {
        self.fault(Some(id), || format!("disk call {skip} from now on will fail"));
        let disk = &self.node(id).disk;
        disk.inject(DiskFault { call: disk.calls() + skip, takes_effect, kind: std::io::ErrorKind::Other });
    }

    /// A node whose log has failed needs a new process; whether it is one.
    #[must_use]
    pub fn log_has_failed(&self, id: u64) -> bool {
        self.node(id).life.as_ref().is_some_and(|life| life.log_failed || life.read_failed)
    }

    /// A node's state machine does not come back until [`World::unblock_machine`].
    pub fn block_machine(&mut self, id: u64) {
        self.fault(Some(id), || "state machine blocks".to_owned());
        self.tally.blocked_machines += 1;
        self.node_mut(id).blocked = true;
    }

    /// It comes back.
    pub fn unblock_machine(&mut self, id: u64) {
        self.node_mut(id).blocked = false;
        if self.apply_backlog(id) {
            self.settle(id);
        }
    }

    // ---- the network -----------------------------------------------------------------------------------------------

    /// Cuts directed links; each until it is mended as often as it was cut.
    pub fn cut(&mut self, links: &[Link]) {
        for link in links {
            self.network.cut(*link);
        }
    }

    /// Mends directed links.
    pub fn mend(&mut self, links: &[Link]) {
        for link in links {
            self.network.mend(*link);
        }
    }

    /// Mends everything that is cut.
    pub fn mend_all(&mut self) {
        self.network.mend_all();
    }

    /// Every link between `side` and the others, in both directions.
    #[must_use]
    pub fn links_between(&self, side: &[u64]) -> Vec<Link> {
        let ids = self.ids();
        let pairs = ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b)));
        pairs.filter(|(a, b)| side.contains(a) != side.contains(b)).collect()
    }

    /// The network is like this from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.network.settle(weather);
    }

    /// What the network is like.
    #[must_use]
    pub fn weather(&self) -> &Weather {
        &self.network.weather
    }

    // ---- the end of all faults -------------------------------------------------------------------------------------

    /// A node's disk answers every call again; a process whose log has failed is started anew.
    pub fn replace_process(&mut self, id: u64) {
        let node = self.node(id);
        node.disk.clear_fault();
        let fired = node.life.as_ref().map_or(0, |life| node.disk.faults_fired() - life.faults_before);
        self.tally.disk_errors += fired;
        if self.log_has_failed(id) {
            self.crash(id, false);
            self.restart(id);
        }
    }

    /// Ends every fault: the network is fair, the disks and state machines are quick, every process runs. Clocks stay as
    /// they are.
    pub fn heal(&mut self) {
        self.trace.record(self.now, || Scene::Healed);
        self.ambushes.clear();
        self.mend_all();
        self.set_weather(Weather::fair());
        (self.sync, self.apply) =
            (Span(Duration::ZERO, self.core.timing.promise() / 500), Span::exactly(Duration::ZERO));
        self.hurry_snapshots();
        for id in self.ids() {
            let node = self.node_mut(id);
            (node.slow, node.doom) = (Duration::ZERO, None);
            self.unhang_disk(id);
            self.unblock_machine(id);
            self.resume(id);
        }
        for id in self.ids() {
            self.replace_process(id);
            self.restart(id);
        }
    }
}
