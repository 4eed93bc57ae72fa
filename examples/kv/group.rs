//! The replicated group, as the server sees it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tenure::core::{self, RoleKind};
use tenure::runtime::{
    Applied, Change, ChangeError, Consistency, Group, Node, ProposalError, ReadError, TakeError, TransferError,
};
use tenure::types::{Index, NodeId};

use super::backup::{Backup, Backups};
use super::replica::{Done, Failure, Replica, Status, Write};
use super::store::Outcome;

/// The one group of a node.
pub(crate) struct Part {
    pub(crate) node: Arc<Node>,
    pub(crate) group: Group<Outcome>,
    pub(crate) backups: Backups,
}

impl Replica for Part {
    fn write(&self, batch: Vec<Write>) {
        let propose = |Write { command, done }: Write| {
            let callback = move |outcome: Result<Applied<Outcome>, ProposalError>| {
                done(outcome.map(|applied| applied.output).map_err(Failure::from));
            };
            (command, callback)
        };
        self.group.propose_batch_with(batch.into_iter().map(propose).collect());
    }

    fn confirm(&self, done: Done<()>) {
        // Without lease reads the group confirms these like linearizable ones; with them it sees the same.
        self.group.read_with(Consistency::Lease, move |answer| done(answer.map(|_| ()).map_err(Failure::from)));
    }

    fn hand_over(&self, to: Option<NodeId>, done: Done<NodeId>) {
        self.group.transfer_with(to, move |answer| done(answer.map_err(Failure::from)));
    }

    fn change(&self, change: Change, done: Done<Index>) {
        self.group.change_with(change, move |answer| done(answer.map_err(Failure::from)));
    }

    fn snapshot(&self, done: Done<Index>) {
        self.group.snapshot_with(move |answer| done(answer.map(|last| last.index).map_err(Failure::from)));
    }

    fn backup(&self, to: PathBuf, done: Done<Backup>) {
        self.backups.order(to, done);
    }

    fn connected(&self) -> BTreeSet<NodeId> {
        let peers = self.node.metrics().transport.peers;
        peers.into_iter().filter(|(_, peer)| peer.connected).map(|(node, _)| node).collect()
    }

    fn status(&self) -> Status {
        let Some(status) = self.group.status() else {
            return Status { stopped: Some("the node is shut down".into()), ..Status::default() };
        };
        let core = status.core;
        Status {
            role: match core.role {
                RoleKind::Leader => "leader",
                RoleKind::PreCandidate | RoleKind::Candidate => "candidate",
                _ if core.configuration.is_voter(core.id) => "follower",
                _ if core.configuration.is_member(core.id) => "learner",
                _ => "none",
            },
            leads: core.role == RoleKind::Leader,
            leader: core.leader,
            term: core.term.0,
            last: core.last.index.0,
            commit: core.commit.0,
            configuration: core.configuration,
            configured_at: core.configuration_index,
            base: core.base.index.0,
            snapshots: self.group.snapshots(),
            matched: core.peers.into_iter().map(|(peer, index)| (peer, index.0)).collect(),
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
            ProposalError::TooLarge { .. } => Self::Refused(error.to_string()),
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

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        use core::ChangeError::{
            Barred, LeadershipLost, NotLeader, NotReady, Stopped, TimedOut, TooManyMembers, Transferring,
        };
        match error {
            ChangeError::Group(NotLeader { leader }) => Self::NotLeader(leader),
            ChangeError::Group(Transferring | NotReady) => Self::HandingOver,
            ChangeError::Group(TimedOut { .. }) => Self::Refused(error.to_string()),
            // Asking again would not help.
            ChangeError::Group(Barred(_) | TooManyMembers(_)) => Self::Refused(format!("{error}; nothing was changed")),
            ChangeError::Group(LeadershipLost | Stopped(_)) | ChangeError::ShutDown => Self::Unknown(error.to_string()),
            error => Self::Busy(format!("{error}; nothing was changed")),
        }
    }
}

impl From<TakeError> for Failure {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Overloaded => Self::Busy(error.to_string()),
            TakeError::Stopped(_) | TakeError::ShutDown => Self::Stopped(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is told that a group is busy asks again: not where that can never help.
    #[test]
    fn a_change_that_never_can_be_is_refused_and_not_put_off() {
        let failure = |error: core::ChangeError| Failure::from(ChangeError::from(error));
        for never in [core::ChangeError::Barred(NodeId(2)), core::ChangeError::TooManyMembers(99)] {
            let text = format!("{never}; nothing was changed");
            assert_eq!(failure(never), Failure::Refused(text));
        }
        assert!(matches!(failure(core::ChangeError::InProgress), Failure::Busy(_)));
    }
}
