//! Snapshots on their way from node to node: the two ends of a transfer over connections that break.
//!
//! Bulk has connections of its own. What is sent on one arrives in the order in which it left, or the connection is over:
//! at once for both ends, or one of them waits for answers that never come.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dice::{Dice, Span};
use super::judges::require;
use super::snapshots::Step;
use super::world::{Happening, World};
use crate::core::Install;
use crate::snapshot::{Fetch, Next, REQUEST_BYTES_MAX, Received, Request, Response, SnapshotError, Wanted};
use crate::state_machine::StateMachine;
use crate::time::{Duration, Instant};
use crate::types::{Index, NodeId};
use crate::wire::frame::{self, FrameKind, Front, HEADER_BYTES};

/// All connections.
pub(super) struct Bulk {
    connections: BTreeMap<u64, Connection>,
    made: u64,
    pub(super) dice: Dice,
}

impl Bulk {
    pub(super) fn new(seed: u64) -> Self {
        Self { connections: BTreeMap::new(), made: 0, dice: Dice::new(seed, "bulk") }
    }
}

struct Connection {
    receiver: u64,
    sender: u64,
    /// When the last frame of each direction arrives: to the sender, to the receiver.
    last: [Instant; 2],
    /// Nothing arrives any more, and nobody knows.
    silent: bool,
}

/// A frame on a connection.
pub(super) struct Parcel {
    connection: u64,
    to: u64,
    frame: Bytes,
    flipped: bool,
}

/// What a node is fetching.
pub(super) struct Pull {
    pub(super) fetch: Fetch,
    from: u64,
    pub(super) connection: Option<u64>,
    /// When something came last, or the connection was made.
    heard: Instant,
    /// Connections in a row on which nothing came.
    in_vain: u32,
}

/// So many connections in a row on which nothing comes are enough.
const IN_VAIN: u32 = 3;

impl<M: StateMachine> World<M> {
    // ---- the receiver ----------------------------------------------------------------------------------------------

    /// A node needs a snapshot, and was offered one. It goes on with what it is fetching as long as that node answers.
    pub(super) fn offered(&mut self, id: u64, install: Install) {
        self.tally.snapshots_offered += 1;
        let commit = self.core(id).map_or(Index::ZERO, |core| core.pulse().commit);
        let config = self.snapshots.fetch();
        let Some(life) = &mut self.node_mut(id).life else { return };
        let desk = &mut life.desk;
        if desk.pull.is_some() || desk.arrived.is_some() || life.stopped.is_some() {
            return;
        }
        // What was being fetched before a restart, from the node that made it.
        let partial = desk.store.partial().filter(|partial| {
            partial.last().index > commit && desk.gone != Some(partial.id()) && partial.about().maker != NodeId(id)
        });
        let resumed = partial.is_some();
        let (from, wanted) = match &partial {
            Some(partial) => (partial.about().maker, Wanted { id: Some(partial.id()), at_least: commit.next() }),
            None => (install.from, Wanted { id: None, at_least: install.last.index }),
        };
        let Ok(fetch) = Fetch::new(&desk.store, wanted, config) else { return };
        desk.pull = Some(Pull { fetch, from: from.0, connection: None, heard: Instant::ZERO, in_vain: 0 });
        self.tally.fetches += 1;
        self.tally.fetches_resumed += u64::from(resumed);
        self.note(id, || {
            let how = if resumed { "goes on fetching a snapshot" } else { "fetches a snapshot" };
            format!("{how} from {from}; {} offers one up to {}", install.from, install.last)
        });
        self.dial(id);
    }

    /// Makes a connection, and asks.
    pub(super) fn dial(&mut self, id: u64) {
        let (now, number) = (self.now, self.bulk.made + 1);
        let Some(life) = &mut self.node_mut(id).life else { return };
        let Some(pull) = life.desk.pull.as_mut().filter(|pull| pull.connection.is_none()) else { return };
        pull.fetch.disconnected();
        (pull.connection, pull.heard) = (Some(number), now);
        let sender = pull.from;
        self.bulk.made = number;
        let connection = Connection { receiver: id, sender, last: [now; 2], silent: false };
        self.bulk.connections.insert(number, connection);
        self.pump(id);
        self.after(id, Span::exactly(self.patience()), Step::Impatient(number));
    }

    fn patience(&self) -> Duration {
        self.core.timing.promise() * 2
    }

    /// Asks what is to be asked, and does what can be done here.
    fn pump(&mut self, id: u64) {
        let pumped = self.at_disk(id, |life| {
            let Some(pull) = &mut life.desk.pull else { return Ok::<_, SnapshotError>((None, Vec::new())) };
            let mut requests = Vec::new();
            loop {
                requests.extend(std::iter::from_fn(|| pull.fetch.next_request()));
                if !pull.fetch.advance()? {
                    return Ok((pull.connection, requests));
                }
            }
        });
        match pumped {
            None => {}
            Some(Err(error)) => self.give_up(id, &error),
            Some(Ok((connection, requests))) => {
                for request in requests {
                    if let Some(connection) = connection {
                        self.post_bulk(connection, id, request.encode().into());
                    }
                }
                self.look_at_fetch(id);
            }
        }
    }

    /// It is complete, or has ended.
    fn look_at_fetch(&mut self, id: u64) {
        let Some(life) = &mut self.node_mut(id).life else { return };
        let Some(pull) = &mut life.desk.pull else { return };
        let corrupt = pull.fetch.refusals().corrupt;
        if let Some(ended) = pull.fetch.ended().cloned() {
            // It is not to be had: whatever is in part here, the next one is another.
            life.desk.gone = life.desk.store.partial().map(|partial| partial.id());
            self.give_up(id, &ended);
        } else if pull.fetch.is_complete() {
            self.after(id, self.snapshots.telling, Step::Keep);
        }
        self.judge(require(corrupt == 0, "no false alarm", id, || "a chunk with wrong bytes came through".to_owned()));
    }

    /// Begins anew with the next offer.
    fn give_up(&mut self, id: u64, why: &dyn std::fmt::Display) {
        let pull = self.node_mut(id).life.as_mut().and_then(|life| life.desk.pull.take());
        if let Some(connection) = pull.and_then(|pull| pull.connection) {
            self.hang_up(connection, id);
        }
        self.snapshot_failed(id, &format!("fetches no longer: {why}"));
    }

    fn answered(&mut self, id: u64, Parcel { connection, frame, flipped, .. }: Parcel) {
        let now = self.now;
        let Some(life) = &mut self.node_mut(id).life else { return };
        let Some(pull) = life.desk.pull.as_mut().filter(|pull| pull.connection == Some(connection)) else { return };
        let body = body(&frame, FrameKind::SnapshotResponse, pull.fetch.frame_bytes_max() - HEADER_BYTES);
        let response = body.and_then(|body| Response::decode(&body).ok().flatten());
        self.judge(require(!(flipped && response.is_some()), "a flipped bit is noticed", id, || {
            format!("{response:?}")
        }));
        let Some(response) = response else {
            self.hang_up(connection, id);
            return self.connection_gone(id, connection);
        };
        let received = self.at_disk(id, |life| {
            let Some(pull) = &mut life.desk.pull else { return Ok(Received::Taken) };
            (pull.heard, pull.in_vain) = (now, 0);
            pull.fetch.receive(response)
        });
        match received {
            None => {}
            Some(Err(error)) => self.give_up(id, &error),
            Some(Ok(_)) => self.pump(id),
        }
    }

    /// Nothing has come for too long: the connection must be over.
    pub(super) fn look_for_answers(&mut self, id: u64, connection: u64) {
        let (now, patience) = (self.now, self.patience());
        let Some(life) = &self.node(id).life else { return };
        let Some(pull) = life.desk.pull.as_ref().filter(|pull| pull.connection == Some(connection)) else { return };
        let silence = now.since(pull.heard);
        if silence < patience {
            self.after(id, Span::exactly(patience - silence), Step::Impatient(connection));
        } else if pull.fetch.is_waiting() {
            self.hang_up(connection, id);
            self.connection_gone(id, connection);
        }
    }

    /// This end has no connection any more, and knows it.
    pub(super) fn connection_gone(&mut self, id: u64, connection: u64) {
        let Some(life) = &mut self.node_mut(id).life else { return };
        life.desk.sessions.remove(&connection);
        let Some(pull) = life.desk.pull.as_mut().filter(|pull| pull.connection == Some(connection)) else { return };
        if pull.fetch.is_complete() {
            // It is needed no more.
            return;
        }
        (pull.connection, pull.in_vain) = (None, pull.in_vain + 1);
        let (begun, in_vain) = (pull.fetch.progress().bytes_done > 0, pull.in_vain);
        self.tally.broken_transfers += 1;
        if in_vain > IN_VAIN {
            return self.give_up(id, &"the node does not answer any more");
        }
        self.tally.fetches_resumed += u64::from(begun);
        self.after(id, Span(Duration::ZERO, self.patience() / 8), Step::Dial);
    }

    // ---- the sender ------------------------------------------------------------------------------------------------

    fn asked(&mut self, id: u64, Parcel { connection, frame, flipped, .. }: Parcel) {
        let request = body(&frame, FrameKind::SnapshotRequest, REQUEST_BYTES_MAX);
        let request = request.and_then(|body| Request::decode(&body).ok().flatten());
        self.judge(require(!(flipped && request.is_some()), "a flipped bit is noticed", id, || format!("{request:?}")));
        let taken = self.at_disk(id, |life| {
            let session = request.and_then(|request| Some((life.desk.session(connection)?, request)));
            session.is_some_and(|(session, request)| session.receive(request).is_ok())
        });
        match taken {
            None => {}
            Some(true) => self.serve(id, connection),
            Some(false) => {
                self.hang_up(connection, id);
                self.connection_gone(id, connection);
            }
        }
    }

    /// Sends what may be sent now.
    pub(super) fn serve(&mut self, id: u64, connection: u64) {
        let now = self.now;
        loop {
            let next =
                self.at_disk(id, |life| life.desk.sessions.get_mut(&connection).map(|session| session.next(now)));
            match next.flatten() {
                None | Some(Next::Idle) => return,
                Some(Next::Wait(at)) => return self.after(id, Span::exactly(at.since(now)), Step::Serve(connection)),
                Some(Next::Send(outgoing)) => {
                    let (head, data) = outgoing.encode();
                    self.post_bulk(connection, id, [&head[..], &data[..]].concat().into());
                }
            }
        }
    }

    // ---- connections -----------------------------------------------------------------------------------------------

    fn post_bulk(&mut self, number: u64, from: u64, frame: Bytes) {
        let Some(connection) = self.bulk.connections.get_mut(&number) else { return };
        let direction = usize::from(from == connection.sender);
        let to = if from == connection.sender { connection.receiver } else { connection.sender };
        self.tally.frames += 1;
        self.trace.count(u64::from(crc32c::crc32c(&frame)));
        let (now, link) = (self.now, (from, to));
        let lost = self.network.loses(link, &mut self.bulk.dice, &mut self.tally);
        if lost {
            connection.silent = true;
            // Or both ends see at once that it is over.
            if self.bulk.dice.chance(500_000) {
                self.hang_up(number, from);
                self.after(from, Span::exactly(Duration::ZERO), Step::Gone(number));
            }
            return;
        }
        if connection.silent {
            return;
        }
        let after = connection.last[direction];
        for super::network::Arrival { at, frame, flipped } in
            self.network.carry(now, &frame, after, &mut self.bulk.dice, &mut self.tally)
        {
            if let Some(connection) = self.bulk.connections.get_mut(&number) {
                connection.last[direction] = connection.last[direction].max(at);
            }
            let parcel = Parcel { connection: number, to, frame, flipped };
            self.schedule_at(at, Happening::Bulk(parcel));
        }
    }

    /// A frame of a connection arrives.
    pub(super) fn deliver_bulk(&mut self, parcel: Parcel) {
        let (number, to) = (parcel.connection, parcel.to);
        let Some(connection) = self.bulk.connections.get_mut(&number) else { return };
        let (sender, link) = (connection.sender, (connection.sender + connection.receiver - to, to));
        if self.network.is_cut(link) {
            self.tally.cut += 1;
            connection.silent = true;
        }
        if connection.silent {
            return;
        }
        match self.node_mut(to).life.as_mut() {
            // Whatever machine is there says that nobody knows of this connection.
            None => self.hang_up(number, to),
            Some(life) => match &mut life.paused {
                Some(paused) => paused.steps.push(Step::Frame(parcel)),
                None => self.take_bulk(parcel, sender),
            },
        }
    }

    fn take_bulk(&mut self, parcel: Parcel, sender: u64) {
        self.trace.count(parcel.connection);
        if parcel.to == sender { self.asked(sender, parcel) } else { self.answered(parcel.to, parcel) }
    }

    /// A frame that had to wait for a process that was stopped.
    pub(super) fn frame_waited(&mut self, parcel: Parcel) {
        if let Some(sender) = self.bulk.connections.get(&parcel.connection).map(|connection| connection.sender) {
            self.take_bulk(parcel, sender);
        }
    }

    /// One end of a connection is gone; the other one learns that soon, or late if it cannot be told.
    pub(super) fn hang_up(&mut self, number: u64, by: u64) {
        let Some(Connection { receiver, sender, silent, .. }) = self.bulk.connections.remove(&number) else { return };
        let other = sender + receiver - by;
        let span = if silent || self.network.is_cut((by, other)) {
            Span(Duration::ZERO, self.patience())
        } else {
            self.network.weather.delay
        };
        if self.node(other).life.is_some() {
            self.after(other, span, Step::Gone(number));
        }
    }

    /// Every connection of a process that has died.
    pub(super) fn hang_up_all(&mut self, id: u64) {
        let of_it = |connection: &Connection| connection.receiver == id || connection.sender == id;
        let all = self.bulk.connections.iter().filter(|(_, connection)| of_it(connection));
        let all: Vec<u64> = all.map(|(number, _)| *number).collect();
        for number in all {
            self.hang_up(number, id);
        }
    }
}

/// What a frame carries, if it is whole and of this kind.
fn body(bytes: &Bytes, wanted: FrameKind, limit: usize) -> Option<Bytes> {
    match frame::front(bytes, limit) {
        Ok(Front::Frame { kind, body }) if kind == wanted as u8 => Some(bytes.slice_ref(body)),
        _ => None,
    }
}
