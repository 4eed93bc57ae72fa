//! What a caller holds while it waits: for a thread, for a future, or not at all.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::error::{ChangeError, Interruption, ProposalError, ReadError, TransferError};
use super::reply::{Asker, AtShutDown, Owed, Proposer, ReadReply, Reply};
use super::snapshots::TakeError;
use crate::sync::{Arc, Condvar, Mutex};
use crate::time::Duration;
use crate::types::{EntryId, Index, NodeId};

/// A command was committed and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied<O> {
    /// Its entry.
    pub id: EntryId,
    /// What the state machine answered.
    pub output: O,
}

/// What becomes of a proposal.
pub type Outcome<O> = Result<Applied<O>, ProposalError>;

/// Waits for a proposal: with [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout) or as a [`Future`] (any
/// executor). Dropping it gives up waiting, not the proposal.
#[must_use = "a proposal's outcome is only known through its ticket"]
pub struct Ticket<O>(Arc<Slot<Outcome<O>>>);

/// Waits for a read, in the same ways. The answer is an index: the state machine has applied everything up to it, so
/// read from it now.
#[must_use = "nothing may be read before the ticket says so"]
pub struct ReadTicket(Awaited<Result<Index, ReadError>>);

/// An answer that may be there from the beginning.
enum Awaited<T> {
    /// Until it is taken.
    Here(Option<T>),
    Later(Arc<Slot<T>>),
}

/// Waits for an administrator's order to be carried out, in the same ways.
#[must_use = "whether it was carried out is only known through the ticket"]
pub struct OrderTicket<T: 'static, E: AtShutDown>(Arc<Slot<Result<T, E>>>);

/// Waits for leadership to be handed over. The answer is the node that was told to take over: it has the whole log and
/// stands for election at once. That it won is known when it leads.
pub type TransferTicket = OrderTicket<NodeId, TransferError>;

/// Waits for a change of members. The answer is where the new configuration stands in the log: it is committed.
pub type ChangeTicket = OrderTicket<Index, ChangeError>;

/// Waits for a snapshot. The answer is the last entry in it: it is durable.
pub type SnapshotTicket = OrderTicket<EntryId, TakeError>;

impl<O: Send + 'static> Ticket<O> {
    /// A ticket and the reply that completes it.
    pub fn new() -> (Self, Reply) {
        let slot = Arc::new(Slot::new());
        (Self(slot.clone()), Reply::new(slot))
    }

    /// Blocks until the outcome is known. It always becomes known, at the latest when the node is shut down: a leader
    /// whose quorum is out of reach gives up after an election timeout. Only what is committed already waits for this
    /// node's own disk and state machine, however long they take.
    ///
    /// # Errors
    /// [`ProposalError`] tells whether the command is certainly not committed or its outcome unknown.
    pub fn wait(self) -> Outcome<O> {
        self.0.wait()
    }

    /// Blocks until the outcome is known, but at most for `timeout`.
    ///
    /// # Errors
    /// The ticket itself if it is not known by then: the proposal goes on, wait again or drop it. Inside, as
    /// [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Outcome<O>, Self> {
        self.0.wait_timeout(timeout).ok_or(self)
    }
}

impl ReadTicket {
    /// A ticket and the reply that completes it.
    pub fn new() -> (Self, ReadReply) {
        let slot = Arc::new(Slot::new());
        (Self(Awaited::Later(slot.clone())), ReadReply::new(slot))
    }

    /// A ticket that has its answer.
    pub(super) fn answered(answer: Result<Index, ReadError>) -> Self {
        Self(Awaited::Here(Some(answer)))
    }

    /// Blocks until the state machine may be read.
    ///
    /// # Errors
    /// [`ReadError`]: nothing was confirmed, ask again as it says.
    pub fn wait(self) -> Result<Index, ReadError> {
        match self.0 {
            Awaited::Here(answer) => answer.unwrap_or(Err(ReadError::ShutDown)),
            Awaited::Later(slot) => slot.wait(),
        }
    }

    /// Blocks until the state machine may be read, but at most for `timeout`.
    ///
    /// # Errors
    /// The ticket itself if nothing is known by then. Inside, as [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<Index, ReadError>, Self> {
        match &self.0 {
            Awaited::Here(Some(answer)) => Ok(*answer),
            Awaited::Here(None) => Err(self),
            Awaited::Later(slot) => slot.wait_timeout(timeout).ok_or(self),
        }
    }
}

impl<T: Send + 'static, E: AtShutDown + Send> OrderTicket<T, E> {
    /// A ticket and the reply that completes it.
    pub fn new() -> (Self, Owed<T, E>) {
        let slot = Arc::new(Slot::new());
        (Self(slot.clone()), Owed::new(slot))
    }

    /// Blocks until it is known what became of it: a transfer takes an election timeout at most unless the node is
    /// stuck, a change as long as newcomers may take and then as long as it takes to commit it, a snapshot as long as it
    /// takes to write it.
    ///
    /// # Errors
    /// Each variant says what to do.
    pub fn wait(self) -> Result<T, E> {
        self.0.wait()
    }

    /// Blocks until it is known, but at most for `timeout`.
    ///
    /// # Errors
    /// The ticket itself if nothing is known by then: it goes on. Inside, as [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<T, E>, Self> {
        self.0.wait_timeout(timeout).ok_or(self)
    }
}

impl<O> Future for Ticket<O> {
    type Output = Outcome<O>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context.waker())
    }
}

impl Future for ReadTicket {
    type Output = Result<Index, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Awaited::Here(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Awaited::Later(slot) => slot.poll(context.waker()),
        }
    }
}

impl<T, E: AtShutDown> Future for OrderTicket<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context.waker())
    }
}

/// One value on its way from one thread to another.
struct Slot<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

enum State<T> {
    Empty(Option<Waker>),
    Filled(T),
    Taken,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self { state: Mutex::new(State::Empty(None)), filled: Condvar::new() }
    }

    fn fill(&self, value: T) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Filled(value));
        self.filled.notify_one();
        if let State::Empty(Some(waker)) = before {
            waker.wake();
        }
    }

    fn wait(&self) -> T {
        let mut state = self.state.lock();
        loop {
            match state.take() {
                Some(value) => return value,
                None => self.filled.wait(&mut state),
            }
        }
    }

    fn wait_timeout(&self, timeout: Duration) -> Option<T> {
        let deadline = std::time::Instant::now().checked_add(timeout);
        let Some(deadline) = deadline else { return Some(self.wait()) };
        let mut state = self.state.lock();
        loop {
            if let Some(value) = state.take() {
                return Some(value);
            }
            if self.filled.wait_until(&mut state, deadline).timed_out() {
                return state.take();
            }
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<T> {
        let mut state = self.state.lock();
        match state.take() {
            Some(value) => Poll::Ready(value),
            None => {
                // Polled again after it was ready: there is no second value, and panicking would help nobody.
                if let State::Empty(waiting) = &mut *state {
                    *waiting = Some(waker.clone());
                }
                Poll::Pending
            }
        }
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<T> {
        match std::mem::replace(self, Self::Taken) {
            Self::Filled(value) => Some(value),
            before => {
                *self = before;
                None
            }
        }
    }
}

impl<O: Send + 'static> Proposer for Slot<Outcome<O>> {
    fn applied(self: Arc<Self>, id: EntryId, output: &mut dyn Any) {
        self.fill(outcome(id, output));
    }

    fn failed(self: Arc<Self>, error: ProposalError) {
        self.fill(Err(error));
    }
}

impl<T: Send + 'static, E: Send + 'static> Asker<T, E> for Slot<Result<T, E>> {
    fn answered(self: Arc<Self>, result: Result<T, E>) {
        self.fill(result);
    }
}

/// Calls back once.
struct Callback<F, T> {
    callback: Mutex<Option<F>>,
    takes: PhantomData<fn(T)>,
}

impl<F: FnOnce(T), T> Callback<F, T> {
    fn new(callback: F) -> Arc<Self> {
        Arc::new(Self { callback: Mutex::new(Some(callback)), takes: PhantomData })
    }

    fn call(&self, value: T) {
        let callback = self.callback.lock().take();
        if let Some(callback) = callback {
            callback(value);
        }
    }
}

/// The reply that calls `callback` with a proposal's outcome.
pub(super) fn call_with_outcome<O: Send + 'static>(callback: impl FnOnce(Outcome<O>) + Send + 'static) -> Reply {
    Reply::new(Callback::new(callback))
}

/// What is owed to `callback`: the answer to a read, a transfer or a change.
pub(super) fn call_with_answer<T: 'static, E: AtShutDown>(
    callback: impl FnOnce(Result<T, E>) + Send + 'static,
) -> Owed<T, E> {
    Owed::new(Callback::new(callback))
}

impl<F, O: Send + 'static> Proposer for Callback<F, Outcome<O>>
where
    F: FnOnce(Outcome<O>) + Send + 'static,
{
    fn applied(self: Arc<Self>, id: EntryId, output: &mut dyn Any) {
        self.call(outcome(id, output));
    }

    fn failed(self: Arc<Self>, error: ProposalError) {
        self.call(Err(error));
    }
}

impl<F, T: 'static, E: 'static> Asker<T, E> for Callback<F, Result<T, E>>
where
    F: FnOnce(Result<T, E>) + Send + 'static,
{
    fn answered(self: Arc<Self>, result: Result<T, E>) {
        self.call(result);
    }
}

/// Gives the output its type back. A group's handle and its state machine have the same one, so it always fits.
fn outcome<O: 'static>(id: EntryId, output: &mut dyn Any) -> Outcome<O> {
    let output = output.downcast_mut::<Option<O>>().and_then(Option::take);
    output.map(|output| Applied { id, output }).ok_or(ProposalError::Unknown(Interruption::ShutDown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;

    const ID: EntryId = EntryId { term: crate::types::Term(3), index: Index(7) };

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_waiting_thread_gets_the_output() {
        let (ticket, reply) = Ticket::<String>::new();
        let waiter = thread::spawn(move || ticket.wait());
        reply.applied(ID, "done".to_owned());
        assert_eq!(waiter.join().unwrap(), Ok(Applied { id: ID, output: "done".to_owned() }));
    }

    #[test]
    fn a_timeout_gives_the_ticket_back_and_it_still_works() {
        let (ticket, reply) = Ticket::<u8>::new();
        let Err(ticket) = ticket.wait_timeout(Duration::from_millis(1)) else { panic!("nothing was answered") };
        reply.failed(ProposalError::Overloaded);
        assert_eq!(ticket.wait_timeout(Duration::MAX).ok(), Some(Err(ProposalError::Overloaded)));
    }

    #[test]
    fn a_future_is_woken_once_and_ready_once() {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let mut context = Context::from_waker(&waker);
        let (mut ticket, reply) = Ticket::<u8>::new();
        assert!(Pin::new(&mut ticket).poll(&mut context).is_pending());
        reply.applied(ID, 9_u8);
        assert_eq!(bell.0.load(Ordering::SeqCst), 1);
        assert_eq!(Pin::new(&mut ticket).poll(&mut context), Poll::Ready(Ok(Applied { id: ID, output: 9 })));
        assert!(Pin::new(&mut ticket).poll(&mut context).is_pending());
    }

    /// `c32`: a reply that gets lost still answers, as an unknown outcome.
    #[test]
    fn c32_a_dropped_reply_answers_unknown() {
        let (ticket, reply) = Ticket::<u8>::new();
        drop(reply);
        let error = ticket.wait().unwrap_err();
        assert!(!error.certainly_not_committed());
        let (read, reply) = ReadTicket::new();
        drop(reply);
        assert_eq!(read.wait(), Err(ReadError::ShutDown));
        let (transfer, reply) = TransferTicket::new();
        drop(reply);
        assert_eq!(transfer.wait(), Err(TransferError::ShutDown));
    }

    /// A dropped ticket is fine, and so is a callback that panics: the runtime's thread lives on.
    #[test]
    fn dropped_tickets_and_panicking_callbacks_do_no_harm() {
        let (ticket, reply) = Ticket::<u8>::new();
        drop(ticket);
        reply.applied(ID, 1_u8);
        call_with_outcome::<u8>(|_| panic!("in the caller's code")).applied(ID, 1_u8);
        call_with_answer::<Index, ReadError>(|_| panic!("in the caller's code")).answered(Ok(Index(1)));
    }

    #[test]
    fn a_callback_is_called_once_with_the_outcome() {
        let (told, heard) = crate::sync::channel::unbounded();
        call_with_outcome::<u8>(move |outcome| told.send(outcome).unwrap()).applied(ID, 5_u8);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [Ok(Applied { id: ID, output: 5 })]);
    }
}

#[cfg(all(test, any(loom, shuttle)))]
#[path = "ticket_models.rs"]
mod models;
