//! [`StatsAllocator`]: counts what goes through it.
//!
//! ```text
//!   caller ──▶ StatsAllocator ──▶ backing        blocks and bytes: total, live now, most ever live
//!                    │
//!                 stats() ──▶ eight figures      Display ──▶ the same as text, with
//!                    │
//!                 Histograms, where asked: blocks by size class, blocks and bytes by the place that asks
//! ```
//!
//! A transparent layer: blocks are the backing's own, and nothing is added to a request. The eight
//! figures are those that MufiZ's allocator documents; what is live is the difference of what was handed out and
//! what was given back, so six counters keep all eight and no equation between them can be broken.
//!
//! Where calls race, the counters are read a moment apart: what is made in between counts as given back until
//! the next look. Peaks are exact where calls do not race; where they do, they may miss a block that is not counted
//! yet, or one that was there while another ended.
//!
//! Costs: per block made or ended two relaxed atomic operations on 48 shared bytes; with [`Histograms`] three
//! more for one that is made and one for one that ends, and the search of a table for the place that asks. What is handed out in all is
//! then the sum over classes and places, formed when it is asked for.

mod histograms;
mod sites;
mod tally;

use core::{fmt, num::NonZeroUsize, panic::Location, ptr::NonNull};

use histograms::Detail;
pub use histograms::{Histograms, SizeClass};
pub use sites::Site;
use tally::{Count, Room, Tally};
use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::transparent::pass_on_capabilities;

/// Counts blocks and bytes on their way to and from `backing`. Lengths are those that callers asked for.
///
/// Use it to see what a part of a program takes, and in tests that nothing is left. With [`Histograms`] it also says
/// which lengths are asked for, and by whom.
///
/// - **I1** What `blocks` and `bytes` say is live is so whenever no call is under way.
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
///
/// With histograms, and as text:
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::{Histograms, StatsAllocator};
///
/// let counted = StatsAllocator::with_histograms(SystemAllocator, Histograms::<64>::new());
/// let word = counted.dupe(b"green")?;
/// let class = counted.size_classes().next().unwrap();
/// assert_eq!((class.longest, class.live_blocks), (8, 1), "five to eight bytes");
/// assert_eq!(counted.sites().next().unwrap().location.file(), file!());
/// assert!(counted.to_string().contains(file!()));
/// # // SAFETY: live, of this allocator, not used again.
/// # unsafe { counted.free_slice(word) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct StatsAllocator<A, D: Detail = ()> {
    blocks: D::Tally,
    bytes: D::Tally,
    detail: D,
    backing: A,
}

impl<A> StatsAllocator<A> {
    /// Counts from zero; takes no memory itself.
    pub const fn new(backing: A) -> Self {
        Self { blocks: Count::new(), bytes: Count::new(), detail: (), backing }
    }
}

impl<A, const SITES: usize> StatsAllocator<A, Histograms<SITES>> {
    /// Counts from zero, by size class and by place too; takes no memory itself.
    pub const fn with_histograms(backing: A, histograms: Histograms<SITES>) -> Self {
        Self { blocks: Room::new(), bytes: Room::new(), detail: histograms, backing }
    }

    /// The size classes of which there was a block, the shortest first.
    pub fn size_classes(&self) -> impl Iterator<Item = SizeClass> {
        self.detail.size_classes()
    }

    /// The places that asked for blocks, the one with the most bytes first. Takes time in the square of their number.
    pub fn sites(&self) -> impl Iterator<Item = Site> {
        self.detail.sites()
    }

    /// Blocks and bytes asked for by places that the table had no row left for: not 0 says that it is too small.
    pub fn unlisted(&self) -> (u64, u64) {
        self.detail.unlisted()
    }
}

impl<A, D: Detail> StatsAllocator<A, D> {
    #[inline]
    fn made(&self, len: NonZeroUsize, site: &'static Location<'static>) {
        self.blocks.add(1);
        self.bytes.add(len.get());
        self.detail.made(len.get(), site);
    }

    #[inline]
    fn ended(&self, len: usize) {
        self.blocks.remove(1);
        self.bytes.remove(len);
        self.detail.ended(len);
    }

    #[inline]
    fn resized(&self, old: usize, new: usize, site: &'static Location<'static>) {
        if new > old {
            self.bytes.add(new - old);
        } else {
            self.bytes.remove(old - new);
        }
        self.detail.resized(old, new, site);
    }
}

// SAFETY: blocks are `backing`'s own, and every call reaches it unchanged.
unsafe impl<A: Allocator, D: Detail> Allocator for StatsAllocator<A, D> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.backing.alloc(len, alignment)?;
        self.made(len, Location::caller());
        Ok(block)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        let resized = unsafe { self.backing.resize(memory, alignment, new_len) };
        if resized {
            self.resized(memory.len(), new_len.get(), Location::caller());
        }
        resized
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        let block = unsafe { self.backing.remap(memory, alignment, new_len) }?;
        self.resized(memory.len(), new_len.get(), Location::caller());
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
        self.made(len, Location::caller());
        Ok(block)
    }
}

impl<A, D: Detail> Stats for StatsAllocator<A, D> {
    fn stats(&self) -> AllocStats {
        let [total_allocations, total_deallocations, current_allocations, peak_allocations] =
            self.detail.blocks(&self.blocks);
        let [bytes_allocated, bytes_deallocated, current_bytes, peak_bytes] = self.detail.bytes(&self.bytes);
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

impl<A: BulkFree, D: Detail> BulkFree for StatsAllocator<A, D> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        for block in blocks {
            self.ended(block.len());
        }
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) }
    }
}

impl<A: Reset, D: Detail> Reset for StatsAllocator<A, D> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.blocks.remove_all();
        self.bytes.remove_all();
        self.detail.all_ended();
        self.backing.reset(mode)
    }
}

pass_on_capabilities!(impl[D: Detail] for StatsAllocator<A, D>);
bridge_collections!(impl['b, A: Allocator, D: Detail] for &'b StatsAllocator<A, D>);

impl<A, D: Detail> fmt::Debug for StatsAllocator<A, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// The eight figures as a table, and below it the histograms.
impl<A, D: Detail> fmt::Display for StatsAllocator<A, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "        {:>14} {:>14} {:>14} {:>14}", "total", "given back", "live", "peak")?;
        let (blocks, bytes) = (self.detail.blocks(&self.blocks), self.detail.bytes(&self.bytes));
        for (name, [total, ended, live, peak]) in [("blocks", blocks), ("bytes", bytes)] {
            writeln!(f, "{name:<7} {total:>14} {ended:>14} {live:>14} {peak:>14}")?;
        }
        self.detail.write(f)
    }
}
