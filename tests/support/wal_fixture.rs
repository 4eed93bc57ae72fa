//! Small things that the log's tests share.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

use bytes::Bytes;
use tenure::log::{Compaction, Entry, EntryKind, HardState, Write};
use tenure::time::Duration;
use tenure::types::{ClusterId, EntryId, Index, NodeId, StoreId, Term};
use tenure::wal::{Identity, WalConfig};

/// Who the directories of these tests belong to.
pub(crate) fn identity() -> Identity {
    Identity { cluster: ClusterId::new("test").unwrap(), node: NodeId(1), store: StoreId(0x5702e) }
}

/// Small segments, made when needed: no thread, so that every run is the same.
pub(crate) fn small_config() -> WalConfig {
    let mut config = WalConfig::default();
    config.segment_bytes = 16 << 10;
    config.batch_bytes = 8 << 10;
    config.soft_bytes = 32 << 10;
    config.spare_segments = 0;
    config
}

pub(crate) fn hard_state(term: u64, vote: Option<u64>) -> HardState {
    HardState { term: Term(term), vote: vote.map(NodeId), longest_promise: Duration::from_millis(term * 10) }
}

pub(crate) fn entry(index: u64, term: u64, kind: EntryKind, payload: &[u8]) -> Entry {
    Entry { id: EntryId::new(index, term), kind, payload: Bytes::copy_from_slice(payload) }
}

/// The command at a place: by log matching, its id names its content.
pub(crate) fn command(index: u64, term: u64) -> Bytes {
    let length = (index * 7 + term * 13) % 90;
    Bytes::from(format!("{index}@{term} ").repeat(length as usize / 4 + 1))
}

/// The log begins behind an entry; the configuration is that of a few entries before.
pub(crate) fn compaction(last: EntryId) -> Compaction {
    let index = last.index.0 - last.index.0 % 4;
    Compaction { last, configuration: (Index(index), Bytes::from(format!("voters as of {last}"))) }
}

/// A write of commands.
pub(crate) fn write(ids: &[(u64, u64)]) -> Write {
    let entries = ids.iter().map(|(index, term)| entry(*index, *term, EntryKind::Command, &command(*index, *term)));
    Write { entries: entries.collect(), ..Write::default() }
}
