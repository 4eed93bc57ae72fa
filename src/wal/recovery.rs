//! From files to groups.
//!
//! The newest segment says which one is the oldest that is needed; older ones that are still there were about to be
//! reused, and are not looked at. Segments are read from the oldest to the newest. All but the newest end exactly where
//! the next one says ("by decree"); whatever is wrong before that point was durable and is damage. In the newest one the
//! first bad batch ends the log, unless a batch behind it proves that it had been durable: then, too, it is damage.
//! Without proof it is a write that a crash cut short, whose success nobody was told of.
//!
//! The oldest segment's table stands for everything before it, but it does not tell the terms of the entries that were
//! in the logs by then. They were compacted away later, or copied forward, before that segment became the oldest one:
//! what is read must show it, else the log is refused.
//!
//! Nothing on disk is changed here, so recovering twice gives the same result.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::log::{Compaction, EntryKind, HardState, Log};
use crate::sync::Arc;
use crate::types::{EntryId, GroupId, Index, StoreId};
use crate::wal::error::{Damage, Inconsistency, Proof, WalError};
use crate::wal::fs::{File, Fs};
use crate::wal::index::{Places, Run};
use crate::wal::record::{self, Item, ItemBody};
use crate::wal::scan::{Batch, Behind, Scan};
use crate::wal::segment::{self, BLOCK, HeaderError, SegmentHeader, WITHOUT_COMPACTION};
use crate::wal::tail::{Summary, Tail};
use crate::wal::{codec::Fields, error};

/// What a node's log holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// Every group, each with all that was durable and possibly more; all of it is durable now.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// The write that a crash cut short at the end of the log, if there are traces of one. Worth a line in the log.
    pub torn: Option<TornTail>,
}

/// What a node's log holds of one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveredGroup {
    /// The last hard state.
    pub hard_state: HardState,
    /// Where the log begins, if it was compacted.
    pub compaction: Option<Compaction>,
    /// The log: terms and last index, nothing cached. It begins behind the compaction's `last`.
    pub log: Log,
    /// The payloads of the configuration entries that are in the log, by rising index.
    pub configurations: Vec<(Index, Bytes)>,
}

/// Traces of a write that a crash cut short. It was never acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the log ends in it, in bytes from the start of the file.
    pub offset: u64,
    /// The number that the lost batch would have had.
    pub lsn: u64,
    /// The file was in use before: what lies behind the end may be of its former life, and nothing was cut.
    pub reused: bool,
}

/// One segment with its checked header.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn File>,
}

/// Where the log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) offset: u64,
    /// The number of the next batch.
    pub(super) next_lsn: u64,
    /// Length of the last batch of the newest segment.
    pub(super) prev_bytes: u32,
    /// The newest batch said that everything up to here is durable.
    pub(super) stated_lsn: u64,
    /// The newest batch that carries more than a statement.
    pub(super) content_lsn: u64,
    /// Whether only zeros follow, so that the segment can be written on.
    pub(super) clean: bool,
}

/// A batch that nothing on disk says was durable.
pub(super) struct Unproven {
    lsn: u64,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Everything read.
pub(super) struct Replay {
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) places: Places,
    /// Behind the last segment of a version whose tables do not tell where logs begin and end.
    pub(super) first_full_seq: u64,
    pub(super) newest: Segment,
    pub(super) end: End,
    /// The last batches of the newest segment: at most what was appended between two syncs, and the batch after them.
    pub(super) unproven: VecDeque<Unproven>,
}

/// A group on its way.
#[derive(Default)]
pub(super) struct Group {
    pub(super) tail: Tail,
    configurations: BTreeMap<Index, Bytes>,
}

/// Reads the whole log.
pub(super) fn replay(fs: &dyn Fs, dir: &Path, store: StoreId) -> Result<Replay, WalError> {
    let mut segments = open_segments(fs, dir, store)?.into_iter().peekable();
    let first = segments.peek().ok_or_else(|| missing(dir, 1))?;
    let mut replayer = Replayer::new(&first.header);
    while let Some(segment) = segments.next() {
        let next = segments.peek().map(|next| &next.header);
        let path = segment::path(dir, segment.header.seq);
        replayer.segment(&segment, path, next)?;
        let Some(next) = next else { return Ok(replayer.finish(segment)) };
        replayer.enter(dir, next)?;
    }
    Err(missing(dir, 1))
}

/// What the runtime is told of what was read.
pub(super) fn recovered(dir: &Path, replay: &Replay) -> Result<Recovered, WalError> {
    let path = segment::path(dir, replay.newest.header.seq);
    let mut recovered = Recovered::default();
    for (id, group) in &replay.groups {
        let (hard_state, log) = whole(*id, group, &replay.places).map_err(|rule| {
            let damage = Damage::Inconsistent { lsn: replay.end.next_lsn, group: *id, rule };
            WalError::damaged(&path, replay.end.offset, damage)
        })?;
        let compaction = group.tail.compaction().cloned();
        let configurations = group.configurations.clone().into_iter().collect();
        recovered.groups.insert(*id, RecoveredGroup { hard_state, compaction, log, configurations });
    }
    if !replay.end.clean {
        let (offset, lsn, reused) = (replay.end.offset, replay.end.next_lsn, replay.newest.header.reused);
        recovered.torn = Some(TornTail { file: path, offset, lsn, reused });
    }
    Ok(recovered)
}

/// Every entry of the log must be in some segment, and so must the item that says where it begins.
fn whole(id: GroupId, group: &Group, places: &Places) -> Result<(HardState, Log), Inconsistency> {
    let tail = &group.tail;
    let hard_state = tail.hard_state().ok_or(Inconsistency::NoHardState)?;
    let base = tail.base().index;
    if let Some(found) = places.first_lost(id, base.next(), tail.last().index) {
        return Err(Inconsistency::Lost { found });
    }
    let log = tail.to_log().ok_or(Inconsistency::Lost { found: base })?;
    Ok((hard_state, log))
}

fn missing(dir: &Path, seq: u64) -> WalError {
    WalError::MissingSegment { seq, file: segment::path(dir, seq) }
}

/// Opens every segment that is needed; their numbers must leave no gap (bug `d07`).
fn open_segments(fs: &dyn Fs, dir: &Path, store: StoreId) -> Result<Vec<Segment>, WalError> {
    let names = fs.list(dir).map_err(WalError::io("listing", dir))?;
    let mut seqs: Vec<u64> = names.iter().filter_map(|name| segment::seq_of(name)).collect();
    seqs.sort_unstable();
    let Some(newest) = seqs.last() else { return Err(missing(dir, 1)) };
    let newest = open_segment(fs, dir, *newest, store)?;
    let oldest = newest.header.oldest_seq;
    seqs.retain(|seq| (oldest..newest.header.seq).contains(seq));
    if let Some(seq) = (oldest..newest.header.seq).find(|seq| seqs.binary_search(seq).is_err()) {
        return Err(missing(dir, seq));
    }
    let older: Result<Vec<_>, _> = seqs.iter().map(|seq| open_segment(fs, dir, *seq, store)).collect();
    let mut segments = older?;
    segments.push(newest);
    Ok(segments)
}

fn open_segment(fs: &dyn Fs, dir: &Path, seq: u64, store: StoreId) -> Result<Segment, WalError> {
    let path = segment::path(dir, seq);
    let io = |error| WalError::io("reading", &path)(error);
    let damaged = |damage| WalError::damaged(&path, 0, damage);
    let file = fs.open(&path).map_err(WalError::io("opening", &path))?;
    let file_bytes = file.length().map_err(io)?;
    let mut block = vec![0; BLOCK as usize];
    if file_bytes < BLOCK {
        return Err(damaged(Damage::Length { found: file_bytes, expected: BLOCK }));
    }
    file.pread(&mut block, 0).map_err(io)?;
    let claimed = SegmentHeader::claimed_bytes(&block).filter(|claimed| *claimed <= file_bytes);
    block.resize(claimed.ok_or_else(|| damaged(Damage::SegmentHeader))? as usize, 0);
    file.pread(&mut block, 0).map_err(io)?;
    let unsupported = |offset, what, found| {
        let supported = segment::VERSION;
        WalError::Unsupported { file: path.clone(), offset, what, found, supported }
    };
    let header = SegmentHeader::decode(&block).map_err(|error| match error {
        HeaderError::Damaged => damaged(Damage::SegmentHeader),
        HeaderError::Version(found) => unsupported(8, format!("a segment of version {found}"), found),
        HeaderError::Unsupported(what) => unsupported(0, what.into(), segment::VERSION),
    })?;
    if header.store != store {
        return Err(damaged(Damage::Foreign { found: header.store, expected: store }));
    }
    if header.seq != seq {
        return Err(damaged(Damage::Misnamed { found: header.seq }));
    }
    if header.file_bytes != file_bytes {
        return Err(damaged(Damage::Length { found: file_bytes, expected: header.file_bytes }));
    }
    Ok(Segment { header, file })
}

/// The log as far as it has been read.
struct Replayer {
    groups: BTreeMap<GroupId, Group>,
    places: Places,
    first_full_seq: u64,
    end: End,
    unproven: VecDeque<Unproven>,
}

impl Replayer {
    /// The oldest segment's table stands for everything that was before it.
    fn new(oldest: &SegmentHeader) -> Self {
        let known = |(id, summary): (&GroupId, &Summary)| {
            (*id, Group { tail: Tail::of(summary), configurations: BTreeMap::new() })
        };
        let before = oldest.first_lsn.saturating_sub(1);
        let end = End {
            offset: 0,
            next_lsn: oldest.first_lsn,
            prev_bytes: 0,
            stated_lsn: before,
            content_lsn: before,
            clean: true,
        };
        let groups = oldest.groups.iter().map(known).collect();
        Self { groups, places: Places::default(), first_full_seq: 0, end, unproven: VecDeque::new() }
    }

    fn finish(self, newest: Segment) -> Replay {
        let Self { groups, places, first_full_seq, end, unproven } = self;
        Replay { groups, places, first_full_seq, newest, end, unproven }
    }

    /// Goes on to the next segment, which must begin where the one before ended.
    fn enter(&mut self, dir: &Path, next: &SegmentHeader) -> Result<(), WalError> {
        let disconnected = |what| Err(WalError::damaged(&segment::path(dir, next.seq), 0, Damage::Disconnected(what)));
        if self.end.next_lsn != next.first_lsn || self.end.offset != next.previous_end {
            return disconnected("it ends elsewhere");
        }
        if !self.agrees(next) {
            return disconnected("the groups in it are not those of the table");
        }
        self.end.stated_lsn = next.first_lsn.saturating_sub(1);
        Ok(())
    }

    /// Whether the table of the next segment says what was read so far.
    fn agrees(&mut self, next: &SegmentHeader) -> bool {
        let same = |(id, group): (&GroupId, &mut Group)| {
            let Some(mut said) = next.groups.get(id).copied() else { return false };
            if next.version == WITHOUT_COMPACTION {
                said.last = group.tail.last(); // it says nothing of the log
            }
            group.tail.agree(&said)
        };
        self.groups.len() == next.groups.len() && self.groups.iter_mut().all(same)
    }

    /// Reads one segment, up to where `next` begins if there is a next one.
    fn segment(&mut self, segment: &Segment, path: PathBuf, next: Option<&SegmentHeader>) -> Result<(), WalError> {
        let header = &segment.header;
        self.places.add_segment(header.seq, Arc::clone(&segment.file), header.file_bytes);
        let mut scan = Scan::new(path, Arc::clone(&segment.file), header)?;
        if header.version == WITHOUT_COMPACTION {
            self.first_full_seq = header.seq + 1;
        }
        self.end.offset = header.header_bytes();
        self.end.prev_bytes = 0;
        let limit = next.map_or(header.file_bytes, |next| next.previous_end);
        loop {
            if next.is_some_and(|next| self.end.next_lsn == next.first_lsn && self.end.offset == limit) {
                return Ok(());
            }
            let (offset, lsn) = (self.end.offset, self.end.next_lsn);
            match scan.batch(offset, limit, lsn, self.end.prev_bytes)? {
                Ok(batch) => {
                    self.batch(&mut scan, header.seq, &batch)?;
                    if next.is_none() {
                        let bytes = scan.bytes(offset, &batch)?;
                        self.unproven.push_back(Unproven { lsn, offset, bytes });
                        let stated = self.end.stated_lsn;
                        while self.unproven.pop_front_if(|batch| batch.lsn <= stated).is_some() {}
                    }
                }
                Err(bad) => {
                    let proof = match next {
                        Some(next) => Proof::LaterSegment { seq: next.seq, first_lsn: next.first_lsn },
                        None => match scan.behind(offset, &bad, lsn)? {
                            Behind::Proof(proof) => proof,
                            behind => {
                                self.end.clean = matches!(behind, Behind::Nothing);
                                return Ok(());
                            }
                        },
                    };
                    return Err(bad.into_error(scan.path(), lsn, proof));
                }
            }
        }
    }

    fn batch(&mut self, scan: &mut Scan, seq: u64, batch: &Batch) -> Result<(), WalError> {
        let lsn = batch.header.stamp.lsn;
        let offset = self.end.offset;
        for item in &batch.items {
            let done = self.item(scan, seq, batch, item)?;
            done.map_err(|rule| {
                let damage = error::Damage::Inconsistent { lsn, group: item.group, rule };
                WalError::damaged(scan.path(), offset, damage)
            })?;
        }
        if batch.items.iter().any(|item| item.body != ItemBody::Floor) {
            self.end.content_lsn = lsn;
        }
        let total = batch.header.total_bytes();
        self.end.offset += total;
        // A segment is shorter than 4 GiB, and the batch is within it.
        self.end.prev_bytes = total as u32;
        self.end.next_lsn = lsn + 1;
        self.end.stated_lsn = self.end.stated_lsn.max(batch.header.stamp.durable_lsn);
        Ok(())
    }

    fn item(
        &mut self,
        scan: &mut Scan,
        seq: u64,
        batch: &Batch,
        item: &Item,
    ) -> Result<Result<(), Inconsistency>, WalError> {
        match item.body {
            ItemBody::Floor => Ok(Ok(())),
            ItemBody::HardState { term } => {
                let data = scan.data(self.end.offset, item, 0, item.data.len())?;
                // The length was checked with the item's header.
                let state = segment::decode_hard_state(term, &mut Fields(data)).unwrap_or_default();
                Ok(self.groups.entry(item.group).or_default().tail.set_hard_state(state))
            }
            ItemBody::Compact { replaces, last } => {
                let data = scan.data(self.end.offset, item, 0, item.data.len())?;
                // The length was checked with the item's header.
                let configuration = record::decode_configuration(data).unwrap_or_default();
                Ok(self.compact(item, seq, Compaction { last, configuration }, replaces))
            }
            ItemBody::Copy { first, count } => {
                let tail = &mut self.groups.entry(item.group).or_default().tail;
                if let Err(rule) = tail.copy(first, u64::from(count)) {
                    return Ok(Err(rule));
                }
                self.places.copy(item.group, place(seq, self.end.offset, &batch.head, item, first, count));
                self.configurations(scan, batch, item, first)?;
                Ok(Ok(()))
            }
            ItemBody::Entries { first, count, truncates } => {
                if truncates && let Err(rule) = self.truncate(item.group, first.index) {
                    return Ok(Err(rule));
                }
                if count == 0 {
                    return Ok(Ok(()));
                }
                if let Err(rule) = self.entries(seq, batch, item, first, count) {
                    return Ok(Err(rule));
                }
                self.configurations(scan, batch, item, first)?;
                Ok(Ok(()))
            }
        }
    }

    /// A truncation takes configurations along (bug `b44`: nothing of it may come back).
    fn truncate(&mut self, id: GroupId, from: Index) -> Result<(), Inconsistency> {
        let group = self.groups.entry(id).or_default();
        group.tail.truncate_from(from)?;
        group.configurations.split_off(&from);
        self.places.truncate_from(id, from);
        Ok(())
    }

    /// Configurations that were compacted away go, too: the compaction brings the one that counts.
    fn compact(&mut self, item: &Item, seq: u64, to: Compaction, replaces: bool) -> Result<(), Inconsistency> {
        let group = self.groups.entry(item.group).or_default();
        let last = to.last;
        group.tail.compact(to, Some(replaces))?;
        let kept = group.configurations.split_off(&last.index.next());
        group.configurations = if replaces { BTreeMap::new() } else { kept };
        self.places.compact(item.group, last, replaces, seq, item.data.len());
        Ok(())
    }

    fn entries(
        &mut self,
        seq: u64,
        batch: &Batch,
        item: &Item,
        first: EntryId,
        count: u32,
    ) -> Result<(), Inconsistency> {
        self.groups.entry(item.group).or_default().tail.append(first, u64::from(count))?;
        self.places.append(item.group, place(seq, self.end.offset, &batch.head, item, first, count));
        Ok(())
    }

    fn configurations(&mut self, scan: &mut Scan, batch: &Batch, item: &Item, first: EntryId) -> Result<(), WalError> {
        let mut skip = 0;
        for (nth, row) in record::rows(&batch.head[item.table.clone()]).enumerate() {
            let length = row.bytes as usize;
            if EntryKind::from_u8(row.kind) == Some(EntryKind::Configuration) {
                let payload = Bytes::copy_from_slice(scan.data(self.end.offset, item, skip, length)?);
                let index = first.index.plus(nth as u64);
                self.groups.entry(item.group).or_default().configurations.insert(index, payload);
            }
            skip += length;
        }
        Ok(())
    }
}

/// Where the entries of an item are. Offsets within a segment fit into 32 bits.
pub(super) fn place(seq: u64, batch_at: u64, head: &[u8], item: &Item, first: EntryId, count: u32) -> Run {
    Run {
        first,
        count,
        skip: 0,
        seq,
        table_at: (batch_at + item.table.start as u64) as u32,
        table_rows: count,
        table_crc: crc32c::crc32c(&head[item.table.clone()]),
        data_at: (batch_at + item.data.start as u64) as u32,
        data_bytes: item.data.len() as u32,
    }
}
