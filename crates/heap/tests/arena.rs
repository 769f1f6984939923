//! The arena against its law, its contract and a shadow of what must be true.

mod support;

use std::{num::NonZeroUsize, thread};

use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, len, ops, slice};
use terrace_core::{Alignment, Allocator, Owns, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, Call, CallOp, LogAllocator};

/// The law of the module's text, with the most in use so far.
fn assert_law(ground: &Ground, most_used: usize, request: usize, alignment: usize) {
    let base = most_used + request + alignment;
    let allowed = base + base / 2 + 64 * ground.blocks().max(1);
    assert!(ground.held() <= allowed, "{} bytes held, the law allows {allowed}", ground.held());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn random_programs_keep_the_contract_and_the_law(
        program in ops(100_000), roomy in any::<bool>(), capacity in 0usize..5000, refuse in prop_oneof![Just(0), 0usize..12],
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut arena = match NonZeroUsize::new(capacity) {
            Some(capacity) => ArenaAllocator::with_capacity(&ground, capacity).unwrap(),
            None => ArenaAllocator::new(&ground),
        };
        ground.refuse_in.set(refuse);
        let mut shadow = Shadow::default();
        let (mut most_used, mut largest) = (capacity, (0, 1));
        for op in &program {
            let before = (arena.used_bytes(), arena.held_bytes(), shadow.live.len());
            shadow.step(&arena, op);
            most_used = most_used.max(arena.used_bytes());
            if let Op::Alloc { len, log2, .. } = *op {
                if shadow.live.len() == before.2 {
                    prop_assert_eq!((arena.used_bytes(), arena.held_bytes()), (before.0, before.1), "a refusal changed something");
                }
                largest = (len.max(largest.0), largest.1.max(1 << log2));
            }
            prop_assert_eq!(arena.held_bytes(), ground.held());
            if refuse == 0 {
                assert_law(&ground, most_used, largest.0, largest.1);
            }
            for block in &shadow.live {
                prop_assert!(arena.owns(block.memory.cast()));
            }
        }
        shadow.live.clear();
        prop_assert!(arena.reset(ResetMode::FreeAll));
        prop_assert_eq!(ground.blocks(), 0);
    }

    #[test]
    fn scopes_and_checkpoints_keep_what_is_older(
        outer in ops(3000), inner in ops(30_000), innermost in ops(3000), roomy in any::<bool>(),
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut arena = ArenaAllocator::new(&ground);
        let mut shadow = Shadow::default();
        for op in &outer {
            shadow.step(&arena, op);
        }
        let used = arena.used_bytes();
        arena.scope(|scope| {
            let mut temporary = Shadow::default();
            for op in &inner {
                temporary.step(&**scope, op);
            }
            scope.scope(|scope| {
                let mut shadow = Shadow::default();
                for op in &innermost {
                    shadow.step(&**scope, op);
                }
                temporary.check();
            });
            temporary.check();
            shadow.check();
        });
        prop_assert!(arena.used_bytes() <= used);
        let checkpoint = arena.checkpoint();
        let mut temporary = Shadow::default();
        for op in inner.iter().filter(|op| matches!(op, Op::Alloc { .. })) {
            temporary.step(&arena, op);
        }
        prop_assert!(arena.rewind(checkpoint));
        shadow.check();
        for op in &outer {
            shadow.step(&arena, op);
        }
        shadow.check();
    }

    #[test]
    fn reset_retains_what_it_says(program in ops(20_000), limit in 0usize..50_000, roomy in any::<bool>(), refuse in 0usize..4) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut arena = ArenaAllocator::new(&ground);
        for mode in [ResetMode::RetainCapacity, ResetMode::RetainWithLimit(limit), ResetMode::FreeAll] {
            let mut shadow = Shadow::default();
            for op in &program {
                shadow.step(&arena, op);
            }
            let capacity = arena.query_capacity();
            let wanted = match mode {
                ResetMode::FreeAll => 0,
                ResetMode::RetainCapacity => capacity,
                ResetMode::RetainWithLimit(limit) => capacity.min(limit),
            };
            ground.refuse_in.set(refuse);
            let kept = arena.reset(mode);
            ground.refuse_in.set(0);
            prop_assert_eq!(arena.used_bytes(), 0);
            if kept {
                prop_assert_eq!(arena.query_capacity(), wanted);
            } else {
                prop_assert!(refuse > 0 && arena.query_capacity() <= capacity);
            }
            prop_assert!(ground.blocks() <= 1);
        }
    }
}

#[test]
fn the_last_block_grows_shrinks_and_comes_back_in_place() {
    let ground = Ground::default();
    let arena = ArenaAllocator::with_capacity(&ground, len(100)).unwrap();
    let block = arena.alloc(len(10), align(1)).unwrap();
    // SAFETY: live, of this arena, with the lengths of the last grant.
    unsafe {
        assert!(arena.resize(slice(block, 10), align(1), len(100)));
    }
    // SAFETY: as above.
    assert!(unsafe { !arena.resize(slice(block, 100), align(1), len(101)) });
    // SAFETY: as above.
    assert!(unsafe { arena.resize(slice(block, 100), align(1), len(3)) });
    assert_eq!(arena.used_bytes(), 3);
    let above = arena.alloc(len(1), align(1)).unwrap();
    // SAFETY: as above. No longer last: shrinking is free, growing is refused.
    assert!(unsafe { arena.resize(slice(block, 3), align(1), len(2)) });
    // SAFETY: as above.
    assert!(unsafe { !arena.resize(slice(block, 2), align(1), len(3)) });
    // SAFETY: live, and not used again.
    unsafe { arena.free(slice(above, 1), align(1)) };
    assert_eq!(arena.used_bytes(), 3, "the last block came back, the bytes cut off earlier did not");
    assert_eq!(ground.allocs.get(), 1);
}

#[test]
fn a_request_that_does_not_fit_leaves_no_hole() {
    let ground = Ground::roomy();
    let arena = ArenaAllocator::with_capacity(&ground, len(64)).unwrap();
    for n in 1..=40 {
        arena.alloc(len(16), align(1)).unwrap();
        assert_eq!(arena.used_bytes(), 16 * n);
    }
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let ground = Ground::default();
    let arena = ArenaAllocator::new(&ground);
    arena.alloc(len(8), align(8)).unwrap();
    let before = (arena.used_bytes(), arena.held_bytes());
    for bytes in [usize::MAX, usize::MAX - 7, usize::MAX / 2, isize::MAX as usize, isize::MAX as usize - 8] {
        for log2 in [0, 3, 12, 13, 14, 15, usize::BITS - 2, usize::BITS - 1] {
            let alignment = Alignment::from_log2(log2).unwrap();
            assert!(arena.alloc(len(bytes), alignment).is_err());
            assert!(arena.alloc_zeroed(len(bytes), alignment).is_err());
        }
    }
    assert!(arena.alloc(len(1), Alignment::from_log2(usize::BITS - 1).unwrap()).is_err());
    assert_eq!(before, (arena.used_bytes(), arena.held_bytes()));
    assert!(ArenaAllocator::with_capacity(&ground, NonZeroUsize::MAX).is_err());
    let block = arena.alloc(len(8), align(8)).unwrap();
    // SAFETY: live, of this arena.
    assert!(unsafe { !arena.resize(slice(block, 8), align(8), NonZeroUsize::MAX) });
    // SAFETY: live, of this arena.
    assert!(unsafe { arena.remap(slice(block, 8), align(8), NonZeroUsize::MAX) }.is_none());
}

#[test]
fn refusals_of_the_backing_are_passed_on_and_healed_afterwards() {
    let ground = Ground::roomy();
    let arena = ArenaAllocator::new(&ground);
    arena.alloc(len(50), align(1)).unwrap();
    ground.refuse_in.set(usize::MAX);
    assert!(arena.alloc(len(10_000), align(1)).is_err());
    assert!(arena.alloc(len(1), align(1)).is_ok(), "a small request still fits: no poison after a refusal");
    ground.refuse_in.set(0);
    assert!(arena.alloc(len(10_000), align(1)).is_ok());
}

#[test]
fn the_limit_holds_and_is_used_up() {
    let ground = Ground::default();
    let arena = ArenaAllocator::new(&ground);
    arena.set_limit(1000);
    let mut served = 0;
    while arena.alloc(len(8), align(8)).is_ok() {
        served += 8;
    }
    assert!(ground.most_held.get() <= 1000);
    assert!(served >= 800, "only {served} bytes of 1000 were served");
    arena.set_limit(usize::MAX);
    assert!(arena.alloc(len(8), align(8)).is_ok());
}

#[test]
fn the_second_round_after_retaining_asks_for_nothing() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    for round in 0..5 {
        let before = (ground.allocs.get(), ground.resizes.get());
        for n in 1..500 {
            arena.alloc(len(n), align(8)).unwrap();
        }
        if round > 0 {
            assert_eq!((ground.allocs.get(), ground.resizes.get()), before);
        }
        assert!(arena.reset(ResetMode::RetainCapacity));
    }
}

#[test]
fn a_scope_that_outgrows_its_node_asks_only_in_the_first_round() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    let kept = arena.alloc(len(100), align(8)).unwrap();
    // SAFETY: live with 100 bytes.
    unsafe { kept.write_bytes(7, 100) };
    let mut after_first = 0;
    for round in 0..6 {
        arena.scope(|scope| {
            for _ in 0..100 {
                let text = scope.alloc_slice_copy(&[9u8; 90]).unwrap();
                text.fill(1);
            }
        });
        if round == 1 {
            after_first = ground.allocs.get();
        }
    }
    assert_eq!(ground.allocs.get(), after_first);
    // SAFETY: live, and written above.
    assert_eq!(unsafe { slice(kept, 100).as_ref() }, [7; 100]);
}

#[test]
fn a_foreign_or_lost_checkpoint_changes_nothing() {
    let ground = Ground::default();
    let (mut one, mut other) = (ArenaAllocator::new(&ground), ArenaAllocator::new(&ground));
    one.alloc(len(10), align(1)).unwrap();
    other.alloc(len(20), align(1)).unwrap();
    let checkpoint = one.checkpoint();
    assert!(!other.rewind(checkpoint));
    assert_eq!(other.used_bytes(), 20);
    one.reset(ResetMode::FreeAll);
    assert!(!one.rewind(checkpoint));
    let empty = one.checkpoint();
    one.alloc(len(10_000), align(1)).unwrap();
    assert!(one.rewind(empty));
    assert_eq!(one.used_bytes(), 0);
}

/// The node that a scope began in may empty and go back while the scope lasts.
#[test]
fn a_scope_outlives_the_node_that_it_began_in() {
    let ground = Ground::default();
    for older in [0, 200] {
        let mut arena = ArenaAllocator::new(&ground);
        let kept = NonZeroUsize::new(older).map(|older| arena.alloc(older, align(8)).unwrap());
        arena.alloc(len(300), align(8)).unwrap(); // Larger than what is left: a node of its own where there is an older one.
        let before = arena.used_bytes();
        let last = arena.alloc(len(500), align(8)).unwrap();
        arena.scope(|scope| {
            // SAFETY: live, the last one, and not used again.
            unsafe { scope.free(slice(last, 500), align(8)) };
            for bytes in [2000, 5000, 20_000] {
                let block = scope.alloc(len(bytes), align(8)).unwrap();
                // SAFETY: live, the last one, and not used again.
                unsafe { scope.free(slice(block, bytes), align(8)) };
            }
            scope.alloc(len(3000), align(8)).unwrap();
        });
        assert!(arena.used_bytes() <= before + 8);
        assert!(kept.is_none_or(|kept| arena.owns(kept)));
    }
}

/// Large blocks that come and go, each a little larger than the room that a small one left, pile up no nodes.
#[test]
fn emptied_nodes_go_back_and_the_law_holds() {
    let ground = Ground::default();
    let arena = ArenaAllocator::new(&ground);
    let mut most_used = 0;
    for round in 0..200 {
        let bytes = 1000 + round;
        let block = arena.alloc(len(bytes), align(8)).unwrap();
        most_used = most_used.max(arena.used_bytes());
        assert_law(&ground, most_used, bytes, 8);
        // SAFETY: live, the last one, and not used again.
        unsafe { arena.free(slice(block, bytes), align(8)) };
        if round % 3 == 0 {
            arena.alloc(len(16), align(8)).unwrap();
        }
        assert_law(&ground, most_used, bytes, 8);
    }
}

#[test]
fn a_scope_that_unwinds_still_ends() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        arena.scope(|scope| {
            scope.alloc_str("temporary").unwrap();
            panic!("out");
        })
    }));
    assert!(caught.is_err());
    assert_eq!(arena.used_bytes(), 0);
}

#[test]
fn a_large_zeroed_request_takes_the_backings_zeroes() {
    let zeroed_calls = std::cell::Cell::new(0);
    let logged = LogAllocator::new(SystemAllocator, |call: &Call| {
        if let CallOp::Alloc { zeroed: true, .. } = call.op {
            zeroed_calls.set(zeroed_calls.get() + 1);
        }
    });
    let arena = ArenaAllocator::new(&logged);
    let block = arena.alloc_zeroed(len(1 << 20), align(16)).unwrap();
    // SAFETY: live, and zeroed by the contract.
    assert!(unsafe { slice(block, 1 << 20).as_ref() }.iter().all(|&byte| byte == 0));
    assert_eq!(zeroed_calls.get(), 1);
}

#[test]
fn an_arena_moves_to_another_thread_with_its_blocks() {
    let arena = ArenaAllocator::new(SystemAllocator);
    let block = arena.alloc(len(5000), align(64)).unwrap().addr();
    let arena = thread::spawn(move || {
        arena.alloc(len(5000), align(64)).unwrap();
        arena
    })
    .join()
    .unwrap();
    assert!(arena.owns(std::ptr::NonNull::without_provenance(block)));
}

/// A sink that comes back to the arena whose backing it watches (clause 10).
#[test]
fn a_hook_in_the_backing_may_come_back_to_the_arena() {
    use std::{cell::RefCell, rc::Rc};
    type Hooked = ArenaAllocator<LogAllocator<Ground, Box<dyn Fn(&Call)>>>;
    let slot: Rc<RefCell<Option<Rc<Hooked>>>> = Rc::default();
    let seen = slot.clone();
    let served = Rc::new(std::cell::Cell::new(0));
    let count = served.clone();
    let sink: Box<dyn Fn(&Call)> = Box::new(move |_| {
        if let Ok(arena) = seen.try_borrow()
            && let Some(arena) = arena.as_ref()
        {
            for bytes in [8, 64, 5000] {
                count.set(count.get() + usize::from(arena.alloc(len(bytes), align(8)).is_ok()));
            }
        }
    });
    let arena: Rc<Hooked> = Rc::new(ArenaAllocator::new(LogAllocator::new(Ground::roomy(), sink)));
    *slot.borrow_mut() = Some(arena.clone());
    let mut shadow = Shadow::default();
    for n in 1..300 {
        shadow.step(&*arena, &Op::Alloc { len: n, log2: n as u32 % 6, zeroed: false });
    }
    assert!(served.get() > 0);
    *slot.borrow_mut() = None;
}

#[test]
fn an_iterator_may_allocate_where_it_is_collected() {
    let arena = ArenaAllocator::new(SystemAllocator);
    let words =
        arena.alloc_iter((0..100).map(|n| arena.alloc_str(if n % 2 == 0 { "even" } else { "odd" }).unwrap().len()));
    assert_eq!(words.unwrap().iter().sum::<usize>(), 50 * 4 + 50 * 3);
    let filtered = arena.alloc_iter((0..1000u16).filter(|n| n % 3 == 0)).unwrap();
    assert!(filtered.iter().copied().eq((0..1000).step_by(3)));
    let units = arena.alloc_iter([(); 70]).unwrap();
    assert_eq!(units.len(), 70);
    assert!(arena.alloc_iter(std::iter::empty::<u64>()).unwrap().is_empty());
}
