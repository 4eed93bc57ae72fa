//! One attempt to reach a peer: resolve, connect, handshake. On the peer's own writer thread, so that a dead address
//! delays nobody else (rows `s03`, `l02`); everything but the name lookup ends early when the writer is woken to stop.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::time::Instant;

use super::StoreReplaced;
use super::socket::{self, Interest, Waker};
use super::tcp::Context;
use crate::types::{NodeId, StoreId};
use crate::wire::DecodeError;
use crate::wire::handshake::{self, Answer, Hello, Parsed, Purpose, Refused};

/// Why a peer cannot be reached. The transport keeps trying.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address is not `host:port`, or the name cannot be resolved.
    #[error("cannot resolve {address}: {reason}")]
    Resolve {
        /// As configured.
        address: String,
        /// What the resolver says.
        reason: String,
    },
    /// Nobody listens there, or the network is down.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// As resolved.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The connection ended during the handshake.
    #[error("the connection ended during the handshake: {0}")]
    Handshake(io::Error),
    /// What answers is no tenure node.
    #[error("the answer to the handshake is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer does not want this node.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// This node does not want the peer.
    #[error(transparent)]
    StoreReplaced(#[from] StoreReplaced),
    /// The peer chose a protocol version that was not offered.
    #[error("the peer chose protocol version {0}, which was not offered")]
    Version(u32),
    /// The transport shuts down, or the peer's address changed.
    #[error("given up")]
    Stopped,
}

/// Dials `address` and introduces this node to `peer`. `stopped` is asked whenever `waker` was woken.
pub(super) fn dial(
    context: &Context,
    peer: NodeId,
    address: &str,
    purpose: Purpose,
    waker: &Waker,
    stopped: &dyn Fn() -> bool,
) -> Result<TcpStream, DialError> {
    let resolve_error = |reason: String| DialError::Resolve { address: address.into(), reason };
    let addresses = address.to_socket_addrs().map_err(|error| resolve_error(error.to_string()))?;
    let none = resolve_error("the name has no address".into());
    first_welcome(addresses, none, |address| {
        let mut socket = connect(context, address, waker, stopped)?;
        let store = introduce(context, peer, purpose, &mut socket, waker, stopped)?;
        context.stores.check(peer, store)?;
        Ok(socket)
    })
}

/// The first of `addresses` at which this node is welcome: behind one of a name's addresses there may be somebody else.
/// Of several failures, what somebody answered says more than that nobody did.
fn first_welcome<T>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    none: DialError,
    mut attempt: impl FnMut(SocketAddr) -> Result<T, DialError>,
) -> Result<T, DialError> {
    let mut failure = none;
    for address in addresses {
        match attempt(address) {
            Err(DialError::Stopped) => return Err(DialError::Stopped),
            Err(DialError::Connect { .. }) if !matches!(failure, DialError::Resolve { .. }) => {}
            Err(error) => failure = error,
            welcome => return welcome,
        }
    }
    Err(failure)
}

fn connect(
    context: &Context,
    address: SocketAddr,
    waker: &Waker,
    stopped: &dyn Fn() -> bool,
) -> Result<TcpStream, DialError> {
    let failed = |error| DialError::Connect { address, error };
    let deadline = Instant::now() + context.limits.connect_timeout;
    let socket = socket::connect(address).map_err(failed)?;
    wait(&socket, Interest::Write, deadline, waker, stopped)?.map_err(failed)?;
    socket::connected(&socket).map_err(failed)?;
    socket::tune(&socket, context.limits.dead_after).map_err(failed)?;
    Ok(socket)
}

/// Sends Hello, reads the Answer and nothing beyond it, returns the acceptor's store.
fn introduce(
    context: &Context,
    peer: NodeId,
    purpose: Purpose,
    socket: &mut TcpStream,
    waker: &Waker,
    stopped: &dyn Fn() -> bool,
) -> Result<StoreId, DialError> {
    let deadline = Instant::now() + context.limits.handshake_timeout;
    let hello = Hello {
        versions: (handshake::VERSION_MIN, handshake::VERSION_MAX),
        cluster: context.identity.cluster.clone(),
        from: context.identity.node,
        to: peer,
        store: context.identity.store,
    };
    // A fresh socket's buffer holds a few hundred bytes many times over.
    socket.write_all(&hello.encode_for(purpose)).map_err(DialError::Handshake)?;
    let mut bytes = Vec::new();
    let answer = loop {
        match handshake::parse_answer(&bytes)? {
            Parsed::Complete { value, .. } => break value,
            Parsed::Partial { needed } => {
                wait(socket, Interest::Read, deadline, waker, stopped)?.map_err(DialError::Handshake)?;
                read_some(socket, &mut bytes, needed).map_err(DialError::Handshake)?;
            }
        }
    };
    match answer {
        Answer::Refused(reason) => Err(reason.into()),
        Answer::Accepted { version, .. } if !(handshake::VERSION_MIN..=handshake::VERSION_MAX).contains(&version) => {
            Err(DialError::Version(version))
        }
        Answer::Accepted { store, .. } => Ok(store),
    }
}

/// Reads once, until `bytes` has at most `needed`.
pub(super) fn read_some(mut socket: &TcpStream, bytes: &mut Vec<u8>, needed: usize) -> io::Result<()> {
    let have = bytes.len();
    bytes.resize(needed, 0);
    let result = socket.read(&mut bytes[have..]);
    bytes.truncate(have + result.as_ref().map_or(0, |count| *count));
    match result {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the other side")),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits for the socket until the deadline; the inner error is the socket's or the deadline's.
fn wait(
    socket: &TcpStream,
    interest: Interest,
    deadline: Instant,
    waker: &Waker,
    stopped: &dyn Fn() -> bool,
) -> Result<io::Result<()>, DialError> {
    loop {
        if stopped() {
            return Err(DialError::Stopped);
        }
        match socket::wait(waker, Some((socket.as_fd(), interest)), Some(deadline)) {
            Err(error) => return Ok(Err(error)),
            Ok(ready) if ready.readable || ready.writable => return Ok(Ok(())),
            Ok(ready) if ready.timed_out() => return Ok(Err(io::ErrorKind::TimedOut.into())),
            Ok(_woken) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failed handshake at one address of a name leaves the others to be tried, a stop does not.
    #[test]
    fn every_address_of_a_name_is_tried() {
        let [a, b, c] = ["[::1]:1", "127.0.0.1:1", "127.0.0.2:1"].map(|address| address.parse().unwrap());
        let attempt = |outcomes: [fn(SocketAddr) -> Result<u8, DialError>; 3]| {
            let (mut nth, none) = (0, DialError::Resolve { address: "name:1".into(), reason: "none".into() });
            first_welcome([a, b, c], none, |address| {
                nth += 1;
                outcomes[nth - 1](address)
            })
        };
        let deaf = |address| Err(DialError::Connect { address, error: io::ErrorKind::ConnectionRefused.into() });
        let other = |_| Err(DialError::Refused(Refused::Node(NodeId(7))));
        assert!(matches!(attempt([deaf, other, |_| Ok(3)]), Ok(3)));
        assert!(matches!(attempt([other, |_| Ok(2), |_| Ok(3)]), Ok(2)));
        assert!(matches!(attempt([other, |_| Err(DialError::Stopped), |_| Ok(3)]), Err(DialError::Stopped)));
        assert!(matches!(attempt([deaf, other, deaf]), Err(DialError::Refused(_))));
        assert!(matches!(attempt([deaf, deaf, deaf]), Err(DialError::Connect { address, .. }) if address == a));
    }
}
