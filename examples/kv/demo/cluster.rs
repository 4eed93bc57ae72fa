//! Three nodes as three processes, and those that come and go, which never outlive the demo unless they are meant to.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::cli::{Demo, StoreKind};
use super::super::client::{Answer, Connection};
use super::super::members::Member;
use super::{Failed, Interrupted};

/// How many nodes found the cluster.
const NODES: u64 = 3;

/// Below the range from which systems take the ports of outgoing connections: there a port that a dead node left could
/// become a client's, and the node could not come back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A node takes a snapshot whenever it has applied so much, lest nobody who joins sees one in a few seconds of load.
const SNAPSHOT_BYTES: &str = "4194304";

/// The name of the demo's cluster.
const CLUSTER_NAME: &str = "demo";

/// The processes. Dropping it kills those that still run.
pub(super) struct Cluster {
    program: PathBuf,
    dir: PathBuf,
    /// What every node is started with.
    arguments: Vec<String>,
    keep: bool,
    /// The members, the oldest first.
    pub(super) nodes: Vec<Node>,
    /// The number of the next node to come.
    next: u64,
}

/// One node's process.
pub(super) struct Node {
    pub(super) member: Member,
    /// What it is started with that others are not.
    arguments: Vec<String>,
    child: Option<Child>,
}

/// What a node says about itself in `INFO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeInfo {
    pub(super) leads: bool,
    /// Knows who leads.
    pub(super) led: bool,
    pub(super) applied: u64,
    pub(super) keys: u64,
    pub(super) digest: String,
}

impl Cluster {
    /// Chooses ports; nothing runs yet.
    pub(super) fn new(dir: &Path, demo: &Demo) -> Result<Self, Failed> {
        let ports = free_ports(2 * NODES as usize)?;
        let members = (1..).zip(ports.chunks_exact(2)).map(|(id, ports)| member(id, ports));
        let members: Vec<Member> = members.collect::<Result<_, _>>()?;
        let founders: Vec<String> = members.iter().flat_map(|member| ["--peer".into(), notation(member)]).collect();
        let store = if demo.store == StoreKind::Memory { "memory" } else { "fjall" };
        let election_timeout = demo.election_timeout.to_string();
        let common = ["--cluster", CLUSTER_NAME, "--store", store, "--election-timeout", election_timeout.as_str()];
        let common = [&common[..], &["--snapshot-bytes", SNAPSHOT_BYTES]].concat();
        let arguments = common.into_iter().map(String::from).collect();
        let node = |member| Node { member, arguments: founders.clone(), child: None };
        let nodes = members.into_iter().map(node).collect();
        let program = std::env::current_exe().map_err(|error| Failed(format!("cannot find this program: {error}")))?;
        Ok(Self { program, dir: dir.into(), arguments, keep: demo.keep, nodes, next: NODES + 1 })
    }

    /// Starts every node that does not run.
    pub(super) fn start(&mut self) -> Result<(), Failed> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].child.is_none()).collect::<Vec<_>>().into_iter().try_for_each(
            |at| {
                let child = self.spawn(&self.nodes[at])?;
                self.nodes[at].child = Some(child);
                Ok(())
            },
        )
    }

    fn spawn(&self, node: &Node) -> Result<Child, Failed> {
        let id = node.member.id.0;
        let failed = |error: std::io::Error| Failed(format!("cannot start node {id}: {error}"));
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let log = File::options().create(true).append(true).open(self.log(id)).map_err(failed)?;
        let mut command = Command::new(&self.program);
        command.arg("serve").args(["--id", &id.to_string(), "--dir"]).arg(self.dir.join(format!("node-{id}")));
        command.args(&self.arguments).args(&node.arguments).stdout(Stdio::null()).stderr(log);
        if self.keep {
            command.stdin(Stdio::null());
        } else {
            // However the demo ends, its end of this pipe goes with it, and the node stops.
            command.arg("--stop-with-stdin").stdin(Stdio::piped());
        }
        // In a group of its own, an interrupt from the keyboard reaches the demo alone, which then ends in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map_err(failed)
    }

    /// Starts a node that joins.
    pub(super) fn add(&mut self) -> Result<&Member, Failed> {
        let member = member(self.next, &free_ports(2)?)?;
        self.next += 1;
        let known = self.addresses().into_iter().flat_map(|address| ["--join".into(), address]);
        let arguments = ["--peer".into(), notation(&member)].into_iter().chain(known).collect();
        self.nodes.push(Node { member, arguments, child: None });
        self.start()?;
        Ok(&self.nodes[self.nodes.len() - 1].member)
    }

    /// Stops a node that is no member any more, and returns its number.
    pub(super) fn dismiss(&mut self, at: usize) -> Result<u64, Failed> {
        self.stop(at)?;
        Ok(self.nodes.remove(at).member.id.0)
    }

    /// The number of a node.
    pub(super) fn id(&self, at: usize) -> u64 {
        self.nodes[at].member.id.0
    }

    /// Where a node logs.
    pub(super) fn log(&self, id: u64) -> PathBuf {
        self.dir.join(format!("node-{id}.log"))
    }

    /// `host:port` of every node, for clients.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.member.resp_address()).collect()
    }

    /// Waits until a node leads and answers.
    pub(super) fn await_leader(&mut self, limit: Duration, interrupted: &Interrupted) -> Result<usize, Failed> {
        let started = Instant::now();
        while started.elapsed() < limit {
            self.check_running()?;
            let leads = |node: &Node| node.child.is_some() && node.info().is_some_and(|info| info.leads);
            if let Some(leader) = self.nodes.iter().position(leads) {
                return Ok(leader);
            }
            interrupted.pause(Duration::from_millis(10))?;
        }
        Err(Failed(format!("no leader within {limit:?}")))
    }

    /// Whether every node serves clients and has a leader.
    pub(super) fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.info().is_some_and(|info| info.led))
    }

    /// An error if a process ended that was not killed.
    pub(super) fn check_running(&mut self) -> Result<(), Failed> {
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else { continue };
            let ended = child.try_wait().map_err(|error| Failed(format!("cannot watch a node: {error}")))?;
            if let Some(status) = ended {
                let id = node.member.id.0;
                return Err(Failed(format!("node {id} ended by itself ({status}), see {}", self.log(id).display())));
            }
        }
        Ok(())
    }

    /// Kills one node with SIGKILL.
    pub(super) fn kill(&mut self, at: usize) -> Result<(), Failed> {
        let node = &mut self.nodes[at];
        let Some(mut child) = node.child.take() else { return Ok(()) };
        let failed = |error: std::io::Error| Failed(format!("cannot kill node {}: {error}", node.member.id.0));
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        Ok(())
    }

    /// Tells the leader to hand over; it answers when the successor was told. `false`: it cannot at the moment.
    pub(super) fn fail_over(&self, leader: usize) -> Result<bool, Failed> {
        let member = &self.nodes[leader].member;
        let failed = |what: String| Failed(format!("FAILOVER at node {}: {what}", member.id.0));
        let mut connection = Connection::open(&member.resp_address()).map_err(|error| failed(error.to_string()))?;
        match connection.ask(&[b"FAILOVER"]) {
            Ok(Answer::Status(_)) => Ok(true),
            Ok(Answer::Error(_)) => Ok(false),
            Ok(other) => Err(failed(format!("{other:?}"))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Stops one node in order, with SIGTERM, and waits until it is gone.
    pub(super) fn stop(&mut self, at: usize) -> Result<(), Failed> {
        let node = &mut self.nodes[at];
        let Some(mut child) = node.child.take() else { return Ok(()) };
        let failed = |what: String| Failed(format!("cannot stop node {}: {what}", node.member.id.0));
        let process = rustix::process::Pid::from_child(&child);
        let told = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        told.map_err(|error| failed(error.to_string()))?;
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        if status.success() { Ok(()) } else { Err(failed(format!("it ended with {status}"))) }
    }

    /// Leaves the processes running and tells their ids.
    pub(super) fn release(mut self) -> Vec<u32> {
        self.nodes.iter_mut().filter_map(|node| node.child.take()).map(|child| child.id()).collect()
    }
}

impl Node {
    /// What the node says about itself, if it answers.
    pub(super) fn info(&self) -> Option<NodeInfo> {
        let mut connection = Connection::open(&self.member.resp_address()).ok()?;
        let Ok(Answer::Bulk(Some(text))) = connection.ask(&[b"INFO"]) else { return None };
        let mut info = NodeInfo::default();
        for line in String::from_utf8_lossy(&text).lines() {
            match line.split_once(':') {
                Some(("role", role)) => info.leads = role == "master",
                Some(("leader_id", leader)) => info.led = leader != "none",
                Some(("applied_index", index)) => info.applied = index.parse().ok()?,
                Some(("keys", keys)) => info.keys = keys.parse().ok()?,
                Some(("digest", digest)) => info.digest = digest.into(),
                _ => {}
            }
        }
        Some(info)
    }

    /// Whether the node got a snapshot of another one, if it answers.
    pub(super) fn got_a_snapshot(&self) -> Option<bool> {
        let mut connection = Connection::open(&self.member.resp_address()).ok()?;
        let facts = connection.ask(&[b"RAFT", b"STATUS"]).ok()?.pairs()?;
        facts.iter().find(|(name, _)| name == "snapshots_installed").map(|(_, count)| count != "0")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // Errors here mean that it is gone already.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn member(id: u64, ports: &[u16]) -> Result<Member, Failed> {
    let text = format!("{id}=127.0.0.1:{}@{}", ports[0], ports[1]);
    text.parse().map_err(|error: super::super::members::InvalidMember| Failed(error.to_string()))
}

fn notation(member: &Member) -> String {
    format!("{}={}@{}", member.id.0, member.resp_address(), member.peer_port)
}

/// Ports that nobody listens on now. Where to look first depends on the process, so that two demos do not collide.
fn free_ports(count: usize) -> Result<Vec<u16>, Failed> {
    let span = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(7919) % span;
    let candidates = (0..span).map(|step| PORTS.start + ((first + step) % span) as u16);
    let mut taken = Vec::new();
    for port in candidates {
        if taken.len() == count {
            break;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            taken.push((port, listener));
        }
    }
    if taken.len() < count {
        return Err(Failed(format!("no {count} free ports from {} to {}", PORTS.start, PORTS.end - 1)));
    }
    Ok(taken.into_iter().map(|(port, _)| port).collect())
}
