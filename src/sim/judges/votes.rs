//! Elections: one leader in a term, one vote of a node in a term whatever it forgot, nothing said that is not durable.

use std::collections::BTreeMap;

use super::{Verdict, require};
use crate::core::{Pulse, RoleKind};
use crate::log::HardState;
use crate::message::{AppendOutcome, Body, Message, Verdict as Answer};
use crate::time::Duration;
use crate::types::{Index, Term};

/// What was seen of votes and leaders.
#[derive(Default)]
pub(in crate::sim) struct Votes {
    leaders: BTreeMap<Term, u64>,
    candidates: BTreeMap<Term, u32>,
    /// By voter and term.
    votes: BTreeMap<(u64, Term), u64>,
    /// What was seen of each node last, while it lives.
    pulses: BTreeMap<u64, Pulse>,
    /// Match indexes, by leader and peer, of the leader's newest term.
    matches: BTreeMap<(u64, u64), (Term, Index)>,
}

impl Votes {
    /// A node's role changed. Returns whether this is a leader that nobody knew.
    pub(in crate::sim) fn role(&mut self, id: u64, role: RoleKind, term: Term) -> Result<bool, super::Violation> {
        match role {
            RoleKind::Candidate => *self.candidates.entry(term).or_default() += 1,
            RoleKind::Leader => {
                let elected = !self.leaders.contains_key(&term);
                let known = *self.leaders.entry(term).or_insert(id);
                return require(known == id, "election safety", id, || format!("n{known} and n{id} lead {term}"))
                    .map(|()| elected);
            }
            _ => {}
        }
        Ok(false)
    }

    /// Terms in which somebody stood and nobody led.
    pub(in crate::sim) fn lost_elections(&self) -> usize {
        self.candidates.keys().filter(|term| !self.leaders.contains_key(term)).count()
    }

    /// Terms in which more than one node stood.
    pub(in crate::sim) fn contested(&self) -> usize {
        self.candidates.values().filter(|candidates| **candidates > 1).count()
    }

    /// A node has this hard state on its disk, whatever happens. What was lost before that was never given.
    pub(in crate::sim) fn saved(&mut self, id: u64, hard_state: HardState) -> Verdict {
        match hard_state.vote {
            Some(vote) => self.voted(id, hard_state.term, vote.0),
            None => Ok(()),
        }
    }

    /// A message leaves. `durable` is what its sender has on disk whatever happens; so it has its log up to an index if
    /// `is_durable` says so.
    pub(in crate::sim) fn sent(
        &mut self,
        message: &Message,
        durable: HardState,
        is_durable: impl Fn(Index) -> bool,
    ) -> Verdict {
        let (from, term) = (message.from.0, message.term);
        require(term <= durable.term, "nothing said for a term that is not durable", from, || {
            format!("{message:?}, {} is durable", durable.term)
        })?;
        match &message.body {
            Body::Vote(_) => {
                let own = durable.term == term && durable.vote == Some(message.from);
                require(own, "a vote is durable before it is told", from, || format!("{message:?}, {durable:?}"))?;
                self.voted(from, term, from)
            }
            Body::VoteResponse(answer) if answer.verdict == Answer::Granted => {
                let told = durable.term > answer.campaign_term
                    || (durable.term == answer.campaign_term && durable.vote == Some(message.to));
                require(told, "a vote is durable before it is told", from, || format!("{message:?}, {durable:?}"))?;
                self.voted(from, answer.campaign_term, message.to.0)
            }
            Body::AppendResponse(answer) => {
                let promise = Duration::from_millis(u64::from(answer.promise_ms));
                require(promise <= durable.longest_promise, "a promise is durable before it is given", from, || {
                    format!("{message:?}, {durable:?}")
                })?;
                match answer.outcome {
                    AppendOutcome::Accepted { matched } => {
                        require(is_durable(matched), "acknowledged to a leader is durable", from, || {
                            format!("{message:?}, and {matched} is not on disk as it is in its log")
                        })
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn voted(&mut self, voter: u64, term: Term, candidate: u64) -> Verdict {
        let known = *self.votes.entry((voter, term)).or_insert(candidate);
        require(known == candidate, "one vote in a term", voter, || {
            format!("voted for n{known} and for n{candidate} in {term}")
        })
    }

    /// What a node is at after a step: nothing goes back while it lives.
    pub(in crate::sim) fn stepped(&mut self, id: u64, now: Pulse) -> Verdict {
        let Some(before) = self.pulses.insert(id, now) else { return Ok(()) };
        let never = [
            (now.term >= before.term, "the term never falls"),
            (now.commit >= before.commit, "the commit index never falls"),
            (now.applied >= before.applied, "the applied index never falls"),
            (now.applied <= now.commit && now.commit <= now.last.index, "applied, commit and last index are in order"),
            (now.durable <= now.last.index, "nothing beyond the log is durable"),
            (now.term > before.term || before.vote.is_none() || now.vote == before.vote, "a vote lasts for its term"),
        ];
        let wrong = never.into_iter().find(|(holds, _)| !holds);
        wrong.map_or(Ok(()), |(_, judge)| super::broken(judge, id, format!("{before:?}, then {now:?}")))
    }

    /// What a node that leads `term` knows of a peer: it falls with the leadership only.
    pub(in crate::sim) fn matched(&mut self, id: u64, term: Term, peer: u64, index: Index) -> Verdict {
        let (known_term, known) = self.matches.insert((id, peer), (term, index)).unwrap_or_default();
        require(known_term != term || index >= known, "a match index never falls", id, || {
            format!("of n{peer} in {term}: {known}, then {index}")
        })
    }

    /// What a node that leads `term` knew of a peer when somebody looked last: it may know more by now.
    pub(in crate::sim) fn known_match(&self, id: u64, term: Term, peer: u64) -> Index {
        let known = self.matches.get(&(id, peer)).filter(|(known, _)| *known == term);
        known.map_or(Index::ZERO, |(_, matched)| *matched)
    }

    /// Other members, from now on: who leaves and comes back is met anew.
    pub(in crate::sim) fn members_changed(&mut self, id: u64) {
        self.matches.retain(|(leader, _), _| *leader != id);
    }

    /// A node's process ended.
    pub(in crate::sim) fn died(&mut self, id: u64) {
        self.pulses.remove(&id);
    }
}
