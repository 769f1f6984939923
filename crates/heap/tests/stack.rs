//! The stack: its contract, what it finds, what it gives back and when.

mod support;

use std::num::NonZeroUsize;

use allocator_api2_02::vec::Vec as Vec2;
use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Alignment, Allocator, AllocatorExt, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::StackAllocator;

/// The chain as it must be: each block's address and whether it waits, the top last.
#[derive(Default)]
struct Chain {
    blocks: Vec<(usize, bool)>,
    out_of_order: u64,
}

impl Chain {
    fn follow(&mut self, op: &Op, before: &[usize], after: &[usize]) {
        match op {
            Op::Alloc { .. } if after.len() > before.len() => self.blocks.push((after[after.len() - 1], false)),
            Op::Free { .. } if after.len() < before.len() => {
                let freed = before.iter().find(|address| !after.contains(address)).expect("one went");
                let at = self.blocks.iter().rposition(|block| block.0 == *freed).expect("it was there");
                self.out_of_order += u64::from(at + 1 < self.blocks.len());
                self.blocks[at].1 = true;
                while self.blocks.pop_if(|block| block.1).is_some() {}
            }
            _ => {}
        }
    }

    fn waiting(&self) -> usize {
        self.blocks.iter().filter(|block| block.1).count()
    }
}

fn addresses(shadow: &Shadow) -> Vec<usize> {
    shadow.live.iter().map(|block| block.memory.addr().get()).collect()
}

/// A stack over `ground`, with or without memory from the start.
fn stack_over(ground: &Ground, capacity: usize) -> StackAllocator<&Ground> {
    match NonZeroUsize::new(capacity) {
        Some(capacity) => StackAllocator::with_capacity(ground, capacity).unwrap(),
        None => StackAllocator::new(ground),
    }
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn random_programs_keep_the_contract(
        program in ops(50_000), roomy in any::<bool>(), capacity in 0usize..5000, refuse in 0usize..12,
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let stack = stack_over(&ground, capacity);
        ground.refuse_in.set(refuse);
        let (mut shadow, mut chain) = (Shadow::default(), Chain::default());
        for op in &program {
            let before = (stack.used_bytes(), stack.held_bytes(), addresses(&shadow));
            shadow.step(&stack, op);
            let after = addresses(&shadow);
            if matches!(op, Op::Alloc { .. }) && after.len() == before.2.len() {
                prop_assert_eq!((stack.used_bytes(), stack.held_bytes()), (before.0, before.1), "a refusal changed something");
            }
            chain.follow(op, &before.2, &after);
            prop_assert_eq!((stack.waiting_blocks(), stack.out_of_order()), (chain.waiting(), chain.out_of_order));
            prop_assert_eq!(stack.held_bytes(), ground.held());
            for block in &shadow.live {
                prop_assert!(stack.owns(block.memory.cast()));
            }
        }
        shadow.free_all(&stack);
        prop_assert_eq!((stack.used_bytes(), stack.waiting_blocks()), (0, 0), "in whatever order the blocks went");
    }

    /// In the order of a stack nothing waits, and each free gives back what its block took.
    #[test]
    fn in_order_every_byte_comes_back_at_once(
        lengths in proptest::collection::vec((1usize..3000, 0u32..8), 1..60), capacity in 0usize..5000, roomy in any::<bool>(),
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let stack = stack_over(&ground, capacity);
        let mut live = Vec::new();
        for &(bytes, log2) in &lengths {
            let used = stack.used_bytes();
            let alignment = Alignment::from_log2(log2).unwrap();
            live.push((slice(stack.alloc(len(bytes), alignment).unwrap(), bytes), alignment, used));
        }
        for (memory, alignment, used) in live.into_iter().rev() {
            // SAFETY: live, and not used again.
            unsafe { stack.free(memory, alignment) };
            let padding = stack.used_bytes() - used;
            prop_assert!(padding < alignment.bytes().max(8), "{} bytes stayed", padding);
        }
        prop_assert_eq!((stack.out_of_order(), stack.used_bytes()), (0, 0));
        prop_assert!(ground.blocks() <= 2, "one node and an empty first one at most");
    }

    #[test]
    fn a_release_ends_what_came_after_the_marker_and_keeps_the_rest(
        older in ops(3000), newer in ops(20_000), capacity in 0usize..5000, roomy in any::<bool>(),
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut stack = stack_over(&ground, capacity);
        let mut kept = Shadow::default();
        for op in &older {
            kept.step(&stack, op);
        }
        let (marker, used, waiting) = (stack.mark(), stack.used_bytes(), stack.waiting_blocks());
        let mut ended = Shadow::default();
        for op in &newer {
            ended.step(&stack, op);
        }
        kept.check();
        prop_assert!(stack.release(marker));
        prop_assert_eq!((stack.mark(), stack.waiting_blocks()), (marker, waiting));
        prop_assert!(stack.used_bytes() <= used + 512 * ground.blocks(), "but for padding, once a node");
        kept.check();
        for op in &older {
            kept.step(&stack, op);
        }
        kept.free_all(&stack);
        prop_assert_eq!(stack.used_bytes(), 0);
    }
}

#[test]
fn a_free_out_of_order_is_counted_with_its_place() {
    let stack = StackAllocator::new(SystemAllocator);
    let low = stack.create::<u64>().unwrap();
    let middle = stack.create::<u64>().unwrap();
    let high = stack.create::<u64>().unwrap();
    assert!(stack.last_out_of_order().is_none());
    let line = line!() + 2;
    // SAFETY: live, and not used again.
    unsafe { stack.destroy(low) };
    assert_eq!(stack.last_out_of_order().map(|site| (site.file(), site.line())), Some((file!(), line)));
    // SAFETY: live, and not used again.
    unsafe { stack.destroy(middle) };
    assert_eq!((stack.out_of_order(), stack.waiting_blocks()), (2, 2));
    // SAFETY: live, and not used again.
    unsafe { stack.destroy(high) };
    assert_eq!((stack.out_of_order(), stack.waiting_blocks(), stack.used_bytes()), (2, 0, 0));
}

#[test]
fn the_top_grows_in_place_and_others_do_not() {
    let stack = StackAllocator::with_capacity(SystemAllocator, len(200)).unwrap();
    let low = stack.alloc(len(10), align(1)).unwrap();
    // SAFETY: live, of this stack.
    assert!(unsafe { stack.resize(slice(low, 10), align(1), len(20)) });
    let high = stack.alloc(len(10), align(1)).unwrap();
    // SAFETY: as above; no longer the top.
    assert!(unsafe { !stack.resize(slice(low, 20), align(1), len(21)) });
    // SAFETY: as above; the top.
    assert!(unsafe { stack.resize(slice(high, 10), align(1), len(100)) });
    // SAFETY: as above; 200 bytes are not there.
    assert!(unsafe { !stack.resize(slice(high, 100), align(1), len(201)) });
    // SAFETY: as above.
    assert!(unsafe { !stack.resize(slice(high, 100), align(1), NonZeroUsize::MAX) });
    // SAFETY: live, and not used again.
    unsafe { stack.free(slice(high, 100), align(1)) };
    // SAFETY: as above; the top again.
    assert!(unsafe { stack.resize(slice(low, 20), align(1), len(21)) });
}

#[test]
fn sizes_near_the_end_of_the_address_space_are_refused() {
    let stack = StackAllocator::new(SystemAllocator);
    for log2 in 0..usize::BITS {
        for bytes in [usize::MAX, usize::MAX - 7, usize::MAX - 64, isize::MAX as usize] {
            assert!(stack.alloc(len(bytes), Alignment::from_log2(log2).unwrap()).is_err());
        }
    }
    assert_eq!(stack.held_bytes(), 0);
}

#[test]
fn a_marker_whose_top_has_gone_releases_nothing() {
    let mut stack = StackAllocator::new(SystemAllocator);
    let one = stack.create::<[u64; 4]>().unwrap();
    let marker = stack.mark();
    // SAFETY: live, and not used again.
    unsafe { stack.destroy(one) };
    assert!(!stack.release(marker));
    let kept = stack.create::<[u64; 2]>().unwrap();
    let other = stack.create::<[u64; 40]>().unwrap();
    let used = stack.used_bytes();
    let mut elsewhere = StackAllocator::new(SystemAllocator);
    elsewhere.create::<u64>().unwrap();
    assert!(!elsewhere.release(stack.mark()), "another stack's");
    assert_eq!(stack.used_bytes(), used);
    // SAFETY: live, and not used again.
    unsafe { stack.destroy(other) };
    // SAFETY: live, and not used again.
    unsafe { stack.destroy(kept) };
}

#[test]
fn a_reset_ends_everything_and_markers_too() {
    let ground = Ground::default();
    let mut stack = StackAllocator::new(&ground);
    for _ in 0..100 {
        stack.create::<[u8; 100]>().unwrap();
    }
    let marker = stack.mark();
    assert!(stack.reset(ResetMode::RetainCapacity));
    assert_eq!((ground.blocks(), stack.used_bytes(), stack.waiting_blocks()), (1, 0, 0));
    assert!(!stack.release(marker));
    let before = ground.allocs.get();
    for _ in 0..100 {
        stack.create::<[u8; 100]>().unwrap();
    }
    assert_eq!(ground.allocs.get(), before, "the same again asks for nothing");
    stack.reset(ResetMode::FreeAll);
    assert_eq!(ground.blocks(), 0);
}

#[test]
fn collections_live_on_a_stack() {
    let stack = StackAllocator::new(SystemAllocator);
    let mut outer = Vec2::new_in(&stack);
    for n in 0..50u32 {
        let mut inner = Vec2::new_in(&stack);
        inner.extend(0..n);
        outer.push(inner.iter().sum::<u32>());
    }
    assert_eq!(outer[49], 1176);
    drop(outer);
    assert_eq!(stack.used_bytes(), 0);
}

#[test]
fn a_stack_may_move_to_another_thread_with_its_blocks() {
    let stack = StackAllocator::new(SystemAllocator);
    let block = stack.alloc(len(100), align(8)).unwrap().addr();
    let stack = std::thread::spawn(move || stack).join().unwrap();
    assert!(stack.owns(std::ptr::NonNull::without_provenance(block)));
}
