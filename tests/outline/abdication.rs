//! Giving up leadership (rules `p09` to `p12`).

use super::*;

fn leader() -> Lone {
    let mut lone = Lone::start(config(|config| config.lease_reads = true), Disk::founded(voters(3)));
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    lone
}

/// Who was sent a farewell, and whom it names.
fn farewells(sent: &[Message]) -> Vec<(u64, Option<u64>)> {
    let farewell = |message: &Message| match &message.body {
        Body::Abdicate(abdicate) => Some((message.to.0, abdicate.successor.map(|node| node.0))),
        _ => None,
    };
    sent.iter().filter_map(farewell).collect()
}

#[test]
fn p09_a_transfer_drains_and_then_says_farewell_to_everybody() {
    let mut lone = leader();
    let (_, sent) = lone.propose(&["a"]);
    let beat = lone.transfer(1, Some(2));
    assert!(farewells(&beat).is_empty(), "n2 has not got everything");
    let (refused, _) = lone.propose(&["b"]);
    assert_eq!((refused.accepted, refused.refused), (0, Some(ProposeError::Transferring)));
    lone.accept(3, &sent);
    assert_eq!(lone.role(), RoleKind::Leader, "committed, but n2 has not got it");
    let farewell = lone.accept(2, &sent);
    assert_eq!(farewells(&farewell), [(2, Some(2)), (3, Some(2))]);
    assert!(matches!(lone.transfers[..], [answer] if answer.result == Ok(NodeId(2))));
    assert_eq!((lone.role(), lone.leader(), lone.term()), (RoleKind::Follower, None, 2));
    let wait = lone.deadline().since(lone.now);
    assert!(ms(E / 2) <= wait && wait < ms(E), "{wait:?}");
}

/// `b72`, `c06`: nobody reads by the lease of a leader that said farewell.
#[test]
fn p09_b72_c06_the_lease_is_gone_before_the_farewell_leaves() {
    let mut lone = leader();
    assert!(lone.core.lease().is_some());
    let sent = lone.transfer(1, Some(2));
    let farewell = lone.accept(2, &sent);
    assert!(!farewells(&farewell).is_empty() && lone.core.lease().is_none());
    lone.read_as(1, Consistency::Lease);
    assert!(matches!(lone.reads[..], [answer] if answer.result == Err(ReadError::NotLeader { leader: None })));
}

/// Its own vote of this term stands, and answers to its old requests find nobody.
#[test]
fn p09_who_abdicated_never_leads_in_that_term_again() {
    let mut lone = leader();
    let sent = lone.transfer(1, Some(2));
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    assert_eq!((lone.role(), lone.vote()), (RoleKind::Follower, Some(1)));
    let stood = lone.stand();
    let requests = requests(&stood);
    let token = Some(Abdicated { leader: NodeId(1), term: Term(2) });
    assert!(requests.iter().all(|(_, ask, _)| ask.campaign_term == Term(3) && ask.abdicated == token));
}

/// `b75`, `c23`, `d12`: a target that is not there ends the transfer, and the leader leads on.
#[test]
fn p09_b75_c23_d12_a_target_that_does_not_catch_up_ends_the_transfer() {
    let mut lone = leader();
    lone.transfer(1, Some(2));
    for _ in 0..10 {
        let sent = lone.pass(99);
        lone.accept(3, &sent);
        lone.transfer(2, Some(3));
    }
    assert!(lone.transfers.iter().all(|answer| answer.result == Err(TransferError::InProgress)), "one at a time");
    lone.transfers.clear();
    let sent = lone.pass(10);
    lone.accept(3, &sent);
    assert!(
        matches!(lone.transfers[..], [answer] if answer.id == TransferId(1) && answer.result == Err(TransferError::TimedOut))
    );
    let (proposed, _) = lone.propose(&["a"]);
    assert_eq!((proposed.accepted, lone.core.lease().is_some()), (1, true));
}

#[test]
fn p09_a_target_that_has_everything_but_is_silent_is_not_trusted() {
    let mut lone = leader();
    lone.now = lone.now + ms(101);
    let sent = lone.transfer(1, Some(2));
    assert!(farewells(&sent).is_empty(), "it has not answered within a heartbeat");
    assert_eq!(farewells(&lone.accept(2, &sent)).len(), 2);
}

#[test]
fn p09_the_best_is_who_has_everything() {
    let mut lone = leader();
    let (_, sent) = lone.propose(&["a"]);
    lone.transfer(1, None);
    assert_eq!(farewells(&lone.accept(3, &sent)), [(2, Some(3)), (3, Some(3))]);
}

#[test]
fn p09_c22_transfers_that_cannot_be_are_refused() {
    let ask = |lone: &mut Lone, target| {
        lone.transfer(9, target);
        lone.transfers.pop().unwrap().result
    };
    let mut lone = leader();
    assert_eq!(ask(&mut lone, Some(1)), Ok(NodeId(1)), "it leads already");
    assert_eq!(lone.role(), RoleKind::Leader);
    assert_eq!(ask(&mut lone, Some(7)), Err(TransferError::NotAVoter(NodeId(7))));
    let mut follower = Lone::of(3);
    follower.heartbeat_from(2, 1);
    assert_eq!(ask(&mut follower, Some(3)), Err(TransferError::NotLeader { leader: Some(NodeId(2)) }));
    let mut alone = Lone::of(1);
    alone.pass_to_deadline();
    assert_eq!(ask(&mut alone, None), Err(TransferError::NoOtherVoter));
}

#[test]
fn p09_a_transfer_ends_with_the_leadership() {
    let mut lone = leader();
    lone.transfer(1, Some(2));
    lone.append_from(3, 9, FOUNDED, vec![], 0);
    assert!(matches!(lone.transfers[..], [answer] if answer.result == Err(TransferError::LeadershipLost)));
}

#[test]
fn p09_d11_the_successor_stands_at_once_and_is_above_the_old_leader_in_the_same_step() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let sent = lone.abdication_of(2, 1, Some(1));
    assert_eq!((lone.role(), lone.term()), (RoleKind::Candidate, 2));
    let token = Some(Abdicated { leader: NodeId(2), term: Term(1) });
    assert!(
        matches!(requests(&sent)[..], [(2, a, false), (3, b, false)] if a.abdicated == token && b.abdicated == token)
    );
    let sent = lone.heartbeat_from(2, 1);
    assert_eq!((append_outcomes(&sent), lone.role()), (vec![(AppendOutcome::OldTerm, 0)], RoleKind::Candidate));
}

#[test]
fn p09_the_others_drop_their_promise_and_wait_half_a_timeout() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.abdication_of(2, 1, Some(3));
    let wait = lone.deadline().since(lone.now);
    assert!(ms(E / 2) <= wait && wait < ms(E), "{wait:?}");
    assert_eq!((lone.role(), lone.leader()), (RoleKind::Follower, None));
    assert_eq!(lone.pre_vote_from(3, 1, FOUNDED), Verdict::Granted);
}

#[test]
fn p09_who_abdicated_gets_no_new_promise() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.abdication_of(2, 1, Some(3));
    let deadline = lone.deadline();
    let late = lone.append_from(2, 1, FOUNDED, vec![command(2, 1)], 0);
    assert_eq!(append_outcomes(&late), [(AppendOutcome::Accepted { matched: Index(1) }, 0)], "the entries are taken");
    assert_eq!((lone.deadline(), lone.leader(), lone.last()), (deadline, None, EntryId::new(2, 1)));
    assert_eq!(lone.pre_vote_from(3, 1, EntryId::new(2, 1)), Verdict::Granted);
    lone.append_from(3, 2, EntryId::new(2, 1), vec![], 0);
    let again = lone.heartbeat_from(3, 2);
    assert_eq!(append_outcomes(&again)[0].1, E as u32, "its successor does");
}

/// Two answers wait in one buffer, the farewell came between them: the second must not stretch the promise of the first.
#[test]
fn p09_an_answer_without_a_promise_does_not_join_one_with_it() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    let mut out = Output::new();
    let body = |stamp| {
        let slice = LogSlice::new(FOUNDED, vec![]).unwrap();
        let (round, commit, stamp) = (RoundId(5), Index(0), lone.now + ms(stamp));
        Body::AppendEntries(AppendEntries { stamp, round, commit, rank: None, fresh: None, snapshot: false, slice })
    };
    let farewell = Body::Abdicate(tenure::message::Abdicate { successor: Some(NodeId(3)) });
    for body in [body(1), farewell, body(900)] {
        let message = Message { group: GROUP, from: NodeId(2), to: NodeId(1), term: Term(1), body };
        lone.core.step(lone.now, Input::Received(message), &mut out);
    }
    let promises: Vec<_> = append_outcomes(&out.messages).into_iter().map(|(_, promise_ms)| promise_ms).collect();
    assert_eq!(promises, [E as u32, 0]);
}

/// Heeded once: a second copy does not end the round that the first led to.
#[test]
fn p09_a_doubled_farewell_is_heeded_once() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    lone.abdication_of(2, 1, Some(3));
    lone.stand();
    lone.abdication_of(2, 1, Some(3));
    assert_eq!(lone.role(), RoleKind::PreCandidate);
}

/// `d04` and traps 6 and 7: a farewell of another term, or of somebody else than whom this node is promised to, is
/// ignored, timer included.
#[test]
fn p09_d04_a_late_or_foreign_farewell_is_ignored() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 5, FOUNDED, vec![], 0);
    let deadline = lone.deadline();
    for (from, term) in [(2, 4), (3, 5), (2, 6), (3, 6)] {
        assert!(lone.abdication_of(from, term, Some(1)).is_empty());
    }
    assert_eq!((lone.role(), lone.term(), lone.deadline()), (RoleKind::Follower, 5, deadline));
    assert!(matches!(refused(lone.pre_vote_from(3, 5, FOUNDED)), Refusal::Promised { .. }));
}

/// The promise belongs to another term than this node is in: a farewell of its own term frees nobody.
#[test]
fn p09_a_farewell_does_not_void_the_promise_to_another() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 1, FOUNDED, vec![], 0);
    lone.vote_from(3, 5, EntryId::new(9, 2));
    assert_eq!(lone.term(), 5);
    lone.abdication_of(3, 5, Some(1));
    assert_eq!(lone.role(), RoleKind::Follower);
    assert!(matches!(refused(lone.pre_vote_from(3, 5, EntryId::new(9, 1))), Refusal::Promised { .. }));
}

#[test]
fn p10_c18_d13_a_leader_whom_no_quorum_answers_for_a_timeout_gives_up() {
    let mut lone = leader();
    let last = lone.now;
    lone.pass(E - 1);
    assert_eq!(lone.role(), RoleKind::Leader);
    let sent = lone.pass(1);
    assert_eq!((lone.role(), lone.now), (RoleKind::Follower, last + ms(E)));
    assert_eq!(farewells(&sent), [(2, None), (3, None)], "nobody has answered lately");
    assert!(lone.events.contains(&Event::Abdicated { successor: None, why: Abdication::QuorumLost }));
}

/// It counts when answers *arrive*, from a quorum, and for this term.
#[test]
fn p10_b14_itself_and_one_of_three_are_a_quorum_and_late_answers_count_when_they_come() {
    let mut lone = leader();
    for _ in 0..30 {
        let sent = lone.pass(100);
        lone.accept(3, &sent);
    }
    assert_eq!(lone.role(), RoleKind::Leader);
    let sent = lone.pass(900);
    lone.accept(3, &sent[..2]);
    lone.pass(900);
    assert_eq!(lone.role(), RoleKind::Leader, "an old answer is a sign of life, if not of a promise");
}

#[test]
fn p10_a_lone_voter_never_gives_up() {
    let mut alone = Lone::of(1);
    alone.pass_to_deadline();
    alone.pass(20 * E);
    assert_eq!(alone.role(), RoleKind::Leader);
}

/// `b15`: asking for transfers does not reset the clock of the quorum.
#[test]
fn p10_b15_transfers_do_not_prolong_a_leadership_without_quorum() {
    let mut lone = leader();
    for round in 0..20 {
        lone.transfer(round, Some(2 + round % 2));
        lone.pass(60);
    }
    assert_eq!(lone.role(), RoleKind::Follower);
}

/// `d06`: the disk hangs, the heartbeats go on. The leader hands over to who keeps up.
#[test]
fn p11_d06_a_leader_whose_disk_hangs_gives_up_and_does_not_stand_until_it_writes_again() {
    let mut lone = leader();
    lone.prompt_disk = false;
    let (_, sent) = lone.propose(&["a"]);
    lone.accept(2, &sent);
    let sent = lone.pass_with(&[2, 3], 2 * E - 100);
    assert_eq!((lone.role(), farewells(&sent).len()), (RoleKind::Leader, 0));
    let sent = lone.pass(100);
    assert_eq!(farewells(&sent), [(2, Some(2)), (3, Some(2))]);
    lone.pass(5 * E);
    assert_eq!(lone.role(), RoleKind::Follower);
    assert_eq!(lone.core.status().no_leader.unwrap().obstacle, Some(Obstacle::DiskStalled));
    assert_eq!(refused(lone.pre_vote_from(3, 2, EntryId::new(9, 2))), Refusal::CannotVote);
    lone.prompt_disk = true;
    lone.sync();
    lone.stand();
    assert_eq!(lone.role(), RoleKind::PreCandidate);
}

/// Nothing waits for the disk: it may be as slow as it likes.
#[test]
fn p11_without_waiting_entries_nothing_stalls() {
    let mut lone = leader();
    lone.prompt_disk = false;
    lone.pass_with(&[2, 3], 10 * E);
    assert_eq!(lone.role(), RoleKind::Leader);
}

/// `p05`, `p11`: a node whose disk hangs does not count itself.
#[test]
fn p05_p11_a_stalled_disk_is_no_part_of_a_lease() {
    let mut lone = Lone::start(
        config(|config| {
            config.lease_reads = true;
            config.timing.disk_stall_limit = ms(200);
        }),
        Disk::founded(voters(3)),
    );
    let sent = lone.elect();
    lone.accept(2, &sent);
    lone.accept(3, &sent);
    lone.prompt_disk = false;
    let start = lone.now;
    lone.propose(&["a"]);
    let sent = lone.pass(100);
    lone.accept(2, &sent);
    assert_eq!(lone.core.lease().map(|lease| lease.until), Some(start + ms(100 + 975)), "n2 and itself");
    lone.now = lone.now + ms(100);
    lone.step(Input::Applied(Index(2)));
    assert_eq!(lone.core.lease().map(|lease| lease.until), Some(start + ms(975)), "n2 and n3");
}

/// `d10`: after a failed write nothing more is acknowledged, and whoever can still write takes over.
#[test]
fn p11_d10_a_failed_log_hands_over_and_stops() {
    let mut lone = leader();
    let sent = lone.step(Input::WriteFailed);
    assert_eq!(farewells(&sent).len(), 2);
    assert_eq!((lone.core.status().stopped, lone.core.lease()), (Some(Fatal::LogFailed), None));
}

/// As well if it cannot be read any more.
#[test]
fn p11_a_log_that_cannot_be_read_hands_over_and_stops() {
    let small = config(|config| config.limits.cache_bytes = 1);
    let mut lone = Lone::start(small, Disk::founded(voters(3)));
    let sent = lone.elect();
    lone.accept(2, &sent);
    for _ in 0..3 {
        let (_, sent) = lone.propose(&["0123456789"]);
        lone.accept(2, &sent);
    }
    let (term, append) = appends_to(3, &sent).remove(0);
    let response = answer_to(term, &append, AppendOutcome::Accepted { matched: Index(2) }, |_| ());
    let body = Body::AppendResponse(response);
    let message = Message { group: GROUP, from: NodeId(3), to: NodeId(1), term, body };
    let mut out = Output::new();
    lone.core.step(lone.now, Input::Received(message), &mut out);
    let load = *out.loads.first().expect("entries to load for node 3");
    let sent = lone.step(Input::Loaded { load, entries: None });
    assert_eq!((farewells(&sent).len(), lone.core.status().stopped), (2, Some(Fatal::LogFailed)));
}

/// A leader that once promised for longer than it does now leads on; the length on disk may wait.
#[test]
fn p06_p10_a_leader_does_not_wait_for_its_disk_to_forget_a_longer_promise() {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(5 * E) };
    let mut lone = Lone::start(config(|_| ()), Disk::with_history(voters(1), hard_state, &[3]));
    lone.pass_to_deadline();
    lone.prompt_disk = false;
    lone.pass(10 * E);
    lone.step(Input::Applied(Index(1)));
    assert_eq!(lone.role(), RoleKind::Leader);
}

/// A node with a newer term, which no quorum follows, is brought back by the leader itself.
#[test]
fn p12_a_leader_with_its_majority_campaigns_to_bring_a_stranded_peer_back() {
    let mut lone = leader();
    let sent = lone.pass(100);
    lone.accept(2, &sent);
    let stood = old_term_from(&mut lone, 3, 7, &sent);
    assert_eq!((lone.role(), lone.term(), lone.core.lease()), (RoleKind::Candidate, 8, None));
    assert!(matches!(requests(&stood)[..], [(2, ask, false), (3, _, false)] if ask.campaign_term == Term(8)));
    let sent = lone.grant(2, &stood);
    assert_eq!(lone.role(), RoleKind::Leader);
    lone.accept(2, &sent);
    let stood = old_term_from(&mut lone, 3, 20, &sent);
    assert!(stood.is_empty() && lone.role() == RoleKind::Leader, "at most once per E");
    lone.pass_with(&[2], E);
    let sent = lone.pass(100);
    lone.accept(2, &sent);
    old_term_from(&mut lone, 3, 20, &sent);
    assert_eq!(lone.term(), 21);
}

#[test]
fn p12_a_leader_without_its_majority_steps_down_to_the_newer_term() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    old_term_from(&mut lone, 3, 7, &sent);
    assert_eq!((lone.role(), lone.term()), (RoleKind::Follower, 7), "nobody has answered it yet");
}

#[test]
fn p12_answers_from_outside_the_configuration_are_ignored() {
    let mut lone = leader();
    let sent = lone.pass(100);
    old_term_from(&mut lone, 9, 7, &sent);
    assert_eq!((lone.role(), lone.term()), (RoleKind::Leader, 2));
}

/// An answer of `peer`, which is in `term`, to the first append in `sent`.
fn old_term_from(lone: &mut Lone, peer: u64, term: u64, sent: &[Message]) -> Vec<Message> {
    let (request_term, append) = appends_to(3, sent).remove(0);
    let response = answer_to(request_term, &append, AppendOutcome::OldTerm, |answer| answer.promise_ms = 0);
    lone.receive(peer, term, Body::AppendResponse(response))
}
