//! [`BufferFirstAllocator`]: a borrowed buffer first, then the backing.
//!
//! ```text
//!              fits? ──▶ buffer    [ block | block | block |┄ free ┄]     no request of the backing
//!   alloc ────┤
//!              no ─────▶ backing   what did not fit
//!
//!   resize, remap, free ──▶ whoever owns the address
//! ```
//!
//! Zig's `std.heap.BufferFirstAllocator` (`stackFallback`), decision for decision: the buffer is a
//! [`FixedBufferAllocator`]; a block in it that cannot grow there is refused and the backing is not asked; a block
//! of the backing never moves back. Most runs of a function then ask the heap for nothing, and the large ones still work.
//!
//! Costs: as the fixed buffer, and one compare of the address at `resize`, `remap` and `free`.

use core::{fmt, mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};

use crate::FixedBufferAllocator;

/// Serves what fits from a borrowed buffer, the rest from `backing`.
///
/// - **I1** A live block whose address lies in the buffer is a live block of `fixed`, every other one a live block of
///   `backing`, each with the length and alignment that the caller knows.
///
/// ```
/// use core::mem::MaybeUninit;
/// use terrace_core::{AllocatorExt, Stats, SystemAllocator};
/// use terrace_heap::{BufferFirstAllocator, StatsAllocator};
///
/// let counted = StatsAllocator::new(SystemAllocator);
/// let mut buffer = [MaybeUninit::uninit(); 64];
/// let first = BufferFirstAllocator::new(&mut buffer, &counted);
/// let small = first.dupe(b"red")?;
/// assert_eq!(counted.stats().total_allocations, 0);
/// let large = first.dupe(&[0u8; 100])?;
/// assert_eq!(counted.stats().total_allocations, 1);
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { first.free_slice(small) };
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { first.free_slice(large) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// The buffer is lent for as long as the allocator lives:
///
/// ```compile_fail,E0503
/// use core::mem::MaybeUninit;
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::BufferFirstAllocator;
///
/// let mut buffer = [MaybeUninit::<u8>::uninit(); 64];
/// let first = BufferFirstAllocator::new(&mut buffer, SystemAllocator);
/// buffer[0] = MaybeUninit::new(1);
/// first.dupe(b"red");
/// ```
pub struct BufferFirstAllocator<'a, A> {
    fixed: FixedBufferAllocator<'a>,
    backing: A,
}

impl<'a, A> BufferFirstAllocator<'a, A> {
    /// Serves from `buffer`, then from `backing`, which is asked for nothing yet.
    pub const fn new(buffer: &'a mut [MaybeUninit<u8>], backing: A) -> Self {
        Self { fixed: FixedBufferAllocator::new(buffer), backing }
    }

    /// Bytes from the buffer's start to the end of the last block in it, padding included.
    pub fn end_index(&self) -> usize {
        self.fixed.end_index()
    }

    /// The buffer's length in bytes.
    pub const fn capacity(&self) -> usize {
        self.fixed.capacity()
    }

    /// Whether `address` lies in the buffer.
    #[inline]
    pub fn in_buffer(&self, address: NonNull<u8>) -> bool {
        self.fixed.owns(address)
    }
}

// SAFETY: each part keeps the contract; by I1 every block goes back to the part that it came from, whole. The buffer is
// borrowed for this allocator alone, so that no block of `backing` lies in it.
unsafe impl<A: Allocator> Allocator for BufferFirstAllocator<'_, A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.fixed.alloc(len, alignment) {
            Ok(block) => Ok(block),
            Err(AllocError) => self.backing.alloc(len, alignment),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        if self.in_buffer(memory.cast()) {
            // SAFETY: by I1 a live block of `fixed`.
            unsafe { self.fixed.resize(memory, alignment, new_len) }
        } else {
            // SAFETY: by I1 a live block of `backing`.
            unsafe { self.backing.resize(memory, alignment, new_len) }
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if self.in_buffer(memory.cast()) {
            // SAFETY: by I1 a live block of `fixed`.
            unsafe { self.fixed.remap(memory, alignment, new_len) }
        } else {
            // SAFETY: by I1 a live block of `backing`.
            unsafe { self.backing.remap(memory, alignment, new_len) }
        }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if self.in_buffer(memory.cast()) {
            // SAFETY: by I1 a live block of `fixed`, which the caller gives up.
            unsafe { self.fixed.free(memory, alignment) }
        } else {
            // SAFETY: by I1 a live block of `backing`, which the caller gives up.
            unsafe { self.backing.free(memory, alignment) }
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.fixed.alloc_zeroed(len, alignment) {
            Ok(block) => Ok(block),
            Err(AllocError) => self.backing.alloc_zeroed(len, alignment),
        }
    }
}

// SAFETY: by I1 blocks lie in the buffer or are the backing's.
unsafe impl<A: Owns> Owns for BufferFirstAllocator<'_, A> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.in_buffer(address) || self.backing.owns(address)
    }
}

impl<A: Reset> Reset for BufferFirstAllocator<'_, A> {
    /// Ends the blocks of both parts; the answer is the backing's.
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.fixed.reset(mode);
        self.backing.reset(mode)
    }
}

bridge_collections!(impl['a, 'b, A: Allocator] for &'b BufferFirstAllocator<'a, A>);

impl<A: fmt::Debug> fmt::Debug for BufferFirstAllocator<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferFirstAllocator").field("fixed", &self.fixed).field("backing", &self.backing).finish()
    }
}
