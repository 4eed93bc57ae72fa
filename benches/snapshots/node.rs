//! A node, told on its standard input what to do, one line at a time; it answers each with one line.

use crate::machine::{self, Files, State};
use clap::Args;
use hdrhistogram::Histogram;
use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tenure::quorum::{Configuration, Voters};
use tenure::runtime::{Change, Group, Node, NodeConfig};
use tenure::types::{ClusterId, GroupId, NodeId};

const GROUP: GroupId = GroupId(1);

#[derive(Args)]
pub(crate) struct Options {
    id: u64,
    dir: PathBuf,
    /// Bytes of snapshots sent per second.
    rate: u64,
    /// Those who found the group; nobody: it is joined.
    #[arg(value_delimiter = ',')]
    founders: Vec<u64>,
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let dir = options.dir.join(format!("n{}", options.id));
    if !dir.exists() {
        Node::found(&dir, ClusterId::new("bench")?, NodeId(options.id))?;
    }
    let mut config = NodeConfig::new(&dir, "127.0.0.1:0".parse()?);
    // Only when they are asked for.
    config.snapshots.log_bytes = 0;
    config.snapshots.send_bytes_per_second = Some(options.rate);
    config.limits.retained_entries = 0;
    let node = Node::open(config)?;
    let files = Files::new(options.dir.join(format!("s{}", options.id)))?;
    let state = files.state.clone();
    let group = if node.groups().contains(&GROUP) {
        node.open_group(GROUP, files)?
    } else if options.founders.is_empty() {
        node.join_group(GROUP, files)?
    } else {
        let voters = Configuration::of_voters(options.founders.iter().copied().map(NodeId))?;
        node.create_group(GROUP, voters, files)?
    };
    println!("{}", node.local_addr().ok_or("no address")?);
    let mut served = Served { node, group, state, load: None };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = served.answer(&words).unwrap_or_else(|error| format!("error {error}"));
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}

struct Served {
    node: Node,
    group: Group<()>,
    state: Arc<Mutex<State>>,
    load: Option<Load>,
}

impl Served {
    fn answer(&mut self, words: &[&str]) -> Result<String, Box<dyn Error>> {
        Ok(match words {
            ["peer", id, address] => {
                self.node.set_peer(NodeId(id.parse()?), *address)?;
                "ok".to_owned()
            }
            ["file", number, bytes] => {
                self.group.propose(machine::write_file(number.parse()?, bytes.parse()?)).wait()?;
                "ok".to_owned()
            }
            ["snapshot"] => self.group.snapshot().wait()?.to_string(),
            ["members", voters, learners] => {
                let nodes =
                    |list: &str| Voters::from_nodes(list.split(',').filter_map(|id| id.parse().ok()).map(NodeId));
                let to = Configuration::new(nodes(voters), Voters::default(), nodes(learners))?;
                let change = Change { expected: None, to, patience: Duration::from_secs(600) };
                self.group.change(change).wait()?.to_string()
            }
            ["load", rate] => {
                let histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
                self.load = Some(Load::start(self.group.clone(), rate.parse()?, histogram));
                "ok".to_owned()
            }
            ["latency"] => self.load.as_ref().ok_or("no load")?.latency()?,
            ["unload"] => {
                self.load = None;
                "ok".to_owned()
            }
            ["digest"] => self.state.lock().map_err(|_| "poisoned")?.digest(),
            ["status"] => self.status()?,
            _ => return Err("what?".into()),
        })
    }

    /// leads term applied last | done total of what is being fetched, received in all, installed | served | memory.
    fn status(&self) -> Result<String, Box<dyn Error>> {
        let core = self.group.status().ok_or("shut down")?.core;
        let (snapshots, metrics) = (self.group.snapshots(), self.node.metrics());
        let fetching = snapshots.fetching.unwrap_or_default();
        let numbers = [
            u64::from(core.leader == Some(core.id)),
            core.term.0,
            core.applied.0,
            core.last.index.0,
            fetching.bytes_done,
            fetching.bytes_total,
            snapshots.counters.fetched_bytes,
            snapshots.counters.installed,
            metrics.snapshots_served.bytes,
            memory()?,
        ];
        Ok(numbers.map(|number| number.to_string()).join(" "))
    }
}

/// Bytes of memory that this process has for itself, without the pages of files.
fn memory() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    Ok(anonymous.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024)
}

/// Proposes at a steady rate, whatever becomes of it, and notes how long each took from when it was due.
struct Load {
    latency: Arc<Mutex<Histogram<u64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    fn start(group: Group<()>, rate: u64, histogram: Histogram<u64>) -> Self {
        let (latency, stop) = (Arc::new(Mutex::new(histogram)), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (latency.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let start = Instant::now();
            for nth in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let due = start + Duration::from_micros(1_000_000 * nth / rate.max(1));
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let noted = noted.clone();
                group.propose_with(machine::count(nth), move |_| {
                    if let Ok(mut noted) = noted.lock() {
                        noted.saturating_record(due.elapsed().as_micros() as u64);
                    }
                });
            }
        });
        Self { latency, stop, thread: Some(thread) }
    }

    /// Of what has ended since it was asked last: how many, and microseconds at 50 %, 99 %, 99.9 % and the longest.
    fn latency(&self) -> Result<String, Box<dyn Error>> {
        let mut latency = self.latency.lock().map_err(|_| "poisoned")?;
        let at = [0.5, 0.99, 0.999].map(|quantile| latency.value_at_quantile(quantile));
        let line = format!("{} {} {} {} {}", latency.len(), at[0], at[1], at[2], latency.max());
        latency.reset();
        Ok(line)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What it has proposed is in the log when whoever asked for this goes on.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
