//! Answers to the pre-vote requests of a core that is PreCandidate, or was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenure::message::{Body, Message};
use tenure_fuzz::{Act, Scene, Start, Subject, VoteAnswer, drive};

fn message(subject: &Subject, sketch: &VoteAnswer) -> Option<Message> {
    let request = |sent: &Message| match sent.body {
        Body::PreVote(request) => Some(request),
        _ => None,
    };
    let (from, term, request) = sketch.answered.of(subject, request)?;
    let answer = sketch.to(&request, subject);
    Some(subject.message(from, sketch.term.to(term.0), Body::PreVoteResponse(answer)))
}

fuzz_target!(|input: (Scene, Vec<Act<VoteAnswer>>)| {
    let scene = Scene { start: Start::PreCandidate, ..input.0 };
    drive(&scene, &input.1, message);
});
