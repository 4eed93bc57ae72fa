//! The outline, row by row: one core, and a test for each sentence of `docs/rules.md`, section A and C to D.
//!
//! Node 1 is the one under test; the test plays everybody else. `E` is 1 s.

// A helper of a test may fail like a test.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod abdication;
mod bugs;
mod leases;
mod lessons;
mod membership;
mod promises;
mod reads;
mod replication;
mod snapshots;
mod state_machine;
mod structure;
mod succession;
mod table;

use support::disk::Disk;
use support::lone::*;
use tenure::core::{
    Abdication, Change, ChangeError, Consistency, Event, Fatal, Input, Obstacle, Output, ProposeError, ReadError,
    RoleKind, StartError, TransferError, TransferId,
};
use tenure::log::{Entry, EntryKind, HardState, LogSlice};
use tenure::message::{
    Abdicated, AppendEntries, AppendOutcome, Body, Message, Refusal, Verdict, VoteRequest, VoteResponse,
};
use tenure::time::{Duration, Instant};
use tenure::types::{EntryId, Index, NodeId, RoundId, Term};

fn requests(sent: &[tenure::message::Message]) -> Vec<(u64, VoteRequest, bool)> {
    let request = |message: &tenure::message::Message| match &message.body {
        Body::PreVote(request) => Some((message.to.0, *request, true)),
        Body::Vote(request) => Some((message.to.0, *request, false)),
        _ => None,
    };
    sent.iter().filter_map(request).collect()
}

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(reason) => reason,
        Verdict::Granted => panic!("granted"),
    }
}

const FOUNDED: EntryId = EntryId { term: Term(1), index: Index(1) };
