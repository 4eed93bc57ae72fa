//! Every knob of the protocol: its unit, default, reason and bounds.
//!
//! The knobs of the runtime (directories, addresses, queues) are in `runtime::NodeConfig`.

use crate::time::Duration;
use crate::types::{GroupId, NodeId};

/// The timers of the protocol, the margins of the lease and the limits on a request and on the disk.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Timing {
    /// How often an idle leader writes to each peer. Default 100 ms (row `l05`); at most
    /// `election_timeout_min / 2`, and better at most a quarter of it.
    pub heartbeat_interval: Duration,
    /// `E`: the smallest election timeout and the length of a promise. Default 1 s, at least 10 ms.
    pub election_timeout_min: Duration,
    /// The election timer is drawn from `election_timeout_min..election_timeout_max`. Default `2 E`.
    pub election_timeout_max: Duration,
    /// How long a pre-vote round may take (row `o08`). Default `E / 2`.
    pub pre_vote_timeout: Duration,
    /// How long a vote round may take (row `o15`). Default `E / 2`.
    pub vote_timeout: Duration,
    /// An append unanswered for this long puts its peer back to probing (row `l17`). Default `E / 3`, below `E`.
    pub rpc_timeout: Duration,
    /// `rho`: how far the rate of a clock may be off, in millionths. Default 10,000 (1 %; disciplined clocks stay below
    /// 500), at most 100,000. Equal on all nodes. A lease is trusted for `1 - 2 rho` of a promise (rule `p05`).
    pub clock_drift_ppm: u32,
    /// `g`: by so much a lease ends before its promises do (rule `p05`). Default 5 ms, at most `E / 4`.
    pub lease_guard: Duration,
    /// A write that takes longer than this costs a leader its role and keeps a follower from standing (rule `p11`).
    /// Default `2 E`, at least a heartbeat.
    pub disk_stall_limit: Duration,
}

impl Timing {
    /// All timers in the default proportions to `E`, the smallest election timeout; the heartbeat is `E / 10`,
    /// at most 100 ms.
    #[must_use]
    pub fn from_election_timeout(e: Duration) -> Self {
        Self {
            heartbeat_interval: (e / 10).min(Duration::from_millis(100)),
            election_timeout_min: e,
            election_timeout_max: e * 2,
            pre_vote_timeout: e / 2,
            vote_timeout: e / 2,
            rpc_timeout: e / 3,
            clock_drift_ppm: 10_000,
            lease_guard: Duration::from_millis(5).min(e / 4),
            disk_stall_limit: e * 2,
        }
    }

    /// `E`, the length of a promise.
    #[must_use]
    pub fn promise(&self) -> Duration {
        self.election_timeout_min
    }
}

/// How much a voter wants to lead. It acts through timeouts alone (see [`Rank`](crate::message::Rank)): among voters that
/// are fit the one with the highest priority stands first, so a preferred zone leads when it can; it neither helps a
/// voter whose log is behind nor stops the only one that is fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub enum Priority {
    /// Leads if nobody else stands.
    Low,
    /// As good as any.
    #[default]
    Normal,
    /// Stands first.
    High,
}

impl Default for Timing {
    fn default() -> Self {
        Self::from_election_timeout(Duration::from_secs(1))
    }
}

/// What bounds memory: every queue, cache and window of a group.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest command, in bytes. Default 1 MiB. A longer proposal is refused with `TooLarge`.
    pub command_bytes: usize,
    /// Payload bytes in one AppendEntries; one entry always fits. Default 512 KiB.
    pub append_bytes: usize,
    /// Entries in one AppendEntries. Default 4096.
    pub append_entries: usize,
    /// Payload bytes on their way to one peer, unanswered. Default 4 MiB.
    pub window_bytes: usize,
    /// Entries on their way to one peer, unanswered. Default 16384.
    pub window_entries: usize,
    /// Bytes of memory that a leader's uncommitted entries take; over it proposals are refused with `Overloaded`. A
    /// follower whose disk is so far behind takes no more entries. Default 64 MiB.
    pub uncommitted_bytes: usize,
    /// Entries that a leader holds uncommitted. Default 65536.
    pub uncommitted_entries: usize,
    /// Entries that stay in the log behind a snapshot, for peers that are a little behind: who needs older ones gets the
    /// snapshot. Default 10000; 0 keeps none. A log that has become too long keeps none.
    pub retained_entries: usize,
    /// Entries that a leader keeps behind a snapshot, at most, for peers that answer but are further behind, or are fetching
    /// a snapshot: without them a fast group's peer would need the next snapshot when it has installed one. On disk, not in
    /// memory. Default 1000000; 0 keeps none.
    pub retained_for_peers: usize,
    /// Bytes of memory of entries handed to the state machine and not yet reported as applied. Default 16 MiB.
    pub apply_bytes: usize,
    /// Bytes of memory for the log's tail. Default 16 MiB.
    pub cache_bytes: usize,
    /// Reads waiting for their leadership to be confirmed. Default 65536.
    pub waiting_reads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_bytes: 1 << 20,
            append_bytes: 512 << 10,
            append_entries: 4096,
            window_bytes: 4 << 20,
            window_entries: 16_384,
            uncommitted_bytes: 64 << 20,
            uncommitted_entries: 65_536,
            retained_entries: 10_000,
            retained_for_peers: 1_000_000,
            apply_bytes: 16 << 20,
            cache_bytes: 16 << 20,
            waiting_reads: 65_536,
        }
    }
}

/// What a [`Core`](crate::core::Core) needs to know about itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CoreConfig {
    /// This node.
    pub id: NodeId,
    /// The group whose member it is.
    pub group: GroupId,
    /// Timers.
    pub timing: Timing,
    /// Bounds on memory.
    pub limits: Limits,
    /// How much this node wants to lead. Default [`Priority::Normal`].
    pub priority: Priority,
    /// Whether reads may rely on a leader's lease, that is on clocks whose rates are within `clock_drift_ppm`. Default
    /// no: such reads are confirmed by a quorum instead.
    pub lease_reads: bool,
    /// Whether a leader ranks its followers, so that the fittest one stands first when the leader falls silent. Default
    /// yes; without it every follower draws a random timeout. Safety never depends on it.
    pub succession: bool,
    /// Seed of the core's own generator, mixed with `id`: entropy in production, a fixed number in tests.
    pub seed: u64,
}

impl CoreConfig {
    /// The defaults for node `id` of `group`.
    #[must_use]
    pub fn new(id: NodeId, group: GroupId, seed: u64) -> Self {
        Self {
            id,
            group,
            timing: Timing::default(),
            limits: Limits::default(),
            priority: Priority::default(),
            lease_reads: false,
            succession: true,
            seed,
        }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`ConfigError`] names the first knob that is out of bounds and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Timing {
            heartbeat_interval: heartbeat,
            election_timeout_min: min,
            election_timeout_max: max,
            pre_vote_timeout,
            vote_timeout,
            rpc_timeout,
            clock_drift_ppm,
            lease_guard,
            disk_stall_limit,
        } = self.timing;
        let require = |holds: bool, knob: &'static str, rule: &'static str| {
            if holds { Ok(()) } else { Err(ConfigError { knob, rule }) }
        };
        require(self.id != NodeId(0), "id", "must not be 0")?;
        require(min >= Duration::from_millis(10), "election_timeout_min", "must be at least 10 ms")?;
        require(max <= Duration::from_secs(3600), "election_timeout_max", "must be at most an hour")?;
        require(max > min, "election_timeout_max", "must be above election_timeout_min, or timers fire together")?;
        require(!heartbeat.is_zero(), "heartbeat_interval", "must not be 0")?;
        require(heartbeat <= min / 2, "heartbeat_interval", "must be at most half of election_timeout_min")?;
        require(!pre_vote_timeout.is_zero(), "pre_vote_timeout", "must not be 0")?;
        require(!vote_timeout.is_zero(), "vote_timeout", "must not be 0")?;
        require(!rpc_timeout.is_zero() && rpc_timeout < min, "rpc_timeout", "must be below election_timeout_min")?;
        require(clock_drift_ppm <= 100_000, "clock_drift_ppm", "must be at most 100000, a tenth")?;
        require(lease_guard <= min / 4, "lease_guard", "must be at most a quarter of election_timeout_min")?;
        require(disk_stall_limit >= heartbeat, "disk_stall_limit", "must be at least heartbeat_interval")?;
        let limits = &self.limits;
        for (value, knob) in [
            (limits.command_bytes, "command_bytes"),
            (limits.append_bytes, "append_bytes"),
            (limits.append_entries, "append_entries"),
            (limits.window_bytes, "window_bytes"),
            (limits.window_entries, "window_entries"),
            (limits.uncommitted_bytes, "uncommitted_bytes"),
            (limits.uncommitted_entries, "uncommitted_entries"),
            (limits.apply_bytes, "apply_bytes"),
            (limits.waiting_reads, "waiting_reads"),
        ] {
            require(value > 0, knob, "must not be 0")?;
        }
        require(limits.command_bytes <= 64 << 20, "command_bytes", "must be at most 64 MiB")?;
        require(limits.append_bytes <= 64 << 20, "append_bytes", "must be at most 64 MiB")?;
        require(limits.append_entries <= 1 << 20, "append_entries", "must be at most 1048576")
    }

    /// What is legal but unwise, as sentences for the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let timing = &self.timing;
        let mut warnings = Vec::new();
        if timing.heartbeat_interval > timing.election_timeout_min / 4 {
            warnings.push(
                "heartbeat_interval is above a quarter of election_timeout_min: one lost message may cost an election",
            );
        }
        warnings
    }
}

/// A knob out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {knob} {rule}")]
pub struct ConfigError {
    /// The knob's name.
    pub knob: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut CoreConfig)) -> CoreConfig {
        let mut config = CoreConfig::new(NodeId(1), GroupId(1), 0);
        change(&mut config);
        config
    }

    /// `l06`: the defaults, and the bounds that keep them sane.
    #[test]
    fn l06_defaults_are_valid_and_bounds_are_named() {
        assert_eq!(config(|_| ()).validate(), Ok(()));
        let timing = Timing::default();
        assert_eq!(timing.heartbeat_interval, Duration::from_millis(100));
        assert_eq!(timing.election_timeout_max, timing.election_timeout_min * 2);
        assert_eq!(timing.vote_timeout, Duration::from_millis(500));

        let slow_heart = config(|c| c.timing.heartbeat_interval = Duration::from_millis(501));
        assert_eq!(slow_heart.validate().unwrap_err().knob, "heartbeat_interval");
        let no_spread = config(|c| c.timing.election_timeout_max = c.timing.election_timeout_min);
        assert_eq!(no_spread.validate().unwrap_err().knob, "election_timeout_max");
        let long_rpc = config(|c| c.timing.rpc_timeout = c.timing.election_timeout_min);
        assert_eq!(long_rpc.validate().unwrap_err().knob, "rpc_timeout");
        let wild_clock = config(|c| c.timing.clock_drift_ppm = 100_001);
        assert_eq!(wild_clock.validate().unwrap_err().knob, "clock_drift_ppm");
        let wide_guard = config(|c| c.timing.lease_guard = Duration::from_millis(251));
        assert_eq!(wide_guard.validate().unwrap_err().knob, "lease_guard");
        let hasty_stall = config(|c| c.timing.disk_stall_limit = Duration::from_millis(99));
        assert_eq!(hasty_stall.validate().unwrap_err().knob, "disk_stall_limit");
        assert_eq!(config(|c| c.limits.window_bytes = 0).validate().unwrap_err().knob, "window_bytes");
    }

    /// `l06`, `l30`: a heartbeat between E/4 and E/2 is legal and warned about.
    #[test]
    fn l06_heartbeat_above_a_quarter_is_warned_about() {
        let brisk = config(|c| c.timing.heartbeat_interval = Duration::from_millis(300));
        assert_eq!(brisk.validate(), Ok(()));
        assert_eq!(brisk.warnings().len(), 1);
        assert!(config(|_| ()).warnings().is_empty());
    }
}
