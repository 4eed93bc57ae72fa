//! Pre-votes against a core in any role. Beside the judge's rules: a pre-vote moves nothing at its receiver (`o05`).

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tenure::message::{Body, Message, VoteRequest};
use tenure::types::{Index, RoundId, Term};
use tenure_fuzz::{Abdication, Act, Near, NearEntry, Peer, Scene, Subject, drive};

#[derive(Arbitrary, Debug)]
struct Sketch {
    from: Peer,
    term: Near,
    campaign_term: Near,
    round: u64,
    last: NearEntry,
    configuration: Near,
    abdicated: Option<Abdication>,
}

fn message(subject: &Subject, sketch: &Sketch) -> Option<Message> {
    let term = sketch.term.to(subject.core.status().term.0);
    let request = VoteRequest {
        round: RoundId(sketch.round),
        campaign_term: Term(sketch.campaign_term.to(term.saturating_add(1))),
        last: sketch.last.of(subject),
        configuration: Index(sketch.configuration.to(subject.configuration_index().0)),
        abdicated: sketch.abdicated.map(|token| token.of(subject)),
    };
    let message = subject.message(sketch.from.id(), term, Body::PreVote(request));
    moves_nothing(subject, &message);
    Some(message)
}

fn moves_nothing(subject: &Subject, message: &Message) {
    let mut core = subject.core.clone();
    let mut out = tenure::core::Output::new();
    core.step(subject.now, tenure::core::Input::Received(message.clone()), &mut out);
    let (before, after) = (subject.core.status(), core.status());
    assert_eq!((before.term, before.vote, before.role), (after.term, after.vote, after.role));
    assert_eq!((before.leader, before.last, before.commit), (after.leader, after.last, after.commit));
    assert_eq!(subject.core.next_deadline(), core.next_deadline());
    assert!(out.writes.is_empty());
}

fuzz_target!(|input: (Scene, Vec<Act<Sketch>>)| {
    drive(&input.0, &input.1, message);
});
