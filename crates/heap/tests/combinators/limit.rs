//! `LimitAllocator`: exact sums, refusals that change nothing, threads at the limit.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use proptest::prelude::*;
use terrace_core::{Allocator, BulkFree, Reset, ResetMode, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, LimitAllocator, PoolAllocator, StatsAllocator};

use crate::{
    Hook,
    support::{Ground, Shadow, align, cases, len, ops, slice},
};

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn the_sum_is_exact_and_never_above_the_limit(
        program in ops(3000), roomy in any::<bool>(), refuse in 0usize..20, limit in 0usize..10_000,
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let limited = LimitAllocator::new(&ground, limit);
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&limited, op);
            prop_assert_eq!(limited.used_bytes(), shadow.live.iter().map(|block| block.memory.len()).sum::<usize>());
            prop_assert_eq!(limited.used_bytes(), ground.held());
            prop_assert!(ground.most_held.get() <= limit);
        }
        shadow.free_all(&limited);
        prop_assert_eq!(limited.used_bytes(), 0);
    }
}

#[test]
fn the_last_byte_is_served_and_the_next_one_refused_without_asking_the_backing() {
    let ground = Ground::roomy();
    let limited = LimitAllocator::new(&ground, 100);
    let block = limited.alloc(len(60), align(1)).unwrap();
    assert!(limited.alloc(len(41), align(1)).is_err());
    assert!(limited.alloc_zeroed(len(41), align(1)).is_err());
    let memory = slice(block, 60);
    // SAFETY: live.
    assert!(!unsafe { limited.resize(memory, align(1), len(101)) });
    // SAFETY: live.
    assert!(unsafe { limited.remap(memory, align(1), len(101)) }.is_none());
    assert_eq!((ground.allocs.get(), ground.resizes.get()), (1, 0));
    // SAFETY: live.
    assert!(unsafe { limited.resize(memory, align(1), len(100)) });
    assert_eq!(limited.used_bytes(), 100);
    // SAFETY: live.
    assert!(unsafe { limited.resize(slice(block, 100), align(1), len(1)) });
    assert_eq!(limited.used_bytes(), 1);
    // SAFETY: live, and not used again.
    unsafe { limited.free(slice(block, 1), align(1)) };
}

#[test]
fn a_sum_that_would_overflow_is_refused() {
    let ground = Ground::roomy();
    let limited = LimitAllocator::new(&ground, usize::MAX);
    let block = limited.alloc(len(8), align(8)).unwrap();
    assert!(limited.alloc(len(usize::MAX), align(1)).is_err());
    // SAFETY: live.
    assert!(!unsafe { limited.resize(slice(block, 8), align(8), len(usize::MAX)) });
    assert_eq!(limited.used_bytes(), 8);
    // SAFETY: live, and not used again.
    unsafe { limited.free(slice(block, 8), align(8)) };
}

#[test]
fn a_lower_limit_ends_nothing_and_refuses_what_asks_for_more() {
    let ground = Ground::roomy();
    let limited = LimitAllocator::new(&ground, 100);
    let block = limited.alloc(len(80), align(1)).unwrap();
    limited.set_limit(10);
    assert!(limited.alloc(len(1), align(1)).is_err());
    // SAFETY: live.
    assert!(unsafe { limited.resize(slice(block, 80), align(1), len(79)) }, "a shrink asks for nothing");
    // SAFETY: live, and not used again.
    unsafe { limited.free(slice(block, 79), align(1)) };
    let block = limited.alloc(len(10), align(1)).unwrap();
    // SAFETY: live, and not used again.
    unsafe { limited.free(slice(block, 10), align(1)) };
}

#[test]
fn blocks_that_end_together_are_no_longer_counted() {
    let mut limited = LimitAllocator::new(ArenaAllocator::new(SystemAllocator), 100);
    limited.alloc(len(100), align(1)).unwrap();
    assert!(limited.reset(ResetMode::RetainCapacity));
    assert_eq!(limited.used_bytes(), 0);
    let pool = LimitAllocator::new(PoolAllocator::new(SystemAllocator, len(64), align(8)), 200);
    let blocks = [10, 20, 30].map(|bytes| slice(pool.alloc(len(bytes), align(1)).unwrap(), bytes));
    assert_eq!(pool.used_bytes(), 60);
    // SAFETY: live, each once, and not used again.
    unsafe { pool.bulk_free(&blocks[..2], align(1)) };
    assert_eq!(pool.used_bytes(), 30);
    // SAFETY: live, and not used again.
    unsafe { pool.free(blocks[2], align(1)) };
}

/// The backing counts what it holds; four threads ask for more than there is.
#[test]
fn threads_at_the_limit_never_pass_it() {
    let backing = StatsAllocator::new(SystemAllocator);
    let limited = LimitAllocator::new(&backing, 3000);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..5000 {
                    let bytes = 1 + n * 7 % 2000;
                    if let Ok(block) = limited.alloc(len(bytes), align(8)) {
                        // SAFETY: live, and not used again.
                        unsafe { limited.free(slice(block, bytes), align(8)) };
                    }
                }
            });
        }
    });
    assert!(backing.stats().peak_bytes <= 3000, "{}", backing.stats().peak_bytes);
    assert_eq!(limited.used_bytes(), 0);
}

/// In the middle of the call that takes the last bytes, a hook asks for one more.
#[test]
fn a_hook_that_comes_back_does_not_get_the_room_of_the_call_under_way() {
    let hook = Hook::default();
    let limited = Arc::new(LimitAllocator::new(hook.over_system(), 100));
    let (above, refused) = (Arc::clone(&limited), Arc::new(Mutex::new(None)));
    let answer = Arc::clone(&refused);
    hook.at_next_call(move || *answer.lock().unwrap() = Some(above.alloc(len(1), align(1)).is_err()));
    let block = limited.alloc(len(100), align(1)).unwrap();
    assert_eq!(*refused.lock().unwrap(), Some(true));
    // SAFETY: live, and not used again.
    unsafe { limited.free(slice(block, 100), align(1)) };
    assert_eq!(limited.used_bytes(), 0);
}
