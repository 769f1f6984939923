//! Loom's models of `count.rs`, the production file itself: threads with frames at hand, and one without.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-frame --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: no more is taken than leaves the floor, what is counted free and what is taken are
//! together all there is, and afterwards, alone, a caller gets the very last above the floor.
#![cfg(loom)]
#![allow(dead_code, reason = "the production file is compiled whole, and a model uses its part")]

#[path = "../src/count.rs"]
mod count;

mod atomic {
    pub use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
}

mod hook {
    pub(crate) fn between() {}
    pub(crate) fn lost() {}
}

use std::sync::Arc;

use count::{Count, LINE};
use loom::{model::Builder, thread};

/// With two slots and so many frames a batch is one frame.
const FRAMES: usize = 32;

fn two_slots() -> Arc<Count<'static>> {
    let lines = (0..2 * LINE).map(|_| atomic::AtomicU64::new(0)).collect::<Vec<_>>();
    Arc::new(Count::new(FRAMES, Box::leak(lines.into_boxed_slice())))
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Takes one, up to `times`; what is had in the end.
fn take(count: &Count<'_>, slot: usize, floor: usize, times: usize) -> usize {
    (0..times).filter(|_| count.take(slot, 1, floor)).count()
}

/// What is left above the floor a caller alone gets, to the last.
fn ends(count: &Count<'_>, had: usize, floor: usize) {
    assert_eq!(count.free() + had, FRAMES, "frames came or went");
    assert!(had <= FRAMES - floor, "{had} were taken, above a floor of {floor}");
    assert_eq!(take(count, 0, floor, FRAMES) + had, FRAMES - floor);
    assert_eq!(count.shared(), floor, "nothing is at hand any more");
}

#[test]
fn takers_leave_the_floor() {
    for floor in [FRAMES - 2, FRAMES - 3] {
        check(move || {
            let count = two_slots();
            let other = Arc::clone(&count);
            let others = thread::spawn(move || take(&other, 2, floor, 2));
            let had = take(&count, 1, floor, 2);
            ends(&count, had + others.join().expect("it ends"), floor);
        });
    }
}

#[test]
fn what_is_given_back_is_counted_once() {
    const FLOOR: usize = FRAMES - 3;
    check(|| {
        let count = two_slots();
        let other = Arc::clone(&count);
        let others = thread::spawn(move || {
            let had = take(&other, 2, FLOOR, 2);
            if had > 0 {
                other.put(2, 1);
            }
            had.saturating_sub(1)
        });
        let had = take(&count, 1, FLOOR, 1);
        count.gather();
        ends(&count, had + others.join().expect("it ends"), FLOOR);
    });
}

/// An urgent caller goes below the floor of another, whose frames at hand are then no way around it.
#[test]
fn what_is_at_hand_is_no_way_below_the_floor() {
    const FLOOR: usize = FRAMES - 2;
    check(|| {
        let count = two_slots();
        assert!(count.take(1, 1, FLOOR), "and another one is at hand");
        let other = Arc::clone(&count);
        let urgent = thread::spawn(move || other.take(0, FLOOR, 0));
        let more = usize::from(count.take(1, 1, FLOOR));
        let low = if urgent.join().expect("it ends") { FLOOR } else { 0 };
        assert_eq!(low, FLOOR, "there is enough for it in any order");
        assert_eq!(count.free(), FRAMES - 1 - more - low);
        // Now that it has gone below, nothing is had any more.
        assert!(!count.take(1, 1, FLOOR) && !count.take(2, 1, FLOOR));
        count.put(0, low);
        ends(&count, 1 + more, FLOOR);
    });
}
