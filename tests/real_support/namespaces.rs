//! A network namespace for each node, and this process as the router between them: every packet from node to node comes
//! through its FORWARD chain, and there it can be dropped, refused, or held. Clients sit on the router and reach every
//! node whatever happens between those.
//!
//! The process must be in network and mount namespaces of its own already (see `run`), so nothing of this is seen
//! outside, and nothing is left when it ends.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::packets::{Queue, Treatment};
use super::{NODES, succeeds, system};

/// Number of the queue for packets that are held or altered.
const QUEUE: u16 = 1;

pub(crate) struct Namespaces {
    queue: RefCell<Option<Queue>>,
}

impl Namespaces {
    pub(crate) const PEER_PORT: u16 = 8000;

    pub(crate) fn new() -> Self {
        system("ip link set lo up");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        for at in 0..NODES {
            let (space, link, net) = (space(at), link(at), format!("10.77.{}", at + 1));
            succeeds(&format!("ip netns delete {space}"));
            system(&format!("ip netns add {space}"));
            system(&format!("ip link add {link} type veth peer name eth0 netns {space}"));
            system(&format!("ip addr add {net}.1/24 dev {link}"));
            system(&format!("ip link set {link} up"));
            for setting in ["link set lo up", &format!("addr add {net}.2/24 dev eth0"), "link set eth0 up"] {
                system(&format!("ip -n {space} {setting}"));
            }
            system(&format!("ip -n {space} route add default via {net}.1"));
        }
        Self { queue: RefCell::new(None) }
    }

    pub(crate) fn client_address(at: usize) -> SocketAddr {
        format!("{}:7000", address(at)).parse().unwrap()
    }

    pub(crate) fn command(&self, at: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &space(at)]).arg(program);
        command
    }

    pub(crate) fn drop_all(&self, from: usize, to: usize) {
        forward(&format!("-s {} -d {} -j DROP", address(from), address(to)));
    }

    pub(crate) fn reject(&self, from: usize, to: usize) {
        forward(&format!("-p tcp -s {} -d {} -j REJECT --reject-with tcp-reset", address(from), address(to)));
    }

    /// Drops one packet in ten, between any two nodes.
    pub(crate) fn lose(&self) {
        forward("-m statistic --mode random --probability 0.10 -j DROP");
    }

    /// A node hears its peers, and its clients, only slowly.
    pub(crate) fn slow_down(&self, at: usize) {
        system(&format!("tc qdisc add dev {} root tbf rate 400kbit burst 4kb latency 300ms", link(at)));
    }

    /// Lets all packets between nodes go through this process.
    pub(crate) fn treat(&self, treatment: Treatment, seed: u64) {
        *self.queue.borrow_mut() = Some(Queue::start(QUEUE, treatment, seed));
        forward(&format!("-j NFQUEUE --queue-num {QUEUE}"));
    }

    pub(crate) fn heal(&self) {
        system("iptables -F FORWARD");
        // After the rule: what the queue still holds is let go.
        self.queue.borrow_mut().take();
        for at in 0..NODES {
            succeeds(&format!("tc qdisc del dev {} root", link(at)));
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.heal();
        for at in 0..NODES {
            succeeds(&format!("ip netns delete {}", space(at)));
            succeeds(&format!("ip link delete {}", link(at)));
        }
    }
}

fn forward(rule: &str) {
    system(&format!("iptables -A FORWARD {rule}"));
}

fn space(at: usize) -> String {
    format!("node-{}", at + 1)
}

fn link(at: usize) -> String {
    format!("to-node-{}", at + 1)
}

fn address(at: usize) -> String {
    format!("10.77.{}.2", at + 1)
}
