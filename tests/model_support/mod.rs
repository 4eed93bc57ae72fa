//! A small cluster as a value, everything that can happen to it, and a walk through all of that.
#![allow(clippy::unwrap_used, clippy::panic)]

pub(crate) mod action;
pub(crate) mod checks;
pub(crate) mod cluster;
pub(crate) mod explorer;
pub(crate) mod hasher;
pub(crate) mod node;
