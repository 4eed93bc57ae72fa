//! Section C: structure.

use super::*;

#[test]
fn s01_committed_entries_are_handed_out_once_and_in_order() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    for name in ["a", "b", "c"] {
        let (_, sent) = lone.propose(&[name]);
        lone.accept(2, &sent);
        lone.accept(3, &sent);
    }
    let indexes: Vec<_> = lone.applied.iter().map(|entry| entry.id.index.0).collect();
    assert_eq!(indexes, [1, 2, 3, 4, 5]);
}

#[test]
fn s04_doubled_and_reordered_messages_leave_the_same_log() {
    let mut lone = Lone::with_log(4, &[]);
    let (two, three) = (EntryId::new(2, 5), EntryId::new(3, 5));
    lone.append_from(2, 5, two, vec![command(3, 5)], 0);
    assert_eq!(lone.last(), FOUNDED, "its predecessor is missing");
    lone.append_from(2, 5, FOUNDED, vec![command(2, 5), command(3, 5)], 0);
    lone.append_from(2, 5, FOUNDED, vec![command(2, 5)], 0);
    assert_eq!(lone.last(), three, "an older, shorter append removes nothing");
}

#[test]
fn s05_an_answer_counts_only_for_the_term_of_its_request() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    let (_, append) = appends_to(2, &sent).remove(0);
    lone.answer_append(2, Term(1), &append, AppendOutcome::Accepted { matched: Index(2) });
    assert_eq!(lone.commit(), 1);
    assert_eq!(lone.core.status().counters.stale_answers, 1);
}

#[test]
fn s05_b20_match_never_goes_back() {
    let mut lone = Lone::of(5);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (_, sent) = lone.propose(&["a", "b"]);
    let (term, append) = appends_to(2, &sent).remove(0);
    lone.answer_append(2, term, &append, AppendOutcome::Accepted { matched: Index(4) });
    lone.answer_append(2, term, &append, AppendOutcome::Accepted { matched: Index(3) });
    let (prev, last) = (Index(2), EntryId::new(4, 2));
    lone.answer_append(2, term, &append, AppendOutcome::Mismatch { prev, last, conflict: None });
    assert_eq!(lone.core.status().peers[0], (NodeId(2), Index(4)));
}

#[test]
fn s05_b33_a_peer_that_lost_its_tail_is_reported_and_left_out_until_it_is_back() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (_, sent) = lone.propose(&["a", "b"]);
    lone.accept(2, &sent);
    assert_eq!(lone.commit(), 4);
    let beats = lone.pass(100);
    let (term, beat) = appends_to(2, &beats).remove(0);
    let (prev, last) = (beat.slice.prev().index, FOUNDED);
    let again = lone.answer_append(2, term, &beat, AppendOutcome::Mismatch { prev, last, conflict: None });
    assert!(lone.events.contains(&Event::TailLost { peer: NodeId(2), matched: Index(4), last: Index(1) }));
    assert_eq!(lone.core.status().counters.tails_lost, 1);

    let (_, more) = lone.propose(&["c"]);
    assert!(appends_to(2, &more).is_empty(), "it is being probed");
    let (term, probe) = appends_to(2, &again).remove(0);
    assert_eq!(probe.slice.prev(), FOUNDED);
    lone.answer_append(2, term, &probe, AppendOutcome::Accepted { matched: Index(3) });
    assert_eq!(lone.commit(), 4, "back at 3 of 4: does not count yet");
}

#[test]
fn s05_answers_from_strangers_and_for_the_future_are_dropped() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    let (term, append) = appends_to(2, &sent).remove(0);
    lone.answer_append(9, term, &append, AppendOutcome::Accepted { matched: Index(2) });
    lone.answer_append(2, term, &append, AppendOutcome::Accepted { matched: Index(99) });
    assert_eq!(lone.commit(), 1);
    lone.answer_append(9, Term(99), &append, AppendOutcome::OldTerm);
    assert_eq!(lone.term(), 2, "a leader does not listen to answers from outside");
}
