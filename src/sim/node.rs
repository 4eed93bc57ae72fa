//! One node of a world: the engine's own shard and log over a simulated disk, and a state machine.

use std::collections::VecDeque;
use std::path::Path;

use super::clock::NodeClock;
use super::disk::SimFs;
use super::snapshots::{Desk, Doom, SnapshotPlan, Step};
use crate::config::CoreConfig;
use crate::core::{Event, Fatal, Install, Lease, Load, Restored};
use crate::log::Write;
use crate::message::Message;
use crate::quorum::Configuration;
use crate::runtime::begin::Beginning;
use crate::runtime::driver::{Committed, Effects, Leaderless, Shard, ShardInput};
use crate::runtime::{Answer, ReadReply};
use crate::snapshot::{SnapshotStore, StoreConfig};
use crate::state_machine::StateMachine;
use crate::sync::Arc;
use crate::time::{Duration, Instant};
use crate::types::{ClusterId, GroupId, Index, NodeId, StoreId};
use crate::wal::{self, Identity, RecoveredGroup, Wal, WalConfig, WalError};

/// The group of a world.
pub(super) const GROUP: GroupId = GroupId(1);

/// Where a node's log lies on its disk.
const DIR: &str = "/log";

/// Where its snapshots lie.
pub(super) const SNAPSHOTS: &str = "/snapshots";

/// A machine: what is left of it when its process ends.
pub(super) struct Node<M> {
    pub(super) id: u64,
    pub(super) clock: NodeClock,
    pub(super) disk: SimFs,
    /// Counts processes.
    pub(super) incarnation: u64,
    pub(super) life: Option<Life<M>>,
    /// The state machine of the process that died last.
    pub(super) left: Option<M>,
    /// Every sync takes this much longer.
    pub(super) slow: Duration,
    /// No sync ends.
    pub(super) hung: bool,
    /// No call of its state machine returns.
    pub(super) blocked: bool,
    /// Its process dies while it is at snapshots.
    pub(super) doom: Option<Doom>,
    pub(super) started_at: Instant,
}

/// A process.
pub(super) struct Life<M> {
    pub(super) shard: Shard,
    pub(super) wal: Wal,
    pub(super) machine: M,
    pub(super) applied: Index,
    pub(super) paused: Option<Paused>,
    /// For the log's device.
    pub(super) writes: VecDeque<(GroupId, Write)>,
    /// What the sync that is under way will make durable.
    pub(super) writing: Option<Vec<(GroupId, Write)>>,
    /// The sync under way ended while the disk hung.
    pub(super) sync_waits: bool,
    /// Batches synced, to tell whether the log has been idle.
    pub(super) batches: u64,
    pub(super) log_failed: bool,
    pub(super) read_failed: bool,
    /// Why the group stopped, if it did.
    pub(super) stopped: Option<Fatal>,
    /// It has heard of no leader for long, or is no member any more: reads that wait are refused.
    pub(super) silent: bool,
    /// Something was handed in behind a flush.
    pub(super) unsettled: bool,
    /// How many calls of its disk had failed before it started.
    pub(super) faults_before: u64,
    /// What came in and waits to be handed in together.
    pub(super) inbox: Vec<ShardInput>,
    /// For the state machine.
    pub(super) backlog: VecDeque<Committed>,
    /// A call of the state machine is under way.
    pub(super) applying: bool,
    /// It has come back.
    pub(super) apply_now: bool,
    pub(super) waiting_reads: Vec<(Index, ReadReply)>,
    /// The lease as threads beside the shard may use it.
    pub(super) published: Option<Lease>,
    /// When its timer fires, in true time.
    pub(super) wake: Option<Instant>,
    pub(super) commit: Index,
    /// The log gives no space back any more.
    pub(super) untidy: bool,
    pub(super) desk: Desk,
}

/// The process is stopped: what comes in waits.
pub(super) struct Paused {
    pub(super) waiting: Vec<ShardInput>,
    /// What is due with its snapshots.
    pub(super) steps: Vec<Step>,
    /// What its clock showed when the machine fell asleep, if it sleeps.
    pub(super) fell_asleep: Option<Instant>,
}

/// Makes a node's directory.
pub(super) fn prepare(disk: &SimFs, id: u64) -> Result<(), WalError> {
    let identity =
        Identity { cluster: cluster().ok_or(WalError::Failed)?, node: NodeId(id), store: StoreId(u128::from(id)) };
    wal::found(disk, Path::new(DIR), &identity)
}

fn cluster() -> Option<ClusterId> {
    ClusterId::new("simulated").ok()
}

/// Opens the snapshots on a node's disk.
pub(super) fn open_snapshots(disk: &SimFs, id: u64, plan: &SnapshotPlan) -> Result<SnapshotStore, String> {
    let cluster = cluster().ok_or("the simulation's name is none")?;
    let mut config = StoreConfig::new(cluster, GROUP, NodeId(id));
    (config.keep, config.chunk_bytes) = (plan.keep, plan.chunk_bytes);
    SnapshotStore::open(Arc::new(disk.clone()), Path::new(SNAPSHOTS), config).map_err(|error| error.to_string())
}

/// Founds the group on it.
pub(super) fn found(disk: &SimFs, config: WalConfig, voters: Configuration) -> Result<Write, WalError> {
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), Path::new(DIR), config)?;
    let (write, _) = Restored::founding(voters);
    wal.append(&[(GROUP, write.clone())])?;
    wal.sync()?;
    Ok(write)
}

/// Opens what is on a node's disk; it holds nothing of the group before the node has begun to join it.
pub(super) fn open(disk: &SimFs, config: WalConfig) -> Result<(Wal, Option<RecoveredGroup>, bool), String> {
    let opened = Wal::open(Arc::new(disk.clone()), Path::new(DIR), config);
    let (wal, mut recovered) = opened.map_err(|error| error.to_string())?;
    let torn = recovered.torn.is_some();
    Ok((wal, recovered.groups.remove(&GROUP), torn))
}

impl<M: StateMachine> Life<M> {
    /// Starts a process on what was found on the disk.
    pub(super) fn start(
        config: CoreConfig,
        wal: Wal,
        machine: M,
        begins: Beginning,
        desk: Desk,
        now: Instant,
    ) -> Result<Self, (M, String)> {
        let Beginning { restored, applied, .. } = begins;
        let mut shard = Shard::new();
        if let Err(error) = shard.open(&mut || now, config, restored) {
            return Err((machine, error.to_string()));
        }
        Ok(Self {
            shard,
            wal,
            machine,
            applied,
            paused: None,
            writes: VecDeque::new(),
            writing: None,
            sync_waits: false,
            batches: 0,
            log_failed: false,
            read_failed: false,
            stopped: None,
            silent: false,
            unsettled: false,
            faults_before: 0,
            inbox: Vec::new(),
            backlog: VecDeque::new(),
            applying: false,
            apply_now: false,
            waiting_reads: Vec::new(),
            published: None,
            wake: None,
            commit: Index::ZERO,
            untidy: false,
            desk,
        })
    }

    /// Takes out what the state machine has in it already, from a snapshot.
    pub(super) fn covered(&mut self) -> Vec<Committed> {
        let covered = self.backlog.iter().take_while(|committed| committed.entry.id.index <= self.applied).count();
        self.backlog.drain(..covered).collect()
    }

    /// Reads that what is applied lets go.
    pub(super) fn ready_reads(&mut self) -> Vec<(Index, ReadReply)> {
        let applied = self.applied;
        self.waiting_reads.extract_if(.., |(index, _)| *index <= applied).collect()
    }
}

/// What one flush of a shard wants done.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) messages: Vec<Message>,
    pub(super) writes: Vec<Write>,
    pub(super) applies: Vec<Committed>,
    pub(super) reads: Vec<(Index, ReadReply)>,
    pub(super) loads: Vec<Load>,
    /// The last one wanted.
    pub(super) install: Option<Install>,
    pub(super) answers: Vec<Answer>,
    pub(super) events: Vec<Event>,
    /// The last change, if there was one.
    pub(super) lease: Option<Option<Lease>>,
    /// No leader is known for long.
    pub(super) silence: bool,
    /// Something was wanted before a lease was told that had changed before it.
    pub(super) lease_told_late: bool,
}

impl Effects for Wanted {
    fn lease(&mut self, _group: GroupId, lease: Option<Lease>) {
        self.lease_told_late |= !self.messages.is_empty() || !self.applies.is_empty();
        self.lease = Some(lease);
    }

    fn send(&mut self, messages: &mut Vec<Message>) {
        self.messages.append(messages);
    }

    fn persist(&mut self, _group: GroupId, write: Write) {
        self.writes.push(write);
    }

    fn apply(&mut self, _group: GroupId, entries: Vec<Committed>) {
        self.applies.extend(entries);
    }

    fn read(&mut self, _group: GroupId, index: Index, reply: ReadReply) {
        self.reads.push((index, reply));
    }

    fn load(&mut self, _group: GroupId, load: Load) {
        self.loads.push(load);
    }

    fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    fn event(&mut self, _group: GroupId, event: Event) {
        self.events.push(event);
    }

    /// Simulated nodes know each other by their ids.
    fn members(&mut self, _group: GroupId, _configuration: &Configuration) {}

    fn install(&mut self, _group: GroupId, install: Install) {
        self.install = Some(install);
    }

    fn leaderless(&mut self, _group: GroupId, how: Leaderless) {
        self.silence |= how.long;
    }
}
