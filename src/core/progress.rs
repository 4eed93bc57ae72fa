//! What a leader knows of one peer's log, and what is on its way there (dissertation §3.5, §10.2.1).

use std::collections::VecDeque;

use crate::config::Limits;
use crate::core::Load;
use crate::core::contact::Contact;
use crate::core::fingerprint::project;
use crate::message::Stamp;
use crate::time::{Duration, Instant};
use crate::types::Index;

/// How a peer is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Where the logs part is not known yet: one append at a time, `next` stays until it is answered.
    Probe(Option<Sent>),
    /// The logs agree up to `next`: appends follow each other without waiting.
    Replicate,
}

/// An append on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The last index it carries (its `prev`, if it carries nothing).
    pub(super) last: Index,
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pub(super) stamp: Stamp,
}

/// One peer, as its leader sees it.
///
/// Invariants: `match_index < next_index`; `match_index` never falls except for a loss report (row `s05`);
/// the window's counts equal what is in it; while replicating, what was sent last ends at `next_index - 1` (row `r08`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) match_index: Index,
    pub(super) next_index: Index,
    pub(super) flow: Flow,
    window: VecDeque<Sent>,
    window_entries: usize,
    window_bytes: usize,
    /// When it was last written to; the heartbeat is due one interval later (rows `l27`, `r07`).
    pub(super) written_at: Option<Instant>,
    pub(super) contact: Contact,
    /// Entries being read from disk for it.
    pub(super) loading: Option<Load>,
    /// When `match_index` last rose.
    matched_at: Option<Instant>,
    /// It lost its disk's tail and does not count for commit until it is back (row `s05`).
    lost: Option<LostTail>,
}

/// What a peer had acknowledged before its disk lost it, and the stamp of the answer that told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LostTail {
    matched: Index,
    told: Stamp,
}

project!(Sent { last, entries, bytes, stamp });
project!(Progress {
    match_index,
    next_index,
    flow,
    window,
    window_entries,
    window_bytes,
    written_at,
    contact,
    loading,
    matched_at,
    lost,
});
project!(LostTail { matched, told });

impl Progress {
    /// A peer about which nothing is known but that our log ends before `next_index` (row `o16`).
    pub(super) fn new(next_index: Index) -> Self {
        Self {
            match_index: Index::ZERO,
            next_index,
            flow: Flow::Probe(None),
            window: VecDeque::new(),
            window_entries: 0,
            window_bytes: 0,
            written_at: None,
            contact: Contact::new(),
            loading: None,
            matched_at: None,
            lost: None,
        }
    }

    /// What counts for the commit index: nothing while the peer regains what it lost.
    pub(super) fn counted_match(&self) -> Index {
        if self.lost.is_some() { Index::ZERO } else { self.match_index }
    }

    /// How much more may be sent: (entries, bytes). Nothing while a probe is unanswered or entries are being loaded.
    pub(super) fn room(&self, limits: &Limits) -> Option<(usize, usize)> {
        if self.loading.is_some() {
            return None;
        }
        match self.flow {
            Flow::Probe(Some(_)) => None,
            Flow::Probe(None) => {
                let entries = limits.append_entries.min(limits.window_entries);
                Some((entries, limits.append_bytes.min(limits.window_bytes)))
            }
            Flow::Replicate => {
                let entries = limits.window_entries.saturating_sub(self.window_entries);
                // A window that is not empty must not be overrun; an empty one takes any single entry.
                let bytes = limits.window_bytes.saturating_sub(self.window_bytes);
                let open = entries > 0 && (bytes > 0 || self.window.is_empty());
                open.then(|| (entries.min(limits.append_entries), bytes.min(limits.append_bytes)))
            }
        }
    }

    /// Notes that an append left. While probing it replaces an older probe.
    pub(super) fn sent(&mut self, sent: Sent, now: Instant) {
        self.written_at = Some(now);
        match &mut self.flow {
            Flow::Probe(probe) => *probe = Some(sent),
            Flow::Replicate => self.push(sent),
        }
    }

    /// Notes that `more` was joined to the append sent last, which has not left yet: one message, one answer.
    pub(super) fn joined(&mut self, more: Sent, now: Instant) {
        self.written_at = Some(now);
        let replicates = self.flow == Flow::Replicate;
        match self.window.back_mut() {
            Some(back) if replicates && back.stamp == more.stamp => {
                back.last = more.last;
                back.entries += more.entries;
                back.bytes += more.bytes;
                self.count(more);
            }
            // What it was joined to is an empty append, or a probe and so is this.
            _ => self.sent(more, now),
        }
    }

    fn push(&mut self, sent: Sent) {
        if sent.entries > 0 {
            self.count(sent);
            self.window.push_back(sent);
        }
    }

    fn count(&mut self, sent: Sent) {
        self.next_index = sent.last.next();
        self.window_entries += sent.entries;
        self.window_bytes += sent.bytes;
    }

    /// The logs agree, durably, up to `matched`. Match never goes back (bug `b20`).
    pub(super) fn accepted(&mut self, matched: Index, stamp: Stamp, now: Instant) {
        if self.lost.is_some_and(|lost| stamp <= lost.told) {
            // Said before the loss: it has that no more.
            return;
        }
        if matched > self.match_index {
            self.match_index = matched;
            self.matched_at = Some(now);
        }
        self.next_index = self.next_index.max(self.match_index.next());
        if let Flow::Probe(probe) = self.flow {
            let answered = probe.filter(|probe| probe.stamp <= stamp);
            if answered.is_some() || matched.next() >= self.next_index {
                self.flow = Flow::Replicate;
            }
            if let Some(probe) = answered.filter(|probe| probe.last >= self.next_index) {
                self.push(probe);
            }
        }
        // Freeing is inclusive: what ends at `match` has arrived (bug `b22`).
        while let Some(sent) = self.window.pop_front_if(|sent| sent.last <= self.match_index) {
            self.window_entries -= sent.entries;
            self.window_bytes -= sent.bytes;
        }
        self.lost = self.lost.filter(|lost| self.match_index < lost.matched);
    }

    /// Whether a rejection of an append after `prev` says something new (bugs `b20`, `b21`).
    pub(super) fn rejection_counts(&self, prev: Index) -> bool {
        match self.flow {
            Flow::Probe(_) => prev.next() == self.next_index,
            Flow::Replicate => prev > self.match_index && prev < self.next_index,
        }
    }

    /// Back to probing after `prev`, never below what is known to match; frees the window.
    pub(super) fn probe_after(&mut self, prev: Index) {
        self.flow = Flow::Probe(None);
        self.next_index = prev.max(self.match_index).next();
        self.window.clear();
        self.window_entries = 0;
        self.window_bytes = 0;
        self.loading = None;
    }

    /// Entries up to `base` are gone: what was being read of them for this peer may come or not (bug `b32`).
    pub(super) fn given_up_to(&mut self, base: Index) {
        self.loading = self.loading.filter(|load| load.first > base);
    }

    /// Whether an answer with this echo, from a log that ends at `last`, proves that the peer's disk lost what it had
    /// acknowledged: the request left after its acknowledgement was here. (Answers that only overtook each other echo
    /// an older stamp.)
    pub(super) fn proves_loss(&self, last: Index, stamp: Stamp) -> bool {
        last < self.match_index && Some(stamp) > self.matched_at
    }

    /// The peer's disk lost what it had acknowledged (row `s05`); its log now ends at `last`.
    pub(super) fn lost_tail(&mut self, last: Index, told: Stamp) {
        let matched = self.lost.map_or(self.match_index, |lost| lost.matched.max(self.match_index));
        self.lost = Some(LostTail { matched, told });
        self.match_index = Index::ZERO;
        self.probe_after(last);
    }

    /// When the oldest unanswered append will have waited too long (row `l17`). What was sent up to the newest echo has
    /// been answered, or was lost and then makes what follows it a mismatch: either way it need not be waited for.
    pub(super) fn rpc_deadline(&self, rpc_timeout: Duration) -> Option<Instant> {
        let unanswered = match &self.flow {
            Flow::Probe(probe) => *probe,
            Flow::Replicate => {
                // An equal stamp may be that of another message of the same instant: it proves nothing.
                let answered = self.window.partition_point(|sent| Some(sent.stamp) < self.contact.echoed);
                self.window.get(answered).copied()
            }
        };
        unanswered.map(|sent| sent.stamp + rpc_timeout)
    }

    /// When the peer must be written to, entries or not (row `o17`).
    pub(super) fn heartbeat_deadline(&self, interval: Duration) -> Instant {
        self.written_at.map_or(Instant::ZERO, |written| written + interval)
    }

    #[cfg(test)]
    fn in_flight(&self) -> (usize, usize, usize) {
        (self.window.len(), self.window_entries, self.window_bytes)
    }

    /// Checks the invariants of the type.
    pub(super) fn violation(&self, limits: &Limits) -> Option<&'static str> {
        let entries: usize = self.window.iter().map(|sent| sent.entries).sum();
        let bytes: usize = self.window.iter().map(|sent| sent.bytes).sum();
        let single = self.window.iter().map(|sent| sent.bytes).max().unwrap_or(0);
        let checks = [
            (self.match_index < self.next_index, "match < next"),
            (entries == self.window_entries && bytes == self.window_bytes, "the window's counts equal what is in it"),
            (entries <= limits.window_entries, "the window holds at most window_entries"),
            (bytes <= limits.window_bytes + single, "the window holds at most window_bytes and one append"),
            (
                self.window.back().is_none_or(|sent| sent.last.next() == self.next_index),
                "what was sent last ends at next - 1",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn sent(last: u64, entries: usize, ms: u64) -> Sent {
        Sent { last: Index(last), entries, bytes: entries * 10, stamp: at(ms) }
    }

    fn replicating() -> Progress {
        let mut progress = Progress::new(Index(1));
        progress.sent(sent(0, 0, 0), at(0));
        progress.accepted(Index(0), at(0), at(0));
        assert_eq!(progress.flow, Flow::Replicate);
        progress
    }

    #[test]
    fn b20_late_and_doubled_answers_move_nothing_back() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.sent(sent(9, 4, 2), at(2));
        progress.accepted(Index(9), at(2), at(2));
        progress.accepted(Index(5), at(1), at(1));
        assert_eq!((progress.match_index, progress.next_index), (Index(9), Index(10)));
        assert!(!progress.rejection_counts(Index(7)), "a rejection below match is old");
        assert!(!progress.rejection_counts(Index(10)), "a rejection of what was never sent is nonsense");
    }

    #[test]
    fn b21_match_stays_below_next_when_reject_and_ack_cross() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.probe_after(Index(0));
        progress.accepted(Index(5), at(1), at(1));
        assert!(progress.match_index < progress.next_index);
    }

    #[test]
    fn b22_an_answer_frees_its_own_slot_too() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.accepted(Index(5), at(1), at(1));
        assert_eq!(progress.in_flight(), (0, 0, 0));
    }

    /// A burst leaves in one instant as several messages; each is answered and frees its own slot.
    #[test]
    fn b22_messages_of_one_instant_free_their_slots_one_by_one() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.sent(sent(9, 4, 1), at(1));
        progress.accepted(Index(5), at(1), at(2));
        assert_eq!(progress.in_flight(), (1, 4, 40));
    }

    #[test]
    fn what_joins_an_unsent_message_shares_its_slot() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.joined(sent(7, 2, 1), at(2));
        assert_eq!((progress.in_flight(), progress.next_index), ((1, 7, 70), Index(8)));
    }

    /// Only the newest message, and only while it is the same one: another instant's, or a probe, is a message of its own.
    #[test]
    fn what_joins_another_message_has_a_slot_of_its_own() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.joined(sent(7, 2, 2), at(2));
        assert_eq!(progress.in_flight(), (2, 7, 70));
        progress.accepted(Index(5), at(1), at(3));
        assert_eq!(progress.in_flight(), (1, 2, 20));
        let mut probing = Progress::new(Index(1));
        probing.sent(sent(0, 0, 1), at(1));
        probing.joined(sent(2, 2, 1), at(1));
        assert_eq!((probing.flow.clone(), probing.in_flight()), (Flow::Probe(Some(sent(2, 2, 1))), (0, 0, 0)));
    }

    /// The window is full by entries or by bytes; an empty one takes a single entry, however large.
    #[test]
    fn l24_the_window_has_room_for_so_much() {
        let limits = Limits { window_entries: 5, window_bytes: 50, append_bytes: 40, ..Limits::default() };
        let mut progress = replicating();
        assert_eq!(progress.room(&limits), Some((5, 40)));
        progress.sent(Sent { bytes: 30, ..sent(3, 3, 1) }, at(1));
        assert_eq!(progress.room(&limits), Some((2, 20)));
        progress.sent(Sent { bytes: 20, ..sent(4, 1, 2) }, at(2));
        assert_eq!(progress.room(&limits), None, "no bytes are left");
        progress.accepted(Index(4), at(2), at(3));
        progress.sent(Sent { bytes: 5, ..sent(9, 5, 4) }, at(4));
        assert_eq!(progress.room(&limits), None, "no entries are left");
        progress.accepted(Index(9), at(4), at(5));
        assert_eq!(progress.room(&Limits { window_bytes: 0, ..limits.clone() }), Some((5, 0)), "one at least");
        progress.probe_after(Index(9));
        assert_eq!(progress.room(&limits), Some((5, 40)));
        progress.sent(sent(9, 0, 6), at(6));
        assert_eq!(progress.room(&limits), None, "a probe waits for its answer");
    }

    /// `b20`: a rejection counts for what is on its way, `prev` of the oldest and of the newest included.
    #[test]
    fn b20_a_rejection_counts_for_what_is_on_its_way() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.accepted(Index(2), at(1), at(2));
        let counts: Vec<_> = (0..9).filter(|prev| progress.rejection_counts(Index(*prev))).collect();
        assert_eq!(counts, [3, 4, 5]);
        progress.probe_after(Index(4));
        let counts: Vec<_> = (0..9).filter(|prev| progress.rejection_counts(Index(*prev))).collect();
        assert_eq!(counts, [4]);
    }

    /// `s05`: a shorter log proves a loss only if the question left after the acknowledgement was here.
    #[test]
    fn s05_only_a_later_question_proves_a_loss() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.accepted(Index(5), at(1), at(3));
        let proves = |last, stamp| progress.proves_loss(Index(last), at(stamp));
        assert!(proves(4, 4));
        assert!(!proves(5, 4), "it has what it acknowledged");
        assert!(!proves(4, 3) && !proves(4, 2), "it may have been said before");
    }

    /// A probe is answered by its own answer or by one that reaches as far; what it carried then counts as on its way.
    #[test]
    fn an_answered_probe_opens_the_window() {
        let mut progress = Progress::new(Index(1));
        progress.sent(sent(3, 3, 5), at(5));
        progress.accepted(Index(0), at(4), at(6));
        assert_eq!(progress.flow, Flow::Replicate, "the logs agree up to where it began");
        let mut progress = Progress::new(Index(3));
        progress.sent(sent(6, 4, 5), at(5));
        progress.accepted(Index(1), at(4), at(6));
        assert!(matches!(progress.flow, Flow::Probe(Some(_))), "an older answer that says less");
        progress.accepted(Index(2), at(5), at(7));
        assert_eq!((progress.flow.clone(), progress.in_flight()), (Flow::Replicate, (1, 4, 40)));
        assert_eq!(progress.next_index, Index(7));
    }

    #[test]
    fn b23_going_back_to_probing_frees_entries_and_bytes() {
        let mut progress = replicating();
        progress.sent(sent(5, 5, 1), at(1));
        progress.probe_after(Index(0));
        assert_eq!(progress.in_flight(), (0, 0, 0));
    }

    /// `l17`: the limit runs from the oldest append that no answer has echoed, so a slow disk, which answers at once
    /// and matches later, is not mistaken for a dead peer.
    #[test]
    fn l17_an_answered_append_that_is_not_durable_yet_does_not_time_out() {
        let limit = Duration::from_millis(300);
        let mut progress = replicating();
        progress.sent(sent(5, 5, 10), at(10));
        progress.sent(sent(6, 1, 20), at(20));
        assert_eq!(progress.rpc_deadline(limit), Some(at(310)));
        progress.contact.echoed = Some(at(11));
        assert_eq!(progress.rpc_deadline(limit), Some(at(320)));
        progress.contact.echoed = Some(at(21));
        assert_eq!(progress.rpc_deadline(limit), None);
    }

    #[test]
    fn s05_a_peer_that_lost_its_tail_counts_again_once_it_is_back() {
        let mut progress = replicating();
        progress.sent(sent(9, 9, 1), at(1));
        progress.accepted(Index(9), at(1), at(1));
        progress.lost_tail(Index(4), at(2));
        assert_eq!((progress.counted_match(), progress.next_index), (Index(0), Index(5)));
        progress.accepted(Index(9), at(1), at(2));
        assert_eq!(progress.match_index, Index(0), "said before the loss");
        progress.sent(sent(8, 4, 3), at(3));
        progress.accepted(Index(8), at(3), at(3));
        assert_eq!(progress.counted_match(), Index(0), "not yet where it was");
        progress.sent(sent(9, 1, 4), at(4));
        progress.accepted(Index(9), at(4), at(4));
        assert_eq!(progress.counted_match(), Index(9));
    }
}
