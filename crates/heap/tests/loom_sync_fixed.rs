//! Loom's model of `src/sync_fixed.rs`, the production file itself: every order of threads that allocate, resize and free.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-heap --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: live blocks are disjoint, and whoever gets bytes has seen all that was done to
//! them before. Each ordering that the file asks for is needed: weakened alone, it makes the model fail.
#![cfg(loom)]

use core::{mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use loom::{sync::Arc, thread};
use terrace_core::{Alignment, Allocator};

#[path = "../src/bump.rs"]
mod bump;
#[path = "loom_support/mod.rs"]
mod support;
#[path = "../src/sync_fixed.rs"]
mod sync_fixed;

use support::{Live, Shadow, atomic, atomic::Ordering, check, fails_without};
use sync_fixed::SyncFixedBuffer;

const SIZE: usize = 64;

struct Model {
    fixed: SyncFixedBuffer<'static>,
    shadow: Shadow,
    live: Live,
}

fn len(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).expect("a length")
}

impl Model {
    fn new() -> Arc<Self> {
        // Leaked, 64 bytes an execution; nobody reads or writes them: the shadow stands for them.
        let buffer = Box::leak(Box::new([MaybeUninit::<u64>::uninit(); SIZE / 8]));
        // SAFETY: the same bytes, as bytes.
        let bytes: &mut [MaybeUninit<u8>] =
            unsafe { NonNull::slice_from_raw_parts(NonNull::from(buffer).cast(), SIZE).as_mut() };
        let origin = bytes.as_ptr().addr();
        let fixed = SyncFixedBuffer::new(bytes);
        Arc::new(Self { fixed, shadow: Shadow::new(origin, SIZE), live: Live::default() })
    }

    /// A new block, written to.
    fn alloc(&self, bytes: usize) -> Option<NonNull<[u8]>> {
        let start = self.fixed.alloc(len(bytes), Alignment::of::<u64>()).ok()?;
        self.live.begins(start.addr().get(), bytes);
        self.shadow.write(start.addr().get(), bytes);
        Some(NonNull::slice_from_raw_parts(start, bytes))
    }

    /// The block with another length, written to where that was granted.
    fn resize(&self, memory: NonNull<[u8]>, bytes: usize) -> NonNull<[u8]> {
        let start = memory.addr().get();
        self.live.ends(start);
        self.live.begins(start, bytes.min(memory.len()));
        // SAFETY: live, with its alignment.
        if !unsafe { self.fixed.resize(memory, Alignment::of::<u64>(), len(bytes)) } {
            return memory;
        }
        self.live.ends(start);
        self.live.begins(start, bytes);
        self.shadow.write(start, bytes);
        NonNull::slice_from_raw_parts(memory.cast(), bytes)
    }

    fn free(&self, memory: NonNull<[u8]>) {
        self.live.ends(memory.addr().get());
        // SAFETY: live, with its alignment, and not used again.
        unsafe { self.fixed.free(memory, Alignment::of::<u64>()) };
    }
}

/// Two threads allocate and free; the buffer holds both blocks.
fn alloc_and_free() {
    let model = Model::new();
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        let block = other.alloc(24).expect("there is room");
        other.free(block);
        other.alloc(8).is_some()
    });
    let block = model.alloc(24).expect("there is room");
    model.free(block);
    assert!(thread.join().unwrap(), "there is room");
    assert!(model.fixed.end_index() <= 56);
}

/// One thread shrinks, one grows, both against a third block.
fn shrink_and_grow() {
    let model = Model::new();
    let first = model.alloc(16).expect("there is room");
    let (other, address) = (Arc::clone(&model), first.cast::<u8>().as_ptr().expose_provenance());
    let thread = thread::spawn(move || {
        let start = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(address)).expect("a block");
        let block = other.resize(NonNull::slice_from_raw_parts(start, 16), 40);
        let block = other.resize(block, 8);
        other.free(block);
    });
    if let Some(block) = model.alloc(24) {
        let block = model.resize(block, 8);
        model.resize(block, 16);
    }
    thread.join().unwrap();
}

/// Both want the last bytes.
fn one_wins() {
    let model = Model::new();
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || other.alloc(40).is_some());
    let ours = model.alloc(40).is_some();
    assert!(ours != thread.join().unwrap(), "one of two is served");
    assert_eq!(model.fixed.end_index(), 40, "a refusal leaves no trace");
}

#[test]
fn two_threads_allocate_and_free() {
    check(None, alloc_and_free);
}

#[test]
fn a_block_shrinks_and_grows_beside_another_thread() {
    check(None, shrink_and_grow);
}

#[test]
fn of_two_that_want_the_last_bytes_one_is_served() {
    check(None, one_wins);
}

#[test]
fn what_lowers_the_end_must_release() {
    fails_without(("AtomicUsize", "compare_exchange", Ordering::Release), None, alloc_and_free);
}

#[test]
fn what_raises_the_end_must_acquire() {
    fails_without(("AtomicUsize", "compare_exchange", Ordering::Acquire), None, alloc_and_free);
}
