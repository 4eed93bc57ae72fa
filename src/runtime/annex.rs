//! What of a group stands beside its shard, for any thread: the lease as others may use it, how far the state machine
//! is, and the queue in front of that.

use super::apply::ApplyQueue;
use super::clock::Clock;
use super::lease::PublishedLease;
use super::snapshots::Shelf;
use crate::core::Consistency;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::types::Index;

/// Shared by a group's handles, its apply thread and the shard.
pub(super) struct Annex {
    pub(super) queue: ApplyQueue,
    /// None if its node keeps no snapshots.
    pub(super) shelf: Option<Arc<Shelf>>,
    /// Written by the holder of the shard's lock.
    pub(super) lease: Padded<PublishedLease>,
    /// The last index whose effect is in the state machine. Written by the apply thread.
    applied: Padded<AtomicU64>,
    /// The group runs: it has neither stopped nor been closed.
    open: AtomicBool,
}

/// Has its cache lines for itself: what some threads write all the time, others only want to read.
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// What a read must wait for, found without entering the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: the state machine has applied this and may be read.
    Applied(Index),
    /// The state machine has to come so far.
    Awaited(Index),
}

impl Annex {
    /// Of a group whose state machine has `applied` so much and takes so many reads that wait for it.
    pub(super) fn new(applied: Index, max_reads: usize, shelf: Option<Arc<Shelf>>) -> Self {
        Self {
            shelf,
            queue: ApplyQueue::new(max_reads),
            lease: Padded(PublishedLease::none()),
            applied: Padded(AtomicU64::new(applied.0)),
            open: AtomicBool::new(true),
        }
    }

    /// Notes that the state machine has everything up to `index`. Release: whoever finds the index here finds its effect
    /// in what the state machine shares.
    pub(super) fn note_applied(&self, index: Index) {
        self.applied.0.store(index.0, Ordering::Release);
    }

    pub(super) fn applied(&self) -> Index {
        Index(self.applied.0.load(Ordering::Acquire))
    }

    /// The group runs no more: from now on the shard says why.
    pub(super) fn shut(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// What a read of this consistency must wait for, as far as can be told from here. `None`: ask the shard.
    pub(super) fn known(&self, consistency: Consistency, clock: &Clock) -> Option<Known> {
        // First the lease, then how far the state machine is.
        let applied_or_not = |index| match self.applied() {
            applied if applied >= index => Known::Applied(index),
            _ => Known::Awaited(index),
        };
        match consistency {
            Consistency::Local if self.open.load(Ordering::Relaxed) => Some(Known::Applied(self.applied())),
            Consistency::Lease => self.lease.0.read_index(|| clock.now()).map(applied_or_not),
            _ => None,
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::core::Lease;
    use crate::sync::model::{explore, spawn};
    use crate::time::Instant;

    /// `p07`: who is told that an index is applied finds its effect in what the state machine shares, however that is
    /// shared; and a lease's read waits for what is not.
    #[test]
    fn p07_what_is_called_applied_has_had_its_effect() {
        explore(|| {
            let (annex, effect) = (Arc::new(Annex::new(Index(0), 1, None)), Arc::new(AtomicU64::new(0)));
            let lease = Lease { epoch: 0, read_index: Index(2), until: Instant::from_nanos(u64::MAX) };
            annex.lease.0.publish(Some(lease));
            let (applier, shared) = (annex.clone(), effect.clone());
            let applier = spawn(move || {
                for index in 1..=2 {
                    shared.store(index, Ordering::Relaxed);
                    applier.note_applied(Index(index));
                }
            });
            let clock = Clock::system();
            let Some(Known::Applied(index)) = annex.known(Consistency::Local, &clock) else { panic!("it is open") };
            assert!(effect.load(Ordering::Relaxed) >= index.0, "{index} has had no effect");
            if annex.known(Consistency::Lease, &clock) == Some(Known::Applied(Index(2))) {
                assert_eq!(effect.load(Ordering::Relaxed), 2);
            }
            applier.join().unwrap();
        });
    }

    /// Who hears that a group has stopped, and then asks, is sent to the shard.
    #[test]
    fn a_group_that_is_known_to_have_stopped_answers_no_local_read() {
        explore(|| {
            let (annex, told) = (Arc::new(Annex::new(Index(1), 1, None)), Arc::new(AtomicU64::new(0)));
            let (stopping, tells) = (annex.clone(), told.clone());
            let stopping = spawn(move || {
                stopping.shut();
                tells.store(1, Ordering::Release);
            });
            let heard = told.load(Ordering::Acquire) == 1;
            let known = annex.known(Consistency::Local, &Clock::system());
            assert!(known.is_none() || !heard);
            stopping.join().unwrap();
        });
    }
}
