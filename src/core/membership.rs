//! Changes of the configuration (dissertation chapter 4; rule `p15`).
//!
//! A change says what the group is to become. It gets there step by step, one configuration entry after the other, each
//! in use from the moment it is appended and rolled back if it is truncated: newcomers learn first, until they keep up;
//! then one voter more or less is one step, and anything else goes by way of a joint configuration. Neighbours on that
//! way cannot decide without each other, and nobody takes the next step before the one before is committed by a leader
//! that has committed an entry of its own term (the known flaw of changes without that rule).
//!
//! What comes next follows from the configuration in use and from what was asked for. So a joint configuration is left
//! by whoever leads, also after a change of leader, and a step that cannot be taken now is taken as soon as it can.

use std::collections::BTreeMap;

use crate::core::fingerprint::project;
use crate::core::replication::Urge;
use crate::core::role::Role;
use crate::core::{Abdication, Change, ChangeAnswer, ChangeError, ChangeId, Core, Event, Output};
use crate::log::{Entry, EntryKind};
use crate::quorum::Configuration;
use crate::time::{Duration, Instant};
use crate::types::{EntryId, Index, NodeId};

/// The change that a leader is making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changing {
    id: ChangeId,
    target: Configuration,
    /// Until then newcomers must keep up.
    deadline: Instant,
    /// Those who do not vote yet and are to.
    lessons: BTreeMap<NodeId, Lesson>,
}

/// How a newcomer catches up: round by round, each to where the log ended when it began. Who takes less than an election
/// timeout for one keeps up (dissertation §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lesson {
    began: Instant,
    up_to: Index,
    /// In the round before.
    kept_up: bool,
}

project!(Changing { id: left_out, target, deadline, lessons });
project!(Lesson { began, up_to, kept_up });

impl Core {
    /// Begins a change, or refuses it.
    pub(super) fn change(&mut self, now: Instant, id: ChangeId, change: Change, out: &mut Output) {
        if let Err(error) = self.may_change(&change) {
            return out.changes.push(ChangeAnswer { id, result: Err(error) });
        }
        let Change { to, patience, .. } = change;
        let mut changing = Changing { id, target: to, deadline: now + patience, lessons: BTreeMap::new() };
        changing.time_newcomers(self.configurations.in_use(), now, self.log.last().index);
        if let Role::Leader(leader) = &mut self.role {
            leader.changing = Some(Box::new(changing));
        }
        self.go_on_changing(now, out);
    }

    fn may_change(&self, change: &Change) -> Result<(), ChangeError> {
        let Role::Leader(leader) = &self.role else { return Err(ChangeError::NotLeader { leader: self.leader }) };
        let in_use = self.configurations.index_in_use();
        if leader.changing.is_some() || self.configuration().is_joint() || in_use > self.commit {
            return Err(ChangeError::InProgress);
        }
        if change.expected.is_some_and(|expected| expected != in_use) {
            return Err(ChangeError::Changed { in_use });
        }
        if change.to.is_joint() {
            return Err(ChangeError::Joint);
        }
        if let Some(barred) = self.configuration().barred().iter().find(|node| change.to.is_member(*node)) {
            return Err(ChangeError::Barred(barred));
        }
        let largest = self.configuration().way_to(&change.to).map(|step| step.size()).max().unwrap_or_default();
        if largest > Configuration::MAX_MEMBERS {
            return Err(ChangeError::TooManyMembers(largest));
        }
        if self.drains() {
            return Err(ChangeError::Transferring);
        }
        if self.committed_in_term() { Ok(()) } else { Err(ChangeError::NotReady) }
    }

    /// Takes the next step, if it is time. To be asked whenever something was committed or heard.
    pub(super) fn go_on_changing(&mut self, now: Instant, out: &mut Output) {
        if !self.may_reconfigure(now) {
            return;
        }
        self.say_farewell(now, out);
        if let Some(next) = self.next_configuration(now, out) {
            self.reconfigure(&next, now, out);
        } else if !self.configuration().is_voter(self.config.id) {
            self.abdicate(now, self.fittest(now), Abdication::NotAVoter, out);
        }
    }

    /// Whether the configuration in use may have a successor: it is committed, this leader knows of everything committed
    /// before its term, leadership stays here, and no lease told before outlasts what is proven now (rule `p15`).
    fn may_reconfigure(&self, now: Instant) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let committed = self.configurations.index_in_use() <= self.commit && self.committed_in_term();
        let lease_covered = leader.lease_until >= leader.published || leader.published <= now;
        committed && lease_covered && !self.drains()
    }

    /// What to append now. Answers the change if it has come to its end.
    fn next_configuration(&mut self, now: Instant, out: &mut Output) -> Option<Configuration> {
        let (in_use, e) = (self.configurations.in_use(), self.config.timing.promise());
        let Role::Leader(leader) = &mut self.role else { return None };
        let Some(changing) = &leader.changing else {
            return in_use.is_joint().then(|| in_use.left());
        };
        let Some(next) = in_use.next_towards(&changing.target) else {
            let result = Ok(self.configurations.index_in_use());
            out.changes.push(ChangeAnswer { id: changing.id, result });
            leader.changing = None;
            return None;
        };
        let keeps_up =
            |node| in_use.is_voter(node) || changing.lessons.get(&node).is_some_and(|it| it.keeps_up(now, e));
        let behind = next.voters().iter().find(|node| !keeps_up(*node));
        let Some(behind) = behind.filter(|_| !in_use.is_joint()) else { return Some(next) };
        if changing.deadline <= now {
            let result = Err(ChangeError::TimedOut { behind });
            out.changes.push(ChangeAnswer { id: changing.id, result });
            leader.changing = None;
        }
        None
    }

    /// Appends a configuration, which is in use from here on.
    fn reconfigure(&mut self, next: &Configuration, now: Instant, out: &mut Output) {
        let id = EntryId { term: self.hard_state.term, index: self.log.last().index.next() };
        self.append(Entry { id, kind: EntryKind::Configuration, payload: next.encode() }, out);
        self.welcome(now, id.index);
        self.write_to_all(now, out);
        // A lone voter's disk may be the whole quorum.
        self.commit_by_quorum(now, out);
        // What waits for those who count no more has been confirmed by the others.
        self.answer_confirmed_reads(now, out);
    }

    /// Members that are new are written to from now on; those that are to vote are timed.
    fn welcome(&mut self, now: Instant, last: Index) {
        let members = self.configurations.in_use().members();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.configured_at = now;
        for member in members.into_iter().filter(|member| *member != self.config.id) {
            leader.welcome(member, last);
        }
        if let Some(changing) = &mut leader.changing {
            changing.time_newcomers(self.configurations.in_use(), now, last);
        }
    }

    /// Those who are no members any more hear that it is committed, and then nothing. A message that is lost is not sent
    /// again: they will find out when they stand (rule `p14`).
    fn say_farewell(&mut self, now: Instant, out: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        let gone: Vec<_> = leader.peers.keys().copied().filter(|peer| !self.configuration().is_member(*peer)).collect();
        for peer in gone {
            self.write_to(peer, Urge::Always, now, out);
            if let Role::Leader(leader) = &mut self.role {
                leader.peers.remove(&peer);
            }
        }
    }

    /// A peer acknowledged more.
    pub(super) fn note_lesson(&mut self, now: Instant, peer: NodeId) {
        let (last, e) = (self.log.last().index, self.config.timing.promise());
        let Role::Leader(leader) = &mut self.role else { return };
        let (Some(changing), Some(progress)) = (&mut leader.changing, leader.peers.get(&peer)) else { return };
        if let Some(lesson) = changing.lessons.get_mut(&peer).filter(|lesson| progress.match_index >= lesson.up_to) {
            let kept_up = lesson.in_time(now, e);
            *lesson = Lesson { began: now, up_to: last, kept_up };
        }
    }

    /// Leadership is over: whether the change is completed is the next leader's to find out.
    pub(super) fn give_up_change(&mut self, error: ChangeError, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(changing) = leader.changing.take()
        {
            out.changes.push(ChangeAnswer { id: changing.id, result: Err(error) });
        }
    }

    /// A message of a node that the group was recovered without: it knows a past that was given up, and may be on a way of
    /// its own (decision 11). Nothing of it is heard, not even a term. Reported at the first, second, fourth, ... message.
    pub(super) fn note_barred(&mut self, from: NodeId, out: &mut Output) {
        self.counters.barred += 1;
        if self.counters.barred.is_power_of_two() {
            out.events.push(Event::Barred { from });
        }
    }

    /// Everything committed is here: if the latest configuration is, and is without this node, it is no member any more.
    pub(super) fn note_removal(&mut self, out: &mut Output) {
        let id = self.config.id;
        let (_, committed) = self.configurations.committed(self.commit);
        // A newcomer has not been one yet.
        let gone = !committed.is_member(id) && !self.configuration().is_member(id) && self.configurations.ever_had(id);
        if gone && !self.removed {
            self.removed = true;
            out.events.push(Event::Removed);
        }
    }
}

impl Changing {
    /// From now on learners that are to vote are timed; they may have been learners for long.
    fn time_newcomers(&mut self, in_use: &Configuration, now: Instant, last: Index) {
        for node in self.target.voters().iter().filter(|node| in_use.learners().contains(*node)) {
            self.lessons.entry(node).or_insert(Lesson { began: now, up_to: last, kept_up: false });
        }
    }
}

impl Lesson {
    fn in_time(&self, now: Instant, e: Duration) -> bool {
        now <= self.began + e
    }

    /// It may have kept up and fallen silent since.
    fn keeps_up(&self, now: Instant, e: Duration) -> bool {
        self.kept_up && self.in_time(now, e)
    }
}
