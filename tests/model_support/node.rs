//! One member: a real core, its disk, its clock, and what the checks remember of it.

use std::hash::{Hash, Hasher};

use tenure::config::{CoreConfig, Priority, Timing};
use tenure::core::{Core, Frame, Input, Output, RoleKind};
use tenure::log::{Entry, HardState, Write};
use tenure::message::Message;
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, Index, NodeId, Term};

use super::cluster::Rules;
use crate::support::disk::Disk;
use crate::support::lone::{E, GROUP, ms};

/// What the checks look at, taken once after each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) role: RoleKind,
    pub(crate) term: Term,
    pub(crate) commit: Index,
    pub(crate) last: EntryId,
    pub(crate) stopped: bool,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) core: Core,
    pub(crate) disk: Disk,
    /// Its own clock.
    pub(crate) now: Instant,
    pub(crate) view: View,
    /// The log as its writes describe it.
    pub(crate) log: Vec<Entry>,
    /// Up to where its state machine, which is in memory, has applied.
    pub(crate) applied: Index,
    restarts: u64,
}

/// What a step brought about outside of the node.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) messages: Vec<Message>,
    pub(crate) applied: Vec<Entry>,
}

impl Node {
    /// Starts on a disk. What the start itself writes is durable at once.
    pub(crate) fn start(id: u64, disk: Disk, rules: &Rules) -> Self {
        let mut node = Self::boot(NodeId(id), disk, rules, Instant::ZERO + Duration::from_secs(1000), 0);
        node.sync_all();
        node
    }

    fn boot(id: NodeId, disk: Disk, rules: &Rules, now: Instant, restarts: u64) -> Self {
        let mut out = Output::new();
        let core = Core::new(rules.config(id, restarts), disk.restore(Index::ZERO), now, &mut out).unwrap();
        let (view, log) = (view(&core), disk.entries.clone());
        let mut node = Self { id, core, disk, now, view, log, applied: Index::ZERO, restarts };
        assert!(out.messages.is_empty() && out.apply.is_empty() && out.loads.is_empty(), "a start only writes");
        node.write(out.writes);
        node
    }

    fn sync_all(&mut self) {
        if let Some(seq) = self.disk.sync() {
            let effects = self.step(Input::Durable(seq), true);
            assert!(effects.messages.is_empty(), "nothing waits for the first write");
            self.applied = effects.applied.last().map_or(self.applied, |entry| entry.id.index);
        }
    }

    /// The power goes and comes back.
    pub(crate) fn crash(&mut self, rules: &Rules) {
        self.disk.crash();
        *self = Self::boot(self.id, self.disk.clone(), rules, self.now, self.restarts + 1);
    }

    /// One step and what follows from it inside the node: reading the log back, applying, and, with a prompt disk,
    /// becoming durable.
    pub(crate) fn step(&mut self, input: Input, prompt_disk: bool) -> Effects {
        let (mut out, mut effects) = (Output::new(), Effects::default());
        self.core.step(self.now, input, &mut out);
        loop {
            effects.messages.append(&mut out.messages);
            self.write(std::mem::take(&mut out.writes));
            for load in std::mem::take(&mut out.loads) {
                let entries = Some(self.disk.read(load.first, load.last, load.max_bytes));
                self.core.step(self.now, Input::Loaded { load, entries }, &mut out);
            }
            if let Some(last) = out.apply.last().map(|entry| entry.id.index) {
                effects.applied.append(&mut out.apply);
                self.core.step(self.now, Input::Applied(last), &mut out);
            }
            if prompt_disk && let Some(seq) = self.disk.sync() {
                self.core.step(self.now, Input::Durable(seq), &mut out);
            }
            (out.proposed, out.events) = (None, Vec::new());
            out.transfers.clear();
            if out.is_empty() {
                self.view = view(&self.core);
                return effects;
            }
        }
    }

    fn write(&mut self, writes: Vec<Write>) {
        for write in &writes {
            if let Some(from) = write.truncate_from {
                self.log.retain(|entry| entry.id.index < from);
            }
            self.log.extend(write.entries.iter().cloned());
        }
        self.disk.pending.extend(writes);
    }

    pub(crate) fn holds_durably(&self, id: EntryId) -> bool {
        self.disk.entries.get(id.index.0 as usize - 1).is_some_and(|entry| entry.id == id)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.core.next_deadline()
    }

    pub(crate) fn hash(&self, frame: &Frame, hasher: &mut impl Hasher) {
        frame.core(&self.core, hasher);
        self.applied.hash(hasher);
        let HardState { term, vote, longest_promise } = self.disk.hard_state;
        (term, vote, longest_promise, &self.disk.entries).hash(hasher);
        self.disk.pending.len().hash(hasher);
        for Write { seq: _, hard_state, compaction, truncate_from, entries } in &self.disk.pending {
            (hard_state, compaction, truncate_from, entries).hash(hasher);
        }
    }

    /// One line about it.
    pub(crate) fn describe(&self) -> String {
        let status = self.core.status();
        let log: Vec<_> = self.log.iter().map(|entry| entry.id.to_string()).collect();
        let vote = status.vote.map_or(String::new(), |vote| format!(", vote {vote}"));
        let pending = self.disk.pending.len();
        let unsynced = if pending > 0 { format!(", {pending} writes not durable") } else { String::new() };
        format!(
            "{} {:?} {}{vote}, log {}, commit {}{unsynced}",
            self.id,
            status.role,
            status.term,
            log.join(" "),
            status.commit
        )
    }
}

fn view(core: &Core) -> View {
    let status = core.status();
    View {
        role: status.role,
        term: status.term,
        commit: status.commit,
        last: status.last,
        stopped: status.stopped.is_some(),
    }
}

impl Rules {
    /// Heartbeats are slow, so that an election timeout is two of them; timeouts are drawn from ranges of nothing, so that
    /// drawing them makes no states of its own.
    fn config(&self, id: NodeId, restarts: u64) -> CoreConfig {
        let mut config = CoreConfig::new(id, GROUP, 42 + restarts);
        config.succession = false;
        config.lease_reads = true;
        config.limits.append_entries = self.append_entries;
        config.timing = Timing::from_election_timeout(ms(E));
        config.timing.heartbeat_interval = ms(E / 2);
        config.timing.rpc_timeout = ms(E / 2);
        match &self.shared_clock {
            // Just longer than a promise: there is a moment at which a follower is free and does not stand yet.
            None => {
                config.priority = Priority::Low;
                config.timing.election_timeout_max = ms(E) + Duration::from_nanos(2);
            }
            Some(clock) => {
                config.timing.election_timeout_max = ms(E) + Duration::from_nanos(1);
                config.timing.clock_drift_ppm = clock.trusted_drift_ppm;
                config.timing.lease_guard = Duration::ZERO;
            }
        }
        config
    }
}
