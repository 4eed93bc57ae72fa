//! Requests and responses as bytes, one per frame of [`crate::wire`].
//!
//! ```text
//!  0      2         4                8
//!  | kind | version | control, bytes | control (protobuf) | data, until the end of the frame
//! ```
//!
//! Only manifests and chunks have data. A kind or a version that this code does not know is skipped and counted, like
//! an unknown message; fields of control parts can be added.

use bytes::{Buf as _, Bytes};

use super::digest::Digest;
use super::manifest::{MANIFEST_BYTES_MAX, SnapshotId};
use super::message::{ChunkId, Gone, RefusedRequest, Request, Response};
use crate::types::GroupId;
use crate::wire::DecodeError;
use crate::wire::frame::{self, FrameKind};

/// Bytes before the control part.
const RECORD_BYTES: usize = 8;
/// The version of every kind that this code writes and reads.
const VERSION: u16 = 1;
/// No control part is longer.
const CONTROL_BYTES_MAX: usize = 128;

/// The longest body of a request's frame.
pub const REQUEST_BYTES_MAX: usize = RECORD_BYTES + CONTROL_BYTES_MAX;
/// The longest body of the frame of any response.
pub const RESPONSE_BYTES_MAX: usize = response_bytes(MANIFEST_BYTES_MAX);

/// The body of a response's frame that carries so much data.
pub(super) const fn response_bytes(data: usize) -> usize {
    RECORD_BYTES + CONTROL_BYTES_MAX + data
}

/// Numbers of the kinds, of requests and responses. A number is never used again for something else.
mod kind {
    pub(super) const MANIFEST_REQUEST: u16 = 1;
    pub(super) const CHUNK_REQUEST: u16 = 2;
    pub(super) const MANIFEST: u16 = 3;
    pub(super) const CHUNK: u16 = 4;
    pub(super) const GONE: u16 = 5;
    pub(super) const REFUSED: u16 = 6;
}

#[derive(Clone, PartialEq, prost::Message)]
struct ManifestControl {
    #[prost(uint64, tag = "1")]
    group: u64,
    /// Empty: the newest.
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChunkControl {
    #[prost(bytes = "vec", tag = "1")]
    snapshot: Vec<u8>,
    #[prost(uint32, tag = "2")]
    file: u32,
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(uint32, tag = "4")]
    length: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GoneControl {
    /// 1: none, 2: replaced, 3: damaged; any other reads as none, for it comes to the same.
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(bytes = "vec", tag = "2")]
    by: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RefusedControl {
    /// 1: no such chunk, 2: unreadable.
    #[prost(uint32, tag = "1")]
    reason: u32,
}

impl Request {
    /// The frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Manifest { group, id } => {
                let id = id.map(|id| id.0.to_vec()).unwrap_or_default();
                put(&mut out, kind::MANIFEST_REQUEST, &ManifestControl { group: group.0, id });
            }
            Self::Chunk(id) => put(&mut out, kind::CHUNK_REQUEST, &ChunkControl::new(id)),
        }
        frame::seal(&mut out, 0, FrameKind::SnapshotRequest);
        out
    }

    /// Reads the body of a frame of kind [`FrameKind::SnapshotRequest`]; `None` if this version does not know its kind.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(body: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Some(Record { kind, control, .. }) = take_record(body)? else { return Ok(None) };
        Ok(Some(match kind {
            kind::MANIFEST_REQUEST => {
                let ManifestControl { group, id } = parse(control, "a request for a manifest")?;
                let id = if id.is_empty() { None } else { Some(read_id(&id)?) };
                Self::Manifest { group: GroupId(group), id }
            }
            kind::CHUNK_REQUEST => Self::Chunk(parse::<ChunkControl>(control, "a request for a chunk")?.read()?),
            _ => return Ok(None),
        }))
    }
}

impl Response {
    /// The frame, in two pieces to be sent one behind the other; the second is not copied.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Bytes) {
        let (mut out, mut data) = (Vec::new(), Bytes::new());
        match self {
            Self::Manifest(bytes) => {
                put(&mut out, kind::MANIFEST, &());
                data = bytes.clone();
            }
            Self::Chunk { id, bytes } => {
                put(&mut out, kind::CHUNK, &ChunkControl::new(id));
                data = bytes.clone();
            }
            Self::Gone(gone) => {
                let (reason, by) = match gone {
                    Gone::None => (1, Vec::new()),
                    Gone::Replaced(by) => (2, by.0.to_vec()),
                    Gone::Damaged => (3, Vec::new()),
                };
                put(&mut out, kind::GONE, &GoneControl { reason, by });
            }
            Self::Refused(refused) => {
                let reason = match refused {
                    RefusedRequest::Range => 1,
                    RefusedRequest::Unreadable => 2,
                    RefusedRequest::Other(number) => *number,
                };
                put(&mut out, kind::REFUSED, &RefusedControl { reason });
            }
        }
        frame::seal_with(&mut out, 0, FrameKind::SnapshotResponse, &data);
        (out, data)
    }

    /// Reads the body of a frame of kind [`FrameKind::SnapshotResponse`]; `None` if this version does not know its kind. The
    /// data is a slice of the body.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(body: &Bytes) -> Result<Option<Self>, DecodeError> {
        let Some(Record { kind, control, data }) = take_record(body)? else { return Ok(None) };
        let data = body.slice(body.len() - data..);
        Ok(Some(match kind {
            kind::MANIFEST => Self::Manifest(data),
            kind::CHUNK => {
                let id = parse::<ChunkControl>(control, "a chunk")?.read()?;
                Self::Chunk { id, bytes: data }
            }
            kind::GONE => {
                let GoneControl { reason, by } = parse(control, "a farewell")?;
                Self::Gone(match reason {
                    2 => Gone::Replaced(read_id(&by)?),
                    3 => Gone::Damaged,
                    _ => Gone::None,
                })
            }
            kind::REFUSED => Self::Refused(match parse::<RefusedControl>(control, "a refusal")?.reason {
                1 => RefusedRequest::Range,
                2 => RefusedRequest::Unreadable,
                other => RefusedRequest::Other(other),
            }),
            _ => return Ok(None),
        }))
    }
}

impl ChunkControl {
    fn new(id: &ChunkId) -> Self {
        let ChunkId { snapshot, file, offset, length } = *id;
        Self { snapshot: snapshot.0.to_vec(), file, offset, length }
    }

    fn read(self) -> Result<ChunkId, DecodeError> {
        let Self { snapshot, file, offset, length } = self;
        Ok(ChunkId { snapshot: read_id(&snapshot)?, file, offset, length })
    }
}

/// Opens a frame and puts everything but the data into it.
fn put(out: &mut Vec<u8>, kind: u16, control: &impl prost::Message) {
    frame::open(out);
    out.extend(kind.to_le_bytes());
    out.extend(VERSION.to_le_bytes());
    // At most CONTROL_BYTES_MAX.
    out.extend((control.encoded_len() as u32).to_le_bytes());
    control.encode_raw(out);
}

struct Record<'a> {
    kind: u16,
    control: &'a [u8],
    /// How many bytes follow, until the end.
    data: usize,
}

/// `None` if this version does not know the record's.
fn take_record(mut body: &[u8]) -> Result<Option<Record<'_>>, DecodeError> {
    if body.len() < RECORD_BYTES {
        return Err(DecodeError::Truncated("the header of a record about snapshots"));
    }
    let (kind, version, control) = (body.get_u16_le(), body.get_u16_le(), body.get_u32_le() as usize);
    let (control, data) = body.split_at_checked(control).ok_or(DecodeError::Truncated("a record about snapshots"))?;
    Ok((version == VERSION).then_some(Record { kind, control, data: data.len() }))
}

fn parse<M: prost::Message + Default>(control: &[u8], what: &'static str) -> Result<M, DecodeError> {
    M::decode(control).map_err(|error| DecodeError::Control { what, reason: error.to_string() })
}

fn read_id(bytes: &[u8]) -> Result<SnapshotId, DecodeError> {
    let value = bytes.len() as u64;
    bytes.try_into().map(Digest).map_err(|_| DecodeError::Value { what: "the length of a snapshot's id", value })
}
