//! What an engine brings: something that commands are applied to.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::types::{EntryId, Index};

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its place in the log and its term.
    pub id: EntryId,
    /// The bytes that were proposed.
    pub data: Bytes,
}

/// A replicated state machine. Every node of a group applies the same commands in the same order (row `s01`).
///
/// It lives on a thread of its own and may block: elections, heartbeats and replication go on meanwhile. What it does
/// must follow from its state and the commands alone: no clocks, no randomness.
pub trait StateMachine: Send + 'static {
    /// What a command answers to the one who proposed it.
    type Output: Send + 'static;

    /// Applies `commands` in order and returns exactly one output for each.
    ///
    /// Indexes rise but may leave gaps: entries of Raft's own are not handed over. Each command is handed over once per
    /// run, starting after [`applied`](Self::applied).
    ///
    /// # Errors
    /// [`ApplyError`] stops this group on this node, for good: every caller gets an error, the process goes on. A panic
    /// has the same effect. Return an error only for what cannot be gone on from, such as a broken disk; an error for
    /// the client is an `Output`.
    fn apply(&mut self, commands: &[Command]) -> Result<Vec<Self::Output>, ApplyError>;

    /// The last index whose effect is in the state; asked once, when the group is opened. A machine in memory starts at
    /// [`Index::ZERO`] (the default) and is rebuilt from the log; a durable one stores the index of the last command in
    /// the same transaction as the command's effect.
    fn applied(&self) -> Index {
        Index::ZERO
    }

    /// A source from which the state as it is now can be read: with the effect of every command handed over so far and
    /// of none after. `None` (the default): this machine makes no snapshots.
    ///
    /// Called between two calls of [`apply`](Self::apply), on the same thread, so it must be quick: pin a version of the
    /// data, note which files make it up, and leave the reading to the source. The source is read on another thread while
    /// commands are applied, and dropped when it has been read or given up; what is applied meanwhile must not show in
    /// it. Nothing of it needs to be durable yet: whoever reads it writes and syncs a copy.
    ///
    /// # Errors
    /// [`ApplyError`] stops this group on this node, as for `apply`. If there is merely no snapshot to be had just now,
    /// answer `None`; a source whose reading fails does no harm, either.
    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        Ok(None)
    }

    /// Replaces the whole state by the one in `snapshot`, made by [`snapshot`](Self::snapshot) of the same group here or
    /// on another node. Nothing of the state before may shine through. May block.
    ///
    /// Afterwards [`applied`](Self::applied) is the index of [`SnapshotFiles::last`], and the next command has a higher
    /// one. A durable machine makes the new state and that index durable before it returns, in one step: if the power
    /// goes on the way it comes back with the old state or with the new one (write beside the old state, then swap). The
    /// call is repeated after a crash until `applied` says that it is done.
    ///
    /// # Errors
    /// [`ApplyError`] stops this group on this node: its log no longer reaches back to where the old state ends. The
    /// default returns one that says that this machine takes no snapshots.
    fn restore(&mut self, snapshot: &SnapshotFiles) -> Result<(), ApplyError> {
        Err(ApplyError(format!("it takes no snapshots, and was given one up to {}", snapshot.last())))
    }
}

/// Where the state as of one moment can be read from, by another thread than the one that goes on changing it.
pub enum SnapshotSource {
    /// One stream of bytes, until its end. [`SnapshotFiles::stream`] gives it back.
    Stream(Box<dyn Read + Send>),
    /// A set of files. A receiver takes over what it has from an earlier snapshot and fetches the others alone, so files
    /// that stay as they are from one snapshot to the next are sent once.
    Files {
        /// In any order, with different names.
        files: Vec<SourceFile>,
        /// Dropped when all files have been read, or on an error: what keeps the originals from being removed meanwhile.
        guard: Option<Box<dyn Send>>,
    },
}

/// One file of a [`SnapshotSource`].
#[derive(Debug)]
pub struct SourceFile {
    /// A path inside the snapshot: 1 to 255 bytes, parts separated by `/`, none of them empty, `.` or `..`, no backslash
    /// and no control character.
    pub name: String,
    /// What is in it.
    pub content: SourceContent,
}

/// Where the bytes of a [`SourceFile`] are.
pub enum SourceContent {
    /// In a file that nobody will ever write to again, though it may be removed: it is hard-linked if it is on the same
    /// device, and copied otherwise.
    Immutable(PathBuf),
    /// In a file that does not change until the source is dropped: it is copied.
    Copy(PathBuf),
    /// In a stream, until its end.
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::Files { files, .. } => f.debug_list().entries(files).finish(),
        }
    }
}

impl fmt::Debug for SourceContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immutable(path) => write!(f, "Immutable({})", path.display()),
            Self::Copy(path) => write!(f, "Copy({})", path.display()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// A snapshot to be restored: files that stay as they are for as long as this value lives.
#[derive(Debug)]
pub struct SnapshotFiles {
    last: EntryId,
    files: Vec<SnapshotFile>,
}

/// Opens a file for reading from its beginning.
type Open = Box<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// One file of [`SnapshotFiles`].
pub struct SnapshotFile {
    name: String,
    bytes: u64,
    path: PathBuf,
    open: Open,
}

impl SnapshotFiles {
    /// A snapshot up to the entry `last`, of these files. For those who keep snapshots, and for tests of a machine.
    #[must_use]
    pub fn new(last: EntryId, files: Vec<SnapshotFile>) -> Self {
        Self { last, files }
    }

    /// The last entry whose effect is in it.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.last
    }

    /// The files, in the order of their names.
    #[must_use]
    pub fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    /// The bytes of a [`SnapshotSource::Stream`].
    ///
    /// # Errors
    /// `InvalidData` if there is not exactly one file; else what the system says.
    pub fn stream(&self) -> io::Result<Box<dyn Read + Send>> {
        match &self.files[..] {
            [file] => file.open(),
            files => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} files are no stream", files.len()))),
        }
    }
}

impl SnapshotFile {
    /// A file of `bytes` bytes at `path`, which `open` reads.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes: u64, path: impl Into<PathBuf>, open: Open) -> Self {
        Self { name: name.into(), bytes, path: path.into(), open }
    }

    /// Its name inside the snapshot.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it is, to be hard-linked or copied; nobody may write to it or rename it. Its bytes were verified when it was
    /// received or made, and are not when they are read past [`open`](Self::open).
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it from the beginning. No byte is handed out before the checksum of its chunk was found right.
    ///
    /// # Errors
    /// What the system says; the reader itself says `InvalidData` where the file is damaged.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        (self.open)()
    }
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.bytes)
    }
}

/// The state machine cannot go on. The message goes to the log; waiting callers are told that the group stopped
/// because of its state machine.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state machine failed: {0}")]
pub struct ApplyError(pub String);
