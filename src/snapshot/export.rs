//! A snapshot as one file, for backups.
//!
//! ```text
//!  0       8         12               16
//!  | magic | version | manifest bytes | manifest | the files' bytes, in the manifest's order
//! ```
//!
//! The manifest has the checksums of every chunk, the digest of every file and of itself, so nothing else needs any.

use std::io::{self, Read, Write};

use super::error::SnapshotError;
use super::make::{Writer, fill};
use super::manifest::{About, MANIFEST_BYTES_MAX, Malformed, Manifest};
use super::read::Snapshot;
use super::store::SnapshotStore;
use crate::types::{EntryId, Index, Term};
use bytes::Bytes;

const MAGIC: [u8; 8] = *b"TENUREXP";
const HEADER_BYTES: usize = 16;
/// The format version that this code writes and reads.
const VERSION: u32 = 1;

/// As what a snapshot is imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportAs {
    /// As what it was: the same cluster and group.
    Itself,
    /// As the beginning of another cluster or group, in which it is the first entry: what the old one was, and who was in
    /// it, is forgotten. That entry's term follows from the export, so that founders who were given different ones do not
    /// take each other's logs for their own.
    Founding {
        /// The bytes of the new group's configuration.
        configuration: Bytes,
    },
}

impl Snapshot {
    /// Writes everything to `out`, which needs no buffer. Verifies what it reads on the way. Blocks; `go_on` is asked before
    /// every chunk.
    ///
    /// # Errors
    /// [`SnapshotError`]; what was written to `out` by then is of no use, and an import refuses it.
    pub fn export(&self, out: &mut dyn Write, go_on: &dyn Fn() -> bool) -> Result<(), SnapshotError> {
        let manifest = self.manifest();
        let failed = SnapshotError::Export;
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        // Below MANIFEST_BYTES_MAX.
        header[12..].copy_from_slice(&(manifest.encoded().len() as u32).to_le_bytes());
        out.write_all(&header).and_then(|()| out.write_all(manifest.encoded())).map_err(failed)?;
        for (number, file) in manifest.files().iter().enumerate() {
            for chunk in 0..file.chunks() {
                if !go_on() {
                    return Err(SnapshotError::Stopped);
                }
                let bytes = self.read_chunk(number, chunk)?.unwrap_or_default();
                out.write_all(&bytes).map_err(failed)?;
            }
        }
        out.flush().map_err(failed)
    }
}

impl SnapshotStore {
    /// Takes over what [`Snapshot::export`] wrote, durably. Blocks; `go_on` is asked before every chunk. `created_ms` is the
    /// time of a new beginning, for people to read.
    ///
    /// # Errors
    /// [`SnapshotError`]: `Malformed`, `Export` or `Source` if it is no whole export, `Foreign` if it belongs elsewhere and was to
    /// stay itself, `Stale` if there is one that goes as far. Then everything is as before.
    pub fn import(
        &self,
        from: &mut dyn Read,
        import_as: ImportAs,
        created_ms: u64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Snapshot, SnapshotError> {
        let exported = read_manifest(from)?;
        let config = self.config();
        let manifest = match import_as {
            ImportAs::Itself => exported,
            ImportAs::Founding { configuration } => {
                let last = first_entry(&exported);
                let configuration = (last.index, configuration);
                let (cluster, group, maker) = (config.cluster.clone(), config.group, config.node);
                exported.renamed(About { cluster, group, last, configuration, maker, created_ms })?
            }
        };
        let making = self.shared().begin_making()?;
        making.shared().belongs(&manifest)?;
        making.shared().newer(&manifest)?;
        let writer = Writer { making: &making, chunk_bytes: manifest.chunk_bytes(), go_on };
        for file in manifest.files() {
            let temporary = making.shared().temporary();
            let mut content = from.take(file.bytes);
            let (bytes, digest, checksums) = writer.copy(&file.name, &mut content, &temporary)?;
            if (bytes, digest, &checksums) != (file.bytes, file.digest, &file.checksums) {
                return Err(not_an_export(&format!("{} is not what the manifest says", file.name)));
            }
            making.file_made(&temporary, digest)?;
        }
        if fill(from, &mut [0]).map_err(SnapshotError::Export)? > 0 {
            return Err(not_an_export("there are bytes after its end"));
        }
        making.commit(manifest)
    }
}

/// The entry that a group begins with whose state is this export. A group that begins with nothing begins in term 1.
fn first_entry(exported: &Manifest) -> EntryId {
    let [a, b, c, d, ..] = exported.id().0;
    EntryId { index: Index(1), term: Term(2 + u64::from(u32::from_le_bytes([a, b, c, d]))) }
}

fn read_manifest(from: &mut dyn Read) -> Result<Manifest, SnapshotError> {
    let failed = SnapshotError::Export;
    let mut header = [0; HEADER_BYTES];
    from.read_exact(&mut header).map_err(failed)?;
    if header[..8] != MAGIC {
        return Err(not_an_export("it begins with something else"));
    }
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if number(8) != VERSION {
        return Err(Malformed::Version(number(8)).into());
    }
    let length = number(12) as usize;
    if length > MANIFEST_BYTES_MAX {
        let (found, most) = (length as u64, MANIFEST_BYTES_MAX as u64);
        return Err(Malformed::TooMuch { what: "bytes of a manifest", found, most }.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).map_err(failed)?;
    Ok(Manifest::decode(bytes.into())?)
}

fn not_an_export(why: &str) -> SnapshotError {
    SnapshotError::Export(io::Error::new(io::ErrorKind::InvalidData, why))
}
