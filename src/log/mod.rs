//! The log as the core sees it (dissertation §3.5).
//!
//! Values that cross layers ([`Entry`], [`LogSlice`], [`HardState`], [`Compaction`], [`Write`]) and the in-memory view
//! [`Log`]: which term every index has, and the cached tail. The bytes of older entries are on disk and asked for.

mod entry;
mod slice;
mod view;
mod write;

pub use entry::{Entry, EntryKind};
pub use slice::{LogSlice, MalformedSlice};
pub use view::{Log, TermRun};
pub use write::{Compaction, HardState, Write};
