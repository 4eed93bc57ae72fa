//! Appends against a core in any role: overlapping, conflicting, with gaps, of old and new leaders.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tenure::message::{AppendEntries, Body, Message};
use tenure::time::Instant;
use tenure::types::{Index, RoundId};
use tenure_fuzz::{Act, AnyRank, Entries, Fresh, Near, Peer, Scene, Subject, drive};

#[derive(Arbitrary, Debug)]
struct Sketch {
    from: Peer,
    term: Near,
    stamp: u64,
    round: u64,
    commit: Near,
    rank: Option<AnyRank>,
    fresh: Option<Fresh>,
    entries: Entries,
}

fn message(subject: &Subject, sketch: &Sketch) -> Option<Message> {
    let status = subject.core.status();
    let append = AppendEntries {
        stamp: Instant::from_nanos(sketch.stamp),
        round: RoundId(sketch.round),
        commit: Index(sketch.commit.to(status.last.index.0)),
        rank: sketch.rank.map(AnyRank::into),
        fresh: sketch.fresh.map(|fresh| fresh.of(subject)),
        snapshot: false,
        slice: sketch.entries.of(subject)?,
    };
    let from = sketch.from.id();
    Some(subject.message(from, sketch.term.to(status.term.0), Body::AppendEntries(append)))
}

fuzz_target!(|input: (Scene, Vec<Act<Sketch>>)| {
    drive(&input.0, &input.1, message);
});
