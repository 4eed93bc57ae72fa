//! Whole clusters in one thread and in virtual time, for testing engines and the state machines on them.

pub mod disk;
pub mod linearizability;
