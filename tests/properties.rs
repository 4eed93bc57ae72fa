//! Properties of the core: what holds whatever happens to one node or to three, and shrinking to a short story when it
//! does not.
//!
//! Each runs a few hundred cases; `QUICKCHECK_TESTS=100000` asks for more.

// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "properties_support/mod.rs"]
mod properties_support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use properties_support::inputs::{Stage, Wild};
use properties_support::steps::{Seen, Step, Trio};
use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};

/// A list of steps, and how the three nodes are set up.
#[derive(Clone, Debug)]
struct Story {
    setup: u8,
    steps: Vec<Step>,
}

impl Arbitrary for Story {
    fn arbitrary(g: &mut Gen) -> Self {
        Self { setup: u8::arbitrary(g) % 8, steps: Vec::arbitrary(g) }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let shorter = (self.setup, self.steps.clone()).shrink();
        Box::new(shorter.map(|(setup, steps)| Self { setup, steps }))
    }
}

impl Story {
    fn play(&self) -> Seen {
        let mut trio = Trio::new(self.setup);
        self.steps.iter().for_each(|step| trio.step(*step));
        trio.judge_liveness();
        trio.seen
    }
}
