//! What a snapshot consists of, and how to tell that it is all there.
//!
//! ```text
//!  0       8         12              16            20            24
//!  | magic | version | control bytes | table bytes | file count  | control (protobuf) | table | digest of all before
//!
//!  table, per file:  | name bytes u16 | name | bytes u64 | digest 32 | crc32c u32 of each chunk |
//! ```
//!
//! The last 32 bytes are a digest of all others and the name of the snapshot, its [`SnapshotId`]: who asks for a snapshot
//! by its id cannot be given another, and two nodes that have a snapshot of one id have the same one.
//!
//! The manifest has a checksum of every chunk. So each piece of a file can be judged alone, where it is read and where
//! it is received; and whatever lies on a disk after a crash is taken for what it is, not for what somebody noted
//! about it.

use std::fmt;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;

use super::digest::Digest;
use super::name;
use crate::types::{ClusterId, EntryId, GroupId, Index, NodeId};

/// The longest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 16 << 20;
/// The most files in a snapshot.
pub const FILES_MAX: usize = 65_536;
/// The longest configuration, in bytes.
pub const CONFIGURATION_BYTES_MAX: usize = 1 << 20;
/// The smallest and largest chunk, in bytes.
pub const CHUNK_BYTES: std::ops::RangeInclusive<u32> = 512..=1 << 20;
/// The format version that this code writes and reads.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"TENURESN";
const HEADER_BYTES: usize = 24;
/// The name of the only file of a snapshot that is a stream.
const STREAM: &str = "stream";

/// Names a snapshot by its content.
pub type SnapshotId = Digest;

/// What a snapshot is a snapshot of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The last entry whose effect is in it.
    pub last: EntryId,
    /// The configuration in use as of `last`: where it stands in the log, and its bytes.
    pub configuration: (Index, Bytes),
    /// The node that made it.
    pub maker: NodeId,
    /// When it was made, in milliseconds since 1970 on the maker's clock. For people; nothing follows from it.
    pub created_ms: u64,
}

/// What a state machine gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One stream of bytes.
    Stream,
    /// A set of files.
    Files,
}

/// What a snapshot consists of. Well formed by construction.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    id: SnapshotId,
    about: About,
    form: Form,
    chunk_bytes: u32,
    files: Vec<ManifestFile>,
    bytes: u64,
    encoded: Bytes,
}

/// One file of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestFile {
    /// Its name inside the snapshot.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The digest of its content.
    pub digest: Digest,
    /// The checksum of each chunk, 4 bytes each, little endian.
    pub checksums: Bytes,
}

/// A piece of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Where it begins.
    pub offset: u64,
    /// How long it is: all but the last of a file have the same length.
    pub length: u32,
    /// Its crc32c.
    pub checksum: u32,
}

/// Why bytes or files are no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The digest at the end is not that of what stands before it, or there is not enough for one.
    #[error("the manifest is damaged: its digest is wrong")]
    Digest,
    /// Something else than a manifest.
    #[error("this is no manifest")]
    Magic,
    /// Of another version.
    #[error("a manifest of version {0}, this node reads version {VERSION}")]
    Version(u32),
    /// The parts do not fill the whole.
    #[error("{0} of the manifest has another length than it says")]
    Length(&'static str),
    /// The control part is not protobuf, or a value cannot be.
    #[error("the control part of the manifest: {0}")]
    Control(String),
    /// More than there may be.
    #[error("{what}: {found}, at most {most} are allowed")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// A file's name could lead out of a directory.
    #[error("{0:?} is no name for a file of a snapshot")]
    Name(String),
    /// Two files of one name, or one whose name is a directory of another; or, in bytes, names out of order.
    #[error("the files' names are not in order, or in each other's way")]
    Names,
    /// The chunks are smaller or larger than allowed.
    #[error("chunks of {0} bytes")]
    ChunkBytes(u32),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Control {
    #[prost(uint64, tag = "1")]
    group: u64,
    #[prost(string, tag = "2")]
    cluster: String,
    #[prost(uint64, tag = "3")]
    last_index: u64,
    #[prost(uint64, tag = "4")]
    last_term: u64,
    #[prost(uint64, tag = "5")]
    configuration_index: u64,
    #[prost(bytes = "bytes", tag = "6")]
    configuration: Bytes,
    #[prost(uint64, tag = "7")]
    maker: u64,
    #[prost(uint64, tag = "8")]
    created_ms: u64,
    #[prost(uint32, tag = "9")]
    chunk_bytes: u32,
    /// 1: a stream, 2: files.
    #[prost(uint32, tag = "10")]
    form: u32,
}

impl Manifest {
    /// The manifest of these files, in any order.
    ///
    /// # Errors
    /// [`Malformed`] if names or sizes cannot be.
    pub fn new(about: About, form: Form, chunk_bytes: u32, mut files: Vec<ManifestFile>) -> Result<Self, Malformed> {
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let table_bytes: usize = files.iter().map(ManifestFile::encoded_bytes).sum();
        let control = Control {
            group: about.group.0,
            cluster: about.cluster.as_str().into(),
            last_index: about.last.index.0,
            last_term: about.last.term.0,
            configuration_index: about.configuration.0.0,
            configuration: about.configuration.1.clone(),
            maker: about.maker.0,
            created_ms: about.created_ms,
            chunk_bytes,
            form: if form == Form::Stream { 1 } else { 2 },
        };
        at_most("bytes of a configuration", control.configuration.len(), CONFIGURATION_BYTES_MAX)?;
        let whole = HEADER_BYTES + control.encoded_len() + table_bytes + Digest::BYTES;
        at_most("bytes of a manifest", whole, MANIFEST_BYTES_MAX)?;
        let mut encoded = Vec::with_capacity(whole);
        encoded.put_slice(&MAGIC);
        encoded.put_u32_le(VERSION);
        // All three are far below 4 GiB: the whole is below MANIFEST_BYTES_MAX.
        encoded.put_u32_le(control.encoded_len() as u32);
        encoded.put_u32_le(table_bytes as u32);
        encoded.put_u32_le(files.len() as u32);
        control.encode_raw(&mut encoded);
        files.iter().for_each(|file| file.encode(&mut encoded));
        let id = Digest::of(&encoded);
        encoded.put_slice(&id.0);
        Self { id, about, form, chunk_bytes, files, bytes: 0, encoded: encoded.into() }.checked()
    }

    /// Reads a manifest. Takes memory in proportion to `bytes`, which are kept.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        at_most("bytes of a manifest", bytes.len(), MANIFEST_BYTES_MAX)?;
        let (front, digest) = bytes.split_last_chunk::<{ Digest::BYTES }>().ok_or(Malformed::Digest)?;
        let id = Digest(*digest);
        let mut header = front.get(..HEADER_BYTES).ok_or(Malformed::Digest)?;
        if Digest::of(front) != id {
            return Err(Malformed::Digest);
        }
        if header[..MAGIC.len()] != MAGIC {
            return Err(Malformed::Magic);
        }
        header.advance(MAGIC.len());
        let version = header.get_u32_le();
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let [control_bytes, table_bytes, count] = [(); 3].map(|()| header.get_u32_le() as usize);
        let body = bytes.slice(HEADER_BYTES..front.len());
        if control_bytes.checked_add(table_bytes) != Some(body.len()) {
            return Err(Malformed::Length("the body"));
        }
        at_most("files", count, FILES_MAX)?;
        let control =
            Control::decode(body.slice(..control_bytes)).map_err(|error| Malformed::Control(error.to_string()))?;
        let files = decode_table(body.slice(control_bytes..), count, control.chunk_bytes)?;
        let form = match control.form {
            1 => Form::Stream,
            2 => Form::Files,
            other => return Err(Malformed::Control(format!("a snapshot of form {other}"))),
        };
        let chunk_bytes = control.chunk_bytes;
        Self { id, about: control.about()?, form, chunk_bytes, files, bytes: 0, encoded: bytes }.checked()
    }

    fn checked(mut self) -> Result<Self, Malformed> {
        at_most("files", self.files.len(), FILES_MAX)?;
        at_most("bytes of a configuration", self.about.configuration.1.len(), CONFIGURATION_BYTES_MAX)?;
        if !CHUNK_BYTES.contains(&self.chunk_bytes) {
            return Err(Malformed::ChunkBytes(self.chunk_bytes));
        }
        for file in &self.files {
            if !name::is_safe(&file.name) {
                return Err(Malformed::Name(file.name.clone()));
            }
            if chunks_in(file.bytes, self.chunk_bytes) != Some(file.checksums.len() / 4) {
                return Err(Malformed::Length("the checksums of a file"));
            }
            self.bytes = self.bytes.checked_add(file.bytes).ok_or(Malformed::Length("the snapshot"))?;
        }
        let names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        if !names.is_sorted_by(|one, next| one < next) || name::one_is_a_directory_of_another(&names) {
            return Err(Malformed::Names);
        }
        if self.form == Form::Stream && names != [STREAM] {
            return Err(Malformed::Names);
        }
        Ok(self)
    }

    /// Its name: the digest of everything in it.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// What it is a snapshot of.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The last entry whose effect is in it.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.about.last
    }

    /// What the state machine gave.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The length of every chunk but the last of a file.
    #[must_use]
    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// The files, in the order of their names.
    #[must_use]
    pub fn files(&self) -> &[ManifestFile] {
        &self.files
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes that [`decode`](Self::decode) reads.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// A piece of a file, if there is one of these numbers.
    #[must_use]
    pub fn chunk(&self, file: usize, chunk: u32) -> Option<Chunk> {
        self.files.get(file)?.chunk(chunk, self.chunk_bytes)
    }

    /// The same files as a snapshot of something else.
    ///
    /// # Errors
    /// [`Malformed`] if the configuration is too long.
    pub fn renamed(&self, about: About) -> Result<Self, Malformed> {
        Self::new(about, self.form, self.chunk_bytes, self.files.clone())
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {:?} up to {} ({} files)", self.id, self.last(), self.files.len())
    }
}

impl ManifestFile {
    /// The only file of a snapshot that is a stream.
    pub(super) fn stream_name() -> String {
        STREAM.into()
    }

    /// How many chunks it has.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        // At most MANIFEST_BYTES_MAX / 4.
        (self.checksums.len() / 4) as u32
    }

    pub(super) fn chunk(&self, chunk: u32, chunk_bytes: u32) -> Option<Chunk> {
        let mut checksum = self.checksums.get(chunk as usize * 4..)?.get(..4)?;
        let offset = u64::from(chunk) * u64::from(chunk_bytes);
        let length = (self.bytes - offset).min(u64::from(chunk_bytes)) as u32;
        Some(Chunk { offset, length, checksum: checksum.get_u32_le() })
    }

    fn encoded_bytes(&self) -> usize {
        2 + self.name.len() + 8 + Digest::BYTES + self.checksums.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        // A name that is longer is refused by the check that follows.
        out.put_u16_le(self.name.len() as u16);
        out.put_slice(self.name.as_bytes());
        out.put_u64_le(self.bytes);
        out.put_slice(&self.digest.0);
        out.put_slice(&self.checksums);
    }
}

impl Control {
    fn about(self) -> Result<About, Malformed> {
        let cluster = ClusterId::new(self.cluster).map_err(|error| Malformed::Control(error.to_string()))?;
        Ok(About {
            cluster,
            group: GroupId(self.group),
            last: EntryId::new(self.last_index, self.last_term),
            configuration: (Index(self.configuration_index), self.configuration),
            maker: NodeId(self.maker),
            created_ms: self.created_ms,
        })
    }
}

/// How many chunks a file of `bytes` has; `None` if they could not be counted.
fn chunks_in(bytes: u64, chunk_bytes: u32) -> Option<usize> {
    usize::try_from(bytes.div_ceil(u64::from(chunk_bytes))).ok()
}

/// `count` is at most [`FILES_MAX`], and nothing is taken for a file before its bytes were found.
fn decode_table(mut table: Bytes, count: usize, chunk_bytes: u32) -> Result<Vec<ManifestFile>, Malformed> {
    const SHORT: Malformed = Malformed::Length("the table of files");
    if !CHUNK_BYTES.contains(&chunk_bytes) {
        return Err(Malformed::ChunkBytes(chunk_bytes));
    }
    let mut files = Vec::with_capacity(count.min(table.len() / (2 + 8 + Digest::BYTES)));
    for _ in 0..count {
        let name_bytes = usize::from(table.try_get_u16_le().map_err(|_| SHORT)?);
        let name = take(&mut table, name_bytes).ok_or(SHORT)?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| Malformed::Name("not UTF-8".into()))?;
        let bytes = table.try_get_u64_le().map_err(|_| SHORT)?;
        let mut digest = Digest([0; Digest::BYTES]);
        table.try_copy_to_slice(&mut digest.0).map_err(|_| SHORT)?;
        let checksums = chunks_in(bytes, chunk_bytes).and_then(|chunks| chunks.checked_mul(4)).ok_or(SHORT)?;
        let checksums = take(&mut table, checksums).ok_or(SHORT)?;
        files.push(ManifestFile { name, bytes, digest, checksums });
    }
    if table.is_empty() { Ok(files) } else { Err(SHORT) }
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), Malformed> {
    let (found, most) = (found as u64, most as u64);
    if found <= most { Ok(()) } else { Err(Malformed::TooMuch { what, found, most }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn about() -> About {
        About {
            cluster: ClusterId::new("c").unwrap(),
            group: GroupId(3),
            last: EntryId::new(7, 2),
            configuration: (Index(4), Bytes::from_static(b"members")),
            maker: NodeId(2),
            created_ms: 1_700_000_000_000,
        }
    }

    fn file(name: &str, bytes: u64, checksums: usize) -> ManifestFile {
        let checksums = vec![9; checksums * 4].into();
        ManifestFile { name: name.into(), bytes, digest: Digest::of(name.as_bytes()), checksums }
    }

    fn manifest(files: Vec<ManifestFile>) -> Result<Manifest, Malformed> {
        Manifest::new(about(), Form::Files, 512, files)
    }

    #[test]
    fn a_manifest_comes_back_and_its_files_are_in_order() {
        let made = manifest(vec![file("b", 1025, 3), file("a/c", 0, 0)]).unwrap();
        assert_eq!(made.files()[0].name, "a/c");
        assert_eq!(made.bytes(), 1025);
        assert_eq!(made.chunk(1, 2).map(|chunk| (chunk.offset, chunk.length)), Some((1024, 1)));
        assert_eq!((made.chunk(1, 3), made.chunk(0, 0), made.chunk(2, 0)), (None, None, None));
        assert_eq!(Manifest::decode(made.encoded().clone()), Ok(made));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let made = manifest(vec![file("a", 1000, 2)]).unwrap();
        for bit in 0..made.encoded().len() * 8 {
            let mut damaged = made.encoded().to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(damaged.into()), Err(Malformed::Digest), "bit {bit}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(manifest(vec![file("../a", 0, 0)]), Err(Malformed::Name("../a".into())));
        assert_eq!(manifest(vec![file("a", 0, 0), file("a", 0, 0)]), Err(Malformed::Names));
        assert_eq!(manifest(vec![file("a", 0, 0), file("a/b", 0, 0)]), Err(Malformed::Names));
        assert_eq!(manifest(vec![file("a", 513, 1)]), Err(Malformed::Length("the checksums of a file")));
        assert_eq!(manifest(vec![file("a", 1024, 3)]), Err(Malformed::Length("the checksums of a file")));
        assert_eq!(Manifest::new(about(), Form::Stream, 512, vec![]), Err(Malformed::Names));
        assert_eq!(Manifest::new(about(), Form::Files, 511, vec![]), Err(Malformed::ChunkBytes(511)));
        let configuration = (Index(1), vec![0; CONFIGURATION_BYTES_MAX + 1].into());
        let large = About { configuration, ..about() };
        assert!(matches!(Manifest::new(large, Form::Files, 512, vec![]), Err(Malformed::TooMuch { .. })));
        let many = (0..=FILES_MAX).map(|n| file(&n.to_string(), 0, 0)).collect();
        assert!(matches!(manifest(many), Err(Malformed::TooMuch { what: "files", .. })));
    }

    /// What somebody says who seals lies with a right digest.
    fn sealed(mut front: Vec<u8>) -> Result<Manifest, Malformed> {
        let digest = Digest::of(&front);
        front.extend(digest.0);
        Manifest::decode(front.into())
    }

    #[test]
    fn lengths_are_not_believed() {
        let made = manifest(vec![file("a", 1000, 2)]).unwrap();
        let front = &made.encoded()[..made.encoded().len() - Digest::BYTES];
        let with = |at: usize, value: u32| {
            let mut front = front.to_vec();
            front[at..at + 4].copy_from_slice(&value.to_le_bytes());
            sealed(front)
        };
        assert_eq!(with(8, 9), Err(Malformed::Version(9)));
        assert_eq!(with(12, u32::MAX), Err(Malformed::Length("the body")));
        assert_eq!(with(16, 0), Err(Malformed::Length("the body")));
        assert!(matches!(with(20, u32::MAX), Err(Malformed::TooMuch { .. })));
        assert_eq!(with(20, 2), Err(Malformed::Length("the table of files")));
        assert_eq!(with(20, 0), Err(Malformed::Length("the table of files")));
        assert_eq!(with(0, 0), Err(Malformed::Magic));
    }

    quickcheck! {
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) -> bool {
            let behind_a_header = [&MAGIC[..], &1_u32.to_le_bytes(), &bytes].concat();
            Manifest::decode(bytes.into()).is_err() && sealed(behind_a_header).is_err()
        }
    }
}
