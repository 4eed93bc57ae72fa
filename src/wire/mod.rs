//! What nodes say to each other, as bytes.
//!
//! Three layers, each of one idea:
//! - [`frame`]: a checksummed box with a length. Whatever is wrong with bytes on their way is found here.
//! - [`codec`]: many messages in one box. The control part of a message is protobuf, so that fields can be added
//!   without breaking older nodes; entries travel beside it as raw bytes and are never encoded field by field.
//! - [`handshake`]: who is there, before the first message.
//!
//! Rules for the unknown: an unknown field is skipped; a message that this version cannot understand (an unknown kind,
//! an unknown answer, an unknown kind of entry) is skipped and counted; an unknown kind of frame is skipped and counted;
//! an unknown *format version* ends the connection, because the handshake agreed on another. Everything else that is
//! not as `docs/format-wire.md` says is a [`DecodeError`]: typed, never a panic, and no length or count is believed
//! before it has been compared with a limit or with the bytes that are really there.
//!
//! Not done here: compression (commands are the engine's business), encryption (a layer around the socket).

pub mod codec;
mod control;
pub mod frame;
pub mod handshake;

use crate::log::MalformedSlice;

/// Why bytes are not a frame, a message or a handshake. The stream they came from cannot be trusted any further:
/// close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The header is damaged, or this is no frame at all.
    #[error("frame header damaged: its checksum is {stated:08x}, its bytes have {found:08x}")]
    HeaderChecksum {
        /// What the header says.
        stated: u32,
        /// What its bytes have.
        found: u32,
    },
    /// The body is damaged.
    #[error("frame body damaged: its checksum should be {stated:08x}, its bytes have {found:08x}")]
    BodyChecksum {
        /// What the header says.
        stated: u32,
        /// What the bytes have.
        found: u32,
    },
    /// A frame of another format.
    #[error("frame of format version {0}, this node reads version {version}", version = frame::FORMAT_VERSION)]
    FormatVersion(u8),
    /// The frame is longer than allowed; nothing was allocated for it. Raise `frame_bytes` here or lower the
    /// sender's limits.
    #[error("frame of {bytes} bytes, the limit is {limit}")]
    Oversized {
        /// Length of its body.
        bytes: u64,
        /// The longest body allowed here.
        limit: usize,
    },
    /// Something ends before it is complete.
    #[error("{0} ends too early")]
    Truncated(&'static str),
    /// Bytes are left where none should be.
    #[error("{0} has bytes after its end")]
    Trailing(&'static str),
    /// The control part is not protobuf, or a field has another type.
    #[error("control part of {what}: {reason}")]
    Control {
        /// Of which message.
        what: &'static str,
        /// What the protobuf decoder says.
        reason: String,
    },
    /// A field has a value that no version writes.
    #[error("{what} cannot be {value}")]
    Value {
        /// The field.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// The entries do not follow each other as those of a log do.
    #[error(transparent)]
    Slice(#[from] MalformedSlice),
    /// The handshake does not begin with the magic: the other side speaks another protocol.
    #[error("not a tenure peer: the first bytes are not the magic")]
    Magic,
    /// A handshake was expected and something else came, or the other way round.
    #[error("a frame of kind {0} is out of place here")]
    FrameKind(u8),
}
