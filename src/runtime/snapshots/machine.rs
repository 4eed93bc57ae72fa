//! The state machine's end of snapshots, on its apply thread: between two calls of `apply`, it hands one out or is
//! replaced by one.

use slog::{info, warn};
use std::mem;
use std::time::Instant as Stopwatch;

use super::take::Take;
use super::{Shelf, TakeError};
use crate::runtime::apply::{Applier, Backlog, guarded};
use crate::runtime::driver::ShardInput;
use crate::runtime::reply::SnapshotReply;
use crate::state_machine::{ApplyError, StateMachine};
use crate::sync::Arc;
use crate::types::EntryId;

impl<S: StateMachine> Applier<S> {
    /// Replaces the state by the snapshot that was fetched, if there is one and it goes further than what is applied.
    pub(in crate::runtime) fn restore(&mut self, backlog: &mut Backlog) -> Result<(), ApplyError> {
        if self.annex.queue.is_closed() {
            return Ok(());
        }
        let (Some(restore), Some(shelf)) = (backlog.restore.take(), self.annex.shelf.clone()) else { return Ok(()) };
        let (snapshot, configuration) = *restore;
        let (group, last, watch) = (self.group, snapshot.last(), Stopwatch::now());
        let contradicts = self.entrance.look(|shard| shard.core(group).and_then(|core| core.contradiction(last)));
        let further = last.index > self.applied && contradicts.is_none();
        if further {
            guarded(|| self.machine.restore(&snapshot.files()))?;
            (self.applied, backlog.last) = (last.index, last.index);
            self.pace.restart();
            self.annex.note_applied(last.index);
            info!(self.logger, "restored a snapshot"; "group" => %group, "last" => %last, "took" => ?watch.elapsed());
        }
        if further || contradicts.is_some() {
            let at = snapshot.manifest().about().configuration.0;
            let configuration = (at, configuration);
            self.entrance.complete([ShardInput::SnapshotInstalled { group, last, configuration }]);
        } else {
            self.entrance.complete([ShardInput::SnapshotTaken { group, last }]);
        }
        shelf.fetch_over(further);
        Ok(())
    }

    /// Hands out a snapshot if somebody wants one or it is time, and none is being made.
    pub(in crate::runtime) fn take_snapshot(&mut self, backlog: &mut Backlog) -> Result<(), ApplyError> {
        if mem::take(&mut backlog.failed) {
            self.pace.failed();
        }
        if backlog.wishes.is_empty() && !backlog.pressed && !backlog.damaged && !self.pace.is_due() {
            return Ok(());
        }
        let Some(shelf) = self.annex.shelf.clone() else {
            self.answer(&mut backlog.wishes, &Err(TakeError::Unsupported));
            self.pace.restart();
            return Ok(());
        };
        if !shelf.begin_taking() {
            return Ok(());
        }
        let pressed = mem::take(&mut backlog.pressed);
        let needed = backlog.damaged || self.pace.is_overdue();
        if mem::take(&mut backlog.damaged) {
            warn!(self.logger, "a snapshot is damaged; another one is taken"; "group" => %self.group);
        }
        self.pace.restart();
        match self.begin_snapshot(&shelf, &mut backlog.wishes, pressed)? {
            Ok(()) => {}
            Err(answer) => {
                shelf.not_taken();
                self.answer(&mut backlog.wishes, &answer);
                if needed && answer.is_err() {
                    self.pace.failed();
                }
                if pressed {
                    // There is nothing new, or nothing to be had: what the newest covers can go.
                    self.entrance.complete([ShardInput::LogTooLong { group: self.group }]);
                }
            }
        }
        Ok(())
    }

    /// Passes a source on to the snapshot thread, with those who wait; inside, the answer if there is nothing to pass on.
    fn begin_snapshot(
        &mut self,
        shelf: &Arc<Shelf>,
        wishes: &mut Vec<SnapshotReply>,
        pressed: bool,
    ) -> Result<Result<(), Result<EntryId, TakeError>>, ApplyError> {
        let newest = shelf.store.newest().map(|newest| newest.last());
        if let Some(newest) = newest.filter(|newest| newest.index >= self.applied) {
            return Ok(Err(Ok(newest)));
        }
        let labelled =
            self.entrance.look(|shard| shard.core(self.group).and_then(|core| core.snapshot_at(self.applied)));
        let labelled = labelled.filter(|(last, _)| *last != EntryId::ZERO);
        let (Some((last, configuration)), Some(library)) = (labelled, &self.library) else {
            return Ok(Err(Err(TakeError::Empty)));
        };
        let Some(source) = guarded(|| self.machine.snapshot())? else { return Ok(Err(Err(TakeError::Unsupported))) };
        let replies = mem::take(wishes);
        self.annex.queue.release(replies.len());
        let (annex, shelf) = (self.annex.clone(), shelf.clone());
        library.takes.push(Take { annex, shelf, last, configuration, source, replies, pressed });
        Ok(Ok(()))
    }

    fn answer(&self, wishes: &mut Vec<SnapshotReply>, answer: &Result<EntryId, TakeError>) {
        self.annex.queue.release(wishes.len());
        for reply in wishes.drain(..) {
            reply.answered(answer.clone());
        }
    }
}
