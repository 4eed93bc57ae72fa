//! A node: a directory, a log, a network and the groups on it.

use slog::{Logger, info, warn};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io::Read;
use std::mem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::clock::Clock;
use super::engine::{Engine, Settings};
use super::entropy;
use super::error::TransferError;
use super::group::Group;
use super::inbox::InboxLimits;
use super::node_error::{EngineError, GroupError, OpenError, ShutdownError};
use super::options::{GroupOptions, Options};
use super::persist::Device;
use super::snapshots::{Library, Shelf, SnapshotOptions, now_ms};
use super::stores::KnownStores;
use crate::config::{ConfigError, Limits, Timing};
use crate::core::{Load, Restored};
use crate::log::Write;
use crate::metrics::NodeMetrics;
use crate::quorum::Configuration;
use crate::snapshot::{ImportAs, SnapshotStore};
use crate::state_machine::StateMachine;
use crate::sync::{Arc, Mutex};
use crate::time::Duration;
use crate::transport::tcp::{Tcp, TransportError};
use crate::transport::{Inbound, PeerStores, Transport};
use crate::transport::{LocalIdentity, TcpConfig, TcpLimits};
use crate::types::{ClusterId, GroupId, Index, NodeId, StoreId};
use crate::wal::{self, Fs, Identity, RealFs, RecoveredGroup, Wal, WalConfig, WalError};

/// How long dropping a [`Node`] waits for its threads.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a node needs to know. Make one with [`NodeConfig::new`] and change what should differ.
#[derive(Clone)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Its directory, founded with [`Node::found`].
    pub dir: PathBuf,
    /// Where it listens for its peers; port 0 takes a free one, see [`Node::local_addr`].
    pub listen: SocketAddr,
    /// Where the others listen, as `host:port`. More can be added with [`Node::set_peer`].
    pub peers: BTreeMap<NodeId, String>,
    /// How it reaches them. Default TCP.
    pub network: Network,
    /// Timers of every group.
    pub timing: Timing,
    /// Bounds on the memory of every group.
    pub limits: Limits,
    /// How this node takes part in its groups: in every one that is not in `groups`.
    pub group: GroupOptions,
    /// How it takes part in these, whatever `group` says. A group that is not on this node may be named in advance.
    pub groups: BTreeMap<GroupId, GroupOptions>,
    /// Whether a leader on this node ranks its followers, so that the fittest one stands first when the leader falls
    /// silent. Default yes; safety never depends on it.
    pub succession: bool,
    /// Bounds on what waits in front of the shard, over all groups.
    pub inbox: InboxLimits,
    /// When snapshots are taken, and how they are kept and sent.
    pub snapshots: SnapshotOptions,
    /// The log.
    pub wal: WalConfig,
    /// Where its files are: the real file system, or a simulated one in tests.
    pub fs: Arc<dyn Fs>,
    /// What the node says about itself: role changes at info, what an operator should look at at warn and crit.
    /// Discards by default.
    pub logger: Logger,
}

impl NodeConfig {
    /// The defaults for the node in `dir`, listening at `listen`, without peers.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            dir: dir.into(),
            listen,
            peers: BTreeMap::new(),
            network: Network::Tcp,
            timing: Timing::default(),
            limits: Limits::default(),
            group: GroupOptions::default(),
            groups: BTreeMap::new(),
            succession: true,
            inbox: InboxLimits::default(),
            snapshots: SnapshotOptions::default(),
            wal: WalConfig::default(),
            fs: Arc::new(RealFs),
            logger: Logger::root(slog::Discard, slog::o!()),
        }
    }

    /// What the parts cannot check alone.
    fn validate(&self) -> Result<(), ConfigError> {
        let require = |holds: bool, knob: &'static str, rule: &'static str| {
            if holds { Ok(()) } else { Err(ConfigError { knob, rule }) }
        };
        self.wal.validate()?;
        self.snapshots.validate()?;
        let fits = self.limits.command_bytes as u64 <= self.wal.segment_bytes / 2;
        require(fits, "command_bytes", "must be at most half of wal.segment_bytes")
    }

    fn settings(&self, id: NodeId) -> Settings {
        Settings {
            id,
            timing: self.timing.clone(),
            limits: self.limits.clone(),
            inbox: self.inbox,
            options: Options { every: self.group, exceptions: self.groups.clone(), succession: self.succession },
            clock: Clock::system(),
            // Half a segment leaves room for what the log writes beside the entries.
            batch_bytes: self.wal.batch_bytes.min(usize::try_from(self.wal.segment_bytes / 2).unwrap_or(usize::MAX)),
            logger: self.logger.clone(),
        }
    }
}

/// Joins an in-process network: gets where to deliver, returns how to send.
pub type Connect = Arc<dyn Fn(Arc<dyn Inbound>) -> Arc<dyn Transport> + Send + Sync>;

/// How a node reaches the others.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Network {
    /// TCP, at the configured addresses.
    #[default]
    Tcp,
    /// A transport made by the caller, for instance by joining a
    /// [`ChannelNetwork`](crate::transport::ChannelNetwork). Addresses are not used.
    Custom(Connect),
}

impl Network {
    /// What `connect` makes.
    pub fn custom<T: Transport>(connect: impl Fn(Arc<dyn Inbound>) -> T + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(move |inbound| Arc::new(connect(inbound))))
    }
}

/// One node: shares a log, a network and a timer between its groups. Use it from any thread.
///
/// Dropping it shuts it down as [`shutdown`](Self::shutdown) does, with 10 seconds of patience.
pub struct Node {
    identity: Identity,
    engine: Engine,
    tcp: Option<Arc<Tcp>>,
    groups: Mutex<Groups>,
}

/// The groups on disk, and those that are being created: what is on disk, until somebody opens it.
type Groups = BTreeMap<GroupId, Option<RecoveredGroup>>;

impl Node {
    /// Founds a node's directory: makes it, and gives it an identity with a random store id. Once per disk; a disk that
    /// was lost comes back under a new node id. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError::Wal`] with [`WalError::AlreadyFounded`]: open it instead. Becomes as it says.
    pub fn found(dir: impl AsRef<Path>, cluster: ClusterId, id: NodeId) -> Result<Identity, OpenError> {
        Self::found_on(&RealFs, dir, cluster, id)
    }

    /// Like [`found`](Self::found), on another file system: the one that [`NodeConfig::fs`] will be.
    ///
    /// # Errors
    /// As [`found`](Self::found).
    pub fn found_on(fs: &dyn Fs, dir: impl AsRef<Path>, cluster: ClusterId, id: NodeId) -> Result<Identity, OpenError> {
        if id == NodeId(0) {
            return Err(ConfigError { knob: "id", rule: "must not be 0" }.into());
        }
        let store = StoreId(u128::from_le_bytes(entropy::random().map_err(OpenError::Entropy)?));
        let identity = Identity { cluster, node: id, store };
        wal::found(fs, dir.as_ref(), &identity)?;
        Ok(identity)
    }

    /// Opens a founded directory: takes its lock, recovers its log, joins the network. No group runs yet: open those
    /// of [`groups`](Self::groups) with their state machines. Blocks on the disk, not on any peer.
    ///
    /// # Errors
    /// [`OpenError`]: nothing is left running.
    pub fn open(config: NodeConfig) -> Result<Self, OpenError> {
        config.validate()?;
        let (dir, logger) = (&config.dir, &config.logger);
        let (log, recovered) = Wal::open(config.fs.clone(), dir, config.wal.clone())?;
        let identity = wal::identity(&*config.fs, dir)?;
        if let Some(torn) = recovered.torn.as_ref().filter(|torn| !torn.reused) {
            warn!(logger, "a write was cut short by a crash; it was never acknowledged";
                "file" => %torn.file.display(), "offset" => torn.offset);
        }
        let stores = Arc::new(KnownStores::open(config.fs.clone(), dir, logger.clone())?);
        let reader = log.reader();
        let read = move |group, load: &Load| match reader.read(group, load.first, load.last, load.max_bytes) {
            Err(WalError::NotInLog { .. } | WalError::Compacted { .. }) => Ok(None),
            read => read.map(Some),
        };
        let mut tcp = None;
        let (fs, cluster) = (config.fs.clone(), identity.cluster.clone());
        let library = Library::new(fs, dir.clone(), cluster, identity.node, config.snapshots.clone());
        let engine = Engine::start(config.settings(identity.node), Some(library), log, read, |inbound| {
            let (transport, listener) = connect(&config, &identity, stores, inbound)?;
            tcp = listener;
            Ok(transport)
        })?;
        info!(logger, "node open"; "id" => %identity.node, "store" => %identity.store,
            "groups" => recovered.groups.len());
        let groups = recovered.groups.into_iter().map(|(id, group)| (id, Some(group))).collect();
        Ok(Self { identity, engine, tcp, groups: Mutex::new(groups) })
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it listens for its peers; `None` without TCP.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|tcp| tcp.local_addr())
    }

    /// From now on `node` is dialed at this `host:port`. Ignored without TCP. Does not wait for the peer.
    ///
    /// # Errors
    /// [`TransportError`] if no thread can be started or the node is shut down.
    pub fn set_peer(&self, node: NodeId, address: impl Into<String>) -> Result<(), TransportError> {
        self.tcp.as_ref().map_or(Ok(()), |tcp| tcp.set_peer(node, address))
    }

    /// Creates a group with these members, on every one of them: each founder calls this once with the same
    /// configuration. Returns when the group's first entry is durable here, and the group runs. Blocks on the disk.
    ///
    /// The group's handle has the output type of `machine`.
    ///
    /// # Errors
    /// [`GroupError::Exists`] if it is on this disk already, or is being created; [`GroupError`] says what else may be
    /// wrong. Afterwards [`groups`](Self::groups) tells whether its first entry is on disk all the same: then it was
    /// founded and could not be started, and is to be [opened](Self::open_group). Only after [`GroupError::LogFailed`]
    /// and [`GroupError::ShutDown`] nobody knows before the node is opened again.
    pub fn create_group<S: StateMachine>(
        &self,
        group: GroupId,
        configuration: Configuration,
        machine: S,
    ) -> Result<Group<S::Output>, GroupError> {
        let mut place = self.reserve_new(group)?;
        self.engine.check_founder(&configuration)?;
        if self.shelf(group)?.store.newest().is_some() {
            // What is left of a group that was to be joined.
            return Err(GroupError::Exists(group));
        }
        let founding = Restored::founding(configuration);
        self.found_group(group, founding, machine, &mut place)
    }

    /// Creates a group with these members whose state begins as a snapshot of another, also of another cluster:
    /// `from` reads what [`Snapshot::export`](crate::snapshot::Snapshot::export) wrote. On every founder, once, with the same
    /// configuration and the same bytes, instead of [`create_group`](Self::create_group). What the snapshot's own log, term
    /// and members were is forgotten: to the new group the snapshot is its first entry. Blocks on `from` and the disk, and
    /// while the state machine is restored.
    ///
    /// # Errors
    /// [`GroupError`]; [`GroupError::Snapshots`] if `from` gives no whole export: nothing was founded, try again. Else as
    /// [`create_group`](Self::create_group).
    pub fn restore_group<S: StateMachine>(
        &self,
        group: GroupId,
        configuration: Configuration,
        from: &mut dyn Read,
        machine: S,
    ) -> Result<Group<S::Output>, GroupError> {
        let mut place = self.reserve_new(group)?;
        self.engine.check_founder(&configuration)?;
        let store = &self.shelf(group)?.store;
        // What an attempt before this one has left: the group was not founded.
        store.clear()?;
        let import_as = ImportAs::Founding { configuration: configuration.encode() };
        let snapshot = store.import(from, import_as, now_ms(), &|| true)?;
        let founding = Restored::founding_with_snapshot(snapshot.last(), configuration);
        self.found_group(group, founding, machine, &mut place)
    }

    /// Makes a group's beginning durable and runs the group.
    fn found_group<S: StateMachine>(
        &self,
        group: GroupId,
        (write, restored): (Write, Restored),
        machine: S,
        place: &mut Reserved<'_>,
    ) -> Result<Group<S::Output>, GroupError> {
        let (compaction, configurations) = (write.compaction.clone(), restored.configurations.clone());
        let restored = self.engine.found(group, (write, restored), machine.applied())?;
        let Restored { hard_state, log, .. } = restored.clone();
        let encoded = |(index, configuration): (Index, Configuration)| (index, configuration.encode());
        let configurations = configurations.into_iter().map(encoded).collect();
        place.becomes = Becomes::Closed(Box::new(RecoveredGroup { hard_state, compaction, log, configurations }));
        let handle = self.engine.open_group(group, restored, machine)?;
        place.becomes = Becomes::Open;
        Ok(handle)
    }

    /// Where the snapshots of a group are kept on this node, to read and [export](crate::snapshot::Snapshot::export) them;
    /// `None` if the group is not open. Do not make or import any there: [`Group::snapshot`] does.
    #[must_use]
    pub fn snapshot_store(&self, group: GroupId) -> Option<SnapshotStore> {
        self.engine.library.as_ref()?.opened(group).map(|shelf| shelf.store.clone())
    }

    fn shelf(&self, group: GroupId) -> Result<Arc<Shelf>, GroupError> {
        let library = self.engine.library.as_ref().ok_or(GroupError::Unknown(group))?;
        Ok(library.shelf(group)?)
    }

    /// Takes part in a group that others have founded, as soon as its leader makes this node a member
    /// ([`Group::change`]). Until then it knows nothing of it, and stands for nothing. Once per group; after a restart it
    /// is [opened](Self::open_group) like any other.
    ///
    /// # Errors
    /// [`GroupError`]: the group is not running. [`GroupError::Exists`] if it is on this disk already.
    pub fn join_group<S: StateMachine>(&self, group: GroupId, machine: S) -> Result<Group<S::Output>, GroupError> {
        let mut place = self.reserve_new(group)?;
        let store = &self.shelf(group)?.store;
        if machine.applied() == Index::ZERO && store.newest().is_some_and(|newest| newest.last().index == Index(1)) {
            // What an attempt to restore a backup has left: others may have founded the group with something else.
            // Or it was fetched, and is fetched again.
            store.clear()?;
        }
        let handle = self.engine.open_group(group, Restored::joining(), machine)?;
        place.becomes = Becomes::Open;
        Ok(handle)
    }

    /// Runs a group that is on disk. What the state machine has not [`applied`](StateMachine::applied) yet and is
    /// committed is applied again from the log.
    ///
    /// # Errors
    /// [`GroupError`]: the group is not running; those that a different `machine` would mend may be tried again.
    pub fn open_group<S: StateMachine>(&self, group: GroupId, machine: S) -> Result<Group<S::Output>, GroupError> {
        let (mut place, restored) = self.reserve_closed(group)?;
        let handle = self.engine.open_group(group, restored, machine)?;
        place.becomes = Becomes::Open;
        Ok(handle)
    }

    /// From here on nobody else creates or opens `group`.
    fn reserve_new(&self, group: GroupId) -> Result<Reserved<'_>, GroupError> {
        match self.groups.lock().entry(group) {
            Entry::Occupied(_) => Err(GroupError::Exists(group)),
            Entry::Vacant(place) => {
                place.insert(None);
                Ok(Reserved { groups: &self.groups, group, becomes: Becomes::Unknown })
            }
        }
    }

    /// From here on nobody else opens `group`; what its core starts from.
    fn reserve_closed(&self, group: GroupId) -> Result<(Reserved<'_>, Restored), GroupError> {
        let mut groups = self.groups.lock();
        let place = groups.get_mut(&group).ok_or(GroupError::Unknown(group))?;
        let recovered = place.as_ref().ok_or(GroupError::Open(group))?;
        let restored = restored(group, recovered)?;
        let becomes = place.take().map_or(Becomes::Open, |recovered| Becomes::Closed(Box::new(recovered)));
        Ok((Reserved { groups: &self.groups, group, becomes }, restored))
    }

    /// The groups on this node's disk, open or not, and those that are being created, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.lock().keys().copied().collect()
    }

    /// What it has done so far.
    #[must_use]
    pub fn metrics(&self) -> NodeMetrics {
        self.engine.metrics()
    }

    /// Hands over every group that this node leads to the fittest of the other voters, all at once (rule `p09`), and goes
    /// on running. Returns what became of each: who was told to take over, or why this node was not relieved
    /// ([`TransferError`] says what to do). Groups that it does not lead are not among them.
    ///
    /// Blocks until others lead these groups and whoever had proposed here has been answered, or for `timeout`, whichever
    /// is shorter. A transfer ends within an election timeout by itself; one that is still open when `timeout` is over is
    /// reported as [`TransferError::Unfinished`] and goes on. Proposals are refused meanwhile.
    pub fn hand_over(&self, timeout: Duration) -> BTreeMap<GroupId, Result<NodeId, TransferError>> {
        self.engine.hand_over(timeout)
    }

    /// Ends the node in order: [hands over](Self::hand_over) what it leads, waiting for that no longer than an election
    /// timeout, sees that its farewells have left, and then shuts down as [`shutdown`](Self::shutdown) does. The others
    /// notice a stop of about one round trip instead of an election timeout. A group without another voter, or without
    /// one that answers, is left as it is.
    ///
    /// Blocks for at most about `timeout` in all, like [`shutdown`](Self::shutdown). Call that one to stop at once.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown). Whether everything could be handed over is in the log only: the node ends anyway.
    pub fn leave(&self, timeout: Duration) -> Result<(), ShutdownError> {
        self.engine.leave(timeout)
    }

    /// Ends the node: no new proposal or read gets in, the network is left, every open ticket is answered, what was
    /// handed to the log is still written, every thread is joined, the directory's lock is released. Waits for at most
    /// about `timeout`, and in addition for a lookup of a peer's host name if one is under way: the system's resolver
    /// cannot be interrupted. Groups' handles answer `ShutDown` from then on. A second call is harmless; it waits as well.
    ///
    /// # Errors
    /// [`ShutdownError`] names the threads that had not ended in time: a state machine or a disk blocks them. Call again
    /// to wait again.
    pub fn shutdown(&self, timeout: Duration) -> Result<(), ShutdownError> {
        self.engine.shutdown(timeout)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Threads that did not end were named to the logger; there is nobody to return them to.
        let _ = self.engine.shutdown(DROP_TIMEOUT);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({} of {}, store {})", self.identity.node, self.identity.cluster, self.identity.store)
    }
}

impl Device for Wal {
    type Error = WalError;

    fn append(&mut self, writes: &[(GroupId, Write)]) -> Result<(), WalError> {
        Self::append(self, writes)
    }

    fn sync(&mut self) -> Result<(), WalError> {
        Self::sync(self)
    }

    fn floor(&mut self) -> Result<(), WalError> {
        Self::floor(self)
    }

    fn tidy(&mut self, budget: usize) -> Result<u64, WalError> {
        Self::tidy(self, budget)
    }

    fn pressure(&self) -> Vec<GroupId> {
        Self::pressure(self).into_iter().map(|(group, _)| group).collect()
    }
}

/// A group that one call creates or opens. The lock is free meanwhile: the disk is waited for, and callbacks run that may
/// ask for the groups.
struct Reserved<'a> {
    groups: &'a Mutex<Groups>,
    group: GroupId,
    becomes: Becomes,
}

/// What a group is once the call has ended, however it ended.
enum Becomes {
    /// Nothing of it was written.
    Unknown,
    /// It is on disk, to be opened.
    Closed(Box<RecoveredGroup>),
    Open,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut groups = self.groups.lock();
        match mem::replace(&mut self.becomes, Becomes::Open) {
            Becomes::Unknown => drop(groups.remove(&self.group)),
            Becomes::Closed(recovered) => drop(groups.insert(self.group, Some(*recovered))),
            Becomes::Open => {}
        }
    }
}

/// A transport, and its listener if it is TCP.
type Connected = (Arc<dyn Transport>, Option<Arc<Tcp>>);

fn connect(
    config: &NodeConfig,
    identity: &Identity,
    stores: Arc<dyn PeerStores>,
    inbound: Arc<dyn Inbound>,
) -> Result<Connected, EngineError> {
    match &config.network {
        Network::Custom(connect) => Ok((connect(inbound), None)),
        Network::Tcp => {
            let Identity { cluster, node, store } = identity.clone();
            let mut tcp = TcpConfig::new(LocalIdentity { cluster, node, store }, config.listen);
            tcp.peers = config.peers.clone();
            tcp.limits = TcpLimits::for_groups(&config.limits);
            tcp.logger = config.logger.clone();
            let tcp = Arc::new(Tcp::start(tcp, stores, inbound)?);
            Ok((tcp.clone(), Some(tcp)))
        }
    }
}

/// What the core starts from; how far the state machine is, the engine asks it.
pub(crate) fn restored(group: GroupId, recovered: &RecoveredGroup) -> Result<Restored, GroupError> {
    let decode = |(index, bytes): &(Index, bytes::Bytes)| match Configuration::decode(bytes) {
        Ok(configuration) => Ok((*index, configuration)),
        Err(error) => Err(GroupError::Configuration { group, index: *index, error }),
    };
    // A compacted log begins with the configuration in use there.
    let oldest = recovered.compaction.iter().map(|compaction| &compaction.configuration);
    let later = recovered.configurations.iter();
    let later = later.filter(|(at, _)| recovered.compaction.as_ref().is_none_or(|base| *at > base.configuration.0));
    Ok(Restored {
        hard_state: recovered.hard_state,
        log: recovered.log.clone(),
        configurations: oldest.chain(later).map(decode).collect::<Result<_, _>>()?,
        applied: Index::ZERO,
        snapshot: None,
        founded_now: false,
    })
}
