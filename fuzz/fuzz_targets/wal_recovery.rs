//! A log is written, damaged in any way, and opened again.
//!
//! Whatever the damage: opening never panics; if it succeeds, it finds the log as it was after some batch, every entry
//! can be read back as it was appended, and opening it once more finds the same.

#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tenure::log::{Compaction, Entry, EntryKind, HardState, Write};
use tenure::time::Duration;
use tenure::types::{ClusterId, EntryId, GroupId, Index, NodeId, StoreId, Term, WriteSeq};
use tenure::wal::{Identity, Recovered, Wal, WalConfig, found};
use tenure_fuzz::MemoryFs;

const DIRECTORY: &str = "node";

#[derive(Arbitrary, Debug)]
struct BatchSketch {
    writes: Vec<WriteSketch>,
    /// Followed by a floor, as in an idle log.
    floor: bool,
    /// Followed by copies of so many bytes, if the log is long.
    tidy: u8,
}

#[derive(Arbitrary, Debug)]
struct WriteSketch {
    group: u8,
    hard_state: bool,
    /// Compacts up to so many entries behind the base; behind the end, that replaces the log.
    compact: Option<u8>,
    truncate: Option<u8>,
    entries: Vec<u16>,
    term_step: u8,
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Flip { file: u8, at: u16, bits: u8 },
    Overwrite { file: u8, at: u16, bytes: Vec<u8> },
    Copy { from: u8, to: u8, at: u16, to_at: u16, length: u16 },
    Cut { file: u8, length: u16 },
    Remove { file: u8 },
    Exchange { one: u8, other: u8 },
}

/// What a group has on disk.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    hard_state: HardState,
    compaction: Option<Compaction>,
    entries: Vec<Entry>,
}

impl Group {
    fn base(&self) -> EntryId {
        self.compaction.as_ref().map_or(EntryId::ZERO, |compaction| compaction.last)
    }
}

type Model = BTreeMap<GroupId, Group>;

fuzz_target!(|input: (Vec<BatchSketch>, Vec<Damage>)| {
    let (batches, damages) = input;
    let fs = Arc::new(MemoryFs::default());
    let states = write_log(&fs, &batches);
    let mut files = fs.dump();
    damages.iter().take(4).for_each(|damage| inflict(damage, &mut files));
    let fs = Arc::new(MemoryFs::of(files));
    if let Some(first) = recover(&fs) {
        assert!(states.contains(&first), "recovered what never was: {first:?}");
        assert_eq!(recover(&fs), Some(first), "a second recovery finds something else");
    }
});

fn config() -> WalConfig {
    let mut config = WalConfig::default();
    config.segment_bytes = 16 << 10;
    config.batch_bytes = 8 << 10;
    config.spare_segments = 0;
    config.soft_bytes = 32 << 10;
    config
}

/// Writes the batches and returns the states after each of their writes, the empty one first.
fn write_log(fs: &Arc<MemoryFs>, batches: &[BatchSketch]) -> Vec<Model> {
    let cluster = ClusterId::new("fuzz").expect("a name");
    found(&**fs, Path::new(DIRECTORY), &Identity { cluster, node: NodeId(1), store: StoreId(7) }).expect("founded");
    let (mut wal, _) = Wal::open(fs.clone(), Path::new(DIRECTORY), config()).expect("opened");
    let mut model = Model::new();
    let mut states = vec![model.clone()];
    for batch in batches.iter().take(16) {
        // An append of many bytes is cut into batches between its writes: the log may end after any of them.
        let mut writes = Vec::new();
        for sketch in batch.writes.iter().take(4) {
            writes.push(write(sketch, &mut model));
            states.push(model.clone());
        }
        if writes.is_empty() {
            continue;
        }
        wal.append(&writes).expect("appended");
        wal.sync().expect("synced");
        if batch.floor {
            wal.floor().expect("a floor");
        }
        wal.tidy(usize::from(batch.tidy) * 16).expect("tidied");
    }
    states
}

/// Makes a write that fits what the group has, and carries it out on the model.
fn write(sketch: &WriteSketch, model: &mut Model) -> (GroupId, Write) {
    let id = GroupId(1 + u64::from(sketch.group % 3));
    let group = model.entry(id).or_default();
    let compaction = sketch.compact.and_then(|count| compact(group, u64::from(count % 16)));
    if let Some(back) = sketch.truncate {
        group.entries.truncate(group.entries.len().saturating_sub(usize::from(back)));
    }
    let kept = group.entries.len();
    let term = Term(group.hard_state.term.0 + u64::from(sketch.term_step % 3));
    for bytes in sketch.entries.iter().take(8) {
        let index = group.base().index.0 + group.entries.len() as u64 + 1;
        let payload = Bytes::from(vec![*bytes as u8; usize::from(*bytes % 512)]);
        let id = EntryId { index: Index(index), term: Term(term.0.max(1)) };
        group.entries.push(Entry { id, kind: EntryKind::Command, payload });
    }
    let term = Term(term.0.max(1));
    // The first write of a group, and any with a new term, carries the hard state.
    let new_term = term != group.hard_state.term;
    if new_term || sketch.hard_state {
        let vote = sketch.hard_state.then_some(NodeId(2)).or(group.hard_state.vote);
        group.hard_state = HardState { term, vote, longest_promise: Duration::from_secs(1) };
    }
    let write = Write {
        seq: WriteSeq::default(), // counts writes for the core, and is not on disk
        hard_state: (new_term || sketch.hard_state).then_some(group.hard_state),
        compaction,
        truncate_from: sketch.truncate.map(|_| group.base().index.plus(kept as u64 + 1)),
        entries: group.entries[kept..].to_vec(),
    };
    (id, write)
}

/// Compacts the log, or replaces it by one that begins behind its end. `None` where nothing is to be compacted.
fn compact(group: &mut Group, count: u64) -> Option<Compaction> {
    let (base, held) = (group.base(), group.entries.len() as u64);
    let last = match count {
        0 => base,
        count if count <= held => group.entries[count as usize - 1].id,
        count => {
            EntryId { index: base.index.plus(count), term: group.entries.last().map_or(base, |entry| entry.id).term }
        }
    };
    if last.term == Term::ZERO {
        return None;
    }
    group.entries.drain(..count.min(held) as usize);
    let configuration = (last.index, Bytes::from(format!("as of {last}")));
    group.compaction = Some(Compaction { last, configuration });
    group.compaction.clone()
}

fn inflict(damage: &Damage, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    let path = |number: u8| paths[usize::from(number) % paths.len()].clone();
    let clip = |at: u16, length: usize| usize::from(at).min(length);
    match damage {
        Damage::Flip { file, at, bits } => {
            if let Some(byte) = files.get_mut(&path(*file)).and_then(|bytes| bytes.get_mut(usize::from(*at))) {
                *byte ^= bits;
            }
        }
        Damage::Overwrite { file, at, bytes } => {
            let file = files.entry(path(*file)).or_default();
            let at = clip(*at, file.len());
            let length = bytes.len().min(file.len() - at);
            file[at..at + length].copy_from_slice(&bytes[..length]);
        }
        Damage::Copy { from, to, at, to_at, length } => {
            let source = files.get(&path(*from)).cloned().unwrap_or_default();
            let at = clip(*at, source.len());
            let target = files.entry(path(*to)).or_default();
            let to_at = clip(*to_at, target.len());
            let length = usize::from(*length).min(source.len() - at).min(target.len() - to_at);
            target[to_at..to_at + length].copy_from_slice(&source[at..at + length]);
        }
        Damage::Cut { file, length } => files.entry(path(*file)).or_default().truncate(usize::from(*length)),
        Damage::Remove { file } => {
            // The last file stays, so that there is always one to damage.
            if paths.len() > 1 {
                files.remove(&path(*file));
            }
        }
        Damage::Exchange { one, other } => {
            let (one, other) = (path(*one), path(*other));
            let (first, second) = (files.get(&one).cloned(), files.get(&other).cloned());
            files.extend(second.map(|bytes| (one, bytes)));
            files.extend(first.map(|bytes| (other, bytes)));
        }
    }
}

/// Opens the log; `None` if it refuses.
fn recover(fs: &Arc<MemoryFs>) -> Option<Model> {
    let (wal, Recovered { groups, .. }) = Wal::open(fs.clone(), Path::new(DIRECTORY), config()).ok()?;
    let reader = wal.reader();
    let mut model = Model::new();
    for (id, group) in groups {
        let (base, last) = (group.log.base().index, group.log.last().index);
        let mut entries: Vec<Entry> = Vec::new();
        while base.0 + (entries.len() as u64) < last.0 {
            let first = base.plus(entries.len() as u64 + 1);
            // Data can be damaged where headers are not: a typed error.
            let read = reader.read(id, first, last, 1 << 20).ok()?;
            assert!(!read.is_empty(), "nothing read, no error");
            entries.extend(read);
        }
        model.insert(id, Group { hard_state: group.hard_state, compaction: group.compaction, entries });
    }
    Some(model)
}
