//! What the fuzz targets share: a real core on a bench, brought into a role, then driven by arbitrary acts and judged;
//! and a file system in memory for the log.
//!
//! Inputs are described *relative to what the core knows* ("the term after yours", "the entry three before your last",
//! "an answer to your last but one request"), so that random bytes reach deep into the handlers instead of being turned
//! away at the door. Absolute values are possible, too.

mod answer;
mod memory_fs;
mod near;
mod reads;
mod scene;
mod subject;
/// The bench of the tests, compiled in by path: one set of judges for properties and fuzzing.
#[path = "../../tests/support"]
mod support {
    #![allow(dead_code, reason = "a part of it is used here")]
    pub mod disk;
    pub mod lone;
    pub mod steps;
    pub mod trio;
}

pub use answer::{Answered, VoteAnswer};
pub use memory_fs::MemoryFs;
pub use near::{Abdication, AnyPriority, AnyRank, Entries, Fresh, Near, NearEntry, Peer, Speaker};
pub use scene::{Act, AnyConsistency, Scene, Start, drive};
pub use subject::Subject;
pub use support::trio::{Step, Trio};
