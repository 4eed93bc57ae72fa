//! Bytes that rot, files that go missing, formats that are not known.
//!
//! The log is built on a simulated disk, changed, and opened. It must say what is wrong and where; it must never panic
//! and never silently return less than what was proved durable.

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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fates::Rng;
use fixture::{compaction, hard_state, identity, small_config, write};
use format::{HEADER, batches, reseal, reseal_header, segment, seqs};
use model::{Model, reopen};
use quickcheck::quickcheck;
use tenure::log::{Compaction, Write};
use tenure::sim::disk::SimFs;
use tenure::types::{EntryId, GroupId, Index, StoreId};
use tenure::wal::{self, Damage, Identity, Inconsistency, Proof, Wal, WalError};

const DIR: &str = "/log";
const G1: GroupId = GroupId(1);
const ITEM: usize = HEADER + 48;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn founded() -> (SimFs, Wal) {
    let fs = SimFs::new();
    wal::found(&fs, dir(), &identity()).unwrap();
    let wal = Wal::open(Arc::new(fs.clone()), dir(), small_config()).unwrap().0;
    (fs, wal)
}

fn open(fs: &SimFs) -> Result<Model, WalError> {
    reopen(fs, dir()).map(|(_, _, model)| model)
}

/// The error of an opening; opening again gives the same one and the disk is as it was.
fn refused(fs: &SimFs) -> WalError {
    let before: Vec<_> = fs.names().into_iter().map(|name| (fs.content(&name), name)).collect();
    let error = open(fs).expect_err("must be refused");
    assert_eq!(open(fs).expect_err("must be refused again").to_string(), error.to_string());
    let after: Vec<_> =
        fs.names().into_iter().map(|name| (fs.content(&name), name)).filter(|f| !f.1.ends_with("lock")).collect();
    assert_eq!(before.into_iter().filter(|f| !f.1.ends_with("lock")).collect::<Vec<_>>(), after, "nothing was changed");
    error
}

fn damage(fs: &SimFs) -> (PathBuf, u64, Damage) {
    match refused(fs) {
        WalError::Damaged { file, offset, damage } => (file, offset, damage),
        other => panic!("{other}"),
    }
}

/// Founding, then batches 2 and 3 of one entry each, all synced one by one: 3 batches in segment 2.
fn three_batches() -> SimFs {
    let (fs, mut wal) = founded();
    let first = Write { hard_state: Some(hard_state(1, Some(2))), ..write(&[(1, 1)]) };
    for write in [first, write(&[(2, 1)]), write(&[(3, 1)])] {
        wal.append(&[(G1, write)]).unwrap();
        wal.sync().unwrap();
    }
    drop(wal);
    fs
}

/// What each flipped byte of a synced log does. The padding behind a payload carries nothing; everything else is
/// noticed: it is refused, or, in the newest batch before a floor was written, taken for a torn write.
#[test]
fn every_flipped_byte_is_noticed() {
    let fs = three_batches();
    let content = fs.content(&segment(2));
    let starts = batches(&content);
    assert_eq!(starts.len(), 4);
    let whole = open(&fs).unwrap();
    let (mut refusals, mut cut, mut padding) = (0, 0, 0);
    for at in 0..starts[3] {
        let flipped = fs.copy();
        flipped.alter(&segment(2), |content| content[at] ^= 1 << (at % 8));
        match open(&flipped) {
            Err(WalError::Damaged { file, offset, .. }) => {
                assert_eq!(file, segment(2));
                assert!(offset <= at as u64, "byte {at}, named {offset}");
                refusals += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(model) if model == whole => padding += 1,
            Ok(model) => {
                assert!(at >= starts[2], "byte {at} is before the newest batch, and it was cut silently");
                assert_eq!(model.groups[&G1].entries, whole.groups[&G1].entries[..2]);
                cut += 1;
            }
        }
    }
    assert!(padding < 3 * 8, "{padding} bytes of padding in three batches");
    assert!(refusals >= starts[2] - 3 * 8 && cut > 50, "{refusals} {cut} {padding}");
}

/// The same with a floor behind it: now the newest batch is proved, too, and nothing at all is cut.
#[test]
fn after_a_floor_every_flipped_byte_of_what_was_acknowledged_is_refused() {
    let fs = three_batches();
    let (mut wal, ..) = reopen(&fs, dir()).unwrap();
    wal.floor().unwrap();
    wal.floor().unwrap();
    drop(wal);
    let content = fs.content(&segment(2));
    let starts = batches(&content);
    assert_eq!(starts.len(), 5, "the second floor had nothing new to say");
    let whole = open(&fs).unwrap();
    for at in HEADER..starts[3] {
        for bit in [0, 3, 7] {
            let flipped = fs.copy();
            flipped.alter(&segment(2), |content| content[at] ^= 1 << bit);
            assert!(open(&flipped).map_or(true, |model| model == whole), "byte {at}, bit {bit}: silently cut");
        }
    }
}

/// `d07`: damage in the middle of the newest segment is no torn tail.
#[test]
fn d07_damage_before_a_durable_batch_is_refused_with_its_place() {
    let fs = three_batches();
    let starts = batches(&fs.content(&segment(2)));
    fs.alter(&segment(2), |content| content[starts[1] + 9] ^= 1);
    let proof = Proof::LaterBatch { lsn: 3, offset: starts[2] as u64 };
    assert_eq!(damage(&fs), (segment(2), starts[1] as u64, Damage::Batch { lsn: 2, proof }));
}

/// A wrong payload under a right header is a hole with a name.
#[test]
fn a_damaged_entry_is_named() {
    let fs = three_batches();
    let starts = batches(&fs.content(&segment(2)));
    let payload = starts[1] + 48 + 40 + 12;
    fs.alter(&segment(2), |content| content[payload] ^= 0x80);
    let hole = Damage::Hole { group: G1, entry: EntryId::new(2, 1) };
    assert_eq!(damage(&fs), (segment(2), payload as u64, hole));
}

#[test]
fn a_damaged_hard_state_is_named() {
    let fs = three_batches();
    let payload = HEADER + 48 + 2 * 40 + 12;
    fs.alter(&segment(2), |content| content[payload] ^= 1);
    let (_, offset, damage) = damage(&fs);
    assert_eq!((offset, damage.to_string()), (payload as u64, "g1: the hard state of t1 is damaged".into()));
}

/// `d08`, `d09`: zeros end the log only where nothing durable follows.
#[test]
fn d08_d09_zeros_in_the_middle_are_not_the_end() {
    let fs = three_batches();
    let starts = batches(&fs.content(&segment(2)));
    for range in [starts[1]..starts[1] + 48, starts[0]..starts[2], starts[1] + 24..starts[1] + 32] {
        let zeroed = fs.copy();
        zeroed.alter(&segment(2), |content| content[range.clone()].fill(0));
        assert!(matches!(damage(&zeroed).2, Damage::Batch { .. }), "{range:?}");
    }
    let tail = fs.copy();
    tail.alter(&segment(2), |content| content[starts[2]..].fill(0));
    assert_eq!(open(&tail).unwrap().groups[&G1].entries.len(), 2, "d09: a torn tail opens");
}

/// Several segments, the newest with a batch in it. The first has been given back.
fn many_segments() -> (SimFs, u64) {
    let (fs, mut wal) = founded();
    let mut model = Model::default();
    let mut rng = Rng(7);
    let newest = loop {
        let (group, write) = model.random_write(&mut rng);
        model.apply(group, &write);
        wal.append(&[(group, write)]).unwrap();
        wal.sync().unwrap();
        if let Some(seq) = (5..7).find(|seq| fs.names().contains(&segment(*seq))) {
            break seq;
        }
    };
    (fs, newest)
}

/// `d07`: a missing file is an error that names it; its neighbours stay.
#[test]
fn d07_a_missing_segment_is_named() {
    let (fs, newest) = many_segments();
    let oldest = seqs(&fs.names())[0];
    assert!(newest > oldest + 2);
    for missing in oldest..newest {
        let fs = fs.copy();
        fs.forget(&segment(missing));
        match refused(&fs) {
            WalError::MissingSegment { seq, file } => assert_eq!((seq, file), (missing, segment(missing))),
            other => panic!("{other}"),
        }
    }
    let all = fs.copy();
    (1..=newest).for_each(|seq| all.forget(&segment(seq)));
    assert!(matches!(refused(&all), WalError::MissingSegment { seq: 1, .. }), "a deleted log is not a new one");
}

#[test]
fn damage_at_the_end_of_a_closed_segment_is_refused() {
    let (fs, newest) = many_segments();
    let closed = newest - 1;
    let content = fs.content(&segment(closed));
    let starts = batches(&content);
    let last = starts[starts.len() - 2];
    fs.alter(&segment(closed), |content| content[last..].fill(0));
    let (file, offset, damage) = damage(&fs);
    assert_eq!((file, offset), (segment(closed), last as u64));
    assert!(
        matches!(damage, Damage::Batch { proof: Proof::LaterSegment { seq, .. }, .. } if seq == newest),
        "{damage}"
    );
}

#[test]
fn files_of_the_wrong_length_are_refused() {
    let (fs, newest) = many_segments();
    let oldest = seqs(&fs.names())[0];
    for seq in [oldest, oldest + 1, newest] {
        for change in [-4096_i64, -1, 512] {
            let fs = fs.copy();
            let length = (fs.content(&segment(seq)).len() as i64 + change) as usize;
            fs.alter(&segment(seq), |content| content.resize(length, 0));
            assert!(matches!(damage(&fs).2, Damage::Length { .. }), "segment {seq} {change}");
        }
        for length in [0, 100, 4096] {
            let fs = fs.copy();
            fs.set_content(&segment(seq), vec![0; length]);
            assert!(matches!(damage(&fs).2, Damage::Length { .. } | Damage::SegmentHeader), "{seq} {length}");
        }
    }
}

/// A file that was swapped for another, or comes from another directory.
#[test]
fn foreign_and_misnamed_segments_are_refused() {
    let (fs, _) = many_segments();
    let swapped = fs.copy();
    let oldest = seqs(&fs.names())[0];
    swapped.set_content(&segment(oldest + 1), fs.content(&segment(oldest)));
    assert_eq!(damage(&swapped).2, Damage::Misnamed { found: oldest });

    let other = SimFs::new();
    let stranger = Identity { store: StoreId(99), ..identity() };
    wal::found(&other, dir(), &stranger).unwrap();
    fs.set_content(&segment(oldest), other.content(&segment(1)));
    assert_eq!(damage(&fs).2, Damage::Foreign { found: StoreId(99), expected: identity().store });
}

/// Old bytes of a recycled file, and the same batches of another segment, never pass for batches of this one.
#[test]
fn recycled_files_full_of_old_batches_are_empty() {
    let (fs, newest) = many_segments();
    let whole = open(&fs).unwrap();
    let end = *batches(&fs.content(&segment(newest))).last().unwrap();
    let old = fs.content(&segment(newest - 1));
    let behind = fs.copy();
    behind.alter(&segment(newest), |content| {
        let length = content.len();
        content[end..].copy_from_slice(&old[HEADER..HEADER + length - end]);
    });
    let (mut wal, recovered, model) = reopen(&behind, dir()).unwrap();
    assert_eq!(model, whole);
    assert!(recovered.torn.is_some());
    // What lies behind cannot be told from a torn write, so the log goes on elsewhere.
    let (group, next) = model.random_write(&mut Rng(1));
    wal.append(&[(group, next.clone())]).unwrap();
    drop(wal);
    assert!(behind.names().contains(&segment(newest + 1)));
    let mut model = model;
    model.apply(group, &next);
    assert_eq!(open(&behind).unwrap(), model);
}

/// A batch that was written and never synced may survive behind one that did not. It must not come back when the log
/// has gone on past it (the segment is left, never written again).
#[test]
fn b35_aba_a_cut_batch_does_not_come_back() {
    let (fs, mut wal) = founded();
    let first = Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1)]) };
    wal.append(&[(G1, first)]).unwrap();
    wal.sync().unwrap();
    wal.append(&[(G1, write(&[(2, 1)]))]).unwrap();
    wal.append(&[(G1, write(&[(3, 1)]))]).unwrap();
    drop(wal);
    let starts = batches(&fs.content(&segment(2)));
    let torn = fs.copy();
    torn.alter(&segment(2), |content| content[starts[1]..starts[2]].fill(0));

    let (mut wal, recovered, model) = reopen(&torn, dir()).unwrap();
    assert_eq!(model.groups[&G1].entries.len(), 1, "batch 3 does not prove that batch 2 was durable");
    assert_eq!(recovered.torn.as_ref().map(|torn| (torn.offset, torn.lsn)), Some((starts[1] as u64, 2)));
    // The new batch 2 is exactly as long as the lost one.
    wal.append(&[(G1, write(&[(2, 1)]))]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(&torn).unwrap().groups[&G1].entries.len(), 2, "the old batch 3 came back");
}

/// What a later version may write is refused with the place and both versions.
#[test]
fn unknown_kinds_flags_and_versions_are_refused() {
    let fs = three_batches();
    let at = |offset: usize, value: u8| {
        let fs = fs.copy();
        fs.alter(&segment(2), |content| {
            content[offset] = value;
            reseal(content, HEADER, 2);
        });
        match refused(&fs) {
            WalError::Unsupported { file, offset, what, found, supported } => {
                assert_eq!((file, offset, found, supported), (segment(2), HEADER as u64, 2, 2));
                what
            }
            other => panic!("{other}"),
        }
    };
    let (kind, flags) = (ITEM + 32, ITEM + 33);
    assert_eq!(at(kind, 5), "a removed group (item kind 5)");
    assert_eq!(at(kind, 9), "item kind 9");
    assert!(at(flags, 1).starts_with("flags"), "no flag is known for a hard state");
    assert!(at(flags + 40, 2).starts_with("flags"), "one flag is known for entries");
    let compact = |flags: u8| {
        let fs = compacted();
        let start = batches(&fs.content(&segment(2)))[1];
        fs.alter(&segment(2), |content| {
            content[start + 48 + 33] = flags;
            reseal(content, start, 2);
        });
        refused(&fs).to_string()
    };
    assert!(compact(2).contains("flags 0x2"), "one flag is known for a compaction");
    assert!(at(HEADER + 40, 1).starts_with("batch flags"));
    assert!(at(HEADER + 44, 1).starts_with("batch flags"), "the reserved field");
    assert!(at(ITEM + 80 + 8, 7).starts_with("entry kind"));
    assert!(at(ITEM + 80 + 9, 1).starts_with("entry kind"));
}

/// An overwrite without the mark of a truncation is damage, and so is a gap.
#[test]
fn b44_an_unmarked_overwrite_is_refused() {
    let fs = three_batches();
    let starts = batches(&fs.content(&segment(2)));
    let rule = |index: u8| {
        let fs = fs.copy();
        fs.alter(&segment(2), |content| {
            content[starts[1] + 48 + 8] = index;
            reseal(content, starts[1], 2);
        });
        match damage(&fs).2 {
            Damage::Inconsistent { lsn: 2, group: G1, rule } => rule,
            other => panic!("{other}"),
        }
    };
    let last = EntryId::new(1, 1);
    assert_eq!(rule(1), Inconsistency::Overwrite { last, found: Index(1) });
    assert_eq!(rule(3), Inconsistency::Gap { last, found: Index(3) });
}

/// Entries 1 to 4 of term 1 in the first batch; the second one compacts up to 2.
fn compacted() -> SimFs {
    let (fs, mut wal) = founded();
    let first = Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1), (2, 1), (3, 1), (4, 1)]) };
    let second = Write { compaction: Some(compaction(EntryId::new(2, 1))), ..Write::default() };
    for write in [first, second] {
        wal.append(&[(G1, write)]).unwrap();
        wal.sync().unwrap();
    }
    wal.floor().unwrap();
    drop(wal);
    fs
}

/// What a compaction must not say, under a right checksum.
#[test]
fn compactions_that_do_not_fit_are_refused() {
    let fs = compacted();
    let start = batches(&fs.content(&segment(2)))[1];
    let rule = |changes: &[(usize, u8)]| {
        let fs = fs.copy();
        fs.alter(&segment(2), |content| {
            changes.iter().for_each(|(at, value)| content[start + 48 + at] = *value);
            reseal(content, start, 2);
        });
        match damage(&fs).2 {
            Damage::Inconsistent { lsn: 2, group: G1, rule } => rule,
            other => panic!("{other}"),
        }
    };
    let (index, term, flags) = (8, 16, 33);
    let found = |index, term| EntryId::new(index, term);
    assert_eq!(rule(&[(flags, 1)]), Inconsistency::Replacement { found: found(2, 1) });
    assert_eq!(rule(&[(index, 5)]), Inconsistency::Replacement { found: found(5, 1) });
    assert_eq!(
        rule(&[(index, 0)]),
        Inconsistency::CompactionBack { base: EntryId::ZERO, found: EntryId { index: Index(0), ..found(1, 1) } }
    );
    assert!(matches!(rule(&[(term, 2)]), Inconsistency::Term { .. }));

    // Of a configuration that comes later the data itself must tell, and does not pass without its checksum.
    let late = Compaction { configuration: (Index(3), Default::default()), ..compaction(found(2, 1)) };
    let (_, mut wal) = founded();
    let first = Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1), (2, 1), (3, 1)]) };
    wal.append(&[(G1, first)]).unwrap();
    match wal.append(&[(G1, Write { compaction: Some(late), ..Write::default() })]) {
        Err(WalError::InvalidWrite { rule: Inconsistency::LateConfiguration { .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_compaction_is_named() {
    let fs = compacted();
    let start = batches(&fs.content(&segment(2)))[1];
    for at in [start + 48 + 40, start + 48 + 40 + 9] {
        let fs = fs.copy();
        fs.alter(&segment(2), |content| content[at] ^= 1);
        let lost = Damage::Compaction { group: G1, last: EntryId::new(2, 1) };
        assert_eq!(damage(&fs), (segment(2), (start + 48 + 40) as u64, lost));
    }
}

/// A log in whose newest segment stands a copy of what a slow group needs of the oldest one, and where the batch of that
/// copy begins.
fn copied_forward() -> (SimFs, u64, usize) {
    let (fs, mut wal) = founded();
    let slow = Write { hard_state: Some(hard_state(1, None)), ..write(&[(1, 1), (2, 1), (3, 1)]) };
    let base = Write { compaction: Some(compaction(EntryId::new(1, 1))), ..Write::default() };
    wal.append(&[(GroupId(2), slow), (GroupId(2), base)]).unwrap();
    wal.append(&[(G1, Write { hard_state: Some(hard_state(1, None)), ..Write::default() })]).unwrap();
    for index in 1.. {
        let large = vec![fixture::entry(index, 1, tenure::log::EntryKind::Command, &[7; 1500])];
        let compacted = Some(compaction(EntryId::new(index - 1, 1))).filter(|_| index > 1);
        wal.append(&[(G1, Write { compaction: compacted, entries: large, ..Write::default() })]).unwrap();
        wal.sync().unwrap();
        let (newest, end) =
            (*seqs(&fs.names()).last().unwrap(), |seq| *batches(&fs.content(&segment(seq))).last().unwrap());
        let before = end(newest);
        if wal.tidy(1 << 20).unwrap() > 0 {
            wal.sync().unwrap();
            wal.floor().unwrap();
            assert_eq!(seqs(&fs.names()).last(), Some(&newest), "the copies are in the same segment");
            drop(wal);
            return (fs, newest, before);
        }
    }
    unreachable!()
}

/// Of copies, too, every bit counts, and so does every bit of the item that says where the log begins.
#[test]
fn every_flipped_byte_of_a_copy_is_noticed() {
    let (fs, newest, start) = copied_forward();
    let whole = open(&fs).unwrap();
    let end = *batches(&fs.content(&segment(newest))).iter().find(|at| **at > start).unwrap();
    let mut harmless = 0;
    for at in start..end {
        let flipped = fs.copy();
        flipped.alter(&segment(newest), |content| content[at] ^= 1 << (at % 8));
        match open(&flipped) {
            Err(WalError::Damaged { file, .. }) => assert_eq!(file, segment(newest)),
            Ok(model) if model == whole => harmless += 1,
            other => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(harmless < 8, "{harmless} bytes of padding");
}

/// The terms of all entries may be known, and one of them be nowhere.
#[test]
fn a_single_entry_that_is_lost_is_noticed() {
    let (fs, mut wal) = founded();
    let state = Some(hard_state(1, None));
    let base = Write { compaction: Some(compaction(EntryId::new(2, 1))), ..Write::default() };
    wal.append(&[(GroupId(2), Write { hard_state: state, ..write(&[(1, 1), (2, 1), (3, 1)]) })]).unwrap();
    wal.append(&[(GroupId(2), base.clone())]).unwrap();
    let mut term = 0;
    while *seqs(&fs.names()).last().unwrap() < 4 {
        term += 1;
        let writes: Vec<_> =
            (0..100).map(|_| (G1, Write { hard_state: Some(hard_state(term, None)), ..Write::default() })).collect();
        wal.append(&writes).unwrap();
    }
    wal.append(&[(GroupId(2), base)]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(open(&fs).unwrap().groups[&GroupId(2)].entries.len(), 1);
    fs.alter(&segment(4), |content| {
        content[48] = 4;
        reseal_header(content);
    });
    let lost = damage(&fs).2;
    let rule = Inconsistency::Lost { found: Index(3) };
    assert!(matches!(lost, Damage::Inconsistent { group: GroupId(2), rule: found, .. } if found == rule), "{lost}");
}

/// Each segment's table must say of every group what was read before it.
#[test]
fn a_table_that_differs_from_what_was_read_is_refused() {
    let (fs, newest, _) = copied_forward();
    // Of group 2; behind its id: term, vote, promise, the base 1@1, the last entry 3@1.
    let row = 96 + 64;
    for changes in
        [&[(1, 2)][..], &[(2, 1)], &[(3, 9)], &[(4, 2)], &[(4, 0), (5, 0)], &[(6, 2)], &[(6, 4)], &[(1, 2), (7, 2)]]
    {
        let fs = fs.copy();
        fs.alter(&segment(newest), |content| {
            changes.iter().for_each(|(field, value)| content[row + 8 * field] = *value);
            reseal_header(content);
        });
        let found = damage(&fs).2;
        assert!(matches!(found, Damage::Disconnected(_)), "{changes:?}: {found}");
    }
}

/// Copies never append and never truncate.
#[test]
fn copies_of_what_the_log_does_not_hold_are_refused() {
    let (fs, newest, start) = copied_forward();
    let content = fs.content(&segment(newest));
    // The first item is the compaction of group 2, the second the copy of its entries 2 and 3.
    let copy = start + 48 + 40;
    assert_eq!((content[start + 48 + 32], content[copy + 32], content[copy + 8]), (3, 4, 2));
    for (at, value) in [(8, 1), (8, 3), (16, 2)] {
        let fs = fs.copy();
        fs.alter(&segment(newest), |content| {
            content[copy + at] = value;
            reseal(content, start, newest);
        });
        let found = damage(&fs).2;
        assert!(
            matches!(found, Damage::Inconsistent { rule: Inconsistency::Copy { .. }, .. }),
            "{at} {value}: {found}"
        );
    }
}

/// The newest segment says which is the oldest that is needed. What is before it may be there or not; what is not may
/// not be missing, and if the number itself were wrong, the lost entries would be noticed.
#[test]
fn segments_are_given_up_only_when_a_newer_one_says_so() {
    let (fs, newest, _) = copied_forward();
    let whole = open(&fs).unwrap();
    let oldest = seqs(&fs.names())[0];
    let left_over = fs.copy();
    left_over.adopt(&segment(oldest - 1), vec![0xee; 16 << 10]);
    assert_eq!(open(&left_over).unwrap(), whole, "what is before the oldest is not looked at");
    assert!(!left_over.names().contains(&segment(oldest - 1)), "and becomes a spare");

    let says = |(fs, newest): &(SimFs, u64), number: u64| {
        let (fs, newest) = (fs.copy(), *newest);
        fs.alter(&segment(newest), |content| {
            content[48..56].copy_from_slice(&number.to_le_bytes());
            reseal_header(content);
        });
        fs
    };
    let log = (fs, newest);
    assert!(matches!(refused(&says(&log, oldest - 1)), WalError::MissingSegment { seq, .. } if seq == oldest - 1));
    assert_eq!(open(&says(&log, oldest)).unwrap(), whole);
    assert_eq!(open(&says(&log, newest)).unwrap(), whole, "everything needed is in the newest segment");
    let log = many_segments();
    let too_much = damage(&says(&log, log.1)).2;
    assert!(matches!(too_much, Damage::Inconsistent { rule: Inconsistency::Lost { .. }, .. }), "{too_much}");
}

#[test]
fn entries_without_a_hard_state_are_refused() {
    let fs = three_batches();
    fs.alter(&segment(2), |content| {
        content[ITEM] = 8; // the hard state becomes another group's
        reseal(content, HEADER, 2);
    });
    let rule = Inconsistency::NoHardState;
    assert_eq!(damage(&fs), (segment(2), HEADER as u64, Damage::Inconsistent { lsn: 1, group: G1, rule }));
}

quickcheck! {
    /// Any bytes anywhere: an answer, never a panic, never entries that were not written.
    fn any_bytes_open_without_panic(at: usize, bytes: Vec<u8>, sealed: bool) -> bool {
        let fs = three_batches();
        let content = fs.content(&segment(2));
        let starts = batches(&content);
        let at = if sealed { HEADER + 8 + at % (starts[1] - HEADER - 8) } else { at % starts[3] };
        let changed = fs.copy();
        changed.alter(&segment(2), |content| {
            for (target, byte) in content[at..].iter_mut().zip(&bytes) {
                *target ^= byte;
            }
            // With a right checksum the decoder itself has to stand it.
            if sealed && u32::from_le_bytes(content[HEADER + 24..HEADER + 28].try_into().unwrap()) < 8000 {
                reseal(content, HEADER, 2);
            }
        });
        let whole = open(&fs).unwrap().groups.remove(&G1).unwrap().entries;
        match open(&changed) {
            Ok(model) if !sealed => model.groups.get(&G1).is_none_or(|group| whole.starts_with(&group.entries)),
            _ => true,
        }
    }
}
