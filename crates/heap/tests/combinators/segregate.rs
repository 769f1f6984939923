//! `SegregateAllocator`: the threshold, from both sides.

use terrace_core::{Allocator, BulkFree, GoodSize, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, PoolAllocator, SegregateAllocator};

use crate::support::{Ground, align, len, slice};

#[test]
fn the_threshold_is_the_last_length_of_the_small_side() {
    let (small, large) = (Ground::default(), Ground::default());
    let both = SegregateAllocator::new(100, &small, &large);
    assert_eq!(both.threshold(), 100);
    let one = both.alloc(len(100), align(8)).unwrap();
    let two = both.alloc_zeroed(len(101), align(8)).unwrap();
    assert_eq!((small.held(), large.held()), (100, 101));
    // SAFETY: live, and not used again.
    unsafe { both.free(slice(one, 100), align(8)) };
    // SAFETY: live, and not used again.
    unsafe { both.free(slice(two, 101), align(8)) };
    assert_eq!((small.blocks(), large.blocks()), (0, 0));
}

#[test]
fn a_change_of_length_across_the_threshold_is_refused_and_asks_nobody() {
    let (small, large) = (Ground::roomy(), Ground::roomy());
    let both = SegregateAllocator::new(100, &small, &large);
    let one = both.alloc(len(60), align(8)).unwrap();
    let two = both.alloc(len(150), align(8)).unwrap();
    for (block, old, new) in [(one, 60, 101), (two, 150, 100)] {
        // SAFETY: live.
        assert!(!unsafe { both.resize(slice(block, old), align(8), len(new)) });
        // SAFETY: live.
        assert!(unsafe { both.remap(slice(block, old), align(8), len(new)) }.is_none());
    }
    assert_eq!((small.resizes.get(), large.resizes.get()), (0, 0));
    for (block, old, new) in [(one, 60, 100), (two, 150, 101)] {
        // SAFETY: live.
        assert!(unsafe { both.resize(slice(block, old), align(8), len(new)) });
        // SAFETY: live, and not used again.
        unsafe { both.free(slice(block, new), align(8)) };
    }
}

/// With the length 0 as threshold the small side is never asked, with the largest the other one never.
#[test]
fn thresholds_at_the_ends_leave_one_side_without_work() {
    for (threshold, of_small) in [(0, 0), (usize::MAX, 1)] {
        let (small, large) = (Ground::default(), Ground::default());
        let both = SegregateAllocator::new(threshold, &small, &large);
        let block = both.alloc(len(1), align(1)).unwrap();
        assert_eq!((small.blocks(), large.blocks()), (of_small, 1 - of_small));
        // SAFETY: live, and not used again.
        unsafe { both.free(slice(block, 1), align(1)) };
    }
}

#[test]
fn the_good_size_of_a_short_block_is_still_short() {
    let small = PoolAllocator::new(SystemAllocator, len(128), align(8));
    let large = PoolAllocator::new(SystemAllocator, len(1000), align(8));
    let both = SegregateAllocator::new(100, small, large);
    assert_eq!([1, 100, 101, 2000].map(|bytes| both.good_size(len(bytes), align(8)).get()), [100, 100, 1000, 2000]);
}

#[test]
fn many_blocks_are_freed_to_their_sides() {
    let pool = |bytes| PoolAllocator::new(SystemAllocator, len(bytes), align(8));
    let (small, large) = (pool(64), pool(256));
    let both = SegregateAllocator::new(64, &small, &large);
    let blocks = [1, 2, 100, 3, 200, 201].map(|bytes| slice(both.alloc(len(bytes), align(8)).unwrap(), bytes));
    // SAFETY: live, each once, and not used again.
    unsafe { both.bulk_free(&blocks, align(8)) };
    assert_eq!((small.free_items(), large.free_items()), (3, 3));
}

#[test]
fn both_sides_own_and_are_reset() {
    let mut both =
        SegregateAllocator::new(64, ArenaAllocator::new(SystemAllocator), ArenaAllocator::new(SystemAllocator));
    let blocks = [both.alloc(len(8), align(8)).unwrap(), both.alloc(len(100), align(8)).unwrap()];
    assert!(blocks.iter().all(|&block| both.owns(block)));
    assert!(both.reset(ResetMode::FreeAll));
    assert!(!blocks.iter().any(|&block| both.owns(block)));
}
