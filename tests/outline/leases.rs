//! Leases and what is read by them (rules `p05`, `p07`, `p08`, `p16`), and reads at followers.

use super::*;

/// What is left of a promise of `E` once the drift of both clocks and the guard are taken off.
const LEASE: u64 = E - E / 50 - 5;

/// Node 1 leads three voters and has committed its no-op at `lone.now`; lease reads are allowed.
fn leader() -> Lone {
    leader_of(3)
}

fn leader_of(count: u64) -> Lone {
    let mut lone = Lone::start(config(|config| config.lease_reads = true), Disk::founded(voters(count)));
    let sent = lone.elect();
    for peer in 2..=count {
        lone.accept(peer, &sent);
    }
    lone
}

/// Answers appends in the name of `peer` with another promise than usual.
fn promise(lone: &mut Lone, peer: u64, sent: &[Message], promise_ms: u32) {
    for (term, append) in appends_to(peer, sent) {
        let outcome = AppendOutcome::Accepted { matched: append.slice.last().index };
        lone.answer_append_as(peer, term, &append, outcome, |answer| answer.promise_ms = promise_ms);
    }
}

fn until(lone: &Lone) -> Option<Instant> {
    lone.core.lease().map(|lease| lease.until)
}

#[test]
fn p05_the_lease_counts_from_when_the_request_left() {
    let mut lone = leader();
    let left = lone.now + ms(100);
    let sent = lone.pass(100);
    lone.pass(50);
    lone.accept(2, &sent);
    assert_eq!(until(&lone), Some(left + ms(LEASE)), "not from when the answer came, and less the margins");
}

#[test]
fn p05_the_lease_is_the_quorum_th_largest_promise() {
    let mut lone = leader_of(5);
    let start = lone.now;
    let first = lone.pass(100);
    let second = lone.pass(100);
    lone.accept(2, &second);
    assert_eq!(until(&lone), Some(start + ms(LEASE)), "itself and n2 are no quorum of five");
    lone.accept(3, &first);
    assert_eq!(until(&lone), Some(start + ms(100 + LEASE)), "the lesser of n2 and n3");
    lone.accept(3, &second);
    assert_eq!(until(&lone), Some(start + ms(200 + LEASE)));
}

/// An answer to a request of an older term says nothing about this one, whatever term its sender is in now.
#[test]
fn p05_only_answers_to_requests_of_this_term_count() {
    let mut lone = leader();
    let before = until(&lone);
    let sent = lone.pass(100);
    let (term, append) = appends_to(2, &sent).remove(0);
    let outcome = AppendOutcome::Accepted { matched: append.slice.last().index };
    let old = answer_to(Term(term.0 - 1), &append, outcome, |_| ());
    lone.receive(2, term.0, Body::AppendResponse(old));
    assert_eq!(until(&lone), before);
    lone.answer_append(2, term, &append, outcome);
    assert!(until(&lone) > before);
}

#[test]
fn p05_a_promise_counts_for_as_long_as_it_says_and_for_no_longer_than_our_own() {
    let mut lone = leader();
    let sent = lone.pass(100);
    promise(&mut lone, 2, &sent, 0);
    let start = lone.now - ms(100);
    assert_eq!(until(&lone), Some(start + ms(LEASE)), "it promised nothing more");
    promise(&mut lone, 2, &sent, u32::MAX);
    assert_eq!(until(&lone), Some(start + ms(100 + LEASE)), "never beyond E from now");
}

#[test]
fn p07_a_lease_read_asks_nobody_and_writes_nothing() {
    let mut lone = leader();
    let (commit, writes) = (lone.commit(), lone.writes);
    let sent = lone.read_as(1, Consistency::Lease);
    assert!(sent.is_empty() && lone.writes == writes, "no message, no write");
    assert!(matches!(lone.reads[..], [answer] if answer.result == Ok(Index(commit))));
    assert_eq!(lone.core.status().counters.lease_reads, 1);
}

#[test]
fn p07_without_a_lease_a_quorum_is_asked() {
    let mut lone = leader();
    lone.now = lone.now + ms(LEASE);
    let sent = lone.read_as(1, Consistency::Lease);
    assert!(lone.reads.is_empty(), "it has just ended");
    lone.accept(2, &sent);
    assert_eq!(lone.reads.len(), 1);
}

#[test]
fn p07_no_lease_read_before_the_first_commit_of_the_term() {
    let mut lone = Lone::start(config(|config| config.lease_reads = true), Disk::founded(voters(3)));
    let sent = lone.elect();
    // Both answer, neither has the entry on disk yet: promises of a quorum, and nothing committed.
    for peer in [2, 3] {
        for (term, append) in appends_to(peer, &sent) {
            lone.answer_append(peer, term, &append, AppendOutcome::Accepted { matched: Index(1) });
        }
    }
    assert_eq!(until(&lone), None);
    lone.read_as(1, Consistency::Lease);
    assert!(lone.reads.is_empty());
    lone.accept(2, &sent);
    assert!(until(&lone).is_some());
}

#[test]
fn p07_a_group_without_lease_reads_confirms_them() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    assert_eq!(until(&lone), None);
    assert_eq!(appends_to(2, &lone.read_as(1, Consistency::Lease)).len(), 1);
}

#[test]
fn p07_a_published_lease_ends_within_an_election_timeout() {
    let mut alone = Lone::start(config(|config| config.lease_reads = true), Disk::founded(voters(1)));
    alone.pass_to_deadline();
    assert_eq!(until(&alone), Some(alone.now + ms(E)), "even of a lone voter");
}

/// The step in which a leader gives way carries a new epoch and no lease.
#[test]
fn p08_leaving_leadership_revokes_the_lease_in_the_same_step() {
    let mut lone = leader();
    let epoch = lone.core.lease().unwrap().epoch;
    lone.append_from(2, 9, FOUNDED, vec![], 0);
    assert_eq!((lone.role(), lone.core.lease()), (RoleKind::Follower, None));
    lone.pass(2 * E);
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    assert_ne!(lone.core.lease().unwrap().epoch, epoch, "and who has seen the old one can tell");
}

#[test]
fn p16_after_a_jump_of_the_clock_the_lease_is_earned_anew() {
    let mut lone = leader();
    let epoch = lone.core.lease().unwrap().epoch;
    let before = lone.pass(100);
    lone.pass(10);
    lone.step(Input::ClockJumped);
    assert_eq!(lone.core.lease(), None);
    lone.accept(2, &before);
    assert_eq!(lone.core.lease(), None, "what left before the jump earns nothing");
    let after = lone.pass(100);
    lone.accept(2, &after);
    assert_ne!(lone.core.lease().unwrap().epoch, epoch);
}

#[test]
fn p16_l03_after_a_jump_of_the_clock_a_running_promise_starts_over() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.pass(E / 2);
    let deadline = lone.deadline();
    lone.step(Input::ClockJumped);
    let refusal = refused(lone.pre_vote_from(3, 1, FOUNDED));
    assert_eq!(refusal, Refusal::Promised { leader: Some(NodeId(2)), term: Term(1), remaining: ms(E) });
    assert!(lone.deadline() > deadline, "and so does the election timer");
}

/// The clock was wrong across the jump: that the promise is over by it proves nothing.
#[test]
fn p16_a_promise_that_ends_within_the_jump_starts_over() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.now = lone.now + ms(3 * E);
    lone.step(Input::ClockJumped);
    assert!(matches!(refused(lone.pre_vote_from(3, 1, FOUNDED)), Refusal::Promised { .. }));
}

/// What was promised before a restart may have been longer than what is promised now.
#[test]
fn p16_p06_a_forgotten_promise_starts_over_at_its_full_length() {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(5 * E) };
    let mut lone = Lone::start(config(|_| ()), Disk::with_history(voters(3), hard_state, &[3]));
    lone.now = lone.now + ms(3 * E);
    lone.step(Input::ClockJumped);
    lone.now = lone.now + ms(4 * E);
    assert!(matches!(refused(lone.pre_vote_from(2, 3, EntryId::new(9, 3))), Refusal::Promised { .. }));
    assert_eq!(lone.disk.hard_state.longest_promise, ms(5 * E), "nor is it forgotten earlier");
}

#[test]
fn p16_a_promise_that_is_over_stays_over() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.now = lone.now + ms(E);
    lone.step(Input::Applied(Index(1)));
    lone.step(Input::ClockJumped);
    assert_eq!(lone.pre_vote_from(3, 1, FOUNDED), Verdict::Granted);
}

/// Started with a longer election timeout than it uses now: promises of that length are remembered until none can run.
#[test]
fn p06_a_longer_promise_is_forgotten_once_none_can_be_running() {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(5 * E) };
    let mut lone = Lone::start(config(|_| ()), Disk::with_history(voters(3), hard_state, &[3]));
    lone.now = lone.now + ms(5 * E - 1);
    lone.heartbeat_from(2, 3);
    assert_eq!(lone.disk.hard_state.longest_promise, ms(5 * E));
    lone.now = lone.now + ms(1);
    lone.heartbeat_from(2, 3);
    assert_eq!(lone.disk.hard_state.longest_promise, ms(E));
}

// ---- reads that wait, and reads at followers -----------------------------------------------------------------------

/// 64 reads, each with a flush of its own: the first one's round goes out, the others share the next.
#[test]
fn reads_that_wait_share_a_round() {
    let mut lone = leader();
    let rounds = lone.core.status().counters.read_rounds;
    let sent: Vec<_> = (0..64).flat_map(|id| lone.read(id)).collect();
    assert_eq!(sent.len(), 2, "one round, to two peers");
    let next = lone.accept(2, &sent);
    assert_eq!((lone.reads.len(), next.len()), (1, 2));
    lone.accept(3, &next);
    assert_eq!((lone.reads.len(), lone.core.status().counters.read_rounds - rounds), (64, 2));
}

/// Reads of one flush share even the first.
#[test]
fn reads_of_one_moment_share_the_message_that_has_not_left() {
    let mut lone = leader();
    let mut out = Output::new();
    for id in 0..64 {
        lone.core.step(lone.now, Input::Read(tenure::core::ReadId(id), Consistency::Linearizable), &mut out);
    }
    assert_eq!((out.messages.len(), lone.core.status().counters.read_rounds), (2, 1));
    let sent = std::mem::take(&mut out.messages);
    lone.accept(3, &sent);
    assert_eq!(lone.reads.len(), 64);
}

/// A round whose messages were lost does not hold up those behind it for ever: the next heartbeat asks for them.
#[test]
fn reads_behind_a_lost_round_go_with_the_next_heartbeat() {
    let mut lone = leader();
    let _lost = lone.read(1);
    lone.read(2);
    let beat = lone.pass(100);
    lone.accept(2, &beat);
    assert_eq!(lone.reads.len(), 2);
}

fn questions(sent: &[Message]) -> Vec<(u64, tenure::message::ReadIndex)> {
    let question = |message: &Message| match &message.body {
        Body::ReadIndex(ask) => Some((message.to.0, *ask)),
        _ => None,
    };
    sent.iter().filter_map(question).collect()
}

fn told(lone: &mut Lone, from: u64, term: u64, round: RoundId, index: Option<u64>) -> Vec<Message> {
    let response = tenure::message::ReadIndexResponse { round, request_term: Term(term), index: index.map(Index) };
    lone.receive(from, term, Body::ReadIndexResponse(response))
}

#[test]
fn a_follower_asks_its_leader_for_its_readers() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let asked = questions(&lone.read(1));
    assert!(matches!(asked[..], [(2, ask)] if !ask.lease));
    assert!(lone.read(2).is_empty() && lone.read(3).is_empty(), "one question at a time");
    let next = questions(&told(&mut lone, 2, 1, asked[0].1.round, Some(7)));
    assert!(matches!(lone.reads[..], [answer] if answer.result == Ok(Index(7))));
    told(&mut lone, 2, 1, asked[0].1.round, Some(7));
    assert_eq!(lone.reads.len(), 1, "a second answer to the first question says nothing about the second");
    told(&mut lone, 2, 1, next[0].1.round, Some(8));
    assert_eq!(lone.reads.len(), 3, "those that came meanwhile shared the second");
}

#[test]
fn a_followers_question_that_was_lost_is_asked_again_and_ends_with_its_leader() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let first = questions(&lone.read(1));
    assert_eq!(questions(&lone.pass(E / 3 + 1)), first);
    lone.append_from(3, 4, FOUNDED, vec![], 0);
    assert!(matches!(lone.reads[..], [answer] if matches!(answer.result, Err(ReadError::NotLeader { .. }))));
    told(&mut lone, 2, 1, first[0].1.round, Some(9));
    assert_eq!(lone.reads.len(), 1);
}

#[test]
fn a_leader_answers_followers_by_its_lease_or_by_a_round() {
    let mut lone = leader();
    let ask = |lease| Body::ReadIndex(tenure::message::ReadIndex { round: RoundId(5), lease });
    let answers = |sent: &[Message]| {
        let answer =
            |message: &Message| matches!(message.body, Body::ReadIndexResponse(r) if r.index == Some(Index(2)));
        sent.iter().filter(|message| answer(message)).count()
    };
    let sent = lone.receive(3, 2, ask(true));
    assert_eq!((answers(&sent), sent.len()), (1, 1), "the lease is good enough");
    let sent = lone.receive(3, 2, ask(false));
    assert_eq!((answers(&sent), appends_to(2, &sent).len()), (0, 1));
    assert_eq!(answers(&lone.accept(2, &sent)), 1);
    let refused = lone.receive(3, 1, ask(true));
    assert!(matches!(&refused[0].body, Body::ReadIndexResponse(r) if r.index.is_none()), "of an older term");
}

/// `o02`: a node that cannot stand gives its silent leader up all the same, and tells its readers; one that hears its
/// leader and cannot reach it tells them after `E`.
#[test]
fn o02_a_followers_readers_are_told_in_the_end() {
    let told = |lone: &Lone| matches!(lone.reads[..], [answer] if answer.result.is_err());
    let mut stalled = Lone::of(3);
    stalled.heartbeat_from(2, 1);
    stalled.prompt_disk = false;
    let last = stalled.last();
    stalled.append_from(2, 1, last, vec![command(2, 1)], 0);
    stalled.pass(2 * E - 1);
    stalled.append_from(2, 1, EntryId::new(2, 1), vec![], 0);
    stalled.read(1);
    stalled.pass(2 * E);
    assert_eq!((stalled.role(), stalled.leader()), (RoleKind::Follower, None));
    assert!(told(&stalled));
    let mut deaf = Lone::of(3);
    deaf.heartbeat_from(2, 1);
    deaf.read(1);
    for _ in 0..20 {
        deaf.pass(100);
        deaf.heartbeat_from(2, 1);
    }
    assert!(told(&deaf));
}

/// A heartbeat of n2 in term 1 that echoes the stamp `fresh` and says that everything up to `commit` is committed.
fn confirm_freshness(lone: &mut Lone, fresh: Option<Instant>, commit: u64) {
    let slice = LogSlice::new(FOUNDED, vec![]).unwrap();
    let append = AppendEntries {
        stamp: lone.now,
        round: RoundId(5),
        commit: Index(commit),
        rank: None,
        fresh,
        snapshot: false,
        slice,
    };
    lone.receive(2, 1, Body::AppendEntries(append));
}

/// Follows n2 from now on; with the stamp of its first answer.
fn follow(lone: &mut Lone) -> Instant {
    let first = lone.heartbeat_from(2, 1);
    let Body::AppendResponse(answer) = &first[0].body else { panic!("{first:?}") };
    answer.sent
}

/// The leader echoes when a follower made an answer, once a quorum has confirmed it after that answer came; from then on
/// the follower knows how old its knowledge is.
#[test]
fn a_follower_reads_alone_within_its_bound_on_staleness() {
    let mut lone = Lone::of(3);
    let sent = follow(&mut lone);
    let made_at = lone.now;
    lone.pass(100);
    confirm_freshness(&mut lone, None, 1);
    assert_eq!(questions(&lone.read_as(1, Consistency::Follower(ms(500)))).len(), 1, "nothing is known yet");
    lone.pass(100);
    confirm_freshness(&mut lone, Some(sent), 1);
    lone.reads.clear();
    lone.now = made_at + ms(500);
    assert!(lone.read_as(2, Consistency::Follower(ms(500))).is_empty());
    assert!(matches!(lone.reads[..], [answer] if answer.result == Ok(Index(1))));
    lone.now = made_at + ms(501);
    lone.read_as(3, Consistency::Follower(ms(500)));
    assert_eq!(lone.reads.len(), 1, "too old: the leader is asked");
}

/// An older echo, or one of somebody who does not lead, or of an answer that was never made, says nothing new.
#[test]
fn only_a_newer_echo_of_the_leader_makes_knowledge_fresher() {
    let mut lone = Lone::of(3);
    let older = follow(&mut lone);
    lone.pass(400);
    let newer = follow(&mut lone);
    let made_at = lone.now;
    confirm_freshness(&mut lone, Some(newer), 1);
    confirm_freshness(&mut lone, Some(older), 1);
    confirm_freshness(&mut lone, Some(newer + ms(9000)), 1);
    lone.now = made_at + ms(500);
    lone.read_as(1, Consistency::Follower(ms(500)));
    assert_eq!(lone.reads.len(), 1, "what was known is known");
    lone.now = made_at + ms(501);
    lone.read_as(2, Consistency::Follower(ms(500)));
    assert_eq!(lone.reads.len(), 1, "and no more than that");
}

/// What is known to be committed and is not here may be long in coming: the leader is asked.
#[test]
fn a_follower_that_lags_does_not_answer_alone() {
    let mut lone = Lone::of(3);
    let sent = follow(&mut lone);
    confirm_freshness(&mut lone, Some(sent), 500);
    assert_eq!(questions(&lone.read_as(1, Consistency::Follower(ms(60 * E)))).len(), 1);
    assert!(lone.reads.is_empty());
}

/// An echo of an earlier run of this node means nothing: its clock may have begun elsewhere.
#[test]
fn an_echo_from_before_a_restart_is_not_fresh() {
    let mut lone = Lone::of(3);
    let sent = follow(&mut lone);
    lone.pass(1);
    let mut lone = lone.restart();
    follow(&mut lone);
    confirm_freshness(&mut lone, Some(sent), 1);
    lone.read_as(1, Consistency::Follower(ms(60 * E)));
    assert!(lone.reads.is_empty());
}

/// Nobody knows how long a machine slept whose clock stood still: what was fresh by that clock may be of any age.
#[test]
fn p16_a_machine_that_slept_does_not_know_how_old_its_knowledge_is() {
    let mut lone = Lone::of(3);
    let sent = follow(&mut lone);
    confirm_freshness(&mut lone, Some(sent), 1);
    lone.pass(1);
    lone.step(Input::ClockJumped);
    assert_eq!(questions(&lone.read_as(1, Consistency::Follower(ms(500)))).len(), 1);
    assert!(lone.reads.is_empty());
    confirm_freshness(&mut lone, Some(sent), 1);
    lone.read_as(2, Consistency::Follower(ms(500)));
    assert!(lone.reads.is_empty(), "the echo of an answer from before the jump says no more");

    let mut leader = leader();
    leader.pass(10);
    leader.read_as(1, Consistency::Follower(ms(500)));
    assert_eq!(std::mem::take(&mut leader.reads).len(), 1);
    leader.step(Input::ClockJumped);
    leader.read_as(2, Consistency::Follower(ms(500)));
    assert!(leader.reads.is_empty(), "a leader does not know when its quorum was here, either");
}

#[test]
fn a_leader_confirms_freshness_only_once_a_quorum_was_there_after_the_answer() {
    let mut lone = leader();
    let fresh = |sent: &[Message]| appends_to(3, sent)[0].1.fresh;
    let first = lone.pass(100);
    let left = lone.now;
    lone.pass(10);
    lone.accept(3, &first);
    let second = lone.pass(100);
    assert!(fresh(&second) < Some(left), "only n3 itself was there, and before it answered");
    lone.accept(2, &second);
    let third = lone.pass(100);
    assert_eq!(fresh(&third), Some(left + ms(7)), "n2 was there after n3's answer had come");
}
