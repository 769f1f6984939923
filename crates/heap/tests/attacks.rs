//! Attacks by safe code: a hook of the backing that comes back into the allocator above it, in the middle of a call.
//!
//! ```text
//!   alloc ──▶ stack, pool, arena ──▶ LogAllocator ──▶ ground
//!                    ▲                    │ sink: a hook (clause 10)
//!                    └────────────────────┘ allocates, frees, adds capacity
//! ```

mod support;

use std::{
    cell::{Cell, RefCell},
    num::NonZeroUsize,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    rc::Rc,
};

use allocator_api2_02::vec::Vec as Vec2;
use proptest::prelude::*;
use support::{Ground, HEADER, Op, Shadow, align, cases, is_all, len, ops, slice};
use terrace_core::{Allocator, Bridge, GoodSize, Owns, Stats, SystemAllocator};
use terrace_heap::{
    AffixAllocator, ArenaAllocator, BucketizeAllocator, Call, CallOp, DebugAllocator, DebugConfig, FailingAllocator,
    FallbackAllocator, FreeListAllocator, Histograms, LimitAllocator, LockAllocator, LogAllocator, PoolAllocator,
    Pressure, PressureAllocator, SegregateAllocator, Sink, SmpAllocator, StackAllocator, StatsAllocator, StdThreads,
    SyncArena, ZeroedAllocator,
    debug::{Mistake, Report},
};
use terrace_sync::NoSlots;

type Backing = Rc<LogAllocator<FailingAllocator<Rc<Ground>>, Hook>>;
type Block<A> = Vec2<u8, Bridge<Rc<A>>>;

/// Does what it was told to, in the middle of the calls of that name, but never in the middle of itself.
#[derive(Default)]
struct Hook {
    plan: RefCell<Option<Plan>>,
}

/// The name of a call, and what to do in the middle of it.
type Plan = (&'static str, Box<dyn FnMut() -> Then>);

/// Whether a hook is done.
#[derive(PartialEq)]
enum Then {
    Done,
    Again,
}

const ANY: &str = "any";

impl Sink for Hook {
    fn record(&self, call: &Call) {
        let name = match call.op {
            CallOp::Alloc { .. } => "alloc",
            CallOp::Resize { granted: true, .. } => "grown",
            CallOp::Resize { granted: false, .. } => "refused",
            CallOp::Free { .. } => "free",
            _ => return,
        };
        let due = self.plan.borrow_mut().take_if(|(at, _)| *at == name || *at == ANY);
        if let Some((at, mut action)) = due
            && action() == Then::Again
        {
            *self.plan.borrow_mut() = Some((at, action));
        }
    }
}

fn hooked(ground: &Rc<Ground>) -> Backing {
    Rc::new(LogAllocator::new(FailingAllocator::new(Rc::clone(ground)), Hook::default()))
}

/// In the middle of the next call of that name, once.
fn at_next(backing: &Backing, call: &'static str, action: impl FnOnce() + 'static) {
    let mut action = Some(action);
    let once = move || {
        action.take().into_iter().for_each(|action| action());
        Then::Done
    };
    *backing.sink().plan.borrow_mut() = Some((call, Box::new(once)));
}

fn done(backing: &Backing) {
    assert!(backing.sink().plan.take().is_none(), "the hook was not reached: this test shows nothing");
}

/// In regions of 256 KiB, so that a program reaches small, medium and large blocks.
type Smp = SmpAllocator<Backing, NoSlots, { 256 << 10 }>;

fn smp(backing: Backing) -> Smp {
    SmpAllocator::with_region_size(backing, NoSlots)
}

/// A block of `bytes` bytes, all `fill`, in the hands of safe code.
fn block<A: Allocator>(allocator: &Rc<A>, bytes: usize, fill: u8) -> Block<A> {
    let mut block = Vec2::with_capacity_in(bytes, Bridge::new(Rc::clone(allocator)));
    block.resize(bytes, fill);
    block
}

fn range<A: Allocator>(block: &Block<A>) -> Range<usize> {
    let start = block.as_ptr().addr();
    start..start + block.capacity()
}

/// Room for `bytes` bytes that lies where it may: in the allocator's own memory and in nobody else's block.
fn room_apart<A: Allocator + Owns>(allocator: &Rc<A>, bytes: usize, others: &[&Block<A>]) -> Block<A> {
    let room: Block<A> = Vec2::with_capacity_in(bytes, Bridge::new(Rc::clone(allocator)));
    let Range { start, end } = range(&room);
    for address in [start, end - 1] {
        let address = std::ptr::NonNull::new(std::ptr::without_provenance_mut(address)).unwrap();
        assert!(allocator.owns(address), "a block that reaches out of its node");
    }
    for other in others.iter().map(|other| range(other)) {
        assert!(end <= other.start || other.end <= start, "two live blocks overlap");
    }
    room
}

fn assert_all<A: Allocator>(block: &Block<A>, fill: u8) {
    assert!(block.iter().all(|byte| *byte == fill), "a block's bytes changed");
}

/// So that a node grows, and by no more than it must.
fn grant_no_more_than(ground: &Ground, bytes: usize) {
    ground.stock.set(Some(ground.held() + bytes));
}

/// The top lies below the newest node, which is empty and grows just then: freeing it would make the node a spare, and
/// the older one's end be set to the newest's.
#[test]
fn a_stack_whose_top_is_freed_while_its_newest_node_grows() {
    let ground = Rc::new(Ground::roomy());
    let backing = hooked(&ground);
    let stack = Rc::new(StackAllocator::new(Rc::clone(&backing)));
    let below = block(&stack, 100, 1);
    ground.refuse_in.set(1);
    drop(block(&stack, 1000, 2));
    assert_eq!(ground.blocks(), 2, "a newest node without a block");
    grant_no_more_than(&ground, 1000);
    at_next(&backing, "grown", move || drop(below));
    let asked = room_apart(&stack, 2000, &[]);
    done(&backing);
    let next = room_apart(&stack, 500, &[&asked]);
    drop((next, asked));
    assert_eq!((stack.used_bytes(), stack.held_bytes()), (0, ground.held()));
}

/// While the first region comes, a hook makes the table of slots, and takes the last block of the first slab.
#[test]
fn an_smp_whose_first_block_is_a_hooks() {
    let ground = Rc::new(Ground::default());
    let backing = hooked(&ground);
    let smp = Rc::new(smp(Rc::clone(&backing)));
    let (inner, kept) = (Rc::clone(&smp), Rc::new(RefCell::new(Vec::new())));
    let keep = Rc::clone(&kept);
    at_next(&backing, "alloc", move || keep.borrow_mut().extend((1..40).map(|fill| block(&inner, 1000, fill))));
    let first = block(&smp, 1000, 0);
    done(&backing);
    for (fill, block) in (1..40).zip(kept.borrow().iter()) {
        assert_all(block, fill);
    }
    assert_all(&first, 0);
    kept.take();
    drop(first);
    smp.trim();
    let out = |class| smp.class_stats(class).map(|stats| stats.blocks_out);
    assert_eq!((0..).map_while(out).sum::<usize>(), 0);
}

/// While the book's table is made, a hook enters more blocks than were asked room for; while a region goes back it trims.
#[test]
fn an_smp_whose_book_a_hook_fills() {
    let ground = Rc::new(Ground::default());
    let backing = hooked(&ground);
    let smp = Rc::new(smp(Rc::clone(&backing)));
    let mut blocks: Vec<_> = (0..24).map(|fill| block(&smp, 100_000, fill)).collect();
    let (inner, kept) = (Rc::clone(&smp), Rc::new(RefCell::new(Vec::new())));
    let keep = Rc::clone(&kept);
    // The block of the request first, then the table that it needs.
    at_next(&backing, "alloc", move || keep.borrow_mut().extend((24..80).map(|fill| block(&inner, 100_000, fill))));
    blocks.push(block(&smp, 100_000, 80));
    done(&backing);
    blocks.splice(24..24, kept.take());
    for (fill, block) in (0..).zip(&blocks) {
        assert_all(block, fill);
    }
    let inner = Rc::clone(&smp);
    at_next(&backing, "free", move || inner.trim());
    drop(blocks);
    done(&backing);
    drop(block(&smp, 40_000, 1));
    let inner = Rc::clone(&smp);
    at_next(&backing, "free", move || drop((block(&inner, 40_000, 2), block(&inner, 10, 3))));
    smp.trim();
    done(&backing);
}

/// As above, over dead blocks in several nodes, which would go back to the backing while one of them grows.
#[test]
fn a_stack_that_is_emptied_over_several_nodes_while_the_newest_grows() {
    let ground = Rc::new(Ground::roomy());
    let backing = hooked(&ground);
    let stack = Rc::new(StackAllocator::new(Rc::clone(&backing)));
    let mut blocks = Vec::new();
    for bytes in [100, 1000, 10_000, 100_000] {
        ground.refuse_in.set(1);
        blocks.push(block(&stack, bytes, 3));
    }
    ground.refuse_in.set(0);
    let (newest, top) = (blocks.pop(), blocks.pop());
    blocks.truncate(1); // The one between waits.
    drop(newest);
    let kept = blocks.pop().unwrap();
    grant_no_more_than(&ground, 100_000);
    at_next(&backing, "grown", move || drop(top));
    let asked = room_apart(&stack, 200_000, &[&kept]);
    done(&backing);
    assert_all(&kept, 3);
    drop(asked);
    drop(kept);
    assert_eq!((stack.used_bytes(), stack.held_bytes()), (0, ground.held()));
}

/// An empty node goes back when a larger one has come; the block that was asked for is made in between.
#[test]
fn a_stack_that_a_hook_fills_and_empties_while_a_node_goes_back() {
    let ground = Rc::new(Ground::default());
    let backing = hooked(&ground);
    let stack = Rc::new(StackAllocator::new(Rc::clone(&backing)));
    drop(block(&stack, 100, 1));
    let hook = Rc::clone(&stack);
    at_next(&backing, "free", move || drop(block(&hook, 8, 2)));
    let asked = block(&stack, 1000, 3);
    done(&backing);
    let next = room_apart(&stack, 100, &[&asked]);
    drop((next, asked));
    assert_eq!((stack.used_bytes(), stack.held_bytes()), (0, ground.held()));
}

/// As above, but the hook keeps its block: it must not go with the one that was asked for.
#[test]
fn a_block_that_a_hook_made_is_older_than_the_one_that_was_asked_for() {
    let ground = Rc::new(Ground::default());
    let backing = hooked(&ground);
    let stack = Rc::new(StackAllocator::new(Rc::clone(&backing)));
    drop(block(&stack, 100, 1));
    let (hook, kept) = (Rc::clone(&stack), Rc::new(RefCell::new(Vec::new())));
    let keep = Rc::clone(&kept);
    at_next(&backing, "free", move || keep.borrow_mut().push(block(&hook, 8, 2)));
    let asked = block(&stack, 1000, 3);
    done(&backing);
    let kept = kept.take();
    drop(asked);
    let next = room_apart(&stack, 1010, &kept.iter().collect::<Vec<_>>());
    kept.iter().for_each(|block| assert_all(block, 2));
    drop((next, kept));
    assert_eq!((stack.used_bytes(), stack.held_bytes()), (0, ground.held()));
}

/// The older spare goes back when there is a newer one; a hook that makes one of its own then must not lose it.
#[test]
fn a_spare_that_a_hook_leaves_is_not_lost() {
    let ground = Rc::new(Ground::default());
    let backing = hooked(&ground);
    let stack = Rc::new(StackAllocator::new(Rc::clone(&backing)));
    let lowest = block(&stack, 20, 1);
    let low = block(&stack, 8, 1);
    let middle = block(&stack, 1, 1);
    let above = block(&stack, 1000, 2);
    drop((above, middle)); // The larger node is spare.
    let middle = block(&stack, 1, 1);
    drop(block(&stack, 10_000, 2)); // It does not fit there: a third one is empty and the newest.
    assert_eq!(ground.blocks(), 3);
    let hook = Rc::clone(&stack);
    at_next(&backing, "free", move || {
        drop(block(&hook, 50_000, 3));
        drop(low);
    });
    drop(middle);
    done(&backing);
    assert_eq!(stack.held_bytes(), ground.held(), "a node belongs to nobody");
    drop(lowest);
    assert_eq!(stack.used_bytes(), 0);
    drop(stack);
    drop(backing);
    assert_eq!(ground.blocks(), 0);
}

/// A pool that may not grow opens its arena while it is given capacity, for one call at a time.
#[test]
fn a_fixed_pool_that_is_given_capacity_while_it_is_given_capacity() {
    let ground = Rc::new(Ground::roomy());
    let backing = hooked(&ground);
    let pool = Rc::new(PoolAllocator::fixed(Rc::clone(&backing), len(72), align(8)));
    grant_no_more_than(&ground, HEADER + 4 * 72);
    pool.add_capacity(4).unwrap();
    let (hook, inner) = (Rc::clone(&pool), Rc::new(Cell::new(None)));
    let answer = Rc::clone(&inner);
    grant_no_more_than(&ground, 4 * 72);
    at_next(&backing, "grown", move || answer.set(Some(hook.add_capacity(100).is_ok())));
    pool.add_capacity(4).unwrap();
    done(&backing);
    assert_eq!(inner.get(), Some(false), "nothing fits, and the backing is being asked already");
    assert_eq!((pool.free_items(), pool.held_bytes()), (8, ground.held()));
    let items: Vec<_> = (0..8u8).map(|fill| block(&pool, 72, fill)).collect();
    assert!(pool.alloc(len(72), align(8)).is_err(), "closed again");
    items.iter().zip(0..).for_each(|(item, fill)| assert_all(item, fill));
}

/// What was to be made room for fits, since a hook has freed the last block: nothing is to grow, nor to overflow.
#[test]
fn an_arena_whose_last_block_is_freed_while_more_is_refused() {
    for refused in ["refused", "alloc"] {
        let ground = Rc::new(Ground::roomy());
        let backing = hooked(&ground);
        let arena = Rc::new(ArenaAllocator::with_capacity(Rc::clone(&backing), len(1000)).unwrap());
        let kept = block(&arena, 100, 1);
        let last = block(&arena, 800, 2);
        grant_no_more_than(&ground, 0);
        at_next(&backing, refused, move || drop(last));
        let asked = room_apart(&arena, 500, &[&kept]);
        done(&backing);
        ground.stock.set(None);
        drop(asked);
        assert_eq!((arena.used_bytes(), arena.held_bytes()), (100, ground.held()));
        assert_all(&kept, 1);
    }
}

/// Zeroes of the backing are only as fresh as nobody has used them.
#[test]
fn a_new_nodes_zeroes_that_a_hook_has_used_are_zeroed_again() {
    let ground = Rc::new(Ground::default());
    let backing = hooked(&ground);
    let arena = Rc::new(ArenaAllocator::new(Rc::clone(&backing)));
    drop(block(&arena, 100, 1));
    let hook = Rc::clone(&arena);
    at_next(&backing, "free", move || drop(block(&hook, 200, 0xFF)));
    let zeroes = arena.alloc_zeroed(len(1000), align(1)).unwrap();
    done(&backing);
    // SAFETY: live with so many bytes, all initialised by the contract.
    assert!(is_all(unsafe { slice(zeroes, 1000).as_ref() }, 0));
}

/// A request that no node could hold behind what the newest one has seen is a matter for another node.
#[test]
fn a_shared_arena_gets_over_requests_that_are_far_too_large() {
    let arena = SyncArena::new(SystemAllocator);
    arena.alloc(len(100), align(8)).unwrap();
    for far_too_large in [isize::MAX as usize - 8192, usize::MAX, isize::MAX as usize] {
        assert!(arena.alloc(len(far_too_large), align(8)).is_err());
        arena.alloc(len(100_000), align(8)).unwrap();
    }
}

#[test]
fn a_good_size_is_one_that_a_block_can_have() {
    let pool = PoolAllocator::new(SystemAllocator, NonZeroUsize::MAX, align(8));
    assert_eq!(pool.good_size(len(10), align(1)), len(10));
    assert!(pool.alloc(len(10), align(1)).is_err());
}

/// A random program, and another one of which three steps are taken in the middle of every call of the backing.
#[derive(Clone, Debug)]
struct Programs {
    outside: Vec<Op>,
    inside: Vec<Op>,
    roomy: bool,
    refused_per_million: u32,
    seed: u64,
}

fn programs(longest: usize) -> impl Strategy<Value = Programs> {
    let refused = prop_oneof![Just(0), Just(100_000), Just(500_000)];
    (ops(longest), ops(longest), any::<bool>(), refused, any::<u64>()).prop_map(
        |(outside, inside, roomy, refused_per_million, seed)| Programs {
            outside,
            inside,
            roomy,
            refused_per_million,
            seed,
        },
    )
}

/// Runs both over the same allocator; `besides` is what else safe code may call at any time.
fn come_back<A: Allocator + 'static>(
    programs: Programs,
    make: impl FnOnce(Backing) -> A,
    besides: fn(&A),
    at_the_end: fn(&A, &Ground),
) {
    let ground = Rc::new(if programs.roomy { Ground::roomy() } else { Ground::default() });
    let failing = FailingAllocator::new(Rc::clone(&ground));
    failing.refuse_randomly(programs.refused_per_million, programs.seed);
    let backing = Rc::new(LogAllocator::new(failing, Hook::default()));
    let allocator = Rc::new(make(Rc::clone(&backing)));
    let inner = Rc::new(RefCell::new(Shadow::default()));
    let failed = Rc::new(RefCell::new(None));
    let step = {
        let (allocator, inner, failed) = (Rc::clone(&allocator), Rc::clone(&inner), Rc::clone(&failed));
        let mut ops = programs.inside.into_iter();
        move || {
            let some: Vec<Op> = ops.by_ref().take(3).collect();
            if some.is_empty() {
                return Then::Done;
            }
            let step = || {
                for op in &some {
                    besides(&allocator);
                    inner.borrow_mut().step(&*allocator, op);
                }
            };
            // A panic in a sink would abort: it waits for the end of the call.
            match catch_unwind(AssertUnwindSafe(step)) {
                Ok(()) => Then::Again,
                Err(panic) => {
                    failed.replace(Some(panic));
                    Then::Done
                }
            }
        }
    };
    *backing.sink().plan.borrow_mut() = Some((ANY, Box::new(step)));
    let mut shadow = Shadow::default();
    for op in &programs.outside {
        besides(&allocator);
        shadow.step(&*allocator, op);
        inner.borrow().check();
        if let Some(panic) = failed.take() {
            resume_unwind(panic);
        }
    }
    shadow.free_all(&*allocator);
    backing.sink().plan.take();
    inner.borrow_mut().free_all(&*allocator);
    at_the_end(&allocator, &ground);
    drop((allocator, backing));
    assert_eq!(ground.blocks(), 0, "every node goes back");
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn an_arena_stands_a_hook_that_comes_back(programs in programs(3000)) {
        let make = ArenaAllocator::new;
        come_back(programs, make, |arena| _ = arena.checkpoint(), |arena, ground| {
            assert_eq!(arena.held_bytes(), ground.held());
        });
    }

    #[test]
    fn a_stack_stands_a_hook_that_comes_back(programs in programs(3000)) {
        let make = StackAllocator::new;
        come_back(programs, make, |stack| _ = (stack.mark(), stack.used_bytes()), |stack, ground| {
            assert_eq!((stack.held_bytes(), stack.used_bytes(), stack.waiting_blocks()), (ground.held(), 0, 0));
        });
    }

    #[test]
    fn a_pool_stands_a_hook_that_comes_back(programs in programs(64), item in 1usize..80, fixed in any::<bool>()) {
        let make = |backing| (if fixed { PoolAllocator::fixed } else { PoolAllocator::new })(backing, len(item), align(8));
        let besides = |pool: &PoolAllocator<Backing>| _ = pool.add_capacity(pool.free_items() % 3);
        come_back(programs, make, besides, |pool, ground| assert_eq!(pool.held_bytes(), ground.held()));
    }

    #[test]
    fn smp_stands_a_hook_that_comes_back(programs in programs(400_000)) {
        let besides = |smp: &Smp| {
            smp.trim();
            smp.purge_idle();
        };
        come_back(programs, smp, besides, |_, _| ());
    }

    #[test]
    fn a_free_list_stands_a_hook_that_comes_back(programs in programs(3000), most in 0usize..6) {
        let make = |backing| FreeListAllocator::new(backing, 20..=300, most);
        come_back(programs, make, FreeListAllocator::trim, |list, ground| {
            assert_eq!(list.kept_blocks(), ground.blocks());
        });
    }

    #[test]
    fn a_limit_and_values_around_blocks_stand_a_hook_that_comes_back(programs in programs(3000), limit in 0usize..9000) {
        let make = |backing| LimitAllocator::new(AffixAllocator::new(backing, 7u64, 8u16), limit);
        let within = |limited: &LimitAllocator<_>| assert!(limited.used_bytes() <= limited.limit());
        come_back(programs, make, within, |limited, ground| {
            assert_eq!((limited.used_bytes(), ground.blocks()), (0, 0));
        });
    }

    #[test]
    fn a_lock_and_its_counts_stand_a_hook_that_comes_back(programs in programs(3000)) {
        let make = |backing| LockAllocator::new(StatsAllocator::with_histograms(backing, Histograms::<2>::new()));
        let look = |lock: &LockAllocator<_, StdThreads>| assert!(lock.stats().current_bytes <= lock.stats().peak_bytes);
        come_back(programs, make, look, |lock, _| assert_eq!(lock.stats().current_allocations, 0));
    }

    /// Four ways to one backing, each with a hook: whoever routes must route back.
    #[test]
    fn routes_stand_a_hook_that_comes_back(programs in programs(3000), limit in 0usize..9000, threshold in 0usize..3000) {
        let make = |backing: Backing| {
            let arena = ArenaAllocator::new(Rc::clone(&backing));
            arena.set_limit(limit);
            let small = BucketizeAllocator::new(len(threshold / 2 + 1), [Rc::clone(&backing), Rc::clone(&backing)]);
            FallbackAllocator::new(arena, SegregateAllocator::new(threshold, small, ZeroedAllocator::new(backing)))
        };
        come_back(programs, make, |_| (), |_, _| ());
    }

    #[test]
    fn pressure_stands_a_hook_that_comes_back(programs in programs(3000), threshold in 0usize..5000) {
        let make = |backing| PressureAllocator::with_threshold(backing, threshold, move |_: &Pressure| threshold.is_multiple_of(2));
        come_back(programs, make, PressureAllocator::collected, |heap, _| assert_eq!(heap.live_bytes(), 0));
    }

    #[test]
    fn the_records_of_blocks_stand_a_hook_that_comes_back(
        programs in programs(3000),
        quarantine in prop_oneof![Just(0usize), 0usize..9000, Just(usize::MAX)],
        canaries in 0usize..40,
        (retain_metadata, enable_safety, limited) in any::<(bool, bool, bool)>(),
    ) {
        let memory_limit = limited.then_some(9000);
        let config =
            DebugConfig { quarantine, canaries, retain_metadata, enable_safety, memory_limit, ..DebugConfig::new() };
        let calm = |report: &Report| assert_eq!(report.mistake, Mistake::Leak);
        let besides = |debug: &DebugAllocator<_, _>| {
            debug.trim();
            assert_eq!(debug.check_for_leaks().mistakes, 0);
        };
        come_back(programs, |backing| DebugAllocator::with_handler(backing, config, calm), besides, |debug, _| {
            assert_eq!((debug.stats().current_bytes, debug.check_for_leaks().is_clean()), (0, true));
        });
    }

    #[test]
    fn a_shared_arena_stands_a_hook_that_comes_back(programs in programs(3000)) {
        come_back(programs, SyncArena::new, |arena| drop(format!("{arena:?}")), |_, _| ());
    }
}
