//! All threads of a node, over a log in memory, under random schedules. A ticket that is never answered, or a thread that
//! does not end, shows as a deadlock.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::tests::{Counting, GROUP, Memory, settings, start, three};
use super::*;
use crate::runtime::clock::TimeSource;
use crate::runtime::{Consistency, Interruption, ProposalError};
use crate::sync::channel;
use crate::sync::model::{explore_random, spawn, yield_now};
use crate::time::Instant;
use crate::transport::ChannelNetwork;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that moves on by so many nanoseconds whenever somebody looks at it.
struct Looked {
    step: u64,
    now: AtomicU64,
}

impl Looked {
    fn clock(step: u64) -> Clock {
        Clock::of(Self { step, now: AtomicU64::default() })
    }
}

impl TimeSource for Looked {
    fn boottime(&self) -> Instant {
        Instant::from_nanos(self.now.fetch_add(self.step, Ordering::Relaxed))
    }
    fn monotonic(&self) -> Instant {
        Instant::from_nanos(self.now.load(Ordering::Relaxed))
    }
}

fn leased(id: u64, clock: &Clock) -> Settings {
    let mut settings = settings(id);
    settings.clock = clock.clone();
    settings.options.every.lease_reads = true;
    settings
}

fn machine() -> Counting {
    Counting { applied: 0, gate: channel::unbounded().1 }
}

fn alone() -> Configuration {
    Configuration::of_voters([NodeId(1)]).unwrap()
}

fn lone_node() -> (Engine, Memory) {
    start(leased(1, &Looked::clock(1_000_000)), &ChannelNetwork::new())
}

/// Proposes until the node is over or two commands were applied, and reads what it wrote. Returns what was applied.
fn write_and_read(group: &Group<u64>) -> Vec<u64> {
    let mut applied = Vec::new();
    while applied.len() < 2 {
        let written = match group.propose("x").wait() {
            Ok(written) => written,
            Err(ProposalError::NotLeader { .. }) => {
                yield_now();
                continue;
            }
            Err(ProposalError::ShutDown | ProposalError::Stopped(_)) => break,
            Err(ProposalError::Unknown(Interruption::ShutDown | Interruption::Stopped(_))) => break,
            Err(other) => panic!("{other}"),
        };
        applied.push(written.output);
        for consistency in [Consistency::Lease, Consistency::Linearizable] {
            let read = group.read(consistency).wait();
            assert!(read.map_or(true, |index| index >= written.id.index), "{read:?} after {written:?}");
        }
    }
    applied
}

/// Two clients write and read: each command is applied once, in the order in which each client was told, a read sees what
/// was acknowledged before it, and at the end every thread ends.
#[test]
fn every_client_is_answered_and_every_thread_ends() {
    explore_random(1_500, || {
        let (engine, _) = lone_node();
        let group = engine.found_group(GROUP, alone(), machine()).unwrap();
        let clients = [group.clone(), group].map(|group| spawn(move || write_and_read(&group)));
        let mut applied: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        engine.shutdown(Duration::MAX).unwrap();
        applied.sort_unstable();
        assert_eq!(applied, [1, 2, 3, 4]);
    });
}

/// `l01`: a node that is shut down while clients write, found a group and look at it answers all of them, and its threads
/// end.
#[test]
fn l01_a_shutdown_at_any_moment_answers_everybody() {
    explore_random(1_500, || {
        let (engine, _) = lone_node();
        let group = engine.found_group(GROUP, alone(), machine()).unwrap();
        let engine = Arc::new(engine);
        let (founder, looking) = (engine.clone(), group.clone());
        let client = spawn(move || write_and_read(&group).len());
        let founder = spawn(move || match founder.found_group(GroupId(2), alone(), machine()) {
            Ok(group) => assert!(write_and_read(&group).len() <= 2),
            Err(error) => assert!(matches!(error, GroupError::ShutDown), "{error}"),
        });
        let looking = spawn(move || drop(looking.status()));
        engine.shutdown(Duration::MAX).unwrap();
        assert!(client.join().unwrap() <= 2);
        founder.join().unwrap();
        looking.join().unwrap();
    });
}

/// A log that fails at any moment: whoever founds or writes is told, and what was acknowledged was applied before.
#[test]
fn a_log_that_fails_at_any_moment_leaves_nobody_waiting() {
    explore_random(1_500, || {
        let (engine, disk) = lone_node();
        let group = engine.found_group(GROUP, alone(), machine()).unwrap();
        let engine = Arc::new(engine);
        let founder = engine.clone();
        let client = spawn(move || write_and_read(&group).len());
        let founder = spawn(move || match founder.found_group(GroupId(2), alone(), machine()) {
            Ok(group) => assert!(write_and_read(&group).len() <= 2),
            Err(error) => assert!(matches!(error, GroupError::LogFailed), "{error}"),
        });
        *disk.0.broken.lock() = true;
        assert!(client.join().unwrap() <= 2);
        founder.join().unwrap();
        engine.shutdown(Duration::MAX).unwrap();
    });
}

/// A group that is opened while the log fails hears of it.
#[test]
fn a_group_opened_while_the_log_fails_stops_as_well() {
    explore_random(1_500, || {
        let (engine, disk) = lone_node();
        let group = engine.found_group(GROUP, alone(), machine()).unwrap();
        let restored = engine.found(GroupId(2), Restored::founding(alone()), Index::ZERO).unwrap();
        *disk.0.broken.lock() = true;
        let client = spawn(move || write_and_read(&group));
        while !engine.persist.counters().failed {
            yield_now();
        }
        // The others are being told.
        let other = engine.open_group(GroupId(2), restored, machine()).unwrap();
        assert!(write_and_read(&other).is_empty() && client.join().unwrap().is_empty());
        engine.shutdown(Duration::MAX).unwrap();
    });
}

/// Three nodes of one process: a client finds a leader, every command is applied once, and all threads end.
#[test]
fn three_nodes_answer_a_client_and_end() {
    explore_random(300, || {
        let (network, clock) = (ChannelNetwork::new(), Looked::clock(100_000));
        let nodes = three(&network, |id| leased(id, &clock));
        let mut newest = 0;
        for _ in 0..2 {
            let written = nodes.iter().cycle().find_map(|(_, group)| {
                yield_now();
                group.propose("x").wait().ok()
            });
            let written = written.unwrap();
            assert!(written.output > newest, "{written:?}");
            newest = written.output;
        }
        for (engine, _) in nodes {
            engine.shutdown(Duration::MAX).unwrap();
        }
    });
}
