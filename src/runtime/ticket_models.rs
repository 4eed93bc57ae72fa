//! Tickets under every schedule: whoever waits, and however, gets the answer once. A wake-up that is lost shows as a
//! deadlock.

use super::*;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::model::{explore, spawn};
use std::task::Wake;

const ID: EntryId = EntryId { term: crate::types::Term(3), index: Index(7) };
const ANSWER: Outcome<u8> = Ok(Applied { id: ID, output: 9 });

/// What an executor gives a future: it sleeps until it is rung.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock() = true;
        self.heard.notify_one();
    }
}

impl Bell {
    fn sleep(&self) {
        let mut rung = self.rung.lock();
        while !std::mem::take(&mut *rung) {
            self.heard.wait(&mut rung);
        }
    }
}

fn poll<F: Future + Unpin>(future: &mut F, bell: &Arc<Bell>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(bell.clone())))
}

#[test]
fn a_waiting_thread_is_woken_with_the_answer() {
    explore(|| {
        let (ticket, reply) = Ticket::<u8>::new();
        let answering = spawn(move || reply.applied(ID, 9_u8));
        assert_eq!(ticket.wait(), ANSWER);
        answering.join().unwrap();
    });
}

/// Whoever gave up in time has the ticket, and the answer is still in it, or still comes.
#[test]
fn a_timeout_neither_loses_nor_repeats_the_answer() {
    explore(|| {
        let (ticket, reply) = Ticket::<u8>::new();
        let answering = spawn(move || reply.applied(ID, 9_u8));
        let mut ticket = Err(ticket);
        for _ in 0..2 {
            ticket = ticket.or_else(|ticket| ticket.wait_timeout(Duration::from_millis(1)));
        }
        assert_eq!(ticket.unwrap_or_else(Ticket::wait), ANSWER);
        answering.join().unwrap();
    });
}

/// A wait that is so long that it must be woken.
#[test]
fn a_long_wait_is_woken_with_the_answer() {
    explore(|| {
        let (ticket, reply) = ReadTicket::new();
        let answering = spawn(move || reply.answered(Ok(Index(5))));
        assert_eq!(ticket.wait_timeout(Duration::from_secs(100_000)).ok(), Some(Ok(Index(5))));
        answering.join().unwrap();
    });
}

/// A future that was not ready wakes its task; then it is ready, once.
#[test]
fn a_pending_future_is_woken_and_ready_once() {
    explore(|| {
        let (mut ticket, reply) = Ticket::<u8>::new();
        let answering = spawn(move || reply.applied(ID, 9_u8));
        let bell = Arc::new(Bell::default());
        let answer = loop {
            match poll(&mut ticket, &bell) {
                Poll::Ready(answer) => break answer,
                Poll::Pending => bell.sleep(),
            }
        };
        assert_eq!(answer, ANSWER);
        assert!(poll(&mut ticket, &bell).is_pending());
        answering.join().unwrap();
    });
}

/// A future that moves from one task to another wakes the task that polled it last.
#[test]
fn the_task_that_polled_last_is_woken() {
    explore(|| {
        let (mut ticket, reply) = Ticket::<u8>::new();
        let answering = spawn(move || reply.applied(ID, 9_u8));
        let (before, now) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let answer = match (poll(&mut ticket, &before), poll(&mut ticket, &now)) {
            (Poll::Ready(answer), Poll::Pending) | (Poll::Pending, Poll::Ready(answer)) => answer,
            (Poll::Ready(_), Poll::Ready(_)) => panic!("answered twice"),
            (Poll::Pending, Poll::Pending) => {
                now.sleep();
                let Poll::Ready(answer) = poll(&mut ticket, &now) else { panic!("woken for nothing") };
                answer
            }
        };
        assert_eq!(answer, ANSWER);
        answering.join().unwrap();
    });
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A ticket that is given up, perhaps after it was polled, leaves its answer to be dropped, once; and its task may be
/// woken for nothing, but no answer goes astray.
#[test]
fn an_answer_to_a_dropped_ticket_is_dropped_once() {
    explore(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut ticket, reply) = Ticket::<Dropped>::new();
        let output = Dropped(drops.clone());
        let answering = spawn(move || reply.applied(ID, output));
        let polled = poll(&mut ticket, &Arc::new(Bell::default()));
        drop(ticket);
        assert!(polled.is_pending() || drops.load(Ordering::Relaxed) == 0, "dropped under its owner");
        drop(polled);
        answering.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

/// A callback that two threads want to call is called once, and not under its lock: it may be called again from inside.
#[test]
fn a_callback_is_called_once() {
    explore(|| {
        let calls = Arc::new(AtomicUsize::new(0));
        let counting = calls.clone();
        let callback = Callback::new(move |_: u8| _ = counting.fetch_add(1, Ordering::Relaxed));
        let other = callback.clone();
        let other = spawn(move || other.call(1));
        callback.call(2);
        other.join().unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}
