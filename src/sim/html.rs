//! A run as a page to look at: who led when, what was said, what was done to it.
//!
//! The page needs nothing but a browser: its style, its script and the run itself are in it (`page.html`, `page.css`,
//! `page.js`).

use std::collections::BTreeMap;

use super::json::Json;
use super::notation::About;
use super::plan::Plan;
use super::run::Report;
use super::story::{self, Line};
use super::trace::{Answer, Scene};
use super::world::BEGINNING;
use crate::core::RoleKind;
use crate::message::{Body, Message};
use crate::time::{Duration, Instant};
use crate::types::NodeId;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The story of `report`, the report of a run of `plan` that recorded everything, as one page that needs nothing else.
#[must_use]
pub fn html(plan: &Plan, report: &Report) -> String {
    let title = title(plan, report);
    let data = data(&title, plan, report);
    fill(
        PAGE,
        &[
            ("title", &escape(&title)),
            ("style", STYLE),
            ("heading", &escape(&title)),
            ("run", &data),
            ("script", SCRIPT),
        ],
    )
}

fn title(plan: &Plan, report: &Report) -> String {
    let nodes = if plan.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", plan.nodes) };
    let verdict = report.violation.as_ref().map_or("every promise held", |violation| violation.judge);
    format!("Seed {}, {nodes}: {verdict}", plan.seed)
}

/// Puts each text in place of the comment with its name. The names are looked for in this order, each behind the one
/// before, so that nothing is looked for in a text that was put in.
fn fill(mut page: &str, texts: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    for (name, text) in texts {
        let Some((before, after)) = page.split_once(&format!("<!--{name}-->")) else { continue };
        filled.extend([before, *text]);
        page = after;
    }
    filled + page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

// ---- the data ------------------------------------------------------------------------------------------------------

fn data(title: &str, plan: &Plan, report: &Report) -> String {
    let mut texts = Texts::default();
    texts.number(String::new());
    let mut states = BTreeMap::new();
    let lines = story::lines(&report.trace);
    let rows: Vec<_> = lines.iter().map(|line| row(line, &mut texts, &mut states)).collect();
    let ends = lines.iter().flat_map(|line| line.ends.iter().map(|end| end.at).chain([line.moment.at]));
    let mut json = Json::default();
    json.object(|json| {
        json.member("title", |json| json.string(title));
        json.member("broken", |json| json.string(report.violation.as_ref().map_or("", |violation| violation.judge)));
        json.member("nodes", |json| json.number(plan.nodes));
        json.member("e", |json| json.number(micros(plan.core.timing.promise())));
        json.member("ends", |json| json.number(ends.max().map_or(0, time)));
        json.member("facts", |json| pairs(json, &facts(plan, report)));
        json.member("counts", |json| {
            let counts = report.tally.counts().into_iter().filter(|(_, count)| *count > 0);
            pairs(json, &counts.map(|(name, count)| (name.replace('_', " "), count.to_string())).collect::<Vec<_>>());
        });
        json.member("texts", |json| json.array(|json| texts.all.iter().for_each(|text| json.string(text))));
        json.member("lines", |json| json.array(|json| rows.iter().for_each(|row| json.numbers(row))));
    });
    json.into_text()
}

fn pairs(json: &mut Json, pairs: &[(String, String)]) {
    json.array(|json| {
        for (name, value) in pairs {
            json.array(|json| [name, value].into_iter().for_each(|text| json.string(text)));
        }
    });
}

fn facts(plan: &Plan, report: &Report) -> Vec<(String, String)> {
    let reads: Vec<_> = plan.clients.reads.iter().map(|read| format!("{read:?}")).collect();
    [
        ("election timeout E", format!("{:?}", plan.core.timing.promise())),
        ("line of succession", if plan.core.succession { "yes" } else { "no" }.to_owned()),
        ("lease reads", if plan.core.lease_reads { "yes" } else { "no" }.to_owned()),
        ("network", plan.weather.to_string()),
        ("a sync takes", format!("{:.1?} to {:.1?}", plan.sync.0, plan.sync.1)),
        ("a call of the state machine takes", format!("{:.1?} to {:.1?}", plan.apply.0, plan.apply.1)),
        ("snapshots", snapshots(plan)),
        ("clients", format!("{}, which read {}", plan.clients.count, reads.join(" "))),
        ("faults planned", plan.faults.len().to_string()),
        ("from healing to a leader", format!("{:.1?}", report.healed_in)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn snapshots(plan: &Plan) -> String {
    let retained = plan.core.limits.retained_entries;
    match plan.snapshots.every {
        0 => "none".to_owned(),
        every => format!("every {every} entries, {retained} stay behind one"),
    }
}

/// Each text once: most messages say what another one said.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    known: BTreeMap<String, u64>,
}

impl Texts {
    fn number(&mut self, text: String) -> u64 {
        *self.known.entry(text).or_insert_with_key(|text| {
            self.all.push(text.clone());
            self.all.len() as u64 - 1
        })
    }
}

/// What a node is and in which term: what is drawn as its lane, and comes back after a pause.
type State = [u64; 2];

/// A line as numbers, as `page.js` reads them: what it is, when, at which node (0 for none), its text, and more.
fn row(line: &Line<'_>, texts: &mut Texts, states: &mut BTreeMap<NodeId, State>) -> Vec<u64> {
    let text = texts.number(line.text.clone());
    let turned = |node: &NodeId, state: State| (1, Some(*node), state.to_vec());
    let (what, node, more) = match &line.moment.what {
        Scene::Sent { message, .. } => (0, Some(message.from), sent(message, line, texts)),
        Scene::Role { node, role, term, .. } => {
            let state = [state(*role), term.0];
            states.insert(*node, state);
            turned(node, state)
        }
        Scene::Started { node, term } => {
            let state = [state(RoleKind::Follower), term.0];
            states.insert(*node, state);
            turned(node, state)
        }
        Scene::Died { node } => turned(node, [0, states.get(node).map_or(0, |[_, term]| *term)]),
        Scene::Paused { node, .. } => turned(node, [5, states.get(node).map_or(0, |[_, term]| *term)]),
        Scene::Resumed { node } => turned(node, states.get(node).copied().unwrap_or([1, 0])),
        Scene::Committed { node, index } => (2, Some(*node), vec![index.0]),
        Scene::Durable { node, index } => (3, Some(*node), vec![index.0]),
        Scene::Note { node, .. } => (4, Some(*node), Vec::new()),
        Scene::Fault { node, until, .. } => (5, *node, vec![until.map_or(0, time)]),
        Scene::Healed => (6, None, Vec::new()),
        Scene::Asked { client, node, .. } => (7, Some(*node), vec![*client]),
        Scene::Told { client, outcome, .. } => (8, None, vec![*client, outcome_number(*outcome)]),
        Scene::Broken { node, .. } => (9, *node, Vec::new()),
        Scene::Snapshot { node, .. } => (10, Some(*node), Vec::new()),
        // No lines of their own.
        Scene::Arrived { .. } | Scene::Lost { .. } => (4, None, Vec::new()),
    };
    [vec![what, time(line.moment.at), node.map_or(0, |node| node.0), text], more].concat()
}

/// To whom, of which kind, and for each copy when it ended and why (0: it arrived).
fn sent(message: &Message, line: &Line<'_>, texts: &mut Texts) -> Vec<u64> {
    let kind = match (&message.body, line.about) {
        (Body::Abdicate(_), _) => 4,
        (_, Some(About::Reads)) => 3,
        (_, Some(About::Heartbeats)) => 2,
        (_, Some(About::Appends)) => 1,
        _ => 0,
    };
    let mut more = vec![message.to.0, kind];
    for end in &line.ends {
        let why = end.lost.map_or(0, |why| texts.number(why.to_owned()));
        more.extend([time(end.at), why]);
    }
    more
}

fn state(role: RoleKind) -> u64 {
    match role {
        RoleKind::Follower => 1,
        RoleKind::PreCandidate => 2,
        RoleKind::Candidate => 3,
        RoleKind::Leader => 4,
    }
}

fn outcome_number(outcome: Answer) -> u64 {
    match outcome {
        Answer::Done => 1,
        Answer::Refused => 2,
        Answer::Unknown => 3,
    }
}

/// Microseconds since the beginning.
fn time(at: Instant) -> u64 {
    micros(at.since(Instant::ZERO + BEGINNING))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::plan::{Fault, Strike, Target};
    use crate::sim::run::run;

    /// A leader is elected, and dies.
    fn short() -> Plan {
        let mut plan = Plan::quiet(7, 3, Duration::from_secs(8));
        let (at, lasting) = (Duration::from_secs(4), Duration::from_secs(1));
        plan.faults.push(Fault { at, strike: Strike::Crash { node: Target::Leader(1), power_lost: true }, lasting });
        plan
    }

    #[test]
    fn a_page_tells_the_run_and_asks_nobody_for_anything() {
        let plan = short();
        let report = run(&plan, &plan.registers, true);
        let page = html(&plan, &report);
        assert!(page.contains("<title>Seed 7, 3 nodes: every promise held</title>"));
        for line in story::lines(&report.trace) {
            assert!(page.contains(&line.text.replace('"', "\\\"")), "{}", line.text);
        }
        for outside in ["http:", "https:", "//cdn", "src=", "href=", "@import", "url(", "fetch(", "<!--"] {
            let allowed = usize::from(outside == "<!--");
            assert_eq!(page.matches(outside).count(), allowed, "{outside}");
        }
    }

    #[test]
    fn what_a_run_says_cannot_end_a_script_or_add_an_element() {
        let plan = short();
        let mut report = run(&plan, &plan.registers, true);
        let sly = "</script><b>&<!--script-->";
        let at = Instant::ZERO + BEGINNING;
        let violation = crate::sim::Violation { judge: sly, at, node: None, what: sly.to_owned() };
        report.violation = Some(violation);
        report.trace.moments.push(crate::sim::Moment { at, what: Scene::Broken { node: None, text: sly.to_owned() } });
        let page = html(&plan, &report);
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("<b>") && !page.contains("<!--script-->"));
        assert!(page.contains("<title>Seed 7, 3 nodes: &lt;/script&gt;&lt;b&gt;&amp;&lt;!--script--&gt;</title>"));
        assert!(page.contains(r"BROKEN: \u003c/script>\u003cb>&\u003c!--script-->"));
        assert!(page.trim_end().ends_with("</html>"));
    }

    #[test]
    fn each_line_has_the_numbers_that_the_script_reads() {
        let node = NodeId(2);
        let mut trace = crate::sim::Trace::default();
        let mut tell = |ms, what| {
            trace.moments.push(crate::sim::Moment { at: Instant::ZERO + BEGINNING + Duration::from_millis(ms), what });
        };
        tell(0, Scene::Started { node, term: crate::types::Term(3) });
        tell(1, Scene::Paused { node, asleep: true });
        tell(2, Scene::Resumed { node });
        tell(3, Scene::Fault { node: None, text: "cut n1->n2".to_owned(), until: Some(Instant::ZERO + BEGINNING) });
        tell(4, Scene::Told { client: 5, text: "is told Done".to_owned(), outcome: Answer::Unknown });
        tell(5, Scene::Snapshot { node, text: "takes a snapshot up to 3@1".to_owned() });
        let (mut texts, mut states) = (Texts::default(), BTreeMap::new());
        let rows: Vec<_> = story::lines(&trace).iter().map(|line| row(line, &mut texts, &mut states)).collect();
        assert_eq!(rows[0], [1, 0, 2, 0, 1, 3]);
        assert_eq!(rows[1], [1, 1000, 2, 1, 5, 3]);
        assert_eq!(rows[2], [1, 2000, 2, 2, 1, 3]);
        assert_eq!(rows[3], [5, 3000, 0, 3, 0]);
        assert_eq!(rows[4], [8, 4000, 0, 4, 5, 3]);
        assert_eq!(rows[5], [10, 5000, 2, 5]);
    }
}
