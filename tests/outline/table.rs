//! The table of `docs/state-machine.md`: what each role does with each input, as the core does it.
//!
//! `UPDATE=1 cargo test --test outline the_table` rewrites it.

use super::*;
use tenure::message::{Abdicate, ReadIndex, ReadIndexResponse};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/state-machine.md");
const BEGIN: &str = "<!-- what the core does; rewritten by tests/outline/table.rs -->\n";
const END: &str = "<!-- end -->\n";

/// A node in a state, with what it has sent on the way there.
struct Scene {
    lone: Lone,
    sent: Vec<Message>,
    /// A proposal was refused.
    refused: bool,
}

impl Scene {
    fn new(lone: Lone, sent: Vec<Message>) -> Self {
        Self { lone, sent, refused: false }
    }
}

/// Three voters in term 5; node 1 has entry 2@4.
fn scenes() -> [(&'static str, Scene); 5] {
    let start = || Lone::with_log(5, &[4]);
    let mut promised = start();
    promised.heartbeat_from(2, 5);
    let mut pre_candidate = start();
    let asked = pre_candidate.stand();
    let mut candidate = start();
    let pre = candidate.stand();
    let asks = candidate.grant(2, &pre);
    let mut leader = start();
    let sent = leader.elect();
    leader.accept(2, &sent);
    leader.pass(10);
    [
        ("Follower, no promise", Scene::new(start(), Vec::new())),
        ("Follower, promised to n2", Scene::new(promised, Vec::new())),
        ("PreCandidate", Scene::new(pre_candidate, asked)),
        ("Candidate", Scene::new(candidate, asks)),
        ("Leader, heard by a quorum", Scene::new(leader, sent)),
    ]
}

type Act = Box<dyn Fn(&mut Scene) -> Vec<Message>>;

/// Each input with the rules it is governed by.
fn inputs() -> Vec<(&'static str, &'static str, Act)> {
    fn ask(term: i64, pre: bool) -> Act {
        Box::new(move |scene| {
            let own = scene.lone.term() as i64;
            let campaign_term = Term((own + term) as u64);
            // Newer than ours; not so new that it would prove that the promise's leader was succeeded.
            let last = EntryId::new(9, campaign_term.0.saturating_sub(1).min(5));
            let (round, configuration) = (RoundId(9), Index(1));
            let request = VoteRequest { round, campaign_term, last, configuration, abdicated: None };
            match pre {
                true => scene.lone.receive(3, campaign_term.0 - 1, Body::PreVote(request)),
                false => scene.lone.receive(3, campaign_term.0, Body::Vote(request)),
            }
        })
    }
    fn append(term: i64) -> Act {
        Box::new(move |scene| {
            let own = scene.lone.term() as i64;
            scene.lone.append_from(2, (own + term) as u64, EntryId::new(2, 4), vec![], 1)
        })
    }
    fn answers(verdict: Verdict, newer: u64) -> Act {
        Box::new(move |scene| {
            let sent = std::mem::take(&mut scene.sent);
            let term = scene.lone.term() + newer;
            scene.lone.answer_votes_in_term(2, &sent, verdict, term)
        })
    }
    fn farewell(term: u64, successor: Option<u64>) -> Act {
        Box::new(move |scene| {
            let term = scene.lone.term() - term;
            scene.lone.receive(2, term, Body::Abdicate(Abdicate { successor: successor.map(NodeId) }))
        })
    }
    fn input(make: impl Fn() -> Input + 'static) -> Act {
        Box::new(move |scene| scene.lone.step(make()))
    }
    vec![
        ("PreVote for an older term", "`o04`", ask(-1, true)),
        ("PreVote for the current term", "`o05` `o06` `p03` `p04`", ask(0, true)),
        ("PreVote for a newer term", "`o05` `o06` `p03` `p04`", ask(1, true)),
        ("Vote in an older term", "`o11`", ask(-1, false)),
        ("Vote in the current term", "`o12` `o13` `p03` `p04`", ask(0, false)),
        ("Vote in a newer term", "`o12` `o13` `l04` `p03` `p04`", ask(1, false)),
        ("AppendEntries of an older term", "`o18` `s06`", append(-1)),
        ("AppendEntries of the current term", "`o19` `o20` `p01`", append(0)),
        ("AppendEntries of a newer term", "`o19` `p01` `p08`", append(1)),
        ("(Pre)VoteResponse that completes a quorum", "`o07` `o14` `o16`", answers(Verdict::Granted, 0)),
        ("(Pre)VoteResponse that refuses", "`o07` `o14` `p13`", answers(Verdict::Refused(Refusal::OldTerm), 0)),
        ("(Pre)VoteResponse of a newer term", "`o07` `o14`", answers(Verdict::Refused(Refusal::OldTerm), 3)),
        (
            "AppendResponse of a newer term",
            "`p12` `s05`",
            Box::new(|scene| {
                let sent = std::mem::take(&mut scene.sent);
                let Some((term, append)) = appends_to(3, &sent).pop() else { return Vec::new() };
                let response = answer_to(term, &append, AppendOutcome::OldTerm, |answer| answer.promise_ms = 0);
                scene.lone.receive(3, term.0 + 3, Body::AppendResponse(response))
            }),
        ),
        ("Abdicate of n2 in favour of this node", "`p09`", farewell(0, Some(1))),
        ("Abdicate of n2 in favour of n3", "`p09`", farewell(0, Some(3))),
        ("Abdicate of n2 in an older term", "`p09`", farewell(1, Some(1))),
        (
            "ReadIndex",
            "`p07`",
            Box::new(|scene| {
                let term = scene.lone.term();
                scene.lone.receive(3, term, Body::ReadIndex(ReadIndex { round: RoundId(1), lease: false }))
            }),
        ),
        (
            "ReadIndexResponse that nobody waits for",
            "`s05`",
            Box::new(|scene| {
                let request_term = Term(scene.lone.term());
                let response = ReadIndexResponse { round: RoundId(1), request_term, index: Some(Index(1)) };
                scene.lone.receive(2, request_term.0, Body::ReadIndexResponse(response))
            }),
        ),
        ("the role's own timer", "`o02` `o08` `o15` `o17` `p14`", Box::new(|scene| scene.lone.pass_to_deadline())),
        (
            "Propose",
            "`r01`",
            Box::new(|scene| {
                let (proposed, sent) = scene.lone.propose(&["x"]);
                scene.refused = proposed.refused.is_some();
                sent
            }),
        ),
        ("Read, linearizable", "`p07`", Box::new(|scene| scene.lone.read(1))),
        ("Transfer to n2", "`p09`", Box::new(|scene| scene.lone.transfer(1, Some(2)))),
        ("ClockJumped", "`p16`", input(|| Input::ClockJumped)),
        ("WriteFailed", "`p11`", input(|| Input::WriteFailed)),
    ]
}

/// What happened, in few words.
fn effect(scene: &mut Scene, act: &Act) -> String {
    let before = scene.lone.core.status();
    let deadline = scene.lone.core.next_deadline();
    let reads = scene.lone.reads.len();
    let sent = act(scene);
    let after = scene.lone.core.status();
    let mut words = Vec::new();
    if after.role != before.role {
        words.push(format!("→ {:?}", after.role));
    }
    if after.term != before.term {
        words.push(format!("term + {}", after.term.0 - before.term.0));
    }
    let asks = sent.iter().any(|message| matches!(message.body, Body::ReadIndex(_)));
    let may_restart = after.role == before.role && after.role == RoleKind::Follower && !asks;
    if may_restart && scene.lone.core.next_deadline() != deadline && after.stopped.is_none() {
        words.push("restarts its timer".to_owned());
    }
    let mut said: Vec<String> = sent.iter().map(said).collect();
    said.dedup();
    words.extend(said);
    if scene.lone.reads.len() > reads || scene.refused {
        words.push("refuses".to_owned());
    }
    for transfer in &scene.lone.transfers {
        words.push(if transfer.result.is_ok() { "hands over" } else { "refuses" }.to_owned());
    }
    if after.stopped.is_some() {
        words.push("stops".to_owned());
    }
    if words.is_empty() { "–".to_owned() } else { words.join(", ") }
}

fn said(message: &Message) -> String {
    match &message.body {
        Body::PreVote(_) => "asks for pre-votes".to_owned(),
        Body::Vote(_) => "asks for votes".to_owned(),
        Body::PreVoteResponse(response) | Body::VoteResponse(response) => match response.verdict {
            Verdict::Granted => "grants".to_owned(),
            Verdict::Refused(Refusal::Promised { .. }) => "refuses: promised".to_owned(),
            Verdict::Refused(Refusal::AlreadyVoted(_)) => "refuses: has voted".to_owned(),
            Verdict::Refused(reason) => format!("refuses: {reason}"),
        },
        Body::AppendEntries(append) if append.slice.is_empty() => "heartbeats".to_owned(),
        Body::AppendEntries(_) => "appends".to_owned(),
        Body::AppendResponse(response) => match response.outcome {
            AppendOutcome::OldTerm => "answers with its term".to_owned(),
            _ if response.promise_ms > 0 => "accepts, promises".to_owned(),
            _ => "accepts, promises nothing".to_owned(),
        },
        Body::Abdicate(_) => "says farewell".to_owned(),
        Body::ReadIndex(_) => "asks its leader".to_owned(),
        Body::ReadIndexResponse(response) => if response.index.is_some() { "answers" } else { "refuses" }.to_owned(),
        other => format!("{other:?}"),
    }
}

fn table() -> String {
    let heads: Vec<_> = scenes().iter().map(|(name, _)| *name).collect();
    let mut table = format!("| input | {} | rules |\n", heads.join(" | "));
    table.push_str(&format!("|{}\n", " --- |".repeat(heads.len() + 2)));
    for (name, rules, act) in inputs() {
        let cells: Vec<_> = scenes().into_iter().map(|(_, mut scene)| effect(&mut scene, &act)).collect();
        table.push_str(&format!("| {name} | {} | {rules} |\n", cells.join(" | ")));
    }
    table
}

#[test]
fn the_table_of_roles_and_inputs_says_what_the_core_does() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the table's beginning");
    let (written, after) = rest.split_once(END).expect("the table's end");
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "docs/state-machine.md is not what the core does; UPDATE=1 rewrites it");
}
