//! Randomness of the operating system: seeds and store ids, nothing per operation.

use rand::TryRng as _;
use rand::rngs::SysRng;
use std::io;

/// Bytes nobody can guess or repeat.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    if cfg!(all(test, shuttle)) {
        // A run of a model checker must be repeatable.
        return Ok(bytes);
    }
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
