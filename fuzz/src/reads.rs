//! The judge of reads: what an answer must have seen, as far as one node can tell.

use std::collections::BTreeMap;

use tenure::core::{Consistency, Core, CoreStatus, ReadAnswer, ReadId, RoleKind};
use tenure::message::{AppendResponse, ReadIndex, ReadIndexResponse};
use tenure::types::{Index, NodeId, RoundId, Term};

use crate::subject::SUBJECT;

/// Reads and questions that are not answered yet, and what was heard since they were asked.
#[derive(Default)]
pub(crate) struct Reads {
    /// Reads since the beginning: the next one's name.
    asked: u64,
    open: BTreeMap<ReadId, (Consistency, Asked)>,
    /// What followers have asked: by whom, in which round and term. One may ask the same thing again.
    questions: BTreeMap<(NodeId, RoundId, Term), Vec<(ReadIndex, Asked)>>,
    /// Counts what happens: messages that come and reads that are asked for.
    now: u64,
    /// When each node last answered an append of each term.
    answers: BTreeMap<(Term, NodeId), u64>,
    /// When the subject first asked a leader in a round and term.
    forwarded: BTreeMap<(NodeId, RoundId, Term), u64>,
    /// When it asked the newest question to which it was told an index.
    told: u64,
}

/// What was true when somebody asked.
#[derive(Clone, Copy)]
struct Asked {
    at: u64,
    commit: Index,
    /// Whether this node has led at any time since.
    led: bool,
}

impl Reads {
    /// A name for a read that is asked for now.
    pub(crate) fn ask(&mut self, consistency: Consistency, status: &CoreStatus) -> ReadId {
        self.asked += 1;
        self.now += 1;
        let id = ReadId(self.asked);
        self.open.insert(id, (consistency, self.ask_now(status)));
        id
    }

    /// A follower asks.
    pub(crate) fn asked_by(&mut self, from: NodeId, term: Term, question: ReadIndex, status: &CoreStatus) {
        let asked = self.ask_now(status);
        self.questions.entry((from, question.round, term)).or_default().push((question, asked));
    }

    fn ask_now(&self, status: &CoreStatus) -> Asked {
        Asked { at: self.now, commit: status.commit, led: status.role == RoleKind::Leader }
    }

    /// A message comes.
    pub(crate) fn hear(&mut self) {
        self.now += 1;
    }

    /// The message that comes answers an append.
    pub(crate) fn hear_answer(&mut self, from: NodeId, answer: &AppendResponse) {
        self.answers.insert((answer.request_term, from), self.now);
    }

    /// The subject asks a leader, perhaps again.
    pub(crate) fn forward(&mut self, to: NodeId, term: Term, question: ReadIndex) {
        self.forwarded.entry((to, question.round, term)).or_insert(self.now);
    }

    /// The message that comes is meant to answer such a question.
    pub(crate) fn hear_index(&mut self, from: NodeId, answer: &ReadIndexResponse) {
        let asked = self.forwarded.get(&(from, answer.round, answer.request_term)).copied();
        if let Some(asked) = asked.filter(|_| answer.index.is_some()) {
            self.told = self.told.max(asked);
        }
    }

    /// This node leads now.
    pub(crate) fn note_leader(&mut self) {
        self.open.values_mut().for_each(|(_, asked)| asked.led = true);
    }

    /// The power went: nobody waits any more.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
        self.questions.clear();
        self.forwarded.clear();
    }

    /// Each read is answered once, and with an index that covers what had to be seen.
    pub(crate) fn judge_answer(&mut self, answer: &ReadAnswer, core: &Core, status: &CoreStatus) {
        let (consistency, asked) = self.open.remove(&answer.id).expect("a read that waits, answered once");
        let Ok(index) = answer.result else { return };
        let by_lease = consistency == Consistency::Lease && core.config().lease_reads;
        match consistency {
            Consistency::Local => assert!(index <= status.commit, "{answer:?} beyond what can be applied"),
            Consistency::Linearizable | Consistency::Lease if status.role == RoleKind::Leader => {
                self.judge_index(index, &asked, status.term, by_lease, core, status);
            }
            // A node that did not lead knows nothing by itself.
            Consistency::Linearizable | Consistency::Lease if !asked.led => {
                assert!(self.told >= asked.at, "{answer:?}, but no leader was asked since the read was asked for");
            }
            // How stale a read may be is a matter of all nodes; one may have led in between.
            _ => {}
        }
    }

    /// Every answer to a follower answers a question of it; and if it names an index, that is as for reads here.
    pub(crate) fn judge_response(
        &mut self,
        to: NodeId,
        response: &ReadIndexResponse,
        core: &Core,
        status: &CoreStatus,
    ) {
        let (key, term) = ((to, response.round, response.request_term), response.request_term);
        let open = self.questions.get(&key).filter(|open| !open.is_empty()).expect("an answer to what was asked");
        // No follower gives two questions one number, but a fuzzer does: this answers the first that it can answer.
        let fits = |(question, asked): &(ReadIndex, Asked)| question.lease || self.heard_since(asked, term, status);
        let answered = open.iter().position(fits).filter(|_| response.index.is_some()).unwrap_or(0);
        let (question, asked) = self.questions.get_mut(&key).map(|open| open.remove(answered)).expect("just seen");
        if let Some(index) = response.index {
            self.judge_index(index, &asked, response.request_term, question.lease, core, status);
        }
    }

    /// A leader of `term` lets somebody read at `index` who asked earlier.
    fn judge_index(&self, index: Index, asked: &Asked, term: Term, by_lease: bool, core: &Core, status: &CoreStatus) {
        assert!(index <= status.commit, "{index} is not committed");
        assert!(index >= asked.commit, "{index}, but {} was committed when the read was asked for", asked.commit);
        assert_eq!(core.log().term_at(index), Some(term), "a leader that has committed nothing knows nothing (`b70`)");
        let confirmed = self.heard_since(asked, term, status);
        assert!(by_lease || confirmed, "{index} without a quorum's word since the read was asked for");
    }

    /// Whether a quorum has answered the leader of `term` since then.
    fn heard_since(&self, asked: &Asked, term: Term, status: &CoreStatus) -> bool {
        let last_heard = |node| match node {
            SUBJECT => u64::MAX,
            other => self.answers.get(&(term, other)).copied().unwrap_or_default(),
        };
        status.configuration.reached(last_heard) > asked.at
    }
}
