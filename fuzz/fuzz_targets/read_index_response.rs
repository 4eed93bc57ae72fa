//! Answers to what a core that follows has asked its leader for its readers: late, doubled, false, and unasked.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tenure::message::{Body, Message, ReadIndex, ReadIndexResponse};
use tenure::types::{Index, RoundId, Term};
use tenure_fuzz::{Act, Answered, Near, Scene, Speaker, Start, Subject, drive};

#[derive(Arbitrary, Debug)]
struct Sketch {
    answered: Answered,
    term: Near,
    round: Near,
    request_term: Near,
    /// Near the core's commit index.
    index: Option<Near>,
}

fn message(subject: &Subject, sketch: &Sketch) -> Option<Message> {
    let status = subject.core.status();
    let question = |sent: &Message| match sent.body {
        Body::ReadIndex(question) => Some(question),
        _ => None,
    };
    // Nobody has asked: then it is the leader's answer to nothing.
    let unasked = || (Speaker::Leader.id(subject), status.term, ReadIndex { round: RoundId(0), lease: false });
    let (from, term, question) = sketch.answered.of(subject, question).unwrap_or_else(unasked);
    let response = ReadIndexResponse {
        round: RoundId(sketch.round.to(question.round.0)),
        request_term: Term(sketch.request_term.to(term.0)),
        index: sketch.index.map(|index| Index(index.to(status.commit.0))),
    };
    Some(subject.message(from, sketch.term.to(term.0), Body::ReadIndexResponse(response)))
}

fuzz_target!(|input: (Scene, Vec<Act<Sketch>>)| {
    let scene = Scene { start: Start::Following, ..input.0 };
    drive(&scene, &input.1, message);
});
