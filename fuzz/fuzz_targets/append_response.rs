//! Answers to the appends of a core that leads, or led: early, late, doubled, and false.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tenure::message::{AppendOutcome, AppendResponse, Body, Message};
use tenure::time::Instant;
use tenure::types::{Index, RoundId, Term};
use tenure_fuzz::{Act, Answered, AnyPriority, Near, NearEntry, Scene, Start, Subject, drive};

#[derive(Arbitrary, Debug)]
struct Sketch {
    answered: Answered,
    term: Near,
    stamp: Near,
    round: Near,
    request_term: Near,
    promise_ms: u32,
    sent: Near,
    priority: AnyPriority,
    outcome: Outcome,
}

#[derive(Arbitrary, Debug)]
enum Outcome {
    OldTerm,
    Accepted(Near),
    AcceptedToo(Near),
    Mismatch { prev: Near, last: NearEntry, conflict: Option<NearEntry> },
}

fn message(subject: &Subject, sketch: &Sketch) -> Option<Message> {
    let append = |sent: &Message| match &sent.body {
        Body::AppendEntries(append) => Some(append.clone()),
        _ => None,
    };
    let (from, term, append) = sketch.answered.of(subject, append)?;
    let outcome = match &sketch.outcome {
        Outcome::OldTerm => AppendOutcome::OldTerm,
        Outcome::Accepted(matched) | Outcome::AcceptedToo(matched) => {
            AppendOutcome::Accepted { matched: Index(matched.to(append.slice.last().index.0)) }
        }
        Outcome::Mismatch { prev, last, conflict } => AppendOutcome::Mismatch {
            prev: Index(prev.to(append.slice.prev().index.0)),
            last: last.of(subject),
            conflict: conflict.map(|entry| entry.of(subject)).map(|entry| (entry.term, entry.index)),
        },
    };
    let response = AppendResponse {
        stamp: Instant::from_nanos(sketch.stamp.to(append.stamp.as_nanos())),
        round: RoundId(sketch.round.to(append.round.0)),
        request_term: Term(sketch.request_term.to(term.0)),
        promise_ms: sketch.promise_ms,
        sent: Instant::from_nanos(sketch.sent.to(subject.now.as_nanos())),
        priority: sketch.priority.into(),
        outcome,
    };
    Some(subject.message(from, sketch.term.to(term.0), Body::AppendResponse(response)))
}

fuzz_target!(|input: (Scene, Vec<Act<Sketch>>)| {
    let scene = Scene { start: Start::Leader, ..input.0 };
    drive(&scene, &input.1, message);
});
