//! What a simulation tests beside the engine: a state machine, what its clients do, and what they must see.

use bytes::Bytes;
use std::fmt::Debug;

use super::dice::Dice;
use super::linearizability::Model;
use crate::state_machine::StateMachine;
use crate::types::NodeId;

/// A state machine under test, with its clients.
///
/// Implement it for your own: the simulator then runs it on clusters whose networks, disks, clocks and processes fail,
/// and checks that its clients cannot tell the cluster from [`Self::Model`] on one machine that never fails.
pub trait Subject {
    /// The state machine.
    type Machine: StateMachine;
    /// What a client asks for.
    type Operation: Clone + Debug;
    /// What a client is answered.
    type Outcome: Clone + PartialEq + Debug;
    /// What one key should do, one operation after the other.
    type Model: Model<Operation = Self::Operation, Outcome = Self::Outcome>;

    /// The state machine of a node that starts. `left` is the one of the process that died before, if there was one: a
    /// durable machine takes from it what it had on its disk, and nothing else.
    fn machine(&self, node: NodeId, left: Option<Self::Machine>) -> Self::Machine;

    /// What a client does next; `serial` counts all operations of a run, from 0.
    ///
    /// Operations on one key should end after some hundred: a key's history is checked as a whole.
    fn operation(&self, dice: &mut Dice, serial: u64) -> Self::Operation;

    /// The command that carries an operation out; `None` for one that only reads. `nonce` differs from call to call and
    /// must make the command differ.
    fn command(&self, operation: &Self::Operation, nonce: u64) -> Option<Bytes>;

    /// What the command's output tells the client.
    fn outcome(&self, operation: &Self::Operation, output: <Self::Machine as StateMachine>::Output) -> Self::Outcome;

    /// Carries out an operation that only reads.
    fn query(&self, machine: &Self::Machine, operation: &Self::Operation) -> Self::Outcome;

    /// The part of the state that an operation is about: histories of different keys are checked one by one.
    fn key(&self, operation: &Self::Operation) -> u64;

    /// A key's state before any operation.
    fn model(&self) -> Self::Model;

    /// A number that is equal for equal states.
    fn digest(&self, machine: &Self::Machine) -> u64;
}
