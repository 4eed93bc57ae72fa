//! What the log should hold, as plainly as can be, and random writes that fit to it.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tenure::log::{Compaction, Entry, EntryKind, HardState, Write};
use tenure::types::{EntryId, GroupId, Index};
use tenure::wal::{Fs, Recovered, Wal, WalError};

use crate::fates::Rng;
use crate::fixture::{command, compaction, entry, hard_state, small_config};

/// Every group's hard state, beginning and entries.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, ModelGroup>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct ModelGroup {
    pub(crate) hard_state: HardState,
    pub(crate) compaction: Option<Compaction>,
    pub(crate) entries: Vec<Entry>,
}

impl ModelGroup {
    pub(crate) fn base(&self) -> EntryId {
        self.compaction.as_ref().map_or(EntryId::ZERO, |compaction| compaction.last)
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base(), |entry| entry.id)
    }
}

impl Model {
    pub(crate) fn apply(&mut self, group: GroupId, write: &Write) {
        let group = self.groups.entry(group).or_default();
        group.hard_state = write.hard_state.unwrap_or(group.hard_state);
        if let Some(to) = &write.compaction {
            let held = group.base() == to.last || group.entries.iter().any(|entry| entry.id == to.last);
            group.entries.retain(|entry| held && entry.id.index > to.last.index);
            group.compaction = Some(to.clone());
        }
        if let Some(from) = write.truncate_from {
            group.entries.retain(|entry| entry.id.index < from);
        }
        group.entries.extend(write.entries.iter().cloned());
    }

    /// What an opened log holds, every entry read back.
    pub(crate) fn of(wal: &Wal, recovered: &Recovered) -> Result<Self, WalError> {
        let mut model = Self::default();
        for (id, group) in &recovered.groups {
            let (base, last) = (group.log.base(), group.log.last());
            assert_eq!(base, group.compaction.as_ref().map_or(EntryId::ZERO, |to| to.last), "the log begins there");
            if base != EntryId::ZERO {
                let below = wal.reader().read(*id, base.index, last.index, 1);
                assert!(matches!(below, Err(WalError::Compacted { base: said, .. }) if said == base), "{below:?}");
            }
            let mut entries: Vec<Entry> = Vec::new();
            while base.index.0 + (entries.len() as u64) < last.index.0 {
                let next = Index(base.index.0 + entries.len() as u64 + 1);
                entries.extend(wal.reader().read(*id, next, last.index, 6000)?);
            }
            for entry in &entries {
                assert_eq!(group.log.term_at(entry.id.index), Some(entry.id.term), "log and reader disagree");
            }
            let held = entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
            let held: Vec<(Index, Bytes)> = held.map(|entry| (entry.id.index, entry.payload.clone())).collect();
            assert_eq!(group.configurations, held, "configurations are those in the log");
            let (hard_state, compaction) = (group.hard_state, group.compaction.clone());
            model.groups.insert(*id, ModelGroup { hard_state, compaction, entries });
        }
        Ok(model)
    }

    /// A write that fits to this model, without a compaction.
    pub(crate) fn random_write(&self, rng: &mut Rng) -> (GroupId, Write) {
        self.random_write_to(GroupId(rng.below(3)), Write::default(), rng)
    }

    /// A write that fits to this model. Some compact the log, or replace it: group 0 often, the others more rarely, so
    /// that segments are kept for them alone.
    pub(crate) fn random_write_or_compaction(&self, rng: &mut Rng) -> (GroupId, Write) {
        let id = GroupId(rng.below(3));
        let mut write = Write::default();
        let Some(group) = self.groups.get(&id).filter(|_| rng.below(3 + 3 * id.0) == 0) else {
            return self.random_write_to(id, write, rng);
        };
        let to = if rng.below(4) == 0 {
            let last = group.last();
            let term = last.term.0 + rng.below(group.hard_state.term.0 - last.term.0 + 1);
            EntryId::new(last.index.0 + 1 + rng.below(5), term.max(1))
        } else {
            let held = group.entries.len().checked_sub(1 + rng.pick(4)).map(|at| group.entries[at].id);
            held.unwrap_or(group.base())
        };
        if to != EntryId::ZERO {
            write.compaction = Some(compaction(to));
        }
        if rng.below(2) == 0 {
            return (id, write);
        }
        self.random_write_to(id, write, rng)
    }

    /// Adds to a write: hard state, truncation, entries.
    fn random_write_to(&self, id: GroupId, mut write: Write, rng: &mut Rng) -> (GroupId, Write) {
        let mut after = self.clone();
        after.apply(id, &write);
        let group = &after.groups[&id];
        let mut term = group.hard_state.term.0;
        if term == 0 || rng.below(4) == 0 {
            term += 1 + rng.below(2);
            write.hard_state = Some(hard_state(term, Some(rng.below(3)).filter(|vote| *vote > 0)));
        }
        let mut kept = group.entries.len();
        if kept > 0 && rng.below(4) == 0 {
            kept -= 1 + rng.pick(kept.min(3));
            write.truncate_from = Some(group.entries[kept].id.index);
        }
        let before = group.entries[..kept].last().map_or(group.base(), |entry| entry.id);
        let (last, floor) = (before.index.0, before.term.0.max(1));
        let mut entry_term = floor + rng.below(term - floor + 1);
        for index in last + 1..last + 1 + rng.below(4) {
            entry_term += rng.below(term - entry_term + 1);
            let kind = if rng.below(6) == 0 { EntryKind::Configuration } else { EntryKind::Command };
            let payload = match rng.below(3) {
                // Large ones fill segments and spread over sectors.
                0 => vec![rng.below(256) as u8; 2000],
                _ => command(index, entry_term).to_vec(),
            };
            write.entries.push(entry(index, entry_term, kind, &payload));
        }
        (id, write)
    }
}

/// Opens a log and reads all of it.
pub(crate) fn reopen(fs: &(impl Fs + Clone), dir: &Path) -> Result<(Wal, Recovered, Model), WalError> {
    let (wal, recovered) = Wal::open(Arc::new(fs.clone()), dir, small_config())?;
    let model = Model::of(&wal, &recovered)?;
    Ok((wal, recovered, model))
}
