//! Leadership handed over in order: by a command, and by stopping the leader; and what clients notice of it.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::load::Load;
use super::{ELECTION_LIMIT, Failed, Interrupted};

/// How long clients are watched from each hand-over on.
const WINDOW: Duration = Duration::from_millis(300);

/// A client that is not acknowledged for so long counts with that.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long they are left alone before the next.
const REST: Duration = Duration::from_millis(200);

/// A way to make the leader go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `FAILOVER`.
    Command,
    /// SIGTERM.
    Stop,
}

/// A hand-over whose clients are watched.
struct Watch {
    /// At least until then,
    until: Instant,
    /// and until every client has been acknowledged after this time of the load, when leadership had gone.
    told: u64,
    /// A leader that was stopped is started again then.
    way: Way,
}

/// Hands leadership over again and again while the load goes on.
pub(super) struct Handovers {
    planned: u64,
    done: u64,
    watching: Option<Watch>,
    /// When the next one is due.
    next: Instant,
    /// Per hand-over: the longest time without an acknowledgement of the median client, and of the worst.
    pub(super) pauses: Vec<(Duration, Duration)>,
}

impl Handovers {
    pub(super) fn new(planned: u64) -> Self {
        Self { planned, done: 0, watching: None, next: Instant::now(), pauses: Vec::new() }
    }

    pub(super) fn are_over(&self) -> bool {
        self.done == self.planned && self.watching.is_none()
    }

    /// Does what is due. Returns what there is to tell.
    pub(super) fn go_on(
        &mut self,
        cluster: &mut Cluster,
        load: &Load,
        interrupted: &Interrupted,
    ) -> Result<Option<String>, Failed> {
        let now = Instant::now();
        match self.watching {
            Some(Watch { until, told, way })
                if now >= until && (load.all_served_since(told) || now >= until + PATIENCE) =>
            {
                self.watching = None;
                self.next = now + REST;
                self.pauses.push(load.pauses());
                if way == Way::Stop {
                    cluster.start()?;
                }
                Ok(None)
            }
            None if self.done < self.planned && now >= self.next => {
                self.next = now + REST;
                // The old leader has to be back, or there is nobody to hand over to.
                if cluster.is_complete() { self.begin(cluster, load, interrupted) } else { Ok(None) }
            }
            _ => Ok(None),
        }
    }

    fn begin(
        &mut self,
        cluster: &mut Cluster,
        load: &Load,
        interrupted: &Interrupted,
    ) -> Result<Option<String>, Failed> {
        let way = if self.done.is_multiple_of(2) { Way::Command } else { Way::Stop };
        let leader = cluster.await_leader(ELECTION_LIMIT, interrupted)?;
        load.watch_pauses();
        match way {
            Way::Stop => cluster.stop(leader)?,
            // It may have lost its role since it was asked, or be too busy: later.
            Way::Command if !cluster.fail_over(leader)? => return Ok(None),
            Way::Command => {}
        }
        self.done += 1;
        self.watching = Some(Watch { until: Instant::now() + WINDOW, told: load.now(), way });
        let how = if way == Way::Command { "hands over (FAILOVER)" } else { "is stopped (SIGTERM)" };
        Ok(Some(format!("node {}, the leader, {how}.", cluster.id(leader))))
    }

    /// After the load.
    pub(super) fn end(&mut self, cluster: &mut Cluster) -> Result<(), Failed> {
        if self.watching.take().is_some() {
            cluster.start()?;
        }
        // A fast machine is through with its load before some of them are due: the report says how many there were.
        if self.done > 0 || self.planned == 0 {
            Ok(())
        } else {
            Err(Failed("the load ended before the first hand-over: use a larger --count".into()))
        }
    }
}
