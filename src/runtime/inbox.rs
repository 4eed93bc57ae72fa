//! What waits to be handed to the shard.
//!
//! Three kinds of input, three behaviours when there are too many (row `l24`):
//!
//! - proposals, reads and transfers of clients are refused with `Overloaded`: the caller still holds the command;
//! - messages of peers are dropped and counted: Raft sends again what still matters;
//! - completions (durable, applied, loaded, deadline) are always taken: losing one would leave a core waiting for ever.
//!   They need no limit, because each answers something that a core handed out, and a core hands out only so much
//!   before it hears back (`limits.window_*`, `uncommitted_*`, `apply_bytes`, one load per peer).

use crate::log::Entry;
use crate::message::{Body, Message};
use crate::metrics::InboxCounters;
use crate::sync::Mutex;

use super::driver::ShardInput;

/// What bounds the queue in front of the shard, over all groups. An empty queue takes any single input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxLimits {
    /// Proposals, reads and transfers waiting. Default 65536.
    pub clients: usize,
    /// Bytes of the proposals waiting. Default 64 MiB.
    pub client_bytes: usize,
    /// Messages of peers waiting. Default 65536.
    pub messages: usize,
    /// Payload bytes of the messages waiting. Default 64 MiB.
    pub message_bytes: usize,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { clients: 65_536, client_bytes: 64 << 20, messages: 65_536, message_bytes: 64 << 20 }
    }
}

pub(super) struct Inbox {
    limits: InboxLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inputs: Vec<ShardInput>,
    clients: Load,
    messages: Load,
    /// No client is let in any more.
    closed: bool,
    clients_refused: u64,
    messages_dropped: u64,
}

#[derive(Clone, Copy, Default)]
struct Load {
    count: usize,
    bytes: usize,
}

impl Load {
    /// Adds if that stays within the limits or nothing was there.
    fn admit(&mut self, count: usize, bytes: usize, max_count: usize, max_bytes: usize) -> bool {
        let (count, bytes) = (self.count.saturating_add(count), self.bytes.saturating_add(bytes));
        let fits = self.count == 0 || (count <= max_count && bytes <= max_bytes);
        if fits {
            *self = Self { count, bytes };
        }
        fits
    }
}

/// Why a client's input was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotTaken {
    Full,
    Closed,
}

impl Inbox {
    pub(super) fn new(limits: InboxLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Takes proposals and reads, in order, under one lock; returns those that it did not take.
    pub(super) fn push_clients(&self, inputs: impl IntoIterator<Item = ShardInput>) -> Vec<(ShardInput, NotTaken)> {
        let mut not_taken = Vec::new();
        let mut state = self.state.lock();
        for input in inputs {
            let bytes = match &input {
                ShardInput::Propose { command, .. } => command.len(),
                _ => 0,
            };
            if state.closed {
                not_taken.push((input, NotTaken::Closed));
            } else if state.clients.admit(1, bytes, self.limits.clients, self.limits.client_bytes) {
                state.inputs.push(input);
            } else {
                state.clients_refused += 1;
                not_taken.push((input, NotTaken::Full));
            }
        }
        not_taken
    }

    /// Takes messages of a peer, or drops and counts them.
    pub(super) fn push_messages(&self, messages: Vec<Message>) {
        let bytes = messages.iter().map(payload_bytes).sum();
        let mut state = self.state.lock();
        if state.messages.admit(messages.len(), bytes, self.limits.messages, self.limits.message_bytes) {
            state.inputs.push(ShardInput::Received(messages));
        } else {
            state.messages_dropped += messages.len() as u64;
        }
    }

    /// Takes the completions of the runtime's own threads.
    pub(super) fn push_internal(&self, inputs: impl IntoIterator<Item = ShardInput>) {
        self.state.lock().inputs.extend(inputs);
    }

    /// Swaps everything that waits into `into`, which must be empty.
    pub(super) fn take(&self, into: &mut Vec<ShardInput>) {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.inputs, into);
        (state.clients, state.messages) = (Load::default(), Load::default());
    }

    /// Whether nothing waits. Asked under the lock on purpose: see `shard` on lost wake-ups.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().inputs.is_empty()
    }

    /// From now on no client is let in.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
    }

    pub(super) fn counters(&self) -> InboxCounters {
        let state = self.state.lock();
        InboxCounters {
            clients_refused: state.clients_refused,
            messages_dropped: state.messages_dropped,
            waiting: state.inputs.len(),
        }
    }
}

fn payload_bytes(message: &Message) -> usize {
    match &message.body {
        Body::AppendEntries(append) => append.slice.entries().iter().map(|entry: &Entry| entry.payload.len()).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Verdict, VoteResponse};
    use crate::runtime::ProposalError;
    use crate::runtime::reply::{Proposer, Reply};
    use crate::sync::Arc;
    use crate::types::{EntryId, GroupId, Index, NodeId, RoundId, Term};
    use bytes::Bytes;
    use std::any::Any;

    struct Deaf;

    impl Proposer for Deaf {
        fn applied(self: Arc<Self>, _id: EntryId, _output: &mut dyn Any) {}
        fn failed(self: Arc<Self>, _error: ProposalError) {}
    }

    fn proposal(bytes: usize) -> ShardInput {
        let command = Bytes::from(vec![0; bytes]);
        ShardInput::Propose { group: GroupId(1), command, reply: Reply::new(Arc::new(Deaf)) }
    }

    fn vote() -> Message {
        let response = VoteResponse { round: RoundId(1), campaign_term: Term(1), verdict: Verdict::Granted };
        let body = Body::VoteResponse(response);
        Message { group: GroupId(1), from: NodeId(2), to: NodeId(1), term: Term(1), body }
    }

    fn small() -> Inbox {
        Inbox::new(InboxLimits { clients: 3, client_bytes: 100, messages: 2, message_bytes: 100 })
    }

    fn taken(inbox: &Inbox) -> usize {
        let mut all = Vec::new();
        inbox.take(&mut all);
        all.len()
    }

    /// `l24`: each kind of input has its own bound and its own way out; completions always get in.
    #[test]
    fn l24_a_full_inbox_refuses_clients_drops_messages_and_keeps_completions() {
        let inbox = small();
        let refused = inbox.push_clients((0..5).map(|_| proposal(10)));
        assert_eq!(refused.iter().map(|(_, why)| *why).collect::<Vec<_>>(), [NotTaken::Full, NotTaken::Full]);
        for _ in 0..4 {
            inbox.push_messages(vec![vote()]);
        }
        inbox.push_internal((0..1000).map(|index| ShardInput::Applied { group: GroupId(1), index: Index(index) }));

        let counters = inbox.counters();
        assert_eq!((counters.clients_refused, counters.messages_dropped), (2, 2));
        assert_eq!(taken(&inbox), 3 + 2 + 1000);
        assert!(inbox.push_clients([proposal(10)]).is_empty(), "room again once it is drained");
    }

    /// `l24`: bytes count too, but an empty queue takes one input of any length: no command is refused for ever.
    #[test]
    fn l24_bytes_are_bounded_and_an_empty_queue_takes_anything() {
        let inbox = small();
        assert!(inbox.push_clients([proposal(1000)]).is_empty());
        assert_eq!(inbox.push_clients([proposal(1)]).len(), 1);
        assert_eq!(taken(&inbox), 1);
    }

    #[test]
    fn a_closed_inbox_lets_no_client_in_but_still_takes_completions() {
        let inbox = small();
        inbox.close();
        assert_eq!(inbox.push_clients([proposal(1)])[0].1, NotTaken::Closed);
        inbox.push_internal([ShardInput::Deadline]);
        assert!(!inbox.is_empty());
    }
}
