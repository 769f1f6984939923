//! A `NumaRegion` where the program has no memory for its table: an error, never the end of the program.

use core::{cell::Cell, num::NonZeroUsize};
use std::alloc::{GlobalAlloc, Layout, System};

use terrace::NumaRegion;

thread_local! {
    /// The longest block that this thread gets.
    static MOST: Cell<usize> = const { Cell::new(usize::MAX) };
}

struct Scarce;

// SAFETY: blocks are the system's.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST.get() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static SCARCE: Scarce = Scarce;

#[test]
fn a_region_without_memory_for_its_table_is_refused() {
    let limit = NonZeroUsize::new(1 << 30).unwrap();
    // A byte for each 4 KiB is 256 KiB; all else is less.
    MOST.set(128 << 10);
    let refused = NumaRegion::with_limit(limit).is_err();
    MOST.set(usize::MAX);
    assert!(refused);
    assert!(NumaRegion::with_limit(limit).is_ok());
}
