//! The lab's own large tables, kept out of the malloc that the lab measures.
//!
//! ```text
//! the lab's Vec of 24 MiB ──▶ PageAllocator        (at least LARGE)
//! the lab's String        ──▶ the C library        (below)
//! ```
//!
//! A freed large block teaches glibc to serve later ones from its heap, and leaves holes there;
//! a replay over `system` in the same process would then profit from the lab's own past.
//!
//! - **M1** A block of at least [`LARGE`] bytes is a block of `PageAllocator`, a smaller one of `System`.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, Allocator};
use terrace_sys::PageAllocator;

/// What is smaller leaves no hole worth speaking of.
const LARGE: usize = 4 << 10;

/// The lab's `#[global_allocator]`.
pub struct OwnMemory;

fn large(size: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(size).filter(|size| size.get() >= LARGE)
}

fn alignment(layout: Layout) -> Alignment {
    Alignment::new(layout.align()).unwrap_or(Alignment::ONE)
}

fn memory(block: *mut u8, layout: Layout) -> Option<NonNull<[u8]>> {
    Some(NonNull::slice_from_raw_parts(NonNull::new(block)?, layout.size()))
}

// SAFETY: by M1 each block goes back to the allocator that made it, with the layout it was made with.
unsafe impl GlobalAlloc for OwnMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match large(layout.size()) {
            Some(len) => PageAllocator.alloc(len, alignment(layout)).map_or(ptr::null_mut(), NonNull::as_ptr),
            // SAFETY: the caller's promise, passed on unchanged.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match large(layout.size()) {
            Some(len) => PageAllocator.alloc_zeroed(len, alignment(layout)).map_or(ptr::null_mut(), NonNull::as_ptr),
            // SAFETY: the caller's promise, passed on unchanged.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (large(layout.size()), memory(block, layout)) {
            // SAFETY: by M1 a live block of `PageAllocator`, of this length and alignment.
            (Some(_), Some(memory)) => unsafe { PageAllocator.free(memory, alignment(layout)) },
            // SAFETY: by M1 a live block of `System`; the caller's promise.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match (large(layout.size()), large(new_size), memory(block, layout)) {
            (Some(_), Some(new_len), Some(memory)) => {
                // SAFETY: by M1 a live block of `PageAllocator`, of this length and alignment.
                if let Some(moved) = unsafe { PageAllocator.remap(memory, alignment(layout), new_len) } {
                    return moved.as_ptr();
                }
            }
            // SAFETY: by M1 a live block of `System`, and the new size stays there; the caller's promise.
            (None, None, _) => return unsafe { System.realloc(block, layout, new_size) },
            _ => {}
        }
        // SAFETY: `realloc`'s caller promises a new size that makes a layout and is not zero.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as above.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: two live blocks, both at least this long.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
            // SAFETY: live by the caller's promise, and not used again.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn contents_survive_the_way_over_the_threshold_and_back() {
        let mut numbers: Vec<u32> = (0..100).collect();
        for size in [20_000, 200_000, 1_000_000, 30_000, 10] {
            numbers.resize(size, 7);
            numbers.shrink_to_fit();
            assert_eq!(numbers[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        }
    }
}
