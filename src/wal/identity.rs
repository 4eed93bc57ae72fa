//! Who a directory belongs to, written once when it is founded.
//!
//! Founding also begins segment 1, which holds nothing but its header. From then on there is never a directory with
//! an identity and without a segment, so a log that somebody deleted is noticed instead of starting afresh, which
//! would forget votes.

use std::io;
use std::path::Path;

use crate::types::{ClusterId, NodeId, StoreId};
use crate::wal::codec::Fields;
use crate::wal::error::{Damage, WalError};
use crate::wal::fs::{self, Fs};
use crate::wal::segment::{self, BLOCK, SegmentHeader};

/// The identity file's name.
const NAME: &str = "identity";
const TEMPORARY: &str = "identity.tmp";
const MAGIC: [u8; 8] = *b"TENUREID";
/// The format of this file; it has not changed with that of the log.
const VERSION: u32 = 1;
const BYTES: usize = 112;

/// Who a node's directory belongs to. Never changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// A random number made with the directory: the same node with another one is another disk.
    pub store: StoreId,
}

/// Founds a node's directory: makes it if need be and writes its identity, atomically and durably. Blocks.
///
/// A crash on the way leaves a directory that is not founded and may be founded again.
///
/// # Errors
/// [`WalError::AlreadyFounded`] if there is an identity, or a log whose identity is gone; [`WalError::Locked`] if
/// somebody else is at work there; [`WalError::Io`].
pub fn found(fs: &dyn Fs, dir: &Path, identity: &Identity) -> Result<(), WalError> {
    let missing = fs::missing_levels(fs, dir).map_err(WalError::io("looking for", dir))?;
    fs.create_dir(dir).map_err(WalError::io("making", dir))?;
    let _lock = lock(fs, dir)?;
    refuse_founded(fs, dir)?;
    found_log(fs, dir, identity.store)?;
    let (temporary, path) = (dir.join(TEMPORARY), dir.join(NAME));
    let file = fs.create(&temporary).map_err(WalError::io("creating", &temporary))?;
    file.pwrite(&encode(identity), 0).map_err(WalError::io("writing", &temporary))?;
    file.sync_data().map_err(WalError::io("syncing", &temporary))?;
    fs.rename(&temporary, &path).map_err(WalError::io("renaming", &temporary))?;
    fs.sync_dir(dir).map_err(WalError::io("syncing", dir))?;
    // The directory itself must be found again after a power cut, and so must those above it that were made with it.
    for parent in fs::parents_of_new(dir, missing) {
        fs.sync_dir(parent).map_err(WalError::io("syncing", parent))?;
    }
    Ok(())
}

/// Reads who a directory belongs to.
///
/// # Errors
/// [`WalError::NotFounded`] if it never was founded; [`WalError::Damaged`], [`WalError::Unsupported`] if the file is
/// no identity of this version; [`WalError::Io`].
pub fn identity(fs: &dyn Fs, dir: &Path) -> Result<Identity, WalError> {
    let path = dir.join(NAME);
    let file = match fs.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(WalError::NotFounded { dir: dir.to_path_buf() });
        }
        opened => opened.map_err(WalError::io("opening", &path))?,
    };
    let damaged = || WalError::damaged(&path, 0, Damage::Identity);
    if file.length().map_err(WalError::io("reading", &path))? != BYTES as u64 {
        return Err(damaged());
    }
    let mut bytes = [0; BYTES];
    file.pread(&mut bytes, 0).map_err(WalError::io("reading", &path))?;
    match decode(&bytes).ok_or_else(damaged)? {
        Ok(identity) => Ok(identity),
        Err(found) => {
            let what = format!("an identity of version {found}");
            Err(WalError::Unsupported { file: path, offset: 8, what, found, supported: VERSION })
        }
    }
}

/// Takes the directory's lock. Never waits.
pub(super) fn lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn super::fs::Lock>, WalError> {
    let path = dir.join("lock");
    let lock = fs.lock(&path).map_err(WalError::io("locking", &path))?;
    lock.ok_or_else(|| WalError::Locked { dir: dir.to_path_buf() })
}

fn refuse_founded(fs: &dyn Fs, dir: &Path) -> Result<(), WalError> {
    let names = fs.list(dir).map_err(WalError::io("listing", dir))?;
    let refuse = |found: String| Err(WalError::AlreadyFounded { dir: dir.to_path_buf(), found });
    if names.iter().any(|name| name == NAME) {
        return match identity(fs, dir) {
            Ok(held) => refuse(format!("{} of cluster {}, store {}", held.node, held.cluster, held.store)),
            Err(error) => refuse(format!("an identity that cannot be read ({error})")),
        };
    }
    // Segment 1 without an identity is a founding that was cut short; more is a log that lost its identity.
    match names.iter().filter_map(|name| segment::seq_of(name)).max() {
        Some(seq) if seq > 1 => refuse(format!("a log of {seq} segments without an identity")),
        _ => Ok(()),
    }
}

fn found_log(fs: &dyn Fs, dir: &Path, store: StoreId) -> Result<(), WalError> {
    let header = SegmentHeader {
        version: segment::VERSION,
        reused: false,
        store,
        seq: 1,
        oldest_seq: 1,
        first_lsn: 1,
        file_bytes: BLOCK,
        previous_end: 0,
        groups: Default::default(),
    };
    let temporary = dir.join("founding.tmp");
    let file = fs.create(&temporary).map_err(WalError::io("creating", &temporary))?;
    segment::begin(fs, dir, &*file, &temporary, &header)
}

fn encode(identity: &Identity) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let name = identity.cluster.as_str().as_bytes();
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&identity.store.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&identity.node.0.to_le_bytes());
    bytes[40..44].copy_from_slice(&(name.len() as u32).to_le_bytes());
    bytes[44..44 + name.len()].copy_from_slice(name);
    let checksum = checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The identity, or the version it has instead of ours; `None` if it is damaged.
fn decode(bytes: &[u8; BYTES]) -> Option<Result<Identity, u32>> {
    let mut fields = Fields(bytes);
    let (magic, version, stored) = (fields.bytes::<8>()?, fields.u32()?, fields.u32()?);
    if magic != MAGIC || stored != checksum(bytes) {
        return None;
    }
    if version != VERSION {
        return Some(Err(version));
    }
    let (store, node) = (StoreId(fields.u128()?), NodeId(fields.u64()?));
    let (name_bytes, name) = (fields.u32()? as usize, fields.bytes::<{ ClusterId::MAX_BYTES }>()?);
    let name = std::str::from_utf8(name.get(..name_bytes)?).ok()?;
    Some(Ok(Identity { cluster: ClusterId::new(name).ok()?, node, store }))
}

/// Over everything but the checksum's own four bytes.
fn checksum(bytes: &[u8; BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Arc, Mutex};
    use crate::wal::fs::{File, Lock, RealFs};
    use std::path::PathBuf;

    fn ours(name: &str) -> Identity {
        Identity { cluster: ClusterId::new(name).unwrap(), node: NodeId(3), store: StoreId(1 << 100 | 9) }
    }

    #[test]
    fn identities_survive_encoding_and_flips_are_seen() {
        for identity in [ours("a"), ours(&"x".repeat(64))] {
            let bytes = encode(&identity);
            assert_eq!(decode(&bytes), Some(Ok(identity)));
            for at in 0..bytes.len() {
                let mut bytes = bytes;
                bytes[at] ^= 0x10;
                assert_eq!(decode(&bytes), None, "byte {at}");
            }
        }
    }

    /// The real file system; notes which directories are synced.
    #[derive(Default)]
    struct Noting(Mutex<Vec<PathBuf>>);

    impl Fs for Noting {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            RealFs.create_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            RealFs.list(dir)
        }
        fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
            RealFs.create(path)
        }
        fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
            RealFs.open(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealFs.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            RealFs.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.0.lock().push(dir.to_path_buf());
            RealFs.sync_dir(dir)
        }
        fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
            RealFs.lock(path)
        }
    }

    /// A power cut must not take a directory that founding made, at whatever depth.
    #[test]
    fn every_directory_that_was_made_is_synced_in_its_parent() {
        let root = tempfile::tempdir().unwrap();
        let (fs, dir) = (Noting::default(), root.path().join("a/b/c"));
        found(&fs, &dir, &ours("x")).unwrap();
        let synced = fs.0.into_inner();
        for parent in ["", "a", "a/b"].map(|parent| root.path().join(parent)) {
            assert!(synced.contains(&parent), "{} in {synced:?}", parent.display());
        }
        assert!(!synced.iter().any(|dir| Some(&**dir) == root.path().parent()), "{synced:?}");
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = encode(&ours("a"));
        bytes[8] = 2;
        let sum = checksum(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(&bytes), Some(Err(2)));
    }
}
