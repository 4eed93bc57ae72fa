//! What can happen next.

use std::fmt;

use tenure::core::{Input, RoleKind, TransferId};
use tenure::message::{Body, Message};
use tenure::time::Duration;

use super::checks::Broken;
use super::cluster::Cluster;

/// Something that happens. Nodes and messages are named by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A message arrives.
    Deliver(usize),
    /// A message arrives, and stays on its way to arrive again.
    Duplicate(usize),
    /// A node's clock reaches its deadline, and it notices.
    Timer(usize),
    /// A node's clock runs up to just before its deadline.
    Rest(usize),
    /// True time goes on by one grain, on all clocks.
    Tick,
    /// The oldest write of a node becomes durable.
    Sync(usize),
    /// A node is asked to append a command.
    Propose(usize),
    /// A node is asked to hand leadership over.
    Transfer(usize),
    /// A node loses power, with all that is not durable, and starts again.
    Crash(usize),
}

const INSTANT: Duration = Duration::from_nanos(1);

impl Cluster {
    /// Everything that can happen now. A message that is never delivered is lost: that takes no action.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (at, message) in self.network.iter().enumerate() {
            if self.network[..at].iter().any(|earlier| earlier.same_as(message)) {
                continue;
            }
            actions.push(Action::Deliver(at));
            if self.left.duplicates > 0 {
                actions.push(Action::Duplicate(at));
            }
        }
        for at in 0..self.nodes.len() {
            self.actions_at(at, &mut actions);
        }
        if self.rules.shared_clock.is_some() && self.left.ticks > 0 {
            actions.push(Action::Tick);
        }
        actions
    }

    fn actions_at(&self, at: usize, actions: &mut Vec<Action>) {
        let (node, left) = (&self.nodes[at], &self.left);
        let leads = node.view.role == RoleKind::Leader;
        let own_clock = self.rules.shared_clock.is_none();
        if let Some(deadline) = node.deadline() {
            let timers = if leads { left.heartbeats } else { left.timeouts };
            if timers > 0 && (own_clock || deadline <= node.now) {
                actions.push(Action::Timer(at));
            }
            // It makes a difference to somebody who asks for a vote only.
            let follows = node.view.role == RoleKind::Follower;
            if own_clock && follows && node.now + INSTANT < deadline && self.is_asked_for_a_vote(at) {
                actions.push(Action::Rest(at));
            }
        }
        let offers = [
            (!node.disk.pending.is_empty(), Action::Sync(at)),
            (leads && left.proposals > 0, Action::Propose(at)),
            (leads && left.transfers > 0, Action::Transfer(at)),
            (left.crashes > 0, Action::Crash(at)),
        ];
        actions.extend(offers.into_iter().filter(|(possible, _)| *possible).map(|(_, action)| action));
    }

    fn is_asked_for_a_vote(&self, at: usize) -> bool {
        let asks = |message: &Message| matches!(message.body, Body::Vote(_) | Body::PreVote(_));
        self.network.iter().any(|sent| sent.message.to == self.nodes[at].id && asks(&sent.message))
    }

    /// What is after it has happened, unless a check says that this must not be.
    pub(crate) fn after(&self, action: Action) -> Result<Self, Broken> {
        let mut next = self.clone();
        next.act(action)?;
        Ok(next)
    }

    pub(crate) fn act(&mut self, action: Action) -> Result<(), Broken> {
        match action {
            Action::Deliver(at) => {
                let message = self.network.swap_remove(at).message;
                self.step(self.place(message.to), Input::Received((*message).clone()))
            }
            Action::Duplicate(at) => {
                self.left.duplicates -= 1;
                let message = self.network[at].message.clone();
                self.step(self.place(message.to), Input::Received((*message).clone()))
            }
            Action::Timer(at) => {
                let left = &mut self.left;
                let leads = self.nodes[at].view.role == RoleKind::Leader;
                *if leads { &mut left.heartbeats } else { &mut left.timeouts } -= 1;
                let deadline = self.nodes[at].deadline();
                let node = self.node_mut(at);
                node.now = deadline.map_or(node.now, |deadline| deadline.max(node.now));
                self.step(at, Input::Deadline)
            }
            Action::Rest(at) => {
                let node = self.node_mut(at);
                node.now = node.deadline().map_or(node.now, |deadline| deadline - INSTANT);
                Ok(())
            }
            Action::Tick => {
                self.left.ticks -= 1;
                self.tick();
                self.check_leases()
            }
            Action::Sync(at) => {
                let seq = self.node_mut(at).disk.sync_one();
                seq.map_or(Ok(()), |seq| self.step(at, Input::Durable(seq)))
            }
            Action::Propose(at) => {
                let command = self.next_command();
                self.step(at, Input::Propose(vec![command]))
            }
            Action::Transfer(at) => {
                self.left.transfers -= 1;
                self.step(at, Input::Transfer(TransferId(1), None))
            }
            Action::Crash(at) => self.crash(at),
        }
    }

    /// What it is, for people.
    pub(crate) fn describe(&self, action: Action) -> String {
        let name = |at: usize| self.nodes[at].id;
        match action {
            Action::Deliver(at) => format!("{:?}", self.network[at].message),
            Action::Duplicate(at) => format!("{:?} (a duplicate stays)", self.network[at].message),
            Action::Timer(at) => format!("{} timer", name(at)),
            Action::Rest(at) => format!("{} waits until just before its timer", name(at)),
            Action::Tick => "a quarter of E passes".to_owned(),
            Action::Sync(at) => format!("{} disk: a write is durable", name(at)),
            Action::Propose(at) => format!("{} is given a command", name(at)),
            Action::Transfer(at) => format!("{} is to hand over", name(at)),
            Action::Crash(at) => format!("{} crashes and restarts", name(at)),
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            writeln!(f, "      {}", node.describe())?;
        }
        Ok(())
    }
}
