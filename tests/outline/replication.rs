//! Section D: replication.

use super::*;

#[test]
fn r01_a_proposal_is_sent_at_once_on_the_heartbeats_message() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    let (proposed, sent) = lone.propose(&["a"]);
    assert_eq!((proposed.first, proposed.accepted, proposed.refused), (EntryId::new(3, 2), 1, None));
    for peer in [2, 3] {
        assert_eq!(format!("{:?}", appends_to(peer, &sent)[0].1.slice), "after 2@2 [3@2]");
    }
}

#[test]
fn r01_proposals_are_refused_where_they_cannot_be_appended() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let not_leader = ProposeError::NotLeader { leader: Some(NodeId(2)) };
    assert_eq!(lone.propose(&["a"]).0.refused, Some(not_leader));

    let small = config(|config| {
        config.limits.command_bytes = 4;
        config.limits.uncommitted_entries = 2;
    });
    let mut lone = Lone::start(small, Disk::founded(voters(3)));
    lone.elect();
    let (proposed, _) = lone.propose(&["four", "fives"]);
    assert_eq!((proposed.accepted, proposed.refused), (1, Some(ProposeError::TooLarge { bytes: 5, limit: 4 })));
    let (proposed, sent) = lone.propose(&["b", "c"]);
    assert_eq!((proposed.accepted, proposed.refused), (1, Some(ProposeError::Overloaded)));
    assert!(sent.is_empty(), "the first append has not been answered: probing");
}

#[test]
fn r02_a_mismatch_is_answered_with_the_conflicting_term_and_its_first_index() {
    let mut lone = Lone::with_log(9, &[2, 2, 5, 5, 5]);
    let hint = |lone: &mut Lone, prev| append_outcomes(&lone.append_from(2, 9, prev, vec![], 0))[0].0;
    let conflict = Some((Term(5), Index(4)));
    let last = EntryId::new(6, 5);
    assert_eq!(hint(&mut lone, EntryId::new(6, 7)), AppendOutcome::Mismatch { prev: Index(6), last, conflict });
    let beyond = AppendOutcome::Mismatch { prev: Index(9), last, conflict: None };
    assert_eq!(hint(&mut lone, EntryId::new(9, 7)), beyond);
}

/// Plays a follower with the log `theirs` against a leader with the log `ours`; counts the rounds until they agree.
fn rounds_to_agree(ours: &[u64], theirs: &[u64]) -> usize {
    let mut leader = Lone::with_log(20, ours);
    let mut follower = Lone::with_log(20, theirs);
    let mut sent = leader.elect();
    let mut rounds = 0;
    while leader.core.status().peers[0].1 != leader.last().index {
        let mut answers = Vec::new();
        for (term, append) in appends_to(2, &sent) {
            let (prev, entries) = (append.slice.prev(), append.slice.entries().to_vec());
            let answer = follower.append_from(2, term.0, prev, entries, 0);
            answers.push((term, append, *append_outcomes(&answer).last().unwrap()));
        }
        sent.clear();
        for (term, append, (outcome, _)) in answers {
            sent.extend(leader.answer_append(2, term, &append, outcome));
        }
        rounds += 1;
        assert!(rounds < 50, "{ours:?} {theirs:?}");
    }
    assert_eq!(follower.last(), leader.last());
    rounds
}

#[test]
fn r02_b30_one_round_per_conflicting_term_not_per_entry() {
    let long = |term: u64| vec![term; 500];
    assert!(rounds_to_agree(&long(3), &long(2)) <= 3);
    assert!(rounds_to_agree(&[long(2), long(5)].concat(), &[long(2), long(3)].concat()) <= 3);
    assert!(rounds_to_agree(&[long(2), long(6)].concat(), &[long(3), long(4), long(5)].concat()) <= 4);
    assert!(rounds_to_agree(&long(2), &[]) <= 3);
    assert!(rounds_to_agree(&[2, 4, 6, 8], &[3, 5, 7, 9]) <= 6);
}

#[test]
fn r04_who_does_not_answer_does_not_matter() {
    let mut lone = Lone::of(5);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (_, sent) = lone.propose(&["a"]);
    lone.accept(2, &sent);
    assert_eq!(lone.commit(), 1);
    let sent = lone.pass(100);
    let (term, beat) = appends_to(5, &sent).pop().unwrap();
    let sent = lone.answer_append(5, term, &beat, AppendOutcome::Accepted { matched: Index(1) });
    lone.accept(5, &sent);
    assert_eq!(lone.commit(), 3, "with 1, 2 and 5; 3 and 4 never spoke");
}

/// `r05`, `b29`: figure 3.7 of the dissertation. Entry 2@2 reaches a majority in term 4 and is still not committed.
#[test]
fn r05_b29_an_entry_of_an_older_term_is_not_committed_by_counting() {
    let mut lone = Lone::with_log(3, &[2]);
    let sent = lone.elect();
    let (term, append) = appends_to(2, &sent).remove(0);
    lone.answer_append(2, term, &append, AppendOutcome::Accepted { matched: Index(2) });
    assert_eq!(lone.commit(), 1, "2@2 is on two of three, but of an older term");
    lone.answer_append(2, term, &append, AppendOutcome::Accepted { matched: Index(3) });
    assert_eq!(lone.commit(), 3);
}

#[test]
fn r05_c07_the_leader_counts_itself_only_when_its_own_disk_has_the_entry() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.prompt_disk = false;
    let (_, sent) = lone.propose(&["a"]);
    assert_eq!(appends_to(2, &sent).len(), 1, "sent while its own disk writes (dissertation 10.2.1)");
    lone.accept(2, &sent);
    assert_eq!(lone.commit(), 2);
    lone.sync();
    assert_eq!(lone.commit(), 3);
}

#[test]
fn r05_b38_what_is_committed_is_applied_only_once_it_is_durable_here() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    lone.prompt_disk = false;
    let (_, sent) = lone.propose(&["a"]);
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    assert_eq!((lone.commit(), lone.applied.len()), (3, 2), "two others have it, we do not");
    lone.sync();
    assert_eq!(lone.applied.len(), 3);
}

#[test]
fn r06_a_follower_waits_to_its_deadline_and_has_nothing_to_do_before() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let deadline = lone.deadline();
    for _ in 0..100 {
        lone.now = lone.now + ms(5);
        assert!(lone.step(Input::Deadline).is_empty());
    }
    assert_eq!(lone.deadline(), deadline);
}

#[test]
fn r07_an_append_restarts_its_peers_heartbeat_deadline() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    lone.pass(60);
    lone.propose(&["a"]);
    assert_eq!(lone.deadline().since(lone.now), ms(100));
}

/// `r08`: the assertions of the source are checked after every step of every test here (`check_invariants`), and in
/// production they are errors: nonsense from outside is dropped and counted.
#[test]
fn r08_nonsense_is_counted_not_believed() {
    let mut lone = Lone::of(3);
    lone.receive(
        1,
        5,
        Body::Vote(VoteRequest {
            round: RoundId(1),
            campaign_term: Term(5),
            last: FOUNDED,
            configuration: Index(1),
            abdicated: None,
        }),
    );
    let future_log = VoteRequest {
        round: RoundId(1),
        campaign_term: Term(5),
        last: EntryId::new(9, 5),
        configuration: Index(1),
        abdicated: None,
    };
    lone.receive(2, 5, Body::Vote(future_log));
    let other_term = VoteRequest {
        round: RoundId(1),
        campaign_term: Term(9),
        last: FOUNDED,
        configuration: Index(1),
        abdicated: None,
    };
    lone.receive(2, 5, Body::Vote(other_term));
    lone.append_from(2, 5, FOUNDED, vec![command(2, 6)], 0);
    assert_eq!(lone.core.status().counters.misdirected, 4);
    assert_eq!((lone.term(), lone.last()), (1, FOUNDED));
}

/// The window bounds a probe too: it may stay unanswered by the disk, and then counts as in flight.
#[test]
fn r08_a_probe_fits_the_window() {
    let small = config(|config| config.limits.window_entries = 2);
    let mut lone = Lone::start(small, Disk::founded(voters(3)));
    let sent = lone.elect();
    lone.accept(2, &sent);
    for name in ["a", "b", "c", "d"] {
        let (_, sent) = lone.propose(&[name]);
        lone.accept(2, &sent);
    }
    let beats = lone.pass(100);
    let (term, beat) = appends_to(3, &beats).remove(0);
    let (prev, last) = (beat.slice.prev().index, EntryId::ZERO);
    let probe = lone.answer_append(3, term, &beat, AppendOutcome::Mismatch { prev, last, conflict: None });
    assert_eq!(appends_to(3, &probe).iter().map(|(_, append)| append.slice.len()).max(), Some(2));
}
