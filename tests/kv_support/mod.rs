//! Three processes of the example `kv`, and those that join them, for tests.

// Each test uses some of it.
#![allow(dead_code, unreachable_pub)]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use redis::cluster::ClusterClient;
use redis::{Commands as _, Connection, RedisResult};

/// Cargo builds the examples beside the tests.
pub fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples").join("kv")
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    let mut child =
        Command::new(program()).args(arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > LIMIT {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// What the program says when it refuses to run.
#[track_caller]
pub fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// Nothing here takes this long, however busy the machine.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Cluster {
    dir: tempfile::TempDir,
    peers: Vec<String>,
    /// The first node's id; the others follow.
    first: usize,
    pub ports: Vec<u16>,
    pub nodes: Vec<Option<Child>>,
    /// What every node is started with from now on beside the usual.
    pub more: Vec<String>,
}

/// How many nodes found a cluster.
const FOUNDERS: usize = 3;

impl Cluster {
    /// Founds three nodes and starts them.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Founds three nodes and starts them, each with these arguments.
    pub fn start_with(more: &[&str]) -> Self {
        let mut cluster = Self::planned(1, more);
        for at in 0..FOUNDERS {
            let founded = cluster.found(at, &[]);
            assert!(founded.status.success(), "{founded:?}");
            cluster.start_node(at);
        }
        cluster
    }

    /// Three nodes, the first with this id, that are yet to be founded and started, each with these arguments.
    pub fn planned(first: usize, more: &[&str]) -> Self {
        let (ports, peer_ports) = (free_ports(3), free_ports(3));
        let peer = |at: usize| format!("{}=127.0.0.1:{}@{}", at + first, ports[at], peer_ports[at]);
        let peers = (0..3).map(peer).collect();
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            peers,
            first,
            ports,
            nodes: vec![None, None, None],
            more: more.iter().map(|argument| (*argument).to_owned()).collect(),
        }
    }

    /// Founds a node's directory; what the program said.
    pub fn found(&self, at: usize, more: &[&str]) -> Output {
        let (id, dir) = (self.id(at), self.node_dir(at));
        let init = ["init", "--cluster", "test", "--id", &id, "--dir", dir.to_str().unwrap()];
        run(&init.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
    }

    fn id(&self, at: usize) -> String {
        (at + self.first).to_string()
    }

    /// Founds a node that joins, and is told of node 1 alone; starts it.
    pub fn start_newcomer(&mut self) -> usize {
        let at = self.nodes.len();
        let (resp, peer) = (free_ports(1)[0], free_ports(1)[0]);
        self.peers.push(format!("{}=127.0.0.1:{resp}@{peer}", self.id(at)));
        self.ports.push(resp);
        self.nodes.push(None);
        let founded = self.found(at, &["--join", &self.address(0)]);
        assert!(founded.status.success(), "{founded:?}");
        self.start_node(at);
        at
    }

    /// Where clients reach a node.
    pub fn address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.ports[at])
    }

    /// Where a node is, as `RAFT ADD` takes it.
    pub fn place(&self, at: usize) -> &str {
        self.peers[at].split_once('=').unwrap().1
    }

    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].is_some())
    }

    pub fn node_dir(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("node-{}", at + 1))
    }

    pub fn serve_arguments(&self, at: usize) -> Vec<String> {
        let dir = self.node_dir(at).to_str().unwrap().to_owned();
        let mut arguments =
            ["serve", "--stop-with-stdin", "--election-timeout", "300", "--dir", &dir].map(String::from).to_vec();
        arguments.extend(["--id".into(), self.id(at)]);
        arguments.extend(self.more.iter().cloned());
        let known = if at < FOUNDERS { &self.peers[..FOUNDERS] } else { &self.peers[at..=at] };
        arguments.extend(known.iter().flat_map(|peer| ["--peer".to_owned(), peer.clone()]));
        arguments
    }

    pub fn start_node(&mut self, at: usize) {
        self.start_node_with(at, &[]);
    }

    pub fn start_node_with(&mut self, at: usize, more: &[&str]) {
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("{}.log", at + 1)));
        let mut command = Command::new(program());
        command
            .args(self.serve_arguments(at))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        self.nodes[at] = Some(command.spawn().unwrap());
    }

    pub fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn log(&self, at: usize) -> String {
        fs::read_to_string(self.dir.path().join(format!("{}.log", at + 1))).unwrap_or_default()
    }

    pub fn url(&self, at: usize) -> String {
        format!("redis://127.0.0.1:{}/", self.ports[at])
    }

    pub fn connect(&self, at: usize) -> RedisResult<Connection> {
        let connection = redis::Client::open(self.url(at))?.get_connection_with_timeout(Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(connection)
    }

    pub fn info(&self, at: usize) -> RedisResult<redis::InfoDict> {
        redis::cmd("INFO").query(&mut self.connect(at)?)
    }

    pub fn leader(&self) -> usize {
        self.eventually("a leader", || {
            let leads =
                |at: &usize| self.info(*at).is_ok_and(|info| info.get::<String>("role").as_deref() == Some("master"));
            self.running().find(leads)
        })
    }

    /// Waits until all that run have applied the same and hold the same.
    pub fn await_agreement(&self) {
        self.eventually("agreement", || {
            let state = |at: usize| {
                let info = self.info(at).ok()?;
                Some((info.get::<u64>("applied_index")?, info.get::<String>("digest")?))
            };
            let states = self.running().map(state).collect::<Option<Vec<_>>>()?;
            states.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
        });
    }

    #[track_caller]
    pub fn eventually<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if let Some(found) = found() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let logs: Vec<String> = (0..self.nodes.len()).map(|at| self.log(at)).collect();
        panic!("no {what} within {LIMIT:?}\n{}", logs.join("\n---\n"));
    }

    pub fn client(&self) -> redis::cluster::ClusterConnection {
        let builder = ClusterClient::builder((0..3).map(|at| self.url(at)));
        let client = builder.retries(3).response_timeout(Duration::from_secs(5)).build().unwrap();
        self.eventually("a cluster client", || client.get_connection().ok())
    }

    /// Writes until the write is acknowledged; setting a key to its value twice does no harm.
    pub fn set(&self, client: &mut redis::cluster::ClusterConnection, key: &str, value: &str) {
        self.eventually("an acknowledged write", || match client.set::<_, _, ()>(key, value) {
            Ok(()) => Some(()),
            Err(_) => {
                *client = self.client();
                None
            }
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut child in self.nodes.iter_mut().filter_map(Option::take) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What `kv ctl` says, and its exit status.
pub fn ctl(cluster: &Cluster, at: usize, order: &str) -> (i32, String) {
    let address = cluster.address(at);
    let arguments: Vec<&str> = ["ctl", "--addr", &address].into_iter().chain(order.split(' ')).collect();
    let output = run(&arguments);
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(text).unwrap().trim_end().to_owned())
}

/// The answer of a node to `RAFT`.
pub fn raft<T: redis::FromRedisValue>(cluster: &Cluster, at: usize, order: &str) -> RedisResult<T> {
    let mut connection = cluster.connect(at)?;
    // A change may have to wait for a newcomer on a busy machine.
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut command = redis::cmd("RAFT");
    order.split(' ').for_each(|word| {
        command.arg(word);
    });
    command.query(&mut connection)
}

/// Ports below the range from which the system takes those of outgoing connections, so that a killed node's port does
/// not become a client's. Each test process and each call begins somewhere else.
pub fn free_ports(count: usize) -> Vec<u16> {
    static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let first = std::process::id().wrapping_mul(7919).wrapping_add(call.wrapping_mul(101)) % 12_000;
    let ports = (0..12_000).map(|step| 20_000 + ((first + step) % 12_000) as u16);
    let listeners: Vec<TcpListener> =
        ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
