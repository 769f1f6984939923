//! The failing allocator: exactly the calls named are refused, and a refusal reaches nothing.

mod support;

use allocator_api2_02::vec::Vec as Vec2;
use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Allocator, AllocatorExt, Reset, ResetMode, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, FailingAllocator, StatsAllocator};

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn random_programs_keep_the_contract(
        program in ops(5000), from in 0u64..20, until in 0u64..20, resizes in 0u64..10, per_million in 0u32..500_000, seed in any::<u64>(),
    ) {
        let ground = Ground::roomy();
        let failing = FailingAllocator::new(&ground);
        failing.refuse_allocs(from..until);
        failing.refuse_resizes(resizes..);
        failing.refuse_randomly(per_million, seed);
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&failing, op);
        }
        let reached = (ground.allocs.get() + ground.resizes.get()) as u64;
        prop_assert_eq!(failing.allocs() + failing.resizes(), reached + failing.refusals());
        prop_assert!(ground.resizes.get() as u64 <= resizes);
        shadow.free_all(&failing);
    }

    /// The arena under every refusal that can be drawn: nothing is lost, and refusals change nothing.
    #[test]
    fn an_arena_survives_random_refusals(program in ops(20_000), per_million in 0u32..900_000, seed in any::<u64>()) {
        let ground = Ground::roomy();
        let failing = FailingAllocator::new(&ground);
        failing.refuse_randomly(per_million, seed);
        let arena = ArenaAllocator::new(&failing);
        let mut shadow = Shadow::default();
        for op in &program {
            let (used, live) = (arena.used_bytes(), shadow.live.len());
            shadow.step(&arena, op);
            if matches!(op, Op::Alloc { .. }) && shadow.live.len() == live {
                prop_assert_eq!(arena.used_bytes(), used);
            }
        }
    }
}

/// Which of a hundred calls are refused.
fn refused(failing: &FailingAllocator<SystemAllocator>) -> Vec<bool> {
    let call = |_| match failing.create::<u64>() {
        Ok(item) => {
            // SAFETY: live, and not used again.
            unsafe { failing.destroy(item) };
            false
        }
        Err(_) => true,
    };
    (0..100).map(call).collect()
}

#[test]
fn ranges_name_calls_from_the_first() {
    let expect = |calls: &dyn Fn(usize) -> bool, failing: FailingAllocator<SystemAllocator>| {
        assert_eq!(refused(&failing), (0..100).map(calls).collect::<Vec<_>>());
    };
    let with = |set: &dyn Fn(&FailingAllocator<SystemAllocator>)| {
        let failing = FailingAllocator::new(SystemAllocator);
        set(&failing);
        failing
    };
    expect(&|_| false, with(&|_| ()));
    expect(&|n| n == 7, with(&|failing| failing.refuse_allocs(7..=7)));
    expect(&|n| n >= 7, with(&|failing| failing.refuse_allocs(7..)));
    expect(&|n| n < 7, with(&|failing| failing.refuse_allocs(..7)));
    expect(&|_| true, with(&|failing| failing.refuse_allocs(..)));
    expect(&|_| true, with(&|failing| failing.refuse_randomly(1_000_000, 1)));
    expect(&|_| false, with(&|failing| failing.refuse_randomly(0, 1)));
    expect(
        &|_| false,
        with(&|failing| {
            failing.refuse_allocs(..);
            failing.refuse_allocs(0..0);
        }),
    );
}

#[test]
fn a_seed_draws_the_same_calls_again_and_about_as_many_as_asked() {
    let draw = |seed| {
        let failing = FailingAllocator::new(SystemAllocator);
        failing.refuse_randomly(250_000, seed);
        (0..100).flat_map(|_| refused(&failing)).collect::<Vec<_>>()
    };
    let one = draw(1);
    assert_eq!(one, draw(1));
    assert_ne!(one, draw(2));
    let count = one.iter().filter(|&&refused| refused).count();
    assert!((2200..2800).contains(&count), "{count} of 10,000 refused");
}

#[test]
fn resize_and_remap_share_a_numbering() {
    let ground = Ground::roomy();
    let failing = FailingAllocator::new(&ground);
    failing.refuse_resizes(1..3);
    let block = failing.alloc(len(10), align(1)).unwrap();
    let memory = slice(block, 10);
    // SAFETY: live, of this allocator.
    assert!(unsafe { failing.resize(memory, align(1), len(10)) });
    // SAFETY: live, of this allocator.
    assert!(unsafe { failing.remap(memory, align(1), len(10)) }.is_none());
    // SAFETY: live, of this allocator.
    assert!(unsafe { !failing.resize(memory, align(1), len(10)) });
    // SAFETY: live, of this allocator.
    assert!(unsafe { failing.remap(memory, align(1), len(10)) }.is_some());
    assert_eq!((failing.allocs(), failing.resizes(), failing.refusals()), (1, 4, 2));
    assert_eq!(ground.resizes.get(), 2);
    // SAFETY: live, and not used again.
    unsafe { failing.free(memory, align(1)) };
}

#[test]
fn a_collection_hears_of_the_refusal() {
    let failing = FailingAllocator::new(StatsAllocator::new(SystemAllocator));
    failing.refuse_allocs(3..);
    failing.refuse_resizes(..);
    let mut numbers = Vec2::new_in(&failing);
    let pushed = (0..1000u32).take_while(|&n| numbers.try_reserve(1).map(|()| numbers.push(n)).is_ok()).count();
    assert_eq!((pushed, numbers.len()), (16, 16), "4, 8, 16, and then no more");
    drop(numbers);
    assert_eq!(failing.stats().current_bytes, 0);
}

#[test]
fn a_reset_passes_through() {
    let mut failing = FailingAllocator::new(ArenaAllocator::new(SystemAllocator));
    failing.create::<u64>().unwrap();
    assert!(failing.reset(ResetMode::FreeAll));
}
