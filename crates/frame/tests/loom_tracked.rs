//! Loom's model of the notes of tracked runs: `tracked/ledger.rs`, the production file itself.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-frame --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order, with all of the ledger's steps relaxed: a run is struck out once, however many threads free
//! it, and whoever is handed its frames next keeps the note of its own. A compare-exchange that is a load and a store
//! makes the model fail.
#![cfg(loom)]
#![allow(dead_code, reason = "the production files are compiled whole, and a model uses its part")]

#[path = "../src/types.rs"]
mod types;

#[path = "../src/tracked"]
mod tracked {
    pub mod ledger;
    pub mod note;
    pub mod report;
    pub mod sites;

    pub use report::{Owner, Run};
}

mod hook {
    pub(crate) fn touched() {}
}

/// Loom's atomics, of which a compare-exchange can be taken apart.
mod atomic {
    use std::cell::Cell;

    pub use loom::sync::atomic::Ordering;

    std::thread_local! {
        /// Loom runs the threads of a model one after another in the thread of the test.
        pub static TORN: Cell<bool> = const { Cell::new(false) };
    }

    #[derive(Debug)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub fn load(&self, ordering: Ordering) -> u64 {
            self.0.load(ordering)
        }

        pub fn store(&self, value: u64, ordering: Ordering) {
            self.0.store(value, ordering);
        }

        pub fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
            if !TORN.get() {
                return self.0.compare_exchange(old, new, success, failure);
            }
            let found = self.0.load(failure);
            if found != old {
                return Err(found);
            }
            self.0.store(new, success);
            Ok(found)
        }
    }
}

use std::{
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::LazyLock,
};

use atomic::{AtomicU64, Ordering, TORN};
use loom::{sync::Arc, thread};
use tracked::{Owner, ledger::Ledger, note::Note, sites::Sites};
use types::{Frame, Frames};

const RUN: Frames = Frames::new(7, 1);
const MINE: Owner = Owner(1);
const YOURS: Owner = Owner(2);
static HERE: LazyLock<&Location<'_>> = LazyLock::new(Location::caller);

/// One frame, and a backing of one bit, as `bits.rs` keeps it: one is free.
struct Model {
    ledger: Ledger<'static>,
    bit: loom::sync::atomic::AtomicU64,
}

impl Model {
    /// The frame is mine.
    fn new() -> Arc<Self> {
        let words: &[AtomicU64] = Box::leak(Box::new([AtomicU64::new(0)]));
        let ledger = Ledger::new(words, RUN.start.0, Sites::new(&[]));
        ledger.made(RUN, MINE, *HERE);
        Arc::new(Self { ledger, bit: loom::sync::atomic::AtomicU64::new(0) })
    }

    /// Takes the frame for an owner, if it is free.
    fn take(&self, owner: Owner) -> bool {
        let free = self.bit.compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if free {
            self.ledger.made(RUN, owner, *HERE);
        }
        free
    }

    /// Frees it for an owner, as the layer does; whether it was that owner's.
    fn free(&self, owner: Owner) -> bool {
        let note = self.ledger.note(RUN.start).filter(|note| note.owner == owner.0);
        let struck = note.is_some_and(|note| self.ledger.strike(RUN.start, note));
        if struck {
            let taken = self.bit.compare_exchange(0, 1, Ordering::Release, Ordering::Relaxed).is_ok();
            assert!(taken, "what was struck out was handed out");
        }
        struck
    }

    fn owner(&self) -> Option<u32> {
        self.ledger.note(Frame(RUN.start.0)).map(|note: Note| note.owner)
    }
}

/// Two threads free the same run, and a third takes the frame as soon as it can.
fn freed_twice_and_taken() {
    let model = Model::new();
    let (one, other) = (Arc::clone(&model), Arc::clone(&model));
    let threads = [thread::spawn(move || one.free(MINE)), thread::spawn(move || other.free(MINE))];
    let taken = model.take(YOURS);
    let freed = threads.map(|thread| thread.join().unwrap());
    assert!(freed[0] != freed[1], "one of them has it: {freed:?}");
    assert_eq!(model.owner(), taken.then_some(YOURS.0), "the note is the last owner's");
}

fn check(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_run_is_struck_out_once_and_the_next_owner_keeps_its_note() {
    check(freed_twice_and_taken);
}

#[test]
fn the_model_fails_where_a_compare_exchange_is_torn() {
    TORN.set(true);
    let failed = catch_unwind(AssertUnwindSafe(|| check(freed_twice_and_taken))).is_err();
    TORN.set(false);
    assert!(failed);
}
