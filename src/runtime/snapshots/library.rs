//! The snapshots of all groups of a node: where they are, and who works on them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::take::Take;
use super::{Shelf, SnapshotOptions};
use crate::metrics::SnapshotCounters;
use crate::quorum::Configuration;
use crate::runtime::annex::Annex;
use crate::runtime::begin::Stored;
use crate::runtime::node_error::GroupError;
use crate::runtime::queue::Queue;
use crate::snapshot::{ServeConfig, Snapshot, SnapshotError, SnapshotServer, SnapshotStore, StoreConfig};
use crate::sync::{Arc, Mutex};
use crate::types::{ClusterId, GroupId, NodeId};
use crate::wal::Fs;

/// Under the node's directory.
const DIR: &str = "snapshots";

pub(in crate::runtime) struct Library {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    cluster: ClusterId,
    node: NodeId,
    pub(in crate::runtime) options: SnapshotOptions,
    pub(in crate::runtime) server: SnapshotServer,
    /// For the snapshot thread. Bounded: one per group at a time.
    pub(in crate::runtime) takes: Queue<Take>,
    /// For the fetch thread: groups that lack a snapshot. Bounded: each once.
    pub(in crate::runtime) fetches: Queue<Arc<Annex>>,
    shelves: Mutex<BTreeMap<GroupId, Arc<Shelf>>>,
    /// Groups that run.
    running: Mutex<BTreeMap<GroupId, Arc<Annex>>>,
}

impl Library {
    /// Of the node whose directory is `dir`.
    pub(in crate::runtime) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        cluster: ClusterId,
        node: NodeId,
        options: SnapshotOptions,
    ) -> Self {
        let serve = ServeConfig { bytes_per_second: options.send_bytes_per_second, ..ServeConfig::default() };
        let (takes, fetches) = (Queue::new(), Queue::new());
        let server = SnapshotServer::new(serve);
        Self {
            fs,
            dir: dir.join(DIR),
            cluster,
            node,
            options,
            server,
            takes,
            fetches,
            shelves: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// The snapshots of `group`, opened when they are asked for first. Blocks on the disk.
    pub(in crate::runtime) fn shelf(&self, group: GroupId) -> Result<Arc<Shelf>, SnapshotError> {
        if let Some(shelf) = self.opened(group) {
            return Ok(shelf);
        }
        let mut config = StoreConfig::new(self.cluster.clone(), group, self.node);
        (config.keep, config.chunk_bytes) = (self.options.keep, self.options.chunk_bytes);
        let store = SnapshotStore::open(self.fs.clone(), &self.dir.join(group.0.to_string()), config)?;
        let shelf = Arc::new(Shelf::new(group, store));
        // Whoever creates or opens a group has reserved it: nobody opens the store a second time.
        self.shelves.lock().insert(group, shelf.clone());
        Ok(shelf)
    }

    /// A group runs from now on: its snapshots are served, and replaced if that shows that they are damaged.
    pub(in crate::runtime) fn opened_group(&self, annex: &Arc<Annex>, shelf: &Shelf) {
        let weak = Arc::downgrade(annex);
        shelf.store.on_damage(move || {
            if let Some(annex) = weak.upgrade() {
                annex.queue.push_damage();
            }
        });
        self.server.add(shelf.store.clone());
        self.running.lock().insert(shelf.group, annex.clone());
    }

    /// The node's log is too long because of this group's.
    pub(in crate::runtime) fn press(&self, group: GroupId) {
        let annex = self.running.lock().get(&group).cloned();
        if let Some(annex) = annex
            && annex.shelf.as_ref().is_some_and(|shelf| shelf.may_press())
        {
            annex.queue.push_pressure();
        }
    }

    pub(in crate::runtime) fn opened(&self, group: GroupId) -> Option<Arc<Shelf>> {
        self.shelves.lock().get(&group).cloned()
    }

    pub(in crate::runtime) fn counters(&self) -> SnapshotCounters {
        let mut sum = SnapshotCounters::default();
        for shelf in self.shelves.lock().values() {
            sum += shelf.status().counters;
        }
        sum
    }

    /// Ends the threads. Whoever waits for a snapshot is told that the node was shut down.
    pub(in crate::runtime) fn close(&self) {
        self.takes.close();
        self.fetches.close();
        drop((self.takes.drain(), self.fetches.drain()));
    }
}

/// What a snapshot says about itself.
pub(in crate::runtime) fn stored(group: GroupId, snapshot: &Snapshot) -> Result<Stored, GroupError> {
    let (index, bytes) = &snapshot.manifest().about().configuration;
    let configuration = Configuration::decode(bytes);
    let configuration = configuration.map_err(|error| GroupError::Configuration { group, index: *index, error })?;
    Ok(Stored { last: snapshot.last(), configuration: (*index, configuration) })
}
