//! What a leader knows of one peer's attention: what it has heard, what it promised, how far away it is.

use crate::config::Priority;
use crate::core::fingerprint::project;
use crate::message::{AppendResponse, Stamp};
use crate::time::{Duration, Instant};
use crate::types::RoundId;

/// What the answers of one peer prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    /// The newest stamp it echoed: it was with us when that message left.
    pub(super) echoed: Option<Stamp>,
    /// The newest confirmation round it echoed.
    pub(super) round: RoundId,
    /// Up to here, on our clock, it helps nobody to depose us (rule `p05`).
    pub(super) promised_until: Instant,
    /// When its last answer came (rule `p10`).
    pub(super) answered_at: Option<Instant>,
    /// From a message to its answer, smoothed.
    pub(super) round_trip: Option<Duration>,
    /// How much it wants to lead.
    pub(super) priority: Priority,
    /// An answer of it that no quorum has confirmed us after yet: when it came, and when the peer made it.
    unconfirmed: Option<(Instant, Stamp)>,
    /// When the peer made the newest answer that a quorum has confirmed us after.
    pub(super) fresh: Option<Stamp>,
}

// A round trip makes the slots of the line of succession, which act through timeouts alone.
project!(Contact {
    echoed,
    round,
    promised_until,
    answered_at,
    round_trip: left_out,
    priority,
    unconfirmed: left_out,
    fresh: left_out,
});

impl Contact {
    pub(super) fn new() -> Self {
        Self {
            echoed: None,
            round: RoundId(0),
            promised_until: Instant::ZERO,
            answered_at: None,
            round_trip: None,
            priority: Priority::default(),
            unconfirmed: None,
            fresh: None,
        }
    }

    /// Notes an answer that came at `now` and is worth a promise up to `promised_until`.
    pub(super) fn heard(&mut self, now: Instant, answer: &AppendResponse, promised_until: Instant) {
        self.echoed = self.echoed.max(Some(answer.stamp));
        self.round = self.round.max(answer.round);
        self.promised_until = self.promised_until.max(promised_until);
        self.answered_at = Some(now);
        self.priority = answer.priority;
        let sample = now.since(answer.stamp);
        self.round_trip = Some(self.round_trip.map_or(sample, |smoothed| (smoothed * 7 + sample) / 8));
    }

    /// An answer came at `now` that the peer made at `sent`, on its own clock. One waits to be confirmed at a time: the
    /// newest would never get old enough under load.
    pub(super) fn await_confirmation(&mut self, now: Instant, sent: Stamp) {
        self.unconfirmed = self.unconfirmed.or(Some((now, sent)));
    }

    /// A quorum was with us at `confirmed`: what came before then is known to be from our time as leader.
    pub(super) fn confirmed(&mut self, confirmed: Instant) {
        if let Some((_, sent)) = self.unconfirmed.take_if(|(came, _)| *came < confirmed) {
            self.fresh = Some(sent);
        }
    }
}
