//! Bytes are a promise: a directory written by format version 1 is opened by every later version.
//!
//! `tests/golden/wal-v1` is never changed. A new format version adds a directory beside it, written by running this
//! with `TENURE_WRITE_GOLDEN=1` once.

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

use fixture::{entry, hard_state, identity, small_config, write};
use model::Model;
use tenure::log::{EntryKind, Write};
use tenure::types::{GroupId, Index};
use tenure::wal::{self, RealFs, Wal};

/// One of everything that version 1 writes.
fn writes() -> Vec<(GroupId, Write)> {
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

fn write_all(dir: &Path) -> Model {
    wal::found(&RealFs, dir, &identity()).unwrap();
    let (mut wal, _) = Wal::open(Arc::new(RealFs), dir, small_config()).unwrap();
    let mut model = Model::default();
    for (group, write) in writes() {
        model.apply(group, &write);
        wal.append(&[(group, write)]).unwrap();
        wal.sync().unwrap();
    }
    wal.floor().unwrap();
    model
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wal-v1")
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |file: std::fs::DirEntry| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap());
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| read(file.unwrap())).collect();
    files.retain(|(name, _)| name != "lock" && !name.starts_with("spare-"));
    files.sort();
    files
}

#[test]
fn version_1_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files(&golden()) {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    assert_eq!(wal::identity(&RealFs, dir.path()).unwrap(), identity());
    let (wal, recovered) = Wal::open(Arc::new(RealFs), dir.path(), small_config()).unwrap();
    let mut expected = Model::default();
    writes().iter().for_each(|(group, write)| expected.apply(*group, write));
    assert_eq!(Model::of(&wal, &recovered).unwrap(), expected);
    assert_eq!(recovered.torn, None);
}

/// The writer of this version, byte for byte.
#[test]
fn version_1_is_still_written() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    if std::env::var_os("TENURE_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden()).unwrap();
        for (name, bytes) in files(dir.path()) {
            std::fs::write(golden().join(name), bytes).unwrap();
        }
    }
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (written, expected) = (files(dir.path()), files(&golden()));
    assert_eq!(names(&written), names(&expected));
    for ((name, written), (_, expected)) in written.iter().zip(&expected) {
        let differs = written.iter().zip(expected).position(|(one, other)| one != other);
        assert_eq!((differs, written.len()), (None, expected.len()), "{name}: first different byte");
    }
}
