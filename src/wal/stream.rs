//! The log of one directory: open it, append, sync.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::log::Write;
use crate::sync::{Arc, Mutex};
use crate::types::{GroupId, StoreId};
use crate::wal::config::WalConfig;
use crate::wal::error::{Inconsistency, WalError};
use crate::wal::fs::{File, Fs, Lock};
use crate::wal::identity::{self, identity};
use crate::wal::index::Places;
use crate::wal::reader::WalReader;
use crate::wal::record::{self, ALIGN, BatchHeader, EMPTY_BATCH_BYTES, ItemBody, Part, Stamp};
use crate::wal::recovery::{self, Recovered, Replay};
use crate::wal::segment::{self, SegmentHeader};
use crate::wal::spare::Spares;
use crate::wal::tail::Tail;

/// The write-ahead log of one directory, shared by all groups on it. One owner appends; readers are cheap to clone.
///
/// The order of use: [`append`](Self::append) what has queued up, [`sync`](Self::sync), tell the groups; and when
/// nothing has come for a while, [`floor`](Self::floor). In between, [`tidy`](Self::tidy) helps to give space back.
/// Dropping it writes and syncs nothing; it ends the log's thread and gives up the lock.
pub struct Wal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    pub(super) config: WalConfig,
    store: StoreId,
    oldest_seq: u64,
    /// Segments before this one have tables that do not tell enough: one that follows cannot do without them all.
    first_full_seq: u64,
    pub(super) tails: BTreeMap<GroupId, Tail>,
    pub(super) places: Arc<Mutex<Places>>,
    pub(super) active: Active,
    /// The number of the next batch.
    next_lsn: u64,
    /// Every batch up to this one is durable. Invariant: `stated_lsn <= durable_lsn < next_lsn`.
    durable_lsn: u64,
    /// What the newest batch (or segment) on disk says is durable.
    stated_lsn: u64,
    /// The newest batch that is more than a floor. Invariant: below `next_lsn`.
    content_lsn: u64,
    failed: bool,
    buffer: Vec<u8>,
    spares: Spares,
    /// Released last.
    _lock: Box<dyn Lock>,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, next_lsn, durable_lsn, failed, .. } = self;
        let seq = self.active.seq;
        write!(f, "Wal({}, segment {seq}, next {next_lsn}, durable {durable_lsn}, failed {failed})", dir.display())
    }
}

/// The segment being written.
pub(super) struct Active {
    file: Arc<dyn File>,
    pub(super) seq: u64,
    seed: u32,
    /// Where the next batch begins.
    offset: u64,
    /// Where the segment ends for us: its length, or `offset` if nothing more may be written into it.
    end: u64,
    prev_bytes: u32,
}

impl Wal {
    /// Opens a founded directory: takes its lock, reads everything, makes sure that what was read is durable. Blocks.
    ///
    /// Nothing but half-made spare files is changed on disk: what is not proven durable is written again as it was
    /// read, a torn write at the end stays where it is and the log goes on in a new segment.
    ///
    /// # Errors
    /// [`WalError::NotFounded`], [`WalError::Locked`], [`WalError::Config`]: call it differently.
    /// [`WalError::Damaged`], [`WalError::MissingSegment`], [`WalError::Unsupported`]: see there; nothing was lost by
    /// trying. [`WalError::Io`]: mend the cause and try again.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, config: WalConfig) -> Result<(Self, Recovered), WalError> {
        config.validate()?;
        // Before the lock file, so that trying to open a directory that was never founded leaves nothing in it.
        identity(&*fs, dir)?;
        let lock = identity::lock(&*fs, dir)?;
        let store = identity(&*fs, dir)?.store;
        let replay = recovery::replay(&*fs, dir, store)?;
        let recovered = recovery::recovered(dir, &replay)?;
        // What was read may never have been synced (the process was killed, the system lived on). The groups are about
        // to be told that it is durable. Older segments were synced before the newest was begun.
        //
        // After a sync that failed, the system shows what the disk never took and counts it as written: a sync alone
        // would succeed and mean nothing (bug `d01`). The same bytes written once more are work for it again.
        let path = segment::path(dir, replay.newest.header.seq);
        for batch in &replay.unproven {
            replay.newest.file.pwrite(&batch.bytes, batch.offset).map_err(WalError::io("writing", &path))?;
        }
        replay.newest.file.sync_data().map_err(WalError::io("syncing", &path))?;
        fs.sync_dir(dir).map_err(WalError::io("syncing", dir))?;
        let spares = Spares::start(Arc::clone(&fs), dir, &config, replay.newest.header.oldest_seq)?;
        Ok((Self::resume(fs, dir, config, replay, spares, lock), recovered))
    }

    fn resume(
        fs: Arc<dyn Fs>,
        dir: &Path,
        config: WalConfig,
        replay: Replay,
        spares: Spares,
        lock: Box<dyn Lock>,
    ) -> Self {
        let Replay { groups, places, first_full_seq, newest, end, unproven: _ } = replay;
        // What this version writes is not for the eyes of an older one.
        let goes_on = end.clean && newest.header.version == segment::VERSION;
        let active = Active {
            seq: newest.header.seq,
            seed: newest.header.checksum_seed(),
            offset: end.offset,
            // Behind a torn write may lie batches that look like the next ones: the log goes on elsewhere.
            end: if goes_on { newest.header.file_bytes } else { end.offset },
            prev_bytes: end.prev_bytes,
            file: newest.file,
        };
        Self {
            fs,
            dir: dir.to_path_buf(),
            config,
            store: newest.header.store,
            oldest_seq: newest.header.oldest_seq,
            first_full_seq,
            tails: groups.into_iter().map(|(id, group)| (id, group.tail)).collect(),
            places: Arc::new(Mutex::new(places)),
            active,
            next_lsn: end.next_lsn,
            durable_lsn: end.next_lsn - 1,
            stated_lsn: end.stated_lsn,
            content_lsn: end.content_lsn,
            failed: false,
            buffer: Vec::new(),
            spares,
            _lock: lock,
        }
    }

    /// Writes all of `writes`, in order. They are durable after the next [`Wal::sync`]; readers see them at once.
    ///
    /// As many writes as fit into `batch_bytes` make one batch, written with one system call, whole or not at all. A
    /// single write is never split.
    ///
    /// # Errors
    /// [`WalError::TooLarge`]: nothing was written and the log goes on. Everything else: the log has failed for good;
    /// nothing since the last sync may be acknowledged.
    pub fn append(&mut self, writes: &[(GroupId, Write)]) -> Result<(), WalError> {
        self.refuse_if_failed()?;
        let room = self.room_for_batches(writes);
        Self::refuse_too_large(room, writes)?;
        let mut rest = writes;
        while !rest.is_empty() {
            let (batch, bytes) = self.split(room, rest);
            let (now, later) = rest.split_at(batch);
            let done = self.append_batch(now, bytes);
            self.failing(done)?;
            rest = later;
        }
        Ok(())
    }

    /// Makes everything appended durable. One fdatasync, none if nothing is waiting for it. Blocks.
    ///
    /// # Errors
    /// The log has failed for good; nothing since the last sync may be acknowledged.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.refuse_if_failed()?;
        let done = self.sync_active();
        self.failing(done)
    }

    /// Says on disk how much is durable, so that damage to it later can be told from a torn write. Call it when
    /// nothing has come for some 20 ms. Does not sync, and does nothing if it was said already.
    ///
    /// # Errors
    /// The log has failed for good.
    pub fn floor(&mut self) -> Result<(), WalError> {
        self.refuse_if_failed()?;
        if self.durable_lsn.min(self.content_lsn) <= self.stated_lsn {
            return Ok(());
        }
        let done = self.append_floor();
        self.failing(done)
    }

    /// Reads entries back.
    #[must_use]
    pub fn reader(&self) -> WalReader {
        WalReader::new(Arc::clone(&self.places), self.dir.clone())
    }

    pub(super) fn refuse_if_failed(&self) -> Result<(), WalError> {
        if self.failed { Err(WalError::Failed) } else { Ok(()) }
    }

    /// After a failure nobody knows what is on disk: no call succeeds any more (bugs `d01`, `d17`).
    pub(super) fn failing<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        self.failed |= result.is_err();
        result
    }

    /// How many bytes an empty segment has for batches, once `writes` have added their groups to its header.
    pub(super) fn room_for_batches(&self, writes: &[(GroupId, Write)]) -> u64 {
        let added = writes.iter().map(|(group, _)| group).filter(|group| !self.tails.contains_key(group));
        let groups = self.tails.len() + added.collect::<BTreeSet<_>>().len();
        self.config.segment_bytes.saturating_sub(SegmentHeader::bytes_for(groups))
    }

    fn refuse_too_large(room: u64, writes: &[(GroupId, Write)]) -> Result<(), WalError> {
        let limit = room.saturating_sub(EMPTY_BATCH_BYTES);
        match writes.iter().map(|(_, write)| record::encoded_bytes(write)).find(|bytes| *bytes > limit) {
            Some(bytes) => Err(WalError::TooLarge { bytes, limit }),
            None => Ok(()),
        }
    }

    /// How many of `writes` make the next batch, and how many bytes that may have.
    fn split(&self, room: u64, writes: &[(GroupId, Write)]) -> (usize, u64) {
        let limit = room.min(self.config.batch_bytes as u64);
        let mut total = EMPTY_BATCH_BYTES;
        for (count, (_, write)) in writes.iter().enumerate() {
            let bytes = record::encoded_bytes(write);
            if count > 0 && total + bytes > limit {
                return (count, total);
            }
            total += bytes;
        }
        (writes.len(), total)
    }

    fn append_batch(&mut self, writes: &[(GroupId, Write)], bytes: u64) -> Result<(), WalError> {
        if writes.iter().all(|(_, write)| record::encoded_bytes(write) == 0) {
            return Ok(());
        }
        // Before the writes are admitted: the new segment's table is of the time before them.
        self.make_room(bytes)?;
        self.append_parts(writes, false)
    }

    /// Appends one batch, for which there is room; `copies`: of what the log holds already.
    pub(super) fn append_parts(&mut self, writes: &[(GroupId, Write)], copies: bool) -> Result<(), WalError> {
        let mut parts = Vec::with_capacity(writes.len());
        for (group, write) in writes {
            let admitted = if copies { self.admit_copy(*group, write) } else { self.admit(*group, write) };
            let replaces = admitted.map_err(|rule| WalError::InvalidWrite { group: *group, rule })?;
            parts.push(Part { group: *group, write, replaces, copies });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        record::encode(&mut buffer, self.stamp(), self.active.seed, &parts);
        let batch_at = self.active.offset;
        let written = self.write(&buffer);
        if written.is_ok() {
            self.content_lsn = self.next_lsn - 1;
            self.publish(batch_at, &buffer);
        }
        if buffer.capacity() <= 2 * self.config.batch_bytes {
            self.buffer = buffer;
        }
        written
    }

    /// Takes a write's effect into account, by the rules that recovery will judge it by. Whether it replaces the log.
    fn admit(&mut self, group: GroupId, write: &Write) -> Result<bool, Inconsistency> {
        let tail = self.tails.entry(group).or_default();
        if let Some(state) = write.hard_state {
            tail.set_hard_state(state)?;
        }
        let replaces = write.compaction.clone().map(|to| tail.compact(to, None)).transpose()?;
        if let Some(from) = write.truncate_from {
            tail.truncate_from(from)?;
        }
        for entry in &write.entries {
            tail.append(entry.id, 1)?;
        }
        Ok(replaces == Some(true))
    }

    /// The same for copies. They change nothing; each is of a compaction, or of entries of one term.
    fn admit_copy(&mut self, group: GroupId, write: &Write) -> Result<bool, Inconsistency> {
        let tail = self.tails.entry(group).or_default();
        let replaces = write.compaction.clone().map(|to| tail.compact(to, Some(false))).transpose()?;
        if let Some(first) = write.entries.first() {
            tail.copy(first.id, write.entries.len() as u64)?;
        }
        Ok(replaces == Some(true))
    }

    fn append_floor(&mut self) -> Result<(), WalError> {
        const FLOOR_BYTES: u64 = 96;
        if self.active.offset + FLOOR_BYTES > self.active.end {
            // A new segment says as much.
            return self.begin_segment();
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        record::encode_floor(&mut buffer, self.stamp(), self.active.seed);
        let written = self.write(&buffer);
        self.buffer = buffer;
        written
    }

    fn stamp(&self) -> Stamp {
        Stamp { lsn: self.next_lsn, durable_lsn: self.durable_lsn, prev_bytes: self.active.prev_bytes }
    }

    /// Writes an encoded batch to where the log ends.
    fn write(&mut self, batch: &[u8]) -> Result<(), WalError> {
        let active = &mut self.active;
        let path = || segment::path(&self.dir, active.seq);
        active.file.pwrite(batch, active.offset).map_err(WalError::io("writing", &path()))?;
        active.offset += batch.len() as u64;
        active.prev_bytes = batch.len() as u32;
        self.stated_lsn = self.durable_lsn;
        self.next_lsn += 1;
        Ok(())
    }

    /// Lets readers find what the batch at `batch_at` holds.
    fn publish(&self, batch_at: u64, batch: &[u8]) {
        let header = BatchHeader::read(batch, u64::MAX);
        let Some((header, head)) = header.and_then(|header| Some((header, batch.get(..header.head_bytes())?))) else {
            return;
        };
        let mut places = self.places.lock();
        for item in header.items(head).unwrap_or_default() {
            let place = |first, count| recovery::place(self.active.seq, batch_at, head, &item, first, count);
            match item.body {
                ItemBody::Entries { first, count, truncates } => {
                    if truncates {
                        places.truncate_from(item.group, first.index);
                    }
                    if count > 0 {
                        places.append(item.group, place(first, count));
                    }
                }
                ItemBody::Copy { first, count } => places.copy(item.group, place(first, count)),
                ItemBody::Compact { last, replaces } => {
                    places.compact(item.group, last, replaces, self.active.seq, item.data.len());
                }
                ItemBody::HardState { .. } | ItemBody::Floor => {}
            }
        }
    }

    fn sync_active(&mut self) -> Result<(), WalError> {
        if self.durable_lsn + 1 < self.next_lsn {
            let path = segment::path(&self.dir, self.active.seq);
            self.active.file.sync_data().map_err(WalError::io("syncing", &path))?;
            self.durable_lsn = self.next_lsn - 1;
        }
        Ok(())
    }

    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), WalError> {
        if self.active.offset + bytes.next_multiple_of(ALIGN) <= self.active.end {
            return Ok(());
        }
        self.begin_segment()
    }

    /// Closes the active segment and begins the next. Everything in the old one is durable first (bug `d01`): that
    /// there is a next one proves it.
    ///
    /// This is also when segments are given back: the new header says which one is needed yet, and only when that is
    /// durable do those before it become spares.
    fn begin_segment(&mut self) -> Result<(), WalError> {
        self.sync_active()?;
        let spare = self.spares.take()?;
        let groups = self.tails.iter().filter_map(|(group, tail)| Some((*group, tail.summary()?)));
        let oldest_seq = self.oldest_needed();
        let header = SegmentHeader {
            version: segment::VERSION,
            reused: spare.reused,
            store: self.store,
            seq: self.active.seq + 1,
            oldest_seq,
            first_lsn: self.next_lsn,
            file_bytes: self.config.segment_bytes,
            previous_end: self.active.offset,
            groups: groups.collect(),
        };
        segment::begin(&*self.fs, &self.dir, &*spare.file, &spare.path, &header)?;
        self.places.lock().add_segment(header.seq, Arc::clone(&spare.file), header.file_bytes);
        self.active = Active {
            file: spare.file,
            seq: header.seq,
            seed: header.checksum_seed(),
            offset: header.header_bytes(),
            end: header.file_bytes,
            prev_bytes: 0,
        };
        self.stated_lsn = self.durable_lsn;
        self.give_back(oldest_seq)
    }

    /// The oldest segment that recovery will need if a new one is begun now.
    fn oldest_needed(&self) -> u64 {
        let needed = self.places.lock().front().map_or(self.active.seq + 1, |front| front.seq);
        if needed < self.first_full_seq { self.oldest_seq } else { needed }
    }

    /// Lets go of the segments before `oldest_seq`. Readers that are at work in them find that out.
    fn give_back(&mut self, oldest_seq: u64) -> Result<(), WalError> {
        if oldest_seq == self.oldest_seq {
            return Ok(());
        }
        self.oldest_seq = oldest_seq;
        self.places.lock().remove_segments_before(oldest_seq);
        self.spares.reclaim(oldest_seq)
    }
}
