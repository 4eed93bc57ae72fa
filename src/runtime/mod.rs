//! The engine with everything included: threads, log, network, many groups in one process.
//!
//! ```text
//! clients -> inbox -> shard: many cores, one timer -+-> persist thread: one write, one fdatasync for all groups
//! peers   -> inbox                                  +-> transport: straight to the socket, or the peer's queue
//!                                                   +-> apply thread of the group: in order, answers the waiting
//! readers -> annex of the group: with a lease neither a lock nor the shard
//! ```
//!
//! The shard is an object, not a thread: who has an input *enters* it (module `shard`). What it decides with is
//! [`driver`], which knows no thread, clock or lock and is driven by virtual time in tests.

mod annex;
mod apply;
pub(crate) mod batch;
pub(crate) mod begin;
mod clock;
mod departure;
pub mod driver;
mod engine;
mod entropy;
mod error;
mod group;
mod hosted;
mod inbox;
mod lanes;
mod lease;
mod load;
pub(crate) mod node;
mod node_error;
mod options;
mod persist;
mod queue;
mod reply;
mod shard;
mod snapshots;
mod stores;
mod threads;
mod ticket;
mod timer;
pub mod unsafe_recover;

pub use crate::core::{Change, Consistency};
pub use driver::GroupStatus;
pub use error::{ChangeError, Interruption, ProposalError, ReadError, TransferError};
pub use group::Group;
pub use inbox::InboxLimits;
pub use node::{Connect, Network, Node, NodeConfig};
pub use node_error::{EngineError, GroupError, OpenError, ShutdownError, StoresError};
pub use options::GroupOptions;
pub use reply::{
    Answer, Asker, AtShutDown, ChangeReply, Owed, Proposer, ReadReply, Reply, SnapshotReply, TransferReply,
};
pub use snapshots::{SnapshotInfo, SnapshotOptions, SnapshotStatus, TakeError};
pub use ticket::{Applied, ChangeTicket, OrderTicket, Outcome, ReadTicket, SnapshotTicket, Ticket, TransferTicket};
