//! Snapshots from node to node, without a network: what comes is lost, doubled, out of order, damaged, or from elsewhere;
//! receivers and senders restart; everything is counted.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "snapshot_support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fates::Rng;
use support::{
    CHUNK, DIR, Files, GROUP, carry, config, content, fetch, fetch_all, fetch_config, files, make, open, read, say,
    server, transfer,
};
use tenure::sim::disk::SimFs;
use tenure::snapshot::{
    ChunkId, Digest, Ended, Fetch, Gone, Manifest, ManifestFile, Next, Received, Refusal, RefusedRequest, Request,
    Response, ServeConfig, Session, SnapshotError, SnapshotServer, SnapshotStore, Wanted,
};
use tenure::time::{Duration, Instant};
use tenure::types::{ClusterId, GroupId, Index};

/// A state of about 100 chunks in a few files.
fn state(seed: u64) -> Files {
    files([
        ("data/large", content(seed, 80 * CHUNK + 17)),
        ("data/other", content(seed + 1000, 15 * CHUNK)),
        ("empty", vec![]),
        ("small", content(seed + 2000, 3)),
        ("twice", content(seed + 2000, 3)),
    ])
}

fn sender(seed: u64, last: u64) -> SnapshotStore {
    let store = open(SimFs::new(), 1);
    make(&store, last, &state(seed)).unwrap();
    store
}

#[test]
fn a_receiver_gets_what_the_sender_has() {
    let sender = sender(1, 20);
    let store = open(SimFs::new(), 2);
    let snapshot = fetch_all(&store, &server(&sender)).unwrap();
    assert!(read(&snapshot) == state(1));
    assert_eq!(snapshot.id(), sender.newest().unwrap().id(), "the same snapshot, not one like it");
    let third = open(SimFs::new(), 3);
    assert!(read(&fetch_all(&third, &server(&store)).unwrap()) == state(1), "who has received it can serve it");
}

#[test]
fn no_more_is_under_way_than_the_window_and_one_file_does_not_wait_for_another() {
    let (sender, store) = (sender(1, 20), open(SimFs::new(), 2));
    let server = server(&sender);
    let (mut fetch, mut session) = (fetch(&store).unwrap(), server.session().unwrap());
    session.receive(fetch.next_request().unwrap()).unwrap();
    assert_eq!(fetch.next_request(), None, "nothing before the manifest");
    say(&mut session).into_iter().for_each(|manifest| drop(fetch.receive(manifest).unwrap()));
    let mut asked = Vec::new();
    while fetch.advance().unwrap() || asked.len() < 4 {
        asked.extend(std::iter::from_fn(|| fetch.next_request()));
    }
    assert_eq!(asked.len(), 4, "the window is four chunks: {asked:?}");
    assert!(fetch.is_waiting());
}

/// A network that does everything that networks do, and worse.
struct Wild {
    rng: Rng,
    to_sender: Vec<Request>,
    to_receiver: Vec<Response>,
}

impl Wild {
    fn step(&mut self, fetch: &mut Fetch, session: &mut Session, alien: &[Response]) {
        while let Some(request) = fetch.next_request() {
            self.to_sender.push(request);
        }
        if !self.to_sender.is_empty() {
            let nth = self.rng.pick(self.to_sender.len());
            let request = self.to_sender.swap_remove(nth);
            // Lost, once, or twice.
            for _ in 0..self.rng.below(3) {
                session.receive(request.clone()).unwrap();
            }
        }
        self.to_receiver.extend(say(session));
        if self.rng.below(8) == 0 {
            self.to_receiver.push(alien[self.rng.pick(alien.len())].clone());
        }
        if !self.to_receiver.is_empty() {
            let nth = self.rng.pick(self.to_receiver.len());
            let mut response = self.to_receiver.swap_remove(nth);
            match self.rng.below(8) {
                0 => {}
                1 => self.to_receiver.push(response.clone()),
                2 => bend(&mut response, &mut self.rng),
                _ => {}
            }
            if !matches!(response, Response::Manifest(_)) || self.rng.below(4) > 0 {
                let _ = fetch.receive(response).unwrap();
            }
        }
    }
}

fn bend(response: &mut Response, rng: &mut Rng) {
    let Response::Chunk { id, bytes } = response else { return };
    let mut bent = bytes.to_vec();
    match rng.below(5) {
        0 => bent.push(1),
        1 => drop(bent.pop()),
        2 => id.offset ^= 1 << rng.below(20),
        3 => id.file ^= 1,
        _ => {
            let at = rng.pick(bent.len());
            bent[at] ^= 1;
        }
    }
    *bytes = bent.into();
}

/// Chunks and farewells of other snapshots.
fn alien_responses() -> Vec<Response> {
    let sender = sender(9, 30);
    let server = server(&sender);
    let (mut fetch, mut session) = (fetch(&open(SimFs::new(), 9)).unwrap(), server.session().unwrap());
    let mut said = Vec::new();
    for _ in 0..20 {
        while let Some(request) = fetch.next_request() {
            session.receive(request).unwrap();
        }
        for response in say(&mut session) {
            said.extend(matches!(response, Response::Chunk { .. }).then(|| response.clone()));
            fetch.receive(response).unwrap();
        }
        while fetch.advance().unwrap() {}
    }
    said
}

#[test]
fn loss_duplication_reorder_and_corruption_delay_it_and_no_more() {
    let (sender, alien) = (sender(1, 20), alien_responses());
    let (server, mut seen) = (server(&sender), tenure::snapshot::Refusals::default());
    for seed in 0..12 {
        let store = open(SimFs::new(), 2);
        let mut config = fetch_config();
        config.corrupt_most = 1_000_000;
        let mut fetch = Fetch::new(&store, Wanted::default(), config).unwrap();
        let mut session = server.session().unwrap();
        let mut wild = Wild { rng: Rng(seed), to_sender: Vec::new(), to_receiver: Vec::new() };
        for step in 1_u64.. {
            assert!(step < 100_000, "it never ends: {:?} {:?}", fetch.progress(), fetch.ended());
            wild.step(&mut fetch, &mut session, &alien);
            while fetch.advance().unwrap() {}
            if fetch.is_complete() {
                break;
            }
            // What was lost is asked for again after a while.
            if step % 64 == 0 {
                fetch.disconnected();
            }
        }
        let refusals = fetch.refusals();
        seen.other_snapshot += refusals.other_snapshot;
        seen.duplicate += refusals.duplicate;
        seen.unasked += refusals.unasked;
        seen.length += refusals.length;
        seen.corrupt += refusals.corrupt;
        let progress = fetch.progress();
        assert_eq!((progress.bytes_done, progress.files_done), (progress.bytes_total, progress.files_total));
        assert!(read(&fetch.install().unwrap()) == state(1), "seed {seed}");
    }
    let counts = [seen.other_snapshot, seen.duplicate, seen.unasked, seen.length, seen.corrupt];
    assert!(counts.iter().all(|count| *count > 20), "each of them was seen: {seen:?}");
}

/// A fetch that has asked for its first chunks, and the answers to them.
fn under_way(store: &SnapshotStore, server: &SnapshotServer) -> (Fetch, Session, Vec<Response>) {
    let (mut fetch, mut session) = (fetch(store).unwrap(), server.session().unwrap());
    session.receive(fetch.next_request().unwrap()).unwrap();
    say(&mut session).into_iter().for_each(|manifest| drop(fetch.receive(manifest).unwrap()));
    while fetch.advance().unwrap() {}
    while let Some(request) = fetch.next_request() {
        session.receive(request).unwrap();
    }
    let said = say(&mut session);
    (fetch, session, said)
}

#[test]
fn what_was_not_asked_for_or_is_not_what_was_asked_for_is_refused_by_name() {
    let sender = sender(1, 20);
    let (fs, server) = (SimFs::new(), server(&sender));
    let store = open(fs.clone(), 2);
    let (mut fetch, _session, said) = under_way(&store, &server);
    let Response::Chunk { id, bytes } = said[0].clone() else { panic!("{said:?}") };
    let writes = fs.calls();
    let mut refused = |id, bytes: &Bytes| match fetch.receive(Response::Chunk { id, bytes: bytes.clone() }).unwrap() {
        Received::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let unasked = |change: fn(&mut ChunkId)| {
        let mut id = id;
        change(&mut id);
        id
    };
    assert_eq!(refused(unasked(|id| id.snapshot = Digest::of(b"another")), &bytes), Refusal::OtherSnapshot);
    assert_eq!(refused(unasked(|id| id.offset = 70 * CHUNK as u64), &bytes), Refusal::Unasked);
    assert_eq!(refused(unasked(|id| id.offset += 1), &bytes), Refusal::Unasked);
    assert_eq!(refused(unasked(|id| id.offset = u64::MAX), &bytes), Refusal::Unasked);
    assert_eq!(refused(unasked(|id| id.file = u32::MAX), &bytes), Refusal::Unasked);
    assert_eq!(refused(id, &Bytes::from(vec![0; CHUNK + 1])), Refusal::Length);
    assert_eq!(refused(id, &Bytes::from(vec![0; CHUNK])), Refusal::Unasked, "its answer has come, for better or worse");
    assert_eq!(fs.calls(), writes, "nothing of that touched the disk");
    assert_eq!(fetch.next_request(), Some(Request::Chunk(id)), "it is asked for again");
    let Response::Chunk { bytes, .. } = said[0].clone() else { panic!() };
    assert_eq!(fetch.receive(said[0].clone()).unwrap(), Received::Taken);
    let again = fetch.receive(Response::Chunk { id, bytes }).unwrap();
    assert_eq!(again, Received::Refused(Refusal::Duplicate));
    let manifest = Response::Manifest(sender.newest().unwrap().manifest().encoded().clone());
    assert_eq!(fetch.receive(manifest).unwrap(), Received::Refused(Refusal::Unasked));
}

#[test]
fn wrong_bytes_again_and_again_end_it() {
    let sender = sender(1, 20);
    let (store, server) = (open(SimFs::new(), 2), server(&sender));
    let (mut fetch, _session, said) = under_way(&store, &server);
    let Response::Chunk { id, .. } = said[0] else { panic!("{said:?}") };
    for _ in 0..fetch_config().corrupt_most {
        let wrong = Response::Chunk { id, bytes: Bytes::from(vec![0; CHUNK]) };
        assert_eq!(fetch.receive(wrong).unwrap(), Received::Refused(Refusal::Corrupt));
        assert_eq!(fetch.next_request(), Some(Request::Chunk(id)));
    }
    let wrong = Response::Chunk { id, bytes: Bytes::from(vec![0; CHUNK]) };
    assert_eq!(fetch.receive(wrong).unwrap(), Received::Ended(Ended::Corrupt));
    assert_eq!(fetch.next_request(), None);
}

/// The receiver is killed at random points, or loses its power, or only its connection; then it goes on.
#[test]
fn it_goes_on_where_it_was_and_little_is_sent_twice() {
    let sender = sender(1, 20);
    let server = server(&sender);
    let total = sender.newest().unwrap().manifest().bytes();
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let (mut fs, mut sent, mut interruptions) = (SimFs::new(), 0, 0);
        let installed = loop {
            let store = open(fs.clone(), 2);
            let mut fetch = fetch(&store).unwrap();
            let answers = 2 + rng.below(60);
            assert_eq!(transfer(&mut fetch, &mut server.session().unwrap(), answers).unwrap(), None);
            if !fetch.is_complete() {
                // Another connection of the same process.
                assert_eq!(transfer(&mut fetch, &mut server.session().unwrap(), rng.below(9)).unwrap(), None);
            }
            sent += fetch.progress().bytes_received;
            if fetch.is_complete() {
                break fetch.install().unwrap();
            }
            interruptions += 1;
            assert!(interruptions < 100, "it begins again and again");
            drop((fetch, store));
            // Killed: what was written is still there. Or out of power: what was not synced may be lost.
            fs = if seed % 2 == 0 { fs.copy() } else { fs.crash(|ways| rng.pick(ways)) };
        };
        assert!(read(&installed) == state(1), "seed {seed}");
        assert!(interruptions > 0);
        // A kill loses nothing that was taken. A power cut may cost what was not synced: four chunks and the small files.
        let again = sent - total.min(sent);
        let most = if seed % 2 == 0 { 0 } else { interruptions * 5 * CHUNK as u64 };
        assert!(again <= most, "seed {seed}: {again} bytes again, {interruptions} interruptions");
    }
}

#[test]
fn files_of_an_older_snapshot_are_not_sent_again() {
    let (old, mut new) = (state(1), state(1));
    new.insert("data/large".into(), content(77, 20 * CHUNK));
    new.insert("renamed".into(), old["data/large"].clone());
    let (sender, store) = (open(SimFs::new(), 1), open(SimFs::new(), 2));
    make(&sender, 10, &old).unwrap();
    let server = server(&sender);
    fetch_all(&store, &server).unwrap();
    make(&sender, 20, &new).unwrap();
    let mut fetch = fetch(&store).unwrap();
    assert_eq!(transfer(&mut fetch, &mut server.session().unwrap(), u64::MAX).unwrap(), None);
    let progress = fetch.progress();
    assert_eq!(progress.bytes_received, 20 * CHUNK as u64, "the one file that is new");
    assert_eq!(progress.bytes_reused, progress.bytes_total - progress.bytes_received);
    assert!(read(&fetch.install().unwrap()) == new);
}

#[test]
fn a_damaged_file_of_an_older_snapshot_is_noticed_and_sent() {
    let fs = SimFs::new();
    let (sender, store) = (sender(1, 20), open(fs.clone(), 2));
    let older = make(&store, 10, &state(1)).unwrap();
    let path = older.files().files()[0].path().to_owned();
    drop(older);
    fs.alter(&path, |bytes| bytes[7 * CHUNK] ^= 1);
    let mut fetch = fetch(&store).unwrap();
    assert_eq!(transfer(&mut fetch, &mut server(&sender).session().unwrap(), u64::MAX).unwrap(), None);
    let progress = fetch.progress();
    assert_eq!(progress.bytes_done, progress.bytes_total);
    assert_eq!(progress.bytes_received, 80 * CHUNK as u64 + 17);
    let installed = fetch.install().unwrap();
    installed.verify(&|| true).unwrap();
    assert!(read(&installed) == state(1));
}

#[test]
fn a_damaged_snapshot_is_healed_by_fetching_the_very_same() {
    let fs = SimFs::new();
    let sender = sender(1, 20);
    let server = server(&sender);
    let store = open(fs.clone(), 2);
    let mine = fetch_all(&store, &server).unwrap();
    fs.alter(mine.files().files()[0].path(), |bytes| bytes[0] ^= 1);
    mine.verify(&|| true).unwrap_err();
    drop(mine);
    assert_eq!((store.newest().is_none(), store.damaged().len()), (true, 1));
    let healed = fetch_all(&store, &server).unwrap();
    healed.verify(&|| true).unwrap();
    assert_eq!(store.damaged(), [""; 0]);
}

#[test]
fn a_snapshot_is_kept_for_as_long_as_somebody_fetches_it_and_then_gone() {
    let fs = SimFs::new();
    let sender = open(fs.clone(), 1);
    let first = make(&sender, 10, &state(1)).unwrap().id();
    let server = server(&sender);
    let store = open(SimFs::new(), 2);
    let (mut fetch, mut session) = (fetch(&store).unwrap(), server.session().unwrap());
    assert_eq!(transfer(&mut fetch, &mut session, 20).unwrap(), None);
    let newer = make(&sender, 20, &state(5)).unwrap().id();
    assert!(sender.get(first).is_some());
    assert_eq!(carry(&mut fetch, &mut session, 20).unwrap(), None, "on the same connection it goes on");
    drop(session);
    assert!(sender.get(first).is_none(), "nobody needs it any more");

    let ended = transfer(&mut fetch, &mut server.session().unwrap(), u64::MAX).unwrap();
    assert_eq!(ended, Some(Ended::Gone(Gone::Replaced(newer))));
    drop(fetch);
    // Anew with the other one; what the two have in common is not sent again.
    let mut other = state(5);
    other.insert("data/other".into(), state(1)["data/other"].clone());
    make(&sender, 30, &other).unwrap();
    let before = server.stats();
    let mut fetch = support::fetch(&store).unwrap();
    assert_eq!(transfer(&mut fetch, &mut server.session().unwrap(), u64::MAX).unwrap(), None);
    assert_eq!(server.stats().bytes - before.bytes, fetch.progress().bytes_received);
    assert!(read(&fetch.install().unwrap()) == other);
    assert_eq!(server.stats().gone, 1);
}

/// The maker is gone for good: another node that has the same snapshot goes on with it, byte by byte.
#[test]
fn another_node_with_the_same_snapshot_goes_on_with_it() {
    let maker = sender(1, 20);
    let second = open(SimFs::new(), 2);
    fetch_all(&second, &server(&maker)).unwrap();
    let store = open(SimFs::new(), 3);
    let mut fetch = fetch(&store).unwrap();
    assert_eq!(transfer(&mut fetch, &mut server(&maker).session().unwrap(), 50).unwrap(), None);
    drop(maker);
    assert_eq!(transfer(&mut fetch, &mut server(&second).session().unwrap(), u64::MAX).unwrap(), None);
    let progress = fetch.progress();
    assert_eq!(progress.bytes_received + progress.bytes_reused, progress.bytes_total, "nothing twice");
    assert!(read(&fetch.install().unwrap()) == state(1));
}

#[test]
fn a_sender_whose_copy_is_damaged_says_so_and_knows_it_from_then_on() {
    let fs = SimFs::new();
    let sender = open(fs.clone(), 1);
    let snapshot = make(&sender, 20, &state(1)).unwrap();
    fs.alter(snapshot.files().files()[0].path(), |bytes| bytes[40 * CHUNK] ^= 1);
    drop(snapshot);
    let server = server(&sender);
    let store = open(SimFs::new(), 2);
    let mut fetch = fetch(&store).unwrap();
    let ended = transfer(&mut fetch, &mut server.session().unwrap(), u64::MAX).unwrap();
    assert_eq!(ended, Some(Ended::Gone(Gone::Damaged)));
    assert_eq!((server.stats().damaged, sender.damaged().len(), sender.newest().is_none()), (1, 1, true));
    assert!(store.newest().is_none() && fetch.install().is_err());
}

/// The manifest of the sender's snapshot as somebody would send it who is not what he says.
fn answer_with(store: &SnapshotStore, wanted: Wanted, manifest: Bytes) -> Received {
    let mut fetch = Fetch::new(store, wanted, fetch_config()).unwrap();
    fetch.next_request().unwrap();
    fetch.receive(Response::Manifest(manifest)).unwrap()
}

#[test]
fn manifests_that_are_of_no_use_end_it_before_anything_is_written() {
    let (sender, fs) = (sender(1, 20), SimFs::new());
    let store = open(fs.clone(), 2);
    let snapshot = sender.newest().unwrap();
    let good = snapshot.manifest().encoded().clone();
    let about = snapshot.manifest().about().clone();
    let with = |about| snapshot.manifest().renamed(about).unwrap().encoded().clone();
    let other_cluster = with(tenure::snapshot::About { cluster: ClusterId::new("x").unwrap(), ..about.clone() });
    let other_group = with(tenure::snapshot::About { group: GroupId(9), ..about.clone() });
    let mut damaged = good.to_vec();
    damaged[100] ^= 1;
    let any = Wanted::default();
    let this = |id| Wanted { id: Some(id), ..any };
    let far = Wanted { at_least: Index(21), ..any };
    assert!(matches!(answer_with(&store, any, damaged.into()), Received::Ended(Ended::Malformed(_))));
    assert!(matches!(answer_with(&store, any, Bytes::new()), Received::Ended(Ended::Malformed(_))));
    assert_eq!(answer_with(&store, any, other_cluster), Received::Ended(Ended::Other));
    assert_eq!(answer_with(&store, any, other_group), Received::Ended(Ended::Other));
    assert_eq!(answer_with(&store, this(Digest::of(b"x")), good.clone()), Received::Ended(Ended::Other));
    assert_eq!(answer_with(&store, far, good.clone()), Received::Ended(Ended::Old(about.last)));
    assert!(fs.names().iter().all(|path| path.parent() != Some(Path::new(DIR))), "{:?}", fs.names());
    assert_eq!(answer_with(&store, this(snapshot.id()), good.clone()), Received::Taken);
    make(&store, 20, &state(3)).unwrap();
    assert_eq!(answer_with(&store, any, good), Received::Ended(Ended::Old(about.last)), "it brings nothing new");
}

/// Right checksums, and a digest that belongs to other bytes: only who computes it notices.
#[test]
fn a_manifest_that_contradicts_itself_is_noticed_at_the_end_of_the_file() {
    let (sender, store) = (sender(1, 20), open(SimFs::new(), 2));
    let snapshot = sender.newest().unwrap();
    let manifest = snapshot.manifest();
    let lie = |file: &ManifestFile| ManifestFile { digest: Digest::of(b"other bytes"), ..file.clone() };
    let files = manifest.files().iter().map(lie).collect();
    let lying = Manifest::new(manifest.about().clone(), manifest.form(), manifest.chunk_bytes(), files).unwrap();
    let mut fetch = Fetch::new(&store, Wanted::default(), fetch_config()).unwrap();
    fetch.next_request().unwrap();
    assert_eq!(fetch.receive(Response::Manifest(lying.encoded().clone())).unwrap(), Received::Taken);
    while fetch.advance().unwrap() || fetch.is_waiting() {
        while let Some(Request::Chunk(id)) = fetch.next_request() {
            let chunk = snapshot.read_chunk(id.file as usize, (id.offset / CHUNK as u64) as u32).unwrap().unwrap();
            fetch.receive(Response::Chunk { id, bytes: chunk }).unwrap();
        }
    }
    assert!(matches!(fetch.ended(), Some(Ended::Digest(_))), "{:?}", fetch.ended());
    assert!(fetch.install().is_err() && store.newest().is_none());
}

#[test]
fn senseless_questions_are_refused_and_too_many_end_the_session() {
    let sender = sender(1, 20);
    let mut config = ServeConfig::default();
    (config.requests, config.sessions) = (4, 2);
    let server = SnapshotServer::new(config);
    server.add(sender.clone());
    let mut session = server.session().unwrap();
    let snapshot = sender.newest().unwrap().id();
    let mut ask = |request| {
        session.receive(request).unwrap();
        say(&mut session).remove(0)
    };
    let chunk = |file, offset, length| Request::Chunk(ChunkId { snapshot, file, offset, length });
    assert_eq!(ask(chunk(0, 0, 512)), Response::Gone(Gone::None), "no manifest was asked for");
    assert_eq!(ask(Request::Manifest { group: GroupId(8), id: None }), Response::Gone(Gone::None));
    let id = Some(Digest::of(b"unknown"));
    assert_eq!(ask(Request::Manifest { group: GROUP, id }), Response::Gone(Gone::Replaced(snapshot)));
    assert!(matches!(ask(Request::Manifest { group: GROUP, id: None }), Response::Manifest(_)));
    for (file, offset, length) in
        [(99, 0, 512), (0, 1, 512), (0, 0, 511), (0, 0, 1 << 31), (0, u64::MAX, 512), (2, 0, 0)]
    {
        assert_eq!(
            ask(chunk(file, offset, length)),
            Response::Refused(RefusedRequest::Range),
            "{file} {offset} {length}"
        );
    }
    let other = ChunkId { snapshot: Digest::of(b"x"), file: 0, offset: 0, length: 512 };
    assert_eq!(ask(Request::Chunk(other)), Response::Gone(Gone::Replaced(snapshot)));
    assert!(matches!(ask(chunk(0, 512, 512)), Response::Chunk { .. }));
    (0..4).for_each(|_| session.receive(chunk(0, 0, 512)).unwrap());
    assert!(session.receive(chunk(0, 0, 512)).is_err());
    let second = server.session().unwrap();
    assert!(server.session().is_none(), "two at once are allowed");
    drop(second);
    assert!(server.session().is_some());
    assert_eq!((server.stats().refused, server.stats().turned_away), (6, 1));
}

#[test]
fn there_is_one_transfer_into_a_store_at_a_time() {
    let store = open(SimFs::new(), 2);
    let first = fetch(&store).unwrap();
    assert!(matches!(fetch(&store).err(), Some(SnapshotError::Busy)));
    drop(first);
    assert!(fetch(&store).is_ok());
}

/// Two receivers share the limit, neither waits for the other, and no more than an answer each is ever in memory.
#[test]
fn receivers_share_the_rate_and_memory_stays_bounded() {
    const RATE: u64 = 1 << 20;
    let fs = SimFs::new();
    let mut large = config(1);
    large.chunk_bytes = 64 << 10;
    let sender = SnapshotStore::open(Arc::new(fs), Path::new(DIR), large).unwrap();
    let state = files([("one", content(1, 6 << 20)), ("two", content(2, 2 << 20))]);
    let total = make(&sender, 20, &state).unwrap().manifest().bytes();
    let mut serve = ServeConfig::default();
    serve.bytes_per_second = Some(RATE);
    let server = SnapshotServer::new(serve);
    server.add(sender);

    let stores = [open(SimFs::new(), 2), open(SimFs::new(), 3)];
    let mut config = fetch_config();
    (config.window_bytes, config.sync_bytes) = (1 << 20, 1 << 20);
    let mut ends = stores
        .each_ref()
        .map(|store| (Fetch::new(store, Wanted::default(), config.clone()).unwrap(), server.session().unwrap()));
    let (mut now, mut apart) = (Instant::ZERO, 0);
    while !ends.iter().all(|(fetch, _)| fetch.is_complete()) {
        let mut until = Instant::from_nanos(u64::MAX);
        for (fetch, session) in &mut ends {
            loop {
                while fetch.advance().unwrap() {}
                while let Some(request) = fetch.next_request() {
                    session.receive(request).unwrap();
                }
                match session.next(now) {
                    Next::Send(outgoing) => {
                        fetch.receive(outgoing.into_response()).unwrap();
                    }
                    Next::Wait(at) => {
                        until = until.min(at);
                        break;
                    }
                    Next::Idle => break,
                }
            }
        }
        let done = ends.each_ref().map(|(fetch, _)| fetch.progress().bytes_done);
        apart = apart.max(done[0].abs_diff(done[1]));
        if !ends.iter().all(|(fetch, _)| fetch.is_complete()) {
            assert!(until > now);
            now = until;
        }
    }
    let took = now.since(Instant::ZERO);
    let expected = Duration::from_nanos(2 * total * 1_000_000_000 / RATE);
    assert!(took <= expected && took + Duration::from_millis(200) >= expected, "{took:?}, {expected:?}");
    assert!(apart <= 2 * (64 << 10), "one got {apart} bytes ahead of the other");
    let stats = server.stats();
    assert_eq!((stats.bytes, stats.held_bytes), (2 * total, 0));
    assert!(stats.held_bytes_most <= 2 * (64 << 10), "{} bytes in memory", stats.held_bytes_most);
    for (fetch, _) in ends {
        assert!(read(&fetch.install().unwrap()) == state);
    }
}

#[test]
fn a_limit_that_is_lifted_frees_those_who_wait() {
    let sender = sender(1, 20);
    let mut config = ServeConfig::default();
    config.bytes_per_second = Some(1);
    let server = SnapshotServer::new(config);
    server.add(sender);
    let store = open(SimFs::new(), 2);
    let (mut fetch, mut session) = (fetch(&store).unwrap(), server.session().unwrap());
    let stalled = loop {
        while fetch.advance().unwrap() {}
        while let Some(request) = fetch.next_request() {
            session.receive(request).unwrap();
        }
        match session.next(Instant::ZERO) {
            Next::Send(outgoing) => drop(fetch.receive(outgoing.into_response()).unwrap()),
            Next::Wait(at) => break at,
            Next::Idle => panic!("idle"),
        }
    };
    assert!(stalled >= Instant::from_nanos(512_000_000_000));
    server.set_rate(None);
    assert_eq!(carry(&mut fetch, &mut session, u64::MAX).unwrap(), None);
}

/// A frame longer than what was asked for is refused by its header.
#[test]
fn the_limit_on_frames_follows_from_what_is_awaited() {
    let (sender, store) = (sender(1, 20), open(SimFs::new(), 2));
    let server = server(&sender);
    let before = fetch(&store).unwrap().frame_bytes_max();
    let (fetch, _session, said) = under_way(&store, &server);
    let longest = said.iter().map(|response| response.encode()).map(|(head, data)| head.len() + data.len()).max();
    assert!(longest.unwrap() <= fetch.frame_bytes_max() && fetch.frame_bytes_max() < CHUNK + 300);
    assert!(before > tenure::snapshot::MANIFEST_BYTES_MAX);
}
