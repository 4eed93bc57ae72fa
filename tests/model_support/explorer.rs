//! Breadth first through all states, so that the first counterexample is a shortest one.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::action::Action;
use super::checks::Broken;
use super::cluster::Cluster;
use super::hasher::BuildAsIs;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Distinct states.
    pub(crate) states: usize,
    /// Actions from the start.
    pub(crate) depth: usize,
}

/// How far it got without finding anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// Up to this many actions everything was seen.
    pub(crate) depth: usize,
    /// There is nothing beyond.
    pub(crate) complete: bool,
}

/// A shortest run that breaks a check.
#[derive(Clone, Debug)]
pub(crate) struct Counterexample {
    pub(crate) broken: Broken,
    pub(crate) states: usize,
    pub(crate) story: String,
}

/// How a state was first reached: from which, by which of the actions possible there.
#[derive(Clone, Copy)]
struct Origin {
    from: u32,
    choice: u16,
}

struct Explorer<'a> {
    start: &'a Cluster,
    seen: HashSet<u128, BuildAsIs>,
    origins: Vec<Origin>,
}

pub(crate) fn explore(start: &Cluster, limits: Limits) -> Result<Explored, Box<Counterexample>> {
    let seen = HashSet::from_iter([start.fingerprint()]);
    let mut explorer = Explorer { start, seen, origins: vec![Origin { from: 0, choice: 0 }] };
    let mut frontier = vec![(0, start.clone())];
    for depth in 0.. {
        let explored = |complete| Explored { states: explorer.origins.len(), depth, complete };
        if frontier.is_empty() || depth >= limits.depth {
            return Ok(explored(frontier.is_empty()));
        }
        let states_wanted = depth + 1 < limits.depth;
        let mut next = Vec::new();
        for (number, state) in frontier {
            if explorer.origins.len() >= limits.states {
                return Ok(Explored { states: explorer.origins.len(), depth, complete: false });
            }
            explorer.expand(number, &state, states_wanted, &mut next)?;
        }
        frontier = next;
    }
    unreachable!("a range without end");
}

impl Explorer<'_> {
    /// Finds what follows a state. What will not be expanded itself is only counted.
    fn expand(
        &mut self,
        number: u32,
        state: &Cluster,
        keep: bool,
        next: &mut Vec<(u32, Cluster)>,
    ) -> Result<(), Box<Counterexample>> {
        for (choice, action) in state.actions().into_iter().enumerate() {
            let origin = Origin { from: number, choice: choice as u16 };
            match attempt(state, action) {
                Err(broken) => return Err(Box::new(self.counterexample(origin, broken))),
                Ok(after) if after.within_bounds() && self.seen.insert(after.fingerprint()) => {
                    if keep {
                        next.push((self.origins.len() as u32, after));
                    }
                    self.origins.push(origin);
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Plays the run again, this time for people.
    fn counterexample(&self, last: Origin, broken: Broken) -> Counterexample {
        let mut choices = vec![last.choice];
        let mut at = last.from;
        while at != 0 {
            let origin = self.origins[at as usize];
            choices.push(origin.choice);
            at = origin.from;
        }
        let mut state = self.start.clone();
        let mut story = format!("from:\n{state}");
        for (number, choice) in choices.iter().rev().enumerate() {
            let action = state.actions()[usize::from(*choice)];
            story += &format!("{:>4}  {}\n", number + 1, state.describe(action));
            if let Ok(after) = attempt(&state, action) {
                state = after;
            }
        }
        story += &format!("before the last of these:\n{state}");
        story += &format!("{}: {}\n", broken.check, broken.detail);
        Counterexample { broken, states: self.seen.len(), story: with_small_rounds(&story) }
    }
}

/// A panic is a broken check, too: most of them are assertions of the core or of the disk.
fn attempt(state: &Cluster, action: Action) -> Result<Cluster, Broken> {
    catch_unwind(AssertUnwindSafe(|| state.after(action))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let detail = text.unwrap_or("?").lines().next().unwrap_or_default().to_owned();
        Err(Broken { check: "no assertion fails", detail })
    })
}

/// Rounds begin anywhere; people count from 1.
fn with_small_rounds(story: &str) -> String {
    let mut known: Vec<String> = Vec::new();
    let mut small = |word: &str| {
        let place = known.iter().position(|round| round == word).unwrap_or_else(|| {
            known.push(word.to_owned());
            known.len() - 1
        });
        format!("r{}", place + 1)
    };
    let is_round = |word: &str| {
        word.strip_prefix('r').is_some_and(|digits| digits.len() > 4 && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut written = String::new();
    for word in story.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let (bare, rest) = word.split_at(bare.len());
        written += &if is_round(bare) { small(bare) + rest } else { word.to_owned() };
    }
    written
}
