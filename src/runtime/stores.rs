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
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::node_error::StoresError;
use crate::sync::Mutex;
use crate::transport::{PeerStores, StoreReplaced};
use crate::types::{NodeId, StoreId};

const NAME: &str = "peers";
const FORMAT: &str = "tenure peers 1";

/// The stores seen so far, kept in a node's directory.
pub(super) struct KnownStores {
    path: PathBuf,
    known: Mutex<BTreeMap<NodeId, StoreId>>,
    logger: Logger,
}

impl KnownStores {
    /// Reads what is known; nothing if there is no file yet.
    pub(super) fn open(dir: &Path, logger: Logger) -> Result<Self, StoresError> {
        let path = dir.join(NAME);
        let known = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).map_err(|line| StoresError::Damaged { path: path.clone(), line })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StoresError::Damaged { path, line: 1 });
            }
            Err(error) => return Err(StoresError::Io { path, error }),
        };
        Ok(Self { path, known: Mutex::new(known), logger })
    }

    fn save(&self, known: &BTreeMap<NodeId, StoreId>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(render(known).as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        match self.path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl PeerStores for KnownStores {
    fn check(&self, node: NodeId, store: StoreId) -> Result<(), StoreReplaced> {
        let mut stores = self.known.lock();
        match stores.get(&node) {
            Some(known) if *known == store => Ok(()),
            Some(known) => {
                crit!(self.logger, "a peer came with another store than before: refused";
                    "peer" => %node, "known" => %known, "found" => %store);
                Err(StoreReplaced { node, known: *known, found: store })
            }
            None => {
                stores.insert(node, store);
                info!(self.logger, "first seen"; "peer" => %node, "store" => %store);
                if let Err(error) = self.save(&stores) {
                    // Remembered until the restart at least; refusing the peer would not help anybody.
                    crit!(self.logger, "the store of a peer cannot be remembered on disk";
                        "peer" => %node, "file" => %self.path.display(), "error" => %error);
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
    use quickcheck::quickcheck;

    fn open(dir: &Path) -> Result<KnownStores, StoresError> {
        KnownStores::open(dir, Logger::root(slog::Discard, slog::o!()))
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
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(matches!(open(dir.path()), Err(StoresError::Damaged { .. })), "bit {bit}");
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
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
