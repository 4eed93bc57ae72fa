//! Drives a [`Fetch`] over one connection, on the caller's thread.

use std::io;

use super::error::SnapshotError;
use super::fetch::{Ended, Fetch, Progress, Received};
use super::network::SnapshotConnection;
use crate::time::Duration;

/// How long it waits for an answer before it asks whether to go on.
const SLICE: Duration = Duration::from_millis(50);

/// Why a pull came to its end before the snapshot was there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The connection broke, or nothing came for too long. Connect again and go on with the same [`Fetch`].
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    /// This sender will not give this snapshot. Begin another [`Fetch`], with its newest or with another node's; what is here
    /// already is used again.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// This node's disk failed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The caller wanted to stop.
    #[error("stopped on the way")]
    Stopped,
}

/// Pulls until everything is there and can be [installed](Fetch::install). Blocks. `watch` is told how far it is, at
/// every step and a few times per second while nothing comes, and answers whether to go on.
///
/// # Errors
/// [`PullError`] says how to go on. After `patience` without an answer that was awaited the connection is `Lost`.
pub fn pull(
    fetch: &mut Fetch,
    connection: &mut dyn SnapshotConnection,
    patience: Duration,
    watch: &dyn Fn(&Progress) -> bool,
) -> Result<(), PullError> {
    fetch.disconnected();
    let mut silence = Duration::ZERO;
    loop {
        if !watch(&fetch.progress()) {
            return Err(PullError::Stopped);
        }
        while let Some(request) = fetch.next_request() {
            if let Err(error) = connection.send(&request) {
                take_the_rest(fetch, connection)?;
                return Err(error.into());
            }
        }
        let worked = fetch.advance()?;
        if let Some(ended) = fetch.ended() {
            return Err(ended.clone().into());
        }
        if fetch.is_complete() {
            return Ok(());
        }
        if worked && !fetch.is_waiting() {
            continue;
        }
        // While there is work to do here, what has come is taken all the same: its sender must not find us deaf.
        let wait = if worked { Duration::ZERO } else { SLICE };
        match connection.receive(fetch.frame_bytes_max(), wait)? {
            Some(response) => {
                silence = Duration::ZERO;
                if let Received::Ended(ended) = fetch.receive(response)? {
                    return Err(ended.into());
                }
            }
            None => silence += wait,
        }
        if silence >= patience {
            return Err(PullError::Lost(io::Error::new(io::ErrorKind::TimedOut, "no answer")));
        }
    }
}

/// What came before the connection broke need not be sent again.
fn take_the_rest(fetch: &mut Fetch, connection: &mut dyn SnapshotConnection) -> Result<(), SnapshotError> {
    while let Ok(Some(response)) = connection.receive(fetch.frame_bytes_max(), Duration::ZERO) {
        fetch.receive(response)?;
    }
    Ok(())
}
