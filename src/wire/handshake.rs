//! Who is there: the first bytes on a connection, once in each direction.
//!
//! ```text
//! dialer   -> acceptor   magic, frame Hello:  protocol versions, cluster, own node, wanted node, own store
//! acceptor -> dialer     magic, frame Answer: accepted with version and own store, or refused with a reason
//! ```
//!
//! Then messages flow from the dialer to the acceptor and never back. Nothing but the protocol version is negotiated.
//! A dialer that begins with the other magic wants snapshots: what follows then is said in `snapshot`. A node that does
//! not know that magic takes the connection for that of another protocol and closes it.
//!
//! Both bodies are protobuf with the rules of the control parts; a node that knows more fields than its peer may send
//! them.

use prost::Message as _;

use super::DecodeError;
use super::frame::{self, FrameKind, Front, HEADER_BYTES};
use crate::types::{ClusterId, NodeId, StoreId};

/// The first bytes of each direction.
pub const MAGIC: [u8; 8] = *b"tenure\r\n";
/// The first bytes of a dialer that wants snapshots.
pub const SNAPSHOT_MAGIC: [u8; 8] = *b"tenureS\n";
/// The oldest protocol version that this code speaks.
pub const VERSION_MIN: u32 = 1;
/// The newest protocol version that this code speaks.
pub const VERSION_MAX: u32 = 1;
/// The longest body of a handshake frame, in bytes: what a stranger may make us buffer.
pub const BODY_BYTES_MAX: usize = 512;

/// What a connection is for, as its first bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Messages from the dialer to the acceptor.
    Messages,
    /// Questions about snapshots, and their answers.
    Snapshots,
}

impl Purpose {
    /// What a dialer says first.
    #[must_use]
    pub fn magic(self) -> [u8; 8] {
        match self {
            Self::Messages => MAGIC,
            Self::Snapshots => SNAPSHOT_MAGIC,
        }
    }

    /// What the bytes at the beginning of a Hello that was parsed say.
    #[must_use]
    pub fn of(hello: &[u8]) -> Self {
        if hello.starts_with(&SNAPSHOT_MAGIC) { Self::Snapshots } else { Self::Messages }
    }
}

/// The dialer introduces itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The oldest and newest protocol version that the dialer speaks, both inclusive.
    pub versions: (u32, u32),
    /// Its cluster.
    pub cluster: ClusterId,
    /// The dialer.
    pub from: NodeId,
    /// Whom it wants to reach.
    pub to: NodeId,
    /// The dialer's store.
    pub store: StoreId,
}

/// The acceptor answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Go on.
    Accepted {
        /// The protocol version to speak.
        version: u32,
        /// The acceptor's store.
        store: StoreId,
    },
    /// No; the acceptor closes the connection.
    Refused(Refused),
}

/// Why a handshake was refused, said by the acceptor.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No common protocol version: one of the two is too old for the other.
    #[error("no common protocol version: the acceptor speaks {0} to {1}")]
    Version(u32, u32),
    /// Another cluster.
    #[error("wrong cluster: the acceptor belongs to {0}; check the addresses and the cluster ids")]
    Cluster(ClusterId),
    /// Another node answers at this address.
    #[error("wrong node: {0} answers at this address; check the peers' addresses")]
    Node(NodeId),
    /// The dialer uses the acceptor's own node id.
    #[error("the dialer uses the node id of the acceptor")]
    SameNode,
    /// The acceptor knows the dialer with another store.
    #[error(
        "store replaced: the acceptor knows the dialer with store {0}; bring the old directory back, or give the new \
         one a node id that was never used"
    )]
    StoreReplaced(StoreId),
    /// A reason that this version does not know.
    #[error("refused for a reason that this version does not know, number {0}")]
    Other(u32),
}

/// What the front of a stream is, if it is to be a `T`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed<T> {
    /// All of it; it took this many bytes.
    Complete {
        /// What it says.
        value: T,
        /// How many bytes it took.
        bytes: usize,
    },
    /// The beginning of it.
    Partial {
        /// How many bytes, counted from the beginning, are needed to go on; always more than there are.
        needed: usize,
    },
}

/// The version to speak with a peer that speaks `theirs` (inclusive): the newest that both know, if there is one.
#[must_use]
pub fn common_version(theirs: (u32, u32)) -> Option<u32> {
    let newest = theirs.1.min(VERSION_MAX);
    (newest >= theirs.0.max(VERSION_MIN)).then_some(newest)
}

/// Parses what a dialer sends first, with either magic: [`Purpose::of`] says which. Never blocks; allocates less than [`BODY_BYTES_MAX`]. Also for fuzzing.
///
/// # Errors
/// [`DecodeError`] as soon as it is clear that this is no Hello.
pub fn parse_hello(bytes: &[u8]) -> Result<Parsed<Hello>, DecodeError> {
    parse(bytes, &[MAGIC, SNAPSHOT_MAGIC], FrameKind::Hello, read_hello)
}

/// Parses what an acceptor sends back. Never blocks; allocates less than [`BODY_BYTES_MAX`]. Also for fuzzing.
///
/// # Errors
/// [`DecodeError`] as soon as it is clear that this is no Answer.
pub fn parse_answer(bytes: &[u8]) -> Result<Parsed<Answer>, DecodeError> {
    parse(bytes, &[MAGIC], FrameKind::Answer, read_answer)
}

impl Hello {
    /// Magic and frame of a connection for messages.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_for(Purpose::Messages)
    }

    /// Magic and frame.
    #[must_use]
    pub fn encode_for(&self, purpose: Purpose) -> Vec<u8> {
        let body = HelloBody {
            version_min: self.versions.0,
            version_max: self.versions.1,
            cluster: self.cluster.as_str().into(),
            from: self.from.0,
            to: self.to.0,
            store: store_bytes(self.store),
        };
        enclose(purpose.magic(), FrameKind::Hello, &body)
    }
}

impl Answer {
    /// Magic and frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = AnswerBody::default();
        match self {
            Self::Accepted { version, store } => {
                body.verdict = verdict::ACCEPTED;
                body.version = *version;
                body.store = store_bytes(*store);
            }
            Self::Refused(reason) => match reason {
                Refused::Version(min, max) => {
                    body.verdict = verdict::VERSION;
                    (body.version_min, body.version_max) = (*min, *max);
                }
                Refused::Cluster(cluster) => {
                    body.verdict = verdict::CLUSTER;
                    body.cluster = cluster.as_str().into();
                }
                Refused::Node(node) => {
                    body.verdict = verdict::NODE;
                    body.node = node.0;
                }
                Refused::SameNode => body.verdict = verdict::SAME_NODE,
                Refused::StoreReplaced(known) => {
                    body.verdict = verdict::STORE_REPLACED;
                    body.store = store_bytes(*known);
                }
                Refused::Other(number) => body.verdict = *number,
            },
        }
        enclose(MAGIC, FrameKind::Answer, &body)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct HelloBody {
    #[prost(uint32, tag = "1")]
    version_min: u32,
    #[prost(uint32, tag = "2")]
    version_max: u32,
    #[prost(string, tag = "3")]
    cluster: String,
    #[prost(uint64, tag = "4")]
    from: u64,
    #[prost(uint64, tag = "5")]
    to: u64,
    #[prost(bytes = "vec", tag = "6")]
    store: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnswerBody {
    #[prost(uint32, tag = "1")]
    verdict: u32,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(bytes = "vec", tag = "3")]
    store: Vec<u8>,
    #[prost(string, tag = "4")]
    cluster: String,
    #[prost(uint64, tag = "5")]
    node: u64,
    #[prost(uint32, tag = "6")]
    version_min: u32,
    #[prost(uint32, tag = "7")]
    version_max: u32,
}

/// Numbers of [`AnswerBody::verdict`]; 0 is a missing verdict, any other a refusal of a newer version.
mod verdict {
    pub(super) const ACCEPTED: u32 = 1;
    pub(super) const VERSION: u32 = 2;
    pub(super) const CLUSTER: u32 = 3;
    pub(super) const NODE: u32 = 4;
    pub(super) const SAME_NODE: u32 = 5;
    pub(super) const STORE_REPLACED: u32 = 6;
}

fn enclose(magic: [u8; 8], kind: FrameKind, body: &impl prost::Message) -> Vec<u8> {
    let mut out = magic.to_vec();
    let start = frame::open(&mut out);
    body.encode_raw(&mut out);
    frame::seal(&mut out, start, kind);
    out
}

fn parse<T>(
    bytes: &[u8],
    magics: &[[u8; 8]],
    wanted: FrameKind,
    read: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<Parsed<T>, DecodeError> {
    let magic = bytes.len().min(MAGIC.len());
    if !magics.iter().any(|known| bytes[..magic] == known[..magic]) {
        return Err(DecodeError::Magic);
    }
    if bytes.len() < MAGIC.len() + HEADER_BYTES {
        return Ok(Parsed::Partial { needed: MAGIC.len() + HEADER_BYTES });
    }
    match frame::front(&bytes[MAGIC.len()..], BODY_BYTES_MAX)? {
        Front::Partial { needed } => Ok(Parsed::Partial { needed: MAGIC.len() + needed }),
        Front::Frame { kind, .. } if kind != wanted as u8 => Err(DecodeError::FrameKind(kind)),
        Front::Frame { body, .. } => {
            Ok(Parsed::Complete { value: read(body)?, bytes: MAGIC.len() + HEADER_BYTES + body.len() })
        }
    }
}

fn read_hello(body: &[u8]) -> Result<Hello, DecodeError> {
    let body = HelloBody::decode(body).map_err(|error| control_error("Hello", &error))?;
    if body.from == 0 || body.to == 0 {
        return Err(DecodeError::Value { what: "a node id in a Hello", value: 0 });
    }
    Ok(Hello {
        versions: (body.version_min, body.version_max),
        cluster: read_cluster(body.cluster, "Hello")?,
        from: NodeId(body.from),
        to: NodeId(body.to),
        store: read_store(&body.store)?,
    })
}

fn read_answer(body: &[u8]) -> Result<Answer, DecodeError> {
    let body = AnswerBody::decode(body).map_err(|error| control_error("Answer", &error))?;
    let refused = match body.verdict {
        0 => return Err(DecodeError::Value { what: "the verdict of a handshake", value: 0 }),
        verdict::ACCEPTED => return Ok(Answer::Accepted { version: body.version, store: read_store(&body.store)? }),
        verdict::VERSION => Refused::Version(body.version_min, body.version_max),
        verdict::CLUSTER => Refused::Cluster(read_cluster(body.cluster, "Answer")?),
        verdict::NODE => Refused::Node(NodeId(body.node)),
        verdict::SAME_NODE => Refused::SameNode,
        verdict::STORE_REPLACED => Refused::StoreReplaced(read_store(&body.store)?),
        other => Refused::Other(other),
    };
    Ok(Answer::Refused(refused))
}

fn read_cluster(name: String, what: &'static str) -> Result<ClusterId, DecodeError> {
    ClusterId::new(name).map_err(|error| DecodeError::Control { what, reason: error.to_string() })
}

fn store_bytes(store: StoreId) -> Vec<u8> {
    store.0.to_le_bytes().to_vec()
}

fn read_store(bytes: &[u8]) -> Result<StoreId, DecodeError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(StoreId(u128::from_le_bytes(bytes))),
        Err(_) => Err(DecodeError::Value { what: "the length of a store id", value: bytes.len() as u64 }),
    }
}

fn control_error(what: &'static str, error: &prost::DecodeError) -> DecodeError {
    DecodeError::Control { what, reason: error.to_string() }
}
