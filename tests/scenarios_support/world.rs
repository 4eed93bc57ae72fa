//! Several cores in virtual time: no threads, no files, one thing after the other. Everything that a core asks for is
//! carried out here, and the judges look on.

use std::collections::BTreeMap;

use tenure::core::{
    Change, ChangeAnswer, ChangeId, Consistency, Core, Event, Input, Load, Output, Proposed, ReadAnswer, ReadId,
    TransferAnswer, TransferId,
};
use tenure::log::{Entry, Write};
use tenure::message::Message;
use tenure::sim::notation;
use tenure::time::Duration;
use tenure::types::{EntryId, Index, NodeId, WriteSeq};

use crate::table::judge::Judge;
use crate::table::network::{Fate, Network};
use crate::table::node::{DiskPace, Node, describe_entry};
use crate::table::notation::{Notation, Topic};

/// Steps within one instant after which something is going round in circles.
const MOST_STEPS_AT_ONCE: usize = 10_000;

pub(crate) struct World {
    /// True time since the story began.
    pub(crate) elapsed: Duration,
    /// The smallest election timeout.
    pub(crate) e: Duration,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) network: Network,
    pub(crate) judge: Judge,
    pub(crate) notation: Notation,
    /// What the judges find belongs to the story. Otherwise it ends it.
    pub(crate) violations_are_printed: bool,
    steps_at_once: usize,
    asked: u64,
}

/// What happens next.
enum Next {
    Arrival,
    Sync(NodeId),
    Timer(NodeId),
}

impl World {
    pub(crate) fn new(e: Duration, nodes: BTreeMap<NodeId, Node>) -> Self {
        Self {
            elapsed: Duration::ZERO,
            e,
            nodes,
            network: Network::new(),
            judge: Judge::default(),
            notation: Notation::new(),
            violations_are_printed: false,
            steps_at_once: 0,
            asked: 0,
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    pub(crate) fn pass(&mut self, time: Duration) {
        self.pass_until(time, |_| false);
    }

    /// Lets time pass until `done`, at most so long. Whether it came to that.
    pub(crate) fn pass_until(&mut self, most: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.elapsed + most;
        while !done(self) {
            match self.next() {
                Some((time, next)) if time <= end && self.moves_on(time) => self.happen(next),
                _ => {
                    self.elapsed = end;
                    return done(self);
                }
            }
        }
        true
    }

    /// Arrivals before syncs before timers, if all are due at once.
    fn next(&self) -> Option<(Duration, Next)> {
        let arrival = self.network.next_arrival().map(|time| (time, 0, NodeId(0)));
        let syncs = self.nodes.iter().filter_map(|(id, node)| Some((node.sync()?, 1, *id)));
        // Those that are late fire in the order of the nodes.
        let timers = self.nodes.iter().filter_map(|(id, node)| Some((node.timer()?.max(self.elapsed), 2, *id)));
        let (time, order, id) = arrival.into_iter().chain(syncs).chain(timers).min()?;
        let next = match order {
            0 => Next::Arrival,
            1 => Next::Sync(id),
            _ => Next::Timer(id),
        };
        Some((time, next))
    }

    fn moves_on(&mut self, time: Duration) -> bool {
        self.steps_at_once = if time > self.elapsed { 0 } else { self.steps_at_once + 1 };
        self.elapsed = self.elapsed.max(time);
        let moves = self.steps_at_once < MOST_STEPS_AT_ONCE;
        if !moves {
            self.judge.note(format!("time stands still at {:?}", self.elapsed));
        }
        moves
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Arrival => {
                if let Some(message) = self.network.arrive() {
                    self.deliver(message);
                }
            }
            Next::Sync(id) => self.sync(id),
            Next::Timer(id) => self.step(id, Input::Deadline),
        }
    }

    /// Hands a message to its receiver, or to its queue if it is paused.
    pub(crate) fn deliver(&mut self, message: Message) {
        let to = message.to;
        match self.nodes.get_mut(&to).map(|node| &mut node.paused) {
            Some(Some(queue)) => queue.push(message),
            _ => self.step(to, Input::Received(message)),
        }
    }

    // ---- steps -----------------------------------------------------------------------------------------------------

    /// One step of one core, and everything it asks for.
    pub(crate) fn step(&mut self, id: NodeId, input: Input) {
        let mut out = Output::new();
        self.step_into(id, input, &mut out);
        self.carry_out(id, out);
    }

    /// Starts a node that is down, from its disk.
    pub(crate) fn start(&mut self, id: NodeId) -> Result<(), String> {
        let node = self.nodes.get_mut(&id).filter(|node| node.core.is_none());
        let node = node.ok_or_else(|| format!("{id} is not down"))?;
        let mut out = Output::new();
        let restored = node.disk.restore(Index::ZERO);
        let now = node.clock.at(self.elapsed);
        let core = Core::new(node.config.clone(), restored, now, &mut out);
        node.core = Some(core.map_err(|error| error.to_string())?);
        self.stepped(id, &mut out);
        self.carry_out(id, out);
        Ok(())
    }

    fn step_into(&mut self, id: NodeId, input: Input, out: &mut Output) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.runs()) else { return };
        let Some(core) = &mut node.core else { return };
        core.step(node.clock.at(self.elapsed), input, out);
        self.stepped(id, out);
    }

    /// What must be seen of each single step.
    fn stepped(&mut self, id: NodeId, out: &mut Output) {
        if let Some(proposed) = out.proposed.take() {
            self.tell_proposed(id, proposed);
        }
        for event in out.events.drain(..) {
            self.tell(id, &event);
        }
        self.look(id);
        self.write(id, out.writes.drain(..).collect());
    }

    /// A prompt disk first, so that its answers leave in the same messages; then the rest.
    fn carry_out(&mut self, id: NodeId, mut out: Output) {
        while self.nodes.get(&id).is_some_and(|node| node.pace == DiskPace::Prompt)
            && let Some(seq) = self.end_sync(id)
        {
            self.step_into(id, Input::Durable(seq), &mut out);
        }
        for message in out.messages {
            self.post(message);
        }
        for answer in out.reads {
            self.answer_read(id, answer);
        }
        for answer in out.transfers {
            self.answer_transfer(id, answer);
        }
        for answer in out.changes {
            self.answer_change(id, answer);
        }
        self.apply(id, out.apply);
        for load in out.loads {
            match self.nodes.get_mut(&id).and_then(|node| node.unread.as_mut()) {
                Some(unread) => unread.push(load),
                None => self.load(id, load, true),
            }
        }
    }

    /// Reads from a node's disk what its core has asked for; or cannot.
    pub(crate) fn load(&mut self, id: NodeId, load: Load, readable: bool) {
        let disk = &self.nodes[&id].disk;
        let entries = readable.then(|| disk.read(load.first, load.last, load.max_bytes));
        self.step(id, Input::Loaded { load, entries });
    }

    /// Lets the judges look at a node, and prints its commit index if it moved.
    fn look(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(core) = &node.core else { return };
        self.judge.stepped(self.elapsed, core);
        let commit = core.status().commit;
        if commit > node.commit && commit > Index(1) {
            self.notation.line(Topic::Commits, self.elapsed, format!("{id} commit {commit}"));
        }
        node.commit = commit;
        self.look_at_leases();
        if self.violations_are_printed {
            for violation in self.judge.take() {
                self.notation.always(self.elapsed, format!("judge: {violation}"));
            }
        }
    }

    /// Each on its holder's own clock. A lease is extended in steps only, so two that overlap do so after a step.
    fn look_at_leases(&mut self) {
        let leases = self.nodes.iter().filter_map(|(id, node)| Some((id, node.lease(node.clock.at(self.elapsed))?)));
        for (id, lease) in leases {
            let cores = self.nodes.iter().filter_map(|(other, node)| Some((other, node.core.as_ref()?)));
            let (holders, others): (Vec<_>, Vec<_>) = cores.partition(|(other, _)| *other == id);
            let others: Vec<_> = others.into_iter().map(|(_, core)| core).collect();
            for (_, holder) in holders {
                self.judge.usable(holder, lease.read_index, &others);
            }
        }
    }

    fn post(&mut self, message: Message) {
        let fate = self.network.post(self.elapsed, message.clone());
        let remark = match fate {
            Fate::OnItsWay => "",
            Fate::Cut => " (cut)",
            Fate::Lost => " (lost)",
            Fate::Held => " (held)",
        };
        self.notation.message(self.elapsed, &message, remark);
    }

    // ---- disk and state machine ------------------------------------------------------------------------------------

    fn write(&mut self, id: NodeId, writes: Vec<Write>) {
        for write in &writes {
            self.notation.line(Topic::Disks, self.elapsed, format!("{id} writes {}", describe_write(write)));
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.disk.pending.extend(writes);
        if let (DiskPace::Takes(time), None) = (node.pace, node.sync_ends) {
            node.sync_ends = Some(self.elapsed + time);
        }
    }

    /// Everything written so far becomes durable.
    pub(crate) fn sync(&mut self, id: NodeId) {
        if let Some(seq) = self.end_sync(id) {
            self.step(id, Input::Durable(seq));
        }
    }

    /// The oldest write becomes durable.
    pub(crate) fn sync_one(&mut self, id: NodeId) {
        let running = self.nodes.get_mut(&id).filter(|node| node.runs());
        if let Some(seq) = running.and_then(|node| node.disk.sync_one()) {
            self.tell_durable(id, seq);
            self.step(id, Input::Durable(seq));
        }
    }

    /// A process that does not run hears of nothing; what it wrote stays pending until it does.
    fn end_sync(&mut self, id: NodeId) -> Option<WriteSeq> {
        let node = self.nodes.get_mut(&id).filter(|node| node.runs())?;
        node.sync_ends = None;
        let seq = node.disk.sync()?;
        self.tell_durable(id, seq);
        Some(seq)
    }

    fn tell_durable(&mut self, id: NodeId, seq: WriteSeq) {
        self.notation.line(Topic::Disks, self.elapsed, format!("{id} has {seq} on disk"));
    }

    fn apply(&mut self, id: NodeId, entries: Vec<Entry>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(blocked) = &mut node.blocked {
            return blocked.extend(entries);
        }
        let Some(last) = entries.last().map(|entry| entry.id.index) else { return };
        for entry in entries {
            self.judge.applies(id, node.applied.last(), &node.disk.entries, &entry);
            let line = format!("{id} applies {}", describe_entry(&entry));
            self.notation.line(Topic::Applies, self.elapsed, line);
            node.applied.push(entry);
        }
        self.step(id, Input::Applied(last));
    }

    /// The state machine comes back and applies what waited.
    pub(crate) fn unblock(&mut self, id: NodeId) {
        let waiting = self.nodes.get_mut(&id).and_then(|node| node.blocked.take());
        self.apply(id, waiting.unwrap_or_default());
    }

    // ---- clients ---------------------------------------------------------------------------------------------------

    pub(crate) fn read(&mut self, id: NodeId, consistency: Consistency) {
        self.asked += 1;
        let read = ReadId(self.asked);
        self.judge.asked(self.elapsed, read, consistency);
        self.step(id, Input::Read(read, consistency));
    }

    pub(crate) fn transfer(&mut self, id: NodeId, to: Option<NodeId>) {
        self.asked += 1;
        self.step(id, Input::Transfer(TransferId(self.asked), to));
    }

    pub(crate) fn change(&mut self, id: NodeId, change: Change) {
        self.asked += 1;
        self.step(id, Input::Change(ChangeId(self.asked), change));
    }

    fn answer_read(&mut self, id: NodeId, answer: ReadAnswer) {
        let read = answer.id.0;
        let line = match answer.result {
            Ok(index) => format!("{id} read {read}: index {index}"),
            Err(error) => format!("{id} read {read} refused: {error}"),
        };
        self.notation.always(self.elapsed, line);
        self.judge.answered(id, &answer);
    }

    fn answer_transfer(&mut self, id: NodeId, answer: TransferAnswer) {
        let line = match answer.result {
            Ok(successor) => format!("{id} hands over to {successor}"),
            Err(error) => format!("{id} does not hand over: {error}"),
        };
        self.notation.always(self.elapsed, line);
    }

    fn answer_change(&mut self, id: NodeId, answer: ChangeAnswer) {
        let line = match answer.result {
            Ok(index) => format!("{id} has changed the members, by {index}"),
            Err(error) => format!("{id} does not change the members: {error}"),
        };
        self.notation.always(self.elapsed, line);
    }

    // ---- what is printed -------------------------------------------------------------------------------------------

    fn tell_proposed(&mut self, id: NodeId, proposed: Proposed) {
        let (first, accepted) = (proposed.first, proposed.accepted as u64);
        let last = EntryId { index: first.index.plus(accepted.saturating_sub(1)), ..first };
        match accepted {
            0 => {}
            1 => self.notation.always(self.elapsed, format!("{id} appends {first}")),
            _ => self.notation.always(self.elapsed, format!("{id} appends {first} to {last}")),
        }
        if let Some(error) = proposed.refused {
            let what = if accepted > 0 { "refuses the rest" } else { "refuses" };
            self.notation.always(self.elapsed, format!("{id} {what}: {error}"));
        }
    }

    fn tell(&mut self, id: NodeId, event: &Event) {
        let line = format!("{id} {}", notation::event(id, event));
        match event {
            // The message that brought it was printed.
            Event::Refused { .. } if self.notation.shows(Topic::Votes) => {}
            Event::Configuration { .. } => {
                let in_use = self.nodes[&id].core.as_ref().map(|core| core.status().configuration.to_string());
                self.notation.line(Topic::Roles, self.elapsed, format!("{line}: {}", in_use.unwrap_or_default()));
            }
            Event::Role { .. } | Event::Refused { .. } => self.notation.line(Topic::Roles, self.elapsed, line),
            _ => self.notation.always(self.elapsed, line),
        }
    }
}

/// A write as it reads in a transcript: `w3: t2 vote n1, truncate from 4, 4@2(noop)`.
fn describe_write(write: &Write) -> String {
    let hard_state = write.hard_state.map(|state| match state.vote {
        Some(vote) => format!("{} vote {vote}", state.term),
        None => format!("{} no vote", state.term),
    });
    let truncate = write.truncate_from.map(|from| format!("truncate from {from}"));
    let entries = write.entries.iter().map(|entry| format!("{entry:?}"));
    let parts: Vec<_> = hard_state.into_iter().chain(truncate).chain(entries).collect();
    format!("{}: {}", write.seq, parts.join(", "))
}
