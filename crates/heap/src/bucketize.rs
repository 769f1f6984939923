//! [`BucketizeAllocator`]: an allocator for each step of lengths.
//!
//! ```text
//!   len:      1 … step │ step+1 … 2·step │ 2·step+1 … 3·step │ longer
//!   bucket:      0     │        1        │         2         │ refused
//!   block:      step   │     2·step      │      3·step       │
//! ```
//!
//! Each bucket is asked for blocks of one length only, the longest of its step, so that a pool or a free list serves
//! each, and a change of length within a step costs nothing. From one step to another it is refused, as are lengths past
//! the last bucket: a [`SegregateAllocator`](crate::SegregateAllocator) above serves those. After D's `Bucketizer`.
//!
//! Costs: a compare and two multiplications a call; up to a step less one byte is wasted a block.

mod steps;

use core::{fmt, num::NonZeroUsize, ptr::NonNull};

use steps::Steps;
use terrace_core::{Alignment, AllocError, Allocator, BulkFree, GoodSize, Owns, Reset, ResetMode, bridge_collections};

/// Serves lengths up to a step from the first bucket, up to two steps from the second, and so on.
///
/// Use it where lengths are many but small, and each wants a pool of its own: the objects of an interpreter.
///
/// - **I1** A live block is a live block of the bucket of its length, with the longest length of that bucket.
/// - **I2** `steps` are those of `N` buckets: it names no bucket from `N` on, and no block of 0 bytes.
///
/// ```
/// use core::num::NonZeroUsize;
/// use terrace_core::{Alignment, AllocatorExt, SystemAllocator};
/// use terrace_heap::{BucketizeAllocator, PoolAllocator, SegregateAllocator};
///
/// let step = NonZeroUsize::new(16).unwrap();
/// let pool = |len| PoolAllocator::new(SystemAllocator, NonZeroUsize::new(len).unwrap(), Alignment::of::<u64>());
/// let objects = BucketizeAllocator::new(step, [16, 32, 48, 64].map(pool));
/// let all = SegregateAllocator::new(64, objects, SystemAllocator);
/// let short = all.dupe(b"seventeen letters")?;
/// let long = all.dupe(&[0u8; 1000])?;
/// # // SAFETY: live, of this allocator, not used again.
/// # unsafe { all.free_slice(short) };
/// # // SAFETY: live, of this allocator, not used again.
/// # unsafe { all.free_slice(long) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct BucketizeAllocator<A, const N: usize> {
    steps: Steps,
    buckets: [A; N],
}

impl<A, const N: usize> BucketizeAllocator<A, N> {
    /// The first of `buckets` serves lengths up to `step` bytes, each other one the `step` lengths above.
    pub const fn new(step: NonZeroUsize, buckets: [A; N]) -> Self {
        Self { steps: Steps::new(step, N), buckets }
    }

    /// The bucket of a length, and the length of its blocks.
    #[inline]
    fn bucket(&self, len: NonZeroUsize) -> Option<(&A, NonZeroUsize)> {
        let (number, longest) = self.steps.bucket(len)?;
        debug_assert!(number < N && longest >= len.get());
        // SAFETY: by I2 there is such a bucket.
        let bucket = unsafe { self.buckets.get_unchecked(number) };
        // SAFETY: by I2 not 0.
        Some((bucket, unsafe { NonZeroUsize::new_unchecked(longest) }))
    }

    /// The bucket of a live block, and the bucket's view of it.
    #[inline]
    fn bucket_of(&self, memory: NonNull<[u8]>) -> Option<(&A, NonNull<[u8]>)> {
        let (bucket, longest) = self.bucket(NonZeroUsize::new(memory.len())?)?;
        Some((bucket, NonNull::slice_from_raw_parts(memory.cast(), longest.get())))
    }

    /// Whether both lengths are of one bucket.
    #[inline]
    fn is_same(&self, old: usize, new: NonZeroUsize) -> bool {
        let number = |len: NonZeroUsize| self.steps.bucket(len).map(|(number, _)| number);
        number(new).is_some_and(|new| NonZeroUsize::new(old).and_then(number) == Some(new))
    }
}

// SAFETY: each bucket keeps the contract; by I1 the length, which the caller always names, leads to the bucket that a block
// came from and to its length there, and no change of length leads to another.
unsafe impl<A: Allocator, const N: usize> Allocator for BucketizeAllocator<A, N> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let (bucket, longest) = self.bucket(len).ok_or(AllocError)?;
        bucket.alloc(longest, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        self.is_same(memory.len(), new_len)
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.is_same(memory.len(), new_len).then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // A live block has a bucket (I1).
        let Some((bucket, block)) = self.bucket_of(memory) else { return };
        // SAFETY: by I1 a live block of that bucket, which the caller gives up.
        unsafe { bucket.free(block, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let (bucket, longest) = self.bucket(len).ok_or(AllocError)?;
        bucket.alloc_zeroed(longest, alignment)
    }
}

// SAFETY: by I1 a block is one bucket's, which owns it; outside of the memory of all, none says `true`.
unsafe impl<A: Owns, const N: usize> Owns for BucketizeAllocator<A, N> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.buckets.iter().any(|bucket| bucket.owns(address))
    }
}

// SAFETY: by I1 a block has the longest length of its bucket, which is no less than `len`.
unsafe impl<A: Allocator, const N: usize> GoodSize for BucketizeAllocator<A, N> {
    fn good_size(&self, len: NonZeroUsize, _alignment: Alignment) -> NonZeroUsize {
        self.bucket(len).map_or(len, |(_, longest)| longest)
    }
}

impl<A: Reset, const N: usize> Reset for BucketizeAllocator<A, N> {
    /// Ends the blocks of every bucket; `false` where one of them says so.
    fn reset(&mut self, mode: ResetMode) -> bool {
        let mut kept = true;
        for bucket in &mut self.buckets {
            kept &= bucket.reset(mode);
        }
        kept
    }
}

impl<A: Allocator, const N: usize> BulkFree for BucketizeAllocator<A, N> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        for &block in blocks {
            // SAFETY: the caller's promise for each of them.
            unsafe { self.free(block, alignment) };
        }
    }
}

bridge_collections!(impl['b, A: Allocator, const N: usize] for &'b BucketizeAllocator<A, N>);

impl<A: fmt::Debug, const N: usize> fmt::Debug for BucketizeAllocator<A, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketizeAllocator").field("step", &self.steps.step()).field("buckets", &self.buckets).finish()
    }
}
