//! How often what happened: a run that never truncates proves nothing about truncation.

use std::ops::AddAssign;

use crate::time::Duration;

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts over a run, or over many. The names are those that are printed.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Tally {
            /// Every count with its name, in the order of the fields.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

tally! {
    /// Runs.
    runs,
    /// Simulated time, in ms.
    simulated_ms,
    /// Events of all kinds.
    events,
    /// Frames sent.
    frames,
    /// Messages in them.
    messages,
    /// Payload bytes of the entries in them.
    payload_bytes,
    /// Frames lost by chance.
    lost,
    /// Frames that a cut link swallowed.
    cut,
    /// Frames that came twice.
    duplicated,
    /// Frames that overtook others.
    reordered,
    /// Frames that came late.
    straggled,
    /// Frames with a flipped bit.
    flipped,
    /// Faults: processes killed.
    crashes,
    /// Processes killed with writes that were not synced.
    crashes_in_a_sync,
    /// Processes killed again within an election timeout of their start.
    crashes_in_a_row,
    /// Leaders killed soon after their election.
    ambushes,
    /// Processes stopped for a while.
    pauses,
    /// Of these, with the whole machine asleep.
    suspends,
    /// Leaders cut off from some of the others.
    leaders_cut_off,
    /// Links cut one way.
    one_ways,
    /// Several links cut at once: between two sides, or any.
    graphs,
    /// Times of worse weather.
    squalls,
    /// Syncs that took long.
    slow_syncs,
    /// Disks that did not answer for a while.
    hung_disks,
    /// Calls of a disk that failed.
    disk_errors,
    /// Nodes whose log failed.
    failed_logs,
    /// Processes killed while they wrote or read snapshots.
    deaths_at_snapshots,
    /// Connections for snapshots that broke on the way.
    broken_transfers,
    /// Clocks set to another rate.
    clock_changes,
    /// Jumps of a clock that the node was told of.
    clock_jumps,
    /// State machines that did not come back for a while.
    blocked_machines,
    /// Transfers of leadership asked for.
    transfers,
    /// Changes of members asked for.
    changes,
    /// Reached: of these, completed as asked.
    changed,
    /// Configurations that a node began to use.
    configurations,
    /// Of these, joint.
    joint,
    /// Nodes that learned that they are no members any more.
    removals,
    /// Leaders elected.
    leaders,
    /// Terms in which somebody stood and nobody won.
    lost_elections,
    /// Terms in which more than one stood.
    contested_terms,
    /// Ends of logs replaced.
    truncations,
    /// Leaders that gave up, for whatever reason.
    abdications,
    /// Because they were asked to.
    handed_over,
    /// Because no quorum answered.
    quorum_lost,
    /// Because their disk hung.
    disk_stalled,
    /// Starts with writes on disk that had never been synced.
    unsynced_survived,
    /// Torn ends of logs cut at a start.
    torn_tails,
    /// Entries applied, at all nodes.
    applied,
    /// Entries read back from a log for a peer or a state machine.
    loads,
    /// Snapshots of a state machine that were taken, and are durable.
    snapshots_taken,
    /// Times that a node was offered one, and needed it.
    snapshots_offered,
    /// Transfers begun.
    fetches,
    /// Transfers that went on where an earlier connection, or process, had ended.
    fetches_resumed,
    /// Bytes of snapshots that were there already and not sent again.
    bytes_reused,
    /// Snapshots of other nodes that are complete and durable.
    snapshots_fetched,
    /// State machines replaced by them.
    snapshots_installed,
    /// Snapshots that came when the state machine was already further.
    snapshots_overtaken,
    /// Installations that a start completed.
    installations_completed,
    /// State machines restored at a start.
    restored_at_start,
    /// Snapshots not taken, or not fetched to the end.
    snapshots_failed,
    /// Logs that gave up their front.
    compactions,
    /// Bytes of logs copied forward so that segments could be given back.
    tidied_bytes,
    /// Leases told to the threads beside the shard, renewals included.
    leases_published,
    /// Clients: operations begun.
    operations,
    /// Answered.
    acknowledged,
    /// Certainly not done.
    refused,
    /// Nobody knows.
    unknown,
    /// Reads that a published lease answered without the shard.
    lease_reads,
    /// All reads that asked for a lease and were answered, by one or by a quorum.
    reads_by_lease_or_quorum,
    /// Reads confirmed by a quorum.
    quorum_reads,
    /// Reads of bounded staleness.
    bounded_reads,
    /// Histories (one per key) checked for linearizability.
    histories,
    /// Of these, given up because they were too hard.
    undecided,
    /// Times that everything was healed and a leader was waited for.
    heals,
    /// The longest of these waits, in ms; in a sum over runs their sum.
    heal_ms,
}

impl Tally {
    /// The simulated time.
    #[must_use]
    pub fn simulated(&self) -> Duration {
        Duration::from_millis(self.simulated_ms)
    }
}
