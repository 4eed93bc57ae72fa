//! Who looks on: what must hold in a whole cluster, at every event. Each check has a name.
//!
//! Judges see what nobody in the cluster can see: all disks, all clocks, the true order of things. They only look; what
//! they know they are told by the world when it happens.

mod chain;
mod fates;
mod leases;
mod logs;
mod memory;
mod snapshots;
mod votes;

use std::fmt;

use super::world::BEGINNING;
use crate::time::Instant;
use crate::types::NodeId;

pub(super) use fates::Fates;
pub(super) use leases::Leases;
pub(super) use logs::Logs;
pub(super) use memory::{Gauges, memory};
pub(super) use votes::Votes;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The check that noticed.
    pub judge: &'static str,
    /// When, in true time; the beginning of time if it was noticed afterwards.
    pub at: Instant,
    /// Where, if it was in one place.
    pub node: Option<NodeId>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.at.since(Instant::ZERO + BEGINNING);
        write!(f, "{}: after {:.1} ms", self.judge, since.as_secs_f64() * 1e3)?;
        if let Some(node) = self.node {
            write!(f, " on {node}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Whether everything is as it must be. The world adds the time.
pub(super) type Verdict = Result<(), Violation>;

/// A broken promise, noticed by `judge`.
pub(super) fn broken(judge: &'static str, node: u64, what: String) -> Verdict {
    Err(Violation { judge, at: Instant::ZERO, node: Some(NodeId(node)), what })
}

/// As a verdict: `holds`, or what is broken.
pub(super) fn require(holds: bool, judge: &'static str, node: u64, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { broken(judge, node, what()) }
}

/// Mixes `value` into a running hash.
pub(super) fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95)
}
