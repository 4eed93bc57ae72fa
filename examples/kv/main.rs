//! A replicated key-value server on `tenure`, for clients that speak the Redis protocol.
//!
//! ```text
//! client -> server (event loop) -> replica (the Raft group) -> store (state machine) -> reply, straight to the socket
//! ```
//!
//! - [`resp`], [`reply`]: the protocol; [`command`]: what requests ask for; [`slots`], [`members`]: what cluster-aware
//!   clients want to know.
//! - [`server`]: connections. [`replica`]: the seam to the group, [`group`] behind it.
//! - [`operation`], [`store`]: what is in the log, and what it does to the data.
//! - [`admin`]: who is a member; [`join`]: how a node becomes one; [`backup`], [`restore`]: how a cluster begins with what
//!   another had; [`ctl`]: orders on the command line.
//! - [`serve`]: one node; [`client`]: who asks one; [`demo`]: three of them, a load, a killed leader, and judges.
//!
//! `cargo run --release --example kv -- demo` shows it all.

use std::process::ExitCode;

use clap::Parser as _;

mod admin;
mod backup;
mod cli;
mod client;
mod command;
mod ctl;
mod demo;
mod group;
mod join;
mod members;
mod note;
mod operation;
mod replica;
mod reply;
mod resp;
mod restore;
mod serve;
mod server;
mod slots;
mod store;

fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        cli::Command::Init(init) => serve::init(&init).map_err(|error| error.to_string()),
        cli::Command::Serve(serve) => serve::serve(&serve).map_err(|error| error.to_string()),
        cli::Command::Ctl(ctl) => return ctl::run(&ctl),
        cli::Command::Demo(demo) => demo::run(&demo).map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv: {error}");
            ExitCode::FAILURE
        }
    }
}
