//! Snapshots of both stores: of one moment, restored in any store, as one step whatever happens on the way.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tenure::state_machine::{SnapshotFile, SnapshotFiles};
use tenure::types::EntryId;

use super::durable::Durable;
use super::memory::Memory;
use super::tests::{bytes, commands, delete, increment, set};
use super::*;

fn durable(dir: &Path) -> Arc<dyn Store> {
    Arc::new(Durable::open(dir, &slog::Logger::root(slog::Discard, slog::o!())).unwrap())
}

/// What the machine hands out, read to its end.
fn read(source: SnapshotSource) -> Vec<u8> {
    let SnapshotSource::Stream(mut stream) = source else { panic!("{source:?}") };
    let mut image = Vec::new();
    stream.read_to_end(&mut image).unwrap();
    image
}

/// A snapshot up to `last` whose bytes `open` reads.
fn files<R: Read + Send + 'static>(last: u64, open: impl Fn() -> R + Send + Sync + 'static) -> SnapshotFiles {
    let file = SnapshotFile::new("stream", 0, "", Box::new(move || Ok(Box::new(open()))));
    SnapshotFiles::new(EntryId::new(last, 3), vec![file])
}

fn snapshot(last: u64, image: Vec<u8>) -> SnapshotFiles {
    files(last, move || io::Cursor::new(image.clone()))
}

/// A machine with a few pairs in it, and its snapshot up to entry 9, which was no command.
fn made(store: &Arc<dyn Store>) -> (Totals, Vec<u8>) {
    let mut machine = Machine::new(store.clone());
    let many: Vec<Operation> = (0..200).map(|n| set(&format!("k{n}"), &"v".repeat(n), Condition::Always)).collect();
    machine.apply(&commands(1, &[delete(&["k1"]), increment("n"), set("", "empty", Condition::Always)])).unwrap();
    machine.apply(&commands(4, &many)).unwrap();
    let totals = store.totals();
    let source = machine.snapshot().unwrap().unwrap();
    // What comes later must not show.
    let later = [
        delete(&["k7", ""]),
        increment("n"),
        set("k8", "later", Condition::Always),
        set("new", "x", Condition::Always),
    ];
    machine.apply(&commands(300, &later)).unwrap();
    let image = read(source);
    assert_ne!(store.totals().digest, totals.digest);
    assert_eq!(store.count().unwrap(), store.totals());
    (totals, image)
}

/// That `store` has what `made` made, and goes on from there.
fn goes_on(store: &Arc<dyn Store>, machine: &mut Machine, totals: Totals) {
    assert_eq!((store.totals(), store.count().unwrap()), (totals, totals));
    assert_eq!(machine.applied(), Index(209));
    let keys = ["k7", "", "k8", "n", "old", "new"].map(bytes);
    let values = ["vvvvvvv", "empty", "vvvvvvvv", "1"].map(|value| Some(bytes(value)));
    assert_eq!(store.get_all(&keys, 999).unwrap(), [&values[..], &[None, None]].concat());
    assert_eq!(machine.apply(&commands(210, &[increment("n")])).unwrap(), [Outcome::Number(2)]);
    assert_eq!((machine.applied(), store.count().unwrap()), (Index(210), store.totals()));
}

/// The store before: not empty, and nothing of it may shine through.
fn stale(store: &Arc<dyn Store>) -> (Machine, Totals) {
    let mut machine = Machine::new(store.clone());
    machine.apply(&commands(1, &[set("old", "1", Condition::Always), set("k7", "stale", Condition::Always)])).unwrap();
    (machine, store.totals())
}

#[test]
fn a_snapshot_is_of_one_moment_and_every_store_restores_it() {
    for from_disk in [false, true] {
        for to_disk in [false, true] {
            let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
            let store = |disk: bool, at: usize| if disk { durable(dirs[at].path()) } else { Arc::new(Memory::new()) };
            let (totals, image) = made(&store(from_disk, 0));
            let target = store(to_disk, 1);
            let (mut machine, _) = stale(&target);
            machine.restore(&snapshot(209, image.clone())).unwrap();
            goes_on(&target, &mut machine, totals);
            machine.restore(&snapshot(209, image)).unwrap();
            assert_eq!(target.totals(), totals, "and again");
        }
    }
}

#[test]
fn a_damaged_snapshot_leaves_everything_as_it_was() {
    let (totals, image) = made(&(Arc::new(Memory::new()) as Arc<dyn Store>));
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(Memory::new()), durable(dir.path())];
    for store in stores {
        let (mut machine, before) = stale(&store);
        let mut flipped = image.clone();
        flipped[image.len() / 2] ^= 1;
        // Nothing of what was read before the damage was found may stay, either.
        let other: Arc<dyn Store> = Arc::new(Memory::new());
        let mut cut = read(stale(&other).0.snapshot().unwrap().unwrap());
        cut.pop();
        for damaged in [flipped, cut] {
            assert!(machine.restore(&snapshot(209, damaged)).is_err());
            assert_eq!((store.totals(), store.count().unwrap()), (before, before));
            assert_eq!(machine.applied(), before.applied);
        }
        machine.restore(&snapshot(209, image.clone())).unwrap();
        goes_on(&store, &mut machine, totals);
    }
}

#[test]
fn a_restored_durable_store_goes_on_where_it_was() {
    let (totals, image) = made(&(Arc::new(Memory::new()) as Arc<dyn Store>));
    let dir = tempfile::tempdir().unwrap();
    let store = durable(dir.path());
    let mut machine = stale(&store).0;
    for _ in 0..2 {
        machine.restore(&snapshot(209, image.clone())).unwrap();
        assert_eq!(store.durable(), Index(209));
    }
    drop((store, machine));
    let store = durable(dir.path());
    let mut machine = Machine::new(store.clone());
    assert_eq!((machine.applied(), store.durable()), (Index(209), Index(209)));
    goes_on(&store, &mut machine, totals);
    drop((store, machine));
    assert_eq!(keyspaces(dir.path()), ["meta", "pairs-2"], "the pairs of states before are gone");
}

fn keyspaces(dir: &Path) -> Vec<String> {
    let database = fjall::Database::builder(dir).open().unwrap();
    let mut names: Vec<String> = database.list_keyspace_names().iter().map(|name| name.to_string()).collect();
    names.sort();
    names
}

/// Reads an image in small pieces, and each time copies the directory: what a process leaves that is killed there.
struct Watched {
    image: io::Cursor<Vec<u8>>,
    dir: PathBuf,
    copies: PathBuf,
}

impl Read for Watched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = out.len().min(6000);
        let count = self.image.read(&mut out[..step])?;
        copy(&self.dir, &self.copies.join(self.image.position().to_string()));
        Ok(count)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if fs::copy(entry.path(), to).is_err() {
            // Removed meanwhile, by the engine's own thread.
        }
    }
}

/// Killed anywhere on the way, it comes back with the old state, whole; and when all is done, with the new one.
#[test]
fn a_process_killed_while_it_restores_has_the_old_state_or_the_new_one() {
    let (totals, image) = made(&(Arc::new(Memory::new()) as Arc<dyn Store>));
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = durable(dir.path());
    let (mut machine, before) = stale(&store);
    let (watched, into, bytes) = (dir.path().to_owned(), copies.path().to_owned(), image.clone());
    let open = move || Watched { image: io::Cursor::new(bytes.clone()), dir: watched.clone(), copies: into.clone() };
    machine.restore(&files(209, open)).unwrap();
    let after = copies.path().join("after");
    copy(dir.path(), &after);

    let (mut killed, mut left) = (0, 0);
    for copy in fs::read_dir(copies.path()).unwrap().map(|copy| copy.unwrap().path()).filter(|copy| *copy != after) {
        left += usize::from(keyspaces(&copy).len() > 2);
        drop(durable(&copy));
        assert_eq!(keyspaces(&copy), ["meta", "pairs"], "what was left is gone");
        let store = durable(&copy);
        assert_eq!((store.totals(), store.count().unwrap()), (before, before), "{}", copy.display());
        let mut machine = Machine::new(store.clone());
        assert_eq!(machine.applied(), before.applied);
        machine.restore(&snapshot(209, image.clone())).unwrap();
        goes_on(&store, &mut machine, totals);
        killed += 1;
    }
    assert!(killed >= 3 && left >= 3, "{killed} times, {left} with half a snapshot");
    let store = durable(&after);
    goes_on(&store, &mut Machine::new(store.clone()), totals);
}
