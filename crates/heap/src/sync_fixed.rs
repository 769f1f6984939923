//! [`SyncFixedBuffer`]: blocks side by side in a buffer that never grows, for many threads at once and without a lock.
//!
//! ```text
//!  buffer                                            size
//!  ├─ block ─┬pad┬── block ──┬─ last block ─┬┄┄ free ┄┄┤
//!                                 end index ▲ all threads move it
//! ```
//!
//! The thread-safe interface of Zig's `std.heap.FixedBufferAllocator`: alone it decides as
//! [`FixedBufferAllocator`](crate::FixedBufferAllocator) does. Where another thread moves the end between the look
//! and the move, `alloc` looks again; a free or a shrink is granted and gives nothing back, for the block is
//! not the last any more; a growth is refused.
//!
//! Costs: a load and at most one compare-and-swap a call, if nobody interferes; no header, no backing. No thread
//! ever waits for another.
//!
//! Tested by `tests/sync_fixed.rs`, by Zig's golden vectors in `tests/zig_golden.rs` of the workspace, and by
//! `tests/loom_sync_fixed.rs` in every order of threads.

use core::{fmt, marker::PhantomData, mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};
use terrace_sync::const_fn;

use crate::{
    atomic::{AtomicUsize, Ordering},
    bump::fit,
};

/// Allocates from a borrowed buffer that threads share; needs no operating system, no heap and no std.
///
/// - **I1** `buffer` points to `size` bytes that are borrowed for `'a`, with the provenance of them all.
/// - **I2** `end <= size`; live blocks are disjoint and lie below `end`, which says all: equal ends mean equal free space.
/// - **I3** What lowers `end` releases the bytes, what raises it acquires them. It is changed by compare-and-swap
///   only, so that every release reaches every later acquire.
///
/// ```
/// use core::mem::MaybeUninit;
/// use std::thread;
/// use terrace_core::AllocatorExt;
/// use terrace_heap::SyncFixedBuffer;
///
/// let mut buffer = [MaybeUninit::uninit(); 64];
/// let fixed = SyncFixedBuffer::new(&mut buffer);
/// thread::scope(|threads| {
///     threads.spawn(|| fixed.dupe(b"red").is_ok());
///     threads.spawn(|| fixed.dupe(b"green").is_ok());
/// });
/// assert_eq!(fixed.end_index(), 8);
/// ```
///
/// A `static` of it serves a whole program:
///
/// ```
/// use core::{mem::MaybeUninit, ptr::addr_of_mut};
/// use terrace_core::AllocatorExt;
/// use terrace_heap::SyncFixedBuffer;
///
/// static FIXED: SyncFixedBuffer = {
///     static mut BYTES: [MaybeUninit<u8>; 1024] = [MaybeUninit::uninit(); 1024];
///     // SAFETY: no other code can name the bytes.
///     SyncFixedBuffer::new(unsafe { &mut *addr_of_mut!(BYTES) })
/// };
/// let word = FIXED.dupe(b"red")?;
/// assert_eq!(FIXED.end_index(), 3);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct SyncFixedBuffer<'a> {
    buffer: NonNull<u8>,
    size: usize,
    end: AtomicUsize,
    borrowed: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

// SAFETY: by I1 the buffer is borrowed for this allocator alone, and bytes may be written from any thread.
unsafe impl Send for SyncFixedBuffer<'_> {}
// SAFETY: by I2 and I3 threads get disjoint blocks, each after whoever had the bytes before is done with them.
unsafe impl Sync for SyncFixedBuffer<'_> {}

impl<'a> SyncFixedBuffer<'a> {
    const_fn! {
        /// Allocates from `buffer`. It is lent as [`MaybeUninit`], since blocks may leave padding in it.
        pub const fn new(buffer: &'a mut [MaybeUninit<u8>]) -> Self {
            let size = buffer.len();
            // SAFETY: a reference is not null.
            let buffer = unsafe { NonNull::new_unchecked(buffer.as_mut_ptr().cast()) };
            Self { buffer, size, end: AtomicUsize::new(0), borrowed: PhantomData }
        }
    }

    /// Bytes from the buffer's start to the end of the last block, padding included; other threads move it.
    pub fn end_index(&self) -> usize {
        self.end.load(Ordering::Relaxed)
    }

    /// The buffer's length in bytes.
    pub const fn capacity(&self) -> usize {
        self.size
    }

    /// The end index, where `memory` is the last block.
    #[inline]
    fn last(&self, memory: NonNull<[u8]>) -> Option<usize> {
        // Relaxed: the compare-and-swap that follows decides.
        let end = self.end.load(Ordering::Relaxed);
        // Neither sum leaves the buffer (I1, I2).
        (memory.addr().get() + memory.len() == self.buffer.addr().get() + end).then_some(end)
    }

    /// Gives the bytes from `new_end` to `end` back, unless another thread has moved the end.
    #[inline]
    fn lower(&self, end: usize, new_end: usize) {
        // Release: pairs with the Acquire of `raise` (I3).
        let _ = self.end.compare_exchange(end, new_end, Ordering::Release, Ordering::Relaxed);
    }

    /// Takes the bytes from `end` to `new_end`; or says where the end is now.
    #[inline]
    fn raise(&self, end: usize, new_end: usize) -> Result<usize, usize> {
        // Acquire: pairs with the Release of `lower` (I3).
        self.end.compare_exchange(end, new_end, Ordering::Acquire, Ordering::Relaxed)
    }
}

// SAFETY: by I1 to I3; a move of the allocator moves no block, and a refusal changes nothing.
unsafe impl Allocator for SyncFixedBuffer<'_> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let base = self.buffer.addr().get();
        let mut end = self.end.load(Ordering::Relaxed);
        loop {
            let (start, new_end) = fit(base + end, base + self.size, len.get(), alignment).ok_or(AllocError)?;
            match self.raise(end, new_end - base) {
                // SAFETY: `fit` places the block inside the buffer, so by I1 inside one allocation.
                Ok(_) => return Ok(unsafe { self.buffer.add(start - base) }),
                Err(now) => end = now,
            }
        }
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let (len, new_len) = (memory.len(), new_len.get());
        let Some(end) = self.last(memory) else { return new_len <= len };
        if new_len <= len {
            self.lower(end, end - (len - new_len));
            return true;
        }
        new_len - len <= self.size - end && self.raise(end, end + (new_len - len)).is_ok()
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        if let Some(end) = self.last(memory) {
            self.lower(end, end - memory.len());
        }
    }
}

// SAFETY: by I1 exactly the bytes of the buffer are this allocator's.
unsafe impl Owns for SyncFixedBuffer<'_> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        address.addr().get().wrapping_sub(self.buffer.addr().get()) < self.size
    }
}

impl Reset for SyncFixedBuffer<'_> {
    /// The end index goes back to 0. There is nothing to give back or to retain: always `true`.
    fn reset(&mut self, _mode: ResetMode) -> bool {
        // Relaxed: what gave us the `&mut` came after all that threads did.
        self.end.store(0, Ordering::Relaxed);
        true
    }
}

bridge_collections!(impl['a, 'b] for &'b SyncFixedBuffer<'a>);

impl fmt::Debug for SyncFixedBuffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncFixedBuffer").field("end", &self.end_index()).field("size", &self.size).finish()
    }
}
