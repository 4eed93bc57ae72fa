//! Properties of the core: what holds whatever happens to one node or to three, and a short story when it does not.
//!
//! Each runs some hundred cases; `QUICKCHECK_TESTS=100000` asks for more.

// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support"]
mod support {
    #![allow(dead_code, unreachable_pub)]
    pub mod any_message;
    pub mod disk;
    pub mod fates;
    pub mod lone;
    pub mod steps;
    pub mod trio;
    pub mod wild;
}

use quickcheck::{Arbitrary, Gen, quickcheck};
use support::fates::Rng;
use support::trio::{Seen, Step, Trio};
use support::wild::{Wild, WildNode};
use tenure::quorum::{Configuration, Tally, Voters};
use tenure::types::NodeId;

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        Self::of([u8::arbitrary(g), u8::arbitrary(g), u8::arbitrary(g)])
    }

    /// The same thing, with smaller numbers.
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let [kind, first, second] = self.to_bytes();
        Box::new((first, second).shrink().map(move |(first, second)| Self::of([kind, first, second])))
    }
}

fn play(setup: u8, steps: &[Step]) -> Seen {
    let mut trio = Trio::new(setup);
    steps.iter().for_each(|step| trio.step(*step));
    trio.judge_liveness();
    trio.seen
}

quickcheck! {
    /// Election safety, one vote per term, log matching, leader completeness, state machine safety, durability, reads
    /// that are fresh, configurations that overlap; and when nothing goes wrong any more, a leader and a new command everywhere.
    fn three_nodes_are_safe_at_every_step_and_live_at_the_end(setup: u8, steps: Vec<Step>) -> bool {
        play(setup, &steps);
        true
    }

    /// One node among liars, with a caller that makes mistakes: never a panic, and its own invariants hold.
    fn no_input_makes_a_node_panic_or_break_its_invariants(setup: u8, inputs: Vec<Wild>) -> bool {
        let mut node = WildNode::new(setup);
        inputs.into_iter().for_each(|input| node.take(input));
        true
    }

    /// Joint or not: won if a majority of each half says yes, lost if it cannot any more; for all ballots.
    fn a_vote_is_counted_as_by_hand(incoming: Vec<u8>, outgoing: Vec<u8>) -> bool {
        let Some((configuration, halves)) = joint(&incoming, &outgoing) else { return true };
        ballots(3).all(|ballot| {
            let ballot = |id: u64| ballot[id as usize - 1];
            let wins = |missing: bool| {
                halves.iter().all(|half| {
                    let yes = half.iter().filter(|id| ballot(**id).unwrap_or(missing)).count();
                    half.is_empty() || 2 * yes > half.len()
                })
            };
            let by_hand = match (wins(false), wins(true)) {
                (true, _) => Tally::Won,
                (false, true) => Tally::Open,
                (false, false) => Tally::Lost,
            };
            configuration.tally(|node| ballot(node.0)) == by_hand
        })
    }

    /// The committed index is the greatest that a majority of each half has reached.
    fn what_a_quorum_has_reached_is_found_as_by_hand(incoming: Vec<u8>, outgoing: Vec<u8>, reached: Vec<u8>) -> bool {
        let Some((configuration, halves)) = joint(&incoming, &outgoing) else { return true };
        let of = |id: u64| reached.get(id as usize).copied().unwrap_or(0);
        let by_majorities = |index: u8| {
            halves.iter().all(|half| half.is_empty() || 2 * half.iter().filter(|id| of(**id) >= index).count() > half.len())
        };
        let by_hand = (0..=u8::MAX).rev().find(|index| by_majorities(*index));
        Some(configuration.reached(|node| of(node.0))) == by_hand
    }

    /// Any two quorums of one configuration have a member in common.
    fn quorums_overlap(incoming: Vec<u8>, outgoing: Vec<u8>) -> bool {
        let Some((configuration, _)) = joint(&incoming, &outgoing) else { return true };
        ballots(2).all(|ballot| {
            let ballot = |id: u64| ballot[id as usize - 1];
            let yes = |node: NodeId| ballot(node.0);
            let others = |node: NodeId| ballot(node.0).map(|yes| !yes);
            !(configuration.tally(yes) == Tally::Won && configuration.tally(others) == Tally::Won)
        })
    }
}

/// A configuration of the nodes 0 < id < 7, and its halves by hand.
fn joint(incoming: &[u8], outgoing: &[u8]) -> Option<(Configuration, [Vec<u64>; 2])> {
    let half = |ids: &[u8]| {
        let mut ids: Vec<u64> = ids.iter().take(5).map(|id| u64::from(id % 6) + 1).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let halves = [half(incoming), half(outgoing)];
    let [voters, leaving] = halves.clone().map(|ids| Voters::from_nodes(ids.into_iter().map(NodeId)));
    Some((Configuration::new(voters, leaving, Voters::default()).ok()?, halves))
}

/// Every way for nodes 1 to 6 to vote yes, no, or (of `ways` 3) not at all.
fn ballots(ways: usize) -> impl Iterator<Item = Vec<Option<bool>>> {
    let vote = move |number: usize, id: u32| [Some(true), Some(false), None][number / ways.pow(id) % ways];
    (0..ways.pow(6)).map(move |number| (0..6).map(|id| vote(number, id)).collect())
}

/// Stories that once went wrong.
#[test]
fn what_was_found_is_not_forgotten() {
    use Step::{Change, Crash, Cut, Deadline, Deliver, GoOn, Lose, Sync, Transfer};
    // Only those who were to go had the configuration without them; nobody could be elected any more (rule `p14`).
    let head = [GoOn(225), Change(1), Deliver(0), Deliver(63), Sync(0)];
    play(8, &[&head[..], &[Deliver(15), Lose(0), Deadline(0), Deliver(0), Sync(1)]].concat());
    // A new configuration needed those who had been silent for long, and its leader was to resign at once (bug `b13`).
    let dead = [GoOn(27), Cut(255), Change(76), Crash(122, 0)];
    play(8, &[&dead[..], &[Cut(63), Transfer(245, 118), GoOn(14), GoOn(60)]].concat());
}

/// What the random stories reach: a property about leaders says nothing if there are none.
#[test]
fn random_steps_reach_what_they_are_about() {
    let mut rng = Rng(1);
    let mut all = Seen::default();
    for setup in 0..80 {
        let steps: Vec<_> = (0..60).map(|_| Step::of([0; 3].map(|_: u8| rng.next() as u8))).collect();
        all.add(play(setup, &steps));
    }
    println!("{all:?}");
    let Seen { leaders, commits, truncations, reads, transfers, changes, joint, restarts, loads } = all;
    assert!(leaders > 40 && commits > 40 && reads > 10 && restarts > 120, "{all:?}");
    assert!(changes > 0 && joint > 0, "{all:?}");
    assert!(truncations > 0 && transfers > 0 && loads > 0, "{all:?}");
}
