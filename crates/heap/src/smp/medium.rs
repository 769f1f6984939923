//! Medium blocks: runs of pages of their own, up to a quarter of a region.
//!
//! ```text
//!   runs[pages % 16]   free runs at hand, with their length in the low bits     one exchange
//!     │ another length, or none
//!     ▼
//!   pages.rs           the lowest run that is long enough                       one lock
//! ```
//!
//! Such a block grows where it is while the pages behind it are free, and shrinks by giving its last pages back. A request that finds
//! no room in the regions, and no new region, goes straight to the backing like a larger one.
//!
//! - **I1** A medium block begins a page whose class is [`CLASSES`], which no small block's is; the books of that page hold
//!   its length in pages, written and read by whoever has the block.
//! - **I2** An entry of `runs` is 0, or a run with its length that nobody else has: who takes it out has it. Acquire and Release
//!   order what the two did with it.
//!
//! Cost: two exchanges for a block and its free, where the length is one that was freed shortly before; else a lock each.

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, Allocator};
use terrace_sync::{Slots, atomic::Ordering};

use super::{
    KEEP, RETAINED, SmpAllocator,
    class::{CLASSES, LARGEST, PAGE},
    region::Region,
};

/// Free runs at hand.
pub(super) const RUNS: usize = 16;

/// A medium block's pages, in a region of `bytes` bytes; `None`: it is none. Fewer than a page has bytes, for `runs` (I2).
fn medium_pages(len: usize, bytes: usize) -> Option<usize> {
    let pages = len.div_ceil(PAGE);
    (len <= bytes / 4 && bytes / 4 > LARGEST && pages < PAGE).then_some(pages)
}

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    /// A run at hand for a request without a class, if there is one.
    #[inline(always)]
    pub(super) fn medium_at_hand(&self, len: usize, alignment: Alignment, zeroed: bool) -> Option<NonNull<u8>> {
        let pages = medium_pages(len, BYTES).filter(|_| alignment.bytes() <= PAGE)?;
        let run = self.take_at_hand(pages)?;
        if zeroed {
            // SAFETY: so many pages are ours.
            unsafe { run.write_bytes(0, len) };
        }
        Some(run)
    }

    /// A run for a request without a class. `None`: it is too large, or there is no room.
    #[track_caller]
    pub(super) fn alloc_medium(&self, len: usize, alignment: Alignment, zeroed: bool) -> Option<NonNull<u8>> {
        let pages = medium_pages(len, BYTES).filter(|_| alignment.bytes() <= LARGEST)?;
        let (run, zero) = self.run(pages, alignment.bytes().div_ceil(PAGE)).ok()?;
        // SAFETY: a run lies in a region.
        let region = unsafe { Region::<BYTES>::of(run) };
        // SAFETY: the run is ours.
        unsafe { region.set_medium(Region::<BYTES>::page_number(run), pages) };
        if zeroed && !zero {
            // SAFETY: so many pages are ours.
            unsafe { run.write_bytes(0, len) };
        }
        Some(run)
    }

    /// # Safety
    /// A medium block, which the caller gives up.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn free_medium(&self, block: NonNull<u8>) {
        // SAFETY: the caller's promise.
        let pages = unsafe { self.pages_of_medium(block) };
        if medium_pages(pages * PAGE, BYTES).is_none() {
            // SAFETY: the run is the caller's; it may have grown beyond what an entry can say.
            return unsafe { self.give_run(block, pages, true, RETAINED) };
        }
        let out = self.runs[pages % RUNS].swap(block.addr().get() | pages, Ordering::AcqRel); // I2
        if out != 0 {
            // SAFETY: out of the table.
            unsafe { self.give_at_hand(out, RETAINED) };
        }
    }

    /// Changes a medium block's length where it lies.
    ///
    /// # Safety
    /// A live medium block.
    #[track_caller]
    pub(super) unsafe fn resize_medium(&self, block: NonNull<u8>, new_len: NonZeroUsize) -> bool {
        if new_len.get() > BYTES {
            return false;
        }
        // SAFETY: the caller's promise.
        let pages = unsafe { self.pages_of_medium(block) };
        let new_pages = new_len.get().div_ceil(PAGE);
        // SAFETY: a medium block lies in a region.
        let region = unsafe { Region::<BYTES>::of(block) };
        let first = Region::<BYTES>::page_number(block);
        if new_pages > pages {
            // SAFETY: the run is the caller's.
            if unsafe { self.state().extend_run(block, pages, new_pages - pages) }.is_none() {
                return false;
            }
            // SAFETY: the block is the caller's.
            unsafe { region.set_medium(first, new_pages) };
        } else if new_pages < pages {
            // SAFETY: the block is the caller's.
            unsafe { region.set_medium(first, new_pages) };
            // SAFETY: pages of the run behind what the block keeps.
            unsafe { self.give_run(region.page(first + new_pages), pages - new_pages, true, RETAINED) };
        }
        true
    }

    /// # Safety
    /// A live medium block.
    pub(super) unsafe fn pages_of_medium(&self, block: NonNull<u8>) -> usize {
        // SAFETY: a medium block lies in a region.
        let region = unsafe { Region::<BYTES>::of(block) };
        // SAFETY: by I1 its first page.
        unsafe { region.medium(Region::<BYTES>::page_number(block)) }
    }

    /// Whether a block without a class is medium.
    ///
    /// # Safety
    /// A live block, and no small one, begins at `address`.
    pub(super) unsafe fn is_medium(&self, address: NonNull<u8>) -> bool {
        self.pages.registry.contains(address)
    }

    /// Gives back what is at hand.
    #[track_caller]
    pub(super) fn empty_runs(&self) {
        for run in &self.runs {
            let out = run.swap(0, Ordering::Acquire);
            // SAFETY: out of the table.
            unsafe { self.give_at_hand(out, KEEP) };
        }
    }

    #[inline(always)]
    fn take_at_hand(&self, pages: usize) -> Option<NonNull<u8>> {
        let run = &self.runs[pages % RUNS];
        let held = run.load(Ordering::Relaxed);
        if held % PAGE != pages || run.compare_exchange(held, 0, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return None;
        }
        NonNull::new(ptr::with_exposed_provenance_mut(held - pages)) // The region's, by its I4.
    }

    /// # Safety
    /// 0, or an entry that is out of the table.
    #[cold]
    #[inline(never)]
    #[track_caller]
    unsafe fn give_at_hand(&self, out: usize, retained: usize) {
        let pages = out % PAGE;
        if let Some(run) = NonNull::new(ptr::with_exposed_provenance_mut(out - pages)) {
            // SAFETY: by I2 a run that is ours.
            unsafe { self.give_run(run, pages, true, retained) };
        }
    }
}

const _: () = assert!(CLASSES < u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_blocks_pages_fit_beside_its_address() {
        for bytes in (16..=28).map(|log2| 1 << log2) {
            for len in [1, LARGEST + 1, bytes / 4 - 1, bytes / 4, bytes / 4 + 1, 16 << 20, 64 << 20, usize::MAX] {
                let pages = medium_pages(len, bytes);
                assert!(
                    pages.is_none_or(|pages| pages < PAGE && pages * PAGE >= len && len <= bytes / 4),
                    "{len} {bytes}"
                );
            }
            assert_eq!(medium_pages(LARGEST + 1, bytes).is_some(), bytes / 4 > LARGEST, "{bytes}");
        }
    }
}
