//! The protocol as a value: no I/O, no clock, no thread, no global randomness.
//!
//! A [`Core`] is one node's part in one group. It is told what happened ([`Core::step`]), says what it wants done
//! ([`Output`]) and when it wants to be called again ([`Core::next_deadline`]). Same seed and same inputs give the
//! same outputs, byte for byte; so the same code runs under threads, under a simulator and under a fuzzer.
//!
//! Follow a term through the files: `election` (who leads) with `round` (one round of votes), `promise` (why a live
//! leader is left alone), `succession` (who stands when) and `standing` (why nobody leads); `replication`, `progress` and
//! `contact` (the leader's side of the log), `follower` (the other side); `commit` (what is agreed, and how it reaches the
//! state machine); `lease`, `read` and `forward` (reads, by promises, by a round, at followers); `abdication` (how a term
//! ends in order); `membership` (who belongs to the group); `snapshot` (where the log begins); `disk` (what must wait for
//! the disk). `role` holds what belongs to a role alone, `invariants` what must always be true, `fingerprint` what
//! distinguishes two situations.
//!
//! Chapters 3 and 4, 5.1 to 5.3, 6.4 and 9.6 of Ongaro's dissertation ("Consensus: Bridging Theory and Practice", 2014) are implemented
//! here. Deviations: heartbeat, AppendEntries and the offer of a snapshot, which is then pulled, are one message; pre-vote and promises are always on; a vote request
//! is refused during a promise *before* its term is adopted.

mod abdication;
mod commit;
mod configurations;
mod contact;
mod disk;
mod effects;
mod election;
mod fingerprint;
mod follower;
mod forward;
mod invariants;
mod lease;
mod membership;
mod progress;
mod promise;
mod read;
mod replication;
mod role;
mod round;
mod snapshot;
mod standing;
mod succession;

pub use effects::{
    Abdication, Change, ChangeAnswer, ChangeError, ChangeId, Consistency, Counters, Event, Fatal, Input, Install,
    Lease, Load, LoadPurpose, Output, ProposeError, Proposed, ReadAnswer, ReadError, ReadId, RoleKind, TransferAnswer,
    TransferError, TransferId,
};
pub use fingerprint::Frame;
pub use invariants::Violation;
pub use standing::{NoLeader, Obstacle, RoundReport};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use crate::config::{ConfigError, CoreConfig};
use crate::core::commit::ApplyCursor;
use crate::core::configurations::Configurations;
use crate::core::disk::Disk;
use crate::core::fingerprint::project;
use crate::core::forward::Forwarded;
use crate::core::promise::Promise;
use crate::core::role::{Follower, Role};
use crate::log::{Compaction, Entry, EntryKind, HardState, Log, Write};
use crate::message::{Abdicated, Body, Message, Rank};
use crate::quorum::Configuration;
use crate::time::{Duration, Instant};
use crate::types::{EntryId, Index, NodeId, RoundId, Term, WriteSeq};

/// What a node knows of a group when it starts it.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Term, vote and longest promise.
    pub hard_state: HardState,
    /// The log as it is on disk: every entry in it is durable.
    pub log: Log,
    /// Every configuration in the log, oldest first, each with its index. None only in an empty log: the node waits for a
    /// leader to make it a member.
    pub configurations: Vec<(Index, Configuration)>,
    /// The last index the state machine has applied; not before the log begins.
    pub applied: Index,
    /// The last entry of the newest snapshot that is here and can be fetched.
    pub snapshot: Option<EntryId>,
    /// A group founded just now, here: no promise can have been forgotten (rule `p06`).
    pub founded_now: bool,
}

/// The entry that a group begins with.
const FOUNDING: EntryId = EntryId { term: Term(1), index: Index(1) };

/// The hard state that a group begins with: in the term of its first entry nobody votes.
fn founding_state(term: Term) -> HardState {
    HardState { term, vote: None, longest_promise: Duration::ZERO }
}

impl Restored {
    /// A new group: entry `1@1` is its first configuration. Every founder writes the same bytes, so their logs match.
    ///
    /// Make the [`Write`] durable before the core is started.
    #[must_use]
    pub fn founding(configuration: Configuration) -> (Write, Self) {
        let (id, hard_state) = (FOUNDING, founding_state(FOUNDING.term));
        let entry = Entry { id, kind: EntryKind::Configuration, payload: configuration.encode() };
        let mut log = Log::new();
        log.append(entry.clone());
        let write = Write { hard_state: Some(hard_state), entries: vec![entry], ..Write::default() };
        let configurations = vec![(id.index, configuration)];
        (write, Self { hard_state, log, configurations, applied: Index::ZERO, snapshot: None, founded_now: true })
    }

    /// A new group that begins with a snapshot of another, which is its first entry, `last`: the state machine is restored
    /// from it first. Every founder begins with the same one.
    ///
    /// Make the [`Write`] durable before the core is started.
    #[must_use]
    pub fn founding_with_snapshot(last: EntryId, configuration: Configuration) -> (Write, Self) {
        let hard_state = founding_state(last.term);
        let compaction = Compaction { last, configuration: (last.index, configuration.encode()) };
        let mut log = Log::new();
        log.compact(last);
        let write = Write { hard_state: Some(hard_state), compaction: Some(compaction), ..Write::default() };
        let (applied, snapshot) = (last.index, Some(last));
        let configurations = vec![(last.index, configuration)];
        (write, Self { hard_state, log, configurations, applied, snapshot, founded_now: true })
    }

    /// A node that is to join a group which others have founded: it knows nothing, and stands for nothing before a leader
    /// has made it a voter.
    #[must_use]
    pub fn joining() -> Self {
        let (hard_state, log) = (HardState::default(), Log::new());
        Self { hard_state, log, configurations: Vec::new(), applied: Index::ZERO, snapshot: None, founded_now: true }
    }

    fn check(&self) -> Result<(), StartError> {
        let (last, term) = (self.log.last(), self.hard_state.term);
        if last.term > term {
            return Err(StartError::TermBehindLog { last, term });
        }
        if self.applied > last.index {
            return Err(StartError::AppliedBeyondLog { applied: self.applied, last });
        }
        if self.applied < self.log.base().index {
            return Err(StartError::AppliedBehindLog { applied: self.applied, base: self.log.base() });
        }
        Ok(())
    }
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
    /// The log does not reach back to where the state machine is.
    #[error(
        "the state machine has applied {applied}, but the log begins behind {base}: restore it from a snapshot first"
    )]
    AppliedBehindLog {
        /// What the state machine says.
        applied: Index,
        /// The last entry that is no longer in the log.
        base: EntryId,
    },
    /// The log holds entries, but no configuration.
    #[error("the log holds entries, but no configuration: its beginning was lost")]
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

/// What a core knows at one moment, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreStatus {
    /// This node.
    pub id: NodeId,
    /// Its role.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// The entry before the first in its log: what is up to it is in a snapshot.
    pub base: EntryId,
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
    /// Where it stands; 0 if this node has not heard of the group yet.
    pub configuration_index: Index,
    /// The peers, if it leads: (node, match index).
    pub peers: Vec<(NodeId, Index)>,
    /// Why no leader is known, if none is.
    pub no_leader: Option<NoLeader>,
    /// Whether this leader is handing over, and so takes no proposals.
    pub transferring: bool,
    /// Why the group stopped here, if it did.
    pub stopped: Option<Fatal>,
    /// Counts since start.
    pub counters: Counters,
}

/// The part of a [`CoreStatus`] that is cheap to look at after every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulse {
    /// Its role.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
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
}

/// One node's part in one group.
///
/// What must outlive roles is here: term, vote, log, configurations, the promise not to vote, commit and applied. What
/// exists only while a role lasts, its timer included, is in the role.
///
/// Methods, in the order in which they are used: [`Core::new`] once; then [`Core::step`] for everything that happens
/// and whenever [`Core::next_deadline`] has come; the rest only look.
#[derive(Clone, Debug)]
pub struct Core {
    config: CoreConfig,
    rng: Xoshiro256PlusPlus,
    /// Invariant: the term never falls; the vote changes only with the term.
    hard_state: HardState,
    /// Invariant: no entry's term is above the current one.
    log: Log,
    configurations: Configurations,
    /// Outlives roles, and terms seen in answers (rule `p02`).
    promise: Option<Promise>,
    /// The last leader that said it gave up; remembered until a newer term is followed (rule `p09`).
    abdicated: Option<Abdicated>,
    /// Its place in the line of succession, as the leader told it last.
    rank: Option<Rank>,
    /// A quorum says that it was removed; it does not stand (rule `p14`).
    removed: bool,
    /// What kept it from standing when its election timer fired last.
    held_back: Option<Obstacle>,
    /// Its last round, if that was lost and it has known no leader since.
    last_round: Option<RoundReport>,
    /// Changes when a lease is revoked (rule `p08`).
    lease_epoch: u64,
    /// When it last campaigned to bring back a stranded peer (rule `p12`).
    rescued_at: Option<Instant>,
    /// Reads that its leader is asked about.
    forwarded: Forwarded,
    /// The newest (time, index) such that the index covers everything acknowledged anywhere before the time.
    fresh: Option<(Instant, Index)>,
    /// Since when it follows the leader it follows.
    following_since: Instant,
    /// Added to the stamps of its own answers.
    stamp_offset: u64,
    /// Since when it has run without a restart or a jump of the clock.
    unbroken_since: Instant,
    /// The time of the last step.
    stepped_at: Instant,
    leader: Option<NodeId>,
    role: Role,
    disk: Disk,
    /// Invariant: never falls; at most the last index.
    commit: Index,
    apply: ApplyCursor,
    /// The last entry of the newest snapshot that is here. Invariant: not below the log's base, if that is not the beginning.
    snapshot: Option<EntryId>,
    /// Vote rounds and confirmation rounds, all different, starting anywhere so that no run repeats another's.
    next_round: RoundId,
    stopped: Option<Fatal>,
    counters: Counters,
    /// The last reported (role, term, leader).
    reported: (RoleKind, Term, Option<NodeId>),
}

project!(Core {
    config: left_out,
    rng: left_out,
    hard_state,
    log,
    configurations,
    promise,
    abdicated,
    rank,
    removed,
    held_back: left_out,
    last_round: left_out,
    lease_epoch: left_out,
    rescued_at,
    forwarded,
    fresh: left_out,
    following_since: left_out,
    stamp_offset: left_out,
    unbroken_since,
    stepped_at,
    leader,
    role,
    disk,
    commit,
    apply,
    snapshot,
    next_round,
    stopped,
    counters: left_out,
    reported,
});

impl Core {
    /// Starts as a follower from what the disk holds (row `o01`). Drain `out` as after a step.
    ///
    /// # Errors
    /// [`StartError`]: nothing was started; each variant says what is wrong.
    pub fn new(config: CoreConfig, restored: Restored, now: Instant, out: &mut Output) -> Result<Self, StartError> {
        config.validate()?;
        restored.check()?;
        // The same seed must not give every node the same timeouts (bug `b12`).
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(config.seed ^ config.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let next_round = RoundId(rng.next_u64() >> 16);
        let stamp_offset = rng.next_u64();
        let Restored { hard_state, log, configurations, applied, snapshot, founded_now } = restored;
        let configurations = match Configurations::new(configurations) {
            Some(configurations) => configurations,
            None if log.last() == EntryId::ZERO => Configurations::unknown(),
            None => return Err(StartError::NoConfiguration),
        };
        let mut core = Self {
            rng,
            next_round,
            disk: Disk::new(log.last().index),
            // What founded the group is committed by that.
            commit: applied.max(configurations.oldest_index()),
            apply: ApplyCursor::new(applied),
            snapshot,
            role: Role::Follower(Follower { election_deadline: now, verified: Index::ZERO, owed: None }),
            reported: (RoleKind::Follower, hard_state.term, None),
            promise: None,
            abdicated: None,
            rank: None,
            removed: false,
            held_back: None,
            last_round: None,
            lease_epoch: 0,
            rescued_at: None,
            forwarded: Forwarded::default(),
            fresh: None,
            following_since: now,
            stamp_offset,
            unbroken_since: now,
            stepped_at: now,
            leader: None,
            stopped: None,
            counters: Counters::default(),
            config,
            hard_state,
            log,
            configurations,
        };
        if !founded_now {
            core.promise = core.promise_after_restart(now);
        }
        core.restart_election_timer(now);
        if core.hard_state.longest_promise < core.config.timing.promise() {
            core.save_hard_state(out);
        }
        Ok(core)
    }

    /// Takes one input at `now`, sampled after the previous step returned (rule `p00`), and adds what follows to `out`.
    ///
    /// Never blocks, never panics on any message. A group that has stopped (see [`Fatal`]) refuses proposals and reads
    /// and ignores everything else.
    pub fn step(&mut self, now: Instant, input: Input, out: &mut Output) {
        if let Some(fatal) = self.stopped {
            return refuse_stopped(fatal, input, out);
        }
        self.forget_longer_promises(now, out);
        match input {
            Input::Received(message) => self.receive(now, message, out),
            Input::Deadline => self.deadline(now, out),
            Input::Propose(commands) => self.propose(now, commands, out),
            Input::Read(id, consistency) => self.read(now, id, consistency, out),
            Input::Transfer(id, target) => self.transfer(now, id, target, out),
            Input::Change(id, change) => self.change(now, id, change, out),
            Input::SnapshotTaken(last) => self.snapshot_taken(now, last, out),
            Input::LogTooLong => self.log_too_long(out),
            Input::SnapshotInstalled { last, configuration } => self.snapshot_installed(now, last, configuration, out),
            Input::ClockJumped => self.clock_jumped(now),
            Input::Durable(seq) => self.durable(now, seq, out),
            Input::WriteFailed => self.abdicate_and_stop(now, Fatal::LogFailed, out),
            Input::ApplyFailed => self.abdicate_and_stop(now, Fatal::StateMachineFailed, out),
            Input::Applied(index) => self.applied_up_to(index, out),
            Input::Loaded { load, entries } => self.loaded(now, load, entries, out),
        }
        self.shrink_cache();
        self.disk.note_time(now);
        self.renew_lease(now);
        self.report_role(now, out);
        self.stepped_at = now;
        #[cfg(debug_assertions)]
        if let Err(violation) = self.check_invariants() {
            debug_assert!(false, "{violation}: {self:#?}");
        }
    }

    /// When to step with [`Input::Deadline`] next, if nothing else comes first. `None`: not before another input.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.stopped.is_some() {
            return None;
        }
        let of_role = self.role.deadline(&self.config.timing);
        [of_role, self.leadership_deadline(), self.ask_again_at()].into_iter().flatten().min()
    }

    /// What it knows.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        let peers = match &self.role {
            Role::Leader(leader) => leader.peers.iter().map(|(peer, progress)| (*peer, progress.match_index)).collect(),
            _ => Vec::new(),
        };
        CoreStatus {
            id: self.config.id,
            role: self.role.kind(),
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            leader: self.leader,
            base: self.log.base(),
            last: self.log.last(),
            durable: self.disk.durable(),
            commit: self.commit,
            applied: self.apply.applied,
            configuration: self.configuration().clone(),
            configuration_index: self.configurations.index_in_use(),
            peers,
            no_leader: self.no_leader(),
            transferring: self.drains(),
            stopped: self.stopped,
            counters: Counters { held_dropped: self.disk.held_dropped(), ..self.counters },
        }
    }

    /// What changes most often, without the cost of a whole [`status`](Self::status).
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let (role, term, vote) = (self.role.kind(), self.hard_state.term, self.hard_state.vote);
        let (durable, commit, applied) = (self.disk.durable(), self.commit, self.apply.applied);
        Pulse { role, term, vote, leader: self.leader, last: self.log.last(), durable, commit, applied }
    }

    /// Its configuration, as given.
    #[must_use]
    pub fn config(&self) -> &CoreConfig {
        &self.config
    }

    /// The log as it sees it.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    // ---- one step --------------------------------------------------------------------------------------------------

    fn receive(&mut self, now: Instant, message: Message, out: &mut Output) {
        let ours = message.to == self.config.id && message.group == self.config.group;
        let from_another = message.from != self.config.id && message.from != NodeId(0);
        if !ours || !from_another || !makes_sense(&message) {
            self.counters.misdirected += 1;
            return;
        }
        if self.configuration().barred().contains(message.from) {
            return self.note_barred(message.from, out);
        }
        let (from, term) = (message.from, message.term);
        match message.body {
            Body::PreVote(request) => self.on_pre_vote(now, from, request, out),
            Body::Vote(request) => self.on_vote(now, from, request, out),
            Body::AppendEntries(append) => self.on_append_entries(now, from, term, append, out),
            Body::PreVoteResponse(answer) => self.on_pre_vote_response(now, &message, answer, out),
            Body::VoteResponse(answer) => self.on_vote_response(now, &message, answer, out),
            Body::AppendResponse(answer) => self.on_append_response(now, &message, answer, out),
            Body::Abdicate(abdicate) => self.on_abdicate(now, from, term, abdicate, out),
            Body::ReadIndex(ask) => self.on_read_index(now, from, term, ask, out),
            Body::ReadIndexResponse(answer) => self.on_read_index_response(now, &message, answer, out),
        }
    }

    fn deadline(&mut self, now: Instant, out: &mut Output) {
        self.ask_again_if_due(now, out);
        let of_role = [self.role.deadline(&self.config.timing), self.leadership_deadline()].into_iter().flatten().min();
        if of_role.is_none_or(|deadline| deadline > now) {
            return;
        }
        match &self.role {
            Role::Follower(_) => self.election_timer_fired(now, out),
            Role::PreCandidate(_) | Role::Candidate(_) => self.round_lost(now, out),
            Role::Leader(_) => self.leader_timer_fired(now, out),
        }
    }

    fn durable(&mut self, now: Instant, seq: WriteSeq, out: &mut Output) {
        self.disk.completed(seq, out);
        self.own_vote_durable(now, out);
        self.report_durability(now, out);
        self.commit_by_quorum(now, out);
        self.hand_over_if_ready(now, out);
        self.go_on_changing(now, out);
        self.hand_out(out);
    }

    /// Entries came back from the disk, or could not be read. What nobody waits for any more may fail: the entries may
    /// have been truncated while they were read.
    fn loaded(&mut self, now: Instant, load: Load, entries: Option<Vec<Entry>>, out: &mut Output) {
        if !self.awaits(load) {
            return;
        }
        let as_asked = |entries: &Vec<Entry>| {
            let contiguous = entries.iter().zip(load.first.0..).all(|(entry, index)| entry.id.index.0 == index);
            let last = entries.last().map(|last| last.id);
            contiguous && last.is_some_and(|last| last.index <= load.last && self.log.contains(last))
        };
        match (entries.filter(as_asked), load.purpose) {
            (None, _) => self.abdicate_and_stop(now, Fatal::LogFailed, out),
            (Some(entries), LoadPurpose::Peer(peer)) => self.loaded_for_peer(now, peer, load, entries, out),
            (Some(entries), LoadPurpose::Apply) => self.loaded_for_apply(entries, out),
        }
    }

    fn awaits(&self, load: Load) -> bool {
        match load.purpose {
            LoadPurpose::Peer(peer) => self.progress(peer).is_some_and(|progress| progress.loading == Some(load)),
            LoadPurpose::Apply => self.apply.awaits(load),
        }
    }

    // ---- what all files use ----------------------------------------------------------------------------------------

    /// The configuration in use: the latest in the log, committed or not (dissertation §4.1).
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.configurations.in_use()
    }

    /// Appends to the log and asks the disk for it. A configuration is in use from here on.
    fn append(&mut self, entry: Entry, out: &mut Output) {
        if entry.kind == EntryKind::Configuration {
            match Configuration::decode(&entry.payload) {
                Ok(configuration) => {
                    self.configurations.append(entry.id.index, configuration);
                    out.events.push(Event::Configuration { index: entry.id.index });
                }
                Err(_) => return self.stop(Fatal::Configuration(entry.id), out),
            }
        }
        self.disk.append(entry.clone(), out);
        self.log.append(entry);
    }

    /// Asks the disk for the term, the vote and the longest promise. Until it has them, nothing is said (see `disk`).
    fn save_hard_state(&mut self, out: &mut Output) {
        let longest = self.hard_state.longest_promise.max(self.config.timing.promise());
        self.hard_state.longest_promise = longest;
        self.disk.write_hard_state(self.hard_state, out);
    }

    fn send(&mut self, to: NodeId, body: Body, out: &mut Output) {
        let (group, from, term) = (self.config.group, self.config.id, self.hard_state.term);
        self.disk.send(Message { group, from, to, term, body }, out);
    }

    /// Fail-stop of this group on this node (row `o20`).
    fn stop(&mut self, fatal: Fatal, out: &mut Output) {
        self.refuse_reads(ReadError::Stopped(fatal), out);
        self.give_up_transfer(TransferError::Stopped(fatal), out);
        self.give_up_change(ChangeError::Stopped(fatal), out);
        self.stopped = Some(fatal);
        out.events.push(Event::Stopped(fatal));
    }

    fn report_role(&mut self, now: Instant, out: &mut Output) {
        let (role, term, leader) = (self.role.kind(), self.hard_state.term, self.leader);
        let (_, term_before, leader_before) = self.reported;
        if (term, leader) != (term_before, leader_before) {
            self.leader_changed(now, out);
        }
        if (role, term, leader) != self.reported {
            self.reported = (role, term, leader);
            out.events.push(Event::Role { role, term, leader });
        }
    }
}

/// No cluster counts this far. Beyond it the next term could no longer be told from the last.
const TERM_LIMIT: Term = Term(1 << 62);

/// What no correct node says, whatever its state.
fn makes_sense(message: &Message) -> bool {
    message.term < TERM_LIMIT
        && match &message.body {
            Body::PreVote(request) => request.campaign_term == message.term.next() && request.last.term <= message.term,
            Body::Vote(request) => request.campaign_term == message.term && request.last.term < message.term,
            Body::AppendEntries(append) => message.term > Term::ZERO && append.slice.last().term <= message.term,
            Body::Abdicate(_) => message.term > Term::ZERO,
            _ => true,
        }
}

fn refuse_stopped(fatal: Fatal, input: Input, out: &mut Output) {
    match input {
        Input::Propose(_) => {
            let refused = Some(ProposeError::Stopped(fatal));
            out.proposed = Some(Proposed { first: EntryId::ZERO, accepted: 0, refused });
        }
        Input::Read(id, _) => out.reads.push(ReadAnswer { id, result: Err(ReadError::Stopped(fatal)) }),
        Input::Transfer(id, _) => {
            out.transfers.push(TransferAnswer { id, result: Err(TransferError::Stopped(fatal)) });
        }
        Input::Change(id, _) => out.changes.push(ChangeAnswer { id, result: Err(ChangeError::Stopped(fatal)) }),
        _ => {}
    }
}
