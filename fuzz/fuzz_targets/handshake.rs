//! Any bytes as the two halves of a handshake: as they come, and as the body of one whose checksums are right.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenure::wire::frame::{FORMAT_VERSION, FrameKind};
use tenure::wire::handshake::{MAGIC, Parsed, parse_answer, parse_hello};

fuzz_target!(|bytes: &[u8]| {
    parse(bytes);
    for kind in [FrameKind::Hello, FrameKind::Answer] {
        parse(&sealed(kind, bytes));
    }
});

/// A frame around any body, as a peer makes it who is wrong about the rest.
fn sealed(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut header = vec![FORMAT_VERSION, kind as u8, 0, 0];
    header.extend((body.len() as u32).to_le_bytes());
    header.extend(crc32c::crc32c(body).to_le_bytes());
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    [&MAGIC, header.as_slice(), body].concat()
}

fn parse(bytes: &[u8]) {
    match parse_hello(bytes) {
        Ok(Parsed::Complete { value, bytes: taken }) => {
            assert!(taken <= bytes.len());
            let again = value.encode();
            assert_eq!(parse_hello(&again), Ok(Parsed::Complete { value, bytes: again.len() }));
        }
        Ok(Parsed::Partial { needed }) => assert!(needed > bytes.len()),
        Err(_) => {}
    }
    match parse_answer(bytes) {
        Ok(Parsed::Complete { value, bytes: taken }) => {
            assert!(taken <= bytes.len());
            let again = value.encode();
            assert_eq!(parse_answer(&again), Ok(Parsed::Complete { value, bytes: again.len() }));
        }
        Ok(Parsed::Partial { needed }) => assert!(needed > bytes.len()),
        Err(_) => {}
    }
}
