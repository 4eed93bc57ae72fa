//! What a TCP transport is told, and what bounds it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{ConfigError, Limits};
use crate::types::{ClusterId, NodeId, StoreId};
use crate::wire::codec;

/// Who this node is, as it says in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalIdentity {
    /// Its cluster; a peer of another one is refused.
    pub cluster: ClusterId,
    /// Its node id.
    pub node: NodeId,
    /// Its store.
    pub store: StoreId,
}

/// What [`Tcp::start`](super::Tcp::start) needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Who this node is.
    pub identity: LocalIdentity,
    /// Where to listen; port 0 takes a free one, see [`Tcp::local_addr`](super::Tcp::local_addr).
    pub listen: SocketAddr,
    /// Where the others listen, as `host:port`. This node itself may be among them and is left out.
    pub peers: BTreeMap<NodeId, String>,
    /// Bounds.
    pub limits: TcpLimits,
    /// Where to log; discards by default.
    pub logger: slog::Logger,
}

impl TcpConfig {
    /// No peers, default limits, no log.
    #[must_use]
    pub fn new(identity: LocalIdentity, listen: SocketAddr) -> Self {
        Self {
            identity,
            listen,
            peers: BTreeMap::new(),
            limits: TcpLimits::default(),
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        }
    }
}

/// What bounds memory, connections and time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpLimits {
    /// Longest body of a frame, in bytes, sent or received. Default 4 MiB; at least
    /// [`frame_bytes_needed`](codec::frame_bytes_needed) of the groups' limits, at most 1 GiB. Every node must accept
    /// what the others send: raise it everywhere before raising the groups' limits anywhere.
    pub frame_bytes: usize,
    /// Bytes waiting to be sent to one peer. Default 16 MiB, at least `frame_bytes`. Over it messages are dropped.
    pub queue_bytes: usize,
    /// Messages waiting to be sent to one peer. Default 65,536. Over it messages are dropped.
    pub queue_messages: usize,
    /// Incoming connections, those in their handshake included. Default 256. More are closed unheard.
    pub connections: usize,
    /// Incoming connections in their handshake. Default 64. More are closed unheard.
    pub handshakes: usize,
    /// How long a handshake may take, on either side. Default 2 s.
    pub handshake_timeout: Duration,
    /// How long connecting may take. Default 1 s.
    pub connect_timeout: Duration,
    /// Pause after the first failed attempt; doubles each time, less a random part. Default 20 ms.
    pub backoff_min: Duration,
    /// Longest pause between attempts. Default 500 ms.
    pub backoff_max: Duration,
    /// A peer that takes nothing, or says nothing to TCP's probes, for this long is disconnected. Default 10 s, at
    /// least 1 s.
    pub dead_after: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 4 << 20,
            queue_bytes: 16 << 20,
            queue_messages: 65_536,
            connections: 256,
            handshakes: 64,
            handshake_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            dead_after: Duration::from_secs(10),
        }
    }
}

impl TcpLimits {
    /// The defaults, with frames and queues as large as `limits` of the groups demand.
    #[must_use]
    pub fn for_groups(limits: &Limits) -> Self {
        let defaults = Self::default();
        let frame_bytes = defaults.frame_bytes.max(codec::frame_bytes_needed(limits));
        let queue_bytes = defaults.queue_bytes.max(frame_bytes).max(limits.window_bytes.saturating_mul(2));
        Self { frame_bytes, queue_bytes, ..defaults }
    }

    /// Checks every bound; `groups` are the limits of the groups whose messages are to be carried.
    ///
    /// # Errors
    /// [`ConfigError`] names the first knob that is out of bounds and what would be right.
    pub fn validate(&self, groups: &Limits) -> Result<(), ConfigError> {
        self.validate_alone()?;
        require(
            self.frame_bytes >= codec::frame_bytes_needed(groups),
            "frame_bytes",
            "must hold append_bytes plus command_bytes plus headers: use TcpLimits::for_groups",
        )
    }

    /// The bounds that hold whatever the groups' limits are.
    pub(super) fn validate_alone(&self) -> Result<(), ConfigError> {
        require((1024..=1 << 30).contains(&self.frame_bytes), "frame_bytes", "must be from 1 KiB to 1 GiB")?;
        require(self.queue_bytes >= self.frame_bytes, "queue_bytes", "must be at least frame_bytes")?;
        require(self.queue_messages > 0, "queue_messages", "must not be 0")?;
        require(self.connections > 0, "connections", "must not be 0")?;
        require(self.handshakes > 0, "handshakes", "must not be 0")?;
        for (duration, knob) in [
            (self.handshake_timeout, "handshake_timeout"),
            (self.connect_timeout, "connect_timeout"),
            (self.backoff_min, "backoff_min"),
        ] {
            let sane = !duration.is_zero() && duration <= Duration::from_secs(3600);
            require(sane, knob, "must be above 0 and at most an hour")?;
        }
        require(self.backoff_max >= self.backoff_min, "backoff_max", "must be at least backoff_min")?;
        let sane = (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.dead_after);
        require(sane, "dead_after", "must be from a second to an hour")
    }
}

fn require(holds: bool, knob: &'static str, rule: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { knob, rule }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_carry_the_default_groups_and_bounds_are_named() {
        let groups = Limits::default();
        assert_eq!(TcpLimits::default().validate(&groups), Ok(()));
        let small = TcpLimits { frame_bytes: groups.append_bytes, ..TcpLimits::default() };
        assert_eq!(small.validate(&groups).unwrap_err().knob, "frame_bytes");
        let narrow = TcpLimits { queue_bytes: 1 << 20, ..TcpLimits::default() };
        assert_eq!(narrow.validate(&groups).unwrap_err().knob, "queue_bytes");
        let huge = Limits { command_bytes: 64 << 20, append_bytes: 64 << 20, ..groups };
        assert!(TcpLimits::default().validate(&huge).is_err());
        assert_eq!(TcpLimits::for_groups(&huge).validate(&huge), Ok(()));
    }
}
