//! The simulator: seeds that must hold, and that it would notice if they did not.
//!
//! `TENURE_SEEDS=2000 cargo test --release --features sim --test sim seeds` runs more of them; the example `sim` runs as
//! many as one likes, shows progress and makes short what fails. `tests/planted/check` breaks the engine and sees that
//! the simulator finds it.

#![cfg(feature = "sim")]
#![allow(clippy::panic, reason = "a test program, its helpers included")]

use std::time::Duration;

use tenure::sim::dice::Span;
use tenure::sim::{Fault, Plan, Registers, Report, Strike, Tally, Target, run, shrink};

fn seeds(default: u64) -> u64 {
    std::env::var("TENURE_SEEDS").ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// The plan of a seed, for a test that is not built for speed.
fn short(seed: u64) -> Plan {
    let mut plan = Plan::draw(seed);
    plan.lasting /= 6;
    plan
}

fn held(seed: u64, plan: &Plan) -> Report {
    let report = run(plan, &plan.registers, false);
    if let Some(violation) = &report.violation {
        panic!("seed {seed}: {violation}");
    }
    report
}

#[test]
fn seeds_keep_every_promise() {
    let mut total = Tally::default();
    for seed in 0..seeds(12) {
        total += held(seed, &short(seed)).tally;
    }
    println!("{total:?}");
    // A run that never gets there proves nothing about it.
    let reached = [total.crashes, total.leaders, total.truncations, total.acknowledged, total.lease_reads];
    assert!(reached.iter().all(|count| *count > 0), "{total:?}");
    assert!(total.snapshots_taken > 0 && total.compactions > 0, "{total:?}");
    if seeds(12) >= 500 {
        // A long run gets everywhere; histories that are too hard are not wanted.
        let never: Vec<_> = total.counts().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
        assert!(never.iter().all(|name| *name == "undecided"), "never reached: {never:?}");
    }
}

/// Three nodes with snapshots every twenty entries, whose logs keep `retained` entries behind one; a follower is down for so
/// long at a time when some entries are committed.
fn one_is_away(retained: usize, away: Duration) -> Report {
    let mut plan = Plan::quiet(3, 3, Duration::from_secs(120));
    (plan.snapshots.every, plan.core.limits.retained_for_peers) = (20, 0);
    plan.core.limits.retained_entries = retained;
    plan.clients.think = Span::millis(0, 100);
    let crash = |at| Fault {
        at: Duration::from_secs(at),
        strike: Strike::Crash { node: Target::Node(3), power_lost: true },
        lasting: away,
    };
    plan.faults = vec![crash(30), crash(60)];
    held(3, &plan)
}

/// Row `r03`: who is a little behind gets entries; who has been away for longer gets a snapshot.
#[test]
fn who_is_slightly_behind_gets_no_snapshot() {
    let soon = one_is_away(100, Duration::from_secs(1)).tally;
    assert_eq!((soon.snapshots_offered, soon.fetches), (0, 0), "{soon:?}");
    assert!(soon.compactions > 10, "{soon:?}");
    let late = one_is_away(100, Duration::from_secs(10)).tally;
    assert!(late.snapshots_installed > 0, "{late:?}");
    let none_kept = one_is_away(0, Duration::from_secs(1)).tally;
    assert!(none_kept.snapshots_installed > 0, "{none_kept:?}");
}

/// Whatever the process was at when it died: at its next start it goes on from there.
#[test]
fn a_process_dies_at_each_call_of_its_disk_for_snapshots() {
    let (mut total, every) = (Tally::default(), if seeds(12) > 12 { 1 } else { 5 });
    for after in (0..60).step_by(every) {
        let mut plan = Plan::quiet(after, 3, Duration::from_secs(40));
        plan.snapshots.every = 20;
        (plan.core.limits.retained_entries, plan.core.limits.retained_for_peers) = (0, 0);
        plan.clients.think = Span::millis(0, 200);
        plan.registers.durable = after % 3 == 0;
        let node = Target::Node(3);
        let power_lost = after % 2 == 0;
        let fault =
            |at, strike, lasting| Fault { at: Duration::from_secs(at), strike, lasting: Duration::from_secs(lasting) };
        plan.faults = vec![
            fault(10, Strike::Crash { node, power_lost }, 10),
            // When it is back it needs a snapshot.
            fault(15, Strike::DieAtSnapshot { node, after, power_lost }, 2),
        ];
        total += held(after, &plan).tally;
    }
    assert!(total.deaths_at_snapshots as usize >= 50 / every, "{total:?}");
    assert!(total.restored_at_start > 0 && total.snapshots_installed > 0, "{total:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 100..100 + seeds(4) {
        let plan = short(seed);
        let [one, other] = [held(seed, &plan), held(seed, &plan)];
        assert_eq!((one.trace.hash, one.tally), (other.trace.hash, other.tally), "seed {seed}");
    }
    let [one, other] = [held(200, &short(200)), held(201, &short(201))];
    assert_ne!(one.trace.hash, other.trace.hash, "the hash tells runs apart");
}

/// Recording a run does not change it.
#[test]
fn looking_at_a_run_does_not_change_it() {
    let plan = short(300);
    let recorded = run(&plan, &plan.registers, true);
    assert_eq!(recorded.trace.hash, held(300, &plan).trace.hash);
    assert!(recorded.trace.moments.len() > 1000);
}

/// A leader whose clock is slow by a third, followers whose clocks are fast by half: that breaks what leases promise. The
/// judge notices, and the story is made short.
#[test]
fn leases_under_clocks_beyond_the_bound_are_noticed_and_the_story_is_short() {
    let mut plan = Plan::quiet(1, 3, Duration::from_secs(60));
    plan.clocks = vec![-330_000, 500_000, 500_000];
    plan.judge_wild_clocks = true;
    for round in 0..10 {
        let (at, node) = (Duration::from_secs(5 + 5 * round), Target::Leader(1));
        let fault = |after, strike, lasting| Fault { at: at + Duration::from_secs(after), strike, lasting };
        plan.faults.push(fault(0, Strike::Transfer { node, to: Some(1) }, Duration::ZERO));
        let alone = Strike::CutLeader { from: u64::MAX, outgoing: true, incoming: true };
        plan.faults.push(fault(2, alone, Duration::from_secs(2)));
    }
    let violation = run(&plan, &plan.registers, false).violation.expect("it shows");
    assert_eq!(violation.judge, "lease exclusivity", "{violation}");
    let shrunk = shrink(&plan, &plan.registers, 60).expect("it fails");
    assert_eq!(shrunk.report.violation.map(|violation| violation.judge), Some("lease exclusivity"));
    assert!(shrunk.plan.faults.len() <= 4, "{:?}", shrunk.plan.faults);
    // The same with clocks within the bound.
    plan.clocks = vec![-10_000, 10_000, 10_000];
    held(1, &plan);
}

/// Row `l31` and the rule of thumb that a healthy cluster is quiet.
#[test]
fn a_healthy_cluster_elects_once_and_serves() {
    let plan = Plan::quiet(1, 5, Duration::from_secs(600));
    let report = held(1, &plan);
    assert_eq!((report.tally.leaders, report.tally.unknown), (1, 0));
    assert!(report.tally.acknowledged > 500, "{:?}", report.tally);
}

/// A state machine that forgets: the clients notice, whatever the engine does.
#[test]
fn a_state_machine_that_is_wrong_is_noticed() {
    let plan = Plan::quiet(7, 3, Duration::from_secs(300));
    let report = run(&plan, &forgetful::Forgetful(plan.registers), false);
    let judge = report.violation.map(|violation| violation.judge);
    assert!(matches!(judge, Some("linearizability" | "equal state machines")), "{judge:?}");
}

/// Registers that lose a write now and then, on one node.
mod forgetful {
    use bytes::Bytes;
    use tenure::sim::dice::Dice;
    use tenure::sim::{Operation, Outcome, Register, RegisterMachine, Registers, Subject};
    use tenure::state_machine::{ApplyError, Command, StateMachine};
    use tenure::types::NodeId;

    #[derive(Clone)]
    pub(crate) struct Forgetful(pub(crate) Registers);

    pub(crate) struct Machine {
        registers: RegisterMachine,
        node: NodeId,
    }

    impl StateMachine for Machine {
        type Output = Outcome;

        fn apply(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, ApplyError> {
            let forgets = |command: &Command| self.node == NodeId(2) && command.id.index.0.is_multiple_of(50);
            let mut outputs = Vec::new();
            for command in commands {
                let forgotten = forgets(command);
                let output = self.registers.apply(std::slice::from_ref(command))?;
                if forgotten {
                    self.registers = RegisterMachine::default();
                }
                outputs.extend(output);
            }
            Ok(outputs)
        }
    }

    impl Subject for Forgetful {
        type Machine = Machine;
        type Operation = Operation;
        type Outcome = Outcome;
        type Model = Register;

        fn machine(&self, node: NodeId, _left: Option<Machine>) -> Machine {
            Machine { registers: self.0.machine(node, None), node }
        }

        fn operation(&self, dice: &mut Dice, serial: u64) -> Operation {
            self.0.operation(dice, serial)
        }

        fn command(&self, operation: &Operation, nonce: u64) -> Option<Bytes> {
            self.0.command(operation, nonce)
        }

        fn outcome(&self, operation: &Operation, output: Outcome) -> Outcome {
            self.0.outcome(operation, output)
        }

        fn query(&self, machine: &Machine, operation: &Operation) -> Outcome {
            self.0.query(&machine.registers, operation)
        }

        fn key(&self, operation: &Operation) -> u64 {
            self.0.key(operation)
        }

        fn model(&self) -> Register {
            self.0.model()
        }

        fn digest(&self, machine: &Machine) -> u64 {
            self.0.digest(&machine.registers)
        }
    }
}

/// What a run needs that is asked for too much of.
#[test]
fn a_plan_that_cannot_be_run_says_why() {
    let mut plan = Plan::quiet(1, 3, Duration::from_secs(1));
    plan.core.limits.append_entries = 0;
    let violation = run(&plan, &plan.registers, false).violation.expect("it cannot be run");
    assert!(violation.judge == "a plan can be run" && violation.what.contains("append_entries"), "{violation}");
    plan.nodes = 0;
    assert!(
        run(&plan, &Registers { keys: 1, reads_percent: 0, padding: 0, durable: false }, false).violation.is_some()
    );
}
