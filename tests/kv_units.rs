//! The unit tests of the example `kv`, which stand beside its code: cargo runs no tests inside an example.
#![cfg(feature = "node")]

#[allow(dead_code, unreachable_pub)]
#[path = "../examples/kv/main.rs"]
mod kv;
