//! [`Heap`]: what C asks for, in terms of `SmpAllocator`. No symbol, no error number: those are lib.rs's.
//!
//! ```text
//!   malloc(len) ──▶ alloc(len or 1, 16)      free(p)       ──▶ free_by_address(p)
//!   memalign    ──▶ alloc(max(len, a), a)    realloc(p, n) ──▶ remap, or alloc, copy, free
//! ```
//!
//! - **I1** Every block is one of `smp`'s, aligned to 16 at least.
//! - **I2** A block that was asked for with an alignment is at least as long as that: so whether a block is large is a matter of
//!   its length alone, as `resize` and `remap` need it.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator, Decommit};
use terrace_heap::SmpAllocator;

use crate::slots::MallocSlots;

/// What `malloc` aligns to: `max_align_t` of the 64-bit systems.
pub(crate) const MALLOC_ALIGNMENT: Alignment = match Alignment::new(16) {
    Some(alignment) => alignment,
    None => Alignment::ONE, // Not reached: a power of two.
};

/// The C library's heap, over `A`.
pub(crate) struct Heap<A: Allocator> {
    smp: SmpAllocator<A, MallocSlots>,
}

impl<A: Decommit> Heap<A> {
    pub(crate) const fn new(backing: A) -> Self {
        Self { smp: SmpAllocator::with_decommit(backing, MallocSlots) }
    }
}

impl<A: Allocator> Heap<A> {
    /// What is below.
    pub(crate) fn smp(&self) -> &SmpAllocator<A, MallocSlots> {
        &self.smp
    }

    /// A block of at least `len` bytes; 0 bytes are a block too.
    #[inline(always)]
    pub(crate) fn alloc(&self, len: usize) -> Option<NonNull<u8>> {
        self.smp.alloc(at_least_one(len), MALLOC_ALIGNMENT).ok()
    }

    /// The same, all zero.
    #[inline(always)]
    pub(crate) fn alloc_zeroed(&self, len: usize) -> Option<NonNull<u8>> {
        self.smp.alloc_zeroed(at_least_one(len), MALLOC_ALIGNMENT).ok()
    }

    /// The same, at a multiple of `alignment`.
    #[inline]
    pub(crate) fn alloc_aligned(&self, len: usize, alignment: Alignment) -> Option<NonNull<u8>> {
        let alignment = alignment.max(MALLOC_ALIGNMENT);
        self.smp.alloc(at_least_one(len.max(alignment.bytes())), alignment).ok() // I2
    }

    /// Ends a block.
    ///
    /// # Safety
    /// A live block, not used again.
    #[inline(always)]
    pub(crate) unsafe fn free(&self, block: NonNull<u8>) {
        // SAFETY: by I1 one of `smp`'s.
        unsafe { self.smp.free_by_address(block) }
    }

    /// The bytes that a block has.
    ///
    /// # Safety
    /// A live block.
    #[inline]
    pub(crate) unsafe fn usable(&self, block: NonNull<u8>) -> NonZeroUsize {
        // SAFETY: by I1 one of `smp`'s.
        unsafe { self.smp.size_by_address(block) }
    }

    /// Another length for a block, which may move. `None`: nothing has changed.
    ///
    /// # Safety
    /// A live block; after success only the one returned is.
    pub(crate) unsafe fn realloc(&self, block: NonNull<u8>, new_len: usize) -> Option<NonNull<u8>> {
        // SAFETY: live by the caller's promise.
        let old_len = unsafe { self.usable(block) }.get();
        let memory = NonNull::slice_from_raw_parts(block, old_len);
        // SAFETY: live; the length names its class, or says that it is large (I2).
        if let Some(moved) = unsafe { self.smp.remap(memory, MALLOC_ALIGNMENT, at_least_one(new_len)) } {
            return Some(moved);
        }
        if new_len <= old_len && new_len > old_len / 2 {
            return Some(block); // Less would be won by a move than it costs.
        }
        let Some(moved) = self.alloc(new_len) else {
            return (new_len <= old_len).then_some(block); // A smaller one is no reason to fail.
        };
        // SAFETY: two live blocks, of at least so many bytes each.
        unsafe { moved.copy_from_nonoverlapping(block, old_len.min(new_len)) };
        // SAFETY: live, and given up by the caller's promise.
        unsafe { self.free(block) };
        Some(moved)
    }
}

#[inline(always)]
fn at_least_one(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN)
}
