//! What goes into a [`Core`](super::Core) and what comes out.

use bytes::Bytes;
use std::fmt;

use crate::log::{Entry, Write};
use crate::message::{AppendEntries, Body, Message, Refusal};
use crate::quorum::Configuration;
use crate::time::{Duration, Instant};
use crate::types::{EntryId, Index, NodeId, Term, WriteSeq};

/// One thing that happened, for [`Core::step`](super::Core::step).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// A message came in.
    Received(Message),
    /// The time of [`Core::next_deadline`](super::Core::next_deadline) has come. Too early does no harm.
    Deadline,
    /// Append these commands, in order. The answer is in [`Output::proposed`] after the step.
    Propose(Vec<Bytes>),
    /// Find out up to where a read must wait. The answer comes in [`Output::reads`], now or later.
    Read(ReadId, Consistency),
    /// Hand leadership to this voter, or to the fittest one (rule `p09`). The answer comes in [`Output::transfers`], now
    /// or within an election timeout.
    Transfer(TransferId, Option<NodeId>),
    /// Change the members of the group (dissertation chapter 4). The answer comes in [`Output::changes`], now or later.
    Change(ChangeId, Change),
    /// A snapshot of the state machine up to this entry, which it has applied, is durable here and can be fetched. The log
    /// before it is given up, as far as peers are not likely to need it.
    SnapshotTaken(EntryId),
    /// The log takes too much room: everything that the newest snapshot covers is given up, whoever may need it. Peers that
    /// are behind that get the snapshot.
    LogTooLong,
    /// A snapshot that another node made is durable here, and the state machine was replaced by it: the answer to
    /// [`Output::install`].
    SnapshotInstalled {
        /// The last entry whose effect is in it.
        last: EntryId,
        /// The configuration in use as of that entry, and where it stands.
        configuration: (Index, Configuration),
    },
    /// The clock jumped or the machine slept (rule `p16`). Leases are earned anew, promises run longer.
    ClockJumped,
    /// This write and every earlier one is durable.
    Durable(WriteSeq),
    /// The log's device failed: nothing more becomes durable. The group stops.
    WriteFailed,
    /// The state machine failed: nothing more is applied. The group stops.
    ApplyFailed,
    /// The state machine has applied up to here.
    Applied(Index),
    /// Entries asked for with [`Output::loads`].
    Loaded {
        /// The request being answered.
        load: Load,
        /// Entries from `load.first` on: at least one, at most what was asked for. `None`: they cannot be read.
        entries: Option<Vec<Entry>>,
    },
}

/// Names a read; chosen by the caller, unique while the read is waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// How fresh a read must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[non_exhaustive]
pub enum Consistency {
    /// Everything that was acknowledged anywhere before the read was asked for is seen (dissertation §6.4). Costs the
    /// leader one round to a quorum, shared by all reads that wait; a follower asks its leader. Needs no clock.
    #[default]
    Linearizable,
    /// As fresh, without asking anybody while the leader holds a lease (rule `p07`); otherwise, or if the group was not
    /// opened with lease reads, confirmed like [`Linearizable`](Self::Linearizable). Sees the same as long as the rates
    /// of all clocks are within [`clock_drift_ppm`](crate::config::Timing::clock_drift_ppm).
    Lease,
    /// Everything that was acknowledged anywhere longer than this before the read was asked for is seen. Answered by
    /// this node alone if it has heard enough, which on an idle group takes about three heartbeat intervals; otherwise
    /// like [`Linearizable`](Self::Linearizable). Compares no clocks.
    Follower(Duration),
    /// Whatever this node has applied, however old.
    Local,
}

/// Names a transfer of leadership; chosen by the caller, unique while it is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct TransferId(pub u64);

/// A transfer's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferAnswer {
    /// Which transfer.
    pub id: TransferId,
    /// Who was told to take over: it has the whole log, and it stands at once. Or why this node still leads, or never did.
    pub result: Result<NodeId, TransferError>,
}

/// Leadership was not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// This node does not lead. Ask the leader, if one is known.
    #[error("not the leader{}", Hint(*leader))]
    NotLeader {
        /// The leader this node follows.
        leader: Option<NodeId>,
    },
    /// Another transfer is open. It ends within an election timeout; ask again then.
    #[error("another transfer is open; it ends within an election timeout")]
    InProgress,
    /// The target is no voter of the group. Choose a voter.
    #[error("{0} is no voter of the group")]
    NotAVoter(NodeId),
    /// There is no other voter.
    #[error("there is no other voter to hand over to")]
    NoOtherVoter,
    /// The target did not catch up and answer within an election timeout. This node leads on; see whether the target is
    /// up, then ask again.
    #[error("the target did not catch up within an election timeout; this node leads on")]
    TimedOut,
    /// This node stopped leading before the target was ready. Ask the new leader, if that is still wanted.
    #[error("leadership was lost before the target was ready")]
    LeadershipLost,
    /// This group has stopped on this node.
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
}

/// Names a change of members; chosen by the caller, unique while it is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct ChangeId(pub u64);

/// What a group is to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where the configuration stands that the caller has seen ([`CoreStatus::configuration_index`]): if another is in use
    /// by now nothing is changed, so two administrators cannot undo each other's work. `None`: whatever is in use.
    ///
    /// [`CoreStatus::configuration_index`]: super::CoreStatus::configuration_index
    pub expected: Option<Index>,
    /// The members in the end; not joint.
    pub to: Configuration,
    /// How long new voters may take to catch up, as learners, before the change is given up.
    pub patience: Duration,
}

/// A change's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangeAnswer {
    /// Which change.
    pub id: ChangeId,
    /// Where the new configuration stands: it is committed. Or why it is not, as far as this node knows.
    pub result: Result<Index, ChangeError>,
}

/// The members were not changed, or not to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// This node does not lead. Ask the leader, if one is known.
    #[error("not the leader{}", Hint(*leader))]
    NotLeader {
        /// The leader this node follows.
        leader: Option<NodeId>,
    },
    /// Another change is under way, perhaps one that an earlier leader began. Wait until it is over and ask again.
    #[error("another change of members is under way")]
    InProgress,
    /// The configuration in use is not the one that was expected. Look at it, and ask again if that is still wanted.
    #[error("the members were changed meanwhile: the configuration in use stands at {in_use}")]
    Changed {
        /// Where it stands.
        in_use: Index,
    },
    /// The target is a joint configuration. Say which voters there are to be in the end.
    #[error("the target is a joint configuration")]
    Joint,
    /// On the way, with those who come and those who go, there would be so many members. Change fewer at a time.
    #[error("on the way there would be {0} members, {max} are allowed: change fewer at a time", max = Configuration::MAX_MEMBERS)]
    TooManyMembers(usize),
    /// The group was recovered without this node after its quorum was lost, and listens to it no more. Found a fresh directory
    /// under a node id that was never used, and add that one.
    #[error("{0} is barred since the group was recovered without it; add a fresh node under an id that was never used")]
    Barred(NodeId),
    /// Leadership is being handed over, which ends within an election timeout. Ask the successor.
    #[error("leadership is being handed over; ask the next leader")]
    Transferring,
    /// This leader has not committed anything in its term yet. Ask again shortly.
    #[error("this leader has not committed anything in its term yet; ask again shortly")]
    NotReady,
    /// A new voter did not catch up in time. The voters are as they were; newcomers stay learners. See whether the node is
    /// up and can be reached, then ask again, or remove it.
    #[error("{behind} did not catch up in time: the voters are as they were, newcomers stay learners")]
    TimedOut {
        /// Who was behind.
        behind: NodeId,
    },
    /// Leadership was lost on the way: the change may be completed or not. Look at the configuration of the next leader.
    #[error("leadership was lost; the change may be completed or not")]
    LeadershipLost,
    /// This group has stopped on this node: the change may be completed or not.
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
}

/// A lease, as threads beside the core may use it (rule `p07`): load the epoch and `read_index`, *then* look at the
/// clock, then see that it is before `until` and the epoch still the same; wait until `read_index` is applied; read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Changes whenever a lease is revoked.
    pub epoch: u64,
    /// The commit index.
    pub read_index: Index,
    /// The lease ends here, at most an election timeout from now.
    pub until: Instant,
}

/// A request for entries that the core no longer has in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Load {
    /// What they are for.
    pub purpose: LoadPurpose,
    /// The term in which they were asked for; an answer in another term is ignored.
    pub term: Term,
    /// The first index wanted.
    pub first: Index,
    /// The last index wanted (inclusive).
    pub last: Index,
    /// Stop before exceeding this many payload bytes, but bring at least one entry.
    pub max_bytes: usize,
}

/// What loaded entries are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LoadPurpose {
    /// To send to this peer.
    Peer(NodeId),
    /// To hand to the state machine.
    Apply,
}

/// Everything a core wants done. Reused from step to step: take what is in it, then step again.
///
/// Steps add to what is still there: a buffer that is drained after many steps carries fewer, larger messages.
/// **Messages may leave at once, in any order, or be lost**; what must wait for the disk is not in here yet.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent.
    pub messages: Vec<Message>,
    /// To be made durable, in this order; then [`Input::Durable`].
    pub writes: Vec<Write>,
    /// Committed and durable here: to be applied, in this order; then [`Input::Applied`].
    pub apply: Vec<Entry>,
    /// Reads that are answered.
    pub reads: Vec<ReadAnswer>,
    /// Transfers of leadership that are answered.
    pub transfers: Vec<TransferAnswer>,
    /// Changes of members that are answered.
    pub changes: Vec<ChangeAnswer>,
    /// A snapshot to fetch and to replace the state machine by; then [`Input::SnapshotInstalled`]. Asked for again and
    /// again until it is there, or something newer: one that is being fetched may be finished first.
    pub install: Option<Install>,
    /// Entries to read from the log's store; then [`Input::Loaded`].
    pub loads: Vec<Load>,
    /// What an observer wants to know.
    pub events: Vec<Event>,
    /// The answer to [`Input::Propose`], set by that step and no other. Take it after each `Propose`.
    pub proposed: Option<Proposed>,
}

impl Output {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.writes.is_empty()
            && self.apply.is_empty()
            && self.reads.is_empty()
            && self.transfers.is_empty()
            && self.changes.is_empty()
            && self.install.is_none()
            && self.loads.is_empty()
            && self.events.is_empty()
            && self.proposed.is_none()
    }
}

/// A snapshot that this node lacks (row `r03`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Install {
    /// Who has one.
    pub from: NodeId,
    /// The entry that it reaches up to at least.
    pub last: EntryId,
}

/// What became of a batch of proposals: the first `accepted` are in the log, the others certainly are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// Id of the first accepted command; the others follow without a gap. Meaningless if `accepted` is 0.
    pub first: EntryId,
    /// How many were appended.
    pub accepted: usize,
    /// Why the rest was not, if there is a rest.
    pub refused: Option<ProposeError>,
}

/// The proposal was not appended: it is certainly not committed and never will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// This node does not lead. Try the leader, if one is known; else try again after an election timeout.
    #[error("not the leader{}", Hint(*leader))]
    NotLeader {
        /// The leader this node follows.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over, which ends within an election timeout. Propose to the successor, or here again.
    #[error("leadership is being handed over; propose again shortly")]
    Transferring,
    /// Too much is waiting to be committed. Try again later, with less at once.
    #[error("overloaded: too many uncommitted entries or bytes; try again later")]
    Overloaded,
    /// The command is longer than `limits.command_bytes`.
    #[error("the command has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// This group has stopped on this node; see [`Fatal`].
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
}

/// A read's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadAnswer {
    /// Which read.
    pub id: ReadId,
    /// Read once the state machine has applied this index, or the reason why not.
    pub result: Result<Index, ReadError>,
}

/// The read was not confirmed; nothing was read, it may be asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This node does not lead, or stopped leading before a quorum confirmed it.
    #[error("not the leader{}", Hint(*leader))]
    NotLeader {
        /// The leader this node follows.
        leader: Option<NodeId>,
    },
    /// Too many reads are waiting.
    #[error("overloaded: too many reads are waiting; try again later")]
    Overloaded,
    /// This group has stopped on this node.
    #[error("the group has stopped on this node: {0}")]
    Stopped(Fatal),
}

struct Hint(Option<NodeId>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(leader) => write!(f, ", {leader} is"),
            None => f.write_str(", none is known"),
        }
    }
}

/// The role of a node in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum RoleKind {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// Something an observer wants to know; never needed for correctness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The role, term or known leader changed.
    Role {
        /// The role now.
        role: RoleKind,
        /// The term now.
        term: Term,
        /// The leader now known.
        leader: Option<NodeId>,
    },
    /// A vote or pre-vote was refused to this node.
    Refused {
        /// By whom.
        by: NodeId,
        /// Why.
        reason: Refusal,
    },
    /// Entries from here on were removed, because a leader has others there.
    Truncated {
        /// The first removed index.
        from: Index,
    },
    /// A peer's log is shorter than what it had acknowledged: its disk lost its tail (row `s05`).
    TailLost {
        /// The peer.
        peer: NodeId,
        /// What it had acknowledged.
        matched: Index,
        /// The last entry it has now.
        last: Index,
    },
    /// This node gave up the leadership of its term for good (rule `p09`).
    Abdicated {
        /// Who was told to take over.
        successor: Option<NodeId>,
        /// Why.
        why: Abdication,
    },
    /// The configuration in use is another one: it was appended, or the one after it truncated.
    Configuration {
        /// Where it stands.
        index: Index,
    },
    /// This node is no member of the group any more: that is committed, or a quorum says so. It does not stand any more
    /// (rule `p14`).
    Removed,
    /// A node spoke that the group was recovered without
    /// ([`Configuration::barred`](crate::quorum::Configuration::barred)); it was not heard.
    Barred {
        /// Who.
        from: NodeId,
    },
    /// The group stopped on this node.
    Stopped(Fatal),
}

/// Why a leader gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Abdication {
    /// It was asked to.
    Transfer,
    /// No quorum has answered for an election timeout (rule `p10`).
    QuorumLost,
    /// Its disk has not completed a write for too long (rule `p11`).
    DiskStalled,
    /// Its log or its state machine failed (rule `p11`).
    Failed,
    /// It is no voter in the committed configuration (rule `p09`).
    NotAVoter,
}

/// Why a group stopped on this node. It answers nothing any more; other groups and the process go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// Two leaders in one term (row `o20`): votes were given twice, for instance after a disk was wiped.
    #[error("two leaders in {term}: {one} and {other}; a node has voted twice, look for a wiped or copied disk")]
    TwoLeaders {
        /// The term.
        term: Term,
        /// One leader.
        one: NodeId,
        /// The other.
        other: NodeId,
    },
    /// A leader wants to overwrite a committed entry.
    #[error("{leader} would overwrite {ours}, which is committed, with {theirs}")]
    CommittedOverwritten {
        /// Who.
        leader: NodeId,
        /// The committed entry.
        ours: EntryId,
        /// What it was to become.
        theirs: EntryId,
    },
    /// A leader sent two different entries for one place in the same term. A leader never overwrites its own entries.
    #[error("{leader} had sent {ours} and now sends {theirs} in its place, in one term")]
    LeaderContradictsItself {
        /// Who.
        leader: NodeId,
        /// What it had sent.
        ours: EntryId,
        /// What it sends now.
        theirs: EntryId,
    },
    /// A snapshot ends in another entry than the committed one that is here (bug `c09`).
    #[error("a snapshot ends in {theirs}, but {ours} is committed")]
    SnapshotContradicts {
        /// The committed entry.
        ours: EntryId,
        /// The snapshot's last entry.
        theirs: EntryId,
    },
    /// An entry holds a configuration that this version cannot read.
    #[error("the configuration in entry {0} cannot be read by this version")]
    Configuration(EntryId),
    /// The log's device failed.
    #[error("writing or reading the log failed")]
    LogFailed,
    /// The state machine returned an error or panicked.
    #[error("the state machine failed")]
    StateMachineFailed,
}

/// Counters and gauges of one core, as plain numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Elections this node started (vote rounds).
    pub elections: u64,
    /// Elections it won.
    pub elections_won: u64,
    /// Pre-vote rounds it started.
    pub pre_vote_rounds: u64,
    /// Messages dropped because they were not for this node or group, or made no sense.
    pub misdirected: u64,
    /// Messages dropped because their sender is barred: the group was recovered without it.
    pub barred: u64,
    /// Answers ignored because their term or round had passed.
    pub stale_answers: u64,
    /// Messages dropped because too many waited for the disk.
    pub held_dropped: u64,
    /// Followers whose disk lost its tail.
    pub tails_lost: u64,
    /// Truncations of this node's log.
    pub truncations: u64,
    /// Times it gave up leadership (rule `p09`).
    pub abdications: u64,
    /// Times it campaigned as leader to bring back a peer of a higher term (rule `p12`).
    pub rescues: u64,
    /// Rounds asked of a quorum to confirm reads; many reads may share one.
    pub read_rounds: u64,
    /// Reads answered by this leader's lease alone.
    pub lease_reads: u64,
    /// Reads answered by this node alone, within their bound on staleness.
    pub stale_reads: u64,
    /// Questions of followers for a read index that this leader answered.
    pub forwarded_reads: u64,
}

/// The AppendEntries of `term` to `peer` that is the last message to it in the buffer: it has not left yet.
pub(super) fn unsent_append(messages: &mut [Message], peer: NodeId, term: Term) -> Option<&mut AppendEntries> {
    let message = messages.iter_mut().rev().find(|message| message.to == peer)?;
    match &mut message.body {
        Body::AppendEntries(append) if message.term == term => Some(append),
        _ => None,
    }
}
