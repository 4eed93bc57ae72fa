//! Everything that one seed decides, as a value: what the cluster is like, what happens to it, what its clients do.
//!
//! A plan is all that a run needs: the same plan gives the same run. So a failing run is made short by leaving things out
//! of its plan (`shrink`).

use super::dice::Span;
use super::network::Weather;
use super::registers::Registers;
use super::snapshots::SnapshotPlan;
use crate::config::{CoreConfig, Limits, Timing};
use crate::core::Consistency;
use crate::time::Duration;

/// A run in advance.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Decides everything that is not said here: delays, losses, timeouts.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How many of them found the group, the first ones; the others may join it.
    pub founders: u64,
    /// How they are configured, but for their ids.
    pub core: CoreConfig,
    /// The network.
    pub weather: Weather,
    /// How long a sync takes.
    pub sync: Span,
    /// How long a call of a state machine takes.
    pub apply: Span,
    /// How long inputs of a node gather before they are handed in together.
    pub gather: Span,
    /// Snapshots of the state machines.
    pub snapshots: SnapshotPlan,
    /// By how much each node's clock is fast at first, in millionths.
    pub clocks: Vec<i64>,
    /// What happens, in any order.
    pub faults: Vec<Fault>,
    /// The clients.
    pub clients: ClientPlan,
    /// What they work on, if that is the simulator's own state machine: to be handed to `run` beside the plan.
    pub registers: Registers,
    /// Whether leases are judged although a clock is beyond the bound, where nothing is promised: for showing that the
    /// judge notices.
    pub judge_wild_clocks: bool,
    /// How long it lasts, until everything is healed.
    pub lasting: Duration,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientPlan {
    /// How many; each has one operation under way at a time.
    pub count: u64,
    /// How long each waits between two operations.
    pub think: Span,
    /// After this time a client does not wait any longer for an answer, which may still come.
    pub patience: Duration,
    /// How reads are asked for: one of these, by chance.
    pub reads: Vec<Consistency>,
    /// How many operations all of them begin at most.
    pub operations: u64,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// After so much time.
    pub at: Duration,
    /// What.
    pub strike: Strike,
    /// For how long, if it is something that lasts.
    pub lasting: Duration,
}

/// To whom something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This node.
    Node(u64),
    /// Whoever leads then; the node with this number if nobody does.
    Leader(u64),
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Strike {
    /// A process dies, and is back when the time is over.
    Crash {
        /// Whose.
        node: Target,
        /// The machine loses its power, and what was not synced is lost in part.
        power_lost: bool,
    },
    /// All processes die at once.
    CrashAll {
        /// As above.
        power_lost: bool,
    },
    /// The next leader to be elected dies soon after, and is back when the time is over.
    Ambush {
        /// So soon.
        after: Duration,
        /// As above.
        power_lost: bool,
    },
    /// A process is stopped.
    Pause {
        /// Whose.
        node: Target,
        /// The whole machine sleeps: its clock stands still, and it notices when it wakes up.
        asleep: bool,
    },
    /// Directed links carry nothing.
    Cut {
        /// Which.
        links: Vec<(u64, u64)>,
    },
    /// The leader is cut off from some of the others.
    CutLeader {
        /// From whom, as bits (bit 1 is node 1).
        from: u64,
        /// What it sends is lost.
        outgoing: bool,
        /// What is sent to it is lost.
        incoming: bool,
    },
    /// The network is like this for a while.
    Squall {
        /// Like this.
        weather: Weather,
    },
    /// Syncs of a node take longer.
    SlowDisk {
        /// Whose.
        node: Target,
        /// By so much.
        by: Duration,
    },
    /// No sync of a node ends.
    HangDisk {
        /// Whose.
        node: Target,
    },
    /// A call of a node's disk fails; its process is started anew when the time is over.
    FailDisk {
        /// Whose.
        node: Target,
        /// After so many calls that do not.
        skip: u64,
        /// The failed call has an effect all the same.
        takes_effect: bool,
    },
    /// A process dies while it writes or reads snapshots, made or received, and is back when the time is over.
    DieAtSnapshot {
        /// Whose.
        node: Target,
        /// After so many calls of its disk for snapshots from now on.
        after: u64,
        /// As above.
        power_lost: bool,
    },
    /// A clock runs at another rate from now on, for good.
    ClockRate {
        /// Whose.
        node: u64,
        /// By so many millionths faster than true time.
        rate_ppm: i64,
    },
    /// A clock jumps, and its node is told that it did.
    ClockJump {
        /// Whose.
        node: Target,
        /// Forward by so much, if at all.
        by: Duration,
    },
    /// A state machine does not come back.
    BlockMachine {
        /// Whose.
        node: Target,
    },
    /// A node is asked to change the members of the group.
    Change {
        /// Who is asked.
        node: Target,
        /// Who is to vote, as bits (bit 1 is node 1).
        voters: u64,
        /// Who is to learn, likewise; those who are to vote do not count.
        learners: u64,
        /// How long newcomers may take.
        patience: Duration,
    },
    /// A node is asked to hand leadership over.
    Transfer {
        /// Who is asked.
        node: Target,
        /// To whom; whoever is fittest if to nobody.
        to: Option<u64>,
    },
}

impl Plan {
    /// A healthy cluster with a few clients, for so long.
    #[must_use]
    pub fn quiet(seed: u64, nodes: u64, lasting: Duration) -> Self {
        let mut core = CoreConfig::new(crate::types::NodeId(1), super::node::GROUP, 0);
        (core.timing, core.limits, core.lease_reads) = (Timing::default(), Limits::default(), true);
        Self {
            seed,
            nodes,
            founders: nodes,
            core,
            weather: Weather::fair(),
            sync: Span::micros(100, 2000),
            apply: Span::exactly(Duration::ZERO),
            gather: Span::exactly(Duration::ZERO),
            snapshots: SnapshotPlan::default(),
            clocks: vec![0; nodes as usize],
            faults: Vec::new(),
            clients: ClientPlan {
                count: 2,
                think: Span::millis(100, 2000),
                patience: Duration::from_secs(5),
                reads: vec![Consistency::Linearizable, Consistency::Lease],
                operations: u64::MAX,
            },
            registers: Registers { keys: 4, reads_percent: 50, padding: 100, durable: false },
            judge_wild_clocks: false,
            lasting,
        }
    }

    /// Whether it can be run: its nodes exist, its clocks go forward.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=31).contains(&self.nodes) {
            return Err(format!("a world has 1 to 31 nodes, not {}", self.nodes));
        }
        if !(1..=self.nodes).contains(&self.founders) {
            return Err(format!("of {} nodes {} cannot found a group", self.nodes, self.founders));
        }
        if self.clocks.len() as u64 > self.nodes {
            return Err(format!("{} clocks for {} nodes", self.clocks.len(), self.nodes));
        }
        let known = |id: u64| (1..=self.nodes).contains(&id);
        let unknown = self.faults.iter().find(|fault| !fault.strike.nodes().into_iter().all(known));
        if let Some(fault) = unknown {
            return Err(format!("{fault:?} names a node that is not there"));
        }
        let rates = self.faults.iter().filter_map(|fault| match fault.strike {
            Strike::ClockRate { rate_ppm, .. } => Some(rate_ppm),
            _ => None,
        });
        match self.clocks.iter().copied().chain(rates).find(|rate| !(-900_000..=9_000_000).contains(rate)) {
            Some(rate) => Err(format!("a clock cannot be {rate} ppm fast, only -900,000 to 9,000,000")),
            None => Ok(()),
        }
    }
}

impl Strike {
    /// Every node that it names.
    fn nodes(&self) -> Vec<u64> {
        match self {
            Self::Crash { node, .. }
            | Self::Pause { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::HangDisk { node }
            | Self::FailDisk { node, .. }
            | Self::DieAtSnapshot { node, .. }
            | Self::ClockJump { node, .. }
            | Self::BlockMachine { node }
            | Self::Change { node, .. } => vec![node.id()],
            Self::Transfer { node, to } => to.iter().copied().chain([node.id()]).collect(),
            Self::Cut { links } => links.iter().flat_map(|(from, to)| [*from, *to]).collect(),
            Self::ClockRate { node, .. } => vec![*node],
            Self::CrashAll { .. } | Self::Ambush { .. } | Self::CutLeader { .. } | Self::Squall { .. } => Vec::new(),
        }
    }
}

impl Target {
    fn id(self) -> u64 {
        match self {
            Self::Node(id) | Self::Leader(id) => id,
        }
    }
}
