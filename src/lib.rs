//! `tenure`: a Raft consensus engine that storage engines import as a library.
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
#[cfg(feature = "node")]
mod sync;
#[cfg(feature = "node")]
pub mod transport;
#[cfg(feature = "node")]
pub mod wal;
#[cfg(feature = "node")]
pub mod wire;
