//! Three real nodes, real kernels, and everything that goes wrong on them: partitions, loss, delay, killed and stopped
//! processes, disks that fail or are full. Clients write down what they asked for and got, and the whole of it must be
//! linearizable.
//!
//! Not part of the usual tests: a run takes one to two minutes, and most faults need root. `tests/real_support/run` runs
//! them.
#![cfg(all(feature = "sim", target_os = "linux"))]
// The lints know tests by their attribute, not the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kv_support;
mod real_support;

use real_support::story;

#[test]
#[ignore = "a minute and more, and root: see tests/real_support/run"]
fn histories_under_faults_are_linearizable() {
    story::run(&["--store", "fjall"]);
}

#[test]
#[ignore = "a minute and more, and root: see tests/real_support/run"]
fn p07_histories_under_faults_are_linearizable_with_lease_reads() {
    story::run(&["--store", "memory", "--lease-reads"]);
}
