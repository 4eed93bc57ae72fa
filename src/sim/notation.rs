//! How a run is written down, here and in the project's scenarios: messages and events as their `Debug` has them, except
//! that rounds are counted from 1 in the order in which they are first seen, and that times are cut to whole milliseconds.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{Event, RoleKind};
use crate::message::{Body, Message, Refusal, Verdict};
use crate::time::Duration;
use crate::types::{NodeId, RoundId, Term};

/// The words with which messages begin, as [`kind`] tells them.
pub const KINDS: &[&str] = &[
    "PreVote",
    "PreVoteResponse",
    "Vote",
    "VoteResponse",
    "Append",
    "AppendResponse",
    "Abdicate",
    "ReadIndex",
    "ReadIndexResponse",
];

/// The word with which a message's notation says what it is.
#[must_use]
pub fn kind(body: &Body) -> &'static str {
    match body {
        Body::PreVote(_) => "PreVote",
        Body::PreVoteResponse(_) => "PreVoteResponse",
        Body::Vote(_) => "Vote",
        Body::VoteResponse(_) => "VoteResponse",
        Body::AppendEntries(_) => "Append",
        Body::AppendResponse(_) => "AppendResponse",
        Body::Abdicate(_) => "Abdicate",
        Body::ReadIndex(_) => "ReadIndex",
        Body::ReadIndexResponse(_) => "ReadIndexResponse",
    }
}

/// What messages are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// PreVote, Vote, Abdicate and their answers.
    Votes,
    /// AppendEntries and its answers.
    Appends,
    /// The same, if they repeat the one before on their link.
    Heartbeats,
    /// Questions for a read index and their answers.
    Reads,
}

/// Writes messages: knows the rounds seen so far, and what was said last on each link.
#[derive(Clone, Debug, Default)]
pub struct Scribe {
    rounds: BTreeMap<RoundId, RoundId>,
    /// The small numbers that are in use.
    taken: BTreeSet<u64>,
    /// All below are in use.
    next: u64,
    /// Per link and kind.
    said: BTreeMap<(NodeId, NodeId, &'static str), String>,
}

impl Scribe {
    /// One that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The message in the notation, and what it is about. It repeats the one before of its kind on its link if it says the
    /// same and the same `became` of it.
    pub fn message(&mut self, message: &Message, became: &str) -> (String, About) {
        let text = self.write(message);
        let (link, said) = ((message.from, message.to, kind(&message.body)), format!("{text}{became}"));
        let repeats = self.said.get(&link) == Some(&said);
        self.said.insert(link, said);
        let about = match &message.body {
            Body::AppendEntries(_) | Body::AppendResponse(_) if repeats => About::Heartbeats,
            Body::AppendEntries(_) | Body::AppendResponse(_) => About::Appends,
            Body::ReadIndex(_) | Body::ReadIndexResponse(_) => About::Reads,
            _ => About::Votes,
        };
        (text, about)
    }

    fn write(&mut self, message: &Message) -> String {
        let mut message = message.clone();
        match &mut message.body {
            Body::PreVote(request) | Body::Vote(request) => request.round = self.small(request.round),
            Body::PreVoteResponse(answer) | Body::VoteResponse(answer) => {
                answer.round = self.small(answer.round);
                if let Verdict::Refused(reason) = &mut answer.verdict {
                    *reason = in_whole_ms(*reason);
                }
            }
            Body::AppendEntries(append) => append.round = self.small(append.round),
            Body::AppendResponse(answer) => answer.round = self.small(answer.round),
            Body::ReadIndex(question) => question.round = self.small(question.round),
            Body::ReadIndexResponse(answer) => answer.round = self.small(answer.round),
            Body::Abdicate(_) => {}
        }
        format!("{message:?}")
    }

    fn small(&mut self, round: RoundId) -> RoundId {
        if round == RoundId(0) {
            return round;
        }
        if let Some(small) = self.rounds.get(&round) {
            return *small;
        }
        self.next = (self.next.max(1)..u64::MAX).find(|number| !self.taken.contains(number)).unwrap_or(u64::MAX);
        self.call(round, RoundId(self.next))
    }

    fn call(&mut self, round: RoundId, small: RoundId) -> RoundId {
        self.taken.insert(small.0);
        self.rounds.insert(round, small);
        small
    }

    /// The round that is written as this number. If there is none, the number is given to a new one.
    pub fn round_called(&mut self, small: RoundId) -> RoundId {
        let known = self.rounds.iter().find(|(_, called)| **called == small).map(|(round, _)| *round);
        known.unwrap_or_else(|| {
            let invented = RoundId(u64::MAX - small.0);
            self.call(invented, small);
            invented
        })
    }
}

/// What a node is, as it stands behind the node's name.
#[must_use]
pub fn role(node: NodeId, role: RoleKind, term: Term, leader: Option<NodeId>) -> String {
    match leader.filter(|leader| *leader != node) {
        Some(leader) => format!("{role:?} {term} of {leader}"),
        None => format!("{role:?} {term}"),
    }
}

/// What happened to `node`, as it stands behind the node's name.
#[must_use]
pub fn event(node: NodeId, event: &Event) -> String {
    match event {
        Event::Role { role, term, leader } => self::role(node, *role, *term, *leader),
        Event::Refused { by, reason } => format!("refused by {by}: {}", in_whole_ms(*reason)),
        Event::Truncated { from } => format!("truncates from {from}"),
        Event::TailLost { peer, matched, last } => {
            format!("finds that {peer} lost its tail: it had {matched}, it has {last}")
        }
        Event::Abdicated { successor: Some(successor), why } => format!("abdicates to {successor} ({why:?})"),
        Event::Abdicated { successor: None, why } => format!("abdicates ({why:?})"),
        Event::Configuration { index } => format!("uses the configuration at {index}"),
        Event::Removed => "was removed".to_owned(),
        Event::Barred { from } => format!("does not hear {from}, which is barred"),
        Event::Stopped(fatal) => format!("stopped: {fatal}"),
    }
}

fn in_whole_ms(reason: Refusal) -> Refusal {
    match reason {
        Refusal::Promised { leader, term, remaining } => {
            let remaining = Duration::from_millis(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX));
            Refusal::Promised { leader, term, remaining }
        }
        other => other,
    }
}
