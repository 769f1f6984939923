//! [`ZeroedAllocator`]: every block is zero when it is handed out, and so is what it grows by.
//!
//! ```text
//!   alloc ──▶ backing.alloc_zeroed          pages and fresh memory are zero already, and stay untouched
//!   resize, remap ──▶ backing ──▶ │ kept │ 0 0 0 0 │     what a growth adds is zeroed here
//! ```
//!
//! A transparent layer: blocks are the backing's own.
//!
//! Costs: what the backing's `alloc_zeroed` costs; a growth writes the bytes that it adds.

use core::{fmt, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::transparent::pass_on_capabilities;

/// Hands out blocks of zeroes, whoever asks and however.
///
/// Use it under code that reads before it writes and cannot be changed, or where one client's bytes must not reach the
/// next one. Who asks for zeroes here and there calls `alloc_zeroed`, which every allocator has.
///
/// - **I1** The bytes of a block that its user has not written since it was handed out, or has grown over them, are zero.
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::{FreeListAllocator, ZeroedAllocator};
///
/// // The list hands the same block out again, with what was left in it.
/// let clean = ZeroedAllocator::new(FreeListAllocator::new(SystemAllocator, 1..=64, 8));
/// let secret = clean.dupe(b"secret")?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { clean.free_slice(secret) };
/// let next = clean.alloc(core::num::NonZeroUsize::new(6).unwrap(), terrace_core::Alignment::ONE)?;
/// // SAFETY: live, of six bytes, all of them zero.
/// assert_eq!(unsafe { next.cast::<[u8; 6]>().read() }, [0; 6]);
/// # use terrace_core::Allocator;
/// # // SAFETY: live, of this allocator, not used again.
/// # unsafe { clean.free(core::ptr::NonNull::slice_from_raw_parts(next, 6), terrace_core::Alignment::ONE) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct ZeroedAllocator<A> {
    backing: A,
}

impl<A> ZeroedAllocator<A> {
    /// Zeroes what `backing` hands out; takes no memory itself.
    pub const fn new(backing: A) -> Self {
        Self { backing }
    }
}

/// Zeroes what a growth has added.
///
/// # Safety
/// `block` has `new_len` bytes; nobody uses those from `old_len` on.
#[inline]
unsafe fn zero_tail(block: NonNull<u8>, old_len: usize, new_len: usize) {
    if new_len > old_len {
        // SAFETY: inside the block.
        let tail = unsafe { block.add(old_len) };
        // SAFETY: so many bytes are left there.
        unsafe { tail.write_bytes(0, new_len - old_len) };
    }
}

// SAFETY: blocks are `backing`'s own, and every call reaches it unchanged, or asks it for zeroes besides.
unsafe impl<A: Allocator> Allocator for ZeroedAllocator<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.backing.alloc_zeroed(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        let resized = unsafe { self.backing.resize(memory, alignment, new_len) };
        if resized {
            // SAFETY: the block has this length now, and its new bytes are nobody's yet.
            unsafe { zero_tail(memory.cast(), memory.len(), new_len.get()) };
        }
        resized
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        let block = unsafe { self.backing.remap(memory, alignment, new_len) }?;
        // SAFETY: the block has this length now, and its new bytes are nobody's yet.
        unsafe { zero_tail(block, memory.len(), new_len.get()) };
        Some(block)
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.backing.alloc_zeroed(len, alignment)
    }
}

impl<A: BulkFree> BulkFree for ZeroedAllocator<A> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) }
    }
}

impl<A: Reset> Reset for ZeroedAllocator<A> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.backing.reset(mode)
    }
}

impl<A: Stats> Stats for ZeroedAllocator<A> {
    fn stats(&self) -> AllocStats {
        self.backing.stats()
    }
}

pass_on_capabilities!(impl[] for ZeroedAllocator<A>);
bridge_collections!(impl['b, A: Allocator] for &'b ZeroedAllocator<A>);

impl<A: fmt::Debug> fmt::Debug for ZeroedAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZeroedAllocator").field("backing", &self.backing).finish()
    }
}
