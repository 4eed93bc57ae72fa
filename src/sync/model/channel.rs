//! `crossbeam_channel` as far as it is used here, made of the model's locks.

use super::{Condvar, Mutex};
use crossbeam_channel::{RecvError, RecvTimeoutError, SendError};
pub(crate) use crossbeam_channel::{TryRecvError, TrySendError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receivers: usize,
}

pub(crate) struct Sender<T>(Arc<Shared<T>>);
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

/// A channel without capacity holds one here: it must not be used for a rendezvous.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { waiting: VecDeque::new(), capacity: capacity.max(1), senders: 1, receivers: 1 };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut state = self.0.state.lock();
        while state.receivers > 0 && state.waiting.len() >= state.capacity {
            self.0.changed.wait(&mut state);
        }
        if state.receivers == 0 {
            return Err(SendError(value));
        }
        state.waiting.push_back(value);
        self.0.changed.notify_all();
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        let state = self.0.state.lock();
        state.waiting.len() >= state.capacity
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.state.lock().waiting.is_empty()
    }

    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state.lock();
        if state.receivers == 0 {
            return Err(TrySendError::Disconnected(value));
        }
        if state.waiting.len() >= state.capacity {
            return Err(TrySendError::Full(value));
        }
        state.waiting.push_back(value);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.0.state.lock();
        let nothing = if state.senders == 0 { TryRecvError::Disconnected } else { TryRecvError::Empty };
        let value = state.waiting.pop_front().ok_or(nothing);
        self.0.changed.notify_all();
        value
    }

    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        self.recv_timeout(Duration::MAX).map_err(|_| RecvError)
    }

    pub(crate) fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(value) = state.waiting.pop_front() {
                self.0.changed.notify_all();
                return Ok(value);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            let over = self.0.changed.wait_for(&mut state, limit).timed_out();
            if over && state.waiting.is_empty() && state.senders > 0 {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }

    pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().receivers += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.state.lock().receivers -= 1;
        self.0.changed.notify_all();
    }
}
