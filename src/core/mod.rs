//! The protocol as a value (skeleton, being filled).
mod effects;
pub use effects::*;

use crate::config::{ConfigError, CoreConfig};
use crate::log::{HardState, Log};
use crate::quorum::Configuration;
use crate::time::Instant;
use crate::types::{EntryId, Index, NodeId, Term};

/// What a node knows of a group when it starts it.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Term, vote and longest promise.
    pub hard_state: HardState,
    /// The log as it is on disk: every entry in it is durable.
    pub log: Log,
    /// Every configuration in the log, oldest first, each with its index.
    pub configurations: Vec<(Index, Configuration)>,
    /// The last index the state machine has applied.
    pub applied: Index,
    /// A group founded just now, here: no promise can have been forgotten (rule `p06`).
    pub founded_now: bool,
}

/// A group cannot be started from what was restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A knob is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state machine has applied more than the log holds.
    #[error("the state machine has applied {applied}, but the log ends at {last}: the log was lost or is another's")]
    AppliedBeyondLog {
        /// What the state machine says.
        applied: Index,
        /// The last entry of the log.
        last: EntryId,
    },
    /// The log holds no configuration.
    #[error("the log holds no configuration: the group was never founded here")]
    NoConfiguration,
    /// The log holds a term above the hard state's.
    #[error("the log holds {last}, but the newest term on disk is {term}: the hard state was lost")]
    TermBehindLog {
        /// The last entry of the log.
        last: EntryId,
        /// The hard state's term.
        term: Term,
    },
}

/// A snapshot of what a core knows, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreStatus {
    /// This node.
    pub id: NodeId,
    /// Its role.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: EntryId,
    /// The last index durable here.
    pub durable: Index,
    /// The commit index it knows.
    pub commit: Index,
    /// The last index applied here.
    pub applied: Index,
    /// The configuration in use: the latest in the log.
    pub configuration: Configuration,
    /// The peers, if it leads: (node, match index).
    pub peers: Vec<(NodeId, Index)>,
    /// Why the group stopped here, if it did.
    pub stopped: Option<Fatal>,
    /// Counts since start.
    pub counters: Counters,
}

/// One node's part in one group.
#[derive(Clone)]
pub struct Core {}

impl Core {
    /// Starts as a follower from what the disk holds (row `o01`). Drain `out` as after a step.
    ///
    /// # Errors
    /// [`StartError`]: nothing was started; see each variant for what to do.
    pub fn new(_config: CoreConfig, _restored: Restored, _now: Instant, _out: &mut Output) -> Result<Self, StartError> {
        todo!()
    }

    /// Takes one input at `now`, sampled after the previous step returned (rule `p00`), and adds what follows to `out`.
    pub fn step(&mut self, _now: Instant, _input: Input, _out: &mut Output) {
        todo!()
    }

    /// When to step with [`Input::Deadline`] next, if nothing else comes first. `None`: not before another input.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// What it knows.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        todo!()
    }
}
