//! What a node's shard wants done is done: to its disk, its state machine, and whoever waits.

use super::judges::{Gauges, broken, memory, require};
use super::node::{GROUP, Life, Wanted};
use super::notation;
use super::snapshots::refuse_covered;
use super::trace::Scene;
use super::world::{Happening, World};
use crate::core::{Abdication, Core, Event, Lease, Load, RoleKind};
use crate::log::EntryKind;
use crate::runtime::ReadError;
use crate::runtime::batch::{batch_len, newest, payload_bytes, split_long};
use crate::runtime::driver::{Committed, ShardInput};
use crate::state_machine::{Command, StateMachine};
use crate::time::Duration;
use crate::types::NodeId;
use crate::wal::WalError;

/// How long nothing must come before the log is noted to be durable, as in the runtime.
const IDLE: Duration = Duration::from_millis(20);

/// So many bytes of the log are copied forward in a step, as in the runtime.
const TIDY_BYTES: usize = 64 << 10;

/// Every so many entries the digests of state machines are compared.
const DIGEST_EVERY: u64 = 64;

impl<M: StateMachine> World<M> {
    pub(super) fn carry_out(&mut self, id: u64, mut wanted: Wanted) {
        if std::mem::take(&mut wanted.lease_told_late) {
            self.judge(broken("a lease is told first", id, "something was wanted before it".to_owned()));
        }
        if let Some(lease) = wanted.lease.take() {
            self.publish(id, lease);
        }
        // Writes are known to the judges before the messages that say so, but not to the disk.
        let fresh: Vec<_> = wanted.writes.drain(..).collect();
        let leads = self.core(id).map(Core::pulse).filter(|pulse| pulse.role == RoleKind::Leader);
        for write in &fresh {
            self.tally.compactions += u64::from(write.compaction.is_some());
            let verdict = self.logs.written(id, write, leads.map(|pulse| pulse.term));
            self.judge(verdict);
        }
        for event in wanted.events.drain(..) {
            self.observe(id, event);
        }
        if std::mem::take(&mut wanted.silence) {
            self.fall_silent(id);
        }
        self.send(id, &mut wanted.messages);
        let incarnation = self.node(id).incarnation;
        for load in wanted.loads.drain(..) {
            let delay = Duration::from_micros(self.dice.number(10, 2000));
            self.schedule(delay, Happening::Loaded { node: id, incarnation, load });
        }
        self.take_in(id, &mut wanted.applies);
        if let Some(life) = &mut self.node_mut(id).life {
            life.writes.extend(fresh.into_iter().map(|write| (GROUP, write)));
            life.waiting_reads.append(&mut wanted.reads);
        }
        self.begin_write(id);
        self.answer_reads(id);
        if let Some(install) = wanted.install.take() {
            self.offered(id, install);
        }
        for answer in wanted.answers.drain(..) {
            answer.give();
        }
        self.return_buffer(wanted);
    }

    /// For the state machine, but for what it has in it already because it was restored meanwhile.
    fn take_in(&mut self, id: u64, entries: &mut Vec<Committed>) {
        let Some(life) = &mut self.node_mut(id).life else { return };
        let (installed, first) = (life.desk.installed.1, entries.first().map(|committed| committed.entry.id.index));
        life.backlog.extend(entries.drain(..));
        let (covered, applied) = (life.covered(), life.applied);
        refuse_covered(covered, applied);
        self.judge(require(first.is_none_or(|first| first > installed), "applied in order", id, || {
            format!("{first:?} is handed out, and the snapshot up to {installed} was installed")
        }));
    }

    // ---- events ----------------------------------------------------------------------------------------------------

    fn observe(&mut self, id: u64, event: Event) {
        let node = NodeId(id);
        if !matches!(event, Event::Role { .. }) {
            self.trace.record(self.now, || Scene::Note { node, text: notation::event(node, &event) });
        }
        match event {
            Event::Role { role, term, leader } => {
                self.trace.record(self.now, || Scene::Role { node, role, term, leader });
                match self.votes.role(id, role, term) {
                    Ok(true) => {
                        self.tally.leaders += 1;
                        self.spring_ambush(id);
                    }
                    Ok(false) => {}
                    Err(violation) => self.judge(Err(violation)),
                }
                let verdict = self.logs.role(id, (role == RoleKind::Leader).then_some(term));
                self.judge(verdict);
            }
            Event::Truncated { .. } => self.tally.truncations += 1,
            Event::Abdicated { why, .. } => {
                self.tally.abdications += 1;
                self.tally.handed_over += u64::from(why == Abdication::Transfer);
                self.tally.quorum_lost += u64::from(why == Abdication::QuorumLost);
                self.tally.disk_stalled += u64::from(why == Abdication::DiskStalled);
            }
            Event::Configuration { .. } => {
                self.tally.configurations += 1;
                self.votes.members_changed(id);
                let joint = self.core(id).is_some_and(|core| core.configuration().is_joint());
                self.tally.joint += u64::from(joint);
                let verdict = self.logs.judge_overlap();
                self.judge(verdict);
            }
            Event::Removed => {
                self.tally.removals += 1;
                let commit = self.core(id).map(|core| core.pulse().commit).unwrap_or_default();
                let always = self.logs.always_a_voter(id, commit);
                self.fall_silent(id);
                self.judge(require(!always, "no false alarm", id, || "it was never removed".to_owned()));
            }
            Event::Refused { .. } => {}
            Event::Stopped(fatal) => {
                if let Some(life) = &mut self.node_mut(id).life {
                    life.stopped = Some(fatal);
                }
                let node = self.node(id);
                let fired = |life: &Life<M>| node.disk.faults_fired() > life.faults_before;
                let failed = |life: &Life<M>| life.log_failed || (life.read_failed && fired(life));
                let expected = node.life.as_ref().is_some_and(failed);
                self.judge(require(expected, "no group stops without a reason", id, || fatal.to_string()));
            }
            // These disks keep what they have synced, and nothing is recovered without its quorum.
            Event::TailLost { .. } | Event::Barred { .. } => {
                self.judge(broken("no false alarm", id, format!("{event:?}")));
            }
        }
    }

    // ---- leases ----------------------------------------------------------------------------------------------------

    fn publish(&mut self, id: u64, lease: Option<Lease>) {
        let (now, promise) = (self.now, self.core.timing.promise());
        let node = self.node_mut(id);
        let longest = node.clock.at(now) + promise;
        if let Some(life) = &mut node.life {
            life.published = lease;
        }
        let Some(lease) = lease else { return };
        self.tally.leases_published += 1;
        self.judge(require(lease.until <= longest, "a lease lasts a promise at most", id, || format!("{lease:?}")));
        self.judge_leases();
    }

    /// A lease that can be used now, by threads beside the shard, whatever the node is doing.
    pub(super) fn usable_lease(&self, id: u64) -> Option<Lease> {
        let node = self.node(id);
        let lease = node.life.as_ref()?.published?;
        (node.clock.at(self.now) < lease.until).then_some(lease)
    }

    /// Leases promise something: all clocks have stayed within the bound, or it is to be shown that the judge notices.
    pub(super) fn judges_leases(&self) -> bool {
        self.clocks_within_bound || self.judge_wild_clocks
    }

    /// Leases begin and are renewed in events only; in between they can but end.
    pub(super) fn judge_leases(&mut self) {
        if !self.judges_leases() {
            return;
        }
        let usable: Vec<_> = self.ids().into_iter().filter_map(|id| Some((id, self.usable_lease(id)?))).collect();
        let verdict = self.leases.judge(&usable);
        self.judge(verdict);
    }

    // ---- the disk --------------------------------------------------------------------------------------------------

    /// Hands the log's device a batch, unless one is under way: what arrived during the last sync.
    fn begin_write(&mut self, id: u64) {
        let batch_bytes = self.wal.batch_bytes;
        let Some(life) = &mut self.node_mut(id).life else { return };
        if life.writing.is_some() || life.writes.is_empty() || life.paused.is_some() {
            return;
        }
        if life.log_failed {
            return life.writes.clear();
        }
        let mut writes: Vec<_> = life.writes.drain(..).collect();
        split_long(&mut writes, batch_bytes);
        let later = writes.split_off(batch_len(&writes, batch_bytes));
        life.writes.extend(later);
        let appended = life.wal.append(&writes);
        self.logs.appended(id, writes.iter().map(|(_, write)| write.clone()));
        match appended {
            Ok(()) => {
                let mut delay = self.dice.duration(self.sync);
                let node = self.node_mut(id);
                delay += node.slow;
                let incarnation = node.incarnation;
                if let Some(life) = &mut node.life {
                    life.writing = Some(writes);
                }
                self.tally.slow_syncs += u64::from(delay > SLOW);
                self.schedule(delay, Happening::Synced { node: id, incarnation });
            }
            Err(error) => self.log_failed(id, &error),
        }
    }

    pub(super) fn synced(&mut self, id: u64) {
        let node = self.node_mut(id);
        let (hung, incarnation) = (node.hung, node.incarnation);
        let Some(life) = &mut node.life else { return };
        life.sync_waits = hung;
        if hung {
            return;
        }
        let Some(batch) = life.writing.take() else { return };
        let bytes = batch.iter().map(|(_, write)| payload_bytes(write)).sum::<usize>();
        life.batches += 1;
        let batches = life.batches;
        if let Err(error) = life.wal.sync() {
            self.log_failed(id, &error);
            return self.settle(id);
        }
        self.logs.synced(id);
        let verdict = self.votes.saved(id, self.logs.durable_hard_state(id));
        self.judge(verdict);
        self.trace.record(self.now, || Scene::Durable { node: NodeId(id), index: self.logs.durable_last(id) });
        self.schedule(IDLE, Happening::Idle { node: id, incarnation, batches });
        self.tidy(id, TIDY_BYTES.max(bytes / 2));
        self.begin_write(id);
        for (group, seq) in newest(&batch) {
            self.input(id, ShardInput::Durable { group, seq });
        }
    }

    pub(super) fn idle(&mut self, id: u64, batches: u64) {
        let Some(life) = &mut self.node_mut(id).life else { return };
        if life.batches != batches || life.writing.is_some() || life.log_failed || life.paused.is_some() {
            return;
        }
        let more = self.tidy(id, TIDY_BYTES);
        let incarnation = self.node(id).incarnation;
        let Some(life) = &mut self.node_mut(id).life else { return };
        let done = if more { life.wal.sync() } else { life.wal.floor() };
        if let Err(error) = done {
            self.log_failed(id, &error);
            self.settle(id);
        } else if more {
            self.schedule(IDLE, Happening::Idle { node: id, incarnation, batches });
        }
    }

    /// The log gives back space; whether it has done something that is not synced yet.
    fn tidy(&mut self, id: u64, budget: usize) -> bool {
        let Some(life) = &mut self.node_mut(id).life else { return false };
        if life.untidy {
            return false;
        }
        match life.wal.tidy(budget) {
            Ok(bytes) => {
                self.tally.tidied_bytes += bytes;
                bytes > 0
            }
            // If the log itself has failed, the next call says so.
            Err(_) => {
                life.untidy = true;
                false
            }
        }
    }

    fn log_failed(&mut self, id: u64, error: &WalError) {
        let text = format!("cannot write its log: {error}");
        self.trace.record(self.now, || Scene::Note { node: NodeId(id), text });
        self.tally.failed_logs += 1;
        if let Some(life) = &mut self.node_mut(id).life {
            life.log_failed = true;
            life.writes.clear();
            life.writing = None;
        }
        let life = self.node_mut(id).life.as_mut();
        match life.and_then(|life| life.paused.as_mut()) {
            Some(paused) => paused.waiting.push(ShardInput::LogFailed),
            None => self.hand_in(id, ShardInput::LogFailed),
        }
        if let Some(life) = &mut self.node_mut(id).life {
            life.unsettled = true;
        }
    }

    pub(super) fn loaded(&mut self, id: u64, load: Load) {
        let Some(life) = &self.node(id).life else { return };
        let read = life.wal.reader().read(GROUP, load.first, load.last, load.max_bytes);
        self.tally.loads += read.as_ref().map_or(0, |entries| entries.len() as u64);
        // Entries that were truncated meanwhile are not there, and nobody waits for them (bug `b46`).
        let failed =
            read.as_ref().is_err_and(|error| !matches!(error, WalError::NotInLog { .. } | WalError::Compacted { .. }));
        let entries = read.ok();
        if let Some(life) = &mut self.node_mut(id).life {
            life.read_failed |= failed;
        }
        self.input(id, ShardInput::Loaded { group: GROUP, load, entries });
    }

    // ---- the state machine -----------------------------------------------------------------------------------------

    /// Applies what is committed, or arranges for it. `true` if something was applied, so that there is more to flush.
    pub(super) fn apply_backlog(&mut self, id: u64) -> bool {
        let takes_time = self.apply.1 > Duration::ZERO;
        let node = self.node(id);
        let (blocked, incarnation) = (node.blocked, node.incarnation);
        let Some(life) = &node.life else { return false };
        if life.backlog.is_empty() || life.applying || life.desk.restoring || blocked || life.paused.is_some() {
            return false;
        }
        if takes_time && !life.apply_now {
            let delay = self.dice.duration(self.apply);
            if let Some(life) = &mut self.node_mut(id).life {
                life.applying = true;
            }
            self.schedule(delay, Happening::Apply { node: id, incarnation });
            return false;
        }
        self.apply_all(id);
        true
    }

    fn apply_all(&mut self, id: u64) {
        let Some(life) = &mut self.node_mut(id).life else { return };
        life.apply_now = false;
        // Up to where digests are compared, so that all nodes stop there.
        let Some(first) = life.backlog.front().map(|committed| committed.entry.id.index.0) else { return };
        let count = (DIGEST_EVERY - first % DIGEST_EVERY + 1).min(life.backlog.len() as u64);
        let backlog: Vec<Committed> = life.backlog.drain(..count as usize).collect();
        for committed in &backlog {
            let verdict = self.logs.applied(id, &committed.entry);
            self.judge(verdict);
            let verdict = self.fates.applied(id, &committed.entry);
            self.judge(verdict);
        }
        self.tally.applied += backlog.len() as u64;
        let is_command = |committed: &&Committed| committed.entry.kind == EntryKind::Command;
        let command = |Committed { entry, .. }: &Committed| Command { id: entry.id, data: entry.payload.clone() };
        let commands: Vec<Command> = backlog.iter().filter(is_command).map(command).collect();
        let Some(life) = &mut self.node_mut(id).life else { return };
        let Some(last) = backlog.last().map(|committed| committed.entry.id.index) else { return };
        let outputs = if commands.is_empty() { Ok(Vec::new()) } else { life.machine.apply(&commands) };
        let Some(outputs) = outputs.ok().filter(|outputs| outputs.len() == commands.len()) else {
            return self.hand_in(id, ShardInput::ApplyFailed { group: GROUP });
        };
        life.applied = last;
        if last.0.is_multiple_of(DIGEST_EVERY) {
            self.compare_digests(id);
        }
        let mut outputs = outputs.into_iter();
        for Committed { entry, reply } in backlog {
            let output = (entry.kind == EntryKind::Command).then(|| outputs.next()).flatten();
            if let (Some(reply), Some(output)) = (reply, output) {
                reply.applied(entry.id, output);
                self.leases.acknowledged(self.now, entry.id.index);
                let verdict = self.logs.acknowledged(id, entry.id);
                self.judge(verdict);
            }
        }
        self.judge_leases();
        self.answer_reads(id);
        self.take_snapshot(id);
        self.hand_in(id, ShardInput::Applied { group: GROUP, index: last });
    }

    /// A node's state machine is in the state that others were in at the same index.
    pub(super) fn compare_digests(&mut self, id: u64) {
        let Some(life) = &self.node(id).life else { return };
        let (applied, digest) = (life.applied, (self.digest)(&life.machine));
        self.trace.count(digest);
        let verdict = self.logs.digest(id, applied, digest);
        self.judge(verdict);
    }

    /// Perhaps nothing more will be applied.
    fn fall_silent(&mut self, id: u64) {
        if let Some(life) = &mut self.node_mut(id).life {
            life.silent = true;
        }
    }

    /// Answers the reads whose index is applied; all of them once nothing more will be.
    pub(super) fn answer_reads(&mut self, id: u64) {
        let Some(life) = &mut self.node_mut(id).life else { return };
        if life.waiting_reads.is_empty() {
            life.silent = false;
            return;
        }
        for (index, reply) in life.ready_reads() {
            reply.answered(Ok(index));
        }
        let silent = life.silent.then_some(ReadError::NotLeader { leader: None });
        let error = life.stopped.map(ReadError::Stopped).or(silent);
        if let Some(error) = error.filter(|_| life.backlog.is_empty()) {
            life.silent = false;
            for (_, reply) in std::mem::take(&mut life.waiting_reads) {
                reply.answered(Err(error));
            }
        }
    }

    // ---- the judges' closer look -----------------------------------------------------------------------------------

    pub(super) fn look_closer(&mut self, id: u64) {
        let Some(life) = &self.node(id).life else { return };
        let Some(core) = life.shard.core(GROUP) else { return };
        let checked = core.check_invariants().map_err(|violation| violation.name);
        let verdict = memory(id, core, &gauges(life));
        let status = core.status();
        if let Err(name) = checked {
            self.judge(broken(name, id, "an invariant of the core".to_owned()));
        }
        self.judge(verdict);
        for (peer, index) in status.peers {
            let verdict = self.votes.matched(id, status.term, peer.0, index);
            self.judge(verdict);
        }
    }
}

fn gauges<M>(life: &Life<M>) -> Gauges {
    let bytes = |writes: &[(_, crate::log::Write)]| writes.iter().map(|(_, write)| payload_bytes(write)).sum::<usize>();
    let (front, back) = life.writes.as_slices();
    Gauges {
        waiting_proposals: life.shard.status(GROUP).map_or(0, |status| status.waiting_proposals),
        unwritten_bytes: bytes(front) + bytes(back),
        unapplied_bytes: life.backlog.iter().map(|committed| committed.entry.payload.len()).sum(),
    }
}

/// A sync that takes longer than this is slow.
const SLOW: Duration = Duration::from_millis(50);
