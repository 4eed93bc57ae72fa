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

/// Of five, nodes 2 and 3 have acknowledged up to 4; then node 2's disk loses its tail. What it has again does not count
/// for commit until it is back at 4.
#[test]
fn s05_b33_a_peer_that_lost_its_tail_is_reported_and_left_out_until_it_is_back() {
    let mut lone = Lone::of(5);
    let sent = lone.elect();
    for peer in [2, 3] {
        lone.accept(peer, &sent);
    }
    let (_, sent) = lone.propose(&["a", "b"]);
    lone.accept(2, &sent);
    assert_eq!(lone.commit(), 2, "4 is on two of five");
    let beats = lone.pass(100);
    let (term, beat) = appends_to(2, &beats).remove(0);
    let lost = AppendOutcome::Mismatch { prev: beat.slice.prev().index, last: FOUNDED, conflict: None };
    lone.now = lone.now + ms(1);
    let probes = lone.answer_append(2, term, &beat, lost);
    assert!(lone.events.contains(&Event::TailLost { peer: NodeId(2), matched: Index(4), last: Index(1) }));
    assert_eq!(lone.core.status().counters.tails_lost, 1);

    lone.accept(2, &sent);
    assert_eq!(
        lone.core.status().peers[0],
        (NodeId(2), Index(0)),
        "a late answer from before the loss is not believed"
    );
    lone.accept(3, &sent);
    assert_eq!(lone.commit(), 2, "1 and 3 have index 4; 2 has lost it");
    let (term, probe) = appends_to(2, &probes).remove(0);
    lone.answer_append(2, term, &probe, AppendOutcome::Accepted { matched: Index(3) });
    assert_eq!(lone.commit(), 2, "back at 3 of 4: does not count yet");
    lone.answer_append(2, term, &probe, AppendOutcome::Accepted { matched: Index(4) });
    assert_eq!(lone.commit(), 4);
}

/// Two appends overtake each other on the way: the follower refuses the second, then takes the first. That is no loss.
#[test]
fn s05_answers_that_overtook_each_other_are_no_loss_report() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (_, first) = lone.propose(&["a"]);
    lone.now = lone.now + ms(1);
    let (_, second) = lone.propose(&["b"]);
    lone.now = lone.now + ms(5);
    lone.accept(2, &first);
    let (term, append) = appends_to(2, &second).remove(0);
    let (prev, last) = (Index(3), EntryId::new(2, 2));
    lone.answer_append(2, term, &append, AppendOutcome::Mismatch { prev, last, conflict: None });
    assert_eq!(lone.core.status().counters.tails_lost, 0);
    assert_eq!(lone.core.status().peers[0], (NodeId(2), Index(3)));
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
