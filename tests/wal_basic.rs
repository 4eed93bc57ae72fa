//! The write-ahead log on real files: what is appended is read back, by readers and by the next opening.

#![cfg(feature = "node")]

#[path = "support/wal_fixture.rs"]
mod fixture;

use bytes::Bytes;
use fixture::{command, entry, hard_state, identity, small_config, write};
use std::path::Path;
use std::sync::Arc;
use tenure::log::{EntryKind, Write};
use tenure::types::{EntryId, GroupId, Index};
use tenure::wal::{self, RealFs, Recovered, Wal};

const G1: GroupId = GroupId(1);
const G2: GroupId = GroupId(2);

fn founded() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    wal::found(&RealFs, dir.path(), &identity()).unwrap();
    dir
}

fn open(dir: &Path) -> (Wal, Recovered) {
    Wal::open(Arc::new(RealFs), dir, small_config()).unwrap()
}

fn payloads(wal: &Wal, group: GroupId, first: u64, last: u64) -> Vec<(EntryId, Bytes)> {
    let entries = wal.reader().read(group, Index(first), Index(last), usize::MAX).unwrap();
    entries.into_iter().map(|entry| (entry.id, entry.payload)).collect()
}

#[test]
fn what_was_appended_is_read_back_and_recovered() {
    let dir = founded();
    let (mut wal, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    let configuration = entry(1, 1, EntryKind::Configuration, b"voters");
    let founding = Write { hard_state: Some(hard_state(1, None)), entries: vec![configuration], ..Write::default() };
    wal.append(&[(G1, founding.clone()), (G2, founding)]).unwrap();
    wal.append(&[(G1, write(&[(2, 1), (3, 1)]))]).unwrap();
    wal.sync().unwrap();
    assert_eq!(payloads(&wal, G1, 2, 9).len(), 2);
    assert_eq!(payloads(&wal, G1, 3, 3), [(EntryId::new(3, 1), command(3, 1))]);
    drop(wal);

    let (wal, recovered) = open(dir.path());
    assert_eq!(recovered.torn, None);
    let group = &recovered.groups[&G1];
    assert_eq!(group.hard_state, hard_state(1, None));
    assert_eq!(group.log.last(), EntryId::new(3, 1));
    assert_eq!(group.configurations, [(Index(1), Bytes::from_static(b"voters"))]);
    assert_eq!(recovered.groups[&G2].log.last(), EntryId::new(1, 1));
    assert_eq!(payloads(&wal, G1, 3, 9), [(EntryId::new(3, 1), command(3, 1))]);
}
