//! Section B: the lessons that one core can show; the others need clusters (`tests/cluster.rs`), threads or sockets.

use super::*;

#[test]
fn l03_only_a_current_leader_or_a_granted_vote_resets_the_election_timer() {
    let mut lone = Lone::with_log(4, &[4]);
    let deadline = lone.deadline();
    lone.append_from(2, 3, FOUNDED, vec![], 0);
    lone.pre_vote_from(2, 8, EntryId::new(9, 8));
    lone.vote_from(2, 9, EntryId::new(1, 1));
    assert_eq!(lone.deadline(), deadline, "old append, pre-vote granted, vote refused");
    lone.pass(10);
    lone.heartbeat_from(3, 9);
    assert_ne!(lone.deadline(), deadline);
}

#[test]
fn l04_a_higher_term_is_adopted_before_the_request_is_handled() {
    let mut lone = Lone::with_log(4, &[]);
    lone.vote_from(2, 5, FOUNDED);
    let sent = lone.vote_from(3, 6, FOUNDED);
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted, "the vote of term 5 does not stand in term 6's way");
}

#[test]
fn l05_l27_an_idle_peer_gets_ten_messages_a_second_and_a_busy_one_no_extra_heartbeat() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    let idle = lone.pass_with(&[2, 3], 1000);
    assert_eq!(appends_to(2, &idle).len(), 10);
    let mut busy = Vec::new();
    for _ in 0..20 {
        let (_, sent) = lone.propose(&["x"]);
        lone.accept(2, &sent);
        busy.extend(sent);
        busy.extend(lone.pass(50));
    }
    assert_eq!(appends_to(2, &busy).len(), 20, "one append per proposal, no heartbeat between");
}

#[test]
fn l08_late_answers_of_an_older_round_change_nothing() {
    let mut lone = Lone::of(5);
    let first = lone.stand();
    lone.pass_to_deadline();
    let second = lone.stand();
    for voter in 2..=5 {
        lone.grant(voter, &first);
    }
    assert_eq!(lone.role(), RoleKind::PreCandidate);
    lone.grant(2, &second);
    lone.grant(3, &second);
    assert_eq!(lone.role(), RoleKind::Candidate);
}

#[test]
fn l15_a_heartbeat_is_not_retried() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    let sent = lone.pass(950);
    assert_eq!(appends_to(2, &sent).len(), 9, "unanswered heartbeats make no further messages");
}

#[test]
fn l17_an_unanswered_append_goes_back_to_probing_and_is_sent_again() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    lone.propose(&["a", "b"]);
    let quiet = lone.pass(300);
    assert!(appends_to(2, &quiet).iter().all(|(_, append)| append.slice.is_empty()));
    let again = lone.pass(E / 3 - 300 + 1);
    let resent = appends_to(2, &again).into_iter().find(|(_, append)| append.slice.len() == 2);
    let (term, append) = resent.expect("sent again after rpc_timeout");
    lone.answer_append(2, term, &append, AppendOutcome::Accepted { matched: Index(4) });
    assert_eq!(lone.commit(), 4);
}

#[test]
fn l17_a_late_answer_is_still_used() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (_, first) = lone.propose(&["a"]);
    lone.pass(E / 2);
    lone.accept(2, &first);
    assert_eq!(lone.commit(), 3);
}

#[test]
fn l18_a_heartbeat_between_timer_and_candidacy_wins() {
    let mut lone = Lone::of(3);
    lone.now = lone.deadline();
    lone.heartbeat_from(2, 1);
    lone.step(Input::Deadline);
    assert_eq!(lone.role(), RoleKind::Follower);
}

#[test]
fn l19_b01_stepping_down_within_a_term_keeps_the_vote() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    lone.grant(2, &pre);
    assert_eq!((lone.term(), lone.vote()), (2, Some(1)));
    lone.append_from(3, 2, FOUNDED, vec![], 0);
    assert_eq!((lone.role(), lone.vote()), (RoleKind::Follower, Some(1)));
    lone.now = lone.now + ms(E);
    let sent = lone.vote_from(2, 2, FOUNDED);
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Refused(Refusal::AlreadyVoted(NodeId(1))));
}

#[test]
fn l20_timers_are_exact_deadlines() {
    let mut lone = Lone::of(3);
    let deadline = lone.deadline();
    lone.now = deadline - Duration::from_nanos(1);
    lone.step(Input::Deadline);
    assert_eq!((lone.role(), lone.deadline()), (RoleKind::Follower, deadline), "too early: nothing happens");
    lone.now = deadline;
    lone.step(Input::Deadline);
    assert_eq!(lone.role(), RoleKind::PreCandidate);
}

#[test]
fn l22_every_round_draws_a_fresh_timeout() {
    let mut lone = Lone::of(3);
    let mut timeouts = std::collections::BTreeSet::new();
    for _ in 0..20 {
        timeouts.insert(lone.deadline().since(lone.now));
        lone.stand();
        lone.pass_to_deadline();
    }
    assert_eq!(timeouts.len(), 20);
}

#[test]
fn l22_b12_the_same_seed_gives_different_nodes_different_timeouts() {
    let deadline = |id| {
        let mut out = tenure::core::Output::new();
        let restored = Disk::founded(voters(3)).restore(Index::ZERO);
        let config = config(|config| config.id = NodeId(id));
        tenure::core::Core::new(config, restored, Instant::ZERO, &mut out).unwrap().next_deadline()
    };
    assert_ne!(deadline(1), deadline(2));
    assert_eq!(deadline(1), deadline(1), "and a seed replays");
}

#[test]
fn l25_a_lone_voter_elects_itself_commits_and_restarts() {
    let mut lone = Lone::of(1);
    lone.pass_to_deadline();
    let (proposed, _) = lone.propose(&["a", "b"]);
    assert_eq!((proposed.first, proposed.accepted), (EntryId::new(3, 2), 2));
    assert_eq!(lone.commit(), 4);
    let mut lone = lone.restart();
    lone.pass_to_deadline();
    assert_eq!((lone.role(), lone.commit()), (RoleKind::Leader, 5));
    let commands: Vec<_> = lone.applied.iter().filter(|entry| !entry.payload.is_empty()).skip(1).collect();
    assert_eq!(commands.iter().map(|entry| &entry.payload[..]).collect::<Vec<_>>(), [b"a", b"b"]);
}

#[test]
fn l26_a_vote_round_is_not_retried_inside_itself() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let votes = lone.grant(2, &pre);
    assert_eq!(requests(&votes).len(), 2);
    assert!(lone.pass(E / 2 - 1).is_empty());
}

#[test]
fn l28_b34_what_was_sent_does_not_change_when_the_log_does() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (_, sent) = lone.propose(&["mine"]);
    let before = format!("{:?}", appends_to(2, &sent));
    lone.append_from(3, 5, FOUNDED, vec![command(2, 5), command(3, 5)], 0);
    assert_eq!(format!("{:?}", appends_to(2, &sent)), before);
}
