//! The operations on pointers: for memory that is no slice yet, or that C hands over.
//!
//! The lengths are in bytes; with a length of zero any pointers do. Cost: one call through the table of the level in use, as one into a
//! shared library is.

use core::cmp::Ordering;

use crate::level::ops;

/// Copies `len` bytes from `src` to `dst`.
///
/// # Safety
/// `src` can be read and `dst` written for `len` bytes, and the two do not overlap.
///
/// ```
/// let (mut to, from) = ([0; 5], *b"bytes");
/// // SAFETY: two arrays of five bytes.
/// unsafe { terrace_memops::raw::copy(to.as_mut_ptr(), from.as_ptr(), 5) };
/// assert_eq!(to, from);
/// ```
#[doc(alias("memcpy", "memcpyFast", "memcpySIMD"))]
#[inline]
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: L1, and the caller's promise.
    unsafe { (ops().copy)(dst, src, len) }
}

/// Writes `byte` to `len` bytes from `dst`.
///
/// # Safety
/// `dst` can be written for `len` bytes.
///
/// ```
/// let mut to = [0; 5];
/// // SAFETY: the first three of five bytes.
/// unsafe { terrace_memops::raw::fill(to.as_mut_ptr(), 0xFF, 3) };
/// assert_eq!(to, [0xFF, 0xFF, 0xFF, 0, 0]);
/// ```
#[doc(alias("memset", "memsetSIMD"))]
#[inline]
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) {
    // SAFETY: L1, and the caller's promise.
    unsafe { (ops().fill)(dst, byte, len) }
}

/// Compares `len` bytes: the order of the first that differ, as unsigned numbers.
///
/// # Safety
/// `a` and `b` can be read for `len` bytes.
///
/// ```
/// let (a, b) = (*b"abc", *b"abd");
/// // SAFETY: two arrays of three bytes.
/// let order = unsafe { terrace_memops::raw::compare(a.as_ptr(), b.as_ptr(), 3) };
/// assert!(order.is_lt());
/// ```
#[doc(alias("memcmp", "memcmpSIMD"))]
#[inline]
pub unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> Ordering {
    // SAFETY: L1, and the caller's promise.
    unsafe { (ops().compare)(a, b, len) }
}
