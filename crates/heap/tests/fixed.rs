//! The fixed buffer: Zig's decisions, its contract, and its edges.

mod support;

use std::{mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use proptest::prelude::*;
use support::{Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Alignment, Allocator, Owns, Reset, ResetMode};
use terrace_heap::{FixedBufferAllocator, InlineBuffer};

/// Padding depends on the address: this is stricter than any alignment that is asked for.
#[repr(align(1024))]
struct Aligned<T>(T);

proptest! {
    #![proptest_config(cases(1))]

    /// The start of the buffer is swept too: padding depends on it.
    #[test]
    fn random_programs_keep_the_contract(program in ops(3000), size in 0usize..20_000, offset in 0usize..64) {
        let mut bytes = vec![MaybeUninit::uninit(); size + 64];
        let mut fixed = FixedBufferAllocator::new(&mut bytes[offset..offset + size]);
        let mut shadow = Shadow::default();
        for op in &program {
            let (end, live) = (fixed.end_index(), shadow.live.len());
            shadow.step(&fixed, op);
            if matches!(op, Op::Alloc { .. }) && shadow.live.len() == live {
                prop_assert_eq!(fixed.end_index(), end, "a refusal moved the end");
            }
            prop_assert!(fixed.end_index() <= size);
            for block in &shadow.live {
                prop_assert!(fixed.owns(block.memory.cast()));
            }
        }
        fixed.reset(ResetMode::RetainCapacity);
        prop_assert_eq!(fixed.end_index(), 0);
    }

    #[test]
    fn an_inline_buffer_decides_as_a_borrowed_one(program in ops(1000)) {
        let inline = Aligned(InlineBuffer::<4096>::new());
        let mut bytes = Aligned([MaybeUninit::uninit(); 4096]);
        let borrowed = FixedBufferAllocator::new(&mut bytes.0);
        let (mut one, mut other) = (Shadow::default(), Shadow::default());
        for op in &program {
            one.step(&&inline.0, op);
            other.step(&borrowed, op);
            prop_assert_eq!((inline.0.end_index(), one.live.len()), (borrowed.end_index(), other.live.len()));
            for block in &one.live {
                let first = block.memory.cast::<u8>();
                prop_assert!((&inline.0).owns(first) && !borrowed.owns(first));
            }
        }
    }
}

#[test]
fn the_whole_buffer_can_be_handed_out() {
    let mut bytes = [MaybeUninit::uninit(); 10];
    let fixed = FixedBufferAllocator::new(&mut bytes);
    assert!(fixed.alloc(len(11), align(1)).is_err());
    let block = fixed.alloc(len(10), align(1)).unwrap();
    assert!(fixed.alloc(len(1), align(1)).is_err());
    let byte = |n| NonNull::without_provenance(block.addr().checked_add(n).unwrap());
    assert!(fixed.owns(byte(0)) && fixed.owns(byte(9)) && !fixed.owns(byte(10)));
    // SAFETY: live, and not used again.
    unsafe { fixed.free(slice(block, 10), align(1)) };
    assert!(fixed.alloc(len(10), align(1)).is_ok());
}

#[test]
fn an_empty_buffer_refuses_everything() {
    let fixed = FixedBufferAllocator::new(&mut []);
    assert!(fixed.alloc(len(1), align(1)).is_err());
    assert_eq!(fixed.capacity(), 0);
    assert!(!fixed.owns(NonNull::dangling()));
}

#[test]
fn padding_before_the_last_block_stays_lost() {
    #[repr(align(64))]
    struct Aligned([MaybeUninit<u8>; 128]);
    let mut bytes = Aligned([MaybeUninit::uninit(); 128]);
    let fixed = FixedBufferAllocator::new(&mut bytes.0);
    let first = fixed.alloc(len(1), align(1)).unwrap();
    let second = fixed.alloc(len(8), align(8)).unwrap();
    // SAFETY: live, and not used again.
    unsafe { fixed.free(slice(second, 8), align(8)) };
    assert_eq!(fixed.end_index(), 8, "seven bytes of padding are not taken back, as in Zig");
    // SAFETY: live; not last, for the padding lies between.
    assert!(unsafe { !fixed.resize(slice(first, 1), align(1), len(2)) });
}

#[test]
fn sizes_near_the_end_of_the_address_space_are_refused() {
    let mut bytes = [MaybeUninit::uninit(); 64];
    let fixed = FixedBufferAllocator::new(&mut bytes);
    let block = fixed.alloc(len(8), align(8)).unwrap();
    for log2 in 0..usize::BITS {
        for bytes in [usize::MAX, usize::MAX - 7, usize::MAX - 64, isize::MAX as usize] {
            assert!(fixed.alloc(len(bytes), Alignment::from_log2(log2).unwrap()).is_err());
        }
    }
    // SAFETY: live, of this allocator.
    assert!(unsafe { !fixed.resize(slice(block, 8), align(8), NonZeroUsize::MAX) });
    // SAFETY: live, of this allocator.
    assert!(unsafe { fixed.remap(slice(block, 8), align(8), NonZeroUsize::MAX) }.is_none());
}

#[test]
fn an_inline_buffer_serves_collections_by_reference() {
    let inline = InlineBuffer::<1024>::new();
    let mut numbers = allocator_api2_02::vec::Vec::new_in(&inline);
    numbers.extend(0..100u32);
    assert_eq!(numbers.iter().sum::<u32>(), 4950);
    assert!(inline.end_index() >= 400);
    drop(numbers);
    let mut inline = inline; // Nobody borrows it any more.
    inline.reset(ResetMode::FreeAll);
    assert_eq!(inline.end_index(), 0);
}
