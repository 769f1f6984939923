//! `FallbackAllocator`: who serves what, and two sides that stand on one another.

use terrace_core::{Allocator, GoodSize, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, FailingAllocator, FallbackAllocator, PoolAllocator, StackAllocator};

use crate::support::{Ground, align, len, slice};

#[test]
fn what_the_first_side_refuses_comes_from_the_second_and_goes_back_there() {
    let (first, second) = (Ground::default(), Ground::roomy());
    let pool = PoolAllocator::new(&first, len(64), align(8));
    let both = FallbackAllocator::new(&pool, &second);
    let small = both.alloc(len(64), align(8)).unwrap();
    let large = both.alloc(len(65), align(8)).unwrap();
    assert!(pool.owns(small) && !pool.owns(large));
    assert_eq!(second.held(), 65);
    // SAFETY: live.
    assert!(!unsafe { both.resize(slice(small, 64), align(8), len(65)) }, "the other side is not asked");
    // SAFETY: live.
    assert!(unsafe { both.remap(slice(small, 64), align(8), len(65)) }.is_none());
    assert_eq!((second.allocs.get(), second.resizes.get()), (1, 0));
    // SAFETY: live.
    assert!(unsafe { both.resize(slice(large, 65), align(8), len(10)) }, "a block stays where it is");
    assert_eq!(second.held(), 10);
    // SAFETY: live, and not used again.
    unsafe { both.free(slice(large, 10), align(8)) };
    assert_eq!(second.blocks(), 0);
    // SAFETY: live, and not used again.
    unsafe { both.free(slice(small, 64), align(8)) };
    assert_eq!(pool.free_items(), 1);
}

/// Each block of the second side lies in the arena, and would go to the arena at `free`, with a length and at a
/// place that the arena never handed out.
#[test]
fn a_second_side_that_stands_on_the_first_is_refused_and_nothing_goes_to_the_wrong_side() {
    let ground = Ground::default();
    let arena = ArenaAllocator::new(&ground);
    let first = FailingAllocator::new(&arena);
    first.refuse_allocs(1..);
    let second = StackAllocator::new(&arena);
    let both = FallbackAllocator::new(&first, &second);
    let served = both.alloc(len(100), align(8)).unwrap();
    for bytes in [1, 100, 10_000] {
        assert!(both.alloc(len(bytes), align(8)).is_err());
        assert!(both.alloc_zeroed(len(bytes), align(8)).is_err());
    }
    assert_eq!((first.refusals(), second.used_bytes(), second.out_of_order()), (6, 0, 0));
    // SAFETY: live, and not used again.
    unsafe { both.free(slice(served, 100), align(8)) };
}

#[test]
fn both_sides_own_and_are_reset() {
    let mut both = FallbackAllocator::new(
        PoolAllocator::new(SystemAllocator, len(8), align(8)),
        ArenaAllocator::new(SystemAllocator),
    );
    let blocks = [both.alloc(len(8), align(8)).unwrap(), both.alloc(len(9), align(8)).unwrap()];
    assert!(blocks.iter().all(|&block| both.owns(block)));
    assert!(both.reset(ResetMode::FreeAll));
    assert!(!blocks.iter().any(|&block| both.owns(block)));
}

#[test]
fn the_good_size_is_what_either_side_gives() {
    let pool = |bytes| PoolAllocator::new(SystemAllocator, len(bytes), align(8));
    let both = FallbackAllocator::new(pool(64), pool(128));
    assert_eq!([10, 64, 65, 200].map(|bytes| both.good_size(len(bytes), align(8)).get()), [64, 64, 65, 200]);
}
