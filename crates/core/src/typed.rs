//! [`AllocatorExt`]: items and slices on top of bytes, with the list of Zig's `std.mem.Allocator`.
//!
//! ```text
//!   alloc_slice::<u32>(3)       12 bytes, alignment 4 ─▶ alloc
//!   alloc_slice::<u32>(0)       no bytes: dangling, no request
//!   alloc_slice::<u32>(MAX)     overflow: AllocError, no request
//!   alloc_slice_sentinel(3, 0)  16 bytes: three items and the sentinel behind them
//! ```
//!
//! Results are raw and uninitialised, as in Zig: this layer counts bytes, it drops nothing and borrows nothing.
//!
//! - **I1** A slice of `n * size_of::<T>() > 0` bytes is a live block of the allocator with that length, and
//!   with the alignment of `T` or the stricter one that its name has; a sentinel slice is one item longer.
//! - **I2** A slice of no bytes is dangling; no allocator has seen it, and freeing it does nothing.
//!
//! With `debug_assertions`, 0xAA marks what holds no value: new memory from `alloc_slice`, `create` and what
//! stands on them, old memory in `free_slice` and in a `realloc_slice` that copies. As in Zig, `destroy` and
//! grown or cut-off tails are not marked, nor is zeroed memory.
//!
//! Every function is `#[track_caller]` and calls its allocator without a closure between, so that a checking
//! layer sees the line of the user. Cost: a multiplication and the call; a fill in debug builds.

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use crate::{Alignment, AllocError, Allocator};

/// Items and slices for every [`Allocator`], `dyn Allocator` included; nobody else can implement it.
///
/// All lengths are in items. Errors, `false` and `None` mean what they mean in [`Allocator`].
///
/// ```
/// # #[cfg(feature = "std")] {
/// use terrace_core::{AllocatorExt, SystemAllocator};
///
/// let numbers = SystemAllocator.alloc_slice_zeroed::<u32>(100)?;
/// // SAFETY: live, of this allocator; only `numbers` is used from here on.
/// let numbers = unsafe { SystemAllocator.realloc_slice(numbers, 200) }?;
/// // SAFETY: the first 100 items are zero, and nobody else uses them.
/// assert!(unsafe { numbers.as_ref() }[..100].iter().all(|n| *n == 0));
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { SystemAllocator.free_slice(numbers) };
/// # }
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub trait AllocatorExt: Allocator {
    /// Room for one `T`. Given back by [`destroy`](Self::destroy).
    ///
    /// # Errors
    /// [`AllocError`] where the allocator has no memory.
    #[inline]
    #[track_caller]
    fn create<T>(&self) -> Result<NonNull<T>, AllocError> {
        Ok(alloc_items::<T, _>(self, 1, Alignment::of::<T>())?.cast())
    }

    /// Frees an item without dropping its value.
    ///
    /// # Safety
    /// `item` came from [`create`](Self::create) of this allocator and is not used again.
    #[inline]
    #[track_caller]
    unsafe fn destroy<T>(&self, item: NonNull<T>) {
        if size_of::<T>() != 0 {
            let memory = NonNull::slice_from_raw_parts(item.cast(), size_of::<T>());
            // SAFETY: live with this length and alignment by I1, given up by the caller.
            unsafe { self.free(memory, Alignment::of::<T>()) };
        }
    }

    /// Room for `n` items. Given back by [`free_slice`](Self::free_slice).
    ///
    /// # Errors
    /// [`AllocError`] where the allocator has no memory or the byte count overflows.
    #[inline]
    #[track_caller]
    fn alloc_slice<T>(&self, n: usize) -> Result<NonNull<[T]>, AllocError> {
        self.alloc_slice_aligned(n, Alignment::of::<T>())
    }

    /// As [`alloc_slice`](Self::alloc_slice), every byte zero. Whether that is a valid `T` is the caller's to know.
    ///
    /// # Errors
    /// As `alloc_slice`.
    #[inline]
    #[track_caller]
    fn alloc_slice_zeroed<T>(&self, n: usize) -> Result<NonNull<[T]>, AllocError> {
        let alignment = Alignment::of::<T>();
        let block = match NonZeroUsize::new(byte_len::<T>(n)?) {
            Some(len) => self.alloc_zeroed(len, alignment)?,
            None => alignment.dangling(),
        };
        Ok(NonNull::slice_from_raw_parts(block.cast(), n))
    }

    /// As [`alloc_slice`](Self::alloc_slice), aligned to `alignment` or `T`'s, whichever is stricter.
    /// Given back by [`free_slice_aligned`](Self::free_slice_aligned).
    ///
    /// # Errors
    /// As `alloc_slice`.
    #[inline]
    #[track_caller]
    fn alloc_slice_aligned<T>(&self, n: usize, alignment: Alignment) -> Result<NonNull<[T]>, AllocError> {
        alloc_items(self, n, alignment)
    }

    /// Room for `n` items and `sentinel` written behind them. Given back by
    /// [`free_slice_sentinel`](Self::free_slice_sentinel).
    ///
    /// # Errors
    /// As `alloc_slice`, for `n + 1` items.
    #[inline]
    #[track_caller]
    fn alloc_slice_sentinel<T>(&self, n: usize, sentinel: T) -> Result<NonNull<[T]>, AllocError> {
        let slice = self.alloc_slice::<T>(n.checked_add(1).ok_or(AllocError)?)?;
        // SAFETY: item `n` of `n + 1`.
        let end = unsafe { slice.cast::<T>().add(n) };
        // SAFETY: inside the new slice, aligned as `T`.
        unsafe { end.write(sentinel) };
        Ok(NonNull::slice_from_raw_parts(slice.cast(), n))
    }

    /// A copy of `source`. Given back by [`free_slice`](Self::free_slice).
    ///
    /// # Errors
    /// As `alloc_slice`.
    #[inline]
    #[track_caller]
    fn dupe<T: Copy>(&self, source: &[T]) -> Result<NonNull<[T]>, AllocError> {
        let slice = self.alloc_slice::<T>(source.len())?;
        // SAFETY: the new slice has `source.len()` items, and no older borrow overlaps it (clause 1).
        unsafe { copy_items(source, slice.cast()) };
        Ok(slice)
    }

    /// A copy of `source` with `sentinel` behind it. Given back by
    /// [`free_slice_sentinel`](Self::free_slice_sentinel).
    ///
    /// # Errors
    /// As `alloc_slice`, for one item more.
    #[inline]
    #[track_caller]
    fn dupe_sentinel<T: Copy>(&self, source: &[T], sentinel: T) -> Result<NonNull<[T]>, AllocError> {
        let slice = self.alloc_slice_sentinel::<T>(source.len(), sentinel)?;
        // SAFETY: the new slice has `source.len()` items, and no older borrow overlaps it (clause 1).
        unsafe { copy_items(source, slice.cast()) };
        Ok(slice)
    }

    /// A copy of `source` with a zero byte behind it, as C wants its strings. Given back by
    /// [`free_slice_sentinel`](Self::free_slice_sentinel).
    ///
    /// # Errors
    /// As `alloc_slice`, for one byte more.
    #[inline]
    #[track_caller]
    fn dupe_z(&self, source: &[u8]) -> Result<NonNull<[u8]>, AllocError> {
        self.dupe_sentinel(source, 0)
    }

    /// Frees a slice without dropping its items.
    ///
    /// # Safety
    /// `slice` is a live slice of this allocator (I1 or I2 of the module), neither aligned by hand nor with a
    /// sentinel, and it is not used again.
    #[inline]
    #[track_caller]
    unsafe fn free_slice<T>(&self, slice: NonNull<[T]>) {
        // SAFETY: the caller's promise, with `T`'s own alignment.
        unsafe { self.free_slice_aligned(slice, Alignment::of::<T>()) }
    }

    /// As [`free_slice`](Self::free_slice), for a slice made with `alignment`.
    ///
    /// # Safety
    /// As `free_slice`; `alignment` is the one that the slice was made with.
    #[inline]
    #[track_caller]
    unsafe fn free_slice_aligned<T>(&self, slice: NonNull<[T]>, alignment: Alignment) {
        let memory = bytes_of(slice);
        if !memory.is_empty() {
            // SAFETY: live by I1, so its bytes may be written.
            unsafe { mark_undefined(memory) };
            // SAFETY: live with this length and alignment by I1, given up by the caller.
            unsafe { self.free(memory, alignment.max(Alignment::of::<T>())) };
        }
    }

    /// As [`free_slice`](Self::free_slice), for a slice with a sentinel.
    ///
    /// # Safety
    /// As `free_slice`, but `slice` was made with a sentinel.
    #[inline]
    #[track_caller]
    unsafe fn free_slice_sentinel<T>(&self, slice: NonNull<[T]>) {
        let with_sentinel = NonNull::slice_from_raw_parts(slice.cast::<T>(), slice.len() + 1);
        // SAFETY: `n + 1` items were asked for, a sum that did not overflow.
        unsafe { self.free_slice(with_sentinel) }
    }

    /// Grow or shrink in place. To 0 items it frees and is `true`; from 0 items there is nothing to grow.
    ///
    /// # Safety
    /// As [`free_slice`](Self::free_slice), but the slice lives on, after `true` with `new_n` items.
    #[inline]
    #[track_caller]
    unsafe fn resize_slice<T>(&self, slice: NonNull<[T]>, new_n: usize) -> bool {
        // SAFETY: the caller's promise, with `T`'s own alignment.
        unsafe { self.resize_slice_aligned(slice, Alignment::of::<T>(), new_n) }
    }

    /// As [`resize_slice`](Self::resize_slice), for a slice made with `alignment`.
    ///
    /// # Safety
    /// As `resize_slice`; `alignment` is the one that the slice was made with.
    #[inline]
    #[track_caller]
    unsafe fn resize_slice_aligned<T>(&self, slice: NonNull<[T]>, alignment: Alignment, new_n: usize) -> bool {
        if new_n == 0 {
            // SAFETY: the caller's promise; with no items left the slice is dangling (I2).
            unsafe { self.free_slice_aligned(slice, alignment) };
            return true;
        }
        if slice.is_empty() {
            return false;
        }
        let Ok(bytes) = byte_len::<T>(new_n) else { return false };
        let Some(new_len) = NonZeroUsize::new(bytes) else { return true }; // Items without size: only a number changes.
        // SAFETY: live with this length and alignment by I1.
        unsafe { self.resize(bytes_of(slice), alignment.max(Alignment::of::<T>()), new_len) }
    }

    /// Grow or shrink, moving only where no byte is copied. To 0 items it frees; from 0 items `None`.
    ///
    /// # Safety
    /// As [`free_slice`](Self::free_slice), but after `None` the slice lives on.
    #[inline]
    #[track_caller]
    unsafe fn remap_slice<T>(&self, slice: NonNull<[T]>, new_n: usize) -> Option<NonNull<[T]>> {
        // SAFETY: the caller's promise, with `T`'s own alignment.
        unsafe { self.remap_slice_aligned(slice, Alignment::of::<T>(), new_n) }
    }

    /// As [`remap_slice`](Self::remap_slice), for a slice made with `alignment`.
    ///
    /// # Safety
    /// As `remap_slice`; `alignment` is the one that the slice was made with.
    #[inline]
    #[track_caller]
    unsafe fn remap_slice_aligned<T>(
        &self,
        slice: NonNull<[T]>,
        alignment: Alignment,
        new_n: usize,
    ) -> Option<NonNull<[T]>> {
        if new_n == 0 {
            // SAFETY: the caller's promise; with no items left the slice is dangling (I2).
            unsafe { self.free_slice_aligned(slice, alignment) };
            return Some(NonNull::slice_from_raw_parts(slice.cast(), 0));
        }
        if slice.is_empty() {
            return None;
        }
        let block = match NonZeroUsize::new(byte_len::<T>(new_n).ok()?) {
            // SAFETY: live with this length and alignment by I1.
            Some(new_len) => unsafe { self.remap(bytes_of(slice), alignment.max(Alignment::of::<T>()), new_len) }?,
            None => slice.cast(), // Items without size: only a number changes.
        };
        Some(NonNull::slice_from_raw_parts(block.cast(), new_n))
    }

    /// Grow or shrink, moving and copying where it must. From 0 items it allocates, to 0 it frees.
    /// New items are uninitialised.
    ///
    /// # Errors
    /// As `alloc_slice`; `slice` is then as it was. A shrink can fail too, where the block must move.
    ///
    /// # Safety
    /// As [`free_slice`](Self::free_slice), but after an error the slice lives on.
    #[inline]
    #[track_caller]
    unsafe fn realloc_slice<T>(&self, slice: NonNull<[T]>, new_n: usize) -> Result<NonNull<[T]>, AllocError> {
        // SAFETY: the caller's promise, with `T`'s own alignment.
        unsafe { self.realloc_slice_aligned(slice, Alignment::of::<T>(), new_n) }
    }

    /// As [`realloc_slice`](Self::realloc_slice), for a slice made with `alignment`.
    ///
    /// # Errors
    /// As `realloc_slice`.
    ///
    /// # Safety
    /// As `realloc_slice`; `alignment` is the one that the slice was made with.
    #[track_caller]
    unsafe fn realloc_slice_aligned<T>(
        &self,
        slice: NonNull<[T]>,
        alignment: Alignment,
        new_n: usize,
    ) -> Result<NonNull<[T]>, AllocError> {
        if slice.is_empty() {
            return self.alloc_slice_aligned(new_n, alignment);
        }
        let alignment = alignment.max(Alignment::of::<T>());
        if new_n == 0 {
            // SAFETY: the caller's promise.
            unsafe { self.free_slice_aligned(slice, alignment) };
            return Ok(NonNull::slice_from_raw_parts(alignment.dangling().cast(), 0));
        }
        let Some(new_len) = NonZeroUsize::new(byte_len::<T>(new_n)?) else {
            return Ok(NonNull::slice_from_raw_parts(slice.cast(), new_n)); // Items without size.
        };
        let memory = bytes_of(slice);
        // SAFETY: live with this length and alignment by I1.
        if let Some(block) = unsafe { self.remap(memory, alignment, new_len) } {
            return Ok(NonNull::slice_from_raw_parts(block.cast(), new_n));
        }
        // SAFETY: live with this length by I1; `None` has changed nothing (clause 3).
        let block = unsafe { copy_of(self, memory, alignment, new_len) }?;
        // SAFETY: still live, so its bytes may be written.
        unsafe { mark_undefined(memory) };
        // SAFETY: still live with this length and alignment; its contents are in `block` now.
        unsafe { self.free(memory, alignment) };
        Ok(NonNull::slice_from_raw_parts(block.cast(), new_n))
    }

    /// `remap`, and where that is refused alloc, copy the smaller length, free. Marks nothing.
    ///
    /// # Errors
    /// As `alloc`; `memory` is then as it was.
    ///
    /// # Safety
    /// `memory` is a live block of this allocator, with this `alignment` (clause 1).
    #[inline]
    #[track_caller]
    unsafe fn realloc_in_place_or_move(
        &self,
        memory: NonNull<[u8]>,
        alignment: Alignment,
        new_len: NonZeroUsize,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the caller's promise, passed on unchanged.
        if let Some(block) = unsafe { self.remap(memory, alignment, new_len) } {
            return Ok(block);
        }
        // SAFETY: live by the caller's promise; `None` has changed nothing (clause 3).
        let block = unsafe { copy_of(self, memory, alignment, new_len) }?;
        // SAFETY: still live with this alignment; its contents are in `block` now.
        unsafe { self.free(memory, alignment) };
        Ok(block)
    }
}

impl<A: Allocator + ?Sized> AllocatorExt for A {}

/// What `debug_assertions` write over memory that holds no value.
const UNDEFINED: u8 = 0xAA;

/// # Safety
/// The bytes of `memory` may be written.
#[inline]
unsafe fn mark_undefined(memory: NonNull<[u8]>) {
    if cfg!(debug_assertions) {
        // SAFETY: the caller's promise.
        unsafe { memory.cast::<u8>().write_bytes(UNDEFINED, memory.len()) };
    }
}

/// The bytes of `n` items, or an error where no `usize` holds them.
#[inline]
fn byte_len<T>(n: usize) -> Result<usize, AllocError> {
    match size_of::<T>().checked_mul(n) {
        Some(len) => Ok(len),
        None => Err(AllocError),
    }
}

/// The block under a live slice, whose byte count did not overflow when it was made.
#[inline]
fn bytes_of<T>(slice: NonNull<[T]>) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(slice.cast(), size_of::<T>() * slice.len())
}

/// Room for `n` items, marked; establishes I1 or I2.
#[inline]
#[track_caller]
fn alloc_items<T, A: Allocator + ?Sized>(
    allocator: &A,
    n: usize,
    alignment: Alignment,
) -> Result<NonNull<[T]>, AllocError> {
    let alignment = alignment.max(Alignment::of::<T>());
    let Some(len) = NonZeroUsize::new(byte_len::<T>(n)?) else {
        return Ok(NonNull::slice_from_raw_parts(alignment.dangling().cast(), n));
    };
    let block = allocator.alloc(len, alignment)?;
    // SAFETY: a new block of `len` bytes.
    unsafe { mark_undefined(NonNull::slice_from_raw_parts(block, len.get())) };
    Ok(NonNull::slice_from_raw_parts(block.cast(), n))
}

/// A new block of `new_len` bytes that begins as `memory` does.
///
/// # Safety
/// `memory` is a live block of `allocator`.
#[inline]
#[track_caller]
unsafe fn copy_of<A: Allocator + ?Sized>(
    allocator: &A,
    memory: NonNull<[u8]>,
    alignment: Alignment,
    new_len: NonZeroUsize,
) -> Result<NonNull<u8>, AllocError> {
    let block = allocator.alloc(new_len, alignment)?;
    let kept = memory.len().min(new_len.get());
    // SAFETY: both are live with at least `kept` bytes, and live blocks do not overlap (clause 1).
    unsafe { ptr::copy_nonoverlapping(memory.cast::<u8>().as_ptr(), block.as_ptr(), kept) };
    Ok(block)
}

/// Copies items to `into`: 16 to 128 bytes, for which a call of the C library's function costs more than the copy, by two
/// overlapping pieces of a fixed length.
///
/// # Safety
/// `into` has room for them, aligned for `T`, and `source` does not overlap it.
#[inline(always)]
unsafe fn copy_items<T: Copy>(source: &[T], into: NonNull<T>) {
    let len = size_of_val(source);
    let (from, to) = (source.as_ptr().cast::<u8>(), into.as_ptr().cast::<u8>());
    macro_rules! pieces {
        ($piece:literal) => {{
            // SAFETY: `len` is a piece at least, so the first and the last lie in both.
            unsafe {
                ptr::copy_nonoverlapping(from, to, $piece);
                ptr::copy_nonoverlapping(from.add(len - $piece), to.add(len - $piece), $piece);
            }
        }};
    }
    match len {
        16..=32 => pieces!(16),
        33..=64 => pieces!(32),
        65..=128 => pieces!(64),
        // SAFETY: the caller's promise.
        _ => unsafe { ptr::copy_nonoverlapping(from, to, len) },
    }
}
