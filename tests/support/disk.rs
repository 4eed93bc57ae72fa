//! A disk as a value: what is on it, and what has been asked of it and may still be lost.

use std::collections::VecDeque;

use tenure::core::Restored;
use tenure::log::{Compaction, Entry, EntryKind, HardState, Log, TermRun, Write};
use tenure::quorum::Configuration;
use tenure::types::{EntryId, Index, WriteSeq};

/// Durable state, and writes that are not durable yet, in order.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    /// Behind the compaction, if there is one.
    pub entries: Vec<Entry>,
    pub compaction: Option<Compaction>,
    /// The last entry of the newest snapshot.
    pub snapshot: Option<EntryId>,
    pub pending: VecDeque<Write>,
    founded_now: bool,
}

impl Disk {
    /// A disk on which a group of `configuration` has just been founded.
    pub fn founded(configuration: Configuration) -> Self {
        let (write, _) = Restored::founding(configuration);
        let mut disk = Self { founded_now: true, ..Self::default() };
        disk.carry_out(write);
        disk
    }

    /// The disk of a node that has never heard of the group.
    pub fn joining() -> Self {
        Self { founded_now: true, ..Self::default() }
    }

    /// A disk with this history: entry 1 is the founding configuration, the others have the given terms.
    pub fn with_history(configuration: Configuration, hard_state: HardState, terms: &[u64]) -> Self {
        let mut disk = Self::founded(configuration);
        disk.founded_now = false;
        disk.hard_state = hard_state;
        let entry = |(at, term): (usize, &u64)| super::lone::command(at as u64 + 2, *term);
        disk.entries.extend(terms.iter().enumerate().map(entry));
        disk
    }

    /// Makes the oldest pending write durable.
    pub fn sync_one(&mut self) -> Option<WriteSeq> {
        let write = self.pending.pop_front()?;
        let seq = write.seq;
        self.carry_out(write);
        Some(seq)
    }

    /// Makes every pending write durable.
    pub fn sync(&mut self) -> Option<WriteSeq> {
        let mut last = None;
        while let Some(seq) = self.sync_one() {
            last = Some(seq);
        }
        last
    }

    /// The power goes: what is pending is lost.
    pub fn crash(&mut self) {
        self.pending.clear();
        self.founded_now = false;
    }

    fn carry_out(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the term on disk fell");
            let revoted = hard_state.term == self.hard_state.term
                && self.hard_state.vote.is_some()
                && hard_state.vote != self.hard_state.vote;
            assert!(!revoted, "the vote on disk changed within a term");
            self.hard_state = hard_state;
        }
        if let Some(compaction) = write.compaction {
            self.compact(compaction);
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.id.index < from);
        }
        for entry in write.entries {
            assert_eq!(entry.id.index, self.last().index.next(), "a gap on disk");
            self.entries.push(entry);
        }
    }

    fn compact(&mut self, compaction: Compaction) {
        let last = compaction.last;
        assert!(last.index >= self.base().index, "a compaction moved back");
        let holds = last == self.base() || self.entries.iter().any(|entry| entry.id == last);
        self.entries.retain(|entry| holds && entry.id.index > last.index);
        self.compaction = Some(compaction);
    }

    pub fn base(&self) -> EntryId {
        self.compaction.as_ref().map_or(EntryId::ZERO, |compaction| compaction.last)
    }

    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base(), |entry| entry.id)
    }

    /// Entries `first..=last`, as far as they are durable.
    pub fn read(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let wanted = self.entries.iter().filter(|entry| (first..=last).contains(&entry.id.index));
        wanted
            .take_while(|entry| {
                let head = bytes == 0;
                bytes += entry.payload.len().max(1);
                head || bytes <= max_bytes
            })
            .cloned()
            .collect()
    }

    /// What a node finds when it starts.
    pub fn restore(&self, applied: Index) -> Restored {
        let mut runs: Vec<TermRun> = Vec::new();
        for entry in &self.entries {
            if runs.last().is_none_or(|run| run.term != entry.id.term) {
                runs.push(TermRun { first: entry.id.index, term: entry.id.term });
            }
        }
        let entries = self.entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
        let entries = entries.map(|entry| (entry.id.index, entry.payload.clone()));
        let base = self.compaction.iter().map(|compaction| compaction.configuration.clone());
        let configurations = base.chain(entries);
        Restored {
            hard_state: self.hard_state,
            log: Log::from_runs(self.base(), runs, self.last().index).expect("the disk holds a log"),
            configurations: configurations
                .map(|(at, payload)| (at, Configuration::decode(&payload).expect("a configuration")))
                .collect(),
            applied,
            snapshot: self.snapshot,
            founded_now: self.founded_now,
        }
    }
}
