//! Entering the shard under every schedule. The shard has no group, so it answers a proposal at once, and an input that
//! was left behind is a proposal without an answer.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::runtime::clock::TimeSource;
use crate::runtime::inbox::InboxLimits;
use crate::runtime::ticket::call_with_outcome;
use crate::runtime::timer;
use crate::sync::model::{explore, explore_bounded, spawn, yield_now};
use crate::time::Instant;
use bytes::Bytes;
use std::sync::atomic::AtomicUsize;

/// A clock that stands still.
struct Still;

impl TimeSource for Still {
    fn boottime(&self) -> Instant {
        Instant::from_nanos(1)
    }
    fn monotonic(&self) -> Instant {
        Instant::from_nanos(1)
    }
}

/// A shard's door, and how many proposals were answered behind it.
#[derive(Clone)]
struct Door {
    entrance: Arc<Entrance>,
    /// Not the checker's: nobody decides anything by it.
    answered: Arc<AtomicUsize>,
}

impl Door {
    fn new() -> Self {
        let (inbox, persist, loads) = (Inbox::new(InboxLimits::default()), Persist::new(), LoadQueue::new());
        let logger = Logger::root(slog::Discard, slog::o!());
        let entrance = Entrance::new(inbox, Arc::new(persist), Arc::new(loads), None, Clock::of(Still), logger);
        Self { entrance: Arc::new(entrance), answered: Arc::default() }
    }

    /// A proposal whose callback proposes again, so many times.
    fn proposal(&self, again: usize) -> ShardInput {
        let door = self.clone();
        let reply = call_with_outcome::<()>(move |outcome| {
            assert!(outcome.is_err(), "there is no group");
            door.answered.fetch_add(1, Ordering::Relaxed);
            if again > 0 {
                door.propose(again - 1);
            }
        });
        ShardInput::Propose { group: GroupId(1), command: Bytes::new(), reply }
    }

    fn propose(&self, again: usize) {
        assert!(self.entrance.ask([self.proposal(again)]).is_empty());
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

/// Both at once, each on a thread of its own: some schedules are not tried of the one that starts the others.
fn at_once(one: impl FnOnce() + Send + 'static, other: impl FnOnce() + Send + 'static) {
    let (one, other) = (spawn(one), spawn(other));
    one.join().unwrap();
    other.join().unwrap();
}

/// An input that comes while another thread leaves the shard is not left behind.
#[test]
fn no_input_is_left_behind() {
    explore(|| {
        let door = Door::new();
        let (one, other) = (door.clone(), door.clone());
        at_once(move || one.propose(0), move || other.propose(0));
        assert_eq!(door.answered(), 2);
    });
}

/// Nor one of three, of which one proposes again when it is answered.
#[test]
fn no_input_is_left_behind_by_three() {
    explore_bounded(3, || {
        let door = Door::new();
        let visitors = [0, 1, 0].map(|again| {
            let door = door.clone();
            spawn(move || door.propose(again))
        });
        for visitor in visitors {
            visitor.join().unwrap();
        }
        assert_eq!(door.answered(), 4);
    });
}

#[test]
fn who_looks_at_the_shard_leaves_no_input_behind() {
    explore(|| {
        let door = Door::new();
        let (one, other) = (door.clone(), door.clone());
        at_once(move || one.propose(0), move || other.entrance.look(|shard| assert!(shard.ids().is_empty())));
        assert_eq!(door.answered(), 1);
    });
}

#[test]
fn who_administers_the_shard_leaves_no_input_behind() {
    explore(|| {
        let door = Door::new();
        let (one, other) = (door.clone(), door.clone());
        at_once(move || one.propose(0), move || other.entrance.administer(|_, _| ()));
        assert_eq!(door.answered(), 1);
    });
}

/// What a callback brings in that runs beside the shard is taken along by its own thread, or by one that is inside.
#[test]
fn no_input_of_a_callback_beside_the_shard_is_left_behind() {
    explore(|| {
        let door = Door::new();
        let (one, other) = (door.clone(), door.clone());
        let beside = move || {
            let _aside = other.entrance.aside().unwrap();
            other.propose(0);
        };
        at_once(move || one.propose(0), beside);
        assert_eq!(door.answered(), 2);
    });
}

/// So is what callbacks bring in together, and what those bring in that are called from inside.
#[test]
fn no_input_of_callbacks_is_left_behind() {
    explore_bounded(4, || {
        let door = Door::new();
        let (one, other) = (door.clone(), door.clone());
        at_once(move || one.propose(1), move || other.entrance.together(|| other.propose(1)));
        assert_eq!(door.answered(), 4);
    });
}

/// A visitor of one shard that brings something into another wakes that one's timer, which takes it along. The same way
/// goes what a visitor leaves that has worked for others for long enough.
#[test]
fn the_timer_takes_along_what_a_visitor_leaves() {
    explore_bounded(3, || {
        let (door, elsewhere) = (Door::new(), Door::new());
        let sleeper = door.entrance.clone();
        let sleeper = spawn(move || timer::run(&sleeper));
        let inside = door.clone();
        elsewhere.entrance.together(|| inside.propose(0));
        while door.answered() == 0 {
            yield_now();
        }
        door.entrance.alarm.stop();
        sleeper.join().unwrap();
    });
}

#[test]
fn a_visitor_who_stays_for_too_long_is_relieved() {
    explore_bounded(1, || {
        let door = Door::new();
        let sleeper = door.entrance.clone();
        let sleeper = spawn(move || timer::run(&sleeper));
        // One round for each proposal.
        door.propose(ROUNDS);
        while door.answered() <= ROUNDS {
            yield_now();
        }
        door.entrance.alarm.stop();
        sleeper.join().unwrap();
        assert_eq!(door.entrance.alarm.counters().1, 1);
    });
}
