//! [`Target`]: what the replayer drives. Ours, a foreign malloc, or the null target.
//!
//! ```text
//!   replayer ──▶ Target ─┬─ Ours<A: Allocator>      alloc, remap or alloc+copy+free, free
//!                        ├─ Foreign<G: GlobalAlloc>  malloc, its own realloc, free
//!                        └─ Null                     no allocator: the replayer's own cost
//! ```
//!
//! A trait apart from [`Allocator`], because a foreign realloc copies by itself, and because the
//! null target's blocks overlap, which the contract forbids.
//!
//! Cost: generic code, so that a call costs what it costs in a program that names the type.
//! [`Virtual`] adds one call through a table, for stacks that have no type of their own here.

use std::{
    alloc::{GlobalAlloc, Layout},
    num::NonZeroUsize,
    ptr::NonNull,
};

use terrace_core::{Alignment, Allocator};

use super::touch::TOUCH_MAX;

/// Serves the calls of a trace.
///
/// # Safety
/// The first [`TOUCH_MAX`] bytes of a block (all of a shorter one) may be read and written by the
/// thread that made or last resized it until it is freed or resized, and by another thread
/// after that in an order that the program establishes.
pub unsafe trait Target {
    /// A thread of the trace begins to call; `index` is its number. Outside the timed part.
    fn enter(&self, index: usize) {
        let _ = index;
    }

    /// `None`: refused.
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Option<NonNull<u8>>;

    /// Another length, and perhaps another address. `None`: refused, the block is as it was.
    ///
    /// # Safety
    /// `memory` is a live block of this target, with this `alignment`.
    unsafe fn realloc(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize)
    -> Option<NonNull<u8>>;

    /// # Safety
    /// `memory` is a live block of this target, with this `alignment`; it is not used again.
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment);
}

/// A Terrace allocator. A realloc is `remap`, and where that refuses alloc, copy and free.
pub struct Ours<A>(pub A);

// SAFETY: a block of an `Allocator` has `len` bytes, disjoint from all others, until it ends (clause 1).
unsafe impl<A: Allocator> Target for Ours<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Option<NonNull<u8>> {
        if zeroed { self.0.alloc_zeroed(len, alignment).ok() } else { self.0.alloc(len, alignment).ok() }
    }

    #[inline]
    unsafe fn realloc(
        &self,
        memory: NonNull<[u8]>,
        alignment: Alignment,
        new_len: NonZeroUsize,
    ) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        if let Some(moved) = unsafe { self.0.remap(memory, alignment, new_len) } {
            return Some(moved);
        }
        let new = self.0.alloc(new_len, alignment).ok()?;
        let kept = memory.len().min(new_len.get());
        // SAFETY: both blocks are live, disjoint (clause 1) and at least `kept` bytes long.
        unsafe { memory.cast::<u8>().copy_to_nonoverlapping(new, kept) };
        // SAFETY: the caller's promise; the old block is not used again.
        unsafe { self.0.free(memory, alignment) };
        Some(new)
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.free(memory, alignment) }
    }
}

/// A malloc that Rust can already call, with the realloc that is its own.
pub struct Foreign<G>(pub G);

// SAFETY: a block of a `GlobalAlloc` has `len` bytes, disjoint from all others, until it ends.
unsafe impl<G: GlobalAlloc> Target for Foreign<G> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Option<NonNull<u8>> {
        let layout = Layout::from_size_align(len.get(), alignment.bytes()).ok()?;
        let block = if zeroed {
            // SAFETY: the size of `layout` is not zero.
            unsafe { self.0.alloc_zeroed(layout) }
        } else {
            // SAFETY: the size of `layout` is not zero.
            unsafe { self.0.alloc(layout) }
        };
        NonNull::new(block)
    }

    #[inline]
    unsafe fn realloc(
        &self,
        memory: NonNull<[u8]>,
        alignment: Alignment,
        new_len: NonZeroUsize,
    ) -> Option<NonNull<u8>> {
        Layout::from_size_align(new_len.get(), alignment.bytes()).ok()?;
        // SAFETY: a live block of this length and alignment was made with this very layout.
        let layout = unsafe { Layout::from_size_align_unchecked(memory.len(), alignment.bytes()) };
        // SAFETY: live by the caller's promise; the new size makes a layout, as tried above.
        NonNull::new(unsafe { self.0.realloc(memory.cast().as_ptr(), layout, new_len.get()) })
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: a live block of this length and alignment was made with this very layout.
        let layout = unsafe { Layout::from_size_align_unchecked(memory.len(), alignment.bytes()) };
        // SAFETY: live by the caller's promise, and not used again.
        unsafe { self.0.dealloc(memory.cast().as_ptr(), layout) }
    }
}

/// A target behind one virtual call.
pub struct Virtual<T: ?Sized>(pub Box<T>);

// SAFETY: every call reaches the one target in the box, which keeps the promise.
unsafe impl<T: Target + ?Sized> Target for Virtual<T> {
    fn enter(&self, index: usize) {
        self.0.enter(index);
    }

    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Option<NonNull<u8>> {
        self.0.alloc(len, alignment, zeroed)
    }

    #[inline]
    unsafe fn realloc(
        &self,
        memory: NonNull<[u8]>,
        alignment: Alignment,
        new_len: NonZeroUsize,
    ) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.realloc(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.free(memory, alignment) }
    }
}

const _: () = assert!(TOUCH_MAX > 0);
