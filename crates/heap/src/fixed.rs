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
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};

use crate::bump::fit_offset;

/// Allocates from a borrowed buffer; needs no operating system, no heap and no std.
///
/// - **I1** `buffer` points to `size` bytes that are borrowed for `'a`, with the provenance of them all.
/// - **I2** `end <= size`; live blocks are disjoint and lie below `end`.
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
    end: Cell<usize>,
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
        Self { buffer, size, end: Cell::new(0), borrowed: PhantomData }
    }

    /// Bytes from the buffer's start to the end of the last block, padding included.
    pub const fn end_index(&self) -> usize {
        self.end.get()
    }

    /// The buffer's length in bytes.
    pub const fn capacity(&self) -> usize {
        self.size
    }

    const fn bytes(&self) -> Bytes<'_> {
        Bytes { buffer: self.buffer, size: self.size, end: &self.end }
    }
}

// SAFETY: by I1 and I2 as `Bytes` keeps them.
unsafe impl Allocator for FixedBufferAllocator<'_> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.bytes().alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        self.bytes().resize(memory, new_len)
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.bytes().resize(memory, new_len).then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        self.bytes().free(memory);
    }
}

// SAFETY: by I1 exactly the bytes of the buffer are this allocator's.
unsafe impl Owns for FixedBufferAllocator<'_> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.bytes().owns(address)
    }
}

impl Reset for FixedBufferAllocator<'_> {
    /// The end index goes back to 0. There is nothing to give back or to retain: always `true`.
    fn reset(&mut self, _mode: ResetMode) -> bool {
        self.end.set(0);
        true
    }
}

bridge_collections!(impl['a, 'b] for &'b FixedBufferAllocator<'a>);

impl fmt::Debug for FixedBufferAllocator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedBufferAllocator").field("end", &self.end.get()).field("size", &self.size).finish()
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

/// What both forms share: `size` bytes at `buffer`, blocks below `end`.
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
        // SAFETY: `fit_offset` places the block inside the buffer, so by I1 and I3 inside one allocation.
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
        // Neither sum leaves the buffer (I1, I2, I3).
        memory.addr().get() + memory.len() == self.buffer.addr().get() + self.end.get()
    }
}
