//! The write-ahead log on real files: what is appended is read back, by readers and by the next opening.

#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;
#[path = "support/wal_model.rs"]
mod model;

use bytes::Bytes;
use quickcheck::quickcheck;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fates::Rng;
use fixture::{command, entry, hard_state, identity, small_config, write};
use model::Model;
use tenure::log::{EntryKind, Write};
use tenure::types::{EntryId, GroupId, Index};
use tenure::wal::{self, Damage, Inconsistency, RealFs, Recovered, Wal, WalConfig, WalError};

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

fn founding() -> Write {
    Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1)]) }
}

fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

#[test]
fn a_directory_must_be_founded_and_is_locked_while_open() {
    let empty = tempfile::tempdir().unwrap();
    let open_empty = Wal::open(Arc::new(RealFs), empty.path(), small_config());
    assert!(matches!(open_empty, Err(WalError::NotFounded { .. })));
    assert_eq!(names(empty.path(), ""), [""; 0], "an attempt leaves nothing behind");

    let dir = founded();
    assert_eq!(wal::identity(&RealFs, dir.path()).unwrap(), identity());
    let (wal, _) = open(dir.path());
    let second = Wal::open(Arc::new(RealFs), dir.path(), small_config()).err().unwrap();
    assert!(matches!(second, WalError::Locked { .. }), "{second}");
    drop(wal);
    open(dir.path());
}

#[test]
fn a_directory_is_founded_once() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    assert!(matches!(wal::found(&RealFs, dir.path(), &identity()), Err(WalError::Locked { .. })));
    wal.append(&[(G1, founding())]).unwrap();
    drop(wal);
    let again = wal::found(&RealFs, dir.path(), &identity()).unwrap_err();
    assert!(again.to_string().contains("n1 of cluster test"), "{again}");

    let path = dir.path().join("identity");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = wal::identity(&RealFs, dir.path());
    assert!(matches!(damaged, Err(WalError::Damaged { damage: Damage::Identity, .. })));
    assert!(matches!(wal::found(&RealFs, dir.path(), &identity()), Err(WalError::AlreadyFounded { .. })));

    std::fs::remove_file(&path).unwrap();
    let lost = wal::found(&RealFs, dir.path(), &identity());
    assert!(matches!(lost, Err(WalError::AlreadyFounded { .. })), "a new identity would forget the votes in the log");
}

/// Bytes that rot while the log is open are seen by the read that wants them; other entries are still read.
#[test]
fn every_read_checks_its_bytes() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    wal.append(&[(G1, founding()), (G1, write(&[(2, 1), (3, 1), (4, 1)]))]).unwrap();
    let path = dir.path().join("wal-00000000000000000002.seg");
    let clean = std::fs::read(&path).unwrap();
    let rotten = command(3, 1);
    let at = clean.windows(rotten.len()).position(|bytes| bytes == rotten).unwrap();
    let flip = |at: usize| {
        let mut bytes = clean.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    };
    flip(at);
    let read = |first, last| wal.reader().read(G1, Index(first), Index(last), 1 << 20);
    let hole = Damage::Hole { group: G1, entry: EntryId::new(3, 1) };
    match read(2, 4) {
        Err(WalError::Damaged { file, offset, damage }) => {
            assert_eq!((file, offset, damage), (path.clone(), at as u64, hole))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(4, 4).unwrap()[0].payload, command(4, 1));
    assert_eq!(read(1, 2).unwrap().len(), 2);
    // The table of lengths: nothing of the run can be found without it.
    flip(4096 + 48 + 40 + 40 + 12 + 40 + 1);
    assert!(matches!(read(4, 4), Err(WalError::Damaged { .. })));
}

#[test]
fn hard_states_survive_segment_switches_and_restarts() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    wal.append(&[(G2, Write { hard_state: Some(hard_state(7, Some(3))), ..Write::default() })]).unwrap();
    wal.append(&[(G1, founding())]).unwrap();
    for index in 2..600 {
        wal.append(&[(G1, write(&[(index, 1)]))]).unwrap();
        if index % 50 == 0 {
            wal.sync().unwrap();
        }
    }
    wal.sync().unwrap();
    assert!(names(dir.path(), "wal-").len() > 4);
    drop(wal);
    for _ in 0..2 {
        let (wal, recovered) = open(dir.path());
        assert_eq!(recovered.groups[&G2].hard_state, hard_state(7, Some(3)));
        assert_eq!(recovered.groups[&G1].log.last(), EntryId::new(599, 1));
        let model = Model::of(&wal, &recovered).unwrap();
        assert!(model.groups[&G1].entries.iter().all(|e| e.payload == command(e.id.index.0, 1)));
    }
}

/// `b44`: a truncation is recovered, also one that puts nothing in the place of what it removes.
#[test]
fn b44_a_truncation_survives_recovery() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    let configuration = entry(4, 1, EntryKind::Configuration, b"to be removed");
    wal.append(&[(G1, founding()), (G1, write(&[(2, 1), (3, 1)]))]).unwrap();
    wal.append(&[(G1, Write { entries: vec![configuration], ..Write::default() })]).unwrap();
    wal.append(&[(G1, Write { truncate_from: Some(Index(3)), ..Write::default() })]).unwrap();
    wal.sync().unwrap();
    assert!(matches!(wal.reader().read(G1, Index(3), Index(4), 99), Err(WalError::NotInLog { index: Index(3), .. })));
    drop(wal);

    let (mut wal, recovered) = open(dir.path());
    assert_eq!(recovered.groups[&G1].log.last(), EntryId::new(2, 1), "no ghost behind the truncation");
    assert_eq!(recovered.groups[&G1].configurations, []);
    let term_2 =
        Write { hard_state: Some(hard_state(2, None)), truncate_from: Some(Index(2)), ..write(&[(2, 2), (3, 2)]) };
    wal.append(&[(G1, term_2)]).unwrap();
    drop(wal);
    let (wal, recovered) = open(dir.path());
    assert_eq!(recovered.groups[&G1].log.last(), EntryId::new(3, 2));
    assert_eq!(payloads(&wal, G1, 1, 9)[1], (EntryId::new(2, 2), command(2, 2)));
}

/// `b35`: the same place written, removed and written again; readers and recovery see the last one.
#[test]
fn b35_aba_the_last_write_of_a_place_counts() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    let again = |payload: &'static [u8]| Write {
        truncate_from: Some(Index(2)),
        entries: vec![entry(2, 1, EntryKind::Command, payload)],
        ..Write::default()
    };
    wal.append(&[(G1, founding()), (G1, again(b"a")), (G1, again(b"b")), (G1, again(b"a")), (G1, again(b"c"))])
        .unwrap();
    assert_eq!(payloads(&wal, G1, 2, 2)[0].1, Bytes::from_static(b"c"));
    drop(wal);
    let (wal, _) = open(dir.path());
    assert_eq!(payloads(&wal, G1, 2, 2)[0].1, Bytes::from_static(b"c"));
}

#[test]
fn a_write_too_large_is_refused_and_the_log_goes_on() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    wal.append(&[(G1, founding())]).unwrap();
    let sized =
        |bytes: usize| Write { entries: vec![entry(2, 1, EntryKind::Command, &vec![7; bytes])], ..Write::default() };
    let limit = match wal.append(&[(G1, sized(20_000))]) {
        Err(WalError::TooLarge { limit, .. }) => limit as usize,
        other => panic!("{other:?}"),
    };
    let largest = limit - 40 - 12;
    assert!(matches!(wal.append(&[(G1, sized(largest + 1))]), Err(WalError::TooLarge { .. })));
    wal.append(&[(G1, sized(largest))]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(dir.path()).1.groups[&G1].log.last(), EntryId::new(2, 1));
}

/// More than `batch_bytes` at once: several batches; one write is one batch, however large.
#[test]
fn many_writes_are_split_into_batches() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    let mut writes = vec![(G1, founding())];
    writes.extend((2..400).map(|index| (G1, write(&[(index, 1)]))));
    wal.append(&writes).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(dir.path()).1.groups[&G1].log.last(), EntryId::new(399, 1));
}

#[test]
fn a_write_that_does_not_follow_fails_the_log() {
    for (bad, rule) in [
        (write(&[(3, 1)]), Inconsistency::Gap { last: EntryId::new(1, 1), found: Index(3) }),
        (write(&[(1, 1)]), Inconsistency::Overwrite { last: EntryId::new(1, 1), found: Index(1) }),
    ] {
        let dir = founded();
        let (mut wal, _) = open(dir.path());
        wal.append(&[(G1, founding())]).unwrap();
        match wal.append(&[(G1, bad)]) {
            Err(WalError::InvalidWrite { group: G1, rule: found }) => assert_eq!(found, rule),
            other => panic!("{other:?}"),
        }
        assert!(matches!(wal.sync(), Err(WalError::Failed)));
        drop(wal);
        assert_eq!(open(dir.path()).1.groups[&G1].log.last(), EntryId::new(1, 1), "nothing of it was written");
    }
}

#[test]
fn reads_stop_at_their_limits() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    let hundred = |index| entry(index, 1, EntryKind::Command, &[index as u8; 100]);
    wal.append(&[(G1, founding())]).unwrap();
    wal.append(&[(G1, Write { entries: (2..10).map(hundred).collect(), ..Write::default() })]).unwrap();
    wal.append(&[(G1, Write { entries: (10..20).map(hundred).collect(), ..Write::default() })]).unwrap();
    let reader = wal.reader();
    let indexes = |first, last, bytes| {
        let entries = reader.read(G1, Index(first), Index(last), bytes).unwrap();
        (entries[0].id.index.0, entries[entries.len() - 1].id.index.0)
    };
    assert_eq!(indexes(2, 19, usize::MAX), (2, 19));
    assert_eq!(indexes(5, 19, 350), (5, 7));
    assert_eq!(indexes(8, 19, 350), (8, 10));
    assert_eq!(indexes(5, 19, 0), (5, 5), "one at least");
    assert_eq!(indexes(12, 13, 9999), (12, 13));
    for (first, last) in [(0, 3), (20, 21), (5, 4)] {
        assert!(reader.read(G1, Index(first), Index(last), 9).is_err(), "{first}..={last}");
    }
    assert!(reader.read(GroupId(9), Index(1), Index(1), 9).is_err());
}

/// Readers on other threads see whole entries of one moment, whatever is appended and truncated meanwhile.
#[test]
fn readers_run_beside_appends_and_truncations() {
    let dir = founded();
    let (mut wal, _) = open(dir.path());
    wal.append(&[(G1, founding())]).unwrap();
    let (reader, stop) = (wal.reader(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut reads = 0;
        while !stopped.load(Ordering::Relaxed) || reads == 0 {
            let entries = reader.read(G1, Index(1), Index(50), 1 << 20).unwrap();
            for (nth, entry) in entries.iter().enumerate() {
                assert_eq!(entry.id.index.0, nth as u64 + 1);
                assert_eq!(entry.payload, command(entry.id.index.0, entry.id.term.0));
            }
            assert!(entries.windows(2).all(|pair| pair[0].id.term <= pair[1].id.term));
            reads += 1;
        }
    });
    for term in 2..200 {
        let ids: Vec<_> = (2..2 + term % 40).map(|index| (index, term)).collect();
        let over = Write { hard_state: Some(hard_state(term, None)), truncate_from: Some(Index(2)), ..write(&ids) };
        wal.append(&[(G1, over)]).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn spare_segments_are_prepared_reused_and_cleaned_up() {
    let dir = founded();
    std::fs::write(dir.path().join("spare-00000000000000000003.tmp"), b"half made").unwrap();
    std::fs::write(dir.path().join("spare-00000000000000000004.seg"), b"of another length").unwrap();
    let mut config = WalConfig::default();
    (config.segment_bytes, config.batch_bytes, config.spare_segments) = (64 << 10, 64 << 10, 2);
    for round in 0..3 {
        let (mut wal, recovered) = Wal::open(Arc::new(RealFs), dir.path(), config.clone()).unwrap();
        let last = recovered.groups.get(&G1).map_or(0, |group| group.log.last().index.0);
        if round == 0 {
            wal.append(&[(G1, Write { hard_state: Some(hard_state(1, None)), ..Write::default() })]).unwrap();
        }
        for index in last + 1..last + 300 {
            let large = entry(index, 1, EntryKind::Command, &[1; 1000]);
            wal.append(&[(G1, Write { entries: vec![large], ..Write::default() })]).unwrap();
        }
        wal.sync().unwrap();
        drop(wal);
        assert!(names(dir.path(), "spare-").len() <= 4, "{:?}", names(dir.path(), "spare-"));
        assert!(names(dir.path(), "spare-").iter().all(|name| !name.contains("00003.tmp")));
    }
    assert!(names(dir.path(), "wal-").len() > 12);
    assert_eq!(open(dir.path()).1.groups[&G1].log.last().index, Index(3 * 299));
}

quickcheck! {
    /// Random writes against the plain model, with restarts in between.
    fn what_is_recovered_equals_the_model(seed: u64, lengths: Vec<u8>) -> bool {
        let dir = founded();
        let (mut rng, mut expected) = (Rng(seed), Model::default());
        for length in lengths.iter().take(5) {
            let (mut wal, recovered) = open(dir.path());
            assert_eq!(Model::of(&wal, &recovered).unwrap(), expected);
            for _ in 0..length % 20 {
                let (group, write) = expected.random_write(&mut rng);
                if write != Write::default() {
                    expected.apply(group, &write);
                    wal.append(&[(group, write)]).unwrap();
                }
            }
        }
        let (wal, recovered) = open(dir.path());
        Model::of(&wal, &recovered).unwrap() == expected
    }
}
