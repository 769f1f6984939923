//! Loom's model of `src/sync_arena.rs`, the production file itself: every order of threads that allocate, resize and free.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-heap --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: live blocks are disjoint, whoever gets bytes has seen all that was done to them
//! before, and in the end every node goes back to the backing once, as it came. The orderings that the file
//! asks for are needed: weakened alone, each makes a model fail; but the Acquire of `fetch_or` in `begin_growth`, which
//! the backing's own order makes superfluous where the backing is as strict as the model's.
#![cfg(loom)]

use core::{mem::ManuallyDrop, num::NonZeroUsize, ptr::NonNull};
use std::{
    alloc::{Layout, alloc, dealloc},
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize as Count, Ordering::SeqCst},
    },
};

use loom::thread;
use terrace_core::{Alignment, AllocError, Allocator};
use terrace_sync::cell;

#[path = "../src/bump.rs"]
mod bump;
#[path = "loom_support/mod.rs"]
mod support;
#[path = "../src/sync_arena.rs"]
mod sync_arena;

use support::{Live, Shadow, atomic, atomic::Ordering, check, fails_without};
use sync_arena::SyncArena;

const SIZE: usize = 4096;
const WORD: Alignment = Alignment::of::<u64>();

fn len(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).expect("a length")
}

fn layout() -> Layout {
    Layout::from_size_align(SIZE, 64).expect("a layout")
}

/// The backing: a buffer whose last block grows and is taken back, behind a lock of loom's; so a free of it happens
/// before what hands the bytes out again, and nothing else does. Refusals come without the lock.
struct Ground {
    start: NonNull<u8>,
    end: loom::sync::Mutex<usize>,
    /// Lengths by address (clause 11).
    given: Mutex<HashMap<usize, usize>>,
    allocs_left: Count,
    grows: bool,
}

// SAFETY: the buffer is this value's alone, handed out in disjoint blocks.
unsafe impl Send for Ground {}
// SAFETY: as above; what changes is locked.
unsafe impl Sync for Ground {}

// SAFETY: blocks are disjoint parts of the buffer below `end`; a block is resized only where it is the last.
unsafe impl Allocator for Ground {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.allocs_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).map_err(|_| AllocError)?;
        let mut end = self.end.lock().unwrap();
        let start = alignment.forward(*end).expect("a small offset");
        assert!(start + len.get() <= SIZE, "a buffer that is large enough for the model");
        *end = start + len.get();
        // SAFETY: inside the buffer.
        let block = unsafe { self.start.add(start) };
        self.given.lock().unwrap().insert(block.addr().get(), len.get());
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        if !self.grows {
            return false;
        }
        let mut end = self.end.lock().unwrap();
        let start = memory.addr().get() - self.start.addr().get();
        let granted = start + memory.len() == *end && start + new_len.get() <= SIZE;
        if granted {
            *end = start + new_len.get();
            let old = self.given.lock().unwrap().insert(memory.addr().get(), new_len.get());
            assert_eq!(old, Some(memory.len()), "what comes back is what was given");
        }
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        let mut end = self.end.lock().unwrap();
        let old = self.given.lock().unwrap().remove(&memory.addr().get());
        assert_eq!(old, Some(memory.len()), "what comes back is what was given, once");
        let start = memory.addr().get() - self.start.addr().get();
        if start + memory.len() == *end {
            *end = start;
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // SAFETY: allocated in `Model::new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), layout()) };
    }
}

struct Model {
    /// Not dropped where the model has failed: loom is unwinding then.
    arena: ManuallyDrop<SyncArena<Arc<Ground>>>,
    ground: Arc<Ground>,
    shadow: Shadow,
    live: Live,
}

impl Model {
    /// Over a backing that gives so many blocks.
    fn new(allocs_left: usize, grows: bool) -> Arc<Self> {
        // SAFETY: not of size zero.
        let start = NonNull::new(unsafe { alloc(layout()) }).expect("memory");
        let ground = Arc::new(Ground {
            start,
            end: loom::sync::Mutex::new(0),
            given: Mutex::default(),
            allocs_left: Count::new(allocs_left),
            grows,
        });
        Arc::new(Self {
            arena: ManuallyDrop::new(SyncArena::new(Arc::clone(&ground))),
            ground,
            shadow: Shadow::new(start.addr().get(), SIZE),
            live: Live::default(),
        })
    }

    /// A new block, written to.
    fn alloc(&self, bytes: usize) -> Option<NonNull<[u8]>> {
        let start = self.arena.alloc(len(bytes), WORD).ok()?;
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
        if !unsafe { self.arena.resize(memory, WORD, len(bytes)) } {
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
        unsafe { self.arena.free(memory, WORD) };
    }

    /// The header of a node, and what a first node has room for, as the first block shows them.
    fn measure(&self, first: NonNull<[u8]>) -> (usize, usize) {
        let header = first.addr().get() - self.ground.start.addr().get();
        (header, self.ground.given.lock().unwrap()[&self.ground.start.addr().get()] - header)
    }

    /// Ends the arena: every node comes back.
    fn end(self: Arc<Self>) {
        let model = Arc::into_inner(self).expect("the threads are done");
        drop(ManuallyDrop::into_inner(model.arena));
        assert_eq!(model.ground.given.lock().unwrap().len(), 0, "every node has come back");
    }
}

/// Runs `ours` and `theirs` in two threads, then ends the arena.
fn both(model: Arc<Model>, ours: fn(&Model), theirs: fn(&Model)) {
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || theirs(&other));
    ours(&model);
    thread.join().unwrap();
    model.end();
}

fn one_block(model: &Model) {
    model.alloc(8).expect("there is room");
}

/// Nobody has made a node yet: both do, or one finds the other's.
fn first_blocks() {
    both(Model::new(2, false), one_block, one_block);
}

/// In one node.
fn alloc_and_free() {
    let model = Model::new(1, false);
    let first = model.alloc(48).expect("there is room");
    model.free(first);
    fn work(model: &Model) {
        let block = model.alloc(16).expect("there is room");
        model.free(block);
    }
    both(model, work, work);
}

/// A block shrinks and grows where the other thread's wants to be.
fn shrink_and_grow() {
    let model = Model::new(1, false);
    let first = model.alloc(48).expect("there is room");
    model.free(first);
    fn work(model: &Model) {
        let block = model.alloc(16).expect("there is room");
        let block = model.resize(block, 8);
        model.resize(block, 24);
    }
    both(model, work, |model| model.free(model.alloc(16).expect("there is room")));
}

/// The node grows over bytes that one thread has just freed to the backing; then the other gets some of them.
fn growth() {
    let model = Model::new(2, true);
    let first = model.alloc(8).expect("there is room");
    let (_, room) = model.measure(first);
    // The backing's next block, right behind the node.
    model.ground.alloc(len(2 * room + 64), WORD).expect("there is room");
    fn grow(model: &Model) {
        let given = model.ground.given.lock().unwrap();
        let (&node, &size) = given.iter().min().expect("the node");
        let (&pinned, &pinned_len) = given.iter().max().expect("the block behind it");
        drop(given);
        assert!(pinned - (node + size) < 8);
        model.shadow.write(pinned, pinned_len);
        let memory = core::ptr::with_exposed_provenance_mut(pinned);
        let memory = NonNull::slice_from_raw_parts(NonNull::new(memory).expect("a block"), pinned_len);
        // SAFETY: a live block of the backing, not used again.
        unsafe { model.ground.free(memory, WORD) };
        model.alloc(size);
    }
    both(model, grow, |model| {
        model.alloc(8);
        model.alloc(8);
    });
}

/// A node that was made in vain is used when the other one is full.
fn spare() {
    /// What the first node has room for; its header is loom's in a model, and larger than in production.
    static ROOM: Count = Count::new(0);
    let probe = Model::new(1, false);
    let first = probe.alloc(8).expect("there is room");
    ROOM.store(probe.measure(first).1, SeqCst);
    probe.end();
    fn work(model: &Model) {
        one_block(model);
        model.alloc(ROOM.load(SeqCst) - 8);
    }
    both(Model::new(2, false), work, work);
}

/// The newest node is full: both make another, or one finds the other's; what was made in vain is spare.
fn second_blocks() {
    let model = Model::new(4, false);
    let first = model.alloc(8).expect("there is room");
    let (_, room) = model.measure(first);
    model.alloc(room - 16).expect("there is room");
    fn work(model: &Model) {
        model.alloc(16).expect("there is room");
    }
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || work(&other));
    work(&model);
    thread.join().unwrap();
    // Full again: whoever lost the race has left a node.
    model.alloc(room);
    model.alloc(room);
    model.end();
}

#[test]
fn the_first_blocks_of_two_threads() {
    check(None, first_blocks);
}

#[test]
fn the_next_node_is_made_by_two_threads() {
    check(Some(3), second_blocks);
}

#[test]
fn two_threads_allocate_and_free_in_one_node() {
    check(Some(4), alloc_and_free);
}

#[test]
fn a_block_shrinks_and_grows_beside_another_thread() {
    check(Some(3), shrink_and_grow);
}

#[test]
fn a_node_grows_over_what_was_freed_below() {
    check(Some(3), growth);
}

#[test]
fn spare_nodes_are_used_by_either_thread() {
    check(Some(3), spare);
}

#[test]
fn a_node_must_be_published() {
    fails_without(("AtomicPtr", "compare_exchange", Ordering::Release), None, first_blocks);
}

#[test]
fn a_published_node_must_be_acquired() {
    fails_without(("AtomicPtr", "load", Ordering::Acquire), None, first_blocks);
}

#[test]
fn the_node_that_came_first_must_be_acquired() {
    fails_without(("AtomicPtr", "compare_exchange failure", Ordering::Acquire), None, first_blocks);
}

#[test]
fn what_lowers_the_end_must_release() {
    fails_without(("AtomicUsize", "compare_exchange", Ordering::Release), Some(4), alloc_and_free);
}

#[test]
fn what_bumps_the_end_must_acquire() {
    fails_without(("AtomicUsize", "compare_exchange_weak", Ordering::Acquire), Some(4), alloc_and_free);
}

#[test]
fn a_block_that_grows_must_acquire() {
    fails_without(("AtomicUsize", "compare_exchange", Ordering::Acquire), Some(3), shrink_and_grow);
}

#[test]
fn a_grown_size_must_be_released() {
    fails_without(("AtomicUsize", "swap", Ordering::Release), Some(3), growth);
}

#[test]
fn a_grown_size_must_be_acquired() {
    fails_without(("AtomicUsize", "load", Ordering::Acquire), Some(3), growth);
}

#[test]
fn a_spare_node_must_be_released() {
    fails_without(("AtomicPtr", "compare_exchange_weak", Ordering::Release), Some(3), spare);
}

#[test]
fn a_spare_node_must_be_acquired() {
    fails_without(("AtomicPtr", "swap", Ordering::Acquire), Some(3), spare);
}
