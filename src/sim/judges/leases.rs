//! Reads: at any true time at most one node may read under a lease (`docs/safety.md`), and no read misses what it must
//! see.

use super::{Verdict, require};
use crate::core::{Consistency, Lease};
use crate::time::{Duration, Instant};
use crate::types::Index;

/// The newest index acknowledged to anybody, at every time.
#[derive(Default)]
pub(in crate::sim) struct Leases {
    acknowledged: Vec<(Instant, Index)>,
}

impl Leases {
    /// Somebody knows, from now on, that everything up to `index` is committed.
    pub(in crate::sim) fn acknowledged(&mut self, now: Instant, index: Index) {
        if index > self.newest() {
            self.acknowledged.push((now, index));
        }
    }

    fn newest(&self) -> Index {
        self.acknowledged.last().map_or(Index::ZERO, |(_, index)| *index)
    }

    fn before(&self, time: Instant) -> Index {
        let earlier = self.acknowledged.partition_point(|(at, _)| *at < time);
        self.acknowledged[..earlier].last().map_or(Index::ZERO, |(_, index)| *index)
    }

    /// What a read asked for at `now` must see, if no clock's rate is off by more than `drift_ppm`.
    pub(in crate::sim) fn floor(&self, consistency: Consistency, now: Instant, drift_ppm: u32) -> Index {
        match consistency {
            Consistency::Linearizable | Consistency::Lease => self.newest(),
            Consistency::Follower(staleness) => self.before(now - slow(staleness, drift_ppm)),
            _ => Index::ZERO,
        }
    }

    /// The leases that can be used now, each with its node.
    pub(in crate::sim) fn judge(&self, usable: &[(u64, Lease)]) -> Verdict {
        let Some((id, lease)) = usable.first() else { return Ok(()) };
        require(usable.len() == 1, "lease exclusivity", *id, || format!("{usable:?} at one time"))?;
        let newest = self.newest();
        require(lease.read_index >= newest, "a lease covers what is acknowledged", *id, || {
            format!("it would read at {}, {newest} is acknowledged", lease.read_index)
        })
    }

    /// A read that had to see `floor` was answered.
    pub(in crate::sim) fn read(
        &mut self,
        id: u64,
        now: Instant,
        consistency: Consistency,
        floor: Index,
        index: Index,
    ) -> Verdict {
        require(index >= floor, "no stale read", id, || {
            format!("{consistency:?} saw {index}, {floor} was acknowledged")
        })?;
        if matches!(consistency, Consistency::Linearizable | Consistency::Lease) {
            // What was read is known: no later read may miss it.
            self.acknowledged(now, index);
        }
        Ok(())
    }
}

/// The true time that passes while the slowest clock allowed shows `time`.
fn slow(time: Duration, drift_ppm: u32) -> Duration {
    time * 1_000_000 / (1_000_000 - drift_ppm) + Duration::from_nanos(1)
}
