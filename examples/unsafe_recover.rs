//! **Unsafe**: recovers a group that has lost its quorum for good, on the directory of a node that is not running.
//!
//! It needs no state machine, so it works for whatever engine the node belongs to, `kv` included.
//!
//! ```sh
//! unsafe_recover --dir /var/lib/kv/3 --group 1 --peer 1=10.0.0.1:8001 --peer 2=10.0.0.2:8001
//! # prints the plan; read it, then add what stands in its last line:
//! unsafe_recover --dir /var/lib/kv/3 --group 1 --peer 1=10.0.0.1:8001 --peer 2=10.0.0.2:8001 --confirm recover-n3-g1-...
//! ```
//!
//! `docs/operations.md` says when, and what to do before and after.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tenure::NodeConfig;
use tenure::types::{GroupId, NodeId};
use tenure::unsafe_recover::{Offline, RecoverError};

/// UNSAFE: makes this node the only voter of a group whose quorum is lost for good. Acknowledged writes may be lost.
///
/// Without --confirm it changes nothing and prints what would be done.
#[derive(Parser)]
struct Arguments {
    /// The node's directory. The node must not run.
    #[arg(long)]
    dir: PathBuf,
    /// The group; `kv` has group 1.
    #[arg(long)]
    group: u64,
    /// Where another member listens for its peers, or did, ID=HOST:PORT: for those whose address is not in the configuration.
    #[arg(long = "peer", value_parser = peer)]
    peers: Vec<(u64, String)>,
    /// Carries the plan out that ends in this line.
    #[arg(long)]
    confirm: Option<String>,
}

fn peer(text: &str) -> Result<(u64, String), String> {
    let (id, address) = text.split_once('=').ok_or("write ID=HOST:PORT")?;
    Ok((id.parse().map_err(|_| format!("{id} is no node id"))?, address.to_owned()))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unsafe_recover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), RecoverError> {
    let mut config = NodeConfig::new(&arguments.dir, ([127, 0, 0, 1], 0).into());
    config.peers = arguments.peers.iter().map(|(id, address)| (NodeId(*id), address.clone())).collect();
    let (offline, group) = (Offline::open(&config)?, GroupId(arguments.group));
    match &arguments.confirm {
        None => println!("{}", offline.plan(group)?),
        Some(token) => {
            let done = offline.carry_out(group, token)?;
            println!("{} is now the only voter of {group}. Start it, then add fresh nodes.", done.identity.node);
            println!("Barred for good: {}.", done.others.keys().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
    }
    Ok(())
}
