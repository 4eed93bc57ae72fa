//! Connections for snapshots: their receiver dials and asks, their sender answers, both on threads that may block.
//!
//! The sender's thread is the one that the acceptor started for the connection; there are as many as the server allows
//! sessions. The receiver's is the caller's own. Each side notices within [`TcpLimits::dead_after`] that the other is
//! gone: nothing is taken, or nobody answers the operating system's probes. A receiver that holds a session and asks
//! nothing for [`IDLE_TIMEOUT`] is cut off.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;

use super::TcpLimits;
use super::dial::{self, DialError};
use super::socket::{self, Interest, Waker};
use super::tcp::Context;
use crate::snapshot::{Next, REQUEST_BYTES_MAX, Request, Response, Session, SnapshotConnection};
use crate::sync::{Arc, Mutex, Weak};
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::DecodeError;
use crate::wire::frame::{self, FrameKind, Front, HEADER_BYTES};
use crate::wire::handshake::{Answer, Purpose};

/// A receiver that asks nothing for so long has no use for its session.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest wait before the limit is looked at again: it may have been changed.
const LIMIT_CHECK: Duration = Duration::from_millis(500);
/// Bytes asked for in one read.
const READ_BYTES: usize = 64 << 10;

/// Answers the questions that come on `socket` until it ends. The thread sleeps while there is nothing to do, wherever the
/// socket is shut down from.
pub(super) fn serve(
    mut socket: &TcpStream,
    answer: &Answer,
    mut session: Session,
    limits: &TcpLimits,
) -> io::Result<()> {
    socket.set_write_timeout(Some(limits.dead_after))?;
    socket.write_all(&answer.encode())?;
    let (start, waker) = (Clock::now(), Waker::new()?);
    let mut incoming = Incoming::default();
    let mut heard = Clock::now();
    loop {
        while let Some(body) = incoming.next_frame(FrameKind::SnapshotRequest, REQUEST_BYTES_MAX)? {
            // A question of a kind that this version does not know is not answered.
            if let Some(request) = Request::decode(&body).map_err(malformed)? {
                session.receive(request).map_err(io::Error::other)?;
            }
        }
        let now = Clock::now();
        let deadline = match session.next(Instant::from_nanos(nanos(now - start))) {
            Next::Send(outgoing) => {
                let (head, data) = outgoing.encode();
                socket.write_all(&head)?;
                socket.write_all(&data)?;
                heard = Clock::now();
                // What came meanwhile is taken at once: its sender may be waiting to say more.
                now
            }
            Next::Wait(until) => (start + Duration::from_nanos(until.as_nanos())).min(now + LIMIT_CHECK),
            Next::Idle => heard + IDLE_TIMEOUT,
        };
        let ready = socket::wait(&waker, Some((socket.as_fd(), Interest::Read)), Some(deadline))?;
        if ready.readable {
            heard = Clock::now();
            match incoming.read(socket) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        } else if heard.elapsed() >= IDLE_TIMEOUT {
            return Err(io::Error::new(ErrorKind::TimedOut, "the receiver asks nothing"));
        }
    }
}

/// The receiving ends of a node, so that they end with it.
#[derive(Default)]
pub(super) struct Receivers {
    state: Mutex<ReceiversState>,
}

#[derive(Default)]
struct ReceiversState {
    closed: bool,
    sockets: Vec<Weak<TcpStream>>,
}

impl Receivers {
    /// Ends all of them, and those that would begin. Their callers find their connection closed.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for socket in state.sockets.drain(..).filter_map(|socket| socket.upgrade()) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    fn add(&self, socket: &Arc<TcpStream>) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(io::Error::new(ErrorKind::NotConnected, "the transport was shut down"));
        }
        state.sockets.retain(|socket| socket.strong_count() > 0);
        state.sockets.push(Arc::downgrade(socket));
        Ok(())
    }
}

/// A receiver's connection.
pub(super) struct BulkConnection {
    socket: Arc<TcpStream>,
    waker: Waker,
    incoming: Incoming,
}

/// Dials `node` for its snapshots. Blocks for as long as connecting and the handshake may take.
pub(super) fn connect(
    context: &Context,
    node: NodeId,
    address: &str,
    receivers: &Receivers,
) -> io::Result<BulkConnection> {
    let waker = Waker::new()?;
    let socket = dial::dial(context, node, address, Purpose::Snapshots, &waker, &|| receivers.is_closed());
    let socket = Arc::new(socket.map_err(|error| match error {
        DialError::Connect { error, .. } | DialError::Handshake(error) => error,
        error => io::Error::other(error),
    })?);
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(context.limits.dead_after))?;
    receivers.add(&socket)?;
    Ok(BulkConnection { socket, waker, incoming: Incoming::default() })
}

impl SnapshotConnection for BulkConnection {
    fn send(&mut self, request: &Request) -> io::Result<()> {
        (&*self.socket).write_all(&request.encode())
    }

    fn receive(&mut self, frame_bytes_max: usize, wait: Duration) -> io::Result<Option<Response>> {
        let deadline = Clock::now() + wait;
        loop {
            let limit = frame_bytes_max.saturating_sub(HEADER_BYTES);
            if let Some(body) = self.incoming.next_frame(FrameKind::SnapshotResponse, limit)? {
                // An answer of a kind that this version does not know is skipped.
                match Response::decode(&body).map_err(malformed)? {
                    Some(response) => return Ok(Some(response)),
                    None => continue,
                }
            }
            let ready = socket::wait(&self.waker, Some((self.socket.as_fd(), Interest::Read)), Some(deadline))?;
            if ready.timed_out() {
                return Ok(None);
            }
            if ready.readable && self.incoming.read(&self.socket)? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the other side"));
            }
        }
    }
}

/// Frames as they come in. Room is made for a frame once its header was found good and not too long.
#[derive(Default)]
struct Incoming {
    buffer: Vec<u8>,
    /// How many bytes the frame at the front needs in all, as far as that is known.
    needed: usize,
}

impl Incoming {
    /// The body of the next frame of `kind` that is there in whole. Frames of kinds that this version does not know are
    /// skipped.
    fn next_frame(&mut self, kind: FrameKind, limit: usize) -> io::Result<Option<Bytes>> {
        loop {
            match frame::front(&self.buffer, limit).map_err(malformed)? {
                Front::Partial { needed } => {
                    self.needed = needed;
                    return Ok(None);
                }
                Front::Frame { kind: found, body } => {
                    let length = HEADER_BYTES + body.len();
                    let rest = self.buffer.split_off(length);
                    let frame = Bytes::from(std::mem::replace(&mut self.buffer, rest));
                    match found {
                        found if found == kind as u8 => return Ok(Some(frame.slice(HEADER_BYTES..))),
                        found if found <= FrameKind::SnapshotResponse as u8 => {
                            return Err(malformed(DecodeError::FrameKind(found)));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Reads once, no further than the end of the frame at the front and at least a little.
    fn read(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        let have = self.buffer.len();
        let most = self.needed.saturating_sub(have).clamp(HEADER_BYTES, READ_BYTES);
        self.buffer.reserve(self.needed.saturating_sub(have).max(HEADER_BYTES));
        self.buffer.resize(have + most, 0);
        let result = socket.read(&mut self.buffer[have..]);
        self.buffer.truncate(have + result.as_ref().map_or(0, |count| *count));
        match result {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(1),
            result => result,
        }
    }
}

fn malformed(error: DecodeError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
