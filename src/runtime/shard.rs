//! How threads share a shard: it is *entered*, not messaged (flat combining).
//!
//! Handing work to another thread costs some 30 us across cores, as much as half a round trip. So whoever has an input
//! (a client, a peer's reader, the persist thread, an apply thread, the timer) puts it into the inbox and tries the
//! shard's lock. Who gets it drains the inbox, steps the cores and sends straight from its own thread; who does not,
//! leaves: the holder takes the input along. Nobody waits for the lock but administrative calls (open, status, close).
//!
//! **No input is left behind.** Whoever unlocks looks into the inbox once more. Somebody who failed to get the lock
//! had pushed before, so that push is ordered before the holder's unlock or after it; in both cases the holder's look,
//! which comes after the unlock and under the inbox's own lock, sees it, or the pusher's try sees the lock free.
//!
//! **Nobody works for the others for ever.** After [`ROUNDS`] the holder rings for the timer's thread and goes home.
//!
//! **No user code under the lock.** Answers and log lines are collected and given after unlocking. A callback that
//! proposes again from there does not enter a second time on the same stack: its input is taken along.

use slog::{Logger, crit, debug, info, warn};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem;

use super::annex::Annex;
use super::clock::{Clock, ClockGuard};
use super::driver::{Committed, Effects, Leaderless, Shard, ShardInput};
use super::inbox::{Inbox, NotTaken};
use super::lanes::ReadLanes;
use super::load::LoadQueue;
use super::persist::Persist;
use super::reply::{Answer, ReadReply};
use super::snapshots::Library;
use super::{ReadError, timer::Alarm};
use crate::core::{Event, Install, Lease, Load};
use crate::log::Write;
use crate::message::Message;
use crate::metrics::EnteringCounters;
use crate::quorum::Configuration;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Weak, thread_local};
use crate::time::Duration;
use crate::transport::{Inbound, Transport};
use crate::types::{GroupId, Index, NodeId};

/// How often one visitor drains the inbox before the timer's thread takes over.
const ROUNDS: usize = 32;

/// The door to a shard.
pub(super) struct Entrance {
    inbox: Inbox,
    held: Mutex<Held>,
    pub(super) alarm: Alarm,
    pub(super) clock: Clock,
    /// Reads that did not come in here.
    pub(super) reads: ReadLanes,
    logger: Logger,
    rounds: AtomicU64,
}

/// What the lock protects.
pub(super) struct Held {
    pub(super) shard: Shard,
    pub(super) outbox: Outbox,
    guard: ClockGuard,
    /// Reused from round to round.
    inputs: Vec<ShardInput>,
    /// No group is opened any more.
    pub(super) shut_down: bool,
}

impl Held {
    /// Ends a group: whoever waits is told that the node was shut down, its apply thread ends.
    pub(super) fn close_group(&mut self, group: GroupId) {
        self.shard.close(group, &mut self.outbox);
        if let Some(annex) = self.outbox.groups.remove(&group) {
            annex.shut();
            annex.queue.close();
        }
    }
}

/// Where the effects of a shard go. Nothing here blocks: sending takes what the sockets take, the queues are pushed to.
pub(super) struct Outbox {
    /// None before the node is complete and after it was shut down.
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) groups: BTreeMap<GroupId, Arc<Annex>>,
    persist: Arc<Persist>,
    loads: Arc<LoadQueue>,
    library: Option<Arc<Library>>,
    /// For the persist thread, all groups' at once, just before messages leave: waking it costs less than a send, and a
    /// follower's disk is what its leader waits for, not its first answer.
    writes: Vec<(GroupId, Write)>,
    aftermath: Aftermath,
}

/// What is left to do once the shard is unlocked.
#[derive(Default)]
struct Aftermath {
    answers: Vec<Answer>,
    events: Vec<(GroupId, Event)>,
    leaderless: Vec<(GroupId, Leaderless)>,
    /// Where members can be reached, and by what.
    addresses: Vec<(Arc<dyn Transport>, NodeId, String)>,
    /// By how much the clock jumped.
    jumped: Option<Duration>,
}

impl Entrance {
    pub(super) fn new(
        inbox: Inbox,
        persist: Arc<Persist>,
        loads: Arc<LoadQueue>,
        library: Option<Arc<Library>>,
        clock: Clock,
        logger: Logger,
    ) -> Self {
        let outbox = Outbox {
            transport: None,
            groups: BTreeMap::new(),
            persist,
            loads,
            library,
            writes: Vec::new(),
            aftermath: Aftermath::default(),
        };
        let guard = ClockGuard::new(&clock);
        let held = Held { shard: Shard::new(), outbox, guard, inputs: Vec::new(), shut_down: false };
        let (held, alarm, reads, rounds) = (Mutex::new(held), Alarm::default(), ReadLanes::new(), AtomicU64::new(0));
        Self { inbox, held, alarm, clock, reads, logger, rounds }
    }

    /// Brings proposals and reads in. Returns those that were not taken, unanswered.
    pub(super) fn ask(&self, inputs: impl IntoIterator<Item = ShardInput>) -> Vec<(ShardInput, NotTaken)> {
        let not_taken = self.inbox.push_clients(inputs);
        self.enter();
        not_taken
    }

    /// Brings in what a thread of the runtime has completed.
    pub(super) fn complete(&self, inputs: impl IntoIterator<Item = ShardInput>) {
        self.inbox.push_internal(inputs);
        self.enter();
    }

    /// Runs callbacks whose inputs are to travel together: what they propose waits in the inbox until the last one has
    /// returned, and is then one append instead of many.
    pub(super) fn together(&self, callbacks: impl FnOnce()) {
        let inside = Inside::step_into(self);
        callbacks();
        drop(inside);
        self.enter();
    }

    /// Lets this thread run a callback that needs nothing of the shard: what the callback brings in is drained when this
    /// is dropped. `None` if the thread is in a callback already: one on top of the other could go on until the stack
    /// ends.
    pub(super) fn aside(&self) -> Option<Aside<'_>> {
        let inside = Inside::step_into(self).ok()?;
        LEFT_BEHIND.with(|left| left.set(false));
        Some(Aside { entrance: self, inside: Some(inside) })
    }

    /// Drains the inbox, unless somebody else does.
    pub(super) fn enter(&self) {
        let _inside = match Inside::step_into(self) {
            Ok(inside) => inside,
            // A callback of this very shard: the frame below it drains the inbox.
            Err(Outside::Here) => return LEFT_BEHIND.with(|left| left.set(true)),
            // A callback of another shard: not on this stack, and that shard may be waiting.
            Err(Outside::Elsewhere) => return self.alarm.ring(),
        };
        for _ in 0..ROUNDS {
            let Some(mut held) = self.held.try_lock() else { return };
            self.round(&mut held);
            let aftermath = mem::take(&mut held.outbox.aftermath);
            drop(held);
            self.carry_out(aftermath);
            if self.inbox.is_empty() {
                return;
            }
        }
        self.alarm.ring();
    }

    /// Does something administrative under the shard's lock, which it waits for, and flushes.
    pub(super) fn administer<T>(&self, action: impl FnOnce(&mut Held, &Clock) -> T) -> T {
        let mut held = self.held.lock();
        let result = action(&mut held, &self.clock);
        self.round(&mut held);
        let aftermath = mem::take(&mut held.outbox.aftermath);
        drop(held);
        self.carry_out(aftermath);
        self.enter();
        result
    }

    /// Looks at the shard, under its lock.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Shard) -> T) -> T {
        let seen = look(&self.held.lock().shard);
        // Somebody may have failed to get the lock meanwhile and left an input behind.
        if !self.inbox.is_empty() {
            self.enter();
        }
        seen
    }

    /// Lets no client in any more.
    pub(super) fn close(&self) {
        self.inbox.close();
    }

    pub(super) fn inbox_counters(&self) -> crate::metrics::InboxCounters {
        self.inbox.counters()
    }

    pub(super) fn entering_counters(&self) -> EnteringCounters {
        let rounds = self.rounds.load(Ordering::Relaxed);
        let (deadlines, relieved) = self.alarm.counters();
        EnteringCounters { rounds, deadlines, relieved }
    }

    fn round(&self, held: &mut Held) {
        let Held { shard, outbox, guard, inputs, .. } = held;
        let mut now = || self.clock.now();
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.inbox.take(inputs);
        if let Some(by) = guard.look(&self.clock) {
            // Before anything that waited meanwhile is believed (rule `p16`).
            shard.handle(&mut now, ShardInput::ClockJumped, outbox);
            outbox.aftermath.jumped = Some(by);
        }
        for input in inputs.drain(..) {
            shard.handle(&mut now, input, outbox);
        }
        shard.flush(&mut now, outbox);
        outbox.release_writes();
        self.alarm.set(shard.next_deadline());
    }

    fn carry_out(&self, aftermath: Aftermath) {
        for answer in aftermath.answers {
            answer.give();
        }
        for (transport, node, address) in aftermath.addresses {
            transport.set_address(node, &address);
        }
        if let Some(by) = aftermath.jumped {
            warn!(self.logger, "the machine slept, or its clock jumped: leases are earned anew"; "by" => ?by);
        }
        for (group, event) in aftermath.events {
            self.log(group, event);
        }
        for (group, Leaderless { lasting, long, why }) in aftermath.leaderless {
            let (logger, group) = (&self.logger, group.0);
            if long {
                warn!(logger, "no leader for long"; "group" => group, "for" => ?lasting, "why" => %why);
            } else {
                info!(logger, "lost a round"; "group" => group, "leaderless_for" => ?lasting, "why" => %why);
            }
        }
    }

    fn log(&self, group: GroupId, event: Event) {
        let (logger, group) = (&self.logger, group.0);
        match event {
            Event::Role { role, term, leader } => {
                let leader = leader.map(|leader| leader.0);
                info!(logger, "role changed"; "group" => group, "role" => ?role, "term" => term.0, "leader" => leader);
            }
            Event::Refused { by, reason } => {
                debug!(logger, "vote refused"; "group" => group, "by" => %by, "reason" => %reason);
            }
            Event::Truncated { from } => {
                info!(logger, "a leader replaced the end of the log"; "group" => group, "from" => %from);
            }
            Event::TailLost { peer, matched, last } => {
                warn!(logger, "the disk of a peer lost acknowledged entries";
                    "group" => group, "peer" => %peer, "acknowledged" => %matched, "has" => %last);
            }
            Event::Abdicated { successor, why } => {
                let successor = successor.map(|successor| successor.0);
                info!(logger, "gave up leadership"; "group" => group, "successor" => successor, "why" => ?why);
            }
            Event::Configuration { index } => {
                info!(logger, "the members changed"; "group" => group, "index" => %index);
            }
            Event::Removed => warn!(logger, "removed from the group"; "group" => group),
            Event::Barred { from } => {
                warn!(logger, "a node speaks that this group was recovered without; it is not heard, shut it down for good";
                    "group" => group, "from" => %from);
            }
            Event::Stopped(fatal) => {
                crit!(logger, "the group stopped on this node"; "group" => group, "reason" => %fatal);
            }
        }
    }
}

impl Outbox {
    fn release_writes(&mut self) {
        self.persist.queue.push_all(&mut self.writes);
    }
}

impl Effects for Outbox {
    fn lease(&mut self, group: GroupId, lease: Option<Lease>) {
        if let Some(annex) = self.groups.get(&group) {
            annex.lease.0.publish(lease);
        }
    }

    fn send(&mut self, messages: &mut Vec<Message>) {
        self.release_writes();
        if let Some(transport) = &self.transport {
            transport.send(messages);
        }
    }

    fn persist(&mut self, group: GroupId, write: Write) {
        self.writes.push((group, write));
    }

    fn apply(&mut self, group: GroupId, entries: Vec<Committed>) {
        if let Some(annex) = self.groups.get(&group) {
            annex.queue.push_entries(entries);
        }
    }

    fn read(&mut self, group: GroupId, index: Index, reply: ReadReply) {
        let refused = match self.groups.get(&group) {
            Some(annex) => annex.queue.push_read(index, reply),
            None => Err((reply, ReadError::ShutDown)),
        };
        if let Err((reply, error)) = refused {
            self.answer(Answer::Read(reply, Err(error)));
        }
    }

    fn load(&mut self, group: GroupId, load: Load) {
        self.loads.push((group, load));
    }

    fn answer(&mut self, answer: Answer) {
        self.aftermath.answers.push(answer);
    }

    fn event(&mut self, group: GroupId, event: Event) {
        // Observed last in a flush: whatever the core still handed out is in the queue before it.
        match (&event, self.groups.get(&group)) {
            (Event::Stopped(fatal), Some(annex)) => {
                annex.shut();
                annex.queue.push_stop(*fatal);
            }
            (Event::Removed, Some(annex)) => annex.queue.push_silence(),
            _ => {}
        }
        self.aftermath.events.push((group, event));
    }

    fn members(&mut self, _group: GroupId, configuration: &Configuration) {
        let Some(transport) = &self.transport else { return };
        let addresses = configuration.addresses().map(|(node, at)| (transport.clone(), node, at.to_owned()));
        self.aftermath.addresses.extend(addresses);
    }

    fn install(&mut self, group: GroupId, install: Install) {
        let Some(annex) = self.groups.get(&group) else { return };
        if annex.shelf.as_ref().is_some_and(|shelf| shelf.offer(install))
            && let Some(library) = &self.library
        {
            library.fetches.push(annex.clone());
        }
    }

    fn leaderless(&mut self, group: GroupId, how: Leaderless) {
        if let Some(annex) = self.groups.get(&group).filter(|_| how.long) {
            annex.queue.push_silence();
        }
        self.aftermath.leaderless.push((group, how));
    }
}

/// Where a transport delivers. Weak, because the shard owns the transport.
pub(super) struct Letterbox(pub(super) Weak<Entrance>);

impl Inbound for Letterbox {
    fn receive(&self, messages: Vec<Message>) {
        if let Some(entrance) = self.0.upgrade() {
            entrance.inbox.push_messages(messages);
            entrance.enter();
        }
    }
}

thread_local! {
    /// The shard this thread is in, by address; 0 if none.
    static INSIDE: Cell<usize> = const { Cell::new(0) };

    /// Something was brought into the shard this thread is in, for the frame below to drain.
    static LEFT_BEHIND: Cell<bool> = const { Cell::new(false) };
}

/// Held while this thread runs a callback beside the shard.
pub(super) struct Aside<'a> {
    entrance: &'a Entrance,
    inside: Option<Inside>,
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        drop(self.inside.take());
        if LEFT_BEHIND.with(Cell::get) {
            self.entrance.enter();
        }
    }
}

/// Held while this thread is inside a shard, so that a callback given from there cannot recurse.
struct Inside;

/// Why a thread cannot step into a shard: it is in one already.
enum Outside {
    Here,
    Elsewhere,
}

impl Inside {
    fn step_into(entrance: &Entrance) -> Result<Self, Outside> {
        let here = std::ptr::from_ref(entrance).addr();
        match INSIDE.with(Cell::get) {
            0 => {
                INSIDE.with(|inside| inside.set(here));
                Ok(Self)
            }
            inside if inside == here => Err(Outside::Here),
            _ => Err(Outside::Elsewhere),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.set(0));
    }
}

#[cfg(all(test, any(loom, shuttle)))]
#[path = "shard_models.rs"]
mod models;
