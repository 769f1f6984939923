//! The shared arena: its contract, its nodes over a strict backing, and threads at once.

mod support;

use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Alignment, AllocError, Allocator, Owns, ResetMode, SystemAllocator};
use terrace_heap::SyncArena;

proptest! {
    #![proptest_config(cases(1))]

    /// The ground panics where a node comes back otherwise than it went out (clause 11), or never.
    #[test]
    fn random_programs_keep_the_contract(program in ops(100_000), roomy in any::<bool>(), refuse in 0usize..12) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut arena = SyncArena::new(&ground);
        ground.refuse_in.set(refuse);
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&arena, op);
            for block in &shadow.live {
                prop_assert!(arena.owns(block.memory.cast()));
            }
        }
        shadow.live.clear();
        prop_assert_eq!(arena.query_capacity(), ground.held() - ground.blocks() * 3 * size_of::<usize>());
        prop_assert!(arena.reset(ResetMode::FreeAll));
        prop_assert_eq!(ground.blocks(), 0);
    }

    #[test]
    fn reset_retains_what_it_says(program in ops(20_000), limit in 0usize..50_000, roomy in any::<bool>(), refuse in 0usize..4) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut arena = SyncArena::new(&ground);
        for mode in [ResetMode::RetainCapacity, ResetMode::RetainWithLimit(limit), ResetMode::FreeAll] {
            let mut shadow = Shadow::default();
            for op in &program {
                shadow.step(&arena, op);
            }
            let capacity = arena.query_capacity();
            let wanted = match mode {
                ResetMode::FreeAll => 0,
                ResetMode::RetainCapacity => capacity,
                ResetMode::RetainWithLimit(limit) => capacity.min(limit) & !1,
            };
            ground.refuse_in.set(refuse);
            let kept = arena.reset(mode);
            ground.refuse_in.set(0);
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
fn a_header_has_three_words() {
    let ground = Ground::default();
    let arena = SyncArena::new(&ground);
    arena.alloc(len(1), align(1)).unwrap();
    // As Zig's arena asks: half again as large as header, alignment, request and 16 bytes together.
    let both = 3 * size_of::<usize>() + 1 + 1 + 16;
    assert_eq!(ground.held(), (both + both / 2).next_multiple_of(2));
}

#[test]
fn a_request_that_did_not_fit_poisons_the_node_until_it_grows() {
    let ground = Ground::default();
    let arena = SyncArena::new(&ground);
    let first = arena.alloc(len(8), align(8)).unwrap();
    ground.refuse_in.set(usize::MAX);
    assert!(arena.alloc(len(1000), align(1)).is_err());
    assert!(arena.alloc(len(1), align(1)).is_err(), "as in Zig: what would have fitted is refused");
    // SAFETY: live, of this arena.
    assert!(unsafe { !arena.resize(slice(first, 8), align(8), len(9)) }, "nor is it the last block any more");
    ground.refuse_in.set(0);
    arena.alloc(len(1), align(1)).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "Miri ends where a system would refuse the memory")]
fn sizes_near_the_end_of_the_address_space_are_refused() {
    let ground = Ground::default();
    let arena = SyncArena::new(&ground);
    for _ in 0..3 {
        for log2 in 0..usize::BITS {
            for bytes in [usize::MAX, usize::MAX - 64, isize::MAX as usize, isize::MAX as usize / 2] {
                assert!(arena.alloc(len(bytes), Alignment::from_log2(log2).unwrap()).is_err());
            }
        }
        // However often it is asked, the end never wraps: what is handed out is memory.
        if let Ok(block) = arena.alloc(len(64), align(8)) {
            assert!(arena.owns(block));
            // SAFETY: live with 64 bytes.
            unsafe { block.write_bytes(1, 64) };
            // SAFETY: live, of this arena.
            assert!(unsafe { !arena.resize(slice(block, 64), align(8), NonZeroUsize::MAX) });
        }
    }
}

#[test]
fn a_large_zeroed_block_of_a_new_node_is_the_backings_zeroes() {
    let arena = SyncArena::new(SystemAllocator);
    let dirty = arena.alloc(len(100), align(1)).unwrap();
    // SAFETY: live with 100 bytes.
    unsafe { dirty.write_bytes(0xD7, 100) };
    // SAFETY: live, and not used again.
    unsafe { arena.free(slice(dirty, 100), align(1)) };
    for bytes in [50, 100_000] {
        let block = arena.alloc_zeroed(len(bytes), align(16)).unwrap();
        // SAFETY: live and initialised by the contract.
        assert!(unsafe { slice(block, bytes).as_ref() }.iter().all(|&byte| byte == 0));
    }
}

/// A block of [`Shared`]: what was agreed, and what lies there.
struct Given {
    start: usize,
    len: usize,
    room: NonZeroUsize,
}

/// std's memory for several threads, half of it held back to grow into; refuses every seventh request and half of the
/// growths.
#[derive(Default)]
struct Shared {
    live: Mutex<Vec<Given>>,
    calls: AtomicUsize,
}

impl Shared {
    fn call(&self) -> usize {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

// SAFETY: std's blocks, each handed out once; a resize stays inside what lies there.
unsafe impl Allocator for Shared {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let room = len.checked_mul(NonZeroUsize::new(2).unwrap()).ok_or(AllocError)?;
        if self.call() % 7 == 6 {
            return Err(AllocError);
        }
        let block = SystemAllocator.alloc(room, alignment)?;
        self.live.lock().unwrap().push(Given { start: block.addr().get(), len: len.get(), room });
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let mut live = self.live.lock().unwrap();
        let given = live.iter_mut().find(|given| given.start == memory.addr().get()).expect("a live block");
        assert_eq!(given.len, memory.len(), "what comes back is what was given");
        let granted = new_len <= given.room && self.call().is_multiple_of(2);
        if granted {
            given.len = new_len.get();
        }
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let mut live = self.live.lock().unwrap();
        let at = live.iter().position(|given| given.start == memory.addr().get()).expect("a live block");
        let given = live.swap_remove(at);
        assert_eq!(given.len, memory.len(), "what comes back is what was given");
        let memory = slice(memory.cast(), given.room.get());
        // SAFETY: made by `alloc` with this length and alignment, and out of the table.
        unsafe { SystemAllocator.free(memory, alignment) };
    }
}

#[test]
fn threads_get_bytes_of_their_own_and_every_node_comes_back() {
    let shared = Shared::default();
    let mut arena = SyncArena::new(&shared);
    for mode in [ResetMode::RetainCapacity, ResetMode::RetainWithLimit(5000), ResetMode::FreeAll] {
        thread::scope(|threads| {
            for seed in 0..4usize {
                let arena = &arena;
                threads.spawn(move || {
                    let mut shadow = Shadow::default();
                    for round in 0..if cfg!(miri) { 4 } else { 300 } {
                        let (len, log2) = (1 + (round * 37 + seed * 11) % 400, (round % 8) as u32);
                        shadow.step(arena, &Op::Alloc { len, log2, zeroed: round % 5 == 0 });
                        shadow.step(arena, &Op::Resize { index: round, len: 1 + (round * 5) % 500 });
                        if round % 3 != 0 {
                            shadow.step(arena, &Op::Free { index: round * 3 + seed });
                        }
                    }
                });
            }
        });
        arena.reset(mode);
        assert!(shared.live.lock().unwrap().len() <= 2, "one node a list is kept");
    }
    assert!(shared.live.lock().unwrap().is_empty());
}
