//! The command line.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tenure::types::ClusterId;

use super::members::Member;
use super::operation::MAX_KEY_BYTES;

/// A replicated key-value server for Redis clients: three nodes that stay one.
///
/// Try `kv demo` first: it starts a cluster, loads it, kills its leader and checks that nothing got lost.
#[derive(Debug, Parser)]
#[command(name = "kv", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Founds a node's directory: cluster name, node id and a random number that tells this disk from any other.
    ///
    /// Done once in the life of a node. A directory that was lost is not founded again under the same id: the node
    /// would have forgotten its votes. It comes back under a new id.
    Init(Init),
    /// Runs one node until SIGTERM or SIGINT.
    Serve(Box<Serve>),
    /// Looks at the members of a running cluster, and changes them.
    ///
    /// Exit status: 0 done; 1 not done, and the message says why; 2 a mistake on the command line; 3 it is not known whether
    /// it was done.
    Ctl(Ctl),
    /// Shows what it is all about: three nodes on this machine, load, a killed leader, a new member in place of an old one,
    /// and the proof that nothing got lost.
    Demo(Demo),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Name of the cluster, the same for all its nodes; nodes of another cluster are not talked to.
    #[arg(long, value_name = "NAME", value_parser = cluster_id)]
    pub(crate) cluster: ClusterId,
    /// Number of this node, 1 or more, unique in the cluster and never given to another disk.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) id: u64,
    /// The directory to found; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The node joins a cluster that exists, whose members are asked here, HOST:RESP_PORT; once for each that may be asked.
    /// It takes part once `kv ctl add` or `RAFT ADD` has made it a member.
    #[arg(long, value_name = "HOST:RESP_PORT")]
    pub(crate) join: Vec<String>,
    /// The node founds, with others, a new cluster that begins with this backup: `kv init --restore` with the same file on every
    /// founder, each an empty directory. The file must still be there at the first `kv serve`. Its checksum is added to the
    /// name of the cluster.
    #[arg(long, value_name = "FILE", conflicts_with = "join")]
    pub(crate) restore: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Number of this node, as it was founded.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) id: u64,
    /// The node's directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// One node of the cluster, ID=HOST:RESP_PORT@PEER_PORT; once for each node, this one included. On the first start
    /// this list, the same on every node, is the initial configuration. A node that joins names itself only. Once members
    /// were changed, the configuration says where they are, whatever stands here.
    #[arg(long = "peer", value_name = "ID=HOST:RESP_PORT@PEER_PORT", required = true)]
    pub(crate) peers: Vec<Member>,
    /// Where to listen for peers, IP:PORT. Trusts its network: keep it away from strangers. Default: as this node's own
    /// --peer says.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where to listen for clients, IP:PORT. Default: as this node's own --peer says.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) resp: Option<SocketAddr>,
    /// Founds the directory first if it is empty or missing. For a first start only: after a disk was lost this makes a
    /// node that has forgotten its votes (its peers notice and refuse it).
    #[arg(long, value_name = "NAME", value_parser = cluster_id)]
    pub(crate) cluster: Option<ClusterId>,
    /// Founds it as a node that joins: see `kv init --help`.
    #[arg(long, value_name = "HOST:RESP_PORT", requires = "cluster")]
    pub(crate) join: Vec<String>,
    /// Where the pairs are kept; the log is on disk either way.
    #[arg(long, value_enum, default_value_t = StoreKind::Fjall)]
    pub(crate) store: StoreKind,
    #[command(flatten)]
    pub(crate) timing: TimingArgs,
    /// How much this node wants to lead: among nodes that are fit to, those of higher priority stand first.
    #[arg(long, value_enum, default_value_t = Wants::Normal)]
    pub(crate) priority: Wants,
    /// Reads rely on the leader's lease instead of asking a quorum: no message, but the rates of all clocks must be within
    /// 1 % of the true one, also those of virtual machines.
    #[arg(long)]
    pub(crate) lease_reads: bool,
    /// Size of one file of the log, in bytes: a multiple of 4096, from 2 MiB (twice the longest command) to 1 GiB.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(2 << 20..=1 << 30))]
    pub(crate) segment_bytes: u64,
    /// A snapshot is taken, and the log made shorter, once so many bytes of commands were applied since the last; 0: only on
    /// demand.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub(crate) snapshot_bytes: u64,
    /// The most that this node sends of snapshots, in bytes per second. Default: no limit.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_rate: Option<u64>,
    /// `RAFT BACKUP` writes files below this directory, and nowhere else. Default: `backups` in the node's directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) backup_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// How much to log on standard error.
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
    /// Stops when standard input ends, so that a node does not outlive who started it.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TimingArgs {
    /// E, in milliseconds, 10 or more: a follower that hears nothing for E to 2 E stands for election. Without a leader
    /// no write is accepted, so a smaller E shortens outages; it must stay well above a round trip and a sync of the
    /// disk. The same on every node.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub(crate) election_timeout: u64,
    /// How often an idle leader writes to its followers, in milliseconds; at most E / 2. Default: E / 10, at most 100.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) heartbeat: Option<u64>,
}

impl TimingArgs {
    pub(crate) fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.election_timeout)
    }
}

/// What is larger is a slip of the finger, not a limit.
const MOST_BYTES: u64 = 1 << 30;

#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Client connections; further ones get an error and are closed.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = from(1..=1_000_000))]
    pub(crate) max_clients: usize,
    /// Longest key, in bytes, at most 65534.
    #[arg(long, value_name = "BYTES", default_value_t = MAX_KEY_BYTES, value_parser = from(1..=MAX_KEY_BYTES as u64))]
    pub(crate) max_key_bytes: usize,
    /// Longest argument of a request, so of a value, in bytes. Longer ones are refused before they are read.
    #[arg(long, value_name = "BYTES", default_value_t = (1 << 20) - 1024, value_parser = from(64..=MOST_BYTES))]
    pub(crate) max_value_bytes: usize,
    /// Arguments of one request.
    #[arg(long, value_name = "COUNT", default_value_t = 4096, value_parser = from(16..=1 << 20))]
    pub(crate) max_arguments: usize,
    /// Bytes of all arguments of one request.
    #[arg(long, value_name = "BYTES", default_value_t = 2 << 20, value_parser = from(1024..=MOST_BYTES))]
    pub(crate) max_request_bytes: usize,
    /// Bytes of a request that is typed as a line.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10, value_parser = from(64..=MOST_BYTES))]
    pub(crate) max_line_bytes: usize,
    /// Unanswered requests of one connection; more are not read until some are answered.
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = from(1..=1 << 20))]
    pub(crate) max_pipeline: usize,
    /// Bytes of answers that a client has not read; beyond, its connection is closed.
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 20, value_parser = from(1 << 20..=MOST_BYTES))]
    pub(crate) max_output_bytes: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Ctl {
    /// A node of the cluster, any of them, as clients reach it.
    #[arg(long, value_name = "HOST:RESP_PORT")]
    pub(crate) addr: String,
    #[command(subcommand)]
    pub(crate) command: CtlCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CtlCommand {
    /// What this node knows of the group.
    Status,
    /// Who is a member, where, and how far; as the leader sees it.
    Members,
    /// Makes a node a voter, once it has caught up; it runs already, having been founded with `kv init --join`.
    Add {
        /// Its number.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Where it is, HOST:RESP_PORT@PEER_PORT.
        at: String,
        /// How long it may take to catch up.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
    },
    /// Makes a member none, dead or alive.
    Remove {
        /// Its number.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
    /// Puts a node in place of a member, dead or alive, in one step.
    Replace {
        /// The number of the member.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        old: u64,
        /// The number of the node; that of the member, if it has moved.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        new: u64,
        /// Where it is, HOST:RESP_PORT@PEER_PORT.
        at: String,
        /// How long it may take to catch up.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
    },
    /// Hands leadership over.
    Transfer {
        /// To this node, or to whoever is fit.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: Option<u64>,
    },
    /// Has this node take a snapshot; its log becomes shorter.
    Snapshot,
    /// Has this node take a snapshot and write it to a new file on its host; `kv init --restore` founds a cluster from it.
    Backup {
        /// The file, below what `kv serve --backup-dir` says.
        path: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// SETs to be acknowledged, each of a key of its own; one INCR on one of 100 counters comes with every 20 of them.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub(crate) count: u64,
    /// Connections, each with one request under way.
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) clients: u64,
    /// How often nodes are killed: in turn the leader, a follower, two at once, all three.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) kills: u64,
    /// How often, after the kills, a new node joins and the oldest member leaves. Clients write until that is done, also
    /// beyond --count.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) members: u64,
    /// How often leadership is handed over in order after all that: in turn by FAILOVER and by stopping the leader with
    /// SIGTERM, as long as there is load (--count).
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub(crate) handovers: u64,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=1_000_000))]
    pub(crate) value_bytes: u64,
    /// E of the three nodes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub(crate) election_timeout: u64,
    /// Where the nodes keep their pairs.
    #[arg(long, value_enum, default_value_t = StoreKind::Fjall)]
    pub(crate) store: StoreKind,
    /// Directory for the three nodes, empty or missing; it is kept. Default: a temporary one, removed if all went well.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Leaves the cluster running for you to try.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wants {
    Low,
    Normal,
    High,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// On disk, in the LSM tree of fjall.
    Fjall,
    /// In memory; rebuilt from the newest snapshot and the log at every start.
    Memory,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warning,
    Info,
    Debug,
    Trace,
}

fn cluster_id(name: &str) -> Result<ClusterId, String> {
    ClusterId::new(name).map_err(|error| error.to_string())
}

/// A number of this range. Limits have a lower bound as well: with too little of something no client can be served.
fn from(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_explained() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn serve_is_read_as_documented() {
        let line = "kv serve --id 1 --listen 127.0.0.1:8001 --resp 127.0.0.1:7001 --peer 1=127.0.0.1:7001@8001 \
                    --peer 2=127.0.0.1:7002@8002 --peer 3=127.0.0.1:7003@8003 --dir d --cluster demo --heartbeat 20";
        let Command::Serve(serve) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else { panic!() };
        assert_eq!((serve.peers.len(), serve.timing.heartbeat), (3, Some(20)));
        assert!(Cli::try_parse_from(line.split_whitespace().chain(["--max-pipeline", "1"])).is_ok());
        let limits = "clients key-bytes value-bytes arguments request-bytes line-bytes pipeline output-bytes";
        for limit in limits.split(' ') {
            let refused = Cli::try_parse_from(line.split_whitespace().chain([&*format!("--max-{limit}"), "0"]));
            let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains("0 is not in"), "{limit}: {message}");
        }
        for wrong in ["kv serve --id 0 --dir d --peer 1=h:1@2", "kv init --cluster a/b\u{7f} --id 1 --dir d"] {
            assert!(Cli::try_parse_from(wrong.split_whitespace()).is_err(), "{wrong}");
        }
    }
}
