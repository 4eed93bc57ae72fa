//! A queue with one thread at its end, which sleeps until there is something to take (row `s02`: no polling).
//!
//! Unbounded here: what is pushed is bounded by what a core hands out before it hears back, see the users.

use crate::sync::{Condvar, Mutex};
use crate::time::Duration;

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    items: Vec<T>,
    closed: bool,
    /// How often a push found the thread asleep: the hand-offs that cost (performance: some 30 us each across cores).
    wake_ups: u64,
}

/// What a [`Queue::take`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// At least one item.
    Items,
    /// Nothing came for as long as the caller was willing to wait.
    Idle,
    /// Closed; what was still waiting is left to [`Queue::drain`].
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let state = State { items: Vec::new(), closed: false, wake_ups: 0 };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Adds `item` at the end. `false`: the queue is closed, the item is dropped.
    pub(super) fn push(&self, item: T) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            // Dropping may run a caller's code.
            drop(state);
            return false;
        }
        state.items.push(item);
        state.wake_ups += u64::from(self.filled.notify_one());
        true
    }

    /// Moves everything out of `items` to the end of the queue. A closed queue drops it.
    pub(super) fn push_all(&self, items: &mut Vec<T>) {
        if items.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if !state.closed {
            state.items.append(items);
            state.wake_ups += u64::from(self.filled.notify_one());
        }
        drop(state);
        items.clear();
    }

    /// Sleeps until there is something, then swaps all of it into `into`, which must be empty. With `patience`, gives
    /// up after that long.
    pub(super) fn take(&self, into: &mut Vec<T>, patience: Option<Duration>) -> Taken {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Taken::Closed;
            }
            if !state.items.is_empty() {
                std::mem::swap(&mut state.items, into);
                return Taken::Items;
            }
            match patience {
                None => self.filled.wait(&mut state),
                Some(patience) => {
                    let timed_out = self.filled.wait_for(&mut state, patience).timed_out();
                    if timed_out && state.items.is_empty() && !state.closed {
                        return Taken::Idle;
                    }
                }
            }
        }
    }

    /// Ends the queue: its thread is woken, later pushes are dropped.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }

    /// What is left, after a [`close`](Self::close).
    pub(super) fn drain(&self) -> Vec<T> {
        std::mem::take(&mut self.state.lock().items)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(super) fn wake_ups(&self) -> u64 {
        self.state.lock().wake_ups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_hands_over_in_order_and_everything_at_once() {
        let queue = Queue::new();
        queue.push(1);
        queue.push_all(&mut vec![2, 3]);
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken, None), Taken::Items);
        assert_eq!(taken, [1, 2, 3]);
    }

    #[test]
    fn a_patient_taker_gives_up_and_a_closed_queue_ends_it() {
        let queue = Queue::<u8>::new();
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken, Some(Duration::from_millis(1))), Taken::Idle);
        queue.push(1);
        queue.close();
        queue.push(2);
        assert_eq!(queue.take(&mut taken, None), Taken::Closed);
        assert_eq!(queue.drain(), [1]);
    }

    /// `s02`: the thread sleeps in between, and a push wakes it.
    #[test]
    fn s02_a_push_wakes_the_sleeping_thread() {
        let queue = Queue::new();
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let mut taken = Vec::new();
                (queue.take(&mut taken, None), taken)
            });
            std::thread::sleep(Duration::from_millis(20));
            queue.push(7);
            assert_eq!(taker.join().unwrap(), (Taken::Items, vec![7]));
        });
    }
}

#[cfg(all(test, any(loom, shuttle)))]
#[path = "queue_models.rs"]
mod models;
