//! What may happen to three nodes, or four, in steps small enough that a story of them can be cut down.

/// One thing that happens. Nodes are counted from 0, modulo how many there are; messages on their way from the oldest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A message on its way arrives.
    Deliver(u8),
    /// It arrives, and will once more.
    Double(u8),
    Lose(u8),
    /// Time goes by up to the node's next deadline.
    Deadline(u8),
    /// So many hundredths of a second go by and nobody notices.
    Wait(u8),
    /// The node's oldest write becomes durable.
    Sync(u8),
    /// What it has asked its log for comes back.
    Load(u8),
    /// Its state machine has applied what it was given.
    Apply(u8),
    /// Commands, up to seven.
    Propose(u8, u8),
    /// A read; the second number says how fresh it must be.
    Read(u8, u8),
    /// Hand over, to a node of this number or to the fittest (0).
    Transfer(u8, u8),
    /// Whoever leads is asked to change the members: a bit for each voter, and four bits for learners.
    Change(u8),
    ClockJumped(u8),
    /// The power goes; so many of the writes that were not durable are there all the same.
    Crash(u8, u8),
    Restart(u8),
    /// Everything from or to the node is lost, until the same is said again.
    Cut(u8),
    /// So many steps in which nothing goes wrong, up to 63.
    GoOn(u8),
}

impl Step {
    /// Bytes that make a step.
    pub const BYTES: usize = 3;

    /// Any bytes are a step. The more usual ones are more frequent.
    pub fn of([kind, first, second]: [u8; Self::BYTES]) -> Self {
        match kind % 32 {
            0..6 => Self::Deliver(first),
            6 => Self::Double(first),
            7 => Self::Lose(first),
            8..12 => Self::Deadline(first),
            12 => Self::Wait(first),
            13..17 => Self::Sync(first),
            17 => Self::Load(first),
            18 => Self::Apply(first),
            19..22 => Self::Propose(first, second),
            22 => Self::Read(first, second),
            23 => Self::Transfer(first, second),
            24 => Self::ClockJumped(first),
            25 => Self::Crash(first, second),
            26 | 27 => Self::Restart(first),
            28 => Self::Cut(first),
            30 => Self::Change(first),
            _ => Self::GoOn(first),
        }
    }

    /// Bytes that make this step.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        match self {
            Self::Deliver(nth) => [0, nth, 0],
            Self::Double(nth) => [6, nth, 0],
            Self::Lose(nth) => [7, nth, 0],
            Self::Deadline(node) => [8, node, 0],
            Self::Wait(centis) => [12, centis, 0],
            Self::Sync(node) => [13, node, 0],
            Self::Load(node) => [17, node, 0],
            Self::Apply(node) => [18, node, 0],
            Self::Propose(node, count) => [19, node, count],
            Self::Read(node, kind) => [22, node, kind],
            Self::Transfer(node, to) => [23, node, to],
            Self::ClockJumped(node) => [24, node, 0],
            Self::Crash(node, kept) => [25, node, kept],
            Self::Restart(node) => [26, node, 0],
            Self::Cut(node) => [28, node, 0],
            Self::GoOn(count) => [29, count, 0],
            Self::Change(to) => [30, to, 0],
        }
    }
}
