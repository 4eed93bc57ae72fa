//! What a transcript shows. How messages and events are written is the simulator's notation.

use tenure::message::Message;
use tenure::sim::notation::{About, Scribe};
use tenure::time::Duration;

/// What kinds of line are printed. Refusals, answers to clients and calamities always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Changes of role, term or known leader.
    Roles,
    /// PreVote, Vote, Abdicate and their answers.
    Votes,
    /// AppendEntries and its answers, unless they repeat the one before on their link.
    Appends,
    /// The repetitions, too.
    Heartbeats,
    /// Commit indexes.
    Commits,
    /// What state machines apply.
    Applies,
    /// Questions for a read index and their answers.
    Reads,
    /// Writes and what becomes durable.
    Disks,
    /// True time since the story began, before each line.
    Times,
}

const TOPICS: &[(&str, Topic)] = &[
    ("roles", Topic::Roles),
    ("votes", Topic::Votes),
    ("appends", Topic::Appends),
    ("heartbeats", Topic::Heartbeats),
    ("commits", Topic::Commits),
    ("applies", Topic::Applies),
    ("reads", Topic::Reads),
    ("disks", Topic::Disks),
    ("times", Topic::Times),
];

impl Topic {
    /// Everything but the times.
    pub(crate) const ALL: &[Self] = &[
        Self::Roles,
        Self::Votes,
        Self::Appends,
        Self::Heartbeats,
        Self::Commits,
        Self::Applies,
        Self::Reads,
        Self::Disks,
    ];
}

pub(crate) fn topic(word: &str) -> Option<Topic> {
    TOPICS.iter().find(|(name, _)| *name == word).map(|(_, topic)| *topic)
}

/// The lines of a transcript as they come.
pub(crate) struct Notation {
    pub(crate) shown: Vec<Topic>,
    pub(crate) scribe: Scribe,
    lines: Vec<String>,
}

impl Notation {
    pub(crate) fn new() -> Self {
        let shown = vec![Topic::Roles, Topic::Votes, Topic::Appends, Topic::Commits, Topic::Reads];
        Self { shown, scribe: Scribe::new(), lines: Vec::new() }
    }

    pub(crate) fn shows(&self, topic: Topic) -> bool {
        self.shown.contains(&topic)
    }

    /// Prints a line whatever is shown.
    pub(crate) fn always(&mut self, elapsed: Duration, line: String) {
        let time = if self.shows(Topic::Times) { format!("+{} ms ", elapsed.as_millis()) } else { String::new() };
        self.lines.push(time + &line);
    }

    pub(crate) fn line(&mut self, topic: Topic, elapsed: Duration, line: String) {
        if self.shows(topic) {
            self.always(elapsed, line);
        }
    }

    /// Prints a message; `remark` says what became of it.
    pub(crate) fn message(&mut self, elapsed: Duration, message: &Message, remark: &str) {
        let (text, about) = self.scribe.message(message, remark);
        let topic = match about {
            About::Votes => Topic::Votes,
            About::Appends => Topic::Appends,
            About::Heartbeats => Topic::Heartbeats,
            About::Reads => Topic::Reads,
        };
        self.line(topic, elapsed, text + remark);
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
