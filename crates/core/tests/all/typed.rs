//! The typed layer's own rules: what never reaches an allocator, what is marked, what a refusal leaves.

use std::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator, AllocatorExt, SystemAllocator};

use crate::{
    fixed::Fixed,
    strict::{FRESH, Policy, Request, Strict},
};

/// 0xAA where this build marks, `else_` where it does not.
fn marked(else_: u8) -> u8 {
    if cfg!(debug_assertions) { 0xAA } else { else_ }
}

/// The bytes of a live slice that a test has written or that are marked.
fn bytes<T>(slice: NonNull<[T]>) -> Vec<u8> {
    let bytes = NonNull::slice_from_raw_parts(slice.cast::<u8>(), slice.len() * size_of::<T>());
    // SAFETY: every test here passes a live slice, whose bytes `Strict` has initialised.
    unsafe { bytes.as_ref() }.to_vec()
}

#[test]
fn nothing_reaches_the_allocator_for_no_bytes() {
    let strict = Strict::new(Policy::Refuse);
    let line = Alignment::new(64).unwrap();
    let empty = strict.alloc_slice::<u32>(0).unwrap();
    let units = strict.alloc_slice::<()>(usize::MAX).unwrap();
    let zeroed = strict.alloc_slice_zeroed::<u64>(0).unwrap();
    let far = strict.alloc_slice_aligned::<u8>(0, line).unwrap();
    let unit = strict.create::<()>().unwrap();
    let copy = strict.dupe::<u16>(&[]).unwrap();
    assert_eq!((empty.len(), units.len(), zeroed.len(), far.len(), copy.len()), (0, usize::MAX, 0, 0, 0));
    assert!(empty.cast::<u32>().is_aligned() && zeroed.cast::<u64>().is_aligned());
    assert!(line.is_aligned(far.addr().get()), "dangling, but aligned as asked");

    // SAFETY: slices of no bytes, of this allocator.
    assert!(unsafe { strict.resize_slice(units, 7) }, "items without size: only a number changes");
    // SAFETY: as above.
    assert_eq!(unsafe { strict.remap_slice(units, 7) }.map(|units| units.len()), Some(7));
    // SAFETY: as above.
    assert_eq!(unsafe { strict.realloc_slice(units, 9) }.map(|units| units.len()), Ok(9));
    // SAFETY: as above.
    assert!(!unsafe { strict.resize_slice(empty, 1) }, "there is nothing to grow");
    // SAFETY: as above.
    assert!(unsafe { strict.remap_slice(empty, 1) }.is_none());
    // SAFETY: as above.
    assert!(unsafe { strict.resize_slice(empty, 0) });
    // SAFETY: as above.
    assert_eq!(unsafe { strict.realloc_slice(empty, 0) }.unwrap().len(), 0);

    // SAFETY: given up here.
    unsafe { strict.free_slice(empty) };
    // SAFETY: given up here.
    unsafe { strict.free_slice_aligned(far, line) };
    // SAFETY: given up here.
    unsafe { strict.destroy(unit) };
    assert_eq!(strict.requests(), []);
    strict.finish();
}

#[test]
fn a_count_that_overflows_is_an_error_before_any_request() {
    let strict = Strict::new(Policy::InPlace);
    let count = usize::MAX / 8 + 1;
    assert!(strict.alloc_slice::<u64>(count).is_err());
    assert!(strict.alloc_slice_zeroed::<u64>(count).is_err());
    assert!(strict.alloc_slice_aligned::<u64>(count, Alignment::ONE).is_err());
    assert!(strict.alloc_slice_sentinel::<u64>(count - 1, 0).is_err(), "one more for the sentinel");
    assert!(strict.alloc_slice_sentinel::<u8>(usize::MAX, 0).is_err(), "Zig panics here");
    assert!(strict.alloc_slice_sentinel::<()>(usize::MAX, ()).is_err());
    assert_eq!(strict.requests(), []);

    let pair = strict.alloc_slice::<u64>(2).unwrap();
    strict.requests();
    // SAFETY: live, and after a refusal as it was.
    assert!(!unsafe { strict.resize_slice(pair, count) });
    // SAFETY: as above.
    assert!(unsafe { strict.remap_slice(pair, count) }.is_none());
    // SAFETY: as above.
    assert!(unsafe { strict.realloc_slice(pair, count) }.is_err());
    assert_eq!(strict.requests(), []);
    // SAFETY: given up here.
    unsafe { strict.free_slice(pair) };
    strict.finish();
}

/// Here the product fits a `usize`: the allocator is asked, and by clause 2 it refuses.
#[test]
fn a_length_that_no_block_may_have_is_an_error() {
    let limit = isize::MAX as usize;
    let pair = SystemAllocator.dupe(&[1u16, 2]).unwrap();
    for n in [limit / 2 + 1, limit / 2 + 2, limit] {
        assert!(SystemAllocator.alloc_slice::<u16>(n).is_err());
        assert!(SystemAllocator.alloc_slice_zeroed::<u16>(n).is_err());
        assert!(SystemAllocator.alloc_slice_aligned::<u16>(n, Alignment::new(4096).unwrap()).is_err());
        assert!(SystemAllocator.alloc_slice_sentinel::<u16>(n - 1, 0).is_err());
        // SAFETY: live, and after a refusal as it was.
        assert!(!unsafe { SystemAllocator.resize_slice(pair, n) });
        // SAFETY: as above.
        assert!(unsafe { SystemAllocator.remap_slice(pair, n) }.is_none());
        // SAFETY: as above.
        assert!(unsafe { SystemAllocator.realloc_slice(pair, n) }.is_err());
    }
    // SAFETY: live, nobody writes meanwhile.
    assert_eq!(unsafe { pair.as_ref() }, [1, 2]);
    // SAFETY: given up here.
    unsafe { SystemAllocator.free_slice(pair) };
}

#[test]
fn new_memory_is_marked_but_for_zeroed() {
    let strict = Strict::new(Policy::Refuse);
    let new = strict.alloc_slice::<u16>(3).unwrap();
    let zeroed = strict.alloc_slice_zeroed::<u16>(3).unwrap();
    let item = strict.create::<[u8; 5]>().unwrap();
    assert_eq!(strict.requests(), [Request::Alloc(6, 2), Request::AllocZeroed(6, 2), Request::Alloc(5, 1)]);
    assert_eq!(bytes(new), [marked(FRESH); 6]);
    assert_eq!(bytes(zeroed), [0; 6]);
    assert_eq!(bytes(NonNull::slice_from_raw_parts(item, 1)), [marked(FRESH); 5]);
    // SAFETY: given up here.
    unsafe { strict.free_slice(new) };
    // SAFETY: given up here.
    unsafe { strict.free_slice(zeroed) };
    // SAFETY: given up here.
    unsafe { strict.destroy(item) };
    strict.finish();
}

#[test]
fn zeroed_memory_is_zero_where_the_allocator_knows_no_better() {
    let fixed = Fixed::new(64, 0);
    let zeroed = fixed.alloc_slice_zeroed::<u32>(3).unwrap();
    assert_eq!((bytes(zeroed), fixed.bytes(12, 1)), (vec![0; 12], vec![0x55]));
}

#[test]
fn free_marks_what_it_frees_and_destroy_does_not() {
    let fixed = Fixed::new(64, 0);
    let slice = fixed.dupe(&[1u8, 2, 3]).unwrap();
    // SAFETY: given up here.
    unsafe { fixed.free_slice(slice) };
    assert_eq!(fixed.bytes(0, 4), if cfg!(debug_assertions) { [0xAA, 0xAA, 0xAA, 0x55] } else { [1, 2, 3, 0x55] });
    let item = fixed.create::<u8>().unwrap();
    // SAFETY: room for one byte.
    unsafe { item.write(7) };
    // SAFETY: given up here.
    unsafe { fixed.destroy(item) };
    assert_eq!(fixed.bytes(0, 1), [7]);
}

#[test]
fn realloc_asks_for_a_remap_then_moves_marking_the_old_place_only() {
    let fixed = Fixed::new(64, 0);
    let slice = fixed.dupe(&[1u8, 2, 3]).unwrap();
    let _in_the_way = fixed.alloc_slice::<u8>(1).unwrap();
    fixed.requests();
    // SAFETY: live; only `grown` is used from here on.
    let grown = unsafe { fixed.realloc_slice(slice, 5) }.unwrap();
    assert_eq!(fixed.requests(), ["remap 0 3 0 5 = null", "alloc 5 0 = 4", "free 0 3 0"]);
    assert_eq!(fixed.bytes(4, 5), [1, 2, 3, 0x55, 0x55], "the tail is as the allocator gave it");
    assert_eq!(fixed.bytes(0, 3), if cfg!(debug_assertions) { [0xAA; 3] } else { [1, 2, 3] });
    // SAFETY: live; only `in_place` is used from here on.
    let in_place = unsafe { fixed.realloc_slice(grown, 6) }.unwrap();
    assert_eq!(fixed.requests(), ["remap 4 5 0 6 = 4"]);
    assert_eq!((in_place.cast::<u8>(), in_place.len()), (grown.cast(), 6));
    assert_eq!(fixed.bytes(9, 1), [0x55], "a tail grown in place is not marked");
}

#[test]
fn a_realloc_without_memory_changes_nothing() {
    let strict = Strict::new(Policy::Refuse);
    let slice = strict.dupe(&[1u32, 2, 3]).unwrap();
    strict.allocs_left.set(0);
    for n in [1, 3, 100] {
        // SAFETY: live, and after an error as it was.
        assert!(unsafe { strict.realloc_slice(slice, n) }.is_err());
    }
    // SAFETY: live, nobody writes meanwhile.
    assert_eq!(unsafe { slice.as_ref() }, [1, 2, 3]);
    // SAFETY: given up here.
    unsafe { strict.free_slice(slice) };
    strict.finish();
}

#[test]
fn a_remap_that_moves_brings_the_items_along() {
    let strict = Strict::new(Policy::Moving);
    let slice = strict.dupe(&[1u32, 2, 3]).unwrap();
    // SAFETY: live; only the new slice is used from here on.
    let moved = unsafe { strict.remap_slice(slice, 4) }.unwrap();
    assert_ne!(moved.cast::<u32>(), slice.cast());
    // SAFETY: live; only the new slice is used from here on.
    let moved = unsafe { strict.realloc_slice(moved, 2) }.unwrap();
    // SAFETY: live, nobody writes meanwhile.
    assert_eq!(unsafe { moved.as_ref() }, [1, 2]);
    // SAFETY: given up here.
    unsafe { strict.free_slice(moved) };
    strict.finish();
}

#[test]
fn a_sentinel_lies_behind_the_items_and_is_freed_with_them() {
    let strict = Strict::new(Policy::Refuse);
    let name = strict.dupe_z(b"name").unwrap();
    let wide = strict.dupe_sentinel(&[1u32, 2], 9).unwrap();
    let empty = strict.alloc_slice_sentinel(0, 5u8).unwrap();
    let counts = [(name.len(), 4), (wide.len(), 2), (empty.len(), 0)];
    assert!(counts.iter().all(|(found, asked)| found == asked), "{counts:?}");
    assert_eq!(strict.requests(), [Request::Alloc(5, 1), Request::Alloc(12, 4), Request::Alloc(1, 1)]);
    assert_eq!(bytes(NonNull::slice_from_raw_parts(name.cast::<u8>(), 5)), b"name\0");
    assert_eq!(bytes(NonNull::slice_from_raw_parts(empty.cast::<u8>(), 1)), [5]);
    // SAFETY: three items were made.
    assert_eq!(unsafe { NonNull::slice_from_raw_parts(wide.cast::<u32>(), 3).as_ref() }, [1, 2, 9]);
    // SAFETY: given up here.
    unsafe { strict.free_slice_sentinel(name) };
    // SAFETY: given up here.
    unsafe { strict.free_slice_sentinel(wide) };
    // SAFETY: given up here.
    unsafe { strict.free_slice_sentinel(empty) };
    strict.finish();
}

/// Short ones are copied by overlapping pieces of a fixed length: every length around their ends, items of several
/// sizes. That nothing is read or written beside them valgrind and ASan watch.
#[test]
fn copies_of_all_lengths_are_whole() {
    fn check<T: Copy + PartialEq + core::fmt::Debug>(item: impl Fn(usize) -> T) {
        for len in 0..=200 {
            let source: Vec<T> = (0..len).map(&item).collect();
            let copy = SystemAllocator.dupe(&source).unwrap();
            // SAFETY: just copied.
            assert_eq!(unsafe { copy.as_ref() }, source);
            // SAFETY: live, of this allocator, not used again.
            unsafe { SystemAllocator.free_slice(copy) };
        }
    }
    check(|at| at as u8);
    check(|at| at as u16);
    check(|at| (at as u8, at as u32 * 7));
    check(|at| [at as u64; 3]);
}

#[test]
fn an_aligned_slice_keeps_its_alignment_for_life() {
    let policies = [Policy::Refuse, Policy::InPlace, Policy::Moving];
    for (policy, asked) in policies.into_iter().flat_map(|policy| [1, 64].map(|asked| (policy, asked))) {
        let strict = Strict::new(policy);
        let line = Alignment::new(asked).unwrap();
        let never_looser = line.max(Alignment::of::<u16>());
        let slice = strict.alloc_slice_aligned::<u16>(3, line).unwrap();
        assert_eq!(strict.requests(), [Request::Alloc(6, never_looser.bytes())]);
        // SAFETY: live; only the new slice is used from here on.
        let slice = unsafe { strict.realloc_slice_aligned(slice, line, 5) }.unwrap();
        assert!(never_looser.is_aligned(slice.addr().get()));
        // SAFETY: live, with the length that the answer says.
        let len = if unsafe { strict.resize_slice_aligned(slice, line, 4) } { 4 } else { 5 };
        let slice = NonNull::slice_from_raw_parts(slice.cast::<u16>(), len);
        // SAFETY: live; only the answer's slice is used from here on.
        let slice = unsafe { strict.remap_slice_aligned(slice, line, 2) }.unwrap_or(slice);
        assert!(never_looser.is_aligned(slice.addr().get()));
        // SAFETY: given up here.
        let empty = unsafe { strict.realloc_slice_aligned(slice, line, 0) }.unwrap();
        assert!(never_looser.is_aligned(empty.addr().get()));
        // SAFETY: a slice of no bytes; only the new slice is used from here on.
        let slice = unsafe { strict.realloc_slice_aligned(empty, line, 1) }.unwrap();
        // SAFETY: given up here.
        unsafe { strict.free_slice_aligned(slice, line) };
        strict.finish();
    }
}

#[test]
fn realloc_in_place_or_move_moves_only_what_remap_refuses() {
    for policy in [Policy::Refuse, Policy::InPlace, Policy::Moving] {
        let strict = Strict::new(policy);
        let old = strict.dupe(b"abcdef").unwrap();
        strict.requests();
        let new_len = NonZeroUsize::new(4).unwrap();
        // SAFETY: live with this alignment; only `new` is used from here on.
        let new = unsafe { strict.realloc_in_place_or_move(old, Alignment::ONE, new_len) }.unwrap();
        let expected: &[Request] = match policy {
            Policy::Refuse => &[Request::Remap(6, 1, 4), Request::Alloc(4, 1), Request::Free(6, 1)],
            Policy::InPlace | Policy::Moving => &[Request::Remap(6, 1, 4)],
        };
        assert_eq!(strict.requests(), expected);
        let new = NonNull::slice_from_raw_parts(new, 4);
        assert_eq!(bytes(new), b"abcd");
        strict.allocs_left.set(0);
        // SAFETY: live, and after an error as it was.
        let refused = unsafe { strict.realloc_in_place_or_move(new, Alignment::ONE, NonZeroUsize::MAX) };
        assert!(refused.is_err());
        assert_eq!(bytes(new), b"abcd");
        // SAFETY: given up here.
        unsafe { strict.free(new, Alignment::ONE) };
        strict.finish();
    }
}
