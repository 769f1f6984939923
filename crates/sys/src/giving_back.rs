//! How ranges go back to the system: unmapped, or parked and unmapped later. And how they come: a mapping that is
//! refused is tried once more without what is parked.
//!
//! ```text
//!   release ──▶ unmap ── refused ──▶ decommit, note in PARKED
//!                 └─ done ──▶ what is parked gets its turn
//!   map_pages ──▶ map ── refused ──▶ what is parked gets its turn, map once more
//! ```
//!
//! - **I1** What the system would not unmap is in `PARKED`, and of no block.
//!
//! Costs: two loads a `release`, while nothing is parked.

use core::{ptr, ptr::NonNull};

use terrace_core::AllocError;
use terrace_sync::atomic::AtomicPtr;

use crate::{
    parked::Parked,
    plan::Trims,
    prim::{self, Errno, page_size},
};

terrace_sync::statics! {
    /// I1.
    static PARKED: Parked =
        Parked { due: AtomicPtr::new(ptr::null_mut()), tried: AtomicPtr::new(ptr::null_mut()) };
}

/// Maps whole pages; where the system refuses, once more without what is parked.
#[inline(always)]
pub(crate) fn map_pages(len: usize) -> Result<NonNull<u8>, AllocError> {
    #[cold]
    fn map_again(len: usize) -> Result<NonNull<u8>, AllocError> {
        if PARKED.is_empty() {
            return Err(AllocError);
        }
        retry_parked();
        Ok(prim::map(len)?)
    }
    prim::map(len).or_else(|_| map_again(len))
}

/// As `map_pages`, by another call than `prim::map`, and says why the system refused.
pub(crate) fn map_by(map: impl Fn() -> Result<NonNull<u8>, Errno>) -> Result<NonNull<u8>, Errno> {
    map().or_else(|why| {
        if PARKED.is_empty() {
            return Err(why);
        }
        retry_parked();
        map()
    })
}

/// Cuts the ends off a reservation of `reserved` bytes; what is left is the block. Where the system refuses, the
/// whole reservation is given up.
///
/// # Safety
/// As [`release_noted`]; the trims leave something between them.
#[cold]
pub(crate) unsafe fn cut(
    note: NonNull<u8>,
    start: NonNull<u8>,
    reserved: usize,
    trims: Trims,
) -> Result<NonNull<u8>, AllocError> {
    let Trims { head, tail } = trims;
    // SAFETY: `tail` is within the reservation.
    let end = unsafe { start.add(reserved - tail) };
    // SAFETY: the tail is ours and of no block.
    if tail != 0 && unsafe { prim::unmap(end, tail) }.is_err() {
        // SAFETY: the whole reservation is ours still.
        unsafe { release_noted(note, start, reserved) };
        return Err(AllocError);
    }
    // SAFETY: the head is ours and of no block.
    if head != 0 && unsafe { prim::unmap(start, head) }.is_err() {
        // SAFETY: the tail is gone, the rest is ours still.
        unsafe { release_noted(note, start, reserved - tail) };
        return Err(AllocError);
    }
    // SAFETY: `head` is within the reservation.
    Ok(unsafe { start.add(head) })
}

/// Unmaps a range, and then what is parked, for which there may be room now; or parks the range where
/// the system refuses.
///
/// # Safety
/// A range (in `prim`'s sense), its first page writable, not used again.
#[inline(always)]
pub(crate) unsafe fn release(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise, passed on unchanged.
    if unsafe { prim::unmap(start, len) }.is_err() {
        // SAFETY: refused, so it is a range still.
        unsafe { park(start, start, len) };
    } else if !PARKED.is_empty() {
        retry_parked();
    }
}

/// As [`release`] for a range whose first page is not writable: `note` begins a page that is, in the range or
/// outside. A page outside is given up with the range.
///
/// # Safety
/// A range and a page that is writable, not used again.
pub(crate) unsafe fn release_noted(note: NonNull<u8>, start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise, passed on unchanged.
    if unsafe { prim::unmap(start, len) }.is_err() {
        // SAFETY: refused, so it is a range still.
        unsafe { park(note, start, len) };
    } else if !lies_in(note, start, len) {
        // SAFETY: a writable page of its own, given up by the caller's promise.
        unsafe { release(note, page_size()) };
    } else if !PARKED.is_empty() {
        retry_parked();
    }
}

fn lies_in(note: NonNull<u8>, start: NonNull<u8>, len: usize) -> bool {
    note.addr().get().wrapping_sub(start.addr().get()) < len
}

/// # Safety
/// As `release_noted`.
#[cold]
unsafe fn park(note: NonNull<u8>, start: NonNull<u8>, len: usize) {
    // Before parking: afterwards another thread may unmap it. Where it fails, the pages stay in memory longer.
    // SAFETY: the range is ours, and its contents are not used again.
    let _ = unsafe { prim::decommit(start, len) };
    // SAFETY: mapped, the note writable, and given up by the caller's promise.
    unsafe { PARKED.park(note, start, len) };
}

/// Unmaps what is parked, as far as the system lets it.
#[cold]
fn retry_parked() {
    PARKED.retry(|note, start, len| {
        // SAFETY: a parked range is mapped, and only the list's (I1 of `parked`).
        if unsafe { prim::unmap(start, len) }.is_err() {
            return false;
        }
        // SAFETY: a note outside of its range is a page of its own, and now of no list.
        if !lies_in(note, start, len) && unsafe { prim::unmap(note, page_size()) }.is_err() {
            // SAFETY: refused, so it is a range still, and writable.
            unsafe { PARKED.park(note, note, page_size()) };
        }
        true
    });
}
