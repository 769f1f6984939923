//! What a monitor tells of a program and of the allocator below, and that misuse goes no further.

use std::{
    cell::Cell,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    sync::Mutex,
    thread,
};

use terrace_core::{
    Alignment, AllocError, Allocator, AllocatorExt, BulkFree, GoodSize, Owns, Reset, ResetMode, Stats, SystemAllocator,
};
use terrace_heap::{ArenaAllocator, FixedBufferAllocator, StatsAllocator};
use terrace_testkit::{Block, Breach, Buffer, Finding, Monitor, Role};

fn len(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).unwrap()
}

fn align(bytes: usize) -> Alignment {
    Alignment::new(bytes).unwrap()
}

fn slice(block: NonNull<u8>, bytes: usize) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(block, bytes)
}

#[test]
fn misuse_by_the_program_breaks_clause_1_and_goes_no_further() {
    let counted = StatsAllocator::new(SystemAllocator);
    let watched = Monitor::new(&counted);
    let block = watched.alloc(len(24), align(8)).unwrap();
    // SAFETY: none of these is right, and none reaches the allocator, which is what is tested.
    unsafe {
        watched.free(slice(block, 23), align(8));
    }
    // SAFETY: as above.
    unsafe { watched.free(slice(block, 24), align(16)) };
    // SAFETY: as above.
    assert!(unsafe { !watched.resize(slice(block, 25), align(8), len(30)) });
    // SAFETY: as above.
    assert!(unsafe { watched.remap(slice(NonNull::dangling(), 1), align(1), len(30)) }.is_none());
    assert_eq!(counted.stats().current_allocations, 1);
    // SAFETY: live, and not used again but to be refused.
    unsafe { watched.free(slice(block, 24), align(8)) };
    assert_eq!(counted.stats().current_allocations, 0);
    // SAFETY: it is not live, and the monitor keeps that from the allocator.
    unsafe { watched.free(slice(block, 24), align(8)) };
    let found = watched.breaches();
    assert!(found.iter().all(|breach| breach.clause == 1));
    let live = Block { address: block.addr().get(), len: 24, alignment: align(8) };
    assert!(matches!(found[0].finding, Finding::Mistaken { block, live: l } if block.len == 23 && l == live));
    assert!(matches!(found[1].finding, Finding::Mistaken { .. }));
    assert!(matches!(found[2].finding, Finding::Mistaken { .. }));
    assert!(matches!(found[3].finding, Finding::NotLive { .. }));
    assert!(matches!(found[4].finding, Finding::NotLive { block } if block == live));
    assert_eq!(found.len(), 5);
}

#[test]
fn the_same_misuse_by_a_layer_breaks_clause_11_and_names_the_line() {
    let watched = Monitor::backing(SystemAllocator);
    // SAFETY: it is not live, and the monitor keeps that from the allocator.
    unsafe { watched.free(slice(NonNull::dangling(), 1), align(1)) };
    let line = line!() - 1;
    let [breach] = watched.breaches()[..] else { panic!("one breach") };
    assert_eq!((breach.clause, breach.site.file(), breach.site.line()), (11, file!(), line));
    let text = breach.to_string();
    assert!(text.starts_with("clause 11 (Discipline): 0x1 (1 bytes, alignment 1) is not live here"), "{text}");
}

#[test]
fn what_a_layer_keeps_when_it_goes_is_a_breach() {
    let backing = Monitor::backing(SystemAllocator);
    let reports = backing.reports();
    let block = backing.alloc(len(10), align(1)).unwrap();
    drop(backing);
    let [breach] = reports.breaches()[..] else { panic!("one breach") };
    assert!(matches!(breach.finding, Finding::NotReturned { block } if block.len == 10));
    assert!(catch_unwind(|| reports.assert_clean()).is_err());
    // SAFETY: live in the system's allocator still.
    unsafe { SystemAllocator.free(slice(block, 10), align(1)) };
}

#[test]
fn a_handler_of_ones_own_hears_each_breach_at_once() {
    let heard = Mutex::new(Vec::new());
    let watched = Monitor::with_handler(SystemAllocator, Role::Top, |breach: &Breach| {
        heard.lock().unwrap().push(breach.clause);
    });
    // SAFETY: it is not live, and the monitor keeps that from the allocator.
    unsafe { watched.free(slice(NonNull::dangling(), 1), align(1)) };
    assert_eq!(*heard.lock().unwrap(), [1]);
}

/// Panics at every call but `free`, or denies what it owns.
struct Loud;

// SAFETY: it hands out nothing.
unsafe impl Allocator for Loud {
    fn alloc(&self, _: NonZeroUsize, _: Alignment) -> Result<NonNull<u8>, AllocError> {
        panic!("loud")
    }

    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, _: NonNull<[u8]>, _: Alignment) {}
}

#[test]
fn an_unwinding_allocator_breaks_clause_10_and_the_panic_goes_on() {
    let watched = Monitor::new(Loud);
    let unwound = catch_unwind(AssertUnwindSafe(|| watched.alloc(len(1), align(1))));
    assert!(unwound.is_err());
    let [breach] = watched.breaches()[..] else { panic!("one breach") };
    assert_eq!(breach.clause, 10);
    assert!(matches!(breach.finding, Finding::Unwound { call: "alloc" }));
}

/// A system allocator that denies what it owns, says so of bulk frees, and rounds sizes up.
#[derive(Default)]
struct Denies {
    bulk: Cell<usize>,
}

// SAFETY: every call goes to the system's allocator.
unsafe impl Allocator for Denies {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        SystemAllocator.alloc(len, alignment)
    }

    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.free(memory, alignment) }
    }
}

// SAFETY: it does not keep its promise, which is what is tested; nothing rests on it.
unsafe impl Owns for Denies {
    fn owns(&self, _: NonNull<u8>) -> bool {
        false
    }
}

// SAFETY: the answer is at least `len`.
unsafe impl GoodSize for Denies {
    fn good_size(&self, len: NonZeroUsize, _: Alignment) -> NonZeroUsize {
        len.saturating_add(1)
    }
}

impl BulkFree for Denies {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        self.bulk.set(self.bulk.get() + blocks.len());
        for &block in blocks {
            // SAFETY: the caller's promise, passed on unchanged.
            unsafe { self.free(block, alignment) };
        }
    }
}

#[test]
fn capabilities_pass_through_and_are_judged() {
    let backing = Denies::default();
    let watched = Monitor::new(&backing);
    assert_eq!(watched.good_size(len(7), align(1)), len(8));
    let blocks = [1, 2].map(|bytes| slice(watched.alloc(len(bytes), align(1)).unwrap(), bytes));
    assert!(!watched.owns(blocks[1].cast()));
    assert!(!watched.owns(NonNull::dangling()), "which it does not own indeed");
    assert!(matches!(watched.breaches()[..], [Breach { clause: 1, finding: Finding::NotOwned { .. }, .. }]));
    // SAFETY: the first two are live, the third is kept back by the monitor.
    unsafe { watched.bulk_free(&[blocks[0], blocks[1], slice(NonNull::dangling(), 1)], align(1)) };
    assert_eq!((backing.bulk.get(), watched.breaches().len()), (2, 2));
    assert!(watched.live().is_empty());
}

#[test]
fn after_a_reset_nothing_is_live() {
    let mut buffer = Buffer::new(64, 3);
    let mut watched = Monitor::new(FixedBufferAllocator::new(buffer.bytes()));
    for mode in [ResetMode::FreeAll, ResetMode::RetainCapacity] {
        watched.alloc(len(60), align(1)).unwrap();
        assert!(watched.alloc(len(60), align(1)).is_err());
        assert!(watched.reset(mode));
        assert!(watched.live().is_empty());
    }
    watched.assert_clean();
}

#[test]
fn threads_may_race_through_a_monitor() {
    let watched = Monitor::new(SystemAllocator);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 1..500 {
                    let bytes = watched.alloc_slice_zeroed::<u8>(n).unwrap();
                    // SAFETY: live, of this allocator; only the answer is used from here on.
                    let bytes = unsafe { watched.realloc_slice(bytes, n * 2) }.unwrap();
                    // SAFETY: live, of this allocator, not used again.
                    unsafe { watched.free_slice(bytes) };
                }
            });
        }
    });
    watched.assert_clean();
    assert!(watched.live().is_empty());
}

#[test]
fn a_block_of_many_mebibytes_is_watched_at_both_ends() {
    let backing = Monitor::backing(terrace_sys::PageAllocator);
    let arena = Monitor::new(ArenaAllocator::new(backing));
    let block = arena.alloc_zeroed(len(40 << 20), align(64)).unwrap();
    // SAFETY: live, of this allocator.
    let grown = unsafe { arena.resize(slice(block, 40 << 20), align(64), len(30 << 20)) };
    assert!(grown, "the last block of an arena shrinks");
    arena.assert_clean();
}
