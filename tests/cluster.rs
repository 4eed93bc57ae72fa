//! Clusters in virtual time: the classic exercises as stories, then many seeds of everything at once.
//!
//! A failure prints its seed; `TENURE_SEED=<n> cargo test --test cluster storm` replays that storm alone.
#![cfg(feature = "node")]
// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use support::cluster::{Cluster, Told, Weather};
use support::lone::{GROUP, ms};
use tenure::config::{CoreConfig, Limits, Timing};
use tenure::core::{Consistency, RoleKind};
use tenure::runtime::ProposalError;
use tenure::time::Duration;
use tenure::types::NodeId;

const E: u64 = 1000;

fn elected(cluster: &mut Cluster) -> u64 {
    cluster.run_until(10 * E, |cluster| cluster.leader().is_some()).expect("a leader");
    cluster.leader().unwrap()
}

fn commit(cluster: &mut Cluster, leader: u64, command: &str) -> Option<Duration> {
    let proposal = cluster.propose(leader, command.to_owned());
    cluster.run_until(5 * E, |cluster| matches!(cluster.told(proposal), Told::Committed(_)))
}

fn followers(cluster: &Cluster, leader: u64) -> Vec<u64> {
    cluster.ids().into_iter().filter(|id| *id != leader).collect()
}

#[test]
fn a_new_cluster_elects_once_and_stays_with_its_leader() {
    let mut cluster = Cluster::new(1, 5, Weather::fair());
    let leader = elected(&mut cluster);
    let term = cluster.term(leader);
    cluster.run_for(60 * E);
    assert_eq!((cluster.leader(), cluster.term(leader)), (Some(leader), term));
    assert_eq!(cluster.leader_changes, 1);
}

#[test]
fn l25_one_node_is_a_cluster() {
    let mut cluster = Cluster::new(2, 1, Weather::fair());
    let leader = elected(&mut cluster);
    commit(&mut cluster, leader, "a").unwrap();
    cluster.read(leader);
    cluster.crash(leader);
    cluster.restart(leader);
    let leader = elected(&mut cluster);
    commit(&mut cluster, leader, "b").unwrap();
    cluster.judge_clients();
    assert_eq!(cluster.answered_reads(), 1);
}

#[test]
fn o19_when_the_leader_dies_another_takes_over_and_the_old_one_follows_it() {
    let mut cluster = Cluster::new(3, 3, Weather::fair());
    let first = elected(&mut cluster);
    commit(&mut cluster, first, "before").unwrap();
    cluster.crash(first);
    let took = cluster.run_until(10 * E, |cluster| cluster.leader().is_some()).expect("a successor");
    assert!(took < ms(4 * E), "took {took:?}");
    let second = cluster.leader().unwrap();
    commit(&mut cluster, second, "after").unwrap();
    cluster.restart(first);
    cluster.run_for(2 * E);
    assert_eq!(cluster.role(first), Some(RoleKind::Follower));
    cluster.judge_liveness();
    cluster.judge_clients();
}

#[test]
fn l02_l10_s03_a_dead_peer_delays_nobody() {
    let mut cluster = Cluster::new(4, 3, Weather::fair());
    let leader = elected(&mut cluster);
    commit(&mut cluster, leader, "warm").unwrap();
    let dead = followers(&cluster, leader)[0];
    cluster.crash(dead);
    for round in 0..50 {
        let took = commit(&mut cluster, leader, &format!("c{round}")).unwrap();
        assert!(took < ms(20), "two links and two disks: {took:?}");
    }
}

#[test]
fn r04_without_a_quorum_nothing_is_committed_and_afterwards_all_is_well() {
    let mut cluster = Cluster::new(5, 5, Weather::fair());
    let leader = elected(&mut cluster);
    commit(&mut cluster, leader, "with all").unwrap();
    for id in &followers(&cluster, leader)[..3] {
        cluster.crash(*id);
    }
    assert_eq!(commit(&mut cluster, leader, "with two"), None);
    cluster.judge_liveness();
    cluster.judge_clients();
}

#[test]
fn a_partitioned_leader_rejoins_and_gives_way() {
    let mut cluster = Cluster::new(6, 3, Weather::fair());
    let old = elected(&mut cluster);
    commit(&mut cluster, old, "agreed").unwrap();
    cluster.partition(&[old]);
    let lost = cluster.propose(old, "never agreed");
    cluster.run_for(5 * E);
    let new = cluster.leader().unwrap();
    assert_ne!(new, old);
    commit(&mut cluster, new, "agreed by the others").unwrap();
    cluster.heal();
    cluster.run_for(2 * E);
    assert_eq!(cluster.role(old), Some(RoleKind::Follower));
    assert!(matches!(cluster.told(lost), Told::Refused(_)), "{:?}", cluster.told(lost));
    cluster.judge_liveness();
    cluster.judge_clients();
}

#[test]
fn c33_a_command_whose_leader_was_deposed_is_unknown_not_refused() {
    let mut cluster = Cluster::new(7, 3, Weather::fair());
    let old = elected(&mut cluster);
    commit(&mut cluster, old, "agreed").unwrap();
    cluster.partition(&[old]);
    let lost = cluster.propose(old, "on its own");
    cluster.run_for(5 * E);
    cluster.heal();
    cluster.run_until(5 * E, |cluster| cluster.told(lost) != Told::Nothing).unwrap();
    let Told::Refused(error) = cluster.told(lost) else { panic!("{:?}", cluster.told(lost)) };
    assert!(!error.certainly_not_committed() || matches!(error, ProposalError::Replaced { .. }), "{error}");
}

/// A node that was cut off must not depose a working leader when it comes back (dissertation §9.6).
#[test]
fn a_returning_node_disturbs_nobody() {
    let mut cluster = Cluster::new(8, 3, Weather::fair());
    let leader = elected(&mut cluster);
    let term = cluster.term(leader);
    let away = followers(&cluster, leader)[0];
    cluster.partition(&[away]);
    cluster.run_for(30 * E);
    assert_eq!(cluster.term(away), term, "pre-votes do not move the term");
    cluster.heal();
    cluster.run_for(10 * E);
    assert_eq!((cluster.leader(), cluster.term(leader)), (Some(leader), term));
}

/// One follower cannot hear the leader, ever, but hears and reaches everybody else.
#[test]
fn p03_a_deaf_follower_is_no_disturbance() {
    let mut cluster = Cluster::new(9, 3, Weather::fair());
    let leader = elected(&mut cluster);
    let term = cluster.term(leader);
    let deaf = followers(&cluster, leader)[0];
    cluster.cut.insert((leader, deaf));
    for round in 0..20 {
        cluster.run_for(E);
        commit(&mut cluster, leader, &format!("c{round}")).unwrap();
    }
    assert_eq!((cluster.leader(), cluster.term(leader), cluster.leader_changes), (Some(leader), term, 1));
}

#[test]
fn r02_b30_a_long_divergent_log_is_mended_in_a_few_rounds() {
    let mut cluster = Cluster::new(10, 3, Weather::fair());
    let old = elected(&mut cluster);
    commit(&mut cluster, old, "agreed").unwrap();
    cluster.partition(&[old]);
    for round in 0..2000 {
        cluster.propose(old, format!("alone {round}"));
    }
    cluster.run_for(5 * E);
    let new = cluster.leader().unwrap();
    for round in 0..100 {
        cluster.propose(new, format!("together {round}"));
    }
    cluster.run_for(E);
    cluster.heal();
    let messages = cluster.messages;
    let caught_up = cluster.run_until(2 * E, |cluster| cluster.commit(old) == cluster.commit(new));
    assert!(caught_up.expect("mended") < ms(500), "{caught_up:?}");
    assert!(cluster.messages - messages < 60, "{} messages", cluster.messages - messages);
    assert_eq!(cluster.truncations, 1);
    cluster.judge_liveness();
    cluster.judge_clients();
}

#[test]
fn a_command_crosses_to_each_peer_about_once() {
    let mut cluster = Cluster::new(11, 3, Weather::fair());
    let leader = elected(&mut cluster);
    commit(&mut cluster, leader, "warm").unwrap();
    let (bytes, command) = (cluster.bytes, "x".repeat(5000));
    for round in 0..20 {
        commit(&mut cluster, leader, &format!("{round}{command}")).unwrap();
    }
    let sent = cluster.bytes - bytes;
    assert!(sent <= 20 * 2 * 5010, "{sent} bytes for 20 commands to two peers");
}

#[test]
fn message_counts_are_bounded_when_idle_and_when_agreeing() {
    let mut cluster = Cluster::new(12, 3, Weather::fair());
    let leader = elected(&mut cluster);
    cluster.run_for(E);
    let before = cluster.messages;
    cluster.run_for(10 * E);
    assert!(cluster.messages - before <= 2 * 2 * 101, "idle: {} in ten seconds", cluster.messages - before);
    let before = cluster.messages;
    for round in 0..100 {
        cluster.propose(leader, format!("c{round}"));
        cluster.run_for(1);
    }
    cluster.run_for(50);
    assert!(cluster.messages - before <= 100 * 6 + 20, "busy: {}", cluster.messages - before);
}

#[test]
fn committed_entries_survive_restarts_of_everybody_at_once() {
    let mut cluster = Cluster::new(13, 3, Weather::fair());
    for round in 0..5 {
        let leader = elected(&mut cluster);
        for number in 0..10 {
            commit(&mut cluster, leader, &format!("{round}.{number}")).unwrap();
        }
        for id in cluster.ids() {
            cluster.crash(id);
        }
        for id in cluster.ids() {
            cluster.restart(id);
        }
    }
    cluster.judge_liveness();
    cluster.judge_clients();
    assert_eq!(cluster.acknowledged(), 51);
}

/// `l09`: the lab's network: 0-27 ms, 10 % lost, answers up to seven seconds late.
#[test]
fn l09_the_lab_network_delays_and_loses_and_everything_is_agreed() {
    let mut cluster = Cluster::new(14, 5, Weather::lab());
    for round in 0..100 {
        if let Some(leader) = cluster.leader() {
            cluster.propose(leader, format!("c{round}"));
            cluster.read(leader);
        }
        cluster.run_for(200);
    }
    let acknowledged = cluster.acknowledged();
    assert!(acknowledged > 60, "{acknowledged} of 100 acknowledged within 20 s");
    cluster.judge_liveness();
    cluster.judge_clients();
}

/// `l30`: 200-350 ms timeouts and an 80 ms limit on requests elect within two rounds in the median.
#[test]
fn l30_l31_short_timeouts_elect_within_two_rounds_in_the_median() {
    let mut timing = Timing::from_election_timeout(Duration::from_millis(200));
    timing.election_timeout_max = Duration::from_millis(350);
    timing.rpc_timeout = Duration::from_millis(80);
    timing.heartbeat_interval = Duration::from_millis(80);
    for size in [3, 5] {
        let mut elections: Vec<(u64, Duration)> = (0..51)
            .map(|seed| {
                let weather = Weather { delay: (0, 27), loss: 10, ..Weather::fair() };
                let mut cluster = Cluster::with(seed, size, weather, timing.clone(), Limits::default());
                let took = cluster.run_until(10 * E, |cluster| cluster.leader().is_some()).expect("a leader");
                let leader = cluster.status(cluster.leader().unwrap()).unwrap();
                (leader.counters.pre_vote_rounds, took)
            })
            .collect();
        elections.sort_unstable();
        assert!(elections[25].0 <= 2, "size {size}: the winner's rounds: {elections:?}");
        elections.sort_unstable_by_key(|(_, took)| *took);
        assert!(elections[25].1 <= 2 * timing.election_timeout_max, "size {size}: time: {elections:?}");
    }
}

/// `s01`: a state machine that blocks stops neither elections nor heartbeats nor replication.
#[test]
fn s01_a_blocked_state_machine_stops_nothing_but_itself() {
    let mut cluster = Cluster::new(17, 3, Weather::fair());
    let leader = elected(&mut cluster);
    let follower = followers(&cluster, leader)[0];
    commit(&mut cluster, leader, "before").unwrap();
    cluster.block(leader);
    cluster.block(follower);
    let proposals: Vec<_> = (0..50).map(|number| cluster.propose(leader, format!("c{number}"))).collect();
    cluster.run_for(20 * E);
    assert_eq!((cluster.leader(), cluster.leader_changes), (Some(leader), 1));
    let commits: Vec<_> = cluster.ids().into_iter().map(|id| cluster.commit(id)).collect();
    assert_eq!(commits, [53; 3], "founding, no-op, 51 commands");
    assert!(proposals.iter().all(|proposal| cluster.told(*proposal) == Told::Nothing), "not applied at the leader");
    cluster.unblock(leader);
    cluster.unblock(follower);
    assert!(proposals.iter().all(|proposal| matches!(cluster.told(*proposal), Told::Committed(_))));
    cluster.judge_liveness();
    cluster.judge_clients();
}

#[test]
fn l24_a_flood_of_proposals_is_refused_in_time_and_nothing_grows_without_end() {
    let mut limits = Limits::default();
    limits.uncommitted_entries = 100;
    let mut cluster = Cluster::with(15, 3, Weather::fair(), Timing::default(), limits);
    let leader = elected(&mut cluster);
    for id in followers(&cluster, leader) {
        cluster.crash(id);
    }
    let flood: Vec<_> = (0..1000).map(|number| cluster.propose(leader, format!("c{number}"))).collect();
    let refused = flood.iter().filter(|p| cluster.told(**p) == Told::Refused(ProposalError::Overloaded)).count();
    assert!(refused >= 890, "{refused} of 1000 refused");
    cluster.judge_liveness();
    cluster.judge_clients();
}

#[test]
fn a_follower_whose_log_left_every_cache_catches_up_from_disk() {
    let mut limits = Limits::default();
    limits.cache_bytes = 4096;
    let mut cluster = Cluster::with(16, 3, Weather::fair(), Timing::default(), limits);
    let leader = elected(&mut cluster);
    let away = followers(&cluster, leader)[0];
    cluster.crash(away);
    for round in 0..500 {
        cluster.propose(leader, format!("{round}{}", "x".repeat(100)));
        cluster.run_for(2);
    }
    cluster.restart(away);
    cluster.run_until(3 * E, |cluster| cluster.commit(away) == cluster.commit(leader)).expect("caught up");
    cluster.judge_liveness();
    cluster.judge_clients();
}

/// A node whose clock is as wrong as is allowed, in the way of `kind`: some begin elsewhere, some run fast, some slow.
fn upset_clock(cluster: &mut Cluster, id: u64, drift_ppm: i64) {
    let rate = [-drift_ppm, 0, drift_ppm, cluster.draw((0, 2 * drift_ppm as u64)) as i64 - drift_ppm];
    let kind = cluster.draw((0, 3)) as usize;
    cluster.set_clock_rate(id, rate[kind]);
}

/// What a storm does how often, in percent per step.
struct Habits {
    /// `E`, in ms. The network and the disks do not know it.
    e: u64,
    crashes: u64,
    /// Of the crashes, so many are followed by a quick restart.
    quick: u64,
    partitions: u64,
    one_way: bool,
    heals: u64,
    pauses: u64,
    transfers: u64,
    /// A step lasts at most this long, in ms.
    step: u64,
}

impl Habits {
    fn draw(cluster: &mut Cluster, e: u64) -> Self {
        Self {
            e,
            crashes: cluster.draw((0, 30)),
            quick: cluster.draw((0, 100)),
            partitions: cluster.draw((0, 30)),
            one_way: cluster.chance(50),
            heals: cluster.draw((3, 25)),
            pauses: cluster.draw((0, 15)),
            transfers: cluster.draw((0, 15)),
            step: e * cluster.draw((1, 6)) / 10,
        }
    }
}

fn weather(cluster: &mut Cluster, e: u64) -> Weather {
    let mut weather = Weather::fair();
    weather.delay = [(1, 2), (0, 27), (5, 120)][cluster.draw((0, 2)) as usize];
    weather.loss = cluster.draw((0, 1)) * cluster.draw((1, 20));
    weather.duplication = cluster.draw((0, 1)) * cluster.draw((1, 20));
    weather.straggle = (cluster.draw((0, 5)), cluster.draw((1, 7 * e)));
    weather.sync = [(0, 1), (0, 20), (0, 400)][cluster.draw((0, 2)) as usize];
    weather.stall = (cluster.draw((0, 1)) * cluster.draw((0, 10)), 5 * e);
    weather
}

/// Figure 8 and everything around it: crashes, restarts, partitions, loss, delay, reordering, slow disks and such that
/// hang, stopped processes, clocks at the bound, transfers, and clients that write and read with every consistency.
fn storm(seed: u64) -> Cluster {
    let e = [E, E, E, 10 * E][(seed / 5 % 4) as usize];
    let mut template = CoreConfig::new(NodeId(1), GROUP, 0);
    template.timing = Timing::from_election_timeout(ms(e));
    template.lease_reads = true;
    template.succession = !seed.is_multiple_of(3);
    let drift_ppm = i64::from(template.timing.clock_drift_ppm);
    let size = [1, 3, 3, 5, 5][(seed % 5) as usize];
    let mut cluster = Cluster::like(seed, size, Weather::fair(), template);
    cluster.weather = weather(&mut cluster, e);
    let habits = Habits::draw(&mut cluster, e);
    for id in cluster.ids() {
        upset_clock(&mut cluster, id, drift_ppm);
    }
    for step in 0..150 {
        let (id, other) = (cluster.draw((1, size)), cluster.draw((1, size)));
        strike(&mut cluster, &habits, id, other);
        if cluster.chance(3) {
            upset_clock(&mut cluster, other, drift_ppm);
        }
        ask(&mut cluster, &habits, step, id, other);
        let pause = cluster.draw((0, habits.step));
        cluster.run_for(pause);
    }
    cluster.judge_liveness();
    cluster.judge_clients();
    cluster
}

/// Something happens to `id` or to `other`, or to both.
fn strike(cluster: &mut Cluster, habits: &Habits, id: u64, other: u64) {
    if cluster.chance(habits.crashes) {
        if cluster.chance(habits.quick) {
            let millis = cluster.draw((0, habits.e));
            cluster.crash_for(id, millis);
        } else {
            cluster.crash(id);
            let by = Duration::from_secs(cluster.draw((0, 100_000)));
            cluster.shift_clock(id, by);
        }
    }
    if cluster.chance(30) {
        cluster.restart(other);
    }
    if cluster.chance(habits.partitions) {
        if habits.one_way {
            cluster.cut.insert((id, other));
        } else {
            cluster.partition(&[id, other]);
        }
    } else if cluster.chance(habits.heals) {
        cluster.heal();
    }
    if cluster.chance(habits.pauses) {
        let at = if cluster.chance(50) { cluster.leader().unwrap_or(other) } else { other };
        let (millis, jumped) = (cluster.draw((1, 3 * habits.e)), cluster.chance(50));
        cluster.pause_for(at, millis, jumped);
    }
    if cluster.chance(3) {
        cluster.clock_jumped(other);
    }
}

/// Clients want something, mostly of the leader.
fn ask(cluster: &mut Cluster, habits: &Habits, step: u64, id: u64, other: u64) {
    let leader = |cluster: &mut Cluster| if cluster.chance(80) { cluster.leader().unwrap_or(id) } else { id };
    if cluster.chance(habits.transfers) {
        let at = leader(cluster);
        let target = [None, Some(other)][cluster.draw((0, 1)) as usize];
        cluster.transfer(at, target);
    }
    for number in 0..cluster.draw((0, 4)) {
        let at = leader(cluster);
        cluster.propose(at, format!("{step}.{number}"));
        let staleness = Duration::from_millis(cluster.draw((0, 2 * habits.e)));
        cluster.read(at);
        cluster.read_as(at, Consistency::Lease);
        for consistency in [Consistency::Lease, Consistency::Linearizable, Consistency::Follower(staleness)] {
            cluster.read_as(other, consistency);
        }
        cluster.read_as(other, Consistency::Local);
    }
}

/// Calm weather, and a leader that is cut off from one node after the other while something happens to those that hold
/// its lease: they restart, stop, sleep, are asked to take over, or lose what they sent for a while.
fn siege(seed: u64) -> Cluster {
    let e = [E, 10 * E][(seed % 2) as usize];
    let mut template = CoreConfig::new(NodeId(1), GROUP, 0);
    template.timing = Timing::from_election_timeout(ms(e));
    template.lease_reads = true;
    let drift_ppm = i64::from(template.timing.clock_drift_ppm);
    let size = [3, 5][(seed / 2 % 2) as usize];
    let mut cluster = Cluster::like(seed, size, Weather::fair(), template);
    cluster.weather.straggle = (cluster.draw((0, 3)), 3 * e);
    for round in 0..6 {
        let Some(_) = cluster.run_until(10 * e, |cluster| cluster.leader().is_some()) else { continue };
        let leader = cluster.leader().unwrap();
        for id in cluster.ids() {
            upset_clock(&mut cluster, id, drift_ppm);
        }
        cluster.propose(leader, format!("{round}"));
        // The first to be cut off grow restless: they have promised nobody any more.
        for other in followers(&cluster, leader) {
            if cluster.chance(40) {
                cluster.cut.insert((leader, other));
                if cluster.chance(50) {
                    cluster.cut.insert((other, leader));
                }
            }
        }
        let restless = cluster.draw((0, 4 * e));
        cluster.run_for(restless);
        // Now the others, who hold the lease.
        for other in followers(&cluster, leader) {
            if cluster.chance(80) {
                cluster.cut.insert((leader, other));
            }
            let millis = cluster.draw((0, e / 2));
            match cluster.draw((0, 5)) {
                0 | 1 => cluster.crash_for(other, millis),
                2 => cluster.pause_for(other, millis, cluster.now.as_nanos().is_multiple_of(2)),
                3 => cluster.clock_jumped(other),
                4 => drop(cluster.transfer(leader, Some(other))),
                _ => {}
            }
        }
        for _ in 0..10 {
            let (at, pause) = (cluster.draw((1, size)), cluster.draw((0, e / 4)));
            cluster.read_as(leader, Consistency::Lease);
            cluster.propose(at, "x");
            cluster.read_as(at, Consistency::Lease);
            cluster.run_for(pause);
        }
        cluster.heal();
    }
    cluster.judge_liveness();
    cluster
}

/// `TENURE_STORMS=5000` runs so many; `TENURE_SEED=7` that one.
#[test]
fn p05_p06_whoever_holds_a_lease_may_restart_or_sleep_and_no_two_leaders_read() {
    let asked = |name| std::env::var(name).ok().and_then(|number: String| number.parse().ok());
    if let Some(seed) = asked("TENURE_SEED") {
        siege(seed);
        return;
    }
    let sieges = asked("TENURE_STORMS").unwrap_or(64);
    let toll = (0..sieges).map(siege).fold((0, 0), |(leaders, published), cluster| {
        (leaders + cluster.leader_changes, published + cluster.answered.get("published").copied().unwrap_or(0) as u64)
    });
    println!("{toll:?}");
    assert!(toll.0 > 4 * sieges && toll.1 > 20 * sieges, "{toll:?} leaders and reads under leases");
}

/// What a series of storms came to: a run that never gets there proves nothing about it.
#[derive(Default, Debug)]
struct Toll {
    leaders: u64,
    truncations: u64,
    acknowledged: u64,
    reads: u64,
    /// Of these, those that a published lease answered.
    published: u64,
    lease: u64,
    follower: u64,
    abdications: BTreeMap<String, u64>,
}

impl Toll {
    fn add(&mut self, cluster: &Cluster) {
        let answered = |name| cluster.answered.get(name).copied().unwrap_or(0) as u64;
        self.leaders += cluster.leader_changes;
        self.truncations += cluster.truncations;
        self.acknowledged += cluster.acknowledged() as u64;
        self.reads += cluster.answered_reads() as u64;
        self.published += answered("published");
        self.lease += answered("lease");
        self.follower += answered("follower");
        for (why, count) in &cluster.abdications {
            *self.abdications.entry(why.clone()).or_default() += count;
        }
    }
}

/// `TENURE_STORMS=5000` runs so many; `TENURE_SEED=7` that one.
#[test]
fn storm_of_everything_at_once_keeps_every_promise() {
    let asked = |name| std::env::var(name).ok().and_then(|number: String| number.parse().ok());
    if let Some(seed) = asked("TENURE_SEED") {
        storm(seed);
        return;
    }
    let storms = asked("TENURE_STORMS").unwrap_or(100);
    let mut toll = Toll::default();
    for seed in 0..storms {
        toll.add(&storm(seed));
    }
    println!("{toll:?}");
    let gave_up = |why: &str| toll.abdications.get(why).copied().unwrap_or(0);
    assert!(toll.leaders > 3 * storms && toll.truncations > storms / 10 && toll.acknowledged > 20 * storms, "{toll:?}");
    assert!(toll.published > 20 * storms && toll.lease > 40 * storms && toll.follower > 20 * storms, "{toll:?}");
    assert!(gave_up("Transfer") > storms / 2 && gave_up("QuorumLost") > storms / 5, "{toll:?}");
    assert!(gave_up("DiskStalled") > storms / 50, "{toll:?}");
}

#[test]
fn the_same_seed_replays_the_same_story() {
    let told = |cluster: Cluster| (cluster.now, cluster.messages, cluster.bytes, cluster.leader_changes);
    assert_eq!(told(storm(7)), told(storm(7)));
}
