//! Vote requests against a core in any role.

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
    /// A vote asks about the sender's own term; sometimes not, to see that refused.
    campaign_term: Near,
    round: u64,
    last: NearEntry,
    configuration: Near,
    abdicated: Option<Abdication>,
}

fn message(subject: &Subject, sketch: &Sketch) -> Option<Message> {
    let term = sketch.term.to(subject.core.status().term.0.saturating_add(1));
    let request = VoteRequest {
        round: RoundId(sketch.round),
        campaign_term: Term(sketch.campaign_term.to(term)),
        last: sketch.last.of(subject),
        configuration: Index(sketch.configuration.to(subject.configuration_index().0)),
        abdicated: sketch.abdicated.map(|token| token.of(subject)),
    };
    Some(subject.message(sketch.from.id(), term, Body::Vote(request)))
}

fuzz_target!(|input: (Scene, Vec<Act<Sketch>>)| {
    drive(&input.0, &input.1, message);
});
