//! The receiving end, without I/O towards the network: questions out, answers in, files in a [`SnapshotStore`].
//!
//! The receiver pulls. It asks for the manifest, then for chunks, several at once, and writes each where it belongs.
//! What it trusts is the manifest, by its id, and the bytes that agree with it: a chunk by its checksum, a file by its
//! digest. So it does not matter who sends, in what order, how often, or what came of an earlier attempt:
//!
//! - a file that is already there, from an earlier snapshot, is checked and not asked for;
//! - of a file that is there in part, each chunk is checked, and the others are asked for;
//! - an answer that was not asked for, or is not what was asked for, is refused and counted.
//!
//! Whoever drives it alternates between [`next_request`](Fetch::next_request), [`advance`](Fetch::advance) and
//! [`receive`](Fetch::receive) until [`is_complete`](Fetch::is_complete), then calls [`install`](Fetch::install).
//! [`super::pull`] does that over a connection.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::error::SnapshotError;
use super::incoming::{Checked, Incoming, Local};
use super::manifest::{Malformed, Manifest, SnapshotId};
use super::message::{ChunkId, Gone, RefusedRequest, Request, Response};
use super::read::Snapshot;
use super::store::{Fetching, SnapshotStore};
use super::{codec, manifest};
use crate::sync::Arc;
use crate::types::{EntryId, GroupId, Index};
use crate::wire::frame::HEADER_BYTES;

/// What bounds a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchConfig {
    /// Bytes asked for and not yet there: what must be sent again when a connection breaks. Default 2 MiB, 50 MB/s over a
    /// round trip of 40 ms. One chunk is always allowed.
    pub window_bytes: u64,
    /// Chunks asked for and not yet there. Default 32, at most what the sender allows.
    pub window_requests: usize,
    /// Bytes written to a file before they are synced: what may have to be sent again after a power cut. Default 8 MiB.
    pub sync_bytes: u64,
    /// How often a chunk may come with wrong bytes before the sender is given up. Default 8.
    pub corrupt_most: u32,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { window_bytes: 2 << 20, window_requests: 32, sync_bytes: super::make::SYNC_BYTES, corrupt_most: 8 }
    }
}

/// Which snapshot is to be fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// This one; `None`: the sender's newest.
    pub id: Option<SnapshotId>,
    /// One that goes at least as far.
    pub at_least: Index,
}

/// How far a [`Fetch`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the snapshot that are here and agree with the manifest.
    pub bytes_done: u64,
    /// Bytes of the snapshot; 0 as long as the manifest is not known.
    pub bytes_total: u64,
    /// Files that are complete.
    pub files_done: usize,
    /// Files of the snapshot.
    pub files_total: usize,
    /// Of `bytes_done`, those that were here before and have not been sent for this.
    pub bytes_reused: u64,
    /// Bytes of chunks that came in, used or not.
    pub bytes_received: u64,
}

impl Progress {
    fn note(&mut self, checked: Checked) {
        match checked {
            Checked::Nothing => {}
            Checked::Found(bytes) => {
                self.bytes_done += bytes;
                self.bytes_reused += bytes;
            }
            Checked::Lost(bytes) => self.bytes_done -= bytes,
            Checked::NotTheFile(bytes) => {
                self.bytes_done -= bytes;
                self.bytes_reused -= bytes;
            }
        }
    }
}

/// Answers that were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// See [`Refusal::OtherSnapshot`].
    pub other_snapshot: u64,
    /// See [`Refusal::Duplicate`].
    pub duplicate: u64,
    /// See [`Refusal::Unasked`].
    pub unasked: u64,
    /// See [`Refusal::Length`].
    pub length: u64,
    /// See [`Refusal::Corrupt`].
    pub corrupt: u64,
}

/// What became of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    /// It was of use.
    Taken,
    /// It was not, and changed nothing.
    Refused(Refusal),
    /// It ends the transfer: nothing more will be asked.
    Ended(Ended),
}

/// Why an answer was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A chunk of another snapshot than the one that is being fetched.
    #[error("a chunk of another snapshot")]
    OtherSnapshot,
    /// A chunk that is already here.
    #[error("a chunk that is already here")]
    Duplicate,
    /// Something that was not asked for, or not any more.
    #[error("an answer that was not asked for")]
    Unasked,
    /// More or fewer bytes than the chunk has.
    #[error("a chunk of another length")]
    Length,
    /// Its bytes do not have the checksum that the manifest says. It is asked for again.
    #[error("a chunk with another checksum")]
    Corrupt,
}

/// Why a transfer came to its end before its time. What was received stays, for another attempt.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The sender does not have it any more. Ask it for its newest, or ask another node.
    #[error("the snapshot is gone: {0}")]
    Gone(#[from] Gone),
    /// The sender refuses. Ask another node.
    #[error("the sender refuses: {0}")]
    Refused(#[from] RefusedRequest),
    /// What came as the manifest is none.
    #[error("the sender's manifest is of no use: {0}")]
    Malformed(#[from] Malformed),
    /// It is not the snapshot that was asked for, or not one of this group.
    #[error("the sender gave another snapshot than it was asked for")]
    Other,
    /// It does not go far enough, or no further than the one that is here.
    #[error("the sender's snapshot ends at {0}, which is of no use here")]
    Old(EntryId),
    /// A chunk came with wrong bytes again and again.
    #[error("the sender gives wrong bytes again and again")]
    Corrupt,
    /// Every chunk of a file is as the manifest says, and its digest is not: the manifest contradicts itself.
    #[error("the content of a file has the digest {0}, the manifest says another")]
    Digest(Digest),
}

/// A transfer. There is one per store at a time. Dropping it leaves what was received for the next.
pub struct Fetch {
    fetching: Fetching,
    group: GroupId,
    wanted: Wanted,
    config: FetchConfig,
    /// The sender has been asked for the manifest on this connection.
    asked: bool,
    /// The sender has said on this connection that it has the snapshot.
    confirmed: bool,
    transfer: Option<Transfer>,
    ended: Option<Ended>,
    progress: Progress,
    refusals: Refusals,
}

/// What there is once the manifest is known.
struct Transfer {
    manifest: Arc<Manifest>,
    /// The files that are being received or checked, by their number.
    open: BTreeMap<usize, Incoming>,
    /// The first file that nobody has looked at.
    next: usize,
    /// Chunks asked for and not yet there, and their bytes.
    under_way: (usize, u64),
    /// Bytes of files that are complete and whose names are not yet durable.
    unsynced: u64,
}

impl Fetch {
    /// Begins, or goes on with what was received of the same snapshot before. Does not block; nothing is asked yet.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`] if there is another transfer into this store.
    pub fn new(store: &SnapshotStore, wanted: Wanted, config: FetchConfig) -> Result<Self, SnapshotError> {
        Ok(Self {
            fetching: store.shared().begin_fetching()?,
            group: store.config().group,
            wanted,
            config,
            asked: false,
            confirmed: false,
            transfer: None,
            ended: None,
            progress: Progress::default(),
            refusals: Refusals::default(),
        })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What was refused.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// What is being fetched, once that is known.
    #[must_use]
    pub fn manifest(&self) -> Option<&Arc<Manifest>> {
        self.transfer.as_ref().map(|transfer| &transfer.manifest)
    }

    /// Why it ended before its time, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Whether everything is there: then it can be installed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let complete = |transfer: &Transfer| self.progress.files_done == transfer.manifest.files().len();
        self.ended.is_none() && self.transfer.as_ref().is_some_and(complete)
    }

    /// Whether answers are awaited.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let under_way = self.transfer.as_ref().is_some_and(|transfer| transfer.under_way.0 > 0);
        self.ended.is_none() && (under_way || (self.asked && !self.confirmed))
    }

    /// The longest frame that can make sense now, header included: whoever reads from a network refuses a longer one before
    /// it makes room for it.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        let data = match &self.transfer {
            Some(transfer) if self.confirmed => transfer.manifest.chunk_bytes() as usize,
            _ => manifest::MANIFEST_BYTES_MAX,
        };
        HEADER_BYTES + codec::response_bytes(data)
    }

    /// There is a new connection, perhaps to another node: what was asked on the one before will not be answered. Call it also
    /// when an answer has not come for so long that it must be lost.
    pub fn disconnected(&mut self) {
        (self.asked, self.confirmed) = (false, false);
        if let Some(transfer) = &mut self.transfer {
            transfer.under_way = (0, 0);
            transfer.open.values_mut().for_each(Incoming::forget_asked);
        }
    }

    /// What to ask next; `None` if enough is under way, or there is nothing to ask before [`advance`](Self::advance) has been
    /// called. Never blocks.
    pub fn next_request(&mut self) -> Option<Request> {
        if self.ended.is_some() {
            return None;
        }
        if !self.asked {
            self.asked = true;
            let id = self.manifest().map(|manifest| manifest.id()).or(self.wanted.id);
            return Some(Request::Manifest { group: self.group, id });
        }
        if !self.confirmed {
            return None;
        }
        let transfer = self.transfer.as_mut()?;
        let (requests, bytes) = transfer.under_way;
        if requests > 0 && (requests >= self.config.window_requests || bytes >= self.config.window_bytes) {
            return None;
        }
        let (file, chunk) = transfer.open.iter_mut().find_map(|(file, incoming)| Some((*file, incoming.ask()?)))?;
        let piece = transfer.manifest.chunk(file, chunk)?;
        transfer.under_way = (requests + 1, bytes + u64::from(piece.length));
        Some(Request::Chunk(ChunkId {
            snapshot: transfer.manifest.id(),
            // At most FILES_MAX.
            file: file as u32,
            offset: piece.offset,
            length: piece.length,
        }))
    }

    /// Takes an answer. Blocks for the disk.
    ///
    /// # Errors
    /// [`SnapshotError`] if this node's disk failed. The transfer cannot go on; a new one can.
    pub fn receive(&mut self, response: Response) -> Result<Received, SnapshotError> {
        if self.ended.is_some() {
            return Ok(self.refuse(Refusal::Unasked));
        }
        match response {
            Response::Manifest(bytes) => self.take_manifest(bytes),
            Response::Chunk { id, bytes } => {
                self.progress.bytes_received += bytes.len() as u64;
                self.take_chunk(id, &bytes)
            }
            // An answer to a question of a connection before this one.
            Response::Gone(_) | Response::Refused(_) if !self.is_waiting() => Ok(self.refuse(Refusal::Unasked)),
            Response::Gone(gone) => Ok(self.end(gone)),
            Response::Refused(refused) => Ok(self.end(refused)),
        }
    }

    /// Does a bounded piece of what there is to do without the sender: looks at what is here already, compares digests, closes
    /// files that are complete. `false` if there was nothing. Blocks for the disk, for about a chunk.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    pub fn advance(&mut self) -> Result<bool, SnapshotError> {
        if self.ended.is_some() {
            return Ok(false);
        }
        let Some(transfer) = &mut self.transfer else { return Ok(false) };
        for (number, incoming) in &mut transfer.open {
            let file = &transfer.manifest.files()[*number];
            if let Some(checked) = incoming.check_some(file, transfer.manifest.chunk_bytes())? {
                self.progress.note(checked);
                return Ok(true);
            }
            if incoming.is_full() {
                let number = *number;
                return self.close(number).map(|()| true);
            }
        }
        self.open_next()
    }

    /// Makes what was fetched the store's newest snapshot, durably. A crash before it returns leaves the one before, or the
    /// new one, and in the first case all its files to begin again with.
    ///
    /// # Errors
    /// [`SnapshotError`]; [`SnapshotError::Stale`] if one that goes as far was made meanwhile. Only to be called when
    /// [`is_complete`](Self::is_complete); before it is `Stopped`.
    pub fn install(self) -> Result<Snapshot, SnapshotError> {
        let complete = self.is_complete();
        match self.transfer {
            Some(transfer) if complete => self.fetching.commit(transfer.manifest),
            _ => Err(SnapshotError::Stopped),
        }
    }

    fn take_manifest(&mut self, bytes: bytes::Bytes) -> Result<Received, SnapshotError> {
        if !self.asked || self.confirmed {
            return Ok(self.refuse(Refusal::Unasked));
        }
        let manifest = match Manifest::decode(bytes) {
            Ok(manifest) => Arc::new(manifest),
            Err(malformed) => return Ok(self.end(malformed)),
        };
        let known = self.manifest().map(|manifest| manifest.id()).or(self.wanted.id);
        if known.is_some_and(|id| id != manifest.id()) {
            return Ok(self.end(Ended::Other));
        }
        if self.transfer.is_none() {
            if manifest.last().index < self.wanted.at_least {
                return Ok(self.end(Ended::Old(manifest.last())));
            }
            match self.fetching.want(&manifest) {
                Err(SnapshotError::Foreign { .. }) => return Ok(self.end(Ended::Other)),
                Err(SnapshotError::Stale { last, .. }) => return Ok(self.end(Ended::Old(last))),
                other => other?,
            }
            self.progress.bytes_total = manifest.bytes();
            self.progress.files_total = manifest.files().len();
            self.transfer = Some(Transfer { manifest, open: BTreeMap::new(), next: 0, under_way: (0, 0), unsynced: 0 });
        }
        self.confirmed = true;
        Ok(Received::Taken)
    }

    fn take_chunk(&mut self, id: ChunkId, bytes: &[u8]) -> Result<Received, SnapshotError> {
        let Some(transfer) = &mut self.transfer else { return Ok(self.refuse(Refusal::Unasked)) };
        if id.snapshot != transfer.manifest.id() {
            return Ok(self.refuse(Refusal::OtherSnapshot));
        }
        let number = u32::try_from(id.offset / u64::from(transfer.manifest.chunk_bytes())).unwrap_or(u32::MAX);
        let file = id.file as usize;
        let piece = transfer.manifest.chunk(file, number).filter(|piece| piece.offset == id.offset);
        let Some(piece) = piece else { return Ok(self.refuse(Refusal::Unasked)) };
        let Some(incoming) = transfer.open.get_mut(&file) else {
            let refusal = if file < transfer.next { Refusal::Duplicate } else { Refusal::Unasked };
            return Ok(self.refuse(refusal));
        };
        if !incoming.is_asked(number) {
            let refusal = if incoming.has(number) { Refusal::Duplicate } else { Refusal::Unasked };
            return Ok(self.refuse(refusal));
        }
        // Whatever it is, it is the answer: it is not under way any more.
        incoming.answered(number);
        transfer.under_way = (transfer.under_way.0 - 1, transfer.under_way.1 - u64::from(piece.length));
        if bytes.len() != piece.length as usize {
            return Ok(self.refuse(Refusal::Length));
        }
        if crc32c::crc32c(bytes) != piece.checksum {
            if incoming.note_corrupt() > self.config.corrupt_most {
                return Ok(self.end(Ended::Corrupt));
            }
            return Ok(self.refuse(Refusal::Corrupt));
        }
        incoming.write(number, piece.offset, bytes, self.config.sync_bytes)?;
        self.progress.bytes_done += bytes.len() as u64;
        Ok(Received::Taken)
    }

    /// All of a file is there and its digest is known.
    fn close(&mut self, number: usize) -> Result<(), SnapshotError> {
        let Some(transfer) = &mut self.transfer else { return Ok(()) };
        let file = &transfer.manifest.files()[number];
        let Some(incoming) = transfer.open.remove(&number) else { return Ok(()) };
        let found = incoming.digest();
        if found == file.digest {
            self.progress.files_done += 1;
            if !incoming.is_whole() {
                incoming.finish(found)?;
                transfer.unsynced += file.bytes;
            }
            // Otherwise many small files would all be lost with the power, however long ago they came.
            if transfer.unsynced >= self.config.sync_bytes {
                transfer.unsynced = 0;
                self.fetching.shared().sync_dir()?;
            }
        } else if !incoming.is_whole() {
            self.end(Ended::Digest(found));
        } else {
            // What lay here as a complete file is another one with the same checksums; it is received like any other.
            self.progress.note(Checked::NotTheFile(file.bytes));
            transfer.open.insert(number, Incoming::new(self.fetching.shared(), file, Local::Part)?);
        }
        Ok(())
    }

    /// Opens one more file, if there is room for more questions.
    fn open_next(&mut self) -> Result<bool, SnapshotError> {
        let window = self.config.window_requests.max(1);
        let Some(transfer) = &mut self.transfer else { return Ok(false) };
        if !self.confirmed || transfer.open.len() >= window || transfer.open.values().any(Incoming::has_to_ask) {
            return Ok(false);
        }
        let Some(file) = transfer.manifest.files().get(transfer.next) else { return Ok(false) };
        // Two names for one content: the second finds the first.
        let same = |number: &usize| transfer.manifest.files()[*number].digest == file.digest;
        if transfer.open.keys().any(same) {
            return Ok(false);
        }
        let incoming = Incoming::new(self.fetching.shared(), file, Local::Any)?;
        transfer.open.insert(transfer.next, incoming);
        transfer.next += 1;
        Ok(true)
    }

    fn refuse(&mut self, refusal: Refusal) -> Received {
        let refusals = &mut self.refusals;
        let counter = match refusal {
            Refusal::OtherSnapshot => &mut refusals.other_snapshot,
            Refusal::Duplicate => &mut refusals.duplicate,
            Refusal::Unasked => &mut refusals.unasked,
            Refusal::Length => &mut refusals.length,
            Refusal::Corrupt => &mut refusals.corrupt,
        };
        *counter += 1;
        Received::Refused(refusal)
    }

    fn end(&mut self, ended: impl Into<Ended>) -> Received {
        let ended = ended.into();
        self.ended = Some(ended.clone());
        Received::Ended(ended)
    }
}
