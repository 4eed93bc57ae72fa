//! `kv serve`: one node, from its directory to the last closed connection. And `kv init`, which founds the directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use slog::{Drain as _, Level, Logger, info, o};
use tenure::config::{Limits, Priority, Timing};
use tenure::quorum::Configuration;
use tenure::runtime::{Group, Node, NodeConfig};
use tenure::types::{ClusterId, GroupId, NodeId};
use tenure::wal::{self, RealFs};

use super::backup::Backups;
use super::cli::{Init, LimitArgs, LogLevel, Serve, StoreKind, Wants};
use super::group::Part;
use super::join;
use super::members::{Member, Members};
use super::resp;
use super::restore;
use super::server::{self, Server};
use super::store::durable::Durable;
use super::store::memory::Memory;
use super::store::{Machine, Outcome, Store};

/// The one group of this server.
pub(crate) const GROUP: GroupId = GroupId(1);

/// How long a node may take to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// Why a node cannot be founded or run: a sentence, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

/// Founds a node's directory.
///
/// # Errors
/// [`Refused`] if it is founded already or cannot be written.
pub(crate) fn init(init: &Init) -> Result<(), Refused> {
    let cluster = match &init.restore {
        Some(backup) => restore::prepare(&init.dir, &init.cluster, backup).map_err(Refused)?,
        None => init.cluster.clone(),
    };
    found(&init.dir, &cluster, NodeId(init.id), &init.join)?;
    println!("Node {} of cluster {cluster} is founded in {}", init.id, init.dir.display());
    Ok(())
}

/// Founds a directory; of a node that joins, if members are named whom it asks.
fn found(dir: &Path, cluster: &ClusterId, id: NodeId, join: &[String]) -> Result<(), Refused> {
    let failed = |error: &dyn std::fmt::Display| Refused(format!("cannot found {}: {error}", dir.display()));
    let founded_before = engine_dir(dir).exists();
    if !join.is_empty() && !founded_before {
        join::note(dir, join).map_err(|error| failed(&error))?;
    }
    Node::found(engine_dir(dir), cluster.clone(), id).map(drop).map_err(|error| failed(&error))
}

/// The engine's part of a node's directory: identity and log.
fn engine_dir(dir: &Path) -> PathBuf {
    dir.join("raft")
}

/// The storage engine's part of a node's directory.
fn store_dir(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// Runs one node until it is told to stop.
///
/// # Errors
/// [`Refused`] if it cannot start, or not stop in time.
pub(crate) fn serve(serve: &Serve) -> Result<(), Refused> {
    let logger = logger(serve);
    let members = members(serve)?;
    let listen = address(serve.listen, &members.all[&members.own].peer_address())?;
    let resp = address(serve.resp, &members.all[&members.own].resp_address())?;
    let stop = stop_signals(serve.stop_with_stdin)?;
    prepare_directory(serve)?;

    let node = Node::open(node_config(serve, &members, listen, &logger))
        .map_err(|error| Refused(format!("cannot open node {} in {}: {error}", serve.id, serve.dir.display())))?;
    let node = Arc::new(node);
    let store = open_store(serve, &logger)?;
    let unreadable = |error: io::Error| Refused(format!("cannot read {}: {error}", serve.dir.display()));
    let asked = join::noted(&serve.dir).map_err(unreadable)?;
    let begins = match restore::noted(&serve.dir).map_err(unreadable)? {
        Some(backup) => Begins::With(backup),
        None if asked.is_some() => Begins::Elsewhere,
        None => Begins::Empty,
    };
    let group = open_group(&node, &members, store.clone(), begins)?;
    if let Some(asked) = asked {
        start_learning(asked, node.clone(), group.clone(), logger.clone())?;
    }
    let backup_dir = serve.backup_dir.clone().unwrap_or_else(|| serve.dir.join("backups"));
    let backups = Backups::start(node.clone(), group.clone(), backup_dir, serve.backup_dir.is_none())
        .map_err(|error| Refused(format!("no thread to write backups: {error}")))?;
    let (limits, part) = (server_limits(&serve.limits), Part { node: node.clone(), group, backups });
    let server = Server::start(resp, limits, members, store, Arc::new(part), logger.clone())
        .map_err(|error| Refused(format!("cannot listen for clients on {resp}: {error}")))?;
    info!(logger, "serving"; "clients" => %server.address(), "peers" => %listen, "dir" => %serve.dir.display());

    // Ends when a signal came, or when whoever could send one is gone.
    let reason = stop.recv().unwrap_or("nothing left to wait for");
    info!(logger, "stopping"; "reason" => reason);
    // Clients are served on until another node leads, and sent there.
    node.hand_over(serve.timing.election_timeout().min(SHUTDOWN_LIMIT));
    drop(server);
    node.shutdown(SHUTDOWN_LIMIT).map_err(|error| Refused(error.to_string()))
}

fn logger(serve: &Serve) -> Logger {
    let level = match serve.log_level {
        LogLevel::Error => Level::Error,
        LogLevel::Warning => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    };
    let lines = slog_term::PlainSyncDecorator::new(io::stderr());
    let drain = slog_term::FullFormat::new(lines).use_utc_timestamp().build();
    // A log that cannot be written must not stop the node.
    Logger::root(drain.filter_level(level).ignore_res(), o!("node" => serve.id))
}

fn members(serve: &Serve) -> Result<Members, Refused> {
    let own = NodeId(serve.id);
    let mut all: BTreeMap<NodeId, Member> = BTreeMap::new();
    for member in &serve.peers {
        if all.insert(member.id, member.clone()).is_some() {
            return Err(Refused(format!("--peer names node {} twice", member.id.0)));
        }
    }
    if !all.contains_key(&own) {
        return Err(Refused(format!("no --peer names this node, {}; the list is the same on every node", own.0)));
    }
    Ok(Members { own, all })
}

/// The address given, or else the one that the node's own `--peer` names.
fn address(given: Option<SocketAddr>, own: &str) -> Result<SocketAddr, Refused> {
    let resolve = || {
        let mut found = own.to_socket_addrs().map_err(|error| Refused(format!("cannot resolve {own}: {error}")))?;
        found.next().ok_or_else(|| Refused(format!("{own} has no address")))
    };
    given.map_or_else(resolve, Ok)
}

/// Founds a new directory if that was asked for.
fn prepare_directory(serve: &Serve) -> Result<(), Refused> {
    let dir = &serve.dir;
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(Refused(format!("cannot read {}: {error}", dir.display()))),
    };
    match &serve.cluster {
        Some(cluster) if empty => found(dir, cluster, NodeId(serve.id), &serve.join),
        None if empty => Err(Refused(format!(
            "{} was never founded. A new node: run `kv init` first, or give --cluster. A node that lost its disk: \
             it would have forgotten its votes, bring it back under a new id",
            dir.display()
        ))),
        _ => check_identity(serve),
    }
}

/// The directory must be the one that the command line means.
fn check_identity(serve: &Serve) -> Result<(), Refused> {
    let dir = serve.dir.display();
    let identity = wal::identity(&RealFs, &engine_dir(&serve.dir));
    let identity = identity.map_err(|error| Refused(format!("{dir} is no node's directory: {error}")))?;
    if identity.node != NodeId(serve.id) {
        let (founded, given) = (identity.node.0, serve.id);
        return Err(Refused(format!("{dir} was founded for node {founded}, --id says {given}")));
    }
    match &serve.cluster {
        Some(cluster) if *cluster != identity.cluster => {
            Err(Refused(format!("{dir} was founded for cluster {}, --cluster says {cluster}", identity.cluster)))
        }
        _ => Ok(()),
    }
}

fn node_config(serve: &Serve, members: &Members, listen: SocketAddr, logger: &Logger) -> NodeConfig {
    let mut timing = Timing::from_election_timeout(serve.timing.election_timeout());
    if let Some(heartbeat) = serve.timing.heartbeat {
        timing.heartbeat_interval = Duration::from_millis(heartbeat);
    }
    let others = members.all.values().filter(|member| member.id != members.own);
    let mut config = NodeConfig::new(engine_dir(&serve.dir), listen);
    config.peers = others.map(|member| (member.id, member.peer_address())).collect();
    config.timing = timing;
    config.group.lease_reads = serve.lease_reads;
    config.group.priority = match serve.priority {
        Wants::Low => Priority::Low,
        Wants::Normal => Priority::Normal,
        Wants::High => Priority::High,
    };
    config.wal.segment_bytes = serve.segment_bytes;
    config.wal.soft_bytes = config.wal.soft_bytes.max(2 * serve.segment_bytes);
    let segment_bytes = usize::try_from(serve.segment_bytes).unwrap_or(usize::MAX);
    config.wal.batch_bytes = config.wal.batch_bytes.min(segment_bytes);
    config.snapshots.log_bytes = serve.snapshot_bytes;
    config.snapshots.send_bytes_per_second = serve.snapshot_rate;
    config.logger = logger.clone();
    config
}

fn open_store(serve: &Serve, logger: &Logger) -> Result<Arc<dyn Store>, Refused> {
    match serve.store {
        StoreKind::Memory => Ok(Arc::new(Memory::new())),
        StoreKind::Fjall => {
            let dir = store_dir(&serve.dir);
            let opened = Durable::open(&dir, logger);
            let store = opened.map_err(|error| Refused(format!("cannot open {}: {error}", dir.display())))?;
            Ok(Arc::new(store))
        }
    }
}

/// How the group begins on a node that has nothing of it yet.
enum Begins {
    Empty,
    /// With a backup.
    With(PathBuf),
    /// Others have founded it.
    Elsewhere,
}

fn open_group(
    node: &Node,
    members: &Members,
    store: Arc<dyn Store>,
    begins: Begins,
) -> Result<Group<Outcome>, Refused> {
    let machine = Machine::new(store);
    let configuration = Configuration::of_voters(members.all.keys().copied());
    let configuration = configuration.map_err(|error| Refused(format!("--peer: {error}")));
    let opened = match begins {
        _ if node.groups().contains(&GROUP) => node.open_group(GROUP, machine),
        Begins::Elsewhere => node.join_group(GROUP, machine),
        Begins::Empty => node.create_group(GROUP, configuration?, machine),
        Begins::With(backup) => {
            let mut file = restore::open(&backup, &node.identity().cluster).map_err(Refused)?;
            node.restore_group(GROUP, configuration?, &mut file, machine)
        }
    };
    opened.map_err(|error| Refused(format!("cannot open the group: {error}")))
}

fn start_learning(asked: Vec<String>, node: Arc<Node>, group: Group<Outcome>, logger: Logger) -> Result<(), Refused> {
    let learn = move || join::learn(&asked, &node, &group, &logger);
    let started = std::thread::Builder::new().name("kv-join".into()).spawn(learn);
    started.map(drop).map_err(|error| Refused(format!("no thread to join with: {error}")))
}

fn server_limits(arguments: &LimitArgs) -> server::Limits {
    server::Limits {
        connections: arguments.max_clients,
        request: resp::Limits {
            arguments: arguments.max_arguments,
            argument_bytes: arguments.max_value_bytes,
            request_bytes: arguments.max_request_bytes,
            line_bytes: arguments.max_line_bytes,
        },
        key_bytes: arguments.max_key_bytes,
        command_bytes: Limits::default().command_bytes,
        pipeline: arguments.max_pipeline,
        pipeline_bytes: 4 << 20,
        output_bytes: arguments.max_output_bytes,
    }
}

/// Says once why the node should stop.
fn stop_signals(with_stdin: bool) -> Result<Receiver<&'static str>, Refused> {
    let failed = |error: io::Error| Refused(format!("cannot watch for signals: {error}"));
    let (sender, receiver) = bounded(1);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let told = sender.clone();
    let watch = move || {
        for signal in signals.forever() {
            tell(&told, if signal == SIGTERM { "SIGTERM" } else { "SIGINT" });
        }
    };
    std::thread::Builder::new().name("kv-signals".into()).spawn(watch).map_err(failed)?;
    if with_stdin {
        let watch = move || {
            let mut ignored = [0; 256];
            while matches!(io::stdin().read(&mut ignored), Ok(1..)) {}
            tell(&sender, "standard input ended");
        };
        std::thread::Builder::new().name("kv-stdin".into()).spawn(watch).map_err(failed)?;
    }
    Ok(receiver)
}

/// One reason is enough: if one waits already, this one is dropped.
fn tell(sender: &Sender<&'static str>, reason: &'static str) {
    let _ = sender.try_send(reason);
}
