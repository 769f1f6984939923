//! [`Allocator`]: the four functions that every layer offers and asks of its backing.
//!
//! ```text
//!            alloc ─▶ ┌───────────┐ ─▶ pointer │ AllocError
//!   caller   resize ▶ │ allocator │ ─▶ bool          alloc, resize, remap, free,
//!            remap ─▶ │           │ ─▶ Option  ────▶ of its backing, where it has one
//!            free ──▶ └───────────┘
//! ```
//!
//! The shape is Zig's (`std.mem.Allocator`): the caller names length and alignment at every call,
//! so an allocator need not store them, and a refusal to resize costs the caller nothing.

use core::{fmt, num::NonZeroUsize, ptr::NonNull};

use crate::Alignment;

/// No memory: the only thing that goes wrong in an allocator.
///
/// Carries nothing, so that `Result<NonNull<u8>, AllocError>` is one pointer wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct AllocError;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the allocator has no memory for this request")
    }
}

impl core::error::Error for AllocError {}

const _: () = assert!(size_of::<Result<NonNull<u8>, AllocError>>() == size_of::<usize>());

/// Hands out blocks of bytes. The contract, by clause:
///
/// 1. **Live.** `memory` is a live block of this allocator with exactly the length and alignment of
///    its last `alloc`, `resize` or `remap`. Live blocks do not overlap. A zero length cannot be
///    written; [`AllocatorExt`](crate::AllocatorExt) and the bridges serve zero-sized requests
///    with a dangling pointer and never reach an allocator.
/// 2. **Size.** No block exceeds `isize::MAX` bytes. A request that no memory can satisfy, or whose
///    arithmetic would overflow, is an error, in release as in debug.
/// 3. **Refusal.** After an error, a `false` or a `None` everything is as it was: the block, the
///    allocator, the backing.
/// 4. **Contents.** `resize` and `remap` keep the first `min(old, new)` bytes; `remap` copies none
///    with the CPU. `resize` touches none of them, so that other threads may use them meanwhile. After
///    `Some(p)` only `p` is valid, even if it is equal.
/// 5. **Provenance.** `memory` carries the provenance of the last `alloc` or `remap`, not that of a
///    narrower borrow. An allocator reaches headers and neighbours from pointers that it kept,
///    never by casting a masked user address.
/// 6. **Threads.** If `A: Sync`, all calls may race, and `free` happens before the `alloc` that
///    reuses the bytes. If `A: Send`, blocks may be freed wherever `A` is.
/// 7. **Place.** Moving an allocator moves no block. A type whose blocks lie inside itself (an owned
///    inline buffer) implements `Allocator` for `&Self` only.
/// 8. **End.** Blocks end together only through `&mut self` or drop (`reset`, `deinit`). No safe
///    method lends `&mut backing`, or moves the backing out, while blocks of it are held.
/// 9. **Copies.** `Clone` only for handles (a reference, an `Arc`, a zero-sized type) that free each
///    other's blocks; never derived on state.
/// 10. **Calm.** Nothing unwinds out of an allocator and no request aborts. A hook runs with no lock
///     or borrow held, may allocate and free again, and a panic in it aborts. Misuse that a checking
///     layer has proved goes to its handler.
/// 11. **Discipline.** What goes back to the backing is exactly what came from it: pointer, length,
///     alignment, once.
///
/// # Safety
///
/// The implementer keeps every clause; unsafe code rests on them.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "std")] {
/// use core::{num::NonZeroUsize, ptr::NonNull};
/// use terrace_core::{Alignment, Allocator, SystemAllocator};
///
/// let len = NonZeroUsize::new(100).unwrap();
/// let block = SystemAllocator.alloc(len, Alignment::of::<u64>())?;
/// let memory = NonNull::slice_from_raw_parts(block, len.get());
/// // SAFETY: live, with the length and alignment it was made with (clause 1), and not used again.
/// unsafe { SystemAllocator.free(memory, Alignment::of::<u64>()) };
/// # }
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub unsafe trait Allocator {
    /// `len` bytes aligned to `alignment`, or an error. Contents are undefined.
    ///
    /// # Errors
    /// [`AllocError`] where there is no memory for the request (clauses 2 and 3).
    #[track_caller]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError>;

    /// Grow or shrink in place. `false`: nothing has changed.
    ///
    /// # Safety
    /// `memory` is a live block of this allocator, with this `alignment` (clause 1).
    #[track_caller]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool;

    /// Grow or shrink, moving the block only where that copies no byte (mremap). What `resize`
    /// would grant `remap` grants too, at the same address.
    /// `None`: nothing has changed; the caller should alloc, copy and free.
    ///
    /// # Safety
    /// `memory` is a live block of this allocator, with this `alignment` (clause 1).
    #[track_caller]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>>;

    /// Ends the block.
    ///
    /// # Safety
    /// `memory` is a live block of this allocator, with this `alignment` (clause 1); it is not used again.
    #[track_caller]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment);

    /// As [`alloc`](Self::alloc), all zero. Overridden where memory is known to be fresh (pages),
    /// and passed on by every layer, so that a 1 GiB calloc touches nothing.
    ///
    /// # Errors
    /// As `alloc`.
    #[track_caller]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.alloc(len, alignment)?;
        // SAFETY: the block is live and has `len` bytes, by clause 1.
        unsafe { block.write_bytes(0, len.get()) };
        Ok(block)
    }
}

/// A handle to an allocator is an allocator: every call goes straight through.
macro_rules! forward_through_deref {
    ($($(#[$attr:meta])* $handle:ty),* $(,)?) => {$(
        $(#[$attr])*
        // SAFETY: every call reaches the one allocator behind the handle, which keeps the contract;
        // moving the handle does not move it (clause 7), and a handle is cloned only where its
        // clones reach the same allocator (clause 9).
        unsafe impl<A: Allocator + ?Sized> Allocator for $handle {
            #[inline]
            fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
                (**self).alloc(len, alignment)
            }

            #[inline]
            unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { (**self).resize(memory, alignment, new_len) }
            }

            #[inline]
            unsafe fn remap(
                &self,
                memory: NonNull<[u8]>,
                alignment: Alignment,
                new_len: NonZeroUsize,
            ) -> Option<NonNull<u8>> {
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { (**self).remap(memory, alignment, new_len) }
            }

            #[inline]
            unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { (**self).free(memory, alignment) }
            }

            #[inline]
            fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
                (**self).alloc_zeroed(len, alignment)
            }
        }
    )*};
}

forward_through_deref! {
    &A,
    &mut A,
    #[cfg(feature = "alloc")]
    alloc::boxed::Box<A>,
    #[cfg(feature = "alloc")]
    alloc::rc::Rc<A>,
    #[cfg(feature = "alloc")]
    alloc::sync::Arc<A>,
}
