//! One round of votes or pre-votes: what was true when the requests left, and who answered what.

use std::collections::BTreeMap;

use crate::core::fingerprint::project;
use crate::message::{Refusal, Verdict, VoteRequest, VoteResponse};
use crate::quorum::{Configuration, Tally, Voters};
use crate::time::Duration;
use crate::types::{NodeId, Term};

/// A round in progress.
///
/// It keeps the term in which its requests left (rows `o03`, `o10`): answers are compared with that, never with "now".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    request: VoteRequest,
    /// The current term when the requests left.
    saved_term: Term,
    ballots: BTreeMap<NodeId, Verdict>,
}

project!(Round { request, saved_term, ballots });

/// Proof that a quorum voted for this node in `term`. Only [`Round::mandate`] makes one, and only with one may a node
/// become leader.
#[derive(Debug)]
pub(super) struct Mandate {
    pub(super) term: Term,
}

impl Round {
    pub(super) fn new(request: VoteRequest, saved_term: Term) -> Self {
        Self { request, saved_term, ballots: BTreeMap::new() }
    }

    pub(super) fn request(&self) -> VoteRequest {
        self.request
    }

    /// Whether an answer belongs to this round, and this round to the term it is now (rows `o07`, `o14`, `l08`).
    pub(super) fn awaits(&self, response: &VoteResponse, current_term: Term) -> bool {
        self.saved_term == current_term
            && response.round == self.request.round
            && response.campaign_term == self.request.campaign_term
    }

    /// Counts an answer. A voter counts once; a later answer of the same voter replaces a refusal, never a grant.
    pub(super) fn record(&mut self, voter: NodeId, verdict: Verdict) {
        let ballot = self.ballots.entry(voter).or_insert(verdict);
        if *ballot != Verdict::Granted {
            *ballot = verdict;
        }
    }

    pub(super) fn has_ballot_of(&self, voter: NodeId) -> bool {
        self.ballots.contains_key(&voter)
    }

    /// Who answered what so far.
    pub(super) fn answers(&self) -> Vec<(NodeId, Verdict)> {
        self.ballots.iter().map(|(voter, verdict)| (*voter, *verdict)).collect()
    }

    /// Whether a quorum says that this node was removed (rule `p14`). Lost as long as nobody says so.
    pub(super) fn removal(&self, configuration: &Configuration) -> Tally {
        let removed = |verdict: &Verdict| matches!(verdict, Verdict::Refused(Refusal::Removed { .. }));
        if !self.ballots.values().any(removed) {
            return Tally::Lost;
        }
        configuration.tally(|voter| self.ballots.get(&voter).map(removed))
    }

    pub(super) fn tally(&self, configuration: &Configuration) -> Tally {
        configuration.tally(|voter| self.ballots.get(&voter).map(|verdict| *verdict == Verdict::Granted))
    }

    /// The mandate of a vote round, once a quorum granted.
    pub(super) fn mandate(&self, configuration: &Configuration) -> Option<Mandate> {
        (self.tally(configuration) == Tally::Won).then_some(Mandate { term: self.request.campaign_term })
    }

    /// After how long a lost round could be won, judging by the promises that stood in its way (rule `p13`): the k-th
    /// smallest remaining time, k being the grants still missing; the later half when joint. `None` if promises alone
    /// are not what lost it.
    pub(super) fn promises_end_in(&self, configuration: &Configuration) -> Option<Duration> {
        let waits: Option<Vec<Duration>> = configuration.halves().map(|half| self.half_opens_in(half)).collect();
        waits?.into_iter().max().filter(|wait| !wait.is_zero())
    }

    fn half_opens_in(&self, half: &Voters) -> Option<Duration> {
        let mut grants = 0;
        let mut remaining = Vec::new();
        for verdict in half.iter().filter_map(|voter| self.ballots.get(&voter)) {
            match verdict {
                Verdict::Granted => grants += 1,
                Verdict::Refused(Refusal::Promised { remaining: wait, .. }) => remaining.push(*wait),
                Verdict::Refused(_) => {}
            }
        }
        remaining.sort_unstable();
        match half.quorum().saturating_sub(grants) {
            0 => Some(Duration::ZERO),
            missing => remaining.get(missing - 1).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EntryId, Index, RoundId};

    fn round() -> Round {
        let request = VoteRequest {
            round: RoundId(1),
            campaign_term: Term(2),
            last: EntryId::new(1, 1),
            configuration: Index(1),
            abdicated: None,
        };
        Round::new(request, Term(1))
    }

    fn promised(ms: u64) -> Verdict {
        let remaining = Duration::from_millis(ms);
        Verdict::Refused(Refusal::Promised { leader: None, term: Term(1), remaining })
    }

    fn five() -> Configuration {
        Configuration::of_voters((1..=5).map(NodeId)).unwrap()
    }

    #[test]
    fn o07_each_voter_counts_once() {
        let mut round = round();
        for _ in 0..5 {
            round.record(NodeId(2), Verdict::Granted);
        }
        assert_eq!(round.tally(&five()), Tally::Open);
        assert!(round.mandate(&five()).is_none());
    }

    #[test]
    fn a_late_duplicate_refusal_does_not_take_a_grant_back() {
        let mut round = round();
        round.record(NodeId(2), Verdict::Granted);
        round.record(NodeId(2), Verdict::Refused(Refusal::OldTerm));
        round.record(NodeId(1), Verdict::Granted);
        round.record(NodeId(3), Verdict::Granted);
        assert_eq!(round.mandate(&five()).map(|m| m.term), Some(Term(2)));
    }

    #[test]
    fn p13_the_wait_is_the_kth_smallest_of_the_promises() {
        let mut round = round();
        round.record(NodeId(1), Verdict::Granted);
        round.record(NodeId(2), promised(300));
        round.record(NodeId(3), promised(100));
        round.record(NodeId(4), promised(200));
        assert_eq!(round.tally(&five()), Tally::Lost);
        assert_eq!(round.promises_end_in(&five()), Some(Duration::from_millis(200)), "two grants are missing");
    }

    #[test]
    fn p13_no_hint_if_waiting_would_not_help() {
        let mut round = round();
        round.record(NodeId(1), Verdict::Granted);
        for node in 2..=4 {
            round.record(NodeId(node), Verdict::Refused(Refusal::OldTerm));
        }
        round.record(NodeId(5), promised(100));
        assert_eq!(round.promises_end_in(&five()), None);
    }
}
