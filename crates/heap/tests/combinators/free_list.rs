//! `FreeListAllocator`: what is kept, what is not, and when it goes back.

use std::rc::Rc;

use proptest::prelude::*;
use terrace_core::{Alignment, Allocator, BulkFree, GoodSize, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, FreeListAllocator, PoolAllocator};

use crate::{
    Hook,
    support::{Ground, Shadow, align, cases, len, ops, slice},
};

proptest! {
    #![proptest_config(cases(2))]

    /// The ground checks that each block goes back as it came.
    #[test]
    fn what_came_from_the_backing_goes_back_as_it_came(
        program in ops(3000), min in 0usize..300, span in 0usize..2000, most in 0usize..8, strict in 0u32..8,
        refuse in 0usize..20, roomy in any::<bool>(),
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let alignment = Alignment::from_log2(strict).unwrap();
        let list = FreeListAllocator::with_alignment(&ground, min..=min + span, most, alignment);
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&list, op);
            prop_assert!(list.kept_blocks() <= most);
            prop_assert_eq!(ground.blocks(), shadow.live.len() + list.kept_blocks());
        }
        shadow.free_all(&list);
        list.trim();
        prop_assert_eq!((list.kept_blocks(), ground.blocks()), (0, 0));
    }
}

fn cycle<A: Allocator>(list: &FreeListAllocator<A>, bytes: usize, alignment: usize) {
    let block = list.alloc(len(bytes), align(alignment)).unwrap();
    // SAFETY: live, and not used again.
    unsafe { list.free(slice(block, bytes), align(alignment)) };
}

#[test]
fn only_lengths_of_the_range_and_usual_alignments_are_kept() {
    let ground = Ground::default();
    let list = FreeListAllocator::new(&ground, 100..=200, 8);
    for (bytes, alignment, kept) in [(99, 8, 0), (201, 8, 0), (150, 32, 0), (100, 16, 1), (200, 8, 1), (150, 1, 1)] {
        cycle(&list, bytes, alignment);
        assert_eq!(list.kept_blocks(), kept, "{bytes} bytes aligned to {alignment}");
    }
    assert_eq!((ground.allocs.get(), ground.held()), (4, 200));
    drop(list);
    assert_eq!(ground.blocks(), 0, "at drop too");
}

#[test]
fn a_full_list_gives_back() {
    let ground = Ground::default();
    let list = FreeListAllocator::new(&ground, 1..=64, 2);
    let blocks = [1, 2, 3, 4].map(|bytes| slice(list.alloc(len(bytes), align(1)).unwrap(), bytes));
    for block in blocks {
        // SAFETY: live, and not used again.
        unsafe { list.free(block, align(1)) };
    }
    assert_eq!((list.kept_blocks(), ground.blocks()), (2, 2));
}

#[test]
fn a_change_of_length_within_the_range_is_granted_and_out_of_it_refused() {
    let ground = Ground::roomy();
    let list = FreeListAllocator::new(&ground, 100..=200, 2);
    let block = list.alloc(len(100), align(8)).unwrap();
    // SAFETY: live.
    assert!(unsafe { list.resize(slice(block, 100), align(8), len(200)) });
    // SAFETY: live.
    assert_eq!(unsafe { list.remap(slice(block, 200), align(8), len(150)) }, Some(block));
    for bytes in [99, 201] {
        // SAFETY: live.
        assert!(!unsafe { list.resize(slice(block, 150), align(8), len(bytes)) });
        // SAFETY: live.
        assert!(unsafe { list.remap(slice(block, 150), align(8), len(bytes)) }.is_none());
    }
    assert_eq!(ground.resizes.get(), 0);
    // SAFETY: live, and not used again.
    unsafe { list.free(slice(block, 150), align(8)) };
}

#[test]
fn a_kept_block_is_zeroed_where_zeroes_are_asked_for() {
    let list = FreeListAllocator::new(SystemAllocator, 1..=64, 2);
    let block = list.alloc(len(64), align(8)).unwrap();
    // SAFETY: live, of so many bytes.
    unsafe { block.write_bytes(0xEE, 64) };
    // SAFETY: live, and not used again.
    unsafe { list.free(slice(block, 64), align(8)) };
    let again = list.alloc_zeroed(len(60), align(8)).unwrap();
    assert_eq!(again, block);
    // SAFETY: live, of so many bytes, all initialised.
    assert!(unsafe { slice(again, 60).as_ref() }.iter().all(|&byte| byte == 0));
    // SAFETY: live, and not used again.
    unsafe { list.free(slice(again, 60), align(8)) };
}

/// While the list goes back, a hook allocates and frees here, each time.
#[test]
fn a_trim_ends_whatever_a_hook_frees_meanwhile() {
    let hook = Hook::default();
    let list = Rc::new(FreeListAllocator::new(hook.over_system(), 1..=64, 8));
    let blocks = [1, 2, 3].map(|bytes| slice(list.alloc(len(bytes), align(1)).unwrap(), bytes));
    for block in blocks {
        // SAFETY: live, and not used again.
        unsafe { list.free(block, align(1)) };
    }
    // A hook is `Send`; the address of the list is not, so it goes as a number and lives on here.
    let address = Rc::as_ptr(&list).expose_provenance();
    hook.at_next_call(move || {
        let list = std::ptr::with_exposed_provenance::<FreeListAllocator<crate::Hooked>>(address);
        // SAFETY: alive in the test, in this very thread.
        cycle(unsafe { &*list }, 10, 1);
    });
    list.trim();
    assert!(hook.is_done());
    assert_eq!(list.kept_blocks(), 1, "what the hook freed");
}

#[test]
fn the_good_size_is_the_longest_of_the_range() {
    let pool = PoolAllocator::new(SystemAllocator, len(128), align(8));
    let list = FreeListAllocator::new(pool, 100..=120, 2);
    let good = [10, 100, 110, 120, 121, 500].map(|bytes| list.good_size(len(bytes), align(8)).get());
    assert_eq!(good, [128, 120, 120, 120, 128, 500]);
    let pool = PoolAllocator::new(SystemAllocator, len(110), align(8));
    let list = FreeListAllocator::new(pool, 100..=120, 2);
    assert_eq!(list.good_size(len(10), align(8)).get(), 99, "a byte more would be the list's");
}

#[test]
fn many_frees_questions_and_resets_reach_both_kinds() {
    let pool = PoolAllocator::new(SystemAllocator, len(128), align(16));
    let mut list = FreeListAllocator::new(pool, 64..=100, 2);
    let blocks = [64, 65, 10, 11, 100].map(|bytes| slice(list.alloc(len(bytes), align(8)).unwrap(), bytes));
    assert!(list.owns(blocks[0].cast()) && list.owns(blocks[2].cast()));
    // SAFETY: live, each once, and not used again.
    unsafe { list.bulk_free(&blocks, align(8)) };
    assert_eq!(list.kept_blocks(), 2);
    assert!(list.reset(ResetMode::FreeAll));
    assert_eq!(list.kept_blocks(), 0);
    let mut list = FreeListAllocator::new(ArenaAllocator::new(SystemAllocator), 1..=10, 2);
    cycle(&list, 5, 1);
    assert!(list.reset(ResetMode::RetainCapacity));
    cycle(&list, 5, 1);
}

#[test]
fn ranges_that_hold_nothing_pass_everything_on() {
    let ground = Ground::default();
    #[expect(clippy::reversed_empty_ranges, reason = "the range that is tried")]
    let lists = [
        FreeListAllocator::new(&ground, 10..=5, 8),
        FreeListAllocator::new(&ground, 0..=usize::MAX, 8),
        FreeListAllocator::new(&ground, 0..=0, 8),
    ];
    for list in lists {
        cycle(&list, 7, 1);
        assert_eq!((list.kept_blocks(), ground.blocks()), (0, 0));
    }
}
