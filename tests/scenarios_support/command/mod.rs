//! What a story may say. `tests/scenarios/README.md` has the list.

mod clients;
mod faults;
mod links;
mod looking;
mod waiting;

use tenure::core::Input;
use tenure::types::NodeId;

use crate::table::words::Words;
use crate::table::world::World;
use crate::table::{condition, handmade, setup};

/// Runs one command. With `quietly` at its end it prints nothing but its errors, refusals and answers.
pub(crate) fn run(world: &mut World, line: &str) -> Result<(), String> {
    let Some(line) = line.strip_suffix(" quietly") else {
        return run_aloud(world, line);
    };
    let shown = std::mem::take(&mut world.notation.shown);
    let result = run_aloud(world, line);
    world.notation.shown = shown;
    result
}

fn run_aloud(world: &mut World, line: &str) -> Result<(), String> {
    let mut words = Words::of(line);
    let name = words.next("a command")?;
    dispatch(world, name, &mut words)?;
    words.end()
}

fn dispatch(world: &mut World, name: &str, words: &mut Words<'_>) -> Result<(), String> {
    match name {
        "pass" => waiting::pass(world, words),
        "settle" => waiting::settle(world),
        "until-deadline" => waiting::until_deadline(world, words),
        "stand" => waiting::stand(world, words),
        "elect" => waiting::elect(world, words),
        "timers" => waiting::timers(world, words),
        "within" => condition::within(world, words),

        "propose" => clients::propose(world, words),
        "read" => clients::read(world, words),
        "transfer" => clients::transfer(world, words),
        "change" => clients::change(world, words),

        "cut" => links::cut(world, words),
        "links" => links::only(world, words),
        "heal" => links::heal(world, words),
        "lose-nothing" => links::lose_nothing(world),
        "lose" => links::lose(world, words),
        "hold" => links::hold(world, words),
        "release" => links::release(world, words),
        "drop" => links::drop_held(world, words),
        "repeat" => links::repeat(world, words),
        "delay" => links::delay(world, words),
        "send" => handmade::send(world, words),

        "crash" => faults::crash(world, words),
        "start" | "restart" => faults::start(world, words),
        "pause" => faults::pause(world, words),
        "resume" => faults::resume(world, words),
        "jump" => faults::jump(world, words),
        "rate" => faults::rate(world, words),
        "disk" => faults::disk(world, words),
        "machine" => faults::machine(world, words),
        "wipe-tail" => faults::wipe_tail(world, words),
        "on-disk" => setup::on_disk(world, words),

        "show" => looking::show(&mut world.notation, words),
        "status" => looking::status(world, words),
        "why" => looking::why(world, words),
        "deadline" => looking::deadline(world, words),
        "judges" => looking::judges(world, words),
        "log" => looking::log(world, words),
        "counters" => looking::counters(world, words),
        "count-traffic" => looking::count_traffic(world),
        "traffic" => looking::traffic(world),
        "time" => looking::time(world),
        other => Err(format!("`{other}` is no command")),
    }
}

// ---- words that several commands use -------------------------------------------------------------------------------

/// A node that exists.
fn node(world: &World, words: &mut Words<'_>) -> Result<NodeId, String> {
    let id = words.node()?;
    if world.nodes.contains_key(&id) { Ok(id) } else { Err(format!("there is no {id}")) }
}

/// A node that takes steps.
fn running(world: &World, words: &mut Words<'_>) -> Result<NodeId, String> {
    let id = node(world, words)?;
    if world.nodes[&id].runs() { Ok(id) } else { Err(format!("{id} is down or paused")) }
}

/// `n1 n2`, or `all`.
fn nodes(world: &World, words: &mut Words<'_>) -> Result<Vec<NodeId>, String> {
    if words.accept("all") {
        return Ok(world.nodes.keys().copied().collect());
    }
    let mut nodes = vec![node(world, words)?];
    while words.peek().is_some_and(|word| word.starts_with('n')) {
        nodes.push(node(world, words)?);
    }
    Ok(nodes)
}

fn input(world: &mut World, words: &mut Words<'_>, input: Input) -> Result<(), String> {
    let id = running(world, words)?;
    world.step(id, input);
    Ok(())
}

fn say(world: &mut World, line: String) {
    world.notation.always(world.elapsed, line);
}
