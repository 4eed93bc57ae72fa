//! The example `kv` as its users meet it: three processes, a client library, and SIGKILL.
#![cfg(feature = "node")]
// The lints know tests by their attribute, not the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use redis::cluster::ClusterClient;
use redis::{Commands as _, Connection, RedisResult};

/// Cargo builds the examples beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples").join("kv")
}

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Output {
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
fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// Nothing here takes this long, however busy the machine.
const LIMIT: Duration = Duration::from_secs(60);

struct Cluster {
    dir: tempfile::TempDir,
    peers: Vec<String>,
    ports: Vec<u16>,
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    /// Founds three nodes and starts them.
    fn start() -> Self {
        let (ports, peer_ports) = (free_ports(3), free_ports(3));
        let peer = |at: usize| format!("{}=127.0.0.1:{}@{}", at + 1, ports[at], peer_ports[at]);
        let peers = (0..3).map(peer).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Self { dir, peers, ports, nodes: vec![None, None, None] };
        for at in 0..3 {
            let id = (at + 1).to_string();
            let founded =
                run(&["init", "--cluster", "test", "--id", &id, "--dir", cluster.node_dir(at).to_str().unwrap()]);
            assert!(founded.status.success(), "{founded:?}");
            cluster.start_node(at);
        }
        cluster
    }

    fn node_dir(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("node-{}", at + 1))
    }

    fn serve_arguments(&self, at: usize) -> Vec<String> {
        let dir = self.node_dir(at).to_str().unwrap().to_owned();
        let mut arguments =
            ["serve", "--stop-with-stdin", "--election-timeout", "300", "--dir", &dir].map(String::from).to_vec();
        arguments.extend(["--id".into(), (at + 1).to_string()]);
        arguments.extend(self.peers.iter().flat_map(|peer| ["--peer".to_owned(), peer.clone()]));
        arguments
    }

    fn start_node(&mut self, at: usize) {
        self.start_node_with(at, &[]);
    }

    fn start_node_with(&mut self, at: usize, more: &[&str]) {
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

    fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn log(&self, at: usize) -> String {
        fs::read_to_string(self.dir.path().join(format!("{}.log", at + 1))).unwrap_or_default()
    }

    fn url(&self, at: usize) -> String {
        format!("redis://127.0.0.1:{}/", self.ports[at])
    }

    fn connect(&self, at: usize) -> RedisResult<Connection> {
        let connection = redis::Client::open(self.url(at))?.get_connection_with_timeout(Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(connection)
    }

    fn info(&self, at: usize) -> RedisResult<redis::InfoDict> {
        redis::cmd("INFO").query(&mut self.connect(at)?)
    }

    fn leader(&self) -> usize {
        self.eventually("a leader", || {
            let leads =
                |at: &usize| self.info(*at).is_ok_and(|info| info.get::<String>("role").as_deref() == Some("master"));
            (0..3).filter(|at| self.nodes[*at].is_some()).find(leads)
        })
    }

    /// Waits until all three have applied the same and hold the same.
    fn await_agreement(&self) {
        self.eventually("agreement", || {
            let state = |at: usize| {
                let info = self.info(at).ok()?;
                Some((info.get::<u64>("applied_index")?, info.get::<String>("digest")?))
            };
            let first = state(0)?;
            (state(1)? == first && state(2)? == first).then_some(())
        });
    }

    #[track_caller]
    fn eventually<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if let Some(found) = found() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let logs: Vec<String> = (0..3).map(|at| self.log(at)).collect();
        panic!("no {what} within {LIMIT:?}\n{}", logs.join("\n---\n"));
    }

    fn client(&self) -> redis::cluster::ClusterConnection {
        let builder = ClusterClient::builder((0..3).map(|at| self.url(at)));
        let client = builder.retries(3).response_timeout(Duration::from_secs(5)).build().unwrap();
        self.eventually("a cluster client", || client.get_connection().ok())
    }

    /// Writes until the write is acknowledged; setting a key to its value twice does no harm.
    fn set(&self, client: &mut redis::cluster::ClusterConnection, key: &str, value: &str) {
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

/// Ports below the range from which the system takes those of outgoing connections, so that a killed node's port does
/// not become a client's. Each test process and each call begins somewhere else.
fn free_ports(count: usize) -> Vec<u16> {
    static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let first = std::process::id().wrapping_mul(7919).wrapping_add(call.wrapping_mul(101)) % 12_000;
    let ports = (0..12_000).map(|step| 20_000 + ((first + step) % 12_000) as u16);
    let listeners: Vec<TcpListener> =
        ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

#[test]
fn clients_are_served_through_the_death_of_one_and_of_all() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    commands_do_what_they_do_in_redis(&mut cluster.connect(leader).unwrap());
    followers_send_clients_to_the_leader(&cluster, leader);

    let mut client = cluster.client();
    for number in 0..100 {
        cluster.set(&mut client, &format!("before:{number}"), &number.to_string());
    }
    cluster.kill(leader);
    for number in 0..100 {
        cluster.set(&mut client, &format!("after:{number}"), &number.to_string());
    }
    assert_ne!(cluster.leader(), leader);
    cluster.start_node(leader);
    cluster.await_agreement();

    (0..3).for_each(|at| cluster.kill(at));
    (0..3).for_each(|at| cluster.start_node(at));
    cluster.leader();
    let mut client = cluster.client();
    for number in 0..100 {
        for phase in ["before", "after"] {
            let key = format!("{phase}:{number}");
            let value: Option<u64> = cluster.eventually("a read", || client.get(&key).ok());
            assert_eq!(value, Some(number), "{key} was acknowledged");
        }
    }
    cluster.await_agreement();
    a_node_that_lost_its_disk_is_refused(&mut cluster);
    nodes_stop_in_order(&mut cluster);
}

fn commands_do_what_they_do_in_redis(connection: &mut Connection) {
    let one = |connection: &mut Connection, command: &str| -> RedisResult<redis::Value> {
        let mut words = command.split(' ');
        let mut request = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            request.arg(word);
        });
        request.query(connection)
    };
    use redis::Value::{BulkString, Int, Nil, Okay, SimpleString};
    let text = |text: &str| BulkString(text.into());
    let script = [
        ("PING", SimpleString("PONG".into())),
        ("ECHO hello", text("hello")),
        ("SET k 1 XX", Nil),
        ("SET k 1 NX", Okay),
        ("SET k 2 NX", Nil),
        ("SET k 5 IFEQ 2", Nil),
        ("SET k 5 IFEQ 1", Okay),
        ("INCR k", Int(6)),
        ("GET k", text("6")),
        ("MGET k none k", redis::Value::Array(vec![text("6"), Nil, text("6")])),
        ("EXISTS k none k", Int(2)),
        ("DBSIZE", Int(1)),
        ("DEL k none", Int(1)),
        ("GET k", Nil),
        ("SELECT 0", Okay),
        ("CLUSTER KEYSLOT foo", Int(12_182)),
    ];
    for (command, expected) in script {
        assert_eq!(one(connection, command), Ok(expected), "{command}");
    }
    for wrong in ["SELECT 1", "FLUSHALL", "GET", "SET k v EX 10"] {
        assert!(one(connection, wrong).is_err(), "{wrong}");
    }
    // One connection's commands take effect in order, whatever is in flight together.
    let mut pipeline = redis::pipe();
    for number in 0..50 {
        pipeline.set("p", number).ignore().get("p").cmd("INCR").arg("q").get("q");
    }
    let answers: Vec<u64> = pipeline.query(connection).unwrap();
    let expected: Vec<u64> = (0..50).flat_map(|number| [number, number + 1, number + 1]).collect();
    assert_eq!(answers, expected);
}

fn followers_send_clients_to_the_leader(cluster: &Cluster, leader: usize) {
    let mut follower = cluster.connect((leader + 1) % 3).unwrap();
    let moved: redis::RedisError = follower.get::<_, Option<String>>("foo").unwrap_err();
    assert_eq!(moved.kind(), redis::ErrorKind::Server(redis::ServerErrorKind::Moved), "{moved}");
    let address = format!("127.0.0.1:{}", cluster.ports[leader]);
    assert_eq!(moved.redirect_node(), Some((address.as_str(), 12_182)));

    let mut client = cluster.client();
    cluster.set(&mut client, "foo", "bar");
    redis::cmd("READONLY").exec(&mut follower).unwrap();
    cluster.eventually("the write on the follower", || {
        (follower.get::<_, Option<String>>("foo").unwrap().as_deref() == Some("bar")).then_some(())
    });
    assert!(follower.set::<_, _, ()>("foo", "baz").is_err());
}

fn a_node_that_lost_its_disk_is_refused(cluster: &mut Cluster) {
    let follower = (cluster.leader() + 1) % 3;
    cluster.kill(follower);
    fs::remove_dir_all(cluster.node_dir(follower)).unwrap();
    let arguments = cluster.serve_arguments(follower);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refusal = refusal(&arguments);
    assert!(refusal.contains("was never founded") && refusal.contains("new id"), "{refusal}");

    // Founding it anew under its old id is a mistake that its peers see: they know the old store.
    cluster.start_node_with(follower, &["--cluster", "test"]);
    let peers = [(follower + 1) % 3, (follower + 2) % 3];
    cluster.eventually("refusal by both peers", || {
        peers.iter().all(|peer| cluster.log(*peer).contains("its directory was replaced")).then_some(())
    });
    let mut client = cluster.client();
    cluster.set(&mut client, "two", "go on");
    let info = cluster.eventually("an answer of the new disk's node", || cluster.info(follower).ok());
    assert_eq!((info.get("keys"), info.get("role")), (Some(0_u64), Some("slave".to_owned())));
}

fn nodes_stop_in_order(cluster: &mut Cluster) {
    for mut child in cluster.nodes.iter_mut().filter_map(Option::take) {
        drop(child.stdin.take());
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < LIMIT, "a node does not stop");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
    }
}

#[test]
fn mistakes_are_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (node, empty) = (path(&node), path(&dir.path().join("empty")));
    let ports = free_ports(2);
    let peer = format!("1=127.0.0.1:{}@{}", ports[0], ports[1]);
    let serve = |dir: &str, id: &str, more: &[&str]| {
        let arguments = ["serve", "--dir", dir, "--id", id, "--peer", &peer, "--stop-with-stdin"];
        refusal(&[&arguments[..], more].concat())
    };

    assert!(run(&["init", "--cluster", "test", "--id", "1", "--dir", &node]).status.success());
    let again = refusal(&["init", "--cluster", "test", "--id", "1", "--dir", &node]);
    assert!(again.contains("already holds a node"), "{again}");
    assert!(serve(&empty, "1", &[]).contains("was never founded"));
    assert!(serve(&node, "7", &[]).contains("no --peer names this node, 7"));
    assert!(serve(&node, "1", &["--peer", &peer]).contains("names node 1 twice"));
    assert!(serve(&node, "1", &["--peer", "2=nonsense"]).contains("ID=HOST:RESP_PORT@PEER_PORT"));
    assert!(serve(&node, "1", &["--cluster", "other"]).contains("other"));
    let (two, foreign) = (path(&dir.path().join("two")), format!("2=127.0.0.1:{}@{}", ports[0], ports[1]));
    assert!(run(&["init", "--cluster", "test", "--id", "3", "--dir", &two]).status.success());
    let wrong_id = refusal(&["serve", "--dir", &two, "--id", "2", "--peer", &foreign, "--stop-with-stdin"]);
    assert!(wrong_id.contains('3'), "{wrong_id}");

    // A cluster of one serves; a second process on its directory does not.
    let mut first = Command::new(program())
        .args(["serve", "--dir", &node, "--id", "1", "--peer", &peer, "--stop-with-stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let served = loop {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", ports[0])).unwrap();
        if client.get_connection().is_ok_and(|mut connection| connection.set::<_, _, ()>("k", "v").is_ok()) {
            break true;
        }
        if began.elapsed() > LIMIT {
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let second = serve(&node, "1", &[]);
    let _ = first.kill();
    let _ = first.wait();
    assert!(served);
    assert!(second.to_lowercase().contains("lock"), "{second}");
}
