//! The threads of a node, so that none outlives it (row `l01`).

use std::io;
use std::thread::{self, JoinHandle};

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

    /// Joins every thread that ends within `timeout`, except the one that asks. Returns the names of the others, which
    /// may be asked for again. Several may ask at once: each waits.
    pub(super) fn join(&self, timeout: Duration) -> Vec<String> {
        let deadline = std::time::Instant::now().checked_add(timeout);
        let me = thread::current().id();
        let others = |running: &&mut Running| running.handle.thread().id() != me;
        let ends: Vec<_> = self.running.lock().iter_mut().filter(others).map(|other| other.ended.clone()).collect();
        for ended in ends {
            let _ = match deadline {
                Some(deadline) => ended.recv_deadline(deadline).is_err(),
                None => ended.recv().is_err(),
            };
        }
        let ended = |running: &mut Running| running.ended.try_recv() == Err(channel::TryRecvError::Disconnected);
        let mut running = self.running.lock();
        let over: Vec<_> = running.extract_if(.., ended).collect();
        let names = running.iter_mut().filter(others).map(|other| other.name.clone()).collect();
        drop(running);
        for thread in over {
            // It has left its body; an error means that it panicked, which the panic hook has reported.
            let _ = thread.handle.join();
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
