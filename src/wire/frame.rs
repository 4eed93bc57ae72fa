//! Frames: a checksummed box with a length.
//!
//! ```text
//!  0        1        2             4                    8                   12                  16
//!  | format | kind   | reserved, 0 | body length, bytes | crc32c of body    | crc32c of 0..12   | body ...
//! ```
//!
//! All numbers are little endian. The header has a checksum of its own, so a flipped bit in the length is found before
//! anybody waits for bytes that will never come; the header's checksum covers the body's, so together they cover every
//! bit that is sent. The layout of the header never changes, whatever the format version says about the body.

use super::DecodeError;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;

/// The format version that this code writes and reads.
pub const FORMAT_VERSION: u8 = 1;

/// What a frame carries. A kind that is not listed is skipped and counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// The dialer introduces itself.
    Hello = 1,
    /// The acceptor accepts or refuses.
    Answer = 2,
    /// A batch of messages.
    Messages = 3,
    /// What the receiver of a snapshot asks.
    SnapshotRequest = 4,
    /// What its sender answers.
    SnapshotResponse = 5,
}

/// What the front of a stream of bytes is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Front<'a> {
    /// A whole frame, its checksums verified.
    Frame {
        /// Its kind as a number, for it may be unknown.
        kind: u8,
        /// What it carries.
        body: &'a [u8],
    },
    /// The beginning of a frame; this many bytes, counted from the beginning, are needed to go on.
    Partial {
        /// Always more than there are, and at most [`HEADER_BYTES`] plus the limit.
        needed: usize,
    },
}

impl Front<'_> {
    /// Bytes of the whole frame, header included; 0 for a partial one.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        match self {
            Self::Frame { body, .. } => HEADER_BYTES + body.len(),
            Self::Partial { .. } => 0,
        }
    }
}

/// Looks at the frame at the front of `bytes`. Never blocks, never allocates.
///
/// # Errors
/// [`DecodeError`] if the header or the body is damaged, of another version, or the body longer than `limit` bytes
/// (inclusive). The stream has lost its rhythm then and must be closed.
pub fn front(bytes: &[u8], limit: usize) -> Result<Front<'_>, DecodeError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Front::Partial { needed: HEADER_BYTES });
    };
    let stated = u32_at(header, 12);
    let found = crc32c::crc32c(&header[..12]);
    if stated != found {
        return Err(DecodeError::HeaderChecksum { stated, found });
    }
    if header[0] != FORMAT_VERSION {
        return Err(DecodeError::FormatVersion(header[0]));
    }
    let length = u32_at(header, 4) as usize;
    if length > limit {
        return Err(DecodeError::Oversized { bytes: length as u64, limit });
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Front::Partial { needed: HEADER_BYTES + length });
    };
    let stated = u32_at(header, 8);
    let found = crc32c::crc32c(body);
    if stated != found {
        return Err(DecodeError::BodyChecksum { stated, found });
    }
    Ok(Front::Frame { kind: header[1], body })
}

/// Opens a frame at the end of `out`: reserves the header and returns where it starts, for [`seal`].
pub(crate) fn open(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    start
}

/// Completes the frame opened at `start`: everything after its header is its body.
///
/// The caller keeps bodies within a configured limit, which is far below 4 GiB.
pub(crate) fn seal(out: &mut [u8], start: usize, kind: FrameKind) {
    seal_with(out, start, kind, &[]);
}

/// The same for a body that goes on in `tail`, which is sent behind `out`.
pub(crate) fn seal_with(out: &mut [u8], start: usize, kind: FrameKind, tail: &[u8]) {
    let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
    let body_bytes = body.len() + tail.len();
    debug_assert!(u32::try_from(body_bytes).is_ok(), "a frame body is below 4 GiB");
    header[0] = FORMAT_VERSION;
    header[1] = kind as u8;
    header[2..4].fill(0);
    header[4..8].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(body), tail);
    header[8..12].copy_from_slice(&checksum.to_le_bytes());
    let own = crc32c::crc32c(&header[..12]);
    header[12..16].copy_from_slice(&own.to_le_bytes());
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::{TestResult, quickcheck};

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let start = open(&mut out);
        out.extend_from_slice(body);
        seal(&mut out, start, FrameKind::Messages);
        out
    }

    #[test]
    fn a_frame_comes_back_and_its_neighbour_is_left_alone() {
        let mut bytes = framed(b"first");
        bytes.extend(framed(b"second"));
        let first = front(&bytes, 100).unwrap();
        assert_eq!(first, Front::Frame { kind: 3, body: b"first" });
        let second = front(&bytes[first.frame_bytes()..], 100).unwrap();
        assert_eq!(second, Front::Frame { kind: 3, body: b"second" });
    }

    #[test]
    fn a_partial_frame_says_how_much_it_needs() {
        let bytes = framed(b"body");
        for end in 0..bytes.len() {
            let needed = if end < HEADER_BYTES { HEADER_BYTES } else { bytes.len() };
            assert_eq!(front(&bytes[..end], 100), Ok(Front::Partial { needed }));
        }
    }

    /// The length is refused while only the header is there: nobody makes room for it.
    #[test]
    fn an_oversized_frame_is_refused_by_its_header() {
        let bytes = framed(&[0; 101]);
        assert_eq!(front(&bytes[..HEADER_BYTES], 100), Err(DecodeError::Oversized { bytes: 101, limit: 100 }));
        assert!(front(&framed(&[0; 100]), 100).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = framed(b"some body of a frame, long enough to be interesting");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(front(&damaged, 1 << 20).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_format_version_is_named() {
        let mut bytes = framed(b"x");
        bytes[0] = 9;
        let own = crc32c::crc32c(&bytes[..12]);
        bytes[12..16].copy_from_slice(&own.to_le_bytes());
        assert_eq!(front(&bytes, 100), Err(DecodeError::FormatVersion(9)));
    }

    quickcheck! {
        fn any_body_round_trips(body: Vec<u8>) -> bool {
            front(&framed(&body), body.len()) == Ok(Front::Frame { kind: 3, body: &body })
        }

        fn any_bytes_are_looked_at_without_panic(bytes: Vec<u8>, limit: usize) -> TestResult {
            match front(&bytes, limit) {
                Ok(Front::Partial { needed }) => TestResult::from_bool(needed > bytes.len()),
                _ => TestResult::passed(),
            }
        }
    }
}
