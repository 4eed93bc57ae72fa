//! What happened in a run: always as a hash, and in full when somebody wants to look.

use super::judges::mix;
use crate::core::RoleKind;
use crate::message::Message;
use crate::time::Instant;
use crate::types::{Index, NodeId, Term};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When, in true time.
    pub at: Instant,
    /// What.
    pub what: Scene,
}

/// What can happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Scene {
    /// A message left.
    Sent {
        /// The message.
        message: Message,
        /// The frame it travels in.
        frame: u64,
    },
    /// A frame arrived and was read.
    Arrived {
        /// Which.
        frame: u64,
    },
    /// A frame did not, or could not be read.
    Lost {
        /// Which.
        frame: u64,
        /// Why.
        why: &'static str,
    },
    /// A node's role, term or known leader changed.
    Role {
        /// Where.
        node: NodeId,
        /// The role now.
        role: RoleKind,
        /// The term now.
        term: Term,
        /// The leader it knows.
        leader: Option<NodeId>,
    },
    /// A node's commit index rose.
    Committed {
        /// Where.
        node: NodeId,
        /// To this.
        index: Index,
    },
    /// A node's log became durable up to here.
    Durable {
        /// Where.
        node: NodeId,
        /// The last index.
        index: Index,
    },
    /// A node's process started.
    Started {
        /// Which.
        node: NodeId,
    },
    /// A node's process ended.
    Died {
        /// Which.
        node: NodeId,
    },
    /// Something else happened to a node: it gave up, truncated, was refused, its lease changed.
    Note {
        /// Where.
        node: NodeId,
        /// What.
        text: String,
    },
    /// Something was done to the world.
    Fault {
        /// To this node, if to one.
        node: Option<NodeId>,
        /// What.
        text: String,
    },
    /// A client did something, or was told something.
    Client {
        /// Which client.
        client: u64,
        /// At which node.
        node: NodeId,
        /// What.
        text: String,
    },
    /// A judge was not content.
    Broken {
        /// What it said.
        text: String,
    },
}

/// The record of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Everything, in order; empty unless it was asked for.
    pub moments: Vec<Moment>,
    /// Depends on everything that happened: equal for equal runs.
    pub hash: u64,
    on: bool,
}

impl Trace {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Mixes something that happened into the hash.
    pub(super) fn count(&mut self, what: u64) {
        self.hash = mix(self.hash, what);
    }

    /// Records what happened, if anybody wants to look.
    pub(super) fn record(&mut self, at: Instant, what: impl FnOnce() -> Scene) {
        if self.on {
            self.moments.push(Moment { at, what: what() });
        }
    }
}

impl Trace {
    /// What happened, a line each, as in the project's scenarios: messages as they are shown there, and what was done.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.moments.iter().map(|moment| format!("{:?} {:?}", moment.at, moment.what)).collect()
    }
}
