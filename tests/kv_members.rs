//! Members of the example `kv` come and go while clients write: processes, RESP, and the command line.
#![cfg(feature = "node")]
// The lints know tests by their attribute, not the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kv_support;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kv_support::{Cluster, ctl, raft, run};
use redis::{Commands as _, Connection, RedisResult};

/// Clients that write one key after the other, each until it is acknowledged, whoever is a member.
struct Writers {
    ports: Arc<Mutex<Vec<u16>>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    fn start(cluster: &Cluster) -> Self {
        let ports = Arc::new(Mutex::new(cluster.ports.clone()));
        let (stop, acknowledged) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let threads = (0..4).map(|writer| {
            let (ports, stop, acknowledged) = (ports.clone(), stop.clone(), acknowledged.clone());
            thread::spawn(move || {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    set(&ports, &key(writer, written), &written.to_string());
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    written += 1;
                }
                written
            })
        });
        let threads = threads.collect();
        Self { ports, stop, acknowledged, threads }
    }

    /// There is a new node to write to.
    fn learn(&self, cluster: &Cluster) {
        self.ports.lock().unwrap().clone_from(&cluster.ports);
    }

    /// Writes go on: some that began after this call are acknowledged.
    #[track_caller]
    fn go_on(&self, cluster: &Cluster) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        let more = || (self.acknowledged.load(Ordering::Relaxed) > before + 20).then_some(());
        cluster.eventually("writes that go on", more);
    }

    /// Stops them, and looks for everything that was acknowledged.
    fn check(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        let written: Vec<u64> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(written.iter().all(|written| *written > 0), "{written:?}");
        let mut leader = cluster.connect(cluster.leader()).unwrap();
        for (writer, written) in (0..).zip(written) {
            for number in 0..written {
                let found: Option<u64> = leader.get(key(writer, number)).unwrap();
                assert_eq!(found, Some(number), "{} was acknowledged", key(writer, number));
            }
        }
    }
}

fn key(writer: u64, number: u64) -> String {
    format!("w{writer}:{number}")
}

/// Asks one node after the other, following redirections, until the write is acknowledged.
fn set(ports: &Mutex<Vec<u16>>, key: &str, value: &str) {
    thread_local! {
        static LAST: std::cell::RefCell<Option<Connection>> = const { std::cell::RefCell::new(None) };
    }
    let attempt = |connection: &mut Connection| connection.set::<_, _, ()>(key, value);
    if LAST.with_borrow_mut(|last| last.as_mut().is_some_and(|last| attempt(last).is_ok())) {
        return;
    }
    loop {
        for port in ports.lock().unwrap().clone() {
            let found = connect(port).and_then(|mut connection| attempt(&mut connection).map(|()| connection));
            if let Ok(connection) = found {
                LAST.set(Some(connection));
                return;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn connect(port: u16) -> RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}

/// The leader's refusal, in words.
#[track_caller]
fn refusal(cluster: &Cluster, order: &str) -> String {
    let refused = raft::<redis::Value>(cluster, cluster.leader(), order).unwrap_err();
    refused.to_string()
}

/// The ids of all members of this role, as a node knows them.
fn members(cluster: &Cluster, at: usize, role: &str) -> Vec<u64> {
    type Facts = std::collections::BTreeMap<String, String>;
    let members: Vec<Facts> = raft(cluster, at, "MEMBERS").unwrap();
    members.iter().filter(|member| member["role"] == role).map(|member| member["id"].parse().unwrap()).collect()
}

/// Repeats an order while the leader changes or the members change otherwise; another answer is final.
#[track_caller]
fn ordered(cluster: &Cluster, at: usize, order: &str) -> String {
    cluster.eventually(order, || match ctl(cluster, at, order) {
        (0, text) => Some(text),
        // A slow machine may lose its leader in the middle: whatever became of the order, it is settled then.
        (_, text) if text.contains("leadership") || text.contains("under way") => None,
        (_, text) if text.contains("already") || text.contains("is no member") => Some(text),
        (status, text) => panic!("{order}: {status}: {text}"),
    })
}

#[test]
fn members_come_go_and_are_replaced_while_clients_write() {
    let mut cluster = Cluster::start();
    let first = cluster.leader();
    let writers = Writers::start(&cluster);
    wrong_orders_change_nothing(&cluster);

    // It is told of node 1 alone. It is a node that joins, whatever it is started with.
    let four = cluster.start_newcomer();
    cluster.eventually("the newcomer", || cluster.info(four).ok());
    cluster.kill(four);
    cluster.start_node(four);
    cluster.eventually("the newcomer", || cluster.info(four).ok());
    let facts: Vec<String> = raft(&cluster, four, "STATUS").unwrap();
    assert!(facts.chunks(2).any(|fact| fact == ["role", "none"]), "it founded a cluster of its own: {facts:?}");
    writers.learn(&cluster);
    let add = format!("add 4 {}", cluster.place(four));
    ordered(&cluster, (first + 1) % 3, &add);
    assert_eq!(members(&cluster, cluster.leader(), "voter"), [1, 2, 3, 4]);
    cluster.eventually("the newcomer to know", || (members(&cluster, four, "voter") == [1, 2, 3, 4]).then_some(()));
    writers.go_on(&cluster);

    // The leader goes: it hands over.
    let leader = cluster.leader();
    ordered(&cluster, four, &format!("remove {}", leader + 1));
    let others: Vec<u64> = (1..=4).filter(|id| *id != leader as u64 + 1).collect();
    cluster.eventually("another leader", || (members(&cluster, four, "voter") == others).then_some(()));
    cluster.kill(leader);
    writers.go_on(&cluster);

    // One dies, and is replaced by one that nobody has heard of.
    let victim = cluster.running().find(|at| *at != four).unwrap();
    cluster.kill(victim);
    let five = start_newcomer_told_of(&mut cluster, four);
    writers.learn(&cluster);
    ordered(&cluster, four, &format!("replace {} 5 {}", victim + 1, cluster.place(five)));
    let voters: Vec<u64> = others.into_iter().filter(|id| *id != victim as u64 + 1).chain([5]).collect();
    assert_eq!(members(&cluster, cluster.leader(), "voter"), voters);
    writers.go_on(&cluster);

    hand_leadership_over(&cluster, four);
    writers.go_on(&cluster);
    clients_find_the_leader_from_any_member(&cluster);
    writers.check(&cluster);
    cluster.await_agreement();

    // Everybody finds the others again, although the founders are started with the list of those that founded.
    let running: Vec<usize> = cluster.running().collect();
    running.iter().for_each(|at| cluster.kill(*at));
    running.iter().for_each(|at| cluster.start_node(*at));
    let leader = cluster.leader();
    cluster.eventually("a write", || cluster.connect(leader).ok()?.set::<_, _, ()>("after", "all").ok());
    cluster.await_agreement();
}

/// Node 1, of which it is told first, may be gone.
fn start_newcomer_told_of(cluster: &mut Cluster, member: usize) -> usize {
    let newcomer = cluster.start_newcomer();
    cluster.kill(newcomer);
    std::fs::write(cluster.node_dir(newcomer).join("join"), cluster.address(member)).unwrap();
    cluster.start_node(newcomer);
    newcomer
}

fn wrong_orders_change_nothing(cluster: &Cluster) {
    let leader = cluster.leader();
    let before: Vec<String> = raft(cluster, leader, "STATUS").unwrap();
    for (order, why) in [
        ("ADD 2 127.0.0.1:1@2", "node 2 is a voter already; nothing was changed"),
        ("REMOVE 9", "node 9 is no member; nothing was changed"),
        ("REPLACE 9 4 127.0.0.1:1@2", "node 9 is no member; nothing was changed"),
        ("REPLACE 1 2 127.0.0.1:1@2", "node 2 is a voter already; nothing was changed"),
        ("TRANSFER 9", "n9 is no voter of the group"),
        ("REMOVE", "wrong number of arguments for 'raft|remove' command"),
        ("EXPEL 1", "unknown subcommand 'EXPEL'"),
    ] {
        let refused = refusal(cluster, order);
        assert!(refused.contains(why), "{order}: {refused}");
    }
    let taken = format!("ADD 4 {}", cluster.place(1));
    assert!(refusal(cluster, &taken).contains("node 4 cannot be where node 2 is"));
    let moved = raft::<redis::Value>(cluster, (leader + 1) % 3, "REMOVE 1").unwrap_err();
    assert_eq!(moved.redirect_node().map(|(address, _)| address.to_owned()), Some(cluster.address(leader)));
    let after: Vec<String> = raft(cluster, leader, "STATUS").unwrap();
    let configured = |facts: &[String]| facts.iter().skip_while(|name| *name != "configuration_index").nth(1).cloned();
    assert!(configured(&before).is_some() && configured(&before) == configured(&after), "{before:?} {after:?}");

    assert_eq!(ctl(cluster, leader, "remove 9"), (1, "kv: ERR node 9 is no member; nothing was changed".into()));
    assert_eq!(ctl(cluster, leader, "remove").0, 2);
    let nobody = run(&["ctl", "--addr", "127.0.0.1:1", "status"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

fn hand_leadership_over(cluster: &Cluster, at: usize) {
    let others = |leader: usize| members(cluster, at, "voter").into_iter().find(|id| *id != leader as u64 + 1).unwrap();
    cluster.eventually("a hand-over", || {
        let to = others(cluster.leader());
        let (status, text) = ctl(cluster, at, &format!("transfer {to}"));
        (status == 0 && text == format!("Node {to} takes over.")).then_some(())?;
        let led = || (cluster.leader() as u64 + 1 == to).then_some(());
        (0..50).find_map(|_| led().or_else(|| (thread::sleep(Duration::from_millis(20)), None).1))
    });
}

/// `-MOVED` and `CLUSTER SLOTS` name those who are members now.
fn clients_find_the_leader_from_any_member(cluster: &Cluster) {
    let leader = cluster.leader();
    for at in cluster.running().filter(|at| *at != leader) {
        cluster.eventually("a redirection to the leader", || {
            let moved = cluster.connect(at).unwrap().set::<_, _, ()>("k", "v").err()?;
            (moved.redirect_node()?.0 == cluster.address(leader)).then_some(())
        });
        let (_, table) = ctl(cluster, at, "members");
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("ID  ROLE   LEADER  CLIENTS"), "{table}");
        assert_eq!(lines.len(), 1 + members(cluster, at, "voter").len(), "{table}");
        assert!(table.contains(&cluster.address(leader)), "{table}");
    }
}

/// A fact of `RAFT STATUS`.
fn fact(cluster: &Cluster, at: usize, name: &str) -> Option<u64> {
    let facts: Vec<String> = raft(cluster, at, "STATUS").ok()?;
    facts.chunks(2).find(|fact| fact[0] == name)?[1].parse().ok()
}

/// The log does not go back to the beginning any more: a newcomer begins with a snapshot, of a store of another kind.
#[test]
fn a_newcomer_begins_with_a_snapshot_if_it_must() {
    let mut cluster = Cluster::start_with(&["--store", "memory"]);
    let leader = cluster.leader();
    // More than the log keeps behind a snapshot for those who are a little behind.
    for part in 0..12 {
        let mut pipeline = redis::pipe();
        for number in 0..1000 {
            pipeline.set(format!("p{part}:{number}"), "v".repeat(100)).ignore();
        }
        cluster.eventually("a thousand writes", || {
            pipeline.query::<()>(&mut cluster.connect(cluster.leader()).ok()?).ok()
        });
    }
    for at in 0..3 {
        let (status, text) = ctl(&cluster, at, "snapshot");
        assert!(status == 0 && text.contains("has a snapshot up to index 1"), "{text}");
        cluster.eventually("a shorter log", || fact(&cluster, at, "base_index").filter(|base| *base > 0));
    }
    cluster.more = vec!["--store".into(), "fjall".into()];
    let four = cluster.start_newcomer();
    ordered(&cluster, leader, &format!("add 4 {}", cluster.place(four)));
    assert!(fact(&cluster, four, "snapshots_installed") >= Some(1));
    cluster.await_agreement();
    cluster.kill(four);
    cluster.start_node(four);
    cluster.await_agreement();

    // The others have it all from their snapshots and the log behind them.
    cluster.more = vec!["--store".into(), "memory".into()];
    (0..3).for_each(|at| cluster.kill(at));
    (0..3).for_each(|at| cluster.start_node(at));
    cluster.await_agreement();
    for at in 0..4 {
        let counted: String = redis::cmd("DEBUG").arg("DIGEST").query(&mut cluster.connect(at).unwrap()).unwrap();
        assert!(counted.split(' ').nth(1) == Some("12000"), "{counted}");
    }
}

/// A node that does not run cannot be added; it is in the way of nothing.
#[test]
fn a_newcomer_that_does_not_run_is_given_up_and_the_last_voter_stays() {
    let cluster = Cluster::start_with(&["--store", "memory"]);
    cluster.leader();
    let writers = Writers::start(&cluster);
    let slow = |order: &str| {
        cluster.eventually("a refusal", || match ctl(&cluster, 0, order) {
            (_, text) if text.contains("leadership") => None,
            (status, text) => Some((status, text)),
        })
    };
    let (status, text) = slow("add 4 127.0.0.1:1@2 --timeout 1");
    assert!(
        status == 1 && text.contains("n4 did not catch up in time: the voters are as they were"),
        "{status} {text}"
    );
    writers.go_on(&cluster);
    assert_eq!(members(&cluster, cluster.leader(), "learner"), [4]);
    ordered(&cluster, 0, "remove 4");
    assert_eq!(members(&cluster, cluster.leader(), "learner"), []);

    let last = cluster.leader() as u64 + 1;
    for id in (1..=3).filter(|id| *id != last) {
        ordered(&cluster, last as usize - 1, &format!("remove {id}"));
    }
    let refused = refusal(&cluster, &format!("REMOVE {last}"));
    assert!(refused.contains("at least one voter; nothing was changed"), "{refused}");
    writers.go_on(&cluster);
    writers.check(&cluster);
}

/// The client that people have at hand shows it all, and follows redirections.
#[test]
fn redis_cli_administers_a_cluster() {
    let cli = |cluster: &Cluster, at: usize, words: &[&str]| {
        let port = cluster.ports[at].to_string();
        let output = Command::new("redis-cli").args(["-c", "-p", &port]).args(words).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    if Command::new("redis-cli").arg("--version").output().is_err() {
        eprintln!("redis-cli is not installed: nothing is tested");
        return;
    }
    let cluster = Cluster::start_with(&["--store", "memory"]);
    let leader = cluster.leader();
    let help = cli(&cluster, leader, &["RAFT", "HELP"]).unwrap();
    assert!(help.contains("REPLACE old new host:clientport@peerport"), "{help}");
    let follower = (leader + 1) % 3;
    let status = cli(&cluster, follower, &["RAFT", "STATUS"]).unwrap();
    let facts: Vec<&str> = status.lines().collect();
    assert!(facts.chunks(2).any(|fact| fact == ["role", "follower"]), "{status}");
    cluster.eventually("a removal that is redirected", || {
        let answer = cli(&cluster, follower, &["RAFT", "REMOVE", &(leader + 1).to_string()])?;
        (answer.trim() == "OK" || answer.contains("is no member")).then_some(())
    });
    let members = cli(&cluster, follower, &["RAFT", "MEMBERS"]).unwrap();
    assert_eq!(members.lines().filter(|line| *line == "voter").count(), 2, "{members}");
}
