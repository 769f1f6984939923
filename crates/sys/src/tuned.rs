//! [`TunedPageAllocator`]: a page allocator with options.
//!
//! ```text
//!  start          block                                      one map, or two and three parts of one
//!  +--------------+--------------+--------------+--------------+
//!  | guard, no    | len bytes, the caller's          | to spare| guard, no    |
//!  | access       |                                            | access       |
//!  +--------------+--------------+--------------+--------------+
//!                 ^ a multiple of max(page, alignment)
//! ```
//!
//! As with `PageAllocator` nothing is written down about a block: the options, which never change, and the length
//! that the caller brings back say where its map begins and ends. `page` is here the size of the pages that blocks
//! are made of: the system's, or that of explicit huge pages.
//!
//! - **I1** A live block of `len` bytes lies `guard` bytes into a range (in `prim`'s sense) of
//!   `whole_pages(len) + 2 * guard` bytes, which does not overflow, and no other block's.
//! - **I2** Of that range the guards cannot be touched, and all between them can be read and written (but for what
//!   the caller has protected).
//! - **I3** What the system would not unmap is parked (`giving_back.rs`), and of no block.
//!
//! Costs: `alloc` one mmap; a call more for each of transparent pages, name and population, two for guards, up to two
//! for an alignment above the page. `free` one munmap. `resize` and `remap` nothing while the number of pages
//! stays, else one call, and one each for the population of what has grown and for its huge pages.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Access, Alignment, AllocError, Allocator, Decommit, GoodSize, PageSize, Protect};

#[cfg(feature = "std")]
use crate::numa;
use crate::{
    PageOptions, Unavailable,
    giving_back::{cut, map_by, release, release_noted},
    options::Huge,
    plan::{self, pages_of, whole_pages},
    prim::{self, page_size},
};

/// Blocks of whole pages with [options](PageOptions): huge pages, population, guard pages, a name.
///
/// Every one with the same options is the same one; with others it is another allocator, whose blocks this one
/// must not free. What it hands out reads as zero. [`PageAllocator`](crate::PageAllocator) is the one without options, and faster.
///
/// [`PageSize`] is the size of the pages that blocks are made of. [`Decommit`] says `false` of explicit huge pages: some kernels
/// would not keep their place in the pool for them, so that touching them again could fail.
///
/// ```
/// # #[cfg(feature = "allocator-api2-02")] {
/// use allocator_api2_02::vec::Vec;
/// use terrace_sys::PageOptions;
///
/// let pages = PageOptions::new().transparent_huge_pages().build();
/// let mut table: Vec<u64, _> = Vec::with_capacity_in(1 << 20, pages);
/// table.resize(1 << 20, 7);
/// assert_eq!(table[999_999], 7);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TunedPageAllocator {
    pub(crate) options: PageOptions,
}

impl TunedPageAllocator {
    /// The options that it was built with.
    pub const fn options(&self) -> PageOptions {
        self.options
    }

    /// As `PageOptions::check`.
    pub(crate) fn try_out(self) -> Result<(), Unavailable> {
        let block = self.map(NonZeroUsize::MIN, Alignment::ONE, true)?;
        // SAFETY: live, just made, not used again.
        unsafe { self.unmap(NonNull::slice_from_raw_parts(block, 1)) };
        Ok(())
    }

    /// The size of the pages that blocks are made of.
    fn page(&self) -> usize {
        match self.options.huge {
            Huge::Explicit(size) => size.bytes(),
            Huge::No | Huge::Transparent | Huge::Grown(_) => page_size(),
        }
    }

    fn guard(&self) -> usize {
        if self.options.guards { self.page() } else { 0 }
    }

    /// Maps a block; `strict` where an unfulfilled wish is an error too.
    fn map(&self, len: NonZeroUsize, alignment: Alignment, strict: bool) -> Result<NonNull<u8>, Unavailable> {
        let (page, guard) = (self.page(), self.guard());
        let len = whole_pages(len.get(), page).ok_or(Unavailable::Memory)?;
        let whole = plan::between_guards(len, guard).ok_or(Unavailable::Memory)?;
        let mut alignment = alignment.bytes().max(page);
        let transparent = plan::transparent_page(page);
        if self.options.huge == Huge::Transparent && len >= transparent {
            alignment = alignment.max(transparent);
        }
        let mut reserved = plan::over_reserve(whole, alignment, page).ok_or(Unavailable::Memory)?;
        let mut start = match self.map_range(reserved) {
            // Where there is no room for more than the block, its pages alone may happen to lie right.
            Err(_) if reserved > whole => {
                reserved = whole;
                self.map_by_luck(whole, alignment, guard)?
            }
            mapped => mapped?,
        };
        if reserved > whole {
            // It is the block that is to be aligned, not the guard before it.
            let block = start.addr().get().wrapping_add(guard);
            // SAFETY: the whole range is ours, of no block, and writable.
            let cut = unsafe { cut(start, start, reserved, plan::trims(block, reserved, whole, alignment)) };
            start = cut.map_err(|AllocError| Unavailable::Memory)?;
        }
        // SAFETY: within the range.
        let block = unsafe { start.add(guard) };
        // SAFETY: the range is ours, with the block in its middle.
        let prepared = unsafe { self.prepare(start, whole, strict) };
        if let Err(why) = prepared {
            // SAFETY: ours still, and writable at the block, whatever has become of the guards.
            unsafe { release_noted(block, start, whole) };
            return Err(why);
        }
        Ok(block)
    }

    /// Maps `whole` bytes, a multiple of the page, if the system happens to lay what is behind the guard at a multiple of `alignment`.
    #[cold]
    fn map_by_luck(&self, whole: usize, alignment: usize, guard: usize) -> Result<NonNull<u8>, Unavailable> {
        let start = self.map_range(whole)?;
        if (start.addr().get() + guard).is_multiple_of(alignment) {
            return Ok(start);
        }
        // SAFETY: ours, of no block, and writable.
        unsafe { release(start, whole) };
        Err(Unavailable::Memory)
    }

    /// Maps `len` bytes, a multiple of the page.
    fn map_range(&self, len: usize) -> Result<NonNull<u8>, Unavailable> {
        let Huge::Explicit(size) = self.options.huge else {
            return map_by(|| prim::map(len)).map_err(|_| Unavailable::Memory);
        };
        // Not to be asked of the system: its answer to some sizes is another size.
        if size.bytes() <= page_size() {
            return Err(Unavailable::HugePageSize { size });
        }
        map_by(|| prim::map_huge(len, size.log2())).map_err(|why| match why.is_not_known() {
            true => Unavailable::HugePageSize { size },
            false => Unavailable::HugePages { size },
        })
    }

    /// Carries the options out on a fresh range, the guards last: what fails before leaves all of it writable.
    ///
    /// # Safety
    /// A range (in `prim`'s sense) of `whole` bytes as in I1, of no block yet.
    unsafe fn prepare(&self, start: NonNull<u8>, whole: usize, strict: bool) -> Result<(), Unavailable> {
        let (options, guard) = (self.options, self.guard());
        let len = whole - 2 * guard;
        // SAFETY: within the range.
        let block = unsafe { start.add(guard) };
        if options.huge == Huge::Transparent || (strict && matches!(options.huge, Huge::Grown(_))) {
            // SAFETY: the block's part of the range.
            let advised = unsafe { prim::advise_huge(block, len) };
            if strict && advised.is_err() {
                return Err(Unavailable::TransparentHugePages);
            }
        }
        if let Some(name) = options.name {
            // SAFETY: the range.
            let named = unsafe { prim::name(start, whole, name) };
            if strict && named.is_err() {
                return Err(Unavailable::Name);
            }
        }
        #[cfg(feature = "std")]
        if let Some(node) = options.node {
            // SAFETY: the block's part of the range, which is writable and of no block yet.
            unsafe { self.settle(NonNull::slice_from_raw_parts(block, len), node) }?;
        }
        if options.populate {
            // SAFETY: the block's part of the range, which is writable.
            unsafe { populate(block, len) }?;
        }
        if options.guards {
            // SAFETY: within the range.
            let behind = unsafe { block.add(len) };
            for guarded in [start, behind] {
                // SAFETY: a guard's part of the range, of which nothing is used.
                unsafe { prim::protect(guarded, guard, Access::None) }.map_err(|_| Unavailable::Memory)?;
            }
        }
        Ok(())
    }

    /// Brings all pages of a fresh block into memory, on one node.
    ///
    /// # Safety
    /// The pages of a fresh block, writable.
    #[cfg(feature = "std")]
    unsafe fn settle(&self, pages: NonNull<[u8]>, node: usize) -> Result<(), Unavailable> {
        let settled = if matches!(self.options.huge, Huge::Explicit(_)) {
            // SAFETY: the caller's promise, passed on unchanged.
            unsafe { numa::populate_huge_on(pages, node) }
        } else {
            // SAFETY: the caller's promise, passed on unchanged.
            unsafe { numa::populate_on(pages, node) }
        };
        settled.map_err(|why| Unavailable::Node { node, why })
    }

    /// Whether all pages of a block lie on one node.
    fn is_settled(&self) -> bool {
        #[cfg(feature = "std")]
        return self.options.node.is_some();
        #[cfg(not(feature = "std"))]
        false
    }

    /// # Safety
    /// `memory` is a live block; it is not used again.
    unsafe fn unmap(&self, memory: NonNull<[u8]>) {
        let (block, guard) = (memory.cast::<u8>(), self.guard());
        // SAFETY: by I1 the range begins there.
        let start = unsafe { block.sub(guard) };
        // SAFETY: by I1 the block's range; by I2 the block is writable.
        unsafe { release_noted(block, start, pages_of(memory.len(), self.page()) + 2 * guard) };
    }

    /// # Safety
    /// `memory` is a live block; where its alignment is above the system's page, `may_move` is `false`.
    unsafe fn change(&self, memory: NonNull<[u8]>, new_len: NonZeroUsize, may_move: bool) -> Option<NonNull<u8>> {
        let (page, start) = (self.page(), memory.cast::<u8>());
        let old_len = pages_of(memory.len(), page);
        let new_len = whole_pages(new_len.get(), page)?;
        if new_len == old_len {
            return Some(start);
        }
        if self.options.guards {
            return None;
        }
        if new_len < old_len {
            // SAFETY: within the block's pages.
            let tail = unsafe { start.add(new_len) };
            // SAFETY: by I1 and I2 the tail is the block's, which ends before it from now on.
            unsafe { release(tail, old_len - new_len) };
            return Some(start);
        }
        if matches!(self.options.huge, Huge::Explicit(_)) || self.is_settled() {
            return None; // The system grows no map of huge pages; and what has grown would come from anywhere.
        }
        // A block that has moved could not be moved back where the population fails.
        let may_move = may_move && !self.options.populate;
        // SAFETY: by I1 these pages are the block's.
        let grown = unsafe { prim::remap(start, old_len, new_len, may_move) }.ok()?;
        if matches!(self.options.huge, Huge::Grown(least) if new_len >= least) {
            // SAFETY: the grown block. A wish: an error changes nothing.
            let _ = unsafe { prim::advise_huge(grown, new_len) };
        }
        if self.options.populate {
            // SAFETY: within the grown block.
            let more = unsafe { grown.add(old_len) };
            // SAFETY: what has grown, writable.
            if unsafe { populate(more, new_len - old_len) }.is_err() {
                // SAFETY: as above, and the block ends before it again.
                unsafe { release(more, new_len - old_len) };
                return None;
            }
        }
        Some(grown)
    }
}

/// # Safety
/// A range (in `prim`'s sense), writable.
unsafe fn populate(start: NonNull<u8>, len: usize) -> Result<(), Unavailable> {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { prim::populate(start, len) }.map_err(|why| match why.is_not_known() {
        true => Unavailable::Populate,
        false => Unavailable::Memory,
    })
}

// SAFETY: by I1 live blocks are distinct ranges of their length and more, aligned as `map` says; a refusal
// of `prim` changes nothing; the system maps a page again only after it was unmapped (clause 6); clones have the same
// options, so that they find the same ranges (clause 9).
unsafe impl Allocator for TunedPageAllocator {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.map(len, alignment, false).map_err(|_| AllocError)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: live by the caller's promise; it does not move.
        unsafe { self.change(memory, new_len, false) }.is_some()
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // The system moves pages to a multiple of the page size, of no more.
        let may_move = alignment.bytes() <= page_size();
        // SAFETY: live by the caller's promise; an over-aligned block does not move.
        unsafe { self.change(memory, new_len, may_move) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        // SAFETY: live by the caller's promise, who gives it up.
        unsafe { self.unmap(memory) }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.alloc(len, alignment) // Fresh pages are zero.
    }
}

// SAFETY: whole pages are at least `len`, and at most `isize::MAX` or else `len` itself.
unsafe impl GoodSize for TunedPageAllocator {
    fn good_size(&self, len: NonZeroUsize, _: Alignment) -> NonZeroUsize {
        whole_pages(len.get(), self.page()).and_then(NonZeroUsize::new).unwrap_or(len)
    }
}

// SAFETY: by I1 blocks are whole pages, no two blocks share one.
unsafe impl PageSize for TunedPageAllocator {
    fn page_size(&self) -> Alignment {
        Alignment::new(self.page()).expect("by prim's contract a power of two")
    }
}

// SAFETY: by prim's contract decommitted pages read as zeroes.
unsafe impl Decommit for TunedPageAllocator {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        let keeps_its_place = !matches!(self.options.huge, Huge::Explicit(_));
        // SAFETY: whole pages of a live block, which by I1 are a range.
        pages.is_empty() || keeps_its_place && unsafe { prim::decommit(pages.cast(), pages.len()) }.is_ok()
    }
}

// SAFETY: by prim's contract the pages have the access asked, and keep their contents.
unsafe impl Protect for TunedPageAllocator {
    unsafe fn protect(&self, pages: NonNull<[u8]>, access: Access) -> bool {
        // SAFETY: whole pages of a live block, which by I1 are a range.
        pages.is_empty() || unsafe { prim::protect(pages.cast(), pages.len(), access) }.is_ok()
    }
}

terrace_core::bridge_collections!(impl[] for TunedPageAllocator);
