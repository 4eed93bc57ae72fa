//! The published lease under every schedule, and with every value that its words may show a reader.

use super::*;
use crate::sync::model::{explore, explore_bounded, spawn};
use std::sync::Arc;

fn lease(read_index: u64, until: u64) -> Option<Lease> {
    Some(Lease { epoch: 0, read_index: Index(read_index), until: Instant::from_nanos(until) })
}

fn cell(lease: Option<Lease>) -> Arc<PublishedLease> {
    let cell = PublishedLease::none();
    cell.publish(lease);
    Arc::new(cell)
}

const EARLY: fn() -> Instant = || Instant::ZERO;

/// `p07`: a reader never combines the words of two publications.
#[test]
fn p07_the_words_of_two_leases_are_never_combined() {
    explore(|| {
        let cell = cell(lease(1, 1_000));
        let writer = cell.clone();
        let writer = spawn(move || {
            writer.publish(lease(2, 2_000));
            writer.publish(lease(3, 3_000));
        });
        if let Some((Index(index), until)) = cell.usable(EARLY) {
            assert_eq!(until.as_nanos(), index * 1_000, "a torn pair");
        }
        writer.join().unwrap();
    });
}

/// `p07`: a reader never goes back to an older publication.
#[test]
fn p07_a_reader_never_goes_back() {
    explore(|| {
        let cell = cell(lease(1, 1_000));
        let writer = cell.clone();
        let writer = spawn(move || writer.publish(lease(2, 2_000)));
        let (first, second) = (cell.usable(EARLY), cell.usable(EARLY));
        assert!(second.is_none() || first <= second, "{second:?} after {first:?}");
        writer.join().unwrap();
    });
}

/// `p07`: nor when a lease was taken away in between, with two readers at once.
#[test]
fn p07_the_words_around_a_revocation_are_never_combined() {
    explore_bounded(2, || {
        let cell = cell(lease(1, 1_000));
        let readers = [cell.clone(), cell.clone()].map(|cell| {
            spawn(move || {
                if let Some((Index(index), until)) = cell.usable(EARLY) {
                    assert_eq!(until.as_nanos(), index * 1_000, "a torn pair");
                }
            })
        });
        cell.publish(None);
        cell.publish(lease(2, 2_000));
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// `p07`, `p08`: a lease that was taken away before the reader looked at its clock is not used. What the clock shows
/// stands for everything that others do once they may elect somebody; they were let by a message that left after the
/// revocation, through memory that orders nothing by itself.
#[test]
fn p08_a_lease_revoked_before_the_clock_was_read_is_not_used() {
    explore(|| {
        let (cell, succeeded) = (cell(lease(1, 1_000)), Arc::new(AtomicU64::new(0)));
        let (writer, tells) = (cell.clone(), succeeded.clone());
        let writer = spawn(move || {
            writer.publish(None);
            tells.store(1, Ordering::Relaxed);
        });
        let seen = std::cell::Cell::new(0);
        let found = cell.read_index(|| {
            seen.set(succeeded.load(Ordering::Relaxed));
            // What others did is known now, as if a message had brought the news.
            fence(Ordering::Acquire);
            Instant::ZERO
        });
        assert!(found.is_none() || seen.get() == 0, "the lease was gone before the clock was read");
        writer.join().unwrap();
    });
}

/// `p08`: who has heard of anything that came after a revocation finds no lease.
#[test]
fn p08_who_hears_of_a_successor_finds_no_lease() {
    explore(|| {
        let (cell, succeeded) = (cell(lease(1, 1_000)), Arc::new(AtomicU64::new(0)));
        let (writer, tells) = (cell.clone(), succeeded.clone());
        let writer = spawn(move || {
            writer.publish(lease(2, 2_000));
            writer.publish(None);
            tells.store(1, Ordering::Relaxed);
        });
        let heard = succeeded.load(Ordering::Acquire);
        let found = cell.read_index(EARLY);
        assert!(found.is_none() || heard == 0, "a lease of a leader that was succeeded");
        writer.join().unwrap();
    });
}

/// `p07`: the clock is read after the words. A lease that was over when it was published, because its thread was put
/// aside in between, is never used.
#[test]
fn p07_the_clock_is_never_older_than_the_words() {
    explore(|| {
        let (cell, time) = (Arc::new(PublishedLease::none()), Arc::new(AtomicU64::new(0)));
        let (writer, runs) = (cell.clone(), time.clone());
        let writer = spawn(move || {
            runs.store(150, Ordering::Relaxed);
            writer.publish(lease(1, 100));
        });
        assert_eq!(cell.read_index(|| Instant::from_nanos(time.load(Ordering::Relaxed))), None);
        writer.join().unwrap();
    });
}

/// `p07`: who was told that a write is committed, and then reads, is not given an index before it: it was published
/// first.
#[test]
fn p07_what_was_acknowledged_is_covered() {
    explore(|| {
        let (cell, acknowledged) = (cell(lease(1, 1_000)), Arc::new(AtomicU64::new(1)));
        let (writer, tells) = (cell.clone(), acknowledged.clone());
        let writer = spawn(move || {
            writer.publish(lease(2, 2_000));
            tells.store(2, Ordering::Release);
        });
        let told = Index(acknowledged.load(Ordering::Acquire));
        assert!(cell.read_index(EARLY).is_none_or(|index| index >= told), "a stale read");
        writer.join().unwrap();
    });
}
