//! [`PageAllocator`]: every block is a map of its own, whole pages straight from the system.
//!
//! ```text
//! one block, a multiple of the page size
//! +--------------+--------------+--------------+
//! | len bytes, the caller's          | to spare|
//! +--------------+--------------+--------------+
//! ^ pointer handed out, a multiple of max(page size, alignment)
//! ```
//!
//! Nothing is written down about a block: the caller brings its length back, and that says where its
//! pages end. So a block shrinks by unmapping its tail, grows where the addresses behind it are free,
//! and moves by having its pages mapped elsewhere.
//!
//! - **I1** A live block of `len` bytes is a range (in `prim`'s sense) of `whole_pages(len)` bytes,
//!   which does not overflow, and no other block's.
//! - **I2** What the system would not unmap is parked (`giving_back.rs`), and of no block.
//!
//! Costs: `alloc` one mmap, `free` one munmap, and fewer than 40 instructions more for the two together
//! (`docs/measurements/page.md`); an alignment above the page size at most two munmaps more. `resize`
//! and `remap` make no call while the number of pages stays, else one. No memory but the pages. The shape is Zig's `std.heap.PageAllocator`.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Access, Alignment, AllocError, Allocator, Decommit, GoodSize, PageSize, Protect};

use crate::{
    giving_back::{cut, map_pages, release},
    plan::{self, pages_of, whole_pages},
    prim::{self, page_size},
};

/// Blocks of whole pages, straight from the operating system: the ground to build other allocators on.
///
/// It has no state, so every `PageAllocator` is the same one. It grants alignments of any size, `resize`
/// and `remap` included; an over-aligned block stays where it is. What it hands out reads as zero.
///
/// Its three steps can be called directly too, as in Zig: [`map`](Self::map), [`realloc`](Self::realloc)
/// and [`unmap`](Self::unmap). Huge pages, guard pages and the like are [`PageOptions`](crate::PageOptions).
///
/// ```
/// use core::{num::NonZeroUsize, ptr::NonNull};
/// use terrace_core::{Alignment, Allocator};
/// use terrace_sys::PageAllocator;
///
/// let (mebibyte, gibibyte) = (NonZeroUsize::new(1 << 20).unwrap(), NonZeroUsize::new(1 << 30).unwrap());
/// let block = PageAllocator.alloc(mebibyte, Alignment::of::<u64>())?;
/// let memory = NonNull::slice_from_raw_parts(block, mebibyte.get());
/// // SAFETY: live, with the length and alignment that it was made with.
/// let moved = unsafe { PageAllocator.remap(memory, Alignment::of::<u64>(), gibibyte) };
/// let (block, len) = moved.map_or((block, mebibyte), |moved| (moved, gibibyte));
/// // SAFETY: live, of `len` bytes, and not used again.
/// unsafe { PageAllocator.free(NonNull::slice_from_raw_parts(block, len.get()), Alignment::of::<u64>()) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageAllocator;

impl PageAllocator {
    /// Maps fresh zeroed pages for `len` bytes, at a multiple of `alignment` and of the page size.
    ///
    /// Cost: one mmap; up to two munmaps more where `alignment` is above the page size.
    ///
    /// # Errors
    /// [`AllocError`] where the system refuses, or where the pages, with what the alignment needs
    /// around them, would exceed `isize::MAX` bytes.
    #[inline]
    pub fn map(len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let page = page_size();
        let len = whole_pages(len.get(), page).ok_or(AllocError)?;
        if alignment.bytes() <= page { map_pages(len) } else { map_over_aligned(len, alignment.bytes(), page) }
    }

    /// Unmaps a block.
    ///
    /// Cost: one munmap. Where the system refuses (it may where the process has as many maps as it is
    /// allowed), the physical memory goes back at once, and the addresses with a later call that unmaps
    /// something or that the system refuses to map.
    ///
    /// # Safety
    /// `memory` is a live block of a `PageAllocator`; it is not used again.
    #[inline]
    pub unsafe fn unmap(memory: NonNull<[u8]>) {
        // SAFETY: by I1 these pages are the block's.
        unsafe { release(memory.cast(), pages_of(memory.len(), page_size())) };
    }

    /// Changes a block's length; `None`: nothing has changed. With `may_move` the system may map the
    /// pages elsewhere, at any multiple of the page size; no byte is copied.
    ///
    /// Cost: nothing where the number of pages stays, else one system call.
    ///
    /// # Safety
    /// `memory` is a live block of a `PageAllocator`. Where its alignment is above the page size,
    /// `may_move` is `false`.
    #[inline]
    pub unsafe fn realloc(memory: NonNull<[u8]>, new_len: NonZeroUsize, may_move: bool) -> Option<NonNull<u8>> {
        let page = page_size();
        let (start, old_len) = (memory.cast::<u8>(), pages_of(memory.len(), page));
        let new_len = whole_pages(new_len.get(), page)?;
        if new_len > old_len {
            // SAFETY: by I1 these pages are the block's.
            return unsafe { prim::remap(start, old_len, new_len, may_move) }.ok();
        }
        if new_len < old_len {
            // SAFETY: `new_len` is within the block's pages.
            let tail = unsafe { start.add(new_len) };
            // SAFETY: by I1 the tail is the block's, which ends before it from now on.
            unsafe { release(tail, old_len - new_len) };
        }
        Some(start)
    }
}

// SAFETY: by I1 live blocks are distinct ranges of their length and more, aligned as `map` says; a refusal
// of `prim` changes nothing; the system maps a page again only after it was unmapped (clause 6).
unsafe impl Allocator for PageAllocator {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        Self::map(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: live by the caller's promise; it does not move.
        unsafe { Self::realloc(memory, new_len, false) }.is_some()
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // The system moves pages to a multiple of the page size, of no more.
        let may_move = alignment.bytes() <= page_size();
        // SAFETY: live by the caller's promise; an over-aligned block does not move.
        unsafe { Self::realloc(memory, new_len, may_move) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        // SAFETY: live by the caller's promise, who gives it up.
        unsafe { Self::unmap(memory) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        Self::map(len, alignment) // Fresh pages are zero.
    }
}

// SAFETY: whole pages are at least `len`, and at most `isize::MAX` or else `len` itself.
unsafe impl GoodSize for PageAllocator {
    #[inline]
    fn good_size(&self, len: NonZeroUsize, _: Alignment) -> NonZeroUsize {
        whole_pages(len.get(), page_size()).and_then(NonZeroUsize::new).unwrap_or(len)
    }
}

// SAFETY: by I1 blocks are whole pages, no two blocks share one.
unsafe impl PageSize for PageAllocator {
    #[inline]
    fn page_size(&self) -> Alignment {
        Alignment::new(page_size()).expect("by prim's contract a power of two")
    }
}

// SAFETY: by prim's contract decommitted pages read as zeroes.
unsafe impl Decommit for PageAllocator {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        // SAFETY: whole pages of a live block, which by I1 are a range.
        pages.is_empty() || unsafe { prim::decommit(pages.cast(), pages.len()) }.is_ok()
    }
}

// SAFETY: by prim's contract the pages have the access asked, and keep their contents.
unsafe impl Protect for PageAllocator {
    unsafe fn protect(&self, pages: NonNull<[u8]>, access: Access) -> bool {
        // SAFETY: whole pages of a live block, which by I1 are a range.
        pages.is_empty() || unsafe { prim::protect(pages.cast(), pages.len(), access) }.is_ok()
    }
}

terrace_core::bridge_collections!(impl[] for PageAllocator);

/// Reserves more than the block and unmaps what lies around it; see the picture in `plan.rs`.
#[cold]
fn map_over_aligned(len: usize, alignment: usize, page: usize) -> Result<NonNull<u8>, AllocError> {
    let reserved = plan::over_reserve(len, alignment, page).ok_or(AllocError)?;
    let Ok(start) = map_pages(reserved) else { return map_by_luck(len, alignment) };
    // SAFETY: the whole reservation is ours, of no block, and writable.
    unsafe { cut(start, start, reserved, plan::trims(start.addr().get(), reserved, len, alignment)) }
}

/// Where there is no room for more than the block: its pages alone may happen to lie at a multiple of `alignment`, as they do where
/// such a block was unmapped before.
#[cold]
fn map_by_luck(len: usize, alignment: usize) -> Result<NonNull<u8>, AllocError> {
    let start = map_pages(len)?;
    if start.addr().get().is_multiple_of(alignment) {
        return Ok(start);
    }
    // SAFETY: ours, and of no block.
    unsafe { release(start, len) };
    Err(AllocError)
}
