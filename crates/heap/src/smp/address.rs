//! Blocks by their address alone: what a C `free` is told.
//!
//! ```text
//!   address ── a multiple of PAGE? ── no ──▶ small: region ─▶ page ─▶ class
//!                    └── yes ──▶ in the registry? ── yes ──▶ small
//!                                       └── no ──▶ large: the book
//! ```

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::Allocator;
use terrace_sync::Slots;

use super::{
    SmpAllocator,
    class::{PAGE, class_of, size, small},
    region::Region,
};

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    /// The length that the block at `address` can be used for: at least what it was asked for.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`.
    #[inline]
    pub unsafe fn size_by_address(&self, address: NonNull<u8>) -> NonZeroUsize {
        // SAFETY: the caller's promise.
        match unsafe { self.class_by_address(address) } {
            Some(class) => NonZeroUsize::MIN.saturating_add(size(class) - 1),
            None => self.book().get(address).map_or(NonZeroUsize::MIN, |large| large.len),
        }
    }

    /// Changes the length of the block at `address` where that copies nothing: inside its class, or as the backing can.
    /// `None`: nothing has changed; the caller should alloc, copy [so many bytes](Self::size_by_address) and free.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`.
    #[inline]
    #[track_caller]
    pub unsafe fn remap_by_address(&self, address: NonNull<u8>, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise.
        match (unsafe { self.class_by_address(address) }, small(new_len.get(), 1)) {
            (Some(class), Some(new)) => (class_of(new) == class).then_some(address),
            // SAFETY: by I1 a large block.
            (None, None) => unsafe { self.remap_large(address, new_len) },
            _ => None,
        }
    }

    /// Ends the block at `address`, whatever its length and alignment are.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`; it is not used again.
    #[inline]
    #[track_caller]
    pub unsafe fn free_by_address(&self, address: NonNull<u8>) {
        // SAFETY: the caller's promise.
        match unsafe { self.class_by_address(address) } {
            // SAFETY: a block of that class, which the caller gives up.
            Some(class) => unsafe { self.free_small(class, address) },
            // SAFETY: by I1 a large block.
            None => unsafe { self.free_large(address) },
        }
    }

    /// The class of the block at `address`; `None`: it is large.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`.
    #[inline(always)]
    unsafe fn class_by_address(&self, address: NonNull<u8>) -> Option<usize> {
        // By I1 a large block begins at a multiple of PAGE; few others do.
        if address.addr().get().is_multiple_of(PAGE) && !self.pages.registry.contains(address) {
            return None;
        }
        // SAFETY: no large block, so it lies in a region.
        let region = unsafe { Region::<BYTES>::of(address) };
        // SAFETY: the block is live.
        Some(unsafe { region.class(Region::<BYTES>::page_number(address)) })
    }
}
