//! What the tests share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

#[cfg(feature = "sim")]
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod lone;
