//! Loom's model of `src/lock.rs`, the production file itself: every order of threads at one lock.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-sync --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: one thread at a time is at the value, and has seen what the ones before it did. Both
//! orderings are needed: weakened alone, each makes the model fail.
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;

#[path = "../src/lock.rs"]
mod lock;
#[path = "loom_support/mod.rs"]
mod support;

use lock::Lock;
use support::{Ordering, RACE, atomic, cell, check, fails_without};

fn wait(_tries: u32) {
    thread::yield_now();
}

fn two_count() {
    let lock = Arc::new(Lock::new(0));
    let other = Arc::clone(&lock);
    let thread = thread::spawn(move || {
        *other.lock(wait) += 1;
        *other.lock(wait) += 1;
    });
    *lock.lock(wait) += 1;
    thread.join().unwrap();
    assert_eq!(*lock.lock(wait), 3);
}

fn one_tries() {
    let lock = Arc::new(Lock::new(0));
    let other = Arc::clone(&lock);
    let thread = thread::spawn(move || match other.try_lock() {
        Some(mut held) => {
            *held += 1;
            1
        }
        None => 0,
    });
    *lock.lock(wait) += 1;
    let tried = thread.join().unwrap();
    assert_eq!(*lock.lock(wait), 1 + tried);
}

/// A thread locks for a fork while another one is at work; after the fork it unlocks.
fn fork() {
    let lock = Arc::new(Lock::new(0));
    let other = Arc::clone(&lock);
    let thread = thread::spawn(move || *other.lock(wait) += 1);
    lock.lock_and_leave(wait);
    assert!(lock.try_lock().is_none());
    // SAFETY: locked two lines above.
    unsafe { lock.unlock() };
    *lock.lock(wait) += 1;
    thread.join().unwrap();
    assert_eq!(*lock.lock(wait), 2);
}

#[test]
fn two_threads_count() {
    check(None, two_count);
}

#[test]
fn a_thread_that_tries_counts_or_is_refused() {
    check(None, one_tries);
}

#[test]
fn a_lock_that_is_left_locked_is_unlocked_later() {
    check(Some(3), fork);
}

#[test]
fn locking_must_acquire() {
    fails_without(("self.held.swap(true", Ordering::Acquire), RACE, None, two_count);
}

#[test]
fn unlocking_must_release() {
    fails_without(("self.held.store(false", Ordering::Release), RACE, None, two_count);
}
