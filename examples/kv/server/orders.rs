//! What administrators order: `RAFT` and `FAILOVER`. Orders that take a while are answered when they are carried out, or
//! with what became of them; the event loop goes on meanwhile.

use std::sync::Arc;

use tenure::quorum::{Configuration, Voters};
use tenure::runtime::{SnapshotInfo, SnapshotStatus};
use tenure::snapshot::Progress;
use tenure::types::{Index, NodeId};

use super::super::admin::{self, Order, Wish};
use super::super::backup::Backup;
use super::super::replica::{Failure, Status};
use super::super::reply::{Protocol, Reply};
use super::Shared;
use super::connection::Connection;

/// Whom to answer.
pub(super) struct Orderer {
    pub(super) connection: Arc<Connection>,
    pub(super) protocol: Protocol,
}

impl Orderer {
    /// `RAFT`.
    pub(super) fn give(self, order: Order, shared: &Arc<Shared>) {
        match order {
            Order::Help => self.answer(admin::help()),
            Order::Status => self.answer(status(shared)),
            Order::Members => self.answer(members(shared)),
            Order::Transfer(to) => self.hand_over(shared, to, |node| number(node.0)),
            Order::Snapshot => {
                let done = self.later(shared, |last: Index| number(last.0));
                shared.replica.snapshot(Box::new(done));
            }
            Order::Backup(path) => {
                let done = self.later(shared, backed_up);
                shared.replica.backup(path, Box::new(done));
            }
            Order::Change(wish) => self.change(shared, &wish),
        }
    }

    /// Hands the leadership over, and answers as `told` says once the next leader was told.
    pub(super) fn hand_over(self, shared: &Arc<Shared>, to: Option<NodeId>, told: fn(NodeId) -> Reply) {
        let done = self.later(shared, told);
        shared.replica.hand_over(to, Box::new(done));
    }

    fn change(self, shared: &Arc<Shared>, wish: &Wish) {
        let status = shared.replica.status();
        let members = shared.given.of(&status.configuration);
        if !status.leads {
            return self.answer(members.moved(0, status.leader));
        }
        match wish.plan(&status.configuration, status.configured_at, &members) {
            Err(why) => self.answer(Reply::error(format!("ERR {why}; nothing was changed"))),
            Ok(change) => shared.replica.change(change, Box::new(self.later(shared, |_: Index| Reply::OK))),
        }
    }

    fn answer(self, reply: Reply) {
        self.connection.answer(self.protocol, 0, reply);
    }

    /// Takes a place for an answer, and returns what gives it.
    fn later<T: 'static>(
        self,
        shared: &Arc<Shared>,
        reply: fn(T) -> Reply,
    ) -> impl FnOnce(Result<T, Failure>) + Send + use<T> {
        let number = self.connection.wait(self.protocol, 0);
        let shared = shared.clone();
        move |result| {
            let answer = result.map_or_else(|failure| shared.refusal(&failure, 0), reply);
            self.connection.complete(number, answer);
        }
    }
}

fn number(number: u64) -> Reply {
    Reply::Integer(number.try_into().unwrap_or(i64::MAX))
}

fn backed_up(backup: Backup) -> Reply {
    facts([
        ("path", backup.path.display().to_string()),
        ("last_index", backup.last.index.0.to_string()),
        ("last_term", backup.last.term.0.to_string()),
        ("bytes", backup.bytes.to_string()),
    ])
}

/// What this node knows of the group.
fn status(shared: &Shared) -> Reply {
    let status = shared.replica.status();
    let Status { role, leader, term, base, last, commit, configuration, configured_at, snapshots, .. } = &status;
    let totals = shared.store.totals();
    let or = |text: Option<String>, otherwise: &str| text.unwrap_or_else(|| otherwise.into());
    let changing = configuration.is_joint() || configured_at.0 > *commit;
    let group = [
        ("node", shared.given.own.0.to_string()),
        ("role", (*role).into()),
        ("leader", or(leader.map(|leader| leader.0.to_string()), "none")),
        ("no_leader", or(status.no_leader.clone(), "no")),
        ("stopped", or(status.stopped.clone(), "no")),
        ("term", term.to_string()),
        ("base_index", base.to_string()),
        ("last_index", last.to_string()),
        ("commit_index", commit.to_string()),
        ("applied_index", shared.store.applied().0.to_string()),
        ("durable_index", shared.store.durable().0.to_string()),
        ("voters", list(configuration.voters().iter())),
        ("outgoing", list(outgoing(configuration))),
        ("learners", list(configuration.learners().iter())),
        ("configuration_index", configured_at.0.to_string()),
        ("changing", if changing { "yes" } else { "no" }.into()),
        ("keys", totals.keys.to_string()),
        ("digest", format!("{:016x}", totals.digest)),
    ];
    facts(group.into_iter().chain(snapshot_facts(snapshots)))
}

/// The newest snapshot here, and what becomes the next.
fn snapshot_facts(status: &SnapshotStatus) -> impl Iterator<Item = (&'static str, String)> {
    let newest = |fact: fn(&SnapshotInfo) -> String| status.newest.as_ref().map_or_else(|| "none".into(), fact);
    let fetching = |progress: &Progress| format!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
    [
        ("snapshot_index", newest(|newest| newest.last.index.0.to_string())),
        ("snapshot_bytes", newest(|newest| newest.bytes.to_string())),
        ("snapshot_maker", newest(|newest| newest.maker.0.to_string())),
        ("snapshot_unix_ms", newest(|newest| newest.created_ms.to_string())),
        ("snapshot_making", if status.making { "yes" } else { "no" }.into()),
        ("snapshot_fetching", status.fetching.as_ref().map_or_else(|| "no".into(), fetching)),
        ("snapshot_error", status.last_error.clone().unwrap_or_else(|| "no".into())),
        ("snapshots_taken", status.counters.taken.to_string()),
        ("snapshots_installed", status.counters.installed.to_string()),
    ]
    .into_iter()
}

/// Who is a member, where, and how far.
fn members(shared: &Shared) -> Reply {
    let status = shared.replica.status();
    let known = shared.given.of(&status.configuration).all;
    let (connected, own) = (shared.replica.connected(), shared.given.own);
    let member = |node: NodeId| {
        let at = known.get(&node);
        let matched = if status.leads && node == own { Some(status.last) } else { status.matched.get(&node).copied() };
        let number = |number: Option<u64>| number.map_or_else(|| "unknown".into(), |number| number.to_string());
        facts([
            ("id", node.0.to_string()),
            ("role", kind(&status.configuration, node).into()),
            ("leader", if status.leader == Some(node) { "yes" } else { "no" }.into()),
            ("clients", at.map_or_else(|| "unknown".into(), |at| at.resp_address())),
            ("peers", at.map_or_else(|| "unknown".into(), |at| at.peer_address())),
            ("match_index", number(matched)),
            ("lag", number(matched.map(|matched| status.last.saturating_sub(matched)))),
            ("connected", if node == own || connected.contains(&node) { "yes" } else { "no" }.into()),
        ])
    };
    Reply::Array(status.configuration.members().into_iter().map(member).collect())
}

/// A voter that goes when the joint configuration is left is `outgoing`.
fn kind(configuration: &Configuration, node: NodeId) -> &'static str {
    if configuration.voters().contains(node) {
        "voter"
    } else if configuration.is_voter(node) {
        "outgoing"
    } else {
        "learner"
    }
}

fn outgoing(configuration: &Configuration) -> impl Iterator<Item = NodeId> {
    configuration.halves().skip(1).flat_map(Voters::iter)
}

fn list(nodes: impl Iterator<Item = NodeId>) -> String {
    nodes.map(|node| node.0.to_string()).collect::<Vec<_>>().join(" ")
}

fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> Reply {
    Reply::Map(facts.into_iter().map(|(name, fact)| (Reply::bulk(name), Reply::bulk(fact))).collect())
}
