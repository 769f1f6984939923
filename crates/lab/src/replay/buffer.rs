//! [`OwnedBuffer`]: a `FixedBufferAllocator` together with the buffer that it allocates from.
//!
//! ```text
//! bytes ─▶ | block | block | free …… |   on the heap, so that moving this moves no block
//! ```
//!
//! - **B1** `bytes` is a leaked box that `allocator` alone uses, and that is freed after `allocator`'s last call.
//!
//! Cost: none over the allocator's.

use std::{mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator};
use terrace_heap::FixedBufferAllocator;

/// `fixed(SIZE)`.
pub struct OwnedBuffer {
    allocator: FixedBufferAllocator<'static>,
    bytes: NonNull<[MaybeUninit<u8>]>,
}

impl OwnedBuffer {
    /// With so many bytes, not yet touched; whether they can be had was tried before.
    pub fn new(bytes: u64) -> Self {
        let buffer = Box::leak(Box::new_uninit_slice(bytes as usize));
        let bytes = NonNull::from(&mut *buffer);
        // SAFETY: leaked, and borrowed for `allocator` alone until `drop` (B1).
        let allocator = FixedBufferAllocator::new(unsafe { &mut *bytes.as_ptr() });
        Self { allocator, bytes }
    }
}

impl Drop for OwnedBuffer {
    fn drop(&mut self) {
        // SAFETY: by B1 a leaked box that nobody uses any more: the allocator's drop does not look at it.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}

// SAFETY: every call reaches the one allocator; its blocks lie in the box, which no move moves (clause 7).
unsafe impl Allocator for OwnedBuffer {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.allocator.alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.allocator.resize(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.allocator.remap(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.allocator.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.allocator.alloc_zeroed(len, alignment)
    }
}
