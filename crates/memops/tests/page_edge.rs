//! No byte outside is read or written: what is worked on begins or ends at a page that nobody may touch.

mod common;

use std::{num::NonZeroUsize, ptr::NonNull};

use common::at_each_level;
use terrace_core::{Alignment, Allocator};
use terrace_memops::{bits, raw};
use terrace_sys::{PageOptions, TunedPageAllocator};

const PAGE: usize = 4096;
const GUARDED: TunedPageAllocator = PageOptions::new().guard_pages().build();

/// Whole pages between two guards.
struct Guarded {
    memory: NonNull<[u8]>,
}

impl Guarded {
    /// `None`, and a word about it, where the machine has no guard pages of this size.
    fn new(pages: usize) -> Option<Self> {
        let len = NonZeroUsize::new(pages * PAGE)?;
        let large = terrace_core::PageSize::page_size(&GUARDED).bytes() != PAGE;
        if large || PageOptions::new().guard_pages().check().is_err() {
            eprintln!("not run: this machine has no guard pages of 4 KiB");
            return None;
        }
        let start = GUARDED.alloc(len, Alignment::ONE).expect("a few pages");
        Some(Self { memory: NonNull::slice_from_raw_parts(start, len.get()) })
    }

    /// `len` bytes that begin behind the first guard, or that end before the second.
    fn place(&self, len: usize, at_the_end: bool) -> *mut u8 {
        let start = self.memory.cast::<u8>().as_ptr();
        start.wrapping_add(if at_the_end { self.memory.len() - len } else { 0 })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: a live block of this allocator, not used again.
        unsafe { GUARDED.free(self.memory, Alignment::ONE) };
    }
}

/// All lengths around every change of method, and some that take turns of the loops.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=600).chain([1023, 1024, 1025, 2047, 2048, 4000, 4095, 4096, 5000, 8191, 8192])
}

#[test]
fn nothing_outside_is_touched() {
    let (Some(to), Some(from)) = (Guarded::new(2), Guarded::new(2)) else { return };
    // SAFETY: two live pages.
    unsafe { from.memory.cast::<u8>().write_bytes(0x5A, from.memory.len()) };
    at_each_level(|level| {
        for len in lengths() {
            for (at_the_end, from_the_end) in [(false, false), (false, true), (true, false), (true, true)] {
                let (dst, src) = (to.place(len, at_the_end), from.place(len, from_the_end));
                // SAFETY: `len` bytes of live pages.
                unsafe { raw::fill(dst, 0, len) };
                // SAFETY: `len` bytes of different live pages.
                unsafe { raw::copy(dst, src, len) };
                // SAFETY: `len` bytes of live pages.
                let order = unsafe { raw::compare(dst, src, len) };
                assert!(order.is_eq(), "{level:?}: {len} bytes");
            }
        }
    });
}

#[test]
fn lengths_that_the_library_serves_end_at_the_edge_too() {
    let len = (1 << 20) + 1;
    let (Some(to), Some(from)) = (Guarded::new(257), Guarded::new(257)) else { return };
    at_each_level(|level| {
        for at_the_end in [false, true] {
            let (dst, src) = (to.place(len, at_the_end), from.place(len, at_the_end));
            // SAFETY: `len` bytes of live pages.
            unsafe { raw::fill(src, 0x77, len) };
            // SAFETY: `len` bytes of different live pages.
            unsafe { raw::copy(dst, src, len) };
            // SAFETY: `len` bytes of live pages.
            let order = unsafe { raw::compare(dst, src, len) };
            assert!(order.is_eq(), "{level:?}");
        }
    });
}

#[test]
fn bitmaps_are_read_to_their_end_and_no_further() {
    let (Some(into), Some(mask)) = (Guarded::new(1), Guarded::new(1)) else { return };
    at_each_level(|level| {
        for len in 0..=PAGE / 8 {
            for at_the_end in [false, true] {
                let place = |of: &Guarded| of.place(len * 8, at_the_end).cast::<u64>();
                // SAFETY: words of live pages, which nothing else refers to.
                let into = unsafe { std::slice::from_raw_parts_mut(place(&into), len) };
                // SAFETY: as above; pages of zeros.
                let mask = unsafe { std::slice::from_raw_parts(place(&mask), len) };
                into.fill(1);
                bits::and_not(into, mask);
                assert_eq!(bits::count_ones(into), len, "{level:?}");
                assert_eq!(bits::first_set_from(mask, 0), None, "{level:?}");
            }
        }
    });
}
