//! Figures about availability and reads that need a world of their own. Each is small by default; `TENURE_SCALE=1000`
//! makes it a thousand times as large (in release: `docs/verification.md` says which sizes were run).

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

use std::time::Duration;

use tenure::core::Consistency;
use tenure::sim::dice::{Dice, Span};
use tenure::sim::{RegisterMachine, Registers, Setup, Subject, Weather, World};
use tenure::types::NodeId;

const REGISTERS: Registers = Registers { keys: 4, reads_percent: 0, padding: 0, durable: false };

fn scale() -> u64 {
    std::env::var("TENURE_SCALE").ok().and_then(|number| number.parse().ok()).unwrap_or(1)
}

fn setup(seed: u64, nodes: u64) -> Setup<RegisterMachine> {
    let mut setup = Setup::new(seed, nodes, |node: NodeId| REGISTERS.machine(node, None));
    setup.core.lease_reads = true;
    setup
}

fn world(setup: Setup<RegisterMachine>) -> World<RegisterMachine> {
    World::new(setup).unwrap_or_else(|error| panic!("{error}"))
}

fn go_on(world: &mut World<RegisterMachine>, time: Duration) {
    world.run_until_time(world.now() + time);
    world.take_told();
    if let Some(violation) = world.violation() {
        panic!("{violation}");
    }
}

fn write(world: &mut World<RegisterMachine>, at: u64, nonce: u64) {
    let operation = REGISTERS.operation(&mut Dice::new(nonce, "write"), nonce);
    world.propose(at, REGISTERS.command(&operation, nonce).expect("a write"));
}

fn committed(world: &World<RegisterMachine>) -> u64 {
    world.ids().iter().filter_map(|id| Some(world.core(*id)?.pulse().commit.0)).max().unwrap_or(0)
}

/// Cuts `links` of a healthy cluster. Where some node keeps links in both directions to a majority (itself counted), the
/// leader changes once at most, and writes go on within `4 E`.
fn cut_and_watch(seed: u64, nodes: u64, links: &[(u64, u64)]) {
    let e = Duration::from_secs(1);
    let mut world = world(setup(seed, nodes));
    go_on(&mut world, e * 6);
    let leaders = world.tally().leaders;
    let leader = world.leader().expect("a leader");
    write(&mut world, leader, 1);
    go_on(&mut world, e / 2);
    world.cut(links);
    let whole = |a: u64, b: u64| a == b || !(links.contains(&(a, b)) || links.contains(&(b, a)));
    let ids = world.ids();
    let served = ids.iter().any(|a| ids.iter().filter(|b| whole(*a, **b)).count() > ids.len() / 2);
    let before = committed(&world);
    let mut resumed = None;
    for quarter in 0..40 {
        if let Some(leader) = world.leader() {
            write(&mut world, leader, 100 + quarter);
        }
        go_on(&mut world, e / 4);
        // The first write after the cut may have been on its way before it.
        if resumed.is_none() && committed(&world) > before + 1 {
            resumed = Some(quarter + 1);
        }
    }
    if served {
        let changes = world.tally().leaders - leaders;
        assert!(changes <= 1, "{changes} changes of leader with {links:?} cut");
        assert!(resumed.is_some_and(|quarters| quarters <= 16), "writes resumed after {resumed:?} E/4, {links:?} cut");
    }
}

fn links(nodes: u64, mut chosen: impl FnMut() -> bool) -> Vec<(u64, u64)> {
    let pairs = (1..=nodes).flat_map(|a| (1..=nodes).map(move |b| (a, b)));
    pairs.filter(|(a, b)| a != b && chosen()).collect()
}

#[test]
fn p10_all_64_graphs_of_three_nodes_disturb_nobody_who_has_a_majority() {
    for mask in 0..64_u64 {
        let mut bit = 0;
        let cut = links(3, || {
            bit += 1;
            mask >> (bit - 1) & 1 == 1
        });
        for seed in 0..3 {
            cut_and_watch(mask + 64 * seed, 3, &cut);
        }
    }
}

#[test]
fn p10_samples_of_the_graphs_of_five_nodes_disturb_nobody_who_has_a_majority() {
    let mut dice = Dice::new(5, "graphs");
    for seed in 0..20 * scale() {
        let density = dice.number(50_000, 600_000) as u32;
        let cut = links(5, || dice.chance(density));
        cut_and_watch(seed, 5, &cut);
    }
}

/// `l05`: with ten heartbeats to a timeout, up to 5 ms of jitter and one message in a hundred lost, nobody stands. An hour
/// by default; `TENURE_SCALE=8760` is a year.
#[test]
fn l05_a_healthy_cluster_holds_no_election() {
    for seed in 0..4 {
        let mut setup = setup(seed, 3);
        setup.weather = Weather { delay: Span::micros(100, 5000), loss_ppm: 10_000, ..Weather::fair() };
        let mut world = world(setup);
        go_on(&mut world, Duration::from_secs(20));
        let elections = |world: &World<RegisterMachine>| -> u64 {
            let counters = world.ids().into_iter().filter_map(|id| Some(world.core(id)?.status().counters));
            counters.map(|counters| counters.elections + counters.pre_vote_rounds).sum()
        };
        let (leaders, before) = (world.tally().leaders, elections(&world));
        go_on(&mut world, Duration::from_secs(900) * u32::try_from(scale()).unwrap());
        assert_eq!((world.tally().leaders, elections(&world)), (leaders, before), "seed {seed}");
    }
}

/// `p05`: no stale read under a lease: clocks at the bound, pauses of up to ten minutes, crashes, cut links, and at every
/// moment somebody reads. Ten thousand reads by default; `TENURE_SCALE=1000` is ten million.
#[test]
fn p05_no_read_under_a_lease_is_stale() {
    let (mut reads, mut seed) = (0, 0);
    while reads < 10_000 * scale() {
        seed += 1;
        reads += read_under_leases(seed);
    }
    println!("{reads} reads by a published lease, {seed} worlds");
}

fn read_under_leases(seed: u64) -> u64 {
    let mut dice = Dice::new(seed, "leases");
    let nodes = dice.number(1, 2) * 2 + 1;
    let mut world = world(setup(seed, nodes));
    let bound = 10_000;
    for id in world.ids() {
        world.set_clock_rate(id, [-bound, bound, 0][dice.number(0, 2) as usize]);
    }
    for nonce in 0..400 {
        let (id, other) = (dice.number(1, nodes), dice.number(1, nodes));
        let at = if dice.chance(700_000) { world.leader().unwrap_or(id) } else { id };
        match dice.number(0, 20) {
            0 => world.pause_for(at, dice.duration(Span::millis(10, 3000)), dice.chance(500_000)),
            1 if dice.chance(100_000) => world.pause_for(at, dice.duration(Span::millis(10, 600_000)), true),
            2 => world.crash_for(id, dice.chance(500_000), dice.duration(Span::millis(1, 2000))),
            3 => world.cut(&[(at, other)]),
            4 | 5 => world.mend_all(),
            6 => drop(world.transfer(at, Some(other))),
            _ => write(&mut world, at, seed << 20 | nonce),
        }
        for _ in 0..dice.number(1, 40) {
            for reader in world.ids() {
                world.read(reader, Consistency::Lease);
            }
            if world.next_event().is_some() {
                world.step();
            }
            go_on(&mut world, Duration::ZERO);
        }
    }
    world.tally().lease_reads
}
