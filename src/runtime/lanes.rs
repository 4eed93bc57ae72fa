//! Counters of what many threads do all the time without a lock: each thread counts in a lane of its own, so that none
//! waits for another's cache line.

use super::annex::{Known, Padded};
use crate::core::Consistency;
use crate::metrics::ReadCounters;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::sync::atomic::AtomicUsize;

/// Threads beyond this many share lanes.
const LANES: usize = 16;

/// Reads answered without the shard.
pub(super) struct ReadLanes([Padded<Lane>; LANES]);

#[derive(Default)]
struct Lane {
    lease: AtomicU64,
    lease_waited: AtomicU64,
    local: AtomicU64,
}

impl ReadLanes {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Padded(Lane::default())))
    }

    /// Counts a read that was answered by what was known in a group's annex.
    pub(super) fn count(&self, consistency: Consistency, known: Known) {
        let lane = &self.0[MINE.with(|lane| *lane)].0;
        let counter = match (consistency, known) {
            (Consistency::Local, _) => &lane.local,
            (_, Known::Applied(_)) => &lane.lease,
            (_, Known::Awaited(_)) => &lane.lease_waited,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> ReadCounters {
        let mut sum = ReadCounters::default();
        for Padded(Lane { lease, lease_waited, local }) in &self.0 {
            sum.lease += lease.load(Ordering::Relaxed);
            sum.lease_waited += lease_waited.load(Ordering::Relaxed);
            sum.local += local.load(Ordering::Relaxed);
        }
        sum
    }
}

// A real one always: a model checker's cannot live longer than one of its runs.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The lane of this thread, in every node of the process.
    static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % LANES;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Index;

    #[test]
    fn what_every_thread_counts_adds_up() {
        let lanes = ReadLanes::new();
        let known = [Known::Applied(Index(1)), Known::Awaited(Index(2))];
        std::thread::scope(|scope| {
            for _ in 0..2 * LANES {
                scope.spawn(|| {
                    for _ in 0..100 {
                        known.iter().for_each(|known| lanes.count(Consistency::Lease, *known));
                    }
                    lanes.count(Consistency::Local, known[0]);
                });
            }
        });
        let threads = 2 * LANES as u64;
        let sum = ReadCounters { lease: 100 * threads, lease_waited: 100 * threads, local: threads };
        assert_eq!(lanes.counters(), sum);
    }
}
