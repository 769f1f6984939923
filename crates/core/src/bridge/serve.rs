//! The rules that all bridges share, as functions over our [`Allocator`] in terms of `Layout`.
//!
//! - **I1** A block of `layout.size() > 0` bytes is a live block of the allocator with exactly that length
//!   and `layout.align()`: collections free with the layout that they asked for, not with a longer one.
//! - **I2** A block of size 0 is a dangling pointer with the layout's alignment; no allocator has seen it.
//! - **I3** After an error the old block is as it was.
//!
//! Growing and shrinking keep the alignment wherever the allocator can change a length without copying;
//! *another alignment*, stricter or looser, is alloc, copy, free, because our trait keeps a block's
//! alignment for life (clause 1). Cost: the allocator's own, plus one copy where the block moves.

use core::{
    alloc::Layout,
    hint::black_box,
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use crate::{Alignment, AllocError, Allocator};

/// `layout`'s bytes, contents undefined.
///
/// # Errors
/// [`AllocError`] where the allocator has no memory.
#[inline]
#[track_caller]
pub fn allocate<A: Allocator + ?Sized>(allocator: &A, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    let Some(len) = NonZeroUsize::new(layout.size()) else { return Ok(dangling(layout)) };
    let block = allocator.alloc(len, alignment(layout))?;
    Ok(NonNull::slice_from_raw_parts(block, len.get()))
}

/// `layout`'s bytes, all zero.
///
/// # Errors
/// [`AllocError`] where the allocator has no memory.
#[inline]
#[track_caller]
pub fn allocate_zeroed<A: Allocator + ?Sized>(allocator: &A, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    let Some(len) = NonZeroUsize::new(layout.size()) else { return Ok(dangling(layout)) };
    let block = allocator.alloc_zeroed(len, alignment(layout))?;
    Ok(NonNull::slice_from_raw_parts(block, len.get()))
}

/// Ends a block.
///
/// # Safety
/// `block` came from a function of this file over the same allocator (or a handle to it), its last
/// layout was `layout`, and it is not used again.
#[inline]
#[track_caller]
pub unsafe fn deallocate<A: Allocator + ?Sized>(allocator: &A, block: NonNull<u8>, layout: Layout) {
    if layout.size() != 0 {
        let memory = NonNull::slice_from_raw_parts(block, layout.size());
        // SAFETY: live with this length and alignment by I1, given up by the caller.
        unsafe { allocator.free(memory, alignment(layout)) };
    }
}

/// Grows a block, moving it where it must. A call of its own, its arguments all in registers: inlined, it would have each
/// push of a collection save the registers that only it needs, and jump over it.
///
/// # Errors
/// [`AllocError`] where the allocator has no memory; the old block is as it was.
///
/// # Safety
/// As [`deallocate`], with `old` the last layout, but for an error; `new.size() >= old.size()`.
#[cold]
#[inline(never)]
#[track_caller]
pub unsafe fn grow<A: Allocator + ?Sized>(
    allocator: &A,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    // Through a black box, so that the allocator's handle comes by its address, which lies in the collection. With the
    // handle itself passed, the compiler would know that the collection stays as it is meanwhile, and keep its new length
    // in one more register, which each push then saves: 28 instructions and 10 cycles for 23 and 7.
    let allocator = black_box(allocator);
    // SAFETY: the caller's promise, passed on unchanged.
    if let Some(grown) = unsafe { change_length(allocator, block, old, new) } {
        return Ok(grown);
    }
    let target = allocate(allocator, new)?;
    // SAFETY: `block` is live with `old` by the caller's promise, `target` is a new block.
    unsafe { move_contents(allocator, block, old, target) };
    Ok(target)
}

/// As [`grow`]; the bytes from `old.size()` on are zero.
///
/// A block that moves is taken from `alloc_zeroed`, so that pages which come zeroed from the system are not
/// touched here, and the old bytes are then copied over its beginning.
///
/// # Errors
/// As [`grow`].
///
/// # Safety
/// As [`grow`].
#[inline]
#[track_caller]
pub unsafe fn grow_zeroed<A: Allocator + ?Sized>(
    allocator: &A,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    // SAFETY: the caller's promise, passed on unchanged.
    if let Some(grown) = unsafe { change_length(allocator, block, old, new) } {
        // SAFETY: `grown` has `new.size()` bytes, and that is not below `old.size()`.
        let tail = unsafe { grown.cast::<u8>().add(old.size()) };
        // SAFETY: from `tail` the block has so many bytes.
        unsafe { tail.write_bytes(0, new.size() - old.size()) };
        return Ok(grown);
    }
    let target = allocate_zeroed(allocator, new)?;
    // SAFETY: `block` is live with `old` by the caller's promise, `target` is a new block.
    unsafe { move_contents(allocator, block, old, target) };
    Ok(target)
}

/// Shrinks a block, moving it where it must: a longer block than asked may not be kept (I1).
///
/// # Errors
/// As [`grow`].
///
/// # Safety
/// As [`deallocate`], with `old` the last layout, but for an error; `new.size() <= old.size()`.
#[inline]
#[track_caller]
pub unsafe fn shrink<A: Allocator + ?Sized>(
    allocator: &A,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    // SAFETY: the caller's promise, passed on unchanged.
    if let Some(shrunk) = unsafe { change_length(allocator, block, old, new) } {
        return Ok(shrunk);
    }
    let target = allocate(allocator, new)?;
    // SAFETY: `block` is live with `old` by the caller's promise, `target` is a new block.
    unsafe { move_contents(allocator, block, old, target) };
    Ok(target)
}

/// The new length without a copy, or `None` and nothing has changed.
///
/// # Safety
/// As [`deallocate`], with `old` the last layout, but for `None`.
#[inline]
#[track_caller]
unsafe fn change_length<A: Allocator + ?Sized>(
    allocator: &A,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Option<NonNull<[u8]>> {
    if old.align() != new.align() || old.size() == 0 {
        return None;
    }
    let new_len = NonZeroUsize::new(new.size())?; // To 0: `move_contents` frees the old block.
    let memory = NonNull::slice_from_raw_parts(block, old.size());
    // SAFETY: live with this length and alignment, by I1.
    let moved = unsafe { allocator.remap(memory, alignment(old), new_len) }?;
    Some(NonNull::slice_from_raw_parts(moved, new.size()))
}

/// Copies what fits of `block` into `target` and ends `block`.
///
/// # Safety
/// As [`deallocate`], with `old` the last layout of `block`; `target` is another block.
#[inline]
#[track_caller]
unsafe fn move_contents<A: Allocator + ?Sized>(allocator: &A, block: NonNull<u8>, old: Layout, target: NonNull<[u8]>) {
    let kept = old.size().min(target.len());
    // SAFETY: both have `kept` bytes, and live blocks do not overlap (clause 1).
    unsafe { ptr::copy_nonoverlapping(block.as_ptr(), target.cast().as_ptr(), kept) };
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { deallocate(allocator, block, old) };
}

/// No bytes, aligned as `layout` asks (I2).
#[inline]
fn dangling(layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(alignment(layout).dangling(), 0)
}

/// A layout's alignment is never 0 and always a power of two.
#[inline]
fn alignment(layout: Layout) -> Alignment {
    Alignment::of_layout(layout)
}
