//! What this machine can do without any consensus: the yardstick for replicated writes.
//!
//! Three processes keep a log each and talk over TCP on loopback; a generator plays the clients. There are no terms,
//! no elections and no recovery, but the same sockets, checksums and syncs as in a replicated log:
//!
//! - *leader*: read what has arrived; send the batch to both followers; append it to the own log and sync; wait for the
//!   first follower; answer. With `--threaded` a second thread writes the own log and any two of the three suffice.
//! - *follower*: read what has arrived, check it, append it and sync, acknowledge how many records there are by now.
//! - *clients*: each sends the next request when it has the answer to the last. They share `--connections` sockets.
//!
//! One batch is under way at a time. Beside that two probes: a sync of 4 KiB, and a round trip on loopback.
//!
//! `cargo bench --bench floor -- --help` lists the options. A table goes to standard error as it grows, one JSON object
//! per result to standard output. Take ratios to another program of the same run; figures of another day or machine
//! mean little.

#[path = "floor/follower.rs"]
mod follower;
#[path = "floor/format.rs"]
mod format;
#[path = "floor/leader.rs"]
mod leader;
#[path = "floor/load.rs"]
mod load;
#[path = "floor/log.rs"]
mod log;
#[path = "floor/probes.rs"]
mod probes;
#[path = "floor/process.rs"]
mod process;
#[path = "floor/report.rs"]
mod report;

use clap::{Args, Parser, Subcommand};
use report::Report;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(about = "What three durable processes can do on this machine without any consensus")]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// How many clients; one run for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    clients: Vec<usize>,
    /// The most sockets the clients share; by default each has its own.
    #[arg(long)]
    connections: Option<usize>,
    /// Seconds per run, after 0.7 s to warm up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often the whole series is run.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Where the logs lie; removed afterwards. By default in the build's directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Leave out the probes of disk and loopback.
    #[arg(long)]
    no_probes: bool,
    #[command(flatten)]
    work: Work,
    /// Given by `cargo bench`, without a meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the processes do with a request; the same for all of them.
#[derive(Args, Clone, Copy)]
struct Work {
    /// Bytes of a value.
    #[arg(long, global = true, default_value_t = 128)]
    value: usize,
    /// The leader's log has a thread of its own.
    #[arg(long, global = true)]
    threaded: bool,
    /// Write, but do not sync.
    #[arg(long, global = true)]
    nosync: bool,
    /// Answer at once, without any log.
    #[arg(long, global = true)]
    read: bool,
}

/// The other processes are this program again, each in one of these roles.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    #[command(hide = true)]
    Follower { log: PathBuf },
    #[command(hide = true)]
    Leader { log: PathBuf, connections: usize, first: u16, second: u16 },
}

fn main() -> io::Result<()> {
    let cli = Cli::parse();
    match cli.role {
        Some(Role::Follower { log }) => process::child(|listener| follower::run(&listener, &log, cli.work)),
        Some(Role::Leader { log, connections, first, second }) => {
            process::child(|listener| leader::run(&listener, &log, connections, [first, second], cli.work))
        }
        None => measure(&cli),
    }
}

fn measure(cli: &Cli) -> io::Result<()> {
    check_sizes(cli)?;
    let parent = cli.dir.as_deref().unwrap_or(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let directory = tempfile::Builder::new().prefix("floor-").tempdir_in(parent)?;
    let mut report = Report::new();
    if !cli.no_probes {
        report.probe("fdatasync of 4 KiB in a file written before", &probes::sync(directory.path())?);
        report.probe("round trip of 64 B on loopback, blocking", &probes::round_trip()?);
    }
    for _ in 0..cli.rounds {
        for &clients in &cli.clients {
            let connections = cli.connections.unwrap_or(clients).clamp(1, clients.max(1));
            let trio = process::Trio::start(directory.path(), connections, cli.work)?;
            let result = load::run(&trio, clients.max(1), connections, cli.seconds, cli.work)?;
            report.result(&result, cli.work);
        }
    }
    report.print_json();
    Ok(())
}

/// One request per client must fit into the buffers: the largest batch into the log, a request into its connection's.
fn check_sizes(cli: &Cli) -> io::Result<()> {
    let most = cli.clients.iter().max().copied().unwrap_or(1);
    let batch = most.saturating_mul(format::record_bytes(cli.work.value.min(log::BYTES)));
    let fits = cli.work.value <= leader::MOST_VALUE && batch <= log::BYTES;
    let error =
        || io::Error::new(io::ErrorKind::InvalidInput, "clients x value must stay below 64 MiB, value below 127 KiB");
    fits.then_some(()).ok_or_else(error)
}
