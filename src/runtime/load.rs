//! The load thread: brings back entries that a core no longer has in memory, so that no lock is held over a disk read.

use slog::{Logger, crit, debug};

use super::driver::ShardInput;
use super::queue::{Queue, Taken};
use super::shard::Entrance;
use crate::core::Load;
use crate::log::Entry;
use crate::sync::Arc;
use crate::types::GroupId;

/// What waits to be loaded. Bounded: a core asks for one range per peer and one for its state machine at a time.
pub(super) type LoadQueue = Queue<(GroupId, Load)>;

/// Answers loads with `read` until the queue is closed. `read` finds nothing where the log does not hold the entries:
/// they were asked for and then truncated, which is no failure (bug `b46`).
pub(super) fn run<E: std::fmt::Display>(
    queue: &LoadQueue,
    read: impl Fn(GroupId, &Load) -> Result<Option<Vec<Entry>>, E>,
    entrance: &Arc<Entrance>,
    logger: &Logger,
) {
    let mut loads = Vec::new();
    while queue.take(&mut loads, None) == Taken::Items {
        for (group, load) in loads.drain(..) {
            let entries = read(group, &load);
            let Load { first, last, .. } = &load;
            match &entries {
                Ok(Some(_)) => {}
                Ok(None) => debug!(logger, "entries are not in the log any more";
                    "group" => %group, "first" => %first, "last" => %last),
                Err(error) => crit!(logger, "entries cannot be read from the log";
                    "group" => %group, "first" => %first, "last" => %last, "error" => %error),
            }
            entrance.complete([ShardInput::Loaded { group, load, entries: entries.ok().flatten() }]);
        }
    }
}
