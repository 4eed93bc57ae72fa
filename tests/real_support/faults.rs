//! What goes wrong. Each fault begins, lasts for a while and ends; the ones that a node must answer with more than going
//! on say so.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::clients::{Answer, Clients, Connection};
use super::disk::{self, SyncFault, Tampering};
use super::nodes::{Nodes, SMALL_DISK};
use super::packets::Treatment;
use super::{ELECTION_TIMEOUT, NODES};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    IsolatedLeader,
    LeaderCannotSend,
    LeaderCannotReceive,
    /// The leader and one follower do not hear each other; the other node hears both.
    Bridge,
    Loss,
    SlowLink,
    /// The same for every packet, as far as threads can wait.
    Delay,
    /// So different that packets overtake each other.
    JitterAndReorder,
    Corruption,
    Resets,
    LeaderKilled,
    FollowerKilled,
    AllKilled,
    LeaderPaused,
    /// All at once: when they wake up, every timer has run out.
    AllPaused,
    FollowerSyncFails,
    LeaderSyncFails,
    LeaderSyncSlow,
    DiskFull,
}

use Fault::*;

pub(crate) const ALL: [Fault; 19] = [
    IsolatedLeader,
    LeaderCannotSend,
    LeaderCannotReceive,
    Bridge,
    Loss,
    SlowLink,
    Delay,
    JitterAndReorder,
    Corruption,
    Resets,
    LeaderKilled,
    FollowerKilled,
    AllKilled,
    LeaderPaused,
    AllPaused,
    FollowerSyncFails,
    LeaderSyncFails,
    LeaderSyncSlow,
    DiskFull,
];

/// How long a fault lasts: time for a new leader to be elected and to work.
const LASTS: Duration = ELECTION_TIMEOUT.saturating_mul(7);

/// How often the leader is stopped in one fault: whether a node that wakes up finds questions or news first is chance.
const PAUSES: usize = 3;

impl Fault {
    /// Why it cannot be injected here.
    pub(crate) fn obstacle(self, isolated: bool) -> Option<&'static str> {
        match self {
            Loss | SlowLink | JitterAndReorder | Corruption | DiskFull if !isolated => Some("needs namespaces"),
            FollowerSyncFails | LeaderSyncFails | LeaderSyncSlow if !Tampering::is_possible() => Some("needs strace"),
            _ => None,
        }
    }

    /// From beginning to end; afterwards nothing is broken any more, and every node runs.
    pub(crate) fn inject(self, nodes: &mut Nodes, clients: &Clients, seed: u64) {
        let (leader, _) = nodes.await_leader();
        let others = [(leader + 1) % NODES, (leader + 2) % NODES];
        let follower = others[(seed % 2) as usize];
        match self {
            LeaderKilled => killed(nodes, &[leader]),
            FollowerKilled => killed(nodes, &[follower]),
            AllKilled => killed(nodes, &[0, 1, 2]),
            LeaderPaused => (0..PAUSES).for_each(|_| {
                let (leader, _) = nodes.await_leader();
                paused(nodes, clients, leader, &[leader]);
            }),
            AllPaused => paused(nodes, clients, leader, &[0, 1, 2]),
            FollowerSyncFails => sync_fails(nodes, follower),
            LeaderSyncFails => sync_fails(nodes, leader),
            LeaderSyncSlow => sync_slow(nodes, leader),
            DiskFull => disk_full(nodes),
            _ => {
                self.break_network(nodes, leader, others, seed);
                std::thread::sleep(LASTS);
                nodes.network.heal();
            }
        }
        if self == Corruption {
            let noticed = |at| nodes.log(at).contains("what came on it is damaged");
            nodes.eventually("notice of damaged frames", || (0..NODES).any(noticed).then_some(()));
        }
    }

    fn break_network(self, nodes: &Nodes, leader: usize, others: [usize; 2], seed: u64) {
        let network = &nodes.network;
        match self {
            IsolatedLeader => others.iter().for_each(|other| network.cut_both(leader, *other)),
            LeaderCannotSend => others.iter().for_each(|other| network.cut(leader, *other)),
            LeaderCannotReceive => others.iter().for_each(|other| network.cut(*other, leader)),
            Bridge => network.cut_both(leader, others[(seed % 2) as usize]),
            Loss => network.packets().lose(),
            SlowLink => network.packets().slow_down(others[(seed % 2) as usize]),
            Delay => network.delay(Duration::from_millis(25)..Duration::from_millis(26), seed),
            JitterAndReorder => network.delay(Duration::ZERO..Duration::from_millis(27), seed),
            Corruption => network.packets().treat(Treatment::Corrupt, seed),
            Resets => others.iter().for_each(|other| network.reset(leader, *other)),
            other => panic!("{other:?} is no fault of the network"),
        }
    }
}

fn killed(nodes: &mut Nodes, which: &[usize]) {
    which.iter().for_each(|at| nodes.kill(*at));
    // With a majority the others elect; without one there is nothing to wait for.
    std::thread::sleep(if which.len() > 1 { LASTS / 7 } else { LASTS });
    which.iter().for_each(|at| nodes.start_node(*at));
}

/// For longer than any lease and promise. If a majority goes on, then a successor has long been elected and has written
/// when the leader wakes up, and the first that it finds are questions that only the successor can answer.
fn paused(nodes: &Nodes, clients: &Clients, leader: usize, which: &[usize]) {
    let visitors = clients.visit(leader);
    which.iter().for_each(|at| nodes.signal(*at, Signal::STOP));
    std::thread::sleep(LASTS / 2);
    visitors.read_again(|| which.iter().for_each(|at| nodes.signal(*at, Signal::CONT)));
}

/// A node whose disk has failed stops for good, and acknowledges nothing any more. It is restarted on a disk that works.
fn sync_fails(nodes: &mut Nodes, at: usize) {
    let tampering = Tampering::start(nodes.process(at), &SyncFault::Error, &trace(nodes, at));
    await_failure(nodes, at);
    assert!(tampering.injected() > 0);
    acknowledges_nothing(nodes, at);
    drop(tampering);
    // It has not recovered by itself now that syncs work again, either.
    acknowledges_nothing(nodes, at);
    restart(nodes, at);
}

fn sync_slow(nodes: &Nodes, at: usize) {
    let slow = SyncFault::Slow(ELECTION_TIMEOUT / 2);
    let tampering = Tampering::start(nodes.process(at), &slow, &trace(nodes, at));
    std::thread::sleep(LASTS);
    assert!(tampering.injected() > 0);
}

/// The log cannot grow any more: the node stops like one whose disk has failed, and goes on when there is space again.
fn disk_full(nodes: &mut Nodes) {
    let dir = nodes.dir(SMALL_DISK);
    disk::shrink(&dir, 1 << 20);
    let filler = format!("SET filler {}\r\n", "0".repeat(32 << 10));
    let began = Instant::now();
    while !has_failed(nodes, SMALL_DISK) {
        assert!(began.elapsed() < super::nodes::LIMIT, "the disk does not become full\n{}", nodes.ends_of_logs());
        let Some((leader, _)) = nodes.leader() else { continue };
        let Some(mut connection) = Connection::open(nodes.address(leader)) else { continue };
        for _ in 0..20 {
            let _ = connection.ask(&filler);
        }
    }
    acknowledges_nothing(nodes, SMALL_DISK);
    disk::resize(&dir, 1 << 30);
    restart(nodes, SMALL_DISK);
}

fn trace(nodes: &Nodes, at: usize) -> std::path::PathBuf {
    nodes.dir(at).with_extension("strace")
}

fn await_failure(nodes: &mut Nodes, at: usize) {
    let began = Instant::now();
    while !has_failed(nodes, at) {
        assert!(began.elapsed() < super::nodes::LIMIT, "node {} goes on\n{}", at + 1, nodes.ends_of_logs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn has_failed(nodes: &mut Nodes, at: usize) -> bool {
    nodes.has_ended(at) || nodes.info(at).is_some_and(|info| info.get("stopped") != "no")
}

fn acknowledges_nothing(nodes: &mut Nodes, at: usize) {
    if nodes.has_ended(at) {
        return;
    }
    for attempt in 0..10 {
        let Some(mut connection) = Connection::open(nodes.address(at)) else { continue };
        let answer = connection.ask(&format!("SET failed {attempt}\r\n"));
        assert!(!matches!(answer, Ok(Answer::Value(_))), "node {} acknowledges a write after its disk failed", at + 1);
    }
}

fn restart(nodes: &mut Nodes, at: usize) {
    nodes.kill(at);
    nodes.start_node(at);
}
