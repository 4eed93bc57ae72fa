//! The queue under every schedule. A wake-up that is lost shows as a deadlock.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::sync::Arc;
use crate::sync::model::{explore, explore_bounded, spawn};

/// Takes until the queue is closed, then what is left.
fn take_all(queue: &Queue<u8>, patience: Option<Duration>) -> Vec<u8> {
    let (mut all, mut taken) = (Vec::new(), Vec::new());
    loop {
        match queue.take(&mut taken, patience) {
            Taken::Items => {
                assert!(!taken.is_empty(), "woken for nothing");
                all.append(&mut taken);
            }
            Taken::Idle => {}
            Taken::Closed => break,
        }
    }
    all.extend(queue.drain());
    all
}

/// `s02`: a push wakes the sleeping thread, and what every thread has pushed comes in its order, once.
#[test]
fn s02_every_push_is_taken_in_order() {
    explore_bounded(3, || {
        let queue = Arc::new(Queue::new());
        let pushers = [[1, 2], [11, 12]].map(|items| {
            let queue = queue.clone();
            spawn(move || items.map(|item| assert!(queue.push(item))))
        });
        let (mut all, mut taken) = (Vec::new(), Vec::new());
        while all.len() < 4 {
            assert_eq!(queue.take(&mut taken, None), Taken::Items);
            all.append(&mut taken);
        }
        assert!(all.iter().filter(|item| **item < 10).eq(&[1, 2]));
        assert!(all.iter().filter(|item| **item > 10).eq(&[11, 12]));
        for pusher in pushers {
            pusher.join().unwrap();
        }
    });
}

/// A queue that is closed hands out everything that it took before, and refuses the rest: nothing is lost unseen.
fn closing_loses_nothing(patience: Option<Duration>) {
    let queue = Arc::new(Queue::new());
    let pusher = queue.clone();
    let pusher = spawn(move || {
        let one = pusher.push(1);
        let more = pusher.push(2);
        assert!(one || !more, "an item got in after the queue was closed");
        u8::from(one) + u8::from(more)
    });
    let closer = queue.clone();
    let closer = spawn(move || closer.close());
    let all = take_all(&queue, patience);
    closer.join().unwrap();
    let pushed = pusher.join().unwrap();
    assert_eq!(all, (1..=pushed).collect::<Vec<_>>());
    assert!(queue.drain().is_empty() && !queue.push(3));
}

#[test]
fn a_closed_queue_hands_out_all_it_took() {
    explore_bounded(3, || closing_loses_nothing(None));
}

#[test]
fn a_closed_queue_hands_out_all_it_took_to_one_who_loses_patience() {
    explore_bounded(3, || closing_loses_nothing(Some(Duration::from_millis(20))));
}

/// Closing wakes everybody who sleeps.
#[test]
fn closing_wakes_every_sleeper() {
    explore(|| {
        let queue = Arc::new(Queue::<u8>::new());
        let sleepers = [queue.clone(), queue.clone()].map(|queue| spawn(move || take_all(&queue, None)));
        queue.close();
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap().is_empty());
        }
    });
}
