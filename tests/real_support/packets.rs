//! Packets that the kernel hands to this process before it forwards them: held for a while, each for its own, so that
//! they also change places; or altered in a way that TCP does not notice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nfq::{Message, Verdict};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// What happens to packets.
#[derive(Clone)]
pub(crate) enum Treatment {
    /// Each is held so long, drawn anew: a later one may overtake.
    Delay(Range<Duration>),
    /// One in fifty that carry data is altered.
    Corrupt,
}

/// Treats packets until it is dropped; then lets go of all it holds.
pub(crate) struct Queue {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Queue {
    pub(crate) fn start(number: u16, treatment: Treatment, seed: u64) -> Self {
        let mut queue = nfq::Queue::open().unwrap();
        queue.bind(number).unwrap();
        queue.set_queue_max_len(number, 10_000).unwrap();
        queue.set_nonblocking(true);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let random = Xoshiro256PlusPlus::seed_from_u64(seed);
            Worker { queue, treatment, random, held: BinaryHeap::new(), messages: Vec::new(), treated: 0 }.run(&stopped)
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let treated = self.thread.take().unwrap().join().unwrap();
        assert!(treated > 0 || thread::panicking(), "no packet was treated");
    }
}

struct Worker {
    queue: nfq::Queue,
    treatment: Treatment,
    random: Xoshiro256PlusPlus,
    /// When to let go of which message.
    held: BinaryHeap<Reverse<(Instant, usize)>>,
    messages: Vec<Option<Message>>,
    treated: u64,
}

impl Worker {
    /// How many packets were treated.
    fn run(mut self, stop: &AtomicBool) -> u64 {
        while !stop.load(Ordering::Relaxed) {
            match self.queue.recv() {
                Ok(message) => self.take(message),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_micros(300)),
                Err(error) => panic!("netlink: {error}"),
            }
            while self.held.peek().is_some_and(|Reverse((due, _))| *due <= Instant::now()) {
                self.let_go();
            }
        }
        while !self.held.is_empty() {
            self.let_go();
        }
        self.treated
    }

    fn take(&mut self, mut message: Message) {
        let due = match &self.treatment {
            Treatment::Delay(range) => {
                self.treated += 1;
                Instant::now() + self.random.random_range(range.clone())
            }
            Treatment::Corrupt => {
                if self.random.random_bool(0.02) {
                    self.treated += u64::from(swap_words(message.get_payload_mut()));
                }
                Instant::now()
            }
        };
        self.held.push(Reverse((due, self.messages.len())));
        self.messages.push(Some(message));
    }

    fn let_go(&mut self) {
        let Some(Reverse((_, at))) = self.held.pop() else { return };
        let mut message = self.messages[at].take().unwrap();
        message.set_verdict(Verdict::Accept);
        self.queue.verdict(message).unwrap();
    }
}

/// Exchanges two words of the data of a TCP segment. Its checksum is a sum of words: it stays right.
fn swap_words(packet: &mut [u8]) -> bool {
    let ip_header = usize::from(packet[0] & 0xf) * 4;
    let tcp_header = usize::from(packet[ip_header + 12] >> 4) * 4;
    let data = &mut packet[ip_header + tcp_header..];
    let words = data.len() / 2;
    let word = |at: usize| [data[2 * at], data[2 * at + 1]];
    let Some(differs) = (1..words).find(|at| word(*at) != word(0)) else { return false };
    data.swap(0, 2 * differs);
    data.swap(1, 2 * differs + 1);
    true
}
