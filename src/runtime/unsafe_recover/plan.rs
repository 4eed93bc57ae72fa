//! What a recovery would do, for people to read before it is done.

use std::collections::BTreeMap;
use std::fmt;

use super::{CompareError, Heard};
use crate::log::Compaction;
use crate::quorum::Configuration;
use crate::snapshot::Digest;
use crate::types::{EntryId, GroupId, Index, NodeId, Term};
use crate::wal::Identity;

/// What there is of a group on this node, and what recovering it here would make of that. Print it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// This node.
    pub identity: Identity,
    /// The group.
    pub group: GroupId,
    /// The newest term this node has taken part in.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// The log begins behind this entry.
    pub base: EntryId,
    /// The last entry of the newest snapshot here.
    pub snapshot: Option<EntryId>,
    /// Those that cannot be used, and why.
    pub damaged_snapshots: Vec<String>,
    /// The last entry here.
    pub last: EntryId,
    /// Everything up to here is committed for certain. The disk tells no more; more may be.
    pub committed: Index,
    /// The configurations that may be in use, by their index: the latest here, and the one before it if there is one, since
    /// the latest may never have been committed.
    pub configurations: Vec<(Index, Configuration)>,
    /// All other members of these, and what was heard from them just now.
    pub others: BTreeMap<NodeId, Heard>,
    /// The entry that is appended: the new configuration.
    pub entry: EntryId,
    /// This node alone, and nobody who was a member is listened to any more.
    pub becomes: Configuration,
    /// The log has yet to begin behind the newest snapshot, which a crash kept it from.
    pub(super) compaction: Option<Compaction>,
}

/// Confirms one [`Plan`]: a text that follows from what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Whether somebody wrote this one.
    #[must_use]
    pub fn is(&self, written: &str) -> bool {
        self.0 == written.trim()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Plan {
    /// What confirms this plan and no other: everything in it but the reasons for silence counts.
    #[must_use]
    pub fn token(&self) -> Token {
        let answers: Vec<_> = self.others.iter().map(|(node, heard)| (node, heard.answers())).collect();
        let Self { identity, group, term, vote, base, snapshot, last, committed, configurations, .. } = self;
        let here = (identity, group, term, vote, base, snapshot, last, committed, configurations);
        let told = format!("{here:?} {answers:?} {:?} {:?} {:?}", self.entry, self.becomes, self.compaction);
        let digest = Digest::of(told.as_bytes()).to_string();
        Token(format!("recover-{}-{}-{}", self.identity.node, self.group, &digest[..12]))
    }

    /// The entries here that are not known to be committed, first and last; `None` if there are none.
    #[must_use]
    pub fn uncertain(&self) -> Option<(Index, Index)> {
        (self.last.index > self.committed).then(|| (self.committed.next(), self.last.index))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, group, .. } = self;
        writeln!(f, "UNSAFE RECOVERY of {group} on {} of cluster {}", identity.node, identity.cluster)?;
        writeln!(f)?;
        writeln!(f, "what is here")?;
        writeln!(f, "  store          {}", identity.store)?;
        let vote = self.vote.map_or("no vote".into(), |vote| format!("voted for {vote}"));
        writeln!(f, "  term           {}, {vote}", self.term.0)?;
        writeln!(f, "  log            begins behind {}, ends at {}", self.base, self.last)?;
        let snapshot = self.snapshot.map_or("none".into(), |last| format!("up to {last}"));
        writeln!(f, "  snapshot       {snapshot}")?;
        for damaged in &self.damaged_snapshots {
            writeln!(f, "                 {damaged}")?;
        }
        if self.base.index > self.snapshot.unwrap_or_default().index {
            writeln!(
                f,
                "                 NONE REACHES THE LOG: the node starts only if its state machine has applied {}",
                self.base
            )?;
        }
        writeln!(f, "  committed      up to {} for certain; the disk does not tell more", self.committed)?;
        for (at, configuration) in self.configurations.iter().rev() {
            writeln!(f, "  configuration  {configuration} (entry {at})")?;
        }
        writeln!(f, "the others")?;
        for (node, heard) in &self.others {
            writeln!(f, "  {:<14} {heard}", node.to_string())?;
        }
        self.consequences(f)?;
        writeln!(f)?;
        write!(f, "to confirm: {}", self.token())
    }
}

impl Plan {
    fn consequences(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let me = self.identity.node;
        writeln!(f, "what may be lost")?;
        writeln!(f, "  Everything that was acknowledged and never came to {me}: entries behind {}, and", self.last)?;
        writeln!(
            f,
            "  others in the place of those that are not certain here. Nothing on this disk can exclude that."
        )?;
        writeln!(f, "what may come back")?;
        match self.uncertain() {
            None => writeln!(f, "  Nothing: every entry here is committed already.")?,
            Some((first, last)) => {
                writeln!(
                    f,
                    "  Entries {first} to {last} become committed, whether they were or not: also commands whose"
                )?;
                writeln!(f, "  proposers were told that they had failed or that their outcome is unknown.")?;
            }
        }
        writeln!(f, "what is done")?;
        writeln!(f, "  Entry {} is appended: {}.", self.entry, self.becomes)?;
        writeln!(f, "  {me} leads alone when it is started; then add fresh nodes.")?;
        writeln!(f, "what you must see to")?;
        writeln!(f, "  {} never come back with what they have on disk.", names(self.others.keys().copied()))?;
        writeln!(f, "  Silence is no proof: members behind a broken network look the same, and may still serve.")?;
        writeln!(
            f,
            "  If there are several survivors, recover only the one whose last entry has the highest term, and among"
        )?;
        write!(f, "  those the highest index.")?;
        for (node, _) in self.others.iter().filter(|(_, heard)| heard.answers()) {
            write!(f, "\n  {node} ANSWERS: stop it, make its plan and compare, before you go on.")?;
        }
        writeln!(f)
    }
}

/// Plans of several survivors side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Comparison {
    /// The nodes with their last entries, the most up to date first. The first is to be recovered.
    pub ranking: Vec<(NodeId, EntryId)>,
    /// Those that know more to be committed than the first one has: its disk lost something.
    pub contradict: Vec<NodeId>,
}

/// Whose log is the most up to date (dissertation §3.6.1): what was committed with the help of any of them is in that one.
///
/// # Errors
/// [`CompareError`] if these are not plans of different nodes for one group.
pub fn compare(plans: &[Plan]) -> Result<Comparison, CompareError> {
    let whose = |plan: &Plan| (plan.identity.cluster.clone(), plan.group);
    let mut best_first: Vec<&Plan> = plans.iter().collect();
    best_first.sort_by_key(|plan| (std::cmp::Reverse(plan.last), plan.identity.node));
    let best = *best_first.first().ok_or(CompareError::Nothing)?;
    if let Some(other) = plans.iter().find(|plan| whose(plan) != whose(best)) {
        return Err(CompareError::DifferentGroups { one: whose(best), other: whose(other) });
    }
    let mut nodes: Vec<_> = plans.iter().map(|plan| plan.identity.node).collect();
    nodes.sort_unstable();
    if let Some(twice) = nodes.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CompareError::SameNode(twice[0]));
    }
    let ranking = best_first.iter().map(|plan| (plan.identity.node, plan.last)).collect();
    let knows_more = |plan: &&&Plan| plan.committed > best.last.index;
    let contradict = best_first.iter().filter(knows_more).map(|plan| plan.identity.node).collect();
    Ok(Comparison { ranking, contradict })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (node, last)) in self.ranking.iter().enumerate() {
            writeln!(f, "{node:<6} ends at {last}{}", if at == 0 { "   <- recover this one" } else { "" })?;
        }
        for node in &self.contradict {
            writeln!(f, "{node} knows of committed entries that the first one lacks: its disk lost something")?;
        }
        Ok(())
    }
}

/// `n1, n2 and n3`.
pub(super) fn names(nodes: impl Iterator<Item = NodeId>) -> String {
    let names: Vec<_> = nodes.map(|node| node.to_string()).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
