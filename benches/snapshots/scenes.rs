//! What is done with the processes, and what is measured.

use crate::Options;
use crate::cluster::{Cluster, Result};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// So long a steady load is watched before something happens.
const BEFORE: Duration = Duration::from_secs(8);

/// A node that is added.
const NEW: u64 = 4;

pub(crate) fn join(options: &Options) -> Result<()> {
    let mut cluster = Cluster::start(options)?;
    let disk = disk_rate(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let leader = cluster.leader()?;
    cluster.ask(leader, &format!("load {}", options.load))?;
    cluster.ask(leader, "snapshot")?;
    thread::sleep(Duration::from_secs(2));
    cluster.ask(leader, "latency")?;
    thread::sleep(BEFORE.min(Duration::from_secs_f64(options.bytes as f64 / options.rate as f64)));
    let before = Latency::parse(&cluster.ask(leader, "latency")?)?;

    let (seconds, meanwhile) = add(&mut cluster, &[NEW], |_| Ok(()))?;
    let rate = options.bytes as f64 / seconds / 1e6;
    cluster.ask(leader, "unload")?;
    cluster.compare()?;
    println!(
        "join: {} MB in {seconds:.1} s, {rate:.0} MB/s (limit {:.0}, disk {disk:.0}); before {before}, meanwhile {meanwhile}, 99 % {:.2} times",
        options.bytes / 1_000_000,
        options.rate as f64 / 1e6,
        meanwhile.p99 as f64 / before.p99 as f64,
    );
    Ok(())
}

pub(crate) fn memory(options: &Options) -> Result<()> {
    let mut cluster = Cluster::start(options)?;
    let leader = cluster.leader()?;
    cluster.ask(leader, "snapshot")?;
    thread::sleep(Duration::from_secs(1));
    let before = cluster.status(leader)?.memory;
    let mut most = before;
    let (seconds, _) = add(&mut cluster, &[NEW, NEW + 1], |cluster| {
        most = most.max(cluster.status(leader)?.memory);
        Ok(())
    })?;
    cluster.compare()?;
    println!(
        "memory: {} MB to two nodes in {seconds:.1} s; the sender had {:.1} MiB before and grew by {:.1} MiB",
        options.bytes / 1_000_000,
        before as f64 / 1048576.0,
        (most - before) as f64 / 1048576.0,
    );
    Ok(())
}

pub(crate) fn kills(options: &Options) -> Result<()> {
    let mut cluster = Cluster::start(options)?;
    let mut dice = options.seed | 1;
    let (mut done, mut transfer, mut worst) = (0, 0, 0.0f64);
    cluster.compare()?;
    // All of them: whoever leads then has nothing else for a newcomer.
    for id in 1..=3 {
        cluster.ask(id, "snapshot")?;
    }
    while done < options.kills {
        let newcomer = NEW + transfer;
        let receives = transfer.is_multiple_of(2);
        let killed = kill_during(&mut cluster, options, newcomer, receives, &mut dice)?;
        let (kills, bytes) = killed;
        cluster.compare()?;
        let again = bytes as f64 / options.bytes as f64 - 1.0;
        worst = worst.max(again);
        println!(
            "kills: transfer {transfer}: {kills} kills of the {}, {:.2} % of the bytes sent again",
            if receives { "receiver" } else { "sender" },
            again * 100.0,
        );
        // The next begins with nothing.
        cluster.ask_leader("members 1,2,3 -")?;
        cluster.kill(newcomer)?;
        done += kills;
        transfer += 1;
    }
    println!("kills: {done} in {transfer} transfers, all states identical; at most {:.2} % sent again", worst * 100.0);
    if worst >= 0.1 { Err("a tenth or more of a transfer was sent again".into()) } else { Ok(()) }
}

/// One transfer, and kills of the one side at random points of it. Returns how many, and the bytes of chunks that were sent
/// (by the senders, who all live, or to the receiver, who does).
fn kill_during(
    cluster: &mut Cluster,
    options: &Options,
    newcomer: u64,
    receives: bool,
    dice: &mut u64,
) -> Result<(u32, u64)> {
    let senders = [1, 2, 3];
    let served =
        |cluster: &mut Cluster| -> Result<u64> { senders.iter().map(|id| Ok(cluster.status(*id)?.served)).sum() };
    let before = if receives { served(cluster)? } else { 0 };
    cluster.run(newcomer)?;
    cluster.ask_leader(&format!("members 1,2,3 {newcomer}"))?;
    let share = options.bytes / u64::from(options.kills_per_transfer);
    let mut kills = 0;
    for nth in 0..options.kills_per_transfer {
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        let at = share * u64::from(nth) + *dice % share;
        let there = cluster.wait("the next kill", |cluster| {
            let status = cluster.status(newcomer)?;
            Ok((status.installed > 0 || status.done >= at).then_some(status))
        })?;
        if there.installed > 0 {
            break;
        }
        let victim = if receives { newcomer } else { sender(cluster)? };
        cluster.kill(victim)?;
        cluster.run(victim)?;
        kills += 1;
    }
    cluster.wait("the snapshot", |cluster| Ok((cluster.status(newcomer)?.installed > 0).then_some(())))?;
    let bytes = if receives { served(cluster)? - before } else { cluster.status(newcomer)?.received };
    Ok((kills, bytes))
}

/// The node that sends, by what it has sent since the last look.
fn sender(cluster: &mut Cluster) -> Result<u64> {
    let before: Vec<u64> = (1..=3).map(|id| Ok(cluster.status(id)?.served)).collect::<Result<_>>()?;
    cluster.wait("somebody who sends", |cluster| {
        for id in 1..=3 {
            if cluster.status(id)?.served > before[id as usize - 1] {
                return Ok(Some(id));
            }
        }
        Ok(None)
    })
}

/// Adds nodes as learners and waits until they have installed a snapshot: seconds, and the latency of the load meanwhile.
fn add(
    cluster: &mut Cluster,
    nodes: &[u64],
    mut watch: impl FnMut(&mut Cluster) -> Result<()>,
) -> Result<(f64, Latency)> {
    let leader = cluster.leader()?;
    for id in nodes {
        cluster.run(*id)?;
    }
    let learners: Vec<String> = nodes.iter().map(u64::to_string).collect();
    // What was before does not count.
    let _ = cluster.ask(leader, "latency")?;
    let begin = Instant::now();
    cluster.ask(leader, &format!("members 1,2,3 {}", learners.join(",")))?;
    for id in nodes {
        cluster.wait("the snapshot", |cluster| {
            watch(cluster)?;
            Ok((cluster.status(*id)?.installed > 0).then_some(()))
        })?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let latency = Latency::parse(&cluster.ask(leader, "latency")?).unwrap_or_default();
    Ok((seconds, latency))
}

/// Microseconds.
#[derive(Default)]
struct Latency {
    count: u64,
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Latency {
    fn parse(line: &str) -> Result<Self> {
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [count, p50, p99, p999, max] = numbers[..] else { return Err(line.into()) };
        Ok(Self { count, p50, p99, p999, max })
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50, p99, p999, max } = self;
        write!(f, "{count} commands 50 % {p50} us 99 % {p99} us 99.9 % {p999} us longest {max} us")
    }
}

/// Megabytes per second that a file takes, synced every 8 MB.
fn disk_rate(dir: &Path) -> Result<f64> {
    let path = dir.join(format!("rate-{}", std::process::id()));
    let (mut file, block) = (File::create(&path)?, vec![7; 8_000_000]);
    let begin = Instant::now();
    for _ in 0..25 {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    let rate = 200.0 / begin.elapsed().as_secs_f64();
    drop(file);
    fs::remove_file(path)?;
    Ok(rate)
}
