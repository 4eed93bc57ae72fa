//! Nodes of one process over real files and real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use tempfile::TempDir;
use tenure::config::Timing;
use tenure::core::RoleKind;
use tenure::quorum::Configuration;
use tenure::runtime::{Applied, Consistency, Group, Node, NodeConfig, ProposalError, Ticket};
use tenure::state_machine::{ApplyError, Command, SnapshotFiles, SnapshotSource, StateMachine};
use tenure::types::{ClusterId, EntryId, GroupId, Index, NodeId};

pub(crate) const GROUP: GroupId = GroupId(1);
/// Longer than anything takes on a busy machine; nothing waits for it if all is well.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What a state machine applied, seen from outside.
pub(crate) type Journal = Arc<Mutex<Vec<(EntryId, Bytes)>>>;

/// Keeps every command; answers how many there are.
pub(crate) struct Recorder(pub(crate) Journal);

impl StateMachine for Recorder {
    type Output = usize;

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<usize>, ApplyError> {
        let mut journal = self.0.lock().unwrap();
        let mut outputs = Vec::new();
        for command in commands {
            journal.push((command.id, command.data.clone()));
            outputs.push(journal.len());
        }
        Ok(outputs)
    }

    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        let mut bytes = Vec::new();
        for (id, command) in self.0.lock().unwrap().iter() {
            for number in [id.term.0, id.index.0, command.len() as u64] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend_from_slice(command);
        }
        Ok(Some(SnapshotSource::Stream(Box::new(std::io::Cursor::new(bytes)))))
    }

    fn restore(&mut self, snapshot: &SnapshotFiles) -> Result<(), ApplyError> {
        let failed = |error: std::io::Error| ApplyError(error.to_string());
        let mut bytes = Vec::new();
        snapshot.stream().and_then(|mut stream| stream.read_to_end(&mut bytes)).map_err(failed)?;
        let mut rest = Bytes::from(bytes);
        let mut journal = self.0.lock().unwrap();
        journal.clear();
        while !rest.is_empty() {
            let (term, index, length) = (rest.get_u64_le(), rest.get_u64_le(), rest.get_u64_le());
            journal.push((EntryId::new(index, term), rest.split_to(length as usize)));
        }
        Ok(())
    }
}

/// A running node with its one group.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) group: Group<usize>,
    pub(crate) journal: Journal,
}

/// Directories of nodes `1..=size`, and whichever of them run.
pub(crate) struct Cluster {
    pub(crate) root: TempDir,
    pub(crate) size: u64,
    pub(crate) running: BTreeMap<u64, Running>,
    /// Commands that were acknowledged, in order.
    pub(crate) acknowledged: Vec<Bytes>,
    pub(crate) configure: fn(&mut NodeConfig),
}

pub(crate) fn cluster_id() -> ClusterId {
    ClusterId::new("test").unwrap()
}

pub(crate) fn fast(config: &mut NodeConfig) {
    config.timing = Timing::from_election_timeout(Duration::from_millis(150));
    config.wal.segment_bytes = 1 << 20;
    config.wal.batch_bytes = 1 << 18;
    config.wal.spare_segments = 1;
    config.limits.command_bytes = 1 << 16;
}

impl Cluster {
    /// Founds `size` nodes, starts them all and creates the group on each.
    pub(crate) fn start(size: u64) -> Self {
        Self::start_with(size, fast)
    }

    pub(crate) fn start_with(size: u64, configure: fn(&mut NodeConfig)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut cluster = Self { root, size, running: BTreeMap::new(), acknowledged: Vec::new(), configure };
        for id in 1..=size {
            Node::found(cluster.dir(id), cluster_id(), NodeId(id)).unwrap();
            cluster.run(id);
        }
        cluster
    }

    pub(crate) fn dir(&self, id: u64) -> PathBuf {
        self.root.path().join(format!("n{id}"))
    }

    pub(crate) fn config(&self, id: u64) -> NodeConfig {
        let mut config = NodeConfig::new(self.dir(id), "127.0.0.1:0".parse().unwrap());
        (self.configure)(&mut config);
        config
    }

    /// Starts a node: creates the group the first time, opens it afterwards. The state machine starts empty.
    pub(crate) fn run(&mut self, id: u64) {
        let node = Node::open(self.config(id)).unwrap();
        let journal = Journal::default();
        let machine = Recorder(journal.clone());
        let group = if node.groups().contains(&GROUP) {
            node.open_group(GROUP, machine).unwrap()
        } else if id > self.size {
            node.join_group(GROUP, machine).unwrap()
        } else {
            let voters = Configuration::of_voters((1..=self.size).map(NodeId)).unwrap();
            node.create_group(GROUP, voters, machine).unwrap()
        };
        self.adopt(id, node, group, journal);
    }

    /// Makes a node one of the cluster's: all know each other.
    pub(crate) fn adopt(&mut self, id: u64, node: Node, group: Group<usize>, journal: Journal) {
        let address = node.local_addr().unwrap().to_string();
        for (other, running) in &self.running {
            running.node.set_peer(NodeId(id), &address).unwrap();
            node.set_peer(NodeId(*other), running.node.local_addr().unwrap().to_string()).unwrap();
        }
        self.running.insert(id, Running { node, group, journal });
    }

    /// Starts a node that knows nobody and whom nobody knows; founds it if it is to join.
    pub(crate) fn run_alone(&mut self, id: u64) {
        let others = std::mem::take(&mut self.running);
        if !self.dir(id).exists() {
            Node::found(self.dir(id), cluster_id(), NodeId(id)).unwrap();
        }
        self.run(id);
        self.running.extend(others);
    }

    /// Founds and starts a node that is to join.
    pub(crate) fn run_newcomer(&mut self, id: u64) {
        Node::found(self.dir(id), cluster_id(), NodeId(id)).unwrap();
        self.run(id);
    }

    pub(crate) fn stop(&mut self, id: u64) {
        self.running.remove(&id).unwrap().node.shutdown(LONG).unwrap();
    }

    pub(crate) fn stop_all(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.node.shutdown(LONG).unwrap();
        }
    }

    /// The node that leads, once all running nodes agree on it.
    pub(crate) fn leader(&self) -> u64 {
        wait_for("a leader everybody follows", || {
            let known: Vec<_> = self.running.values().map(|running| running.group.status().unwrap().core).collect();
            let leader = known.iter().find(|core| core.role == RoleKind::Leader)?;
            known.iter().all(|core| core.leader == Some(leader.id)).then_some(leader.id.0)
        })
    }

    /// The node that leads, once every running member agrees on it.
    pub(crate) fn leader_of_members(&self) -> u64 {
        wait_for("a leader every member follows", || {
            let known: Vec<_> = self.running.values().map(|running| running.group.status().unwrap().core).collect();
            let leader = known.iter().find(|core| core.role == RoleKind::Leader)?;
            let mut members = known.iter().filter(|core| leader.configuration.is_member(core.id));
            members.all(|core| core.leader == Some(leader.id)).then_some(leader.id.0)
        })
    }

    /// Proposes to whoever leads until the command is acknowledged. It may be applied more than once.
    pub(crate) fn propose(&mut self, command: impl Into<Bytes>) -> Applied<usize> {
        let command = command.into();
        let deadline = Instant::now() + LONG;
        loop {
            for running in self.running.values() {
                if let Ok(applied) = wait(running.group.propose(command.clone())) {
                    self.acknowledged.push(command);
                    return applied;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every running node applied the same, and everything that was acknowledged is in it.
    pub(crate) fn assert_equal_and_complete(&self) {
        let leader = &self.running[&self.leader()];
        let index = wait_for("a linearizable read", || {
            leader.group.read(Consistency::Linearizable).wait_timeout(LONG).ok()?.ok()
        });
        for running in self.running.values() {
            wait_for("everything applied", || (applied(&running.group) >= index).then_some(()));
        }
        let journals: Vec<_> = self.running.values().map(|running| running.journal.lock().unwrap().clone()).collect();
        for other in &journals[1..] {
            let shorter = other.len().min(journals[0].len());
            assert_eq!(other[..shorter], journals[0][..shorter]);
        }
        let mut acknowledged = self.acknowledged.iter().peekable();
        for (_, command) in &journals[0] {
            acknowledged.next_if_eq(&command);
        }
        assert_eq!(acknowledged.next(), None, "acknowledged and lost, or out of order");
    }
}

pub(crate) fn applied(group: &Group<usize>) -> Index {
    group.status().unwrap().core.applied
}

/// Waits for a ticket; a ticket that is never answered fails the test.
pub(crate) fn wait(ticket: Ticket<usize>) -> Result<Applied<usize>, ProposalError> {
    ticket.wait_timeout(LONG).unwrap_or_else(|_| panic!("a ticket was never answered"))
}

pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
