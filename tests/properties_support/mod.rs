//! What the properties share: random inputs for one core and random steps for three.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod arbitrary;
pub mod inputs;
