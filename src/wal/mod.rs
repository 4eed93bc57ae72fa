//! The write-ahead log: one append-only stream per directory, shared by all groups on it (dissertation §3.8 says what
//! must be durable, §10.2.2 why in batches).
//!
//! One write and one fdatasync per batch, however many groups are in it. Term, vote and longest promise live in the
//! same stream as the entries, so a write of both is one atomic thing. The commit index is not stored: a restarted
//! node learns it again from its leader.
//!
//! The stream is cut into segments, files that are zero-filled before use. A batch carries its number and the number of
//! the last batch that was durable when it was written. So a batch that cannot be read is either followed by evidence
//! that it had been durable, and then it is *damage* and the log refuses to open and names the place; or it is not, and
//! then it is a *torn write* that nobody was told of, and the log ends before it.
//!
//! A group's log is *compacted* when a snapshot, or a durable state machine, stands for its beginning. Segments in which
//! nothing is needed any more are given back: they become spares, from the oldest one on. What a slow group needs of an
//! old segment is copied forward once the log is longer than it should be.
//!
//! - [`found`], [`identity`]: who a directory belongs to
//! - [`Wal`]: open, append, sync
//! - [`WalReader`]: entries back from disk, from any thread, checksums checked in every read
//! - [`Fs`]: the door to the file system, so that tests can put a simulated disk behind it
//!
//! `docs/format-wal.md` draws every byte.
//!
//! Not there yet: healing damaged entries from peers, going on when the disk is full. And memory: the index that finds
//! entries keeps one run of 56 bytes per group and batch as long as the log holds their entries.

mod codec;
mod config;
mod error;
mod fs;
mod identity;
mod index;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod spare;
mod stream;
mod tail;
mod tidy;
mod window;

pub use config::WalConfig;
pub use error::{Damage, Inconsistency, Proof, WalError};
pub use fs::{File, Fs, Lock, RealFs};
pub(crate) use fs::{missing_levels, parents_of_new};
pub use identity::{Identity, found, identity};
pub use reader::WalReader;
pub use recovery::{Recovered, RecoveredGroup, TornTail};
pub use stream::Wal;
