//! What happens between the nodes.

use tenure::message::Message;
use tenure::sim::notation::KINDS;
use tenure::types::NodeId;

use crate::table::command::node;
use crate::table::network::Link;
use crate::table::words::Words;
use crate::table::world::World;

/// `cut n1 -> n2`: this way only. `cut n1 n2`: these from all others, both ways. What is on its way still arrives.
pub(super) fn cut(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    for link in links_or_border(world, words)? {
        world.network.cut(link);
    }
    Ok(())
}

/// `links n1-n2 n2-n3`: these two exist, both ways, all others are cut.
pub(super) fn only(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let all = everybody(world);
    let mut left = Vec::new();
    for word in words.all() {
        let (a, b) = word.split_once('-').ok_or_else(|| format!("`{word}` is not a link like n1-n2"))?;
        let (a, b) = (crate::table::words::node(a)?, crate::table::words::node(b)?);
        left.extend([(a, b), (b, a)]);
    }
    if let Some((a, b)) = left.iter().find(|link| !all.contains(link)) {
        return Err(format!("there is no link from {a} to {b}"));
    }
    for link in all {
        if left.contains(&link) { world.network.heal(link) } else { world.network.cut(link) }
    }
    Ok(())
}

/// The opposite of `cut`; `heal` alone heals everything.
pub(super) fn heal(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let links = if words.is_empty() { everybody(world) } else { links_or_border(world, words)? };
    for link in links {
        world.network.heal(link);
    }
    Ok(())
}

/// `lose n1 -> n2 Append 2`: the next two.
pub(super) fn lose(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let links = links(world, words)?;
    let kind = kind(words)?;
    let count = if words.is_empty() { 1 } else { words.number("how many")? };
    for link in links {
        world.network.lose(link, kind.clone(), count);
    }
    Ok(())
}

/// Nothing that is sent from now on is lost or held.
pub(super) fn lose_nothing(world: &mut World) -> Result<(), String> {
    world.network.lose_nothing();
    Ok(())
}

/// `hold n1 -> n2 Append`: such messages wait.
pub(super) fn hold(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let links = links(world, words)?;
    let kind = kind(words)?;
    for link in links {
        world.network.hold(link, kind.clone());
    }
    Ok(())
}

/// `release n1 -> n2`: what was held arrives now and nothing is held any more; `reversed`, or each `twice`. With `first`
/// or `last` this one alone arrives and the others are held on.
pub(super) fn release(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    for message in let_go(world, words)? {
        arrive(world, message);
    }
    Ok(())
}

/// `drop n1 -> n2`: the same words, but it never arrives.
pub(super) fn drop_held(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let_go(world, words).map(|_| ())
}

fn let_go(world: &mut World, words: &mut Words<'_>) -> Result<Vec<Message>, String> {
    let links = links(world, words)?;
    let how = words.take();
    let mut all = Vec::new();
    for link in links {
        let mut held = match how {
            Some("first" | "last") => world.network.take_held(link),
            _ => world.network.release(link),
        };
        if held.is_empty() {
            return Err(format!("nothing is held from {} to {}", link.0, link.1));
        }
        match how {
            None => {}
            Some("reversed") => held.reverse(),
            Some("twice") => held = held.into_iter().flat_map(|message| [message.clone(), message]).collect(),
            Some("first") => world.network.hold_again(held.split_off(1)),
            Some("last") => {
                let last = held.split_off(held.len() - 1);
                world.network.hold_again(std::mem::replace(&mut held, last));
            }
            Some(other) => return Err(format!("`{other}` is no way to release")),
        }
        all.extend(held);
    }
    Ok(all)
}

/// `repeat n1 -> n2 Append`: the newest one that was sent there arrives now, again.
pub(super) fn repeat(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let links = links(world, words)?;
    let kind = kind(words)?.ok_or("expected a kind of message")?;
    for link in links {
        let message = world.network.newest(link, &kind).cloned();
        arrive(world, message.ok_or_else(|| format!("no {kind} was sent from {} to {}", link.0, link.1))?);
    }
    Ok(())
}

fn arrive(world: &mut World, message: Message) {
    world.notation.message(world.elapsed, &message, " (late)");
    world.deliver(message);
}

/// `delay 5ms` for all links, `delay n1 -> n2 30ms` for one.
pub(super) fn delay(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    if words.peek().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
        let delay = words.duration(world.e)?;
        world.network.set_delay(delay);
        return Ok(());
    }
    let links = links(world, words)?;
    let delay = words.duration(world.e)?;
    for link in links {
        world.network.set_delay_of(link, delay);
    }
    Ok(())
}

// ---- words ---------------------------------------------------------------------------------------------------------

fn everybody(world: &World) -> Vec<Link> {
    pairs(&world.nodes.keys().copied().collect::<Vec<_>>(), &world.nodes.keys().copied().collect::<Vec<_>>())
}

fn pairs(from: &[NodeId], to: &[NodeId]) -> Vec<Link> {
    let pairs = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// `n1 -> n2`, with `all` on either side.
fn links(world: &World, words: &mut Words<'_>) -> Result<Vec<Link>, String> {
    let from = side(world, words)?;
    words.expect("->")?;
    let to = side(world, words)?;
    Ok(pairs(&from, &to))
}

fn side(world: &World, words: &mut Words<'_>) -> Result<Vec<NodeId>, String> {
    if words.accept("all") {
        return Ok(world.nodes.keys().copied().collect());
    }
    node(world, words).map(|id| vec![id])
}

/// `n1 -> n2`, or `n1 n2`: every link between these and the others.
fn links_or_border(world: &World, words: &mut Words<'_>) -> Result<Vec<Link>, String> {
    let mut from = side(world, words)?;
    if words.accept("->") {
        let to = side(world, words)?;
        return Ok(pairs(&from, &to));
    }
    while !words.is_empty() {
        from.extend(side(world, words)?);
    }
    let crosses = |(a, b): &Link| from.contains(a) != from.contains(b);
    Ok(everybody(world).into_iter().filter(crosses).collect())
}

fn kind(words: &mut Words<'_>) -> Result<Option<String>, String> {
    match words.peek() {
        Some(word) if KINDS.contains(&word) => Ok(words.take().map(str::to_owned)),
        Some(word) if word.starts_with(|c: char| c.is_ascii_uppercase()) => {
            Err(format!("`{word}` is no kind of message"))
        }
        _ => Ok(None),
    }
}
