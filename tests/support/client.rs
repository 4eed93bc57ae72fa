//! What clients asked and were told, and what that obliges everybody to.
//!
//! A reply's callback must not judge: the runtime catches a panic in it. It notes what it was told; the cluster judges.

use std::any::Any;
use std::sync::{Arc, Mutex};

use tenure::runtime::{Asker, Consistency, ProposalError, Proposer, ReadError, TransferError};
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, Index, NodeId};

/// What a client was told of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Nothing,
    Committed(EntryId),
    Refused(ProposalError),
}

pub(super) struct Slip {
    pub(super) told: Mutex<Told>,
}

impl Slip {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { told: Mutex::new(Told::Nothing) })
    }
}

impl Proposer for Slip {
    fn applied(self: Arc<Self>, id: EntryId, _output: &mut dyn Any) {
        *self.told.lock().unwrap() = Told::Committed(id);
    }

    fn failed(self: Arc<Self>, error: ProposalError) {
        *self.told.lock().unwrap() = Told::Refused(error);
    }
}

pub(super) struct ReadSlip {
    pub(super) node: u64,
    pub(super) consistency: Consistency,
    pub(super) asked: Instant,
    /// What it must see.
    pub(super) floor: Index,
    pub(super) told: Mutex<Option<Result<Index, ReadError>>>,
}

impl Asker<Index, ReadError> for ReadSlip {
    fn answered(self: Arc<Self>, result: Result<Index, ReadError>) {
        *self.told.lock().unwrap() = Some(result);
    }
}

#[derive(Default)]
pub(super) struct TransferSlip {
    pub(super) told: Mutex<Option<Result<NodeId, TransferError>>>,
}

impl Asker<NodeId, TransferError> for TransferSlip {
    fn answered(self: Arc<Self>, result: Result<NodeId, TransferError>) {
        *self.told.lock().unwrap() = Some(result);
    }
}

/// The newest index acknowledged to anybody, at every time.
#[derive(Default)]
pub(super) struct Ledger(Vec<(Instant, Index)>);

impl Ledger {
    pub(super) fn acknowledged(&mut self, now: Instant, index: Index) {
        if index > self.newest() {
            self.0.push((now, index));
        }
    }

    pub(super) fn newest(&self) -> Index {
        self.0.last().map_or(Index::ZERO, |(_, index)| *index)
    }

    /// Before `time`.
    fn before(&self, time: Instant) -> Index {
        let earlier = self.0.partition_point(|(at, _)| *at < time);
        self.0[..earlier].last().map_or(Index::ZERO, |(_, index)| *index)
    }

    /// What a read asked for at `now` must see, if no clock's rate is off by more than `drift_ppm`.
    pub(super) fn floor(&self, consistency: Consistency, now: Instant, drift_ppm: u32) -> Index {
        match consistency {
            Consistency::Linearizable | Consistency::Lease => self.newest(),
            Consistency::Follower(staleness) => self.before(now - slow(staleness, drift_ppm)),
            _ => Index::ZERO,
        }
    }
}

/// The true time that passes while the slowest clock allowed shows `time`.
fn slow(time: Duration, drift_ppm: u32) -> Duration {
    time * 1_000_000 / (1_000_000 - drift_ppm) + Duration::from_nanos(1)
}

/// The name of a consistency, for counts.
pub(super) fn name(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Linearizable => "linearizable",
        Consistency::Lease => "lease",
        Consistency::Follower(_) => "follower",
        _ => "local",
    }
}
