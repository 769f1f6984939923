//! The arena against its law, its contract and a shadow of what must be true.

mod support;

use std::{
    cell::{Cell, RefCell},
    num::NonZeroUsize,
    ptr::{self, NonNull},
    rc::{Rc, Weak},
    thread,
};

use proptest::prelude::*;
use support::{Ground, HEADER, Op, Shadow, align, cases, is_all, len, ops, slice};
use terrace_core::{Alignment, AllocError, Allocator, Owns, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, Call, CallOp, LogAllocator};

/// What the law of the module's text lets an arena hold, with the most in use so far.
fn law(ground: &Ground, most_used: usize, request: usize, alignment: usize) -> usize {
    let base = most_used + request + alignment;
    base + base / 2 + 64 * ground.blocks().max(1)
}

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn random_programs_keep_the_contract_and_the_law(
        program in ops(100_000), roomy in any::<bool>(), capacity in 0usize..5000, refuse in 0usize..12,
        stock in proptest::option::of(10_000usize..200_000),
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut arena = match NonZeroUsize::new(capacity) {
            Some(capacity) => ArenaAllocator::with_capacity(&ground, capacity).unwrap(),
            None => ArenaAllocator::new(&ground),
        };
        ground.refuse_in.set(if stock.is_some() { 0 } else { refuse });
        ground.stock.set(stock);
        let mut shadow = Shadow::default();
        let mut most_used = capacity;
        for op in &program {
            let before = (arena.used_bytes(), arena.held_bytes(), shadow.live.len());
            shadow.step(&arena, op);
            prop_assert_eq!(arena.held_bytes(), ground.held(), "the arena knows what it holds");
            if let Op::Alloc { len, log2, .. } = *op {
                let need = len + HEADER.next_multiple_of(1 << log2);
                if shadow.live.len() == before.2 {
                    prop_assert_eq!((arena.used_bytes(), arena.held_bytes()), (before.0, before.1), "a refusal changed something");
                    prop_assert!(stock.is_none() || !ground.has(need), "refused what the backing has");
                }
                let made_to_measure = ground.held().saturating_sub(before.1) <= len + HEADER + (1 << log2);
                prop_assert!(made_to_measure || ground.held() <= law(&ground, most_used, len, 1 << log2), "too generous");
            }
            most_used = most_used.max(arena.used_bytes());
            for block in &shadow.live {
                prop_assert!(arena.owns(block.memory.cast()));
            }
        }
        shadow.live.clear();
        prop_assert!(arena.reset(ResetMode::FreeAll));
        prop_assert_eq!(ground.blocks(), 0);
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
            prop_assert_eq!(arena.held_bytes(), ground.held());
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
    assert!(unsafe { arena.resize(slice(block, 2), align(1), len(2)) });
    // SAFETY: as above.
    assert!(unsafe { !arena.resize(slice(block, 2), align(1), len(3)) });
    // SAFETY: live, and not used again.
    unsafe { arena.free(slice(above, 1), align(1)) };
    assert_eq!(arena.used_bytes(), 3, "the last block came back, the bytes cut off earlier did not");
    assert_eq!(ground.allocs.get(), 1);
}

/// Each frees the one before it, which was a little smaller: nothing is ever lost, so the law holds strictly.
#[test]
fn blocks_that_come_and_go_while_they_grow_keep_the_law() {
    let ground = Ground::default();
    let arena = ArenaAllocator::new(&ground);
    for bytes in 100..2000 {
        let block = arena.alloc(len(bytes), align(1)).unwrap();
        assert!(ground.held() <= law(&ground, bytes - 1, bytes, 1), "{} held for {bytes}", ground.held());
        // SAFETY: live, and not used again.
        unsafe { arena.free(slice(block, bytes), align(1)) };
    }
    assert!(ground.allocs.get() < 15, "asked {} times", ground.allocs.get());
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
        assert!(ground.held() <= law(&ground, most_used, bytes, 8));
        // SAFETY: live, the last one, and not used again.
        unsafe { arena.free(slice(block, bytes), align(8)) };
        if round % 3 == 0 {
            arena.alloc(len(16), align(8)).unwrap();
        }
        assert!(ground.held() <= law(&ground, most_used, bytes, 8));
    }
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

/// In one piece instead of several, a moment long beside the newest of them.
#[test]
fn the_limit_holds_while_a_reset_retains() {
    for ground in [Ground::default(), Ground::roomy()] {
        let mut arena = ArenaAllocator::new(&ground);
        arena.set_limit(1000);
        for round in 0..20 {
            while arena.alloc(len(8), align(8)).is_ok() {}
            assert!(ground.blocks() > 1 || ground.roomy || round > 0);
            arena.reset(ResetMode::RetainCapacity);
            assert!(ground.most_held.get() <= 1000, "{} held", ground.most_held.get());
            assert_eq!((arena.used_bytes(), ground.blocks()), (0, 1));
        }
        arena.set_limit(0);
        let held = arena.held_bytes();
        assert!(arena.reset(ResetMode::RetainCapacity));
        assert_eq!(arena.held_bytes(), held, "what is held stays");
    }
}

#[test]
fn a_backing_that_cannot_align_is_asked_for_the_room_to_align_in() {
    let ground = Ground::default();
    ground.strictest.set(Some(align(16)));
    let mut arena = ArenaAllocator::new(&ground);
    for bytes in [32usize, 64, 4096, 1 << 16] {
        let mut shadow = Shadow::default();
        shadow.step(&arena, &Op::Alloc { len: 100, log2: bytes.trailing_zeros(), zeroed: bytes == 64 });
        assert_eq!(shadow.live.len(), 1);
        assert!(arena.reset(ResetMode::FreeAll));
    }
    ground.strictest.set(Some(align(4)));
    assert!(arena.alloc(len(1), align(1)).is_err(), "no room for a header");
}

/// Gives addresses that nothing lies at, so an arena must not touch them, and wants them back as they were.
#[derive(Default)]
struct Top {
    given: Cell<usize>,
    returned: Cell<usize>,
}

// SAFETY: it breaks the contract, for what it gives is no memory; its one user below takes no block from it.
unsafe impl Allocator for Top {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let address = alignment.backward(usize::MAX - len.get());
        self.given.set(address ^ len.get() ^ alignment.bytes());
        Ok(NonNull::new(ptr::without_provenance_mut(address)).unwrap())
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.alloc(len, alignment)
    }

    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        assert_eq!(self.given.take(), memory.addr().get() ^ memory.len() ^ alignment.bytes());
        self.returned.set(self.returned.get() + 1);
    }
}

#[test]
fn memory_at_the_end_of_the_address_space_goes_back_untouched() {
    let arena = ArenaAllocator::new(Top::default());
    for bytes in [1, 5000, 1 << 20] {
        assert!(arena.alloc(len(bytes), align(8)).is_err());
        assert!(arena.alloc_zeroed(len(bytes), align(4096)).is_err());
    }
    assert_eq!(arena.held_bytes(), 0);
}

/// What was in use before it does not make the next node generous.
#[test]
fn the_law_begins_anew_with_a_reset() {
    for mode in [ResetMode::RetainCapacity, ResetMode::RetainWithLimit(5000), ResetMode::FreeAll] {
        let ground = Ground::default();
        let mut arena = ArenaAllocator::with_capacity(&ground, len(10_000)).unwrap();
        let block = arena.alloc(len(9000), align(1)).unwrap();
        // SAFETY: live, and not used again.
        unsafe { arena.free(slice(block, 9000), align(1)) };
        assert!(arena.reset(mode));
        arena.alloc(len(10_001), align(1)).unwrap();
        assert!(ground.held() <= law(&ground, 0, 10_001, 1), "{} held after {mode:?}", ground.held());
    }
}

#[test]
fn an_arena_owns_its_nodes_and_nothing_else() {
    let (one, other) = (ArenaAllocator::new(SystemAllocator), ArenaAllocator::new(SystemAllocator));
    let mut blocks = Vec::new();
    for bytes in [100, 5000, 100_000] {
        for (mine, theirs) in [(&one, &other), (&other, &one)] {
            let block = mine.alloc(len(bytes), align(8)).unwrap();
            // SAFETY: inside the block.
            blocks.push((mine, theirs, block, unsafe { block.add(bytes - 1) }));
        }
    }
    for (mine, theirs, first, last) in blocks {
        assert!(mine.owns(first) && mine.owns(last));
        assert!(!theirs.owns(first) && !theirs.owns(last));
    }
    assert!(!one.owns(NonNull::dangling()));
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
fn a_large_zeroed_request_takes_the_backings_zeroes() {
    let zeroed_calls = Cell::new(0);
    let logged = LogAllocator::new(SystemAllocator, |call: &Call| {
        if let CallOp::Alloc { zeroed: true, .. } = call.op {
            zeroed_calls.set(zeroed_calls.get() + 1);
        }
    });
    let arena = ArenaAllocator::new(&logged);
    let block = arena.alloc_zeroed(len(1 << 20), align(16)).unwrap();
    // SAFETY: live, and zeroed by the contract.
    assert!(is_all(unsafe { slice(block, 1 << 20).as_ref() }, 0));
    assert_eq!(zeroed_calls.get(), 1);
}

#[test]
fn a_large_zeroed_request_takes_fresh_zeroes_before_it_grows_a_node() {
    let zeroed_calls = Cell::new(0);
    let logged = LogAllocator::new(Ground::roomy(), |call: &Call| {
        zeroed_calls.set(zeroed_calls.get() + usize::from(matches!(call.op, CallOp::Alloc { zeroed: true, .. })));
    });
    let arena = ArenaAllocator::with_capacity(&logged, len(1000)).unwrap();
    arena.alloc(len(100), align(1)).unwrap();
    arena.alloc_zeroed(len(1032), align(1)).unwrap();
    assert_eq!(zeroed_calls.get(), 1);
}

/// The blocks before were filled with other bytes, the ground with others again.
#[test]
fn memory_that_was_used_before_is_zeroed_again() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    for zeroed in [false, true, true] {
        let op = Op::Alloc { len: 5000, log2: 4, zeroed };
        arena.scope(|scope| Shadow::default().step(&**scope, &op));
        let mut shadow = Shadow::default();
        shadow.step(&arena, &op);
        shadow.free_all(&arena);
        shadow.step(&arena, &op);
        assert!(arena.used_bytes() >= 5000);
        arena.reset(ResetMode::RetainCapacity);
    }
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

type Hooked = ArenaAllocator<LogAllocator<Ground, Box<dyn Fn(&Call)>>>;

/// An arena of 1000 bytes over `ground` whose backing calls `hook` with the arena itself, wherever it is
/// called (clause 10).
fn with_hook(ground: Ground, hook: impl Fn(&Hooked, &Call) + 'static) -> Rc<Hooked> {
    let slot: Rc<RefCell<Weak<Hooked>>> = Rc::default();
    let seen = slot.clone();
    let sink: Box<dyn Fn(&Call)> = Box::new(move |call| {
        if let Some(arena) = seen.borrow().upgrade() {
            hook(&arena, call);
        }
    });
    let arena = Rc::new(ArenaAllocator::with_capacity(LogAllocator::new(ground, sink), len(1000)).unwrap());
    *slot.borrow_mut() = Rc::downgrade(&arena);
    arena
}

#[test]
fn a_hook_in_the_backing_may_come_back_to_the_arena() {
    for (ground, sizes) in [(Ground::default(), [8, 64, 5000]), (Ground::roomy(), [1, 700, 70_000])] {
        let (served, refused) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counts = (served.clone(), refused.clone());
        let arena = with_hook(ground, move |arena, _| {
            let (used, held) = (arena.used_bytes(), arena.held_bytes());
            for bytes in sizes {
                let Ok(block) = arena.alloc(len(bytes), align(8)) else {
                    counts.1.set(counts.1.get() + 1);
                    continue;
                };
                counts.0.set(counts.0.get() + 1);
                // SAFETY: live with `bytes` bytes.
                unsafe { block.write_bytes(0xEE, bytes) };
                if bytes == 700 {
                    // SAFETY: live, and not used again.
                    unsafe { arena.free(slice(block, bytes), align(8)) };
                }
            }
            assert!(arena.used_bytes() >= used && arena.held_bytes() == held, "{arena:?}");
        });
        let mut shadow = Shadow::default();
        for n in 1..300 {
            shadow.step(&*arena, &Op::Alloc { len: n, log2: n as u32 % 6, zeroed: n % 7 == 0 });
        }
        assert_eq!(shadow.live.len(), 299);
        assert!(served.get() > 0 && refused.get() > 0);
    }
}

/// The node of 1000 bytes grows to 1567, the hook takes 900 of them, and 1001 do not fit any more.
#[test]
fn a_hook_that_takes_the_room_made_for_a_request_leaves_the_books_right() {
    for limit in [2000, 2100, usize::MAX] {
        let arena = with_hook(Ground::roomy(), |arena, call| {
            if let CallOp::Resize { granted: true, .. } = call.op {
                let _ = arena.alloc(len(900), align(1));
            }
        });
        arena.set_limit(limit);
        assert!(arena.alloc(len(1001), align(1)).is_ok());
        assert!(arena.held_bytes() <= limit, "{arena:?} under {limit}");
    }
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

#[test]
fn an_iterator_is_not_believed() {
    /// Claims at least `claimed` items more than there are.
    struct Liar<I>(I, usize);
    impl<I: Iterator> Iterator for Liar<I> {
        type Item = I::Item;
        fn next(&mut self) -> Option<I::Item> {
            self.0.next()
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.1, Some(self.1))
        }
    }
    let ground = Ground::default();
    let arena = ArenaAllocator::new(&ground);
    for claimed in [0, 1, 7, 1000] {
        assert!(arena.alloc_iter(Liar(0..100u64, claimed)).unwrap().iter().copied().eq(0..100));
        assert!(arena.alloc_iter(Liar(0..0u64, claimed)).unwrap().is_empty());
        assert_eq!(arena.alloc_iter(Liar([(); 9].into_iter(), claimed)).unwrap().len(), 9);
    }
    assert!(arena.alloc_iter(Liar(0..100u64, usize::MAX)).is_err());
    assert_eq!(arena.alloc_iter(Liar([(); 9].into_iter(), usize::MAX)).unwrap().len(), 9);
}

#[test]
fn an_iterator_that_panics_leaves_the_arena_usable() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    let items = (0..100u64).map(|n| if n < 50 { n } else { panic!("out of items") });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| arena.alloc_iter(items).is_ok())).is_err());
    assert!(arena.alloc_iter(0..1000u64).unwrap().iter().copied().eq(0..1000));
    arena.reset(ResetMode::FreeAll);
}
