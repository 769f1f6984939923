//! Loom's model of `src/parked.rs`, the production file itself: every order of threads that park and retry.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-sys --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: each parked range is unmapped exactly once, with its length, or is in a list
//! still; and whoever unmaps a range sees all that was written into it, and nobody is writing there.
//!
//! The model needs the orderings: with `Relaxed` for the `Release` of `push`, or for the `Acquire` of
//! `take`, it stops at "Causality violation: Concurrent write accesses" or "…read and write accesses".
#![cfg(loom)]

use core::ptr::NonNull;

use loom::{
    model::Builder,
    sync::{Arc, Mutex},
    thread,
};

#[path = "../src/parked.rs"]
mod parked;
use parked::Parked;
use terrace_sync::atomic::AtomicPtr;

/// As in `page.rs`, aligned for a node, larger than loom's watched node.
type Range = [u128; 64];

struct Model {
    parked: Parked,
    /// Length by range: what has been unmapped.
    unmapped: Mutex<Vec<usize>>,
    /// Addresses, so that the model is `Send`.
    ranges: Vec<usize>,
}

impl Model {
    fn new(ranges: usize) -> Self {
        let ranges = (0..ranges).map(|_| Box::into_raw(Box::new([0u128; 64])).expose_provenance()).collect();
        Self {
            parked: Parked { due: AtomicPtr::default(), tried: AtomicPtr::default() },
            unmapped: Mutex::new(Vec::new()),
            ranges,
        }
    }

    fn range(&self, number: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(self.ranges[number])).unwrap()
    }

    /// Range `number` is parked, with a length that tells it from the others.
    fn park(&self, number: usize) {
        let range = self.range(number);
        // SAFETY: memory of its own, parked once.
        unsafe { self.parked.park(range, range, 100 + number) };
    }

    /// Retries; the first `refusals` tries are refused.
    fn retry(&self, mut refusals: usize) {
        self.parked.retry(|_, start, len| {
            if refusals > 0 {
                refusals -= 1;
                return false;
            }
            assert_eq!(start, self.range(len - 100), "the length is that of this range");
            self.unmapped.lock().unwrap().push(len - 100);
            true
        });
    }

    /// Unmaps what is left, and finds that nothing came twice and nothing is missing.
    fn all_came_back(&self) {
        while !self.parked.is_empty() {
            self.retry(0);
        }
        let mut unmapped = self.unmapped.lock().unwrap().clone();
        unmapped.sort_unstable();
        assert_eq!(unmapped, Vec::from_iter(0..self.ranges.len()));
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        for number in 0..self.ranges.len() {
            // SAFETY: made by `Box` in `new`; the threads are done.
            drop(unsafe { Box::from_raw(self.range(number).cast::<Range>().as_ptr()) });
        }
    }
}

/// Runs each of `work` in its thread, in every order with at most `preemptions` switches away from a
/// thread that could go on (`None`: any number).
fn check(preemptions: Option<usize>, ranges: usize, parked_before: usize, work: &'static [fn(&Model)]) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let model = Arc::new(Model::new(ranges));
        (0..parked_before).for_each(|number| model.park(number));
        let threads: Vec<_> = work[1..]
            .iter()
            .map(|&work| {
                let model = Arc::clone(&model);
                thread::spawn(move || work(&model))
            })
            .collect();
        work[0](&model);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        model.all_came_back();
    });
}

#[test]
fn two_threads_park() {
    check(None, 2, 0, &[|model| model.park(0), |model| model.park(1)]);
}

#[test]
fn one_parks_while_another_retries() {
    check(None, 2, 1, &[|model| model.park(1), |model| model.retry(0)]);
}

#[test]
fn a_refused_chain_is_put_back_while_another_thread_is_at_the_lists() {
    check(None, 4, 3, &[|model| model.retry(1), |model| (model.retry(1), model.park(3)).1]);
}

#[test]
fn three_threads_park_and_retry() {
    check(
        Some(3),
        4,
        2,
        &[|model| model.retry(1), |model| (model.park(2), model.retry(1)).1, |model| (model.park(3), model.retry(0)).1],
    );
}
