//! Clusters in virtual time: the classic exercises as stories. Many seeds of everything at once are in `tests/sim.rs`.

#![cfg(feature = "sim")]
// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::cluster::{Cluster, Told};
use support::lone::ms;
use tenure::config::{Limits, Timing};
use tenure::core::RoleKind;
use tenure::runtime::ProposalError;
use tenure::sim::Weather;
use tenure::sim::dice::Span;
use tenure::time::Duration;

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
    assert_eq!(cluster.leader_changes(), 1);
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
    cluster.world.cut(&[(leader, deaf)]);
    for round in 0..20 {
        cluster.run_for(E);
        commit(&mut cluster, leader, &format!("c{round}")).unwrap();
    }
    assert_eq!((cluster.leader(), cluster.term(leader), cluster.leader_changes()), (Some(leader), term, 1));
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
    let messages = cluster.messages();
    let caught_up = cluster.run_until(2 * E, |cluster| cluster.commit(old) == cluster.commit(new));
    assert!(caught_up.expect("mended") < ms(500), "{caught_up:?}");
    assert!(cluster.messages() - messages < 60, "{} messages", cluster.messages() - messages);
    assert_eq!(cluster.world.tally().truncations, 1);
    cluster.judge_liveness();
}

#[test]
fn a_command_crosses_to_each_peer_about_once() {
    let mut cluster = Cluster::new(11, 3, Weather::fair());
    let leader = elected(&mut cluster);
    commit(&mut cluster, leader, "warm").unwrap();
    let (bytes, command) = (cluster.world.tally().payload_bytes, "x".repeat(5000));
    for round in 0..20 {
        commit(&mut cluster, leader, &format!("{round}{command}")).unwrap();
    }
    let sent = cluster.world.tally().payload_bytes - bytes;
    assert!(sent <= 20 * 2 * 5010, "{sent} bytes for 20 commands to two peers");
}

#[test]
fn message_counts_are_bounded_when_idle_and_when_agreeing() {
    let mut cluster = Cluster::new(12, 3, Weather::fair());
    let leader = elected(&mut cluster);
    cluster.run_for(E);
    let before = cluster.messages();
    cluster.run_for(10 * E);
    assert!(cluster.messages() - before <= 2 * 2 * 101, "idle: {} in ten seconds", cluster.messages() - before);
    let before = cluster.messages();
    for round in 0..100 {
        cluster.propose(leader, format!("c{round}"));
        cluster.run_for(1);
    }
    cluster.run_for(50);
    assert!(cluster.messages() - before <= 100 * 6 + 20, "busy: {}", cluster.messages() - before);
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
                let weather =
                    Weather { delay: Span::millis(0, 27), loss_ppm: 100_000, ordered: false, ..Weather::fair() };
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
    cluster.world.block_machine(leader);
    cluster.world.block_machine(follower);
    let proposals: Vec<_> = (0..50).map(|number| cluster.propose(leader, format!("c{number}"))).collect();
    cluster.run_for(20 * E);
    assert_eq!((cluster.leader(), cluster.leader_changes()), (Some(leader), 1));
    let commits: Vec<_> = cluster.ids().into_iter().map(|id| cluster.commit(id)).collect();
    assert_eq!(commits, [53; 3], "founding, no-op, 51 commands");
    assert!(proposals.iter().all(|proposal| cluster.told(*proposal) == Told::Nothing), "not applied at the leader");
    cluster.world.unblock_machine(leader);
    cluster.world.unblock_machine(follower);
    cluster.run_for(0);
    assert!(proposals.iter().all(|proposal| matches!(cluster.told(*proposal), Told::Committed(_))));
    cluster.judge_liveness();
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
}
