//! The engine room of a node: the shard and its threads, over any log device and any transport.
//!
//! Threads: one timer, one for the log, one for loads, one per group that applies; beside them the transport's. Each is
//! registered, so that a shutdown can end and join all of them (row `l01`).

use slog::{Logger, warn};
use std::fmt::Display;
use std::time::Instant as Stopwatch;

use super::annex::Annex;
use super::apply::{Applier, guarded};
use super::begin::{Beginning, Stored};
use super::clock::Clock;
use super::entropy;
use super::group::Group;
use super::inbox::{Inbox, InboxLimits};
use super::load::{self, LoadQueue};
use super::node_error::{EngineError, GroupError, ShutdownError};
use super::options::Options;
use super::persist::{Device, Persist, PersistThread, Tidying};
use super::queue::Queue;
use super::shard::{Entrance, Letterbox};
use super::snapshots::{Fetcher, Library, Pace, Shelf, Taker, stored};
use super::threads::Threads;
use super::{driver::ShardInput, timer};
use crate::config::{CoreConfig, Limits, Timing};
use crate::core::{Load, Restored, StartError};
use crate::log::{Entry, Write};
use crate::metrics::{ApplyCounters, NodeMetrics};
use crate::quorum::Configuration;
use crate::snapshot::Snapshot;
use crate::state_machine::StateMachine;
use crate::sync::{Arc, Mutex};
use crate::time::Duration;
use crate::transport::{Inbound, Transport};
use crate::types::{EntryId, GroupId, Index, NodeId};

/// What an engine needs to know.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) id: NodeId,
    pub(super) timing: Timing,
    pub(super) limits: Limits,
    pub(super) inbox: InboxLimits,
    pub(super) options: Options,
    pub(super) batch_bytes: usize,
    pub(super) clock: Clock,
    pub(super) logger: Logger,
}

impl Settings {
    fn core_config(&self, group: GroupId, seed: u64) -> CoreConfig {
        let mut config = CoreConfig::new(self.id, group, seed);
        config.timing = self.timing.clone();
        config.limits = self.limits.clone();
        self.options.apply_to(&mut config);
        config
    }
}

pub(super) struct Engine {
    settings: Settings,
    pub(super) entrance: Arc<Entrance>,
    persist: Arc<Persist>,
    loads: Arc<LoadQueue>,
    pub(super) transport: Arc<dyn Transport>,
    /// None: this node keeps no snapshots.
    pub(super) library: Option<Arc<Library>>,
    threads: Threads,
    /// Every group opened here, for its counters.
    annexes: Mutex<Vec<Arc<Annex>>>,
}

impl Engine {
    /// Starts the threads over `device`; `read` brings old entries back; `connect` joins the network, delivering to
    /// what it is given. Nothing is sent before a group is opened.
    pub(super) fn start<D, E>(
        settings: Settings,
        library: Option<Library>,
        device: D,
        read: impl Fn(GroupId, &Load) -> Result<Option<Vec<Entry>>, E> + Send + 'static,
        connect: impl FnOnce(Arc<dyn Inbound>) -> Result<Arc<dyn Transport>, EngineError>,
    ) -> Result<Self, EngineError>
    where
        D: Device + 'static,
        E: Display,
    {
        let core = settings.core_config(GroupId(0), 0);
        core.validate()?;
        for warning in core.warnings() {
            warn!(settings.logger, "{}", warning);
        }
        let persist = Arc::new(Persist::new());
        let loads = Arc::new(Queue::new());
        let inbox = Inbox::new(settings.inbox);
        let (clock, logger) = (settings.clock.clone(), settings.logger.clone());
        let library = library.map(Arc::new);
        let entrance = Entrance::new(inbox, persist.clone(), loads.clone(), library.clone(), clock, logger);
        let entrance = Arc::new(entrance);
        let transport = connect(Arc::new(Letterbox(Arc::downgrade(&entrance))))?;
        entrance.administer(|held, _| held.outbox.transport = Some(transport.clone()));
        let (threads, annexes) = (Threads::default(), Mutex::default());
        let engine = Self { settings, entrance, persist, loads, transport, library, threads, annexes };
        engine.spawn_threads(device, read).inspect_err(|_| drop(engine.shutdown(Duration::MAX)))?;
        Ok(engine)
    }

    fn spawn_threads<D, E>(
        &self,
        device: D,
        read: impl Fn(GroupId, &Load) -> Result<Option<Vec<Entry>>, E> + Send + 'static,
    ) -> Result<(), EngineError>
    where
        D: Device + 'static,
        E: Display,
    {
        let Settings { batch_bytes, logger, .. } = self.settings.clone();
        let (shared, entrance) = (self.persist.clone(), self.entrance.clone());
        let tidying = Tidying::default();
        let (library, log) = (self.library.clone(), logger.clone());
        let persist = PersistThread { shared, device, batch_bytes, entrance, logger: log, tidying, library };
        self.spawn("tenure-persist", move || persist.run())?;
        let entrance = self.entrance.clone();
        self.spawn("tenure-timer", move || timer::run(&entrance))?;
        let (loads, entrance) = (self.loads.clone(), self.entrance.clone());
        let load_logger = logger.clone();
        self.spawn("tenure-load", move || load::run(&loads, read, &entrance, &load_logger))?;
        let Some(library) = &self.library else { return Ok(()) };
        let taker = Taker { library: library.clone(), entrance: self.entrance.clone(), logger: logger.clone() };
        self.spawn("tenure-snapshot", move || taker.run())?;
        if let Some(network) = self.transport.snapshots() {
            network.serve(library.server.clone());
        }
        let (library, transport, node) = (library.clone(), self.transport.clone(), self.settings.id);
        let fetcher = Fetcher { library, transport, node, logger };
        self.spawn("tenure-fetch", move || fetcher.run())
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
        self.threads.spawn(name.to_owned(), body).map_err(EngineError::Thread)
    }

    /// Founds a group with its first `write`: returns once that is durable here. Then the group is to be opened, never to be
    /// founded again.
    pub(super) fn found(
        &self,
        group: GroupId,
        (write, restored): (Write, Restored),
        applied: Index,
    ) -> Result<Restored, GroupError> {
        let last = restored.log.last();
        if applied > last.index {
            return Err(StartError::AppliedBeyondLog { applied, last }.into());
        }
        match self.persist.found(group, write).recv() {
            Ok(true) => Ok(restored),
            Ok(false) => Err(GroupError::LogFailed),
            Err(_) => Err(GroupError::ShutDown),
        }
    }

    /// A founder of a group must be in it.
    pub(super) fn check_founder(&self, configuration: &Configuration) -> Result<(), GroupError> {
        let node = self.settings.id;
        configuration.members().contains(&node).then_some(()).ok_or(GroupError::NotAMember { node })
    }

    /// The newest snapshot of a group here, if this node keeps any.
    fn newest(&self, group: GroupId) -> Result<(Option<Arc<Shelf>>, Option<Snapshot>), GroupError> {
        let shelf = self.library.as_ref().map(|library| library.shelf(group)).transpose()?;
        let newest = shelf.as_ref().and_then(|shelf| shelf.store.newest());
        Ok((shelf, newest))
    }

    /// Runs a group with what the disk holds of it: its log, its newest snapshot, and its state machine, which says how far
    /// it has applied (bug `b43`) and is restored first if the log does not reach back to that.
    pub(super) fn open_group<S: StateMachine>(
        &self,
        group: GroupId,
        restored: Restored,
        mut machine: S,
    ) -> Result<Group<S::Output>, GroupError> {
        let seed = u64::from_le_bytes(entropy::random().map_err(GroupError::Resources)?);
        let phase = u64::from_le_bytes(entropy::random().map_err(GroupError::Resources)?);
        let config = self.settings.core_config(group, seed);
        let (shelf, newest) = self.newest(group)?;
        let label = newest.as_ref().map(|newest| stored(group, newest)).transpose()?;
        let Beginning { restored, applied, restores, installed } = Beginning::new(restored, machine.applied(), label);
        if let Some(newest) = newest.filter(|_| restores) {
            let last = newest.last();
            guarded(|| machine.restore(&newest.files())).map_err(|error| GroupError::Restore { last, error })?;
        }
        let overdue = restored.log.base() > EntryId::ZERO && restored.snapshot.is_none() && installed.is_none();
        let options = self.library.as_ref().map(|library| library.options.clone()).unwrap_or_default();
        let annex = Arc::new(Annex::new(applied, config.limits.waiting_reads, shelf.clone()));
        let applier = Applier {
            annex: annex.clone(),
            group,
            machine,
            applied,
            entrance: self.entrance.clone(),
            library: self.library.clone(),
            pace: Pace::new(options, phase, overdue),
            logger: self.settings.logger.clone(),
        };
        let spawned = self.threads.spawn(format!("tenure-apply-{group}"), move || applier.run());
        spawned.map_err(GroupError::Resources)?;
        let opened = self.entrance.administer(|held, clock| {
            if held.shut_down {
                return Err(GroupError::ShutDown);
            }
            held.shard.open(&mut || clock.now(), config, restored)?;
            held.outbox.groups.insert(group, annex.clone());
            if let Some(Stored { last, configuration }) = installed {
                let input = ShardInput::SnapshotInstalled { group, last, configuration };
                held.shard.handle(&mut || clock.now(), input, &mut held.outbox);
            }
            Ok(())
        });
        opened.inspect_err(|_| annex.queue.close())?;
        if let (Some(library), Some(shelf)) = (&self.library, shelf) {
            library.opened_group(&annex, &shelf);
        }
        self.annexes.lock().push(annex.clone());
        if self.persist.counters().failed {
            // The failure may have been announced before this group could hear it.
            self.entrance.complete([ShardInput::LogFailed]);
        }
        Ok(Group::new(group, self.entrance.clone(), annex))
    }

    pub(super) fn logger(&self) -> &Logger {
        &self.settings.logger
    }

    pub(super) fn metrics(&self) -> NodeMetrics {
        let mut apply = ApplyCounters::default();
        for annex in self.annexes.lock().iter() {
            apply += annex.queue.counters();
        }
        NodeMetrics {
            shard: self.entrance.look(|shard| shard.counters()),
            inbox: self.entrance.inbox_counters(),
            entering: self.entrance.entering_counters(),
            log: self.persist.counters(),
            apply,
            reads: self.entrance.reads.counters(),
            snapshots: self.library.as_ref().map(|library| library.counters()).unwrap_or_default(),
            snapshots_served: self.library.as_ref().map(|library| library.server.stats()).unwrap_or_default(),
            transport: self.transport.stats(),
        }
    }

    /// Hands over what this node leads, for an election timeout at most, then shuts down.
    pub(super) fn leave(&self, timeout: Duration) -> Result<(), ShutdownError> {
        let watch = Stopwatch::now();
        // Half of the time at least is for the threads.
        let patience = self.settings.timing.promise().min(timeout / 2);
        self.hand_over(patience);
        self.empty_transport(patience.saturating_sub(watch.elapsed()));
        let ended = self.shutdown(timeout.saturating_sub(watch.elapsed()));
        ended.map_err(|error| ShutdownError { timeout, ..error })
    }

    /// Ends everything: no client gets in, the network is left, whoever waits is told, what was handed to the log is
    /// still written, and every thread is joined, for at most about `timeout` beside the transport's own bound.
    pub(super) fn shutdown(&self, timeout: Duration) -> Result<(), ShutdownError> {
        let watch = Stopwatch::now();
        self.entrance.close();
        self.transport.shutdown();
        self.entrance.administer(|held, _| {
            held.shut_down = true;
            held.outbox.transport = None;
            for group in held.shard.ids() {
                held.close_group(group);
            }
        });
        self.loads.close();
        if let Some(library) = &self.library {
            library.close();
        }
        self.persist.queue.close();
        self.entrance.alarm.stop();
        let threads = self.threads.join(timeout.saturating_sub(watch.elapsed()));
        if threads.is_empty() {
            return Ok(());
        }
        warn!(self.settings.logger, "threads have not ended in time"; "threads" => threads.join(", "));
        Err(ShutdownError { timeout, threads })
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "engine_lease_tests.rs"]
mod lease_tests;

#[cfg(all(test, shuttle))]
#[path = "engine_models.rs"]
mod models;
