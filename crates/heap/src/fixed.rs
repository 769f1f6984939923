//! [`FixedBufferAllocator`]: blocks side by side in a buffer that never grows.
//!
//! ```text
//!  buffer                                            size
//!  ├─ block ─┬pad┬── block ──┬─ last block ─┬┄┄ free ┄┄┤
//!                                     end index ▲
//! ```
//!
//! Zig's `std.heap.FixedBufferAllocator`, decision for decision: the *address* at the end index is rounded up;
//! the last block grows, shrinks and is taken back; any other free waits for `reset`; a failure leaves
//! the end index where it was. Where Zig overflows near `usize::MAX`, this refuses.
//!
//! Costs: a few instructions a call, no header, no backing.

use core::{
    cell::{Cell, UnsafeCell},
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    num::NonZeroUsize,
    ptr,
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};

use crate::bump::{CEILING, bump_negated, fit_offset};

/// The next free address, negated, while nothing fits.
const CLOSED: *mut u8 = ptr::without_provenance_mut(CEILING.wrapping_neg());

/// Allocates from a borrowed buffer; needs no operating system, no heap and no std.
///
/// - **I1** `buffer` points to `size` bytes that are borrowed for `'a`, with the provenance of them all.
/// - **I2** Once opened, by the first request, `buffer <= next <= end`, with `end` the buffer's end or CEILING, and
///   live blocks are disjoint and lie between `buffer` and `next`. Both are kept negated: then rounding up is one
///   `and`. `neg_next` has the buffer's provenance. Before, next is CEILING and end 1, so that nothing fits.
///
/// ```
/// use core::mem::MaybeUninit;
/// use terrace_core::AllocatorExt;
/// use terrace_heap::FixedBufferAllocator;
///
/// let mut buffer = [MaybeUninit::uninit(); 64];
/// let fixed = FixedBufferAllocator::new(&mut buffer);
/// let word = fixed.dupe(b"red")?;
/// assert!(fixed.alloc_slice::<u8>(62).is_err(), "61 bytes are left");
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { fixed.free_slice(word) };
/// assert_eq!(fixed.end_index(), 0);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct FixedBufferAllocator<'a> {
    buffer: NonNull<u8>,
    size: usize,
    neg_next: Cell<*mut u8>,
    neg_end: Cell<usize>,
    borrowed: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

// SAFETY: by I1 the buffer is borrowed for this allocator alone, and bytes may be written from any thread.
unsafe impl Send for FixedBufferAllocator<'_> {}

impl<'a> FixedBufferAllocator<'a> {
    /// Allocates from `buffer`. It is lent as [`MaybeUninit`], since blocks may leave padding in it.
    pub const fn new(buffer: &'a mut [MaybeUninit<u8>]) -> Self {
        let size = buffer.len();
        // SAFETY: a reference is not null.
        let buffer = unsafe { NonNull::new_unchecked(buffer.as_mut_ptr().cast()) };
        // No address is known in a `const`: the first request opens the buffer.
        Self { buffer, size, neg_next: Cell::new(CLOSED), neg_end: Cell::new(usize::MAX), borrowed: PhantomData }
    }

    /// Bytes from the buffer's start to the end of the last block, padding included.
    pub fn end_index(&self) -> usize {
        if self.neg_end.get() == usize::MAX {
            return 0;
        }
        self.neg_next.get().addr().wrapping_neg() - self.buffer.addr().get()
    }

    /// The buffer's length in bytes.
    pub const fn capacity(&self) -> usize {
        self.size
    }

    #[inline(always)]
    fn bump(&self, len: NonZeroUsize, alignment: Alignment) -> Option<NonNull<u8>> {
        let neg_next = self.neg_next.get();
        let (neg_start, neg_end) = bump_negated(neg_next.addr(), len.get(), alignment)?;
        if neg_end < self.neg_end.get() {
            return None;
        }
        self.neg_next.set(neg_next.with_addr(neg_end));
        // SAFETY: `neg_start >= self.neg_end`, which by I2 is not 0, so neither is the address.
        Some(unsafe { NonNull::new_unchecked(neg_next.with_addr(0).wrapping_byte_sub(neg_start)) })
    }

    /// The first request opens the buffer; others that did not fit do not fit.
    #[cold]
    #[inline(never)]
    fn open(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let start = self.buffer.addr().get();
        if self.neg_end.get() != usize::MAX || start > CEILING {
            return Err(AllocError);
        }
        self.neg_next.set(self.buffer.as_ptr().map_addr(usize::wrapping_neg));
        // What lies above CEILING, if anything does, stays unused.
        self.neg_end.set((start + self.size.min(CEILING - start)).wrapping_neg());
        self.bump(len, alignment).ok_or(AllocError)
    }

    #[inline]
    fn is_last(&self, memory: NonNull<[u8]>) -> bool {
        (memory.addr().get().wrapping_add(memory.len())).wrapping_neg() == self.neg_next.get().addr()
    }
}

// SAFETY: by I1 and I2 blocks are disjoint parts of the borrowed buffer; `bump` aligns them; what is refused changes
// nothing that a caller can see.
unsafe impl Allocator for FixedBufferAllocator<'_> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.bump(len, alignment) {
            Some(block) => Ok(block),
            None => self.open(len, alignment),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        if !self.is_last(memory) {
            return new_len.get() <= memory.len();
        }
        match memory.addr().get().wrapping_neg().checked_sub(new_len.get()) {
            Some(neg_end) if neg_end >= self.neg_end.get() => {
                self.neg_next.set(self.neg_next.get().with_addr(neg_end));
                true
            }
            _ => false,
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        if self.is_last(memory) {
            self.neg_next.set(self.neg_next.get().with_addr(memory.addr().get().wrapping_neg()));
        }
    }
}

// SAFETY: by I1 exactly the bytes of the buffer are this allocator's.
unsafe impl Owns for FixedBufferAllocator<'_> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        address.addr().get().wrapping_sub(self.buffer.addr().get()) < self.size
    }
}

impl Reset for FixedBufferAllocator<'_> {
    /// The end index goes back to 0. There is nothing to give back or to retain: always `true`.
    fn reset(&mut self, _mode: ResetMode) -> bool {
        self.neg_next.set(CLOSED);
        self.neg_end.set(usize::MAX);
        true
    }
}

bridge_collections!(impl['a, 'b] for &'b FixedBufferAllocator<'a>);

impl fmt::Debug for FixedBufferAllocator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedBufferAllocator").field("end", &self.end_index()).field("size", &self.size).finish()
    }
}

/// A fixed buffer of `N` bytes that owns them.
///
/// Its blocks lie inside itself, so that moving it would move them: by clause 7 of the contract `&InlineBuffer`
/// is the allocator, and the borrow holds the buffer in place.
///
/// - **I3** `end <= N`; live blocks are disjoint and lie below `end` in `bytes`, which nothing else refers to.
///
/// ```
/// use terrace_core::AllocatorExt;
/// use terrace_heap::InlineBuffer;
///
/// let buffer = InlineBuffer::<64>::new();
/// let word = (&buffer).dupe(b"red")?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { (&buffer).free_slice(word) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// A block's borrow holds it in place:
///
/// ```compile_fail,E0505
/// use allocator_api2_02::vec::Vec;
/// use terrace_heap::InlineBuffer;
///
/// let buffer = InlineBuffer::<64>::new();
/// let mut bytes = Vec::new_in(&buffer);
/// let moved = buffer;
/// bytes.push(1u8);
/// ```
pub struct InlineBuffer<const N: usize> {
    bytes: UnsafeCell<[MaybeUninit<u8>; N]>,
    end: Cell<usize>,
}

impl<const N: usize> InlineBuffer<N> {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([MaybeUninit::uninit(); N]), end: Cell::new(0) }
    }

    /// Bytes from the buffer's start to the end of the last block, padding included.
    pub const fn end_index(&self) -> usize {
        self.end.get()
    }

    const fn view(&self) -> Bytes<'_> {
        // SAFETY: the cell is part of `self` and so not null.
        let buffer = unsafe { NonNull::new_unchecked(self.bytes.get()) };
        Bytes { buffer: buffer.cast(), size: N, end: &self.end }
    }
}

impl<const N: usize> Default for InlineBuffer<N> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: by I3 as `Bytes` keeps it; the shared borrow that allocates holds the buffer in place (clause 7).
unsafe impl<const N: usize> Allocator for &InlineBuffer<N> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.view().alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        self.view().resize(memory, new_len)
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.view().resize(memory, new_len).then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        self.view().free(memory);
    }
}

// SAFETY: by I3 exactly the bytes of the buffer are this allocator's.
unsafe impl<const N: usize> Owns for &InlineBuffer<N> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.view().owns(address)
    }
}

impl<const N: usize> Reset for InlineBuffer<N> {
    /// As [`FixedBufferAllocator`]'s.
    fn reset(&mut self, _mode: ResetMode) -> bool {
        self.end.set(0);
        true
    }
}

bridge_collections!(impl['b, const N: usize] for &'b InlineBuffer<N>);

impl<const N: usize> fmt::Debug for InlineBuffer<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineBuffer").field("end", &self.end.get()).field("size", &N).finish()
    }
}

/// An [`InlineBuffer`] seen from where it lies now: `size` bytes at `buffer`, blocks below `end`. It may lie elsewhere when
/// its blocks have ended, so its end is kept as an offset.
struct Bytes<'e> {
    buffer: NonNull<u8>,
    size: usize,
    end: &'e Cell<usize>,
}

impl Bytes<'_> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let base = self.buffer.addr().get();
        let (start, end) = fit_offset(base, self.end.get(), self.size, len.get(), alignment).ok_or(AllocError)?;
        self.end.set(end);
        // SAFETY: `fit_offset` places the block inside the buffer, so by I3 inside one allocation.
        Ok(unsafe { self.buffer.add(start) })
    }

    #[inline]
    fn resize(&self, memory: NonNull<[u8]>, new_len: NonZeroUsize) -> bool {
        if !self.is_last(memory) {
            return new_len.get() <= memory.len();
        }
        let start = self.end.get() - memory.len();
        match start.checked_add(new_len.get()) {
            Some(end) if end <= self.size => {
                self.end.set(end);
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn free(&self, memory: NonNull<[u8]>) {
        if self.is_last(memory) {
            self.end.set(self.end.get() - memory.len());
        }
    }

    fn owns(&self, address: NonNull<u8>) -> bool {
        address.addr().get().wrapping_sub(self.buffer.addr().get()) < self.size
    }

    #[inline]
    fn is_last(&self, memory: NonNull<[u8]>) -> bool {
        // Neither sum leaves the buffer (I3).
        memory.addr().get() + memory.len() == self.buffer.addr().get() + self.end.get()
    }
}
