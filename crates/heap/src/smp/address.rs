//! Blocks by their address alone: what a C `free` is told.
//!
//! ```text
//!   address ── a multiple of PAGE? ── no ──▶ small: region ─▶ page ─▶ class
//!                    └── yes ──▶ in the registry? ── yes ──▶ small, or medium by its class
//!                                       └── no ──▶ large: the book
//! ```

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::Allocator;
use terrace_sync::Slots;

use super::{
    SmpAllocator,
    class::{CLASSES, LARGEST, PAGE, class_of, size, small},
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
            // SAFETY: no small block.
            None => unsafe { self.large_size(address) },
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
            // A class whose blocks all begin at a page's beginning has few of them, and they look alike to the processor, which
            // compares twelve bits of two addresses before the others: better the same one again.
            // SAFETY: a block of that class, which the caller gives up if the answer is `true`.
            Some(class) if size(class).is_multiple_of(PAGE) && unsafe { self.push_back(class, address) } => {}
            // SAFETY: a block of that class, which the caller gives up.
            Some(class) => unsafe { self.free_small(class, address) },
            // SAFETY: by I1 a large block.
            None => unsafe { self.free_large(address) },
        }
    }

    /// The shortest way of [`alloc`](Allocator::alloc), for an alignment of 16: a block of `len` bytes, where the caller has one
    /// at hand. `None`: nothing has happened, `alloc` may do better.
    ///
    /// A `malloc` that tries this first can leave the rest to a function of its own, and has no frame to build.
    #[inline(always)]
    pub fn alloc_at_hand(&self, len: usize) -> Option<NonNull<u8>> {
        if len.wrapping_sub(1) < LARGEST { self.pop(class_of(len)) } else { None }
    }

    /// The way after [`alloc_at_hand`](Self::alloc_at_hand), where that had nothing: what the caller has freed. `None` as there.
    #[inline(always)]
    pub fn alloc_freed(&self, len: usize) -> Option<NonNull<u8>> {
        if len.wrapping_sub(1) < LARGEST { self.pop_freed(class_of(len)) } else { None }
    }

    /// The shortest way of [`free_by_address`](Self::free_by_address). `false`: nothing has happened; `address` is null, or
    /// `free_by_address` is to be called.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`, or it is null; the block is not used again if the answer is `true`.
    #[inline(always)]
    pub unsafe fn free_at_hand(&self, address: *mut u8) -> bool {
        if address.addr().is_multiple_of(PAGE) {
            return false;
        }
        // SAFETY: no multiple of PAGE, so not null.
        let block = unsafe { NonNull::new_unchecked(address) };
        // SAFETY: by I1 no large block, so one of a class.
        let class = unsafe { Self::small_class(block) };
        // SAFETY: a block of that class, which the caller gives up.
        unsafe { self.push(class, block) }
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
        // SAFETY: in a region.
        Some(unsafe { Self::small_class(address) }).filter(|&class| class < CLASSES)
    }

    /// The class of a block in a region; [`CLASSES`]: it is medium.
    ///
    /// # Safety
    /// A live small or medium block of this allocator begins at `address`.
    #[inline(always)]
    unsafe fn small_class(address: NonNull<u8>) -> usize {
        // SAFETY: by I1 it lies in a region.
        let region = unsafe { Region::<BYTES>::of(address) };
        // SAFETY: the block is live.
        unsafe { region.class(Region::<BYTES>::page_number(address)) }
    }
}
