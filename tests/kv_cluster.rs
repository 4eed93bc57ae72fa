//! The example `kv` as its users meet it: three processes, a client library, and SIGKILL.
#![cfg(feature = "node")]
// The lints know tests by their attribute, not the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kv_support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kv_support::{Cluster, LIMIT, free_ports, program, refusal, run};
use redis::{Commands as _, Connection, RedisResult};

#[test]
fn clients_are_served_through_the_death_of_one_and_of_all() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    commands_do_what_they_do_in_redis(&mut cluster.connect(leader).unwrap());
    followers_read_and_send_writers_to_the_leader(&cluster, leader);

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

fn followers_read_and_send_writers_to_the_leader(cluster: &Cluster, leader: usize) {
    let mut follower = cluster.connect((leader + 1) % 3).unwrap();
    let moved: redis::RedisError = follower.set::<_, _, ()>("foo", "baz").unwrap_err();
    assert_eq!(moved.kind(), redis::ErrorKind::Server(redis::ServerErrorKind::Moved), "{moved}");
    let address = format!("127.0.0.1:{}", cluster.ports[leader]);
    assert_eq!(moved.redirect_node(), Some((address.as_str(), 12_182)));

    let mut client = cluster.client();
    for round in 0..20 {
        let value = format!("bar {round}");
        cluster.set(&mut client, "foo", &value);
        // At once, or not at all: it asks the leader.
        assert_eq!(follower.get::<_, Option<String>>("foo").unwrap(), Some(value));
    }
    redis::cmd("READONLY").exec(&mut follower).unwrap();
    cluster.eventually("the write in the follower's own state", || {
        (follower.get::<_, Option<String>>("foo").unwrap().as_deref() == Some("bar 19")).then_some(())
    });
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
