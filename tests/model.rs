//! All runs of a small cluster of real cores, up to a bound.
//!
//! `TENURE_MODEL_STATES` and `TENURE_MODEL_DEPTH` set the bounds of each scenario: distinct states (8,000 by default), and
//! actions from its beginning. A big run, with some 3 KiB of memory for each state that waits to be expanded:
//! `TENURE_MODEL_STATES=1000000 cargo test --release --test model -- --nocapture --test-threads 1`
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "model_support/mod.rs"]
mod model_support;
#[path = "support/mod.rs"]
mod support;

use model_support::action::Action;
use model_support::cluster::{Cluster, Left, Rules, SharedClock};
use model_support::explorer::{Explored, Limits, explore};
use std::rc::Rc;
use support::disk::Disk;
use support::lone::{E, ms, voters};
use tenure::log::HardState;
use tenure::message::{Body, Message};
use tenure::types::{NodeId, Term};

/// Explores runs that must all be good, and prints how far it got.
#[track_caller]
fn all_good(name: &str, start: &Cluster) {
    let bound = |name: &str, default: usize| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let limits = Limits { states: bound("TENURE_MODEL_STATES", 8_000), depth: bound("TENURE_MODEL_DEPTH", usize::MAX) };
    match explore(start, limits) {
        Ok(Explored { states, depth, complete: true }) => {
            println!("{name}: all {states} states, up to {depth} actions")
        }
        Ok(Explored { states, depth, .. }) => {
            println!("{name}: {states} states, among them all within {depth} actions")
        }
        Err(found) => panic!("{name}: after {} states: {}", found.states, found.story),
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

/// Node 1 is cut off.
fn between_2_and_3(message: &Message) -> bool {
    message.from != NodeId(1) && message.to != NodeId(1)
}

// ---- elections -----------------------------------------------------------------------------------------------------

/// Votes, pre-votes and promises: node 1 stands, others may.
fn votes(rules: Rules) -> Cluster {
    let mut start = fresh(Rules { carries: about_votes, ..rules });
    start.left.timeouts = 1;
    start.must(Action::Timer(0));
    start
}

/// What a node asks again later is the same situation, whatever its clock shows and its rounds are called.
#[test]
fn what_is_asked_again_is_the_same_situation() {
    let mut one = votes(rules());
    let ask_again = |cluster: &mut Cluster| {
        cluster.network.clear();
        cluster.left.timeouts = 2;
        cluster.must(Action::Timer(0)); // the round is lost
        cluster.must(Action::Timer(0));
    };
    ask_again(&mut one);
    let mut other = one.clone();
    ask_again(&mut other);
    assert_ne!(one.network[0].message, other.network[0].message);
    assert_eq!(one.fingerprint(), other.fingerprint());
    other.must(Action::Deliver(0));
    assert_ne!(one.fingerprint(), other.fingerprint());
}

/// Small enough to be seen whole.
#[test]
fn elections_with_one_more_timeout() {
    let mut start = votes(rules());
    start.left.timeouts = 1;
    all_good("elections with one more timeout", &start);
}

#[test]
fn elections_with_two_more_timeouts() {
    let mut start = votes(rules());
    start.left.timeouts = 2;
    all_good("elections with two more timeouts", &start);
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

/// Both followers have answered a heartbeat, and hear no more of the leader; their answers are still on their way to it.
#[test]
fn leases_and_late_answers() {
    let mut start = a_lease([1_000_000; 3], 0);
    for action in [Action::Tick, Action::Tick, Action::Timer(0), Action::Deliver(0), Action::Deliver(0)] {
        start.must(action);
    }
    let answers = start.network.iter().filter(|sent| sent.message.to == NodeId(1)).count();
    assert_eq!((answers, start.network.len()), (2, 2));
    Rc::make_mut(&mut start.rules).carries = between_2_and_3;
    start.left = Left { timeouts: 1, ticks: 6, ..Left::default() };
    all_good("leases and late answers", &start);
}

/// Clocks worse than they are trusted to be: the one assumption of a lease, so this must be found.
#[test]
fn clocks_beyond_the_bound_break_a_lease() {
    let limits = Limits { states: 100_000, depth: usize::MAX };
    let found = explore(&a_lease([800_000, 1_100_000, 1_100_000], 0), limits).unwrap_err();
    println!("clocks beyond the bound: found after {} states\n{}", found.states, found.story);
    assert_eq!(found.broken.check, "lease exclusivity");
}
