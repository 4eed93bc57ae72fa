//! The log gives space back: how long it gets, what it copies, whom it names, and what readers see of it.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "support/wal_fixture.rs"]
mod fixture;
#[path = "support/wal_bytes.rs"]
mod format;
#[path = "support/wal_model.rs"]
mod model;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fixture::{compaction, entry, hard_state, identity, small_config, write};
use format::{segment, seqs};
use model::{Model, reopen};
use tenure::log::{EntryKind, Write};
use tenure::sim::disk::SimFs;
use tenure::types::{EntryId, GroupId, Index};
use tenure::wal::{self, Damage, Fs, RealFs, Wal, WalConfig, WalError};

const DIR: &str = "/log";
const FAST: GroupId = GroupId(1);
const SLOW: GroupId = GroupId(2);
const IDLE: GroupId = GroupId(3);
const SEGMENT: u64 = 16 << 10;

fn founded(config: WalConfig) -> (SimFs, Wal) {
    let fs = SimFs::new();
    let wal = found(&fs, Path::new(DIR), config);
    (fs, wal)
}

fn found(fs: &(impl Fs + Clone), dir: &Path, config: WalConfig) -> Wal {
    wal::found(fs, dir, &identity()).unwrap();
    Wal::open(Arc::new(fs.clone()), dir, config).unwrap().0
}

/// Writes, and knows what the log should hold.
struct Load {
    wal: Wal,
    model: Model,
    written: u64,
}

impl Load {
    fn new(wal: Wal) -> Self {
        let mut load = Self { wal, model: Model::default(), written: 0 };
        for group in [FAST, SLOW, IDLE] {
            load.write(group, Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1)]) });
        }
        load.compact(IDLE, 0);
        load
    }

    fn write(&mut self, group: GroupId, write: Write) {
        self.written += write.entries.iter().map(|entry| entry.payload.len() as u64).sum::<u64>();
        self.model.apply(group, &write);
        self.wal.append(&[(group, write)]).unwrap();
        self.wal.sync().unwrap();
    }

    fn last(&self, group: GroupId) -> Index {
        self.model.groups[&group].last().index
    }

    fn append(&mut self, group: GroupId, bytes: usize) {
        let index = self.last(group).next().0;
        let entries = vec![entry(index, 1, EntryKind::Command, &vec![index as u8; bytes])];
        self.write(group, Write { entries, ..Write::default() });
    }

    /// Keeps the last `kept` entries.
    fn compact(&mut self, group: GroupId, kept: u64) {
        let to = self.last(group).0.saturating_sub(kept);
        if to > 0 {
            self.write(group, Write { compaction: Some(compaction(EntryId::new(to, 1))), ..Write::default() });
        }
    }

    /// One step of a load in which one group writes much, another little, and a third nothing; all compact.
    fn step(&mut self, step: u64) {
        self.append(FAST, 900);
        if step % 50 == 7 {
            self.append(SLOW, 100);
        }
        if step % 10 == 3 {
            self.compact(FAST, 4);
        }
        if step % 400 == 9 {
            self.compact(SLOW, 3);
        }
        self.wal.tidy(1000).unwrap();
    }
}

/// Steady load, with compactions as regular: 20 times the soft limit is written, and at no time is there more on the disk
/// than the limit and three segments.
#[test]
fn a_log_that_is_compacted_stays_within_its_limit() {
    let mut config = small_config();
    config.soft_bytes = 6 * SEGMENT;
    let (fs, wal) = founded(config.clone());
    let (mut load, mut most, mut steps) = (Load::new(wal), 0, 0);
    while load.written < 20 * config.soft_bytes {
        load.step(steps);
        steps += 1;
        let bytes: u64 = fs.names().iter().map(|name| fs.content(name).len() as u64).sum();
        most = most.max(bytes);
        assert!(bytes <= config.soft_bytes + 3 * SEGMENT, "step {steps}: {bytes} bytes, {:?}", fs.names());
    }
    assert!(most > config.soft_bytes, "the limit was reached");
    assert_eq!(load.wal.pressure(), [], "nobody is to blame");
    assert_eq!(reopen(&fs.crash(|_| 0), Path::new(DIR)).unwrap().2, load.model);
}

/// The same on real files, with a thread that prepares segments and removes what is too many.
#[test]
fn what_is_given_back_is_reused_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small_config();
    (config.soft_bytes, config.spare_segments) = (4 * SEGMENT, 2);
    let files = || std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    let mut load = Load::new(found(&RealFs, dir.path(), config.clone()));
    for step in 0..600 {
        load.step(step);
    }
    let newest = *seqs(&files()).last().unwrap();
    assert!(newest > 30, "{newest} segments were begun");
    for round in 0..2 {
        let Load { wal, model, .. } = load;
        drop(wal);
        let (segments, all) = (seqs(&files()).len() as u64, files().len() as u64);
        // Before the last opening some may have been left to remove.
        assert!(round == 0 || all - segments <= 2 + 2, "{:?}", files());
        assert!(segments * SEGMENT <= config.soft_bytes + 3 * SEGMENT, "{:?}", files());
        let (wal, recovered) = Wal::open(Arc::new(RealFs), dir.path(), config.clone()).unwrap();
        assert_eq!(Model::of(&wal, &recovered).unwrap(), model);
        load = Load { wal, model, written: 0 };
        for step in 0..100 {
            load.step(step);
        }
    }
}

/// Nothing is copied while the log is short, and nothing if that frees little: then those are named that hold most.
#[test]
fn who_needs_much_is_named_and_who_needs_little_is_copied() {
    let (fs, wal) = founded(small_config());
    let mut load = Load::new(wal);
    for _ in 0..8 {
        load.append(SLOW, 700);
    }
    load.append(FAST, 4500);
    assert_eq!((load.wal.tidy(1 << 20).unwrap(), load.wal.pressure()), (0, vec![]), "there is room");
    while load.wal.pressure().is_empty() {
        load.append(FAST, 900);
        assert_eq!(load.wal.tidy(1 << 20).unwrap(), 0, "too much to copy");
        assert!(seqs(&fs.names()).len() < 10, "nobody is named");
    }
    let pressure = load.wal.pressure();
    assert_eq!(pressure.iter().map(|(group, _)| *group).collect::<Vec<_>>(), [SLOW, FAST]);
    assert!((5600..6500).contains(&pressure[0].1), "{pressure:?}");
    load.compact(FAST, 0);
    assert_eq!(load.wal.pressure().len(), 1, "one of them is enough");
    load.compact(SLOW, 2);
    assert_eq!(load.wal.pressure(), []);

    let oldest = seqs(&fs.names())[0];
    let mut copied = Vec::new();
    while let bytes @ 1.. = load.wal.tidy(300).unwrap() {
        copied.push(bytes);
    }
    assert!(copied.len() >= 2 && copied.iter().all(|bytes| *bytes < 300 + 900), "little by little: {copied:?}");
    let before = seqs(&fs.names());
    assert_eq!(before[0], oldest, "not yet: no newer segment says so");
    while seqs(&fs.names()).last() == before.last() {
        load.append(FAST, 2000);
    }
    assert!(seqs(&fs.names())[0] > oldest);
    let (_, recovered, model) = reopen(&fs.crash(|_| 0), Path::new(DIR)).unwrap();
    assert_eq!(model, load.model);
    assert_eq!(recovered.groups[&IDLE].compaction, Some(compaction(EntryId::new(1, 1))), "it was carried along");
}

/// A log of which everything is needed is not copied round and round.
#[test]
fn a_full_log_is_left_alone() {
    let (fs, wal) = founded(small_config());
    let mut load = Load::new(wal);
    for step in 0..200 {
        load.append([FAST, SLOW, IDLE][step % 3], 500);
        assert_eq!(load.wal.tidy(1 << 20).unwrap(), 0);
    }
    assert_eq!(load.wal.pressure().len(), 3, "what one of them needs is still too much");
    assert!(seqs(&fs.names()).len() > 5);
}

/// An entry that cannot be read cannot be copied. The log goes on, only longer.
#[test]
fn a_damaged_remainder_stays_where_it_is() {
    let (fs, wal) = founded(small_config());
    let mut load = Load::new(wal);
    load.append(SLOW, 300);
    let at = segment(2);
    let needle = [load.last(SLOW).0 as u8; 300];
    let place = fs.content(&at).windows(300).position(|bytes| bytes == needle).unwrap();
    fs.alter(&at, |content| content[place] ^= 1);
    let error = loop {
        load.append(FAST, 900);
        load.compact(FAST, 1);
        match load.wal.tidy(1 << 20) {
            Ok(_) => assert!(seqs(&fs.names()).len() < 10, "never noticed"),
            Err(error) => break error,
        }
    };
    let hole = Damage::Hole { group: SLOW, entry: EntryId::new(2, 1) };
    assert!(matches!(&error, WalError::Damaged { damage, .. } if *damage == hole), "{error}");
    for _ in 0..50 {
        load.append(FAST, 900);
        load.compact(FAST, 1);
    }
    assert_eq!(seqs(&fs.names())[0], 2, "what may yet be mended is not given up");
}

/// Segments are given back and written anew under the eyes of readers: what they get is right, or it is gone, and never
/// taken for damage.
#[test]
fn readers_run_beside_segments_that_begin_another_life() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = Load::new(found(&RealFs, dir.path(), small_config()));
    load.append(SLOW, 50);
    let stop = AtomicBool::new(false);
    let reader = load.wal.reader();
    let read_fast = || {
        let (mut read, mut gone, mut next) = (0, 0, 1);
        while !stop.load(Ordering::Relaxed) {
            match reader.read(FAST, Index(next), Index(u64::MAX), 10_000) {
                Ok(entries) => {
                    for entry in entries.iter().filter(|entry| entry.id.index.0 > 1) {
                        assert!(entry.payload.iter().all(|byte| *byte == entry.id.index.0 as u8), "{entry:?}");
                    }
                    read += entries.len();
                }
                Err(WalError::Compacted { base, .. }) => {
                    gone += 1;
                    next = base.index.0 + 1;
                }
                Err(WalError::NotInLog { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        (read, gone)
    };
    let read_slow = || {
        let mut read = 0;
        while !stop.load(Ordering::Relaxed) {
            let entries = reader.read(SLOW, Index(2), Index(2), 10_000).unwrap();
            assert_eq!((entries.len(), &entries[0].payload[..]), (1, &[2; 50][..]));
            read += 1;
        }
        read
    };
    std::thread::scope(|scope| {
        let (fast, slow) = (scope.spawn(read_fast), scope.spawn(read_slow));
        for step in 0..3000 {
            load.append(FAST, 900);
            if step % 7 == 0 {
                load.compact(FAST, 2);
            }
            load.wal.tidy(500).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let ((read, gone), slow) = (fast.join().unwrap(), slow.join().unwrap());
        println!("{read} entries read, {gone} times they were gone; {slow} reads of an entry that moves");
        assert!(read > 0 && slow > 0);
    });
}
