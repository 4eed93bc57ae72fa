//! The threads of a node, so that none outlives it (row `l01`).

use std::io;

use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Mutex, channel};
use crate::time::Duration;

/// Every thread that was started and not yet joined.
#[derive(Default)]
pub(super) struct Threads {
    running: Mutex<Vec<Running>>,
}

struct Running {
    name: String,
    handle: JoinHandle<()>,
    /// Carries nothing; disconnects when the thread has ended. `JoinHandle` cannot wait with a limit.
    ended: channel::Receiver<()>,
}

impl Threads {
    /// Starts a thread under a name that tells what it is for (the kernel keeps 15 bytes of it).
    pub(super) fn spawn(&self, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (alive, ended) = channel::bounded::<()>(0);
        let handle = thread::Builder::new().name(name.clone()).spawn(move || {
            let _alive = alive;
            body();
        })?;
        self.running.lock().push(Running { name, handle, ended });
        Ok(())
    }

    /// Joins every thread that ends within `timeout`, those that are started meanwhile included, except the one that asks.
    /// Returns the names of the others, which may be asked for again. Several may ask at once: each waits.
    pub(super) fn join(&self, timeout: Duration) -> Vec<String> {
        let deadline = std::time::Instant::now().checked_add(timeout);
        loop {
            let others = self.others();
            let stuck = others.iter().filter(|(_, ended)| !ends(ended, deadline));
            let stuck: Vec<_> = stuck.map(|(name, _)| name.clone()).collect();
            self.join_ended();
            if others.is_empty() || !stuck.is_empty() {
                return stuck;
            }
        }
    }

    fn others(&self) -> Vec<(String, channel::Receiver<()>)> {
        let me = thread::current().id();
        let running = self.running.lock();
        let others = running.iter().filter(|running| running.handle.thread().id() != me);
        others.map(|other| (other.name.clone(), other.ended.clone())).collect()
    }

    fn join_ended(&self) {
        let over: Vec<_> = self.running.lock().extract_if(.., |running| is_over(&running.ended)).collect();
        for thread in over {
            // It has left its body; an error means that it panicked, which the panic hook has reported.
            let _ = thread.handle.join();
        }
    }
}

fn is_over(ended: &channel::Receiver<()>) -> bool {
    ended.try_recv() == Err(channel::TryRecvError::Disconnected)
}

/// Waits for the end of a thread; `false` if it has not come by the deadline.
fn ends(ended: &channel::Receiver<()>, deadline: Option<std::time::Instant>) -> bool {
    let _ = match deadline {
        Some(deadline) => ended.recv_deadline(deadline).is_err(),
        None => ended.recv().is_err(),
    };
    is_over(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use crate::sync::atomic::{AtomicBool, Ordering};

    /// `l01`: joining is bounded, says who did not end, and can be repeated.
    #[test]
    fn l01_joining_is_bounded_and_names_who_is_stuck() {
        let threads = Threads::default();
        let (release, gate) = channel::bounded::<()>(0);
        threads.spawn("quick".to_owned(), || ()).unwrap();
        threads.spawn("stuck".to_owned(), move || assert!(gate.recv().is_err())).unwrap();
        assert_eq!(threads.join(Duration::from_millis(50)), ["stuck"]);
        drop(release);
        assert!(threads.join(Duration::from_secs(10)).is_empty());
    }

    /// Who asks while somebody else is waiting is not told that everything has ended.
    #[test]
    fn joining_twice_at_once_waits_twice() {
        let threads = Threads::default();
        let (release, gate) = channel::bounded::<()>(0);
        threads.spawn("stuck".to_owned(), move || assert!(gate.recv().is_err())).unwrap();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| threads.join(Duration::from_secs(10)));
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(threads.join(Duration::from_millis(10)), ["stuck"]);
            drop(release);
            assert!(first.join().unwrap().is_empty());
        });
    }

    /// `l01`: a thread that is started while the others are joined is waited for as well.
    #[test]
    fn l01_a_thread_that_is_started_meanwhile_is_joined_too() {
        let (threads, over) = (Arc::new(Threads::default()), Arc::new(AtomicBool::new(false)));
        let (starting, ending) = (threads.clone(), over.clone());
        let late = move || {
            std::thread::sleep(Duration::from_millis(100));
            ending.store(true, Ordering::Relaxed);
        };
        let first = move || {
            std::thread::sleep(Duration::from_millis(50));
            starting.spawn("late".to_owned(), late).unwrap();
        };
        threads.spawn("first".to_owned(), first).unwrap();
        assert!(threads.join(Duration::from_secs(10)).is_empty());
        assert!(over.load(Ordering::Relaxed));
    }
}
