//! Who stands when: the line of succession, priorities, and what is known when nobody leads (rules `p13`, `p14`).

use super::*;
use tenure::config::Priority;
use tenure::message::Rank;
use tenure::quorum::Configuration;

fn ranks(sent: &[Message]) -> Vec<(u64, Option<u32>)> {
    let rank = |message: &Message| match &message.body {
        Body::AppendEntries(append) => Some((message.to.0, append.rank.map(|rank| rank.place))),
        _ => None,
    };
    sent.iter().filter_map(rank).collect()
}

fn ranked(lone: &mut Lone, place: u32) {
    ranked_by(lone, Rank { place, slot: ms(40) });
}

fn ranked_by(lone: &mut Lone, rank: Rank) {
    let rank = Some(rank);
    let slice = LogSlice::new(FOUNDED, vec![]).unwrap();
    let append = AppendEntries {
        stamp: lone.now,
        round: RoundId(5),
        commit: Index(1),
        rank,
        fresh: None,
        snapshot: false,
        slice,
    };
    lone.receive(2, 1, Body::AppendEntries(append));
}

#[test]
fn a_leader_ranks_who_answers_and_keeps_up_before_who_does_not() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    assert_eq!(ranks(&lone.pass(100)), [(2, Some(0)), (3, Some(1))]);
    lone.pass_with(&[3], 500);
    let sent = lone.pass(100);
    assert_eq!(ranks(&sent), [(2, Some(1)), (3, Some(0))], "n2 is silent");
}

#[test]
fn a_leader_ranks_by_priority_among_those_that_are_fit() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    let answer = |lone: &mut Lone, peer, sent: &[Message], priority| {
        for (term, append) in appends_to(peer, sent) {
            let outcome = AppendOutcome::Accepted { matched: append.slice.last().index };
            lone.answer_append_as(peer, term, &append, outcome, |answer| answer.priority = priority);
        }
    };
    let mut beat = sent;
    for _ in 0..3 {
        answer(&mut lone, 2, &beat, Priority::Normal);
        answer(&mut lone, 3, &beat, Priority::High);
        beat = lone.pass(100);
    }
    assert_eq!(ranks(&beat), [(2, Some(1)), (3, Some(0))]);
    for _ in 0..3 {
        answer(&mut lone, 2, &beat, Priority::Normal);
        beat = lone.pass(100);
    }
    assert_eq!(ranks(&beat), [(2, Some(0)), (3, Some(1))], "no priority makes up for silence");
}

#[test]
fn a_ranked_follower_waits_for_its_turn() {
    for (place, from, to) in [(0, 10, 20), (1, 50, 60), (3, 130, 140)] {
        let mut lone = Lone::of(3);
        ranked(&mut lone, place);
        let wait = lone.deadline().since(lone.now);
        assert!(ms(E + from) <= wait && wait < ms(E + to), "place {place}: {wait:?}");
    }
}

/// What a leader was told by the one before it is of no use once it leads no more.
#[test]
fn a_leader_forgets_its_own_place() {
    let mut waits = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let mut lone = Lone::start(config(|config| config.seed = seed), Disk::founded(voters(3)));
        ranked(&mut lone, 0);
        let sent = lone.elect();
        let (term, append) = appends_to(3, &sent).remove(0);
        // Nobody else has answered yet: the newer term ends its leadership.
        let old = answer_to(term, &append, AppendOutcome::OldTerm, |answer| answer.promise_ms = 0);
        lone.receive(3, term.0 + 5, Body::AppendResponse(old));
        assert_eq!(lone.role(), RoleKind::Follower);
        waits.insert(lone.deadline().since(lone.now).as_millis() / 100);
    }
    assert!(waits.len() > 2, "anywhere between one and two timeouts: {waits:?}");
}

#[test]
fn a_place_far_behind_is_no_reason_to_wait_for_ever() {
    let mut lone = Lone::of(3);
    ranked_by(&mut lone, Rank { place: u32::MAX, slot: Duration::MAX });
    assert!(lone.deadline().since(lone.now) < ms(2 * E));
}

#[test]
fn who_failed_takes_its_chance_like_anybody_else() {
    let mut lone = Lone::of(3);
    ranked(&mut lone, 0);
    lone.stand();
    lone.pass_to_deadline();
    assert_eq!(lone.role(), RoleKind::Follower);
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..5 {
        waits.insert(lone.deadline().since(lone.now).as_millis() / 100);
        lone.stand();
        lone.pass_to_deadline();
    }
    assert!(waits.len() > 2, "anywhere between one and two timeouts: {waits:?}");
}

#[test]
fn priorities_share_the_range_when_there_is_no_line() {
    let wait = |priority, seed| {
        let config = config(|config| (config.priority, config.seed) = (priority, seed));
        let lone = Lone::start(config, Disk::founded(voters(3)));
        lone.deadline().since(lone.now)
    };
    for seed in 0..50 {
        assert!(wait(Priority::High, seed) < ms(E + E / 2));
        assert!(wait(Priority::Low, seed) >= ms(E + E / 2));
        assert!((ms(E)..ms(2 * E)).contains(&wait(Priority::Normal, seed)));
    }
}

/// A priority is no vote: the log decides.
#[test]
fn a_high_priority_elects_no_stale_node() {
    let high = config(|config| config.priority = Priority::High);
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(E) };
    let mut lone = Lone::start(high, Disk::with_history(voters(3), hard_state, &[]));
    let pre = lone.stand();
    let behind = Verdict::Refused(Refusal::LogBehind { last: EntryId::new(5, 3) });
    lone.answer_votes(2, &pre, behind);
    lone.answer_votes(3, &pre, behind);
    assert_eq!(lone.role(), RoleKind::Follower);
}

#[test]
fn p14_only_voters_stand() {
    let mut lone = removed();
    lone.pass(10 * E);
    assert_eq!((lone.role(), lone.term()), (RoleKind::Follower, 3));
    assert_eq!(lone.core.status().no_leader.unwrap().obstacle, Some(Obstacle::NotAVoter));
}

#[test]
fn p14_b10_who_is_no_voter_votes_all_the_same() {
    let mut lone = removed();
    lone.now = lone.now + ms(E);
    let sent = lone.vote_from(2, 9, EntryId::new(9, 3));
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
    lone.abdication_of(2, 9, Some(1));
    assert_eq!(lone.role(), RoleKind::Follower, "and does not stand even if it is told to");
}

/// Only a committed configuration removes the asker, if it has no newer one, and only from pre-votes.
#[test]
fn p14_who_was_removed_is_told_so_in_a_pre_vote_and_nowhere_else() {
    let mut lone = with_configurations(&[Configuration::of_voters([1, 2].map(NodeId)).unwrap()]);
    lone.now = lone.now + ms(E);
    let last = EntryId::new(9, 3);
    assert_eq!(lone.pre_vote_from(3, 3, last), Verdict::Granted, "it may still be undone");
    lone.append_from(2, 3, EntryId::new(2, 3), vec![], 2);
    lone.now = lone.now + ms(E);
    assert_eq!(refused(lone.pre_vote_from(3, 3, last)), Refusal::Removed { configuration: Index(2) });
    let seen = lone.pre_vote_of_configuration(3, 3, last, Index(2));
    assert_eq!(refused(seen), Refusal::Removed { configuration: Index(2) }, "it does not know that it is committed");
    assert_eq!(lone.pre_vote_of_configuration(3, 3, last, Index(3)), Verdict::Granted, "that may be a newer one");
    let sent = lone.vote_from(3, 4, last);
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
}

#[test]
fn p14_who_hears_from_a_quorum_that_it_was_removed_stops_standing_until_a_leader_writes_to_it() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let removed = Verdict::Refused(Refusal::Removed { configuration: Index(7) });
    lone.answer_votes(2, &pre, removed);
    assert!(!lone.events.contains(&Event::Removed));
    lone.answer_votes(3, &pre, removed);
    assert!(lone.events.contains(&Event::Removed));
    lone.pass(20 * E);
    assert_eq!(lone.role(), RoleKind::Follower);
    assert_eq!(lone.core.status().no_leader.unwrap().obstacle, Some(Obstacle::Removed));
    lone.heartbeat_from(2, 1);
    lone.stand();
    assert_eq!(lone.role(), RoleKind::PreCandidate);
}

#[test]
fn status_says_why_there_is_no_leader() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let behind = Verdict::Refused(Refusal::LogBehind { last: EntryId::new(9, 1) });
    lone.answer_votes(2, &pre, behind);
    let why = lone.core.status().no_leader.unwrap().to_string();
    assert_eq!(why, "asked for pre-votes in t2, n1 granted, n2 refused (log behind 9@1), n3 silent");
    lone.pass_to_deadline();
    assert_eq!(lone.core.status().no_leader.unwrap().to_string(), why, "and still after the round");
    lone.heartbeat_from(2, 1);
    assert_eq!(lone.core.status().no_leader, None);
    lone.now = lone.deadline();
    lone.step(Input::ClockJumped);
}

/// `o07`: a newer term is no sign of a leader: the election timer had run out, so this node stands again soon.
#[test]
fn o07_a_pre_candidate_that_learns_a_newer_term_stands_again_soon() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    lone.answer_votes_in_term(2, &pre, Verdict::Granted, 6);
    assert_eq!((lone.role(), lone.term()), (RoleKind::Follower, 6));
    assert!(lone.deadline().since(lone.now) < ms(E / 4));
}

/// Node 1, restarted, and told since that it was removed.
fn removed() -> Lone {
    let mut lone = with_configurations(&[Configuration::of_voters([2, 3].map(NodeId)).unwrap()]);
    lone.append_from(2, 3, EntryId::new(2, 3), vec![], 2);
    lone
}

/// Node 1, restarted with a founding configuration of three and then these, at index 2 and on, of term 3.
pub(super) fn with_configurations(later: &[Configuration]) -> Lone {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(E) };
    let mut disk = Disk::with_history(voters(3), hard_state, &[]);
    for (at, configuration) in later.iter().enumerate() {
        let id = EntryId::new(at as u64 + 2, 3);
        disk.entries.push(Entry { id, kind: EntryKind::Configuration, payload: configuration.encode() });
    }
    Lone::start(config(|_| ()), disk)
}
