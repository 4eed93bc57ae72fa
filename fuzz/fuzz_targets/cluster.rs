//! Three cores with their disks and a network: any steps at all, judged after each as the property in
//! `tests/properties.rs` is; then nothing goes wrong any more, and they must agree on something new.
//!
//! The first byte chooses how the nodes are set up, every three after it are a step.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tenure_fuzz::{Step, Trio};

/// Longer stories take longer than they are worth.
const MOST: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    let Some((setup, steps)) = bytes.split_first() else { return };
    let mut trio = Trio::new(*setup);
    for step in steps.as_chunks::<{ Step::BYTES }>().0.iter().take(MOST) {
        trio.step(Step::of(*step));
    }
    trio.judge_liveness();
});
