//! What has been asked of the disk, what is durable, and what must wait for it.
//!
//! The core sends nothing that depends on a write before that write is durable: such a message waits here. One rule
//! covers all of them, because a grant, a vote request and a promise each depend on the newest hard state: *nothing
//! speaks for a term, a vote or a promise that is not durable here*. (An append's `match` needs no waiting: it is cut
//! to what is durable.)

use std::collections::VecDeque;

use crate::core::Output;
use crate::core::fingerprint::project;
use crate::log::{Compaction, Entry, HardState, Write};
use crate::message::{AppendOutcome, Body, Message};
use crate::time::Instant;
use crate::types::{Index, WriteSeq};

/// Writes grow by joining up to this many bytes, as long as they have not left the output buffer.
const JOINED_BYTES: usize = 1 << 20;
/// Messages that may wait for the disk; more are dropped, oldest first, as a network may.
const HELD_MESSAGES: usize = 1024;

/// A write that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    seq: WriteSeq,
    /// The last index it makes durable: what it wrote, less what a later write removes (bug `b35`).
    last: Index,
    bytes: usize,
    /// The step that asked for it.
    since: Option<Instant>,
}

/// The core's side of its disk.
///
/// Invariant: `durable` is at most the log's last index; it falls only by truncation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    last_seq: WriteSeq,
    durable_seq: WriteSeq,
    hard_state_seq: WriteSeq,
    durable: Index,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    held: VecDeque<(WriteSeq, Message)>,
    held_dropped: u64,
}

project!(Pending { seq, last, bytes, since });
project!(Disk { last_seq, durable_seq, hard_state_seq, durable, pending, pending_bytes, held, held_dropped: left_out });

impl Disk {
    /// A disk that holds a log up to `durable`.
    pub(super) fn new(durable: Index) -> Self {
        Self {
            last_seq: WriteSeq(0),
            durable_seq: WriteSeq(0),
            hard_state_seq: WriteSeq(0),
            durable,
            pending: VecDeque::new(),
            pending_bytes: 0,
            held: VecDeque::new(),
            held_dropped: 0,
        }
    }

    /// The last index that is durable here.
    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// Memory held by entries whose write is not durable yet, in bytes.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The write that holds the newest hard state.
    pub(super) fn hard_state_seq(&self) -> WriteSeq {
        self.hard_state_seq
    }

    /// The newest write that is durable.
    pub(super) fn durable_seq(&self) -> WriteSeq {
        self.durable_seq
    }

    /// Whether this write is durable.
    pub(super) fn is_durable(&self, seq: WriteSeq) -> bool {
        seq <= self.durable_seq
    }

    /// Since when the oldest write that is not durable has been asked for (rule `p11`).
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.pending.front().and_then(|oldest| oldest.since)
    }

    /// Notes that what was asked for in this step was asked for at `now`.
    pub(super) fn note_time(&mut self, now: Instant) {
        for pending in self.pending.iter_mut().rev().take_while(|pending| pending.since.is_none()) {
            pending.since = Some(now);
        }
    }

    /// Messages dropped because too many waited.
    pub(super) fn held_dropped(&self) -> u64 {
        self.held_dropped
    }

    /// Messages that wait, for checks.
    pub(super) fn held(&self) -> impl Iterator<Item = &Message> {
        self.held.iter().map(|(_, message)| message)
    }

    pub(super) fn write_hard_state(&mut self, hard_state: HardState, out: &mut Output) {
        let write = self.open_write(0, out);
        write.hard_state = Some(hard_state);
        self.hard_state_seq = self.last_seq;
    }

    /// Removes the log's entries from `from` on.
    pub(super) fn truncate(&mut self, from: Index, out: &mut Output) {
        self.durable = self.durable.min(from.previous());
        for pending in &mut self.pending {
            pending.last = pending.last.min(from.previous());
        }
        let write = self.open_write(0, out);
        let first_unwritten = write.entries.first().map(|entry| entry.id.index);
        write.entries.retain(|entry| entry.id.index < from);
        // Entries that have not left the buffer are simply taken back; the disk is told only about older ones.
        if first_unwritten.is_none_or(|first| from <= first) {
            write.truncate_from = Some(write.truncate_from.map_or(from, |earlier| earlier.min(from)));
        }
    }

    /// The log begins later from now on; what is behind stays.
    pub(super) fn compact(&mut self, compaction: Compaction, out: &mut Output) {
        self.open_write(0, out).compaction = Some(compaction);
    }

    /// The log begins behind an installed snapshot, which is durable; what was behind stays only if it `keeps` it.
    pub(super) fn install(&mut self, compaction: Compaction, keeps: bool, out: &mut Output) {
        let last = compaction.last.index;
        if !keeps {
            for pending in &mut self.pending {
                pending.last = pending.last.min(last);
            }
            self.durable = last;
        }
        self.durable = self.durable.max(last);
        // What has not left yet was asked for before: it comes first.
        self.begin_write(out);
        self.open_write(0, out).compaction = Some(compaction);
    }

    /// Appends one entry after the log's last.
    pub(super) fn append(&mut self, entry: Entry, out: &mut Output) {
        let bytes = entry.footprint();
        let last = entry.id.index;
        self.open_write(bytes, out).entries.push(entry);
        self.pending_bytes += bytes;
        if let Some(pending) = self.pending.back_mut() {
            pending.last = last;
            pending.bytes += bytes;
        }
    }

    /// The write to add to: the newest one if it has not left the buffer and has room, else a new one.
    fn open_write<'a>(&mut self, bytes: usize, out: &'a mut Output) -> &'a mut Write {
        let room = self.pending.back().is_some_and(|pending| pending.bytes + bytes <= JOINED_BYTES);
        let unsent = out.writes.last().is_some_and(|write| write.seq == self.last_seq);
        if !(room && unsent) {
            self.begin_write(out);
        }
        let newest = out.writes.len() - 1;
        &mut out.writes[newest]
    }

    fn begin_write(&mut self, out: &mut Output) {
        self.last_seq = self.last_seq.next();
        self.pending.push_back(Pending { seq: self.last_seq, last: Index::ZERO, bytes: 0, since: None });
        out.writes.push(Write { seq: self.last_seq, ..Write::default() });
    }

    /// The write `seq` and all before it are durable; lets out what waited for them.
    pub(super) fn completed(&mut self, seq: WriteSeq, out: &mut Output) {
        let seq = seq.min(self.last_seq);
        self.durable_seq = self.durable_seq.max(seq);
        while let Some(done) = self.pending.pop_front_if(|pending| pending.seq <= seq) {
            self.durable = self.durable.max(done.last);
            self.pending_bytes -= done.bytes;
        }
        while let Some((_, message)) = self.held.pop_front_if(|(needs, _)| *needs <= seq) {
            out.messages.push(message);
        }
    }

    /// Sends a message once the newest hard state is durable: now, or when it is.
    pub(super) fn send(&mut self, message: Message, out: &mut Output) {
        if self.is_durable(self.hard_state_seq) {
            push_joining_answers(&mut out.messages, message);
            return;
        }
        if matches!(message.body, Body::AppendResponse(_)) {
            // Any answer may be lost; the newest is worth most.
            self.held.retain(|(_, held)| !(held.to == message.to && matches!(held.body, Body::AppendResponse(_))));
        }
        if self.held.len() == HELD_MESSAGES {
            self.held.pop_front();
            self.held_dropped += 1;
        }
        self.held.push_back((self.hard_state_seq, message));
    }

    /// Forgets waiting requests for votes: the round they belong to is over.
    pub(super) fn withdraw_vote_requests(&mut self) {
        self.held.retain(|(_, message)| !matches!(message.body, Body::Vote(_) | Body::PreVote(_)));
    }
}

/// Acknowledgements coalesce: one that has not left yet takes in a later one of the same leader and term.
fn push_joining_answers(messages: &mut Vec<Message>, message: Message) {
    if let Body::AppendResponse(new) = &message.body
        && let AppendOutcome::Accepted { matched: new_match } = new.outcome
        && let Some(unsent) = messages.iter_mut().rev().find(|unsent| unsent.to == message.to)
        && unsent.term == message.term
        && let Body::AppendResponse(old) = &mut unsent.body
        && let AppendOutcome::Accepted { matched } = &mut old.outcome
        && old.request_term == new.request_term
        // A promise must not be stretched by an answer that gives none (rule `p09`).
        && old.promise_ms == new.promise_ms
    {
        old.sent = new.sent;
        *matched = new_match.max(*matched);
        old.stamp = old.stamp.max(new.stamp);
        old.round = old.round.max(new.round);
        return;
    }
    messages.push(message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Priority;
    use crate::log::EntryKind;
    use crate::message::{AppendResponse, VoteRequest};
    use crate::types::{EntryId, NodeId, RoundId, Term};
    use bytes::Bytes;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { id: EntryId::new(index, term), kind: EntryKind::Command, payload: Bytes::new() }
    }

    /// Takes the buffer's writes, as a caller does before it steps again.
    fn leave(out: &mut Output) -> Vec<Write> {
        std::mem::take(&mut out.writes)
    }

    #[test]
    fn writes_join_while_they_have_not_left() {
        let (mut disk, mut out) = (Disk::new(Index(0)), Output::new());
        disk.append(entry(1, 1), &mut out);
        disk.append(entry(2, 1), &mut out);
        assert_eq!(leave(&mut out).len(), 1);
        disk.append(entry(3, 1), &mut out);
        assert_eq!(leave(&mut out)[0].seq, WriteSeq(2));
    }

    /// `b35`: an old write that ends after its entries were replaced makes nothing durable that replaced them.
    #[test]
    fn b35_the_end_of_an_old_write_does_not_cover_what_replaced_it() {
        let (mut disk, mut out) = (Disk::new(Index(0)), Output::new());
        for index in 1..=5 {
            disk.append(entry(index, 1), &mut out);
        }
        leave(&mut out);
        disk.truncate(Index(3), &mut out);
        disk.append(entry(3, 2), &mut out);
        disk.append(entry(4, 2), &mut out);
        let second = leave(&mut out);
        assert_eq!(second[0].truncate_from, Some(Index(3)));
        disk.completed(WriteSeq(1), &mut out);
        assert_eq!(disk.durable(), Index(2));
        disk.completed(WriteSeq(2), &mut out);
        assert_eq!(disk.durable(), Index(4));
    }

    #[test]
    fn entries_that_never_left_are_taken_back_without_telling_the_disk() {
        let (mut disk, mut out) = (Disk::new(Index(2)), Output::new());
        disk.append(entry(3, 1), &mut out);
        disk.append(entry(4, 1), &mut out);
        disk.truncate(Index(4), &mut out);
        disk.append(entry(4, 2), &mut out);
        let writes = leave(&mut out);
        assert_eq!((writes.len(), writes[0].truncate_from), (1, None));
        assert_eq!(writes[0].entries, [entry(3, 1), entry(4, 2)]);
        disk.completed(WriteSeq(1), &mut out);
        assert_eq!((disk.durable(), disk.pending_bytes()), (Index(4), 0));
    }

    fn message(to: u64, term: u64, body: Body) -> Message {
        let group = crate::types::GroupId(1);
        Message { group, from: NodeId(1), to: NodeId(to), term: Term(term), body }
    }

    fn answer(to: u64, term: u64, matched: u64) -> Message {
        let response = AppendResponse {
            stamp: Instant::from_nanos(matched),
            round: RoundId(matched),
            request_term: Term(term),
            promise_ms: 1000,
            sent: Instant::from_nanos(matched),
            priority: Priority::Normal,
            outcome: AppendOutcome::Accepted { matched: Index(matched) },
        };
        message(to, term, Body::AppendResponse(response))
    }

    fn vote_request(to: u64) -> Message {
        let (last, configuration) = (EntryId::ZERO, Index(1));
        let request = VoteRequest { round: RoundId(1), campaign_term: Term(2), last, configuration, abdicated: None };
        message(to, 2, Body::Vote(request))
    }

    /// A disk that has been asked for a hard state which it does not have yet.
    fn waiting(out: &mut Output) -> Disk {
        let mut disk = Disk::new(Index(0));
        disk.write_hard_state(HardState { term: Term(2), ..HardState::default() }, out);
        disk
    }

    /// Nothing is said for a term that is not durable; of answers to one leader only the newest is worth keeping.
    #[test]
    fn what_is_said_waits_for_the_hard_state() {
        let mut out = Output::new();
        let mut disk = waiting(&mut out);
        for message in [answer(2, 2, 1), answer(3, 2, 1), vote_request(2), answer(2, 2, 5)] {
            disk.send(message, &mut out);
        }
        assert!(out.messages.is_empty());
        assert_eq!(disk.held().collect::<Vec<_>>(), [&answer(3, 2, 1), &vote_request(2), &answer(2, 2, 5)]);
        disk.withdraw_vote_requests();
        disk.completed(WriteSeq(1), &mut out);
        assert_eq!(out.messages, [answer(3, 2, 1), answer(2, 2, 5)]);
        assert_eq!(disk.held().count(), 0);
    }

    #[test]
    fn too_much_that_waits_is_dropped_and_counted() {
        let mut out = Output::new();
        let mut disk = waiting(&mut out);
        for to in 0..HELD_MESSAGES as u64 + 3 {
            disk.send(vote_request(to), &mut out);
        }
        assert_eq!((disk.held().count(), disk.held_dropped()), (HELD_MESSAGES, 3));
        assert_eq!(disk.held().next().map(|oldest| oldest.to), Some(NodeId(3)));
    }

    #[test]
    fn answers_that_have_not_left_become_one() {
        let (mut disk, mut out) = (Disk::new(Index(0)), Output::new());
        for message in [answer(2, 2, 7), answer(2, 2, 4)] {
            disk.send(message, &mut out);
        }
        let joined = match &out.messages[..] {
            [Message { body: Body::AppendResponse(joined), .. }] => *joined,
            other => panic!("{other:?}"),
        };
        assert_eq!((joined.outcome, joined.round), (AppendOutcome::Accepted { matched: Index(7) }, RoundId(7)));
        for message in [answer(3, 2, 9), answer(2, 3, 9)] {
            disk.send(message, &mut out);
        }
        assert_eq!(out.messages.len(), 3, "not those of another leader or another term");
    }

    #[test]
    fn large_writes_do_not_join() {
        let (mut disk, mut out) = (Disk::new(Index(0)), Output::new());
        let large = |index| Entry { payload: Bytes::from(vec![0; JOINED_BYTES]), ..entry(index, 1) };
        disk.append(large(1), &mut out);
        assert_eq!(disk.pending_bytes(), large(1).footprint());
        disk.append(large(2), &mut out);
        assert_eq!((leave(&mut out).len(), disk.durable_seq()), (2, WriteSeq(0)));
        disk.completed(WriteSeq(2), &mut out);
        assert_eq!((disk.pending_bytes(), disk.durable_seq()), (0, WriteSeq(2)));
    }

    #[test]
    fn a_number_from_the_future_is_not_believed() {
        let (mut disk, mut out) = (Disk::new(Index(0)), Output::new());
        disk.completed(WriteSeq(9), &mut out);
        disk.write_hard_state(HardState::default(), &mut out);
        assert!(!disk.is_durable(disk.hard_state_seq()));
    }
}
