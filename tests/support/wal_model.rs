//! What the log should hold, as plainly as can be, and random writes that fit to it.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tenure::log::{Entry, EntryKind, HardState, Write};
use tenure::types::{GroupId, Index};
use tenure::wal::{Fs, Recovered, Wal, WalError};

use crate::fates::Rng;
use crate::fixture::{command, entry, hard_state, small_config};

/// Every group's hard state and entries.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, ModelGroup>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct ModelGroup {
    pub(crate) hard_state: HardState,
    pub(crate) entries: Vec<Entry>,
}

impl Model {
    pub(crate) fn apply(&mut self, group: GroupId, write: &Write) {
        let group = self.groups.entry(group).or_default();
        group.hard_state = write.hard_state.unwrap_or(group.hard_state);
        if let Some(from) = write.truncate_from {
            group.entries.retain(|entry| entry.id.index < from);
        }
        group.entries.extend(write.entries.iter().cloned());
    }

    /// What an opened log holds, every entry read back.
    pub(crate) fn of(wal: &Wal, recovered: &Recovered) -> Result<Self, WalError> {
        let mut model = Self::default();
        for (id, group) in &recovered.groups {
            let last = group.log.last();
            let mut entries: Vec<Entry> = Vec::new();
            while (entries.len() as u64) < last.index.0 {
                entries.extend(wal.reader().read(*id, Index(entries.len() as u64 + 1), last.index, 6000)?);
            }
            for entry in &entries {
                assert_eq!(group.log.term_at(entry.id.index), Some(entry.id.term), "log and reader disagree");
            }
            let held = entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
            let held: Vec<(Index, Bytes)> = held.map(|entry| (entry.id.index, entry.payload.clone())).collect();
            assert_eq!(group.configurations, held, "configurations are those in the log");
            model.groups.insert(*id, ModelGroup { hard_state: group.hard_state, entries });
        }
        Ok(model)
    }

    /// A write that fits to this model.
    pub(crate) fn random_write(&self, rng: &mut Rng) -> (GroupId, Write) {
        let id = GroupId(rng.below(3));
        let group = self.groups.get(&id).cloned().unwrap_or_default();
        let mut write = Write::default();
        let mut term = group.hard_state.term.0;
        if term == 0 || rng.below(4) == 0 {
            term += 1 + rng.below(2);
            write.hard_state = Some(hard_state(term, Some(rng.below(3)).filter(|vote| *vote > 0)));
        }
        let mut last = group.entries.len() as u64;
        if last > 0 && rng.below(4) == 0 {
            last -= 1 + rng.below(last.min(3));
            write.truncate_from = Some(Index(last + 1));
        }
        let floor = if last == 0 { 1 } else { group.entries[last as usize - 1].id.term.0 };
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
