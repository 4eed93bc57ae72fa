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
        Scene::Started { node, term } => format!("{node} starts in {term}"),
        Scene::Died { node } => format!("{node} is down"),
        Scene::Paused { node, asleep: true } => format!("{node} sleeps"),
        Scene::Paused { node, asleep: false } => format!("{node} is stopped"),
        Scene::Resumed { node } => format!("{node} goes on"),
        Scene::Note { node, text } | Scene::Snapshot { node, text } | Scene::Fault { node: Some(node), text, .. } => {
            format!("{node} {text}")
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::RoleKind;
    use crate::log::LogSlice;
    use crate::message::{AppendEntries, Body, Message, VoteRequest};
    use crate::sim::Detail;
    use crate::time::Duration;
    use crate::types::{EntryId, GroupId, RoundId, Term};

    fn trace(moments: Vec<(u64, Scene)>) -> Trace {
        let at = |micros| Instant::ZERO + BEGINNING + Duration::from_micros(micros);
        let mut trace = Trace::default();
        trace.moments = moments.into_iter().map(|(micros, what)| Moment { at: at(micros), what }).collect();
        trace
    }

    fn sent(frame: u64, body: Body) -> Scene {
        let message = Message { group: GroupId(1), from: NodeId(1), to: NodeId(2), term: Term(2), body };
        Scene::Sent { message, frame }
    }

    fn heartbeat(stamp: u64) -> Body {
        let (stamp, round, commit) = (Instant::from_nanos(stamp), RoundId(77), Index(1));
        let slice = LogSlice::new(EntryId::new(1, 1), Vec::new()).unwrap();
        Body::AppendEntries(AppendEntries { stamp, round, commit, rank: None, fresh: None, snapshot: false, slice })
    }

    #[test]
    fn a_run_is_written_line_for_line() {
        let (n1, n2) = (NodeId(1), NodeId(2));
        let (round, campaign_term, last) = (RoundId(99), Term(2), EntryId::new(1, 1));
        let vote = Body::Vote(VoteRequest { round, campaign_term, last, configuration: Index(1), abdicated: None });
        let trace = trace(vec![
            (0, Scene::Started { node: n1, term: Term(1) }),
            (5_000, sent(1, vote)),
            (5_000, Scene::Lost { frame: 1, why: "lost" }),
            (7_040, Scene::Role { node: n1, role: RoleKind::Leader, term: Term(2), leader: Some(n1) }),
            (8_000, sent(2, heartbeat(1))),
            (8_000, sent(3, heartbeat(2))),
            (8_000, sent(4, heartbeat(3))),
            (8_300, Scene::Arrived { frame: 2 }),
            (8_400, Scene::Arrived { frame: 3 }),
            (8_500, Scene::Role { node: n2, role: RoleKind::Follower, term: Term(2), leader: Some(n1) }),
            (8_600, Scene::Snapshot { node: n2, text: "takes a snapshot up to 1@1".to_owned() }),
            (9_000, Scene::Durable { node: n2, index: Index(4) }),
            (9_100, Scene::Durable { node: n2, index: Index(4) }),
            (9_200, Scene::Arrived { frame: 2 }),
            (9_500, Scene::Lost { frame: 4, why: "cut" }),
            (10_000, sent(5, heartbeat(4))),
            (11_000, Scene::Told { client: 3, text: "not the leader".to_owned(), outcome: Answer::Refused }),
            (1_234_567, Scene::Broken { node: Some(n2), text: "no stale read: 4 < 5".to_owned() }),
        ]);
        let everything = "
      0.0 ms  n1 starts in t1
      5.0 ms  n1->n2 t2 Vote t2 r1 last 1@1 (lost)
      7.0 ms  n1 Leader t2
      8.0 ms  n1->n2 t2 Append after 1@1 [] commit 1 r2 (arrives after 0.3 ms, arrives after 1.2 ms)
      8.0 ms  n1->n2 t2 Append after 1@1 [] commit 1 r2 (arrives after 0.4 ms)
      8.0 ms  n1->n2 t2 Append after 1@1 [] commit 1 r2 (cut after 1.5 ms)
      8.5 ms  n2 Follower t2 of n1
      8.6 ms  n2 takes a snapshot up to 1@1
      9.0 ms  n2 has 4 on disk
      9.1 ms  n2 has 4 on disk
     10.0 ms  n1->n2 t2 Append after 1@1 [] commit 1 r2 (on its way)
     11.0 ms  client 3 is refused: not the leader
   1234.6 ms  BROKEN on n2: no stale read: 4 < 5";
        let everything: Vec<_> = everything.lines().skip(1).collect();
        let trimmed = |detail| trace.lines(detail).iter().map(|line| line.trim_start().to_owned()).collect::<Vec<_>>();
        let expected = |left_out: &[usize]| {
            let kept = everything.iter().zip(0..).filter(|(_, place)| !left_out.contains(place));
            kept.map(|(line, _)| line.trim_start().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(trimmed(Detail::Everything), expected(&[]));
        assert_eq!(trimmed(Detail::News), expected(&[4, 9]));
        assert!(trace.lines(Detail::News).iter().all(|line| line.find(" ms  ") == Some(9)));
    }
}
