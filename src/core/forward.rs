//! Reads at a follower: asking the leader up to where they must wait, and what can be answered without asking.
//!
//! One question is on its way at a time; reads that come meanwhile share the next. And with every heartbeat the leader
//! gives an answer to a question that every follower asks all the time: it echoes when the follower made the newest answer
//! that a quorum has confirmed the leader after. What was committed then is in the same message, so the follower knows,
//! on its own clock alone, how fresh its knowledge is.

use crate::core::fingerprint::project;
use crate::core::{Core, Output, ReadAnswer, ReadError, ReadId};
use crate::message::{AppendEntries, Body, Message, ReadIndex, ReadIndexResponse, Stamp};
use crate::time::Instant;
use crate::types::NodeId;

/// Reads that wait for the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarded {
    asked: Option<Asked>,
    /// With the next question: (read, whether a lease is good enough for it).
    queued: Vec<(ReadId, bool)>,
}

/// A question on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    ask: ReadIndex,
    first: Instant,
    last: Instant,
    ids: Vec<ReadId>,
}

project!(Forwarded { asked, queued });
project!(Asked { ask, first, last, ids });

impl Forwarded {
    fn waiting(&self) -> usize {
        self.queued.len() + self.asked.as_ref().map_or(0, |asked| asked.ids.len())
    }

    fn take_all(&mut self) -> Vec<ReadId> {
        let asked = self.asked.take().map(|asked| asked.ids).unwrap_or_default();
        asked.into_iter().chain(self.queued.drain(..).map(|(id, _)| id)).collect()
    }
}

impl Core {
    pub(super) fn forward_read(&mut self, now: Instant, id: ReadId, lease: bool, out: &mut Output) {
        let refused = if self.leader.is_none() {
            Some(ReadError::NotLeader { leader: None })
        } else if self.forwarded.waiting() >= self.config.limits.waiting_reads {
            Some(ReadError::Overloaded)
        } else {
            None
        };
        if let Some(error) = refused {
            return out.reads.push(ReadAnswer { id, result: Err(error) });
        }
        self.forwarded.queued.push((id, lease));
        self.ask_leader(now, out);
    }

    /// Asks on behalf of everybody who waits, unless a question is on its way.
    fn ask_leader(&mut self, now: Instant, out: &mut Output) {
        let Some(leader) = self.leader else { return };
        if self.forwarded.asked.is_some() || self.forwarded.queued.is_empty() {
            return;
        }
        let queued = std::mem::take(&mut self.forwarded.queued);
        self.next_round = self.next_round.next();
        let ask = ReadIndex { round: self.next_round, lease: queued.iter().all(|(_, lease)| *lease) };
        let ids = queued.into_iter().map(|(id, _)| id).collect();
        self.forwarded.asked = Some(Asked { ask, first: now, last: now, ids });
        self.send(leader, Body::ReadIndex(ask), out);
    }

    /// When a question has waited too long: it or its answer was lost.
    pub(super) fn ask_again_at(&self) -> Option<Instant> {
        self.forwarded.asked.as_ref().map(|asked| asked.last + self.config.timing.rpc_timeout)
    }

    /// A leader that can be heard and not be reached would be asked for ever: after `E` the readers are told.
    pub(super) fn ask_again_if_due(&mut self, now: Instant, out: &mut Output) {
        if self.ask_again_at().is_none_or(|at| now < at) {
            return;
        }
        let (Some(asked), Some(leader)) = (&mut self.forwarded.asked, self.leader) else { return };
        if asked.first + self.config.timing.promise() <= now {
            return self.refuse_forwarded(ReadError::NotLeader { leader: None }, out);
        }
        asked.last = now;
        let ask = asked.ask;
        self.send(leader, Body::ReadIndex(ask), out);
    }

    pub(super) fn on_read_index_response(
        &mut self,
        now: Instant,
        message: &Message,
        response: ReadIndexResponse,
        out: &mut Output,
    ) {
        let of_this_term = response.request_term == self.hard_state.term && self.leader == Some(message.from);
        let asked = self.forwarded.asked.take_if(|asked| of_this_term && asked.ask.round == response.round);
        let Some(Asked { ids, .. }) = asked else {
            self.counters.stale_answers += 1;
            return;
        };
        // It leads no more, or has too many readers: who it is may help all the same.
        let result = response.index.ok_or(ReadError::NotLeader { leader: self.leader });
        out.reads.extend(ids.into_iter().map(|id| ReadAnswer { id, result }));
        self.ask_leader(now, out);
    }

    /// Another leader, or none: those who wait ask again themselves.
    pub(super) fn refuse_forwarded(&mut self, error: ReadError, out: &mut Output) {
        let waiting = self.forwarded.take_all();
        out.reads.extend(waiting.into_iter().map(|id| ReadAnswer { id, result: Err(error) }));
    }

    // ---- bounded staleness -----------------------------------------------------------------------------------------

    /// The stamp of an answer made now. Shifted by a random number that differs from run to run: an echo of an earlier
    /// run, whose clock may have begun elsewhere, means nothing.
    pub(super) fn own_stamp(&self, now: Instant) -> Stamp {
        Instant::from_nanos(now.as_nanos().wrapping_add(self.stamp_offset))
    }

    /// The leader says that it led after we made a certain answer, and what is committed.
    pub(super) fn note_freshness(&mut self, now: Instant, from: NodeId, append: &AppendEntries) {
        let made = append.fresh.map(|stamp| Instant::from_nanos(stamp.as_nanos().wrapping_sub(self.stamp_offset)));
        let Some(made) = made.filter(|made| *made >= self.following_since && *made <= now) else { return };
        if self.leader == Some(from) && self.fresh.is_none_or(|(known, _)| known < made) {
            self.fresh = Some((made, append.commit));
        }
    }

    /// Who asked what of the leader is of no use under another one.
    pub(super) fn leader_changed(&mut self, now: Instant, out: &mut Output) {
        self.following_since = now;
        self.refuse_forwarded(ReadError::NotLeader { leader: self.leader }, out);
    }
}
