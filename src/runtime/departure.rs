//! Leaving in order: who leads hands over first (rule `p09`).

use slog::{info, warn};
use std::collections::BTreeMap;
use std::thread;
use std::time::Instant as Stopwatch;

use super::driver::ShardInput;
use super::engine::Engine;
use super::error::TransferError;
use super::ticket::TransferTicket;
use crate::time::Duration;
use crate::types::{GroupId, Index, NodeId};

/// How often is looked whether something has come about that nobody reports.
const LOOK: Duration = Duration::from_millis(1);

/// What became of the groups that a node led.
pub(super) type HandedOver = BTreeMap<GroupId, Result<NodeId, TransferError>>;

impl Engine {
    /// Hands over every group that this node leads, all at once, and waits until others lead them and what was accepted
    /// here before is applied here, for at most `patience`.
    pub(super) fn hand_over(&self, patience: Duration) -> HandedOver {
        let watch = Stopwatch::now();
        let left = || patience.saturating_sub(watch.elapsed());
        let led = self.entrance.look(|shard| shard.led());
        let (tickets, replies): (Vec<_>, Vec<_>) = led.iter().map(|_| TransferTicket::new()).unzip();
        let transfers = led.iter().zip(replies);
        // Not through the clients' door, which may be full: a node that is busy must be able to leave as well.
        self.entrance.complete(transfers.map(|(group, reply)| ShardInput::Transfer {
            group: *group,
            target: None,
            reply,
        }));
        let answers =
            tickets.into_iter().map(|ticket| ticket.wait_timeout(left()).unwrap_or(Err(TransferError::Unfinished)));
        let handed_over: HandedOver = led.into_iter().zip(answers).collect();
        // A transfer that somebody else has asked for is as good.
        let goes = |answer: &Result<_, _>| matches!(answer, Ok(_) | Err(TransferError::InProgress));
        let going = handed_over.iter().filter(|(_, answer)| goes(answer)).map(|(group, _)| *group);
        let drained: Vec<_> = going.map(|group| (group, self.accepted(group))).collect();
        until(left, || drained.iter().all(|(group, index)| self.succeeded(*group, *index)));
        self.log_hand_over(&handed_over);
        handed_over
    }

    /// Waits until the transport has sent what it was given, for at most `patience`. What no connection takes is dropped,
    /// so only what is queued is waited for.
    pub(super) fn empty_transport(&self, patience: Duration) {
        let watch = Stopwatch::now();
        let empty = || self.transport.stats().peers.values().all(|peer| !peer.connected || peer.queued_messages == 0);
        until(|| patience.saturating_sub(watch.elapsed()), empty);
    }

    /// The last index appended here.
    fn accepted(&self, group: GroupId) -> Index {
        self.entrance.look(|shard| shard.status(group)).map_or(Index::ZERO, |status| status.core.last.index)
    }

    /// Whether another node is known to lead, and everything up to `index` is applied here, so that whoever proposed it
    /// has been told; or nothing more can come of it here.
    fn succeeded(&self, group: GroupId, index: Index) -> bool {
        let Some(core) = self.entrance.look(|shard| shard.status(group)).map(|status| status.core) else { return true };
        let another_leads = core.leader.is_some_and(|leader| leader != core.id);
        core.stopped.is_some() || (another_leads && core.applied >= index)
    }

    fn log_hand_over(&self, handed_over: &HandedOver) {
        for (group, answer) in handed_over {
            match answer {
                Ok(successor) => info!(self.logger(), "handed over"; "group" => group.0, "to" => %successor),
                Err(TransferError::NoOtherVoter) => {}
                Err(error) => warn!(self.logger(), "not handed over"; "group" => group.0, "reason" => %error),
            }
        }
    }
}

/// Waits until `done`, looking now and then, as long as something is `left`.
fn until(left: impl Fn() -> Duration, done: impl Fn() -> bool) {
    while !done() && !left().is_zero() {
        thread::sleep(LOOK.min(left()));
    }
}
