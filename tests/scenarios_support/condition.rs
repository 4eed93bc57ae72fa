//! `within 3E n2 leads`: time passes until something holds, and the story fails if it does not come to that.

use tenure::core::{CoreStatus, Input, RoleKind};
use tenure::log::EntryKind;
use tenure::time::Duration;
use tenure::types::{Index, NodeId, Term};

use crate::table::node::Node;
use crate::table::words::Words;
use crate::table::world::World;

enum Condition {
    /// Somebody leads the newest term of all nodes that are up and has committed an entry of it.
    Leader,
    /// The same, in a term newer than any when the command was given.
    NewLeader(Term),
    /// Nobody leads.
    NoLeader,
    Leads(NodeId),
    Follows(NodeId, Option<NodeId>),
    Commit(NodeId, Index),
    /// A client that goes from leader to leader gets this command committed.
    Committed(String),
}

/// Runs the command and prints how long it took, in tenths of E: what is finer depends on draws.
pub(crate) fn within(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let bound = words.duration(world.e)?;
    let condition = Condition::parse(world, words)?;
    words.end()?;
    let start = world.elapsed;
    let mut met = None;
    world.pass_until(bound, |world| {
        met = condition.met(world);
        met.is_some()
    });
    let what = met.ok_or_else(|| format!("not within {:.1} E", in_e(world, bound)))?;
    let took = in_e(world, world.elapsed - start);
    let elapsed = world.elapsed;
    world.notation.always(elapsed, format!("{what} after {took:.1} E"));
    Ok(())
}

fn in_e(world: &World, time: Duration) -> f64 {
    time.as_secs_f64() / world.e.as_secs_f64()
}

impl Condition {
    fn parse(world: &World, words: &mut Words<'_>) -> Result<Self, String> {
        let newest = running(world).map(|(_, status)| status.term).max().unwrap_or_default();
        match words.next("a condition")? {
            "leader" => Ok(Self::Leader),
            "new" => words.expect("leader").map(|()| Self::NewLeader(newest)),
            "no" => words.expect("leader").map(|()| Self::NoLeader),
            "committed" => Ok(Self::Committed(words.next("a command")?.to_owned())),
            id => {
                let id = crate::table::words::node(id)?;
                match words.next("leads, follows or commit")? {
                    "leads" => Ok(Self::Leads(id)),
                    "follows" => {
                        let leader = if words.is_empty() { None } else { Some(words.node()?) };
                        Ok(Self::Follows(id, leader))
                    }
                    "commit" => Ok(Self::Commit(id, words.index()?)),
                    other => Err(format!("`{other}` is no condition")),
                }
            }
        }
    }

    /// What holds, once it does.
    fn met(&self, world: &mut World) -> Option<String> {
        match self {
            Self::Leader => leader(world).map(|status| format!("{} leads {}", status.id, status.term)),
            Self::NewLeader(than) => leader(world)
                .filter(|status| status.term > *than)
                .map(|status| format!("{} leads {}", status.id, status.term)),
            Self::NoLeader => {
                let leads = running(world).any(|(_, status)| status.role == RoleKind::Leader);
                (!leads).then(|| "nobody leads".to_owned())
            }
            Self::Leads(id) => status(world, *id)
                .filter(|status| status.role == RoleKind::Leader)
                .map(|status| format!("{id} leads {}", status.term)),
            Self::Follows(id, wanted) => status(world, *id)
                .filter(|status| status.role == RoleKind::Follower)
                .and_then(|status| status.leader)
                .filter(|leader| wanted.is_none_or(|wanted| wanted == *leader))
                .map(|leader| format!("{id} follows {leader}")),
            Self::Commit(id, index) => status(world, *id)
                .filter(|status| status.commit >= *index)
                .map(|status| format!("{id} has committed {}", status.commit)),
            Self::Committed(command) => committed(world, command),
        }
    }
}

fn status(world: &World, id: NodeId) -> Option<CoreStatus> {
    world.nodes.get(&id).filter(|node| node.runs()).and_then(Node::status)
}

fn running(world: &World) -> impl Iterator<Item = (NodeId, CoreStatus)> {
    world.nodes.keys().filter_map(|id| Some((*id, status(world, *id)?)))
}

fn leader(world: &World) -> Option<CoreStatus> {
    let newest = running(world).map(|(_, status)| status.term).max()?;
    let opened = |status: &CoreStatus| {
        let core = world.nodes.get(&status.id).and_then(|node| node.core.as_ref());
        core.and_then(|core| core.log().term_at(status.commit)) == Some(status.term)
    };
    running(world)
        .map(|(_, status)| status)
        .find(|status| status.role == RoleKind::Leader && status.term == newest && opened(status))
}

/// Proposes the command to every leader that does not have it yet; says where it was committed and applied.
fn committed(world: &mut World, command: &str) -> Option<String> {
    let payload = bytes::Bytes::copy_from_slice(command.as_bytes());
    let found = world.nodes.values().filter(|node| node.runs()).find_map(|node| {
        let entry = node.applied.iter().find(|entry| entry.payload == payload && entry.kind == EntryKind::Command)?;
        Some((node.config.id, entry.id))
    });
    if let Some((id, entry)) = found {
        return Some(format!("{command} is {entry} on {id}"));
    }
    let takes_proposals = |status: &CoreStatus| status.role == RoleKind::Leader && !status.transferring;
    let leaders: Vec<_> = running(world).filter(|(_, status)| takes_proposals(status)).collect();
    for (id, status) in leaders {
        let disk = &world.nodes[&id].disk;
        let entries = disk.entries.iter().chain(disk.pending.iter().flat_map(|write| &write.entries));
        let has_it = entries.filter(|entry| entry.id.term == status.term).any(|entry| entry.payload == payload);
        if !has_it {
            world.step(id, Input::Propose(vec![payload.clone()]));
        }
    }
    None
}
