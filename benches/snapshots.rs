//! Snapshots between real processes: how fast they go, what they cost the clients meanwhile and the sender in memory,
//! and that a transfer survives any kill.
//!
//! - `join`: three nodes with a state of `--bytes`, a steady load; a fourth is added and gets the state as a snapshot.
//!   Reported: its rate, and the latency of commands before and meanwhile.
//! - `memory`: two nodes are added at once; the leader's memory before and while it sends to both.
//! - `kills`: SIGKILL of the receiver, or of the sender, at random moments of transfers; each goes on where it was.
//!
//! After each the states of all nodes are compared. `cargo bench --bench snapshots -- join --help` lists the options.

#[path = "snapshots/cluster.rs"]
mod cluster;
#[path = "snapshots/machine.rs"]
mod machine;
#[path = "snapshots/node.rs"]
mod node;
#[path = "snapshots/scenes.rs"]
mod scenes;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Snapshots between real processes: rate, latency meanwhile, memory, kills")]
struct Cli {
    #[command(subcommand)]
    scene: Option<Scene>,
    /// Given by `cargo bench`, without a meaning here.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Scene {
    /// A fourth node joins under load.
    Join(Options),
    /// Two nodes join at once; the sender's memory.
    Memory(Options),
    /// Nodes are killed while they send or receive.
    Kills(Options),
    #[command(hide = true)]
    Node(node::Options),
}

/// What is asked of the processes.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Bytes of state.
    #[arg(long, default_value_t = 1_000_000_000)]
    bytes: u64,
    /// Bytes of one file of it.
    #[arg(long, default_value_t = 16_000_000)]
    file: u64,
    /// Commands of 128 bytes per second meanwhile.
    #[arg(long, default_value_t = 500)]
    load: u64,
    /// Bytes of snapshots that a node may send per second.
    #[arg(long, default_value_t = 55_000_000)]
    rate: u64,
    /// How often a process is killed.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Kills in one transfer.
    #[arg(long, default_value_t = 5)]
    kills_per_transfer: u32,
    /// For what is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the nodes keep their files; removed afterwards. By default in the build's directory.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() {
    let done = match Cli::parse().scene {
        Some(Scene::Node(options)) => node::run(&options),
        Some(Scene::Join(options)) => scenes::join(&options),
        Some(Scene::Memory(options)) => scenes::memory(&options),
        Some(Scene::Kills(options)) => scenes::kills(&options),
        // A quick look at each: what `cargo bench` alone does.
        None => [scenes::join, scenes::memory, scenes::kills].iter().try_for_each(|scene| scene(&Options::quick())),
    };
    if let Err(error) = done {
        eprintln!("snapshots: {error}");
        std::process::exit(1);
    }
}

impl Options {
    fn quick() -> Self {
        let (bytes, file, load, rate) = (60_000_000, 2_000_000, 200, 30_000_000);
        Self { bytes, file, load, rate, kills: 6, kills_per_transfer: 3, seed: 1, dir: None }
    }
}
