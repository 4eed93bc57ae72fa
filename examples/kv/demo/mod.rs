//! The main job in one command: three nodes, load, a killed leader, a new member in place of an old one, and the proof that
//! nothing got lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use self::changes::Changes;
use self::cluster::{Cluster, NodeInfo};
use self::handovers::Handovers;
use self::kills::Kills;
use self::load::Load;
use super::cli::Demo;

mod changes;
mod cluster;
mod handovers;
mod judge;
mod kills;
mod load;

/// Why the demo did not hold.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failed(String);

/// Set by SIGINT and SIGTERM.
pub(crate) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    fn watch() -> Result<Self, Failed> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let watched = signal_hook::flag::register(signal, flag.clone());
            watched.map_err(|error| Failed(format!("cannot watch for signals: {error}")))?;
        }
        Ok(Self(flag))
    }

    fn pause(&self, time: Duration) -> Result<(), Failed> {
        std::thread::sleep(time);
        if self.0.load(Ordering::Relaxed) { Err(Failed("interrupted".into())) } else { Ok(()) }
    }
}

/// How long three processes may take to elect a leader, whatever the machine is busy with.
const ELECTION_LIMIT: Duration = Duration::from_secs(60);

/// How long the restarted node may take to catch up.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(120);

/// Runs the demo and prints what it saw.
///
/// # Errors
/// [`Failed`] says what did not hold. The directory with the nodes' logs is kept then.
pub(crate) fn run(demo: &Demo) -> Result<(), Failed> {
    let dir = choose_dir(demo)?;
    let result = Interrupted::watch().and_then(|interrupted| play(demo, &dir, &interrupted));
    match &result {
        Ok(()) if demo.dir.is_none() && !demo.keep => {
            // What is left in the system's temporary directory is the system's to remove.
            let _ = std::fs::remove_dir_all(&dir);
        }
        Ok(()) => {}
        Err(_) => eprintln!("The nodes' data and logs are in {}", dir.display()),
    }
    result
}

fn choose_dir(demo: &Demo) -> Result<PathBuf, Failed> {
    let failed = |error: std::io::Error| Failed(format!("cannot make a directory for the nodes: {error}"));
    let Some(dir) = &demo.dir else {
        return tempfile::Builder::new().prefix("tenure-demo-").tempdir().map(tempfile::TempDir::keep).map_err(failed);
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Failed(format!("{} is not empty; the demo founds new nodes there", dir.display())));
    }
    Ok(dir.clone())
}

fn play(demo: &Demo, dir: &Path, interrupted: &Interrupted) -> Result<(), Failed> {
    let mut cluster = Cluster::new(dir, demo)?;
    println!("Three nodes on this machine, data in {}", dir.display());
    cluster.start()?;
    let leader = cluster.await_leader(ELECTION_LIMIT, interrupted)?;
    println!("Node {} leads. {} clients write {} pairs.", cluster.id(leader), demo.clients, demo.count);

    let value_bytes = usize::try_from(demo.value_bytes).unwrap_or(usize::MAX);
    let load = Arc::new(Load::new(demo.count, value_bytes, demo.clients));
    let began = Instant::now();
    let clients = start_clients(demo, &cluster, &load)?;
    let driven = drive(demo, &mut cluster, &load, &clients, interrupted);
    if driven.is_err() {
        load.stop.store(true, Ordering::Relaxed);
    }
    let ended = join(clients);
    let seen = driven?;
    ended?;
    let elapsed = began.elapsed();

    let agreed = judge::await_agreement(&mut cluster, AGREEMENT_LIMIT, interrupted)?;
    judge::check_writes(cluster.addresses(), &load, value_bytes)?;
    judge::check_counters(cluster.addresses(), &load)?;
    judge::check_digests(&cluster, &agreed)?;
    report(demo, &load, elapsed, &agreed, seen)?;
    let leader = cluster.await_leader(ELECTION_LIMIT, interrupted)?;
    say_goodbye(demo, cluster, leader);
    Ok(())
}

type Client = JoinHandle<Result<(), Failed>>;

/// A thread per client: it spends its time waiting for an answer.
fn start_clients(demo: &Demo, cluster: &Cluster, load: &Arc<Load>) -> Result<Vec<Client>, Failed> {
    let nodes = cluster.addresses();
    let start = |number: u64| {
        let (load, nodes) = (load.clone(), nodes.clone());
        let client = std::thread::Builder::new().name(format!("client-{number}")).stack_size(256 << 10);
        client
            .spawn(move || load.client(number as usize, nodes))
            .map_err(|error| Failed(format!("cannot start a client: {error}")))
    };
    (0..demo.clients).map(start).collect()
}

fn join(clients: Vec<Client>) -> Result<(), Failed> {
    let joined =
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err(Failed("a client panicked".into()))));
    // All are joined, whatever the first of them says.
    joined.collect::<Vec<_>>().into_iter().collect()
}

/// How long things took.
struct Seen {
    /// After each kill of the leader alone, from the signal to the next acknowledgement.
    failovers: Vec<Duration>,
    /// Around each hand-over, the longest time without an acknowledgement of the median client, and of the worst.
    handovers: Vec<(Duration, Duration)>,
    /// Until a new member was a voter, and until an old one was no member.
    changes: Vec<(Duration, Duration)>,
}

/// Watches the load, and kills, stops and starts nodes meanwhile.
fn drive(
    demo: &Demo,
    cluster: &mut Cluster,
    load: &Load,
    clients: &[Client],
    interrupted: &Interrupted,
) -> Result<Seen, Failed> {
    let bar = progress_bar(load.count);
    let share = if demo.handovers + demo.members == 0 { load.count } else { load.count / 2 };
    let mut kills = Kills::new(demo.kills, share);
    let mut changes = Changes::new(demo.members);
    let mut handovers = Handovers::new(demo.handovers);
    while clients.iter().any(|client| !client.is_finished()) {
        bar.set_position(load.acknowledged.load(Ordering::Relaxed));
        cluster.check_running()?;
        let told = if !kills.are_over() {
            kills.go_on(cluster, load, interrupted)?
        } else if !changes.are_over() {
            changes.go_on(cluster, load)?
        } else if !handovers.are_over() {
            handovers.go_on(cluster, load, interrupted)?
        } else {
            None
        };
        if let Some(line) = told {
            announce(&bar, &line);
        }
        load.on.store(!(kills.are_over() && changes.are_over()), Ordering::Relaxed);
        interrupted.pause(Duration::from_millis(5))?;
    }
    bar.finish_and_clear();
    handovers.end(cluster)?;
    Ok(Seen { failovers: kills.failovers, handovers: handovers.pauses, changes: changes.done })
}

/// A line above the bar, or simply a line where there is no terminal.
fn announce(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() { println!("{line}") } else { bar.println(line) }
}

/// Shown on a terminal only.
fn progress_bar(count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    let template = "{bar:40} {human_pos} of {human_len} acknowledged, {per_sec}, {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn report(demo: &Demo, load: &Load, elapsed: Duration, agreed: &NodeInfo, seen: Seen) -> Result<(), Failed> {
    let acknowledged = load.acknowledged.load(Ordering::Relaxed);
    let sum = |pick: fn(&(std::sync::atomic::AtomicU64, std::sync::atomic::AtomicU64)) -> u64| -> u64 {
        load.increments.iter().map(pick).sum()
    };
    let increments = sum(|(acknowledged, _)| acknowledged.load(Ordering::Relaxed));
    let unknown = sum(|(_, unknown)| unknown.load(Ordering::Relaxed));
    let latencies = load.latencies()?;
    let ms = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let rate = (acknowledged + increments) as f64 / elapsed.as_secs_f64();
    let Seen { failovers, handovers, changes } = seen;
    let count = failovers.len();
    let failover =
        median(failovers).ok_or_else(|| Failed("no write was acknowledged after the leader's death".into()))?;
    let (refused, lost) = (load.refused.load(Ordering::Relaxed), load.unknown.load(Ordering::Relaxed));
    println!();
    println!(
        "throughput  {rate:.0} acknowledged writes/s of {} B over {} connections, outage included",
        demo.value_bytes, demo.clients
    );
    println!(
        "latency     p50 {:.2} ms, p99 {:.2} ms, max {:.0} ms",
        ms(0.5),
        ms(0.99),
        latencies.max() as f64 / 1000.0
    );
    println!(
        "failover    {:.0} ms from SIGKILL of the leader to the next acknowledged write (E = {} ms{})",
        failover.as_secs_f64() * 1000.0,
        demo.election_timeout,
        if count > 1 { format!(", median of {count}") } else { String::new() }
    );
    let (usual, worst): (Vec<_>, Vec<_>) = handovers.iter().copied().unzip();
    if let Some((usual, worst)) = median(usual).zip(median(worst)) {
        println!(
            "hand-over   {:.1} ms without an acknowledgement for the median client, {:.1} ms for the worst (median of {})",
            usual.as_secs_f64() * 1000.0,
            worst.as_secs_f64() * 1000.0,
            handovers.len()
        );
    }
    let (added, removed): (Vec<_>, Vec<_>) = changes.iter().copied().unzip();
    if let Some((added, removed)) = median(added).zip(median(removed)) {
        println!(
            "members     a new node was a voter after {:.2} s, start and catching up included; an old one was none after {:.3} s{}",
            added.as_secs_f64(),
            removed.as_secs_f64(),
            if changes.len() > 1 { format!(" (medians of {})", changes.len()) } else { String::new() }
        );
    }
    println!("retried     {refused} attempts refused, {lost} of unknown outcome");
    println!("held        {acknowledged} acknowledged SETs: every one is there, with its value");
    println!(
        "            {} counters stand where {increments} acknowledged and {unknown} unknown INCRs allow",
        load::COUNTERS
    );
    println!(
        "            three identical state machines: digest {} at index {}, {} keys",
        agreed.digest, agreed.applied, agreed.keys
    );
    println!();
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn say_goodbye(demo: &Demo, cluster: Cluster, leader: usize) {
    if !demo.keep {
        println!("Next, the same command with");
        println!("  --keep                      leaves the cluster running, for redis-cli and redis-benchmark");
        println!("  --kills 4 --count 400000    kills the leader, then a follower, two nodes, all three");
        println!("  --members 3 --count 400000  swaps all three members, one after the other");
        println!("  --clients 256               more writes at once");
        return;
    }
    let addresses = cluster.addresses();
    let (port, id) = (cluster.nodes[leader].member.resp_port, cluster.id(leader));
    let processes: Vec<String> = cluster.release().iter().map(u32::to_string).collect();
    println!("The cluster runs on: {}", addresses.join(", "));
    println!("Try      redis-cli -c -p {port} SET greeting hello");
    println!("         redis-cli -p {port} CLUSTER NODES, RAFT MEMBERS, RAFT HELP");
    println!("         redis-benchmark -p {port} -t set,get -n 100000 -c 64 -d 128    (node {id} leads)");
    println!("Stop it  kill {}", processes.join(" "));
}
