//! Promises (rules `p01` to `p06`, `p13`).

use super::*;

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
fn p01_a_failed_log_check_promises_too() {
    let mut lone = Lone::of(3);
    let sent = lone.append_from(2, 1, EntryId::new(9, 1), vec![], 0);
    assert!(matches!(append_outcomes(&sent)[..], [(AppendOutcome::Mismatch { .. }, 1000)]));
    let refusal = refused(lone.pre_vote_from(3, 1, EntryId::new(9, 1)));
    assert_eq!(refusal, Refusal::Promised { leader: Some(NodeId(2)), term: Term(1), remaining: ms(E) });
}

/// A node that restarted with a long promise behind it hears a leader of the same term: the longer promise stays.
#[test]
fn p01_within_a_term_a_promise_is_never_shortened() {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(5 * E) };
    let mut lone = Lone::start(config(|_| ()), Disk::with_history(voters(3), hard_state, &[3]));
    lone.heartbeat_from(2, 3);
    let refusal = refused(lone.pre_vote_from(3, 3, EntryId::new(9, 3)));
    assert_eq!(refusal, Refusal::Promised { leader: Some(NodeId(2)), term: Term(3), remaining: ms(5 * E) });
}

/// The promise to n2 of term 1 stands while the node goes on to term 5 with a vote for somebody whose log proves that
/// n2 was succeeded (exception c): it still binds towards everybody else.
#[test]
fn p02_a_promise_outlives_roles_and_terms() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.pass(E / 2);
    let sent = lone.vote_from(3, 5, EntryId::new(9, 2));
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
    assert_eq!(lone.term(), 5);
    let refusal = refused(lone.pre_vote_from(3, 5, EntryId::new(9, 1)));
    assert_eq!(refusal, Refusal::Promised { leader: Some(NodeId(2)), term: Term(1), remaining: ms(E / 2) });
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
        let request =
            VoteRequest { round, campaign_term: Term(5), last, configuration: Index(1), abdicated: Some(token) };
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

/// Started with a longer election timeout than before: nothing is promised before the new length is on disk, not even
/// for a term that has long been there.
#[test]
fn p06_no_promise_leaves_before_its_length_is_on_disk() {
    let short = HardState { term: Term(3), vote: None, longest_promise: ms(10) };
    let disk = Disk::with_history(voters(3), short, &[3]);
    let mut lone = Lone::start_with(config(|_| ()), disk, false);
    assert!(lone.heartbeat_from(2, 3).is_empty());
    let sent = lone.sync();
    assert_eq!(lone.disk.hard_state.longest_promise, ms(E));
    assert_eq!(append_outcomes(&sent), [(AppendOutcome::Accepted { matched: Index(2) }, E as u32)]);
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

/// With one voter dead and one promised a round is lost only by its timer. What was learned counts all the same.
#[test]
fn p13_a_round_that_ends_by_its_timer_knows_of_the_promise_too() {
    let mut lone = Lone::of(3);
    let pre = lone.stand();
    let promised = Refusal::Promised { leader: Some(NodeId(3)), term: Term(1), remaining: ms(120) };
    lone.answer_votes(2, &pre, Verdict::Refused(promised));
    lone.pass_to_deadline();
    assert_eq!(lone.role(), RoleKind::Follower);
    let timer = lone.deadline().since(lone.now);
    assert!(ms(120) <= timer && timer < ms(120 + E / 4), "{timer:?}");
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
