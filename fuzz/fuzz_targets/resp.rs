//! Any bytes as RESP requests, in pieces of any size: the pieces must not make a difference.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../examples/kv/resp.rs"]
mod resp;

use resp::{Arguments, Limits, Parser, ProtocolError};

const LIMITS: Limits = Limits { arguments: 16, argument_bytes: 256, request_bytes: 1024, line_bytes: 512 };

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    let whole = parse([bytes]);
    let mut rest = bytes;
    let mut pieces: Vec<&[u8]> = Vec::new();
    for cut in cuts {
        let (piece, behind) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    assert_eq!(parse(pieces), whole);
});

fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Arguments>, Option<ProtocolError>) {
    let mut parser = Parser::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(arguments)) => {
                    assert!(!arguments.is_empty() && arguments.len() <= LIMITS.arguments);
                    assert!(arguments.iter().all(|argument| argument.len() <= LIMITS.argument_bytes));
                    requests.push(arguments);
                }
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}
