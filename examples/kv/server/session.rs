//! What one connection has agreed on, and the answers to what concerns only it or this node.

use bytes::Bytes;
use mio::Token;
use std::sync::atomic::Ordering;

use super::super::command::{self, COMMANDS, Local};
use super::super::reply::{Protocol, Reply};
use super::super::slots::key_slot;
use super::Shared;
use super::info;

/// The state of a conversation; only the event loop sees it.
pub(super) struct Session {
    pub(super) protocol: Protocol,
    /// Reads may be answered from a follower's own state.
    pub(super) read_only: bool,
    id: i64,
    name: Bytes,
}

impl Session {
    pub(super) fn new(token: Token) -> Self {
        let id = i64::try_from(token.0).unwrap_or(i64::MAX);
        Self { protocol: Protocol::default(), read_only: false, id, name: Bytes::new() }
    }

    /// Answers what needs neither the group nor the data.
    pub(super) fn answer(&mut self, question: Local, shared: &Shared) -> Reply {
        match question {
            Local::Ping(None) => Reply::Status("PONG"),
            Local::Ping(Some(text)) | Local::Echo(text) => Reply::Bulk(text),
            Local::Hello { protocol, name } => self.hello(protocol.as_deref(), name, shared),
            Local::Select(number) if &number[..] == b"0" => Reply::OK,
            Local::Select(_) => Reply::error("ERR there is one database, 0"),
            Local::Info => Reply::bulk(info::text(shared)),
            Local::ReadOnly(read_only) => {
                self.read_only = read_only;
                Reply::OK
            }
            Local::ClientId => Reply::Integer(self.id),
            Local::ClientGetName if self.name.is_empty() => Reply::Null,
            Local::ClientGetName => Reply::Bulk(self.name.clone()),
            Local::ClientSetName(name) => self.set_name(name).err().unwrap_or(Reply::OK),
            Local::ClientAccepted | Local::Quit => Reply::OK,
            Local::ConfigGet(patterns) => config(&patterns, shared),
            Local::CommandAll => Reply::Array(COMMANDS.iter().map(command::describe).collect()),
            Local::CommandCount => Reply::Integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
            Local::CommandInfo(names) => {
                let describe = |name: &Bytes| command::find(name).map_or(Reply::Null, command::describe);
                Reply::Array(names.iter().map(describe).collect())
            }
            Local::CommandDocs(names) if names.is_empty() => {
                Reply::Map(COMMANDS.iter().map(command::document).collect())
            }
            Local::CommandDocs(names) => {
                Reply::Map(names.iter().filter_map(|name| command::find(name)).map(command::document).collect())
            }
            Local::Cluster(question) => {
                let status = shared.replica.status();
                shared.given.of(&status.configuration).answer(question, status.leader, status.term)
            }
            Local::KeySlot(key) => Reply::Integer(key_slot(&key).into()),
        }
    }

    fn hello(&mut self, protocol: Option<&[u8]>, name: Option<Bytes>, shared: &Shared) -> Reply {
        let protocol = match protocol {
            None => self.protocol,
            Some(b"2") => Protocol::Resp2,
            Some(b"3") => Protocol::Resp3,
            Some(_) => return Reply::error("NOPROTO unsupported protocol version, 2 and 3 are spoken"),
        };
        if let Some(Err(refused)) = name.map(|name| self.set_name(name)) {
            return refused;
        }
        self.protocol = protocol;
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        let role = if shared.replica.status().leads { "master" } else { "replica" };
        let facts = [
            ("server", Reply::bulk("redis")),
            ("version", Reply::bulk(info::REDIS_VERSION)),
            ("proto", Reply::Integer(version)),
            ("id", Reply::Integer(self.id)),
            ("mode", Reply::bulk("cluster")),
            ("role", Reply::bulk(role)),
            ("modules", Reply::Array(Vec::new())),
        ];
        Reply::Map(facts.into_iter().map(|(name, fact)| (Reply::bulk(name), fact)).collect())
    }

    fn set_name(&mut self, name: Bytes) -> Result<(), Reply> {
        if name.len() > 64 || !name.iter().all(u8::is_ascii_graphic) {
            return Err(Reply::error("ERR a client name has at most 64 printable characters and no spaces"));
        }
        self.name = name;
        Ok(())
    }
}

/// The parameters that clients ask for before they start; values as Redis would give them.
fn config(patterns: &[Bytes], shared: &Shared) -> Reply {
    let parameters = [
        ("save", String::new()),
        ("appendonly", "yes".into()),
        ("databases", "1".into()),
        ("maxclients", shared.limits.connections.to_string()),
        ("proto-max-bulk-len", shared.limits.request.argument_bytes.to_string()),
    ];
    let wanted = |name: &str| {
        patterns.iter().any(|pattern| &pattern[..] == b"*" || pattern.eq_ignore_ascii_case(name.as_bytes()))
    };
    let found = parameters.into_iter().filter(|(name, _)| wanted(name));
    Reply::Map(found.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect())
}

impl super::Counters {
    pub(super) fn get(counter: &std::sync::atomic::AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
