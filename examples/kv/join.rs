//! How a node gets into a cluster that exists.
//!
//! It has to know where the leader is before the leader can tell it anything: it gets messages, but cannot answer. So it
//! asks a member that it was told of, as a client does, until it has heard of the members from the leader; from then on the
//! configuration says where everybody is.
//!
//! That it joins is noted in its directory before it is founded. A node that founded a cluster of its own after a restart,
//! because somebody forgot a flag, would be a disaster.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, info, warn};
use tenure::runtime::{Group, Node};

use super::client::Connection;
use super::members::Member;
use super::note;
use super::store::Outcome;

const NOTE: &str = "join";

/// How long to wait before members are asked again.
const RETRY: Duration = Duration::from_millis(500);

/// Of so many attempts in vain one is logged.
const LOG_EVERY: u32 = 20;

/// Notes durably that the node in `dir` joins, and whom it asks: `host:port` for clients, one a line.
pub(crate) fn note(dir: &Path, members: &[String]) -> io::Result<()> {
    let lines: String = members.iter().map(|member| format!("{member}\n")).collect();
    note::write(dir, NOTE, lines.as_bytes())
}

/// Whom the node in `dir` asks, if it joins.
pub(crate) fn noted(dir: &Path) -> io::Result<Option<Vec<String>>> {
    let text = note::read(dir, NOTE)?.map(String::from_utf8).transpose().map_err(io::Error::other)?;
    Ok(text.map(|text| text.lines().map(String::from).collect()))
}

/// Asks until the group says who its members are, or the node is shut down. For a thread of its own.
pub(crate) fn learn(members: &[String], node: &Arc<Node>, group: &Group<Outcome>, logger: &Logger) {
    for attempt in 0.. {
        let Some(status) = group.status() else { return };
        if !status.core.configuration.voters().is_empty() {
            info!(logger, "this node has heard of the group"; "members" => %status.core.configuration);
            return;
        }
        for (member, answer) in members.iter().map(|member| (member, ask(member))) {
            match answer {
                Ok(known) => known.iter().for_each(|known| {
                    // Fails only if the node is shut down or out of threads, and is tried again.
                    let _ = node.set_peer(known.id, known.peer_address());
                }),
                Err(error) if attempt % LOG_EVERY == 0 => {
                    warn!(logger, "a member does not say who the members are"; "member" => member, "error" => %error);
                }
                Err(_) => {}
            }
        }
        std::thread::sleep(RETRY);
    }
}

/// The members that one of them knows.
fn ask(member: &str) -> io::Result<Vec<Member>> {
    let answer = Connection::open(member)?.ask(&[b"RAFT", b"MEMBERS"])?;
    let members = answer.maps().ok_or_else(|| io::Error::other(format!("it answers {answer:?}")))?;
    let known = members.iter().filter_map(|facts| {
        let (clients, peers) = (facts.get("clients")?, facts.get("peers")?.rsplit_once(':')?.1);
        format!("{}={clients}@{peers}", facts.get("id")?).parse().ok()
    });
    Ok(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node");
        assert_eq!(noted(&node).unwrap(), None);
        let members = ["h:7001".to_owned(), "[::1]:7002".to_owned()];
        note(&node, &members).unwrap();
        assert_eq!(noted(&node).unwrap().as_deref(), Some(&members[..]));
    }
}
