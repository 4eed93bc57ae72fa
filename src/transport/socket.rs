//! The few system calls that the standard library does not offer: waiting for a socket *or* a wake-up, connecting
//! with a deadline that a wake-up can cut short, and sending many buffers without ever blocking.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sockopt};

use crate::wire::codec::Frame;

/// Buffers handed to the operating system in one call.
const BUFFERS_PER_CALL: usize = 64;

/// Interrupts a thread that waits in [`wait`].
pub(super) struct Waker {
    sender: UnixStream,
    receiver: UnixStream,
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        Ok(Self { sender, receiver })
    }

    /// Wakes the waiting thread, or the next one to wait. Never blocks: a full pipe means that it is awake already.
    pub(super) fn wake(&self) {
        let _ = (&self.sender).write(&[1]);
    }

    fn clear(&self) {
        let mut sink = [0; 64];
        while matches!((&self.receiver).read(&mut sink), Ok(count) if count == sink.len()) {}
    }
}

/// Why [`wait`] returned. Several may be true.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    /// There is something to read, or the other side closed, or the socket failed.
    pub(super) readable: bool,
    /// There is room to write, or the socket failed.
    pub(super) writable: bool,
    /// Somebody called [`Waker::wake`].
    pub(super) woken: bool,
}

impl Ready {
    pub(super) fn timed_out(self) -> bool {
        !(self.readable || self.writable || self.woken)
    }
}

/// What to wait for besides a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    Write,
    ReadOrWrite,
}

/// Blocks until `socket` is ready, the waker was woken (which is then forgotten) or `deadline` has passed.
pub(super) fn wait(
    waker: &Waker,
    socket: Option<(BorrowedFd<'_>, Interest)>,
    deadline: Option<Instant>,
) -> io::Result<Ready> {
    let mut fds = vec![PollFd::new(&waker.receiver, PollFlags::IN)];
    if let Some((socket, interest)) = socket {
        let flags = match interest {
            Interest::Read => PollFlags::IN,
            Interest::Write => PollFlags::OUT,
            Interest::ReadOrWrite => PollFlags::IN | PollFlags::OUT,
        };
        fds.push(PollFd::from_borrowed_fd(socket, flags));
    }
    let timeout = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        // Interrupted by a signal: as good as woken, the caller looks again.
        Err(Errno::INTR) => return Ok(Ready { woken: true, ..Ready::default() }),
        other => other?,
    };
    let failed = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    let socket = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
    let woken = !fds[0].revents().is_empty();
    if woken {
        waker.clear();
    }
    Ok(Ready {
        readable: socket.intersects(PollFlags::IN | failed),
        writable: socket.intersects(PollFlags::OUT | failed),
        woken,
    })
}

/// Begins to connect, without blocking. The socket is non-blocking and becomes writable when it is connected or has
/// failed; then [`connected`] says which.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// What became of a [`connect`].
pub(super) fn connected(socket: &TcpStream) -> io::Result<()> {
    Ok(sockopt::socket_error(socket)??)
}

/// No waiting to fill packets, and the socket fails when its peer has been dead for about `dead_after`: nothing answers
/// the probes of an idle connection, or bytes on their way are not taken (`TCP_USER_TIMEOUT`, which also counts the
/// time for which a peer that lives keeps its window shut).
pub(super) fn tune(socket: &TcpStream, dead_after: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let probe = (dead_after / 4).max(Duration::from_secs(1));
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, probe)?;
    sockopt::set_tcp_keepintvl(socket, probe)?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    let milliseconds = u32::try_from(dead_after.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, milliseconds)?;
    Ok(())
}

/// What [`send`] could do.
pub(super) enum Sent {
    /// This many bytes were taken; all that were offered if `full` is false.
    Bytes { count: usize, full: bool },
    /// The connection is gone.
    Failed(io::Error),
}

/// Offers `frames` to the socket, without the first `skip` bytes. Never blocks.
pub(super) fn send(socket: &TcpStream, frames: &VecDeque<Frame>, skip: usize) -> Sent {
    let mut buffers = [IoSlice::new(&[]); BUFFERS_PER_CALL];
    let mut offered = 0;
    let mut used = 0;
    for (buffer, frame) in buffers.iter_mut().zip(frames) {
        let bytes = if used == 0 { &frame.bytes[skip.min(frame.bytes.len())..] } else { &frame.bytes[..] };
        *buffer = IoSlice::new(bytes);
        offered += bytes.len();
        used += 1;
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match rustix::net::sendmsg(socket.as_fd(), &buffers[..used], &mut SendAncillaryBuffer::default(), flags) {
        Ok(count) => Sent::Bytes { count, full: count < offered },
        Err(Errno::AGAIN) => Sent::Bytes { count: 0, full: true },
        Err(Errno::INTR) => Sent::Bytes { count: 0, full: false },
        Err(error) => Sent::Failed(error.into()),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
