//! The table, and the JSON lines.

use crate::Work;
use hdrhistogram::Histogram;

/// What one run came to.
pub(crate) struct RunResult {
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) answered: u64,
    /// Nanoseconds from request to answer.
    pub(crate) latency: Histogram<u64>,
    pub(crate) nodes_cpu_seconds: f64,
    pub(crate) clients_cpu_seconds: f64,
}

pub(crate) struct Report {
    lines: Vec<String>,
    headed: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { lines: Vec::new(), headed: false }
    }

    pub(crate) fn probe(&mut self, what: &str, latency: &Histogram<u64>) {
        let [p50, p99] = [0.5, 0.99].map(|quantile| micros(latency, quantile));
        eprintln!("{what}: p50 {p50:.1} us, p99 {p99:.1} us");
        let count = latency.len();
        self.lines.push(format!(
            r#"{{"bench":"floor.probe","what":"{what}","count":{count},"p50_us":{p50:.1},"p99_us":{p99:.1}}}"#
        ));
    }

    pub(crate) fn result(&mut self, run: &RunResult, work: Work) {
        let rate = run.answered as f64 / run.seconds;
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| micros(&run.latency, quantile));
        let cpu = (run.nodes_cpu_seconds + run.clients_cpu_seconds) * 1e6 / run.answered.max(1) as f64;
        if !std::mem::replace(&mut self.headed, true) {
            eprintln!("{}", describe(work));
            eprintln!("clients  sockets        /s    p50 us    p99 us  p99.9 us  cpu us each");
        }
        eprintln!(
            "{:>7}  {:>7}  {rate:>8.0}  {p50:>8.1}  {p99:>8.1}  {p999:>8.1}  {cpu:>11.1}",
            run.clients, run.connections
        );
        let kind = if work.read { "read" } else { "write" };
        let Work { value, threaded, nosync, .. } = work;
        let RunResult { clients, connections, seconds, answered, nodes_cpu_seconds, clients_cpu_seconds, .. } = run;
        self.lines.push(format!(
            r#"{{"bench":"floor.{kind}","clients":{clients},"sockets":{connections},"value_bytes":{value},"threaded":{threaded},"synced":{synced},"seconds":{seconds:.3},"answered":{answered},"per_second":{rate:.1},"p50_us":{p50:.1},"p90_us":{p90:.1},"p99_us":{p99:.1},"p999_us":{p999:.1},"nodes_cpu_s":{nodes_cpu_seconds:.2},"clients_cpu_s":{clients_cpu_seconds:.2}}}"#,
            synced = !nosync,
        ));
    }

    pub(crate) fn print_json(&self) {
        self.lines.iter().for_each(|line| println!("{line}"));
    }
}

fn describe(work: Work) -> String {
    let what = match (work.read, work.nosync) {
        (true, _) => "answered at once, no log",
        (false, true) => "on two of three logs, not synced",
        (false, false) => "on two of three disks",
    };
    let thread = if work.threaded && !work.read { ", the leader's log in a thread of its own" } else { "" };
    format!("requests of {} B, {what}{thread}", work.value)
}

fn micros(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1000.0
}
