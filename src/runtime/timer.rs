//! The timer thread: sleeps exactly to the next deadline of the shard (rows `l20`, `r06`).
//!
//! It is woken early only if a deadline moves forward; one that moves back it notices when it wakes. It also takes
//! over when a visitor of the shard has drained the inbox for long enough.

use super::clock::Clock;
use super::driver::ShardInput;
use super::shard::Entrance;
use crate::sync::{Arc, Condvar, Mutex};
use crate::time::Instant;

/// What the timer sleeps on.
#[derive(Default)]
pub(super) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// When to wake. Taken when it is due; set again by the next round of the shard.
    deadline: Option<Instant>,
    /// Somebody wants the inbox drained.
    rung: bool,
    stopped: bool,
    deadlines: u64,
    relieved: u64,
}

/// Why the timer woke.
enum Wake {
    Due,
    Rung,
    Stopped,
}

impl Alarm {
    /// The shard's next deadline, from now on.
    pub(super) fn set(&self, deadline: Option<Instant>) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.deadline, deadline);
        let earlier = deadline.is_some_and(|deadline| before.is_none_or(|before| deadline < before));
        if earlier {
            self.changed.notify_one();
        }
    }

    /// Asks the timer's thread to drain the inbox.
    pub(super) fn ring(&self) {
        let mut state = self.state.lock();
        state.rung = true;
        self.changed.notify_one();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Deadlines that came due, and rings heard.
    pub(super) fn counters(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.deadlines, state.relieved)
    }

    fn sleep(&self, clock: &Clock) -> Wake {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Wake::Stopped;
            }
            if std::mem::take(&mut state.rung) {
                state.relieved += 1;
                return Wake::Rung;
            }
            let Some(deadline) = state.deadline else {
                self.changed.wait(&mut state);
                continue;
            };
            let left = deadline.since(clock.now());
            if left.is_zero() {
                state.deadline = None;
                state.deadlines += 1;
                return Wake::Due;
            }
            self.changed.wait_for(&mut state, left);
        }
    }
}

/// Runs until the alarm is stopped.
pub(super) fn run(entrance: &Arc<Entrance>) {
    loop {
        match entrance.alarm.sleep(&entrance.clock) {
            Wake::Due => entrance.complete([ShardInput::Deadline]),
            Wake::Rung => entrance.enter(),
            Wake::Stopped => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use std::thread;

    /// `l20`, `r06`: it wakes at the deadline, not before.
    #[test]
    fn l20_the_timer_sleeps_to_the_deadline_and_not_less() {
        let (alarm, clock) = (Alarm::default(), Clock::system());
        let deadline = clock.now() + Duration::from_millis(20);
        alarm.set(Some(deadline));
        assert!(matches!(alarm.sleep(&clock), Wake::Due));
        assert!(clock.now() >= deadline);
    }

    /// `r06`: a deadline that moves forward wakes it, one that moves back does not fire.
    #[test]
    fn r06_an_earlier_deadline_wakes_the_timer() {
        let (alarm, clock) = (Alarm::default(), Clock::system());
        alarm.set(Some(clock.now() + Duration::from_secs(3600)));
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| matches!(alarm.sleep(&clock), Wake::Due));
            thread::sleep(Duration::from_millis(20));
            alarm.set(Some(clock.now()));
            assert!(sleeper.join().unwrap());
        });
    }

    #[test]
    fn a_ring_and_a_stop_wake_the_timer_without_a_deadline() {
        let (alarm, clock) = (Alarm::default(), Clock::system());
        alarm.ring();
        assert!(matches!(alarm.sleep(&clock), Wake::Rung));
        alarm.stop();
        assert!(matches!(alarm.sleep(&clock), Wake::Stopped));
    }
}

#[cfg(all(test, any(loom, shuttle)))]
mod models {
    use super::*;
    use crate::runtime::clock::{Clock, TimeSource};
    use crate::sync::model::{explore, spawn};

    /// A clock that stands still: what wakes the sleeper is a call, never time.
    struct Still;

    impl TimeSource for Still {
        fn boottime(&self) -> Instant {
            Instant::from_nanos(1)
        }
        fn monotonic(&self) -> Instant {
            Instant::from_nanos(1)
        }
    }

    /// Of an hour and more: a sleep of that length ends by a call alone.
    const LATER: [Instant; 2] = [Instant::from_nanos(8 << 50), Instant::from_nanos(7 << 50)];

    fn sleeping(alarm: &Arc<Alarm>, times: usize) -> crate::sync::model::JoinHandle<Vec<Wake>> {
        let alarm = alarm.clone();
        spawn(move || (0..times).map(|_| alarm.sleep(&Clock::of(Still))).collect())
    }

    /// `r06`: a deadline that is set while the timer falls asleep, or sleeps to a later one, is not slept through.
    #[test]
    fn r06_a_deadline_that_moves_forward_is_not_slept_through() {
        explore(|| {
            let alarm = Arc::new(Alarm::default());
            let sleeper = sleeping(&alarm, 1);
            LATER.iter().for_each(|deadline| alarm.set(Some(*deadline)));
            alarm.set(Some(Instant::ZERO));
            assert!(matches!(sleeper.join().unwrap()[..], [Wake::Due]));
        });
    }

    /// `r06`: nor is one that two threads set against each other; the one set last counts.
    #[test]
    fn r06_a_deadline_set_against_another_is_not_slept_through() {
        explore(|| {
            let alarm = Arc::new(Alarm::default());
            let other = alarm.clone();
            let sleeper = sleeping(&alarm, 1);
            let other = spawn(move || other.set(Some(LATER[0])));
            alarm.set(None);
            other.join().unwrap();
            alarm.set(Some(Instant::ZERO));
            assert!(matches!(sleeper.join().unwrap()[..], [Wake::Due]));
        });
    }

    /// A ring and a stop end the sleep, whenever they come.
    #[test]
    fn a_ring_and_the_end_are_heard() {
        explore(|| {
            let alarm = Arc::new(Alarm::default());
            let sleeper = sleeping(&alarm, 1);
            alarm.ring();
            assert!(matches!(sleeper.join().unwrap()[..], [Wake::Rung]));
            let sleeper = sleeping(&alarm, 1);
            alarm.stop();
            assert!(matches!(sleeper.join().unwrap()[..], [Wake::Stopped]));
        });
    }
}
