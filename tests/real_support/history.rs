//! What the clients did and saw, and whether that could have happened on one machine.

use std::fmt;

use tenure::sim::linearizability::{self, CheckError, Model};

/// What a key can be asked for.
#[derive(Clone, PartialEq)]
pub(crate) enum What {
    Get,
    Set(u64),
    Incr,
}

#[derive(Clone, PartialEq)]
pub(crate) struct Operation {
    pub(crate) key: String,
    pub(crate) what: What,
}

/// As the client says it.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Get => write!(f, "GET {}", self.key),
            What::Set(value) => write!(f, "SET {} {value}", self.key),
            What::Incr => write!(f, "INCR {}", self.key),
        }
    }
}

/// The integer in an answer; `None` for `OK` and for a key that is not there.
pub(crate) type Outcome = Option<u64>;

pub(crate) type Call = linearizability::Call<Operation, Outcome>;

/// One key, as one Redis would keep it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Key(Option<u64>);

impl Model for Key {
    type Operation = Operation;
    type Outcome = Outcome;

    fn step(&mut self, operation: &Operation) -> Outcome {
        match operation.what {
            What::Get => self.0,
            What::Set(value) => {
                self.0 = Some(value);
                None
            }
            What::Incr => {
                self.0 = Some(self.0.unwrap_or(0) + 1);
                self.0
            }
        }
    }

    fn is_read(operation: &Operation) -> bool {
        operation.what == What::Get
    }
}

/// Fails with the part of the history that no order explains.
pub(crate) fn check(calls: &[Call]) -> Result<(), (String, CheckError)> {
    linearizability::check_by_key(&Key::default(), calls, |operation| operation.key.clone())
}
