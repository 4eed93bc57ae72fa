//! Runs clusters in virtual time: one seed, to look at, or many, to find what breaks.
//!
//! ```sh
//! cargo run --release --features sim --example sim -- --seed 7 --html story.html
//! cargo run --release --features sim --example sim -- --seeds 1000 --minutes 5
//! ```

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tenure::sim::{Detail, Plan, Report, Tally, run, run_with_judge, shrink};

/// Runs simulated clusters and checks every promise of the engine.
#[derive(Parser, Clone)]
struct Arguments {
    /// Runs this seed alone and tells what happened.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs so many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Begins no new run after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// How many runs at a time; by default as many as there are processors.
    #[arg(long)]
    jobs: Option<usize>,
    /// Writes the story of the seed, or of the first that fails, as a page to look at.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Does not make the story of a failing run shorter.
    #[arg(long)]
    no_shrink: bool,
    /// Listens to one judge alone, for instance "linearizability".
    #[arg(long)]
    judge: Option<String>,
    /// Runs each seed twice and compares.
    #[arg(long)]
    twice: bool,
    /// Appends a line with the counts when it ends, so that a long run can be made in parts.
    #[arg(long)]
    results: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let well = match arguments.seed {
        Some(seed) => tell(&arguments, seed),
        None => search(&arguments),
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One seed, in full.
fn tell(arguments: &Arguments, seed: u64) -> bool {
    let plan = Plan::draw(seed);
    let watch = Instant::now();
    let report = run(&plan, &plan.registers, true);
    let took = watch.elapsed();
    if report.violation.is_some() && !arguments.no_shrink {
        return explain(arguments, seed);
    }
    for line in report.trace.lines(Detail::News) {
        println!("{line}");
    }
    println!("{} nodes, {} faults", plan.nodes, plan.faults.len());
    summary(&report.tally, took);
    page(arguments, &plan, &report);
    report.violation.is_none()
}

/// A seed that fails: its story, made short.
fn explain(arguments: &Arguments, seed: u64) -> bool {
    let plan = Plan::draw(seed);
    println!("seed {seed} breaks a promise; replay it with");
    println!("    cargo run --release --features sim --example sim -- --seed {seed}");
    if arguments.no_shrink {
        return false;
    }
    let Some(shrunk) = shrink(&plan, &plan.registers, 400) else { return false };
    println!("made short in {} runs: {} nodes, {} faults:", shrunk.runs, shrunk.plan.nodes, shrunk.plan.faults.len());
    for fault in &shrunk.plan.faults {
        println!("    {fault:?}");
    }
    for line in shrunk.report.trace.lines(Detail::News) {
        println!("{line}");
    }
    page(arguments, &shrunk.plan, &shrunk.report);
    false
}

fn page(arguments: &Arguments, plan: &Plan, report: &Report) {
    let Some(path) = &arguments.html else { return };
    let page = tenure::sim::html(plan, report);
    match File::create(path).and_then(|mut file| file.write_all(page.as_bytes())) {
        Ok(()) => println!("{} shows it", path.display()),
        Err(error) => eprintln!("{}: {error}", path.display()),
    }
}

/// What all workers share.
struct Search {
    next: AtomicU64,
    failed: AtomicBool,
    total: Mutex<(Tally, Vec<Duration>)>,
    bar: ProgressBar,
}

/// Many seeds, until one fails or the time is over.
fn search(arguments: &Arguments) -> bool {
    let watch = Instant::now();
    let bar = ProgressBar::new(arguments.seeds);
    let style = ProgressStyle::with_template("{pos}/{len} seeds {bar:30} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let search = Arc::new(Search {
        next: AtomicU64::new(arguments.from),
        failed: AtomicBool::new(false),
        total: Mutex::new((Tally::default(), Vec::new())),
        bar,
    });
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let workers: Vec<_> = (0..jobs)
        .map(|_| {
            let (search, arguments) = (search.clone(), arguments.clone());
            std::thread::spawn(move || work(&search, &arguments, watch))
        })
        .collect();
    let failing: Vec<u64> = workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).collect();
    search.bar.finish_and_clear();
    let Ok(total) = search.total.lock() else { return false };
    summary(&total.0, watch.elapsed());
    heals(total.1.clone());
    note(arguments, &total.0, failing.is_empty());
    drop(total);
    if let Some(seed) = failing.iter().min() {
        explain(arguments, *seed);
    }
    failing.is_empty()
}

/// Takes seeds until there are none; returns one that failed.
fn work(search: &Search, arguments: &Arguments, watch: Instant) -> Option<u64> {
    let judge = arguments.judge.clone().map(|judge| &*judge.leak());
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    loop {
        let seed = search.next.fetch_add(1, Ordering::Relaxed);
        let over = limit.is_some_and(|limit| watch.elapsed() > limit);
        if seed >= arguments.from + arguments.seeds || over || search.failed.load(Ordering::Relaxed) {
            return None;
        }
        let plan = Plan::draw(seed);
        let report = run_with_judge(&plan, &plan.registers, false, judge);
        let differs = arguments.twice && run(&plan, &plan.registers, false).trace.hash != report.trace.hash;
        if differs {
            println!("seed {seed} does not give the same run twice");
        }
        if let Ok(mut total) = search.total.lock() {
            total.0 += report.tally;
            total.1.push(report.healed_in / election_timeouts(&plan));
        }
        if let Some(violation) = &report.violation {
            search.bar.suspend(|| println!("seed {seed}: {violation}"));
        }
        if differs || report.violation.is_some() {
            search.failed.store(true, Ordering::Relaxed);
            return Some(seed);
        }
        search.bar.inc(1);
        if !std::io::stderr().is_terminal() && (seed + 1).is_multiple_of(100) {
            eprintln!("{} seeds after {} s", search.bar.position(), watch.elapsed().as_secs());
        }
    }
}

/// Heals are compared in thousandths of the election timeout.
fn election_timeouts(plan: &Plan) -> u32 {
    (plan.core.timing.promise().as_millis() as u32).max(1)
}

/// How long after everything was healed a leader was there. The times are in thousandths of `E`, as milliseconds.
fn heals(mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    let in_e = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let (median, p99, max) = (in_e(at(0.5)), in_e(at(0.99)), in_e(times.last()));
    println!("from healing to a leader: median {median:.2} E, 99 % {p99:.2} E, longest {max:.2} E");
}

fn summary(tally: &Tally, took: Duration) {
    let hours = tally.simulated().as_secs_f64() / 3600.0;
    let speed = tally.simulated().as_secs_f64() / took.as_secs_f64();
    println!("{hours:.1} simulated hours in {:.1} s: {speed:.0} times as fast as real time", took.as_secs_f64());
    for (name, count) in tally.counts() {
        println!("{count:>14} {}", name.replace('_', " "));
    }
}

fn note(arguments: &Arguments, tally: &Tally, well: bool) {
    let Some(path) = &arguments.results else { return };
    let counts: Vec<String> = tally.counts().iter().map(|(name, count)| format!("{name}={count}")).collect();
    let line = format!("from={} seeds={} well={well} {}\n", arguments.from, tally.runs, counts.join(" "));
    let opened = OpenOptions::new().append(true).create(true).open(path);
    if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("{}: {error}", path.display());
    }
}
