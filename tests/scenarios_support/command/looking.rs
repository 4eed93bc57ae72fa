//! Commands that only look.

use crate::table::command::{node, nodes, say};
use crate::table::node::Node;
use crate::table::notation::{Notation, Topic, topic};
use crate::table::words::Words;
use crate::table::world::World;

/// `show roles commits`: these and nothing else; `show +disks -appends`: a change; `show all`, `show nothing`.
pub(super) fn show(notation: &mut Notation, words: &mut Words<'_>) -> Result<(), String> {
    for (word, at) in words.all().into_iter().zip(0..) {
        let (adds, name) = match word.strip_prefix('-') {
            Some(name) => (false, name),
            None => (true, word.strip_prefix('+').unwrap_or(word)),
        };
        if at == 0 && adds && !word.starts_with('+') {
            notation.shown.clear();
        }
        let topics = match name {
            "all" => Topic::ALL.to_vec(),
            "nothing" => Vec::new(),
            "messages" => vec![Topic::Votes, Topic::Appends, Topic::Reads],
            _ => vec![topic(name).ok_or_else(|| format!("`{name}` cannot be shown"))?],
        };
        notation.shown.retain(|shown| !topics.contains(shown));
        if adds {
            notation.shown.extend(topics);
        }
    }
    Ok(())
}

/// `status n1`, or of all.
pub(super) fn status(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    describe(world, words, |world, node| node.describe(node.clock.at(world.elapsed)))
}

/// `deadline n1`: when its timer fires next.
pub(super) fn deadline(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    for id in nodes(world, words)? {
        let line = match world.nodes[&id].timer() {
            Some(at) => format!("{id} fires at {} ms", at.as_millis()),
            None => format!("{id} has no deadline"),
        };
        say(world, line);
    }
    Ok(())
}

/// `judges print`: from now on their findings are printed like everything else. For stories in which something outside
/// our assumptions happens, and which show that the judges see it.
pub(super) fn judges(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    words.expect("print")?;
    world.violations_are_printed = true;
    Ok(())
}

/// `why n1`: why it knows no leader.
pub(super) fn why(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = node(world, words)?;
    let status = world.nodes[&id].status().ok_or("the node is down")?;
    let line = match status.no_leader {
        Some(reason) => format!("{id} knows no leader: {}", without_fractions(&reason.to_string())),
        None => format!("{id} knows a leader"),
    };
    say(world, line);
    Ok(())
}

/// `412.338217ms` becomes `412ms`: what is finer depends on draws.
fn without_fractions(text: &str) -> String {
    let mut parts = text.split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// `log n1`, or of all: what the disk holds.
pub(super) fn log(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    describe(world, words, |_, node| node.describe_log())
}

fn describe(world: &mut World, words: &mut Words<'_>, line: impl Fn(&World, &Node) -> String) -> Result<(), String> {
    let ids = if words.is_empty() { world.nodes.keys().copied().collect() } else { nodes(world, words)? };
    for id in ids {
        let line = line(world, &world.nodes[&id]);
        say(world, line);
    }
    Ok(())
}

/// Those that are not 0.
pub(super) fn counters(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = node(world, words)?;
    let status = world.nodes[&id].status().ok_or("the node is down")?;
    let text = format!("{:?}", status.counters);
    let pairs = text.trim_start_matches("Counters {").trim_end_matches('}').split(", ").map(str::trim);
    let moved: Vec<_> = pairs.filter(|pair| !pair.ends_with(": 0")).map(|pair| pair.replace(':', "")).collect();
    say(world, format!("{id} {}", moved.join(", ")));
    Ok(())
}

pub(super) fn count_traffic(world: &mut World) -> Result<(), String> {
    world.network.take_traffic();
    Ok(())
}

/// How many messages were sent since `count-traffic`, or since this was asked last.
pub(super) fn traffic(world: &mut World) -> Result<(), String> {
    for ((link, kind), count) in world.network.take_traffic() {
        say(world, format!("{}->{} {kind} {count}", link.0, link.1));
    }
    Ok(())
}

/// True time since the story began.
pub(super) fn time(world: &mut World) -> Result<(), String> {
    let line = format!("{} ms", world.elapsed.as_millis());
    say(world, line);
    Ok(())
}
