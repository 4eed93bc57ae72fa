//! The judges: what was acknowledged is there, nothing happened twice, and the nodes agree.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::client::{Answer, Connection, Outcome, Redirected};
use super::cluster::{Cluster, NodeInfo};
use super::load::{COUNTERS, Load, counter_key, key, value};
use super::{Failed, Interrupted};

/// Keys asked for at once, if their values are small.
const BATCH_KEYS: usize = 100;

/// Bytes of values asked for at once. A server gives half of its `--max-output-bytes` to one answer, 16 MiB unless told
/// otherwise.
const BATCH_BYTES: usize = 8 << 20;

/// A read is asked for so long until it is answered.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until all nodes have applied the same and say the same of it.
pub(super) fn await_agreement(
    cluster: &mut Cluster,
    limit: Duration,
    interrupted: &Interrupted,
) -> Result<NodeInfo, Failed> {
    let began = Instant::now();
    let mut last = Vec::new();
    while began.elapsed() < limit {
        cluster.check_running()?;
        last = cluster.nodes.iter().map(|node| node.info().map(|info| NodeInfo { leads: false, ..info })).collect();
        if let Some(Some(first)) = last.first()
            && last.iter().all(|info| info.as_ref() == Some(first))
        {
            return Ok(first.clone());
        }
        interrupted.pause(Duration::from_millis(50))?;
    }
    Err(Failed(format!("the nodes do not agree within {limit:?}: {last:?}")))
}

/// Has every node count its pairs anew, and compares with what all of them carry along.
pub(super) fn check_digests(cluster: &Cluster, agreed: &NodeInfo) -> Result<(), Failed> {
    let expected = format!("{} {} {}", agreed.applied, agreed.keys, agreed.digest);
    for node in &cluster.nodes {
        let id = node.member.id.0;
        let failed = |error: std::io::Error| Failed(format!("node {id} does not answer: {error}"));
        let mut connection = Connection::open(&node.member.resp_address()).map_err(failed)?;
        let counted = connection.ask(&[b"DEBUG", b"DIGEST"]).map_err(failed)?;
        if counted != Answer::Bulk(Some(expected.clone().into_bytes())) {
            return Err(Failed(format!("node {id} counts {counted:?}, all agreed on {expected}")));
        }
    }
    Ok(())
}

/// Reads every key back from the leader. All SETs were acknowledged, so every one must be there.
pub(super) fn check_writes(nodes: Vec<String>, load: &Load, value_bytes: usize) -> Result<(), Failed> {
    let mut client = Redirected::new(nodes);
    let mut missing = Vec::new();
    let batch = (BATCH_BYTES / value_bytes.max(1)).clamp(1, BATCH_KEYS);
    for first in (0..load.written()).step_by(batch) {
        let numbers: Vec<u64> = (first..load.written()).take(batch).collect();
        let keys: Vec<String> = numbers.iter().map(|number| key(*number)).collect();
        let values = multi_get(&mut client, &keys)?;
        let lost = |(number, found): &(&u64, &Answer)| **found != Answer::Bulk(Some(value(**number, value_bytes)));
        missing.extend(numbers.iter().zip(&values).filter(lost).map(|(number, _)| key(*number)));
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.truncate(10);
    Err(Failed(format!("acknowledged writes are lost or wrong, such as {missing:?}")))
}

/// Every counter stands between what was acknowledged and that plus what may have happened.
pub(super) fn check_counters(nodes: Vec<String>, load: &Load) -> Result<(), Failed> {
    let mut client = Redirected::new(nodes);
    let keys: Vec<String> = (0..COUNTERS).map(counter_key).collect();
    let values = multi_get(&mut client, &keys)?;
    for ((name, found), (acknowledged, unknown)) in keys.iter().zip(&values).zip(&load.increments) {
        let number = match found {
            Answer::Bulk(None) => 0,
            Answer::Bulk(Some(text)) => String::from_utf8_lossy(text).parse().unwrap_or(u64::MAX),
            other => return Err(Failed(format!("{name} is {other:?}"))),
        };
        let low = acknowledged.load(Ordering::Relaxed);
        let high = low + unknown.load(Ordering::Relaxed);
        if !(low..=high).contains(&number) {
            return Err(Failed(format!("{name} is {number}, it must be from {low} to {high}")));
        }
    }
    Ok(())
}

fn multi_get(client: &mut Redirected, keys: &[String]) -> Result<Vec<Answer>, Failed> {
    let mut request: Vec<&[u8]> = vec![b"MGET"];
    request.extend(keys.iter().map(|key| key.as_bytes()));
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match client.attempt(&request) {
            Outcome::Answered(Answer::Array(values)) if values.len() == keys.len() => return Ok(values),
            Outcome::Answered(other) => return Err(Failed(format!("MGET was answered with {other:?}"))),
            // A read may be asked again whatever became of it.
            Outcome::Refused { .. } | Outcome::Unknown => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Err(Failed(format!("a read was not answered within {PATIENCE:?}")))
}
