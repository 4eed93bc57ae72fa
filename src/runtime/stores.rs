//! Which store belongs to which peer, on disk.
//!
//! A node that comes back with an empty directory under its old id would vote twice. Its peers notice: each remembers,
//! for good, the first store id it saw for every node, and refuses any other.
//!
//! The file `peers` is text, one line per peer (`n2 6f1c..`, 32 hexadecimal digits), after a line that names the format
//! and before one with the CRC-32C of all before it. It is replaced as a whole (write beside, sync, rename, sync the
//! directory), so it is either the old one or the new one.

use slog::{Logger, crit, info};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::node_error::StoresError;
use crate::sync::{Arc, Mutex};
use crate::transport::{PeerStores, StoreReplaced};
use crate::types::{NodeId, StoreId};
use crate::wal::Fs;

const NAME: &str = "peers";
const BESIDE: &str = "peers.new";
const FORMAT: &str = "tenure peers 1";

/// The stores seen so far, kept in a node's directory.
pub(super) struct KnownStores {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    stores: Mutex<Stores>,
    logger: Logger,
}

struct Stores {
    known: BTreeMap<NodeId, StoreId>,
    /// The last one of each known node that was refused: who keeps trying is reported once.
    refused: BTreeMap<NodeId, StoreId>,
}

impl KnownStores {
    /// Reads what is known; nothing if there is no file yet.
    pub(super) fn open(fs: Arc<dyn Fs>, dir: &Path, logger: Logger) -> Result<Self, StoresError> {
        let path = dir.join(NAME);
        let known = match read(&*fs, &path) {
            Ok(bytes) => parse_bytes(&bytes).map_err(|line| StoresError::Damaged { path, line })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(StoresError::Io { path, error }),
        };
        let stores = Mutex::new(Stores { known, refused: BTreeMap::new() });
        Ok(Self { fs, dir: dir.to_path_buf(), stores, logger })
    }

    fn save(&self, known: &BTreeMap<NodeId, StoreId>) -> io::Result<()> {
        let beside = self.dir.join(BESIDE);
        let file = self.fs.create(&beside)?;
        file.pwrite(render(known).as_bytes(), 0)?;
        file.sync_data()?;
        self.fs.rename(&beside, &self.dir.join(NAME))?;
        self.fs.sync_dir(&self.dir)
    }
}

fn read(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
    file.pread(&mut bytes, 0)?;
    Ok(bytes)
}

impl PeerStores for KnownStores {
    fn check(&self, node: NodeId, store: StoreId) -> Result<(), StoreReplaced> {
        let mut stores = self.stores.lock();
        match stores.known.get(&node).copied() {
            Some(known) if known == store => Ok(()),
            Some(known) => {
                let news = stores.refused.insert(node, store) != Some(store);
                drop(stores);
                if news {
                    crit!(self.logger, "a peer came with another store than before: refused";
                        "peer" => %node, "known" => %known, "found" => %store);
                }
                Err(StoreReplaced { node, known, found: store })
            }
            None => {
                stores.known.insert(node, store);
                // Under the lock: what is saved last is what is known.
                let saved = self.save(&stores.known);
                drop(stores);
                info!(self.logger, "first seen"; "peer" => %node, "store" => %store);
                if let Err(error) = saved {
                    // Remembered until the restart at least; refusing the peer would not help anybody.
                    crit!(self.logger, "the store of a peer cannot be remembered on disk";
                        "peer" => %node, "file" => %self.dir.join(NAME).display(), "error" => %error);
                }
                Ok(())
            }
        }
    }
}

fn render(known: &BTreeMap<NodeId, StoreId>) -> String {
    let mut text = format!("{FORMAT}\n");
    for (node, store) in known {
        let _ = writeln!(text, "{node} {store}");
    }
    let crc = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "crc {crc:08x}");
    text
}

fn parse_bytes(bytes: &[u8]) -> Result<BTreeMap<NodeId, StoreId>, usize> {
    parse(std::str::from_utf8(bytes).map_err(|_| 1_usize)?)
}

/// The reverse of [`render`], or the first bad line.
fn parse(text: &str) -> Result<BTreeMap<NodeId, StoreId>, usize> {
    let lines = text.lines().count();
    let mut known = BTreeMap::new();
    for (number, line) in text.lines().enumerate().take(lines.saturating_sub(1)) {
        match (number, store_of(line)) {
            (0, _) if line == FORMAT => {}
            (1.., Some((node, store))) => drop(known.insert(node, store)),
            _ => return Err(number + 1),
        }
    }
    // Whatever is not written exactly as it would be written now is damage: order, case, checksum, the end.
    if render(&known) == text { Ok(known) } else { Err(lines.max(1)) }
}

fn store_of(line: &str) -> Option<(NodeId, StoreId)> {
    let (node, store) = line.strip_prefix('n')?.split_once(' ')?;
    Some((NodeId(node.parse().ok()?), StoreId(u128::from_str_radix(store, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};
    use crate::wal::RealFs;
    use quickcheck::quickcheck;

    fn open(dir: &Path) -> Result<KnownStores, StoresError> {
        open_with(dir, Logger::root(slog::Discard, slog::o!()))
    }

    fn open_with(dir: &Path, logger: Logger) -> Result<KnownStores, StoresError> {
        KnownStores::open(Arc::new(RealFs), dir, logger)
    }

    /// Counts what is logged at crit.
    #[derive(Clone, Default)]
    struct Crits(Arc<AtomicUsize>);

    impl slog::Drain for Crits {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
            self.0.fetch_add(usize::from(record.level() == slog::Level::Critical), Ordering::Relaxed);
            Ok(())
        }
    }

    /// A peer dials again and again; an operator needs to hear of it once.
    #[test]
    fn a_replaced_store_is_reported_once() {
        let (dir, crits) = (tempfile::tempdir().unwrap(), Crits::default());
        let stores = open_with(dir.path(), Logger::root(crits.clone(), slog::o!())).unwrap();
        stores.check(NodeId(2), StoreId(7)).unwrap();
        for _ in 0..5 {
            assert!(stores.check(NodeId(2), StoreId(8)).is_err());
        }
        assert_eq!(crits.0.load(Ordering::Relaxed), 1);
        assert!(stores.check(NodeId(2), StoreId(9)).is_err());
        assert_eq!(crits.0.load(Ordering::Relaxed), 2, "another store is another story");
    }

    /// The first store seen counts, also after a restart.
    #[test]
    fn a_replaced_store_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (peer, first, second) = (NodeId(2), StoreId(7), StoreId(8));
        {
            let stores = open(dir.path()).unwrap();
            assert_eq!(stores.check(peer, first), Ok(()));
            assert_eq!(stores.check(peer, first), Ok(()));
            assert!(stores.check(peer, second).is_err());
        }
        let stores = open(dir.path()).unwrap();
        assert_eq!(stores.check(peer, second), Err(StoreReplaced { node: peer, known: first, found: second }));
        assert_eq!(stores.check(peer, first), Ok(()));
        assert_eq!(stores.check(NodeId(3), second), Ok(()));
    }

    #[test]
    fn every_flipped_bit_of_the_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().check(NodeId(2), StoreId(7)).unwrap();
        let path = dir.path().join(NAME);
        let write = |bytes: &[u8]| RealFs.create(&path).unwrap().pwrite(bytes, 0).unwrap();
        let good = read(&RealFs, &path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            write(&bad);
            assert!(matches!(open(dir.path()), Err(StoresError::Damaged { .. })), "bit {bit}");
        }
        write(&good[..good.len() / 2]);
        assert!(open(dir.path()).is_err());
    }

    quickcheck! {
        fn what_is_rendered_is_parsed(stores: BTreeMap<u64, u128>) -> bool {
            let known: BTreeMap<_, _> = stores.into_iter().map(|(node, store)| (NodeId(node), StoreId(store))).collect();
            parse(&render(&known)) == Ok(known)
        }

        fn parsing_never_panics(text: String) -> bool {
            parse(&text).is_err()
        }
    }
}
