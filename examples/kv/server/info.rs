//! The text of `INFO`, in the sections and with the names that tools for Redis look for.

use super::{Counters, Shared};

/// The version of Redis whose commands these are; clients choose their dialect by it.
pub(super) const REDIS_VERSION: &str = "7.0.0";

pub(super) fn text(shared: &Shared) -> String {
    let status = shared.replica.status();
    let totals = shared.store.totals();
    let role = if status.leads { "master" } else { "slave" };
    let leader = status.leader.map_or_else(|| "none".into(), |leader| leader.0.to_string());
    let counters = &shared.counters;
    let sections: [(&str, Vec<(&str, String)>); 6] = [
        (
            "Server",
            vec![
                ("redis_version", REDIS_VERSION.into()),
                ("redis_mode", "cluster".into()),
                ("tenure_version", env!("CARGO_PKG_VERSION").into()),
                ("process_id", std::process::id().to_string()),
                ("uptime_in_seconds", shared.started.elapsed().as_secs().to_string()),
                ("node_id", shared.given.own.0.to_string()),
            ],
        ),
        (
            "Clients",
            vec![
                ("connected_clients", Counters::get(&counters.connected).to_string()),
                ("maxclients", shared.limits.connections.to_string()),
            ],
        ),
        (
            "Stats",
            vec![
                ("total_connections_received", Counters::get(&counters.accepted).to_string()),
                ("rejected_connections", Counters::get(&counters.refused).to_string()),
                ("total_commands_processed", Counters::get(&counters.commands).to_string()),
                ("protocol_errors", Counters::get(&counters.protocol_errors).to_string()),
                ("slow_clients_closed", Counters::get(&counters.slow_clients).to_string()),
            ],
        ),
        (
            "Replication",
            vec![
                ("role", role.into()),
                ("leader_id", leader),
                ("term", status.term.to_string()),
                ("last_index", status.last.to_string()),
                ("commit_index", status.commit.to_string()),
                ("applied_index", totals.applied.0.to_string()),
                ("no_leader", status.no_leader.unwrap_or_else(|| "no".into())),
                ("stopped", status.stopped.unwrap_or_else(|| "no".into())),
            ],
        ),
        ("Cluster", vec![("cluster_enabled", "1".into())]),
        (
            "Keyspace",
            vec![
                ("db0", format!("keys={},expires=0,avg_ttl=0", totals.keys)),
                ("keys", totals.keys.to_string()),
                ("digest", format!("{:016x}", totals.digest)),
                ("durable_index", shared.store.durable().0.to_string()),
            ],
        ),
    ];
    let section = |(name, lines): &(&str, Vec<(&str, String)>)| {
        let lines: String = lines.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        format!("# {name}\r\n{lines}")
    };
    sections.iter().map(section).collect::<Vec<_>>().join("\r\n")
}
