//! Whether a node is there: one handshake, and no message.

use super::config::{LocalIdentity, TcpLimits};
use super::dial::{self, DialError};
use super::socket::Waker;
use super::tcp::Context;
use super::{PeerStores, StoreReplaced};
use crate::sync::Arc;
use crate::types::{NodeId, StoreId};
use crate::wire::handshake::Purpose;

/// Dials `peer` at `address`, `host:port`, introduces `identity` and hangs up. To be called while no node of that identity
/// runs: its connection would be replaced. Blocks for the lookup of a name and at most
/// [`connect_timeout`](TcpLimits::connect_timeout) and [`handshake_timeout`](TcpLimits::handshake_timeout) for each of its
/// addresses.
///
/// # Errors
/// [`DialError`] if it was not let in. [`DialError::Refused`] says that a node answers there all the same.
pub fn knock(identity: &LocalIdentity, peer: NodeId, address: &str) -> Result<(), DialError> {
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let (identity, stores) = (identity.clone(), Arc::new(AnyStore));
    let context = Context { identity, limits: TcpLimits::default(), stores, logger };
    let waker = Waker::new().map_err(DialError::Handshake)?;
    dial::dial(&context, peer, address, Purpose::Messages, &waker, &|| false).map(drop)
}

/// Whoever answers under its id is there, whatever its store is.
struct AnyStore;

impl PeerStores for AnyStore {
    fn check(&self, _: NodeId, _: StoreId) -> Result<(), StoreReplaced> {
        Ok(())
    }
}
