//! Whole clusters in one thread and in virtual time, for testing the engine and the state machines on it.
//!
//! A [`World`] is a cluster: the engine's own shards, log and codec over a simulated network and simulated disks, with
//! judges that look on at every event. It can be driven by hand: crash a node, cut a link, propose, look.
//!
//! A [`Plan`] is a whole run in advance, as a value; [`Plan::draw`] draws one from a seed, with faults of all kinds. [`run`]
//! carries it out: the same plan gives the same run, event for event. What fails is made short by [`shrink`], told by
//! [`Trace::lines`] and drawn by [`html`].
//!
//! To test a state machine of yours, implement [`Subject`] for it:
//!
//! ```
//! use tenure::sim::{Plan, Registers, run};
//!
//! let subject = Registers { keys: 4, reads_percent: 50, padding: 0, durable: false }; // yours
//! for seed in 0..3 {
//!     let mut plan = Plan::draw(seed);
//!     plan.lasting /= 20; // short, for an example
//!     let report = run(&plan, &subject, false);
//!     assert_eq!(report.violation, None, "seed {seed}");
//! }
//! ```
//!
//! `docs/verification.md` says what is covered and what is not.

mod ask;
mod carry;
mod client;
mod clock;
pub mod dice;
pub mod disk;
mod faults;
mod html;
mod json;
mod judges;
pub mod linearizability;
mod mailbox;
mod network;
mod node;
pub mod notation;
mod plan;
mod registers;
mod run;
mod shrink;
mod snapshots;
mod story;
mod strike;
mod subject;
mod swarm;
mod tally;
mod trace;
mod transfer;
mod world;

pub use html::html;
pub use judges::Violation;
pub use mailbox::Told;
pub use network::{Link, Weather};
pub use plan::{ClientPlan, Fault, Plan, Strike, Target};
pub use registers::{Operation, Outcome, Register, RegisterMachine, Registers};
pub use run::{Report, run, run_with_judge};
pub use shrink::{Shrunk, shrink};
pub use snapshots::SnapshotPlan;
pub use subject::Subject;
pub use tally::Tally;
pub use trace::{Answer, Detail, Moment, Scene, Trace};
pub use world::{Setup, World};
