//! The system's malloc with a count of what it is asked for: every arena's backing here.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts on the way to the system's malloc. The peers reach it as the global allocator, ours by name.
pub struct Counting;

/// The one of them.
#[global_allocator]
pub static GLOBAL: Counting = Counting;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Requests so far.
pub fn requests() -> u64 {
    REQUESTS.load(Relaxed)
}

// SAFETY: the system's own, called with the caller's own promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.realloc(block, layout, new_size) }
    }
}
