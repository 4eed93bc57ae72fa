use std::sync::atomic::{AtomicUsize, Ordering};

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::*;

/// One key: what `GET`, `SET` and `INCR` do to it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Register(u64);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Operation {
    Get,
    Set(u64),
    Incr,
}
use Operation::{Get, Incr, Set};

impl Model for Register {
    type Operation = Operation;
    /// The value afterwards.
    type Outcome = u64;

    fn step(&mut self, operation: &Operation) -> u64 {
        match operation {
            Get => {}
            Set(value) => self.0 = *value,
            Incr => self.0 += 1,
        }
        self.0
    }

    fn is_read(operation: &Operation) -> bool {
        *operation == Get
    }
}

type History = Vec<Call<Operation, u64>>;

fn at(time: u64) -> Instant {
    Instant::from_nanos(time)
}

fn call(operation: Operation, invoked: u64, returned: u64, outcome: u64) -> Call<Operation, u64> {
    Call { client: 1, operation, invoked: at(invoked), returned: Some((at(returned), outcome)) }
}

fn unknown(operation: Operation, invoked: u64) -> Call<Operation, u64> {
    Call { client: 2, operation, invoked: at(invoked), returned: None }
}

fn verdict(history: &[Call<Operation, u64>]) -> Result<(), CheckError> {
    check(&Register::default(), history)
}

/// The position of the call that no order goes on with.
#[track_caller]
fn stuck(history: &[Call<Operation, u64>]) -> usize {
    match verdict(history) {
        Err(CheckError::NotLinearizable(found)) => found.stuck,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_and_nothing_known_are_linearizable() {
    assert_eq!(verdict(&[]), Ok(()));
    assert_eq!(verdict(&[unknown(Set(1), 0), unknown(Get, 5)]), Ok(()));
}

#[test]
fn concurrent_calls_take_effect_in_any_order() {
    for seen in [0, 1, 2] {
        assert_eq!(verdict(&[call(Set(1), 0, 9, 1), call(Set(2), 0, 9, 2), call(Get, 0, 9, seen)]), Ok(()));
    }
    // Invoked at the instant of another's return counts as concurrent.
    assert_eq!(verdict(&[call(Set(1), 0, 5, 1), call(Get, 5, 6, 0)]), Ok(()));
}

#[test]
fn a_stale_read() {
    assert_eq!(stuck(&[call(Set(1), 0, 1, 1), call(Get, 2, 3, 0)]), 1);
    // One read has seen the concurrent write, a later one has not.
    assert_eq!(stuck(&[call(Set(1), 0, 9, 1), call(Get, 1, 2, 1), call(Get, 3, 4, 0)]), 2);
    // The same, and the write never returned.
    assert_eq!(stuck(&[unknown(Set(1), 0), call(Get, 1, 2, 1), call(Get, 3, 4, 0)]), 2);
}

#[test]
fn a_lost_update() {
    assert_eq!(stuck(&[call(Incr, 0, 4, 1), call(Incr, 1, 5, 1)]), 1);
    assert_eq!(stuck(&[call(Incr, 0, 1, 1), call(Incr, 2, 3, 2), call(Get, 4, 5, 1)]), 2);
}

#[test]
fn a_double_application() {
    assert_eq!(stuck(&[call(Incr, 0, 1, 1), call(Get, 2, 3, 2)]), 1);
    assert_eq!(stuck(&[unknown(Incr, 0), call(Get, 2, 3, 1), call(Get, 4, 5, 2)]), 2);
    // A write that was overwritten comes back.
    assert_eq!(stuck(&[call(Set(1), 0, 1, 1), call(Set(2), 2, 3, 2), call(Get, 4, 5, 1)]), 2);
}

#[test]
fn a_read_from_the_future() {
    assert_eq!(stuck(&[call(Get, 0, 1, 1), call(Set(1), 2, 3, 1)]), 0);
    assert_eq!(stuck(&[call(Get, 0, 1, 1), unknown(Set(1), 2)]), 0);
}

#[test]
fn a_dirty_read_of_a_refused_write() {
    // The refused write of 7 is not in the history.
    assert_eq!(stuck(&[call(Set(1), 0, 1, 1), call(Get, 2, 3, 7), call(Get, 4, 5, 1)]), 1);
}

#[test]
fn an_unknown_call_takes_effect_late_or_never() {
    let history = |seen: u64| [unknown(Set(1), 0), call(Set(2), 1, 2, 2), call(Get, 3, 4, 2), call(Get, 5, 6, seen)];
    assert_eq!(verdict(&history(1)), Ok(()));
    assert_eq!(verdict(&history(2)), Ok(()));
    // One is needed, then another of the same operation.
    let twins = [unknown(Incr, 0), call(Get, 1, 2, 1), unknown(Incr, 3), call(Get, 4, 5, 2)];
    assert_eq!(verdict(&twins), Ok(()));
}

#[test]
fn the_text_shows_the_end_of_the_explanation_and_what_does_not_fit() {
    let mut history: History = (0..100).map(|n| call(Incr, n * 10, n * 10 + 5, n + 1)).collect();
    history.push(call(Get, 2_000, 3_000, 99));
    let Err(CheckError::NotLinearizable(found)) = verdict(&history) else { panic!() };
    assert_eq!((found.stuck, found.explained), (100, (0..100).collect::<Vec<_>>()));
    let text = verdict(&history).unwrap_err().to_string();
    assert!(text.contains("client 1: Incr -> 100, 0.001ms to 0.001ms\nand here"), "{text}");
    assert!(text.ends_with("client 1: Get -> 99, 0.002ms to 0.003ms; next it would return 100"), "{text}");
    assert_eq!(text.lines().count(), 15, "{text}");
}

#[test]
fn keys_are_checked_alone() {
    #[derive(Clone, PartialEq, Eq, Hash, Default)]
    struct Keyed(Register);
    impl Model for Keyed {
        type Operation = (char, Operation);
        type Outcome = u64;
        fn step(&mut self, (_, operation): &Self::Operation) -> u64 {
            self.0.step(operation)
        }
    }
    let on = |key: char, Call { client, operation, invoked, returned }: Call<Operation, u64>| Call {
        client,
        operation: (key, operation),
        invoked,
        returned,
    };
    let mut history = vec![on('a', call(Set(1), 0, 1, 1)), on('b', call(Get, 2, 3, 0)), on('a', call(Incr, 4, 5, 2))];
    assert_eq!(check_by_key(&Keyed::default(), &history, |operation| operation.0), Ok(()));
    history.push(on('b', call(Get, 6, 7, 2)));
    match check_by_key(&Keyed::default(), &history, |operation| operation.0) {
        Err(('b', CheckError::NotLinearizable(found))) => assert_eq!((found.explained, found.stuck), (vec![1], 3)),
        other => panic!("{other:?}"),
    }
}

/// Many concurrent writes and a read that no order of them explains: all orders would have to be tried.
#[test]
fn a_history_beyond_the_bound_is_undecided() {
    let mut history: History = (1..40).map(|n| call(Set(n), 0, 100, n)).collect();
    history.push(call(Get, 0, 100, 99));
    let undecided = check_within(2_000, &Register::default(), &history);
    assert_eq!(undecided, Err(CheckError::Undecided { configurations: 2_000 }));
}

/// Thousands of calls, up to eight at a time; one in `lost` has no answer, and half of those took effect.
fn long_history(operation: impl Fn(u64) -> Operation, lost: u64) -> History {
    let mut register = Register::default();
    let mut history = History::new();
    for n in 0..2_000 {
        let operation = operation(n);
        let (invoked, returned) = ((n * 10).saturating_sub(n * 7 % 41), n * 10 + n * 11 % 43);
        if n % lost == lost - 1 {
            history.push(unknown(operation, invoked));
            if (n / lost).is_multiple_of(2) {
                register.step(&operation);
            }
        } else {
            history.push(call(operation, invoked, returned, register.step(&operation)));
        }
    }
    history
}

/// In thousands of configurations, not in millions.
#[test]
fn long_histories_are_decided_with_little_effort() {
    let register = |n: u64| if n * 13 % 7 < 3 { Set(n) } else { Get };
    let counter = |n: u64| if n * 13 % 7 < 5 { Incr } else { Get };
    for mut history in [long_history(register, 50), long_history(counter, 50)] {
        assert_eq!(check_within(50_000, &Register::default(), &history), Ok(()));
        // A stale read at the end: everything before it has an explanation, which must be found again, and all others.
        history.push(call(Get, 20_100, 20_101, 5));
        match check_within(200_000, &Register::default(), &history) {
            Err(CheckError::NotLinearizable(found)) => assert_eq!(found.stuck, 2_000),
            other => panic!("{other:?}"),
        }
    }
}

/// A few calls of which some order is an explanation, until one of them is made to lie.
#[derive(Clone, Debug)]
struct Tiny(History);

impl Arbitrary for Tiny {
    fn arbitrary(g: &mut Gen) -> Self {
        let below = |g: &mut Gen, n: u64| u64::arbitrary(g) % n;
        let mut calls: Vec<(u64, Call<Operation, u64>)> = Vec::new();
        for _ in 0..below(g, 7) {
            let (invoked, took, point) = (below(g, 12), below(g, 8), below(g, 8));
            let operation = [Get, Get, Incr, Incr, Set(below(g, 3))][below(g, 5) as usize];
            calls.push((invoked + point % (took + 1), call(operation, invoked, invoked + took, 0)));
        }
        calls.sort_by_key(|(point, _)| *point);
        let mut register = Register::default();
        for (_, call) in &mut calls {
            // Two in five are unknown, half of which never take effect.
            match below(g, 5) {
                0 => call.returned = None,
                fate => {
                    let outcome = register.step(&call.operation);
                    call.returned = call.returned.take().filter(|_| fate != 1).map(|(when, _)| (when, outcome));
                }
            }
        }
        let mut history: History = calls.into_iter().map(|(_, call)| call).collect();
        if bool::arbitrary(g) && !history.is_empty() {
            let liar = below(g, history.len() as u64) as usize;
            history[liar].returned = history[liar].returned.map(|(when, _)| (when, below(g, 7)));
        }
        Self(history)
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let history = self.0.clone();
        Box::new((0..history.len()).map(move |without| {
            let mut fewer = history.clone();
            fewer.remove(without);
            Self(fewer)
        }))
    }
}

/// Every order that respects time, of every subset that has all calls that returned.
fn some_order_explains(register: &Register, left: &[Call<Operation, u64>]) -> bool {
    let returned = |call: &Call<Operation, u64>| call.returned.map(|(when, _)| when);
    let may_be_next = |next: &usize| left.iter().filter_map(returned).all(|when| when >= left[*next].invoked);
    let goes_on = |next: usize| {
        let (outcome, after) = stepped(register, &left[next].operation);
        let fits = left[next].returned.is_none_or(|(_, told)| told == outcome);
        fits && some_order_explains(&after, &[&left[..next], &left[next + 1..]].concat())
    };
    left.iter().all(|call| call.returned.is_none()) || (0..left.len()).filter(may_be_next).any(goes_on)
}

#[test]
fn the_search_agrees_with_trying_everything() {
    static VERDICTS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    fn agree(Tiny(history): Tiny) -> bool {
        let found = verdict(&history).is_ok();
        VERDICTS[usize::from(found)].fetch_add(1, Ordering::Relaxed);
        found == some_order_explains(&Register::default(), &history)
    }
    QuickCheck::new().tests(20_000).max_tests(20_000).quickcheck(agree as fn(Tiny) -> bool);
    let [wrong, right] = VERDICTS.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(wrong > 2_000 && right > 2_000, "{wrong} histories were wrong, {right} right");
}
