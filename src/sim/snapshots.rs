//! Snapshots of the nodes' state machines: taken, kept, restored, with a crash between any two steps, or in one.
//!
//! What the runtime's threads do one after the other are steps here, some time after each other: a source is taken between
//! two calls of the state machine; it is written; the shard is told. What was fetched is kept; the state machine is
//! replaced by it, which takes time; the shard is told. `transfer` brings it here.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::dice::Span;
use super::judges::require;
use super::node::{self, GROUP, Life};
use super::trace::Scene;
use super::transfer::{Parcel, Pull};
use super::world::{Happening, World};
use crate::core::Restored;
use crate::quorum::Configuration;
use crate::runtime::Interruption;
use crate::runtime::begin::{Beginning, Stored};
use crate::runtime::driver::{Committed, ShardInput};
use crate::runtime::node::restored;
use crate::snapshot::{
    FetchConfig, ServeConfig, Session, Snapshot, SnapshotError, SnapshotId, SnapshotServer, SnapshotStore,
};
use crate::state_machine::{SnapshotSource, StateMachine};
use crate::time::{Duration, Instant};
use crate::types::{EntryId, Index, NodeId};
use crate::wal::RecoveredGroup;

/// When snapshots are taken, and how long what belongs to them takes.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotPlan {
    /// Each node takes one after so many entries; 0: never.
    pub every: u64,
    /// How long it takes until one is written.
    pub taking: Span,
    /// How long it takes to restore a state machine.
    pub restoring: Span,
    /// How long it takes until something that is done is told to whom it concerns.
    pub telling: Span,
    /// How many of them a node keeps.
    pub keep: usize,
    /// The length of the pieces in which they are sent.
    pub chunk_bytes: u32,
    /// How many pieces are asked for at once.
    pub window: usize,
    /// So many bytes that were received are not synced.
    pub sync_bytes: u64,
    /// How fast a node sends them.
    pub bytes_per_second: Option<u64>,
}

impl Default for SnapshotPlan {
    /// None are taken.
    fn default() -> Self {
        Self {
            every: 0,
            taking: Span::millis(0, 10),
            restoring: Span::millis(0, 10),
            telling: Span::exactly(Duration::ZERO),
            keep: 1,
            chunk_bytes: 4096,
            window: 8,
            sync_bytes: 64 << 10,
            bytes_per_second: None,
        }
    }
}

impl SnapshotPlan {
    pub(super) fn fetch(&self) -> FetchConfig {
        FetchConfig { window_requests: self.window, sync_bytes: self.sync_bytes, ..FetchConfig::default() }
    }
}

/// What a process has and does with snapshots.
pub(super) struct Desk {
    pub(super) store: SnapshotStore,
    server: SnapshotServer,
    /// Who fetches from here, by connection.
    pub(super) sessions: BTreeMap<u64, Session>,
    /// What is being fetched.
    pub(super) pull: Option<Pull>,
    /// What could not be had any more when it was asked for.
    pub(super) gone: Option<SnapshotId>,
    /// What was taken and is not written yet.
    taken: Option<(EntryId, (Index, Bytes), SnapshotSource)>,
    /// When the last one was taken.
    taken_at: Index,
    /// What was fetched and not told yet.
    pub(super) arrived: Option<Snapshot>,
    /// The state machine is being replaced.
    pub(super) restoring: bool,
    /// The shard was told that a snapshot up to here was installed, and nothing at or below comes out of it any more; the
    /// second one from the next flush on.
    pub(super) installed: (Index, Index),
}

impl Desk {
    pub(super) fn new(store: SnapshotStore, plan: &SnapshotPlan) -> Self {
        let server =
            SnapshotServer::new(ServeConfig { bytes_per_second: plan.bytes_per_second, ..ServeConfig::default() });
        server.add(store.clone());
        let taken_at = store.newest().map_or(Index::ZERO, |newest| newest.last().index);
        Self {
            store,
            server,
            sessions: BTreeMap::new(),
            pull: None,
            gone: None,
            taken: None,
            taken_at,
            arrived: None,
            restoring: false,
            installed: (Index::ZERO, Index::ZERO),
        }
    }

    /// One more receiver, unless there are too many.
    pub(super) fn session(&mut self, connection: u64) -> Option<&mut Session> {
        if !self.sessions.contains_key(&connection) {
            self.sessions.insert(connection, self.server.session()?);
        }
        self.sessions.get_mut(&connection)
    }
}

/// A process will die.
#[derive(Clone, Copy)]
pub(super) struct Doom {
    calls: u64,
    power_lost: bool,
    down: Duration,
}

/// What is due at a node with its snapshots.
pub(super) enum Step {
    /// What was taken is written.
    Write,
    /// The shard is told that one was taken.
    Taken(EntryId),
    /// What was fetched is complete.
    Keep,
    /// The state machine begins to be replaced by what was fetched.
    Restore,
    /// It was replaced.
    Restored,
    /// The shard is told.
    Installed,
    /// A connection is gone.
    Gone(u64),
    /// More may be sent on a connection.
    Serve(u64),
    /// To be connected again.
    Dial,
    /// Whether an answer has come.
    Impatient(u64),
    /// A frame came while the process was stopped.
    Frame(Parcel),
}

impl<M: StateMachine> World<M> {
    pub(super) fn after(&mut self, id: u64, span: Span, step: Step) {
        let incarnation = self.node(id).incarnation;
        let delay = self.bulk.dice.duration(span);
        self.schedule(delay, Happening::Snapshot { node: id, incarnation, step });
    }

    pub(super) fn snapshot_step(&mut self, id: u64, step: Step) {
        let paused = self.node_mut(id).life.as_mut().and_then(|life| life.paused.as_mut());
        if let Some(paused) = paused {
            return paused.steps.push(step);
        }
        match step {
            Step::Write => self.write_snapshot(id),
            Step::Taken(last) => self.input(id, ShardInput::SnapshotTaken { group: GROUP, last }),
            Step::Keep => self.keep_fetched(id),
            Step::Restore => self.begin_restoring(id),
            Step::Restored => self.restore(id),
            Step::Installed => self.tell_installed(id),
            Step::Gone(connection) => self.connection_gone(id, connection),
            Step::Serve(connection) => self.serve(id, connection),
            Step::Dial => self.dial(id),
            Step::Impatient(connection) => self.look_for_answers(id, connection),
            Step::Frame(parcel) => self.frame_waited(parcel),
        }
    }

    /// Does something with a node's disk, in which its process may die; then `None`.
    pub(super) fn at_disk<T>(&mut self, id: u64, work: impl FnOnce(&mut Life<M>) -> T) -> Option<T> {
        let node = self.node_mut(id);
        let doom = node.doom;
        node.disk.halt_after(doom.map(|doom| doom.calls));
        let done = node.life.as_mut().map(work);
        let left = node.disk.halt_after(None);
        if !node.disk.is_halted() {
            node.doom = doom.map(|doom| Doom { calls: left.unwrap_or_default(), ..doom });
            return done;
        }
        node.doom = None;
        self.tally.deaths_at_snapshots += 1;
        if let Some(Doom { power_lost, down, .. }) = doom {
            self.crash_for(id, power_lost, down);
        }
        None
    }

    /// A node's process dies after so many more calls of its disk that have to do with snapshots, and is back after `down`.
    pub fn doom(&mut self, id: u64, calls: u64, power_lost: bool, down: Duration) {
        self.fault(Some(id), || format!("will die at its disk's call {calls} for snapshots"));
        self.node_mut(id).doom = Some(Doom { calls, power_lost, down });
    }

    pub(super) fn note(&mut self, id: u64, text: impl FnOnce() -> String) {
        self.trace.record(self.now, || Scene::Snapshot { node: NodeId(id), text: text() });
    }

    // ---- taken here ------------------------------------------------------------------------------------------------

    /// Between two calls of the state machine: takes a snapshot if it is time.
    pub(super) fn take_snapshot(&mut self, id: u64) {
        let every = self.snapshots.every;
        let Some(life) = &self.node(id).life else { return };
        let (applied, desk) = (life.applied, &life.desk);
        if every == 0 || desk.taken.is_some() || applied.0 < desk.taken_at.0 + every {
            return;
        }
        // A core that has not been told of a snapshot yet does not know what this state is.
        let Some((last, configuration)) = self.core(id).and_then(|core| core.snapshot_at(applied)) else { return };
        let verdict = self.logs.labelled(id, last, &configuration);
        self.judge(verdict);
        let same = last.index == applied;
        self.judge(require(same, "a snapshot holds what is committed", id, || format!("{last} instead of {applied}")));
        let Some(life) = &mut self.node_mut(id).life else { return };
        life.desk.taken_at = applied;
        match life.machine.snapshot() {
            Ok(Some(source)) => life.desk.taken = Some((last, configuration, source)),
            Ok(None) => return,
            Err(_) => return self.hand_in(id, ShardInput::ApplyFailed { group: GROUP }),
        }
        self.compare_digests(id);
        self.note(id, || format!("takes a snapshot up to {last}"));
        self.after(id, self.snapshots.taking, Step::Write);
    }

    fn write_snapshot(&mut self, id: u64) {
        let now_ms = u64::try_from(self.now.since(Instant::ZERO).as_millis()).unwrap_or(u64::MAX);
        let made = self.at_disk(id, |life| {
            let (last, configuration, source) = life.desk.taken.take()?;
            Some((last, life.desk.store.make(last, configuration, now_ms, source, &|| true)))
        });
        match made.flatten() {
            None => {}
            Some((last, Ok(_))) => {
                self.tally.snapshots_taken += 1;
                self.note(id, || format!("has a snapshot up to {last}"));
                self.judge_stored(id, last);
                self.after(id, self.snapshots.telling, Step::Taken(last));
            }
            // Something newer was fetched meanwhile.
            Some((_, Err(SnapshotError::Stale { .. }))) => {}
            Some((last, Err(error))) => self.snapshot_failed(id, &format!("no snapshot up to {last}: {error}")),
        }
    }

    pub(super) fn snapshot_failed(&mut self, id: u64, why: &str) {
        self.tally.snapshots_failed += 1;
        self.note(id, || why.to_owned());
    }

    /// What the store calls durable is whole, whatever happens to what is not synced.
    pub(super) fn judge_stored(&mut self, id: u64, last: EntryId) {
        let disk = self.node(id).disk.synced(Path::new(node::SNAPSHOTS));
        let newest = node::open_snapshots(&disk, id, &self.snapshots).ok().and_then(|store| store.newest());
        let whole = newest.filter(|newest| newest.verify(&|| true).is_ok()).map(|newest| newest.last());
        let verdict = self.logs.stored(id, last, whole);
        self.judge(verdict);
    }

    // ---- fetched from others ---------------------------------------------------------------------------------------

    /// All files of what was fetched are here.
    fn keep_fetched(&mut self, id: u64) {
        let pull = self.node_mut(id).life.as_mut().and_then(|life| life.desk.pull.take());
        let Some(Pull { fetch, connection, .. }) = pull else { return };
        if let Some(connection) = connection {
            self.hang_up(connection, id);
        }
        self.tally.bytes_reused += fetch.progress().bytes_reused;
        let about = fetch.manifest().map(|manifest| manifest.about().clone());
        match (self.at_disk(id, |_| fetch.install()), about) {
            (Some(Ok(snapshot)), Some(about)) => {
                self.tally.snapshots_fetched += 1;
                let last = snapshot.last();
                self.note(id, || format!("has fetched the snapshot up to {last}"));
                let verdict = self.logs.labelled(id, last, &about.configuration);
                self.judge(verdict);
                self.judge_stored(id, last);
                if let Some(life) = &mut self.node_mut(id).life {
                    life.desk.arrived = Some(snapshot);
                }
                self.after(id, self.snapshots.telling, Step::Restore);
            }
            (Some(Err(SnapshotError::Stale { .. })), _) | (None, _) => {}
            (Some(Err(error)), _) => self.snapshot_failed(id, &format!("cannot keep a snapshot: {error}")),
            (Some(Ok(_)), None) => {}
        }
    }

    /// As the apply thread does when it comes to it.
    fn begin_restoring(&mut self, id: u64) {
        let blocked = self.node(id).blocked;
        let Some(life) = &mut self.node_mut(id).life else { return };
        let Some(last) = life.desk.arrived.as_ref().map(Snapshot::last) else { return };
        if life.stopped.is_some() {
            return;
        }
        if blocked || life.applying {
            let soon = self.core.timing.promise() / 20;
            return self.after(id, Span::exactly(soon), Step::Restore);
        }
        if last.index <= life.applied {
            // It came too late, but others can have it.
            life.desk.arrived = None;
            self.tally.snapshots_overtaken += 1;
            return self.after(id, self.snapshots.telling, Step::Taken(last));
        }
        life.desk.restoring = true;
        self.after(id, self.snapshots.restoring, Step::Restored);
    }

    fn restore(&mut self, id: u64) {
        let restored = self.at_disk(id, |life| {
            life.desk.restoring = false;
            let snapshot = life.desk.arrived.as_ref()?;
            Some((snapshot.last(), life.machine.restore(&snapshot.files())))
        });
        let Some((last, result)) = restored.flatten() else { return };
        if let Err(error) = result {
            if let Some(life) = &mut self.node_mut(id).life {
                life.read_failed = true;
            }
            self.snapshot_failed(id, &error.to_string());
            self.hand_in(id, ShardInput::ApplyFailed { group: GROUP });
            return self.settle(id);
        }
        self.note(id, || format!("has restored its state machine up to {last}"));
        let verdict = self.logs.restored(id, last);
        self.judge(verdict);
        let Some(life) = &mut self.node_mut(id).life else { return };
        life.applied = last.index;
        (life.desk.taken_at, life.desk.taken) = (last.index, None);
        let covered = life.covered();
        refuse_covered(covered, last.index);
        self.compare_digests(id);
        self.answer_reads(id);
        self.collect_told(id);
        self.after(id, self.snapshots.telling, Step::Installed);
        if self.apply_backlog(id) {
            self.settle(id);
        }
    }

    fn tell_installed(&mut self, id: u64) {
        let arrived = self.node_mut(id).life.as_mut().and_then(|life| life.desk.arrived.take());
        let Some(stored) = arrived.as_ref().and_then(stored) else { return };
        self.tally.snapshots_installed += 1;
        self.note(id, || format!("begins its log behind {}", stored.last));
        self.input(id, installed(stored));
    }

    // ---- at a start ------------------------------------------------------------------------------------------------

    /// How a process begins, from what is on its disk; restores its state machine if need be.
    pub(super) fn begin(
        &mut self,
        id: u64,
        found: Option<&RecoveredGroup>,
        founded_now: bool,
        machine: &mut M,
    ) -> Result<(Beginning, SnapshotStore), String> {
        let store = node::open_snapshots(&self.node(id).disk, id, &self.snapshots)?;
        let whole = store.damaged().is_empty();
        self.judge(require(whole, "a snapshot is there when its manifest is", id, || format!("{:?}", store.damaged())));
        let newest = store.newest();
        let verdict = self.logs.found(id, newest.as_ref().map(Snapshot::last));
        self.judge(verdict);
        let restored = match found {
            Some(found) => {
                let restored = restored(GROUP, found).map_err(|error| error.to_string())?;
                Restored { founded_now, ..restored }
            }
            None => Restored::joining(),
        };
        let begins = Beginning::new(restored, machine.applied(), newest.as_ref().and_then(stored));
        if begins.restores
            && let Some(snapshot) = &newest
        {
            machine.restore(&snapshot.files()).map_err(|error| error.to_string())?;
            self.tally.restored_at_start += 1;
            let last = snapshot.last();
            self.note(id, || format!("restores its state machine up to {last}"));
        }
        Ok((begins, store))
    }

    /// A group that began without having been told of a snapshot that is here.
    pub(super) fn complete_installation(&mut self, id: u64, stored: Stored) {
        self.tally.installations_completed += 1;
        self.note(id, || format!("begins its log behind {}", stored.last));
        self.hand_in(id, installed(stored));
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Nothing about snapshots takes long any more.
    pub(super) fn hurry_snapshots(&mut self) {
        let quick = Span(Duration::ZERO, self.core.timing.promise() / 500);
        let plan = &mut self.snapshots;
        (plan.taking, plan.restoring, plan.telling) = (quick, quick, quick);
        plan.bytes_per_second = None;
        for node in &self.nodes {
            if let Some(life) = &node.life {
                life.desk.server.set_rate(None);
            }
        }
    }

    /// What lies on disks when nothing happens any more: of snapshots what is kept and what was being fetched, of the log
    /// what is needed and a little more.
    pub(super) fn judge_disks(&mut self) {
        for id in self.ids() {
            let node = self.node(id);
            let Some(life) = &node.life else { continue };
            let bytes = |dir: &str| -> u64 {
                let names = node.disk.names();
                let inside = names.iter().filter(|path| path.starts_with(dir));
                inside.map(|path| node.disk.content(path).len() as u64).sum()
            };
            let newest = life.desk.store.newest().map_or(0, |newest| newest.manifest().bytes());
            let snapshots = bytes(node::SNAPSHOTS);
            let most = (newest + SNAPSHOT_OVERHEAD) * (self.snapshots.keep as u64 + 1);
            self.judge(require(snapshots <= most, "disk use stays bounded", id, || {
                format!("its snapshots take {snapshots} bytes, the newest has {newest}")
            }));
        }
    }
}

/// Manifests, and the ends of files, take so much at most.
const SNAPSHOT_OVERHEAD: u64 = 16 << 10;

/// Whoever waits for what a snapshot has in it hears that its outcome is not known here.
pub(super) fn refuse_covered(covered: Vec<Committed>, last: Index) {
    for reply in covered.into_iter().filter_map(|committed| committed.reply) {
        reply.failed(Interruption::SnapshotInstalled { last }.into());
    }
}

fn stored(snapshot: &Snapshot) -> Option<Stored> {
    let (at, bytes) = &snapshot.manifest().about().configuration;
    let configuration = Configuration::decode(bytes).ok()?;
    Some(Stored { last: snapshot.last(), configuration: (*at, configuration) })
}

fn installed(Stored { last, configuration }: Stored) -> ShardInput {
    ShardInput::SnapshotInstalled { group: GROUP, last, configuration }
}
