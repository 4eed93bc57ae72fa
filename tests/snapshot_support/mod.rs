//! What the tests of snapshots share: stores on simulated disks, content from a seed, and both ends of a transfer.
#![allow(dead_code, unreachable_pub, reason = "a module of several test programs; each uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers")]

pub mod cut;

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tenure::snapshot::{
    Ended, Fetch, FetchConfig, Next, Received, ServeConfig, Session, Snapshot, SnapshotError, SnapshotServer,
    SnapshotStore, StoreConfig, Wanted,
};
use tenure::state_machine::{SnapshotSource, SourceContent, SourceFile};
use tenure::time::Instant;
use tenure::types::{ClusterId, EntryId, GroupId, Index, NodeId};
use tenure::wal::Fs;

pub const DIR: &str = "node/snapshots/1";
pub const GROUP: GroupId = GroupId(1);
pub const CHUNK: usize = 512;

/// Names and content.
pub type Files = BTreeMap<String, Vec<u8>>;

pub fn config(node: u64) -> StoreConfig {
    let mut config = StoreConfig::new(ClusterId::new("test").unwrap(), GROUP, NodeId(node));
    config.chunk_bytes = CHUNK as u32;
    config
}

pub fn open(fs: impl Fs, node: u64) -> SnapshotStore {
    try_open(fs, node).unwrap()
}

pub fn try_open(fs: impl Fs, node: u64) -> Result<SnapshotStore, SnapshotError> {
    SnapshotStore::open(Arc::new(fs), Path::new(DIR), config(node))
}

/// Bytes that follow from a seed and hardly repeat.
pub fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| step()).collect()
}

pub fn files<const N: usize>(files: [(&str, Vec<u8>); N]) -> Files {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

pub fn source(files: &Files) -> SnapshotSource {
    let file = |(name, bytes): (&String, &Vec<u8>)| SourceFile {
        name: name.clone(),
        content: SourceContent::Stream(Box::new(Cursor::new(bytes.clone()))),
    };
    SnapshotSource::Files { files: files.iter().map(file).collect(), guard: None }
}

pub fn configuration() -> (Index, Bytes) {
    (Index(1), Bytes::from_static(b"n1 n2 n3"))
}

pub fn make(store: &SnapshotStore, last: u64, files: &Files) -> Result<Snapshot, SnapshotError> {
    store.make(EntryId::new(last, 1), configuration(), 1, source(files), &|| true)
}

/// Everything in a snapshot, read as a state machine reads it.
pub fn read(snapshot: &Snapshot) -> Files {
    let files = snapshot.files();
    assert_eq!(files.last(), snapshot.last());
    let read = |file: &tenure::state_machine::SnapshotFile| {
        let mut bytes = Vec::new();
        file.open().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, file.bytes());
        (file.name().to_owned(), bytes)
    };
    files.files().iter().map(read).collect()
}

pub fn server(store: &SnapshotStore) -> SnapshotServer {
    let server = SnapshotServer::new(ServeConfig::default());
    server.add(store.clone());
    server
}

pub fn fetch(store: &SnapshotStore) -> Result<Fetch, SnapshotError> {
    Fetch::new(store, Wanted::default(), fetch_config())
}

/// A window of four small chunks.
pub fn fetch_config() -> FetchConfig {
    let mut config = FetchConfig::default();
    config.window_bytes = 4 * CHUNK as u64;
    config.sync_bytes = 4 * CHUNK as u64;
    config
}

/// Everything that a session has to say now.
pub fn say(session: &mut Session) -> Vec<tenure::snapshot::Response> {
    let mut said = Vec::new();
    while let Next::Send(outgoing) = session.next(Instant::ZERO) {
        said.push(outgoing.into_response());
    }
    said
}

/// Carries everything between the two, over a new connection, until the end; at most `answers` answers.
pub fn transfer(fetch: &mut Fetch, session: &mut Session, answers: u64) -> Result<Option<Ended>, SnapshotError> {
    fetch.disconnected();
    carry(fetch, session, answers)
}

/// The same over the connection that there is.
pub fn carry(fetch: &mut Fetch, session: &mut Session, mut answers: u64) -> Result<Option<Ended>, SnapshotError> {
    loop {
        while let Some(request) = fetch.next_request() {
            session.receive(request).unwrap();
        }
        if fetch.advance()? {
            continue;
        }
        if fetch.is_complete() || answers == 0 {
            return Ok(None);
        }
        answers -= 1;
        let Next::Send(outgoing) = session.next(Instant::ZERO) else {
            panic!("nobody has anything to say, and it is not complete: {:?}", fetch.progress());
        };
        match fetch.receive(outgoing.into_response())? {
            Received::Taken => {}
            Received::Ended(ended) => return Ok(Some(ended)),
            Received::Refused(refusal) => panic!("{refusal}"),
        }
    }
}

/// Fetches and installs the newest snapshot that `server` has.
pub fn fetch_all(store: &SnapshotStore, server: &SnapshotServer) -> Result<Snapshot, SnapshotError> {
    let mut fetch = fetch(store)?;
    assert_eq!(transfer(&mut fetch, &mut server.session().unwrap(), u64::MAX)?, None);
    fetch.install()
}
