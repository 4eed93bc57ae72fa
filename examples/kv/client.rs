//! A small client: one request at a time, and a clear word on what became of it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Answer>),
}

impl Answer {
    /// A map: its names and facts, in order.
    pub(crate) fn pairs(&self) -> Option<Vec<(String, String)>> {
        let Self::Array(items) = self else { return None };
        let text = |item: &Self| match item {
            Self::Bulk(Some(text)) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        };
        items.chunks(2).map(|pair| Some((text(pair.first()?)?, text(pair.get(1)?)?))).collect()
    }

    /// An array of maps.
    pub(crate) fn maps(&self) -> Option<Vec<BTreeMap<String, String>>> {
        let Self::Array(items) = self else { return None };
        items.iter().map(|item| Some(item.pairs()?.into_iter().collect())).collect()
    }
}

/// Longest line, bulk string or array that is taken from a server.
const LIMIT: u64 = 64 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that does not answer for so long is taken for dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection to one node.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Connection {
    /// Connects, blocking for two seconds at most.
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream: BufReader::new(stream), request: Vec::new() })
    }

    /// The same, waiting for an answer for so long.
    pub(crate) fn patient(self, limit: Duration) -> io::Result<Self> {
        self.stream.get_ref().set_read_timeout(Some(limit))?;
        Ok(self)
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// After an error the connection is of no more use, and whether the request was executed is unknown.
    pub(crate) fn ask(&mut self, arguments: &[&[u8]]) -> io::Result<Answer> {
        self.request.clear();
        write!(self.request, "*{}\r\n", arguments.len())?;
        for argument in arguments {
            write!(self.request, "${}\r\n", argument.len())?;
            self.request.extend_from_slice(argument);
            self.request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&self.request)?;
        self.answer(0)
    }

    fn answer(&mut self, depth: usize) -> io::Result<Answer> {
        let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("malformed reply: {what}"));
        let line = self.line()?;
        let (kind, text) = line.split_at_checked(1).ok_or_else(|| malformed("empty line"))?;
        let number = || text.parse::<i64>().map_err(|_| malformed(&line));
        match kind {
            "+" => Ok(Answer::Status(text.into())),
            "-" => Ok(Answer::Error(text.into())),
            ":" => Ok(Answer::Integer(number()?)),
            "$" => match u64::try_from(number()?) {
                Err(_) => Ok(Answer::Bulk(None)),
                Ok(length) if length > LIMIT => Err(malformed(&line)),
                Ok(length) => self.bulk(length).map(|bytes| Answer::Bulk(Some(bytes))),
            },
            "*" if depth < 4 => {
                let count = u64::try_from(number()?).unwrap_or(0).min(LIMIT);
                (0..count).map(|_| self.answer(depth + 1)).collect::<io::Result<_>>().map(Answer::Array)
            }
            _ => Err(malformed(&line)),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(LIMIT).read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(text) => Ok(text.into()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn bulk(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.stream).take(length + 2).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length + 2 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(bytes.len() - 2);
        Ok(bytes)
    }
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Executed, this is the answer.
    Answered(Answer),
    /// Certainly not executed. It may be tried again at once if another node was named, else after a while.
    Refused { at_once: bool },
    /// Perhaps executed.
    Unknown,
}

/// A client that finds the leader, as any client of a Redis cluster does: it follows `-MOVED`, and asks the next node
/// when one is gone.
pub(crate) struct Redirected {
    nodes: Vec<String>,
    target: String,
    connections: HashMap<String, Connection>,
    /// Attempts in a row that came to nothing.
    in_vain: u32,
}

impl Redirected {
    pub(crate) fn new(nodes: Vec<String>) -> Self {
        let target = nodes.first().cloned().unwrap_or_default();
        Self { nodes, target, connections: HashMap::new(), in_vain: 0 }
    }

    /// One attempt to have a request executed.
    pub(crate) fn attempt(&mut self, arguments: &[&[u8]]) -> Outcome {
        let outcome = self.ask(arguments);
        self.in_vain = if matches!(outcome, Outcome::Answered(_)) { 0 } else { self.in_vain + 1 };
        outcome
    }

    /// How long to wait before the next attempt: longer and longer, for while there is no leader every client waits, and
    /// the nodes need the machine for their election.
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(1 << self.in_vain.min(4))
    }

    fn ask(&mut self, arguments: &[&[u8]]) -> Outcome {
        let connection = match self.connections.entry(self.target.clone()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => match Connection::open(vacant.key()) {
                Ok(connection) => vacant.insert(connection),
                Err(_) => {
                    self.next_node();
                    return Outcome::Refused { at_once: false };
                }
            },
        };
        match connection.ask(arguments) {
            Ok(Answer::Error(text)) => self.refused(text),
            Ok(answer) => Outcome::Answered(answer),
            Err(_) => {
                self.connections.remove(&self.target);
                self.next_node();
                Outcome::Unknown
            }
        }
    }

    fn refused(&mut self, text: String) -> Outcome {
        let mut words = text.split(' ');
        match (words.next(), words.nth(1)) {
            (Some("MOVED"), Some(address)) => {
                self.target = address.into();
                Outcome::Refused { at_once: true }
            }
            (Some("CLUSTERDOWN"), _) => {
                self.next_node();
                Outcome::Refused { at_once: false }
            }
            (Some("BUSY" | "TRYAGAIN"), _) => Outcome::Refused { at_once: false },
            (Some("UNKNOWN"), _) => Outcome::Unknown,
            _ => Outcome::Answered(Answer::Error(text)),
        }
    }

    fn next_node(&mut self) {
        let at = self.nodes.iter().position(|node| *node == self.target).map_or(0, |at| at + 1);
        if let Some(node) = self.nodes.get(at % self.nodes.len().max(1)) {
            self.target = node.clone();
        }
    }
}
