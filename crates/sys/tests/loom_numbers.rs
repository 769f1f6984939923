//! Loom's model of `src/numbers.rs`, the production file itself: threads that take numbers, leave something in their place, end,
//! and others that take the place over.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-sys --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: a number is one thread's at a time, and who has it has seen what those did who had it before. The
//! three orderings are needed: weakened alone, each makes a model fail.
#![cfg(loom)]

// The production file takes its atomics from `terrace_sync`: here that is this file.
extern crate self as terrace_sync;
extern crate terrace_sync as real_sync;

use std::sync::Arc;

use loom::thread;

#[path = "../src/numbers.rs"]
mod numbers;
#[path = "../../sync/tests/loom_support/mod.rs"]
mod support;

use numbers::Numbers;
use real_sync::{const_fn, repeat};
use support::{Ordering, RACE, atomic, check, fails_without};

/// Places behind numbers: who has one counts there, without a lock.
struct Places {
    numbers: Numbers,
    counts: [support::cell::UnsafeCell<usize>; 3],
}

// SAFETY: a count is its number's holder's alone, which is what the model is about.
unsafe impl Sync for Places {}

impl Places {
    fn new() -> Arc<Self> {
        Arc::new(Self { numbers: Numbers::new(), counts: [const { support::cell::UnsafeCell::new(0) }; 3] })
    }

    fn count(&self, number: usize) {
        // SAFETY: the caller has the number.
        self.counts[number].with_mut(|count| unsafe { *count += 1 });
    }

    fn all(&self) -> usize {
        // SAFETY: the other threads are done.
        self.counts.iter().map(|count| count.with(|count| unsafe { *count })).sum()
    }

    /// The life of a thread; whether there was a number for it.
    fn live(&self, numbers: usize) -> usize {
        let Some(number) = self.numbers.take_lowest(numbers) else { return 0 };
        self.count(number);
        self.numbers.give_back(number);
        1
    }

    /// Looks after a place that nobody has.
    fn adopt(&self, number: usize) -> usize {
        if !self.numbers.take(number) {
            return 0;
        }
        self.count(number);
        self.numbers.give_back(number);
        1
    }
}

fn run(theirs: fn(&Places) -> usize, ours: fn(&Places) -> usize) {
    let places = Places::new();
    let other = Arc::clone(&places);
    let thread = thread::spawn(move || theirs(&other));
    let ours = ours(&places);
    assert_eq!(ours + thread.join().unwrap(), places.all());
    assert_eq!(places.numbers.take_lowest(2), Some(1), "all are given back");
}

/// Two threads and one number: the second takes it over, or has none.
fn hand_over() {
    run(|places| places.live(1), |places| places.live(1));
}

/// Two threads, each with a number of its own.
fn apart() {
    run(|places| places.live(2), |places| places.live(2) + places.live(2));
}

/// A thread dies while another one looks after the places of the dead.
fn adoption() {
    run(|places| places.live(1), |places| places.adopt(1) + places.adopt(2));
}

#[test]
fn a_number_is_handed_over() {
    check(None, hand_over);
}

#[test]
fn two_threads_have_two_numbers() {
    check(None, apart);
}

#[test]
fn the_place_of_a_dead_thread_is_adopted() {
    check(None, adoption);
}

#[test]
fn giving_back_must_release() {
    fails_without(("word.fetch_and(!bit", Ordering::Release), RACE, None, hand_over);
}

#[test]
fn taking_the_lowest_must_acquire() {
    fails_without(("word.compare_exchange_weak(", Ordering::Acquire), RACE, None, hand_over);
}

#[test]
fn adopting_must_acquire() {
    fails_without(("word.fetch_or(bit", Ordering::Acquire), RACE, None, adoption);
}
