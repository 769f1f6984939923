//! [`AsGlobal`]: any allocator that threads may share, as the program's `#[global_allocator]`.
//!
//! ```text
//!   Box, Vec, String ──▶ std::alloc ──▶ AsGlobal<A> ──▶ bridge/serve.rs ──▶ A: Allocator + Sync
//!                        GlobalAlloc                     the bridges' rules
//! ```
//!
//! The other way round from [`GlobalBacking`](crate::GlobalBacking), and by the rules of the other bridges: exact lengths, a
//! length changed by `remap` where the allocator can and by alloc, copy, free where not, zeroed memory from
//! `alloc_zeroed`. `GlobalAlloc` forbids requests of 0 bytes; should one come, a dangling pointer serves it and no
//! allocator sees it. Cost: the allocator's own, plus one copy where a `realloc` moves the block.
//!
//! Clause 5 (provenance) holds as far as std keeps it. A `Box` narrows the provenance of its pointer to its value, and
//! frees with that one. For a layer that rounds lengths up and frees the sum through the caller's pointer, Miri reports
//! that under Stacked Borrows, and nothing under Tree Borrows (`-Zmiri-tree-borrows`).

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::{self, NonNull},
};

use crate::{AllocError, Allocator, bridge::serve};

/// Serves std's requests from an allocator of ours.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use terrace_core::{AsGlobal, SystemAllocator};
///
/// #[global_allocator]
/// static MALLOC: AsGlobal<SystemAllocator> = AsGlobal::new(SystemAllocator);
///
/// assert_eq!(vec![1, 2, 3].len(), 3); // The vector's memory is `SystemAllocator`'s.
/// # }
/// ```
///
/// To ask the allocator for its counts meanwhile, make it a static of its own, and its global form one over a reference:
/// `static GLOBAL: AsGlobal<&A> = AsGlobal::new(&COUNTED)`.
///
/// As every global allocator it must not ask for memory from itself: neither stand on the global allocator nor use
/// what does. It is lent to nobody, and as a static neither moved nor dropped, so its blocks live as long as the program
/// (clauses 7 and 8 of [`Allocator`]). Where it is not a static, it is for the caller of the unsafe `dealloc` not to
/// reach blocks that ended with it.
///
/// An allocator for one thread is none for all of them:
///
/// ```compile_fail,E0277
/// use std::alloc::GlobalAlloc;
/// use terrace_core::{Allocator, AsGlobal};
///
/// fn of_one_thread<A: Allocator>(allocator: A) -> impl GlobalAlloc {
///     AsGlobal::new(allocator)
/// }
/// ```
#[derive(Debug)]
pub struct AsGlobal<A> {
    backing: A,
}

impl<A: Allocator> AsGlobal<A> {
    /// Takes no memory itself.
    pub const fn new(backing: A) -> Self {
        Self { backing }
    }
}

// SAFETY: `serve` gives blocks of the layout asked (its I1, I2), live until freed, since `backing` is neither lent nor
// moved out; threads may call at once (`Sync`, clause 6). Nothing unwinds (clause 10), and a refusal, which is null,
// leaves the block as it was (clause 3).
unsafe impl<A: Allocator + Sync> GlobalAlloc for AsGlobal<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        or_null(serve::allocate(&self.backing, layout))
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: currently allocated by the caller's promise, so not null.
        let block = unsafe { NonNull::new_unchecked(block) };
        // SAFETY: the caller's promise, which is the same.
        unsafe { serve::deallocate(&self.backing, block, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        or_null(serve::allocate_zeroed(&self.backing, layout))
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, old: Layout, new_size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(new_size, old.align()) else { return ptr::null_mut() };
        // SAFETY: currently allocated by the caller's promise, so not null.
        let block = unsafe { NonNull::new_unchecked(block) };
        or_null(if new_size >= old.size() {
            // SAFETY: the caller's promise, which is the same, and `new` is no smaller.
            unsafe { serve::grow(&self.backing, block, old, new) }
        } else {
            // SAFETY: the caller's promise, which is the same, and `new` is no larger.
            unsafe { serve::shrink(&self.backing, block, old, new) }
        })
    }
}

fn or_null(block: Result<NonNull<[u8]>, AllocError>) -> *mut u8 {
    block.map_or(ptr::null_mut(), |block| block.cast().as_ptr())
}
