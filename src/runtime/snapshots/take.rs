//! The snapshot thread: turns what a state machine hands out into a durable snapshot, while the machine goes on.

use bytes::Bytes;
use slog::{Logger, info, warn};
use std::time::{Instant as Stopwatch, SystemTime, UNIX_EPOCH};

use super::{Library, Shelf, TakeError};
use crate::runtime::annex::Annex;
use crate::runtime::apply::guarded;
use crate::runtime::driver::ShardInput;
use crate::runtime::queue::Taken;
use crate::runtime::reply::SnapshotReply;
use crate::runtime::shard::Entrance;
use crate::snapshot::SnapshotError;
use crate::state_machine::{ApplyError, SnapshotSource};
use crate::sync::Arc;
use crate::types::{EntryId, Index};

/// A snapshot to be made.
pub(in crate::runtime) struct Take {
    pub(in crate::runtime) annex: Arc<Annex>,
    pub(in crate::runtime) shelf: Arc<Shelf>,
    pub(in crate::runtime) last: EntryId,
    pub(in crate::runtime) configuration: (Index, Bytes),
    pub(in crate::runtime) source: SnapshotSource,
    /// Who asked for it.
    pub(in crate::runtime) replies: Vec<SnapshotReply>,
    /// The log is too long: nothing of what the snapshot covers stays.
    pub(in crate::runtime) pressed: bool,
}

/// The thread's own state.
pub(in crate::runtime) struct Taker {
    pub(in crate::runtime) library: Arc<Library>,
    pub(in crate::runtime) entrance: Arc<Entrance>,
    pub(in crate::runtime) logger: Logger,
}

impl Taker {
    /// Runs until the library is closed.
    pub(in crate::runtime) fn run(&self) {
        let mut takes = Vec::new();
        while self.library.takes.take(&mut takes, None) == Taken::Items {
            for take in takes.drain(..) {
                self.carry_out(take);
            }
        }
    }

    fn carry_out(&self, take: Take) {
        let Take { annex, shelf, last, configuration, source, replies, pressed } = take;
        let (group, watch) = (shelf.group, Stopwatch::now());
        let go_on = || !self.library.takes.is_closed();
        // The source is the state machine's code.
        let made = match guarded(|| Ok(shelf.store.make(last, configuration, now_ms(), source, &go_on))) {
            // Another node's was installed meanwhile, or this very one was there: as good.
            Ok(Err(SnapshotError::Stale { .. })) => shelf.store.newest().ok_or(SnapshotError::Busy.to_string()),
            Ok(made) => made.map_err(|error| error.to_string()),
            Err(ApplyError(panicked)) => Err(panicked),
        };
        if !go_on() {
            // Dropping the replies tells those who wait that the node was shut down.
            return;
        }
        shelf.taken(&made);
        let answer = match &made {
            Ok(snapshot) => {
                info!(self.logger, "took a snapshot"; "group" => %group, "last" => %snapshot.last(),
                    "bytes" => snapshot.manifest().bytes(), "took" => ?watch.elapsed());
                let too_long = pressed.then_some(ShardInput::LogTooLong { group });
                let taken = ShardInput::SnapshotTaken { group, last: snapshot.last() };
                self.entrance.complete([taken].into_iter().chain(too_long));
                Ok(snapshot.last())
            }
            Err(error) => {
                warn!(self.logger, "no snapshot was taken; the log stays as it is"; "group" => %group, "error" => error);
                Err(TakeError::Failed(error.clone()))
            }
        };
        for reply in replies {
            reply.answered(answer.clone());
        }
        annex.queue.push_snapshot_over(made.is_err());
    }
}

/// The time for people to read.
pub(in crate::runtime) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
