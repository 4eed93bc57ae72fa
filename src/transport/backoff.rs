//! Pauses between attempts to reach a peer.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::tcp::Context;
use crate::types::NodeId;

/// How long to wait before the next attempt: doubling, between half of it and all of it, so that nodes that lost each
/// other at the same time do not come back at the same time.
pub(super) struct Backoff {
    pause: Duration,
    min: Duration,
    max: Duration,
    random: Xoshiro256PlusPlus,
}

impl Backoff {
    pub(super) fn new(context: &Context, peer: NodeId) -> Self {
        let seed = context.identity.store.0 as u64 ^ context.identity.node.0.rotate_left(32) ^ peer.0;
        let (min, max) = (context.limits.backoff_min, context.limits.backoff_max);
        Self { pause: min, min, max, random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// A connection that lasted starts the count anew; one that ended at once is as good as none.
    pub(super) fn connected_for(&mut self, time: Duration) {
        if time >= self.pause {
            self.pause = self.min;
        }
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.max);
        pause.mul_f64(self.random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tcp::tests::context;

    #[test]
    fn backoff_doubles_up_to_its_limit_and_starts_anew_after_a_connection_that_lasted() {
        let context = context();
        let mut backoff = Backoff::new(&context, NodeId(2));
        let (min, max) = (context.limits.backoff_min, context.limits.backoff_max);
        let mut expected = min;
        for _ in 0..20 {
            let pause = backoff.next();
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?} of {expected:?}");
            expected = (expected * 2).min(max);
        }
        assert_eq!(expected, max);
        backoff.connected_for(Duration::ZERO);
        assert!(backoff.next() >= max / 2);
        backoff.connected_for(max);
        assert!(backoff.next() <= min);
    }
}
