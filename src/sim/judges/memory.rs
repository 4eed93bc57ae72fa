//! Memory: queues, caches and windows stay within their limits.

use super::{Verdict, require};
use crate::config::Limits;
use crate::core::Core;

/// What a node holds beside its core.
pub(in crate::sim) struct Gauges {
    /// Commands whose proposers wait.
    pub(in crate::sim) waiting_proposals: usize,
    /// Payload bytes that wait for the log's device.
    pub(in crate::sim) unwritten_bytes: usize,
    /// Payload bytes handed to a state machine that has not applied them.
    pub(in crate::sim) unapplied_bytes: usize,
}

/// The peers' windows and the uncommitted entries are among the core's own invariants.
pub(in crate::sim) fn memory(id: u64, core: &Core, gauges: &Gauges) -> Verdict {
    let Limits {
        uncommitted_entries, uncommitted_bytes, append_bytes, command_bytes, apply_bytes, cache_bytes, ..
    } = core.config().limits;
    let Gauges { waiting_proposals, unwritten_bytes, unapplied_bytes } = *gauges;
    let limit = uncommitted_entries;
    require(waiting_proposals <= limit, "bounded memory", id, || format!("{waiting_proposals} proposals wait"))?;
    let limit = uncommitted_bytes + append_bytes + command_bytes;
    require(unwritten_bytes <= limit, "bounded memory", id, || format!("{unwritten_bytes} bytes wait for the disk"))?;
    let limit = apply_bytes + command_bytes;
    require(unapplied_bytes <= limit, "bounded memory", id, || format!("{unapplied_bytes} bytes wait to be applied"))?;
    // What is not durable or not sent yet stays in memory whatever the budget says; it has limits of its own.
    let pinned = core.config().limits.uncommitted_bytes;
    let held = core.log().cache_bytes();
    require(held <= cache_bytes + pinned, "bounded memory", id, || format!("the log's tail takes {held} bytes"))
}
