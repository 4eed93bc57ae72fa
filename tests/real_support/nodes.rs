//! Nodes as processes: founded, started, asked, killed, stopped and continued.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::clients::Connection;
use super::network::Network;
use super::{ELECTION_TIMEOUT, NODES, system};
use crate::kv_support;

/// Nothing here takes this long, however busy the machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Nodes {
    pub(crate) network: Network,
    dir: PathBuf,
    more: Vec<String>,
    children: Vec<Option<Child>>,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Info(String);

impl Info {
    pub(crate) fn get(&self, name: &str) -> &str {
        let value = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        let line = self.0.lines().find(|line| value(line));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.0)).split_once(':').unwrap().1
    }

    pub(crate) fn leads(&self) -> bool {
        self.get("role") == "master"
    }

    pub(crate) fn term(&self) -> u64 {
        self.get("term").parse().unwrap()
    }
}

impl Nodes {
    /// Founds and starts them in this directory, each with these arguments beside the usual.
    pub(crate) fn start(network: Network, dir: &Path, more: &[&str]) -> Self {
        let more = more.iter().map(|argument| (*argument).to_owned()).collect();
        let mut nodes = Self { network, dir: dir.to_owned(), more, children: (0..NODES).map(|_| None).collect() };
        for at in 0..NODES {
            let (id, dir) = ((at + 1).to_string(), nodes.dir(at));
            fs::create_dir_all(&dir).unwrap();
            if nodes.network.is_isolated() && at == SMALL_DISK {
                system(&format!("mount -t tmpfs -o size=1g tmpfs {}", dir.display()));
            }
            let founded = kv_support::run(&["init", "--cluster", "real", "--id", &id, "--dir", dir.to_str().unwrap()]);
            assert!(founded.status.success(), "{founded:?}");
            nodes.start_node(at);
        }
        nodes
    }

    pub(crate) fn dir(&self, at: usize) -> PathBuf {
        self.dir.join(format!("node-{}", at + 1))
    }

    pub(crate) fn start_node(&mut self, at: usize) {
        let log = File::options().create(true).append(true).open(self.log_path(at)).unwrap();
        let mut command = self.network.command(at, &kv_support::program());
        command.args(["serve", "--stop-with-stdin", "--segment-bytes", "2097152", "--id", &(at + 1).to_string()]);
        command.args(["--election-timeout", &ELECTION_TIMEOUT.as_millis().to_string(), "--dir"]).arg(self.dir(at));
        command.args(&self.more);
        for peer in self.network.peers(at) {
            command.args(["--peer", &peer]);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn();
        self.children[at] = Some(child.unwrap());
    }

    fn log_path(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{}.log", at + 1))
    }

    pub(crate) fn log(&self, at: usize) -> String {
        fs::read_to_string(self.log_path(at)).unwrap_or_default()
    }

    pub(crate) fn process(&self, at: usize) -> Pid {
        Pid::from_child(self.children[at].as_ref().unwrap())
    }

    pub(crate) fn signal(&self, at: usize, signal: Signal) {
        kill_process(self.process(at), signal).unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut child = self.children[at].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether the process ended by itself.
    pub(crate) fn has_ended(&mut self, at: usize) -> bool {
        self.children[at].as_mut().is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.network.client_address(at)
    }

    pub(crate) fn info(&self, at: usize) -> Option<Info> {
        self.children[at].as_ref()?;
        Connection::open(self.address(at))?.info().ok().map(Info)
    }

    /// The node that leads in the highest term that anybody knows of, and the term.
    pub(crate) fn leader(&self) -> Option<(usize, u64)> {
        let infos: Vec<Option<Info>> = (0..NODES).map(|at| self.info(at)).collect();
        let newest = infos.iter().flatten().map(Info::term).max()?;
        let leads = |info: &Option<Info>| info.as_ref().is_some_and(|info| info.leads() && info.term() == newest);
        infos.iter().position(leads).map(|at| (at, newest))
    }

    #[track_caller]
    pub(crate) fn await_leader(&self) -> (usize, u64) {
        self.eventually("a leader", || self.leader())
    }

    /// Waits until all follow one leader.
    #[track_caller]
    pub(crate) fn await_health(&self) -> (usize, u64) {
        self.eventually("one leader for all", || {
            let (leader, term) = self.leader()?;
            let follows = |at: usize| {
                let info = self.info(at)?;
                (info.get("leader_id") == (leader + 1).to_string() && info.get("stopped") == "no").then_some(())
            };
            (0..NODES).all(|at| follows(at).is_some()).then_some((leader, term))
        })
    }

    /// Waits until all have applied the same and hold the same.
    pub(crate) fn await_agreement(&self) {
        self.eventually("agreement", || {
            let state = |at: usize| {
                let info = self.info(at)?;
                Some((info.get("applied_index").to_owned(), info.get("digest").to_owned()))
            };
            let first = state(0)?;
            (1..NODES).all(|at| state(at).as_ref() == Some(&first)).then_some(())
        });
    }

    #[track_caller]
    pub(crate) fn eventually<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if let Some(found) = found() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!("no {what} within {LIMIT:?}\n{}", self.ends_of_logs());
    }

    /// The last lines that each node wrote.
    pub(crate) fn ends_of_logs(&self) -> String {
        let end = |at: usize| {
            let log = self.log(at);
            let lines: Vec<&str> = log.lines().collect();
            format!("--- node {}\n{}\n", at + 1, lines[lines.len().saturating_sub(25)..].join("\n"))
        };
        (0..NODES).map(end).collect()
    }
}

/// The node whose directory is a file system of its own, where there may be one.
pub(crate) const SMALL_DISK: usize = NODES - 1;

impl Drop for Nodes {
    fn drop(&mut self) {
        for mut child in self.children.iter_mut().filter_map(Option::take) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.network.is_isolated() {
            super::succeeds(&format!("umount {}", self.dir(SMALL_DISK).display()));
        }
    }
}
