//! `BucketizeAllocator`: which bucket, and what it is asked for.

use proptest::prelude::*;
use terrace_core::{Allocator, BulkFree, GoodSize, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, BucketizeAllocator, PoolAllocator};

use crate::support::{Ground, Shadow, align, cases, len, ops, slice};

proptest! {
    #![proptest_config(cases(2))]

    /// The grounds check that each block goes back to the bucket that it came from, as it came.
    #[test]
    fn each_bucket_hands_out_blocks_of_its_longest_length(program in ops(600), step in 1usize..200) {
        let grounds = [Ground::roomy(), Ground::default(), Ground::roomy()];
        let buckets = BucketizeAllocator::new(len(step), grounds.each_ref());
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&buckets, op);
            for (number, ground) in grounds.iter().enumerate() {
                let longest = (number + 1) * step;
                let mine = shadow.live.iter().filter(|block| block.memory.len().div_ceil(step) == number + 1).count();
                prop_assert_eq!((ground.blocks(), ground.held()), (mine, mine * longest));
            }
        }
        shadow.free_all(&buckets);
    }
}

#[test]
fn lengths_past_the_last_bucket_are_refused() {
    let ground = Ground::default();
    let buckets = BucketizeAllocator::new(len(10), [&ground, &ground]);
    assert!(buckets.alloc(len(21), align(1)).is_err() && buckets.alloc_zeroed(len(usize::MAX), align(1)).is_err());
    let block = buckets.alloc(len(20), align(1)).unwrap();
    // SAFETY: live.
    assert!(!unsafe { buckets.resize(slice(block, 20), align(1), len(21)) });
    assert_eq!(ground.allocs.get(), 1);
    // SAFETY: live, and not used again.
    unsafe { buckets.free(slice(block, 20), align(1)) };
    assert!(BucketizeAllocator::<&Ground, 0>::new(len(10), []).alloc(len(1), align(1)).is_err());
}

#[test]
fn a_change_of_length_is_granted_within_a_step_and_refused_to_another() {
    let ground = Ground::roomy();
    let buckets = BucketizeAllocator::new(len(10), [&ground, &ground]);
    let block = buckets.alloc(len(11), align(1)).unwrap();
    for (bytes, granted) in [(20, true), (12, true), (10, false), (1, false), (21, false)] {
        // SAFETY: live; a refusal leaves it as it is, and a length within the step is written back below.
        assert_eq!(unsafe { buckets.resize(slice(block, 12), align(1), len(bytes)) }, granted, "{bytes}");
        // SAFETY: live.
        let back = unsafe { buckets.remap(slice(block, if granted { bytes } else { 12 }), align(1), len(12)) };
        assert_eq!(back, Some(block));
    }
    assert_eq!(ground.resizes.get(), 0);
    // SAFETY: live, and not used again.
    unsafe { buckets.free(slice(block, 12), align(1)) };
}

#[test]
fn good_sizes_owners_many_frees_and_resets() {
    let pools = [16, 32].map(|bytes| PoolAllocator::new(SystemAllocator, len(bytes), align(8)));
    let mut buckets = BucketizeAllocator::new(len(16), pools);
    assert_eq!([1, 16, 17, 33].map(|bytes| buckets.good_size(len(bytes), align(1)).get()), [16, 16, 32, 33]);
    let blocks = [1, 20, 16, 32].map(|bytes| slice(buckets.alloc(len(bytes), align(8)).unwrap(), bytes));
    assert!(blocks.iter().all(|block| buckets.owns(block.cast())));
    // SAFETY: live, each once, and not used again.
    unsafe { buckets.bulk_free(&blocks, align(8)) };
    let again = buckets.alloc(len(2), align(8)).unwrap();
    assert!([blocks[0], blocks[2]].iter().any(|block| block.cast() == again), "freed to its pool");
    assert!(buckets.reset(ResetMode::FreeAll) && !buckets.owns(again));
    let mut arenas = BucketizeAllocator::new(len(8), [ArenaAllocator::new(SystemAllocator)]);
    arenas.alloc(len(8), align(8)).unwrap();
    assert!(arenas.reset(ResetMode::FreeAll));
}
