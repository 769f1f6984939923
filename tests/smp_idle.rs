//! `SmpAllocator` gives back what lies idle, and blocks above 32 KiB grow where they lie and are zero when asked to be.
//!
//! A backing counts what it has been given back: whole regions, and the pages of others.

use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use terrace_core::{Alignment, AllocError, Allocator, Decommit, PageSize};
use terrace_heap::SmpAllocator;
use terrace_sys::{PageAllocator, ThreadSlots};

const A16: Alignment = Alignment::new(16).unwrap();
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Pages, and how many bytes of them went back in one way or the other.
#[derive(Default)]
struct Counting {
    held: AtomicUsize,
    decommitted: AtomicUsize,
}

// SAFETY: every call is `PageAllocator`'s.
unsafe impl Allocator for Counting {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = PageAllocator.alloc(len, alignment)?;
        self.held.fetch_add(len.get(), Ordering::Relaxed);
        Ok(block)
    }

    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.held.fetch_sub(memory.len(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { PageAllocator.free(memory, alignment) };
    }
}

// SAFETY: the blocks are `PageAllocator`'s.
unsafe impl PageSize for Counting {
    fn page_size(&self) -> Alignment {
        PageAllocator.page_size()
    }
}

// SAFETY: the pages are `PageAllocator`'s.
unsafe impl Decommit for Counting {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        self.decommitted.fetch_add(pages.len(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { PageAllocator.decommit(pages) }
    }
}

type Smp<'a> = SmpAllocator<&'a Counting, ThreadSlots>;

fn block(smp: &Smp<'_>, len: usize) -> NonNull<[u8]> {
    let start = smp.alloc(NonZeroUsize::new(len).unwrap(), A16).unwrap();
    // SAFETY: live, of so many bytes.
    unsafe { start.write_bytes(0xA5, len) };
    NonNull::slice_from_raw_parts(start, len)
}

/// Blocks of many lengths, `bytes` in all, freed in another order than made.
fn fill_and_free(smp: &Smp<'_>, bytes: usize) {
    let lengths = [24, 64, 100, 200, 500, 1000, 3000, 9000, 40 * KIB];
    let mut blocks = Vec::new();
    let mut made = 0;
    for len in lengths.into_iter().cycle() {
        if made >= bytes {
            break;
        }
        blocks.push(block(smp, len));
        made += len;
    }
    let count = blocks.len();
    let step = (count / 3..).find(|step| gcd(*step, count) == 1).unwrap();
    for index in 0..count {
        // SAFETY: live; each index is met once, for the step has no divisor in common with the count.
        unsafe { smp.free(blocks[index * step % count], A16) };
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[test]
fn what_lies_idle_goes_back_without_a_trim() {
    let backing = Counting::default();
    let smp = Smp::with_decommit(&backing, ThreadSlots);
    assert!(!smp.has_idle());
    fill_and_free(&smp, 64 * MIB);
    assert!(smp.has_idle());
    let mut calls = 0;
    while smp.purge_idle() {
        calls += 1;
        assert!(calls < 10, "it ends");
    }
    let (held, decommitted) = (backing.held.load(Ordering::Relaxed), backing.decommitted.load(Ordering::Relaxed));
    assert!(held < 40 * MIB, "{held} bytes held after {calls} calls");
    assert!(held.saturating_sub(decommitted) < 4 * MIB, "{held} bytes held, {decommitted} decommitted");
    assert!(!smp.has_idle());
    smp.trim();
    assert!(backing.held.load(Ordering::Relaxed) <= 2 * terrace_heap::smp::REGION);
}

#[test]
fn what_an_ended_thread_left_goes_back_too() {
    let backing = Counting::default();
    let smp = Smp::with_decommit(&backing, ThreadSlots);
    // Joined by name: the scope itself does not wait for the end of a thread's locals.
    thread::scope(|scope| scope.spawn(|| fill_and_free(&smp, 8 * MIB)).join()).unwrap();
    while smp.purge_idle() {}
    assert!(backing.held.load(Ordering::Relaxed) <= terrace_heap::smp::REGION, "one region has the slots");
}

#[test]
fn a_medium_block_grows_and_shrinks_where_it_lies() {
    let backing = Counting::default();
    let smp = Smp::with_decommit(&backing, ThreadSlots);
    let small = block(&smp, 100);
    let mut medium = block(&smp, 40 * KIB);
    for len in [60 * KIB, 100 * KIB, 1000 * KIB, 2 * MIB, 40 * KIB + 1, 33 * KIB] {
        // SAFETY: live.
        assert!(unsafe { smp.resize(medium, A16, NonZeroUsize::new(len).unwrap()) }, "{len}");
        let kept = len.min(medium.len());
        medium = NonNull::slice_from_raw_parts(medium.cast(), len);
        // SAFETY: live, written so far.
        let bytes = unsafe { slice::from_raw_parts(medium.cast::<u8>().as_ptr(), kept) };
        assert!(bytes.iter().all(|&byte| byte == 0xA5), "{len}");
        // SAFETY: live, of so many bytes.
        unsafe { medium.cast::<u8>().write_bytes(0xA5, len) };
        // SAFETY: live.
        assert!(unsafe { smp.size_by_address(medium.cast()) }.get() >= len);
    }
    let neighbour = block(&smp, 40 * KIB);
    let beyond = NonZeroUsize::new(64 * MIB).unwrap();
    // SAFETY: live.
    assert!(!unsafe { smp.resize(medium, A16, beyond) }, "no region is so large");
    for memory in [small, medium, neighbour] {
        // SAFETY: live, not used again.
        unsafe { smp.free(memory, A16) };
    }
}

#[test]
fn a_zeroed_medium_block_is_zero_wherever_its_pages_were() {
    let backing = Counting::default();
    let smp = Smp::with_decommit(&backing, ThreadSlots);
    for round in 0..20 {
        for len in [33 * KIB, 64 * KIB, 100 * KIB + 7, MIB] {
            let start = smp.alloc_zeroed(NonZeroUsize::new(len).unwrap(), A16).unwrap();
            // SAFETY: live, of so many bytes.
            let bytes = unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) };
            assert!(bytes.iter().all(|&byte| byte == 0), "round {round}, {len} bytes");
            bytes.fill(0xFF);
            // SAFETY: live, not used again.
            unsafe { smp.free(NonNull::slice_from_raw_parts(start, len), A16) };
        }
        match round % 4 {
            1 => fill_and_free(&smp, MIB),
            2 => smp.trim(),
            3 => while smp.purge_idle() {},
            _ => {}
        }
    }
}
