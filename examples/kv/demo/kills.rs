//! Who is killed when: the leader first, then also a follower, two at once, and all three.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::load::Load;
use super::{ELECTION_LIMIT, Failed, Interrupted};

/// How long nodes stay down whose absence leaves no quorum.
const DOWN_TIME: Duration = Duration::from_millis(300);

/// A blow to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Leader,
    Follower,
    LeaderAndFollower,
    Everybody,
}

const BLOWS: [Blow; 4] = [Blow::Leader, Blow::Follower, Blow::LeaderAndFollower, Blow::Everybody];

/// Kills nodes at even distances along the load, and starts them again half-way to the next blow.
pub(super) struct Kills {
    planned: u64,
    /// The share of the load, in writes, that the blows are spread over.
    count: u64,
    struck: u64,
    /// The blow whose victims are down, and since when.
    down: Option<(Blow, Instant)>,
    /// From SIGKILL of the leader alone to the next acknowledged write.
    pub(super) failovers: Vec<Duration>,
}

impl Kills {
    pub(super) fn new(planned: u64, count: u64) -> Self {
        Self { planned, count, struck: 0, down: None, failovers: Vec::new() }
    }

    /// Whether all blows were struck and everybody is up again.
    pub(super) fn are_over(&self) -> bool {
        self.struck == self.planned && self.down.is_none()
    }

    /// Does what is due. Returns what there is to tell.
    pub(super) fn go_on(
        &mut self,
        cluster: &mut Cluster,
        load: &Load,
        interrupted: &Interrupted,
    ) -> Result<Option<String>, Failed> {
        let done = load.acknowledged.load(Ordering::Relaxed);
        match self.down {
            None if self.struck < self.planned && done >= self.mark(0) => {
                let leader = cluster.await_leader(ELECTION_LIMIT, interrupted)?;
                self.strike(cluster, load, leader).map(Some)
            }
            Some((blow, since)) if self.may_return(blow, since, load, done)? => {
                self.failovers.extend(load.failover()?.filter(|_| blow == Blow::Leader));
                self.down = None;
                cluster.start()?;
                Ok(Some(format!("{done} acknowledged: all nodes run again.")))
            }
            _ => Ok(None),
        }
    }

    fn strike(&mut self, cluster: &mut Cluster, load: &Load, leader: usize) -> Result<String, Failed> {
        let blow = BLOWS[(self.struck % BLOWS.len() as u64) as usize];
        let nodes = cluster.nodes.len();
        let follower = (leader + 1 + (self.struck as usize / BLOWS.len()) % (nodes - 1)) % nodes;
        let victims = match blow {
            Blow::Leader => vec![leader],
            Blow::Follower => vec![follower],
            Blow::LeaderAndFollower => vec![leader, follower],
            Blow::Everybody => (0..nodes).collect(),
        };
        load.time_kill(|| victims.iter().try_for_each(|victim| cluster.kill(*victim)))?;
        self.struck += 1;
        self.down = Some((blow, Instant::now()));
        let done = load.acknowledged.load(Ordering::Relaxed);
        let names: Vec<String> = victims.iter().map(|victim| cluster.id(*victim).to_string()).collect();
        let leads = if victims.contains(&leader) { ", the leader among them," } else { "" };
        Ok(match &names[..] {
            [one] if blow == Blow::Leader => {
                format!("{done} acknowledged: node {one}, the leader, is killed (SIGKILL).")
            }
            [one] => format!("{done} acknowledged: node {one} is killed (SIGKILL)."),
            _ => format!("{done} acknowledged: nodes {}{leads} are killed (SIGKILL).", names.join(" and ")),
        })
    }

    fn may_return(&self, blow: Blow, since: Instant, load: &Load, done: u64) -> Result<bool, Failed> {
        Ok(match blow {
            Blow::Leader | Blow::Follower => load.failover()?.is_some() && done >= self.mark(1),
            Blow::LeaderAndFollower | Blow::Everybody => since.elapsed() >= DOWN_TIME,
        })
    }

    /// How many writes are acknowledged when the next blow is due (`half` 0), or when its victims may return (1; the
    /// blow counts as struck then).
    fn mark(&self, half: u64) -> u64 {
        let steps = 2 * (self.planned + 1);
        let step = if half == 0 { 2 * (self.struck + 1) } else { 2 * self.struck + 1 };
        self.count * step / steps
    }
}
