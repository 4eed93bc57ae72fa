//! What goes wrong with a node.

use tenure::core::Input;
use tenure::types::NodeId;

use crate::table::command::{input, node, nodes, running};
use crate::table::node::{DiskPace, Node};
use crate::table::words::{Words, number};
use crate::table::world::World;

/// The process dies; what was not durable is lost.
pub(super) fn crash(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    for id in nodes(world, words)? {
        let up = world.nodes.get_mut(&id).filter(|node| node.core.is_some());
        up.ok_or_else(|| format!("{id} is down already"))?.crash();
    }
    Ok(())
}

pub(super) fn start(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    nodes(world, words)?.into_iter().try_for_each(|id| world.start(id))
}

/// The process is stopped: time goes on, messages queue up.
pub(super) fn pause(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    if let Some(node) = world.nodes.get_mut(&id) {
        node.paused = Some(Vec::new());
    }
    Ok(())
}

/// `resume n1`: what has come in is taken first, then its timer fires if it is due. `resume n1 timer`: the other way
/// round. `resume n1 jumped`: before all it notices that it slept.
pub(super) fn resume(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = node(world, words)?;
    let first = match words.take() {
        None => None,
        Some("timer") => Some(Input::Deadline),
        Some("jumped") => Some(Input::ClockJumped),
        Some(other) => return Err(format!("`{other}` is no way to resume")),
    };
    let waiting = world.nodes.get_mut(&id).and_then(|node| node.paused.take());
    let waiting = waiting.ok_or_else(|| format!("{id} is not paused"))?;
    if let Some(first) = first {
        world.step(id, first);
    }
    for message in waiting {
        world.deliver(message);
    }
    if of(world, id)?.pace == DiskPace::Prompt {
        world.sync(id);
    }
    Ok(())
}

pub(super) fn jump(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    input(world, words, Input::ClockJumped)
}

/// `rate n1 +1%`: from now on its clock is fast by that much.
pub(super) fn rate(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let expected = "a rate like +1%";
    let id = node(world, words)?;
    let percent = words.next(expected)?.strip_suffix('%').ok_or_else(|| format!("expected {expected}"))?;
    let percent: f64 = number(percent, expected)?;
    let elapsed = world.elapsed;
    of(world, id)?.clock.set_rate(elapsed, (percent * 10_000.0).round() as i64);
    Ok(())
}

/// `disk n1 hold`: nothing becomes durable; `one`: the oldest write does; `release`: all, and from then on promptly;
/// `takes 30ms`: from then on each sync takes that long; `fail`: the device is gone. `hold-reads`: what is read from it
/// does not come back; `release-reads`; `fail-reads`: it cannot be read.
pub(super) fn disk(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = node(world, words)?;
    match words.next("hold, one, release, takes or fail")? {
        "hold" => of(world, id)?.set_pace(DiskPace::Held),
        "takes" => {
            let time = words.duration(world.e)?;
            of(world, id)?.set_pace(DiskPace::Takes(time));
        }
        "release" => {
            of(world, id)?.set_pace(DiskPace::Prompt);
            world.sync(id);
        }
        "one" => world.sync_one(id),
        "fail" => world.step(id, Input::WriteFailed),
        "hold-reads" => of(world, id)?.unread = Some(Vec::new()),
        how @ ("release-reads" | "fail-reads") => {
            for load in of(world, id)?.unread.take().unwrap_or_default() {
                world.load(id, load, how == "release-reads");
            }
        }
        other => return Err(format!("`{other}` is nothing that a disk does")),
    }
    Ok(())
}

/// `machine n1 hold`: the state machine does not come back; `release`; `fail`.
pub(super) fn machine(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    match words.next("hold, release or fail")? {
        "hold" => {
            of(world, id)?.blocked.get_or_insert_default();
        }
        "release" => world.unblock(id),
        "fail" => world.step(id, Input::ApplyFailed),
        other => return Err(format!("`{other}` is nothing that a state machine does")),
    }
    Ok(())
}

/// `wipe-tail n1 3`: the last three entries are gone from the disk of a node that is down.
pub(super) fn wipe_tail(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = node(world, words)?;
    let count: usize = words.number("how many entries")?;
    let down = Some(of(world, id)?).filter(|node| node.core.is_none()).ok_or("the node is not down")?;
    let left = down.disk.entries.len().checked_sub(count).filter(|left| *left > 0);
    down.disk.entries.truncate(left.ok_or("so much is not there")?);
    Ok(())
}

fn of(world: &mut World, id: NodeId) -> Result<&mut Node, String> {
    world.nodes.get_mut(&id).ok_or_else(|| format!("there is no {id}"))
}
