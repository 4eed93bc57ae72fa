//! The commands: their table, and from the arguments of a request to what it asks for.
//!
//! A *write* goes through the replicated log. A *read* needs the leader's confirmation and then the store. A *count* of
//! every pair this node has takes a while. Everything else concerns this connection or this node and is answered at once.

use bytes::Bytes;

use super::admin::{self, Order};
use super::operation::{Condition, Operation};
use super::reply::Reply;
use super::slots::key_slot;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Write {
        operation: Operation,
        slot: u16,
    },
    Read(Read),
    CountDigest,
    /// Hands leadership to the node with this host and port for clients, or to whoever is fit.
    HandOver(Option<(Bytes, Bytes)>),
    Raft(Order),
    Local(Local),
}

/// A question about the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    Get(Bytes),
    MultiGet(Vec<Bytes>),
    Exists(Vec<Bytes>),
    Size,
}

impl Read {
    /// The slot to be named if another node has to answer.
    pub(crate) fn slot(&self) -> u16 {
        match self {
            Self::Get(key) => key_slot(key),
            Self::MultiGet(keys) | Self::Exists(keys) => keys.first().map_or(0, |key| key_slot(key)),
            Self::Size => 0,
        }
    }
}

/// What is answered without the group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Ping(Option<Bytes>),
    Echo(Bytes),
    Hello {
        protocol: Option<Bytes>,
        name: Option<Bytes>,
    },
    Select(Bytes),
    Info,
    ReadOnly(bool),
    ClientId,
    ClientGetName,
    ClientSetName(Bytes),
    /// `CLIENT` subcommands that change nothing here but that libraries send.
    ClientAccepted,
    ConfigGet(Vec<Bytes>),
    CommandAll,
    CommandCount,
    CommandInfo(Vec<Bytes>),
    CommandDocs(Vec<Bytes>),
    Cluster(ClusterQuestion),
    KeySlot(Bytes),
    Quit,
}

/// `CLUSTER` subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterQuestion {
    Slots,
    Shards,
    Nodes,
    Info,
    MyId,
}

/// One command, as `COMMAND` tells about it.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// Number of arguments with the name; negative: at least so many.
    pub(crate) arity: i64,
    pub(crate) flags: &'static [&'static str],
    /// First and last argument that is a key (last from the end if negative), and the step between keys; zeros: none.
    pub(crate) keys: (i64, i64, i64),
    pub(crate) group: &'static str,
    pub(crate) summary: &'static str,
    build: fn(&[Bytes]) -> Result<Request, Reply>,
}

const fn command(
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    keys: (i64, i64, i64),
    group: &'static str,
    summary: &'static str,
    build: fn(&[Bytes]) -> Result<Request, Reply>,
) -> Command {
    Command { name, arity, flags, keys, group, summary, build }
}

const NO_KEYS: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);

/// Every command, in alphabetical order. The builder gets the arguments behind the name, their number checked.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Command] = &[
    command("client", -2, &["loading", "stale"], NO_KEYS, "connection", "Id and name of this connection.", client),
    command("cluster", -2, &["loading", "stale"], NO_KEYS, "cluster", "Which node serves the slots.", cluster),
    command("command", -1, &["loading", "stale"], NO_KEYS, "server", "The commands of this server.", command_info),
    command("config", -2, &["admin", "loading", "stale"], NO_KEYS, "server", "CONFIG GET of a few parameters.", config),
    command("dbsize", 1, &["readonly", "fast"], NO_KEYS, "server", "The number of keys.", |_| Ok(Request::Read(Read::Size))),
    command("debug", -2, &["admin", "loading", "stale"], NO_KEYS, "server", "DEBUG DIGEST: a checksum counted from every pair of this node.", debug),
    command("del", -2, &["write"], ALL_KEYS, "generic", "Removes keys; answers how many there were.", delete),
    command("echo", 2, &["loading", "stale", "fast"], NO_KEYS, "connection", "Answers its argument.", |a| local(Local::Echo(a[0].clone()))),
    command("exists", -2, &["readonly", "fast"], ALL_KEYS, "generic", "How many of the keys exist.", |a| Ok(Request::Read(Read::Exists(a.to_vec())))),
    command("failover", -1, &["admin"], NO_KEYS, "server", "Hands the leadership over: to any node, or with TO host port to that one. Sent to the leader.", failover),
    command("get", 2, &["readonly", "fast"], ONE_KEY, "string", "The value of a key, linearizable on every node.", |a| Ok(Request::Read(Read::Get(a[0].clone())))),
    command("hello", -1, &["loading", "stale", "fast"], NO_KEYS, "connection", "Agrees on the version of the protocol.", hello),
    command("incr", 2, &["write", "denyoom", "fast"], ONE_KEY, "string", "Adds one to an integer; a missing key counts from 0.", increment),
    command("info", -1, &["loading", "stale"], NO_KEYS, "server", "The state of this node.", |_| local(Local::Info)),
    command("mget", -2, &["readonly", "fast"], ALL_KEYS, "string", "The values of several keys, of one instant.", |a| Ok(Request::Read(Read::MultiGet(a.to_vec())))),
    command("ping", -1, &["loading", "stale", "fast"], NO_KEYS, "connection", "Answers PONG, or its argument.", ping),
    command("quit", -1, &["loading", "stale", "fast"], NO_KEYS, "connection", "Closes this connection.", |_| local(Local::Quit)),
    command("raft", -2, &["admin"], NO_KEYS, "server", "The members of the group: RAFT HELP says more.", admin::parse),
    command("readonly", 1, &["loading", "stale", "fast"], NO_KEYS, "cluster", "Reads on this connection may be answered from a follower's own, possibly older, state.", |_| local(Local::ReadOnly(true))),
    command("readwrite", 1, &["loading", "stale", "fast"], NO_KEYS, "cluster", "Takes READONLY back.", |_| local(Local::ReadOnly(false))),
    command("select", 2, &["loading", "stale", "fast"], NO_KEYS, "connection", "There is one database, 0.", |a| local(Local::Select(a[0].clone()))),
    command("set", -3, &["write", "denyoom"], ONE_KEY, "string", "Sets a key: always, NX if it is missing, XX if it exists, IFEQ if it has a value.", set),
];

/// The command of this name, in upper or lower case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

/// What a request asks for.
///
/// # Errors
/// The reply that says what is wrong with it.
pub(crate) fn parse(arguments: &[Bytes], max_key_bytes: usize) -> Result<Request, Reply> {
    let Some((name, rest)) = arguments.split_first() else { return Err(Reply::error("ERR empty request")) };
    let Some(command) = find(name) else {
        return Err(Reply::error(format!("ERR unknown command '{}'", shown(name))));
    };
    let count = i64::try_from(arguments.len()).unwrap_or(i64::MAX);
    if count != command.arity && (command.arity > 0 || count < -command.arity) {
        return Err(wrong_arity(command.name));
    }
    let keys: &[Bytes] = match command.keys {
        NO_KEYS => &[],
        ONE_KEY => &rest[..1],
        _ => rest,
    };
    if keys.iter().any(|key| key.len() > max_key_bytes) {
        return Err(Reply::error(format!("ERR a key is longer than {max_key_bytes} bytes")));
    }
    (command.build)(rest)
}

fn local(local: Local) -> Result<Request, Reply> {
    Ok(Request::Local(local))
}

fn ping(arguments: &[Bytes]) -> Result<Request, Reply> {
    if arguments.len() > 1 { Err(wrong_arity("ping")) } else { local(Local::Ping(arguments.first().cloned())) }
}

fn set(arguments: &[Bytes]) -> Result<Request, Reply> {
    let (key, value) = (arguments[0].clone(), arguments[1].clone());
    let condition = match &arguments[2..] {
        [] => Condition::Always,
        [option] if is(option, "NX") => Condition::IfAbsent,
        [option] if is(option, "XX") => Condition::IfPresent,
        [option, expected] if is(option, "IFEQ") => Condition::IfEqual(expected.clone()),
        _ => return Err(Reply::error("ERR syntax error, SET key value takes one of NX, XX, IFEQ value")),
    };
    let slot = key_slot(&key);
    Ok(Request::Write { operation: Operation::Set { key, value, condition }, slot })
}

fn delete(arguments: &[Bytes]) -> Result<Request, Reply> {
    Ok(Request::Write { operation: Operation::Delete { keys: arguments.to_vec() }, slot: key_slot(&arguments[0]) })
}

fn increment(arguments: &[Bytes]) -> Result<Request, Reply> {
    let key = arguments[0].clone();
    let slot = key_slot(&key);
    Ok(Request::Write { operation: Operation::Increment { key }, slot })
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
fn hello(arguments: &[Bytes]) -> Result<Request, Reply> {
    let mut name = None;
    let mut rest = arguments.get(1..).unwrap_or_default();
    while let Some((option, more)) = rest.split_first() {
        match more {
            [value, more @ ..] if is(option, "SETNAME") => {
                name = Some(value.clone());
                rest = more;
            }
            [_, _, ..] if is(option, "AUTH") => return Err(Reply::error("ERR AUTH: this server has no passwords")),
            _ => return Err(Reply::error("ERR syntax error in HELLO")),
        }
    }
    local(Local::Hello { protocol: arguments.first().cloned(), name })
}

fn client(arguments: &[Bytes]) -> Result<Request, Reply> {
    match arguments {
        [what] if is(what, "ID") => local(Local::ClientId),
        [what] if is(what, "GETNAME") => local(Local::ClientGetName),
        [what, name] if is(what, "SETNAME") => local(Local::ClientSetName(name.clone())),
        [what, _, _] if is(what, "SETINFO") => local(Local::ClientAccepted),
        [what, _] if is(what, "NO-EVICT") || is(what, "NO-TOUCH") => local(Local::ClientAccepted),
        _ => Err(unknown_subcommand("CLIENT", &arguments[0], "ID, GETNAME, SETNAME, SETINFO")),
    }
}

fn config(arguments: &[Bytes]) -> Result<Request, Reply> {
    match arguments {
        [what, names @ ..] if is(what, "GET") && !names.is_empty() => local(Local::ConfigGet(names.to_vec())),
        _ => Err(unknown_subcommand("CONFIG", &arguments[0], "GET; a node is configured by its command line")),
    }
}

fn command_info(arguments: &[Bytes]) -> Result<Request, Reply> {
    match arguments {
        [] => local(Local::CommandAll),
        [what] if is(what, "COUNT") => local(Local::CommandCount),
        [what] if is(what, "INFO") => local(Local::CommandAll),
        [what, names @ ..] if is(what, "INFO") => local(Local::CommandInfo(names.to_vec())),
        [what, names @ ..] if is(what, "DOCS") => local(Local::CommandDocs(names.to_vec())),
        [what, ..] => Err(unknown_subcommand("COMMAND", what, "COUNT, INFO, DOCS")),
    }
}

fn cluster(arguments: &[Bytes]) -> Result<Request, Reply> {
    let question = match arguments {
        [what, key] if is(what, "KEYSLOT") => return local(Local::KeySlot(key.clone())),
        [what] if is(what, "SLOTS") => ClusterQuestion::Slots,
        [what] if is(what, "SHARDS") => ClusterQuestion::Shards,
        [what] if is(what, "NODES") => ClusterQuestion::Nodes,
        [what] if is(what, "INFO") => ClusterQuestion::Info,
        [what] if is(what, "MYID") => ClusterQuestion::MyId,
        _ => return Err(unknown_subcommand("CLUSTER", &arguments[0], "SLOTS, SHARDS, NODES, INFO, MYID, KEYSLOT")),
    };
    local(Local::Cluster(question))
}

fn debug(arguments: &[Bytes]) -> Result<Request, Reply> {
    match arguments {
        [what] if is(what, "DIGEST") => Ok(Request::CountDigest),
        _ => Err(unknown_subcommand("DEBUG", &arguments[0], "DIGEST")),
    }
}

fn failover(arguments: &[Bytes]) -> Result<Request, Reply> {
    match arguments {
        [] => Ok(Request::HandOver(None)),
        [to, host, port] if is(to, "TO") => Ok(Request::HandOver(Some((host.clone(), port.clone())))),
        _ => Err(Reply::error("ERR syntax error, FAILOVER takes nothing or TO host port")),
    }
}

fn is(argument: &Bytes, word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

pub(crate) fn wrong_arity(name: &str) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{name}' command"))
}

fn unknown_subcommand(command: &str, what: &[u8], known: &str) -> Reply {
    Reply::error(format!("ERR unknown subcommand or wrong arguments '{}', {command} knows: {known}", shown(what)))
}

/// What a client sent, as far as it fits into an error.
pub(crate) fn shown(text: &[u8]) -> String {
    text.iter().take(64).flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}

/// `COMMAND`, `COMMAND INFO`: what clients need to find the keys in a request.
pub(crate) fn describe(command: &Command) -> Reply {
    let (first, last, step) = command.keys;
    let flags = command.flags.iter().map(|flag| Reply::Status(flag)).collect();
    let numbers = [first, last, step].map(Reply::Integer);
    let mut items = vec![Reply::bulk(command.name), Reply::Integer(command.arity), Reply::Array(flags)];
    items.extend(numbers);
    Reply::Array(items)
}

/// `COMMAND DOCS`: what `redis-cli` shows as help.
pub(crate) fn document(command: &Command) -> (Reply, Reply) {
    let facts = [("summary", command.summary), ("since", "1.0.0"), ("group", command.group)];
    let facts = facts.into_iter().map(|(name, text)| (Reply::bulk(name), Reply::bulk(text))).collect();
    (Reply::bulk(command.name), Reply::Map(facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, Reply> {
        let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        parse(&arguments, 8)
    }

    fn refusal(line: &str) -> String {
        match parsed(line) {
            Err(Reply::Error(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_are_in_order_and_in_any_case() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        assert_eq!(parsed("gEt k"), Ok(Request::Read(Read::Get("k".into()))));
    }

    #[test]
    fn set_takes_one_condition() {
        let condition = |line: &str| match parsed(line) {
            Ok(Request::Write { operation: Operation::Set { condition, .. }, .. }) => condition,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(condition("SET k v"), Condition::Always);
        assert_eq!(condition("SET k v nx"), Condition::IfAbsent);
        assert_eq!(condition("SET k v XX"), Condition::IfPresent);
        assert_eq!(condition("SET k v ifeq w"), Condition::IfEqual("w".into()));
        for wrong in ["SET k v NX XX", "SET k v EX 10", "SET k v IFEQ"] {
            assert!(refusal(wrong).starts_with("ERR syntax error"), "{wrong}");
        }
    }

    #[test]
    fn failover_names_a_node_or_none() {
        assert_eq!(parsed("FAILOVER"), Ok(Request::HandOver(None)));
        assert_eq!(parsed("failover to h 7"), Ok(Request::HandOver(Some(("h".into(), "7".into())))));
        assert!(refusal("FAILOVER ABORT").starts_with("ERR syntax error"));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(refusal("FLUSHALL"), "ERR unknown command 'FLUSHALL'");
        assert_eq!(refusal("GET"), "ERR wrong number of arguments for 'get' command");
        assert_eq!(refusal("GET a b"), "ERR wrong number of arguments for 'get' command");
        assert_eq!(refusal("GET 123456789"), "ERR a key is longer than 8 bytes");
        assert_eq!(refusal("DEL a 123456789"), "ERR a key is longer than 8 bytes");
        assert!(refusal("CLIENT KILL x").contains("'KILL'"));
        assert!(refusal("HELLO 3 AUTH u p").contains("no passwords"));
    }

    /// No number of arguments makes a builder look for one that is not there.
    #[test]
    fn any_number_of_arguments_is_answered() {
        for command in COMMANDS {
            for count in 0..6 {
                let _ = parsed(&format!("{}{}", command.name, " x".repeat(count)));
            }
        }
    }
}
