//! **Unsafe**: makes one node of a group that has lost its quorum for good the only voter, at the price of what it does not
//! have.
//!
//! A group that has lost a majority of its disks can never again decide anything: what the lost ones had acknowledged together
//! is known to nobody. Who would rather go on with what is left than restore a backup takes the survivor with the newest log
//! and declares it to be the group. Acknowledged writes may be lost and unacknowledged ones may come back; the [`Plan`] says
//! which. No other part of the engine does such a thing, and nothing does it by itself.
//!
//! ```no_run
//! use tenure::types::GroupId;
//! use tenure::{NodeConfig, unsafe_recover::Offline};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // As the node was configured; `peers` are asked whether they are there, and so are the addresses in the configuration.
//! let config = NodeConfig::new("/var/lib/mine/n3", "10.0.0.3:7000".parse()?);
//! let plan = Offline::open(&config)?.plan(GroupId(1))?;
//! println!("{plan}");
//! // Somebody has read it, and typed what stands in its last line:
//! let typed = plan.token().to_string();
//! Offline::open(&config)?.carry_out(GroupId(1), &typed)?;
//! # Ok(())
//! # }
//! ```
//!
//! Afterwards the node is opened as ever, leads alone, and takes in fresh nodes
//! ([`Group::change`](crate::Group::change)). All who were members are *barred*
//! ([`Configuration::barred`](crate::quorum::Configuration::barred)): nobody in the recovered group hears them, should one come
//! back with its old disk. Decision 11 says why, and what that cannot prevent.
//!
//! Groups are recovered one by one. Use [`compare`] if several nodes survived.

mod ask;
mod error;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

pub use ask::Heard;
pub use error::{CompareError, RecoverError};
pub use plan::{Comparison, Plan, Token, compare};

use super::begin::{Beginning, Stored};
use super::node::{self, NodeConfig};
use super::node_error::GroupError;
use super::snapshots::{Library, SnapshotOptions, stored};
use crate::core::Restored;
use crate::log::{Compaction, Entry, EntryKind, HardState, Write};
use crate::quorum::{Configuration, Tally};
use crate::transport::LocalIdentity;
use crate::types::{EntryId, GroupId, Index, NodeId, Term};
use crate::wal::{self, Identity, RecoveredGroup, Wal, WalConfig, WalError};

/// By how much a recovery raises the term at least. Nobody gets so far by elections, so no entry of the group as it was can
/// ever have the term and index of one of the group as it goes on.
const LEAP: u64 = 1 << 32;

/// The directory of a node that does not run. Holds its lock.
pub struct Offline {
    dir: PathBuf,
    peers: BTreeMap<NodeId, String>,
    identity: Identity,
    log: Wal,
    library: Library,
    groups: BTreeMap<GroupId, RecoveredGroup>,
}

/// What of a group begins when its node is started.
struct Found {
    restored: Restored,
    snapshot: Option<EntryId>,
    damaged_snapshots: Vec<String>,
    /// See [`Plan::compaction`].
    compaction: Option<Compaction>,
}

impl Offline {
    /// Opens the directory that `config` names as the node itself would, and takes its lock. Blocks on the disk.
    ///
    /// Its `peers` are where the other members were reachable, as far as the configuration in the log does not say so.
    ///
    /// # Errors
    /// [`RecoverError::Wal`]; with [`WalError::Locked`] the node runs.
    pub fn open(config: &NodeConfig) -> Result<Self, RecoverError> {
        let NodeConfig { fs, dir, peers, wal, .. } = config;
        let wal = WalConfig { spare_segments: 0, ..wal.clone() };
        let (log, recovered) = Wal::open(fs.clone(), dir, wal)?;
        let identity = wal::identity(&**fs, dir)?;
        // However many there are, none is removed.
        let options = SnapshotOptions { keep: usize::MAX, ..SnapshotOptions::default() };
        let library = Library::new(fs.clone(), dir.clone(), identity.cluster.clone(), identity.node, options);
        Ok(Self { dir: dir.clone(), peers: peers.clone(), identity, log, library, groups: recovered.groups })
    }

    /// The groups on this disk.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// Looks at what is here, asks all other members whether they are there, and says what a recovery would do. Nothing is
    /// changed. Blocks for some seconds if members do not answer.
    ///
    /// # Errors
    /// [`RecoverError`]: this group is not to be recovered here.
    pub fn plan(&self, group: GroupId) -> Result<Plan, RecoverError> {
        let me = self.identity.node;
        let Found { restored, snapshot, damaged_snapshots, compaction } = self.find(group)?;
        let HardState { term, vote, .. } = restored.hard_state;
        let (base, last) = match &compaction {
            Some(compaction) => (compaction.last, compaction.last),
            None => (restored.log.base(), restored.log.last()),
        };
        // One change at a time: the latest configuration was appended when the one before was committed.
        let configurations = restored.configurations;
        let configurations = configurations[configurations.len().saturating_sub(2)..].to_vec();
        let Some((_, in_use)) = configurations.last() else { return Err(RecoverError::UnknownGroup(group)) };
        if !in_use.is_voter(me) {
            return Err(RecoverError::NotAVoter { node: me, group, members: in_use.to_string() });
        }
        let committed = [base.index, snapshot.unwrap_or_default().index, configurations[0].0];
        let committed = committed.into_iter().max().unwrap_or_default();
        let others = self.ask_others(&configurations)?;
        let entry = EntryId { term: self.leap(group, term.max(last.term)), index: last.index.next() };
        let becomes = Configuration::of_voters([me]).and_then(|alone| {
            let barred_before = in_use.barred().iter();
            let alone = alone.with_barred(barred_before.chain(others.keys().copied()))?;
            let own = in_use.addresses().find(|(node, _)| *node == me);
            own.map_or(Ok(alone.clone()), |(_, address)| alone.with_address(me, address))
        });
        let becomes = becomes.map_err(RecoverError::Impossible)?;
        let identity = self.identity.clone();
        Ok(Plan {
            identity,
            group,
            term,
            vote,
            base,
            snapshot,
            damaged_snapshots,
            last,
            committed,
            configurations,
            others,
            entry,
            becomes,
            compaction,
        })
    }

    /// Makes the plan once more and, if `token` is what confirms it, carries it out: this node is the only voter of the group,
    /// durably, when this returns. One write, so that a crash leaves the group as it was or recovered. Gives up the lock.
    ///
    /// # Errors
    /// [`RecoverError`]: nothing was changed, but for [`RecoverError::Unknown`].
    pub fn carry_out(mut self, group: GroupId, token: &str) -> Result<Plan, RecoverError> {
        let plan = self.plan(group)?;
        if !plan.token().is(token) {
            return Err(RecoverError::WrongToken { expected: plan.token() });
        }
        let longest_promise = self.groups.get(&group).map(|group| group.hard_state.longest_promise).unwrap_or_default();
        let hard_state = HardState { term: plan.entry.term, vote: Some(self.identity.node), longest_promise };
        let entry = Entry { id: plan.entry, kind: EntryKind::Configuration, payload: plan.becomes.encode() };
        let write = Write {
            hard_state: Some(hard_state),
            compaction: plan.compaction.clone(),
            entries: vec![entry],
            ..Write::default()
        };
        let written = self.log.append(&[(group, write)]).and_then(|()| self.log.sync()).and_then(|()| self.log.floor());
        match written {
            Ok(()) => Ok(plan),
            Err(error @ (WalError::TooLarge { .. } | WalError::InvalidWrite { .. })) => Err(error.into()),
            Err(error) => Err(RecoverError::Unknown(error)),
        }
    }

    /// What the group begins with, as the node that is started finds it.
    fn find(&self, group: GroupId) -> Result<Found, RecoverError> {
        let recovered = self.groups.get(&group).ok_or(RecoverError::UnknownGroup(group))?;
        let restored = node::restored(group, recovered).map_err(|error| unreadable(group, error))?;
        let store = &self.library.shelf(group)?.store;
        let newest = store.newest().map(|newest| stored(group, &newest)).transpose();
        let newest = newest.map_err(|error| unreadable(group, error))?;
        let snapshot = newest.as_ref().map(|newest| newest.last);
        let mut begins = Beginning::new(restored, Index::ZERO, newest);
        let compaction = begins.installed.map(|Stored { last, configuration: (at, configuration) }| {
            let bytes = configuration.encode();
            begins.restored.configurations = vec![(at, configuration)];
            Compaction { last, configuration: (at, bytes) }
        });
        Ok(Found { restored: begins.restored, snapshot, damaged_snapshots: store.damaged(), compaction })
    }

    /// Everybody else in these configurations. Refuses if, with this node, there is a quorum of any of them.
    fn ask_others(&self, configurations: &[(Index, Configuration)]) -> Result<BTreeMap<NodeId, Heard>, RecoverError> {
        let me = self.identity.node;
        let mut others: BTreeMap<NodeId, BTreeSet<String>> = BTreeMap::new();
        for (_, configuration) in configurations {
            for node in configuration.members().into_iter().filter(|node| *node != me) {
                let of_node = configuration.addresses().filter(|(of, _)| *of == node);
                // Behind a space stands what is the host's own.
                let dialed = of_node.filter_map(|(_, address)| address.split(' ').next().map(str::to_owned));
                others.entry(node).or_default().extend(dialed.chain(self.peers.get(&node).cloned()));
            }
        }
        let votes = |node| configurations.iter().any(|(_, configuration)| configuration.is_voter(node));
        if let Some((node, _)) = others.iter().find(|(node, addresses)| votes(**node) && addresses.is_empty()) {
            return Err(RecoverError::NoAddress(*node));
        }
        let Identity { cluster, node, store } = self.identity.clone();
        let heard = ask::ask(&LocalIdentity { cluster, node, store }, &others).map_err(RecoverError::Resources)?;
        let there = |node: NodeId| node == me || heard.get(&node).is_some_and(Heard::answers);
        if configurations.iter().any(|(_, all)| all.tally(|node| Some(there(node))) == Tally::Won) {
            let answering = heard.iter().filter(|(_, heard)| heard.answers()).map(|(node, _)| *node).collect();
            return Err(RecoverError::QuorumAnswers { answering });
        }
        Ok(heard)
    }

    /// A term that the group as it was never reaches, and that no other survivor leaps to.
    fn leap(&self, group: GroupId, term: Term) -> Term {
        let who = [self.identity.store.0, u128::from(group.0), u128::from(term.0)];
        let spread = crc32c::crc32c(&who.map(u128::to_le_bytes).concat());
        Term(term.0.saturating_add(LEAP).saturating_add(u64::from(spread)))
    }
}

impl fmt::Debug for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offline({} of {}, {})", self.identity.node, self.identity.cluster, self.dir.display())
    }
}

fn unreadable(group: GroupId, error: GroupError) -> RecoverError {
    match error {
        GroupError::Configuration { group, index, error } => RecoverError::Configuration { group, index, error },
        _ => RecoverError::UnknownGroup(group),
    }
}
