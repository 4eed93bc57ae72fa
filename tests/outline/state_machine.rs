//! Section A: elections, roles, timers, AppendEntries at the receiver.

use super::*;

#[test]
fn o01_starts_as_follower_with_its_term_vote_and_log() {
    let hard_state = HardState { term: Term(7), vote: Some(NodeId(3)), longest_promise: ms(E) };
    let lone = Lone::start(config(|_| ()), Disk::with_history(voters(3), hard_state, &[2, 5]));
    let status = lone.core.status();
    assert_eq!((status.role, status.term, status.vote), (RoleKind::Follower, Term(7), Some(NodeId(3))));
    assert_eq!(status.last, EntryId::new(3, 5));
    let timer = lone.deadline().since(lone.now);
    assert!(ms(E) <= timer && timer < ms(2 * E), "the election timer runs: {timer:?}");
}

#[test]
fn o01_a_start_that_contradicts_itself_is_refused() {
    let start = |hard_state: HardState, terms: &[u64], applied: u64| {
        let disk = Disk::with_history(voters(3), hard_state, terms);
        let mut out = tenure::core::Output::new();
        let restored = disk.restore(Index(applied));
        tenure::core::Core::new(config(|_| ()), restored, Instant::ZERO, &mut out).map(|_| ())
    };
    let term = |term| HardState { term: Term(term), ..HardState::default() };
    assert!(matches!(start(term(4), &[5], 0), Err(StartError::TermBehindLog { .. })));
    assert!(matches!(start(term(5), &[5], 3), Err(StartError::AppliedBeyondLog { .. })));
    assert_eq!(start(term(5), &[5], 2), Ok(()));
}

#[test]
fn o02_the_election_timer_starts_a_pre_vote_round() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    assert_eq!(lone.leader(), Some(2));
    lone.stand();
    assert_eq!((lone.role(), lone.leader(), lone.term()), (RoleKind::PreCandidate, None, 1));
    assert_eq!(lone.deadline().since(lone.now), ms(E / 2), "the pre-vote timer runs");
}

#[test]
fn o02_a_promised_node_re_arms_and_stays_follower() {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(5 * E) };
    let mut lone = Lone::start(config(|_| ()), Disk::with_history(voters(3), hard_state, &[3]));
    let promised_until = lone.now + ms(5 * E);
    assert!(lone.pass_to_deadline().is_empty());
    assert_eq!(lone.role(), RoleKind::Follower);
    let deadline = lone.deadline();
    assert!(promised_until <= deadline && deadline < promised_until + ms(E / 4), "p14: {deadline:?}");
}

#[test]
fn o02_a_lone_voter_leads_without_waiting_for_anyone() {
    let mut lone = Lone::of(1);
    let sent = lone.pass_to_deadline();
    assert_eq!((lone.role(), lone.term()), (RoleKind::Leader, 2));
    assert!(sent.is_empty());
    assert_eq!(lone.commit(), 2, "founding entry and no-op");
}

#[test]
fn o03_a_pre_vote_round_asks_about_the_next_term_and_moves_nothing() {
    let mut lone = Lone::with_log(4, &[2, 4]);
    let writes = lone.writes;
    let sent = requests(&lone.stand());
    assert_eq!(sent.iter().map(|(to, _, _)| *to).collect::<Vec<_>>(), [2, 3]);
    for (_, request, is_pre_vote) in sent {
        assert!(is_pre_vote);
        assert_eq!((request.campaign_term, request.last), (Term(5), EntryId::new(3, 4)));
    }
    assert_eq!((lone.term(), lone.vote(), lone.writes), (4, None, writes), "nothing is persisted");
}

#[test]
fn o04_a_pre_vote_of_an_older_term_is_refused() {
    let mut lone = Lone::with_log(4, &[]);
    assert_eq!(refused(lone.pre_vote_from(2, 2, EntryId::new(9, 2))), Refusal::OldTerm);
}

#[test]
fn o05_a_pre_vote_never_changes_the_receiver() {
    let mut lone = Lone::with_log(4, &[]);
    let (deadline, writes) = (lone.deadline(), lone.writes);
    assert_eq!(lone.pre_vote_from(2, 8, EntryId::new(9, 8)), Verdict::Granted);
    assert_eq!((lone.term(), lone.vote(), lone.role()), (4, None, RoleKind::Follower));
    assert_eq!((lone.deadline(), lone.writes), (deadline, writes));
}

#[test]
fn o05_a_pre_vote_during_a_promise_is_refused() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.pass(300);
    let refusal = refused(lone.pre_vote_from(3, 1, EntryId::new(9, 1)));
    assert_eq!(refusal, Refusal::Promised { leader: Some(NodeId(2)), term: Term(1), remaining: ms(700) });
}

#[test]
fn o06_a_pre_vote_needs_a_log_as_new_as_ours() {
    let mut lone = Lone::with_log(4, &[2, 4]);
    let ours = EntryId::new(3, 4);
    assert_eq!(refused(lone.pre_vote_from(2, 4, EntryId::new(2, 4))), Refusal::LogBehind { last: ours });
    assert_eq!(refused(lone.pre_vote_from(2, 4, EntryId::new(99, 3))), Refusal::LogBehind { last: ours });
    assert_eq!(lone.pre_vote_from(2, 4, ours), Verdict::Granted);
}

#[test]
fn o07_a_quorum_of_pre_votes_makes_a_candidate() {
    let mut lone = Lone::of(5);
    let sent = lone.stand();
    lone.grant(2, &sent);
    lone.grant(2, &sent);
    assert_eq!(lone.role(), RoleKind::PreCandidate, "each voter counts once");
    lone.grant(3, &sent);
    assert_eq!((lone.role(), lone.term()), (RoleKind::Candidate, 2));
}

#[test]
fn o07_answers_of_another_round_or_term_are_ignored() {
    let mut lone = Lone::of(3);
    let first_round = lone.stand();
    lone.pass_to_deadline();
    lone.stand();
    lone.grant(2, &first_round);
    assert_eq!(lone.role(), RoleKind::PreCandidate, "the running round has another id");
    assert_eq!(lone.core.status().counters.stale_answers, 1);
}

#[test]
fn o07_a_higher_term_in_an_answer_makes_a_follower_in_it() {
    let mut lone = Lone::of(3);
    let sent = requests(&lone.stand());
    let (_, request, _) = sent[0];
    let verdict = Verdict::Refused(Refusal::OldTerm);
    let response = VoteResponse { round: request.round, campaign_term: request.campaign_term, verdict };
    lone.receive(2, 9, Body::PreVoteResponse(response));
    assert_eq!((lone.role(), lone.term()), (RoleKind::Follower, 9));
}

#[test]
fn o08_the_pre_vote_timer_ends_the_round() {
    let mut lone = Lone::of(3);
    lone.stand();
    lone.pass_to_deadline();
    assert_eq!(lone.role(), RoleKind::Follower);
    let timer = lone.deadline().since(lone.now);
    assert!(ms(E) <= timer && timer < ms(2 * E));
}

#[test]
fn o09_no_vote_request_leaves_before_the_own_vote_is_durable() {
    let mut lone = Lone::of(3);
    let sent = lone.stand();
    lone.prompt_disk = false;
    assert!(requests(&lone.grant(2, &sent)).is_empty(), "the disk has not answered");
    assert_eq!((lone.role(), lone.term(), lone.vote(), lone.leader()), (RoleKind::Candidate, 2, Some(1), None));
    assert_eq!(lone.deadline().since(lone.now), ms(E / 2), "the vote timer runs");
    let sent = lone.sync();
    assert_eq!(lone.disk.hard_state.vote, Some(NodeId(1)));
    assert_eq!(requests(&sent).len(), 2);
}

#[test]
fn o10_b11_the_own_vote_counts_once_it_is_durable() {
    let mut lone = Lone::of(1);
    lone.prompt_disk = false;
    lone.pass_to_deadline();
    assert_eq!(lone.role(), RoleKind::Candidate);
    lone.sync();
    assert_eq!(lone.role(), RoleKind::Leader);
}

#[test]
fn o10_b11_the_late_own_vote_of_a_lost_election_counts_for_nothing() {
    let mut lone = Lone::of(1);
    lone.prompt_disk = false;
    lone.pass_to_deadline();
    lone.pass_to_deadline();
    assert_eq!(lone.role(), RoleKind::Follower, "the vote timer ended the round");
    lone.sync();
    assert_eq!((lone.role(), lone.term()), (RoleKind::Follower, 2));
}

#[test]
fn o10_b11_the_end_of_an_older_write_is_not_the_own_vote() {
    let patient = config(|config| config.timing.disk_stall_limit = ms(60 * E));
    let mut lone = Lone::start(patient, Disk::founded(voters(1)));
    lone.prompt_disk = false;
    lone.pass_to_deadline();
    lone.pass_to_deadline();
    lone.pass_to_deadline();
    assert_eq!((lone.role(), lone.term()), (RoleKind::Candidate, 3));
    lone.sync_one();
    assert_eq!(lone.role(), RoleKind::Candidate, "only the vote of term 2 is durable");
    lone.sync_one();
    assert_eq!(lone.role(), RoleKind::Leader);
}

#[test]
fn o10_the_vote_request_carries_term_and_last_entry() {
    let mut lone = Lone::with_log(4, &[2, 4]);
    let sent = lone.stand();
    let sent = requests(&lone.grant(2, &sent));
    assert_eq!(sent.len(), 2);
    for (_, request, is_pre_vote) in sent {
        assert!(!is_pre_vote);
        assert_eq!((request.campaign_term, request.last), (Term(5), EntryId::new(3, 4)));
    }
}

#[test]
fn o11_a_vote_of_an_older_term_is_refused_with_ours() {
    let mut lone = Lone::with_log(4, &[]);
    let sent = lone.vote_from(2, 3, EntryId::new(9, 2));
    assert_eq!(vote_verdicts(&sent), [(NodeId(2), Term(4), Verdict::Refused(Refusal::OldTerm))]);
}

#[test]
fn o12_a_promise_refuses_a_vote_without_adopting_its_term() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let sent = lone.vote_from(3, 9, EntryId::new(9, 1));
    assert!(matches!(vote_verdicts(&sent)[..], [(_, Term(1), Verdict::Refused(Refusal::Promised { .. }))]));
    assert_eq!((lone.term(), lone.leader()), (1, Some(2)));
}

#[test]
fn o12_d02_a_leader_that_a_quorum_answers_refuses_pre_votes_and_votes() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.pass(10);
    let last = EntryId::new(9, 2);
    assert!(matches!(refused(lone.pre_vote_from(3, 2, last)), Refusal::Promised { leader: Some(NodeId(1)), .. }));
    lone.vote_from(3, 9, last);
    assert_eq!((lone.role(), lone.term()), (RoleKind::Leader, 2));
}

#[test]
fn o12_otherwise_the_term_is_adopted_first() {
    let mut lone = Lone::with_log(4, &[]);
    let sent = lone.vote_from(2, 9, FOUNDED);
    assert_eq!(vote_verdicts(&sent), [(NodeId(2), Term(9), Verdict::Granted)]);
    assert_eq!((lone.term(), lone.vote()), (9, Some(2)));
}

#[test]
fn o13_one_vote_a_term_and_the_same_one_again() {
    let mut lone = Lone::with_log(4, &[]);
    lone.vote_from(2, 9, FOUNDED);
    let other = lone.vote_from(3, 9, EntryId::new(50, 8));
    assert_eq!(vote_verdicts(&other)[0].2, Verdict::Refused(Refusal::AlreadyVoted(NodeId(2))));
    let again = lone.vote_from(2, 9, FOUNDED);
    assert_eq!(vote_verdicts(&again)[0].2, Verdict::Granted);
}

#[test]
fn o13_a_log_behind_ours_gets_no_vote_but_its_term_is_adopted() {
    let mut lone = Lone::with_log(4, &[2, 4]);
    let sent = lone.vote_from(2, 9, EntryId::new(99, 3));
    assert!(matches!(vote_verdicts(&sent)[..], [(_, Term(9), Verdict::Refused(Refusal::LogBehind { .. }))]));
    assert_eq!((lone.term(), lone.vote()), (9, None));
}

#[test]
fn o13_the_grant_leaves_only_when_the_vote_is_durable() {
    let mut lone = Lone::with_log(4, &[]);
    lone.prompt_disk = false;
    assert!(lone.vote_from(2, 9, FOUNDED).is_empty());
    let sent = lone.sync();
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
    assert_eq!(lone.disk.hard_state.vote, Some(NodeId(2)));
}

#[test]
fn o13_a_vote_survives_a_restart() {
    let mut lone = Lone::with_log(4, &[]);
    lone.vote_from(2, 9, FOUNDED);
    let mut lone = lone.restart();
    lone.now = lone.now + ms(2 * E);
    let other = lone.vote_from(3, 9, FOUNDED);
    assert_eq!(vote_verdicts(&other)[0].2, Verdict::Refused(Refusal::AlreadyVoted(NodeId(2))));
}

#[test]
fn o13_l03_a_grant_restarts_the_election_timer_and_a_refusal_does_not() {
    let mut lone = Lone::with_log(4, &[4]);
    let before = lone.deadline();
    lone.vote_from(2, 9, EntryId::new(1, 1));
    assert_eq!(lone.deadline(), before, "refused");
    lone.vote_from(3, 9, EntryId::new(2, 4));
    let timer = lone.deadline().since(lone.now);
    assert!(ms(E) <= timer && timer < ms(2 * E), "granted");
}

#[test]
fn o14_a_quorum_of_votes_makes_a_leader() {
    let mut lone = Lone::of(5);
    let pre = lone.stand();
    lone.grant(2, &pre);
    let votes = lone.grant(3, &pre);
    lone.grant(4, &votes);
    lone.grant(4, &votes);
    assert_eq!(lone.role(), RoleKind::Candidate, "each voter counts once");
    lone.grant(5, &votes);
    assert_eq!(lone.role(), RoleKind::Leader);
}

#[test]
fn o14_votes_of_an_older_election_count_for_nothing() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let old_votes = lone.grant(2, &pre);
    lone.pass_to_deadline();
    let pre = lone.stand();
    lone.grant(2, &pre);
    assert_eq!((lone.role(), lone.term()), (RoleKind::Candidate, 3));
    lone.grant(2, &old_votes);
    assert_eq!(lone.role(), RoleKind::Candidate);
}

#[test]
fn o14_a_higher_term_in_a_vote_answer_makes_a_follower() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let votes = requests(&lone.grant(2, &pre));
    let verdict = Verdict::Refused(Refusal::OldTerm);
    let response = VoteResponse { round: votes[0].1.round, campaign_term: votes[0].1.campaign_term, verdict };
    lone.receive(3, 12, Body::VoteResponse(response));
    assert_eq!((lone.role(), lone.term(), lone.vote()), (RoleKind::Follower, 12, None));
}

#[test]
fn o15_the_vote_timer_ends_the_election() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    lone.grant(2, &pre);
    assert_eq!(lone.role(), RoleKind::Candidate);
    lone.pass_to_deadline();
    assert_eq!((lone.role(), lone.term(), lone.vote()), (RoleKind::Follower, 2, Some(1)));
    let timer = lone.deadline().since(lone.now);
    assert!(ms(E) <= timer && timer < ms(2 * E));
}

#[test]
fn o16_a_new_leader_opens_its_term_with_a_no_op_for_everybody() {
    let mut lone = Lone::with_log(4, &[2, 4]);
    let sent = lone.elect();
    assert_eq!((lone.leader(), lone.last()), (Some(1), EntryId::new(4, 5)));
    for peer in [2, 3] {
        let appends = appends_to(peer, &sent);
        assert_eq!(appends.len(), 1);
        assert_eq!(format!("{:?}", appends[0].1.slice), "after 3@4 [4@5(noop)]", "next = last + 1");
    }
}

#[test]
fn o17_the_heartbeat_carries_term_sender_and_commit_to_every_peer() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    let beats = lone.pass(100);
    for peer in [2, 3] {
        let (term, beat) = appends_to(peer, &beats).pop().expect("a heartbeat");
        assert_eq!((term, beat.commit, beat.slice.len()), (Term(2), Index(2), 0));
    }
    assert!(beats.iter().all(|message| message.from == NodeId(1)));
}

#[test]
fn o18_s06_an_append_of_an_older_term_is_answered_and_otherwise_ignored() {
    let mut lone = Lone::with_log(4, &[4]);
    let (deadline, last) = (lone.deadline(), lone.last());
    let sent = lone.append_from(2, 3, FOUNDED, vec![command(2, 3)], 2);
    assert_eq!(append_outcomes(&sent), [(AppendOutcome::OldTerm, 0)], "and promises nothing");
    assert_eq!(sent[0].term, Term(4));
    assert_eq!((lone.deadline(), lone.last(), lone.commit(), lone.leader()), (deadline, last, 1, None));
}

#[test]
fn o19_an_append_makes_a_follower_of_every_lesser_role() {
    for role in [RoleKind::Follower, RoleKind::PreCandidate, RoleKind::Candidate] {
        let mut lone = Lone::of(3);
        let mut term = 1;
        if role != RoleKind::Follower {
            let sent = lone.stand();
            if role == RoleKind::Candidate {
                lone.grant(2, &sent);
                term = 2;
            }
        }
        assert_eq!(lone.role(), role);
        lone.append_from(3, term, FOUNDED, vec![command(2, term)], 2);
        assert_eq!((lone.role(), lone.leader(), lone.commit()), (RoleKind::Follower, Some(3), 2), "from {role:?}");
        let timer = lone.deadline().since(lone.now);
        assert!(ms(E) <= timer && timer < ms(2 * E), "the election timer was restarted");
    }
}

#[test]
fn o19_a_leader_follows_a_newer_term_and_tells_its_readers() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.read(7);
    lone.append_from(3, 5, FOUNDED, vec![], 0);
    assert_eq!((lone.role(), lone.term(), lone.leader()), (RoleKind::Follower, 5, Some(3)));
    assert!(
        matches!(lone.reads[..], [answer] if answer.result == Err(ReadError::NotLeader { leader: Some(NodeId(3)) }))
    );
}

#[test]
fn o19_b28_commit_follows_only_up_to_what_the_append_vouches_for() {
    let mut lone = Lone::with_log(4, &[3, 3, 3]);
    lone.append_from(2, 5, EntryId::new(2, 3), vec![], 9);
    assert_eq!(lone.commit(), 2, "entries 3 and 4 may differ from the leader's");
}

#[test]
fn o20_a_leader_that_meets_another_of_its_term_stops_the_group() {
    let mut lone = Lone::of(3);
    lone.elect();
    lone.append_from(3, 2, FOUNDED, vec![], 0);
    let fatal = Fatal::TwoLeaders { term: Term(2), one: NodeId(1), other: NodeId(3) };
    assert_eq!(lone.core.status().stopped, Some(fatal));
    assert!(lone.events.contains(&Event::Stopped(fatal)));
    assert_eq!(lone.propose(&["x"]).0.refused, Some(ProposeError::Stopped(fatal)));
    lone.read(1);
    assert_eq!(lone.reads.last().map(|answer| answer.result), Some(Err(ReadError::Stopped(fatal))));
    assert_eq!(lone.core.next_deadline(), None);
}

#[test]
fn o20_a_follower_that_sees_a_second_leader_in_its_term_stops_the_group() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.heartbeat_from(3, 1);
    assert!(matches!(lone.core.status().stopped, Some(Fatal::TwoLeaders { .. })));
}

#[test]
fn o20_even_after_it_has_given_up_on_the_first() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.stand();
    lone.heartbeat_from(3, 1);
    assert!(matches!(lone.core.status().stopped, Some(Fatal::TwoLeaders { .. })));
}

#[test]
fn o21_a_timer_dies_with_its_role() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let votes = lone.grant(2, &pre);
    let vote_deadline = lone.deadline();
    let sent = lone.grant(2, &votes);
    assert_eq!(lone.deadline().since(lone.now), ms(100), "a leader has a heartbeat timer only");
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    lone.now = vote_deadline;
    lone.step(Input::Deadline);
    assert_eq!(lone.role(), RoleKind::Leader);
}
