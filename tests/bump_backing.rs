//! Somebody else's allocator under ours: a `bumpalo::Bump`, through `Api2Backing`, under the arena, the pool and the stack.
//!
//! The judge is the testkit: the conformance suite and its random programs, each step checked against the contract. In
//! the others the monitor stands between ours and the bump, so that what goes down is checked too (clause 11).

use std::num::NonZeroUsize;

use allocator_api2_02::{alloc::Global, vec::Vec as Api2Vec};
use bumpalo::Bump;
use hashbrown::{DefaultHashBuilder, HashMap};
use terrace_core::{Alignment, Allocator, Api2Backing, Bridge};
use terrace_heap::{ArenaAllocator, Pool, PoolAllocator, StackAllocator};
use terrace_testkit::{Check, Monitor, Start, conformance};

const ITEM: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Makes ours over a bump of its own, and a monitor between the two.
fn over_a_bump(check: impl FnOnce(&dyn Allocator)) {
    let bump = Bump::new();
    let between = Monitor::backing(Api2Backing::new(&bump));
    check(&between);
    between.assert_clean();
    assert!(between.live().is_empty(), "ours has ended, and everything went back");
}

#[test]
fn a_bump_keeps_the_contract() {
    conformance::all(|_, check| check(&Api2Backing::new(&Bump::new())));
}

#[test]
fn an_arena_over_a_bump_keeps_the_contract() {
    conformance::all(|start: &Start, check: &mut Check<'_>| {
        over_a_bump(|between| {
            let arena = ArenaAllocator::new(between);
            arena.set_limit(start.limit());
            check(&arena);
        });
    });
}

#[test]
fn a_pool_over_a_bump_keeps_the_contract() {
    conformance::random_programs(|_, check| {
        over_a_bump(|between| check(&PoolAllocator::new(between, ITEM, Alignment::of::<u64>())));
    });
}

#[test]
fn a_stack_over_a_bump_keeps_the_contract() {
    conformance::all(|_, check| over_a_bump(|between| check(&StackAllocator::new(between))));
}

/// Theirs that gives memory back, so that a leak of ours is one of the system's, which valgrind and ASan see.
#[test]
fn an_arena_over_an_allocator_api2_global_keeps_the_contract() {
    conformance::all(|_, check| check(&ArenaAllocator::new(Api2Backing::new(Global))));
}

/// Ours takes larger pieces as it grows, so the bump is asked seldom; and collections stand on top.
#[test]
fn a_map_over_an_arena_over_a_bump() {
    let bump = Bump::new();
    let backing = Api2Backing::new(&bump);
    {
        let arena = ArenaAllocator::new(backing);
        let mut squares = HashMap::with_hasher_in(DefaultHashBuilder::default(), &arena);
        let mut numbers = Api2Vec::new_in(&arena);
        for n in 0..10_000u64 {
            squares.insert(n, n * n);
            numbers.push(n);
        }
        assert_eq!((squares[&77], numbers[9_999]), (77 * 77, 9_999));
        assert!(bump.allocated_bytes() >= arena.held_bytes(), "the arena's memory is the bump's");
    }
    let mut after = HashMap::new_in(Bridge::new(backing));
    after.insert(1, 2);
    assert_eq!(after[&1], 2, "the bump serves others meanwhile and afterwards");
}

#[test]
fn a_pool_of_values_over_a_bump_drops_each_once() {
    let (bump, value) = (Bump::new(), std::rc::Rc::new(()));
    let pool = Pool::new(Api2Backing::new(&bump));
    let first: Vec<_> = (0..100).map(|_| pool.create(value.clone()).unwrap()).collect();
    assert_eq!(std::rc::Rc::strong_count(&value), 101);
    let held = bump.allocated_bytes();
    drop(first);
    assert_eq!(std::rc::Rc::strong_count(&value), 1);
    let again: Vec<_> = (0..100).map(|_| pool.create(value.clone()).unwrap()).collect();
    assert_eq!(bump.allocated_bytes(), held, "the places are used again; the bump is not asked");
    drop(again);
    assert_eq!(std::rc::Rc::strong_count(&value), 1);
}
