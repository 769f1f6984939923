//! A program whose global allocator is one of ours: this test binary itself, its harness and its threads included.

use std::{
    alloc::{GlobalAlloc, Layout},
    collections::HashMap,
    num::NonZeroUsize,
    ptr::{self, NonNull},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use terrace_core::{Alignment, AllocError, Allocator, AsGlobal, SystemAllocator};

/// The system's blocks, rounded up to a power of two of at least 64 bytes, so that a length changes in place within it.
struct Roomy {
    allocs: AtomicUsize,
    zeroed: AtomicUsize,
    resized: AtomicUsize,
    frees: AtomicUsize,
    /// Calls with a length or alignment that no block has.
    odd: AtomicUsize,
}

impl Roomy {
    const fn new() -> Self {
        let [allocs, zeroed, resized, frees, odd] = [const { AtomicUsize::new(0) }; 5];
        Self { allocs, zeroed, resized, frees, odd }
    }

    fn live(&self) -> usize {
        let made = self.allocs.load(Ordering::SeqCst) + self.zeroed.load(Ordering::SeqCst);
        made - self.frees.load(Ordering::SeqCst)
    }

    fn room(&self, len: usize) -> Option<NonZeroUsize> {
        if len > isize::MAX as usize / 2 {
            return None;
        }
        NonZeroUsize::new(len.max(64).next_power_of_two())
    }
}

// SAFETY: every block is the system's, at least as long as asked; its length in the system is `room` of any length
// that it has had, since `resize` grants only lengths of the same room.
unsafe impl Allocator for Roomy {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = SystemAllocator.alloc(self.room(len.get()).ok_or(AllocError)?, alignment)?;
        self.allocs.fetch_add(1, Ordering::SeqCst);
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let granted = self.room(memory.len()) == self.room(new_len.get());
        self.resized.fetch_add(usize::from(granted), Ordering::SeqCst);
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.frees.fetch_add(1, Ordering::SeqCst);
        let Some(room) = self.room(memory.len()) else {
            self.odd.fetch_add(1, Ordering::SeqCst);
            return;
        };
        // SAFETY: the system's block has this length, given up by the caller.
        unsafe { SystemAllocator.free(NonNull::slice_from_raw_parts(memory.cast(), room.get()), alignment) };
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = SystemAllocator.alloc_zeroed(self.room(len.get()).ok_or(AllocError)?, alignment)?;
        self.zeroed.fetch_add(1, Ordering::SeqCst);
        Ok(block)
    }
}

static ROOMY: Roomy = Roomy::new();

#[global_allocator]
static GLOBAL: AsGlobal<&Roomy> = AsGlobal::new(&ROOMY);

#[test]
fn the_program_runs_on_it() {
    let before = ROOMY.allocs.load(Ordering::SeqCst);
    let boxed = Box::new([7u64; 40]);
    assert!(ROOMY.allocs.load(Ordering::SeqCst) > before, "the box's block is ours");
    let mut map = HashMap::new();
    for n in 0..10_000u32 {
        map.insert(n, n.to_string());
    }
    map.retain(|n, _| n % 100 == 0);
    map.shrink_to_fit();
    assert_eq!((map.len(), map[&9900].as_str(), boxed[39]), (100, "9900", 7));
    assert_eq!(ROOMY.odd.load(Ordering::SeqCst), 0);
}

#[test]
fn threads_free_what_other_threads_allocated() {
    let (send, receive) = mpsc::channel::<Vec<usize>>();
    let receiver = thread::spawn(move || receive.into_iter().flatten().sum::<usize>());
    let senders: Vec<_> = (0..4)
        .map(|thread| {
            let send = send.clone();
            thread::spawn(move || {
                for n in 0..2000 {
                    let mut numbers = vec![thread; n % 50];
                    numbers.push(n);
                    send.send(numbers).unwrap();
                }
            })
        })
        .collect();
    drop(send);
    for sender in senders {
        sender.join().unwrap();
    }
    let expected: usize = (0..4).map(|thread| (0..2000).map(|n| thread * (n % 50) + n).sum::<usize>()).sum();
    assert_eq!(receiver.join().unwrap(), expected);
    assert_eq!(ROOMY.odd.load(Ordering::SeqCst), 0);
}

#[test]
fn a_realloc_is_granted_in_place_and_else_moves_with_its_bytes() {
    let roomy = Roomy::new(); // Of this test alone, so that what it counts is exact.
    let global = AsGlobal::new(&roomy);
    let layout = Layout::from_size_align(10, 2).unwrap();
    // SAFETY: the size is not 0.
    let block = unsafe { global.alloc(layout) };
    // SAFETY: live, 10 bytes.
    unsafe { block.write_bytes(0xA5, 10) };
    // SAFETY: live with `layout`; the new size is not 0.
    let same = unsafe { global.realloc(block, layout, 64) };
    assert_eq!((same, roomy.resized.load(Ordering::SeqCst)), (block, 1));
    let grown = Layout::from_size_align(64, 2).unwrap();
    // SAFETY: live with `grown`; the new size is not 0.
    let moved = unsafe { global.realloc(block, grown, 1000) };
    assert_eq!((roomy.allocs.load(Ordering::SeqCst), roomy.frees.load(Ordering::SeqCst)), (2, 1));
    let moved_layout = Layout::from_size_align(1000, 2).unwrap();
    // SAFETY: live with `moved_layout`; the new size is not 0.
    let shrunk = unsafe { global.realloc(moved, moved_layout, 7) };
    // SAFETY: live, 7 bytes, written above.
    assert_eq!(unsafe { std::slice::from_raw_parts(shrunk, 7) }, [0xA5; 7]);
    // SAFETY: live with this layout, given up here.
    unsafe { global.dealloc(shrunk, Layout::from_size_align(7, 2).unwrap()) };
    assert_eq!((roomy.live(), roomy.odd.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn zeroed_memory_is_asked_for_as_such() {
    let roomy = Roomy::new(); // Of this test alone, so that what it counts is exact.
    let global = AsGlobal::new(&roomy);
    let layout = Layout::from_size_align(100, 1).unwrap();
    // SAFETY: the size is not 0.
    let block = unsafe { global.alloc_zeroed(layout) };
    assert_eq!((roomy.allocs.load(Ordering::SeqCst), roomy.zeroed.load(Ordering::SeqCst)), (0, 1));
    // SAFETY: live, 100 bytes that are zero.
    assert_eq!(unsafe { std::slice::from_raw_parts(block, 100) }, [0; 100]);
    // SAFETY: live with this layout, given up here.
    unsafe { global.dealloc(block, layout) };
    assert_eq!(roomy.live(), 0);
}

/// `GlobalAlloc` forbids them, but a caller that errs must not reach the allocator with what it cannot say.
#[test]
fn a_size_of_0_never_reaches_the_allocator() {
    let roomy = Roomy::new(); // Of this test alone, so that what it counts is exact.
    let global = AsGlobal::new(&roomy);
    let nothing = Layout::from_size_align(0, 64).unwrap();
    // SAFETY: `AsGlobal` serves a size of 0 too.
    let block = unsafe { global.alloc(nothing) };
    // SAFETY: as above.
    let zeroed = unsafe { global.alloc_zeroed(nothing) };
    assert_eq!((block.addr(), zeroed.addr()), (64, 64), "dangling, and aligned");
    // SAFETY: as above.
    let grown = unsafe { global.realloc(block, nothing, 8) };
    assert_eq!(roomy.live(), 1);
    // SAFETY: live with this layout.
    let back = unsafe { global.realloc(grown, Layout::from_size_align(8, 64).unwrap(), 0) };
    // SAFETY: of no bytes, as above.
    unsafe { global.dealloc(back, nothing) };
    assert_eq!((roomy.live(), roomy.allocs.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn a_refusal_is_null_and_leaves_the_block() {
    let roomy = Roomy::new(); // Of this test alone, so that what it counts is exact.
    let global = AsGlobal::new(&roomy);
    let huge = Layout::from_size_align(isize::MAX as usize, 1).unwrap();
    // SAFETY: the size is not 0.
    assert_eq!(unsafe { global.alloc(huge) }, ptr::null_mut());
    // SAFETY: as above.
    assert_eq!(unsafe { global.alloc_zeroed(huge) }, ptr::null_mut());
    let layout = Layout::from_size_align(3, 8).unwrap();
    // SAFETY: as above.
    let block = unsafe { global.alloc(layout) };
    // SAFETY: live, 3 bytes.
    unsafe { block.write_bytes(9, 3) };
    for too_long in [isize::MAX as usize - 7, isize::MAX as usize, usize::MAX] {
        // SAFETY: live with `layout`. (Lengths that `GlobalAlloc` forbids are refused like the others.)
        assert_eq!(unsafe { global.realloc(block, layout, too_long) }, ptr::null_mut());
    }
    // SAFETY: live, 3 bytes, written above.
    assert_eq!(unsafe { std::slice::from_raw_parts(block, 3) }, [9; 3]);
    // SAFETY: live with this layout, given up here.
    unsafe { global.dealloc(block, layout) };
    assert_eq!(roomy.live(), 0);
}
