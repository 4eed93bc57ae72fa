//! The simulator's own state machine: registers and counters.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::io::Read;

use super::dice::Dice;
use super::judges::mix;
use super::linearizability::Model;
use super::subject::Subject;
use crate::state_machine::{
    ApplyError, Command, SnapshotFiles, SnapshotSource, SourceContent, SourceFile, StateMachine,
};
use crate::types::{Index, NodeId};

/// How the clients of the registers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// How many registers are in use at one time.
    pub keys: u64,
    /// Of a hundred operations so many only read.
    pub reads_percent: u64,
    /// Commands are up to this many bytes longer than they need to be.
    pub padding: u64,
    /// Whether the state machine keeps its state on a disk of its own, and so need not start over.
    pub durable: bool,
}

/// So many operations in a row share their registers; then others are used, so that histories stay short.
const ERA: u64 = 64;

/// What a client does with a register, or counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads it.
    Get {
        /// Which.
        key: u64,
    },
    /// Writes it.
    Put {
        /// Which.
        key: u64,
        /// What; every write's differs.
        value: u64,
        /// Bytes that are there to take room.
        padding: u64,
    },
    /// Adds one, and tells how much that makes.
    Count {
        /// Which.
        key: u64,
    },
    /// Writes it if it holds what is expected.
    Swap {
        /// Which.
        key: u64,
        /// What is expected.
        expected: u64,
        /// What to write.
        value: u64,
    },
}

/// What a client learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written.
    Done,
    /// What it holds; 0 at first.
    Value(u64),
    /// Whether it held what was expected.
    Swapped(bool),
}

impl Operation {
    fn key(self) -> u64 {
        match self {
            Self::Get { key } | Self::Put { key, .. } | Self::Count { key } | Self::Swap { key, .. } => key,
        }
    }

    fn carry_out(self, register: &mut u64) -> Outcome {
        match self {
            Self::Get { .. } => return Outcome::Value(*register),
            Self::Put { value, .. } => *register = value,
            Self::Count { .. } => {
                *register = register.wrapping_add(1);
                return Outcome::Value(*register);
            }
            Self::Swap { expected, value, .. } => {
                let swapped = *register == expected;
                if swapped {
                    *register = value;
                }
                return Outcome::Swapped(swapped);
            }
        }
        Outcome::Done
    }

    fn encode(self, nonce: u64) -> Option<Bytes> {
        let (kind, key, first, second, padding) = match self {
            Self::Get { .. } => return None,
            Self::Put { key, value, padding } => (1, key, value, 0, padding),
            Self::Count { key } => (2, key, 0, 0, 0),
            Self::Swap { key, expected, value } => (3, key, expected, value, 0),
        };
        let mut bytes = BytesMut::with_capacity(33 + padding as usize);
        bytes.put_u64_le(nonce);
        bytes.put_u8(kind);
        bytes.put_u64_le(key);
        bytes.put_u64_le(first);
        bytes.put_u64_le(second);
        bytes.put_bytes(nonce as u8, padding as usize);
        Some(bytes.freeze())
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let _nonce = bytes.try_get_u64_le().ok()?;
        let kind = bytes.try_get_u8().ok()?;
        let mut number = || bytes.try_get_u64_le().ok();
        let (key, first, second) = (number()?, number()?, number()?);
        match kind {
            1 => Some(Self::Put { key, value: first, padding: 0 }),
            2 => Some(Self::Count { key }),
            3 => Some(Self::Swap { key, expected: first, value: second }),
            _ => None,
        }
    }
}

/// The state: every register that was ever written.
#[derive(Clone, Debug, Default)]
pub struct RegisterMachine {
    state: State,
    /// What is on its disk, if it has one.
    saved: Option<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    registers: BTreeMap<u64, u64>,
    digest: u64,
    applied: Index,
}

/// A durable machine saves its state every so many commands.
const SAVED_EVERY: u64 = 40;

impl StateMachine for RegisterMachine {
    type Output = Outcome;

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, ApplyError> {
        commands.iter().map(|command| self.apply_one(command)).collect()
    }

    fn applied(&self) -> Index {
        self.state.applied
    }

    /// Files of some registers each: those that nobody writes any more stay as they are from snapshot to snapshot.
    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        let State { registers, digest, .. } = &self.state;
        let mut shelves: BTreeMap<u64, BytesMut> = BTreeMap::new();
        for (key, value) in registers {
            let shelf = shelves.entry(key / SHELF).or_default();
            shelf.put_u64_le(*key);
            shelf.put_u64_le(*value);
        }
        let file =
            |name: String, bytes: Bytes| SourceFile { name, content: SourceContent::Stream(Box::new(bytes.reader())) };
        let shelves = shelves.into_iter().map(|(shelf, bytes)| file(format!("shelf/{shelf}"), bytes.freeze()));
        let digest = Bytes::copy_from_slice(&digest.to_le_bytes());
        let files = shelves.chain([file(DIGEST.to_owned(), digest)]).collect();
        Ok(Some(SnapshotSource::Files { files, guard: None }))
    }

    fn restore(&mut self, snapshot: &SnapshotFiles) -> Result<(), ApplyError> {
        let failed =
            |what: &dyn std::fmt::Display| ApplyError(format!("the snapshot up to {}: {what}", snapshot.last()));
        let mut state = State { applied: snapshot.last().index, ..State::default() };
        for file in snapshot.files() {
            let mut bytes = Vec::new();
            file.open().and_then(|mut content| content.read_to_end(&mut bytes)).map_err(|error| failed(&error))?;
            let mut bytes = &bytes[..];
            let mut number = || bytes.try_get_u64_le().map_err(|_| failed(&"a file is cut off"));
            if file.name() == DIGEST {
                state.digest = number()?;
                continue;
            }
            for _ in 0..file.bytes() / 16 {
                state.registers.insert(number()?, number()?);
            }
        }
        // A durable one writes the new state beside the old one and swaps them.
        self.saved = self.saved.take().map(|_| state.clone());
        self.state = state;
        Ok(())
    }
}

/// Registers that lie in one file of a snapshot.
const SHELF: u64 = 32;

/// The file of a snapshot that is not a shelf.
const DIGEST: &str = "digest";

impl RegisterMachine {
    fn apply_one(&mut self, Command { id, data }: &Command) -> Result<Outcome, ApplyError> {
        let operation = Operation::decode(data).ok_or_else(|| ApplyError(format!("{id} is no operation")))?;
        let state = &mut self.state;
        state.digest = mix(mix(state.digest, id.index.0), u64::from(crc32c::crc32c(data)));
        state.applied = id.index;
        let outcome = operation.carry_out(state.registers.entry(operation.key()).or_default());
        if id.index.0.is_multiple_of(SAVED_EVERY)
            && let Some(saved) = &mut self.saved
        {
            *saved = state.clone();
        }
        Ok(outcome)
    }
}

/// One register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register(u64);

impl Model for Register {
    type Operation = Operation;
    type Outcome = Outcome;

    fn step(&mut self, operation: &Operation) -> Outcome {
        operation.carry_out(&mut self.0)
    }

    fn is_read(operation: &Operation) -> bool {
        matches!(operation, Operation::Get { .. })
    }
}

impl Subject for Registers {
    type Machine = RegisterMachine;
    type Operation = Operation;
    type Outcome = Outcome;
    type Model = Register;

    fn machine(&self, _node: NodeId, left: Option<RegisterMachine>) -> RegisterMachine {
        let saved = left.and_then(|left| left.saved).unwrap_or_default();
        RegisterMachine { state: saved.clone(), saved: self.durable.then_some(saved) }
    }

    fn operation(&self, dice: &mut Dice, serial: u64) -> Operation {
        let key = serial / ERA * self.keys + dice.number(0, self.keys.saturating_sub(1));
        if dice.number(0, 99) < self.reads_percent {
            return Operation::Get { key };
        }
        let value = serial + 1;
        match dice.number(0, 5) {
            0 => Operation::Count { key },
            1 => Operation::Swap { key, expected: dice.number(0, 1) * value.saturating_sub(dice.number(1, 8)), value },
            _ => Operation::Put { key, value, padding: dice.number(0, self.padding) },
        }
    }

    fn command(&self, operation: &Operation, nonce: u64) -> Option<Bytes> {
        operation.encode(nonce)
    }

    fn outcome(&self, _operation: &Operation, output: Outcome) -> Outcome {
        output
    }

    fn query(&self, machine: &RegisterMachine, operation: &Operation) -> Outcome {
        Outcome::Value(machine.state.registers.get(&operation.key()).copied().unwrap_or_default())
    }

    fn key(&self, operation: &Operation) -> u64 {
        operation.key()
    }

    fn model(&self) -> Register {
        Register::default()
    }

    fn digest(&self, machine: &RegisterMachine) -> u64 {
        machine.state.digest
    }
}
