//! `cluster 3 ..`: who takes part, with which knobs; `on-disk ..`: with which past.

use std::collections::BTreeMap;

use tenure::config::{CoreConfig, Limits, Priority, Timing};
use tenure::log::HardState;
use tenure::quorum::{Configuration, Voters};
use tenure::time::Duration;
use tenure::types::{Index, NodeId, Term};

use crate::support::disk::Disk;
use crate::support::lone::GROUP;
use crate::table::node::Node;
use crate::table::words::{Words, duration, node, number};
use crate::table::world::World;

struct Setup {
    seed: u64,
    timing: Timing,
    limits: Limits,
    priorities: BTreeMap<NodeId, Priority>,
    learners: Vec<NodeId>,
    joining: Vec<NodeId>,
    lease_reads: bool,
    succession: bool,
    /// The nodes are not started yet.
    down: bool,
}

/// `cluster 3 seed=7 e=1000ms learners=n4,n5 lease-reads no-succession down n2=high window-entries=4`.
pub(crate) fn cluster(words: &mut Words<'_>) -> Result<World, String> {
    let voters: u64 = words.number("the number of voters")?;
    let second = Duration::from_secs(1);
    let mut setup = Setup {
        seed: 1,
        timing: Timing::from_election_timeout(second),
        limits: Limits::default(),
        priorities: BTreeMap::new(),
        learners: Vec::new(),
        joining: Vec::new(),
        lease_reads: false,
        succession: true,
        down: false,
    };
    while let Some(word) = words.take() {
        setup.take(word)?;
    }
    let world = setup.build(voters)?;
    Ok(world)
}

impl Setup {
    fn take(&mut self, word: &str) -> Result<(), String> {
        match word {
            "lease-reads" => self.lease_reads = true,
            "no-succession" => self.succession = false,
            "down" => self.down = true,
            _ => {
                let unknown = || format!("`{word}` is no option of a cluster");
                let (name, value) = word.split_once('=').ok_or_else(unknown)?;
                return self.set(name, value).and_then(|known| if known { Ok(()) } else { Err(unknown()) });
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let e = self.timing.election_timeout_min;
        match name {
            "seed" => self.seed = number(value, "a number")?,
            "e" => self.timing = Timing::from_election_timeout(duration(value, e)?),
            "rpc-timeout" => self.timing.rpc_timeout = duration(value, e)?,
            "heartbeat" => self.timing.heartbeat_interval = duration(value, e)?,
            "learners" => self.learners = nodes(value)?,
            "joining" => self.joining = nodes(value)?,
            "window-entries" => self.limits.window_entries = number(value, "a number")?,
            "append-entries" => self.limits.append_entries = number(value, "a number")?,
            "uncommitted-entries" => self.limits.uncommitted_entries = number(value, "a number")?,
            "cache-bytes" => self.limits.cache_bytes = number(value, "a number")?,
            "apply-bytes" => self.limits.apply_bytes = number(value, "a number")?,
            "waiting-reads" => self.limits.waiting_reads = number(value, "a number")?,
            _ => return self.set_priority(name, value),
        }
        Ok(true)
    }

    fn set_priority(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let priority = match value {
            "low" => Priority::Low,
            "normal" => Priority::Normal,
            "high" => Priority::High,
            _ => return Ok(false),
        };
        self.priorities.insert(node(name)?, priority);
        Ok(true)
    }

    fn build(self, count: u64) -> Result<World, String> {
        let voters = Voters::from_nodes((1..=count).map(NodeId));
        let learners = Voters::from_nodes(self.learners.iter().copied());
        let configuration = Configuration::new(voters, Voters::default(), learners).map_err(|e| e.to_string())?;
        let members = configuration.members().into_iter();
        let nodes = members.map(|id| (id, Node::new(self.config(id), Disk::founded(configuration.clone()))));
        let joining = self.joining.iter().map(|id| (*id, Node::new(self.config(*id), Disk::joining())));
        let nodes = nodes.chain(joining);
        let mut world = World::new(self.timing.election_timeout_min, nodes.collect());
        if !self.down {
            let ids: Vec<_> = world.nodes.keys().copied().collect();
            ids.into_iter().try_for_each(|id| world.start(id))?;
        }
        Ok(world)
    }

    fn config(&self, id: NodeId) -> CoreConfig {
        let mut config = CoreConfig::new(id, GROUP, self.seed);
        config.timing = self.timing.clone();
        config.limits = self.limits.clone();
        config.priority = self.priorities.get(&id).copied().unwrap_or_default();
        config.lease_reads = self.lease_reads;
        config.succession = self.succession;
        config
    }
}

/// `n4,n5`.
fn nodes(list: &str) -> Result<Vec<NodeId>, String> {
    list.split(',').map(node).collect()
}

/// `on-disk n1 t3 vote n2 promised 2E log 1 1 2 3`: term, vote, the longest promise it may have given (otherwise E), and
/// the terms of the entries after the founding one. Without `log` the entries stay as they are.
pub(crate) fn on_disk(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let id = words.node()?;
    let term: Term = words.term()?;
    let vote = if words.accept("vote") { Some(words.node()?) } else { None };
    let e = world.e;
    let longest_promise = if words.accept("promised") { words.duration(e)? } else { e };
    let node = world.nodes.get_mut(&id).filter(|node| node.core.is_none()).ok_or("the node is not down")?;
    let hard_state = HardState { term, vote, longest_promise };
    if words.accept("log") {
        let terms: Vec<u64> = words.all().into_iter().map(|word| number(word, "a term")).collect::<Result<_, _>>()?;
        let founding = node.disk.restore(Index::ZERO).configurations;
        let (_, configuration) = founding.into_iter().next().ok_or("the disk holds no configuration")?;
        node.disk = Disk::with_history(configuration, hard_state, &terms);
    } else {
        words.end()?;
        node.disk.hard_state = hard_state;
        node.disk.crash();
    }
    Ok(())
}
