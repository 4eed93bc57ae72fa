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

/// How many messages were sent since this was asked last.
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
