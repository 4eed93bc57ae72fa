//! The outline, row by row: one core, and a test for each sentence of `docs/rules.md`, section A and C to D.
//!
//! Node 1 is the one under test; the test plays everybody else. `E` is 1 s.

// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::disk::Disk;
use support::lone::*;
use tenure::config::Timing;
use tenure::core::{Event, Fatal, Input, ProposeError, ReadError, RoleKind, StartError};
use tenure::log::HardState;
use tenure::message::{Abdicated, AppendOutcome, Body, Refusal, Verdict, VoteRequest, VoteResponse};
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, Index, NodeId, RoundId, Term};

fn requests(sent: &[tenure::message::Message]) -> Vec<(u64, VoteRequest, bool)> {
    let request = |message: &tenure::message::Message| match &message.body {
        Body::PreVote(request) => Some((message.to.0, *request, true)),
        Body::Vote(request) => Some((message.to.0, *request, false)),
        _ => None,
    };
    sent.iter().filter_map(request).collect()
}

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(reason) => reason,
        Verdict::Granted => panic!("granted"),
    }
}

const FOUNDED: EntryId = EntryId { term: Term(1), index: Index(1) };

// ---- A. the state machine ------------------------------------------------------------------------------------------

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
    let mut lone = Lone::of(1);
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
    assert!(matches!(lone.reads[..], [answer] if answer.result == Err(ReadError::NotLeader { leader: None })));
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

// ---- B. the lessons that one core can show -------------------------------------------------------------------------

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
    let idle = lone.pass(1000);
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
    let sent = lone.pass(1000);
    assert_eq!(appends_to(2, &sent).len(), 10, "unanswered heartbeats make no further messages");
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

// ---- C. structure --------------------------------------------------------------------------------------------------

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

// ---- D. replication ------------------------------------------------------------------------------------------------

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
        Body::Vote(VoteRequest { round: RoundId(1), campaign_term: Term(5), last: FOUNDED, abdicated: None }),
    );
    let future_log =
        VoteRequest { round: RoundId(1), campaign_term: Term(5), last: EntryId::new(9, 5), abdicated: None };
    lone.receive(2, 5, Body::Vote(future_log));
    let other_term = VoteRequest { round: RoundId(1), campaign_term: Term(9), last: FOUNDED, abdicated: None };
    lone.receive(2, 5, Body::Vote(other_term));
    lone.append_from(2, 5, FOUNDED, vec![command(2, 6)], 0);
    assert_eq!(lone.core.status().counters.misdirected, 4);
    assert_eq!((lone.term(), lone.last()), (1, FOUNDED));
}

// ---- promises ------------------------------------------------------------------------------------------------------

#[test]
fn p01_every_append_is_answered_once_its_term_is_durable_and_again_when_its_entries_are() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.prompt_disk = false;
    let at_once = lone.append_from(2, 1, FOUNDED, vec![command(2, 1)], 0);
    let promised = E as u32;
    assert_eq!(append_outcomes(&at_once), [(AppendOutcome::Accepted { matched: Index(1) }, promised)]);
    let later = lone.sync();
    assert_eq!(append_outcomes(&later), [(AppendOutcome::Accepted { matched: Index(2) }, promised)]);
    assert!(lone.sync().is_empty(), "and not a third time");
}

#[test]
fn p01_nothing_promises_for_a_term_that_is_not_durable() {
    let mut lone = Lone::with_log(4, &[]);
    lone.prompt_disk = false;
    assert!(lone.append_from(2, 9, FOUNDED, vec![], 0).is_empty());
    let sent = lone.sync();
    assert_eq!((append_outcomes(&sent).len(), lone.disk.hard_state.term), (1, Term(9)));
}

#[test]
fn p01_a_failed_log_check_promises_too_and_a_promise_only_grows() {
    let mut lone = Lone::of(3);
    let sent = lone.append_from(2, 1, EntryId::new(9, 1), vec![], 0);
    assert!(matches!(append_outcomes(&sent)[..], [(AppendOutcome::Mismatch { .. }, 1000)]));
    assert!(
        matches!(refused(lone.pre_vote_from(3, 1, EntryId::new(9, 1))), Refusal::Promised { remaining, .. } if remaining == ms(E))
    );
}

#[test]
fn p02_a_promise_outlives_roles_and_higher_terms_in_answers() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let until = lone.now + ms(E);
    let timer = Timing::default().election_timeout_min;
    assert!(lone.deadline().since(lone.now) >= timer, "so it cannot stand before the promise ends");
    lone.pass(E / 2);
    let response = VoteResponse { round: RoundId(1), campaign_term: Term(2), verdict: Verdict::Granted };
    lone.receive(3, 8, Body::PreVoteResponse(response));
    let refusal = refused(lone.pre_vote_from(3, 8, EntryId::new(9, 1)));
    assert!(matches!(refusal, Refusal::Promised { remaining, .. } if lone.now + remaining == until));
}

#[test]
fn p03_the_leader_promised_to_may_ask() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    assert_eq!(lone.pre_vote_from(2, 1, FOUNDED), Verdict::Granted);
    let sent = lone.vote_from(2, 2, FOUNDED);
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
}

#[test]
fn p03_an_abdication_of_the_promised_leader_frees() {
    let ask = |token: Abdicated| {
        let mut lone = Lone::of(3);
        lone.append_from(2, 4, FOUNDED, vec![], 0);
        let (round, last) = (RoundId(1), FOUNDED);
        let request = VoteRequest { round, campaign_term: Term(5), last, abdicated: Some(token) };
        let sent = lone.receive(3, 5, Body::Vote(request));
        vote_verdicts(&sent)[0].2 == Verdict::Granted
    };
    let by = |leader, term| Abdicated { leader: NodeId(leader), term: Term(term) };
    assert!(ask(by(2, 4)), "of this very promise");
    assert!(ask(by(3, 5)), "of a newer term");
    assert!(!ask(by(3, 4)), "of the same term, but another leader");
    assert!(!ask(by(2, 3)), "of an older term");
}

#[test]
fn p03_proof_that_the_leader_was_succeeded_frees() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 4, FOUNDED, vec![], 0);
    assert!(matches!(refused(lone.pre_vote_from(3, 9, EntryId::new(5, 4))), Refusal::Promised { .. }), ">, not >=");
    assert_eq!(lone.pre_vote_from(3, 9, EntryId::new(5, 5)), Verdict::Granted);
}

#[test]
fn p04_a_leader_that_hears_nobody_stops_refusing() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let last = EntryId::new(9, 2);
    lone.pass(E - 1);
    assert!(matches!(refused(lone.pre_vote_from(3, 2, last)), Refusal::Promised { .. }));
    lone.pass(1);
    assert_eq!(lone.pre_vote_from(3, 2, last), Verdict::Granted);
}

#[test]
fn p06_d03_c01_a_restarted_node_acts_as_if_it_had_promised() {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(3 * E) };
    let mut lone = Lone::start(config(|_| ()), Disk::with_history(voters(3), hard_state, &[3]));
    lone.now = lone.now + ms(E);
    let sent = lone.vote_from(2, 9, EntryId::new(9, 3));
    let remaining = ms(2 * E);
    let promised = Refusal::Promised { leader: None, term: Term(3), remaining };
    assert_eq!(vote_verdicts(&sent), [(NodeId(2), Term(3), Verdict::Refused(promised))]);
    lone.now = lone.now + ms(2 * E);
    let sent = lone.vote_from(2, 9, EntryId::new(9, 3));
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
}

#[test]
fn p06_a_new_group_and_a_lone_voter_do_not_wait() {
    assert_eq!(Lone::of(3).pre_vote_from(2, 1, FOUNDED), Verdict::Granted);
    let mut lone = Lone::of(1).restart();
    lone.pass_to_deadline();
    assert_eq!(lone.role(), RoleKind::Leader);
}

#[test]
fn p06_no_promise_leaves_before_its_length_is_on_disk() {
    let short = HardState { term: Term(3), vote: None, longest_promise: ms(10) };
    let mut lone = Lone::start(config(|_| ()), Disk::with_history(voters(3), short, &[3]));
    assert_eq!(lone.disk.hard_state.longest_promise, ms(E));

    let mut lone2 = Lone::of(3);
    lone2.prompt_disk = false;
    lone2.append_from(2, 5, FOUNDED, vec![], 0);
    let sent = lone2.sync();
    assert_eq!((append_outcomes(&sent)[0].1, lone2.disk.hard_state.longest_promise), (E as u32, ms(E)));
    lone.pass(1);
}

#[test]
fn p13_a_round_lost_to_promises_waits_until_they_end() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let promised =
        |millis| Verdict::Refused(Refusal::Promised { leader: Some(NodeId(3)), term: Term(1), remaining: ms(millis) });
    lone.answer_votes(2, &pre, promised(120));
    assert_eq!(lone.role(), RoleKind::PreCandidate, "one may still grant");
    lone.answer_votes(3, &pre, promised(300));
    assert_eq!(lone.role(), RoleKind::Follower);
    let timer = lone.deadline().since(lone.now);
    assert!(ms(120) <= timer && timer < ms(120 + E / 4), "one grant is missing: {timer:?}");
}

#[test]
fn p13_a_round_lost_otherwise_draws_a_fresh_timeout() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let behind = Verdict::Refused(Refusal::LogBehind { last: EntryId::new(9, 1) });
    lone.answer_votes(2, &pre, behind);
    lone.answer_votes(3, &pre, behind);
    assert_eq!(lone.role(), RoleKind::Follower);
    assert!(lone.deadline().since(lone.now) >= ms(E));
}

// ---- reads ---------------------------------------------------------------------------------------------------------

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
    assert_eq!(lone.reads.len(), 1, "the second has its own round");
    lone.accept(3, &second);
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

// ---- bugs of others ------------------------------------------------------------------------------------------------

#[test]
fn b03_a_grant_echoes_the_term_it_was_asked_for() {
    let mut lone = Lone::with_log(4, &[]);
    let request = VoteRequest { round: RoundId(3), campaign_term: Term(9), last: EntryId::new(9, 8), abdicated: None };
    let sent = lone.receive(2, 8, Body::PreVote(request));
    let [message] = &sent[..] else { panic!("{sent:?}") };
    let Body::PreVoteResponse(response) = message.body else { panic!("{sent:?}") };
    assert_eq!((message.term, response.campaign_term, response.round), (Term(4), Term(9), RoundId(3)));
}

#[test]
fn b06_a_pre_candidate_knows_no_leader_and_helps_others() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.stand();
    assert_eq!(lone.leader(), None);
    assert_eq!(lone.pre_vote_from(3, 1, FOUNDED), Verdict::Granted);
}

#[test]
fn b10_a_learner_grants_votes_and_never_stands() {
    let configuration = tenure::quorum::Configuration::new(
        tenure::quorum::Voters::from_nodes([2, 3].map(NodeId)),
        Default::default(),
        tenure::quorum::Voters::from_nodes([NodeId(1)]),
    );
    let mut lone = Lone::start(config(|_| ()), Disk::founded(configuration.unwrap()));
    assert!(lone.pass(10 * E).is_empty());
    assert_eq!(lone.role(), RoleKind::Follower);
    let sent = lone.vote_from(2, 5, FOUNDED);
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
}

#[test]
fn b23_b41_the_counts_of_uncommitted_entries_end_at_zero() {
    let small = config(|config| config.limits.uncommitted_entries = 4);
    let mut lone = Lone::start(small, Disk::founded(voters(3)));
    let sent = lone.elect();
    lone.accept(2, &sent);
    for _ in 0..10 {
        let (proposed, sent) = lone.propose(&["a", "b", "c", "d"]);
        assert_eq!(proposed.accepted, 4);
        lone.accept(2, &sent);
    }
    let (proposed, _) = lone.propose(&["a", "b", "c", "d", "e"]);
    assert_eq!(proposed.accepted, 4);
    lone.append_from(3, 9, FOUNDED, vec![], 0);
    let mut lone = lone.restart();
    lone.pass(E);
    lone.elect();
    assert_eq!(lone.propose(&["a", "b", "c", "d"]).0.accepted, 4, "a new leadership starts at zero");
}

#[test]
fn b37_a_follower_may_know_more_committed_than_it_has_durable() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.prompt_disk = false;
    lone.append_from(2, 1, FOUNDED, vec![command(2, 1), command(3, 1)], 3);
    assert_eq!((lone.commit(), lone.applied.len()), (3, 1));
    lone.sync();
    assert_eq!(lone.applied.len(), 3);
}

#[test]
fn b43_entries_between_applied_and_commit_are_applied_after_a_restart() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 1, FOUNDED, vec![command(2, 1), command(3, 1)], 3);
    assert_eq!(lone.applied.len(), 3);
    let mut lone = lone.restart();
    lone.append_from(2, 1, EntryId::new(3, 1), vec![], 3);
    assert_eq!(lone.applied.len(), 3, "all of them again: the state machine is in memory");
    assert_eq!(lone.loads, 1, "read back from the disk");
}

#[test]
fn b80_no_message_from_outside_stops_or_panics_a_core() {
    for body in [
        Body::PreVoteResponse(VoteResponse {
            round: RoundId(0),
            campaign_term: Term(u64::MAX),
            verdict: Verdict::Granted,
        }),
        Body::VoteResponse(VoteResponse { round: RoundId(0), campaign_term: Term(0), verdict: Verdict::Granted }),
        Body::Vote(VoteRequest {
            round: RoundId(0),
            campaign_term: Term(u64::MAX),
            last: EntryId::ZERO,
            abdicated: None,
        }),
        Body::PreVote(VoteRequest {
            round: RoundId(0),
            campaign_term: Term(u64::MAX),
            last: EntryId::ZERO,
            abdicated: None,
        }),
    ] {
        let mut lone = Lone::of(3);
        lone.receive(2, u64::MAX, body);
        lone.pass(3 * E);
        assert_eq!(lone.core.status().stopped, None);
    }
}

/// Found by fuzzing: at the last of all terms a node would have voted for itself twice in one.
#[test]
fn l19_a_term_that_no_cluster_reaches_is_nonsense() {
    let mut lone = Lone::of(3);
    let (round, campaign_term) = (RoundId(1), Term(u64::MAX));
    let request = VoteRequest { round, campaign_term, last: FOUNDED, abdicated: None };
    assert!(lone.receive(2, u64::MAX, Body::Vote(request)).is_empty());
    lone.append_from(2, u64::MAX, FOUNDED, vec![], 0);
    assert_eq!((lone.term(), lone.vote(), lone.core.status().counters.misdirected), (1, None, 2));
}

#[test]
fn p04_an_echo_from_the_future_protects_nobody() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    let (term, mut append) = appends_to(2, &sent).remove(0);
    append.stamp = lone.now + ms(100 * E);
    lone.answer_append(2, term, &append, AppendOutcome::Accepted { matched: Index(2) });
    assert_eq!((lone.commit(), lone.core.status().counters.misdirected), (1, 1));
    assert_eq!(lone.pre_vote_from(3, 2, EntryId::new(9, 2)), Verdict::Granted);
}

#[test]
fn p13_an_absurd_promise_of_another_does_not_keep_us_waiting() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let remaining = Duration::MAX;
    let promised = Verdict::Refused(Refusal::Promised { leader: None, term: Term(1), remaining });
    lone.answer_votes(2, &pre, promised);
    lone.answer_votes(3, &pre, promised);
    assert!(lone.deadline().since(lone.now) <= ms(2 * E + E / 4));
}

#[test]
fn c32_a_failed_state_machine_stops_the_group_and_tells_everybody() {
    let mut lone = Lone::of(1);
    lone.pass_to_deadline();
    lone.step(Input::ApplyFailed);
    let stopped = ProposeError::Stopped(Fatal::StateMachineFailed);
    assert_eq!(lone.propose(&["x"]).0.refused, Some(stopped));
}

#[test]
fn d01_after_a_failed_write_nothing_is_acknowledged() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.step(Input::WriteFailed);
    assert!(lone.heartbeat_from(2, 1).is_empty());
    assert_eq!(lone.core.status().stopped, Some(Fatal::LogFailed));
}

#[test]
fn entries_that_left_the_cache_are_read_back_for_a_slow_peer() {
    let small = config(|config| config.limits.cache_bytes = 1000);
    let mut lone = Lone::start(small, Disk::founded(voters(3)));
    let sent = lone.elect();
    lone.accept(2, &sent);
    for _ in 0..50 {
        let (_, sent) = lone.propose(&["0123456789"]);
        lone.accept(2, &sent);
    }
    assert_eq!(lone.commit(), 52);
    let loads = lone.loads;
    let sent = lone.accept(3, &sent);
    assert!(lone.loads > loads);
    let got: usize = appends_to(3, &sent).iter().map(|(_, append)| append.slice.len()).sum();
    assert_eq!(got, 50);
}

/// `b46`: a leader asked its disk for entries, was deposed, and the new leader truncated them before they were read.
#[test]
fn b46_a_read_of_the_log_that_nobody_waits_for_may_fail() {
    let small = config(|config| config.limits.cache_bytes = 1);
    let mut lone = Lone::start(small, Disk::founded(voters(3)));
    let sent = lone.elect();
    lone.accept(2, &sent);
    let mut out = tenure::core::Output::new();
    for _ in 0..3 {
        let (_, sent) = lone.propose(&["0123456789"]);
        lone.accept(2, &sent);
    }
    let (term, append) = appends_to(3, &sent).remove(0);
    let response = tenure::message::AppendResponse {
        stamp: append.stamp,
        round: append.round,
        request_term: term,
        promise_ms: 0,
        outcome: AppendOutcome::Accepted { matched: Index(2) },
    };
    let body = Body::AppendResponse(response);
    let message = tenure::message::Message { group: GROUP, from: NodeId(3), to: NodeId(1), term, body };
    lone.core.step(lone.now, Input::Received(message), &mut out);
    let load = *out.loads.first().expect("entries to load for node 3");
    lone.append_from(2, 9, FOUNDED, vec![], 0);
    assert_eq!(lone.role(), RoleKind::Follower);
    lone.step(Input::Loaded { load, entries: None });
    assert_eq!(lone.core.status().stopped, None);
}

#[test]
fn d07_entries_that_cannot_be_read_while_they_are_needed_stop_the_group() {
    let small = config(|config| config.limits.cache_bytes = 1);
    let mut lone = Lone::start(small, Disk::founded(voters(1)));
    let mut lone = {
        lone.pass_to_deadline();
        lone.restart()
    };
    let mut out = tenure::core::Output::new();
    while out.loads.is_empty() {
        lone.now = lone.deadline();
        lone.core.step(lone.now, Input::Deadline, &mut out);
        lone.disk.pending.extend(out.writes.drain(..));
        let seq = lone.disk.sync().expect("a write");
        lone.core.step(lone.now, Input::Durable(seq), &mut out);
    }
    let load = out.loads[0];
    lone.step(Input::Loaded { load, entries: None });
    assert_eq!(lone.core.status().stopped, Some(Fatal::LogFailed));
}
