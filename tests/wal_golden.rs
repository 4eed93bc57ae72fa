//! Bytes are a promise: a directory written by an older format version is opened by every later one.
//!
//! `tests/golden/wal-v1` and `wal-v2` are never changed. A new format version adds a directory beside them, written by
//! running this with `TENURE_WRITE_GOLDEN=1` once.

#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;
#[path = "support/wal_model.rs"]
mod model;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fixture::{compaction, entry, hard_state, identity, small_config, write};
use model::Model;
use tenure::log::{EntryKind, Write};
use tenure::types::{EntryId, GroupId, Index};
use tenure::wal::{self, RealFs, Wal};

/// One of everything that version 1 wrote.
fn writes_of_version_1() -> Vec<(GroupId, Write)> {
    let opening = vec![entry(1, 1, EntryKind::Configuration, b"voters"), entry(2, 2, EntryKind::Noop, b"")];
    let founding = Write { hard_state: Some(hard_state(2, Some(3))), entries: opening, ..Write::default() };
    let large = entry(3, 2, EntryKind::Command, &[0xab; 7000]);
    let instead = Write {
        hard_state: Some(hard_state(4, None)),
        truncate_from: Some(Index(3)),
        ..write(&[(3, 3), (4, 3), (5, 4)])
    };
    vec![
        (GroupId(1), founding.clone()),
        (GroupId(2), founding),
        (GroupId(1), Write { entries: vec![large.clone()], ..Write::default() }),
        (GroupId(2), Write { entries: vec![large], ..Write::default() }),
        (GroupId(1), instead),
        (GroupId(2), Write { truncate_from: Some(Index(2)), ..Write::default() }),
    ]
}

/// The same, and what version 2 added: a compaction, one that replaces the log, and so much of group 1 that segments are
/// given back and what group 2 needs of them is copied forward.
fn writes_of_version_2() -> Vec<(GroupId, Write)> {
    let mut writes = writes_of_version_1();
    let to = |index: u64, term: u64| Some(compaction(EntryId::new(index, term)));
    writes.push((GroupId(1), Write { compaction: to(4, 3), ..Write::default() }));
    writes.push((GroupId(2), Write { compaction: to(5, 2), ..write(&[(6, 2), (7, 2)]) }));
    for index in 6..20 {
        let entries = vec![entry(index, 4, EntryKind::Command, &[index as u8; 3500])];
        writes.push((
            GroupId(1),
            Write { compaction: to(index - 2, if index == 6 { 3 } else { 4 }), entries, ..Write::default() },
        ));
    }
    writes
}

fn write_all(dir: &Path) {
    wal::found(&RealFs, dir, &identity()).unwrap();
    let (mut wal, _) = Wal::open(Arc::new(RealFs), dir, small_config()).unwrap();
    let mut copied = 0;
    for (group, write) in writes_of_version_2() {
        wal.append(&[(group, write)]).unwrap();
        wal.sync().unwrap();
        copied += wal.tidy(1000).unwrap();
    }
    wal.floor().unwrap();
    assert!(copied > 0, "there is a copy");
}

fn model(writes: Vec<(GroupId, Write)>) -> Model {
    let mut model = Model::default();
    writes.iter().for_each(|(group, write)| model.apply(*group, write));
    model
}

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/wal-v{version}"))
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |file: std::fs::DirEntry| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap());
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| read(file.unwrap())).collect();
    files.retain(|(name, _)| name != "lock" && !name.starts_with("spare-"));
    files.sort();
    files
}

fn names(files: &[(String, Vec<u8>)]) -> Vec<String> {
    files.iter().map(|(name, _)| name.clone()).collect()
}

fn copy_of(version: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&golden(version)) {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn open(dir: &Path) -> (Wal, Model) {
    let (wal, recovered) = Wal::open(Arc::new(RealFs), dir, small_config()).unwrap();
    let model = Model::of(&wal, &recovered).unwrap();
    (wal, model)
}

#[test]
fn every_version_is_still_read() {
    for (version, writes) in [(1, writes_of_version_1()), (2, writes_of_version_2())] {
        let dir = copy_of(version);
        assert_eq!(wal::identity(&RealFs, dir.path()).unwrap(), identity());
        assert_eq!(open(dir.path()).1, model(writes), "version {version}");
    }
}

/// A log of version 1 goes on in segments of version 2. The old ones do not say where the logs of the groups ended, so
/// none of them is given back before all are.
#[test]
fn a_log_of_version_1_goes_on() {
    let dir = copy_of(1);
    let old = files(dir.path());
    let (mut wal, mut expected) = open(dir.path());
    let mut counts = Vec::new();
    let last = |model: &Model| model.groups[&GroupId(1)].last();
    for round in 0..20 {
        let (group, write) = match round {
            5 => (GroupId(1), Write { compaction: Some(compaction(last(&expected))), ..Write::default() }),
            10 => (GroupId(2), Write { compaction: Some(compaction(EntryId::new(1, 1))), ..Write::default() }),
            _ => {
                let large = entry(
                    last(&expected).index.0 + 1,
                    4,
                    EntryKind::Command,
                    &vec![round; if round < 2 { 10 } else { 7000 }],
                );
                (GroupId(1), Write { entries: vec![large], ..Write::default() })
            }
        };
        expected.apply(group, &write);
        wal.append(&[(group, write)]).unwrap();
        let left: Vec<_> = files(dir.path()).into_iter().filter(|(name, _)| names(&old).contains(name)).collect();
        assert!(left.iter().all(|file| old.contains(file)), "nothing is written into what an older version may read");
        counts.push(left.len());
        if round % 3 == 0 {
            drop(wal);
            let again = open(dir.path());
            assert_eq!(again.1, expected, "round {round}");
            wal = again.0;
        }
    }
    counts.dedup();
    assert_eq!(counts, [old.len(), 1], "the identity stays");
}

/// The writer of this version, byte for byte.
#[test]
fn version_2_is_still_written() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    if std::env::var_os("TENURE_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden(2)).unwrap();
        for (name, bytes) in files(dir.path()) {
            std::fs::write(golden(2).join(name), bytes).unwrap();
        }
    }
    let (written, expected) = (files(dir.path()), files(&golden(2)));
    assert_eq!(names(&written), names(&expected));
    assert!(!names(&written).contains(&"wal-00000000000000000002.seg".to_owned()), "segments were given back");
    for ((name, written), (_, expected)) in written.iter().zip(&expected) {
        let differs = written.iter().zip(expected).position(|(one, other)| one != other);
        assert_eq!((differs, written.len()), (None, expected.len()), "{name}: first different byte");
    }
}
