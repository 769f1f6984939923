//! `GlobalBacking` and `SystemAllocator`.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    num::NonZeroUsize,
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

use terrace_core::{Alignment, AllocError, Allocator, GlobalBacking, SystemAllocator};

/// Counts, and has no memory for more than 1000 bytes.
struct Counting {
    allocs: AtomicUsize,
    zeroed: AtomicUsize,
    frees: AtomicUsize,
}

// SAFETY: every block is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > 1000 {
            return ptr::null_mut();
        }
        self.allocs.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.frees.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.zeroed.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, _: *mut u8, _: Layout, _: usize) -> *mut u8 {
        unreachable!("a realloc may copy with the CPU")
    }
}

fn non_zero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

#[test]
fn every_call_goes_to_the_global_allocator_and_none_to_its_realloc() {
    static COUNTING: Counting =
        Counting { allocs: AtomicUsize::new(0), zeroed: AtomicUsize::new(0), frees: AtomicUsize::new(0) };
    let backing = GlobalBacking::new(&COUNTING);
    let eight = Alignment::new(8).unwrap();
    let block = backing.alloc(non_zero(24), eight).unwrap();
    let zeroed = backing.alloc_zeroed(non_zero(16), eight).unwrap();
    let memory = NonNull::slice_from_raw_parts(block, 24);
    for (new_len, granted) in [(23, false), (24, true), (25, false)] {
        // SAFETY: live, with this alignment; its length stays 24.
        assert_eq!(unsafe { backing.resize(memory, eight, non_zero(new_len)) }, granted);
        // SAFETY: as above.
        assert_eq!(unsafe { backing.remap(memory, eight, non_zero(new_len)) }, granted.then_some(block));
    }
    // SAFETY: 16 bytes that are zero.
    assert_eq!(unsafe { NonNull::slice_from_raw_parts(zeroed, 16).as_ref() }, [0; 16]);
    assert_eq!(backing.alloc(non_zero(1001), eight), Err(AllocError), "null is an error");
    // SAFETY: live, given up here.
    unsafe { backing.free(memory, eight) };
    // SAFETY: live, given up here.
    unsafe { backing.free(NonNull::slice_from_raw_parts(zeroed, 16), eight) };
    let counts = [&COUNTING.allocs, &COUNTING.zeroed, &COUNTING.frees].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn impossible_lengths_and_alignments_are_errors() {
    let top = Alignment::from_log2(usize::BITS - 1).unwrap();
    let requests = [
        (usize::MAX, Alignment::ONE),
        (isize::MAX as usize + 1, Alignment::ONE),
        (isize::MAX as usize, Alignment::new(2).unwrap()), // Rounded up to the alignment it is over the limit.
        (1, top),
        (usize::MAX, top),
    ];
    for (len, alignment) in requests {
        assert_eq!(SystemAllocator.alloc(non_zero(len), alignment), Err(AllocError), "{len} {alignment:?}");
        assert_eq!(SystemAllocator.alloc_zeroed(non_zero(len), alignment), Err(AllocError), "{len} {alignment:?}");
    }
}

#[test]
fn the_system_serves_every_alignment_up_to_a_mebibyte() {
    for log2 in 0..=20 {
        let alignment = Alignment::from_log2(log2).unwrap();
        let block = SystemAllocator.alloc(non_zero(5), alignment).unwrap();
        assert!(alignment.is_aligned(block.addr().get()), "{alignment:?}");
        // SAFETY: live, given up here.
        unsafe { SystemAllocator.free(NonNull::slice_from_raw_parts(block, 5), alignment) };
    }
}

#[test]
fn zeroed_memory_is_zero_where_it_was_used_before() {
    for len in [1, 24, 1000, 100_000] {
        let dirty = NonNull::slice_from_raw_parts(SystemAllocator.alloc(non_zero(len), Alignment::ONE).unwrap(), len);
        // SAFETY: live, of `len` bytes.
        unsafe { dirty.cast::<u8>().write_bytes(0xFF, len) };
        // SAFETY: live, given up here.
        unsafe { SystemAllocator.free(dirty, Alignment::ONE) };
        let block = SystemAllocator.alloc_zeroed(non_zero(len), Alignment::ONE).unwrap();
        let zeroed = NonNull::slice_from_raw_parts(block, len);
        // SAFETY: live, `len` bytes that are zero.
        assert!(unsafe { zeroed.as_ref() }.iter().all(|byte| *byte == 0), "{len}");
        // SAFETY: live, given up here.
        unsafe { SystemAllocator.free(zeroed, Alignment::ONE) };
    }
}

#[test]
fn a_backing_is_as_thread_safe_as_what_it_refers_to() {
    fn shared<T: Send + Sync + Copy>() {}
    shared::<GlobalBacking<System>>();
    shared::<SystemAllocator>();
}
