//! What happened in a run: always as a hash, and in full when somebody wants to look.

use super::judges::mix;
use super::story;
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
    /// A node's process started, as a follower.
    Started {
        /// Which.
        node: NodeId,
        /// The term it remembers.
        term: Term,
    },
    /// A node's process ended.
    Died {
        /// Which.
        node: NodeId,
    },
    /// A node's process stands still: it is stopped, or the whole machine sleeps.
    Paused {
        /// Which.
        node: NodeId,
        /// It sleeps, and will notice.
        asleep: bool,
    },
    /// It goes on.
    Resumed {
        /// Which.
        node: NodeId,
    },
    /// Something else happened to a node: it gave up, truncated, was refused, its log failed.
    Note {
        /// Where.
        node: NodeId,
        /// What, as it stands behind the node's name.
        text: String,
    },
    /// A node did something with snapshots.
    Snapshot {
        /// Which node.
        node: NodeId,
        /// What, as it stands behind the node's name.
        text: String,
    },
    /// Something was done to the world.
    Fault {
        /// To this node, if to one.
        node: Option<NodeId>,
        /// What, as it stands behind the node's name if there is one.
        text: String,
        /// When it will be over, if it is something that lasts.
        until: Option<Instant>,
    },
    /// Whatever was done to the world is over now.
    Healed,
    /// A client asked for something.
    Asked {
        /// Which client.
        client: u64,
        /// Which node it asked.
        node: NodeId,
        /// For what.
        text: String,
    },
    /// A client was told something, or waits no longer.
    Told {
        /// Which client.
        client: u64,
        /// What, as it stands behind "client 1".
        text: String,
        /// What it knows now.
        outcome: Answer,
    },
    /// A judge was not content.
    Broken {
        /// Where, if it was in one place.
        node: Option<NodeId>,
        /// Which judge, and what it said.
        text: String,
    },
}

/// What a client knows of what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It has certainly had no effect.
    Refused,
    /// It may have had an effect, or may yet.
    Unknown,
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

    /// What was done to the world since there were `before` moments will be over at `until`.
    pub(super) fn lasts(&mut self, before: usize, until: Instant) {
        for moment in self.moments.iter_mut().skip(before) {
            if let Scene::Fault { until: end, .. } = &mut moment.what {
                end.get_or_insert(until);
            }
        }
    }

    /// What happened, a line each, in the [notation](super::notation) of the project's scenarios: the milliseconds since
    /// the beginning, who, what. A message's line says what became of it.
    #[must_use]
    pub fn lines(&self, detail: Detail) -> Vec<String> {
        let lines = story::lines(self).into_iter();
        lines.filter(|line| detail == Detail::Everything || !line.repeats).map(|line| line.in_full()).collect()
    }
}

/// How much of a run is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Whatever says something new.
    #[default]
    News,
    /// Heartbeats that say again what the one before said, and the answers to them, too.
    Everything,
}
