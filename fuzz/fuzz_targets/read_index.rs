//! Questions of followers against a core in any role: asked again, of other terms, before anything is committed.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tenure::message::{Body, Message, ReadIndex};
use tenure::types::RoundId;
use tenure_fuzz::{Act, Near, Peer, Scene, Subject, drive};

#[derive(Arbitrary, Debug)]
struct Sketch {
    from: Peer,
    term: Near,
    /// Few, so that some are asked again.
    round: u8,
    lease: bool,
}

fn message(subject: &Subject, sketch: &Sketch) -> Option<Message> {
    let question = ReadIndex { round: RoundId(u64::from(sketch.round)), lease: sketch.lease };
    let term = sketch.term.to(subject.core.status().term.0);
    Some(subject.message(sketch.from.id(), term, Body::ReadIndex(question)))
}

fuzz_target!(|input: (Scene, Vec<Act<Sketch>>)| {
    drive(&input.0, &input.1, message);
});
