//! A replicated key-value server on `tenure`.

mod cli;
mod command;
mod members;
mod operation;
mod replica;
mod reply;
mod resp;
mod server;
mod slots;
mod store;

fn main() {}
