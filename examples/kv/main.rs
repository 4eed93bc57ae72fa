//! A replicated key-value server on `tenure`.

mod operation;
mod reply;
mod resp;
mod slots;
mod store;

fn main() {}
