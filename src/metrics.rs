//! What a node has done, as plain numbers: take a snapshot with [`Node::metrics`](crate::runtime::Node::metrics) and
//! hand it to whatever collects metrics where you are. Everything counts up from the start of the node unless it says
//! "now".

use crate::runtime::driver::ShardCounters;
use crate::snapshot::ServeStats;
use crate::time::Duration;
use crate::transport::TransportStats;

/// One snapshot. The parts are taken one after the other, so sums across them may be off by what happened meanwhile.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NodeMetrics {
    /// Proposals, reads, messages and steps.
    pub shard: ShardCounters,
    /// The queue in front of the shard.
    pub inbox: InboxCounters,
    /// Who entered the shard, and how the timer woke.
    pub entering: EnteringCounters,
    /// Batches made durable.
    pub log: LogCounters,
    /// Commands applied, over all groups.
    pub apply: ApplyCounters,
    /// Reads answered without entering the shard, over all groups.
    pub reads: ReadCounters,
    /// Snapshots taken and installed, over all groups.
    pub snapshots: SnapshotCounters,
    /// Snapshots sent to other nodes.
    pub snapshots_served: ServeStats,
    /// What goes to and comes from the peers.
    pub transport: TransportStats,
}

/// The queue in front of the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxCounters {
    /// Proposals and reads refused with `Overloaded`, because too many were waiting.
    pub clients_refused: u64,
    /// Messages of peers dropped because too many were waiting.
    pub messages_dropped: u64,
    /// Inputs waiting now.
    pub waiting: usize,
}

/// Who entered the shard, and how the timer woke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnteringCounters {
    /// Rounds: times the shard's lock was held to drain the inbox.
    pub rounds: u64,
    /// Times a deadline came due.
    pub deadlines: u64,
    /// Times the timer's thread was woken to take over from somebody who had drained for long enough.
    pub relieved: u64,
}

/// Batches made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogCounters {
    /// Batches written, each followed by one sync. `writes / batches` is how many writes share a sync.
    pub batches: u64,
    /// Writes of all groups in them.
    pub writes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Payload bytes in them.
    pub bytes: u64,
    /// Syncs of the device that succeeded.
    pub syncs: u64,
    /// Time spent in them, successful or not.
    pub sync_time: Duration,
    /// The longest.
    pub longest_sync: Duration,
    /// Unsynced notes of how much is durable, written when idle.
    pub floors: u64,
    /// Whether the device has failed. Then nothing is acknowledged any more.
    pub failed: bool,
    /// Times the thread was woken from its sleep.
    pub wake_ups: u64,
}

/// Commands applied, over all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyCounters {
    /// Calls of state machines. `commands / batches` is how many commands a call takes.
    pub batches: u64,
    /// Commands applied.
    pub commands: u64,
    /// State machines that failed.
    pub failed: u64,
    /// Reads refused because too many waited for a state machine.
    pub reads_refused: u64,
    /// Times an apply thread was woken from its sleep.
    pub wake_ups: u64,
}

/// Reads answered without entering the shard, over all groups: on the caller's thread, at the cost of a look at the
/// clock. Those that had to ask the shard are in [`ShardCounters::reads`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadCounters {
    /// By the leader's lease, at once.
    pub lease: u64,
    /// By the leader's lease, once the state machine has caught up: handed to it, unless too many waited there.
    pub lease_waited: u64,
    /// With what this node had applied ([`Consistency::Local`](crate::runtime::Consistency::Local)).
    pub local: u64,
}

/// Snapshots of a group on this node, or of all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotCounters {
    /// Taken of the state machine here.
    pub taken: u64,
    /// Bytes of files in them.
    pub taken_bytes: u64,
    /// Attempts to take one that failed.
    pub failed: u64,
    /// Fetched from another node and restored here.
    pub installed: u64,
    /// Bytes of chunks that came in, used or not, also for transfers that failed or are under way.
    pub fetched_bytes: u64,
    /// Attempts to fetch one that failed. What came is used by the next.
    pub fetch_failed: u64,
}

impl std::ops::AddAssign for SnapshotCounters {
    fn add_assign(&mut self, other: Self) {
        let Self { taken, taken_bytes, failed, installed, fetched_bytes, fetch_failed } = other;
        self.taken += taken;
        self.taken_bytes += taken_bytes;
        self.failed += failed;
        self.installed += installed;
        self.fetched_bytes += fetched_bytes;
        self.fetch_failed += fetch_failed;
    }
}

impl std::ops::AddAssign for ApplyCounters {
    fn add_assign(&mut self, other: Self) {
        let Self { batches, commands, failed, reads_refused, wake_ups } = other;
        self.batches += batches;
        self.commands += commands;
        self.failed += failed;
        self.reads_refused += reads_refused;
        self.wake_ups += wake_ups;
    }
}
