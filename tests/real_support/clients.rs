//! Clients on connections of their own. Each writes down when it sent the first byte of a request and when it had the
//! whole answer. A time-out and a lost connection mean that the outcome is *unknown*; only a typed refusal says that
//! nothing happened.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

use super::history::{Call, Operation, Outcome, What};

/// How long a client waits for an answer: longer than an election, shorter than a fault.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// Between two requests of one client, so that histories stay short enough to be checked.
const PAUSE: Duration = Duration::from_millis(4);
const REGISTERS: u64 = 4;
const COUNTERS: u64 = 2;

/// What the clients have seen so far.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unknown: AtomicU64,
    /// Why outcomes are unknown.
    pub(crate) reasons: Mutex<BTreeMap<String, u64>>,
}

/// A moment of [`Counts`], or the difference of two: acknowledged writes, reads, refusals, unknown outcomes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen(pub(crate) [u64; 4]);

impl Counts {
    pub(crate) fn seen(&self) -> Seen {
        Seen([&self.acknowledged, &self.reads, &self.refused, &self.unknown].map(|count| count.load(Ordering::Relaxed)))
    }
}

impl Seen {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] - earlier.0[at]))
    }
}

/// What all clients share.
pub(crate) struct Shared {
    nodes: Vec<SocketAddr>,
    began: Instant,
    stop: AtomicBool,
    /// Keys belong to a generation: a few faults long, so that no key's history becomes too long to check.
    generation: AtomicU64,
    pub(crate) counts: Counts,
    /// What visitors saw.
    visits: Mutex<Vec<Call>>,
}

pub(crate) struct Clients {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Call>>>,
}

impl Clients {
    /// One client for each node, which asks only that one, and as many that look for the leader.
    pub(crate) fn start(nodes: &[SocketAddr], seed: u64) -> Self {
        let shared = Arc::new(Shared {
            nodes: nodes.to_vec(),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            counts: Counts::default(),
            visits: Mutex::default(),
        });
        let count = nodes.len();
        let client = |number: usize| {
            let mut client = Client::new(shared.clone(), number as u64, number % count, number < count);
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ (number as u64 + 1) << 32);
            thread::spawn(move || {
                while !client.shared.stop.load(Ordering::Relaxed) {
                    let operation = client.draw(&mut random);
                    client.call(operation);
                    thread::sleep(PAUSE);
                }
                client.calls
            })
        };
        let threads = (0..2 * count).map(client).collect();
        Self { shared, threads }
    }

    /// The time on the clock of the histories.
    pub(crate) fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// From now on other keys.
    pub(crate) fn next_generation(&self) {
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// So many readers of each key come to a node, and read once. It knows their connections then: it needs nothing but a
    /// look at the socket to answer them again.
    pub(crate) fn visit(&self, node: usize) -> Visitors {
        const EACH: u64 = 4;
        let generation = self.shared.generation.load(Ordering::Relaxed);
        let visitor = |number: u64| {
            let mut visitor = Client::new(self.shared.clone(), 200 + number, node, true);
            let read = Operation { key: key(generation, number / EACH), what: What::Get };
            visitor.call(read.clone());
            (visitor, read)
        };
        Visitors((0..EACH * (REGISTERS + COUNTERS)).map(visitor).collect())
    }

    /// Ends the load, and reads every key that was ever used once more at every node. The whole history.
    pub(crate) fn finish(self) -> Vec<Call> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut calls: Vec<Call> = self.threads.into_iter().flat_map(|client| client.join().unwrap()).collect();
        calls.append(&mut self.shared.visits.lock().unwrap());
        let generations = 0..=self.shared.generation.load(Ordering::Relaxed);
        let keys: Vec<String> =
            generations.flat_map(|generation| (0..REGISTERS + COUNTERS).map(move |n| key(generation, n))).collect();
        for node in 0..self.shared.nodes.len() {
            let mut last = Client::new(self.shared.clone(), 100 + node as u64, node, true);
            for key in &keys {
                let began = Instant::now();
                while !last.call(Operation { key: key.clone(), what: What::Get }) {
                    assert!(began.elapsed() < super::nodes::LIMIT, "node {} does not read any more", node + 1);
                    thread::sleep(PAUSE);
                }
            }
            calls.append(&mut last.calls);
        }
        calls
    }
}

pub(crate) struct Visitors(Vec<(Client, Operation)>);

impl Visitors {
    /// All read again at the same time; `while_they_wait` happens when every request is on its way.
    pub(crate) fn read_again(self, while_they_wait: impl FnOnce()) {
        let read = |(mut visitor, read): (Client, Operation)| {
            thread::spawn(move || {
                visitor.call(read);
                visitor
            })
        };
        let threads: Vec<_> = self.0.into_iter().map(read).collect();
        thread::sleep(PATIENCE / 4);
        while_they_wait();
        for visitor in threads {
            let visitor = visitor.join().unwrap();
            visitor.shared.visits.lock().unwrap().extend(visitor.calls);
        }
    }
}

fn key(generation: u64, number: u64) -> String {
    format!("{}-{generation}-{number}", if number < REGISTERS { "register" } else { "counter" })
}

struct Client {
    shared: Arc<Shared>,
    number: u64,
    target: usize,
    /// Stays at its node whatever that says.
    faithful: bool,
    connection: Option<Connection>,
    sets: u64,
    calls: Vec<Call>,
}

impl Client {
    fn new(shared: Arc<Shared>, number: u64, target: usize, faithful: bool) -> Self {
        Self { shared, number, target, faithful, connection: None, sets: 0, calls: Vec::new() }
    }

    fn draw(&mut self, random: &mut Xoshiro256PlusPlus) -> Operation {
        let number = random.random_range(0..REGISTERS + COUNTERS);
        let key = key(self.shared.generation.load(Ordering::Relaxed), number);
        let what = match (random.random_bool(0.5), number < REGISTERS) {
            (false, _) => What::Get,
            (true, true) => {
                self.sets += 1;
                What::Set(self.number * 1_000_000_000 + self.sets)
            }
            (true, false) => What::Incr,
        };
        Operation { key, what }
    }

    /// One request. Whether it was answered.
    fn call(&mut self, operation: Operation) -> bool {
        let counts = &self.shared.counts;
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let Some(mut connection) = self.connection.take().or_else(|| Connection::open(self.shared.nodes[self.target]))
        else {
            count(&counts.refused); // nothing was sent
            self.look_elsewhere(None);
            thread::sleep(Duration::from_millis(20));
            return false;
        };
        let invoked = self.now();
        let answer = connection.ask(&format!("{operation:?}\r\n"));
        let returned = self.now();
        let (outcome, unknown) = match answer {
            Ok(Answer::Value(value)) => {
                count(if operation.what == What::Get { &counts.reads } else { &counts.acknowledged });
                self.connection = Some(connection);
                (Some((returned, value)), None)
            }
            Ok(Answer::Error(text)) => match text.split(' ').next() {
                Some("UNKNOWN") => (None, Some(text)),
                class => {
                    // A store that failed under a read says ERR; that read has read nothing.
                    let certain = matches!(class, Some("MOVED" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY"));
                    assert!(
                        certain || operation.what == What::Get,
                        "{operation:?} at node {}: {text}",
                        self.target + 1
                    );
                    self.connection = Some(connection);
                    return self.refused(text.strip_prefix("MOVED ").and_then(|rest| rest.split(' ').nth(1)));
                }
            },
            Err(error) => (None, Some(format!("{:?}", error.kind()))),
        };
        let known = outcome.is_some();
        self.calls.push(Call { client: self.number, operation, invoked, returned: outcome });
        if let Some(reason) = unknown {
            count(&counts.unknown);
            *counts.reasons.lock().unwrap().entry(reason).or_default() += 1;
            self.look_elsewhere(None);
        }
        known
    }

    fn refused(&mut self, leader: Option<&str>) -> bool {
        self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
        if !self.faithful {
            self.look_elsewhere(leader);
        }
        thread::sleep(Duration::from_millis(10));
        false
    }

    /// At the leader, if somebody said who that is, else at the next node. On a new connection.
    fn look_elsewhere(&mut self, leader: Option<&str>) {
        self.connection = None;
        if !self.faithful {
            let named = |leader: &str| self.shared.nodes.iter().position(|node| node.to_string() == leader);
            self.target = leader.and_then(named).unwrap_or((self.target + 1) % self.shared.nodes.len());
        }
    }

    fn now(&self) -> tenure::time::Instant {
        tenure::time::Instant::ZERO + self.shared.began.elapsed()
    }
}

/// A connection that speaks as much of RESP as is needed here.
pub(crate) struct Connection(BufReader<TcpStream>);

pub(crate) enum Answer {
    Value(Outcome),
    Error(String),
}

impl Connection {
    pub(crate) fn open(node: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&node, PATIENCE / 2).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    /// # Errors
    /// There was no answer, or not all of it.
    pub(crate) fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.0.get_mut().write_all(request.as_bytes())?;
        let line = self.line()?;
        match line.split_at(1) {
            ("+", _) | ("$", "-1") => Ok(Answer::Value(None)),
            (":", number) => Ok(Answer::Value(Some(number.parse().unwrap()))),
            ("-", text) => Ok(Answer::Error(text.to_owned())),
            ("$", length) => Ok(Answer::Value(Some(self.bulk(length)?.parse().unwrap()))),
            _ => panic!("not RESP: {line}"),
        }
    }

    /// The text of `INFO`.
    pub(crate) fn info(&mut self) -> io::Result<String> {
        self.0.get_mut().write_all(b"INFO\r\n")?;
        let line = self.line()?;
        self.bulk(&line[1..])
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn bulk(&mut self, length: &str) -> io::Result<String> {
        let mut bytes = vec![0; length.parse::<usize>().unwrap() + 2];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(bytes.len() - 2);
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}
