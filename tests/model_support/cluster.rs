//! The whole of a small cluster as a value: members, what is on its way between them, and what may still happen.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use bytes::Bytes;
use tenure::core::{Frame, Input};
use tenure::message::Message;
use tenure::time::Duration;
use tenure::types::NodeId;

use super::action::Action;
use super::checks::{Broken, History};
use super::hasher::Wide;
use super::node::Node;
use crate::support::disk::Disk;
use crate::support::lone::{E, ms};

/// What is the same all along.
#[derive(Clone)]
pub(crate) struct Rules {
    /// Whoever would get beyond this term ends the run.
    pub(crate) last_term: u64,
    /// Messages on their way at most; a full network loses what comes next.
    pub(crate) network: usize,
    /// What is not lost at once.
    pub(crate) carries: fn(&Message) -> bool,
    /// Whether every write is durable at once.
    pub(crate) prompt_disks: bool,
    /// Entries in one append at most.
    pub(crate) append_entries: usize,
    /// `None`: every node has a clock of its own that runs as it likes.
    pub(crate) shared_clock: Option<SharedClock>,
}

/// All clocks show one true time, as well as they can.
#[derive(Clone)]
pub(crate) struct SharedClock {
    /// What each clock shows of a grain of true time, in millionths.
    pub(crate) rates: Vec<u64>,
    /// What the nodes take for the bound on the error of a rate.
    pub(crate) trusted_drift_ppm: u32,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    /// Timers of those who do not lead.
    pub(crate) timeouts: u8,
    /// Timers of leaders.
    pub(crate) heartbeats: u8,
    pub(crate) proposals: u8,
    pub(crate) duplicates: u8,
    pub(crate) crashes: u8,
    pub(crate) transfers: u8,
    pub(crate) ticks: u8,
}

/// A message on its way.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) message: Rc<Message>,
}

impl Sent {
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.message, &other.message) || self.message == other.message
    }
}

/// What `E` is divided into where times are compared.
pub(crate) fn grain() -> Duration {
    ms(E / 4)
}

#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) rules: Rc<Rules>,
    /// Shared between states: an action copies the one that steps.
    pub(crate) nodes: Vec<Rc<Node>>,
    pub(crate) network: Vec<Sent>,
    pub(crate) left: Left,
    pub(crate) history: Rc<History>,
}

impl Cluster {
    /// Nodes 1, 2, ... on these disks.
    pub(crate) fn on(disks: Vec<Disk>, rules: Rules) -> Self {
        let nodes: Vec<_> =
            disks.into_iter().zip(1..).map(|(disk, id)| Rc::new(Node::start(id, disk, &rules))).collect();
        let history = Rc::new(History::new(&nodes));
        Self { rules: Rc::new(rules), nodes, network: Vec::new(), left: Left::default(), history }
    }

    pub(crate) fn place(&self, id: NodeId) -> usize {
        id.0 as usize - 1
    }

    pub(crate) fn node_mut(&mut self, at: usize) -> &mut Node {
        Rc::make_mut(&mut self.nodes[at])
    }

    /// A node takes an input; what it says gets on its way; and everything is checked.
    pub(crate) fn step(&mut self, at: usize, input: Input) -> Result<(), Broken> {
        let before = self.nodes[at].view;
        let prompt_disks = self.rules.prompt_disks;
        let effects = self.node_mut(at).step(input, prompt_disks);
        self.check(at, before, &effects)?;
        let room = self.rules.network.saturating_sub(self.network.len());
        let sent = effects.messages.into_iter().filter(|message| (self.rules.carries)(message)).take(room);
        self.network.extend(sent.map(|message| Sent { message: Rc::new(message) }));
        Ok(())
    }

    pub(crate) fn crash(&mut self, at: usize) -> Result<(), Broken> {
        self.left.crashes -= 1;
        let rules = self.rules.clone();
        self.node_mut(at).crash(&rules);
        self.check_restart(at)
    }

    pub(crate) fn next_command(&mut self) -> Bytes {
        self.left.proposals -= 1;
        Bytes::from(vec![b'a' + self.left.proposals])
    }

    pub(crate) fn tick(&mut self) {
        let rules = self.rules.clone();
        let rates = rules.shared_clock.iter().flat_map(|clock| clock.rates.iter());
        for (at, rate) in rates.enumerate() {
            let node = self.node_mut(at);
            node.now = node.now + Duration::from_nanos(grain().as_nanos() as u64 / 1_000_000 * rate);
        }
    }

    pub(crate) fn within_bounds(&self) -> bool {
        self.nodes.iter().all(|node| node.view.term.0 <= self.rules.last_term)
    }

    /// The same for situations that are alike, however they came about.
    pub(crate) fn fingerprint(&self) -> u128 {
        let frame = Frame::new(grain(), self.nodes.iter().map(|node| (&node.core, node.now)));
        let mut hasher = Wide::new();
        for node in &self.nodes {
            node.hash(&frame, &mut hasher);
        }
        self.left.hash(&mut hasher);
        self.history.hash(&mut hasher);
        let of_message = |sent: &Sent| {
            let mut hasher = Wide::new();
            frame.message(&sent.message, &mut hasher);
            hasher.value()
        };
        // Their order does not matter.
        let messages = self.network.iter().map(of_message).fold(0_u128, u128::wrapping_add);
        hasher.write_u128(messages);
        hasher.value()
    }

    // ---- beginnings ------------------------------------------------------------------------------------------------

    /// Something happens that goes well.
    pub(crate) fn must(&mut self, action: Action) {
        self.act(action).unwrap_or_else(|broken| panic!("{broken:?}"));
    }

    /// Delivers what passes, loses what does not, and syncs, until nothing is left to be done.
    pub(crate) fn settle(&mut self, passes: impl Fn(&Message) -> bool) {
        loop {
            self.network.retain(|sent| passes(&sent.message));
            let unsynced = self.nodes.iter().position(|node| !node.disk.pending.is_empty());
            match unsynced {
                Some(at) => self.must(Action::Sync(at)),
                None if self.network.is_empty() => return,
                None => self.must(Action::Deliver(0)),
            }
        }
    }

    /// Elects a node by all others who can hear it.
    pub(crate) fn elect(&mut self, id: u64, passes: impl Fn(&Message) -> bool) {
        for at in 0..self.nodes.len() {
            let node = self.node_mut(at);
            node.now = node.deadline().map_or(node.now, |deadline| deadline - Duration::from_nanos(1));
        }
        self.left.timeouts = 1;
        self.must(Action::Timer(id as usize - 1));
        self.settle(passes);
    }
}
