//! The fetch thread: brings a snapshot here that a leader offers, from whoever has it.

use slog::{Logger, info, warn};
use std::cell::Cell;
use std::io;
use std::time::Instant as Stopwatch;

use super::{Library, Shelf, stored};
use crate::core::Install;
use crate::runtime::annex::Annex;
use crate::runtime::begin::Stored;
use crate::runtime::node_error::GroupError;
use crate::runtime::queue::Taken;
use crate::snapshot::{Fetch, FetchConfig, Progress, PullError, Snapshot, SnapshotError, Wanted, pull};
use crate::sync::Arc;
use crate::time::Duration;
use crate::transport::Transport;
use crate::types::{Index, NodeId};

/// A sender that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lost connection to the same sender is made again so often without a byte having come.
const ATTEMPTS: u32 = 3;

/// Before a lost connection is made again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is told how far a transfer is.
const TELL: Duration = Duration::from_secs(5);

/// The thread's own state.
pub(in crate::runtime) struct Fetcher {
    pub(in crate::runtime) library: Arc<Library>,
    pub(in crate::runtime) transport: Arc<dyn Transport>,
    pub(in crate::runtime) node: NodeId,
    pub(in crate::runtime) logger: Logger,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("nobody offers one any more")]
    NotOffered,
    #[error("this transport carries no snapshots")]
    NoDoor,
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Label(#[from] GroupError),
}

impl From<SnapshotError> for FetchError {
    fn from(error: SnapshotError) -> Self {
        Self::Pull(error.into())
    }
}

impl Fetcher {
    /// Runs until the library is closed.
    pub(in crate::runtime) fn run(&self) {
        let mut lacking = Vec::new();
        while self.library.fetches.take(&mut lacking, None) == Taken::Items {
            for annex in lacking.drain(..) {
                if let Some(shelf) = &annex.shelf {
                    self.serve(&annex, shelf);
                }
            }
        }
    }

    fn serve(&self, annex: &Annex, shelf: &Shelf) {
        match self.fetch(annex, shelf).and_then(|snapshot| Ok((stored(shelf.group, &snapshot)?, snapshot))) {
            Ok((Stored { last, configuration: (_, configuration) }, snapshot)) => {
                info!(self.logger, "fetched a snapshot"; "group" => %shelf.group, "last" => %last,
                    "bytes" => snapshot.manifest().bytes());
                annex.queue.push_restore(snapshot, configuration);
            }
            Err(_) if !self.goes_on() => {}
            Err(_) if !shelf.lacks_what_is_offered(annex.applied()) => shelf.fetch_over(false),
            Err(error) => {
                warn!(self.logger, "no snapshot was fetched; tried again as long as a leader offers one";
                    "group" => %shelf.group, "error" => %error);
                shelf.not_fetched(error.to_string());
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.library.fetches.is_closed()
    }

    /// First what is here in part, from the node that it came from, leader or not; only if nobody has that any more, or the
    /// log has brought what is in it, the newest of the leader's.
    fn fetch(&self, annex: &Annex, shelf: &Shelf) -> Result<Snapshot, FetchError> {
        let offer = shelf.offered().ok_or(FetchError::NotOffered)?;
        let there = shelf.store.newest().filter(|newest| newest.last().index >= offer.last.index);
        if let Some(there) = there {
            return Ok(there);
        }
        if let Some(partial) = shelf.store.partial().filter(|partial| partial.last().index > annex.applied()) {
            let wanted = Wanted { id: Some(partial.id()), at_least: Index::ZERO };
            let mut senders = vec![partial.about().maker, offer.from];
            senders.dedup();
            for sender in senders.into_iter().filter(|sender| *sender != self.node) {
                match self.fetch_from(sender, wanted, annex, shelf) {
                    Err(FetchError::Pull(PullError::Ended(_) | PullError::Lost(_))) => {}
                    done => return done,
                }
            }
        }
        let Install { from, last } = shelf.offered().unwrap_or(offer);
        self.fetch_from(from, Wanted { id: None, at_least: last.index }, annex, shelf)
    }

    fn fetch_from(&self, sender: NodeId, wanted: Wanted, annex: &Annex, shelf: &Shelf) -> Result<Snapshot, FetchError> {
        let goes_on = || self.goes_on() && shelf.lacks_what_is_offered(annex.applied());
        let network = self.transport.snapshots().ok_or(FetchError::NoDoor)?;
        let mut fetch = Fetch::new(&shelf.store, wanted, FetchConfig::default())?;
        let (noted, told) = (Cell::new(0), Cell::new(None::<Stopwatch>));
        let watch = |progress: &Progress| {
            let before = noted.replace(progress.bytes_received);
            shelf.note_progress(*progress, progress.bytes_received - before);
            if progress.bytes_total > 0 && told.get().is_none_or(|last| last.elapsed() >= TELL) {
                told.set(Some(Stopwatch::now()));
                info!(self.logger, "fetching a snapshot"; "group" => %shelf.group, "from" => %sender,
                    "bytes" => progress.bytes_done, "of" => progress.bytes_total);
            }
            goes_on()
        };
        let mut attempts = 0;
        loop {
            let before = fetch.progress().bytes_received;
            let connected = network.connect(sender).map_err(PullError::Lost);
            match connected.and_then(|mut connection| pull(&mut fetch, &mut *connection, PATIENCE, &watch)) {
                Ok(()) => return Ok(fetch.install()?),
                // Not known, or it does not serve: nothing that mends itself at once.
                Err(PullError::Lost(error)) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(PullError::Lost(error).into());
                }
                Err(PullError::Lost(error)) => {
                    attempts = if fetch.progress().bytes_received > before { 0 } else { attempts + 1 };
                    if attempts >= ATTEMPTS || !goes_on() {
                        return Err(PullError::Lost(error).into());
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
