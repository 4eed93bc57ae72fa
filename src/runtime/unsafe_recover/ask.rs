//! Who of the others is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::sync::thread;
use crate::transport::{DialError, LocalIdentity, knock};
use crate::types::NodeId;
use crate::wire::handshake::Refused;

/// What was heard from a member when its addresses were tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// A node answers the handshake under its id.
    Answers {
        /// Where.
        address: String,
    },
    /// None does. That is no proof that it is gone: it may be up and cut off from here.
    Silent {
        /// For each address that was tried, what went wrong.
        tried: Vec<(String, String)>,
    },
}

impl Heard {
    /// Whether it answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        matches!(self, Self::Answers { .. })
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers { address } => write!(f, "ANSWERS at {address}"),
            Self::Silent { tried } if tried.is_empty() => f.write_str("no address is known, it was not asked"),
            Self::Silent { tried } => {
                f.write_str("does not answer")?;
                tried.iter().try_for_each(|(address, why)| {
                    if why.contains(address) { write!(f, "; {why}") } else { write!(f, "; {address}: {why}") }
                })
            }
        }
    }
}

/// Asks all of them, side by side. Blocks for as long as the slowest takes, some seconds.
pub(super) fn ask(
    identity: &LocalIdentity,
    others: &BTreeMap<NodeId, BTreeSet<String>>,
) -> std::io::Result<BTreeMap<NodeId, Heard>> {
    let mut asking = Vec::new();
    for (node, addresses) in others {
        let (identity, node, addresses) = (identity.clone(), *node, addresses.clone());
        let thread = thread::Builder::new().name(format!("tenure-ask-{node}"));
        asking.push((node, thread.spawn(move || ask_one(&identity, node, addresses))?));
    }
    let lost = || Heard::Silent { tried: vec![(String::new(), "asking it failed".into())] };
    Ok(asking.into_iter().map(|(node, thread)| (node, thread.join().unwrap_or_else(|_| lost()))).collect())
}

fn ask_one(identity: &LocalIdentity, node: NodeId, addresses: BTreeSet<String>) -> Heard {
    let mut tried = Vec::new();
    for address in addresses {
        match knock(identity, node, &address) {
            Err(error) if !is_there(&error) => tried.push((address, error.to_string())),
            _ => return Heard::Answers { address },
        }
    }
    Heard::Silent { tried }
}

/// Whether it is the node that says no. Another node, or one of another cluster, that took over its address is not.
fn is_there(error: &DialError) -> bool {
    matches!(error, DialError::Refused(refused) if !matches!(refused, Refused::Node(_) | Refused::Cluster(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, StoreId};
    use std::io;

    /// A node that refuses is there; who lives at its address now, and who does not answer, is not it.
    #[test]
    fn a_refusal_is_an_answer_if_it_is_the_nodes_own() {
        for own in [Refused::StoreReplaced(StoreId(7)), Refused::Version(8, 9), Refused::SameNode, Refused::Other(77)] {
            assert!(is_there(&DialError::Refused(own.clone())), "{own}");
        }
        for other in [Refused::Node(NodeId(9)), Refused::Cluster(ClusterId::new("other").unwrap())] {
            assert!(!is_there(&DialError::Refused(other.clone())), "{other}");
        }
        assert!(!is_there(&DialError::Handshake(io::ErrorKind::UnexpectedEof.into())));
        assert!(!is_there(&DialError::Resolve { address: "n:1".into(), reason: "none".into() }));
    }
}
