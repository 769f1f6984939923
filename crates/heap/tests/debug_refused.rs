//! `DebugAllocator` over an arena that refuses some of what the table of records asks for.

mod support;

use std::{cell::Cell, num::NonZeroUsize, ptr::NonNull};

use support::{
    Slow,
    collect::{WORD, block, free},
    len,
};
use terrace_core::{Alignment, AllocError, Allocator, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, DebugAllocator, DebugConfig, FailingAllocator, debug::Report};

type Arena = ArenaAllocator<SystemAllocator>;

/// Refuses the calls of `alloc` whose bits are set, the first call being the lowest.
struct Masked<'a> {
    mask: Cell<u32>,
    backing: &'a Arena,
}

// SAFETY: the arena's own blocks; what is refused does not reach it.
unsafe impl Allocator for Masked<'_> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let refused = self.mask.get() & 1 == 1;
        self.mask.set(self.mask.get() >> 1);
        if refused { Err(AllocError) } else { self.backing.alloc(len, alignment) }
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) };
    }
}

fn no_mistake(report: &Report) {
    assert!(std::thread::panicking(), "{report}");
}

fn figures(arena: &Arena) -> (usize, usize) {
    (arena.held_bytes(), arena.used_bytes())
}

/// A few blocks, with each set of refusals among the first calls of the arena: the tries for the second table are among them.
#[test]
fn a_refused_request_leaves_an_arena_as_it_was_whatever_the_table_was_refused_before() {
    let calls = if cfg!(miri) { 6 } else { 12 };
    let (mut refusals, mut tables) = (0, 0);
    for mask in 0..1u32 << calls {
        for config in [DebugConfig::new(), DebugConfig { memory_limit: Some(1 << 20), ..DebugConfig::new() }] {
            let arena = ArenaAllocator::new(SystemAllocator);
            let masked = Masked { mask: Cell::new(mask), backing: &arena };
            let mut debug = DebugAllocator::with_handler(&masked, config, no_mistake);
            let mut blocks = Vec::new();
            for number in 0..8 {
                let before = figures(&arena);
                match debug.alloc(len(40), WORD) {
                    Ok(block) => blocks.push(NonNull::slice_from_raw_parts(block, 40)),
                    Err(AllocError) => {
                        refusals += 1;
                        assert_eq!(figures(&arena), before, "block {number}, calls refused {mask:b}");
                    }
                }
                assert_eq!(debug.stats().current_allocations, blocks.len() as u64);
            }
            tables += usize::from(blocks.len() > 3);
            for memory in blocks {
                // SAFETY: live, not used again.
                unsafe { free(&debug, memory) };
            }
            assert!(debug.deinit().is_clean());
        }
    }
    assert!(refusals > 0 && tables > 0, "{refusals} {tables}");
}

/// So many blocks that the table grows several times, with one, some or all calls refused from the n-th on.
#[test]
fn a_refused_request_leaves_an_arena_as_it_was_while_the_table_grows() {
    let (mut refusals, most) = (0, if cfg!(miri) { 20 } else { 150 });
    for first in 0..most + 10 {
        for window in [1, 3, 40, u64::MAX - first] {
            let arena = ArenaAllocator::new(SystemAllocator);
            let failing = FailingAllocator::new(&arena);
            failing.refuse_allocs(first..first + window);
            let debug = DebugAllocator::with_handler(&failing, DebugConfig::new(), no_mistake);
            let mut blocks = Vec::new();
            for number in 0..most {
                let before = figures(&arena);
                match debug.alloc(len(40), WORD) {
                    Ok(block) => blocks.push(NonNull::slice_from_raw_parts(block, 40)),
                    Err(AllocError) => {
                        refusals += 1;
                        assert_eq!(figures(&arena), before, "block {number}, refused from {first} on, {window} times");
                    }
                }
            }
            for memory in blocks {
                // SAFETY: live, not used again.
                unsafe { free(&debug, memory) };
            }
        }
    }
    assert!(refusals > 100, "{refusals}");
}

/// What fills the table to the last seat is granted, the next request is refused without a question to the backing, and a free
/// asks for the larger table again.
#[test]
fn a_table_that_was_refused_is_filled_up_and_asked_for_again_at_a_free() {
    for config in [DebugConfig::new(), DebugConfig { quarantine: 0, ..DebugConfig::new() }] {
        let arena = ArenaAllocator::new(SystemAllocator);
        // Block, table, block, table, block, table.
        let masked = Masked { mask: Cell::new(0b10_1010), backing: &arena };
        let debug = DebugAllocator::with_handler(&masked, config, no_mistake);
        let first = block(&debug, 40);
        let rest = [block(&debug, 40), block(&debug, 40)];
        let before = figures(&arena);
        assert!(debug.alloc(len(40), WORD).is_err(), "no seat is left");
        assert_eq!(figures(&arena), before);
        // SAFETY: live, not used again.
        unsafe { free(&debug, first) };
        let more = [(); 60].map(|()| block(&debug, 40));
        for memory in more.into_iter().chain(rest) {
            // SAFETY: live, not used again.
            unsafe { free(&debug, memory) };
        }
    }
}

/// A table that another thread is about to make larger is no reason to refuse.
#[test]
fn many_threads_at_once_are_not_refused_while_the_table_grows() {
    let threads = if cfg!(miri) { 6 } else { 32 };
    let mut debug = DebugAllocator::with_handler(Slow, DebugConfig::new(), no_mistake);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let blocks = [(); 5].map(|()| block(&debug, 40));
                for memory in blocks {
                    // SAFETY: live, not used again.
                    unsafe { free(&debug, memory) };
                }
            });
        }
    });
    assert!(debug.deinit().is_clean());
}
