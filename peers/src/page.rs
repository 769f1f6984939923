//! The group `page`: our page allocator beside the bare system calls that do the same.

use std::{hint::black_box, num::NonZeroUsize, ptr, ptr::NonNull};

use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE, c_void};
use terrace_core::{Alignment, Allocator};
use terrace_sys::PageAllocator;

use crate::{
    cells::Cell,
    harness::{Competitor, OURS},
};

/// One repetition with blocks of so many bytes.
type Work = fn(usize);

/// The two, doing the same.
pub fn competitors(cell: &Cell) -> Vec<Competitor> {
    let (ours, bare): (Work, Work) = match cell.kind.as_str() {
        "pair" => (ours_pair, bare_pair),
        "touched" => (ours_touched, bare_touched),
        "aligned" => (ours_aligned, bare_aligned),
        "remap" => (ours_remap, bare_remap),
        "shrink" => (ours_shrink, bare_shrink),
        kind => unreachable!("cells.toml asks for {kind}, which this group does not do"),
    };
    let size = cell.size;
    let repeat = move |work: Work| -> Box<dyn FnMut(usize)> {
        Box::new(move |repetitions| (0..repetitions).for_each(|_| work(black_box(size))))
    };
    vec![Competitor { name: OURS, run: repeat(ours) }, Competitor { name: "mmap", run: repeat(bare) }]
}

const PAGE: usize = 4096;
const DOUBLINGS: u32 = 6;
const LARGE: usize = 2 << 20;

#[inline(always)]
fn take(size: usize, alignment: usize) -> NonNull<[u8]> {
    let len = NonZeroUsize::new(size).expect("a size");
    let alignment = Alignment::new(alignment).expect("a power of two");
    NonNull::slice_from_raw_parts(PageAllocator.alloc(len, alignment).expect("pages"), size)
}

#[inline(always)]
fn give_back(memory: NonNull<[u8]>, alignment: usize) {
    // SAFETY: every caller passes a live block, with the alignment it was made with, and uses it no more.
    unsafe { PageAllocator.free(memory, Alignment::new(alignment).expect("a power of two")) };
}

fn touch(start: *mut u8, size: usize) {
    for offset in (0..size).step_by(PAGE) {
        // SAFETY: every caller passes a live block of `size` bytes.
        let byte = unsafe { start.add(offset) };
        // SAFETY: inside that block.
        unsafe { byte.write_volatile(1) };
    }
}

fn ours_pair(size: usize) {
    give_back(black_box(take(size, 1)), 1);
}

fn bare_pair(size: usize) {
    unmap(black_box(map(size)), size);
}

fn ours_touched(size: usize) {
    let memory = take(size, 1);
    touch(memory.as_ptr().cast(), size);
    give_back(memory, 1);
}

fn bare_touched(size: usize) {
    let start = map(size);
    touch(start, size);
    unmap(start, size);
}

fn ours_aligned(size: usize) {
    give_back(black_box(take(size, LARGE)), LARGE);
}

fn bare_aligned(size: usize) {
    let reserved = size + LARGE - PAGE;
    let start = map(reserved);
    let head = start.addr().next_multiple_of(LARGE) - start.addr();
    if head > 0 {
        unmap(start, head);
    }
    let aligned = start.wrapping_add(head);
    if reserved > head + size {
        unmap(aligned.wrapping_add(size), reserved - head - size);
    }
    unmap(black_box(aligned), size);
}

fn ours_remap(size: usize) {
    let mut memory = take(size, 1);
    for doubling in 1..=DOUBLINGS {
        let len = NonZeroUsize::new(size << doubling).expect("a size");
        // SAFETY: live, with its last length.
        let moved = unsafe { PageAllocator.remap(memory, Alignment::ONE, len) };
        memory = NonNull::slice_from_raw_parts(moved.expect("room"), len.get());
    }
    give_back(memory, 1);
}

fn bare_remap(size: usize) {
    let mut start = map(size);
    for doubling in 1..=DOUBLINGS {
        let (old, new) = (size << (doubling - 1), size << doubling);
        // SAFETY: mapped above with `old` bytes; only the new address is used from here on.
        let moved = unsafe { libc::mremap(start.cast::<c_void>(), old, new, MREMAP_MAYMOVE) };
        assert_ne!(moved, MAP_FAILED, "room");
        start = moved.cast();
    }
    unmap(start, size << DOUBLINGS);
}

fn ours_shrink(size: usize) {
    let memory = take(size, 1);
    let len = NonZeroUsize::new(PAGE).expect("a size");
    // SAFETY: live, with its last length.
    let shrunk = unsafe { PageAllocator.resize(memory, Alignment::ONE, len) };
    assert!(shrunk, "shrinking in place");
    give_back(NonNull::slice_from_raw_parts(memory.cast(), PAGE), 1);
}

fn bare_shrink(size: usize) {
    let start = map(size);
    unmap(start.wrapping_add(PAGE), size - PAGE);
    unmap(black_box(start), PAGE);
}

#[inline(always)]
fn map(size: usize) -> *mut u8 {
    // SAFETY: a new private mapping touches nothing that exists.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
    assert_ne!(start, MAP_FAILED, "pages");
    start.cast()
}

#[inline(always)]
fn unmap(start: *mut u8, size: usize) {
    // SAFETY: every caller passes pages that it mapped and uses no more.
    let failed = unsafe { libc::munmap(start.cast::<c_void>(), size) };
    assert_eq!(failed, 0, "mapped pages");
}
