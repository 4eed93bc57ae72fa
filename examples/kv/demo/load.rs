//! The load: clients that write as fast as they are answered, and the record of what they were told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Failed;
use super::client::{Answer, Follower, Outcome};

/// How many counters are incremented.
pub(super) const COUNTERS: usize = 100;

/// One INCR for so many SETs.
const SETS_PER_INCREMENT: u64 = 20;

/// A client that is refused, or loses its connection, for so long gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a client waits before it asks again. While there is no leader all of them do, and the nodes need the
/// machine for their election.
const PAUSE: Duration = Duration::from_millis(20);

/// What all clients share.
pub(super) struct Load {
    pub(super) count: u64,
    value_bytes: usize,
    started: Instant,
    next: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unknown: AtomicU64,
    /// Per counter: INCRs acknowledged, and INCRs whose outcome is unknown.
    pub(super) increments: Vec<(AtomicU64, AtomicU64)>,
    /// In nanoseconds since `started`; 0: not yet.
    killed_at: AtomicU64,
    /// The first acknowledgement of a write that began after the kill.
    resumed_at: AtomicU64,
    pub(super) stop: AtomicBool,
    latencies: Mutex<Vec<Histogram<u64>>>,
}

impl Load {
    pub(super) fn new(count: u64, value_bytes: usize) -> Self {
        Self {
            count,
            value_bytes,
            started: Instant::now(),
            next: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            increments: (0..COUNTERS).map(|_| Default::default()).collect(),
            killed_at: AtomicU64::new(0),
            resumed_at: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
            latencies: Mutex::default(),
        }
    }

    /// Runs one client until there is nothing left to write. If it fails, all others stop.
    pub(super) fn client(&self, nodes: Vec<String>) -> Result<(), Failed> {
        let result = self.write_all(nodes);
        if result.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        result
    }

    fn write_all(&self, nodes: Vec<String>) -> Result<(), Failed> {
        let mut client = Follower::new(nodes);
        let mut latencies = histogram()?;
        while let Some(number) = self.take() {
            self.set(&mut client, number, &mut latencies)?;
            if number % SETS_PER_INCREMENT == 0 {
                self.increment(&mut client, (number / SETS_PER_INCREMENT) as usize % COUNTERS)?;
            }
        }
        self.latencies.lock().map_err(|_| Failed("a client panicked".into()))?.push(latencies);
        Ok(())
    }

    fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.count && !self.stop.load(Ordering::Relaxed)).then_some(number)
    }

    /// Setting a key to its one value again does no harm, so this goes on until it is acknowledged.
    fn set(&self, client: &mut Follower, number: u64, latencies: &mut Histogram<u64>) -> Result<(), Failed> {
        let (key, value) = (key(number), value(number, self.value_bytes));
        let began = self.now();
        let set = self.until(|| match self.attempt(client, &[b"SET", key.as_bytes(), &value]) {
            Outcome::Answered(Answer::Status(_)) => Some(Ok(())),
            Outcome::Answered(other) => Some(Err(Failed(format!("SET {key} was answered with {other:?}")))),
            Outcome::Refused { .. } | Outcome::Unknown => None,
        })?;
        if !set {
            return Ok(());
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        latencies.saturating_record((self.now() - began) / 1000);
        Ok(())
    }

    /// Incrementing again might count twice, so an unknown outcome stays unknown.
    fn increment(&self, client: &mut Follower, counter: usize) -> Result<(), Failed> {
        let (acknowledged, unknown) = &self.increments[counter];
        let name = counter_key(counter);
        self.until(|| match self.attempt(client, &[b"INCR", name.as_bytes()]) {
            Outcome::Answered(Answer::Integer(_)) => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
                Some(Ok(()))
            }
            Outcome::Answered(other) => Some(Err(Failed(format!("INCR {name} was answered with {other:?}")))),
            Outcome::Unknown => {
                unknown.fetch_add(1, Ordering::Relaxed);
                Some(Ok(()))
            }
            Outcome::Refused { .. } => None,
        })?;
        Ok(())
    }

    fn attempt(&self, client: &mut Follower, request: &[&[u8]]) -> Outcome {
        let began = self.now();
        let outcome = client.attempt(request);
        match &outcome {
            Outcome::Answered(_) => {
                let killed_at = self.killed_at.load(Ordering::Acquire);
                if killed_at != 0 && began > killed_at && self.resumed_at.load(Ordering::Relaxed) == u64::MAX {
                    self.resumed_at.fetch_min(self.now(), Ordering::Relaxed);
                }
            }
            Outcome::Refused { at_once } => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                if !at_once {
                    std::thread::sleep(PAUSE);
                }
            }
            Outcome::Unknown => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
        }
        outcome
    }

    /// Attempts until there is a result; false: all clients are to stop.
    fn until(&self, mut attempt: impl FnMut() -> Option<Result<(), Failed>>) -> Result<bool, Failed> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if let Some(result) = attempt() {
                return result.map(|()| true);
            }
        }
        Err(Failed(format!("a write was not acknowledged within {PATIENCE:?}")))
    }

    /// Nanoseconds since the load began.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nodes were killed just now.
    pub(super) fn mark_kill(&self) {
        self.killed_at.store(0, Ordering::Release);
        self.resumed_at.store(u64::MAX, Ordering::Release);
        self.killed_at.store(self.now(), Ordering::Release);
    }

    /// From the kill to the next acknowledgement, if it has come.
    pub(super) fn failover(&self) -> Option<Duration> {
        let resumed_at = Some(self.resumed_at.load(Ordering::Relaxed)).filter(|at| *at != u64::MAX)?;
        resumed_at.checked_sub(self.killed_at.load(Ordering::Acquire)).map(Duration::from_nanos)
    }

    /// Latencies of all acknowledged SETs, in microseconds, from the first attempt to the acknowledgement.
    pub(super) fn latencies(&self) -> Result<Histogram<u64>, Failed> {
        let mut all = histogram()?;
        for part in self.latencies.lock().map_err(|_| Failed("a client panicked".into()))?.iter() {
            all.add(part).map_err(|error| Failed(format!("adding up latencies: {error}")))?;
        }
        Ok(all)
    }
}

/// From 1 us to 5 minutes, three digits.
fn histogram() -> Result<Histogram<u64>, Failed> {
    Histogram::new_with_bounds(1, 300_000_000, 3).map_err(|error| Failed(format!("no histogram: {error}")))
}

/// The key of one SET.
pub(super) fn key(number: u64) -> String {
    format!("demo:{number:010}")
}

/// Its value: nobody else's, and as long as asked for.
pub(super) fn value(number: u64, bytes: usize) -> Vec<u8> {
    format!("{number:010}.").into_bytes().into_iter().cycle().take(bytes).collect()
}

/// The key of one counter.
pub(super) fn counter_key(counter: usize) -> String {
    format!("demo:counter:{counter}")
}
