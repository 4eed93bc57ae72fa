//! One node of a story: its core, its clock, its disk and its state machine, each of which can fail by itself.

use tenure::config::CoreConfig;
use tenure::core::{Core, CoreStatus, Lease, Load};
use tenure::log::{Entry, EntryKind};
use tenure::message::Message;
use tenure::time::{Duration, Instant};
use tenure::types::Index;

use crate::support::disk::Disk;
use crate::table::clock::Clock;

/// How long a disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskPace {
    /// Durable within the step that asks for it.
    Prompt,
    /// One sync at a time, each this long.
    Takes(Duration),
    /// Nothing becomes durable until the story says so.
    Held,
}

pub(crate) struct Node {
    pub(crate) config: CoreConfig,
    /// `None` while the process is down.
    pub(crate) core: Option<Core>,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) pace: DiskPace,
    /// When the running sync ends.
    pub(crate) sync_ends: Option<Duration>,
    /// What it has asked to read from a disk that does not answer.
    pub(crate) unread: Option<Vec<Load>>,
    /// What has come in while the process is stopped.
    pub(crate) paused: Option<Vec<Message>>,
    /// Its timers are late: they do not fire until the story says so.
    pub(crate) timers_off: bool,
    /// A deadline that has passed without its timer firing, and when it fires after all.
    pub(crate) late: Option<(Instant, Duration)>,
    /// What waits for a state machine that does not come back.
    pub(crate) blocked: Option<Vec<Entry>>,
    /// The state machine, in memory.
    pub(crate) applied: Vec<Entry>,
    /// The commit index printed last.
    pub(crate) commit: Index,
}

impl Node {
    pub(crate) fn new(config: CoreConfig, disk: Disk) -> Self {
        Self {
            clock: Clock::of(config.id),
            config,
            core: None,
            disk,
            pace: DiskPace::Prompt,
            sync_ends: None,
            unread: None,
            paused: None,
            timers_off: false,
            late: None,
            blocked: None,
            applied: Vec::new(),
            commit: Index::ZERO,
        }
    }

    pub(crate) fn set_pace(&mut self, pace: DiskPace) {
        self.pace = pace;
        self.sync_ends = None;
    }

    pub(crate) fn status(&self) -> Option<CoreStatus> {
        self.core.as_ref().map(Core::status)
    }

    /// Whether it takes steps.
    pub(crate) fn runs(&self) -> bool {
        self.core.is_some() && self.paused.is_none()
    }

    /// When its timer fires next, in true time.
    pub(crate) fn timer(&self) -> Option<Duration> {
        if self.timers_off || !self.runs() {
            return None;
        }
        let deadline = self.core.as_ref()?.next_deadline()?;
        let at = self.clock.reaches(deadline);
        Some(self.late.filter(|(late, _)| *late == deadline).map_or(at, |(_, until)| at.max(until)))
    }

    /// If its timer is due by now it fires at `until` instead, unless the deadline moves before.
    pub(crate) fn delay_timer(&mut self, now: Duration, until: Duration) {
        let deadline = self.core.as_ref().and_then(Core::next_deadline);
        self.late = deadline.filter(|deadline| self.clock.reaches(*deadline) <= now).map(|deadline| (deadline, until));
    }

    /// When its sync ends, as far as the process is there to see it.
    pub(crate) fn sync(&self) -> Option<Duration> {
        self.sync_ends.filter(|_| self.runs())
    }

    /// The process and its memory are gone; the disk keeps what was durable.
    pub(crate) fn crash(&mut self) {
        self.core = None;
        self.paused = None;
        self.blocked = None;
        self.sync_ends = None;
        self.late = None;
        self.unread = self.unread.as_ref().map(|_| Vec::new());
        self.applied.clear();
        self.commit = Index::ZERO;
        self.disk.crash();
    }

    /// The lease that other threads of this process may use now. A process that is paused has one, too: it may wake up
    /// between looking at the clock and reading.
    pub(crate) fn lease(&self, now: Instant) -> Option<Lease> {
        self.core.as_ref()?.lease().filter(|lease| now < lease.until)
    }

    /// One line about it.
    pub(crate) fn describe(&self, now: Instant) -> String {
        let Some(core) = &self.core else { return format!("{} down", self.config.id) };
        let status = core.status();
        let mut line = format!("{} {:?} {}", status.id, status.role, status.term);
        if let Some(leader) = status.leader.filter(|leader| *leader != status.id) {
            line += &format!(" of {leader}");
        }
        if let Some(vote) = status.vote {
            line += &format!(", vote {vote}");
        }
        line += &format!(", log {}, commit {}, applied {}", status.last, status.commit, status.applied);
        if status.durable != status.last.index {
            line += &format!(", durable {}", status.durable);
        }
        if !status.peers.is_empty() {
            let peers: Vec<_> = status.peers.iter().map(|(peer, matched)| format!("{peer} {matched}")).collect();
            line += &format!(", match {}", peers.join(" "));
        }
        if let Some(lease) = self.lease(now) {
            line += &format!(", lease for {} ms", lease.until.since(now).as_millis());
        }
        if status.transferring {
            line += ", hands over";
        }
        if self.paused.is_some() {
            line += ", paused";
        }
        if status.stopped.is_some() {
            line += ", stopped";
        }
        line
    }

    /// Its log as the core sees it, run by run; commands that the disk holds with their text.
    pub(crate) fn describe_log(&self) -> String {
        let entries: Vec<_> = self.disk.entries.iter().map(describe_entry).collect();
        let pending = self.disk.pending.iter().flat_map(|write| &write.entries).count();
        let unsynced = if pending > 0 { format!(" and {pending} not durable") } else { String::new() };
        format!("{} log {}{unsynced}", self.config.id, entries.join(" "))
    }
}

/// An entry with its command.
pub(crate) fn describe_entry(entry: &Entry) -> String {
    match entry.kind {
        EntryKind::Command => format!("{} \"{}\"", entry.id, String::from_utf8_lossy(&entry.payload)),
        _ => format!("{entry:?}"),
    }
}
