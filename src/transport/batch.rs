//! What one read brought.

use crate::message::Message;
use crate::wire::DecodeError;
use crate::wire::codec;
use crate::wire::frame::{self, FrameKind, Front};

/// All whole frames at the front of a buffer.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    /// Messages and frames that this version does not know.
    pub(super) unknown: u64,
    /// Bytes of the buffer that are done with.
    pub(super) used: usize,
}

impl Batch {
    /// Decodes every whole frame; says how long the buffer must be for the next one.
    pub(super) fn decode(&mut self, bytes: &[u8], limit: usize) -> Result<usize, DecodeError> {
        loop {
            let front = frame::front(&bytes[self.used..], limit)?;
            match front {
                Front::Partial { needed } => return Ok(needed),
                Front::Frame { kind, body } if kind == FrameKind::Messages as u8 => {
                    self.unknown += codec::decode_body(body, &mut self.messages)?;
                }
                Front::Frame { kind, .. } if kind == FrameKind::Hello as u8 || kind == FrameKind::Answer as u8 => {
                    return Err(DecodeError::FrameKind(kind));
                }
                Front::Frame { .. } => self.unknown += 1,
            }
            self.used += front.frame_bytes();
        }
    }
}
