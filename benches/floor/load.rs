//! The clients: a closed loop each, all played by one thread.

use crate::format::{ANSWER, request};
use crate::process::{self, Trio};
use crate::{Work, report::RunResult};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_millis(700);
const STALLED: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
const EVENTS: usize = 1024;
const ANSWERS: usize = 64 << 10;

struct Connection {
    stream: TcpStream,
    /// When its unanswered requests were sent, oldest first.
    sent: VecDeque<Instant>,
    /// Bytes of an answer that has not arrived in full.
    part: usize,
}

/// Loads the three for `seconds` after a warm-up.
pub(crate) fn run(trio: &Trio, clients: usize, connections: usize, seconds: f64, work: Work) -> io::Result<RunResult> {
    let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut all = Vec::with_capacity(connections);
    for number in 0..connections {
        let stream = process::connect(trio.leader_port())?;
        epoll::add(&ready, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        all.push(Connection { stream, sent: VecDeque::new(), part: 0 });
    }
    let requests: Vec<u8> = (0..clients).flat_map(|client| request(client, work.value)).collect();
    let size = requests.len() / clients;
    let start = Instant::now();
    for (number, connection) in all.iter_mut().enumerate() {
        let own = clients / connections + usize::from(number < clients % connections);
        connection.send(&requests[..own * size], own, Instant::now())?;
    }
    let mut measured = Measured::starting_at(start + WARM_UP, Duration::from_secs_f64(seconds));
    let mut events = Vec::with_capacity(EVENTS);
    let mut answers = vec![0; ANSWERS];
    loop {
        events.clear();
        match epoll::wait(&ready, spare_capacity(&mut events), Some(&STALLED)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for 10 s")),
            Err(Errno::INTR) => continue,
            result => result?,
        };
        if measured.is_over(trio) {
            return Ok(measured.result(clients, connections, trio));
        }
        for event in &events {
            let connection = &mut all[event.data.u64() as usize];
            let answered = connection.receive(&mut answers)?;
            let now = Instant::now();
            connection.sent.drain(..answered).for_each(|sent| measured.record(sent, now));
            connection.send(&requests[..answered * size], answered, now)?;
        }
    }
}

impl Connection {
    fn send(&mut self, requests: &[u8], count: usize, now: Instant) -> io::Result<()> {
        self.sent.extend(std::iter::repeat_n(now, count));
        self.stream.write_all(requests)
    }

    /// Takes the answers that are there and says how many.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match recv(&self.stream, buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the leader has gone")),
            Ok((read, _)) => read + self.part,
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.part = read % ANSWER;
        Ok((read / ANSWER).min(self.sent.len()))
    }
}

/// What is counted between the end of the warm-up and the end of the run.
struct Measured {
    from: Instant,
    length: Duration,
    begun: Option<(Instant, f64, f64)>,
    answered: u64,
    latency: Histogram<u64>,
}

impl Measured {
    fn starting_at(from: Instant, length: Duration) -> Self {
        Self { from, length, begun: None, answered: 0, latency: histogram() }
    }

    /// Begins when the time has come; says when the time is over.
    fn is_over(&mut self, trio: &Trio) -> bool {
        let now = Instant::now();
        match self.begun {
            Some((begin, ..)) => now - begin >= self.length,
            None if now >= self.from => {
                self.begun = Some((now, trio.cpu_seconds(), own_cpu()));
                false
            }
            None => false,
        }
    }

    fn record(&mut self, sent: Instant, now: Instant) {
        if let Some((begin, ..)) = self.begun {
            self.answered += 1;
            if sent >= begin {
                self.latency.saturating_record((now - sent).as_nanos() as u64);
            }
        }
    }

    fn result(self, clients: usize, connections: usize, trio: &Trio) -> RunResult {
        let (begin, nodes_before, own_before) = self.begun.unwrap_or((self.from, 0.0, 0.0));
        RunResult {
            clients,
            connections,
            seconds: begin.elapsed().as_secs_f64(),
            answered: self.answered,
            latency: self.latency,
            nodes_cpu_seconds: trio.cpu_seconds() - nodes_before,
            clients_cpu_seconds: own_cpu() - own_before,
        }
    }
}

/// Nanoseconds up to a minute, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable_bounds())
}

fn unreachable_bounds() -> Histogram<u64> {
    unreachable!("the bounds are constants that hdrhistogram accepts")
}

fn own_cpu() -> f64 {
    process::cpu_seconds(std::process::id()).unwrap_or(0.0)
}
