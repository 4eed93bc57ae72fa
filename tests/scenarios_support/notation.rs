//! What a transcript shows, and how it is written: messages as their `Debug` has them, except that rounds are counted
//! from 1 in the order in which they are first seen, and that times are cut to whole milliseconds.

use std::collections::BTreeMap;

use tenure::message::{Body, Message, Refusal, Verdict};
use tenure::time::Duration;
use tenure::types::RoundId;

use crate::table::network::{Link, kind, link};

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
    lines: Vec<String>,
    rounds: BTreeMap<RoundId, RoundId>,
    /// What was said last on each link, per kind.
    said: BTreeMap<(Link, &'static str), String>,
}

impl Notation {
    pub(crate) fn new() -> Self {
        let shown = vec![Topic::Roles, Topic::Votes, Topic::Appends, Topic::Commits, Topic::Reads];
        Self { shown, lines: Vec::new(), rounds: BTreeMap::new(), said: BTreeMap::new() }
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
        let text = self.write(message) + remark;
        let repeats = self.said.insert((link(message), kind(&message.body)), text.clone()).as_ref() == Some(&text);
        let topic = match &message.body {
            Body::AppendEntries(_) | Body::AppendResponse(_) => Topic::Appends,
            Body::ReadIndex(_) | Body::ReadIndexResponse(_) => Topic::Reads,
            _ => Topic::Votes,
        };
        self.line(if repeats && topic == Topic::Appends { Topic::Heartbeats } else { topic }, elapsed, text);
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// The message in the notation of a transcript.
    fn write(&mut self, message: &Message) -> String {
        let mut message = message.clone();
        match &mut message.body {
            Body::PreVote(request) | Body::Vote(request) => request.round = self.small(request.round),
            Body::PreVoteResponse(answer) | Body::VoteResponse(answer) => {
                answer.round = self.small(answer.round);
                answer.verdict = in_whole_ms(answer.verdict);
            }
            Body::AppendEntries(append) => append.round = self.small(append.round),
            Body::AppendResponse(answer) => answer.round = self.small(answer.round),
            Body::ReadIndex(question) => question.round = self.small(question.round),
            Body::ReadIndexResponse(answer) => answer.round = self.small(answer.round),
            _ => {}
        }
        format!("{message:?}")
    }

    fn small(&mut self, round: RoundId) -> RoundId {
        if round == RoundId(0) {
            return round;
        }
        let taken = |number: &u64| self.rounds.values().any(|called| called.0 == *number);
        let free = (1..).find(|number| !taken(number)).map_or(round, RoundId);
        *self.rounds.entry(round).or_insert(free)
    }

    /// The round that a transcript calls by this number. If there is none, it is given to a new one.
    pub(crate) fn round_called(&mut self, small: RoundId) -> RoundId {
        let known = self.rounds.iter().find(|(_, called)| **called == small).map(|(round, _)| *round);
        known.unwrap_or_else(|| {
            let invented = RoundId(u64::MAX - small.0);
            self.rounds.insert(invented, small);
            invented
        })
    }
}

pub(crate) fn refusal(reason: Refusal) -> String {
    match in_whole_ms(Verdict::Refused(reason)) {
        Verdict::Refused(reason) => reason.to_string(),
        Verdict::Granted => "granted".to_owned(),
    }
}

fn in_whole_ms(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Refused(Refusal::Promised { leader, term, remaining }) => {
            let remaining = Duration::from_millis(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX));
            Verdict::Refused(Refusal::Promised { leader, term, remaining })
        }
        other => other,
    }
}
