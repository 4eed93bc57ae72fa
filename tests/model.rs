//! All runs of a small cluster of real cores, up to a bound.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "model_support/mod.rs"]
mod model_support;
#[path = "support/mod.rs"]
mod support;

use model_support::action::Action;
use model_support::cluster::{Cluster, Left, Rules, SharedClock};
use model_support::explorer::{Counterexample, Explored, Limits, explore};
use std::rc::Rc;
use support::disk::Disk;
use support::lone::{E, ms, voters};
use tenure::log::HardState;
use tenure::message::{Body, Message};
use tenure::types::{NodeId, Term};

/// Explores, and prints how far it got. `TENURE_MODEL_STATES` and `TENURE_MODEL_DEPTH` bound a run otherwise.
fn all_runs(name: &str, start: &Cluster) -> Result<Explored, Box<Counterexample>> {
    let bound = |name: &str, default: usize| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let limits = Limits { states: bound("TENURE_MODEL_STATES", 8_000), depth: bound("TENURE_MODEL_DEPTH", usize::MAX) };
    let result = explore(start, limits);
    match &result {
        Ok(Explored { states, depth, complete: true }) => {
            println!("{name}: all {states} states, up to {depth} actions")
        }
        Ok(Explored { states, depth, .. }) => {
            println!("{name}: {states} states, among them all within {depth} actions")
        }
        Err(found) => println!("{name}: after {} states: {}", found.states, found.story),
    }
    result
}

/// Explores runs that must all be good.
#[track_caller]
fn all_good(name: &str, start: &Cluster) {
    if let Err(found) = all_runs(name, start) {
        panic!("{name}: {}: {}", found.broken.check, found.broken.detail);
    }
}

fn rules() -> Rules {
    Rules { last_term: 4, network: 8, carries: |_| true, prompt_disks: true, append_entries: 4, shared_clock: None }
}

fn fresh(rules: Rules) -> Cluster {
    Cluster::on(vec![Disk::founded(voters(3)); 3], rules)
}

/// Nodes whose logs have these terms after the founding entry, all in `term`.
fn with_logs(rules: Rules, term: u64, logs: [&[u64]; 3]) -> Cluster {
    let hard_state = HardState { term: Term(term), vote: None, longest_promise: ms(E) };
    Cluster::on(logs.iter().map(|terms| Disk::with_history(voters(3), hard_state, terms)).collect(), rules)
}

fn about_votes(message: &Message) -> bool {
    matches!(message.body, Body::PreVote(_) | Body::PreVoteResponse(_) | Body::Vote(_) | Body::VoteResponse(_))
}

/// Nodes 1 and 3 do not hear each other.
fn through_node_2(message: &Message) -> bool {
    message.from == NodeId(2) || message.to == NodeId(2)
}

// ---- elections -----------------------------------------------------------------------------------------------------

/// Votes, pre-votes and promises: node 1 stands, others may.
fn votes(rules: Rules) -> Cluster {
    let mut start = fresh(Rules { carries: about_votes, ..rules });
    start.left.timeouts = 1;
    start.must(Action::Timer(0));
    start
}

#[test]
fn elections() {
    let mut start = votes(rules());
    start.left = Left { timeouts: 2, ..Left::default() };
    all_good("elections", &start);
}

#[test]
fn elections_with_a_duplicate() {
    let mut start = votes(rules());
    start.left = Left { timeouts: 1, duplicates: 1, ..Left::default() };
    all_good("elections with a duplicate", &start);
}

#[test]
fn elections_with_a_crash() {
    let mut start = votes(rules());
    start.left = Left { timeouts: 1, crashes: 1, ..Left::default() };
    all_good("elections with a crash", &start);
}

/// What is not durable can be lost, and nothing may rely on it.
#[test]
fn elections_on_slow_disks() {
    let mut start = votes(Rules { prompt_disks: false, ..rules() });
    start.left = Left { timeouts: 1, crashes: 1, ..Left::default() };
    all_good("elections on slow disks", &start);
}

// ---- replication ---------------------------------------------------------------------------------------------------

/// A leader that everybody follows has just been given two commands.
fn two_commands(rules: Rules) -> Cluster {
    let mut start = fresh(rules);
    start.elect(1, |_| true);
    start.left.proposals = 2;
    start.must(Action::Propose(0));
    start.must(Action::Propose(0));
    start
}

#[test]
fn replication() {
    let mut start = two_commands(Rules { network: 6, ..rules() });
    start.left = Left { timeouts: 1, crashes: 1, ..Left::default() };
    all_good("replication", &start);
}

#[test]
fn replication_with_a_duplicate() {
    let mut start = two_commands(Rules { network: 6, ..rules() });
    start.left = Left { timeouts: 1, heartbeats: 1, duplicates: 1, ..Left::default() };
    all_good("replication with a duplicate", &start);
}

#[test]
fn replication_on_slow_disks() {
    let mut start = two_commands(Rules { prompt_disks: false, network: 6, ..rules() });
    start.left = Left { timeouts: 1, crashes: 1, ..Left::default() };
    all_good("replication on slow disks", &start);
}

/// Figure 8 of the Raft paper: node 1 leads again, in term 4, and copies an entry of term 2, one entry at a time; node 3 has
/// one of term 3 in its place.
#[test]
fn figure_8() {
    let mut start = with_logs(Rules { last_term: 5, append_entries: 1, ..rules() }, 3, [&[2], &[], &[3]]);
    start.elect(1, about_votes);
    start.left.heartbeats = 1;
    start.must(Action::Timer(0));
    Rc::make_mut(&mut start.rules).carries = through_node_2;
    start.left = Left { timeouts: 1, ..Left::default() };
    all_good("figure 8", &start);
}

/// Three logs that differ, and a leader that has just been elected.
#[test]
fn divergent_logs() {
    let mut start = with_logs(Rules { last_term: 6, ..rules() }, 4, [&[2, 2], &[3], &[2, 4, 4]]);
    start.elect(3, about_votes);
    start.left.heartbeats = 1;
    start.must(Action::Timer(2));
    start.left = Left { timeouts: 1, heartbeats: 1, crashes: 1, ..Left::default() };
    all_good("divergent logs", &start);
}

/// A leader is asked to hand over, with a command on its way.
#[test]
fn hand_over() {
    let mut start = fresh(rules());
    start.elect(1, |_| true);
    start.left = Left { timeouts: 1, proposals: 1, transfers: 1, ..Left::default() };
    all_good("hand-over", &start);
}

// ---- leases --------------------------------------------------------------------------------------------------------

/// One true time, in quarters of `E`: a leader with a lease, and a network that may lose what it says.
fn a_lease(rates: [u64; 3], trusted_drift_ppm: u32) -> Cluster {
    let clock = SharedClock { rates: rates.into(), trusted_drift_ppm };
    let mut start = fresh(Rules { shared_clock: Some(clock), ..rules() });
    start.elect(1, |_| true);
    start.left = Left { timeouts: 1, heartbeats: 1, ticks: 8, ..Left::default() };
    start
}

#[test]
fn leases() {
    all_good("leases", &a_lease([1_000_000; 3], 0));
}

/// The leader's clock is slow and the others' are fast, as far as they are trusted to be.
#[test]
fn leases_on_clocks_that_drift() {
    all_good("leases on clocks that drift", &a_lease([900_000, 1_100_000, 1_100_000], 100_000));
}

/// Clocks worse than they are trusted to be: the one assumption of a lease, so this must be found.
#[test]
fn clocks_beyond_the_bound_break_a_lease() {
    let found = all_runs("clocks beyond the bound", &a_lease([800_000, 1_100_000, 1_100_000], 0)).unwrap_err();
    assert_eq!(found.broken.check, "lease exclusivity");
}
