//! What clients ask of a node.

use bytes::Bytes;
use tenure::core::{Change, Consistency, Input};
use tenure::quorum::{Configuration, Voters};

use tenure::types::NodeId;

use crate::table::command::{node, running};
use crate::table::words::{Words, number};
use crate::table::world::World;

/// `propose n1 a b`; `propose n1 x*50` for x1 to x50.
pub(super) fn propose(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    let mut commands = Vec::new();
    for word in words.all() {
        match word.split_once('*') {
            Some((stem, count)) => {
                let count: usize = number(count, "a count like x*50")?;
                commands.extend((1..=count).map(|at| Bytes::from(format!("{stem}{at}"))));
            }
            None => commands.push(Bytes::copy_from_slice(word.as_bytes())),
        }
    }
    world.step(id, Input::Propose(commands));
    Ok(())
}

/// `read n1 linearizable`, `read n2 follower 200ms`.
pub(super) fn read(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    let consistency = match words.next("linearizable, lease, follower or local")? {
        "linearizable" => Consistency::Linearizable,
        "lease" => Consistency::Lease,
        "follower" => Consistency::Follower(words.duration(world.e)?),
        "local" => Consistency::Local,
        other => return Err(format!("`{other}` is no kind of read")),
    };
    world.read(id, consistency);
    Ok(())
}

/// `transfer n1 n2`, `transfer n1 best`.
pub(super) fn transfer(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    let to = if words.accept("best") { None } else { Some(node(world, words)?) };
    world.transfer(id, to);
    Ok(())
}

/// `change n1 to n2 n3 n4 learners n5 expected 7 within 5E`: what the group is to become; by default nobody learns, whatever
/// is in use is expected, and newcomers have ten election timeouts.
pub(super) fn change(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = running(world, words)?;
    words.expect("to")?;
    let voters = Voters::from_nodes(some_nodes(words)?);
    let learners = if words.accept("learners") { some_nodes(words)? } else { Vec::new() };
    let to = Configuration::new(voters, Voters::default(), Voters::from_nodes(learners)).map_err(|e| e.to_string())?;
    let expected = if words.accept("expected") { Some(words.index()?) } else { None };
    let patience = if words.accept("within") { words.duration(world.e)? } else { world.e * 10 };
    world.change(id, Change { expected, to, patience });
    Ok(())
}

fn some_nodes(words: &mut Words<'_>) -> Result<Vec<NodeId>, String> {
    let mut nodes = vec![words.node()?];
    while words.peek().is_some_and(|word| word.starts_with('n')) {
        nodes.push(words.node()?);
    }
    Ok(nodes)
}
