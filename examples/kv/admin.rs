//! `RAFT`: the members and what they are doing, looked at and changed.
//!
//! A change is asked of the leader, says what the members are to be in the end, and names the configuration that it was made
//! from: if another administrator was faster, nothing is changed.
//!
//! Where a member is stands in the configuration, `PEER_HOST:PEER_PORT CLIENT_PORT`. The engine dials what stands before the
//! space; what stands behind it is for this program, which sends clients there. So both change together with the members,
//! and a node that hears of the configuration knows where everybody is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tenure::quorum::{Configuration, Voters};
use tenure::runtime::Change;
use tenure::types::{Index, NodeId};

use super::command::{Request, shown, wrong_arity};
use super::members::{Member, Members};
use super::reply::Reply;

/// How long new members may take to catch up, unless the command says.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest that a command may say: a day.
const MOST_SECONDS: u64 = 86_400;

/// What `RAFT` was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Status,
    Members,
    Help,
    Change(Wish),
    Transfer(Option<NodeId>),
    Snapshot,
    /// Into this file, on the host of the node that is asked.
    Backup(PathBuf),
}

/// What an administrator wants of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// This member goes.
    pub(crate) goes: Option<NodeId>,
    /// This one comes, as a voter.
    pub(crate) comes: Option<Member>,
    /// For so long it may catch up.
    pub(crate) patience: Duration,
}

/// One subcommand: its name, how many arguments it takes, and what it does.
type Usage = (&'static str, std::ops::RangeInclusive<usize>, &'static str);

const USAGE: &[Usage] = &[
    ("STATUS", 0..=0, "STATUS: what this node knows of the group."),
    ("MEMBERS", 0..=0, "MEMBERS: who is a member, where, and how far; lags are known to the leader."),
    ("ADD", 2..=4, "ADD id host:clientport@peerport [TIMEOUT seconds]: a new voter, once it has caught up."),
    ("REMOVE", 1..=1, "REMOVE id: a member goes."),
    (
        "REPLACE",
        3..=5,
        "REPLACE old new host:clientport@peerport [TIMEOUT seconds]: one goes and one comes, in one step.",
    ),
    ("TRANSFER", 0..=1, "TRANSFER [id]: another node is to lead; which one was told to is answered."),
    ("SNAPSHOT", 0..=0, "SNAPSHOT: this node takes a snapshot; the last index in it is answered."),
    ("BACKUP", 1..=1, "BACKUP path: this node takes a snapshot and writes it to a new file below its --backup-dir."),
    ("HELP", 0..=0, "HELP: this text."),
];

/// Reads what stands behind `RAFT`.
///
/// # Errors
/// The reply that says what is wrong with it, as Redis would put it.
pub(crate) fn parse(arguments: &[Bytes]) -> Result<Request, Reply> {
    let Some((name, rest)) = arguments.split_first() else { return Err(wrong_arity("raft")) };
    let Some((name, counts, _)) = USAGE.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes())) else {
        return Err(Reply::error(format!("ERR unknown subcommand '{}'. Try RAFT HELP.", shown(name))));
    };
    if !counts.contains(&rest.len()) {
        return Err(wrong_arity(&format!("raft|{}", name.to_lowercase())));
    }
    let order = match (*name, rest) {
        ("STATUS", _) => Order::Status,
        ("MEMBERS", _) => Order::Members,
        ("ADD", [new, at, timeout @ ..]) => Order::Change(Wish::new(None, Some(member(new, at)?), timeout)?),
        ("REMOVE", [old]) => Order::Change(Wish::new(Some(id(old)?), None, &[])?),
        ("REPLACE", [old, new, at, timeout @ ..]) => {
            Order::Change(Wish::new(Some(id(old)?), Some(member(new, at)?), timeout)?)
        }
        ("TRANSFER", to) => Order::Transfer(to.first().map(id).transpose()?),
        ("SNAPSHOT", _) => Order::Snapshot,
        ("BACKUP", [path]) => Order::Backup(OsStr::from_bytes(path).into()),
        _ => Order::Help,
    };
    Ok(Request::Raft(order))
}

/// `RAFT HELP`, in the form of the helps of Redis.
pub(crate) fn help() -> Reply {
    let lines = USAGE.iter().map(|(.., text)| Reply::Status(text));
    Reply::Array(
        std::iter::once(Reply::Status("RAFT <subcommand> [<arg> ...]. Subcommands are:")).chain(lines).collect(),
    )
}

fn id(text: &Bytes) -> Result<NodeId, Reply> {
    let id = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).filter(|id| *id > 0);
    id.map(NodeId).ok_or_else(|| Reply::error(format!("ERR '{}' is no node id, a number above 0", shown(text))))
}

fn member(new: &Bytes, at: &Bytes) -> Result<Member, Reply> {
    let text = format!("{}={}", id(new)?.0, String::from_utf8_lossy(at));
    text.parse().map_err(|_| {
        Reply::error(
            "ERR write an address as host:clientport@peerport, such as 127.0.0.1:7004@8004; both ports are above 0",
        )
    })
}

impl Wish {
    fn new(goes: Option<NodeId>, comes: Option<Member>, timeout: &[Bytes]) -> Result<Self, Reply> {
        let seconds =
            |text: &Bytes| std::str::from_utf8(text).ok()?.parse().ok().filter(|s| (1..=MOST_SECONDS).contains(s));
        let patience = match timeout {
            [] => PATIENCE,
            [word, text] if word.eq_ignore_ascii_case(b"TIMEOUT") => Duration::from_secs(
                seconds(text)
                    .ok_or_else(|| Reply::error(format!("ERR TIMEOUT takes seconds, from 1 to {MOST_SECONDS}")))?,
            ),
            _ => return Err(Reply::error("ERR syntax error, what may follow is TIMEOUT seconds")),
        };
        Ok(Self { goes, comes, patience })
    }

    /// The change that makes it come true, from the configuration in use, which stands at `in_use`. It also says where
    /// everybody is that is known: after a founding only the command lines say so.
    ///
    /// # Errors
    /// Why it cannot be, in words.
    pub(crate) fn plan(&self, now: &Configuration, in_use: Index, members: &Members) -> Result<Change, String> {
        let comes = self.comes.as_ref();
        if let Some(goes) = self.goes.filter(|goes| !now.is_member(*goes)) {
            return Err(format!("node {} is no member", goes.0));
        }
        let moves = |new: &Member| self.goes == Some(new.id);
        if let Some(new) = comes.filter(|new| now.is_voter(new.id) && !moves(new)) {
            return Err(format!("node {} is a voter already", new.id.0));
        }
        let stays = |node: &NodeId| Some(*node) != self.goes && Some(*node) != comes.map(|new| new.id);
        let stay = |nodes: &Voters| nodes.iter().filter(stays).collect::<Vec<_>>();
        if let Some((new, other)) = comes.and_then(|new| Some((new, members.neighbour(new, stays)?))) {
            return Err(format!("node {} cannot be where node {} is", new.id.0, other.0));
        }
        let voters = stay(now.voters()).into_iter().chain(comes.map(|new| new.id));
        let target =
            Configuration::new(Voters::from_nodes(voters), Voters::default(), Voters::from_nodes(stay(now.learners())));
        let target = target.map_err(|error| error.to_string())?;
        let known = target
            .members()
            .into_iter()
            .filter_map(|node| comes.filter(|new| new.id == node).or(members.all.get(&node)));
        let located = known
            .collect::<Vec<_>>()
            .into_iter()
            .try_fold(target, |all, member| all.with_address(member.id, &member.location()));
        let to = located.map_err(|error| error.to_string())?;
        Ok(Change { expected: Some(in_use), to, patience: self.patience })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Order, String> {
        let words: Vec<Bytes> = line.split_whitespace().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        match parse(&words) {
            Ok(Request::Raft(order)) => Ok(order),
            Err(Reply::Error(text)) => Err(text),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wish(line: &str) -> Wish {
        match parsed(line) {
            Ok(Order::Change(wish)) => wish,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// Three voters, founded without addresses, and a learner.
    fn plan(line: &str) -> Result<String, String> {
        let set = |ids: &[u64]| Voters::from_nodes(ids.iter().copied().map(NodeId));
        let now = Configuration::new(set(&[1, 2, 3]), set(&[]), set(&[5])).unwrap();
        let all = [1, 2, 3].map(|id: u64| format!("{id}=h:700{id}@800{id}").parse::<Member>().unwrap());
        let members = Members { own: NodeId(1), all: all.into_iter().map(|member| (member.id, member)).collect() };
        let change = wish(line).plan(&now, Index(9), &members)?;
        assert_eq!(change.expected, Some(Index(9)), "two administrators must not undo each other's work");
        Ok(change.to.to_string())
    }

    #[test]
    fn wishes_become_configurations() {
        let at = |id: u64| format!("n{id} at h:800{id} 700{id}");
        let say = |who: &str, places: &[u64]| {
            let places: Vec<String> = places.iter().map(|id| at(*id)).collect();
            Ok(format!("{who}, {}", places.join(", ")))
        };
        assert_eq!(plan("add 4 h:7004@8004"), say("n1 n2 n3 n4, learners n5", &[1, 2, 3, 4]));
        assert_eq!(plan("ADD 5 h:7005@8005"), say("n1 n2 n3 n5", &[1, 2, 3, 5]), "a learner that was left behind");
        assert_eq!(plan("REMOVE 1"), say("n2 n3, learners n5", &[2, 3]));
        assert_eq!(plan("REMOVE 5"), say("n1 n2 n3", &[1, 2, 3]));
        assert_eq!(plan("REPLACE 1 4 h:7004@8004"), say("n2 n3 n4, learners n5", &[2, 3, 4]));
        assert_eq!(
            plan("REPLACE 1 4 h:7001@8001"),
            Ok("n2 n3 n4, learners n5, n2 at h:8002 7002, n3 at h:8003 7003, n4 at h:8001 7001".into())
        );
        let moved = "n1 n2 n3, learners n5, n1 at i:8001 7001, n2 at h:8002 7002, n3 at h:8003 7003";
        assert_eq!(plan("REPLACE 1 1 i:7001@8001"), Ok(moved.into()), "a member may move");
    }

    #[test]
    fn wishes_that_cannot_be_are_refused() {
        assert_eq!(plan("ADD 2 h:7004@8004"), Err("node 2 is a voter already".into()));
        assert_eq!(plan("REMOVE 4"), Err("node 4 is no member".into()));
        assert_eq!(plan("REPLACE 4 6 h:7004@8004"), Err("node 4 is no member".into()));
        assert_eq!(plan("REPLACE 1 2 h:7004@8004"), Err("node 2 is a voter already".into()));
        assert_eq!(plan("ADD 4 h:7004@8002"), Err("node 4 cannot be where node 2 is".into()));
        assert_eq!(plan("ADD 4 h:7002@8004"), Err("node 4 cannot be where node 2 is".into()));
        let alone = Configuration::of_voters([NodeId(1)]).unwrap();
        let nobody = Members { own: NodeId(1), all: Default::default() };
        assert!(wish("REMOVE 1").plan(&alone, Index(1), &nobody).is_err(), "nobody could ever decide anything");
    }

    #[test]
    fn mistakes_are_named_as_redis_names_them() {
        assert_eq!(parsed(""), Err("ERR wrong number of arguments for 'raft' command".into()));
        assert_eq!(parsed("FOO"), Err("ERR unknown subcommand 'FOO'. Try RAFT HELP.".into()));
        for (line, name) in [("ADD 4", "add"), ("REMOVE", "remove"), ("status x", "status"), ("REPLACE 1 2", "replace")]
        {
            assert_eq!(parsed(line), Err(format!("ERR wrong number of arguments for 'raft|{name}' command")));
        }
        for wrong in
            ["ADD 0 h:1@2", "ADD n4 h:1@2", "ADD 4 h:1", "ADD 4 h:1@2 TIMEOUT", "ADD 4 h:1@2 TIMEOUT 0", "TRANSFER x"]
        {
            assert!(parsed(wrong).is_err_and(|text| text.starts_with("ERR ")), "{wrong}");
        }
        assert_eq!(wish("ADD 4 h:1@2 timeout 9").patience, Duration::from_secs(9));
        assert_eq!(parsed("transfer 3"), Ok(Order::Transfer(Some(NodeId(3)))));
        assert_eq!(parsed("Backup /x"), Ok(Order::Backup("/x".into())));
        assert_eq!(parsed("BACKUP"), Err("ERR wrong number of arguments for 'raft|backup' command".into()));
    }
}
