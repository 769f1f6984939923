//! C-style functions with sizes: [`malloc`], [`calloc`], [`c_realloc`], [`c_free`].
//!
//! ```text
//!   malloc(size) ───▶ a block of max(size, 1) bytes, aligned to 16          null: no memory
//!   c_free(block, size), c_realloc(block, old, new): `size` and `old` are what the block was asked for with last
//! ```
//!
//! A size of 0 is served with a block of its own of one byte, as C allows, so that freeing it with 0 is right and freeing
//! a longer block with 0 is a mistake that shows. Null is freed by doing nothing and reallocated by `malloc`.
//!
//! Mistakes go where those of Rust code go: a wrong size, a second free, a foreign pointer is told to the handler with the place of
//! the call. Where that returns, a wrong `c_realloc` changes nothing and gives null, a wrong `c_free` ends the block if there is one.
//! Without records (neither leak detection nor safety) the sizes are believed.

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, Allocator, AllocatorExt};

use super::{MANAGER, Manager, each};

/// Of every block here: enough for any C type.
const ALIGNMENT: Alignment = match Alignment::new(16) {
    Some(alignment) => alignment,
    None => Alignment::ONE, // Not reached: a power of two.
};

fn at_least_one(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN)
}

impl Manager {
    #[track_caller]
    pub(super) fn malloc(&self, size: usize) -> *mut u8 {
        let block = self.alloc(at_least_one(size), ALIGNMENT);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[track_caller]
    pub(super) fn calloc(&self, count: usize, size: usize) -> *mut u8 {
        let Some(size) = count.checked_mul(size) else { return ptr::null_mut() };
        let block = self.alloc_zeroed(at_least_one(size), ALIGNMENT);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// # Safety
    /// As [`c_realloc`].
    #[track_caller]
    pub(super) unsafe fn c_realloc(&self, block: *mut u8, old_size: usize, new_size: usize) -> *mut u8 {
        let Some(address) = NonNull::new(block) else { return self.malloc(new_size) };
        let memory = NonNull::slice_from_raw_parts(address, at_least_one(old_size).get());
        if !self.is_right(memory, at_least_one(new_size)) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise; a wrong length is found before a byte is copied, where records are kept.
        let moved = unsafe { self.realloc_in_place_or_move(memory, ALIGNMENT, at_least_one(new_size)) };
        moved.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Whether a block begins there and is so long, as far as that is known. What is wrong is told.
    #[track_caller]
    fn is_right(&self, memory: NonNull<[u8]>, new_len: NonZeroUsize) -> bool {
        each!(self.layers(), debug => {
            let config = debug.config();
            if !config.enable_safety && !config.enable_leak_detection {
                return true;
            }
            match debug.size_by_address(memory.cast()) {
                Some(len) if len.get() == memory.len() => true,
                // SAFETY: refused, and told, since the length is not the block's.
                Some(_) => unsafe { debug.resize(memory, ALIGNMENT, new_len) },
                None => false,
            }
        })
    }

    /// # Safety
    /// As [`c_free`].
    #[track_caller]
    pub(super) unsafe fn c_free(&self, block: *mut u8, size: usize) {
        let Some(address) = NonNull::new(block) else { return };
        let memory = NonNull::slice_from_raw_parts(address, at_least_one(size).get());
        // SAFETY: the caller's promise.
        unsafe { self.free(memory, ALIGNMENT) };
    }
}

/// `size` bytes, aligned to 16, uninitialised; null where there is no memory. Of 0 bytes it is a block of its own.
///
/// ```
/// use terrace::manager::{c_free, c_realloc, malloc};
///
/// let block = malloc(1024);
/// // SAFETY: live, made with 1024 bytes.
/// let block = unsafe { c_realloc(block, 1024, 2048) };
/// assert!(!block.is_null());
/// // SAFETY: live, and not used again.
/// unsafe { c_free(block, 2048) };
/// ```
#[track_caller]
pub fn malloc(size: usize) -> *mut u8 {
    MANAGER.malloc(size)
}

/// `count * size` bytes, all zero, otherwise as [`malloc`]. Null also where the product overflows.
#[track_caller]
pub fn calloc(count: usize, size: usize) -> *mut u8 {
    MANAGER.calloc(count, size)
}

/// Another size for a block, and perhaps another place; the first `min(old_size, new_size)` bytes are kept. Null where there is no
/// memory: the block is as it was. A `new_size` of 0 makes it a block of no bytes, which is still to be freed.
///
/// # Safety
/// `block` is null, or a live block of these functions, last asked for with `old_size`. After an answer that is not null it is not used again.
#[track_caller]
pub unsafe fn c_realloc(block: *mut u8, old_size: usize, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { MANAGER.c_realloc(block, old_size, new_size) }
}

/// Ends a block; nothing where it is null.
///
/// # Safety
/// `block` is null, or a live block of these functions, last asked for with `size`; it is not used again.
#[track_caller]
pub unsafe fn c_free(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { MANAGER.c_free(block, size) };
}
