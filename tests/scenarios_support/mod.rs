//! A table on which several cores play out a story. `tests/scenarios/README.md` describes what a story may say.

pub(crate) mod clock;
pub(crate) mod command;
pub(crate) mod condition;
pub(crate) mod handmade;
pub(crate) mod judge;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod notation;
#[cfg(test)]
mod random;
pub(crate) mod setup;
pub(crate) mod story;
pub(crate) mod transcript;
pub(crate) mod words;
pub(crate) mod world;
