//! Where namespaces are not permitted: all nodes on the loopback interface, and between each two a proxy that can stop
//! each direction, delay it, and reset the connections. It sees a stream of bytes and no packets: it cannot lose some of
//! them, put them in another order or alter them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

use super::NODES;
use crate::kv_support::free_ports;

pub(crate) struct Proxies {
    client_ports: Vec<u16>,
    peer_ports: Vec<u16>,
    /// For each two nodes where the second is reached by the first.
    proxy_ports: Vec<u16>,
    /// For each two nodes the bytes from the first to the second, on connections of either.
    links: Vec<Arc<Link>>,
}

/// One direction between two nodes.
#[derive(Default)]
pub(crate) struct Link {
    cut: AtomicBool,
    resets: AtomicU64,
    /// From which range, and whose numbers.
    delay: Mutex<Option<(Range<Duration>, Xoshiro256PlusPlus)>>,
}

impl Link {
    /// Nothing goes on; what was sent waits.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    pub(crate) fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn delay(&self, range: Range<Duration>, seed: u64) {
        *self.delay.lock().unwrap() = Some((range, Xoshiro256PlusPlus::seed_from_u64(seed)));
    }

    fn draw_delay(&self) -> Duration {
        let mut delay = self.delay.lock().unwrap();
        delay.as_mut().map_or(Duration::ZERO, |(range, random)| random.random_range(range.clone()))
    }

    pub(crate) fn heal(&self) {
        self.cut(false);
        *self.delay.lock().unwrap() = None;
    }

    /// Carries bytes until either end or a reset ends it.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let resets = self.resets.load(Ordering::Relaxed);
        let mut bytes = [0; 16 << 10];
        from.set_read_timeout(Some(POLL)).unwrap();
        while self.resets.load(Ordering::Relaxed) == resets {
            if self.cut.load(Ordering::Relaxed) {
                thread::sleep(POLL);
                continue;
            }
            match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    thread::sleep(self.draw_delay());
                    // What was under way when the link was cut is not let through.
                    while self.cut.load(Ordering::Relaxed) && self.resets.load(Ordering::Relaxed) == resets {
                        thread::sleep(POLL);
                    }
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// How soon a link notices what was done to it.
const POLL: Duration = Duration::from_millis(5);

impl Proxies {
    pub(crate) fn new() -> Self {
        let links: Vec<Arc<Link>> = (0..NODES * NODES).map(|_| Arc::default()).collect();
        let (client_ports, peer_ports) = (free_ports(NODES), free_ports(NODES));
        let proxy_ports = (0..NODES * NODES).map(|between| {
            let (from, to) = (between / NODES, between % NODES);
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let target = SocketAddr::from(([127, 0, 0, 1], peer_ports[to]));
            let (there, back) = (links[from * NODES + to].clone(), links[to * NODES + from].clone());
            // Lives as long as the process: a listener cannot be told to stop, and the tests are few.
            thread::spawn(move || accept(&listener, target, &there, &back));
            port
        });
        let proxy_ports = proxy_ports.collect();
        Self { client_ports, peer_ports, proxy_ports, links }
    }

    pub(crate) fn client_address(&self, at: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.client_ports[at]))
    }

    /// Where `from` finds `to`; itself it finds where it listens.
    pub(crate) fn peer_port(&self, from: usize, to: usize) -> u16 {
        if from == to { self.peer_ports[to] } else { self.proxy_ports[from * NODES + to] }
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * NODES + to]
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().map(|link| &**link)
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, there: &Arc<Link>, back: &Arc<Link>) {
    for client in listener.incoming() {
        let client = client.unwrap();
        let Ok(server) = TcpStream::connect(target) else { continue };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let (client_reads, server_reads) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (there, back) = (there.clone(), back.clone());
        thread::spawn(move || there.carry(client_reads, server));
        thread::spawn(move || back.carry(server_reads, client));
    }
}
