//! One run: nodes, clients, one fault after the other in an order drawn from the seed, and the judgement.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

use super::clients::{Clients, Seen};
use super::faults::{ALL, Fault};
use super::network::Network;
use super::nodes::Nodes;
use super::{Settings, history};

/// So many faults see the same keys.
const GENERATION: usize = 4;

/// What one kind of fault did.
#[derive(Default)]
struct Row {
    injected: u64,
    /// From beginning to end of the fault.
    meanwhile: Seen,
    /// In how many another node led afterwards, or the same in a later term.
    elections: u64,
    /// From the end of the fault until all followed one leader, the longest.
    recovery: Duration,
}

pub(crate) fn run(arguments: &[&str]) {
    let settings = Settings::from_environment();
    println!("TENURE_REAL_SEED={}, kv serve {}", settings.seed, arguments.join(" "));
    let mut random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = Nodes::start(Network::new(settings.namespaces), dir.path(), arguments);
    nodes.await_health();
    let addresses: Vec<_> = (0..super::NODES).map(|at| nodes.address(at)).collect();
    let clients = Clients::start(&addresses, settings.seed);

    let (possible, impossible): (Vec<Fault>, Vec<Fault>) =
        settings.chosen().partition(|fault| fault.obstacle(settings.namespaces).is_none());
    let mut rows: Vec<Row> = ALL.iter().map(|_| Row::default()).collect();
    let mut turn = Vec::new();
    let mut diary = String::new();
    let mut count = 0;
    let began = Instant::now();
    while count < possible.len() || began.elapsed() < settings.duration {
        if turn.is_empty() {
            turn.clone_from(&possible);
            turn.shuffle(&mut random);
        }
        let fault: Fault = turn.pop().unwrap();
        let row = &mut rows[ALL.iter().position(|one| *one == fault).unwrap()];
        let _ = write!(diary, "  {fault:?} from {} ms", clients.now().as_millis());
        endure(fault, &mut nodes, &clients, random.random(), row);
        let _ = writeln!(diary, " until {} ms", clients.now().as_millis());
        count += 1;
        if count % GENERATION == 0 {
            clients.next_generation();
        }
    }
    let lasted = began.elapsed();

    let total = clients.shared.counts.seen();
    let shared = clients.shared.clone();
    let calls = clients.finish();
    nodes.await_agreement();
    let judged = Instant::now();
    let verdict = history::check(&calls);
    print_table(&rows, total, lasted);
    for fault in impossible {
        println!("not injected: {fault:?}, {}", fault.obstacle(settings.namespaces).unwrap());
    }
    for (reason, count) in &*shared.counts.reasons.lock().unwrap() {
        println!("outcome unknown: {count:>4} {reason}");
    }
    println!("{} calls judged in {:.1?}", calls.len(), judged.elapsed());
    if let Err((key, error)) = verdict {
        let kept = dir.keep();
        panic!("{key}: {error}\nfaults:\n{diary}seed {}; logs in {}", settings.seed, kept.display());
    }
    for at in 0..super::NODES {
        assert!(!nodes.log(at).contains("panicked"), "{}", nodes.log(at));
    }
    let acknowledged: u64 = rows.iter().map(|row| row.meanwhile.0[0]).sum();
    assert!(acknowledged > 0, "nothing was acknowledged while there were faults");
}

impl Settings {
    fn chosen(&self) -> impl Iterator<Item = Fault> {
        ALL.into_iter().filter(|fault| format!("{fault:?}").contains(&self.faults))
    }
}

/// One fault, and the way back to a cluster that works.
fn endure(fault: Fault, nodes: &mut Nodes, clients: &Clients, seed: u64, row: &mut Row) {
    let counts = &clients.shared.counts;
    let (before, term) = (counts.seen(), nodes.await_health().1);
    fault.inject(nodes, clients, seed);
    let (ended, seen) = (Instant::now(), counts.seen());
    let (_, later_term) = nodes.await_health();
    row.recovery = row.recovery.max(ended.elapsed());
    nodes.eventually("an acknowledged write", || (counts.seen().since(seen).0[0] > 0).then_some(()));
    let meanwhile = seen.since(before);
    row.injected += 1;
    row.elections += u64::from(later_term > term);
    row.meanwhile = Seen(std::array::from_fn(|at| row.meanwhile.0[at] + meanwhile.0[at]));
}

fn print_table(rows: &[Row], Seen(total): Seen, lasted: Duration) {
    println!(
        "{:<20} {:>8} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "fault", "injected", "elections", "writes", "reads", "refused", "unknown", "recovery"
    );
    for (fault, row) in ALL.iter().zip(rows) {
        let Seen([writes, reads, refused, unknown]) = row.meanwhile;
        println!(
            "{:<20} {:>8} {:>9} {writes:>8} {reads:>8} {refused:>8} {unknown:>9} {:>6} ms",
            format!("{fault:?}"),
            row.injected,
            row.elections,
            row.recovery.as_millis()
        );
    }
    let [writes, reads, refused, unknown] = total;
    let (injected, elections) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.injected, sum.1 + row.elections));
    let between = format!("all, in {:.0?}", lasted);
    println!("{between:<20} {injected:>8} {elections:>9} {writes:>8} {reads:>8} {refused:>8} {unknown:>9}");
}
