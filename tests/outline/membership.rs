//! Changes of the members (rules `p12`, `p14`, `p15`; dissertation chapter 4): node 1 leads, the test plays the others.

use super::succession::with_configurations;
use super::*;
use tenure::quorum::{Configuration, Voters};

/// What is left of a promise of `E` once the drift of both clocks and the guard are taken off.
const LEASE: u64 = E - E / 50 - 5;

fn set(nodes: &[u64]) -> Voters {
    Voters::from_nodes(nodes.iter().copied().map(NodeId))
}

fn simple(voters: &[u64], learners: &[u64]) -> Configuration {
    Configuration::new(set(voters), Voters::default(), set(learners)).unwrap()
}

fn joint(voters: &[u64], outgoing: &[u64]) -> Configuration {
    Configuration::new(set(voters), set(outgoing), Voters::default()).unwrap()
}

/// Node 1 leads `count` voters, all of which have its no-op, at index 2.
fn leader_of(count: u64) -> Lone {
    let mut lone = Lone::of(count);
    let sent = lone.elect();
    (2..=count).for_each(|peer| _ = lone.accept(peer, &sent));
    lone
}

/// Asks for this configuration; newcomers have three election timeouts.
fn ask(lone: &mut Lone, voters: &[u64], learners: &[u64]) -> Vec<Message> {
    let change = Change { expected: None, to: simple(voters, learners), patience: ms(3 * E) };
    lone.change(7, change)
}

/// What the changes asked for came to since this was asked last.
fn answers(lone: &mut Lone) -> Vec<Result<Index, ChangeError>> {
    std::mem::take(&mut lone.changes).into_iter().map(|answer| answer.result).collect()
}

fn refusal(lone: &mut Lone) -> ChangeError {
    match answers(lone)[..] {
        [Err(error)] => error,
        ref other => panic!("not refused: {other:?}"),
    }
}

/// The configuration in use, and where it stands.
fn in_use(lone: &Lone) -> (u64, String) {
    let status = lone.core.status();
    (status.configuration_index.0, status.configuration.to_string())
}

/// How many configurations stand in the log.
fn configurations(lone: &Lone) -> usize {
    lone.disk.entries.iter().filter(|entry| entry.kind == EntryKind::Configuration).count()
}

fn removals(lone: &Lone) -> usize {
    lone.events.iter().filter(|event| **event == Event::Removed).count()
}

/// Answers every append in `sent` in the name of `peer`, without a promise.
fn accept_without_promise(lone: &mut Lone, peer: u64, sent: &[Message]) -> Vec<Message> {
    let mut all = Vec::new();
    for (term, append) in appends_to(peer, sent) {
        let outcome = AppendOutcome::Accepted { matched: append.slice.last().index };
        all.extend(lone.answer_append_as(peer, term, &append, outcome, |answer| answer.promise_ms = 0));
    }
    all
}

// ---- refusals ------------------------------------------------------------------------------------------------------

#[test]
fn p15_only_a_leader_changes_the_members() {
    let mut lone = Lone::of(3);
    lone.heartbeat_from(2, 1);
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(refusal(&mut lone), ChangeError::NotLeader { leader: Some(NodeId(2)) });
}

/// The known flaw of changes of one voter: two leaders might each commit one that the other does not know of.
#[test]
fn p15_no_change_before_an_entry_of_the_own_term_is_committed() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(refusal(&mut lone), ChangeError::NotReady);
    lone.accept(2, &sent);
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(in_use(&lone), (3, "n1 n2".to_owned()));
}

#[test]
fn p15_c14_one_change_at_a_time() {
    let mut lone = leader_of(3);
    let sent = ask(&mut lone, &[1, 2], &[]);
    ask(&mut lone, &[1, 3], &[]);
    assert_eq!(refusal(&mut lone), ChangeError::InProgress);
    lone.accept(2, &sent);
    assert_eq!(answers(&mut lone), [Ok(Index(3))]);
    ask(&mut lone, &[1, 3], &[]);
    assert!(answers(&mut lone).is_empty());
}

/// What an earlier leader has begun counts, too: a configuration that is not committed, and one that is joint.
#[test]
fn p15_c14_no_change_while_an_earlier_leaders_is_under_way() {
    for earlier in [simple(&[1, 2], &[]), joint(&[1, 2], &[1, 2, 3])] {
        let mut lone = with_configurations(&[earlier]);
        lone.elect();
        ask(&mut lone, &[1], &[]);
        assert_eq!(refusal(&mut lone), ChangeError::InProgress);
    }
}

#[test]
fn p15_only_the_expected_configuration_is_changed() {
    let mut lone = leader_of(3);
    let change = |expected| Change { expected: Some(Index(expected)), to: simple(&[1, 2], &[]), patience: ms(E) };
    lone.change(1, change(2));
    assert_eq!(refusal(&mut lone), ChangeError::Changed { in_use: Index(1) });
    lone.change(2, change(1));
    assert_eq!(in_use(&lone).0, 3);
}

#[test]
fn p15_nobody_asks_for_a_joint_configuration() {
    let mut lone = leader_of(3);
    lone.change(1, Change { expected: None, to: joint(&[1, 2], &[1, 2, 3]), patience: ms(E) });
    assert_eq!(refusal(&mut lone), ChangeError::Joint);
}

/// The target would be small enough, and the joint configuration on the way would not.
#[test]
fn p15_a_way_through_too_many_members_is_refused() {
    let voters: Vec<u64> = (101..=300).collect();
    let mut lone = leader_of(56);
    ask(&mut lone, &voters, &[]);
    assert_eq!(refusal(&mut lone), ChangeError::TooManyMembers(256));
    let mut lone = leader_of(55);
    ask(&mut lone, &voters, &[]);
    assert_eq!(in_use(&lone).0, 3, "255 are allowed");
}

#[test]
fn p15_no_change_while_leadership_is_handed_over() {
    let mut lone = leader_of(3);
    lone.transfer(1, Some(3));
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(refusal(&mut lone), ChangeError::Transferring);
}

#[test]
fn p15_a_group_that_has_stopped_says_so() {
    let mut lone = leader_of(3);
    ask(&mut lone, &[1, 2], &[]);
    lone.step(Input::WriteFailed);
    assert_eq!(refusal(&mut lone), ChangeError::LeadershipLost);
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(refusal(&mut lone), ChangeError::Stopped(Fatal::LogFailed));
    lone.transfer(1, None);
    assert_eq!(lone.transfers.last().unwrap().result, Err(TransferError::Stopped(Fatal::LogFailed)));
}

/// Node 1 alone: the group was recovered without the others, at 2.
fn recovered() -> Lone {
    let alone = simple(&[1], &[]).with_barred([2, 3].map(NodeId)).unwrap();
    let mut lone = with_configurations(&[alone]);
    lone.stand();
    assert_eq!((lone.role(), lone.commit()), (RoleKind::Leader, 3));
    lone
}

/// Not even their terms: those who come back with their disks may lead each other, with a log that contradicts this one.
#[test]
fn p17_who_is_barred_is_not_heard() {
    let mut lone = recovered();
    let (term, newer) = (lone.term(), EntryId::new(9, 8));
    assert!(lone.append_from(2, 9, EntryId::new(1, 1), vec![command(2, 9)], 2).is_empty());
    assert!(lone.vote_from(3, 99, newer).is_empty());
    let request = VoteRequest {
        round: RoundId(1),
        campaign_term: Term(100),
        last: newer,
        configuration: Index(1),
        abdicated: None,
    };
    assert!(lone.receive(3, 99, Body::PreVote(request)).is_empty());
    assert!(lone.abdication_of(2, term, Some(1)).is_empty());
    assert_eq!((lone.role(), lone.term(), lone.last().index), (RoleKind::Leader, term, Index(3)));
    assert_eq!(lone.core.status().counters.barred, 4);
    let told = lone.events.iter().filter(|event| matches!(event, Event::Barred { .. })).count();
    assert_eq!(told, 3, "the first, the second, the fourth");
    // Somebody else who is no member is heard as ever.
    assert!(!lone.vote_from(7, 2, EntryId::new(1, 1)).is_empty());
}

#[test]
fn p17_who_is_barred_becomes_no_member() {
    let mut lone = recovered();
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(refusal(&mut lone), ChangeError::Barred(NodeId(2)));
    ask(&mut lone, &[1], &[3]);
    assert_eq!(refusal(&mut lone), ChangeError::Barred(NodeId(3)));
    ask(&mut lone, &[1], &[4]);
    assert_eq!(in_use(&lone), (4, "n1, learners n4, barred n2 n3".to_owned()));
}

#[test]
fn p15_whoever_asked_is_told_that_leadership_was_lost() {
    let mut lone = leader_of(3);
    ask(&mut lone, &[1, 2], &[]);
    lone.append_from(3, 9, EntryId::new(2, 2), vec![command(3, 9)], 2);
    assert_eq!(refusal(&mut lone), ChangeError::LeadershipLost);
    assert_eq!(in_use(&lone), (1, "n1 n2 n3".to_owned()), "what was truncated is in use no more");
}

/// `b63`: what is so already needs no entry, and leaves nothing pending.
#[test]
fn b63_what_is_so_already_may_be_asked_for_again() {
    let mut lone = leader_of(3);
    for _ in 0..2 {
        ask(&mut lone, &[1, 2, 3], &[]);
        assert_eq!(answers(&mut lone), [Ok(Index(1))]);
    }
    assert_eq!(lone.last(), EntryId::new(2, 2));
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(in_use(&lone).0, 3);
}

// ---- one step after the other --------------------------------------------------------------------------------------

/// Node 1 of five has committed the joint configuration, at 3, on the way to {1,2,3}. Before, n4 and n5 promised something
/// later than n2 and n3 did, and nobody has promised anything since. Returns the end of the longest lease that was told.
fn outrun() -> (Lone, Instant) {
    let mut lone = Lone::start(config(|config| config.lease_reads = true), Disk::founded(voters(5)));
    let sent = lone.elect();
    (2..=5).for_each(|peer| _ = lone.accept(peer, &sent));
    let beat = lone.pass(100);
    lone.accept(4, &beat);
    lone.accept(5, &beat);
    let told = lone.core.lease().unwrap().until;
    assert_eq!(told, lone.now + ms(LEASE));
    let sent = ask(&mut lone, &[1, 2, 3], &[]);
    (2..=3).for_each(|peer| _ = accept_without_promise(&mut lone, peer, &sent));
    assert_eq!((lone.commit(), in_use(&lone)), (3, (3, "n1 n2 n3 | n1 n2 n3 n4 n5".to_owned())));
    assert!(lone.core.lease().unwrap().until < told, "both halves prove less than one did");
    (lone, told)
}

/// `p15`, `d14`: what the old configuration's voters have promised, and other threads been told, holds on; the next
/// configuration might elect somebody without them.
#[test]
fn p15_d14_the_next_configuration_waits_until_the_lease_covers_what_was_told() {
    let (mut lone, told) = outrun();
    let beat = lone.pass(100);
    accept_without_promise(&mut lone, 2, &beat);
    assert_eq!(in_use(&lone).0, 3);
    lone.accept(2, &beat);
    assert_eq!(in_use(&lone).0, 3, "of five only n1, n2 and n4 cover it: n2 is heard with the next step");
    lone.accept(3, &beat);
    assert!(lone.core.lease().unwrap().until >= told);
    assert_eq!(in_use(&lone), (4, "n1 n2 n3".to_owned()));
}

#[test]
fn p15_d14_or_until_what_was_told_has_run_out() {
    let (mut lone, told) = outrun();
    while lone.now < told {
        assert_eq!(in_use(&lone).0, 3);
        let beat = lone.pass(50);
        (2..=3).for_each(|peer| _ = accept_without_promise(&mut lone, peer, &beat));
    }
    assert_eq!(in_use(&lone).0, 4);
}

/// A jump of the clock revokes what was proven, not what was told.
#[test]
fn p15_p16_a_revoked_lease_was_told_all_the_same() {
    let mut lone = Lone::start(config(|config| config.lease_reads = true), Disk::founded(voters(3)));
    let sent = lone.elect();
    (2..=3).for_each(|peer| _ = lone.accept(peer, &sent));
    lone.step(Input::ClockJumped);
    ask(&mut lone, &[1, 2], &[]);
    assert_eq!(in_use(&lone).0, 1);
    let beat = lone.pass(100);
    lone.accept(2, &beat);
    lone.accept(3, &beat);
    assert_eq!(in_use(&lone).0, 3);
}

/// `b62`: not before it is committed, not twice, and nobody need ask for it.
#[test]
fn b62_a_joint_configuration_is_left_once() {
    let mut lone = leader_of(5);
    let sent = ask(&mut lone, &[1, 2, 3], &[]);
    lone.accept(2, &sent);
    assert_eq!(in_use(&lone).0, 3, "two of five have it");
    lone.accept(3, &sent);
    assert_eq!(in_use(&lone), (4, "n1 n2 n3".to_owned()));
    (2..=5).for_each(|peer| _ = lone.accept(peer, &sent));
    lone.pass_with(&[2, 3], 2000);
    assert_eq!((configurations(&lone), answers(&mut lone)), (3, vec![Ok(Index(4))]));
}

#[test]
fn b62_a_new_leader_leaves_the_joint_configuration_of_the_one_before() {
    let mut lone = with_configurations(&[joint(&[1, 2], &[1, 2, 3])]);
    let sent = lone.elect();
    assert_eq!(in_use(&lone).0, 2, "not before an entry of its own term is committed");
    lone.accept(2, &sent);
    assert_eq!(in_use(&lone), (4, "n1 n2".to_owned()));
    lone.pass_with(&[2], 1000);
    assert_eq!(configurations(&lone), 3);
    assert!(answers(&mut lone).is_empty(), "nobody asked this leader");
}

// ---- newcomers -----------------------------------------------------------------------------------------------------

/// Of three voters, with a log of 12; n4 is to join and is a learner by the entry at 13, which is committed.
fn with_newcomer() -> (Lone, Vec<Message>) {
    let mut lone = leader_of(3);
    let (_, sent) = lone.propose(&["x"; 10]);
    (2..=3).for_each(|peer| _ = lone.accept(peer, &sent));
    let sent = ask(&mut lone, &[1, 2, 3, 4], &[]);
    assert_eq!(in_use(&lone), (13, "n1 n2 n3, learners n4".to_owned()));
    (2..=3).for_each(|peer| _ = lone.accept(peer, &sent));
    assert_eq!(lone.commit(), 13);
    (lone, sent)
}

#[test]
fn p15_a_newcomer_votes_once_it_keeps_up() {
    let (mut lone, sent) = with_newcomer();
    assert_eq!(appends_to(4, &sent).len(), 1, "it is written to at once");
    lone.pass_with(&[2, 3], E);
    lone.accept(4, &sent);
    assert_eq!(in_use(&lone), (14, "n1 n2 n3 n4".to_owned()));
    assert!(answers(&mut lone).is_empty(), "three of four must have that");
}

/// Each round leads to where the log ended when it began; the first to take less than an election timeout is enough.
#[test]
fn p15_a_slow_newcomer_is_timed_round_by_round() {
    let (mut lone, first) = with_newcomer();
    let (_, sent) = lone.propose(&["y"; 5]);
    (2..=3).for_each(|peer| _ = lone.accept(peer, &sent));
    lone.pass_with(&[2, 3], E + 100);
    lone.accept(4, &first);
    assert_eq!(in_use(&lone).0, 13, "the first round took too long");
    let (term, append) = appends_to(4, &first).remove(0);
    lone.pass(E / 2);
    lone.answer_append(4, term, &append, AppendOutcome::Accepted { matched: Index(17) });
    assert_eq!(in_use(&lone).0, 13, "the second leads to 18");
    lone.answer_append(4, term, &append, AppendOutcome::Accepted { matched: Index(18) });
    assert_eq!(in_use(&lone).0, 19);
}

#[test]
fn p15_patience_ends_and_the_voters_are_as_they_were() {
    let (mut lone, _) = with_newcomer();
    lone.pass_with(&[2, 3], 3 * E - 100);
    assert!(answers(&mut lone).is_empty());
    lone.pass_with(&[2, 3], 100);
    assert_eq!(refusal(&mut lone), ChangeError::TimedOut { behind: NodeId(4) });
    assert_eq!(in_use(&lone), (13, "n1 n2 n3, learners n4".to_owned()));
    ask(&mut lone, &[1, 2, 3], &[]);
    assert_eq!(in_use(&lone), (14, "n1 n2 n3".to_owned()), "and the next change is not held up");
}

#[test]
fn p15_a_learner_of_long_standing_is_timed_when_it_is_to_vote() {
    let mut lone = leader_of(3);
    let sent = ask(&mut lone, &[1, 2, 3], &[4]);
    (2..=4).for_each(|peer| _ = lone.accept(peer, &sent));
    assert_eq!(answers(&mut lone), [Ok(Index(3))]);
    ask(&mut lone, &[1, 2, 3, 4], &[]);
    assert_eq!(in_use(&lone).0, 3, "that it kept up once says nothing about now");
    lone.pass_with(&[2, 3, 4], 100);
    assert_eq!(in_use(&lone), (4, "n1 n2 n3 n4".to_owned()));
}

/// Two newcomers: while one learns the other, which had kept up, dies.
#[test]
fn p15_who_kept_up_and_fell_silent_does_not_keep_up() {
    let mut lone = leader_of(3);
    let sent = ask(&mut lone, &[1, 2, 3, 4, 5], &[]);
    (2..=4).for_each(|peer| _ = lone.accept(peer, &sent));
    lone.pass_with(&[2, 3], 2 * E);
    lone.pass_with(&[2, 3, 5], E / 2);
    assert_eq!(in_use(&lone), (3, "n1 n2 n3, learners n4 n5".to_owned()));
    lone.pass_with(&[2, 3, 4, 5], 200);
    assert_eq!(in_use(&lone).1, "n1 n2 n3 n4 n5 | n1 n2 n3");
}

#[test]
fn p14_who_is_yet_to_join_stands_for_nothing_and_votes_when_asked() {
    let mut lone = Lone::start(config(|_| ()), Disk::joining());
    assert!(lone.pass(20 * E).is_empty());
    assert_eq!((lone.role(), lone.term()), (RoleKind::Follower, 0));
    let sent = lone.vote_from(2, 5, EntryId::new(4, 4));
    assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
    lone.abdication_of(2, 5, Some(1));
    assert_eq!(lone.role(), RoleKind::Follower);
}

// ---- both halves ---------------------------------------------------------------------------------------------------

/// `b65`: a member of either half is asked and counts; both halves must be won.
#[test]
fn b65_who_is_in_one_half_only_is_elected_by_both() {
    let mut lone = with_configurations(&[joint(&[3, 4, 5], &[1, 2, 3])]);
    let pre = lone.stand();
    let asked: Vec<u64> = requests(&pre).iter().map(|(to, ..)| *to).collect();
    assert_eq!(asked, [2, 3, 4, 5]);
    lone.grant(2, &pre);
    assert_eq!(lone.role(), RoleKind::PreCandidate, "the old half alone");
    lone.grant(4, &pre);
    let votes = lone.grant(5, &pre);
    assert_eq!(lone.role(), RoleKind::Candidate);
    lone.grant(4, &votes);
    lone.grant(5, &votes);
    assert_eq!(lone.role(), RoleKind::Candidate, "the new half, and itself");
    lone.grant(3, &votes);
    assert_eq!(lone.role(), RoleKind::Leader);
}

#[test]
fn p15_while_joint_both_halves_commit_and_prove_a_lease() {
    let lease_reads = config(|config| config.lease_reads = true);
    let mut lone = Lone::start(lease_reads, Disk::founded(voters(3)));
    let sent = lone.elect();
    (2..=3).for_each(|peer| _ = lone.accept(peer, &sent));
    let sent = ask(&mut lone, &[1, 2, 3], &[4, 5]);
    (2..=5).for_each(|peer| _ = lone.accept(peer, &sent));
    ask(&mut lone, &[3, 4, 5], &[]);
    let beat = lone.pass(100);
    let mut sent = Vec::new();
    (2..=5).for_each(|peer| sent.extend(lone.accept(peer, &beat)));
    assert_eq!(in_use(&lone), (4, "n3 n4 n5 | n1 n2 n3".to_owned()));
    let proven = lone.core.lease().unwrap().until;
    let beat = lone.pass(100);
    let of_old = |lone: &mut Lone| _ = (lone.accept(2, &sent), lone.accept(2, &beat));
    of_old(&mut lone);
    assert_eq!((lone.commit(), lone.core.lease().unwrap().until), (3, proven), "n1 and n2 are half of it");
    lone.accept(4, &sent);
    lone.accept(4, &beat);
    assert_eq!((lone.commit(), lone.core.lease().unwrap().until), (3, proven), "n4 is one of three");
    lone.accept(5, &sent);
    assert_eq!(lone.commit(), 4);
    lone.accept(5, &beat);
    assert_eq!(lone.core.lease().unwrap().until, lone.now + ms(LEASE));
}

/// Promises and votes are the node's, whatever the configuration says it is (rules `p02`, `p14`).
#[test]
fn p02_members_of_either_half_and_of_none_promise_and_vote_alike() {
    for configuration in [joint(&[3, 4, 5], &[1, 2, 3]), joint(&[1, 4, 5], &[2, 3]), simple(&[2, 3], &[])] {
        let mut lone = with_configurations(&[configuration]);
        lone.now = lone.now + ms(E);
        let sent = lone.append_from(2, 3, EntryId::new(2, 3), vec![], 1);
        assert_eq!(append_outcomes(&sent), [(AppendOutcome::Accepted { matched: Index(2) }, E as u32)]);
        let last = EntryId::new(9, 3);
        let sent = lone.vote_from(3, 4, last);
        assert!(matches!(vote_verdicts(&sent)[0].2, Verdict::Refused(Refusal::Promised { .. })));
        lone.now = lone.now + ms(E);
        let sent = lone.vote_from(3, 4, last);
        assert_eq!(vote_verdicts(&sent)[0].2, Verdict::Granted);
    }
}

// ---- those who go --------------------------------------------------------------------------------------------------

#[test]
fn p12_who_is_on_the_way_out_counts_for_nothing_and_deposes_nobody() {
    let mut lone = leader_of(3);
    let sent = ask(&mut lone, &[1, 2], &[]);
    lone.accept(3, &sent);
    assert_eq!(lone.commit(), 2, "n1 and n3 are no majority of n1 and n2");
    let (term, append) = appends_to(3, &sent).remove(0);
    let newer = answer_to(term, &append, AppendOutcome::OldTerm, |answer| answer.promise_ms = 0);
    lone.receive(3, 9, Body::AppendResponse(newer));
    assert_eq!((lone.role(), lone.term()), (RoleKind::Leader, 2));
    lone.accept(2, &sent);
    assert_eq!(lone.commit(), 3);
    lone.receive(3, 9, Body::AppendResponse(newer));
    lone.receive(8, 9, Body::AppendResponse(newer));
    assert_eq!((lone.role(), lone.term()), (RoleKind::Leader, 2));
}

/// A member of the configuration in use may depose a leader as ever.
/// Whoever has a configuration that is not known to be committed may be the only one who can be elected.
#[test]
fn p14_who_is_on_the_way_out_may_be_needed_still() {
    let mut lone = with_configurations(&[simple(&[2], &[])]);
    let pre = lone.stand();
    let votes = lone.grant(2, &pre);
    assert_eq!(lone.role(), RoleKind::Candidate, "the only vote that counts is that of n2");
    let sent = lone.grant(2, &votes);
    assert_eq!(lone.role(), RoleKind::Leader);
    lone.accept(2, &sent);
    assert_eq!((lone.role(), lone.commit()), (RoleKind::Follower, 3), "and then no longer");
    lone.pass(20 * E);
    assert_eq!(lone.role(), RoleKind::Follower);
}

/// Of {2}, then {1,2}, then {2} again: after a restart it is not known that the second was committed.
#[test]
fn p14_what_was_committed_may_be_forgotten_and_who_is_needed_is_not() {
    let hard_state = HardState { term: Term(3), vote: None, longest_promise: ms(E) };
    let mut disk = Disk::with_history(simple(&[2], &[]), hard_state, &[]);
    for (index, configuration) in [(2, simple(&[1, 2], &[])), (3, simple(&[2], &[]))] {
        let (id, payload) = (EntryId::new(index, 3), configuration.encode());
        disk.entries.push(Entry { id, kind: EntryKind::Configuration, payload });
    }
    let mut lone = Lone::start(config(|_| ()), disk);
    lone.stand();
    assert_eq!(lone.role(), RoleKind::PreCandidate, "n2 may have the second only, and then it needs this vote");
}

#[test]
fn p12_who_stays_is_listened_to() {
    let mut lone = leader_of(3);
    let sent = ask(&mut lone, &[1, 2], &[]);
    let (term, append) = appends_to(2, &sent).remove(0);
    let newer = answer_to(term, &append, AppendOutcome::OldTerm, |answer| answer.promise_ms = 0);
    lone.receive(2, 9, Body::AppendResponse(newer));
    assert_ne!((lone.role(), lone.term()), (RoleKind::Leader, 2));
}

#[test]
fn p14_the_last_message_to_a_removed_peer_says_that_it_is_committed() {
    let mut lone = leader_of(3);
    let sent = ask(&mut lone, &[1, 2], &[]);
    assert_eq!(appends_to(3, &sent).len(), 1, "until it is committed it is written to");
    let farewell = lone.accept(2, &sent);
    let commits: Vec<_> = appends_to(3, &farewell).iter().map(|(_, append)| append.commit).collect();
    assert_eq!(commits, [Index(3)]);
    let later = lone.pass_with(&[2], 1000);
    assert!(appends_to(3, &later).is_empty());
    let (_, sent) = lone.propose(&["x"]);
    assert!(appends_to(3, &sent).is_empty() && !appends_to(2, &sent).is_empty());
}

/// Follower 1 of three is removed by the entry at 2.
#[test]
fn p14_who_was_removed_is_told_once() {
    let mut lone = Lone::of(3);
    let removal = |index, term, to: &Configuration| Entry {
        id: EntryId::new(index, term),
        kind: EntryKind::Configuration,
        payload: to.encode(),
    };
    lone.append_from(2, 1, FOUNDED, vec![removal(2, 1, &simple(&[2, 3], &[]))], 1);
    assert_eq!(removals(&lone), 0, "it may still be undone");
    lone.append_from(2, 1, EntryId::new(2, 1), vec![], 2);
    assert_eq!(removals(&lone), 1);
    lone.append_from(2, 1, EntryId::new(2, 1), vec![], 2);
    lone.append_from(2, 1, EntryId::new(2, 1), vec![command(3, 1)], 3);
    assert_eq!(removals(&lone), 1);
    lone.pass(20 * E);
    assert_eq!(lone.role(), RoleKind::Follower);
}

/// A newcomer, and a member that comes back, pass configurations in which they have no place. They are not removed by
/// those: more is committed than they have.
#[test]
fn p14_a_newcomer_and_one_that_was_added_again_are_not_told_that_they_were_removed() {
    let history = [simple(&[2, 3], &[]), simple(&[2, 3], &[1])];
    let entry = |(at, to): (usize, &Configuration)| {
        let (kind, payload) = (EntryKind::Configuration, to.encode());
        Entry { id: EntryId::new(at as u64 + 1, 1), kind, payload }
    };
    let joins = [vec![simple(&[2, 3, 4], &[])], history.to_vec()].concat();
    let comes_back = [vec![voters(3)], history.to_vec()].concat();
    for (disk, configurations) in
        [(Disk::joining(), joins), (Disk::joining(), comes_back.clone()), (Disk::founded(voters(3)), comes_back)]
    {
        let mut lone = Lone::start(config(|_| ()), disk);
        let entries: Vec<_> = configurations.iter().enumerate().map(entry).collect();
        let mut prev = EntryId::ZERO;
        for entry in entries {
            let id = entry.id;
            lone.append_from(2, 1, prev, vec![entry], 3);
            prev = id;
        }
        assert_eq!((lone.commit(), removals(&lone)), (3, 0));
    }
}

/// `b61`: it leads until its removal is committed, counts itself for nothing meanwhile, and not a step longer.
#[test]
fn p09_b61_a_leader_that_is_no_voter_any_more_hands_over() {
    for learners in [&[][..], &[1]] {
        let mut lone = leader_of(3);
        let sent = ask(&mut lone, &[2, 3], learners);
        lone.accept(2, &sent);
        assert_eq!((lone.role(), lone.commit()), (RoleKind::Leader, 2), "n2 is one of two");
        let (proposed, _) = lone.propose(&["x"]);
        assert_eq!(proposed.accepted, 1);
        let farewell = lone.accept(3, &sent);
        assert_eq!((lone.role(), lone.commit()), (RoleKind::Follower, 3));
        assert_eq!(answers(&mut lone), [Ok(Index(3))]);
        let to = |message: &Message| match &message.body {
            Body::Abdicate(abdicate) => Some((message.to.0, abdicate.successor)),
            _ => None,
        };
        let told: Vec<_> = farewell.iter().filter_map(to).collect();
        assert_eq!(told, [(2, Some(NodeId(2))), (3, Some(NodeId(2)))]);
        assert_eq!(removals(&lone), usize::from(learners.is_empty()));
        let (proposed, _) = lone.propose(&["y"]);
        assert_eq!(proposed.refused, Some(ProposeError::NotLeader { leader: None }), "b67");
        lone.pass(20 * E);
        assert_eq!(lone.role(), RoleKind::Follower);
    }
}

/// `b60`: acknowledgements of what came after its removal reach a leader that is none any more.
#[test]
fn b60_late_acknowledgements_after_the_own_removal() {
    let mut lone = leader_of(3);
    let removal = ask(&mut lone, &[2, 3], &[]);
    let (_, later) = lone.propose(&["x"]);
    lone.accept(2, &removal);
    lone.accept(3, &removal);
    lone.accept(2, &later);
    lone.accept(3, &later);
    assert_eq!((lone.role(), lone.commit()), (RoleKind::Follower, 3));
}

/// `b13`: the new configuration needs one that has been silent for long. It has an election timeout like anybody else.
#[test]
fn b13_p10_a_new_configuration_has_a_timeout_to_answer_in() {
    let mut lone = leader_of(3);
    lone.pass_with(&[2], 5 * E);
    let sent = ask(&mut lone, &[1, 3], &[]);
    assert!(lone.deadline() > lone.now, "nothing is due already");
    lone.pass(E - 1);
    assert_eq!(lone.role(), RoleKind::Leader);
    lone.accept(3, &sent);
    assert_eq!(lone.commit(), 3);
    lone.pass(E);
    assert_eq!(lone.role(), RoleKind::Follower);
}

/// A lone voter takes others in, and gets rid of them again: then its own disk is the whole quorum.
#[test]
fn p15_a_lone_voter_becomes_two_and_one_again() {
    let mut lone = leader_of(1);
    let sent = ask(&mut lone, &[1, 2], &[]);
    lone.accept(2, &sent);
    assert_eq!(in_use(&lone), (4, "n1 n2".to_owned()));
    lone.pass_with(&[2], 200);
    assert_eq!(answers(&mut lone), [Ok(Index(4))]);
    ask(&mut lone, &[1], &[]);
    assert_eq!((lone.commit(), answers(&mut lone)), (5, vec![Ok(Index(5))]));
    lone.pass(20 * E);
    assert_eq!(lone.role(), RoleKind::Leader);
}

/// A read that only those could confirm who count no more.
#[test]
fn p15_a_read_does_not_wait_for_who_was_removed() {
    let mut lone = leader_of(2);
    lone.read_as(1, Consistency::Linearizable);
    assert!(lone.reads.is_empty(), "n2 is asked");
    ask(&mut lone, &[1], &[]);
    assert!(matches!(lone.reads[..], [answer] if answer.result == Ok(Index(2))));
}
