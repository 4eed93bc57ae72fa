//! The clients of a run: each does one thing after the other, tries again where it certainly failed, and does not wait
//! for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::linearizability::Call;
use super::mailbox::Told;
use super::plan::ClientPlan;
use super::subject::Subject;
use super::trace::{Answer, Scene};
use super::world::World;
use crate::core::Consistency;
use crate::runtime::{ProposalError, ReadError};
use crate::state_machine::StateMachine;
use crate::time::Duration;
use crate::types::NodeId;

/// What a subject's machine answers.
type Output<S> = <<S as Subject>::Machine as StateMachine>::Output;

/// All clients of a run, and what they have seen.
pub(super) struct Clients<S: Subject> {
    plan: ClientPlan,
    clients: Vec<Client<S::Operation>>,
    history: Vec<Call<S::Operation, S::Outcome>>,
    /// Calls that certainly had no effect and returned nothing.
    void: Vec<usize>,
    /// Reads that a lease may have answered.
    by_lease: Vec<usize>,
    /// Which client waits for which answer.
    tokens: BTreeMap<u64, usize>,
    serial: u64,
    nonce: u64,
    /// No operation is begun any more.
    pub(super) done: bool,
}

struct Client<O> {
    dice: Dice,
    /// Where it believes the leader to be.
    guess: u64,
    /// Counts its operations, so that it knows which alarm is meant for which.
    number: u64,
    under_way: Option<UnderWay<O>>,
}

struct UnderWay<O> {
    operation: O,
    /// Its place in the history; none if it is not to be checked there.
    call: Option<usize>,
    consistency: Consistency,
    /// An attempt is out whose outcome is not known.
    token: Option<u64>,
    /// It may have taken effect.
    tainted: bool,
}

/// What a client's alarm is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bell {
    /// Begin the next operation.
    Begin,
    /// Try again.
    Again,
    /// Wait no longer.
    GiveUp,
}

/// An alarm's token: which client, which of its operations, what for.
pub(super) fn alarm(client: usize, number: u64, bell: Bell) -> u64 {
    (client as u64) << 48 | number << 2 | bell as u64
}

/// The reverse of [`alarm`].
fn read_alarm(token: u64) -> Option<(usize, u64, Bell)> {
    let bell = [Bell::Begin, Bell::Again, Bell::GiveUp].into_iter().find(|bell| *bell as u64 == token & 3)?;
    Some(((token >> 48) as usize, (token >> 2) & ((1 << 46) - 1), bell))
}

impl<S: Subject> Clients<S> {
    pub(super) fn new(plan: ClientPlan, seed: u64, nodes: u64) -> Self {
        let client = |id| {
            let mut dice = Dice::new(seed.wrapping_add(id), "client");
            let guess = dice.number(1, nodes);
            Client { dice, guess, number: 0, under_way: None }
        };
        let clients = (0..plan.count).map(client).collect();
        let (history, void, by_lease, tokens) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        Self { plan, clients, history, void, by_lease, tokens, serial: 0, nonce: 0, done: false }
    }

    pub(super) fn begin_all(&mut self, world: &mut World<S::Machine>) {
        for id in 0..self.clients.len() {
            self.next_later(id, world);
        }
    }

    /// Every call that may have had an effect, or returned something; without reads under a lease unless `leases` promise
    /// something.
    pub(super) fn history(self, leases: bool) -> Vec<Call<S::Operation, S::Outcome>> {
        let mut void = self.void.into_iter().collect::<BTreeSet<_>>();
        void.extend(self.by_lease.iter().filter(|_| !leases));
        // A read that nobody answered says nothing.
        let unanswered = self.clients.iter().filter_map(|client| client.under_way.as_ref());
        void.extend(unanswered.filter(|under_way| !under_way.tainted).filter_map(|under_way| under_way.call));
        let calls = self.history.into_iter().enumerate();
        calls.filter(|(place, _)| !void.contains(place)).map(|(_, call)| call).collect()
    }

    /// One more write, at the leader, whose outcome nobody waits for.
    pub(super) fn write(&mut self, subject: &S, leader: u64, world: &mut World<S::Machine>) {
        let mut dice = Dice::new(self.nonce, "last");
        let found = (0..1000).find_map(|_| {
            let operation = subject.operation(&mut dice, self.serial);
            self.serial += 1;
            Some((subject.command(&operation, u64::MAX - self.nonce)?, operation))
        });
        let Some((command, operation)) = found else { return };
        self.nonce += 1;
        self.history.push(Call { client: u64::MAX, operation, invoked: world.now, returned: None });
        world.propose(leader, command);
    }

    pub(super) fn alarm(&mut self, subject: &S, token: u64, world: &mut World<S::Machine>) {
        let Some((id, number, bell)) = read_alarm(token) else { return };
        if self.clients[id].number != number {
            return;
        }
        match bell {
            Bell::Begin => self.begin(subject, id, world),
            Bell::Again => self.attempt(subject, id, world),
            Bell::GiveUp => self.end(id, "waits no longer", world),
        }
    }

    fn begin(&mut self, subject: &S, id: usize, world: &mut World<S::Machine>) {
        if self.done || self.serial >= self.plan.operations {
            return;
        }
        let client = &mut self.clients[id];
        let operation = subject.operation(&mut client.dice, self.serial);
        self.serial += 1;
        world.tally.operations += 1;
        let reads = subject.command(&operation, 0).is_none();
        let consistency = client.dice.pick(&self.plan.reads).copied().filter(|_| reads).unwrap_or_default();
        let exact = matches!(consistency, Consistency::Linearizable | Consistency::Lease);
        let call = exact.then_some(self.history.len());
        self.by_lease.extend(call.filter(|_| consistency == Consistency::Lease));
        if exact {
            let operation = operation.clone();
            self.history.push(Call { client: id as u64, operation, invoked: world.now, returned: None });
        }
        client.under_way = Some(UnderWay { operation, call, consistency, token: None, tainted: false });
        world.set_alarm(self.plan.patience, alarm(id, client.number, Bell::GiveUp));
        self.attempt(subject, id, world);
    }

    fn attempt(&mut self, subject: &S, id: usize, world: &mut World<S::Machine>) {
        let client = &mut self.clients[id];
        let Some(under_way) = &mut client.under_way else { return };
        if under_way.token.is_some() {
            return;
        }
        // A read that any node may answer is asked of any.
        let anywhere = !matches!(under_way.consistency, Consistency::Linearizable | Consistency::Lease);
        let at = if anywhere { client.dice.number(1, world.ids().len() as u64) } else { client.guess };
        if !world.is_up(at) {
            // The connection is refused.
            return self.again(id, None, world);
        }
        self.nonce += 1;
        let command = subject.command(&under_way.operation, self.nonce);
        let operation = &under_way.operation;
        world.trace.record(world.now, || Scene::Asked {
            client: id as u64,
            node: NodeId(at),
            text: format!("{operation:?}"),
        });
        let token = match command {
            Some(command) => {
                under_way.tainted = true;
                world.propose(at, command)
            }
            None => world.read(at, under_way.consistency),
        };
        under_way.token = Some(token);
        self.tokens.insert(token, id);
    }

    /// Somebody was told something.
    pub(super) fn told(
        &mut self,
        subject: &S,
        token: u64,
        node: u64,
        told: Told<Output<S>>,
        world: &mut World<S::Machine>,
    ) {
        let Some(id) = self.tokens.remove(&token) else { return };
        let client = &mut self.clients[id];
        let Some(under_way) = client.under_way.as_mut().filter(|under_way| under_way.token == Some(token)) else {
            return;
        };
        under_way.token = None;
        match told {
            Told::Applied(_, output) => {
                let outcome = subject.outcome(&under_way.operation, output);
                client.guess = node;
                self.returned(id, outcome, world);
            }
            Told::Read(Ok(_)) => {
                let Some(machine) = world.machine(node) else { return };
                let outcome = subject.query(machine, &under_way.operation);
                self.returned(id, outcome, world);
            }
            Told::Failed(error) if error.certainly_not_committed() => {
                under_way.tainted = false;
                record(id, Answer::Refused, || error.to_string(), world);
                self.again(id, leader_of_proposal(&error), world);
            }
            Told::Read(Err(error)) => {
                record(id, Answer::Refused, || error.to_string(), world);
                self.again(id, leader_of_read(&error), world);
            }
            Told::Failed(error) => self.end(id, &format!("is told: {error}"), world),
            Told::Transferred(_) | Told::Changed(_) => {}
        }
    }

    fn returned(&mut self, id: usize, outcome: S::Outcome, world: &mut World<S::Machine>) {
        world.tally.acknowledged += 1;
        record(id, Answer::Done, || format!("is told {outcome:?}"), world);
        if let Some(call) = self.clients[id].under_way.take().and_then(|under_way| under_way.call) {
            self.history[call].returned = Some((world.now, outcome));
        }
        self.next_later(id, world);
    }

    /// It certainly had no effect: elsewhere, or later.
    fn again(&mut self, id: usize, leader: Option<NodeId>, world: &mut World<S::Machine>) {
        world.tally.refused += 1;
        let nodes = world.ids().len() as u64;
        let longest = world.core.timing.promise() / 10;
        let client = &mut self.clients[id];
        let (guess, longest) = match leader {
            Some(leader) => (leader.0, Duration::from_millis(2).min(longest)),
            None => (client.dice.number(1, nodes), longest),
        };
        client.guess = guess;
        let pause = client.dice.duration(super::dice::Span(Duration::from_micros(50), longest));
        world.set_alarm(pause, alarm(id, client.number, Bell::Again));
    }

    /// Nobody will ever say what became of it, or nobody waits any longer.
    fn end(&mut self, id: usize, why: &str, world: &mut World<S::Machine>) {
        let client = &mut self.clients[id];
        let Some(under_way) = client.under_way.take() else { return };
        let answer = if under_way.tainted { Answer::Unknown } else { Answer::Refused };
        record(id, answer, || why.to_owned(), world);
        let nodes = world.ids().len() as u64;
        client.guess = client.dice.number(1, nodes);
        if under_way.tainted {
            world.tally.unknown += 1;
        } else {
            self.void.extend(under_way.call);
        }
        self.next_later(id, world);
    }

    fn next_later(&mut self, id: usize, world: &mut World<S::Machine>) {
        let client = &mut self.clients[id];
        client.number += 1;
        let think = client.dice.duration(self.plan.think);
        world.set_alarm(think, alarm(id, client.number, Bell::Begin));
    }
}

fn record<M: StateMachine>(client: usize, outcome: Answer, text: impl FnOnce() -> String, world: &mut World<M>) {
    world.trace.record(world.now, || Scene::Told { client: client as u64, text: text(), outcome });
}

fn leader_of_proposal(error: &ProposalError) -> Option<NodeId> {
    match error {
        ProposalError::NotLeader { leader } => *leader,
        _ => None,
    }
}

fn leader_of_read(error: &ReadError) -> Option<NodeId> {
    match error {
        ReadError::NotLeader { leader } => *leader,
        _ => None,
    }
}
