//! The shared fixed buffer: alone it decides as the local one, and threads get bytes of their own.

mod support;

use std::{mem::MaybeUninit, num::NonZeroUsize, thread};

use proptest::prelude::*;
use support::{Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Alignment, Allocator, Owns, Reset, ResetMode};
use terrace_heap::{FixedBufferAllocator, SyncFixedBuffer};

proptest! {
    #![proptest_config(cases(1))]

    /// The start of the buffer is swept too: padding depends on it.
    #[test]
    fn alone_it_decides_as_the_local_one(program in ops(3000), size in 0usize..20_000, offset in 0usize..64) {
        // Both start at the same offset from a multiple of 1024.
        let mut bytes = vec![MaybeUninit::uninit(); 2 * 32 * 1024];
        let skip = bytes.as_ptr().addr().wrapping_neg() % 1024;
        let (ours, others) = bytes[skip..].split_at_mut(31 * 1024);
        let mut shared = SyncFixedBuffer::new(&mut ours[offset..offset + size]);
        let local = FixedBufferAllocator::new(&mut others[offset..offset + size]);
        let (mut shadow, mut other_shadow) = (Shadow::default(), Shadow::default());
        for op in &program {
            shadow.step(&shared, op);
            other_shadow.step(&local, op);
            prop_assert_eq!(shared.end_index(), local.end_index(), "at {:?}", op);
            prop_assert_eq!(shadow.live.len(), other_shadow.live.len());
            for block in &shadow.live {
                prop_assert!(shared.owns(block.memory.cast()));
            }
        }
        prop_assert!(shared.reset(ResetMode::RetainCapacity));
        prop_assert_eq!(shared.end_index(), 0);
    }
}

#[test]
fn threads_get_bytes_of_their_own() {
    let mut bytes = vec![MaybeUninit::uninit(); 64 * 1024];
    let shared = SyncFixedBuffer::new(&mut bytes);
    thread::scope(|threads| {
        for seed in 0..4usize {
            let shared = &shared;
            threads.spawn(move || {
                let mut shadow = Shadow::default();
                for round in 0..if cfg!(miri) { 30 } else { 600 } {
                    shadow.step(
                        shared,
                        &Op::Alloc { len: 1 + (round * 7 + seed) % 90, log2: (round % 7) as u32, zeroed: false },
                    );
                    shadow.step(shared, &Op::Resize { index: round, len: 1 + (round * 5) % 120 });
                    shadow.step(shared, &Op::Free { index: round * 3 + seed });
                }
                shadow.free_all(shared);
            });
        }
    });
    assert!(shared.end_index() <= shared.capacity());
}

#[test]
fn sizes_near_the_end_of_the_address_space_are_refused() {
    let mut bytes = [MaybeUninit::uninit(); 64];
    let shared = SyncFixedBuffer::new(&mut bytes);
    let block = shared.alloc(len(8), align(8)).unwrap();
    let end = shared.end_index();
    for log2 in 0..usize::BITS {
        for bytes in [usize::MAX, usize::MAX - 7, usize::MAX - 64, isize::MAX as usize] {
            assert!(shared.alloc(len(bytes), Alignment::from_log2(log2).unwrap()).is_err());
        }
    }
    // SAFETY: live, of this allocator.
    assert!(unsafe { !shared.resize(slice(block, 8), align(8), NonZeroUsize::MAX) });
    // SAFETY: live, of this allocator.
    assert!(unsafe { shared.remap(slice(block, 8), align(8), NonZeroUsize::MAX) }.is_none());
    assert_eq!(shared.end_index(), end);
}

#[test]
fn collections_of_several_threads_share_it() {
    let mut bytes = vec![MaybeUninit::uninit(); 4096];
    let shared = SyncFixedBuffer::new(&mut bytes);
    let sums = thread::scope(|threads| {
        let sum = |from: u32| {
            let mut numbers = allocator_api2_02::vec::Vec::with_capacity_in(100, &shared);
            numbers.extend(from..from + 100);
            numbers.iter().sum::<u32>()
        };
        let other = threads.spawn(move || sum(0));
        sum(100) + other.join().unwrap()
    });
    assert_eq!(sums, (0..200).sum());
}
