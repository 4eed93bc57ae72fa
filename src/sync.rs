//! The locks, channels and atomics that the runtime uses, in one place, so that a model checker's can stand in.

pub(crate) use crossbeam_channel as channel;
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic;
pub(crate) use std::sync::{Arc, Weak};
