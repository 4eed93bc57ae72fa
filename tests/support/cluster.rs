//! A world of the simulator, as the stories of `tests/cluster.rs` want to speak of it: times in ms, commands as text.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure::config::{CoreConfig, Limits, Timing};
use tenure::core::{Consistency, CoreStatus, RoleKind};
use tenure::runtime::ProposalError;
use tenure::sim::dice::Dice;
use tenure::sim::{Setup, Weather, World};
use tenure::state_machine::{ApplyError, Command, StateMachine};
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, NodeId};

use super::lone::ms;

/// Counts commands.
pub struct Counter(u64);

impl StateMachine for Counter {
    type Output = ();

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<()>, ApplyError> {
        self.0 += commands.len() as u64;
        Ok(vec![(); commands.len()])
    }
}

/// What a client was told of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Nothing,
    Committed(EntryId),
    Refused(ProposalError),
}

pub struct Cluster {
    pub world: World<Counter>,
    pub seed: u64,
    /// By token; a proposal is named by its token.
    told: BTreeMap<u64, Told>,
    reads: usize,
    dice: Dice,
    /// The number of commands, so that no two are equal.
    commands: u64,
    e: Duration,
}

impl Cluster {
    pub fn new(seed: u64, size: u64, weather: Weather) -> Self {
        Self::with(seed, size, weather, Timing::default(), Limits::default())
    }

    pub fn with(seed: u64, size: u64, weather: Weather, timing: Timing, limits: Limits) -> Self {
        let mut setup = setup(seed, size, weather);
        (setup.core.timing, setup.core.limits) = (timing, limits);
        Self::of(seed, setup)
    }

    /// A cluster whose nodes are configured like `core`, but for their ids and seeds.
    pub fn like(seed: u64, size: u64, weather: Weather, core: CoreConfig) -> Self {
        let mut setup = setup(seed, size, weather);
        setup.core = core;
        Self::of(seed, setup)
    }

    fn of(seed: u64, setup: Setup<Counter>) -> Self {
        let e = setup.core.timing.promise();
        let world = World::new(setup).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let (told, dice) = (BTreeMap::new(), Dice::new(seed, "story"));
        Self { world, seed, told, reads: 0, dice, commands: 0, e }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.world.ids()
    }

    pub fn draw(&mut self, from: u64, to: u64) -> u64 {
        self.dice.number(from, to)
    }

    pub fn now(&self) -> Instant {
        self.world.now()
    }

    // ---- what happens to it ----------------------------------------------------------------------------------------

    pub fn crash(&mut self, id: u64) {
        self.world.crash(id, true);
        self.hear();
    }

    pub fn restart(&mut self, id: u64) {
        self.world.restart(id);
        self.hear();
    }

    /// Cuts every link between the two sides, both ways.
    pub fn partition(&mut self, side: &[u64]) {
        let links = self.world.links_between(side);
        self.world.cut(&links);
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.world.mend_all();
    }

    // ---- clients ---------------------------------------------------------------------------------------------------

    /// Proposes a command at a node; its fate is in [`Cluster::told`].
    pub fn propose(&mut self, id: u64, command: impl Into<String>) -> u64 {
        self.commands += 1;
        let command = Bytes::from(format!("{} {}", self.commands, command.into()));
        let token = self.world.propose(id, command);
        self.told.insert(token, Told::Nothing);
        self.hear();
        token
    }

    pub fn told(&self, proposal: u64) -> Told {
        self.told[&proposal].clone()
    }

    /// Asks a node for a linearizable read; the world's judges look at the answer.
    pub fn read(&mut self, id: u64) {
        self.world.read(id, Consistency::Linearizable);
        self.hear();
    }

    pub fn answered_reads(&self) -> usize {
        self.reads
    }

    pub fn acknowledged(&self) -> usize {
        self.told.values().filter(|told| matches!(told, Told::Committed(_))).count()
    }

    fn hear(&mut self) {
        for (token, _, told) in self.world.take_told() {
            match told {
                tenure::sim::Told::Applied(id, ()) => drop(self.told.insert(token, Told::Committed(id))),
                tenure::sim::Told::Failed(error) => drop(self.told.insert(token, Told::Refused(error))),
                tenure::sim::Told::Read(Ok(_)) => self.reads += 1,
                _ => {}
            }
        }
        if let Some(violation) = self.world.violation() {
            panic!("seed {}: {violation}", self.seed);
        }
    }

    // ---- looking ---------------------------------------------------------------------------------------------------

    pub fn leader(&self) -> Option<u64> {
        self.world.leader()
    }

    pub fn role(&self, id: u64) -> Option<RoleKind> {
        self.world.role(id)
    }

    pub fn term(&self, id: u64) -> u64 {
        self.status(id).map_or(0, |status| status.term.0)
    }

    pub fn commit(&self, id: u64) -> u64 {
        self.status(id).map_or(0, |status| status.commit.0)
    }

    pub fn status(&self, id: u64) -> Option<CoreStatus> {
        Some(self.world.core(id)?.status())
    }

    pub fn leader_changes(&self) -> u64 {
        self.world.tally().leaders
    }

    pub fn messages(&self) -> u64 {
        self.world.tally().messages
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    pub fn run_for(&mut self, millis: u64) {
        let end = self.now() + ms(millis);
        self.world.run_until_time(end);
        self.hear();
    }

    /// Runs until `done`, at most for `millis`. Returns the time that passed, `None` if it did not come to that.
    pub fn run_until(&mut self, millis: u64, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now(), self.now() + ms(millis));
        while !done(self) {
            if self.world.next_event().is_none_or(|at| at > end) {
                self.world.run_until_time(end);
                return None;
            }
            self.world.step();
            self.hear();
        }
        Some(self.now().since(start))
    }

    /// Liveness: with all faults gone a leader is there within `40 E`, and a new write is applied everywhere soon;
    /// nobody who asked waits for ever.
    pub fn judge_liveness(&mut self) {
        let (seed, e) = (self.seed, self.e.as_millis() as u64);
        self.world.heal();
        self.hear();
        let start = self.now();
        loop {
            self.run_until(e, |cluster| cluster.leader().is_some());
            if let Some(leader) = self.leader() {
                let last = self.propose(leader, "last");
                self.run_until(6 * e, |cluster| cluster.told(last) != Told::Nothing);
                if let Told::Committed(id) = self.told(last) {
                    let up_to =
                        |cluster: &Self, node: &u64| cluster.status(*node).is_some_and(|s| s.applied >= id.index);
                    let everywhere = |cluster: &Self| cluster.ids().iter().all(|node| up_to(cluster, node));
                    assert!(self.run_until(6 * e, everywhere).is_some(), "seed {seed}: {id} is not applied everywhere");
                    break;
                }
            }
            assert!(self.now().since(start) < ms(40 * e), "seed {seed}: no progress after healing");
            self.run_for(e / 10);
        }
        self.run_for(2 * e);
        let waiting = self.told.values().filter(|told| **told == Told::Nothing).count();
        assert_eq!(waiting, 0, "seed {seed}: {waiting} proposals were never answered");
    }
}

fn setup(seed: u64, size: u64, weather: Weather) -> Setup<Counter> {
    let mut setup = Setup::new(seed, size, |_: NodeId| Counter(0));
    (setup.weather, setup.digest) = (weather, Box::new(|counter: &Counter| counter.0));
    setup
}
