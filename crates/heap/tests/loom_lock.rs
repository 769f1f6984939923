//! Loom's model of `src/lock.rs`, the production file itself: every order of two threads that allocate and free, one of
//! which comes back in the middle of its call.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-heap --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: one thread at a time reaches the backing, and sees all that was done there before. Both
//! orderings that the file asks for are needed: weakened alone, each makes the model fail.
#![cfg(loom)]

use core::{
    cell::Cell,
    num::NonZeroUsize,
    ptr::{self, NonNull},
};
use std::sync::{Arc, OnceLock, Weak};

use loom::{cell::UnsafeCell, thread};
use terrace_core::{Alignment, AllocError, Allocator};

#[allow(dead_code, reason = "the model uses its part")]
#[path = "../src/lock.rs"]
mod lock;
#[allow(dead_code, reason = "the model uses its part")]
#[path = "loom_support/mod.rs"]
mod support;
#[path = "../src/transparent.rs"]
mod transparent;

use lock::{LockAllocator, Threads};
use support::{atomic, atomic::Ordering, check, fails_without};

loom::thread_local! {
    static ME: Cell<usize> = Cell::new(1);
}

/// Threads by the number that each gave itself.
struct Numbers;

// SAFETY: each thread of a model has a number of its own.
unsafe impl Threads for Numbers {
    fn current(&self) -> NonZeroUsize {
        ME.with(|me| NonZeroUsize::new(me.get()).expect("a number"))
    }

    fn pause(&self, _: u32) {
        thread::yield_now();
    }
}

type Shared = LockAllocator<Counter, Numbers>;

/// Counts in plain memory, so that loom sees who reaches it at the same time. A `free` comes back into the lock, as
/// a hook of a backing may.
#[derive(Default)]
struct Counter {
    count: UnsafeCell<usize>,
    above: Arc<OnceLock<Weak<Shared>>>,
}

impl Counter {
    fn count(&self) -> usize {
        self.count.with_mut(|count| {
            // SAFETY: one thread at a time: that is what the model is about, and what loom watches.
            let count = unsafe { &mut *count };
            *count += 1;
            *count
        })
    }
}

// SAFETY: hands out dangling pointers to different addresses, which nobody reads or writes.
unsafe impl Allocator for Counter {
    fn alloc(&self, _: NonZeroUsize, _: Alignment) -> Result<NonNull<u8>, AllocError> {
        NonNull::new(ptr::without_provenance_mut(self.count())).ok_or(AllocError)
    }

    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, _: NonNull<[u8]>, alignment: Alignment) {
        let above = self.above.get().and_then(Weak::upgrade).expect("alive");
        above.alloc(NonZeroUsize::MIN, alignment).expect("a number");
        // Still alone: the inner call has not let anybody in.
        self.count();
    }
}

fn pair(shared: &Shared) {
    let block = shared.alloc(NonZeroUsize::MIN, Alignment::ONE).expect("a number");
    // SAFETY: live, and not used again.
    unsafe { shared.free(NonNull::slice_from_raw_parts(block, 1), Alignment::ONE) };
}

fn two_threads() {
    let counter = Counter::default();
    let above = Arc::clone(&counter.above);
    let shared = Arc::new(LockAllocator::with_threads(counter, Numbers));
    // The backing knows the lock, weakly, so that both end.
    assert!(above.set(Arc::downgrade(&shared)).is_ok());
    let other = Arc::clone(&shared);
    let thread = thread::spawn(move || {
        ME.with(|me| me.set(2));
        pair(&other);
    });
    pair(&shared);
    thread.join().unwrap();
}

#[test]
fn one_thread_at_a_time_reaches_the_backing() {
    check(None, two_threads);
}

#[test]
fn who_leaves_must_release() {
    fails_without(("AtomicUsize", "store", Ordering::Release), None, two_threads);
}

#[test]
fn who_enters_must_acquire() {
    fails_without(("AtomicUsize", "compare_exchange", Ordering::Acquire), None, two_threads);
}
