//! A real process, killed at any time: whatever it reported as synced is there afterwards.

#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fates::Rng;
use fixture::{command, hard_state, identity, write};
use tenure::log::Write;
use tenure::types::{EntryId, GroupId, Index};
use tenure::wal::{self, RealFs, Wal, WalConfig};

const CHILD: &str = "TENURE_WAL_KILL_DIR";
const G1: GroupId = GroupId(1);

fn config() -> WalConfig {
    let mut config = WalConfig::default();
    (config.segment_bytes, config.batch_bytes) = (64 << 10, 32 << 10);
    config
}

/// The child: appends, syncs, and then reports the last index on its standard output, for ever. Run by the test below
/// with the directory in its environment; a test of its own only in name.
#[test]
fn child_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let (mut wal, recovered) = Wal::open(Arc::new(RealFs), &dir, config()).unwrap();
    let mut last = recovered.groups.get(&G1).map_or(0, |group| group.log.last().index.0);
    let mut out = std::io::stdout();
    loop {
        let first_state = if last == 0 { Some(hard_state(1, None)) } else { None };
        let ids: Vec<_> = (last + 1..last + 2 + last % 30).map(|index| (index, 1)).collect();
        last += ids.len() as u64;
        wal.append(&[(G1, Write { hard_state: first_state, ..write(&ids) })]).unwrap();
        if last % 3 == 0 {
            wal.floor().unwrap();
        }
        wal.sync().unwrap();
        writeln!(out, "\nsynced {last}").unwrap();
        out.flush().unwrap();
    }
}

fn spawn(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["child_appends_until_it_is_killed", "--exact", "--nocapture", "--test-threads=1"]);
    child.env(CHILD, dir).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Lets the child report some times, kills it a moment later, and returns the last index that it reported.
fn run_and_kill(dir: &Path, rng: &mut Rng) -> u64 {
    let mut child = spawn(dir);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reported = |line: String| line.strip_prefix("synced ").and_then(|last| last.parse::<u64>().ok());
    let few = 1 + rng.pick(40);
    let mut last = (&mut lines).map_while(Result::ok).filter_map(reported).take(few).last().unwrap_or(0);
    std::thread::sleep(Duration::from_micros(rng.below(3000)));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it managed to say before it died counts, too.
    last = lines.map_while(Result::ok).filter_map(reported).last().unwrap_or(last);
    last
}

#[test]
fn a_killed_process_loses_nothing_it_reported() {
    let dir = tempfile::tempdir().unwrap();
    wal::found(&RealFs, dir.path(), &identity()).unwrap();
    let mut rng = Rng(1);
    let mut before = 0;
    for round in 0..12 {
        let reported = run_and_kill(dir.path(), &mut rng);
        assert!(reported > before, "round {round}: the child did not get on, {before} {reported}");
        let (wal, recovered) = Wal::open(Arc::new(RealFs), dir.path(), config()).unwrap();
        let last = recovered.groups[&G1].log.last();
        assert!(last >= EntryId::new(reported, 1), "round {round}: {reported} was synced, the log ends at {last}");
        assert_eq!(recovered.groups[&G1].hard_state, hard_state(1, None));
        let mut next = before + 1;
        while next <= last.index.0 {
            for entry in wal.reader().read(G1, Index(next), last.index, 1 << 20).unwrap() {
                assert_eq!((entry.id.index.0, entry.payload), (next, command(next, 1)));
                next += 1;
            }
        }
        before = last.index.0;
    }
}
