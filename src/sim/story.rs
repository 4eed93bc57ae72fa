//! A record as it is told: every message together with what became of it, everything in words.

use std::collections::BTreeMap;

use super::notation::{self, About, Scribe};
use super::trace::{Answer, Moment, Scene, Trace};
use super::world::BEGINNING;
use crate::time::Instant;
use crate::types::{Index, NodeId};

/// What happened at one moment, in words. What became of a message belongs to the message, and is no line of its own.
pub(super) struct Line<'a> {
    pub(super) moment: &'a Moment,
    /// In the notation, without the time and without what became of a message.
    pub(super) text: String,
    /// What a message is about.
    pub(super) about: Option<About>,
    /// It says nothing that was not said before.
    pub(super) repeats: bool,
    /// Where a message arrived, or was lost.
    pub(super) ends: Vec<End>,
}

/// What became of a message, or of one of its copies.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) at: Instant,
    /// Why it did not arrive, if it did not.
    pub(super) lost: Option<&'static str>,
}

/// Milliseconds of true time since the beginning.
pub(super) fn ms(at: Instant) -> f64 {
    at.since(Instant::ZERO + BEGINNING).as_secs_f64() * 1e3
}

impl Line<'_> {
    /// `(arrives after 0.3 ms)`, `(lost)`, `(cut after 7.0 ms)`; nothing for what is no message.
    fn fate(&self) -> String {
        let end = |End { at, lost }: &End| match (at.since(self.moment.at).as_secs_f64() * 1e3, lost) {
            (took, None) => format!("arrives after {took:.1} ms"),
            (0.0, Some(why)) => (*why).to_owned(),
            (took, Some(why)) => format!("{why} after {took:.1} ms"),
        };
        let ends: Vec<_> = self.ends.iter().map(end).collect();
        match (self.about, ends.is_empty()) {
            (None, _) => String::new(),
            (Some(_), true) => " (on its way)".to_owned(),
            (Some(_), false) => format!(" ({})", ends.join(", ")),
        }
    }

    /// With the time before it, and what became of a message behind it.
    pub(super) fn in_full(&self) -> String {
        format!("{:>9.1} ms  {}{}", ms(self.moment.at), self.text, self.fate())
    }
}

/// All lines, in order.
pub(super) fn lines(trace: &Trace) -> Vec<Line<'_>> {
    let ends = ends(trace);
    let (mut scribe, mut durable) = (Scribe::new(), BTreeMap::new());
    trace.moments.iter().filter_map(|moment| line(moment, &ends, &mut scribe, &mut durable)).collect()
}

/// What became of each frame.
fn ends(trace: &Trace) -> BTreeMap<u64, Vec<End>> {
    let mut ends: BTreeMap<u64, Vec<End>> = BTreeMap::new();
    for Moment { at, what } in &trace.moments {
        match what {
            Scene::Arrived { frame } => ends.entry(*frame).or_default().push(End { at: *at, lost: None }),
            Scene::Lost { frame, why } => ends.entry(*frame).or_default().push(End { at: *at, lost: Some(why) }),
            _ => {}
        }
    }
    ends
}

fn line<'a>(
    moment: &'a Moment,
    frames: &BTreeMap<u64, Vec<End>>,
    scribe: &mut Scribe,
    durable: &mut BTreeMap<NodeId, Index>,
) -> Option<Line<'a>> {
    let (mut about, mut ends, mut repeats) = (None, Vec::new(), false);
    let text = match &moment.what {
        Scene::Arrived { .. } | Scene::Lost { .. } => return None,
        Scene::Sent { message, frame } => {
            ends = frames.get(frame).cloned().unwrap_or_default();
            // When a message arrives differs each time; whether it does is worth a line if it changes.
            let became = ends.first().and_then(|end| end.lost).unwrap_or_default();
            let (text, subject) = scribe.message(message, became);
            (about, repeats) = (Some(subject), subject == About::Heartbeats);
            text
        }
        Scene::Durable { node, index } => {
            repeats = durable.insert(*node, *index) == Some(*index);
            format!("{node} has {index} on disk")
        }
        Scene::Role { node, role, term, leader } => format!("{node} {}", notation::role(*node, *role, *term, *leader)),
        Scene::Committed { node, index } => format!("{node} commit {index}"),
        Scene::Started { node } => format!("{node} starts"),
        Scene::Died { node } => format!("{node} is down"),
        Scene::Paused { node, asleep: true } => format!("{node} sleeps"),
        Scene::Paused { node, asleep: false } => format!("{node} is stopped"),
        Scene::Resumed { node } => format!("{node} goes on"),
        Scene::Note { node, text } | Scene::Fault { node: Some(node), text, .. } => format!("{node} {text}"),
        Scene::Fault { node: None, text, .. } => text.clone(),
        Scene::Healed => "everything is healed".to_owned(),
        Scene::Asked { client, node, text } => format!("client {client} asks {node}: {text}"),
        Scene::Told { client, text, outcome: Answer::Refused } => format!("client {client} is refused: {text}"),
        Scene::Told { client, text, .. } => format!("client {client} {text}"),
        Scene::Broken { node: Some(node), text } => format!("BROKEN on {node}: {text}"),
        Scene::Broken { node: None, text } => format!("BROKEN: {text}"),
    };
    Some(Line { moment, text, about, repeats, ends })
}
