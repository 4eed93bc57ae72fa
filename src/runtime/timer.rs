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
