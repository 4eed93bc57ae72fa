//! The nodes, as the operator names them and as clients are told about them.

use std::collections::BTreeMap;
use std::str::FromStr;

use tenure::quorum::Configuration;
use tenure::types::NodeId;

use super::command::ClusterQuestion;
use super::reply::Reply;
use super::slots::SLOTS;

/// One node: `ID=HOST:RESP_PORT@PEER_PORT`, the notation of Redis Cluster (client port @ bus port).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) host: String,
    pub(crate) resp_port: u16,
    pub(crate) peer_port: u16,
}

impl Member {
    /// Where clients connect, `host:port`.
    pub(crate) fn resp_address(&self) -> String {
        address(&self.host, self.resp_port)
    }

    /// Where peers connect, `host:port`.
    pub(crate) fn peer_address(&self) -> String {
        address(&self.host, self.peer_port)
    }

    /// What a configuration says of where it is (see [`admin`](super::admin)).
    pub(crate) fn location(&self) -> String {
        format!("{} {}", self.peer_address(), self.resp_port)
    }

    /// The reverse of [`location`](Self::location); `None` if somebody else wrote it.
    fn at(id: NodeId, location: &str) -> Option<Self> {
        let (peer, resp_port) = location.split_once(' ')?;
        let (host, peer_port) = peer.rsplit_once(':')?;
        format!("{}={host}:{resp_port}@{peer_port}", id.0).parse().ok()
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A `--peer` that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a peer as ID=HOST:RESP_PORT@PEER_PORT, such as 1=127.0.0.1:7001@8001; the id and both ports are above 0"
)]
pub(crate) struct InvalidMember;

impl FromStr for Member {
    type Err = InvalidMember;

    fn from_str(text: &str) -> Result<Self, InvalidMember> {
        let (id, rest) = text.split_once('=').ok_or(InvalidMember)?;
        let (resp, peer_port) = rest.rsplit_once('@').ok_or(InvalidMember)?;
        let (host, resp_port) = resp.rsplit_once(':').ok_or(InvalidMember)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let port = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or(InvalidMember);
        let id = id.parse().ok().filter(|id| *id > 0).ok_or(InvalidMember)?;
        if host.is_empty() || host.contains(char::is_whitespace) || (host.contains(':') && bracketed.is_none()) {
            return Err(InvalidMember);
        }
        Ok(Self { id: NodeId(id), host: host.into(), resp_port: port(resp_port)?, peer_port: port(peer_port)? })
    }
}

/// All nodes, and which of them this one is.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    pub(crate) own: NodeId,
    pub(crate) all: BTreeMap<NodeId, Member>,
}

impl Members {
    /// The members of a configuration, each where it says or else where the command line, `self`, says. Before any is
    /// known: those of the command line.
    pub(crate) fn of(&self, configuration: &Configuration) -> Self {
        if configuration.voters().is_empty() {
            return self.clone();
        }
        let mut all = self.all.clone();
        all.extend(configuration.addresses().filter_map(|(id, location)| Some((id, Member::at(id, location)?))));
        all.retain(|id, _| configuration.is_member(*id));
        Self { own: self.own, all }
    }

    /// Which of those that count has an address of `member`.
    pub(crate) fn neighbour(&self, member: &Member, counts: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let same = |other: &&Member| {
            other.resp_address() == member.resp_address() || other.peer_address() == member.peer_address()
        };
        self.all.values().filter(|other| counts(&other.id)).find(same).map(|other| other.id)
    }

    /// `-MOVED slot host:port`, or why nobody can be named.
    pub(crate) fn moved(&self, slot: u16, leader: Option<NodeId>) -> Reply {
        match leader.filter(|leader| *leader != self.own).map(|leader| (leader, self.all.get(&leader))) {
            Some((_, Some(member))) => Reply::error(format!("MOVED {slot} {}", member.resp_address())),
            Some((leader, None)) => {
                Reply::error(format!("CLUSTERDOWN the leader is {leader}, where it is is not known here"))
            }
            None => Reply::error("CLUSTERDOWN no leader is known; not executed, try again"),
        }
    }

    /// The node with this host and port for clients.
    pub(crate) fn find(&self, host: &[u8], port: &[u8]) -> Option<NodeId> {
        let port: u16 = std::str::from_utf8(port).ok()?.parse().ok()?;
        let found = self.all.values().find(|member| member.host.as_bytes() == host && member.resp_port == port);
        found.map(|member| member.id)
    }

    /// Answers a `CLUSTER` question: one shard, its master is the leader.
    pub(crate) fn answer(&self, question: ClusterQuestion, leader: Option<NodeId>, term: u64) -> Reply {
        let leader = leader.and_then(|leader| self.all.get(&leader));
        match question {
            ClusterQuestion::Slots => self.slots(leader),
            ClusterQuestion::Shards => self.shards(leader),
            ClusterQuestion::Nodes => self.nodes(leader, term),
            ClusterQuestion::Info => self.info(leader, term),
            ClusterQuestion::MyId => Reply::bulk(name(self.own)),
        }
    }

    /// The leader first, then the others.
    fn leader_first<'a>(&'a self, leader: &'a Member) -> impl Iterator<Item = &'a Member> {
        let others = self.all.values().filter(|member| member.id != leader.id);
        std::iter::once(leader).chain(others)
    }

    fn slots(&self, leader: Option<&Member>) -> Reply {
        let Some(leader) = leader else { return Reply::Array(Vec::new()) };
        let node = |member: &Member| {
            let port = Reply::Integer(member.resp_port.into());
            Reply::Array(vec![
                Reply::bulk(member.host.as_str()),
                port,
                Reply::bulk(name(member.id)),
                Reply::Array(vec![]),
            ])
        };
        let mut range = vec![Reply::Integer(0), Reply::Integer(i64::from(SLOTS) - 1)];
        range.extend(self.leader_first(leader).map(node));
        Reply::Array(vec![Reply::Array(range)])
    }

    fn shards(&self, leader: Option<&Member>) -> Reply {
        let node = |member: &Member| {
            let role = if leader.is_some_and(|leader| leader.id == member.id) { "master" } else { "replica" };
            map([
                ("id", Reply::bulk(name(member.id))),
                ("port", Reply::Integer(member.resp_port.into())),
                ("ip", Reply::bulk(member.host.as_str())),
                ("endpoint", Reply::bulk(member.host.as_str())),
                ("role", Reply::bulk(role)),
                ("replication-offset", Reply::Integer(0)),
                ("health", Reply::bulk("online")),
            ])
        };
        let last = i64::from(SLOTS) - 1;
        let slots = if leader.is_some() { vec![Reply::Integer(0), Reply::Integer(last)] } else { Vec::new() };
        let nodes = match leader {
            Some(leader) => self.leader_first(leader).map(node).collect(),
            None => self.all.values().map(node).collect(),
        };
        Reply::Array(vec![map([("slots", Reply::Array(slots)), ("nodes", Reply::Array(nodes))])])
    }

    fn nodes(&self, leader: Option<&Member>, term: u64) -> Reply {
        let line = |member: &Member| {
            let leads = leader.is_some_and(|leader| leader.id == member.id);
            let myself = if member.id == self.own { "myself," } else { "" };
            let (role, master) = match leader {
                Some(leader) if !leads => ("slave", name(leader.id)),
                _ => ("master", "-".into()),
            };
            let slots = if leads { format!(" 0-{}", SLOTS - 1) } else { String::new() };
            let (id, address, bus) = (name(member.id), member.resp_address(), member.peer_port);
            format!("{id} {address}@{bus} {myself}{role} {master} 0 0 {term} connected{slots}\n")
        };
        Reply::bulk(self.all.values().map(line).collect::<String>())
    }

    fn info(&self, leader: Option<&Member>, term: u64) -> Reply {
        let state = if leader.is_some() { "ok" } else { "fail" };
        let assigned = if leader.is_some() { SLOTS } else { 0 };
        let nodes = self.all.len();
        Reply::bulk(format!(
            "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
             cluster_slots_ok:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
             cluster_known_nodes:{nodes}\r\ncluster_size:1\r\ncluster_current_epoch:{term}\r\n"
        ))
    }
}

/// A node id as Redis Cluster writes it: 40 hexadecimal digits.
fn name(id: NodeId) -> String {
    format!("{:040x}", id.0)
}

fn map<const N: usize>(pairs: [(&str, Reply); N]) -> Reply {
    Reply::Map(pairs.into_iter().map(|(key, value)| (Reply::bulk(key), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let all = ["1=10.0.0.1:7001@8001", "2=[::1]:7002@8002", "3=kv.example:7003@8003"];
        let all = all.map(|text| text.parse::<Member>().unwrap());
        Members { own: NodeId(1), all: all.into_iter().map(|member| (member.id, member)).collect() }
    }

    #[test]
    fn peers_are_written_as_redis_cluster_writes_them() {
        let two = &members().all[&NodeId(2)];
        assert_eq!((two.resp_address(), two.peer_address()), ("[::1]:7002".into(), "[::1]:8002".into()));
        for wrong in
            ["", "1", "1=h:1", "1=h@2", "0=h:1@2", "1=:1@2", "1=h:0@2", "1=h:1@0", "1=::1:7@8", "1=h:1@x", "x=h:1@2"]
        {
            assert_eq!(wrong.parse::<Member>(), Err(InvalidMember), "{wrong}");
        }
    }

    /// The configuration stands above the command line, which stands in where it says nothing.
    #[test]
    fn members_are_where_the_configuration_says() {
        let members = members();
        let of = |configuration| {
            let found = members.of(&configuration).all.into_values();
            found
                .map(|member| format!("{}={}@{}", member.id.0, member.resp_address(), member.peer_port))
                .collect::<Vec<_>>()
        };
        let two = Configuration::of_voters([NodeId(2), NodeId(4)]).unwrap();
        assert_eq!(of(two.clone()), ["2=[::1]:7002@8002"], "nobody said where node 4 is");
        let four = "4=[::1]:7004@8004".parse::<Member>().unwrap();
        let located = two.with_address(NodeId(4), &four.location()).unwrap();
        let located = located.with_address(NodeId(2), "10.0.0.9:8009 7009").unwrap();
        assert_eq!(of(located), ["2=10.0.0.9:7009@8009", "4=[::1]:7004@8004"]);
        assert_eq!(of(Configuration::default()).len(), 3, "nothing is known yet");
    }

    #[test]
    fn moved_names_the_leader_or_says_why_not() {
        let moved = |leader| match members().moved(7, leader) {
            Reply::Error(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(moved(Some(NodeId(2))), "MOVED 7 [::1]:7002");
        assert!(moved(None).starts_with("CLUSTERDOWN no leader"));
        assert!(moved(Some(NodeId(1))).starts_with("CLUSTERDOWN"), "a client must not be sent back here");
        assert!(moved(Some(NodeId(9))).starts_with("CLUSTERDOWN the leader is n9"));
    }

    #[test]
    fn the_leader_serves_all_slots() {
        let Reply::Bulk(nodes) = members().answer(ClusterQuestion::Nodes, Some(NodeId(3)), 5) else { panic!() };
        let nodes = String::from_utf8(nodes.to_vec()).unwrap();
        let lines: Vec<&str> = nodes.lines().collect();
        let (one, three) = (name(NodeId(1)), name(NodeId(3)));
        assert_eq!(lines[0], format!("{one} 10.0.0.1:7001@8001 myself,slave {three} 0 0 5 connected"));
        assert_eq!(lines[2], format!("{three} kv.example:7003@8003 master - 0 0 5 connected 0-16383"));
        assert_eq!(members().answer(ClusterQuestion::Slots, None, 5), Reply::Array(vec![]));
    }
}
