//! Snapshots and compaction: what is given up is in a snapshot that no power cut takes away, a snapshot is what the log
//! says that it is, and nobody goes back to one (dissertation §5, rows `r03` and `o19`).

use super::logs::Logs;
use super::{Verdict, require};
use crate::log::Compaction;
use crate::quorum::Configuration;
use crate::types::{EntryId, Index, Term};

impl Logs {
    /// A snapshot is labelled with an entry that is committed, and with the configuration in force as of that entry.
    pub(in crate::sim) fn labelled(&self, id: u64, last: EntryId, configuration: &(Index, bytes::Bytes)) -> Verdict {
        require(self.truth.holds(last), "a snapshot holds what is committed", id, || {
            format!("{last} is not committed")
        })?;
        let (at, in_force) = self.truth.in_force_at(last.index);
        let (labelled, bytes) = configuration;
        let same = labelled == at && Configuration::decode(bytes).is_ok_and(|members| members == *in_force);
        require(same, "a snapshot knows the members", id, || {
            format!("the one up to {last} names the configuration at {labelled}, in force is {in_force} of {at}")
        })
    }

    /// A node says that it has a snapshot; `found` is the newest whole one that is on its disk whatever happens.
    pub(in crate::sim) fn stored(&mut self, id: u64, last: EntryId, found: Option<EntryId>) -> Verdict {
        require(found >= Some(last), "a snapshot is durable before it is used", id, || {
            format!("{last} after a power cut: {found:?}")
        })?;
        let node = self.node(id);
        node.snapshot = node.snapshot.max(last);
        Ok(())
    }

    /// What a node found on its disk at its start.
    pub(in crate::sim) fn found(&mut self, id: u64, newest: Option<EntryId>) -> Verdict {
        let node = self.node(id);
        let (known, found) = (node.snapshot, newest.unwrap_or_default());
        node.snapshot = known.max(found);
        require(found >= known, "no snapshot is lost", id, || format!("it had {known}, it has {found}"))
    }

    /// A log is to begin later; its node leads now if it does, and in which term.
    pub(super) fn judge_compaction(&self, id: u64, compaction: &Compaction, leads: Option<Term>) -> Verdict {
        let node = &self.nodes[id as usize - 1];
        let Compaction { last, configuration } = compaction;
        self.labelled(id, *last, configuration)?;
        require(last.index <= node.snapshot.index, "what is given up is in a snapshot", id, || {
            format!("gives up everything up to {last}, its snapshot ends at {}", node.snapshot)
        })?;
        require(*last >= node.written.base(), "a compaction never moves back", id, || {
            format!("from {} to {last}", node.written.base())
        })?;
        if node.written.holds(*last) {
            return Ok(());
        }
        let led_on = leads.is_some() && leads == node.leads;
        require(!led_on, "leader append-only", id, || format!("it leads and takes a snapshot up to {last}"))?;
        let behind = last.index.next();
        let committed = self.truth.at(behind).is_some_and(|link| node.written.at(behind) == Some(link));
        require(!committed, "committed for ever", id, || format!("gives up {behind}, which is committed"))
    }

    /// A node's state machine was replaced by a snapshot.
    pub(in crate::sim) fn restored(&mut self, id: u64, last: EntryId) -> Verdict {
        let committed = self.truth.holds(last);
        require(committed, "a snapshot holds what is committed", id, || format!("{last} is not committed"))?;
        let node = self.node(id);
        let before = std::mem::replace(&mut node.applied, last.index);
        require(before <= last.index, "applied in order", id, || format!("restored {last}, {before} was applied"))?;
        require(last.index <= node.snapshot.index, "a snapshot is durable before it is used", id, || {
            format!("restored {last}, on disk is {}", node.snapshot)
        })
    }

    /// A core's log, as it sees it: where it begins and ends, and the configuration in use.
    pub(in crate::sim) fn judge_view(&self, id: u64, base: EntryId, last: EntryId, in_use: &Configuration) -> Verdict {
        let written = &self.nodes[id as usize - 1].written;
        let told = (written.base(), written.last());
        require((base, last) == told, "a log is what was written", id, || {
            format!("it begins behind {base} and ends with {last}, written is {told:?}")
        })?;
        let latest = written.configuration();
        require(latest.is_none_or(|(_, latest)| latest == in_use), "the configuration in use is the latest", id, || {
            format!("it uses {in_use}, the latest is {latest:?}")
        })
    }

    /// A leader offers a snapshot to a peer whose log is known to reach up to `matched` at least.
    pub(in crate::sim) fn offered(&self, id: u64, peer: u64, matched: Index) -> Verdict {
        let base = self.nodes[id as usize - 1].written.base().index;
        require(matched < base || base == Index::ZERO, "nobody gets a snapshot who can do without", id, || {
            format!("offers one to n{peer}, which has {matched}; its log begins behind {base}")
        })
    }
}
