//! The server over a replica whose confirmations and commits the test lets through one by one.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use tenure::quorum::Configuration;
use tenure::runtime::Change;
use tenure::state_machine::{Command, StateMachine as _};
use tenure::types::{EntryId, Index, NodeId};

use parking_lot::Mutex;

use super::super::backup::Backup;
use super::super::replica::{Done, Failure, Status, Write};
use super::super::store::Machine;
use super::super::store::memory::Memory;
use super::*;

/// A group of one node, whose time the test owns.
struct Stage {
    machine: Mutex<(Machine, u64)>,
    writes: Mutex<Vec<Write>>,
    confirms: Mutex<Vec<Done<()>>>,
    /// Answers everything at once.
    prompt: AtomicBool,
    leads: AtomicBool,
}

impl Replica for Stage {
    fn write(&self, batch: Vec<Write>) {
        self.writes.lock().extend(batch);
        if self.prompt.load(Ordering::Acquire) {
            self.commit();
        }
    }

    fn confirm(&self, done: Done<()>) {
        self.confirms.lock().push(done);
        if self.prompt.load(Ordering::Acquire) {
            self.confirm_all();
        }
    }

    fn hand_over(&self, to: Option<NodeId>, done: Done<NodeId>) {
        done(to.ok_or(Failure::HandingOver));
    }

    /// Nobody may be added, so that there is something to refuse.
    fn change(&self, change: Change, done: Done<Index>) {
        let adds = change.to.members().len() > 2;
        done(if adds { Err(Failure::Refused("n4 did not catch up in time".into())) } else { Ok(Index(9)) });
    }

    fn snapshot(&self, done: Done<Index>) {
        done(Ok(Index(6)));
    }

    fn backup(&self, to: PathBuf, done: Done<Backup>) {
        done(Ok(Backup { path: to, last: EntryId::new(6, 3), bytes: 99 }));
    }

    fn connected(&self) -> BTreeSet<NodeId> {
        BTreeSet::from([NodeId(2)])
    }

    fn status(&self) -> Status {
        let leads = self.leads.load(Ordering::Acquire);
        let configuration = Configuration::of_voters([NodeId(1), NodeId(2)]).unwrap();
        let matched = if leads { [(NodeId(2), 4)].into() } else { Default::default() };
        let leader = Some(NodeId(if leads { 1 } else { 2 }));
        let role = if leads { "leader" } else { "follower" };
        Status { role, leads, leader, term: 3, last: 6, configuration, matched, ..Status::default() }
    }
}

impl Stage {
    fn commit(&self) {
        for write in std::mem::take(&mut *self.writes.lock()) {
            if !self.leads.load(Ordering::Acquire) {
                (write.done)(Err(Failure::NotLeader(Some(NodeId(2)))));
                continue;
            }
            let mut machine = self.machine.lock();
            machine.1 += 1;
            let command = Command { id: EntryId::new(machine.1, 3), data: write.command };
            let outcome = machine.0.apply(&[command]).unwrap()[0];
            drop(machine);
            (write.done)(Ok(outcome));
        }
    }

    fn confirm_all(&self) {
        let leads = self.leads.load(Ordering::Acquire);
        for done in std::mem::take(&mut *self.confirms.lock()) {
            done(if leads { Ok(()) } else { Err(Failure::NotLeader(Some(NodeId(2)))) });
        }
    }

    /// Waits until the server has handed on so many writes and confirmations, and no more.
    fn await_handed_on(&self, writes: usize, confirms: usize) {
        let handed_on = || (self.writes.lock().len(), self.confirms.lock().len());
        for _ in 0..2000 {
            if handed_on() == (writes, confirms) {
                // What should not come has some time to come anyway.
                std::thread::sleep(Duration::from_millis(20));
                assert_eq!(handed_on(), (writes, confirms));
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("handed on {:?}, expected {:?}", handed_on(), (writes, confirms));
    }
}

const LIMITS: Limits = Limits {
    connections: 3,
    request: resp::Limits { arguments: 2048, argument_bytes: 1 << 16, request_bytes: 1 << 17, line_bytes: 1024 },
    key_bytes: 100,
    command_bytes: 1 << 15,
    pipeline: 8,
    pipeline_bytes: 1 << 17,
    output_bytes: 1 << 20,
};

fn start(prompt: bool) -> (Arc<Stage>, Server) {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let stage = Arc::new(Stage {
        machine: Mutex::new((Machine::new(store.clone()), 0)),
        writes: Mutex::default(),
        confirms: Mutex::default(),
        prompt: AtomicBool::new(prompt),
        leads: AtomicBool::new(true),
    });
    let members = ["1=127.0.0.1:7001@8001", "2=127.0.0.1:7002@8002"].map(|text| text.parse().unwrap());
    let members = members.map(|member: super::super::members::Member| (member.id, member));
    let members = Members { own: NodeId(1), all: members.into_iter().collect() };
    let logger = Logger::root(slog::Discard, slog::o!());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(any, LIMITS, members, store, stage.clone(), logger).unwrap();
    (stage, server)
}

struct Talk(TcpStream);

impl Talk {
    fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream)
    }

    fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn hears(&mut self, expected: &str) {
        let mut heard = vec![0; expected.len()];
        let result = self.0.read_exact(&mut heard);
        assert!(result.is_ok(), "{result:?}, expected {expected:?}");
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }

    #[track_caller]
    fn hears_the_end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.0.read_to_end(&mut rest);
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

#[test]
fn a_read_behind_a_write_sees_it_even_if_confirmed_first() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    talk.say("SET k v\r\nGET k\r\n");
    stage.await_handed_on(1, 1);
    stage.confirm_all();
    stage.commit();
    talk.hears("+OK\r\n$1\r\nv\r\n");
}

#[test]
fn a_read_before_a_write_does_not_see_it() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    talk.say("GET k\r\nSET k v\r\nGET k\r\n");
    stage.await_handed_on(0, 1);
    stage.confirm_all();
    talk.hears("$-1\r\n");
    stage.await_handed_on(1, 1);
    stage.commit();
    talk.hears("+OK\r\n");
    stage.confirm_all();
    talk.hears("$1\r\nv\r\n");
}

#[test]
fn pipelined_writes_are_proposed_together_and_reads_confirmed_together() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    talk.say("INCR n\r\nINCR n\r\nPING\r\nINCR n\r\nGET n\r\nMGET n m\r\n");
    stage.await_handed_on(3, 1);
    stage.commit();
    stage.confirm_all();
    talk.hears(":1\r\n:2\r\n+PONG\r\n:3\r\n$1\r\n3\r\n*2\r\n$1\r\n3\r\n$-1\r\n");
}

#[test]
fn a_pipeline_longer_than_the_limit_is_taken_piece_by_piece() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    talk.say(&"INCR n\r\n".repeat(20));
    stage.await_handed_on(LIMITS.pipeline, 0);
    stage.prompt.store(true, Ordering::Release);
    stage.commit();
    let expected: String = (1..=20).map(|n| format!(":{n}\r\n")).collect();
    talk.hears(&expected);
}

#[test]
fn a_follower_sends_clients_to_the_leader_and_reads_only_if_asked() {
    let (stage, server) = start(true);
    let mut talk = Talk::to(&server);
    talk.say("SET foo bar\r\n");
    talk.hears("+OK\r\n");
    stage.leads.store(false, Ordering::Release);
    talk.say("SET foo x\r\nGET foo\r\nMGET foo a\r\nDBSIZE\r\nPING\r\n");
    talk.hears("-MOVED 12182 127.0.0.1:7002\r\n".repeat(3).as_str());
    talk.hears("-MOVED 0 127.0.0.1:7002\r\n+PONG\r\n");
    talk.say("READONLY\r\nGET foo\r\nINCR foo\r\nREADWRITE\r\nGET foo\r\n");
    talk.hears("+OK\r\n$3\r\nbar\r\n-MOVED 12182 127.0.0.1:7002\r\n+OK\r\n-MOVED 12182 127.0.0.1:7002\r\n");
}

#[test]
fn malformed_input_ends_its_connection_and_no_other() {
    let (_, server) = start(true);
    let mut other = Talk::to(&server);
    let mut talk = Talk::to(&server);
    talk.say("PING\r\n*1\r\n*1\r\n");
    talk.hears("+PONG\r\n-ERR Protocol error: expected '$', got '*'\r\n");
    talk.hears_the_end();
    other.say("PING\r\n");
    other.hears("+PONG\r\n");
}

#[test]
fn one_client_too_many_is_told_so() {
    let (_, server) = start(true);
    let mut talks: Vec<Talk> = (0..LIMITS.connections).map(|_| Talk::to(&server)).collect();
    for talk in &mut talks {
        talk.say("PING\r\n");
        talk.hears("+PONG\r\n");
    }
    let mut extra = Talk::to(&server);
    extra.hears("-ERR max number of clients reached\r\n");
    extra.hears_the_end();
    talks[0].say("QUIT\r\n");
    talks[0].hears("+OK\r\n");
    talks[0].hears_the_end();
    // The server may still be busy taking leave of the other.
    let welcome = (0..200).any(|_| {
        let mut talk = Talk::to(&server);
        let _ = talk.0.write_all(b"PING\r\n");
        let mut heard = [0; 7];
        std::thread::sleep(Duration::from_millis(5));
        talk.0.read_exact(&mut heard).is_ok() && &heard == b"+PONG\r\n"
    });
    assert!(welcome);
}

#[test]
fn a_half_closed_connection_still_gets_its_answers() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    talk.say("GET k\r\nSET k v\r\n");
    talk.0.shutdown(Shutdown::Write).unwrap();
    stage.await_handed_on(0, 1);
    stage.confirm_all();
    stage.await_handed_on(1, 0);
    stage.commit();
    talk.hears("$-1\r\n+OK\r\n");
    talk.hears_the_end();
}

/// Whether the server holds such a client back in time, and waits, or closes it depends on what the sockets' buffers
/// happen to take: one of a few clients is closed.
#[test]
fn a_client_that_does_not_read_is_closed_and_counted() {
    let (_, server) = start(true);
    let mut talk = Talk::to(&server);
    talk.say(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000\r\n{}\r\n", "v".repeat(20_000)));
    talk.hears("+OK\r\n");
    drop(talk);
    let mget = format!("*21\r\n$4\r\nMGET\r\n{}", "$1\r\nk\r\n".repeat(20));
    // More than the buffers of both sockets can take together; a write fails when the server has closed.
    let is_closed = |_| {
        let mut talk = Talk::to(&server);
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            talk.0.write_all(mget.as_bytes()).is_err()
        })
    };
    assert!((0..30).any(is_closed));
    let mut judge = Talk::to(&server);
    judge.say("INFO\r\n");
    let mut info = [0; 2048];
    let length = judge.0.read(&mut info).unwrap();
    assert!(String::from_utf8_lossy(&info[..length]).contains("slow_clients_closed:1\r\n"));
}

/// Reads confirmed together, whose answers are many times what the server keeps for a connection, all arrive.
#[test]
fn large_answers_that_are_due_at_once_all_arrive() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    let value = "v".repeat(20_000);
    talk.say(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000\r\n{value}\r\n"));
    stage.await_handed_on(1, 0);
    stage.commit();
    talk.hears("+OK\r\n");
    let mget = format!("*21\r\n$4\r\nMGET\r\n{}", "$1\r\nk\r\n".repeat(20));
    let answer = format!("*20\r\n{}", format!("$20000\r\n{value}\r\n").repeat(20));
    for _ in 0..5 {
        talk.say(&mget.repeat(4));
        stage.await_handed_on(0, 1);
        stage.confirm_all();
        (0..4).for_each(|_| talk.hears(&answer));
    }
}

#[test]
fn a_client_that_reads_late_is_waited_for() {
    let (_, server) = start(true);
    let mut talk = Talk::to(&server);
    let text = "t".repeat(10_000);
    let echo = format!("*2\r\n$4\r\nECHO\r\n$10000\r\n{text}\r\n");
    let mut writer = Talk(talk.0.try_clone().unwrap());
    let writing = std::thread::spawn(move || (0..2_000).for_each(|_| writer.say(&echo)));
    // The answers are many times what the server would keep.
    std::thread::sleep(Duration::from_millis(100));
    let answer = format!("$10000\r\n{text}\r\n");
    (0..2_000).for_each(|_| talk.hears(&answer));
    writing.join().unwrap();
}

#[test]
fn answers_too_large_are_refused_and_commands_too_large_not_proposed() {
    let (_, server) = start(true);
    let mut talk = Talk::to(&server);
    let value = "v".repeat(32_000);
    talk.say(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$32000\r\n{value}\r\n"));
    talk.hears("+OK\r\n");
    talk.say(&format!("*21\r\n$4\r\nMGET\r\n{}", "$1\r\nk\r\n".repeat(20)));
    talk.hears("-ERR the values have more than 524288 bytes together; ask for fewer at once\r\n");
    talk.say(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$33000\r\n{}\r\n", "v".repeat(33_000)));
    talk.hears("-ERR the command has 33012 bytes, the limit is 32768; not executed\r\n");
}

#[test]
fn hello_changes_the_dialect_for_what_follows() {
    let (_, server) = start(true);
    let mut talk = Talk::to(&server);
    talk.say("GET k\r\nHELLO 4\r\nHELLO 3 SETNAME me\r\n");
    talk.hears("$-1\r\n-NOPROTO unsupported protocol version, 2 and 3 are spoken\r\n%7\r\n$6\r\nserver\r\n");
    talk.say("GET k\r\n");
    let mut rest = Vec::new();
    while !rest.ends_with(b"_\r\n") {
        let mut byte = [0];
        talk.0.read_exact(&mut byte).unwrap();
        rest.push(byte[0]);
    }
    assert!(String::from_utf8_lossy(&rest).contains("$5\r\nproto\r\n:3\r\n"));
}

#[test]
fn a_counted_digest_agrees_with_the_one_carried_along() {
    let (_, server) = start(true);
    let mut talk = Talk::to(&server);
    talk.say("SET a 1\r\nSET b 2\r\nDEL a\r\n");
    talk.hears("+OK\r\n+OK\r\n:1\r\n");
    talk.say("INFO\r\n");
    let mut info = [0; 2048];
    let length = talk.0.read(&mut info).unwrap();
    let info = String::from_utf8_lossy(&info[..length]);
    let digest = info.lines().find_map(|line| line.strip_prefix("digest:")).unwrap();
    talk.say("DEBUG DIGEST\r\n");
    talk.hears(&format!("$20\r\n3 1 {digest}\r\n"));
}

#[test]
fn answers_to_a_client_that_left_are_dropped() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    talk.say("SET k v\r\n");
    stage.await_handed_on(1, 0);
    drop(talk);
    stage.commit();
    let mut next = Talk::to(&server);
    next.say("PING\r\n");
    next.hears("+PONG\r\n");
}

#[test]
fn orders_are_carried_out_at_the_leader_and_answered_in_their_turn() {
    let (stage, server) = start(false);
    let mut talk = Talk::to(&server);
    talk.say("SET k v\r\nRAFT REMOVE 2\r\nRAFT ADD 4 h:7004@8004\r\nRAFT REMOVE 7\r\nRAFT TRANSFER 2\r\nRAFT TRANSFER\r\nRAFT SNAPSHOT\r\nPING\r\n");
    stage.await_handed_on(1, 0);
    stage.commit();
    talk.hears("+OK\r\n+OK\r\n-ERR n4 did not catch up in time\r\n-ERR node 7 is no member; nothing was changed\r\n");
    talk.hears(":2\r\n-TRYAGAIN leadership is being handed over; not executed\r\n:6\r\n+PONG\r\n");
    stage.leads.store(false, Ordering::Release);
    talk.say("RAFT BACKUP b\r\n");
    talk.hears("*8\r\n$4\r\npath\r\n$1\r\nb\r\n$10\r\nlast_index\r\n$1\r\n6\r\n$9\r\nlast_term\r\n$1\r\n3\r\n$5\r\nbytes\r\n$2\r\n99\r\n");
    talk.say("RAFT REMOVE 2\r\nRAFT FOO\r\n");
    talk.hears("-MOVED 0 127.0.0.1:7002\r\n-ERR unknown subcommand 'FOO'. Try RAFT HELP.\r\n");
}

#[test]
fn any_node_says_who_the_members_are() {
    let (stage, server) = start(true);
    let mut talk = Talk::to(&server);
    let member = |id: &str, leads: &str, matched: &str, lag: &str| {
        let (clients, peers) = (format!("127.0.0.1:700{id}"), format!("127.0.0.1:800{id}"));
        let facts = ["id", id, "role", "voter", "leader", leads, "clients", &clients, "peers", &peers];
        let facts = facts.into_iter().chain(["match_index", matched, "lag", lag, "connected", "yes"]);
        let text: String = facts.map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*16\r\n{text}")
    };
    talk.say("RAFT MEMBERS\r\n");
    talk.hears(&format!("*2\r\n{}{}", member("1", "yes", "6", "0"), member("2", "no", "4", "2")));
    stage.leads.store(false, Ordering::Release);
    talk.say("RAFT MEMBERS\r\nRAFT STATUS\r\n");
    talk.hears(&format!("*2\r\n{}", member("1", "no", "unknown", "unknown")));
    talk.hears(&member("2", "yes", "unknown", "unknown"));
    talk.hears("*54\r\n$4\r\nnode\r\n$1\r\n1\r\n");
}
