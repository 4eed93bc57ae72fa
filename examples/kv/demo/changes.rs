//! Members come and go while the load goes on: one more joins, then the oldest leaves.

use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::ctl;
use super::Failed;
use super::cluster::{Cluster, Node};
use super::load::Load;

/// How long a node may take to catch up, in seconds.
const CATCH_UP_SECONDS: u64 = 60;

/// Adds and removes members, one pair after the other.
pub(super) struct Changes {
    planned: u64,
    under_way: Option<UnderWay>,
    /// Per pair: how long it took until the new one was a voter, and until the old one was no member.
    pub(super) done: Vec<(Duration, Duration)>,
}

/// An order that a thread waits for.
struct UnderWay {
    began: Instant,
    ordered: JoinHandle<Result<(), Failed>>,
    /// How long it took to add a node; the order is to remove one then.
    added: Option<Duration>,
}

impl Changes {
    pub(super) fn new(planned: u64) -> Self {
        Self { planned, under_way: None, done: Vec::new() }
    }

    pub(super) fn are_over(&self) -> bool {
        self.done.len() as u64 == self.planned && self.under_way.is_none()
    }

    /// Does what is due. Returns what there is to tell.
    pub(super) fn go_on(&mut self, cluster: &mut Cluster, load: &Load) -> Result<Option<String>, Failed> {
        let at = load.acknowledged.load(Ordering::Relaxed);
        match self.under_way.take() {
            None if self.are_over() || !cluster.is_complete() => Ok(None),
            None => {
                let member = cluster.add()?.clone();
                let place = format!("{}@{}", member.resp_address(), member.peer_port);
                let words = ["ADD", &member.id.0.to_string(), &place, "TIMEOUT", &CATCH_UP_SECONDS.to_string()];
                self.order(cluster, words.map(String::from).to_vec(), None)?;
                Ok(Some(format!("{at} acknowledged: node {} starts with nothing and is to be a member.", member.id.0)))
            }
            Some(order) if !order.ordered.is_finished() => {
                self.under_way = Some(order);
                Ok(None)
            }
            Some(UnderWay { began, ordered, added: None }) => {
                finish(ordered)?;
                let (added, goes) = (began.elapsed(), cluster.nodes[0].member.id.0);
                self.order(cluster, vec!["REMOVE".into(), goes.to_string()], Some(added))?;
                let snapshot = cluster.nodes.last().and_then(Node::got_a_snapshot) == Some(true);
                let from = if snapshot { "a snapshot and the log behind it" } else { "the log" };
                Ok(Some(format!("{at} acknowledged: it has {from} and is a voter; node {goes} is to go.")))
            }
            Some(UnderWay { began, ordered, added: Some(added) }) => {
                finish(ordered)?;
                self.done.push((added, began.elapsed()));
                let gone = cluster.dismiss(0)?;
                Ok(Some(format!("{at} acknowledged: node {gone} is no member any more, and stopped.")))
            }
        }
    }

    /// The second node is asked, since the first is the one to go.
    fn order(&mut self, cluster: &Cluster, words: Vec<String>, added: Option<Duration>) -> Result<(), Failed> {
        let asked = cluster.addresses().into_iter().nth(1).unwrap_or_default();
        let order = move || {
            let limit = Duration::from_secs(CATCH_UP_SECONDS);
            let answer = ctl::follow(&asked, &words, limit);
            answer.map(drop).map_err(|why| Failed(format!("RAFT {}: {why}", words.join(" "))))
        };
        let thread = std::thread::Builder::new().name("administrator".into()).spawn(order);
        let ordered = thread.map_err(|error| Failed(format!("cannot start a thread: {error}")))?;
        self.under_way = Some(UnderWay { began: Instant::now(), ordered, added });
        Ok(())
    }
}

fn finish(ordered: JoinHandle<Result<(), Failed>>) -> Result<(), Failed> {
    ordered.join().unwrap_or_else(|_| Err(Failed("the administrator's thread panicked".into())))
}
