//! The leader: one batch at a time, durable on two of three before it is answered.

use crate::format::{ACKNOWLEDGEMENT, ANSWER, push_record, request_bytes};
use crate::log::Log;
use crate::{Work, process};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// The longest value, in bytes: two requests fit into a connection's buffer.
pub(crate) const MOST_VALUE: usize = 127 << 10;
const CLIENT_BUFFER: usize = 256 << 10;
const USUAL_BATCH: usize = 1 << 20;
const EVENTS: usize = 1024;

pub(crate) fn run(
    listener: &TcpListener,
    log: &Path,
    connections: usize,
    followers: [u16; 2],
    work: Work,
) -> io::Result<()> {
    let log = Log::open(log, !work.nosync)?;
    let [first, second] = followers.map(process::connect);
    let mut followers = [Follower::new(first?), Follower::new(second?)];
    let mut own = if work.threaded { OwnLog::Thread(LogThread::start(log)?) } else { OwnLog::Here(log) };
    process::announce(listener)?;

    let mut clients = Clients::accept(listener, connections, work)?;
    let (mut batch, mut index) = (Vec::with_capacity(USUAL_BATCH), 0);
    while clients.gather(&mut batch, &mut index)? {
        if !work.read && !batch.is_empty() {
            for follower in &mut followers {
                follower.stream.write_all(&batch)?;
            }
            let on_disk = own.write(&mut batch)?;
            wait_for_two(&mut own, on_disk, &mut followers, index)?;
        }
        clients.answer()?;
        own.finish(&mut batch)?; // the buffer is used again
        batch.clear();
    }
    Ok(())
}

/// Returns once two of the three logs hold everything up to `index`.
fn wait_for_two(own: &mut OwnLog, mut on_disk: bool, followers: &mut [Follower; 2], index: u64) -> io::Result<()> {
    loop {
        let durable = followers.iter().filter(|follower| follower.durable >= index).count() + usize::from(on_disk);
        if durable >= 2 {
            return Ok(());
        }
        let mut waiting: Vec<PollFd<'_>> =
            followers.iter().map(|follower| PollFd::new(&follower.stream, PollFlags::IN)).collect();
        if let (OwnLog::Thread(thread), false) = (&*own, on_disk) {
            waiting.push(PollFd::new(&thread.written, PollFlags::IN));
        }
        poll(&mut waiting, None)?;
        let ready: Vec<bool> = waiting.iter().map(|waiting| !waiting.revents().is_empty()).collect();
        for (follower, ready) in followers.iter_mut().zip(&ready) {
            if *ready {
                follower.read_acknowledgements()?;
            }
        }
        if ready.get(2).copied().unwrap_or(false) {
            own.take_written()?;
            on_disk = true;
        }
    }
}

struct Follower {
    stream: TcpStream,
    buffer: [u8; 4096],
    filled: usize,
    /// How many records it has on disk.
    durable: u64,
}

impl Follower {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: [0; 4096], filled: 0, durable: 0 }
    }

    fn read_acknowledgements(&mut self) -> io::Result<()> {
        let read = match recv(&self.stream, &mut self.buffer[self.filled..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((read, _)) => read,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.filled += read;
        let whole = self.filled - self.filled % ACKNOWLEDGEMENT;
        if let Some(last) = self.buffer[..whole].chunks_exact(ACKNOWLEDGEMENT).last() {
            self.durable = last.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        }
        self.buffer.copy_within(whole..self.filled, 0);
        self.filled -= whole;
        Ok(())
    }
}

/// Who writes the leader's own log.
enum OwnLog {
    Here(Log),
    Thread(LogThread),
}

impl OwnLog {
    /// Writes the batch or has it written; says whether it is on disk already.
    fn write(&mut self, batch: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Here(log) => log.append(batch).map(|()| true),
            Self::Thread(thread) => thread.write(std::mem::take(batch)).map(|()| false),
        }
    }

    fn take_written(&mut self) -> io::Result<()> {
        match self {
            Self::Here(_) => Ok(()),
            Self::Thread(thread) => thread.take_written(),
        }
    }

    /// Waits until the batch handed over by `write`, if any, is on disk, and gives its buffer back.
    fn finish(&mut self, batch: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Here(_) => Ok(()),
            Self::Thread(thread) => thread.finish(batch),
        }
    }
}

struct LogThread {
    batches: SyncSender<Vec<u8>>,
    buffers: Receiver<io::Result<Vec<u8>>>,
    /// Readable when a batch is on disk, so that it can be waited for together with the followers.
    written: OwnedFd,
    pending: bool,
    buffer: Option<Vec<u8>>,
}

impl LogThread {
    fn start(mut log: Log) -> io::Result<Self> {
        let (batches, inbox) = sync_channel::<Vec<u8>>(1);
        let (done, buffers) = sync_channel(1);
        let written = eventfd(0, EventfdFlags::CLOEXEC)?;
        let signal = written.try_clone()?;
        thread::spawn(move || {
            for batch in inbox {
                let result = log.append(&batch).map(|()| batch);
                if done.send(result).is_err() || rustix::io::write(&signal, &1_u64.to_ne_bytes()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { batches, buffers, written, pending: false, buffer: None })
    }

    fn write(&mut self, batch: Vec<u8>) -> io::Result<()> {
        self.pending = true;
        self.batches.send(batch).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn take_written(&mut self) -> io::Result<()> {
        rustix::io::read(&self.written, &mut [0; 8])?;
        let buffer = self.buffers.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
        self.buffer = Some(buffer);
        self.pending = false;
        Ok(())
    }

    fn finish(&mut self, batch: &mut Vec<u8>) -> io::Result<()> {
        if self.pending {
            self.take_written()?;
        }
        *batch = self.buffer.take().unwrap_or_else(|| std::mem::take(batch));
        Ok(())
    }
}

/// The connections on which requests come in.
struct Clients {
    ready: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    /// The connections that have requests in the batch.
    touched: Vec<usize>,
    answers: Vec<u8>,
    work: Work,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// Requests in the batch, to be answered.
    due: usize,
}

impl Clients {
    fn accept(listener: &TcpListener, connections: usize, work: Work) -> io::Result<Self> {
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut accepted = Vec::with_capacity(connections);
        for number in 0..connections {
            let stream = process::accept(listener)?;
            epoll::add(&ready, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
            accepted.push(Connection { stream, buffer: vec![0; CLIENT_BUFFER], filled: 0, due: 0 });
        }
        let events = Vec::with_capacity(EVENTS);
        Ok(Self { ready, events, connections: accepted, touched: Vec::new(), answers: Vec::new(), work })
    }

    /// Waits for requests and makes records of all that are there. `false`: a client has gone, the run is over.
    fn gather(&mut self, batch: &mut Vec<u8>, index: &mut u64) -> io::Result<bool> {
        self.events.clear();
        match epoll::wait(&self.ready, spare_capacity(&mut self.events), None) {
            Err(Errno::INTR) => return Ok(true),
            result => result?,
        };
        for event in &self.events {
            let number = event.data.u64() as usize;
            let connection = &mut self.connections[number];
            let before = connection.due;
            if !connection.take_requests(batch, index, self.work)? {
                return Ok(false);
            }
            if connection.due > before {
                self.touched.push(number);
            }
        }
        Ok(true)
    }

    fn answer(&mut self) -> io::Result<()> {
        for number in self.touched.drain(..) {
            let connection = &mut self.connections[number];
            let length = ANSWER * std::mem::take(&mut connection.due);
            if self.answers.len() < length {
                self.answers.resize(length, 1);
            }
            connection.stream.write_all(&self.answers[..length])?;
        }
        Ok(())
    }
}

impl Connection {
    fn take_requests(&mut self, batch: &mut Vec<u8>, index: &mut u64, work: Work) -> io::Result<bool> {
        let read = match recv(&self.stream, &mut self.buffer[self.filled..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(false),
            Ok((read, _)) => read,
            Err(Errno::AGAIN) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        self.filled += read;
        let size = request_bytes(work.value);
        let taken = self.filled / size;
        for request in self.buffer[..taken * size].chunks_exact(size) {
            *index += 1;
            push_record(batch, *index, request, !work.read);
        }
        self.buffer.copy_within(taken * size..self.filled, 0);
        self.filled -= taken * size;
        self.due += taken;
        Ok(true)
    }
}
