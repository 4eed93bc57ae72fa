//! Could this history of client operations have happened on one machine that does one thing at a time?
//!
//! [`check`] looks for an order of the calls that the [`Model`] explains and in which no call comes after one that was
//! invoked only when the first had returned (Herlihy and Wing, 1990). It goes depth first, always on from the calls that
//! may come next (Wing and Gong, 1993), and never twice from the same set of placed calls with the same state (Lowe,
//! 2017). Three observations keep the search small where Lowe's memory alone does not:
//!
//! - A read that may come next, and returned what it should, does: nothing that follows can tell.
//! - A call of unknown outcome is placed only where the next one can tell. If that would return the same and leave the
//!   same behind without it, the order without it is an explanation, too.
//! - Of several such calls of the same operation the first invoked is the first placed. They are alike.
//!
//! So thousands of calls take milliseconds if few of them were concurrent, even if a hundred have no known outcome. Many
//! concurrent writes of one key do cost: there is a bound, and a history that exceeds it is [`CheckError::Undecided`].
//!
//! What was refused for certain does not belong in a history. If it took effect all the same, then a read that saw it
//! has no explanation.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Debug, Write as _};
use std::hash::Hash;
use std::ops::Range;

use crate::time::Instant;

/// How many configurations (sets of placed calls, with a state) [`check`] visits before it gives up. A configuration
/// takes some hundred bytes plus the state.
pub const MAX_CONFIGURATIONS: usize = 1_000_000;

/// What the system should do, one operation after the other.
///
/// The value is the state. It is cloned and hashed for every configuration, so it should be small: a single key rather
/// than a whole store (see [`check_by_key`]).
pub trait Model: Clone + Eq + Hash {
    /// What a client asks for.
    type Operation: Clone + PartialEq + Debug;
    /// What it gets.
    type Outcome: Clone + PartialEq + Debug;

    /// Executes an operation. Outcome and state afterwards follow from the state before and the operation alone.
    fn step(&mut self, operation: &Self::Operation) -> Self::Outcome;

    /// Whether this operation leaves every state as it is. It may always say no; saying yes makes the check faster.
    fn is_read(_operation: &Self::Operation) -> bool {
        false
    }
}

/// One call of one client.
#[derive(Clone, PartialEq, Debug)]
pub struct Call<O, R> {
    /// Who called. Only for people: the check knows no clients, and calls of one client may overlap.
    pub client: u64,
    /// What was asked for.
    pub operation: O,
    /// When, before the first byte was sent. All instants of a history are of one clock.
    pub invoked: Instant,
    /// When the whole answer was there, and what it was. `None`: unknown; the operation may take effect at any time
    /// after it was invoked, once, or never. An instant before the invocation counts as that of the invocation.
    pub returned: Option<(Instant, R)>,
}

type CallOf<M> = Call<<M as Model>::Operation, <M as Model>::Outcome>;

/// Why a history was not found linearizable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no such order.
    #[error("{0}")]
    NotLinearizable(Counterexample),
    /// The bound was reached: neither an order was found nor that there is none.
    #[error("undecided after {configurations} configurations")]
    Undecided {
        /// How many were visited.
        configurations: usize,
    },
}

/// The part of a history that has no explanation. Its text shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// An order that explains every call that returned before `stuck` did, and maybe others: positions in the history.
    /// No order explains more of the beginning.
    pub explained: Vec<usize>,
    /// The first call to return that no order can go on with: its position in the history.
    pub stuck: usize,
    text: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks a whole history, in any order, from the state `initial`.
///
/// # Errors
/// [`CheckError`], also if more than [`MAX_CONFIGURATIONS`] would have to be visited.
pub fn check<M: Model>(initial: &M, calls: &[CallOf<M>]) -> Result<(), CheckError> {
    check_within(MAX_CONFIGURATIONS, initial, calls)
}

/// [`check`] with another bound on the configurations.
///
/// # Errors
/// [`CheckError`]
pub fn check_within<M: Model>(configurations: usize, initial: &M, calls: &[CallOf<M>]) -> Result<(), CheckError> {
    Search::<M>::new(calls).run(initial, configurations)
}

/// Checks each key alone, each from the state `initial`: a history of independent objects is linearizable if that of
/// every object is.
///
/// # Errors
/// The first key whose calls fail, and why; positions are those in `calls`.
pub fn check_by_key<M: Model, K: Ord>(
    initial: &M,
    calls: &[CallOf<M>],
    key_of: impl Fn(&M::Operation) -> K,
) -> Result<(), (K, CheckError)> {
    let mut keys: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        keys.entry(key_of(&call.operation)).or_default().push(at);
    }
    for (key, positions) in keys {
        let part: Vec<_> = positions.iter().map(|at| calls[*at].clone()).collect();
        match check(initial, &part) {
            Ok(()) => {}
            Err(CheckError::NotLinearizable(mut found)) => {
                found.explained.iter_mut().for_each(|at| *at = positions[*at]);
                found.stuck = positions[found.stuck];
                return Err((key, CheckError::NotLinearizable(found)));
            }
            Err(undecided) => return Err((key, undecided)),
        }
    }
    Ok(())
}

/// A history, prepared.
struct Search<'a, M: Model> {
    calls: &'a [CallOf<M>],
    /// The calls that returned, by invocation.
    known: Vec<Known<'a, M>>,
    /// The others, by invocation.
    unknown: Vec<Unknown<'a, M>>,
}

struct Known<'a, M: Model> {
    position: usize,
    operation: &'a M::Operation,
    outcome: &'a M::Outcome,
    invoked: Instant,
    returned: Instant,
}

struct Unknown<'a, M: Model> {
    position: usize,
    operation: &'a M::Operation,
    invoked: Instant,
    /// The last one before it of the same operation.
    twin: Option<usize>,
}

/// Which calls are placed, and the state after them. Indexes of [`Search::known`] and [`Search::unknown`].
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration<M> {
    /// The first known call that is not placed.
    first: usize,
    /// The known ones after it that are, in ascending order.
    ahead: Vec<usize>,
    /// The unknown ones that are, in ascending order.
    used: Vec<usize>,
    state: M,
    /// If the last one placed is an unknown one: the state before it. The next one must make it necessary.
    before: Option<M>,
}

/// A configuration on the way, and where one may go from it.
struct Visit<M> {
    configuration: Configuration<M>,
    /// The call that led here: its position in the history.
    placed: Option<usize>,
    /// The known calls that time allows to come next.
    window: Vec<usize>,
    /// Those of them that fit and are still to be tried, and the states that they lead to.
    known: Vec<(usize, M)>,
    /// The unknown ones still to be tried,
    unknown: Range<usize>,
    /// of all so many that time allows.
    may_follow: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(calls: &'a [CallOf<M>]) -> Self {
        let mut known = Vec::new();
        let mut unknown: Vec<Unknown<'a, M>> = Vec::new();
        let mut order: Vec<usize> = (0..calls.len()).collect();
        order.sort_by_key(|at| calls[*at].invoked);
        for position in order {
            let Call { operation, invoked, returned, .. } = &calls[position];
            match returned {
                Some((returned, outcome)) => {
                    let returned = *returned.max(invoked);
                    known.push(Known { position, operation, outcome, invoked: *invoked, returned });
                }
                None => {
                    let twin = unknown.iter().rposition(|earlier| earlier.operation == operation);
                    unknown.push(Unknown { position, operation, invoked: *invoked, twin });
                }
            }
        }
        Self { calls, known, unknown }
    }

    fn run(&self, initial: &M, limit: usize) -> Result<(), CheckError> {
        let Some(first) = self.known.first() else { return Ok(()) };
        let start =
            Configuration { first: 0, ahead: Vec::new(), used: Vec::new(), state: initial.clone(), before: None };
        let mut visited: HashSet<Configuration<M>> = HashSet::new();
        let mut best = Best { reached: (first.invoked, 0), explained: Vec::new(), stuck: first.position };
        let mut path = vec![self.visit(start, None)];
        while let Some(visit) = path.last_mut() {
            let Some((next, placed)) = self.advance(visit) else {
                best.offer(self, &path);
                path.pop();
                continue;
            };
            if next.first == self.known.len() {
                return Ok(());
            }
            if visited.len() == limit {
                return Err(CheckError::Undecided { configurations: limit });
            }
            if visited.insert(next.clone()) {
                path.push(self.visit(next, Some(placed)));
            }
        }
        Err(CheckError::NotLinearizable(self.explain(initial, best)))
    }

    /// The next configuration from here that was not tried yet, and the position of the call that leads there.
    fn advance(&self, visit: &mut Visit<M>) -> Option<(Configuration<M>, usize)> {
        if let Some((at, state)) = visit.known.pop() {
            return Some((self.after_known(&visit.configuration, at, state), self.known[at].position));
        }
        loop {
            let at = visit.unknown.next()?;
            if let Some(next) = self.after_unknown(visit, at) {
                return Some((next, self.unknown[at].position));
            }
        }
    }

    fn after_known(&self, from: &Configuration<M>, at: usize, state: M) -> Configuration<M> {
        let mut next = Configuration { state, before: None, ..from.clone() };
        insert(&mut next.ahead, at);
        let placed = next.ahead.iter().zip(next.first..).take_while(|(ahead, at)| *ahead == at).count();
        next.ahead.drain(..placed);
        next.first += placed;
        next
    }

    fn after_unknown(&self, visit: &Visit<M>, at: usize) -> Option<Configuration<M>> {
        let from = &visit.configuration;
        let Unknown { operation, twin, .. } = &self.unknown[at];
        if is_in(&from.used, at) || twin.is_some_and(|twin| !is_in(&from.used, twin)) {
            return None;
        }
        let state = necessary(from.before.as_ref(), &from.state, operation)?;
        if state == from.state || !self.goes_on(visit, &state, at) {
            return None;
        }
        let mut next = Configuration { state, before: Some(from.state.clone()), ..from.clone() };
        insert(&mut next.used, at);
        Some(next)
    }

    /// Whether anything may follow unknown call `at`, which led from this visit to `state`.
    fn goes_on(&self, visit: &Visit<M>, state: &M, at: usize) -> bool {
        let Visit { configuration: Configuration { state: before, used, .. }, window, may_follow, .. } = visit;
        let known = |next: &usize| place(Some(before), state, &self.known[*next]).is_some();
        let unknown = |next: usize| {
            next != at && !is_in(used, next) && necessary(Some(before), state, self.unknown[next].operation).is_some()
        };
        window.iter().any(known) || (0..*may_follow).any(unknown)
    }

    fn visit(&self, configuration: Configuration<M>, placed: Option<usize>) -> Visit<M> {
        let mut window = Vec::new();
        let mut horizon = Instant::from_nanos(u64::MAX);
        for at in self.pending(&configuration) {
            let call = &self.known[at];
            // Something else had returned before this one was invoked, and so before any later one.
            if call.invoked > horizon {
                break;
            }
            horizon = horizon.min(call.returned);
            window.push(at);
        }
        // Taken from the end: the first to return is tried first.
        window.sort_by_key(|at| Reverse(self.known[*at].returned));
        let fit = |at: &usize| {
            let state = place(configuration.before.as_ref(), &configuration.state, &self.known[*at])?;
            Some((*at, state))
        };
        let mut known: Vec<_> = window.iter().filter_map(fit).collect();
        let may_follow = self.unknown.partition_point(|call| call.invoked <= horizon);
        let read = known.iter().position(|(at, _)| M::is_read(self.known[*at].operation));
        let unknown = match read {
            Some(read) => {
                known = vec![known.swap_remove(read)];
                0..0
            }
            None => 0..may_follow,
        };
        Visit { configuration, placed, window, known, unknown, may_follow }
    }

    /// The known calls that are not placed, by invocation.
    fn pending<'b>(&self, configuration: &'b Configuration<M>) -> impl Iterator<Item = usize> + 'b {
        let ahead = &configuration.ahead;
        (configuration.first..self.known.len()).filter(move |at| ahead.binary_search(at).is_err())
    }

    fn explain(&self, initial: &M, Best { explained, stuck, .. }: Best) -> Counterexample {
        const SHOWN: usize = 12;
        let mut text = String::new();
        let mut state = initial.clone();
        for position in &explained {
            state.step(&self.calls[*position].operation);
        }
        let hidden = explained.len().saturating_sub(SHOWN);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "not linearizable; {} calls have an explanation, which ends:", explained.len());
        for position in &explained[hidden..] {
            let _ = writeln!(text, "  {}", Line(&self.calls[*position]));
        }
        let call = &self.calls[stuck];
        let (expected, _) = stepped(&state, &call.operation);
        let _ = write!(text, "and here no order goes on:\n  {}; next it would return {expected:?}", Line(call));
        Counterexample { explained, stuck, text }
    }
}

/// The farthest that the search came: to the first return that it does not explain, then by the returned calls placed.
struct Best {
    reached: (Instant, usize),
    explained: Vec<usize>,
    stuck: usize,
}

impl Best {
    /// A path from which nothing goes on.
    fn offer<M: Model>(&mut self, search: &Search<'_, M>, path: &[Visit<M>]) {
        let Some(Visit { configuration: end, window, .. }) = path.last() else { return };
        let Some(stuck) = window.last() else { return };
        let reached = (search.known[*stuck].returned, end.first + end.ahead.len());
        if reached > self.reached {
            self.reached = reached;
            self.stuck = search.known[*stuck].position;
            self.explained = path.iter().filter_map(|visit| visit.placed).collect();
        }
    }
}

fn stepped<M: Model>(state: &M, operation: &M::Operation) -> (M::Outcome, M) {
    let mut next = state.clone();
    let outcome = next.step(operation);
    (outcome, next)
}

/// The state after a call that returned, if it returned the right thing, and if whatever unknown call led from `before`
/// to `state` was necessary for that.
fn place<M: Model>(before: Option<&M>, state: &M, call: &Known<'_, M>) -> Option<M> {
    let found = stepped(state, call.operation);
    if found.0 != *call.outcome || before.is_some_and(|before| stepped(before, call.operation) == found) {
        return None;
    }
    Some(found.1)
}

/// The state after a call of unknown outcome, if whatever led from `before` to `state` was necessary for it.
fn necessary<M: Model>(before: Option<&M>, state: &M, operation: &M::Operation) -> Option<M> {
    let (_, after) = stepped(state, operation);
    let in_vain = before.is_some_and(|before| stepped(before, operation).1 == after);
    (!in_vain).then_some(after)
}

fn is_in(sorted: &[usize], value: usize) -> bool {
    sorted.binary_search(&value).is_ok()
}

fn insert(sorted: &mut Vec<usize>, value: usize) {
    let at = sorted.partition_point(|other| *other < value);
    sorted.insert(at, value);
}

/// A call on one line.
struct Line<'a, O, R>(&'a Call<O, R>);

impl<O: Debug, R: Debug> fmt::Display for Line<'_, O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { client, operation, invoked, returned } = self.0;
        match returned {
            Some((returned, outcome)) => {
                write!(f, "client {client}: {operation:?} -> {outcome:?}, {invoked:?} to {returned:?}")
            }
            None => write!(f, "client {client}: {operation:?} -> unknown, from {invoked:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
