//! Segment files: names and header block.
//!
//! A segment begins with a header of one or more blocks of 4 KiB. It is written and synced before the file gets its
//! name, so a file named `wal-*.seg` always has had a whole header: a wrong one is damage, never a torn write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::log::HardState;
use crate::time::Duration;
use crate::types::{EntryId, GroupId, NodeId, StoreId, Term};
use crate::wal::codec::Fields;
use crate::wal::error::WalError;
use crate::wal::fs::{File, Fs};
use crate::wal::tail::Summary;

/// The header is a multiple of this many bytes, and so is a segment.
pub(super) const BLOCK: u64 = 4096;
/// Bounds on a segment's length. Offsets within a segment fit into 32 bits.
pub(super) const MIN_BYTES: u64 = 16 << 10;
pub(super) const MAX_BYTES: u64 = 1 << 30;
/// The newest format version this program reads, and the one it writes. It reads all before it, too.
pub(super) const VERSION: u32 = 2;
/// The version that knew nothing of compaction: its tables have no base and no last entry.
pub(super) const WITHOUT_COMPACTION: u32 = 1;

const MAGIC: [u8; 8] = *b"TENUREWL";
const FIXED_BYTES: usize = 96;
/// On a segment's header: its file had another life before, whose bytes may lie behind the last batch.
const REUSED: u32 = 1;

/// Length of a row of the table of groups.
fn group_bytes(version: u32) -> usize {
    if version == WITHOUT_COMPACTION { 48 } else { 64 }
}

/// The path of segment `seq`.
pub(super) fn path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("wal-{seq:020}.seg"))
}

/// The sequence number in a segment's file name; `None` for any other file.
pub(super) fn seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// What a segment says about itself and what came before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    /// The version it was written by.
    pub(super) version: u32,
    /// Whether the file was in use before.
    pub(super) reused: bool,
    /// The directory it belongs to.
    pub(super) store: StoreId,
    /// Its number; the next segment has the next one.
    pub(super) seq: u64,
    /// The oldest segment that was needed when this one was begun.
    pub(super) oldest_seq: u64,
    /// The first batch in it. Every batch below was durable, or cut by a recovery, when this segment was begun.
    pub(super) first_lsn: u64,
    /// The length of the file.
    pub(super) file_bytes: u64,
    /// Where the last batch of the segment before ends; 0 if there is none before.
    pub(super) previous_end: u64,
    /// Every group's hard state and where its log begins and ends, after all batches below `first_lsn`.
    pub(super) groups: BTreeMap<GroupId, Summary>,
}

/// Why bytes are not a segment header of this version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HeaderError {
    Damaged,
    Version(u32),
    Unsupported(&'static str),
}

impl SegmentHeader {
    /// How long the header of a new segment is if there are so many groups.
    pub(super) fn bytes_for(groups: usize) -> u64 {
        header_bytes(groups, VERSION)
    }

    /// The offset of the first batch.
    pub(super) fn header_bytes(&self) -> u64 {
        header_bytes(self.groups.len(), self.version)
    }

    /// Where the seed of every batch checksum in this segment comes from: bytes of another directory, or of an earlier
    /// life of a recycled file, never pass.
    pub(super) fn checksum_seed(&self) -> u32 {
        crc32c::crc32c(&(self.store.0 ^ u128::from(self.seq)).to_le_bytes())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let header_bytes = self.header_bytes();
        let mut bytes = Vec::with_capacity(header_bytes as usize);
        bytes.extend(MAGIC);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend([0; 4]); // the checksum, below
        bytes.extend((header_bytes as u32).to_le_bytes());
        bytes.extend((if self.reused { REUSED } else { 0 }).to_le_bytes()); // flags
        bytes.extend(self.store.0.to_le_bytes());
        for field in [self.seq, self.oldest_seq, self.first_lsn, self.file_bytes, self.previous_end] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend((self.groups.len() as u32).to_le_bytes());
        bytes.resize(FIXED_BYTES, 0);
        for (group, Summary { hard_state, base, last }) in &self.groups {
            let state = [group.0, hard_state.term.0, vote_number(hard_state), promise_ns(hard_state)];
            let log = [base.index.0, base.term.0, last.index.0, last.term.0];
            state.into_iter().chain(log).for_each(|field| bytes.extend(field.to_le_bytes()));
        }
        bytes.resize(header_bytes as usize, 0);
        let checksum = checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// How long the header says it is, from its first block; checked against nothing yet but its own bounds.
    pub(super) fn claimed_bytes(block: &[u8]) -> Option<u64> {
        let mut fields = Fields(block.get(16..)?);
        let claimed = u64::from(fields.u32()?);
        (claimed > 0 && claimed.is_multiple_of(BLOCK) && claimed <= MAX_BYTES).then_some(claimed)
    }

    /// Checks and reads a whole header, `claimed_bytes` long.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut fields = Fields(bytes);
        let mut prefix = || Some((fields.bytes::<8>()?, fields.u32()?, fields.u32()?));
        let (magic, version, stored) = prefix().ok_or(HeaderError::Damaged)?;
        // Magic, version, checksum and header length keep their places in every version.
        if magic != MAGIC || stored != checksum(bytes) {
            return Err(HeaderError::Damaged);
        }
        if !(WITHOUT_COMPACTION..=VERSION).contains(&version) {
            return Err(HeaderError::Version(version));
        }
        Self::decode_fields(fields, version).ok_or(HeaderError::Damaged)?
    }

    /// Numbers that no log reaches would overflow further on.
    fn is_plausible(&self) -> bool {
        const NUMBERS: std::ops::Range<u64> = 1..1 << 62;
        let length_fits = (self.header_bytes()..=MAX_BYTES).contains(&self.file_bytes);
        let seqs_fit = NUMBERS.contains(&self.seq) && (1..=self.seq).contains(&self.oldest_seq);
        length_fits && seqs_fit && NUMBERS.contains(&self.first_lsn) && self.groups.values().all(Summary::is_plausible)
    }

    fn decode_fields(mut fields: Fields<'_>, version: u32) -> Option<Result<Self, HeaderError>> {
        let header_bytes = u64::from(fields.u32()?);
        let flags = fields.u32()?;
        let known_flags = if version == WITHOUT_COMPACTION { 0 } else { REUSED };
        if flags & !known_flags != 0 {
            return Some(Err(HeaderError::Unsupported("a flag in the segment header")));
        }
        let mut header = Self {
            version,
            reused: flags & REUSED != 0,
            store: StoreId(fields.u128()?),
            seq: fields.u64()?,
            oldest_seq: fields.u64()?,
            first_lsn: fields.u64()?,
            file_bytes: fields.u64()?,
            previous_end: fields.u64()?,
            groups: BTreeMap::new(),
        };
        let groups = fields.u32()?;
        fields.bytes::<12>()?;
        for _ in 0..groups {
            let group = GroupId(fields.u64()?);
            let hard_state = decode_hard_state(Term(fields.u64()?), &mut fields)?;
            let base = EntryId::new(fields.u64()?, fields.u64()?);
            let mut last = EntryId::ZERO;
            if version != WITHOUT_COMPACTION {
                last = EntryId::new(fields.u64()?, fields.u64()?);
            } else if base != EntryId::ZERO {
                return Some(Err(HeaderError::Unsupported("a compacted log")));
            }
            header.groups.insert(group, Summary { hard_state, base, last });
        }
        // The length must be the one this table needs, or the first batch would be looked for in the wrong place.
        let whole = header.groups.len() == groups as usize && header.header_bytes() == header_bytes;
        Some(if whole && header.is_plausible() { Ok(header) } else { Err(HeaderError::Damaged) })
    }
}

fn header_bytes(groups: usize, version: u32) -> u64 {
    ((FIXED_BYTES + groups * group_bytes(version)) as u64).next_multiple_of(BLOCK)
}

/// Makes `file`, so far known as `spare`, the segment that `header` says: header, sync, name, sync of the directory.
/// From the first to the last step a crash leaves either no such segment or a whole one.
pub(super) fn begin(
    fs: &dyn Fs,
    dir: &Path,
    file: &dyn File,
    spare: &Path,
    header: &SegmentHeader,
) -> Result<(), WalError> {
    file.pwrite(&header.encode(), 0).map_err(WalError::io("writing", spare))?;
    file.sync_data().map_err(WalError::io("syncing", spare))?;
    fs.rename(spare, &path(dir, header.seq)).map_err(WalError::io("renaming", spare))?;
    fs.sync_dir(dir).map_err(WalError::io("syncing", dir))
}

/// Reads vote and promise, as [`vote_number`] and [`promise_ns`] write them.
pub(super) fn decode_hard_state(term: Term, fields: &mut Fields<'_>) -> Option<HardState> {
    let vote = fields.u64()?;
    let longest_promise = Duration::from_nanos(fields.u64()?);
    Some(HardState { term, vote: (vote != 0).then_some(NodeId(vote)), longest_promise })
}

/// The vote on disk: 0 is nobody, no node has that id.
pub(super) fn vote_number(state: &HardState) -> u64 {
    state.vote.map_or(0, |node| node.0)
}

/// The promise on disk, in nanoseconds (at most 584 years).
pub(super) fn promise_ns(state: &HardState) -> u64 {
    u64::try_from(state.longest_promise.as_nanos()).unwrap_or(u64::MAX)
}

/// Over everything but the checksum's own four bytes.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(groups: u64) -> SegmentHeader {
        let state = |g| HardState {
            term: Term(g + 1),
            vote: (g % 2 == 0).then_some(NodeId(g + 1)),
            longest_promise: Duration::from_millis(g),
        };
        let summary = |g| Summary {
            hard_state: state(g),
            base: if g % 3 == 0 { EntryId::ZERO } else { EntryId::new(g, 1) },
            last: EntryId::new(2 * g + 1, 1),
        };
        SegmentHeader {
            version: VERSION,
            reused: false,
            store: StoreId(7 << 90),
            seq: 5,
            oldest_seq: 1,
            first_lsn: 99,
            file_bytes: 64 << 10,
            previous_end: 60_000,
            groups: (0..groups).map(|g| (GroupId(g), summary(g))).collect(),
        }
    }

    #[test]
    fn headers_survive_encoding_and_grow_by_blocks() {
        for (groups, blocks) in [(0, 1), (1, 1), (62, 1), (63, 2), (1000, 16)] {
            let bytes = header(groups).encode();
            assert_eq!(bytes.len() as u64, blocks * BLOCK, "{groups} groups");
            assert_eq!(SegmentHeader::claimed_bytes(&bytes), Some(blocks * BLOCK));
            assert_eq!(SegmentHeader::decode(&bytes), Ok(header(groups)));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let bytes = header(3).encode();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Damaged), "byte {at}");
        }
    }

    #[test]
    fn a_later_version_or_flag_is_named() {
        let reseal = |at: usize, value: u8| {
            let mut bytes = header(1).encode();
            bytes[at] = value;
            let sum = checksum(&bytes);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
            SegmentHeader::decode(&bytes).unwrap_err()
        };
        assert_eq!(reseal(8, 3), HeaderError::Version(3));
        assert_eq!(reseal(8, 0), HeaderError::Version(0));
        assert!(matches!(reseal(20, 2), HeaderError::Unsupported(_)));
    }

    /// What version 1 wrote: rows of 48 bytes, the last 16 of them zeros.
    #[test]
    fn version_1_is_read_and_knew_no_compaction() {
        let mut old = SegmentHeader { version: WITHOUT_COMPACTION, ..header(0) };
        let hard_state = HardState { term: Term(9), vote: Some(NodeId(2)), longest_promise: Duration::ZERO };
        let mut bytes = old.encode();
        bytes[80] = 1;
        for (at, field) in [7, 9, 2, 0].into_iter().enumerate() {
            bytes[FIXED_BYTES + 8 * at] = field;
        }
        let seal = |bytes: &mut [u8]| {
            let sum = checksum(bytes);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        };
        seal(&mut bytes);
        old.groups.insert(GroupId(7), Summary { hard_state, ..Summary::default() });
        assert_eq!(SegmentHeader::decode(&bytes), Ok(old));
        for at in [20, FIXED_BYTES + 32, FIXED_BYTES + 40] {
            let mut bytes = bytes.clone();
            bytes[at] = 1;
            seal(&mut bytes);
            assert!(matches!(SegmentHeader::decode(&bytes), Err(HeaderError::Unsupported(_))), "byte {at}");
        }
    }

    /// A right checksum does not make a number usable.
    #[test]
    fn implausible_numbers_are_damage() {
        for change in [
            |header: &mut SegmentHeader| header.seq = u64::MAX,
            |header: &mut SegmentHeader| header.first_lsn = 0,
            |header: &mut SegmentHeader| header.first_lsn = u64::MAX,
            |header: &mut SegmentHeader| header.oldest_seq = 0,
            |header: &mut SegmentHeader| header.oldest_seq = header.seq + 1,
            |header: &mut SegmentHeader| header.groups.values_mut().for_each(|group| group.last = EntryId::ZERO),
            |header: &mut SegmentHeader| header.groups.values_mut().for_each(|group| group.base = EntryId::new(1, 0)),
            |header: &mut SegmentHeader| header.file_bytes = 4095,
            |header: &mut SegmentHeader| header.file_bytes = 1 << 40,
        ] {
            let mut header = header(2);
            change(&mut header);
            assert_eq!(SegmentHeader::decode(&header.encode()), Err(HeaderError::Damaged), "{header:?}");
        }
    }

    #[test]
    fn only_segments_have_a_segments_name() {
        assert_eq!(seq_of("wal-00000000000000000012.seg"), Some(12));
        for other in ["wal-12.seg", "spare-00000000000000000012.seg", "wal-0000000000000000001x.seg", "lock"] {
            assert_eq!(seq_of(other), None, "{other}");
        }
        assert_eq!(path(Path::new("/d"), 12), Path::new("/d/wal-00000000000000000012.seg"));
    }

    #[test]
    fn seeds_differ_between_segments_and_stores() {
        let seed = |store, seq| SegmentHeader { store: StoreId(store), seq, ..header(0) }.checksum_seed();
        assert_ne!(seed(1, 1), seed(1, 2));
        assert_ne!(seed(1, 1), seed(2, 1));
    }
}
