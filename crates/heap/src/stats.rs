//! [`StatsAllocator`]: counts what goes through it.
//!
//! ```text
//!   caller ──▶ StatsAllocator ──▶ backing        blocks and bytes: total, live now, most ever live
//!                    │
//!                 stats() ──▶ eight figures
//! ```
//!
//! A transparent layer: blocks are the backing's own, and nothing is added to a request. The eight
//! figures are those that MufiZ's allocator documents; what was given back is the difference of what was handed
//! out and what is live, so six counters keep all eight and no equation between them can be broken.
//!
//! Where calls race, the counters are read a moment apart: what is made in between counts as given back until
//! the next look. Peaks are exact where calls do not race; where they do, they may miss a block that is not counted
//! yet, or still count the tail of one that has just shrunk.
//!
//! Costs: per block made or ended four or two relaxed atomic operations on 48 shared bytes.

use core::{
    fmt,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::transparent::pass_on_capabilities;

/// Counts blocks and bytes on their way to and from `backing`. Lengths are those that callers asked for.
///
/// - **I1** `live = blocks handed out - blocks ended`, for blocks and for bytes, whenever no call is under way.
///
/// ```
/// use terrace_core::{AllocatorExt, Stats, SystemAllocator};
/// use terrace_heap::StatsAllocator;
///
/// let counted = StatsAllocator::new(SystemAllocator);
/// let word = counted.dupe(b"red")?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { counted.free_slice(word) };
/// let stats = counted.stats();
/// assert_eq!((stats.total_allocations, stats.current_bytes, stats.peak_bytes), (1, 0, 3));
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct StatsAllocator<A> {
    blocks: Count,
    bytes: Count,
    backing: A,
}

/// How many there were, are, and were at most at once.
#[derive(Default)]
struct Count {
    total: AtomicU64,
    live: AtomicU64,
    peak: AtomicU64,
}

impl Count {
    const fn new() -> Self {
        Self { total: AtomicU64::new(0), live: AtomicU64::new(0), peak: AtomicU64::new(0) }
    }

    // Relaxed throughout: the counts order nothing else.
    fn add(&self, more: usize) {
        self.total.fetch_add(more as u64, Relaxed);
        let live = self.live.fetch_add(more as u64, Relaxed) + more as u64;
        if live > self.peak.load(Relaxed) {
            self.peak.fetch_max(live, Relaxed);
        }
    }

    fn remove(&self, less: usize) {
        self.live.fetch_sub(less as u64, Relaxed);
    }

    fn remove_all(&self) {
        self.live.store(0, Relaxed);
    }

    /// Handed out, given back, live, most live. A racing `add` may show in one counter and not yet in another.
    fn read(&self) -> [u64; 4] {
        let live = self.live.load(Relaxed);
        let total = self.total.load(Relaxed);
        let live = live.min(total);
        [total, total - live, live, self.peak.load(Relaxed).max(live)]
    }
}

impl<A> StatsAllocator<A> {
    /// Counts from zero; takes no memory itself.
    pub const fn new(backing: A) -> Self {
        Self { blocks: Count::new(), bytes: Count::new(), backing }
    }

    fn made(&self, len: NonZeroUsize) {
        self.blocks.add(1);
        self.bytes.add(len.get());
    }

    fn ended(&self, len: usize) {
        self.blocks.remove(1);
        self.bytes.remove(len);
    }

    fn resized(&self, old: usize, new: usize) {
        if new > old {
            self.bytes.add(new - old);
        } else {
            self.bytes.remove(old - new);
        }
    }
}

// SAFETY: blocks are `backing`'s own, and every call reaches it unchanged.
unsafe impl<A: Allocator> Allocator for StatsAllocator<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.backing.alloc(len, alignment)?;
        self.made(len);
        Ok(block)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        let resized = unsafe { self.backing.resize(memory, alignment, new_len) };
        if resized {
            self.resized(memory.len(), new_len.get());
        }
        resized
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        let block = unsafe { self.backing.remap(memory, alignment, new_len) }?;
        self.resized(memory.len(), new_len.get());
        Some(block)
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // Before the backing can hand the bytes out again, so that no peak counts them twice.
        self.ended(memory.len());
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.backing.alloc_zeroed(len, alignment)?;
        self.made(len);
        Ok(block)
    }
}

impl<A> Stats for StatsAllocator<A> {
    fn stats(&self) -> AllocStats {
        let [total_allocations, total_deallocations, current_allocations, peak_allocations] = self.blocks.read();
        let [bytes_allocated, bytes_deallocated, current_bytes, peak_bytes] = self.bytes.read();
        AllocStats {
            total_allocations,
            total_deallocations,
            current_allocations,
            peak_allocations,
            bytes_allocated,
            bytes_deallocated,
            current_bytes,
            peak_bytes,
        }
    }
}

impl<A: BulkFree> BulkFree for StatsAllocator<A> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        for block in blocks {
            self.ended(block.len());
        }
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) }
    }
}

impl<A: Reset> Reset for StatsAllocator<A> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.blocks.remove_all();
        self.bytes.remove_all();
        self.backing.reset(mode)
    }
}

pass_on_capabilities!(impl[] for StatsAllocator<A>);
bridge_collections!(impl['b, A: Allocator] for &'b StatsAllocator<A>);

impl<A> fmt::Debug for StatsAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a reader may see them while another thread is in `add`.
    #[test]
    fn a_look_in_the_middle_of_a_call_breaks_no_equation() {
        for (total, live, peak) in [(4, 5, 4), (5, 4, 4), (5, 5, 4), (0, 1, 0)] {
            let count = Count { total: total.into(), live: live.into(), peak: peak.into() };
            let [total, ended, live, peak] = count.read();
            assert!(live == total - ended && live <= peak, "{total} {ended} {live} {peak}");
        }
    }
}
