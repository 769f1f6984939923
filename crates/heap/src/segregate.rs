//! [`SegregateAllocator`]: one allocator for short blocks, another for long ones.
//!
//! ```text
//!   len:  1 ─────────── threshold │ threshold + 1 ─────────── isize::MAX
//!         small                   │ large
//! ```
//!
//! The caller names the length at every call, so a block finds its side without a header and without a search. A
//! `resize` or `remap` from one side of the threshold to the other is refused: the caller moves the block by alloc, copy
//! and free. After D's `Segregator`. Either side may stand on the other, or both on one backing.
//!
//! Costs: one compare a call.

use core::{fmt, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, BulkFree, GoodSize, Owns, Reset, ResetMode, bridge_collections};

/// Blocks up to a threshold from `small`, longer ones from `large`.
///
/// Use it where lengths fall into two kinds that want different allocators: a pool for the nodes of a tree beside
/// pages for its buffers. For more than two kinds nest it, or take [`BucketizeAllocator`](crate::BucketizeAllocator).
///
/// - **I1** A live block of at most `threshold` bytes is a live block of `small`, a longer one of `large`.
///
/// ```
/// use core::num::NonZeroUsize;
/// use terrace_core::{Alignment, AllocatorExt, SystemAllocator};
/// use terrace_heap::{PoolAllocator, SegregateAllocator};
///
/// let nodes = PoolAllocator::new(SystemAllocator, NonZeroUsize::new(64).unwrap(), Alignment::of::<u64>());
/// let both = SegregateAllocator::new(64, &nodes, SystemAllocator);
/// let node = both.create::<[u64; 8]>()?;
/// let text = both.dupe(&[b'x'; 1000])?;
/// assert!((64..1000).contains(&nodes.used_bytes()), "the text is not there");
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { both.free_slice(text) };
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { both.destroy(node) };
/// assert_eq!(nodes.free_items(), 1);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct SegregateAllocator<P, Q> {
    threshold: usize,
    small: P,
    large: Q,
}

impl<P: Allocator, Q: Allocator> SegregateAllocator<P, Q> {
    /// Blocks of at most `threshold` bytes from `small`, longer ones from `large`; takes no memory itself.
    pub const fn new(threshold: usize, small: P, large: Q) -> Self {
        Self { threshold, small, large }
    }

    /// The length in bytes of the longest block that `small` is asked for.
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    #[inline]
    fn is_small(&self, len: usize) -> bool {
        len <= self.threshold
    }
}

// SAFETY: each side keeps the contract; by I1 the length, which the caller always names, leads to the side that a block came
// from, and no change of length leads to the other.
unsafe impl<P: Allocator, Q: Allocator> Allocator for SegregateAllocator<P, Q> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if self.is_small(len.get()) { self.small.alloc(len, alignment) } else { self.large.alloc(len, alignment) }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        match (self.is_small(memory.len()), self.is_small(new_len.get())) {
            // SAFETY: by I1 a live block of `small`.
            (true, true) => unsafe { self.small.resize(memory, alignment, new_len) },
            // SAFETY: by I1 a live block of `large`.
            (false, false) => unsafe { self.large.resize(memory, alignment, new_len) },
            _ => false,
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        match (self.is_small(memory.len()), self.is_small(new_len.get())) {
            // SAFETY: by I1 a live block of `small`.
            (true, true) => unsafe { self.small.remap(memory, alignment, new_len) },
            // SAFETY: by I1 a live block of `large`.
            (false, false) => unsafe { self.large.remap(memory, alignment, new_len) },
            _ => None,
        }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if self.is_small(memory.len()) {
            // SAFETY: by I1 a live block of `small`, which the caller gives up.
            unsafe { self.small.free(memory, alignment) }
        } else {
            // SAFETY: by I1 a live block of `large`, which the caller gives up.
            unsafe { self.large.free(memory, alignment) }
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if self.is_small(len.get()) {
            self.small.alloc_zeroed(len, alignment)
        } else {
            self.large.alloc_zeroed(len, alignment)
        }
    }
}

// SAFETY: by I1 a block is one side's, which owns it; outside of the memory of both, neither says `true`.
unsafe impl<P: Owns, Q: Owns> Owns for SegregateAllocator<P, Q> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.small.owns(address) || self.large.owns(address)
    }
}

// SAFETY: the answer of the side that serves the request, or less, but no less than `len`.
unsafe impl<P: GoodSize, Q: GoodSize> GoodSize for SegregateAllocator<P, Q> {
    /// Of a short block no more than the threshold: a request of more would be the other side's.
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        match NonZeroUsize::new(self.threshold) {
            Some(threshold) if len <= threshold => self.small.good_size(len, alignment).min(threshold),
            _ => self.large.good_size(len, alignment),
        }
    }
}

impl<P: BulkFree, Q: BulkFree> BulkFree for SegregateAllocator<P, Q> {
    /// One call of a side for each run of blocks that are its own.
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        for run in blocks.chunk_by(|one, next| self.is_small(one.len()) == self.is_small(next.len())) {
            if self.is_small(run[0].len()) {
                // SAFETY: by I1 live blocks of `small`, which the caller gives up.
                unsafe { self.small.bulk_free(run, alignment) }
            } else {
                // SAFETY: by I1 live blocks of `large`, which the caller gives up.
                unsafe { self.large.bulk_free(run, alignment) }
            }
        }
    }
}

impl<P: Reset, Q: Reset> Reset for SegregateAllocator<P, Q> {
    /// Ends the blocks of both sides; `false` where one of them says so.
    fn reset(&mut self, mode: ResetMode) -> bool {
        let small = self.small.reset(mode);
        self.large.reset(mode) && small
    }
}

bridge_collections!(impl['b, P: Allocator, Q: Allocator] for &'b SegregateAllocator<P, Q>);

impl<P: fmt::Debug, Q: fmt::Debug> fmt::Debug for SegregateAllocator<P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegregateAllocator")
            .field("threshold", &self.threshold)
            .field("small", &self.small)
            .field("large", &self.large)
            .finish()
    }
}
