//! How much faster than real time the simulator is, on one core: a quiet cluster, and clusters with every fault.
//!
//! ```sh
//! cargo bench --features sim --bench simulator
//! ```

use std::time::{Duration, Instant};

use tenure::sim::dice::Span;
use tenure::sim::{Plan, Tally, run};

fn main() {
    let hour = Duration::from_secs(3600);
    let mut idle = Plan::quiet(1, 3, hour * 4);
    idle.clients.count = 0;
    let mut served = Plan::quiet(2, 3, hour * 2);
    served.clients.think = Span::millis(0, 2000);
    report("three nodes, idle", &[idle]);
    report("three nodes, two clients of about one operation a second", &[served]);
    report("every fault and load, 60 seeds", &(0..60).map(Plan::draw).collect::<Vec<_>>());
}

fn report(name: &str, plans: &[Plan]) {
    let mut total = Tally::default();
    let watch = Instant::now();
    for plan in plans {
        let report = run(plan, &plan.registers, false);
        assert_eq!(report.violation, None, "seed {}", plan.seed);
        total += report.tally;
    }
    let took = watch.elapsed();
    let speed = total.simulated().as_secs_f64() / took.as_secs_f64();
    let nanos = took.as_nanos() / u128::from(total.events);
    println!("{name}: {speed:.0} times as fast as real time, {nanos} ns an event, {} events", total.events);
}
