//! `kv ctl`: the orders of `RAFT` on the command line. What only the leader can do is asked of the leader, whichever node is
//! named.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::cli::{Ctl, CtlCommand};
use super::client::{Answer, Connection};

/// How long to look for a leader that takes the order.
const PATIENCE: Duration = Duration::from_secs(15);

const PAUSE: Duration = Duration::from_millis(100);

/// How long an answer may take beyond what the order says.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How long a node may take to write a snapshot.
const SNAPSHOT_TIME: Duration = Duration::from_secs(3600);

/// Why an order was not carried out, as far as is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// It certainly was not.
    #[error("{0}")]
    Refused(String),
    /// Perhaps it was, or is yet to be.
    #[error("it is not known whether this was done, see `kv ctl members`: {0}")]
    Unknown(String),
}

/// Carries out one order. 0: done; 1: not done, the message says why and what was changed all the same; 3: nobody knows. (2:
/// the command line is wrong.)
pub(crate) fn run(ctl: &Ctl) -> ExitCode {
    match order(ctl) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("kv: {failed}");
            ExitCode::from(if matches!(failed, Failed::Unknown(_)) { 3 } else { 1 })
        }
    }
}

fn order(ctl: &Ctl) -> Result<String, Failed> {
    match &ctl.command {
        CtlCommand::Status => status(&ctl.addr),
        CtlCommand::Members => members(&ctl.addr),
        CtlCommand::Add { id, at, timeout } => {
            let request = ["ADD", &id.to_string(), at, "TIMEOUT", &timeout.to_string()].map(String::from);
            follow(&ctl.addr, &request, Duration::from_secs(*timeout))?;
            Ok(format!("Node {id} is a voter."))
        }
        CtlCommand::Remove { id } => {
            follow(&ctl.addr, &["REMOVE".into(), id.to_string()], Duration::ZERO)?;
            Ok(format!("Node {id} is no member any more. It may be stopped."))
        }
        CtlCommand::Replace { old, new, at, timeout } => {
            let request = ["REPLACE", &old.to_string(), &new.to_string(), at, "TIMEOUT", &timeout.to_string()];
            follow(&ctl.addr, &request.map(String::from), Duration::from_secs(*timeout))?;
            Ok(format!("Node {new} is a voter in place of node {old}."))
        }
        CtlCommand::Transfer { id } => {
            let request = ["TRANSFER".to_owned()].into_iter().chain(id.map(|id| id.to_string()));
            match follow(&ctl.addr, &request.collect::<Vec<_>>(), Duration::ZERO)? {
                Answer::Integer(node) => Ok(format!("Node {node} takes over.")),
                other => Err(Failed::Unknown(format!("the answer is {other:?}"))),
            }
        }
        CtlCommand::Snapshot => match ask(&ctl.addr, &["SNAPSHOT".into()], SNAPSHOT_TIME)? {
            Answer::Integer(last) => Ok(format!("{} has a snapshot up to index {last}.", ctl.addr)),
            Answer::Error(text) => Err(Failed::Refused(text)),
            other => Err(Failed::Unknown(format!("the answer is {other:?}"))),
        },
        CtlCommand::Backup { path } => back_up(&ctl.addr, path),
    }
}

fn back_up(addr: &str, path: &str) -> Result<String, Failed> {
    let answer = ask(addr, &["BACKUP".into(), path.into()], SNAPSHOT_TIME)?;
    if let Answer::Error(text) = answer {
        return Err(Failed::Refused(text));
    }
    let facts = answer.pairs().map(BTreeMap::from_iter);
    let fact = |name: &str| facts.as_ref()?.get(name);
    let told = fact("path").zip(fact("last_index")).zip(fact("bytes"));
    let ((path, last), bytes) = told.ok_or_else(|| Failed::Unknown(format!("the answer is {answer:?}")))?;
    Ok(format!("{addr} has written {path}: {bytes} bytes, everything up to index {last}."))
}

fn status(addr: &str) -> Result<String, Failed> {
    let answer = ask(addr, &["STATUS".into()], ANSWER_TIME)?;
    let facts = answer.pairs().ok_or_else(|| Failed::Refused(format!("{addr} answers {answer:?}")))?;
    Ok(table(&facts.into_iter().map(|(name, fact)| vec![name, fact]).collect::<Vec<_>>()))
}

/// As the leader sees them, if it can be asked: only it knows how far they are.
fn members(addr: &str) -> Result<String, Failed> {
    let ask = |addr: &str| {
        let answer = ask(addr, &["MEMBERS".into()], ANSWER_TIME)?;
        answer.maps().ok_or_else(|| Failed::Refused(format!("{addr} answers {answer:?}")))
    };
    let mut members = ask(addr)?;
    let leads = |member: &&BTreeMap<String, String>| member.get("leader").is_some_and(|leads| leads == "yes");
    if let Some(leader) = members.iter().find(leads).and_then(|leader| leader.get("clients"))
        && let Ok(seen) = ask(leader)
    {
        members = seen;
    }
    let columns = ["id", "role", "leader", "clients", "peers", "match_index", "lag", "connected"];
    let head = columns.map(|name| name.to_uppercase().replace('_', " ")).to_vec();
    let row =
        |member: &BTreeMap<String, String>| columns.map(|name| member.get(name).cloned().unwrap_or_default()).to_vec();
    Ok(table(&std::iter::once(head).chain(members.iter().map(row)).collect::<Vec<_>>()))
}

/// Columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Has the leader carry out an order, beginning at this node, which has to be there.
pub(crate) fn follow(named: &str, order: &[String], takes: Duration) -> Result<Answer, Failed> {
    let (began, mut addr) = (Instant::now(), named.to_owned());
    loop {
        let text = match ask(&addr, order, takes + ANSWER_TIME) {
            Ok(Answer::Error(text)) => text,
            // The leader that was known may be gone: the next one will be known soon.
            Err(Failed::Refused(_)) if addr != named && began.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
                addr = named.to_owned();
                continue;
            }
            answer => return answer,
        };
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["UNKNOWN", ..] => return Err(Failed::Unknown(text)),
            _ if began.elapsed() > PATIENCE => return Err(Failed::Refused(text)),
            ["MOVED", _, leader] => {
                // Sent on a second time: nodes do not agree yet on who leads.
                if addr != named {
                    std::thread::sleep(PAUSE);
                }
                addr = leader.to_owned();
            }
            ["TRYAGAIN" | "CLUSTERDOWN", ..] => std::thread::sleep(PAUSE),
            _ => return Err(Failed::Refused(text)),
        }
    }
}

/// Asks one node.
fn ask(addr: &str, order: &[String], limit: Duration) -> Result<Answer, Failed> {
    let cannot = |error: io::Error| Failed::Refused(format!("cannot reach {addr}: {error}"));
    let mut connection = Connection::open(addr).and_then(|connection| connection.patient(limit)).map_err(cannot)?;
    let request: Vec<&[u8]> = std::iter::once(&b"RAFT"[..]).chain(order.iter().map(|word| word.as_bytes())).collect();
    connection.ask(&request).map_err(|error| Failed::Unknown(format!("{addr} does not answer: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [["ID", "ROLE", "LAG"], ["1", "voter", "0"], ["10", "learner", ""]];
        let rows = rows.map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&rows), "ID  ROLE     LAG\n1   voter    0\n10  learner");
    }
}
