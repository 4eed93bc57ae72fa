//! `l01`: no thread outlives its node. Alone in its file: it looks at all threads of the process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod node_support;

use node_support::{Cluster, LONG};
use std::fs;
use std::time::Instant;

fn own_threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("tenure-")).collect()
}

#[test]
fn l01_no_thread_outlives_its_node() {
    let mut cluster = Cluster::start(3);
    cluster.propose("x");
    let names = own_threads();
    for kind in ["tenure-timer", "tenure-persist", "tenure-load", "tenure-apply-g1"] {
        assert_eq!(names.iter().filter(|name| **name == kind).count(), 3, "{kind} in {names:?}");
    }

    let started = Instant::now();
    cluster.stop(1);
    cluster.stop(2);
    // The last one is dropped, with its group's handle outliving it.
    let last = cluster.running.remove(&3).unwrap();
    let group = last.group.clone();
    drop(last.node);
    assert!(started.elapsed() < LONG);
    assert!(group.status().is_none());
    // The kernel removes a joined thread's entry a moment later.
    node_support::wait_for("the last thread to go", || own_threads().is_empty().then_some(()));
}
