//! A block of a GiB moves without a byte being copied, unless its alignment forbids it. One test in a process
//! of its own, so that nobody else's blocks come and go around it.

use core::{num::NonZeroUsize, ptr, ptr::NonNull};

use terrace_core::{Alignment, Allocator};
use terrace_sys::{PageAllocator, page_size};

const GIB: NonZeroUsize = NonZeroUsize::new(1 << 30).unwrap();

/// Which pages of a block are in memory.
fn resident(memory: NonNull<[u8]>) -> Vec<usize> {
    let mut residency = vec![0u8; memory.len().div_ceil(page_size())];
    // SAFETY: the block is mapped; `residency` has a byte for each of its pages.
    let answer = unsafe { libc::mincore(memory.as_ptr().cast(), memory.len(), residency.as_mut_ptr()) };
    assert_eq!(answer, 0);
    (0..residency.len()).filter(|&page| residency[page] & 1 == 1).collect()
}

/// Sees to it that something lies directly behind `memory`.
fn take_what_is_behind(memory: NonNull<[u8]>) {
    let behind = ptr::without_provenance_mut(memory.addr().get() + memory.len());
    let (access, kind) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an address is a hint only, no existing map is touched: where it is taken, it is taken, and in
    // this process nobody gives it back.
    let taken = unsafe { libc::mmap(behind, page_size(), access, kind, -1, 0) };
    assert_ne!(taken, libc::MAP_FAILED);
}

#[test]
fn a_gibibyte_moves_where_its_alignment_allows() {
    a_gibibyte_moves_without_touching_a_page();
    an_over_aligned_block_grows_in_place_only();
}

fn a_gibibyte_moves_without_touching_a_page() {
    let alignment = Alignment::ONE;
    let Ok(start) = PageAllocator.alloc_zeroed(GIB, alignment) else {
        return eprintln!("this machine promises no GiB: nothing tried");
    };
    let memory = NonNull::slice_from_raw_parts(start, GIB.get());
    assert_eq!(resident(memory), [], "a zeroed block touches nothing");
    // SAFETY: within the block.
    let middle = unsafe { start.add(GIB.get() / 2) };
    // SAFETY: as above.
    unsafe { middle.write(7) };
    let before = resident(memory);
    assert!(before.contains(&(GIB.get() / 2 / page_size())));
    take_what_is_behind(memory);

    let larger = GIB.saturating_add(page_size());
    // SAFETY: live, with its alignment.
    assert!(!unsafe { PageAllocator.resize(memory, alignment, larger) }, "it cannot grow in place");
    // SAFETY: as above.
    let moved = unsafe { PageAllocator.remap(memory, alignment, larger) }.expect("the kernel moves it");
    assert_ne!(moved, start);
    let memory = NonNull::slice_from_raw_parts(moved, larger.get());
    assert_eq!(resident(memory), before, "the same pages, and no more");
    // SAFETY: within the block.
    let middle = unsafe { moved.add(GIB.get() / 2) };
    // SAFETY: as above.
    assert_eq!(unsafe { middle.read() }, 7);
    // SAFETY: live, not used again.
    unsafe { PageAllocator.free(memory, alignment) };
}

fn an_over_aligned_block_grows_in_place_only() {
    let alignment = Alignment::new(1 << 30).unwrap();
    let Ok(start) = PageAllocator.alloc(GIB, alignment) else {
        return eprintln!("this machine promises no GiB: nothing tried");
    };
    let memory = NonNull::slice_from_raw_parts(start, GIB.get());
    take_what_is_behind(memory);
    let larger = GIB.saturating_add(1);
    // SAFETY: live, with its alignment.
    assert_eq!(unsafe { PageAllocator.remap(memory, alignment, larger) }, None);
    // SAFETY: as above.
    assert_eq!(unsafe { PageAllocator.remap(memory, alignment, GIB) }, Some(start));
    // SAFETY: live, not used again.
    unsafe { PageAllocator.free(memory, alignment) };
}
