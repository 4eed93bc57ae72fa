//! Commands that let time pass.

use tenure::core::RoleKind;
use tenure::types::NodeId;

use crate::table::command::{nodes, running};
use crate::table::node::Node;
use crate::table::words::Words;
use crate::table::world::World;

/// How long `elect` and `stand` try, in E.
const PATIENCE: u32 = 6;

pub(super) fn pass(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let time = words.duration(world.e)?;
    world.pass(time);
    Ok(())
}

/// Time passes until nothing is on its way, no disk is busy and no timer is due.
pub(super) fn settle(world: &mut World) -> Result<(), String> {
    let quiet = |world: &mut World| {
        let idle = |node: &Node| node.sync().is_none() && node.timer().is_none_or(|at| at > world.elapsed);
        world.network.next_arrival().is_none() && world.nodes.values().all(idle)
    };
    if world.pass_until(world.e, quiet) { Ok(()) } else { Err("it does not settle".to_owned()) }
}

/// Time passes up to the next deadline of a node and it fires, as do others on the way.
pub(super) fn until_deadline(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    let deadline = world.nodes[&id].timer().ok_or("it has no deadline")?;
    world.pass(deadline.saturating_sub(world.elapsed));
    Ok(())
}

/// The timers of the others, leaders excepted, are late until this node stands; those that are due by then fire one
/// after the other from `E` later on, unless something restarts them.
pub(super) fn stand(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    alone(world, id, |role| role != RoleKind::Follower)
}

/// The same until it leads and everybody has heard of it.
pub(super) fn elect(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    alone(world, id, |role| role == RoleKind::Leader)?;
    settle(world)
}

fn alone(world: &mut World, id: NodeId, done: impl Fn(RoleKind) -> bool) -> Result<(), String> {
    let role = |node: &Node| node.status().map(|status| status.role);
    let late =
        |(other, node): &(&NodeId, &Node)| **other != id && !node.timers_off && role(node) != Some(RoleKind::Leader);
    let late: Vec<NodeId> = world.nodes.iter().filter(late).map(|(other, _)| *other).collect();
    switch(world, &late, true);
    let came = world.pass_until(world.e * PATIENCE, |world| world.nodes.get(&id).and_then(role).is_some_and(&done));
    switch(world, &late, false);
    for (other, node) in world.nodes.iter_mut().filter(|(other, _)| late.contains(other)) {
        let other = u32::try_from(other.0).unwrap_or(u32::MAX);
        node.delay_timer(world.elapsed, world.elapsed + world.e + world.e / 10 * other);
    }
    if came { Ok(()) } else { Err(format!("{id} did not come to that within {PATIENCE} E")) }
}

/// `timers n2 off`: they are late until they are switched on.
pub(super) fn timers(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let ids = nodes(world, words)?;
    let off = match words.next("on or off")? {
        "off" => true,
        "on" => false,
        other => return Err(format!("`{other}` is neither on nor off")),
    };
    switch(world, &ids, off);
    Ok(())
}

fn switch(world: &mut World, ids: &[NodeId], off: bool) {
    for (_, node) in world.nodes.iter_mut().filter(|(id, _)| ids.contains(id)) {
        node.timers_off = off;
        node.late = None;
    }
}
