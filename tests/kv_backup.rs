//! A backup of the example `kv` becomes another cluster: processes, RESP, and the command line.
#![cfg(feature = "node")]
// The lints know tests by their attribute, not the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kv_support;

use std::fs;
use std::path::{Path, PathBuf};

use kv_support::{Cluster, ctl, raft, refusal};
use redis::Commands as _;

/// What a node counts itself: pairs, and a checksum of them.
fn counted(cluster: &Cluster, at: usize) -> String {
    redis::cmd("DEBUG").arg("DIGEST").query(&mut cluster.connect(at).unwrap()).unwrap()
}

/// Returns what the counter says: a write that was not answered is tried again, and may then count twice.
fn write(cluster: &Cluster, from: usize) -> u64 {
    let mut pipeline = redis::pipe();
    for number in from..from + 300 {
        pipeline.set(format!("k{number}"), format!("value {number}")).ignore().cmd("INCR").arg("counter").ignore();
    }
    let written = || pipeline.query::<()>(&mut cluster.connect(cluster.leader()).ok()?).ok();
    cluster.eventually("writes", written);
    cluster.await_agreement();
    cluster.eventually("an answer", || cluster.connect(cluster.leader()).ok()?.get("counter").ok())
}

/// Adds one to the counter; tried until it is answered, so it may be more.
fn increment(cluster: &Cluster) -> u64 {
    let add = || redis::cmd("INCR").arg("counter").query(&mut cluster.connect(cluster.leader()).ok()?).ok();
    cluster.eventually("an increment", add)
}

/// Has a node that follows make a backup.
fn back_up(cluster: &Cluster) -> PathBuf {
    let follower = (cluster.leader() + 1) % 3;
    let (status, text) = ctl(cluster, follower, "backup first");
    let path = cluster.node_dir(follower).join("backups").join("first");
    let bytes = fs::metadata(&path).unwrap().len();
    let says =
        format!("{} has written {}: {bytes} bytes, everything up to index ", cluster.address(follower), path.display());
    assert!(status == 0 && text.starts_with(&says), "{text}");
    wrong_orders_change_nothing(cluster, follower, &path);
    path
}

fn wrong_orders_change_nothing(cluster: &Cluster, at: usize, path: &Path) {
    let (dir, before) = (path.parent().unwrap(), fs::read(path).unwrap());
    let outside = dir.parent().unwrap().join("outside");
    for (order, why) in [
        ("backup first".to_owned(), "first exists already and is left as it is; give another name"),
        (format!("backup {}", path.display()), "exists already"),
        ("backup missing/second".to_owned(), "missing; make it"),
        (format!("backup {}", outside.display()), "start it with another --backup-dir"),
        ("backup ../outside".to_owned(), "start it with another --backup-dir"),
    ] {
        let (status, text) = ctl(cluster, at, &order);
        assert!(status == 1 && text.starts_with("kv: ERR ") && text.contains(why), "{order}: {text}");
    }
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["first"], "and nothing half written");
    assert!(fs::read(path).unwrap() == before && !outside.exists());
}

/// What is no whole backup founds nothing.
fn other_files_are_refused(new: &Cluster, backup: &Path) {
    let whole = fs::read(backup).unwrap();
    let wrong = backup.with_file_name("wrong");
    let mut altered = whole.clone();
    altered[whole.len() - 9] ^= 1;
    let longer = [&whole[..], b"x"].concat();
    for bytes in [&whole[..whole.len() / 2], &altered, &longer, b"something else", b""] {
        fs::write(&wrong, bytes).unwrap();
        let refused = new.found(0, &["--restore", wrong.to_str().unwrap()]);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && text.contains("wrong is no backup that is whole"), "{text}");
    }
    fs::remove_file(&wrong).unwrap();
    let refused = new.found(0, &["--restore", wrong.to_str().unwrap()]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(fs::read_dir(new.node_dir(0)).map_or(0, Iterator::count) == 0, "something was founded");
}

#[test]
fn a_backup_becomes_another_cluster() {
    let old = Cluster::start();
    let count = write(&old, 0);
    let backup = back_up(&old);
    let before = counted(&old, 0);
    // Not in the backup.
    let later = write(&old, 300);
    assert!(later > count);

    let mut new = Cluster::planned(11, &[]);
    other_files_are_refused(&new, &backup);
    let copy = backup.with_file_name("copy");
    fs::copy(&backup, &copy).unwrap();
    for at in 0..3 {
        let founded = new.found(at, &["--restore", copy.to_str().unwrap()]);
        assert!(founded.status.success(), "{founded:?}");
    }
    let again = new.found(0, &["--restore", copy.to_str().unwrap()]);
    assert!(String::from_utf8(again.stderr).unwrap().contains("is not empty"));

    // The file is gone, then another one: no empty group instead, however often it is started.
    fs::remove_file(&copy).unwrap();
    let serve = new.serve_arguments(0);
    let serve: Vec<&str> = serve.iter().map(String::as_str).collect();
    for _ in 0..2 {
        assert!(refusal(&serve).contains("put it there again"));
    }
    fs::write(&copy, "another").unwrap();
    assert!(refusal(&serve).contains("copy is not the backup that this node of cluster test-"));

    fs::copy(&backup, &copy).unwrap();
    (0..3).for_each(|at| new.start_node(at));
    new.leader();
    new.await_agreement();
    assert_eq!(counted(&new, 0), before);
    let found: (String, u64, Option<String>) = new.eventually("the pairs", || {
        let mut leader = new.connect(new.leader()).ok()?;
        redis::cmd("MGET").arg(&["k299", "counter", "k300"]).query(&mut leader).ok()
    });
    assert_eq!(found, ("value 299".into(), count, None));
    assert!(increment(&new) > count);
    new.await_agreement();

    // It goes on from what it has, whatever became of the backup.
    fs::remove_file(&copy).unwrap();
    let after = counted(&new, 0);
    (0..3).for_each(|at| new.kill(at));
    (0..3).for_each(|at| new.start_node(at));
    new.leader();
    new.await_agreement();
    assert!((0..3).all(|at| counted(&new, at) == after));
    assert!(increment(&new) > count + 1);
    let voters: Vec<String> = raft(&new, 0, "STATUS").unwrap();
    assert!(voters.chunks(2).any(|fact| fact == ["voters", "11 12 13"]), "{voters:?}");
    assert!(increment(&old) > later, "the old one has its own");
}

/// A founder that was not told of the backup, or of another one, would differ from the others for good: it is not heard.
#[test]
fn who_begins_with_something_else_is_of_another_cluster() {
    let old = Cluster::start_with(&["--store", "memory"]);
    let count = write(&old, 0);
    let backup = back_up(&old);
    let mut new = Cluster::planned(11, &["--store", "memory"]);
    for at in 0..3 {
        let restore = ["--restore", backup.to_str().unwrap()];
        let founded = new.found(at, if at == 2 { &[] } else { &restore });
        assert!(founded.status.success(), "{founded:?}");
        new.start_node(at);
    }
    new.eventually("a leader among those that began alike", || (new.leader() < 2).then_some(()));
    assert!(increment(&new) > count);
    let heard: Option<u64> = new.info(2).unwrap().get("applied_index");
    assert_eq!(heard, Some(0));
    new.eventually("a word of it in the log", || new.log(2).contains("cluster").then_some(()));
    assert!(counted(&new, 2).split(' ').nth(1) == Some("0"), "{}", counted(&new, 2));
}
