//! Draws plans: each seed decides which faults there are at all, and how strong they are. A run in which everything goes
//! wrong at once meets other corners than one with a single kind of fault, and many runs meet both.

use super::dice::{Dice, Span};
use super::network::Weather;
use super::plan::{ClientPlan, Fault, Plan, Strike, Target};
use super::registers::Registers;
use crate::config::{Limits, Timing};
use crate::core::Consistency;
use crate::time::Duration;

/// A tenth of all, in millionths; so are the others.
const TENTH: u32 = 100_000;

impl Plan {
    /// The plan that `seed` stands for.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let dice = &mut dice;
        let nodes = *dice.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 7]).unwrap_or(&3);
        let e = Duration::from_millis(*dice.pick(&[150, 1000, 1000, 1000, 1000, 10_000]).unwrap_or(&1000));
        let mut plan = Self::quiet(seed, nodes, e * 400);
        plan.core.timing = Timing::from_election_timeout(e);
        plan.core.succession = !dice.chance(3 * TENTH);
        plan.core.lease_reads = dice.chance(8 * TENTH);
        plan.core.limits = limits(dice);
        plan.weather = weather(dice, e);
        plan.sync =
            *dice.pick(&[Span::micros(20, 200), Span::micros(100, 3000), Span::millis(0, 20)]).unwrap_or(&plan.sync);
        if dice.chance(2 * TENTH) {
            plan.sync = Span(Duration::ZERO, e / 2);
        }
        if dice.chance(2 * TENTH) {
            plan.apply = Span(Duration::ZERO, Duration::from_millis(dice.number(1, 50)));
        }
        let drift = i64::from(plan.core.timing.clock_drift_ppm);
        plan.clocks = (0..nodes).map(|_| clock_rate(dice, drift)).collect();
        if dice.chance(TENTH / 2) {
            // Beyond the bound: nothing but leases may rest on clocks.
            plan.clocks = (0..nodes).map(|_| clock_rate(dice, 300_000)).collect();
        }
        if dice.chance(5 * TENTH) {
            plan.gather = Span(Duration::ZERO, Duration::from_micros(*dice.pick(&[50, 500, 5000]).unwrap_or(&50)));
        }
        plan.clients = clients(dice, e);
        // As long as there is something to do, and not much longer.
        let pace = plan.clients.think.1.max(e / 20);
        plan.lasting = (pace * 1200).clamp(e * 60, e * 500);
        plan.registers = Registers {
            keys: dice.number(1, 6),
            reads_percent: dice.number(10, 80),
            padding: *dice.pick(&[0, 100, 100, 2000]).unwrap_or(&0),
            durable: dice.chance(5 * TENTH),
        };
        // The others are there to join.
        plan.founders = if dice.chance(4 * TENTH) { dice.number(1, nodes) } else { nodes };
        plan.faults = Habits::draw(dice, nodes, e, drift).faults(dice, plan.lasting);
        plan.draw_snapshots(e);
        plan
    }
}

impl Plan {
    /// Most seeds have snapshots, small and often, of logs that keep little behind them; with dice of their own.
    fn draw_snapshots(&mut self, e: Duration) {
        let mut dice = Dice::new(self.seed, "snapshots");
        let dice = &mut dice;
        if dice.chance(3 * TENTH) {
            return;
        }
        let snapshots = &mut self.snapshots;
        let up_to = |dice: &mut Dice, most: &[u64]| {
            let most = dice.pick(most).copied().unwrap_or(1);
            dice.number(1, most)
        };
        snapshots.every = up_to(dice, &[10, 50, 200]);
        self.core.limits.retained_entries = up_to(dice, &[1, 5, 40, 200]) as usize - 1;
        self.core.limits.retained_for_peers = up_to(dice, &[1, 100, 1_000_000]) as usize - 1;
        for span in [&mut snapshots.taking, &mut snapshots.restoring, &mut snapshots.telling] {
            *span =
                Span(Duration::ZERO, *dice.pick(&[Duration::ZERO, e / 50, e / 4, e * 2]).unwrap_or(&Duration::ZERO));
        }
        snapshots.keep = dice.number(1, 2) as usize;
        snapshots.chunk_bytes = 512;
        snapshots.window = up_to(dice, &[1, 4, 32]) as usize;
        snapshots.sync_bytes = dice.number(1, 4096);
        if dice.chance(3 * TENTH) {
            // The whole state in some election timeouts.
            snapshots.bytes_per_second = Some(dice.number(500, 20_000) * 1000 / (e.as_millis() as u64).max(1));
        }
        if dice.chance(4 * TENTH) {
            let mut at = dice.duration(Span(Duration::ZERO, e * 20));
            while at < self.lasting {
                let node = Target::Node(dice.number(1, self.nodes));
                let (after, power_lost) = (dice.number(0, 60), dice.chance(6 * TENTH));
                let lasting = dice.duration(Span(Duration::ZERO, e * 2));
                self.faults.push(Fault { at, strike: Strike::DieAtSnapshot { node, after, power_lost }, lasting });
                at += dice.duration(Span(e, e * 40));
            }
        }
    }
}

fn limits(dice: &mut Dice) -> Limits {
    let mut limits = Limits::default();
    if dice.chance(3 * TENTH) {
        limits.window_entries = dice.number(1, 8) as usize;
        limits.append_entries = dice.number(1, 3) as usize;
    }
    if dice.chance(3 * TENTH) {
        limits.cache_bytes = dice.number(0, 4000) as usize;
    }
    if dice.chance(2 * TENTH) {
        limits.uncommitted_entries = dice.number(2, 20) as usize;
    }
    if dice.chance(2 * TENTH) {
        limits.apply_bytes = dice.number(200, 4000) as usize;
    }
    if dice.chance(2 * TENTH) {
        limits.waiting_reads = dice.number(1, 3) as usize;
    }
    if dice.chance(2 * TENTH) {
        (limits.append_bytes, limits.window_bytes) =
            (dice.number(100, 3000) as usize, dice.number(3000, 9000) as usize);
    }
    limits
}

fn weather(dice: &mut Dice, e: Duration) -> Weather {
    let delays = [Span::micros(30, 300), Span::micros(100, 2000), Span::millis(0, 27), Span::millis(5, 60)];
    let delay = *dice.pick(&delays).unwrap_or(&delays[0]);
    // A network slower than the timers leaves nothing to see but elections.
    let delay = Span(delay.0.min(e / 20), delay.1.min(e / 8));
    let mut weather = Weather { delay, ordered: dice.chance(4 * TENTH), ..Weather::fair() };
    if dice.chance(5 * TENTH) {
        weather.loss_ppm = dice.number(1000, u64::from(TENTH)) as u32;
    }
    if dice.chance(5 * TENTH) {
        weather.duplication_ppm = dice.number(1000, u64::from(TENTH)) as u32;
    }
    if dice.chance(5 * TENTH) {
        weather.straggle_ppm = dice.number(1000, 50_000) as u32;
        weather.straggle = e * dice.number(1, 10) as u32;
    }
    if dice.chance(3 * TENTH) {
        weather.flip_ppm = dice.number(100, 20_000) as u32;
    }
    weather
}

fn clock_rate(dice: &mut Dice, drift: i64) -> i64 {
    match dice.number(0, 3) {
        0 => -drift,
        1 => drift,
        2 => dice.number(0, 2 * drift.unsigned_abs()) as i64 - drift,
        _ => 0,
    }
}

fn clients(dice: &mut Dice, e: Duration) -> ClientPlan {
    let all = [
        Consistency::Linearizable,
        Consistency::Lease,
        Consistency::Lease,
        Consistency::Follower(e * dice.number(0, 3) as u32),
        Consistency::Local,
    ];
    let mut reads: Vec<_> = all.into_iter().filter(|_| dice.chance(6 * TENTH)).collect();
    if reads.is_empty() {
        reads.push(Consistency::Linearizable);
    }
    // From a busy cluster to one that is idle most of the time.
    let longest = *dice.pick(&[e / 20, e / 4, e, e * 8]).unwrap_or(&e);
    ClientPlan {
        count: dice.number(1, 6),
        think: Span(Duration::ZERO, longest),
        patience: e * dice.number(1, 5) as u32,
        reads,
        operations: 4000,
    }
}

/// What happens how often in a run.
struct Habits {
    nodes: u64,
    e: Duration,
    drift: i64,
    /// Between two faults.
    gap: Span,
    /// The kinds of fault that there are, more often the more often they are named.
    kinds: Vec<Kind>,
    /// How often the leader is meant, in millionths.
    leader_ppm: u32,
    /// How long most faults last.
    lasting: Span,
}

#[derive(Clone, Copy)]
enum Kind {
    Crash,
    CrashAll,
    RestartLoop,
    Pause,
    Split,
    OneWay,
    Graph,
    CutLeader,
    Siege,
    Coma,
    Echoes,
    Churn,
    Squall,
    SlowDisk,
    HangDisk,
    FailDisk,
    ClockRate,
    ClockJump,
    BlockMachine,
    Transfer,
    Change,
}

const KINDS: [Kind; 21] = [
    Kind::Crash,
    Kind::CrashAll,
    Kind::RestartLoop,
    Kind::Pause,
    Kind::Split,
    Kind::OneWay,
    Kind::Graph,
    Kind::CutLeader,
    Kind::Siege,
    Kind::Coma,
    Kind::Echoes,
    Kind::Churn,
    Kind::Squall,
    Kind::SlowDisk,
    Kind::HangDisk,
    Kind::FailDisk,
    Kind::ClockRate,
    Kind::ClockJump,
    Kind::BlockMachine,
    Kind::Transfer,
    Kind::Change,
];

impl Habits {
    fn draw(dice: &mut Dice, nodes: u64, e: Duration, drift: i64) -> Self {
        let share = *dice.pick(&[TENTH, 3 * TENTH, 5 * TENTH, 10 * TENTH]).unwrap_or(&TENTH);
        let mut kinds: Vec<_> = KINDS.into_iter().filter(|_| dice.chance(share)).collect();
        if kinds.is_empty() {
            kinds.push(*dice.pick(&KINDS).unwrap_or(&Kind::Crash));
        }
        let pace = *dice.pick(&[1, 2, 5, 15, 40]).unwrap_or(&5);
        let longest = *dice.pick(&[e / 2, e, e * 3, e * 8]).unwrap_or(&e);
        Self {
            nodes,
            e,
            drift,
            gap: Span(Duration::ZERO, e * pace),
            kinds,
            leader_ppm: dice.number(0, 900_000) as u32,
            lasting: Span(Duration::ZERO, longest),
        }
    }

    fn faults(&self, dice: &mut Dice, until: Duration) -> Vec<Fault> {
        let mut faults = Vec::new();
        // In the beginning a leader is elected in peace, most of the time.
        let mut at = dice.duration(Span(Duration::ZERO, self.e * 4));
        while at < until {
            if let Some(kind) = dice.pick(&self.kinds).copied() {
                self.add(dice, kind, at, &mut faults);
            }
            at += dice.duration(self.gap);
        }
        faults
    }

    fn target(&self, dice: &mut Dice) -> Target {
        let id = self.id(dice);
        if dice.chance(self.leader_ppm) { Target::Leader(id) } else { Target::Node(id) }
    }

    fn id(&self, dice: &mut Dice) -> u64 {
        dice.number(1, self.nodes)
    }

    fn add(&self, dice: &mut Dice, kind: Kind, at: Duration, faults: &mut Vec<Fault>) {
        let mut lasting = dice.duration(self.lasting);
        let node = self.target(dice);
        let power_lost = dice.chance(6 * TENTH);
        let strike = match kind {
            Kind::Crash => Strike::Crash { node, power_lost },
            Kind::CrashAll => Strike::CrashAll { power_lost },
            Kind::RestartLoop => return self.restart_loop(dice, at, faults),
            Kind::Pause => Strike::Pause { node, asleep: dice.chance(5 * TENTH) },
            Kind::Split => {
                let side = dice.number(1, (1 << self.nodes) - 1) << 1;
                Strike::Cut { links: self.links(|from, to| (side >> from & 1) != (side >> to & 1)) }
            }
            Kind::OneWay => {
                let (from, further) = (self.id(dice), dice.number(1, self.nodes.max(2) - 1));
                Strike::Cut { links: vec![(from, (from + further - 1) % self.nodes + 1)] }
            }
            Kind::Graph => {
                let density = dice.number(u64::from(TENTH), 6 * u64::from(TENTH)) as u32;
                Strike::Cut { links: self.links(|_, _| dice.chance(density)) }
            }
            Kind::CutLeader => self.cut_leader(dice),
            Kind::Siege => return self.siege(dice, at, faults),
            Kind::Coma => return self.coma(dice, at, faults),
            Kind::Echoes => return self.echoes(dice, at, faults),
            Kind::Churn => return self.churn(dice, at, faults),
            Kind::Squall => Strike::Squall { weather: self.squall(dice) },
            Kind::SlowDisk => Strike::SlowDisk { node, by: dice.duration(Span(Duration::ZERO, self.e * 2)) },
            Kind::HangDisk => {
                lasting = dice.duration(Span(Duration::ZERO, self.e * 5));
                Strike::HangDisk { node }
            }
            Kind::FailDisk => Strike::FailDisk { node, skip: dice.number(0, 12), takes_effect: dice.chance(5 * TENTH) },
            Kind::ClockRate => Strike::ClockRate { node: self.id(dice), rate_ppm: clock_rate(dice, self.drift) },
            Kind::ClockJump => self.clock_jump(dice, node),
            Kind::BlockMachine => Strike::BlockMachine { node },
            Kind::Change => self.change(dice),
            Kind::Transfer => {
                let to = dice.chance(5 * TENTH).then(|| self.id(dice));
                Strike::Transfer { node: Target::Leader(self.id(dice)), to }
            }
        };
        faults.push(Fault { at, strike, lasting });
    }

    fn links(&self, mut wanted: impl FnMut(u64, u64) -> bool) -> Vec<(u64, u64)> {
        let pairs = (1..=self.nodes).flat_map(|from| (1..=self.nodes).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to && wanted(*from, *to)).collect()
    }

    fn cut_leader(&self, dice: &mut Dice) -> Strike {
        let from = dice.number(1, (1 << self.nodes) - 1) << 1;
        let (outgoing, incoming) = *dice.pick(&[(true, true), (true, false), (false, true)]).unwrap_or(&(true, true));
        Strike::CutLeader { from, outgoing, incoming }
    }

    /// Whoever leads is asked, most of the time. Others of all nodes vote then, from one to all of them.
    fn change(&self, dice: &mut Dice) -> Strike {
        let node = if dice.chance(9 * TENTH) { Target::Leader(self.id(dice)) } else { Target::Node(self.id(dice)) };
        let mut some = |share: u32| (1..=self.nodes).filter(|_| dice.chance(share)).fold(0, |bits, id| bits | 1 << id);
        let (voters, learners) = (some(6 * TENTH), some(2 * TENTH));
        Strike::Change { node, voters, learners, patience: self.e * dice.number(1, 10) as u32 }
    }

    fn clock_jump(&self, dice: &mut Dice, node: Target) -> Strike {
        let furthest = *dice.pick(&[Duration::ZERO, self.e, self.e * 10]).unwrap_or(&self.e);
        Strike::ClockJump { node, by: dice.duration(Span(Duration::ZERO, furthest)) }
    }

    /// A process that dies again and again soon after its start.
    fn restart_loop(&self, dice: &mut Dice, mut at: Duration, faults: &mut Vec<Fault>) {
        let node = Target::Node(self.id(dice));
        for _ in 0..dice.number(2, 6) {
            let lasting = dice.duration(Span(Duration::ZERO, self.e / 4));
            faults.push(Fault { at, strike: Strike::Crash { node, power_lost: dice.chance(5 * TENTH) }, lasting });
            at += lasting + dice.duration(Span(Duration::ZERO, self.e / 2));
        }
    }

    /// The leader is cut off from some, who grow restless; then something happens to those that still promise it, and
    /// they are cut off from it, too. Who holds a lease must keep its promise through all of that.
    fn siege(&self, dice: &mut Dice, at: Duration, faults: &mut Vec<Fault>) {
        let lasting = self.e * dice.number(2, 6) as u32;
        faults.push(Fault { at, strike: self.cut_leader(dice), lasting });
        let then = at + dice.duration(Span(Duration::ZERO, self.e * 3));
        for id in 1..=self.nodes {
            let node = Target::Node(id);
            let strike = match dice.number(0, 5) {
                0 | 1 => Strike::Crash { node, power_lost: dice.chance(5 * TENTH) },
                2 => Strike::Pause { node, asleep: dice.chance(5 * TENTH) },
                3 => self.clock_jump(dice, node),
                4 => Strike::Transfer { node: Target::Leader(id), to: Some(id) },
                _ => continue,
            };
            let lasting = dice.duration(Span(Duration::ZERO, self.e / 2));
            faults.push(Fault { at: then + dice.duration(Span(Duration::ZERO, self.e / 2)), strike, lasting });
        }
        faults.push(Fault { at: then, strike: self.cut_leader(dice), lasting: self.e * 2 });
    }

    /// The leader is cut off from everybody and stopped. When it goes on another leads, and it has heard nothing of that:
    /// first of all it finds what clients have asked it meanwhile.
    fn coma(&self, dice: &mut Dice, at: Duration, faults: &mut Vec<Fault>) {
        let leader = Target::Leader(self.id(dice));
        let stopped = dice.duration(Span(self.e, self.e * 4));
        let alone = Strike::CutLeader { from: !0, outgoing: true, incoming: true };
        faults.push(Fault { at, strike: alone, lasting: stopped + self.e });
        let pause = Strike::Pause { node: leader, asleep: dice.chance(3 * TENTH) };
        faults.push(Fault { at: at + Duration::from_micros(1), strike: pause, lasting: stopped });
    }

    /// Much of what is said is late by up to some election timeouts; then nothing of what the leader says arrives any more,
    /// and for a while it hears late answers to what it said before.
    fn echoes(&self, dice: &mut Dice, at: Duration, faults: &mut Vec<Fault>) {
        let mut weather = weather(dice, self.e);
        (weather.straggle_ppm, weather.straggle) = (8 * TENTH, self.e * dice.number(2, 6) as u32);
        faults.push(Fault { at, strike: Strike::Squall { weather }, lasting: self.e * 2 });
        let unheard = Strike::CutLeader { from: !0, outgoing: true, incoming: false };
        let then = at + dice.duration(Span(self.e / 2, self.e * 2));
        faults.push(Fault { at: then, strike: unheard, lasting: self.e * dice.number(3, 6) as u32 });
    }

    /// Leaders that die soon, one after the other, some of which reach a part of the others only: entries of many terms
    /// are left on few nodes each (dissertation figure 3.7).
    fn churn(&self, dice: &mut Dice, mut at: Duration, faults: &mut Vec<Fault>) {
        for _ in 0..dice.number(4, 24) {
            let longest = *dice.pick(&[1, 10, 100]).unwrap_or(&10);
            let after = dice.duration(Span(Duration::ZERO, self.e * longest / 400));
            let strike = Strike::Ambush { after, power_lost: dice.chance(5 * TENTH) };
            faults.push(Fault { at, strike, lasting: dice.duration(Span(self.e / 10, self.e * 5)) });
            if dice.chance(4 * TENTH) {
                let from = dice.number(1, (1 << self.nodes) - 1) << 1;
                let strike = Strike::CutLeader { from, outgoing: true, incoming: dice.chance(3 * TENTH) };
                faults.push(Fault { at, strike, lasting: dice.duration(Span(self.e / 4, self.e * 2)) });
            }
            if dice.chance(5 * TENTH) {
                // Or there is no election.
                let strike = Strike::Crash { node: Target::Leader(self.id(dice)), power_lost: dice.chance(5 * TENTH) };
                let lasting = dice.duration(Span(self.e / 2, self.e * 4));
                faults.push(Fault { at: at + dice.duration(Span(Duration::ZERO, self.e)), strike, lasting });
            }
            at += dice.duration(Span(self.e / 4, self.e * 2));
        }
    }

    fn squall(&self, dice: &mut Dice) -> Weather {
        let mut weather = weather(dice, self.e);
        match dice.number(0, 3) {
            0 => weather.loss_ppm = dice.number(2 * u64::from(TENTH), 8 * u64::from(TENTH)) as u32,
            1 => weather.delay = Span(Duration::ZERO, self.e * 2),
            2 => weather.flip_ppm = 3 * TENTH,
            _ => (weather.straggle_ppm, weather.straggle) = (3 * TENTH, self.e * 10),
        }
        weather
    }
}
