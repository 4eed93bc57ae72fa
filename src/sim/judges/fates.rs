//! Proposals: what was acknowledged is committed once; what was refused is nowhere; the rest is there at most once.

use std::collections::HashMap;

use super::{Verdict, require};
use crate::log::{Entry, EntryKind};
use crate::types::{EntryId, Index};

/// What a client was told of a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Committed(EntryId),
    NotCommitted,
    Unknown,
}

/// Every proposal, by its payload. Payloads are told apart by their checksum and length; clients make them unique.
#[derive(Default)]
pub(in crate::sim) struct Fates {
    proposals: HashMap<u64, Fate>,
    applied: HashMap<u64, Index>,
}

/// What a command is known by here.
pub(in crate::sim) fn name(payload: &[u8]) -> u64 {
    payload.chunks(8).fold(payload.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        super::mix(hash, u64::from_le_bytes(word))
    })
}

impl Fates {
    /// A command is proposed; it was never proposed before.
    pub(in crate::sim) fn proposed(&mut self, payload: &[u8]) -> u64 {
        let name = name(payload);
        self.proposals.insert(name, Fate::Open);
        name
    }

    /// Its proposer was told: committed at a place, certainly not committed (`None`).
    pub(in crate::sim) fn told(&mut self, id: u64, name: u64, fate: Option<EntryId>) -> Verdict {
        let at = self.applied.get(&name).copied();
        let now = fate.map_or(Fate::NotCommitted, Fate::Committed);
        self.proposals.insert(name, now);
        match fate {
            Some(entry) => require(at == Some(entry.index), "acknowledged is applied", id, || {
                format!("{entry} was acknowledged, its command is at {at:?}")
            }),
            None => require(at.is_none(), "refused is not committed", id, || format!("refused, and it is at {at:?}")),
        }
    }

    /// Its proposer was told that nobody knows.
    pub(in crate::sim) fn unknown(&mut self, name: u64) {
        self.proposals.insert(name, Fate::Unknown);
    }

    /// A node applies an entry, perhaps as the first.
    pub(in crate::sim) fn applied(&mut self, id: u64, entry: &Entry) -> Verdict {
        if entry.kind != EntryKind::Command {
            return Ok(());
        }
        let name = name(&entry.payload);
        let index = entry.id.index;
        let known = *self.applied.entry(name).or_insert(index);
        require(known == index, "a command is applied once", id, || format!("at {known} and at {index}"))?;
        let fate = self.proposals.get(&name).copied();
        require(fate.is_some(), "only what was proposed is applied", id, || format!("nobody proposed {}", entry.id))?;
        require(fate != Some(Fate::NotCommitted), "refused is not committed", id, || {
            format!("{} was refused as certainly not committed", entry.id)
        })
    }
}
