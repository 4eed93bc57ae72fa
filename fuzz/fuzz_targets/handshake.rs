//! Any bytes as the two halves of a handshake.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenure::wire::handshake::{Parsed, parse_answer, parse_hello};

fuzz_target!(|bytes: &[u8]| {
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
});
