//! Bugs of other engines that one core could have.

use super::*;

#[test]
fn b03_a_grant_echoes_the_term_it_was_asked_for() {
    let mut lone = Lone::with_log(4, &[]);
    let request = VoteRequest {
        round: RoundId(3),
        campaign_term: Term(9),
        last: EntryId::new(9, 8),
        configuration: Index(1),
        abdicated: None,
    };
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
            configuration: Index(1),
            abdicated: None,
        }),
        Body::PreVote(VoteRequest {
            round: RoundId(0),
            campaign_term: Term(u64::MAX),
            last: EntryId::ZERO,
            configuration: Index(1),
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
    let request = VoteRequest { round, campaign_term, last: FOUNDED, configuration: Index(1), abdicated: None };
    assert!(lone.receive(2, u64::MAX, Body::Vote(request)).is_empty());
    lone.append_from(2, u64::MAX, FOUNDED, vec![], 0);
    assert_eq!((lone.term(), lone.vote(), lone.core.status().counters.misdirected), (1, None, 2));
}

/// Each kind of message fits its term in its own way; what does not is dropped, counted and not answered.
#[test]
fn what_no_correct_node_says_is_not_heard() {
    let request = |campaign_term, last| VoteRequest {
        round: RoundId(1),
        campaign_term: Term(campaign_term),
        last,
        configuration: Index(1),
        abdicated: None,
    };
    let append = |prev| AppendEntries {
        stamp: Instant::ZERO,
        round: RoundId(1),
        commit: Index(1),
        rank: None,
        fresh: None,
        snapshot: false,
        slice: LogSlice::new(prev, vec![]).unwrap(),
    };
    let nonsense = [
        (3, Body::PreVote(request(3, FOUNDED))),
        (3, Body::PreVote(request(4, EntryId::new(9, 4)))),
        (3, Body::Vote(request(4, FOUNDED))),
        (3, Body::Vote(request(3, EntryId::new(9, 3)))),
        (0, Body::AppendEntries(append(EntryId::ZERO))),
        (3, Body::AppendEntries(append(EntryId::new(9, 4)))),
        (0, Body::Abdicate(tenure::message::Abdicate { successor: None })),
    ];
    for (term, body) in nonsense {
        let mut lone = Lone::of(3);
        assert!(lone.receive(2, term, body.clone()).is_empty(), "{body:?}");
        assert_eq!((lone.core.status().counters.misdirected, lone.term()), (1, 1), "{body:?}");
    }
    let sense = [
        (3, Body::PreVote(request(4, EntryId::new(9, 3)))),
        (3, Body::Vote(request(3, EntryId::new(9, 2)))),
        (3, Body::AppendEntries(append(EntryId::new(9, 3)))),
    ];
    for (term, body) in sense {
        let mut lone = Lone::of(3);
        assert!(!lone.receive(2, term, body.clone()).is_empty(), "{body:?}");
    }
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
        sent: Instant::ZERO,
        priority: Priority::Normal,
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

/// Leader append-only: who sends two different entries for one place in one term is not believed again.
#[test]
fn o20_a_leader_that_contradicts_itself_stops_the_group() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 5, FOUNDED, vec![command(2, 5), command(3, 5)], 0);
    lone.append_from(2, 5, FOUNDED, vec![command(2, 4)], 0);
    let (ours, theirs) = (EntryId::new(2, 5), EntryId::new(2, 4));
    let fatal = Fatal::LeaderContradictsItself { leader: NodeId(2), ours, theirs };
    assert_eq!((lone.core.status().stopped, lone.last()), (Some(fatal), EntryId::new(3, 5)));
}

/// A committed entry is never overwritten, whatever a leader says.
#[test]
fn b33_a_leader_that_would_overwrite_a_committed_entry_stops_the_group() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 5, FOUNDED, vec![command(2, 5)], 2);
    lone.append_from(3, 6, FOUNDED, vec![command(2, 6)], 0);
    assert!(matches!(lone.core.status().stopped, Some(Fatal::CommittedOverwritten { .. })));
    assert_eq!(lone.last(), EntryId::new(2, 5));
}

/// Commands without payload take memory too: what is handed out at once is bounded in entries.
#[test]
fn b39_empty_commands_are_handed_out_in_bounded_portions() {
    let small = config(|config| config.limits.apply_bytes = 1000);
    let mut lone = Lone::start(small, Disk::founded(voters(3)));
    let entries: Vec<_> = (2..=500)
        .map(|index| Entry { id: EntryId::new(index, 1), kind: EntryKind::Command, payload: Default::default() })
        .collect();
    let slice = LogSlice::new(FOUNDED, entries).unwrap();
    let append = AppendEntries {
        stamp: lone.now,
        round: RoundId(1),
        commit: Index(500),
        rank: None,
        fresh: None,
        snapshot: false,
        slice,
    };
    let message =
        Message { group: GROUP, from: NodeId(2), to: NodeId(1), term: Term(1), body: Body::AppendEntries(append) };
    let mut out = Output::new();
    lone.core.step(lone.now, Input::Received(message), &mut out);
    let seq = out.writes.last().unwrap().seq;
    lone.core.step(lone.now, Input::Durable(seq), &mut out);
    assert!(out.apply.len() < 100, "{} entries of {} bytes each", out.apply.len(), size_of::<Entry>());
    while lone.core.status().applied < Index(500) {
        let last = out.apply.drain(..).next_back().expect("more to apply").id.index;
        lone.core.step(lone.now, Input::Applied(last), &mut out);
    }
}
use tenure::config::Priority;
