//! How a cluster begins with a backup of another.
//!
//! That is said to `kv init`, not to `kv serve`. A directory is founded once and refuses to be founded again; a flag of `serve`
//! would be forgotten at the first start, or still stand there at all later ones. The note is durable before the directory
//! is founded: from then on the node restores the backup before it does anything else, or does not start. Once the group is on
//! disk, nobody looks at the note any more.
//!
//! All founders have to begin with the same. The engine could not tell: their logs would begin alike whatever the state below,
//! and they would differ for good. So the checksum of the backup becomes part of the cluster's name. Who was founded from
//! another file, or from none, is of another cluster, and so are the nodes of the old one: they are refused.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tenure::snapshot::{ImportAs, SnapshotStore, StoreConfig};
use tenure::types::{ClusterId, NodeId};
use tenure::wal::RealFs;

use super::note;
use super::serve::GROUP;

/// The note: the path of the backup.
const NOTE: &str = "restore";

/// Notes durably that the node to be founded in `dir` begins with this backup, after it was read to its end. Returns the name
/// of the new cluster.
///
/// # Errors
/// Why it cannot be, in words. Nothing was noted.
pub(crate) fn prepare(dir: &Path, name: &ClusterId, backup: &Path) -> Result<ClusterId, String> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let dir = dir.display();
        return Err(format!("{dir} is not empty: a node that begins with a backup needs a directory of its own"));
    }
    let no_backup = |why: &dyn std::fmt::Display| format!("{} is no backup that is whole: {why}", backup.display());
    let path = fs::canonicalize(backup).map_err(|error| no_backup(&error))?;
    let mut file = File::open(&path).map_err(|error| no_backup(&error))?;
    let name = named(name, checksum(&mut file).map_err(|error| no_backup(&error))?)?;
    let failed = |error: io::Error| format!("cannot found {}: {error}", dir.display());
    note::make_dir(dir).map_err(failed)?;
    verify(dir, &name, &mut file).map_err(|error| no_backup(&error))?;
    note::write(dir, NOTE, path.as_os_str().as_bytes()).map_err(failed)?;
    Ok(name)
}

/// The backup that the node in `dir` begins with, if it does.
pub(crate) fn noted(dir: &Path) -> io::Result<Option<PathBuf>> {
    Ok(note::read(dir, NOTE)?.map(|path| PathBuf::from(OsStr::from_bytes(&path))))
}

/// Opens the backup with which a node of this cluster begins.
///
/// # Errors
/// In words, if it is not there or not the one that the node was founded for.
pub(crate) fn open(backup: &Path, cluster: &ClusterId) -> Result<File, String> {
    let path = backup.display();
    let opened = File::open(backup).and_then(|mut file| Ok((checksum(&mut file)?, file)));
    let (sum, file) = opened.map_err(|error| {
        format!("this node begins with the backup {path}, which cannot be read; put it there again: {error}")
    })?;
    if !cluster.as_str().ends_with(&suffix(sum)) {
        return Err(format!(
            "{path} is not the backup that this node of cluster {cluster} was founded for; put that one there"
        ));
    }
    Ok(file)
}

fn suffix(checksum: u32) -> String {
    format!("-{checksum:08x}")
}

fn named(name: &ClusterId, checksum: u32) -> Result<ClusterId, String> {
    let longer = format!("{name}{}", suffix(checksum));
    ClusterId::new(longer).map_err(|error| format!("a shorter --cluster, its checksum follows it: {error}"))
}

/// Of the whole file, which is at its beginning afterwards.
fn checksum(file: &mut File) -> io::Result<u32> {
    let (mut sum, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => sum = crc32c::crc32c_append(sum, &piece[..length]),
        }
    }
    file.rewind()?;
    Ok(sum)
}

/// Whether it can be restored is known for certain when it was imported once, so that is done, to be thrown away.
fn verify(dir: &Path, cluster: &ClusterId, file: &mut File) -> Result<(), Box<dyn std::error::Error>> {
    let trial = dir.join("trial");
    let imported = (|| {
        let config = StoreConfig::new(cluster.clone(), GROUP, NodeId(1));
        let beginning = ImportAs::Founding { configuration: Bytes::new() };
        SnapshotStore::open(Arc::new(RealFs), &trial, config)?.import(file, beginning, 0, &|| true)?;
        Ok(())
    })();
    let removed = fs::remove_dir_all(&trial);
    imported.and_then(|()| Ok(removed?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_another_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let backup = dir.path().join("backup");
        let name = ClusterId::new("shop").unwrap();
        fs::write(&backup, "one").unwrap();
        let one = named(&name, checksum(&mut File::open(&backup).unwrap()).unwrap()).unwrap();
        assert!(open(&backup, &one).is_ok());
        assert!(open(&backup, &name).is_err_and(|why| why.contains("is not the backup")));
        fs::write(&backup, "two").unwrap();
        assert!(open(&backup, &one).is_err_and(|why| why.contains("put that one there")));
        assert!(named(&ClusterId::new("x".repeat(60)).unwrap(), 1).is_err_and(|why| why.contains("shorter --cluster")));
    }
}
