//! Real processes, real faults: what `tests/real.rs` is made of.

#![allow(clippy::unwrap_used, clippy::panic)]

pub(crate) mod clients;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod history;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod packets;
pub(crate) mod proxy;
pub(crate) mod story;

use std::process::Command;
use std::time::Duration;

/// `E` of the nodes.
pub(crate) const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// What a run is told by its environment (see `run` beside this file).
pub(crate) struct Settings {
    /// Every random choice of the harness follows from it. Those of kernels and processes do not.
    pub(crate) seed: u64,
    /// Faults are injected for so long, and until each had its turn.
    pub(crate) duration: Duration,
    /// Only faults whose names contain this.
    pub(crate) faults: String,
    /// Network namespaces; else loopback and a proxy.
    pub(crate) namespaces: bool,
}

impl Settings {
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let number = |name: &str| variable(name).map(|text| text.parse().unwrap());
        let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 % 1_000_000;
        Self {
            seed: number("TENURE_REAL_SEED").unwrap_or_else(now),
            duration: Duration::from_secs(number("TENURE_REAL_SECONDS").unwrap_or(0)),
            faults: variable("TENURE_REAL_FAULTS").unwrap_or_default(),
            namespaces: variable("TENURE_REAL_NETWORK").as_deref() == Some("namespaces"),
        }
    }
}

/// Runs a program of the system; it must succeed.
#[track_caller]
pub(crate) fn system(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program of the system is there and succeeds.
pub(crate) fn succeeds(line: &str) -> bool {
    let mut words = line.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().is_ok_and(|output| output.status.success())
}
