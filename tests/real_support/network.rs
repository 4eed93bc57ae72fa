//! The network between the nodes, of either kind, and what can be done to it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::NODES;
use super::namespaces::Namespaces;
use super::packets::Treatment;
use super::proxy::{Link, Proxies};

pub(crate) enum Network {
    Namespaces(Namespaces),
    Loopback(Proxies),
}

impl Network {
    pub(crate) fn new(namespaces: bool) -> Self {
        if namespaces { Self::Namespaces(Namespaces::new()) } else { Self::Loopback(Proxies::new()) }
    }

    /// Namespaces: single packets can be lost, altered and put in another order, and there is a file system of our own.
    pub(crate) fn is_isolated(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// Starts a program where node `at` lives.
    pub(crate) fn command(&self, at: usize, program: &Path) -> Command {
        match self {
            Self::Namespaces(network) => network.command(at, program),
            Self::Loopback(_) => Command::new(program),
        }
    }

    pub(crate) fn client_address(&self, at: usize) -> SocketAddr {
        match self {
            Self::Namespaces(_) => Namespaces::client_address(at),
            Self::Loopback(proxies) => proxies.client_address(at),
        }
    }

    /// All nodes as node `at` reaches them, in the words of `kv serve --peer`.
    pub(crate) fn peers(&self, at: usize) -> Vec<String> {
        let peer_port = |to: usize| match self {
            Self::Namespaces(_) => Namespaces::PEER_PORT,
            Self::Loopback(proxies) => proxies.peer_port(at, to),
        };
        (0..NODES).map(|to| format!("{}={}@{}", to + 1, self.client_address(to), peer_port(to))).collect()
    }

    /// Nothing goes from one node to another any more. The other direction is not touched.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        match self {
            Self::Namespaces(network) => network.drop_all(from, to),
            Self::Loopback(proxies) => proxies.link(from, to).cut(true),
        }
    }

    pub(crate) fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Resets the connections between two nodes.
    pub(crate) fn reset(&self, one: usize, other: usize) {
        match self {
            Self::Namespaces(network) => {
                network.reject(one, other);
                network.reject(other, one);
            }
            Self::Loopback(proxies) => {
                proxies.link(one, other).reset();
                proxies.link(other, one).reset();
            }
        }
    }

    /// Everything takes so much longer, each packet or chunk drawn from the range.
    pub(crate) fn delay(&self, range: std::ops::Range<Duration>, seed: u64) {
        match self {
            Self::Namespaces(network) => network.treat(Treatment::Delay(range), seed),
            Self::Loopback(proxies) => proxies.links().for_each(|link| link.delay(range.clone(), seed)),
        }
    }

    /// The faults that only packets know.
    pub(crate) fn packets(&self) -> &Namespaces {
        match self {
            Self::Namespaces(network) => network,
            Self::Loopback(_) => panic!("there are no packets on the loopback interface"),
        }
    }

    /// Everything works again.
    pub(crate) fn heal(&self) {
        match self {
            Self::Namespaces(network) => network.heal(),
            Self::Loopback(proxies) => proxies.links().for_each(Link::heal),
        }
    }
}
