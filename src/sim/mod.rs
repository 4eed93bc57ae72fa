//! Whole clusters in one thread and in virtual time, for testing engines and the state machines on them.

mod ask;
mod carry;
mod client;
mod clock;
pub mod dice;
pub mod disk;
mod faults;
mod html;
mod judges;
pub mod linearizability;
mod mailbox;
mod network;
mod node;
mod plan;
mod registers;
mod run;
mod shrink;
mod subject;
mod swarm;
mod tally;
mod trace;
mod world;

pub use html::html;
pub use judges::Violation;
pub use mailbox::Told;
pub use network::{Link, Weather};
pub use plan::{ClientPlan, Fault, Plan, Strike, Target};
pub use registers::{Operation, Outcome, Register, RegisterMachine, Registers};
pub use run::{Report, run, run_before};
pub use shrink::{Shrunk, shrink};
pub use subject::Subject;
pub use tally::Tally;
pub use trace::{Moment, Scene, Trace};
pub use world::{Setup, World};
