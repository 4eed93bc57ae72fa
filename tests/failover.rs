//! How long a group is without a leader when its leader dies: seeded kills in virtual time.
//!
//! `TENURE_KILLS=1000 cargo test --release --features sim --test failover -- --nocapture` prints the figures of `docs/status.md`.
#![cfg(feature = "sim")]
// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::cluster::{Cluster, Told};
use support::lone::{GROUP, ms};
use tenure::config::CoreConfig;
use tenure::sim::Weather;
use tenure::sim::dice::Span;
use tenure::time::Duration;
use tenure::types::NodeId;

const E: u64 = 1000;

/// What a series of kills came to, shortest first.
struct Series {
    pauses: Vec<Duration>,
    /// Kills after which two nodes stood in the same term.
    split: usize,
}

impl Series {
    /// Two series as one.
    fn and(mut self, other: Self) -> Self {
        self.pauses.extend(other.pauses);
        self.pauses.sort_unstable();
        Self { split: self.split + other.split, ..self }
    }

    fn quantile(&self, share: f64) -> Duration {
        self.pauses[((self.pauses.len() - 1) as f64 * share) as usize]
    }

    /// Of the kills after which two nodes stood in the same term.
    fn split_share(&self) -> f64 {
        self.split as f64 / self.pauses.len() as f64
    }

    fn print(self, name: &str) -> Self {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| self.quantile(share).as_secs_f64());
        let (kills, split) = (self.pauses.len(), 100.0 * self.split_share());
        println!("{name}: {kills} kills, median {half:.3} E, 99 % {most:.3} E, all {all:.3} E, split {split:.1} %");
        self
    }
}

/// Links of 1 to 10 ms that lose one message in a hundred; a sync takes up to 2 ms.
fn weather() -> Weather {
    Weather { delay: Span::millis(1, 10), loss_ppm: 10_000, ordered: false, ..Weather::fair() }
}

/// From the kill to the first write that the new leader commits.
fn kill(cluster: &mut Cluster) -> Duration {
    let old = cluster.leader().unwrap();
    let killed = cluster.now();
    cluster.crash(old);
    loop {
        assert!(cluster.now().since(killed) < ms(10 * E), "seed {}: no leader", cluster.seed);
        if cluster.run_until(E, |cluster| cluster.leader().is_some()).is_none() {
            continue;
        }
        let leader = cluster.leader().unwrap();
        let write = cluster.propose(leader, "first");
        cluster.run_until(E, |cluster| cluster.told(write) != Told::Nothing);
        if let Told::Committed(_) = cluster.told(write) {
            return cluster.now().since(killed);
        }
    }
}

fn series(size: u64, kills: u64, succession: bool) -> Series {
    let mut series = Series { pauses: Vec::new(), split: 0 };
    for seed in 0..kills {
        let mut template = CoreConfig::new(NodeId(1), GROUP, 0);
        template.succession = succession;
        let mut cluster = Cluster::like(seed * 10 + size, size, weather(), template);
        cluster.run_until(20 * E, |cluster| cluster.leader().is_some()).expect("a first leader");
        // Some writes, then the leader dies at any moment between two heartbeats.
        for number in 0..5 {
            let leader = cluster.leader().unwrap();
            cluster.propose(leader, format!("{number}"));
            let pause = cluster.draw(50, 150);
            cluster.run_for(pause);
        }
        cluster.run_until(20 * E, |cluster| cluster.leader().is_some()).expect("a leader");
        let contested = cluster.world.contested_terms();
        series.pauses.push(kill(&mut cluster));
        series.split += usize::from(cluster.world.contested_terms() > contested);
    }
    series.pauses.sort_unstable();
    series
}

#[test]
fn a_dead_leader_is_succeeded_in_little_more_than_an_election_timeout() {
    let kills = std::env::var("TENURE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(400);
    let both = |succession, name: &str| {
        let three = series(3, kills / 2, succession).print(&format!("3 nodes, {name}"));
        let five = series(5, kills / 2, succession).print(&format!("5 nodes, {name}"));
        three.and(five).print(&format!("together, {name}"))
    };
    let ranked = both(true, "line of succession");
    let plain = both(false, "random timeouts");
    assert!(ranked.quantile(0.5) < ms(1150) && ranked.quantile(0.5) < plain.quantile(0.5));
    assert!(ranked.quantile(0.99) < ms(2000), "{:?}", ranked.quantile(0.99));
    assert!(ranked.quantile(1.0) < ms(4000), "{:?}", ranked.quantile(1.0));
    assert!(ranked.split_share() < 0.01, "{}", ranked.split_share());
}
