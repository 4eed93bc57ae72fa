//! Batches: what one write to the log looks like.
//!
//! ```text
//! batch header  48 B   under header_crc
//! item headers  40 B each, an Entries item followed by 12 B per entry; all under header_crc
//! payload       the items' data in order, then zeros up to a multiple of 8 B
//! ```
//!
//! What a batch holds is thus known as soon as the first part is whole, and a flipped bit in the payload costs one
//! entry whose index and term are known, never its neighbours. `docs/format-wal.md` has the exact offsets.
//!
//! A [`Write`] becomes items in the order in which it takes effect: hard state, compaction, truncation, entries. One
//! batch is whole or not at all, so neither can be there without the other (bug `b42`).

use std::ops::Range;

use bytes::Bytes;

use crate::log::{Compaction, EntryKind, Write};
use crate::types::{EntryId, GroupId, Index, Term};
use crate::wal::codec::Fields;
use crate::wal::segment::{promise_ns, vote_number};

/// Length of a batch header.
pub(super) const HEADER_BYTES: usize = 48;
/// Length of an item header.
pub(super) const ITEM_BYTES: usize = 40;
/// Length of one row of the table of entries.
pub(super) const ROW_BYTES: usize = 12;
const HARD_STATE_BYTES: usize = 16;
/// A compaction's data: the index of the configuration, and then its bytes.
const COMPACT_BYTES: usize = 8;
/// Batches begin at multiples of this.
pub(super) const ALIGN: u64 = 8;
const MAGIC: u32 = u32::from_le_bytes(*b"TWAB");

/// The numbers of the kinds of items. 5 is reserved for a group that is gone; this version does not write it and refuses
/// to open a log that has it.
mod kind {
    pub(super) const ENTRIES: u8 = 1;
    pub(super) const HARD_STATE: u8 = 2;
    pub(super) const COMPACT: u8 = 3;
    pub(super) const REWRITE: u8 = 4;
    pub(super) const GROUP_GONE: u8 = 5;
    pub(super) const FLOOR: u8 = 6;
}

/// On a compaction: the log did not hold its entry, and is replaced as a whole.
const REPLACES: u8 = 1;
/// On an Entries item: whatever the group's log holds from the item's index on is removed first.
const TRUNCATES: u8 = 1;

/// What a batch says about itself, beside its items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Its number; the next batch of the log has the next one.
    pub(super) lsn: u64,
    /// Every batch up to this one was durable when this one was written.
    pub(super) durable_lsn: u64,
    /// Length of the batch before it in the same segment, 0 for the first.
    pub(super) prev_bytes: u32,
}

/// The fixed part of a batch. Its lengths are only claims until [`BatchHeader::verify`] has seen the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchHeader {
    pub(super) stamp: Stamp,
    header_crc: u32,
    /// Bytes of item headers and tables.
    meta_bytes: u32,
    payload_bytes: u32,
    items: u32,
    flags: u32,
}

impl BatchHeader {
    /// Reads the header if these bytes begin with one whose lengths could be right within `room` bytes.
    pub(super) fn read(bytes: &[u8], room: u64) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u32()? != MAGIC {
            return None;
        }
        let header_crc = fields.u32()?;
        let (lsn, durable_lsn) = (fields.u64()?, fields.u64()?);
        let (meta_bytes, payload_bytes, items) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (prev_bytes, flags, reserved) = (fields.u32()?, fields.u32()?, fields.u32()?);
        // A later version may give the reserved field a meaning, together with a flag; it counts as one.
        let flags = flags | u32::from(reserved != 0) << 31;
        let stamp = Stamp { lsn, durable_lsn, prev_bytes };
        let header = Self { stamp, header_crc, meta_bytes, payload_bytes, items, flags };
        let item_bytes = u64::from(items) * ITEM_BYTES as u64;
        (item_bytes <= u64::from(meta_bytes) && header.total_bytes() <= room).then_some(header)
    }

    /// Length of header, item headers and tables.
    pub(super) fn head_bytes(&self) -> usize {
        HEADER_BYTES + self.meta_bytes as usize
    }

    /// Length of the whole batch.
    pub(super) fn total_bytes(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.meta_bytes) + u64::from(self.payload_bytes)).next_multiple_of(ALIGN)
    }

    /// Whether `head`, [`BatchHeader::head_bytes`] long, is what was written to this segment.
    pub(super) fn verify(&self, head: &[u8], seed: u32) -> bool {
        head.len() == self.head_bytes() && head_crc(head, seed) == self.header_crc
    }

    /// Reads the items of a verified batch.
    pub(super) fn items(&self, head: &[u8]) -> Result<Vec<Item>, ItemError> {
        if self.flags != 0 {
            return Err(ItemError::Unsupported(format!("batch flags {:#x}", self.flags)));
        }
        let mut at = HEADER_BYTES;
        let mut data_at = head.len();
        // The count is under the checksum, and `read` has bounded it by the length of `head`.
        let mut items = Vec::with_capacity(self.items as usize);
        for _ in 0..self.items {
            let item = Item::read(head, at, data_at)?;
            at = item.table.end;
            data_at = item.data.end;
            items.push(item);
        }
        let whole = at == head.len() && data_at == head.len() + self.payload_bytes as usize && !items.is_empty();
        if whole { Ok(items) } else { Err(ItemError::Malformed("its items do not fill it")) }
    }
}

fn head_crc(head: &[u8], seed: u32) -> u32 {
    crc32c::crc32c_append(seed, &head[8..])
}

/// Why the items of a verified batch cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ItemError {
    /// A later version wrote it.
    Unsupported(String),
    /// No version writes this.
    Malformed(&'static str),
}

/// One item of a batch; places are relative to the batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub(super) group: GroupId,
    pub(super) body: ItemBody,
    /// Where its table is, empty but for entries and copies.
    pub(super) table: Range<usize>,
    /// Where its data is.
    pub(super) data: Range<usize>,
    /// Of the data; not used where a table has one for each entry.
    pub(super) data_crc: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ItemBody {
    /// `count` entries of one term from `first` on. None at all: a truncation only.
    Entries { first: EntryId, count: u32, truncates: bool },
    /// `count` entries of one term, which the log holds already: here they are once more.
    Copy { first: EntryId, count: u32 },
    /// The log begins behind `last`.
    Compact { last: EntryId, replaces: bool },
    /// A hard state of this term.
    HardState { term: Term },
    /// Nothing: the batch is there for its `durable_lsn`.
    Floor,
}

impl Item {
    fn read(head: &[u8], at: usize, data_at: usize) -> Result<Self, ItemError> {
        const SHORT: ItemError = ItemError::Malformed("an item header is cut off");
        let mut fields = Fields(head.get(at..).ok_or(SHORT)?);
        let mut numbers = || Some((fields.u64()?, fields.u64()?, fields.u64()?, fields.u32()?, fields.u32()?));
        let (group, index, term, bytes, data_crc) = numbers().ok_or(SHORT)?;
        let mut small = || Some((fields.u8()?, fields.u8()?, fields.bytes::<2>()?, fields.u32()?));
        let (number, flags, reserved, count) = small().ok_or(SHORT)?;

        let known_flags = match number {
            kind::ENTRIES => TRUNCATES,
            kind::COMPACT => REPLACES,
            _ => 0,
        };
        let id = EntryId::new(index, term);
        let body = match number {
            kind::ENTRIES => ItemBody::Entries { first: id, count, truncates: flags & TRUNCATES != 0 },
            kind::REWRITE => ItemBody::Copy { first: id, count },
            kind::HARD_STATE if bytes as usize == HARD_STATE_BYTES => ItemBody::HardState { term: Term(term) },
            kind::HARD_STATE => return Err(ItemError::Malformed("a hard state has the wrong length")),
            kind::FLOOR if bytes == 0 => ItemBody::Floor,
            kind::FLOOR => return Err(ItemError::Malformed("a floor carries data")),
            kind::COMPACT if bytes as usize >= COMPACT_BYTES && index < u64::MAX => {
                ItemBody::Compact { last: id, replaces: flags & REPLACES != 0 }
            }
            kind::COMPACT => return Err(ItemError::Malformed("a compaction has the wrong length or index")),
            kind::GROUP_GONE => return Err(ItemError::Unsupported("a removed group (item kind 5)".into())),
            other => return Err(ItemError::Unsupported(format!("item kind {other}"))),
        };
        if flags & !known_flags != 0 || reserved != [0; 2] {
            return Err(ItemError::Unsupported(format!("flags {flags:#x} {reserved:?} of item kind {number}")));
        }
        let table_at = at + ITEM_BYTES;
        let rows = if matches!(number, kind::ENTRIES | kind::REWRITE) { count as usize } else { 0 };
        let table = table_at..table_at + rows * ROW_BYTES;
        let item = Self { group: GroupId(group), body, table, data: data_at..data_at + bytes as usize, data_crc };
        item.check(head)?;
        Ok(item)
    }

    /// Whether table and data agree with each other.
    fn check(&self, head: &[u8]) -> Result<(), ItemError> {
        let (first, count, may_be_none) = match self.body {
            ItemBody::Entries { first, count, truncates } => (first, count, truncates),
            ItemBody::Copy { first, count } => (first, count, false),
            ItemBody::Compact { .. } | ItemBody::HardState { .. } | ItemBody::Floor => return Ok(()),
        };
        let table = head.get(self.table.clone()).ok_or(ItemError::Malformed("a table of entries is cut off"))?;
        let mut bytes = 0;
        for row in rows(table) {
            if row.padding != [0; 3] || EntryKind::from_u8(row.kind).is_none() {
                return Err(ItemError::Unsupported(format!("entry kind {} {:?}", row.kind, row.padding)));
            }
            bytes += row.bytes as usize;
        }
        if bytes != self.data.len() {
            return Err(ItemError::Malformed("a table of entries does not add up"));
        }
        if (count == 0 && !may_be_none) || first.index == Index::ZERO {
            return Err(ItemError::Malformed("entries at index 0, or none at all"));
        }
        if first.index.0.checked_add(u64::from(count)).is_none() {
            return Err(ItemError::Malformed("entries beyond the last index"));
        }
        Ok(())
    }
}

/// One row of the table that follows an Entries or Rewrite item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// Length of the entry's payload.
    pub(super) bytes: u32,
    /// CRC-32C of it.
    pub(super) crc: u32,
    pub(super) kind: u8,
    padding: [u8; 3],
}

/// The rows of a table.
pub(super) fn rows(table: &[u8]) -> impl Iterator<Item = Row> {
    table.chunks_exact(ROW_BYTES).filter_map(|row| {
        let mut fields = Fields(row);
        Some(Row { bytes: fields.u32()?, crc: fields.u32()?, kind: fields.u8()?, padding: fields.bytes()? })
    })
}

/// How many bytes a batch has that holds nothing.
pub(super) const EMPTY_BATCH_BYTES: u64 = HEADER_BYTES as u64 + ALIGN - 1;

/// How many bytes a write adds to its batch.
pub(super) fn encoded_bytes(write: &Write) -> u64 {
    let hard_state = if write.hard_state.is_some() { ITEM_BYTES + HARD_STATE_BYTES } else { 0 };
    let compaction = write.compaction.as_ref().map_or(0, |to| ITEM_BYTES + COMPACT_BYTES + to.configuration.1.len());
    let runs = term_runs(write).count().max(usize::from(write.truncate_from.is_some()));
    let entries: u64 = write.entries.iter().map(|entry| entry.payload.len() as u64 + ROW_BYTES as u64).sum();
    (hard_state + compaction + runs * ITEM_BYTES) as u64 + entries
}

/// One group's part of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) group: GroupId,
    pub(super) write: &'a Write,
    /// Its compaction replaces the whole log.
    pub(super) replaces: bool,
    /// Its entries are copies of what the log holds already.
    pub(super) copies: bool,
}

/// Writes a batch of `parts` into `buffer`, replacing what is in it.
///
/// The caller has made sure that it is shorter than 4 GiB: it fits into a segment.
pub(super) fn encode(buffer: &mut Vec<u8>, stamp: Stamp, seed: u32, parts: &[Part<'_>]) {
    let items = begin(buffer, parts);
    let meta_bytes = buffer.len() - HEADER_BYTES;
    for Part { write, .. } in parts {
        if let Some(state) = &write.hard_state {
            buffer.extend(hard_state_data(vote_number(state), promise_ns(state)));
        }
        if let Some(Compaction { configuration: (index, bytes), .. }) = &write.compaction {
            buffer.extend(index.0.to_le_bytes());
            buffer.extend_from_slice(bytes);
        }
        for entry in &write.entries {
            buffer.extend_from_slice(&entry.payload);
        }
    }
    finish(buffer, stamp, seed, items, meta_bytes);
}

/// Writes a batch that holds nothing but its stamp.
pub(super) fn encode_floor(buffer: &mut Vec<u8>, stamp: Stamp, seed: u32) {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    put_item(buffer, GroupId(0), EntryId::ZERO, 0, 0, (kind::FLOOR, 0, 0));
    finish(buffer, stamp, seed, 1, ITEM_BYTES);
}

/// Leaves room for the header and writes item headers and tables; how many items there are.
fn begin(buffer: &mut Vec<u8>, parts: &[Part<'_>]) -> u32 {
    buffer.clear();
    buffer.resize(HEADER_BYTES, 0);
    let mut items = 0;
    for Part { group, write, replaces, copies } in parts {
        if let Some(state) = &write.hard_state {
            let crc = crc32c::crc32c(&hard_state_data(vote_number(state), promise_ns(state)));
            let id = EntryId { term: state.term, index: Index::ZERO };
            put_item(buffer, *group, id, HARD_STATE_BYTES, crc, (kind::HARD_STATE, 0, 0));
            items += 1;
        }
        if let Some(Compaction { last, configuration: (index, bytes) }) = &write.compaction {
            let crc = crc32c::crc32c_append(crc32c::crc32c(&index.0.to_le_bytes()), bytes);
            let flags = if *replaces { REPLACES } else { 0 };
            put_item(buffer, *group, *last, COMPACT_BYTES + bytes.len(), crc, (kind::COMPACT, flags, 0));
            items += 1;
        }
        let entries = if *copies { kind::REWRITE } else { kind::ENTRIES };
        let mut flags = if write.truncate_from.is_some() { TRUNCATES } else { 0 };
        for run in term_runs(write) {
            let bytes = run.iter().map(|entry| entry.payload.len()).sum();
            put_item(buffer, *group, run[0].id, bytes, 0, (entries, flags, run.len() as u32));
            for entry in run {
                buffer.extend((entry.payload.len() as u32).to_le_bytes());
                buffer.extend(crc32c::crc32c(&entry.payload).to_le_bytes());
                buffer.extend([entry.kind as u8, 0, 0, 0]);
            }
            items += 1;
            flags = 0;
        }
        // A truncation without entries to put in place is a run of none (bug `b44`: it must not be forgotten).
        if let (true, Some(from)) = (write.entries.is_empty(), write.truncate_from) {
            put_item(buffer, *group, EntryId { term: Term::ZERO, index: from }, 0, 0, (kind::ENTRIES, flags, 0));
            items += 1;
        }
    }
    items
}

/// The entries of a write, cut where the term changes.
fn term_runs(write: &Write) -> impl Iterator<Item = &[crate::log::Entry]> {
    write.entries.chunk_by(|one, next| one.id.term == next.id.term)
}

fn hard_state_data(vote: u64, promise_ns: u64) -> [u8; HARD_STATE_BYTES] {
    (u128::from(vote) | u128::from(promise_ns) << 64).to_le_bytes()
}

/// The configuration of a compaction, from its data.
pub(super) fn decode_configuration(data: &[u8]) -> Option<(Index, Bytes)> {
    let (index, bytes) = data.split_first_chunk::<COMPACT_BYTES>()?;
    Some((Index(u64::from_le_bytes(*index)), Bytes::copy_from_slice(bytes)))
}

fn put_item(buffer: &mut Vec<u8>, group: GroupId, id: EntryId, bytes: usize, crc: u32, tail: (u8, u8, u32)) {
    let (kind, flags, count) = tail;
    for number in [group.0, id.index.0, id.term.0] {
        buffer.extend(number.to_le_bytes());
    }
    buffer.extend((bytes as u32).to_le_bytes());
    buffer.extend(crc.to_le_bytes());
    buffer.extend([kind, flags, 0, 0]);
    buffer.extend(count.to_le_bytes());
}

/// Pads the payload and fills in the header, whose checksum covers everything before the payload.
fn finish(buffer: &mut Vec<u8>, stamp: Stamp, seed: u32, items: u32, meta_bytes: usize) {
    let payload_bytes = buffer.len() - HEADER_BYTES - meta_bytes;
    buffer.resize(buffer.len().next_multiple_of(ALIGN as usize), 0);
    let head = &mut buffer[..HEADER_BYTES + meta_bytes];
    head[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    head[8..16].copy_from_slice(&stamp.lsn.to_le_bytes());
    head[16..24].copy_from_slice(&stamp.durable_lsn.to_le_bytes());
    let numbers = [meta_bytes as u32, payload_bytes as u32, items, stamp.prev_bytes, 0, 0];
    for (field, number) in head[24..HEADER_BYTES].chunks_exact_mut(4).zip(numbers) {
        field.copy_from_slice(&number.to_le_bytes());
    }
    let crc = head_crc(head, seed);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
}
