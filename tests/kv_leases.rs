//! Leases on real processes: a leader that is stopped for longer than its lease and continued, and hand-overs, while one
//! client increments a register and others read it at every node. Nobody ever reads less than was known before it asked.
#![cfg(feature = "node")]
// The lints know tests by their attribute, not the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kv_support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kv_support::Cluster;
use rustix::process::{Pid, Signal, kill_process};

/// `E` of the three nodes.
const E: Duration = Duration::from_millis(300);

/// A register that only ever grows: what was acknowledged or read before a read was asked for, that read must reach.
#[derive(Default)]
struct Register {
    known: AtomicU64,
    stop: AtomicBool,
    reads: AtomicU64,
}

impl Register {
    /// A read that was asked for when `floor` was known.
    fn saw(&self, floor: u64, value: u64, at: usize) {
        assert!(value >= floor, "stale read at node {}: {value}, but {floor} was known before it was asked", at + 1);
        self.known.fetch_max(value, Ordering::SeqCst);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Increments it at one node, if that leads.
    fn increment(&self, port: u16) -> Option<u64> {
        let answer = Asked::ask(port, "INCR r")?.answer()?;
        let value = answer.strip_prefix(':')?.parse().ok()?;
        self.known.fetch_max(value, Ordering::SeqCst);
        Some(value)
    }

    fn known(&self) -> u64 {
        self.known.load(Ordering::SeqCst)
    }
}

/// Increments the register wherever the leader is. An increment whose outcome is unknown does no harm: it only makes it
/// larger.
fn writer(cluster: &Cluster, register: &Arc<Register>) -> JoinHandle<()> {
    let (ports, register) = (cluster.ports.clone(), register.clone());
    thread::spawn(move || {
        let mut at = 0;
        while !register.stop.load(Ordering::Relaxed) {
            if register.increment(ports[at]).is_none() {
                at = (at + 1) % ports.len();
            }
        }
    })
}

/// Reads at one node, whatever it is.
fn reader(cluster: &Cluster, register: &Arc<Register>, at: usize) -> JoinHandle<()> {
    let (port, register) = (cluster.ports[at], register.clone());
    thread::spawn(move || {
        while !register.stop.load(Ordering::Relaxed) {
            let floor = register.known();
            let asked = Asked::ask(port, "GET r");
            match asked.and_then(|mut asked| asked.bulk()) {
                Some(value) => register.saw(floor, value, at),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    })
}

/// A connection. A question can be on its way to a process that is stopped, too.
struct Asked(BufReader<TcpStream>);

impl Asked {
    fn connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    fn ask(port: u16, line: &str) -> Option<Self> {
        let mut asked = Self::connect(port)?;
        asked.say(line)?;
        Some(asked)
    }

    fn say(&mut self, line: &str) -> Option<()> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).ok()
    }

    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }

    /// A number in a bulk string; 0 if the key is not there.
    fn bulk(&mut self) -> Option<u64> {
        match self.answer()?.as_str() {
            "$-1" => Some(0),
            length if length.starts_with('$') => self.answer()?.parse().ok(),
            _ => None,
        }
    }
}

fn start() -> Cluster {
    Cluster::start_with(&["--lease-reads", "--store", "memory"])
}

#[test]
fn p07_a_leader_that_was_stopped_for_longer_than_its_lease_never_answers_a_stale_read() {
    let cluster = start();
    let register = Arc::new(Register::default());
    cluster.leader();
    let mut threads = vec![writer(&cluster, &register)];
    threads.extend((0..3).map(|at| reader(&cluster, &register, at)));
    let mut late = 0;
    for _ in 0..5 {
        let leader = cluster.leader();
        // The server knows these connections already: it needs nothing but a look at the socket to answer.
        let mut connections: Vec<_> = (0..16).filter_map(|_| Asked::ask(cluster.ports[leader], "PING")).collect();
        connections.iter_mut().for_each(|connection| assert_eq!(connection.answer().as_deref(), Some("+PONG")));
        let process = Pid::from_child(cluster.nodes[leader].as_ref().unwrap());
        kill_process(process, Signal::STOP).unwrap();
        thread::sleep(E * 3);
        // Its successor writes while it is stopped; then it is asked.
        for _ in 0..10 {
            let others = || (0..3).filter(|at| *at != leader);
            let written = || others().find_map(|at| register.increment(cluster.ports[at]));
            cluster.eventually("a write under the successor", written);
        }
        let floor = register.known();
        connections.iter_mut().for_each(|connection| connection.say("GET r").unwrap());
        kill_process(process, Signal::CONT).unwrap();
        for mut asked in connections {
            if let Some(value) = asked.bulk() {
                register.saw(floor, value, leader);
                late += 1;
            }
        }
        thread::sleep(E * 2);
    }
    register.stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(register.reads.load(Ordering::Relaxed) > 100 && late > 0, "{late} late answers");
}

#[test]
fn p09_hand_overs_under_load_answer_no_stale_read() {
    let cluster = start();
    let register = Arc::new(Register::default());
    cluster.leader();
    let mut threads = vec![writer(&cluster, &register)];
    threads.extend((0..3).map(|at| reader(&cluster, &register, at)));
    let mut handed_over = 0;
    for _ in 0..20 {
        let leader = cluster.leader();
        if let Some(mut asked) = Asked::ask(cluster.ports[leader], "FAILOVER") {
            handed_over += u64::from(asked.answer().as_deref() == Some("+OK"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    register.stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(handed_over > 5, "{handed_over} hand-overs");
    assert!(register.reads.load(Ordering::Relaxed) > 100);
}
