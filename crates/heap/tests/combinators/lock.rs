//! `LockAllocator`: threads share what is made for one; a hook of the backing may come back.

use std::{
    cell::Cell,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use terrace_core::{Allocator, AllocatorExt, BulkFree, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, LockAllocator, PoolAllocator, StackAllocator, Threads};

use crate::{
    Hook,
    support::{align, len, slice},
};

#[test]
fn threads_share_a_stack_and_lose_nothing() {
    let shared = LockAllocator::new(StackAllocator::new(SystemAllocator));
    thread::scope(|scope| {
        for n in 0..4u8 {
            let shared = &shared;
            scope.spawn(move || {
                for round in 0..500 {
                    let block = shared.dupe(&[n; 40]).unwrap();
                    if round % 7 == 0 {
                        thread::yield_now();
                    }
                    // SAFETY: live, and nobody writes to it.
                    assert_eq!(unsafe { block.as_ref() }, [n; 40]);
                    // SAFETY: live, and not used again.
                    unsafe { shared.free_slice(block) };
                }
            });
        }
    });
    assert!(format!("{shared:?}").contains("held: false"));
}

/// A plain lock would wait for itself: this test would not end.
#[test]
fn a_hook_of_the_backing_that_comes_back_is_let_in() {
    let hook = Hook::default();
    let shared = Arc::new(LockAllocator::new(hook.over_system()));
    let kept = shared.alloc(len(8), align(8)).unwrap();
    let above = Arc::clone(&shared);
    hook.at_next_call(move || {
        let block = above.alloc(len(24), align(8)).unwrap();
        // SAFETY: live, and not used again.
        unsafe { above.free(slice(block, 24), align(8)) };
        assert!(format!("{above:?}").contains("held: true"), "the inner calls have not unlocked");
    });
    let block = shared.alloc(len(8), align(8)).unwrap();
    assert!(hook.is_done());
    assert!(format!("{shared:?}").contains("held: false"));
    for block in [kept, block] {
        // SAFETY: live, and not used again.
        unsafe { shared.free(slice(block, 8), align(8)) };
    }
}

/// While the holder is inside, and comes back, others wait.
#[test]
fn a_hook_that_comes_back_lets_nobody_else_in() {
    let hook = Hook::default();
    let shared = Arc::new(LockAllocator::new(hook.over_system()));
    let (above, other) = (Arc::clone(&shared), Arc::clone(&shared));
    let served = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&served);
    let (started, starts) = std::sync::mpsc::channel();
    let (told, hears) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        starts.recv().unwrap();
        told.send(()).unwrap();
        let block = other.alloc(len(8), align(8)).unwrap();
        served.store(1, Ordering::SeqCst);
        // SAFETY: live, and not used again.
        unsafe { other.free(slice(block, 8), align(8)) };
    });
    hook.at_next_call(move || {
        started.send(()).unwrap();
        hears.recv().unwrap();
        for _ in 0..100 {
            let block = above.alloc(len(8), align(8)).unwrap();
            // SAFETY: live, and not used again.
            unsafe { above.free(slice(block, 8), align(8)) };
            thread::yield_now();
        }
        assert_eq!(seen.load(Ordering::SeqCst), 0, "another thread was let in");
    });
    let block = shared.alloc(len(8), align(8)).unwrap();
    // SAFETY: live, and not used again.
    unsafe { shared.free(slice(block, 8), align(8)) };
    thread.join().unwrap();
}

#[test]
fn questions_resets_and_many_frees_go_through_the_lock() {
    let mut shared = LockAllocator::new(PoolAllocator::new(SystemAllocator, len(64), align(8)));
    let blocks = [1, 2, 3].map(|_| slice(shared.alloc(len(64), align(8)).unwrap(), 64));
    assert!(shared.owns(blocks[0].cast()));
    // SAFETY: live, each once, and not used again.
    unsafe { shared.bulk_free(&blocks, align(8)) };
    assert!(shared.reset(ResetMode::FreeAll));
    assert!(!shared.owns(blocks[0].cast()));
    let block = shared.alloc(len(64), align(8)).unwrap();
    // SAFETY: live, and not used again.
    unsafe { shared.free(slice(block, 64), align(8)) };
}

/// As a kernel would number its CPUs.
struct Cpu;

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: each thread of the test below has a number of its own.
unsafe impl Threads for Cpu {
    fn current(&self) -> NonZeroUsize {
        NonZeroUsize::new(CPU.get()).expect("a thread of the test")
    }
}

#[test]
fn callers_may_be_told_apart_by_numbers_of_their_own() {
    let shared = LockAllocator::with_threads(ArenaAllocator::new(SystemAllocator), Cpu);
    thread::scope(|scope| {
        for number in 1..=3 {
            let shared = &shared;
            scope.spawn(move || {
                CPU.set(number);
                (0..200).for_each(|_| _ = shared.dupe(&[number; 10]).unwrap());
            });
        }
    });
}
