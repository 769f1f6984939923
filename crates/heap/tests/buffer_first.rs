//! Buffer first: its contract. That it decides as Zig's `stackFallback` is shown by `tests/zig_golden.rs` of the workspace.

mod support;

use std::{mem::MaybeUninit, ptr::NonNull};

use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Allocator, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, BufferFirstAllocator};

proptest! {
    #![proptest_config(cases(2))]

    /// The buffer's start and length are swept too: what fits depends on them.
    #[test]
    fn random_programs_keep_the_contract(
        program in ops(3000), size in 0usize..4000, offset in 0usize..64, roomy in any::<bool>(), refuse in 0usize..12,
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let mut bytes = vec![MaybeUninit::uninit(); size + 64];
        let first = BufferFirstAllocator::new(&mut bytes[offset..offset + size], &ground);
        let mut shadow = Shadow::default();
        for op in &program {
            let before = (first.end_index(), ground.held(), shadow.live.len());
            shadow.step(&first, op);
            if matches!(op, Op::Alloc { .. }) && shadow.live.len() == before.2 {
                prop_assert_eq!((first.end_index(), ground.held()), (before.0, before.1), "a refusal changed something");
            }
            let outside = shadow.live.iter().filter(|block| !first.in_buffer(block.memory.cast()));
            prop_assert_eq!(outside.clone().count(), ground.blocks());
            prop_assert_eq!(outside.map(|block| block.memory.len()).sum::<usize>(), ground.held());
        }
        shadow.free_all(&first);
        prop_assert_eq!(ground.blocks(), 0);
    }
}

#[test]
fn a_block_in_the_buffer_that_cannot_grow_does_not_ask_the_backing() {
    let ground = Ground::roomy();
    let mut bytes = [MaybeUninit::uninit(); 32];
    let first = BufferFirstAllocator::new(&mut bytes, &ground);
    let block = first.alloc(len(20), align(1)).unwrap();
    // SAFETY: live, of this allocator.
    assert!(unsafe { !first.resize(slice(block, 20), align(1), len(33)) });
    // SAFETY: live, of this allocator.
    assert!(unsafe { first.remap(slice(block, 20), align(1), len(33)) }.is_none());
    assert_eq!((ground.allocs.get(), ground.resizes.get()), (0, 0));
}

#[test]
fn a_reset_empties_both() {
    let ground = Ground::default();
    let mut bytes = [MaybeUninit::uninit(); 64];
    let mut first = BufferFirstAllocator::new(&mut bytes, ArenaAllocator::new(&ground));
    first.alloc(len(64), align(1)).unwrap();
    let behind = first.alloc(len(64), align(1)).unwrap();
    assert!(first.owns(behind) && !first.in_buffer(behind));
    assert!(first.reset(ResetMode::FreeAll));
    assert_eq!((first.end_index(), ground.blocks()), (0, 0));
}

#[test]
fn a_vector_outgrows_the_buffer() {
    let mut bytes = [MaybeUninit::uninit(); 256];
    let first = BufferFirstAllocator::new(&mut bytes, SystemAllocator);
    let mut numbers = allocator_api2_02::vec::Vec::new_in(&first);
    for n in 0..1000u32 {
        numbers.push(n);
        let inside = first.in_buffer(NonNull::new(numbers.as_mut_ptr()).unwrap().cast());
        assert!(!inside || numbers.capacity() <= 64);
    }
    assert_eq!(numbers.iter().sum::<u32>(), 499_500);
}
