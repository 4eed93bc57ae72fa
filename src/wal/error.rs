//! What can go wrong with the log, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::types::{EntryId, GroupId, Index, StoreId, Term};

/// Why the log could not be founded, opened, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// A knob is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory holds no identity: found it first.
    #[error("{} was never founded as a node's directory", dir.display())]
    NotFounded {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory already belongs to a node; nothing was changed. Open it, or choose an empty one.
    #[error("{} already holds a node: {found}", dir.display())]
    AlreadyFounded {
        /// The directory.
        dir: PathBuf,
        /// What was found there.
        found: String,
    },
    /// Another process (or this one, a second time) has the directory open. Stop it first.
    #[error("{} is in use: its lock is held", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The system refused an operation. While opening, mend the cause and open again; a log that was open has failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were durable are wrong. Nothing was changed on disk. Do not delete files to get past this: bring
    /// them back from a copy of the disk, or remove this node from its groups and add a fresh one.
    #[error("{}, offset {offset}: {damage}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where the damaged block, batch or entry begins, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// A file of the log is not there. Bring it back; its neighbours were left alone (bug `d07`).
    #[error("segment {seq} is missing: {} is not there, the log cannot be opened without it", file.display())]
    MissingSegment {
        /// Its sequence number.
        seq: u64,
        /// Where it should be.
        file: PathBuf,
    },
    /// A later version wrote this. Open the directory with that version.
    #[error(
        "{}, offset {offset}: {what}, unknown to format version {supported}; the file has version {found}",
        file.display()
    )]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// What this version does not know.
        what: String,
        /// The file's format version.
        found: u32,
        /// The newest format version this program knows.
        supported: u32,
    },
    /// One write is larger than a segment has room for. Nothing was written, the log goes on. Raise `segment_bytes`
    /// or lower the limits on entries per request.
    #[error("a write of {bytes} bytes does not fit into a segment, which has room for {limit}")]
    TooLarge {
        /// Its encoded length.
        bytes: u64,
        /// The room.
        limit: u64,
    },
    /// A write does not follow from the log: a bug of the caller. Nothing of it was written, and the log has failed.
    #[error("{group}: the write does not follow from the log: {rule}")]
    InvalidWrite {
        /// The group.
        group: GroupId,
        /// The rule it breaks.
        rule: Inconsistency,
    },
    /// The log does not hold this entry: it was truncated meanwhile or never written.
    #[error("{group}: there is no entry {index} in the log")]
    NotInLog {
        /// The group.
        group: GroupId,
        /// The first index asked for.
        index: Index,
    },
    /// The entry was compacted away: send a snapshot instead.
    #[error("{group}: the log begins behind {base}, entry {index} was compacted away")]
    Compacted {
        /// The group.
        group: GroupId,
        /// The first index asked for.
        index: Index,
        /// The last entry that is gone.
        base: EntryId,
    },
    /// An earlier write or sync failed: nothing more is taken, nothing is retried. Open the log again.
    #[error("the log has failed: an earlier write or sync went wrong")]
    Failed,
}

impl WalError {
    /// For `map_err` on a system call.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(super) fn damaged(file: &Path, offset: u64, damage: Damage) -> Self {
        Self::Damaged { file: file.to_path_buf(), offset, damage }
    }
}

/// What is wrong with bytes that were durable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The identity file's checksum or content is wrong.
    #[error("the identity is damaged")]
    Identity,
    /// The segment's header block is wrong.
    #[error("the segment's header is damaged")]
    SegmentHeader,
    /// The segment was made by or for another directory.
    #[error("the segment belongs to store {found}, this directory is store {expected}")]
    Foreign {
        /// The store id in the segment.
        found: StoreId,
        /// The directory's.
        expected: StoreId,
    },
    /// The segment's header has another sequence number than its name.
    #[error("the segment's header says it is number {found}")]
    Misnamed {
        /// The number in the header.
        found: u64,
    },
    /// The file does not have the length it was made with.
    #[error("the file has {found} bytes, it was made with {expected}")]
    Length {
        /// Its length.
        found: u64,
        /// The length in its header.
        expected: u64,
    },
    /// A batch header is wrong though the batch was durable.
    #[error("batch {lsn} is damaged; {proof} proves that it was durable")]
    Batch {
        /// The batch expected here.
        lsn: u64,
        /// What proves it.
        proof: Proof,
    },
    /// An entry's bytes are wrong, its identity is known: a hole.
    #[error("{group}: entry {entry} is damaged: a hole in the log")]
    Hole {
        /// The group.
        group: GroupId,
        /// The lost entry.
        entry: EntryId,
    },
    /// A hard state's bytes are wrong. Without it the node could vote twice: it must not come back under its id.
    #[error("{group}: the hard state of {term} is damaged")]
    HardState {
        /// The group.
        group: GroupId,
        /// The term it was of.
        term: Term,
    },
    /// The bytes of the item that says where a group's log begins are wrong.
    #[error("{group}: the configuration as of {last}, behind which the log begins, is damaged")]
    Compaction {
        /// The group.
        group: GroupId,
        /// The last entry that was compacted away.
        last: EntryId,
    },
    /// The checksum is right and the content makes no sense.
    #[error("batch {lsn} makes no sense: {what}")]
    Malformed {
        /// The batch expected here.
        lsn: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A batch does not follow from those before it.
    #[error("batch {lsn}, {group}: {rule}")]
    Inconsistent {
        /// The batch.
        lsn: u64,
        /// The group.
        group: GroupId,
        /// The rule it breaks.
        rule: Inconsistency,
    },
    /// The segment before does not end where this one says, or its hard states are not those of this one's table.
    #[error("the segment does not follow from the one before: {0}")]
    Disconnected(&'static str),
}

/// How it is known that a damaged batch had been durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Proof {
    /// A later batch of the same segment was written when it was durable.
    #[error("batch {lsn} at offset {offset}")]
    LaterBatch {
        /// The later batch.
        lsn: u64,
        /// Its place in the same file.
        offset: u64,
    },
    /// A later segment was begun, which happens only when everything before it is durable.
    #[error("segment {seq}, which starts with batch {first_lsn},")]
    LaterSegment {
        /// The later segment.
        seq: u64,
        /// Its first batch.
        first_lsn: u64,
    },
}

/// A rule of the log that a write or a recovered batch breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Inconsistency {
    /// Entries of a group that has no hard state.
    #[error("entries without a hard state")]
    NoHardState,
    /// A hard state of an older term, or another vote in the same term.
    #[error("a hard state of {found} after one of {last}, or a vote changed within a term")]
    HardStateBack {
        /// The term before.
        last: Term,
        /// The term found.
        found: Term,
    },
    /// An entry (or truncation) behind the end of the log.
    #[error("{found} leaves a gap after {last}")]
    Gap {
        /// The last entry.
        last: EntryId,
        /// The index found.
        found: Index,
    },
    /// Entries where others are, without the mark of a truncation.
    #[error("{found} overwrites without a truncation, the log ends at {last}")]
    Overwrite {
        /// The last entry.
        last: EntryId,
        /// The index found.
        found: Index,
    },
    /// A term below that of the entry before, or above the hard state's, or 0.
    #[error("the term of {found} falls below that of {last} or exceeds the hard state's")]
    Term {
        /// The entry before.
        last: EntryId,
        /// The entry found.
        found: EntryId,
    },
    /// A compaction up to an entry before the base, or to another one at its index.
    #[error("a compaction up to {found} after one up to {base}")]
    CompactionBack {
        /// The last entry that was compacted away before.
        base: EntryId,
        /// The compaction found.
        found: EntryId,
    },
    /// A compaction that brings a configuration of a later index.
    #[error("a compaction up to {found} with a configuration of index {configuration}")]
    LateConfiguration {
        /// The compaction found.
        found: EntryId,
        /// Where its configuration stands.
        configuration: Index,
    },
    /// A compaction whose mark, whether it replaces the whole log, contradicts what the log holds.
    #[error("a compaction up to {found} that is wrong about whether the log holds that entry")]
    Replacement {
        /// The compaction found.
        found: EntryId,
    },
    /// A truncation of what was compacted away.
    #[error("a truncation from {found} on, the log begins behind {base}")]
    TruncatesBase {
        /// The last entry that was compacted away.
        base: EntryId,
        /// The index found.
        found: Index,
    },
    /// Entries copied forward that the log does not hold.
    #[error("a copy of {found} and what follows it, which the log does not hold")]
    Copy {
        /// The first entry of the copy.
        found: EntryId,
    },
    /// An entry of the log, or the item that says where the log begins, is in no segment that is left.
    #[error("entry {found} is needed and in no segment that is left")]
    Lost {
        /// The first entry missing; the base itself if its configuration is.
        found: Index,
    },
    /// A vote for node 0, which is nobody.
    #[error("a vote for node 0")]
    VoteForNobody,
}
