//! Linearizable reads.

use super::*;

#[test]
fn b70_a_read_before_the_first_commit_of_the_term_waits() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.read(7);
    let beats = lone.pass(100);
    assert!(lone.reads.is_empty());
    let sent = [lone.accept(2, &sent), beats].concat();
    assert!(lone.reads.is_empty(), "committed now; its own round has only just left");
    lone.accept(2, &sent);
    assert!(matches!(lone.reads[..], [answer] if answer.result == Ok(Index(2))));
}

#[test]
fn b71_a_late_answer_of_an_earlier_read_confirms_no_later_one() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    let first = lone.read(1);
    let second = lone.read(1);
    lone.accept(2, &first);
    assert_eq!(lone.reads.len(), 1, "the second waits for a round of its own");
    assert!(second.is_empty(), "which begins when the first one ends");
    lone.accept(3, &first);
    assert_eq!(lone.reads.len(), 1, "and is not confirmed by an answer to the first");
    let second = lone.pass(100);
    lone.accept(2, &second);
    assert_eq!(lone.reads.len(), 2);
}

#[test]
fn b74_whoever_waits_is_told_when_leadership_ends() {
    let mut lone = Lone::of(3);
    lone.elect();
    lone.read(1);
    lone.vote_from(3, 9, EntryId::new(9, 2));
    assert!(matches!(lone.reads[..], [answer] if matches!(answer.result, Err(ReadError::NotLeader { .. }))));
}
