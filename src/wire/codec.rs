//! Messages in frames.
//!
//! The body of a frame of kind `Messages` is a sequence of messages, of one or many groups:
//!
//! ```text
//!  0      2             4                8             12
//!  | kind | reserved, 0 | control, bytes | data, bytes | control (protobuf) | data
//! ```
//!
//! Only AppendEntries has data: its entries, in runs of one term, payloads in place.
//!
//! ```text
//!  | term u64 | count u32 |  count times:  | kind u8 | length u32 | payload |  then the next run
//! ```
//!
//! Decoding copies the data of an AppendEntries once, into a buffer of exactly its size, and every payload is a slice
//! of that buffer: no copy and no allocation per entry, and an entry that stays in a cache keeps nothing alive but its
//! neighbours from the same append (a slice of the socket's read buffer would keep all of that).

use bytes::{Buf, Bytes};

use super::DecodeError;
use super::control::{
    AbdicateControl, AppendEntriesControl, AppendResponseControl, CONTROL_BYTES_MAX, Envelope, ReadIndexControl,
    ReadIndexResponseControl, Understood, VoteRequestControl, VoteResponseControl,
};
use super::frame::{self, FrameKind, Front};
use crate::config::Limits;
use crate::log::{Entry, EntryKind, LogSlice};
use crate::message::{Body, Message};
use crate::types::{EntryId, Index, Term};

/// Bytes before the control part of each message.
const RECORD_BYTES: usize = 12;
/// Bytes before the entries of one term.
const RUN_BYTES: usize = 12;
/// Bytes before each payload.
const ENTRY_BYTES: usize = 5;

/// Numbers of the kinds of message. A number is never used again for something else.
mod kind {
    pub(super) const PRE_VOTE: u16 = 1;
    pub(super) const PRE_VOTE_RESPONSE: u16 = 2;
    pub(super) const VOTE: u16 = 3;
    pub(super) const VOTE_RESPONSE: u16 = 4;
    pub(super) const APPEND_ENTRIES: u16 = 5;
    pub(super) const APPEND_RESPONSE: u16 = 6;
    pub(super) const ABDICATE: u16 = 7;
    pub(super) const READ_INDEX: u16 = 8;
    pub(super) const READ_INDEX_RESPONSE: u16 = 9;
}

/// The longest frame body, in bytes, that the largest AppendEntries within `limits` can need: `append_bytes` of
/// payload plus one command of `command_bytes`, and a header for each of `append_entries`.
#[must_use]
pub fn frame_bytes_needed(limits: &Limits) -> usize {
    limits
        .append_bytes
        .saturating_add(limits.command_bytes)
        .saturating_add(limits.append_entries.saturating_mul(ENTRY_BYTES + RUN_BYTES))
        .saturating_add(RECORD_BYTES + CONTROL_BYTES_MAX)
}

/// One encoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Header and body.
    pub bytes: Bytes,
    /// How many messages it carries.
    pub messages: usize,
}

/// Encodes `messages` in order into as few frames as `limit` allows and appends them to `frames`. Each payload is
/// copied once. Returns how many messages were left out because one alone is longer than `limit`, in bytes (inclusive).
pub fn encode(messages: &[Message], limit: usize, frames: &mut Vec<Frame>) -> usize {
    let limit = limit.min(u32::MAX as usize);
    let mut left_out = 0;
    let mut out = Vec::new();
    let mut count = 0;
    let mut start = 0;
    for message in messages {
        let bytes = encoded_bytes_at_most(message);
        if bytes > limit {
            left_out += 1;
            continue;
        }
        let body = out.len().saturating_sub(start + frame::HEADER_BYTES);
        if count > 0 && body + bytes > limit {
            finish(&mut out, start, &mut count, frames);
        }
        if count == 0 {
            out.reserve(frame::HEADER_BYTES + bytes);
            start = frame::open(&mut out);
        }
        put_message(message, &mut out);
        count += 1;
    }
    if count > 0 {
        finish(&mut out, start, &mut count, frames);
    }
    left_out
}

fn finish(out: &mut Vec<u8>, start: usize, count: &mut usize, frames: &mut Vec<Frame>) {
    frame::seal(out, start, FrameKind::Messages);
    frames.push(Frame { bytes: Bytes::from(std::mem::take(out)), messages: std::mem::take(count) });
}

/// An upper bound that is cheap to compute and exact up to the control part.
fn encoded_bytes_at_most(message: &Message) -> usize {
    let data = match &message.body {
        Body::AppendEntries(append) => data_bytes(&append.slice),
        _ => 0,
    };
    RECORD_BYTES + CONTROL_BYTES_MAX + data
}

fn data_bytes(slice: &LogSlice) -> usize {
    let runs = slice.entries().chunk_by(|one, next| one.id.term == next.id.term).count();
    runs * RUN_BYTES + slice.len() * ENTRY_BYTES + slice.bytes()
}

fn put_message(message: &Message, out: &mut Vec<u8>) {
    let envelope = Envelope::of(message);
    let start = out.len();
    out.resize(start + RECORD_BYTES, 0);
    let (kind, entries) = match &message.body {
        Body::PreVote(request) => (put(&VoteRequestControl::new(envelope, request), out, kind::PRE_VOTE), None),
        Body::PreVoteResponse(response) => {
            (put(&VoteResponseControl::new(envelope, response), out, kind::PRE_VOTE_RESPONSE), None)
        }
        Body::Vote(request) => (put(&VoteRequestControl::new(envelope, request), out, kind::VOTE), None),
        Body::VoteResponse(response) => {
            (put(&VoteResponseControl::new(envelope, response), out, kind::VOTE_RESPONSE), None)
        }
        Body::AppendEntries(append) => {
            let control = AppendEntriesControl::new(envelope, append);
            (put(&control, out, kind::APPEND_ENTRIES), Some(append.slice.entries()))
        }
        Body::AppendResponse(response) => {
            (put(&AppendResponseControl::new(envelope, response), out, kind::APPEND_RESPONSE), None)
        }
        Body::Abdicate(abdicate) => (put(&AbdicateControl::new(envelope, abdicate), out, kind::ABDICATE), None),
        Body::ReadIndex(request) => (put(&ReadIndexControl::new(envelope, request), out, kind::READ_INDEX), None),
        Body::ReadIndexResponse(response) => {
            (put(&ReadIndexResponseControl::new(envelope, response), out, kind::READ_INDEX_RESPONSE), None)
        }
    };
    let control = out.len() - start - RECORD_BYTES;
    put_entries(entries.unwrap_or_default(), out);
    let data = out.len() - start - RECORD_BYTES - control;
    let record = &mut out[start..start + RECORD_BYTES];
    record[0..2].copy_from_slice(&kind.to_le_bytes());
    record[4..8].copy_from_slice(&(control as u32).to_le_bytes());
    record[8..12].copy_from_slice(&(data as u32).to_le_bytes());
}

fn put(control: &impl prost::Message, out: &mut Vec<u8>, kind: u16) -> u16 {
    debug_assert!(control.encoded_len() <= CONTROL_BYTES_MAX, "control parts are short");
    control.encode_raw(out);
    kind
}

fn put_entries(entries: &[Entry], out: &mut Vec<u8>) {
    for run in entries.chunk_by(|one, next| one.id.term == next.id.term) {
        out.extend_from_slice(&run[0].id.term.0.to_le_bytes());
        out.extend_from_slice(&(run.len() as u32).to_le_bytes());
        for entry in run {
            out.push(entry.kind as u8);
            out.extend_from_slice(&(entry.payload.len() as u32).to_le_bytes());
            out.extend_from_slice(&entry.payload);
        }
    }
}

/// Decodes exactly one frame of kind `Messages`, appends its messages to `messages`, and returns how many it skipped
/// because this version does not understand them. The entry point for fuzzing. `limit` is the longest body in bytes.
///
/// # Errors
/// [`DecodeError`], also if the frame is incomplete, of another kind, or followed by more bytes.
pub fn decode_frame(bytes: &[u8], limit: usize, messages: &mut Vec<Message>) -> Result<u64, DecodeError> {
    let front = frame::front(bytes, limit)?;
    match front {
        Front::Partial { .. } => Err(DecodeError::Truncated("a frame")),
        Front::Frame { .. } if front.frame_bytes() < bytes.len() => Err(DecodeError::Trailing("a frame")),
        Front::Frame { kind, .. } if kind != FrameKind::Messages as u8 => Err(DecodeError::FrameKind(kind)),
        Front::Frame { body, .. } => decode_body(body, messages),
    }
}

/// Decodes the body of a frame of kind `Messages`: appends its messages to `messages` and returns how many it skipped
/// because this version does not understand them.
///
/// # Errors
/// [`DecodeError`] at the first thing that no version writes; messages before it are in `messages`.
pub fn decode_body(mut body: &[u8], messages: &mut Vec<Message>) -> Result<u64, DecodeError> {
    let mut skipped = 0;
    while !body.is_empty() {
        match take_message(&mut body)? {
            Understood::Known(message) => messages.push(message),
            Understood::Unknown => skipped += 1,
        }
    }
    Ok(skipped)
}

fn take_message(body: &mut &[u8]) -> Result<Understood<Message>, DecodeError> {
    if body.len() < RECORD_BYTES {
        return Err(DecodeError::Truncated("a message's header"));
    }
    let kind = body.get_u16_le();
    let _reserved = body.get_u16_le();
    let control = body.get_u32_le() as usize;
    let data = body.get_u32_le() as usize;
    let control = take(body, control).ok_or(DecodeError::Truncated("a message's control part"))?;
    let data = take(body, data).ok_or(DecodeError::Truncated("a message's data"))?;
    read_message(kind, control, data)
}

fn read_message(kind: u16, control: &[u8], data: &[u8]) -> Result<Understood<Message>, DecodeError> {
    use Understood::{Known, Unknown};
    let (envelope, body) = match kind {
        kind::PRE_VOTE => {
            let control: VoteRequestControl = parse(control, "PreVote")?;
            (control.envelope(), Body::PreVote(control.read()))
        }
        kind::VOTE => {
            let control: VoteRequestControl = parse(control, "Vote")?;
            (control.envelope(), Body::Vote(control.read()))
        }
        kind::PRE_VOTE_RESPONSE => {
            let control: VoteResponseControl = parse(control, "PreVoteResponse")?;
            let Known(response) = control.read()? else { return Ok(Unknown) };
            (control.envelope(), Body::PreVoteResponse(response))
        }
        kind::VOTE_RESPONSE => {
            let control: VoteResponseControl = parse(control, "VoteResponse")?;
            let Known(response) = control.read()? else { return Ok(Unknown) };
            (control.envelope(), Body::VoteResponse(response))
        }
        kind::APPEND_ENTRIES => {
            let control: AppendEntriesControl = parse(control, "AppendEntries")?;
            let Known(entries) = take_entries(control.prev().index, control.entries(), data)? else {
                return Ok(Unknown);
            };
            let slice = LogSlice::new(control.prev(), entries)?;
            (control.envelope(), Body::AppendEntries(control.read(slice)))
        }
        kind::APPEND_RESPONSE => {
            let control: AppendResponseControl = parse(control, "AppendResponse")?;
            let Known(response) = control.read()? else { return Ok(Unknown) };
            (control.envelope(), Body::AppendResponse(response))
        }
        kind::ABDICATE => {
            let control: AbdicateControl = parse(control, "Abdicate")?;
            (control.envelope(), Body::Abdicate(control.read()))
        }
        kind::READ_INDEX => {
            let control: ReadIndexControl = parse(control, "ReadIndex")?;
            (control.envelope(), Body::ReadIndex(control.read()))
        }
        kind::READ_INDEX_RESPONSE => {
            let control: ReadIndexResponseControl = parse(control, "ReadIndexResponse")?;
            (control.envelope(), Body::ReadIndexResponse(control.read()))
        }
        _ => return Ok(Unknown),
    };
    Ok(Known(envelope.open(body)))
}

fn parse<M: prost::Message + Default>(control: &[u8], what: &'static str) -> Result<M, DecodeError> {
    M::decode(control).map_err(|error| DecodeError::Control { what, reason: error.to_string() })
}

/// The entries after `prev`. `count` is believed once the data is long enough for that many headers, so memory taken
/// is bounded by a small multiple of the frame.
fn take_entries(prev: Index, count: u32, data: &[u8]) -> Result<Understood<Vec<Entry>>, DecodeError> {
    let count = count as usize;
    if count > data.len() / ENTRY_BYTES {
        return Err(DecodeError::Truncated("the entries of an append"));
    }
    if count == 0 {
        return if data.is_empty() {
            Ok(Understood::Known(Vec::new()))
        } else {
            Err(DecodeError::Trailing("an append without entries"))
        };
    }
    let buffer = Bytes::copy_from_slice(data);
    let mut rest = data;
    let mut entries = Vec::with_capacity(count);
    let mut known = true;
    let mut index = prev;
    while !rest.is_empty() {
        if rest.len() < RUN_BYTES {
            return Err(DecodeError::Truncated("the header of a term's entries"));
        }
        let term = Term(rest.get_u64_le());
        let run = rest.get_u32_le();
        if run == 0 || run as usize > count - entries.len() {
            return Err(DecodeError::Value { what: "the number of a term's entries", value: u64::from(run) });
        }
        for _ in 0..run {
            if rest.len() < ENTRY_BYTES {
                return Err(DecodeError::Truncated("the header of an entry"));
            }
            let kind = EntryKind::from_u8(rest.get_u8());
            let length = rest.get_u32_le() as usize;
            let at = data.len() - rest.len();
            take(&mut rest, length).ok_or(DecodeError::Truncated("the payload of an entry"))?;
            known &= kind.is_some();
            index = index.next();
            let id = EntryId { term, index };
            // An unknown kind spoils the whole append, which is left out below.
            let kind = kind.unwrap_or(EntryKind::Noop);
            entries.push(Entry { id, kind, payload: buffer.slice(at..at + length) });
        }
    }
    if entries.len() < count {
        return Err(DecodeError::Truncated("the entries of an append"));
    }
    Ok(if known { Understood::Known(entries) } else { Understood::Unknown })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}
