//! Where a run begins, and what may happen in it.

use arbitrary::Arbitrary;
use tenure::core::{Input, ReadId, RoleKind};
use tenure::message::{Body, Message, Verdict, VoteResponse};
use tenure::time::Duration;

use crate::Subject;

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
    /// The role to begin in; the targets for answers choose it themselves.
    pub start: Start,
}

#[derive(Arbitrary, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Follower,
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
    Read,
    /// Power goes and comes back.
    Restart,
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
            Act::Read => subject.read(),
            Act::Restart => subject.restart(),
        }
    }
}

impl Subject {
    /// Brings the subject into a role by the ordinary way: timers, and the grants of everybody else.
    fn enter(&mut self, start: Start) {
        let wanted = match start {
            Start::Follower => RoleKind::Follower,
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

    fn propose(&mut self, commands: usize, bytes: usize) {
        self.step(Input::Propose(vec![vec![7; bytes].into(); commands]));
    }

    fn read(&mut self) {
        self.reads += 1;
        self.step(Input::Read(ReadId(self.reads), tenure::core::Consistency::Linearizable));
    }
}

fn granted(asked: &tenure::message::VoteRequest) -> VoteResponse {
    VoteResponse { round: asked.round, campaign_term: asked.campaign_term, verdict: Verdict::Granted }
}
