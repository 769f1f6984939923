//! [`Heap`]: what C asks for, in terms of `SmpAllocator`. No symbol, no error number: those are lib.rs's.
//!
//! ```text
//!   malloc(len) ──▶ alloc(len or 1, 16)      free(p)       ──▶ free_by_address(p)
//!   memalign    ──▶ alloc(len or 1, a)       realloc(p, n) ──▶ remap_by_address, or alloc, copy, free
//! ```
//!
//! - **I1** Every block is one of `smp`'s, aligned to 16 at least.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator, Decommit};
use terrace_heap::SmpAllocator;
use terrace_sync::Slots;

/// What `malloc` aligns to: `max_align_t` of the 64-bit systems.
pub(crate) const MALLOC_ALIGNMENT: Alignment = match Alignment::new(16) {
    Some(alignment) => alignment,
    None => Alignment::ONE, // Not reached: a power of two.
};

/// The C library's heap, over `A`.
pub(crate) struct Heap<A: Allocator, S: Slots> {
    smp: SmpAllocator<A, S>,
}

impl<A: Decommit, S: Slots> Heap<A, S> {
    pub(crate) const fn new(backing: A, slots: S) -> Self {
        Self { smp: SmpAllocator::with_decommit(backing, slots) }
    }
}

impl<A: Allocator, S: Slots> Heap<A, S> {
    /// What is below.
    pub(crate) fn smp(&self) -> &SmpAllocator<A, S> {
        &self.smp
    }

    /// A block of at least `len` bytes; 0 bytes are a block too.
    #[inline(always)]
    pub(crate) fn alloc(&self, len: usize) -> Option<NonNull<u8>> {
        self.smp.alloc(at_least_one(len), MALLOC_ALIGNMENT).ok()
    }

    /// The same, where the calling thread has one at hand.
    #[inline(always)]
    pub(crate) fn alloc_at_hand(&self, len: usize) -> Option<NonNull<u8>> {
        self.smp.alloc_at_hand(len)
    }

    /// The same, of what the calling thread has freed.
    #[inline(always)]
    pub(crate) fn alloc_freed(&self, len: usize) -> Option<NonNull<u8>> {
        self.smp.alloc_freed(len)
    }

    /// The same, all zero.
    #[inline(always)]
    pub(crate) fn alloc_zeroed(&self, len: usize) -> Option<NonNull<u8>> {
        self.smp.alloc_zeroed(at_least_one(len), MALLOC_ALIGNMENT).ok()
    }

    /// The same, at a multiple of `alignment`.
    #[inline]
    pub(crate) fn alloc_aligned(&self, len: usize, alignment: Alignment) -> Option<NonNull<u8>> {
        let alignment = alignment.max(MALLOC_ALIGNMENT);
        self.smp.alloc(at_least_one(len), alignment).ok()
    }

    /// Ends a block.
    ///
    /// # Safety
    /// A live block, not used again.
    #[inline(always)]
    pub(crate) unsafe fn free(&self, block: NonNull<u8>) {
        // SAFETY: by I1 one of `smp`'s.
        unsafe { self.smp.free_by_address(block) }
    }

    /// The same, where the calling thread has room for it at hand. `false`: nothing has happened.
    ///
    /// # Safety
    /// Null, or a live block, not used again if the answer is `true`.
    #[inline(always)]
    pub(crate) unsafe fn free_at_hand(&self, block: *mut u8) -> bool {
        // SAFETY: by I1 one of `smp`'s, where it is not null.
        unsafe { self.smp.free_at_hand(block) }
    }

    /// The bytes that a block has.
    ///
    /// # Safety
    /// A live block.
    #[inline]
    pub(crate) unsafe fn usable(&self, block: NonNull<u8>) -> NonZeroUsize {
        // SAFETY: by I1 one of `smp`'s.
        unsafe { self.smp.size_by_address(block) }
    }

    /// Another length for a block, which may move. `None`: nothing has changed.
    ///
    /// # Safety
    /// A live block; after success only the one returned is.
    pub(crate) unsafe fn realloc(&self, block: NonNull<u8>, new_len: usize) -> Option<NonNull<u8>> {
        // SAFETY: live by the caller's promise.
        let old_len = unsafe { self.usable(block) }.get();
        // SAFETY: by I1 one of `smp`'s.
        if let Some(moved) = unsafe { self.smp.remap_by_address(block, at_least_one(new_len)) } {
            return Some(moved);
        }
        if new_len <= old_len && new_len > old_len / 2 {
            return Some(block); // Less would be won by a move than it costs.
        }
        let Some(moved) = self.alloc(new_len) else {
            return (new_len <= old_len).then_some(block); // A smaller one is no reason to fail.
        };
        // SAFETY: two live blocks, of at least so many bytes each.
        unsafe { moved.copy_from_nonoverlapping(block, old_len.min(new_len)) };
        // SAFETY: live, and given up by the caller's promise.
        unsafe { self.free(block) };
        Some(moved)
    }
}

#[inline(always)]
fn at_least_one(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use terrace_sys::PageAllocator;
    use terrace_testkit::{Failing, Refusal};

    use super::*;
    use crate::slots::MallocSlots;

    type TestHeap<A> = Heap<A, MallocSlots<false>>;

    fn without_decommit<A: Allocator>(backing: A) -> TestHeap<A> {
        Heap { smp: SmpAllocator::new(backing, MallocSlots::SHARED) }
    }

    /// A live block, the byte that fills it, and how far.
    struct Filled {
        block: NonNull<u8>,
        byte: u8,
        len: usize,
    }

    /// Longer ones are filled no further: these tests run unoptimised too.
    const FILLED: usize = 40_000;

    fn fill(block: NonNull<u8>, byte: u8, len: usize) -> Filled {
        let len = len.min(FILLED);
        // SAFETY: the callers' blocks have `len` bytes.
        unsafe { block.write_bytes(byte, len) };
        Filled { block, byte, len }
    }

    impl Filled {
        fn is_whole(&self, len: usize) -> bool {
            // SAFETY: live, and written so far.
            let bytes = unsafe { core::slice::from_raw_parts(self.block.as_ptr(), len.min(self.len)) };
            bytes.iter().all(|&byte| byte == self.byte)
        }
    }

    const LENGTHS: [usize; 12] = [0, 1, 24, 100, 513, 4096, 20_000, 32_768, 32_769, 100_000, 3 << 20, 5 << 20];

    /// Asks for all kinds of blocks, reallocs each, frees all; refusals are taken as they come. Counts them.
    fn exercise<A: Allocator>(heap: &TestHeap<A>) -> usize {
        let (mut blocks, mut refused) = (Vec::new(), 0);
        for (index, &len) in LENGTHS.iter().cycle().take(36).enumerate() {
            let alignment = Alignment::from_log2([4, 6, 12, 17][index % 4]).unwrap();
            let made = match index % 3 {
                0 => heap.alloc(len),
                1 => heap.alloc_zeroed(len),
                _ => heap.alloc_aligned(len, alignment),
            };
            let Some(block) = made else {
                refused += 1;
                continue;
            };
            let wanted = if index % 3 == 2 { alignment } else { MALLOC_ALIGNMENT };
            assert!(wanted.is_aligned(block.addr().get()), "{len} {wanted:?}");
            // SAFETY: live.
            assert!(unsafe { heap.usable(block) }.get() >= len);
            assert!(index % 3 != 1 || Filled { block, byte: 0, len }.is_whole(FILLED), "calloc's {len} bytes are zero");
            blocks.push(fill(block, index as u8, len));
        }
        for (index, filled) in blocks.iter_mut().enumerate() {
            let new_len = LENGTHS[(index * 7 + 3) % LENGTHS.len()].max(1);
            // SAFETY: live; replaced below where it moves.
            match unsafe { heap.realloc(filled.block, new_len) } {
                Some(block) => {
                    filled.block = block;
                    assert!(filled.is_whole(new_len), "realloc from {} to {new_len} keeps the bytes", filled.len);
                    *filled = fill(block, filled.byte, new_len);
                }
                None => refused += 1,
            }
        }
        assert!(blocks.iter().all(|filled| filled.is_whole(usize::MAX)), "a block lost its contents");
        for filled in blocks {
            // SAFETY: live, not used again.
            unsafe { heap.free(filled.block) };
        }
        refused
    }

    #[test]
    fn a_refusal_at_any_call_of_the_backing_is_an_error_and_changes_nothing() {
        let counted = Failing::new(PageAllocator, Refusal::Never);
        assert_eq!(exercise(&without_decommit(&counted)), 0);
        let mut refusals = 0;
        for nth in 1..=counted.asked() {
            for refusal in [Refusal::Nth(nth), Refusal::From(nth)] {
                let backing = Failing::new(PageAllocator, refusal);
                refusals += exercise(&without_decommit(&backing));
            }
        }
        assert!(refusals > counted.asked(), "{refusals} refusals were seen");
    }

    #[test]
    fn a_block_with_an_alignment_is_reallocated_like_any_other() {
        let heap = Heap::new(PageAllocator, MallocSlots::SHARED);
        for log2 in 4..=22 {
            let alignment = Alignment::from_log2(log2).unwrap();
            for len in [1, 100, 5000, 40_000] {
                let block = heap.alloc_aligned(len, alignment).unwrap();
                let filled = fill(block, 0x5A, len);
                // SAFETY: live; only the moved one is used from here on.
                let block = unsafe { heap.realloc(block, len + 100) }.unwrap();
                assert!(Filled { block, ..filled }.is_whole(len), "{len} {alignment:?}");
                // SAFETY: live.
                assert!(unsafe { heap.usable(block) }.get() >= len + 100, "{len} {alignment:?}");
                // SAFETY: live, not used again.
                unsafe { heap.free(block) };
            }
        }
    }

    #[test]
    fn what_no_memory_can_hold_is_refused_and_a_realloc_to_it_keeps_the_block() {
        let heap = Heap::new(PageAllocator, MallocSlots::SHARED);
        let filled = fill(heap.alloc(50).unwrap(), 7, 50);
        for len in [usize::MAX, usize::MAX - 15, isize::MAX as usize + 1, isize::MAX as usize] {
            assert!(heap.alloc(len).is_none() && heap.alloc_zeroed(len).is_none());
            assert!(heap.alloc_aligned(len, Alignment::from_log2(20).unwrap()).is_none());
            // SAFETY: live, and still so where it is refused.
            assert!(unsafe { heap.realloc(filled.block, len) }.is_none());
        }
        let widest = Alignment::from_log2(usize::BITS - 1).unwrap();
        assert!(heap.alloc_aligned(1, widest).is_none());
        assert!(filled.is_whole(50));
    }

    #[test]
    fn a_shrink_to_less_than_half_moves_to_a_smaller_block() {
        let heap = Heap::new(PageAllocator, MallocSlots::SHARED);
        let block = heap.alloc(30_000).unwrap();
        // SAFETY: live; only the one returned is used from here on.
        let same = unsafe { heap.realloc(block, 20_000) }.unwrap();
        assert_eq!(same, block);
        // SAFETY: as above.
        let small = unsafe { heap.realloc(same, 100) }.unwrap();
        // SAFETY: live.
        assert!(unsafe { heap.usable(small) }.get() < 200);
    }
}
