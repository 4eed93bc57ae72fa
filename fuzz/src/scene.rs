//! Where a run begins, and what may happen in it.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use tenure::config::Priority;
use tenure::core::{Consistency, Input, RoleKind};
use tenure::log::LogSlice;
use tenure::message::{AppendEntries, AppendOutcome, AppendResponse, Body, Message, Rank, Verdict, VoteResponse};
use tenure::time::Duration;
use tenure::types::{Index, NodeId, RoundId, Term};

use crate::near::{AnyPriority, Fresh};
use crate::subject::SUBJECT;
use crate::{Near, Peer, Subject};

/// The beginning: a group, a history on disk, and the role that the subject is brought into.
#[derive(Arbitrary, Debug, Clone)]
pub struct Scene {
    /// 1 to 5.
    pub voters: u8,
    /// By how much the term rises from entry to entry of the log.
    pub history: Vec<u8>,
    /// How far the term on disk is ahead of the log's.
    pub ahead: u8,
    /// Whether the subject has voted for somebody in that term.
    pub voted: bool,
    /// Whether windows, caches and queues are tiny.
    pub tiny_limits: bool,
    /// Whether writes become durable by themselves.
    pub prompt_disk: bool,
    /// Whether a lease answers reads.
    pub lease_reads: bool,
    /// Whether followers stand in the line that their leader tells them.
    pub succession: bool,
    /// How much the subject wants to lead.
    pub priority: AnyPriority,
    /// The role to begin in; the targets for answers choose it themselves.
    pub start: Start,
}

#[derive(Arbitrary, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Of nobody.
    Follower,
    /// Of a leader that it has just heard.
    Following,
    PreCandidate,
    Candidate,
    Leader,
}

/// What happens: mostly a message of the kind that the target is about.
#[derive(Arbitrary, Debug, Clone)]
pub enum Act<M> {
    Message(M),
    Answer(M),
    /// Milliseconds go by, without the deadline being noticed.
    Wait(u16),
    /// Time goes by up to the next deadline.
    Deadline,
    /// The oldest write becomes durable.
    Sync,
    Propose {
        commands: u8,
        bytes: u8,
    },
    Read(AnyConsistency),
    /// Leadership is to be handed over, to somebody or to whoever is fit.
    Transfer(Option<Peer>),
    /// The machine slept, or its clock was set.
    ClockJumped,
    /// The leader that the subject follows says that it is there, and what is committed.
    Heartbeat(Near),
    /// Everybody who was sent appends answers the last one as a good follower does.
    Acknowledge,
    /// Power goes and comes back.
    Restart,
}

/// Every kind of read.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum AnyConsistency {
    Linearizable,
    Lease,
    Follower { millis: u16 },
    Local,
}

impl From<AnyConsistency> for Consistency {
    fn from(any: AnyConsistency) -> Self {
        match any {
            AnyConsistency::Linearizable => Self::Linearizable,
            AnyConsistency::Lease => Self::Lease,
            AnyConsistency::Follower { millis } => Self::Follower(Duration::from_millis(u64::from(millis))),
            AnyConsistency::Local => Self::Local,
        }
    }
}

/// Brings a subject on the stage and lets `acts` happen; `message` makes the target's messages.
pub fn drive<M>(scene: &Scene, acts: &[Act<M>], message: impl Fn(&Subject, &M) -> Option<Message>) {
    let Some(mut subject) = Subject::new(scene) else { return };
    subject.enter(scene.start);
    for act in acts.iter().take(200) {
        match act {
            Act::Message(sketch) | Act::Answer(sketch) => {
                if let Some(message) = message(&subject, sketch) {
                    subject.receive(message);
                }
            }
            Act::Wait(millis) => subject.now = subject.now + Duration::from_millis(u64::from(*millis)),
            Act::Deadline => subject.pass_to_deadline(),
            Act::Sync => subject.sync_one(),
            Act::Propose { commands, bytes } => subject.propose(usize::from(*commands % 8), usize::from(*bytes)),
            Act::Read(consistency) => subject.read((*consistency).into()),
            Act::Transfer(target) => subject.transfer(target.map(Peer::id)),
            Act::ClockJumped => subject.step(Input::ClockJumped),
            Act::Heartbeat(commit) => subject.hear_leader(*commit),
            Act::Acknowledge => subject.acknowledge_everything(),
            Act::Restart => subject.restart(),
        }
    }
}

impl Subject {
    /// Brings the subject into a role by the ordinary way: timers, and the grants of everybody else.
    fn enter(&mut self, start: Start) {
        let wanted = match start {
            Start::Follower => RoleKind::Follower,
            Start::Following => return self.hear(NodeId(2), Near::Same),
            Start::PreCandidate => RoleKind::PreCandidate,
            Start::Candidate => RoleKind::Candidate,
            Start::Leader => RoleKind::Leader,
        };
        for _ in 0..8 {
            let role = self.core.status().role;
            if role == wanted || role == RoleKind::Leader {
                break;
            }
            match role {
                RoleKind::Follower => self.pass_to_deadline(),
                _ => {
                    self.sync_all();
                    self.grant_everything();
                }
            }
        }
    }

    /// Everybody who was asked in the latest round says yes.
    fn grant_everything(&mut self) {
        for request in self.sent.split_off(0) {
            let (body, term) = match request.body {
                Body::PreVote(asked) => (Body::PreVoteResponse(granted(&asked)), request.term),
                Body::Vote(asked) => (Body::VoteResponse(granted(&asked)), request.term),
                _ => continue,
            };
            self.receive(Message { group: request.group, from: request.to, to: request.from, term, body });
        }
    }

    fn hear_leader(&mut self, commit: Near) {
        if let Some(leader) = self.core.status().leader.filter(|leader| *leader != SUBJECT) {
            self.hear(leader, commit);
        }
    }

    /// An honest heartbeat of `leader`, whose log is the subject's; only its commit index may be anything.
    fn hear(&mut self, leader: NodeId, commit: Near) {
        let status = self.core.status();
        let Ok(slice) = LogSlice::new(status.last, Vec::new()) else { return };
        let append = AppendEntries {
            stamp: self.now,
            round: RoundId(0),
            commit: Index(commit.to(status.last.index.0)),
            rank: Some(Rank { place: 0, slot: Duration::from_millis(3) }),
            fresh: Some(Fresh::newest().of(self)),
            snapshot: false,
            slice,
        };
        self.receive(self.message(leader, status.term.0, Body::AppendEntries(append)));
    }

    fn acknowledge_everything(&mut self) {
        let term = self.core.status().term;
        let mut newest = BTreeMap::new();
        for sent in self.sent.iter().filter(|sent| sent.term == term) {
            if let Body::AppendEntries(append) = &sent.body {
                newest.insert(sent.to, accepted(append, term, self));
            }
        }
        for (from, answer) in newest {
            self.receive(self.message(from, term.0, Body::AppendResponse(answer)));
        }
    }

    fn propose(&mut self, commands: usize, bytes: usize) {
        self.step(Input::Propose(vec![vec![7; bytes].into(); commands]));
    }
}

/// Everything that came is durable.
fn accepted(append: &AppendEntries, request_term: Term, subject: &Subject) -> AppendResponse {
    AppendResponse {
        stamp: append.stamp,
        round: append.round,
        request_term,
        promise_ms: 1000,
        sent: subject.now,
        priority: Priority::Normal,
        outcome: AppendOutcome::Accepted { matched: append.slice.last().index },
    }
}

fn granted(asked: &tenure::message::VoteRequest) -> VoteResponse {
    VoteResponse { round: asked.round, campaign_term: asked.campaign_term, verdict: Verdict::Granted }
}
