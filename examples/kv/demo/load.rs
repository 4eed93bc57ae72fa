//! The load: clients that write as fast as they are answered, and the record of what they were told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::client::{Answer, Outcome, Redirected};
use super::Failed;

/// How many counters are incremented.
pub(super) const COUNTERS: usize = 100;

/// One INCR for so many SETs.
const SETS_PER_INCREMENT: u64 = 20;

/// A client that is refused, or loses its connection, for so long gives up.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Whether the outage still waits for its end; most acknowledgements then need no look at it.
    outage_lasts: AtomicBool,
    outage: Mutex<Outage>,
    pub(super) stop: AtomicBool,
    /// Clients write on when they have written `count` pairs.
    pub(super) on: AtomicBool,
    latencies: Mutex<Vec<Histogram<u64>>>,
    /// Waits that began earlier count from here.
    watched_since: AtomicU64,
    clients: Vec<Waits>,
}

/// How long one client waits for acknowledgements. Nanoseconds since the load began.
#[derive(Default)]
struct Waits {
    /// The last acknowledgement; beyond every time once the client is done.
    last: AtomicU64,
    longest: AtomicU64,
}

/// The last time that nodes were killed. Instants are nanoseconds since the load began.
#[derive(Clone, Copy, Default)]
struct Outage {
    /// Just before the signal.
    began: u64,
    /// Whoever was killed is gone: what begins later is not their doing.
    dead: Option<u64>,
    /// The first acknowledgement of a write that began after that.
    ended: Option<u64>,
}

impl Load {
    pub(super) fn new(count: u64, value_bytes: usize, clients: u64) -> Self {
        Self {
            count,
            value_bytes,
            started: Instant::now(),
            next: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            increments: (0..COUNTERS).map(|_| Default::default()).collect(),
            outage_lasts: AtomicBool::new(false),
            outage: Mutex::default(),
            stop: AtomicBool::new(false),
            on: AtomicBool::new(true),
            latencies: Mutex::default(),
            watched_since: AtomicU64::new(0),
            clients: (0..clients).map(|_| Waits::default()).collect(),
        }
    }

    /// Runs one client until there is nothing left to write. If it fails, all others stop.
    pub(super) fn client(&self, number: usize, nodes: Vec<String>) -> Result<(), Failed> {
        let result = self.write_all(number, nodes);
        if result.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        result
    }

    fn write_all(&self, own: usize, nodes: Vec<String>) -> Result<(), Failed> {
        let mut client = Redirected::new(nodes);
        let mut latencies = histogram()?;
        while let Some(number) = self.take() {
            self.set(&mut client, number, &mut latencies)?;
            self.note_acknowledged(&self.clients[own]);
            if number % SETS_PER_INCREMENT == 0 {
                self.increment(&mut client, (number / SETS_PER_INCREMENT) as usize % COUNTERS)?;
            }
        }
        self.clients[own].last.store(u64::MAX, Ordering::Release);
        self.latencies.lock().map_err(|_| Failed("a client panicked".into()))?.push(latencies);
        Ok(())
    }

    fn take(&self) -> Option<u64> {
        let may = |number: &u64| *number < self.count || self.on.load(Ordering::Relaxed);
        let next = |number| Some(number).filter(may).map(|number| number + 1);
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }

    /// How many pairs there are: those of the numbers below.
    pub(super) fn written(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Setting a key to its one value again does no harm, so this goes on until it is acknowledged.
    fn set(&self, client: &mut Redirected, number: u64, latencies: &mut Histogram<u64>) -> Result<(), Failed> {
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
    fn increment(&self, client: &mut Redirected, counter: usize) -> Result<(), Failed> {
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

    fn attempt(&self, client: &mut Redirected, request: &[&[u8]]) -> Outcome {
        let began = self.now();
        let outcome = client.attempt(request);
        match &outcome {
            Outcome::Answered(Answer::Error(_)) => {}
            Outcome::Answered(_) => self.note_acknowledgement(began),
            Outcome::Refused { at_once } => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                if !at_once {
                    std::thread::sleep(client.pause());
                }
            }
            Outcome::Unknown => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(client.pause());
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
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes the time around `kill`, which kills nodes.
    pub(super) fn time_kill(&self, kill: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
        *self.outage()? = Outage { began: self.now(), dead: None, ended: None };
        kill()?;
        self.outage()?.dead = Some(self.now());
        self.outage_lasts.store(true, Ordering::Release);
        Ok(())
    }

    /// A write that began at `began` was acknowledged.
    fn note_acknowledgement(&self, began: u64) {
        if !self.outage_lasts.load(Ordering::Acquire) {
            return;
        }
        let Ok(mut outage) = self.outage() else { return };
        if outage.ended.is_none() && outage.dead.is_some_and(|dead| began > dead) {
            outage.ended = Some(self.now());
            self.outage_lasts.store(false, Ordering::Release);
        }
    }

    /// From the signal to the next acknowledgement, if it has come.
    pub(super) fn failover(&self) -> Result<Option<Duration>, Failed> {
        let outage = *self.outage()?;
        Ok(outage.ended.map(|ended| Duration::from_nanos(ended - outage.began)))
    }

    /// From now on each client notes its longest wait between two acknowledgements.
    pub(super) fn watch_pauses(&self) {
        self.watched_since.store(self.now(), Ordering::Release);
        self.clients.iter().for_each(|client| client.longest.store(0, Ordering::Release));
    }

    /// A client has an acknowledgement.
    fn note_acknowledged(&self, client: &Waits) {
        let now = self.now();
        let last = client.last.swap(now, Ordering::AcqRel);
        let since = self.watched_since.load(Ordering::Acquire);
        client.longest.fetch_max(now.saturating_sub(last.max(since)), Ordering::AcqRel);
    }

    /// Whether every client that is not done has been acknowledged since `instant`.
    pub(super) fn all_served_since(&self, instant: u64) -> bool {
        self.clients.iter().all(|client| client.last.load(Ordering::Acquire) >= instant)
    }

    /// The longest wait of the median client, and of the worst, since they were [watched](Self::watch_pauses). A client that
    /// still waits counts with what it has waited.
    pub(super) fn pauses(&self) -> (Duration, Duration) {
        let (now, since) = (self.now(), self.watched_since.load(Ordering::Acquire));
        let wait = |client: &Waits| {
            let last = client.last.load(Ordering::Acquire);
            client.longest.load(Ordering::Acquire).max(now.saturating_sub(last.max(since)))
        };
        let mut waits: Vec<u64> = self.clients.iter().map(wait).collect();
        waits.sort_unstable();
        let at = |place: usize| Duration::from_nanos(waits.get(place).copied().unwrap_or(0));
        (at(waits.len() / 2), at(waits.len().saturating_sub(1)))
    }

    fn outage(&self) -> Result<MutexGuard<'_, Outage>, Failed> {
        self.outage.lock().map_err(|_| Failed("a client panicked".into()))
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
