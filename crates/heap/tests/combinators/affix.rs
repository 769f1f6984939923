//! `AffixAllocator`: both values stay with their block.

use std::ptr::NonNull;

use proptest::prelude::*;
use terrace_core::{Allocator, GoodSize, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{AffixAllocator, ArenaAllocator, PoolAllocator};

use crate::support::{Ground, Shadow, align, cases, len, ops, slice};

const BEFORE: u64 = 0x0123_4567_89AB_CDEF;
const BEHIND: [u16; 3] = [1, 2, 3];

proptest! {
    #![proptest_config(cases(2))]

    /// The shadow checks the callers' bytes, the ground that nobody writes past a block and what comes back.
    #[test]
    fn every_live_block_keeps_both_values(program in ops(3000), roomy in any::<bool>(), refuse in 0usize..20) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let affix = AffixAllocator::new(&ground, BEFORE, BEHIND);
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&affix, op);
            for block in &shadow.live {
                prop_assert_eq!(both(&affix, block.memory), (BEFORE, BEHIND));
            }
        }
        shadow.free_all(&affix);
        prop_assert_eq!(ground.blocks(), 0);
    }
}

fn both<A, P: Copy, S: Copy>(affix: &AffixAllocator<A, P, S>, memory: NonNull<[u8]>) -> (P, S) {
    // SAFETY: the tests pass live blocks.
    let before = unsafe { affix.prefix(memory) };
    // SAFETY: likewise.
    let behind = unsafe { affix.suffix(memory) };
    assert!(before.is_aligned() && behind.is_aligned());
    // SAFETY: initialised, and nobody writes to it meanwhile.
    let before = unsafe { before.read() };
    // SAFETY: likewise.
    (before, unsafe { behind.read() })
}

/// What the caller writes there comes along when the block shrinks, grows and is refused.
#[test]
fn changed_values_follow_their_block() {
    let ground = Ground::roomy();
    let affix = AffixAllocator::new(&ground, 1u32, 2u64);
    let block = affix.alloc(len(100), align(1)).unwrap();
    // SAFETY: a live block.
    let before = unsafe { affix.prefix(slice(block, 100)) };
    // SAFETY: likewise.
    let behind = unsafe { affix.suffix(slice(block, 100)) };
    // SAFETY: inside the block of the backing, and nobody else uses it.
    unsafe { before.write(10) };
    // SAFETY: likewise.
    unsafe { behind.write(20) };
    let mut bytes = 100;
    for (new, granted) in [(10, true), (33, true), (120, true), (1_000_000, false), (1, true)] {
        // SAFETY: live.
        assert_eq!(unsafe { affix.resize(slice(block, bytes), align(1), len(new)) }, granted, "{new}");
        bytes = if granted { new } else { bytes };
        assert_eq!(both(&affix, slice(block, bytes)), (10, 20));
    }
    // SAFETY: live.
    let moved = unsafe { affix.remap(slice(block, 1), align(1), len(50)) }.unwrap();
    assert_eq!(both(&affix, slice(moved, 50)), (10, 20));
    // SAFETY: live, and not used again.
    unsafe { affix.free(slice(moved, 50), align(1)) };
}

#[test]
fn without_values_nothing_is_added() {
    let ground = Ground::default();
    let affix = AffixAllocator::new(&ground, (), ());
    let block = affix.alloc(len(13), align(4)).unwrap();
    assert_eq!(ground.held(), 13);
    // SAFETY: live, and not used again.
    unsafe { affix.free(slice(block, 13), align(4)) };
}

#[test]
fn lengths_that_leave_no_room_for_the_values_are_refused() {
    let ground = Ground::default();
    let affix = AffixAllocator::new(&ground, [0u8; 100], 0u64);
    let block = affix.alloc(len(8), align(8)).unwrap();
    for bytes in [usize::MAX, usize::MAX - 50, isize::MAX as usize, isize::MAX as usize - 100] {
        assert!(affix.alloc(len(bytes), align(1)).is_err());
        assert!(affix.alloc_zeroed(len(bytes), align(1 << 20)).is_err());
        // SAFETY: live.
        assert!(!unsafe { affix.resize(slice(block, 8), align(8), len(bytes)) });
        // SAFETY: live.
        assert!(unsafe { affix.remap(slice(block, 8), align(8), len(bytes)) }.is_none());
    }
    assert_eq!((ground.allocs.get(), ground.resizes.get()), (1, 0), "the backing was not asked");
    // SAFETY: live, and not used again.
    unsafe { affix.free(slice(block, 8), align(8)) };
}

/// A type tag that is no value of its type: moving it along must not look at it.
#[test]
fn a_suffix_that_was_overwritten_is_carried_unread() {
    let ground = Ground::roomy();
    let affix = AffixAllocator::new(&ground, (), true);
    let block = affix.alloc(len(8), align(1)).unwrap();
    // SAFETY: a live block.
    let seal = unsafe { affix.suffix(slice(block, 8)) }.cast::<u8>();
    // SAFETY: inside the block of the backing: who writes one byte too far.
    unsafe { seal.write(0xEE) };
    // SAFETY: live.
    assert!(unsafe { affix.resize(slice(block, 8), align(1), len(9)) });
    // SAFETY: a live block.
    let seal = unsafe { affix.suffix(slice(block, 9)) }.cast::<u8>();
    // SAFETY: initialised, and nobody writes to it meanwhile.
    assert_eq!(unsafe { seal.read() }, 0xEE);
    // SAFETY: live, and not used again.
    unsafe { affix.free(slice(block, 9), align(1)) };
}

#[test]
fn questions_and_resets_are_the_backings() {
    let pool = PoolAllocator::new(SystemAllocator, len(64), align(16));
    let affix = AffixAllocator::new(pool, 0u64, 0u16);
    assert_eq!([1, 54, 55].map(|bytes| affix.good_size(len(bytes), align(8)).get()), [54, 54, 56]);
    let mut affix = AffixAllocator::new(ArenaAllocator::new(SystemAllocator), 0u64, ());
    let block = affix.alloc(len(5), align(32)).unwrap();
    assert!(affix.owns(block));
    assert!(affix.reset(ResetMode::FreeAll));
    assert!(!affix.owns(block));
}
