//! The replicated group, as the server sees it.

use tenure::core::RoleKind;
use tenure::runtime::{Applied, Consistency, Group, ProposalError, ReadError, TransferError};
use tenure::types::NodeId;

use super::replica::{Done, Failure, Replica, Status, Write};
use super::store::Outcome;

impl Replica for Group<Outcome> {
    fn write(&self, batch: Vec<Write>) {
        let propose = |Write { command, done }: Write| {
            let callback = move |outcome: Result<Applied<Outcome>, ProposalError>| {
                done(outcome.map(|applied| applied.output).map_err(Failure::from));
            };
            (command, callback)
        };
        self.propose_batch_with(batch.into_iter().map(propose).collect());
    }

    fn confirm(&self, done: Done<()>) {
        // Without lease reads the group confirms these like linearizable ones; with them it sees the same.
        self.read_with(Consistency::Lease, move |answer| done(answer.map(|_| ()).map_err(Failure::from)));
    }

    fn hand_over(&self, to: Option<NodeId>, done: Done<NodeId>) {
        self.transfer_with(to, move |answer| done(answer.map_err(Failure::from)));
    }

    fn status(&self) -> Status {
        let Some(status) = Self::status(self) else {
            return Status { stopped: Some("the node is shut down".into()), ..Status::default() };
        };
        let core = status.core;
        Status {
            leads: core.role == RoleKind::Leader,
            leader: core.leader,
            term: core.term.0,
            last: core.last.index.0,
            commit: core.commit.0,
            no_leader: core.no_leader.map(|why| why.to_string()),
            stopped: core.stopped.map(|fatal| fatal.to_string()),
        }
    }
}

impl From<ProposalError> for Failure {
    fn from(error: ProposalError) -> Self {
        match error {
            ProposalError::NotLeader { leader } => Self::NotLeader(leader),
            ProposalError::Transferring => Self::HandingOver,
            ProposalError::Overloaded => Self::Busy(error.to_string()),
            ProposalError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            error if error.certainly_not_committed() => Self::Stopped(error.to_string()),
            error => Self::Unknown(error.to_string()),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotLeader { leader } => Self::NotLeader(leader),
            ReadError::Overloaded => Self::Busy(error.to_string()),
            error => Self::Stopped(error.to_string()),
        }
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NotLeader { leader } => Self::NotLeader(leader),
            TransferError::Stopped(_) | TransferError::ShutDown => Self::Stopped(error.to_string()),
            error => Self::Busy(error.to_string()),
        }
    }
}
