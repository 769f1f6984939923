//! What turns a clause about the allocator as a value into calls: [`Wandering`] moves it, [`Twins`] clones it.
//!
//! ```text
//!   Wandering   call 1 at place a, call 2 at place b, call 3 at place c …      clause 7
//!   Twins       calls go to the original and to its clone in turn              clause 9
//! ```
//!
//! Costs: a box a call; a clone in all.

use std::{
    cell::{Cell, OnceCell},
    num::NonZeroUsize,
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator};

/// Moves the allocator to another address before each call.
///
/// ```
/// use terrace_heap::ArenaAllocator;
/// use terrace_testkit::{Wandering, conformance};
///
/// conformance::clause_7_moving_it_moves_no_block(|start, check| {
///     check(&Wandering::new(ArenaAllocator::new(start.backing())));
/// });
/// ```
pub struct Wandering<A> {
    /// Empty while a call is under way.
    backing: Cell<Option<Box<A>>>,
}

impl<A> Wandering<A> {
    /// Moves `backing` at once.
    pub fn new(backing: A) -> Self {
        Self { backing: Cell::new(Some(Box::new(backing))) }
    }

    /// The allocator at a place where it was not before this call.
    fn moved(&self) -> Option<Box<A>> {
        let place = Box::new_uninit(); // Before the old place is free.
        let old = self.backing.take()?;
        Some(Box::write(place, *old))
    }
}

// SAFETY: every call reaches the one allocator, which by clause 7 may move between calls. One that comes while
// another is under way is refused.
unsafe impl<A: Allocator> Allocator for Wandering<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let backing = self.moved().ok_or(AllocError)?;
        let result = backing.alloc(len, alignment);
        self.backing.set(Some(backing));
        result
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let Some(backing) = self.moved() else { return false };
        // SAFETY: the caller's promise, passed on unchanged.
        let granted = unsafe { backing.resize(memory, alignment, new_len) };
        self.backing.set(Some(backing));
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let backing = self.moved()?;
        // SAFETY: the caller's promise, passed on unchanged.
        let result = unsafe { backing.remap(memory, alignment, new_len) };
        self.backing.set(Some(backing));
        result
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if let Some(backing) = self.moved() {
            // SAFETY: the caller's promise, passed on unchanged.
            unsafe { backing.free(memory, alignment) };
            self.backing.set(Some(backing));
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let backing = self.moved().ok_or(AllocError)?;
        let result = backing.alloc_zeroed(len, alignment);
        self.backing.set(Some(backing));
        result
    }
}

/// Clones the allocator once it holds a block, and calls original and clone in turn: each must end the other's blocks.
///
/// ```
/// use terrace_core::SystemAllocator;
/// use terrace_testkit::{Twins, conformance};
///
/// conformance::clause_9_clones_are_handles(|_start, check| check(&Twins::new(SystemAllocator)));
/// ```
pub struct Twins<A> {
    backing: A,
    twin: OnceCell<A>,
    calls: Cell<usize>,
}

impl<A: Clone> Twins<A> {
    /// Clones nothing yet.
    pub fn new(backing: A) -> Self {
        Self { backing, twin: OnceCell::new(), calls: Cell::new(0) }
    }

    fn next(&self) -> &A {
        let calls = self.calls.replace(self.calls.get() + 1);
        if calls == 0 {
            return &self.backing;
        }
        let twin = self.twin.get_or_init(|| self.backing.clone());
        if calls.is_multiple_of(2) { &self.backing } else { twin }
    }
}

// SAFETY: by clause 9 a clone is a handle to the same allocator.
unsafe impl<A: Allocator + Clone> Allocator for Twins<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.next().alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.next().resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.next().remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.next().free(memory, alignment) }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.next().alloc_zeroed(len, alignment)
    }
}
