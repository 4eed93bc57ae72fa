//! Stories that nobody wrote: random commands, with only the judges to say whether what happens is right.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::table::world::World;
use crate::table::{command, setup, words::Words};

struct Teller {
    rng: Xoshiro256PlusPlus,
    size: u64,
}

impl Teller {
    fn draw(&mut self, below: u64) -> u64 {
        self.rng.random_range(0..below)
    }

    fn node(&mut self) -> String {
        format!("n{}", self.draw(self.size) + 1)
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        let at = self.draw(from.len() as u64);
        from[at as usize]
    }

    fn setup(&mut self) -> String {
        self.size = 1 + self.draw(5);
        let seed = self.draw(1 << 40);
        let mut line = format!("cluster {} seed={seed}", self.size);
        for option in [
            " lease-reads",
            " lease-reads",
            " no-succession",
            " append-entries=1",
            " window-entries=3",
            " cache-bytes=1",
            " learners=n9",
            " n2=high",
        ] {
            if self.draw(3) == 0 {
                line += option;
            }
        }
        line
    }

    fn command(&mut self) -> String {
        let (a, b) = (self.node(), self.node());
        let kind = self.pick(&[
            "",
            "Append",
            "AppendResponse",
            "Vote",
            "VoteResponse",
            "PreVote",
            "PreVoteResponse",
            "Abdicate",
            "ReadIndexResponse",
        ]);
        match self.draw(40) {
            0..=7 => format!("pass {}ms", self.draw(3000)),
            8 | 9 => format!("pass {}ms", self.draw(30)),
            10 => format!("propose {a} x*{}", 1 + self.draw(8)),
            11 | 12 => format!("propose {a} y"),
            13 => format!("transfer {a} {b}"),
            14 => format!("transfer {a} best"),
            15 => format!("cut {a} -> {b}"),
            16 => format!("cut {a}"),
            17 | 18 => "heal".to_owned(),
            19 => format!("lose {a} -> {b} {kind} {}", 1 + self.draw(4)),
            20 | 21 => format!("hold {a} -> {b} {kind}"),
            22 => format!("release {a} -> {b} {}", self.pick(&["", "first", "last", "reversed", "twice"])),
            23 => "release all -> all".to_owned(),
            24 => format!("repeat {a} -> {b} {}", if kind.is_empty() { "Append" } else { kind }),
            25 => format!("disk {a} {}", self.pick(&["hold", "one", "takes 30ms", "takes 400ms"])),
            26 => format!("disk {a} release"),
            27 => format!("crash {a}"),
            28 | 29 => format!("restart {a}"),
            30 => format!("pause {a}"),
            31 | 32 => format!("resume {a} {}", self.pick(&["", "timer", "jumped"])),
            33 => format!("jump {a}"),
            34 => format!("rate {a} {}%", self.pick(&["+1", "-1", "0", "0.5"])),
            35 | 36 => format!("read {a} lease"),
            37 => format!("read {a} linearizable"),
            38 => format!("read {a} follower {}ms", self.draw(2000)),
            _ => format!("delay {a} -> {b} {}ms", self.draw(1500)),
        }
    }
}

/// Plays one random story; `Err` says what was found and all that had happened.
fn play(seed: u64, length: usize) -> Result<(), String> {
    let mut teller = Teller { rng: Xoshiro256PlusPlus::seed_from_u64(seed), size: 1 };
    let line = teller.setup();
    let mut told = vec![line.clone()];
    let mut world = setup::cluster(&mut Words::of(line.strip_prefix("cluster ").unwrap()))?;
    for _ in 0..length {
        let line = teller.command();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| command::run(&mut world, &line)));
        if matches!(ran, Ok(Err(_))) {
            world.notation.take();
            continue; // Not possible just now.
        }
        told.push(line);
        told.extend(world.notation.take().into_iter().map(|line| format!("    {line}")));
        let violations = world.judge.take();
        if ran.is_err() || !violations.is_empty() {
            return Err(format!("{violations:?}\n{}", told.join("\n")));
        }
    }
    recover(&mut world, &mut told)
}

/// All faults end: within 5 E a command is committed.
fn recover(world: &mut World, told: &mut Vec<String>) -> Result<(), String> {
    let ids: Vec<_> = world.nodes.keys().copied().collect();
    let mut lines = vec!["heal".to_owned(), "delay 1ms".to_owned(), "timers all on".to_owned()];
    for id in ids {
        lines.extend([
            format!("resume {id}"),
            format!("restart {id}"),
            format!("disk {id} release"),
            format!("rate {id} 0%"),
        ]);
    }
    lines.push("lose-nothing".to_owned());
    lines.push("within 5E committed last".to_owned());
    for line in lines {
        told.push(line.clone());
        let ran = command::run(world, &line);
        told.extend(world.notation.take().into_iter().map(|line| format!("    {line}")));
        let violations = world.judge.take();
        let must = line.starts_with("within");
        if !violations.is_empty() || (must && ran.is_err()) {
            return Err(format!("{violations:?} {ran:?}\n{}", told.join("\n")));
        }
    }
    Ok(())
}

/// `TENURE_STORIES=3000` plays more of them, `TENURE_SEED=17` begins there.
#[test]
fn random_stories_break_nothing() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, count) = (number("TENURE_SEED").unwrap_or(0), number("TENURE_STORIES").unwrap_or(50));
    for seed in first..first + count {
        if let Err(failure) = play(seed, 120) {
            panic!("TENURE_SEED={seed} TENURE_STORIES=1: {failure}");
        }
    }
}
