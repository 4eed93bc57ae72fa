//! The locks, channels, atomics and threads that the runtime uses, in one place, so that a model checker's can stand in.
//!
//! In a unit test under `--cfg loom` or `--cfg shuttle` they are that checker's (`sync/model.rs`), and only tests that
//! run inside of it work. Everywhere else they are the real ones, whatever a dependent sets.

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod model;
#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use model::{Condvar, Mutex, MutexGuard, atomic, channel, thread, thread_local};

#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use crossbeam_channel as channel;
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use std::{sync::atomic, thread, thread_local};

// Always: what is checked are locks and words, not counts, and a checker's own has no `Weak` and holds no `dyn Trait`.
pub(crate) use std::sync::{Arc, Weak};
