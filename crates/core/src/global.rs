//! [`GlobalBacking`]: any `GlobalAlloc` as an allocator, and `SystemAllocator`: the system's malloc.
//!
//! A `GlobalAlloc` can allocate, zero and free; that is all we ask of it. Its `realloc` may copy with the
//! CPU, which clause 4 keeps for the caller to decide, so lengths change only where nothing changes:
//! `resize` and `remap` grant the length that the block has, and no other.
//!
//! Cost: the allocator's own; one check of length and alignment for each call of `alloc`.

use core::{
    alloc::{GlobalAlloc, Layout},
    fmt,
    num::NonZeroUsize,
    ptr::NonNull,
};

use crate::{Alignment, AllocError, Allocator, bridge_collections};

/// Hands out the blocks of a `GlobalAlloc`, of which it holds a reference for good.
///
/// A `GlobalAlloc` is written to be a static: nothing in its contract says that its blocks outlive a move or
/// the drop of it (clauses 7 and 8). A `'static` reference rules both out, and is a handle (clause 9).
///
/// ```
/// # #[cfg(feature = "std")] {
/// use terrace_core::{AllocatorExt, GlobalBacking};
///
/// let malloc = GlobalBacking::new(&std::alloc::System);
/// let numbers = malloc.alloc_slice::<u32>(100)?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { malloc.free_slice(numbers) };
/// # }
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct GlobalBacking<G: 'static + ?Sized> {
    backing: &'static G,
}

impl<G: GlobalAlloc + ?Sized> GlobalBacking<G> {
    /// Takes no memory itself.
    pub const fn new(backing: &'static G) -> Self {
        Self { backing }
    }
}

impl<G: ?Sized> Clone for GlobalBacking<G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G: ?Sized> Copy for GlobalBacking<G> {}

impl<G: ?Sized> fmt::Debug for GlobalBacking<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalBacking").finish_non_exhaustive()
    }
}

// SAFETY: a block is a block of `backing` with the same layout, so `GlobalAlloc`'s contract makes it
// live, disjoint and aligned until freed; the reference keeps `backing` in place for ever (clauses 7 to 9).
// `Layout` refuses lengths over `isize::MAX` (clause 2), and a `GlobalAlloc` must not unwind (clause 10).
unsafe impl<G: GlobalAlloc + ?Sized> Allocator for GlobalBacking<G> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let layout = layout_of(len.get(), alignment)?;
        // SAFETY: the layout's size is not 0.
        let block = unsafe { self.backing.alloc(layout) };
        NonNull::new(block).ok_or(AllocError)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        new_len.get() == memory.len()
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if new_len.get() == memory.len() { Some(memory.cast()) } else { None }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the block is live with this length and alignment by the caller's promise, so `layout_of`
        // accepted them when it was made.
        let layout = unsafe { Layout::from_size_align_unchecked(memory.len(), alignment.bytes()) };
        // SAFETY: a live block of `backing` with the layout that it was made with, given up by the caller.
        unsafe { self.backing.dealloc(memory.cast().as_ptr(), layout) };
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let layout = layout_of(len.get(), alignment)?;
        // SAFETY: the layout's size is not 0.
        let block = unsafe { self.backing.alloc_zeroed(layout) };
        NonNull::new(block).ok_or(AllocError)
    }
}

/// Refuses what `Layout` cannot say: a length that exceeds `isize::MAX` once rounded up to the alignment.
#[inline]
pub(crate) fn layout_of(len: usize, alignment: Alignment) -> Result<Layout, AllocError> {
    match Layout::from_size_align(len, alignment.bytes()) {
        Ok(layout) => Ok(layout),
        Err(_) => Err(AllocError),
    }
}

bridge_collections!(impl[G: GlobalAlloc + ?Sized] for GlobalBacking<G>);

/// The system's own allocator: malloc on Unix, `HeapAlloc` on Windows, as `std::alloc::System` finds it.
///
/// ```
/// # #[cfg(feature = "allocator-api2-02")] {
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::SystemAllocator;
///
/// let mut numbers = Vec::new_in(SystemAllocator);
/// numbers.extend([3, 1, 2]);
/// assert_eq!(numbers[..], [3, 1, 2]);
/// # }
/// ```
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemAllocator;

#[cfg(feature = "std")]
const SYSTEM: GlobalBacking<std::alloc::System> = GlobalBacking::new(&std::alloc::System);

// SAFETY: every call goes to `GlobalBacking<System>`, which keeps the contract; the unit is a handle to it.
#[cfg(feature = "std")]
unsafe impl Allocator for SystemAllocator {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        SYSTEM.alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SYSTEM.resize(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SYSTEM.remap(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SYSTEM.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        SYSTEM.alloc_zeroed(len, alignment)
    }
}

#[cfg(feature = "std")]
bridge_collections!(impl[] for SystemAllocator);
