//! draft
use std::time::Instant;
use tenure::sim::{Plan, Tally, run};
fn main() {
    let a: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let mut total = Tally::default();
    let t = Instant::now();
    for seed in a[0]..a[1] {
        let plan = Plan::draw(seed);
        let t1 = Instant::now();
        let report = run(&plan, &plan.registers, std::env::var("TRACE").is_ok());
        let el = t1.elapsed();
        if a.len() > 2 {
            println!(
                "{seed} n{} {:?} events {} {:.0}x ops {} ack {} unk {} crashes {} leaders {}",
                plan.nodes,
                el,
                report.tally.events,
                report.tally.simulated().as_secs_f64() / el.as_secs_f64(),
                report.tally.operations,
                report.tally.acknowledged,
                report.tally.unknown,
                report.tally.crashes,
                report.tally.leaders
            );
        }
        if report.violation.is_some() {
            for m in &report.trace.moments[report.trace.moments.len().saturating_sub(60)..] {
                println!("{:?} {:?}", m.at, m.what);
            }
        }
        if let Some(v) = report.violation {
            println!("seed {seed}: {v}");
        }
        total += report.tally;
    }
    println!("{:.0}x", total.simulated().as_secs_f64() / t.elapsed().as_secs_f64());
    for (n, c) in total.counts() {
        print!("{n} {c}, ");
    }
    println!();
}
