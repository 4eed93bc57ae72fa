//! What is said about snapshots, and what is kept of them, as bytes: round trips, damage, rules for the unknown, and golden
//! files that later versions must still read. See `docs/format-wire.md` and `docs/format-snapshot.md`.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "snapshot_support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quickcheck::quickcheck;
use support::{GROUP, config, content, files, make, open, read};
use tenure::sim::disk::SimFs;
use tenure::snapshot::{
    ChunkId, Digest, Gone, ImportAs, REQUEST_BYTES_MAX, RefusedRequest, Request, Response, SnapshotStore,
};
use tenure::types::{ClusterId, EntryId, NodeId, StoreId};
use tenure::wal::{Fs as _, RealFs};
use tenure::wire::frame::{self, Front, HEADER_BYTES};
use tenure::wire::handshake::{self, Hello, MAGIC, Parsed, Purpose};

fn chunk() -> ChunkId {
    ChunkId { snapshot: Digest::of(b"manifest"), file: 65_535, offset: 1 << 40, length: 1 << 20 }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Manifest { group: GROUP, id: None },
        Request::Manifest { group: GROUP, id: Some(Digest::of(b"manifest")) },
        Request::Chunk(chunk()),
        Request::Chunk(ChunkId { snapshot: Digest::of(b"manifest"), file: 0, offset: 0, length: 0 }),
    ]
}

fn responses() -> Vec<Response> {
    vec![
        Response::Manifest(Bytes::from_static(b"bytes of a manifest")),
        Response::Chunk { id: chunk(), bytes: Bytes::from_static(b"bytes of a file") },
        Response::Gone(Gone::None),
        Response::Gone(Gone::Replaced(Digest::of(b"newer"))),
        Response::Gone(Gone::Damaged),
        Response::Refused(RefusedRequest::Range),
        Response::Refused(RefusedRequest::Unreadable),
        Response::Refused(RefusedRequest::Other(77)),
    ]
}

fn whole(response: &Response) -> Vec<u8> {
    let (head, data) = response.encode();
    [&head[..], &data].concat()
}

/// The body of the only frame in `bytes`.
fn body(bytes: &[u8], kind: u8) -> Bytes {
    match frame::front(bytes, 1 << 20) {
        Ok(Front::Frame { kind: found, body }) if found == kind && body.len() + HEADER_BYTES == bytes.len() => {
            Bytes::copy_from_slice(body)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_said_comes_back_and_is_written_as_ever() {
    for (n, request) in requests().into_iter().enumerate() {
        let bytes = request.encode();
        golden(&format!("wire-v1-snapshot-request-{n:02}.bin"), &bytes);
        assert!(bytes.len() <= HEADER_BYTES + REQUEST_BYTES_MAX);
        assert_eq!(Request::decode(&body(&bytes, 4)), Ok(Some(request)));
    }
    for (n, response) in responses().into_iter().enumerate() {
        let bytes = whole(&response);
        golden(&format!("wire-v1-snapshot-response-{n:02}.bin"), &bytes);
        assert_eq!(Response::decode(&body(&bytes, 5)), Ok(Some(response)));
    }
}

#[test]
fn every_flipped_bit_is_detected() {
    let frames = requests().into_iter().map(|request| request.encode());
    let frames = frames.chain(responses().iter().map(whole).collect::<Vec<_>>());
    for bytes in frames {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(frame::front(&damaged, 1 << 20).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_kind_or_version_that_is_not_known_is_passed_over() {
    let record = |kind: u16, version: u16| {
        let mut bytes = [kind.to_le_bytes(), version.to_le_bytes()].concat();
        bytes.extend([0; 4]);
        Bytes::from(bytes)
    };
    for (kind, version) in [(0, 1), (7, 1), (1, 2), (5, 0)] {
        assert_eq!(Request::decode(&record(kind, version)), Ok(None));
        assert_eq!(Response::decode(&record(kind, version)), Ok(None));
    }
    assert_eq!(Request::decode(&record(5, 1)), Ok(None), "an answer is no question");
    assert_eq!(Response::decode(&record(1, 1)), Ok(None), "nor the other way round");
}

quickcheck! {
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) -> bool {
        let known = |kind: u8| [&[kind, 0, 1, 0], &bytes[..]].concat();
        let bodies = (0..8).map(known).chain([bytes.clone()]).map(Bytes::from);
        bodies.for_each(|body| drop((Request::decode(&body), Response::decode(&body))));
        true
    }
}

#[test]
fn a_hello_says_what_the_connection_is_for_and_an_old_node_closes_it() {
    let hello = Hello {
        versions: (1, 1),
        cluster: ClusterId::new("orders-eu").unwrap(),
        from: NodeId(1),
        to: NodeId(2),
        store: StoreId(7),
    };
    let (messages, snapshots) = (hello.encode(), hello.encode_for(Purpose::Snapshots));
    golden("wire-v1-hello-snapshots.bin", &snapshots);
    assert_eq!((Purpose::of(&messages), Purpose::of(&snapshots)), (Purpose::Messages, Purpose::Snapshots));
    for bytes in [&messages, &snapshots] {
        let complete = Parsed::Complete { value: hello.clone(), bytes: bytes.len() };
        assert_eq!(handshake::parse_hello(bytes), Ok(complete));
    }
    // Nodes that know one magic compare all of it.
    assert_ne!(snapshots[..8], MAGIC);
    assert_eq!(messages[8..], snapshots[8..]);
    assert!(handshake::parse_answer(&snapshots).is_err());
}

/// A directory that version 1 wrote, and its export: opened by every later version.
#[test]
fn what_version_1_has_written_is_still_read() {
    let state = files([("a/b", content(3, 1200)), ("empty", vec![]), ("z", content(4, 512))]);
    let fs = SimFs::new();
    let snapshot = make(&open(fs.clone(), 1), 7, &state).unwrap();
    let mut exported = Vec::new();
    snapshot.export(&mut exported, &|| true).unwrap();
    golden("snapshot-v1.export", &exported);
    golden("snapshot-v1.manifest", snapshot.manifest().encoded());
    let imported =
        open(SimFs::new(), 2).import(&mut &golden_bytes("snapshot-v1.export")[..], ImportAs::Itself, 1, &|| true);
    assert!(read(&imported.unwrap()) == state);

    // As it lies in a directory, names included.
    let directory = tempfile::tempdir().unwrap();
    for path in fs.names() {
        let name = path.file_name().unwrap();
        let is_manifest = path.extension().is_some_and(|ending| ending == "manifest");
        let bytes = if is_manifest { golden_bytes("snapshot-v1.manifest") } else { fs.content(&path) };
        let file = RealFs.create(&directory.path().join(name)).unwrap();
        file.pwrite(&bytes, 0).unwrap();
    }
    let store = SnapshotStore::open(Arc::new(RealFs), directory.path(), config(1)).unwrap();
    let found = store.newest().unwrap();
    assert_eq!(found.last(), EntryId::new(7, 1));
    assert!(read(&found) == state);
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden_bytes(name: &str) -> Vec<u8> {
    let path = golden_path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The file has these bytes. If there is none yet, it may be written now.
fn golden(name: &str, bytes: &[u8]) {
    let path = golden_path(name);
    if std::env::var_os("TENURE_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(bytes, golden_bytes(name), "{name} is written differently");
}
