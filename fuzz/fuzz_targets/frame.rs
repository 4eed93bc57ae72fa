//! Any bytes as a frame of messages: decoded or refused, and what was decoded is decoded again from its own encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenure::message::Message;
use tenure::wire::codec::{decode_body, decode_frame, encode};

const LIMIT: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    // Random bytes rarely have the right checksum: so the same bytes are also tried behind the checksum's door.
    let mut framed = Vec::new();
    let _ = decode_frame(bytes, LIMIT, &mut framed);
    round_trip(&framed);
    let mut messages = Vec::new();
    let _ = decode_body(bytes, &mut messages);
    round_trip(&messages);
});

fn round_trip(messages: &[Message]) {
    let mut frames = Vec::new();
    let left_out = encode(messages, LIMIT, &mut frames);
    assert_eq!(left_out, 0, "what fits in as bytes fits out as bytes");
    let mut again = Vec::new();
    for frame in &frames {
        assert_eq!(decode_frame(&frame.bytes, LIMIT, &mut again), Ok(0));
    }
    assert_eq!(again, messages);
}
