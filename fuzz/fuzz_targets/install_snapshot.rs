//! A receiver gets arbitrary answers to its questions, a sender arbitrary questions, and both any bytes.
//!
//! Whatever comes: nothing panics; what is installed is what the sender has, or a snapshot whose manifest came in whole;
//! until then the receiver has the snapshot it had before; a session holds no more than one answer; and when the
//! answers become honest the transfer comes to its end.

#![no_main]

use std::io::{Cursor, Read as _};
use std::path::Path;
use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tenure::snapshot::{
    About, ChunkId, Digest, Fetch, FetchConfig, Form, Gone, Manifest, ManifestFile, Next, Received, Request, Response,
    ServeConfig, Session, Snapshot, SnapshotServer, SnapshotStore, StoreConfig, Wanted, is_safe_name,
};
use tenure::state_machine::{SnapshotSource, SourceContent, SourceFile};
use tenure::time::Instant;
use tenure::types::{ClusterId, EntryId, GroupId, Index, NodeId};
use tenure_fuzz::MemoryFs;

const GROUP: GroupId = GroupId(1);
const CHUNK: u32 = 512;

#[derive(Arbitrary, Debug)]
enum Act {
    /// The sender answers the receiver's questions, so many of them.
    Honest(u8),
    /// One answer, bent.
    Bent(Bend),
    /// An answer made of nothing.
    Answer(Answer),
    /// The receiver gets bytes, as the body of a frame.
    AnswerBytes(Vec<u8>),
    /// The sender gets a question.
    Question { snapshot: bool, file: u32, offset: u64, length: u32 },
    /// The sender gets bytes, as the body of a frame.
    QuestionBytes(Vec<u8>),
    /// The connection is lost.
    Disconnect,
    /// The receiver starts again from its disk, which may have changed in one bit.
    Restart(Option<(u8, u16)>),
}

#[derive(Arbitrary, Debug)]
enum Bend {
    Bit(u16),
    Cut(u16),
    Longer(u8),
    File(u32),
    Offset(u64),
    Length(u32),
    OtherSnapshot,
    Twice,
    Lost,
}

#[derive(Arbitrary, Debug)]
enum Answer {
    /// Any bytes, behind them the digest that makes a manifest of them.
    SealedManifest(Vec<u8>),
    /// A manifest that is well formed but for its values.
    Manifest {
        last: u8,
        chunk_bytes: u32,
        stream: bool,
        files: Vec<(String, u16, Vec<u8>)>,
    },
    Chunk {
        file: u8,
        chunk: u8,
        bytes: Vec<u8>,
    },
    Gone,
}

fuzz_target!(|acts: Vec<Act>| {
    let sender = store(Arc::default(), 1);
    let content = content();
    let newest = make(&sender, 20, &content);
    let server = SnapshotServer::new(ServeConfig::default());
    server.add(sender.clone());

    let mut fs = Arc::<MemoryFs>::default();
    make(&store(fs.clone(), 2), 10, &content[..1]);
    let mut receiver = store(fs.clone(), 2);
    let mut fetch = begin(&receiver);
    let mut session = server.session().expect("a session");
    for act in acts.iter().take(64) {
        match act {
            Act::Honest(count) => (0..*count).for_each(|_| {
                if let Some(answer) = ask(&mut fetch, &mut session) {
                    receive(&mut fetch, answer);
                }
            }),
            Act::Bent(bend) => {
                if let Some(answer) = ask(&mut fetch, &mut session) {
                    bent(answer, bend).into_iter().for_each(|answer| receive(&mut fetch, answer));
                }
            }
            Act::Answer(answer) => {
                let answer = handmade(answer, &fetch);
                receive(&mut fetch, answer);
            }
            Act::AnswerBytes(bytes) => {
                if let Ok(Some(answer)) = Response::decode(&Bytes::copy_from_slice(bytes)) {
                    receive(&mut fetch, answer);
                }
            }
            Act::Question { snapshot, file, offset, length } => {
                let snapshot = if *snapshot { newest.id() } else { Digest::of(b"other") };
                let (file, offset, length) = (*file, *offset, *length);
                question(&mut session, Request::Chunk(ChunkId { snapshot, file, offset, length }), &newest);
            }
            Act::QuestionBytes(bytes) => {
                if let Ok(Some(request)) = Request::decode(bytes) {
                    question(&mut session, request, &newest);
                }
            }
            Act::Disconnect => {
                fetch.disconnected();
                session = server.session().expect("a session");
            }
            Act::Restart(flip) => {
                drop((fetch, receiver));
                fs = flipped(&fs, *flip);
                receiver = store(fs.clone(), 2);
                fetch = begin(&receiver);
            }
        }
        while fetch.advance().expect("a disk that does not fail") {}
        let progress = fetch.progress();
        assert!(progress.bytes_done <= progress.bytes_total && progress.files_done <= progress.files_total);
        assert!(server.stats().held_bytes == 0 && server.stats().held_bytes_most <= u64::from(CHUNK).max(4096));
        if fetch.is_complete() {
            let manifest = fetch.manifest().expect("a manifest").clone();
            let installed = fetch.install().expect("complete");
            installed.verify(&|| true).expect("what was installed is whole");
            assert_eq!(installed.manifest(), &*manifest);
            if installed.id() == newest.id() {
                assert!(read(&installed) == read(&newest));
            }
            return;
        }
    }
    // From now on all are honest. Who was told the transfer is over begins another.
    drop(fetch);
    let mut fetch = begin(&receiver);
    let mut session = server.session().expect("a session");
    while !fetch.is_complete() && fetch.ended().is_none() {
        while fetch.advance().expect("a disk that does not fail") {}
        match ask(&mut fetch, &mut session) {
            Some(answer) => assert_eq!(fetch.receive(answer).expect("no failure"), Received::Taken),
            None => assert!(fetch.is_complete(), "it stands still: {:?}", fetch.progress()),
        }
        while fetch.advance().expect("a disk that does not fail") {}
    }
    assert!(read(&fetch.install().expect("complete")) == read(&newest));
});

fn store(fs: Arc<MemoryFs>, node: u64) -> SnapshotStore {
    let mut config = StoreConfig::new(ClusterId::new("fuzz").expect("a name"), GROUP, NodeId(node));
    config.chunk_bytes = CHUNK;
    SnapshotStore::open(fs, Path::new("snapshots"), config).expect("opened")
}

fn begin(store: &SnapshotStore) -> Fetch {
    let mut config = FetchConfig::default();
    (config.window_bytes, config.sync_bytes) = (2 * u64::from(CHUNK), 1024);
    Fetch::new(store, Wanted::default(), config).expect("no other")
}

fn content() -> Vec<(&'static str, Vec<u8>)> {
    vec![("a", vec![1; 700]), ("b/c", (0..2600).map(|n| (n % 251) as u8).collect()), ("empty", vec![])]
}

fn make(store: &SnapshotStore, last: u64, content: &[(&str, Vec<u8>)]) -> Snapshot {
    let file = |(name, bytes): &(&str, Vec<u8>)| SourceFile {
        name: (*name).into(),
        content: SourceContent::Stream(Box::new(Cursor::new(bytes.clone()))),
    };
    let source = SnapshotSource::Files { files: content.iter().map(file).collect(), guard: None };
    let configuration = (Index(1), Bytes::from_static(b"members"));
    store.make(EntryId::new(last, 1), configuration, 1, source, &|| true).expect("made")
}

fn read(snapshot: &Snapshot) -> Vec<(String, Vec<u8>)> {
    let read = |file: &tenure::state_machine::SnapshotFile| {
        let mut bytes = Vec::new();
        file.open().expect("opened").read_to_end(&mut bytes).expect("read");
        (file.name().to_owned(), bytes)
    };
    snapshot.files().files().iter().map(read).collect()
}

/// Passes on what the receiver asks, and returns the sender's next answer.
fn ask(fetch: &mut Fetch, session: &mut Session) -> Option<Response> {
    while let Some(request) = fetch.next_request() {
        session.receive(request).ok()?;
    }
    match session.next(Instant::ZERO) {
        Next::Send(outgoing) => Some(outgoing.into_response()),
        Next::Wait(_) | Next::Idle => None,
    }
}

fn receive(fetch: &mut Fetch, response: Response) {
    let (head, data) = response.encode();
    assert!(head.len() + data.len() <= tenure::snapshot::RESPONSE_BYTES_MAX + 16 || data.len() > 1 << 20);
    let before = fetch.progress();
    if let Received::Refused(_) | Received::Ended(_) = fetch.receive(response).expect("a disk that does not fail") {
        let after = fetch.progress();
        assert_eq!((before.bytes_done, before.files_done), (after.bytes_done, after.files_done));
    }
}

/// Whatever is asked, a chunk that is answered is one of the snapshot's.
fn question(session: &mut Session, request: Request, newest: &Snapshot) {
    if session.receive(request).is_err() {
        return;
    }
    while let Next::Send(outgoing) = session.next(Instant::ZERO) {
        if let Response::Chunk { id, bytes } = &*outgoing {
            let chunk = newest.manifest().chunk(id.file as usize, (id.offset / u64::from(CHUNK)) as u32);
            let chunk = chunk.expect("a chunk that is there");
            assert_eq!((chunk.offset, chunk.length as usize), (id.offset, bytes.len()));
        }
    }
}

fn bent(response: Response, bend: &Bend) -> Vec<Response> {
    let twice = matches!(bend, Bend::Twice);
    let response = match response {
        _ if matches!(bend, Bend::Lost) => return Vec::new(),
        Response::Chunk { mut id, bytes } => {
            let mut bytes = bytes.to_vec();
            match bend {
                Bend::File(file) => id.file = *file,
                Bend::Offset(offset) => id.offset = *offset,
                Bend::Length(length) => id.length = *length,
                Bend::OtherSnapshot => id.snapshot = Digest::of(b"other"),
                bend => bend_bytes(&mut bytes, bend),
            }
            Response::Chunk { id, bytes: bytes.into() }
        }
        Response::Manifest(bytes) => {
            let mut bytes = bytes.to_vec();
            bend_bytes(&mut bytes, bend);
            Response::Manifest(bytes.into())
        }
        other => other,
    };
    if twice { vec![response.clone(), response] } else { vec![response] }
}

fn bend_bytes(bytes: &mut Vec<u8>, bend: &Bend) {
    match bend {
        Bend::Bit(bit) if !bytes.is_empty() => {
            let at = usize::from(*bit) / 8 % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        Bend::Cut(length) => bytes.truncate(usize::from(*length)),
        Bend::Longer(by) => bytes.extend(vec![0; usize::from(*by)]),
        _ => {}
    }
}

fn handmade(answer: &Answer, fetch: &Fetch) -> Response {
    match answer {
        Answer::SealedManifest(bytes) => {
            let mut bytes = bytes.clone();
            bytes.extend(Digest::of(&bytes).0);
            Response::Manifest(bytes.into())
        }
        Answer::Manifest { last, chunk_bytes, stream, files } => {
            let file = |(name, bytes, checksums): &(String, u16, Vec<u8>)| ManifestFile {
                name: name.clone(),
                bytes: u64::from(*bytes),
                digest: Digest::of(name.as_bytes()),
                checksums: checksums.clone().into(),
            };
            let about = About {
                cluster: ClusterId::new("fuzz").expect("a name"),
                group: GROUP,
                last: EntryId::new(u64::from(*last), 1),
                configuration: (Index(1), Bytes::new()),
                maker: NodeId(1),
                created_ms: 0,
            };
            let form = if *stream { Form::Stream } else { Form::Files };
            let made = Manifest::new(about, form, *chunk_bytes, files.iter().map(file).collect());
            if let Ok(manifest) = &made {
                assert!(manifest.files().iter().all(|file| is_safe_name(&file.name)));
                assert_eq!(Manifest::decode(manifest.encoded().clone()).as_ref(), Ok(manifest));
            }
            made.map_or(Response::Gone(Gone::None), |manifest| Response::Manifest(manifest.encoded().clone()))
        }
        Answer::Chunk { file, chunk, bytes } => {
            let snapshot = fetch.manifest().map_or(Digest::of(b"other"), |manifest| manifest.id());
            let offset = u64::from(*chunk) * u64::from(CHUNK);
            let id = ChunkId { snapshot, file: u32::from(*file), offset, length: bytes.len() as u32 };
            Response::Chunk { id, bytes: bytes.clone().into() }
        }
        Answer::Gone => Response::Gone(Gone::Damaged),
    }
}

/// The disk with one bit of one file that is being received changed.
fn flipped(fs: &MemoryFs, flip: Option<(u8, u16)>) -> Arc<MemoryFs> {
    let mut files = fs.dump();
    let mut parts: Vec<_> =
        files.iter_mut().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "part")).collect();
    if let Some((file, bit)) = flip
        && !parts.is_empty()
    {
        let nth = usize::from(file) % parts.len();
        let bytes = &mut parts[nth].1;
        if !bytes.is_empty() {
            let at = usize::from(bit) / 8 % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
    }
    Arc::new(MemoryFs::of(files))
}
