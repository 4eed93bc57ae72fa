//! Logs as chains of hashes, and the one that is committed.

use super::mix;
use crate::log::{Entry, EntryKind, Write};
use crate::quorum::Configuration;
use crate::types::{EntryId, Index, Term};

/// An entry and everything before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) term: Term,
    hash: u64,
}

/// A log, together with what it has given up; `links[i]` is the entry at index `i + 1`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    /// The log begins behind this entry.
    base: EntryId,
    /// The configurations in it, each with its index.
    configurations: Vec<(Index, Configuration)>,
}

impl Chain {
    pub(super) fn at(&self, index: Index) -> Option<Link> {
        self.links.get(usize::try_from(index.0.checked_sub(1)?).ok()?).copied()
    }

    /// Whether this very entry is in it, or was.
    pub(super) fn holds(&self, entry: EntryId) -> bool {
        self.at(entry.index).is_some_and(|link| link.term == entry.term)
    }

    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    pub(super) fn last(&self) -> EntryId {
        EntryId { index: Index(self.links.len() as u64), term: self.links.last().map_or(Term::ZERO, |link| link.term) }
    }

    /// The link that `entry` would be behind the last one.
    fn next(&self, entry: &Entry) -> Link {
        let before = self.links.last().map_or(0, |link| link.hash);
        let content = u64::from(crc32c::crc32c(&entry.payload)) << 8 | entry.kind as u64;
        Link { term: entry.id.term, hash: mix(mix(before, entry.id.term.0), content) }
    }

    pub(super) fn truncate_from(&mut self, from: Index) {
        self.links.truncate(from.previous().0 as usize);
        self.configurations.retain(|(at, _)| *at < from);
    }

    pub(super) fn push(&mut self, entry: &Entry) -> Link {
        let link = self.next(entry);
        self.links.push(link);
        if entry.kind == EntryKind::Configuration {
            self.configurations.extend(Configuration::decode(&entry.payload).map(|decoded| (entry.id.index, decoded)));
        }
        link
    }

    /// The log begins behind `last`: what it has behind it stays if it holds it, else all of it goes.
    pub(super) fn compact(&mut self, last: EntryId, truth: &Truth) {
        if !self.holds(last) {
            let given_up = truth.links.len().min(last.index.0 as usize);
            self.links.clear();
            self.links.extend(truth.links[..given_up].iter().map(|committed| committed.link));
            self.configurations = truth.once_in_force.iter().filter(|(at, _)| *at <= last.index).cloned().collect();
        }
        self.base = self.base.max(last);
    }

    /// The one in use, and where it stands.
    pub(super) fn configuration(&self) -> Option<&(Index, Configuration)> {
        self.configurations.last()
    }

    /// The one that stands at `index`.
    pub(super) fn configuration_at(&self, index: Index) -> Option<&(Index, Configuration)> {
        self.configurations.iter().find(|(at, _)| *at == index)
    }

    pub(super) fn configurations(&self) -> &[(Index, Configuration)] {
        &self.configurations
    }

    /// `false` if the entries do not follow what is there.
    pub(super) fn carry_out(&mut self, write: &Write, truth: &Truth) -> bool {
        if let Some(compaction) = &write.compaction {
            self.compact(compaction.last, truth);
        }
        if let Some(from) = write.truncate_from {
            self.truncate_from(from);
        }
        for entry in &write.entries {
            if entry.id.index != self.last().index.next() {
                return false;
            }
            self.push(entry);
        }
        true
    }
}

/// A committed entry.
#[derive(Clone, Copy, Debug)]
struct Committed {
    link: Link,
    /// It was committed in this term or an earlier one.
    by: Term,
}

/// The log that is committed.
#[derive(Default)]
pub(super) struct Truth {
    /// By index, from 1.
    links: Vec<Committed>,
    /// The configurations in it, each with its index.
    once_in_force: Vec<(Index, Configuration)>,
    /// Before there is one.
    none: (Index, Configuration),
}

impl Truth {
    pub(super) fn at(&self, index: Index) -> Option<Link> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.links.get(place).map(|committed| committed.link)
    }

    /// Whether this very entry is committed.
    pub(super) fn holds(&self, entry: EntryId) -> bool {
        self.at(entry.index).is_some_and(|link| link.term == entry.term)
    }

    pub(super) fn last(&self) -> Index {
        Index(self.links.len() as u64)
    }

    /// The last index that was committed in a term before this one.
    pub(super) fn committed_before(&self, term: Term) -> Index {
        Index(self.links.partition_point(|committed| committed.by < term) as u64)
    }

    /// The next entry, of which it is known in `term` that it is committed.
    pub(super) fn push(&mut self, link: Link, term: Term, configuration: Option<&(Index, Configuration)>) {
        // It was committed in this term or before, and so was everything before it.
        for earlier in self.links.iter_mut().rev().take_while(|earlier| earlier.by > term) {
            earlier.by = term;
        }
        self.links.push(Committed { link, by: term });
        self.once_in_force.extend(configuration.cloned());
    }

    /// The latest configuration, and where it stands.
    pub(super) fn in_force(&self) -> &(Index, Configuration) {
        self.once_in_force.last().unwrap_or(&self.none)
    }

    /// The one in force as of the entry at `index`, and where it stands.
    pub(super) fn in_force_at(&self, index: Index) -> &(Index, Configuration) {
        self.once_in_force.iter().rfind(|(at, _)| *at <= index).unwrap_or(&self.none)
    }

    pub(super) fn once_in_force(&self) -> &[(Index, Configuration)] {
        &self.once_in_force
    }
}
