//! Farewells of leaders against a core in any role. Beside the judge's rules: a farewell is a word about one term and
//! one leader; it touches no log, and moves the term only of the successor, which stands (`p09`).

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tenure::core::{Input, Output};
use tenure::message::{Abdicate, Body, Message};
use tenure::types::NodeId;
use tenure_fuzz::{Act, Near, Peer, Scene, Speaker, Subject, drive};

#[derive(Arbitrary, Debug)]
struct Sketch {
    from: Speaker,
    term: Near,
    successor: Successor,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Successor {
    Nobody,
    /// The core itself.
    You,
    Peer(Peer),
}

impl Successor {
    fn id(self, subject: &Subject) -> Option<NodeId> {
        match self {
            Self::Nobody => None,
            Self::You => Some(subject.core.status().id),
            Self::Peer(peer) => Some(peer.id()),
        }
    }
}

fn message(subject: &Subject, sketch: &Sketch) -> Option<Message> {
    let farewell = Abdicate { successor: sketch.successor.id(subject) };
    let term = sketch.term.to(subject.core.status().term.0);
    let message = subject.message(sketch.from.id(subject), term, Body::Abdicate(farewell));
    moves_only_the_successor(subject, &message, farewell);
    Some(message)
}

fn moves_only_the_successor(subject: &Subject, message: &Message, farewell: Abdicate) {
    let mut core = subject.core.clone();
    let mut out = Output::new();
    core.step(subject.now, Input::Received(message.clone()), &mut out);
    let (before, after) = (subject.core.status(), core.status());
    assert_eq!((before.last, before.commit, before.stopped), (after.last, after.commit, after.stopped));
    let stands = farewell.successor == Some(before.id) && after.term == before.term.next();
    if !stands {
        assert_eq!((before.term, before.vote), (after.term, after.vote));
        assert!(out.writes.is_empty());
    }
    if message.term != before.term {
        assert_eq!((before.role, before.leader, before.term), (after.role, after.leader, after.term));
        assert_eq!(subject.core.next_deadline(), core.next_deadline());
    }
}

fuzz_target!(|input: (Scene, Vec<Act<Sketch>>)| {
    drive(&input.0, &input.1, message);
});
