//! Snapshots and compaction, as the core sees them (rows `r03`, `o19`; dissertation §5).

use super::*;
use tenure::config::CoreConfig;
use tenure::core::{Core, Fatal, Install, Restored};
use tenure::quorum::{Configuration, Voters};

/// Keeps nothing behind a snapshot.
fn compacting() -> Lone {
    compacting_but_for(0)
}

/// Keeps so many entries behind a snapshot for peers that answer, and none for others.
fn compacting_but_for(entries: usize) -> Lone {
    let keep = |config: &mut CoreConfig| {
        (config.limits.retained_entries, config.limits.retained_for_peers) = (0, entries);
    };
    Lone::start(config(keep), Disk::founded(voters(3)))
}

/// Node 1 leads three voters; n2 has everything, up to 12@2, and n3 has nothing behind the founding entry. A snapshot
/// covers everything up to 9@2.
fn leader_with_a_snapshot() -> Lone {
    let mut lone = compacting();
    let sent = lone.elect();
    lone.accept(2, &sent);
    for command in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let (_, sent) = lone.propose(&[command]);
        lone.accept(2, &sent);
    }
    lone.step(Input::SnapshotTaken(EntryId::new(9, 2)));
    lone
}

fn base(lone: &Lone) -> EntryId {
    lone.core.log().base()
}

/// The snapshots offered to `peer`, by their last entries.
fn offers(peer: u64, sent: &[Message]) -> Vec<EntryId> {
    let appends = appends_to(peer, sent).into_iter().filter(|(_, append)| append.snapshot);
    appends.map(|(_, append)| append.slice.prev()).collect()
}

/// n3 says that its log ends at the founding entry.
fn n3_has_nothing(lone: &mut Lone, sent: &[Message]) -> Vec<Message> {
    let (term, append) = appends_to(3, sent).pop().unwrap();
    let mismatch = AppendOutcome::Mismatch { prev: append.slice.prev().index, last: FOUNDED, conflict: None };
    lone.answer_append(3, term, &append, mismatch)
}

/// An empty append of n2 behind a snapshot that ends at `last`.
fn offer_from_2(lone: &mut Lone, last: EntryId, commit: u64) -> Vec<Message> {
    let slice = LogSlice::new(last, vec![]).unwrap();
    let (stamp, round, commit) = (lone.now, RoundId(5), Index(commit));
    let append = AppendEntries { stamp, round, commit, rank: None, fresh: None, snapshot: true, slice };
    lone.receive(2, last.term.0, Body::AppendEntries(append))
}

fn installed(lone: &mut Lone, last: EntryId, configuration: &Configuration) -> Vec<Message> {
    lone.step(Input::SnapshotInstalled { last, configuration: (Index(1), configuration.clone()) })
}

fn outcomes(sent: &[Message]) -> Vec<AppendOutcome> {
    let outcome = |message: &Message| match &message.body {
        Body::AppendResponse(answer) => Some(answer.outcome),
        _ => None,
    };
    sent.iter().filter_map(outcome).collect()
}

#[test]
fn r03_a_snapshot_lets_the_log_before_it_go() {
    let lone = leader_with_a_snapshot();
    assert_eq!((base(&lone), lone.disk.base()), (EntryId::new(9, 2), EntryId::new(9, 2)));
    assert_eq!((lone.last(), lone.commit()), (EntryId::new(12, 2), 12), "what is behind it stays");
    let lone = lone.restart();
    assert_eq!((base(&lone), lone.last()), (EntryId::new(9, 2), EntryId::new(12, 2)));
    assert_eq!(lone.core.configuration(), &voters(3), "the configuration of then is kept");
}

/// Peers that are a little behind get entries, not a snapshot.
#[test]
fn r03_some_entries_are_kept_behind_a_snapshot() {
    let mut lone = Lone::start(config(|config| config.limits.retained_entries = 4), Disk::founded(voters(3)));
    let sent = lone.elect();
    lone.accept(2, &sent);
    for _ in 0..10 {
        let (_, sent) = lone.propose(&["x"]);
        lone.accept(2, &sent);
    }
    lone.step(Input::SnapshotTaken(EntryId::new(9, 2)));
    assert_eq!(base(&lone), EntryId::new(5, 2));
    lone.step(Input::SnapshotTaken(EntryId::new(3, 2)));
    assert_eq!(base(&lone), EntryId::new(5, 2), "an older one changes nothing");
    lone.propose(&["not committed yet"]);
    lone.step(Input::SnapshotTaken(lone.last()));
    assert_eq!(base(&lone), EntryId::new(5, 2), "nor does one of what is not applied");
}

#[test]
fn r03_b55_c24_a_peer_whose_next_entry_is_gone_is_offered_the_snapshot() {
    let mut lone = leader_with_a_snapshot();
    let loads = lone.loads;
    let sent = lone.pass_with(&[2], 500);
    assert_eq!(offers(3, &sent)[..2], [EntryId::new(9, 2); 2]);
    assert!(offers(2, &sent).is_empty(), "the others are not held up");
    let (_, more) = lone.propose(&["k"]);
    assert_eq!(appends_to(2, &more).len(), 1);
    assert!(appends_to(3, &more).is_empty(), "there is nothing that it could take");
    assert_eq!(lone.loads, loads, "what is gone is not looked for");
}

/// `b50`: nobody waits for a report: the offer is made again with each heartbeat, and not more often.
#[test]
fn r03_b50_an_offer_is_repeated_at_the_pace_of_heartbeats() {
    let mut lone = leader_with_a_snapshot();
    let offered = lone.pass(100);
    let again = n3_has_nothing(&mut lone, &offered);
    assert!(appends_to(3, &again).is_empty(), "an answer to an offer is no reason for another");
    let beats = lone.pass_with(&[2], 300);
    assert_eq!(offers(3, &beats).len(), 3, "one each 100 ms");
}

/// `b32`: the log was compacted while entries for a peer were read from it. Read or not, the peer gets the snapshot now.
#[test]
fn b32_entries_that_are_given_up_while_they_are_read_end_no_leadership() {
    for read in [false, true] {
        let small = config(|config| {
            (config.limits.retained_entries, config.limits.retained_for_peers, config.limits.cache_bytes) = (0, 0, 0);
        });
        let mut lone = Lone::start(small, Disk::founded(voters(3)));
        let sent = lone.elect();
        lone.accept(2, &sent);
        let (_, last) = lone.propose(&["a", "b", "c"]);
        lone.accept(2, &last);
        let mut out = Output::new();
        let sent = lone.pass(100);
        let (term, append) = appends_to(3, &sent).pop().unwrap();
        let mismatch = AppendOutcome::Mismatch { prev: append.slice.prev().index, last: FOUNDED, conflict: None };
        let body = Body::AppendResponse(answer_to(term, &append, mismatch, |_| ()));
        let answer = Message { group: GROUP, from: NodeId(3), to: NodeId(1), term, body };
        lone.core.step(lone.now, Input::Received(answer), &mut out);
        let load = *out.loads.first().expect("entries to load for node 3");
        let entries = read.then(|| lone.disk.entries.clone());
        lone.step(Input::SnapshotTaken(EntryId::new(3, 2)));
        lone.step(Input::Loaded { load, entries });
        assert_eq!(lone.role(), RoleKind::Leader, "{:?}", lone.core.status().stopped);
        let sent = lone.pass(100);
        assert_eq!(offers(3, &sent), [EntryId::new(3, 2)]);
    }
}

/// `b51`, `b55`: whatever it has in the end, from there on it gets entries.
#[test]
fn r03_b51_who_has_the_snapshot_gets_what_is_behind_it() {
    let mut lone = leader_with_a_snapshot();
    let offered = lone.pass(100);
    n3_has_nothing(&mut lone, &offered);
    let offered = lone.pass(100);
    let sent = lone.accept(3, &offered);
    let [(_, append)] = &appends_to(3, &sent)[..] else { panic!("{sent:?}") };
    assert_eq!((append.slice.prev(), append.slice.len(), append.snapshot), (EntryId::new(9, 2), 3, false));
    lone.accept(3, &sent);
    assert_eq!(lone.core.status().peers, [(NodeId(2), Index(12)), (NodeId(3), Index(12))]);
}

/// `o19`: an offer is a heartbeat like any other; who lacks the snapshot asks for it, once per offer.
#[test]
fn o19_r03_who_is_offered_a_snapshot_that_it_lacks_wants_it() {
    let mut lone = Lone::of(3);
    let last = EntryId::new(9, 2);
    let sent = offer_from_2(&mut lone, last, 12);
    assert_eq!((lone.leader(), lone.term()), (Some(2), 2));
    assert!(matches!(outcomes(&sent)[..], [AppendOutcome::Mismatch { .. }]));
    assert_eq!(std::mem::take(&mut lone.installs), [Install { from: NodeId(2), last }]);
    let sent = installed(&mut lone, last, &voters(3));
    assert!(outcomes(&sent).is_empty());
    assert_eq!((base(&lone), lone.commit(), lone.core.status().applied), (last, 9, Index(9)));
    assert_eq!(lone.disk.base(), last);
    let sent = offer_from_2(&mut lone, last, 12);
    assert_eq!(outcomes(&sent), [AppendOutcome::Accepted { matched: Index(9) }]);
    assert!(lone.installs.is_empty());
    lone.append_from(2, 2, last, vec![command(10, 2)], 12);
    assert_eq!((lone.last(), lone.commit()), (EntryId::new(10, 2), 10));
    let lone = lone.restart();
    assert_eq!((base(&lone), lone.last()), (last, EntryId::new(10, 2)));
}

/// A mismatch is no reason by itself: entries will do.
#[test]
fn r03_who_is_offered_nothing_wants_nothing() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 2, EntryId::new(9, 2), vec![], 12);
    assert!(lone.installs.is_empty());
}

/// Who has the entry at which the snapshot ends needs none.
#[test]
fn r03_who_is_only_slightly_behind_wants_no_snapshot() {
    let mut lone = Lone::with_log(3, &[2, 2, 2]);
    offer_from_2(&mut lone, EntryId::new(4, 2), 4);
    lone.append_from(2, 3, EntryId::new(4, 2), vec![], 4);
    assert!(lone.installs.is_empty());
}

/// `b53`, `c10`: what conflicts with the snapshot goes, and does not come back after a restart.
#[test]
fn r03_b53_c10_a_snapshot_replaces_a_log_that_diverged() {
    let mut lone = Lone::with_log(5, &[3, 3, 3, 3, 3, 3, 3, 3, 3]);
    let last = EntryId::new(4, 5);
    installed(&mut lone, last, &voters(3));
    assert_eq!((base(&lone), lone.last(), lone.commit()), (last, last, 4));
    assert_eq!(lone.restart().last(), last);
}

#[test]
fn r03_a_snapshot_keeps_what_the_log_holds_behind_it() {
    let mut lone = Lone::with_log(3, &[2, 2, 2, 3, 3]);
    installed(&mut lone, EntryId::new(4, 2), &voters(3));
    assert_eq!((base(&lone), lone.last()), (EntryId::new(4, 2), EntryId::new(6, 3)));
}

/// `c13`: the configuration is that of the snapshot, whatever the log said.
#[test]
fn r03_c13_a_snapshot_brings_its_configuration() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 2, FOUNDED, vec![], 1);
    lone.step(Input::SnapshotInstalled { last: EntryId::new(9, 2), configuration: (Index(5), voters(5)) });
    assert_eq!((lone.core.configuration(), lone.core.status().configuration_index), (&voters(5), Index(5)));
    assert_eq!(lone.restart().core.configuration(), &voters(5));
}

/// `c11`: what was compacted was committed, so a leader has the same there.
#[test]
fn r03_c11_an_append_from_below_the_beginning_of_the_log_is_taken() {
    let mut lone = Lone::of(3);
    installed(&mut lone, EntryId::new(5, 2), &voters(3));
    let entries = (3..=7).map(|index| command(index, 2)).collect();
    let sent = lone.append_from(2, 2, EntryId::new(2, 2), entries, 7);
    assert!(matches!(outcomes(&sent).last(), Some(AppendOutcome::Accepted { matched: Index(7) })));
    assert_eq!((base(&lone), lone.last(), lone.commit()), (EntryId::new(5, 2), EntryId::new(7, 2), 7));
}

/// A snapshot that comes late, when its node is further by itself, changes nothing.
#[test]
fn r03_an_old_snapshot_changes_nothing() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 2, FOUNDED, (2..=7).map(|index| command(index, 2)).collect(), 7);
    installed(&mut lone, EntryId::new(5, 2), &voters(3));
    assert_eq!((base(&lone), lone.last(), lone.commit()), (EntryId::ZERO, EntryId::new(7, 2), 7));
}

/// A state machine that ends before the log begins has lost something: it is told to be restored first.
#[test]
fn r03_a_state_machine_behind_the_log_is_not_started() {
    let lone = leader_with_a_snapshot();
    let mut out = Output::new();
    let restored = lone.disk.restore(Index(8));
    let refused = tenure::core::Core::new(lone.core.config().clone(), restored, lone.now, &mut out).unwrap_err();
    assert_eq!(refused, StartError::AppliedBehindLog { applied: Index(8), base: EntryId::new(9, 2) });
}

/// What the diverged log said about the members goes with it.
#[test]
fn r03_c13_configurations_of_a_diverged_log_go_with_it() {
    let mut lone = Lone::of(3);
    let payload = voters(5).encode();
    let entry = |index| match index {
        6 => Entry { id: EntryId::new(6, 3), kind: EntryKind::Configuration, payload: payload.clone() },
        _ => command(index, 3),
    };
    lone.append_from(2, 3, FOUNDED, (2..=7).map(entry).collect(), 1);
    assert_eq!(lone.core.configuration(), &voters(5));
    installed(&mut lone, EntryId::new(4, 5), &voters(3));
    assert_eq!(lone.core.configuration(), &voters(3));
}

/// Entries that were on their way to the disk when a snapshot replaced them do not count as durable afterwards.
#[test]
fn r03_b35_an_old_write_ends_after_a_snapshot_replaced_it() {
    let mut lone = Lone::start_with(config(|_| ()), Disk::founded(voters(3)), false);
    lone.append_from(2, 3, FOUNDED, (2..=9).map(|index| command(index, 3)).collect(), 1);
    installed(&mut lone, EntryId::new(4, 5), &voters(3));
    lone.sync_one();
    assert_eq!(lone.core.status().durable, Index(4));
    lone.sync();
    assert_eq!((lone.core.status().durable, lone.disk.last()), (Index(4), EntryId::new(4, 5)));
}

/// What has not left the buffer yet was asked for before the snapshot, and is written before it.
#[test]
fn r03_a_snapshot_joins_no_earlier_write() {
    let mut lone = Lone::of(3);
    let slice = LogSlice::new(FOUNDED, (2..=9).map(|index| command(index, 3)).collect()).unwrap();
    let (stamp, round, commit) = (lone.now, RoundId(5), Index(1));
    let append = AppendEntries { stamp, round, commit, rank: None, fresh: None, snapshot: false, slice };
    let (from, to, term) = (NodeId(2), NodeId(1), Term(3));
    let received = Message { group: GROUP, from, to, term, body: Body::AppendEntries(append) };
    let snapshot = Input::SnapshotInstalled { last: EntryId::new(4, 5), configuration: (Index(1), voters(3)) };
    let mut out = Output::new();
    lone.core.step(lone.now, Input::Received(received), &mut out);
    lone.core.step(lone.now, snapshot, &mut out);
    let compacts: Vec<_> = out.writes.iter().map(|write| write.compaction.is_some()).collect();
    assert_eq!(compacts.last(), Some(&true));
    let last = out.writes.last().unwrap();
    assert!(last.entries.is_empty() && out.writes.iter().any(|write| !write.entries.is_empty()));
}

/// A node that was started without the snapshot that its log begins behind leads all the same: who needs what is gone hears
/// from it, and waits until there is a snapshot again.
#[test]
fn r03_a_leader_without_its_snapshot_leads_on() {
    let mut lone = leader_with_a_snapshot().restart();
    lone.now = lone.now + ms(E);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (term, append) = appends_to(3, &sent).remove(0);
    let mismatch = AppendOutcome::Mismatch { prev: append.slice.prev().index, last: FOUNDED, conflict: None };
    lone.answer_append(3, term, &append, mismatch);
    let beats = lone.pass_with(&[2], 3 * E);
    assert!(offers(3, &beats).is_empty() && !appends_to(3, &beats).is_empty());
    assert_eq!((lone.role(), lone.core.status().stopped), (RoleKind::Leader, None));
    let last = EntryId { index: Index(lone.commit()), ..lone.last() };
    lone.step(Input::SnapshotTaken(last));
    assert_eq!(offers(3, &lone.pass(100)), [last]);
}

/// A peer that kept up and fell behind while the log before its next entry went.
#[test]
fn r03_a_peer_that_falls_behind_the_beginning_of_the_log() {
    let mut lone = Lone::start(
        config(|config| {
            (config.limits.retained_entries, config.limits.retained_for_peers, config.limits.window_entries) = (0, 0, 1)
        }),
        Disk::founded(voters(3)),
    );
    let sent = lone.elect();
    for peer in [2, 3] {
        lone.accept(peer, &sent);
    }
    let (_, to_3) = lone.propose(&["a"]);
    lone.accept(2, &to_3);
    for _ in 0..8 {
        let (_, sent) = lone.propose(&["x"]);
        lone.accept(2, &sent);
    }
    lone.step(Input::SnapshotTaken(EntryId::new(9, 2)));
    let loads = lone.loads;
    let sent = lone.accept(3, &to_3);
    assert!(appends_to(3, &sent).is_empty(), "{sent:?}");
    assert_eq!(lone.loads, loads, "what is gone is not looked for");
    let beat = lone.pass(100);
    assert_eq!(offers(3, &beat), [EntryId::new(9, 2)]);
}

/// A peer that is far behind but answers goes on from the log: what it needs stays until it has it, or until that would be too
/// much. For one that does not answer nothing stays.
#[test]
fn r03_a_leader_keeps_the_log_that_a_slow_peer_is_about_to_get() {
    let behind = |entries: usize, answers: bool| {
        let mut lone = compacting_but_for(entries);
        let sent = lone.elect();
        lone.accept(2, &sent);
        for command in ["a", "b", "c", "d", "e", "f"] {
            let (_, sent) = lone.propose(&[command]);
            lone.accept(2, &sent);
        }
        if answers {
            n3_has_nothing(&mut lone, &sent);
        }
        lone.step(Input::SnapshotTaken(EntryId::new(7, 2)));
        base(&lone).index.0
    };
    assert_eq!(behind(100, true), 0, "n3 has nothing");
    assert_eq!(behind(2, true), 5);
    assert_eq!(behind(100, false), 7);
}

/// Who fetches a snapshot needs the entries behind that one, however many more are taken meanwhile.
#[test]
fn r03_a_leader_keeps_the_log_behind_a_snapshot_that_is_being_fetched() {
    let mut lone = compacting_but_for(100);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let more = |lone: &mut Lone| {
        let (_, sent) = lone.propose(&["x"]);
        lone.accept(2, &sent);
        let last = lone.last();
        lone.step(Input::SnapshotTaken(last));
    };
    more(&mut lone);
    let first = base(&lone);
    assert_eq!(offers(3, &n3_has_nothing(&mut lone, &sent)), [first]);
    more(&mut lone);
    more(&mut lone);
    assert_eq!(base(&lone), first, "n3 is at the first");
}

/// Whoever has fetched a snapshot goes on with the log behind it, though newer ones were taken and offered meanwhile.
#[test]
fn r03_who_has_fetched_a_snapshot_goes_on_with_the_log_behind_it() {
    let mut lone = compacting_but_for(100);
    let sent = lone.elect();
    lone.accept(2, &sent);
    let (_, sent) = lone.propose(&["a"]);
    lone.accept(2, &sent);
    let first = lone.last();
    lone.step(Input::SnapshotTaken(first));
    let offered = lone.pass_with(&[2], 100);
    n3_has_nothing(&mut lone, &offered);
    for command in ["b", "c"] {
        let (_, sent) = lone.propose(&[command]);
        lone.accept(2, &sent);
    }
    let newest = lone.last();
    lone.step(Input::SnapshotTaken(newest));
    let offered = lone.pass_with(&[2], 100);
    assert_eq!(offers(3, &offered), [newest]);
    let (term, append) = appends_to(3, &offered).pop().unwrap();
    let mismatch = AppendOutcome::Mismatch { prev: newest.index, last: first, conflict: None };
    let sent = lone.answer_append(3, term, &append, mismatch);
    let [(_, append)] = &appends_to(3, &sent)[..] else { panic!("{sent:?}") };
    assert_eq!((append.slice.prev(), append.slice.len(), append.snapshot), (first, 2, false));
}

/// A state machine that is behind the newest snapshot, after a restart, still needs what is in it.
#[test]
fn r03_a_log_that_is_too_long_keeps_what_is_not_applied() {
    let mut lone = Lone::with_log(2, &[2; 9]);
    let covered = EntryId::new(9, 2);
    lone.disk.snapshot = Some(covered);
    let mut lone = lone.restart();
    lone.now = lone.now + ms(E);
    lone.prompt_loads = false;
    let sent = lone.elect();
    lone.accept(2, &sent);
    let load = lone.waiting_loads.pop().unwrap();
    lone.step(Input::LogTooLong);
    assert_eq!(base(&lone), EntryId::ZERO);
    let entries = lone.disk.read(load.first, load.last, load.max_bytes);
    lone.prompt_loads = true;
    lone.step(Input::Loaded { load, entries: Some(entries) });
    assert_eq!((lone.core.status().applied, lone.core.status().stopped), (lone.last().index, None));
    lone.step(Input::LogTooLong);
    assert_eq!(base(&lone), covered);
}

/// `c09`: a snapshot that ends in another entry than the committed one comes from a group that is broken, and is not
/// believed; the same entry again is harmless.
#[test]
fn r03_c09_a_snapshot_does_not_replace_what_is_committed() {
    let mut lone = Lone::of(3);
    let entries = (2..=5).map(|index| command(index, 2)).collect();
    lone.append_from(2, 2, FOUNDED, entries, 5);
    assert_eq!(lone.core.contradiction(EntryId::new(4, 2)), None);
    assert_eq!(lone.core.contradiction(EntryId::new(9, 3)), None, "nothing is known of that one");
    installed(&mut lone, EntryId::new(4, 2), &voters(3));
    assert_eq!(lone.core.status().stopped, None);
    let (ours, theirs) = (EntryId::new(4, 2), EntryId::new(4, 3));
    assert_eq!(lone.core.contradiction(theirs), Some(ours));
    installed(&mut lone, theirs, &voters(3));
    assert_eq!(lone.core.status().stopped, Some(Fatal::SnapshotContradicts { ours, theirs }));
    assert_eq!(lone.last(), EntryId::new(5, 2), "the log stays");
}

/// Two founders that began with different backups: neither takes the other's log for its own, and it is told.
#[test]
fn r03_a_leader_whose_log_begins_with_another_entry_is_not_followed() {
    let mut lone = Lone::of(3);
    let (ours, theirs) = (EntryId::new(1, 70), EntryId::new(1, 80));
    let (_, founded) = Restored::founding_with_snapshot(ours, voters(3));
    lone.core = Core::new(lone.core.config().clone(), founded, lone.now, &mut Output::new()).unwrap();
    lone.append_from(2, 81, theirs, vec![command(2, 81)], 2);
    let stopped = Fatal::CommittedOverwritten { leader: NodeId(2), ours, theirs };
    assert_eq!(lone.core.status().stopped, Some(stopped));
}

/// `b56`: while a snapshot replaces the state machine the log may bring what is in it and more. What was handed out behind the
/// snapshot is not handed out once more.
#[test]
fn r03_b56_what_was_handed_out_behind_an_installed_snapshot_comes_once() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 2, FOUNDED, vec![], 1);
    let slice = LogSlice::new(FOUNDED, (2..=9).map(|index| command(index, 2)).collect()).unwrap();
    let (stamp, round, commit) = (lone.now, RoundId(5), Index(9));
    let append = AppendEntries { stamp, round, commit, rank: None, fresh: None, snapshot: false, slice };
    let body = Body::AppendEntries(append);
    let message = Message { group: GROUP, from: NodeId(2), to: NodeId(1), term: Term(2), body };
    let mut out = Output::new();
    lone.core.step(lone.now, Input::Received(message), &mut out);
    let written = out.writes.last().unwrap().seq;
    lone.core.step(lone.now, Input::Durable(written), &mut out);
    assert_eq!(out.apply.drain(..).map(|entry| entry.id.index.0).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
    let configuration = (Index(1), voters(3));
    lone.core.step(lone.now, Input::SnapshotInstalled { last: EntryId::new(5, 2), configuration }, &mut out);
    assert!(out.apply.is_empty(), "{:?}", out.apply);
    assert_eq!((base(&lone), lone.core.status().applied), (EntryId::new(5, 2), Index(5)));
    lone.core.step(lone.now, Input::Applied(Index(9)), &mut out);
    assert_eq!((lone.core.status().applied, out.apply.len()), (Index(9), 0));
}

/// `b54`: a joint configuration with learners comes with the snapshot in whole, and after a restart as well; whoever leads
/// with it leaves it.
#[test]
fn r03_b54_a_snapshot_brings_a_joint_configuration() {
    let nodes = |nodes: &[u64]| Voters::from_nodes(nodes.iter().copied().map(NodeId));
    let joint = Configuration::new(nodes(&[1, 2, 4]), nodes(&[1, 2, 3]), nodes(&[5])).unwrap();
    let joint = joint.with_address(NodeId(4), "n4:7000").unwrap();
    let mut lone = Lone::of(3);
    lone.append_from(2, 2, FOUNDED, vec![], 1);
    installed(&mut lone, EntryId::new(9, 2), &joint);
    assert_eq!(lone.core.configuration(), &joint);
    let lone = lone.restart();
    assert_eq!(lone.core.configuration(), &joint);
    assert!(lone.core.configuration().is_joint());
}

/// `l03`: an offer of the current leader restarts the election timer like any append, one of a past leader does not.
#[test]
fn l03_r03_an_offer_of_the_leader_restarts_the_election_timer() {
    let mut lone = Lone::of(3);
    lone.append_from(2, 2, FOUNDED, vec![], 1);
    let deadline = |lone: &Lone| lone.core.next_deadline().unwrap();
    let before = deadline(&lone);
    lone.now = lone.now + ms(100);
    offer_from_2(&mut lone, EntryId::new(9, 1), 9);
    assert_eq!(deadline(&lone), before, "of a past term");
    offer_from_2(&mut lone, EntryId::new(9, 2), 9);
    assert!(deadline(&lone) >= before + ms(100), "n2 leads");
}

/// A log that takes too much room keeps nothing of what is in a snapshot, not even for those who are a little behind.
#[test]
fn a_log_that_is_too_long_keeps_nothing_for_peers() {
    let mut lone = Lone::of(3);
    let sent = lone.elect();
    lone.accept(2, &sent);
    for command in ["a", "b", "c", "d"] {
        let (_, sent) = lone.propose(&[command]);
        lone.accept(2, &sent);
    }
    lone.step(Input::LogTooLong);
    assert_eq!(base(&lone), EntryId::ZERO, "there is no snapshot");
    let covered = EntryId::new(4, 2);
    lone.step(Input::SnapshotTaken(covered));
    assert_eq!(base(&lone), EntryId::ZERO, "some entries stay for peers");
    lone.step(Input::LogTooLong);
    assert_eq!(base(&lone), covered);
    lone.step(Input::LogTooLong);
    assert_eq!((base(&lone), lone.last()), (covered, EntryId::new(6, 2)));
}
