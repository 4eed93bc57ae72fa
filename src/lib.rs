//! A Raft consensus engine that storage engines import as a library.
//!
//! A leader has *tenure*: nodes that hear it promise not to help depose it, so a live leader is left alone.
//!
//! There are two doors:
//!
//! 1. `Node` (feature `node`, on by default): threads, a write-ahead log with group commit, a TCP transport and many
//!    groups in one process. Bring a [`StateMachine`](state_machine::StateMachine); use `Group::propose` and
//!    `Group::read`. The README's example shows the whole of it.
//! 2. [`core::Core`]: the protocol as a value, without I/O, clock, threads or randomness of its own, for engines that
//!    have an event loop, a log and a network. It is what the first door runs.
//!
//! # Modules
//!
//! A module names only those to its left:
//! [`types`] [`time`] [`config`] < [`quorum`] [`message`] [`log`] < [`core`] < `wire` `wal` < `snapshot` < `transport`
//! < `runtime`.
//! `docs/architecture.md` is the map, `docs/rules.md` gives every rule a name that comments and tests use (`o12`,
//! `p03`).
//!
//! # Guarantees and what they rest on
//!
//! An acknowledged command is durable on a quorum and applied by every member, once, in one order. A linearizable read
//! sees every command acknowledged before it began. Errors tell "certainly not committed" from "outcome unknown".
//!
//! That rests on disks that keep what they have synced, on founders that were given the same voters, and on state
//! machines whose results follow from their commands. Clocks matter for availability only, except to reads under a lease,
//! which a group has to be opened for: they need clocks whose rates are right within a percent.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `node` | yes | everything but the core: log, transport, runtime |
//! | `sim` | no | `sim`: clusters in virtual time, to test the engine and state machines on it |

// The example in the README is compiled with the documentation's tests.
#![cfg_attr(all(doctest, feature = "node"), doc = include_str!("../README.md"))]

pub mod config;
pub mod core;
pub mod log;
pub mod message;
pub mod quorum;
pub mod state_machine;
pub mod time;
pub mod types;

#[cfg(feature = "node")]
pub mod metrics;
#[cfg(feature = "node")]
pub mod runtime;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "node")]
pub mod snapshot;
#[cfg(feature = "node")]
mod sync;
#[cfg(feature = "node")]
pub mod transport;
#[cfg(feature = "node")]
pub mod wal;
#[cfg(feature = "node")]
pub mod wire;

#[cfg(feature = "node")]
pub use runtime::{Consistency, Group, Node, NodeConfig, unsafe_recover};
