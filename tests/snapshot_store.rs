//! Snapshots on disk: made, kept, removed, imported; with failing calls, lost power and damage.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program, its helpers included")]

#[path = "support/fates.rs"]
mod fates;
#[path = "snapshot_support/mod.rs"]
mod support;

use std::io::{Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fates::Rng;
use support::cut::CutFs;
use support::{DIR, Files, config, content, fetch_all, files, make, open, read, server, source, try_open};
use tenure::sim::disk::{Fault, SimFs};
use tenure::snapshot::{Form, ImportAs, Manifest, Snapshot, SnapshotError, SnapshotStore};
use tenure::state_machine::{SnapshotSource, SourceContent, SourceFile};
use tenure::types::{ClusterId, EntryId, GroupId, Index, NodeId, Term};
use tenure::wal::{Fs as _, RealFs};

/// The first of two states of a machine, and the second, which has a file in common with it.
fn two_states() -> [Files; 2] {
    let shared = content(1, 1300);
    [
        files([("a", content(2, 700)), ("shared", shared.clone()), ("empty", vec![])]),
        files([("b/c", content(3, 1600)), ("shared", shared), ("small", vec![7])]),
    ]
}

/// The names in the store's directory, by their endings.
fn endings(fs: &SimFs) -> Vec<String> {
    let names = fs.names().into_iter().filter(|path| path.parent() == Some(Path::new(DIR)));
    let mut endings: Vec<String> = names.map(|path| path.extension().unwrap().to_str().unwrap().to_owned()).collect();
    endings.sort();
    endings
}

#[test]
fn a_snapshot_is_made_and_is_there_after_a_restart() {
    let fs = SimFs::new();
    let [first, second] = two_states();
    let store = open(fs.clone(), 1);
    assert!(store.newest().is_none());
    make(&store, 10, &first).unwrap();
    let made = make(&store, 20, &second).unwrap();
    assert_eq!((read(&made), made.last()), (second.clone(), EntryId::new(20, 1)));
    assert_eq!(endings(&fs), ["data", "data", "data", "manifest"], "the first one is gone, but for what they share");
    let after_power_cut = fs.crash(|_| 0);
    drop((made, store));
    for disk in [fs, after_power_cut] {
        let found = open(disk, 1).newest().unwrap();
        found.verify(&|| true).unwrap();
        assert_eq!(read(&found), second);
        let about = found.manifest().about();
        assert_eq!((about.maker, about.configuration.clone()), (NodeId(1), support::configuration()));
    }
}

#[test]
fn a_stream_comes_back_as_a_stream() {
    let store = open(SimFs::new(), 1);
    let bytes = content(5, 3000);
    let source = SnapshotSource::Stream(Box::new(Cursor::new(bytes.clone())));
    let made = store.make(EntryId::new(3, 1), support::configuration(), 1, source, &|| true).unwrap();
    assert_eq!(made.manifest().form(), Form::Stream);
    let mut found = Vec::new();
    made.files().stream().unwrap().read_to_end(&mut found).unwrap();
    assert_eq!(found, bytes);
}

#[test]
fn what_is_in_use_stays_and_what_was_in_use_goes() {
    let (fs, [first, second]) = (SimFs::new(), two_states());
    let store = open(fs.clone(), 1);
    let held = make(&store, 10, &first).unwrap();
    make(&store, 20, &second).unwrap();
    assert_eq!(read(&held), first, "it is being sent, say");
    assert_eq!(store.newest().unwrap().last(), EntryId::new(20, 1));
    drop(held);
    store.sweep().unwrap();
    assert_eq!(endings(&fs), ["data", "data", "data", "manifest"]);
}

#[test]
fn as_many_stay_as_are_to_be_kept() {
    let fs = SimFs::new();
    let mut config = config(1);
    config.keep = 2;
    let store = SnapshotStore::open(Arc::new(fs.clone()), Path::new(DIR), config).unwrap();
    let ids: Vec<_> = (1..=4).map(|n| make(&store, n, &files([("f", content(n, 10))])).unwrap().id()).collect();
    let there: Vec<bool> = ids.iter().map(|id| store.get(*id).is_some()).collect();
    assert_eq!(there, [false, false, true, true]);
    assert_eq!(endings(&fs), ["data", "data", "manifest", "manifest"]);
}

#[test]
fn one_that_brings_nothing_new_is_refused_before_it_is_read() {
    let store = open(SimFs::new(), 1);
    let [first, second] = two_states();
    make(&store, 10, &first).unwrap();
    for last in [9, 10] {
        let refused = make(&store, last, &second).unwrap_err();
        assert!(matches!(refused, SnapshotError::Stale { newest, .. } if newest == EntryId::new(10, 1)), "{refused}");
    }
    assert_eq!(read(&store.newest().unwrap()), first);
}

/// A stream that fails after some bytes.
struct Failing(u64);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(ErrorKind::BrokenPipe)?;
        buffer.fill(7);
        Ok(buffer.len())
    }
}

#[test]
fn a_source_that_fails_or_is_given_up_leaves_everything_as_it_was() {
    let (fs, [first, _]) = (SimFs::new(), two_states());
    let store = open(fs.clone(), 1);
    make(&store, 10, &first).unwrap();
    let before = endings(&fs);
    let try_make = |source, go_on: &dyn Fn() -> bool| {
        store.make(EntryId::new(20, 1), support::configuration(), 1, source, go_on).unwrap_err()
    };
    let failing = || SnapshotSource::Stream(Box::new(Failing(5)));
    assert!(matches!(try_make(failing(), &|| true), SnapshotError::Source { .. }));
    assert!(matches!(try_make(failing(), &|| false), SnapshotError::Stopped));
    let bad_name = files([("../outside", vec![1])]);
    assert!(matches!(try_make(source(&bad_name), &|| true), SnapshotError::Malformed(_)));
    assert_eq!(endings(&fs), before);
    assert_eq!(read(&store.newest().unwrap()), first);
}

#[test]
fn snapshots_of_others_are_not_taken_for_ones_own() {
    let fs = SimFs::new();
    make(&open(fs.clone(), 1), 10, &two_states()[0]).unwrap();
    let mut other = config(1);
    other.group = GroupId(2);
    let opened = SnapshotStore::open(Arc::new(fs), Path::new(DIR), other);
    assert!(matches!(opened.err(), Some(SnapshotError::Foreign { group: GroupId(1), .. })));
}

/// Judges a disk after a crash: the snapshot at 10 is there, or the one at 20, whole and without leftovers.
#[track_caller]
fn judge(disk: &SimFs, states: &[Files; 2], must_be_new: bool) -> SnapshotStore {
    let store = open(disk.clone(), 2);
    assert_eq!(store.damaged(), [""; 0], "half of one");
    let found = store.newest().expect("none at all");
    found.verify(&|| true).unwrap();
    let new = found.last() == EntryId::new(20, 1);
    assert!(new || !must_be_new, "it was said to be there");
    assert!(read(&found) == states[usize::from(new)], "another state");
    let kept = store.partial().map_or(0, |wanted| 1 + 2 * wanted.files().len());
    let files = endings(disk).len();
    assert!(files <= 4 + kept, "leftovers: {:?}", endings(disk));
    assert!(!endings(disk).contains(&"tmp".to_owned()));
    store
}

/// Lets the power go at every call of what `act` does to a store that has the first state, with several fates of what was
/// not synced, and at every call of what comes after it, too.
fn power_cuts(seed: u64, states: &[Files; 2], act: impl Fn(&SnapshotStore) -> Result<Snapshot, SnapshotError>) {
    let disk = SimFs::new();
    make(&open(disk.clone(), 2), 10, &states[0]).unwrap();
    let mut rng = Rng(seed);
    let mut outcomes = [0; 2];
    for calls in 1.. {
        let fs = CutFs::new(disk.copy(), calls);
        let done = try_open(fs.clone(), 2).and_then(|store| act(&store).map(|snapshot| snapshot.last())).is_ok();
        for fate in 0..6 {
            let after = fs.disk.crash(|ways| match fate {
                0 => 0,
                1 => (ways - 1).min(1),
                _ => rng.pick(ways),
            });
            let store = judge(&after, states, done);
            let new = store.newest().unwrap().last() == EntryId::new(20, 1);
            outcomes[usize::from(new)] += 1;
            if !new {
                drop(store);
                // The power goes again, somewhere in the second attempt.
                let again = CutFs::new(after.copy(), 1 + rng.below(60));
                let _ = try_open(again.clone(), 2).and_then(|store| act(&store));
                judge(&again.disk.crash(|ways| rng.pick(ways)), states, false);
                act(&open(after.clone(), 2)).unwrap();
                judge(&after, states, true);
            }
        }
        if !fs.is_off() {
            break;
        }
    }
    assert!(outcomes[0] > 20 && outcomes[1] > 5, "old {}, new {}", outcomes[0], outcomes[1]);
}

#[test]
fn the_power_goes_at_every_point_of_making_one() {
    let states = two_states();
    power_cuts(1, &states, |store| make(store, 20, &states[1]));
}

#[test]
fn the_power_goes_at_every_point_of_receiving_one() {
    let states = two_states();
    let sender = open(SimFs::new(), 1);
    make(&sender, 20, &states[1]).unwrap();
    let server = server(&sender);
    power_cuts(2, &states, |store| fetch_all(store, &server));
}

/// The process is killed at every call, and what it did is in the page cache: its successor removes what is left over. Then the
/// power goes, and nobody finds a manifest without its files.
#[test]
fn the_power_goes_after_the_successor_of_a_killed_process_has_opened_the_store() {
    let (states, mut rng) = (two_states(), Rng(7));
    for call in 0.. {
        let fs = SimFs::new();
        let store = open(fs.clone(), 1);
        make(&store, 10, &states[0]).unwrap();
        fs.halt_after(Some(call));
        let made = make(&store, 20, &states[1]).is_ok();
        let killed = fs.is_halted();
        let survivor = fs.outlive();
        drop(store);
        drop(open(survivor.clone(), 1));
        for _ in 0..100 {
            let disk = survivor.crash(|ways| rng.pick(ways));
            judge(&disk, &states, made);
        }
        if !killed {
            return;
        }
    }
}

/// What the successor of a killed process has found is not taken away by the power: the log may begin behind it by then.
#[test]
fn what_is_found_after_a_kill_is_still_there_after_a_power_cut() {
    let [state, _] = two_states();
    let mut unsure = 0;
    for call in 0.. {
        let fs = SimFs::new();
        let store = open(fs.clone(), 1);
        fs.halt_after(Some(call));
        let made = make(&store, 10, &state).is_ok();
        let killed = fs.is_halted();
        let survivor = fs.outlive();
        drop(store);
        let found = open(survivor.clone(), 1).newest().is_some();
        unsure += u32::from(found && !made);
        let newest = open(survivor.crash(|_| 0), 1).newest();
        assert_eq!(newest.map(|newest| newest.last()), found.then_some(EntryId::new(10, 1)), "killed at call {call}");
        if !killed {
            break;
        }
    }
    assert!(unsure > 0, "it was never killed between the name and its sync");
}

#[test]
fn the_power_goes_at_every_point_of_an_import() {
    let states = two_states();
    let sender = open(SimFs::new(), 1);
    let exported = export(&make(&sender, 20, &states[1]).unwrap());
    power_cuts(3, &states, |store| store.import(&mut &exported[..], ImportAs::Itself, 1, &|| true));
}

/// Makes every call of `act` fail once, with and without effect.
fn failing_calls(states: &[Files; 2], act: impl Fn(&SimFs, &SnapshotStore) -> Result<Snapshot, SnapshotError>) {
    let disk = SimFs::new();
    make(&open(disk.clone(), 2), 10, &states[0]).unwrap();
    let mut failed = 0;
    for call in 0.. {
        let mut reached = false;
        for takes_effect in [false, true] {
            let fs = disk.copy();
            let store = open(fs.clone(), 2);
            fs.inject(Fault { call: fs.calls() + call, takes_effect, kind: ErrorKind::StorageFull });
            let done = act(&fs, &store);
            reached |= fs.faults_fired() > 0;
            fs.clear_fault();
            failed += u64::from(done.is_err());
            let newest = store.newest().unwrap();
            assert_eq!(newest.last().index == Index(20), done.is_ok(), "what it says and what is there");
            newest.verify(&|| true).unwrap();
            // What failed can be done again, by the same store.
            let is_done = done.is_ok();
            drop(done);
            if !is_done {
                act(&fs, &store).unwrap();
            }
            drop((newest, store));
            judge(&fs.crash(|_| 0), states, true);
            judge(&fs, states, true);
        }
        if !reached {
            break;
        }
    }
    assert!(failed > 20, "{failed}");
}

#[test]
fn a_failing_disk_leaves_the_old_one_and_can_be_tried_again() {
    let states = two_states();
    failing_calls(&states, |_, store| make(store, 20, &states[1]));
    let sender = open(SimFs::new(), 1);
    make(&sender, 20, &states[1]).unwrap();
    let server = server(&sender);
    failing_calls(&states, |_, store| fetch_all(store, &server));
}

/// The machine itself has synced nothing of them.
#[test]
fn files_that_are_linked_are_durable_too_whatever_fails() {
    let states = two_states();
    failing_calls(&states, |fs, store| {
        let link = |(name, bytes): (&String, &Vec<u8>)| {
            let path = Path::new("mine").join(name);
            if !fs.names().contains(&path) || fs.content(&path) != *bytes {
                fs.create(&path).and_then(|file| file.pwrite(bytes, 0)).map_err(io_error)?;
            }
            Ok::<_, SnapshotError>(SourceFile { name: name.clone(), content: SourceContent::Immutable(path) })
        };
        let files = states[1].iter().map(link).collect::<Result<Vec<_>, SnapshotError>>()?;
        let source = SnapshotSource::Files { files, guard: None };
        store.make(EntryId::new(20, 1), support::configuration(), 1, source, &|| true)
    });
}

fn io_error(error: std::io::Error) -> SnapshotError {
    SnapshotError::Io { what: "writing", path: PathBuf::new(), error }
}

/// The file of the store that ends so and is `nth` by name.
fn file_named(fs: &SimFs, ending: &str, nth: usize) -> PathBuf {
    let mut paths = fs.names();
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    paths.swap_remove(nth)
}

#[test]
fn a_damaged_manifest_is_known_at_open_and_a_new_snapshot_heals_the_store() {
    let (fs, [first, second]) = (SimFs::new(), two_states());
    make(&open(fs.clone(), 1), 10, &first).unwrap();
    let manifest = file_named(&fs, "manifest", 0);
    let whole = fs.content(&manifest);
    for at in (0..whole.len()).step_by(7) {
        let disk = fs.copy();
        disk.alter(&manifest, |bytes| bytes[at] ^= 1);
        let store = open(disk.clone(), 1);
        assert!(store.newest().is_none());
        assert_eq!(store.damaged().len(), 1, "the caller knows that it cannot serve (d15)");
        assert_eq!(endings(&disk).len(), 4, "what can still be of use stays");
        make(&store, 20, &second).unwrap();
        assert_eq!(store.damaged(), [""; 0]);
        assert_eq!(read(&store.newest().unwrap()), second);
        drop(store);
        assert_eq!(endings(&disk), ["data", "data", "data", "manifest"]);
        assert_eq!(open(disk, 1).damaged(), [""; 0]);
    }
}

#[test]
fn a_file_that_is_missing_or_short_is_known_at_open() {
    let (fs, [first, _]) = (SimFs::new(), two_states());
    make(&open(fs.clone(), 1), 10, &first).unwrap();
    let short = fs.copy();
    let largest = (0..3).map(|nth| file_named(&fs, "data", nth)).max_by_key(|path| fs.content(path).len()).unwrap();
    short.alter(&largest, |bytes| bytes.truncate(1299));
    fs.forget(&largest);
    for disk in [short, fs] {
        let store = open(disk, 1);
        assert!(store.newest().is_none());
        assert_eq!(store.damaged().len(), 1, "{:?}", store.damaged());
    }
}

#[test]
fn a_damaged_file_is_known_when_it_is_read_and_not_a_byte_of_the_chunk_is_handed_out() {
    let (fs, [first, _]) = (SimFs::new(), two_states());
    let store = open(fs.clone(), 1);
    let snapshot = make(&store, 10, &first).unwrap();
    let path = snapshot.files().files().iter().find(|file| file.name() == "shared").unwrap().path().to_owned();
    fs.alter(&path, |bytes| bytes[600] ^= 4);
    let files = snapshot.files();
    let mut bytes = Vec::new();
    let file = files.files().iter().find(|file| file.name() == "shared").unwrap();
    let error = file.open().unwrap().read_to_end(&mut bytes).unwrap_err();
    assert_eq!((error.kind(), bytes.len()), (ErrorKind::InvalidData, support::CHUNK), "{error}");
    assert!(store.newest().is_none() && store.get(snapshot.id()).is_none());
    assert_eq!(store.damaged().len(), 1);

    let disk = fs.copy();
    let store = open(disk, 1);
    let error = store.newest().unwrap().verify(&|| true).unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    assert!(store.newest().is_none(), "nobody is given it any more");
}

#[test]
fn an_export_founds_another_cluster() {
    let [first, _] = two_states();
    let store = open(SimFs::new(), 1);
    let exported = export(&make(&store, 10, &first).unwrap());

    let mut other = config(7);
    (other.cluster, other.group) = (ClusterId::new("other").unwrap(), GroupId(9));
    let store = SnapshotStore::open(Arc::new(SimFs::new()), Path::new(DIR), other).unwrap();
    let import = |import_as| store.import(&mut &exported[..], import_as, 5, &|| true);
    assert!(matches!(import(ImportAs::Itself), Err(SnapshotError::Foreign { .. })));
    let founding = ImportAs::Founding { configuration: bytes::Bytes::from_static(b"n7") };
    let imported = import(founding).unwrap();
    let about = imported.manifest().about();
    assert_eq!(
        (about.cluster.as_str(), about.group, about.maker, about.last.index),
        ("other", GroupId(9), NodeId(7), Index(1))
    );
    assert!(about.last.term > Term(1), "no group that begins with nothing has it");
    assert_eq!(read(&imported), first);
}

#[test]
fn an_export_that_is_not_whole_is_refused() {
    let [first, _] = two_states();
    let exported = export(&make(&open(SimFs::new(), 1), 10, &first).unwrap());
    let fs = SimFs::new();
    let store = open(fs.clone(), 2);
    let refused = |bytes: &[u8]| store.import(&mut &*bytes, ImportAs::Itself, 1, &|| true).is_err();
    for at in (0..exported.len()).step_by(13) {
        let mut damaged = exported.clone();
        damaged[at] ^= 0x20;
        assert!(refused(&damaged), "a bit in byte {at}");
        assert!(refused(&exported[..at]), "cut at {at}");
    }
    assert!(refused(&[&exported[..], b"x"].concat()));
    assert!(store.newest().is_none() && endings(&fs).is_empty());
    assert!(!refused(&exported));
}

/// Every digest is right, and a chunk has another checksum than the manifest says: nobody could be sent it.
#[test]
fn an_export_that_contradicts_itself_is_refused() {
    let snapshot = make(&open(SimFs::new(), 1), 10, &two_states()[0]).unwrap();
    let manifest = snapshot.manifest();
    let exported = export(&snapshot);
    let mut files = manifest.files().to_vec();
    let mut checksums = files[0].checksums.to_vec();
    checksums[0] ^= 1;
    files[0].checksums = checksums.into();
    let lying = Manifest::new(manifest.about().clone(), manifest.form(), manifest.chunk_bytes(), files).unwrap();
    let content = &exported[16 + manifest.encoded().len()..];
    let lie = [&exported[..16], lying.encoded(), content].concat();
    let refused = open(SimFs::new(), 2).import(&mut &lie[..], ImportAs::Itself, 1, &|| true);
    assert!(matches!(refused, Err(SnapshotError::Export(_))), "{refused:?}");
}

fn export(snapshot: &Snapshot) -> Vec<u8> {
    let mut exported = Vec::new();
    snapshot.export(&mut exported, &|| true).unwrap();
    exported
}

/// On a real file system: files are linked, and the originals may go.
#[test]
fn immutable_files_are_linked_and_survive_their_originals() {
    let dir = tempfile::tempdir().unwrap();
    let (mine, snapshots) = (dir.path().join("mine"), dir.path().join("snapshots/1"));
    RealFs.create_dir(&mine).unwrap();
    let (table, journal) = (mine.join("1.sst"), mine.join("journal"));
    let (table_bytes, journal_bytes) = (content(1, 5000), content(2, 900));
    RealFs.create(&table).unwrap().pwrite(&table_bytes, 0).unwrap();
    RealFs.create(&journal).unwrap().pwrite(&journal_bytes, 0).unwrap();
    let store = SnapshotStore::open(Arc::new(RealFs), &snapshots, config(1)).unwrap();
    for last in [10, 20] {
        let files = vec![
            SourceFile { name: "1.sst".into(), content: SourceContent::Immutable(table.clone()) },
            SourceFile { name: "journal".into(), content: SourceContent::Copy(journal.clone()) },
        ];
        let source = SnapshotSource::Files { files, guard: None };
        store.make(EntryId::new(last, 1), support::configuration(), 1, source, &|| true).unwrap();
    }
    RealFs.open(&journal).unwrap().pwrite(b"changed", 0).unwrap();
    RealFs.remove(&table).unwrap();
    drop(store);
    let store = SnapshotStore::open(Arc::new(RealFs), &snapshots, config(1)).unwrap();
    assert_eq!(read(&store.newest().unwrap()), files([("1.sst", table_bytes), ("journal", journal_bytes)]));
    assert_eq!(RealFs.list(&snapshots).unwrap().len(), 3, "two files and a manifest");
}
