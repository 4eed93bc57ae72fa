//! What clients ask of a node.

use bytes::Bytes;
use tenure::core::{Consistency, Input};

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
