//! Copying.
//!
//! ```text
//!   up to 64 B    n bytes from the front and n that end at the end, n = 1, 2, 4, 8, 16, 32; they may overlap
//!   up to 8 V     the same with vectors: 1, 2 or 4 from the front, as many that end at the end
//!   above         | 1 V |   4 V a turn, stored where V divides the address   |   | the last 4 V |
//!   from LIBRARY  the C library's
//! ```
//!
//! - **C1** Reads lie in `src .. src + len`, writes in `dst .. dst + len`, and the two do not overlap: so a byte may be copied
//!   twice, and in any order.

use core::ptr;

use crate::vector::Vector;

/// From so many bytes on the C library is as fast or faster: its strings of the processor's own, and stores past the caches.
const LIBRARY: usize = 512 << 10;

/// Copies `len` bytes: up to 256 with `S`, with `L` above.
///
/// # Safety
/// `src` can be read and `dst` written for `len` bytes; they do not overlap; the machine has the vectors.
#[inline(always)]
pub(crate) unsafe fn any<S: Vector, L: Vector>(dst: *mut u8, src: *const u8, len: usize) {
    // A branch with `N` bytes from both ends has `N <= len <= 2 N`.
    if len < 16 {
        if len >= 8 {
            // SAFETY: the branch; the rest is the caller's promise.
            unsafe { ends::<8>(dst, src, len) }
        } else if len >= 4 {
            // SAFETY: as above.
            unsafe { ends::<4>(dst, src, len) }
        } else if len >= 2 {
            // SAFETY: as above.
            unsafe { ends::<2>(dst, src, len) }
        } else if len == 1 {
            // SAFETY: as above.
            unsafe { ends::<1>(dst, src, len) }
        }
    } else if len <= 32 {
        // SAFETY: as above.
        unsafe { ends::<16>(dst, src, len) }
    } else if len <= 64 {
        // SAFETY: as above.
        unsafe { ends::<32>(dst, src, len) }
    } else if len <= 256 {
        // SAFETY: as above.
        unsafe { wide::<S>(dst, src, len) }
    } else {
        // SAFETY: as above.
        unsafe { wide::<L>(dst, src, len) }
    }
}

/// Copies from `N` to `2 N` bytes.
///
/// # Safety
/// As for [`any`]; and `len` is from `N` to `2 N`.
#[inline(always)]
unsafe fn ends<const N: usize>(dst: *mut u8, src: *const u8, len: usize) {
    let back = len - N;
    // SAFETY: C1, since `N <= len`. With a constant length this is loads and stores, not a call.
    unsafe { ptr::copy_nonoverlapping(src, dst, N) };
    // SAFETY: C1, likewise.
    unsafe { ptr::copy_nonoverlapping(src.wrapping_add(back), dst.wrapping_add(back), N) };
}

/// Copies more than 64 bytes.
///
/// # Safety
/// As for [`any`]; and `len` is above 64, so at least two vectors.
#[inline(always)]
pub(crate) unsafe fn wide<V: Vector>(dst: *mut u8, src: *const u8, len: usize) {
    // An arm with `N` vectors from both ends has `N V <= len <= 2 N V`.
    if len <= 2 * V::LEN {
        // SAFETY: the arm; the rest is the caller's promise.
        unsafe { both_ends::<V, 1>(dst, src, len) }
    } else if len <= 4 * V::LEN {
        // SAFETY: as above.
        unsafe { both_ends::<V, 2>(dst, src, len) }
    } else if len <= 8 * V::LEN {
        // SAFETY: as above.
        unsafe { both_ends::<V, 4>(dst, src, len) }
    } else if len < LIBRARY {
        // SAFETY: more than eight vectors.
        unsafe { turns::<V>(dst, src, len) }
    } else {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(src, dst, len) }
    }
}

/// Copies from `N` to `2 N` vectors.
///
/// # Safety
/// As for [`any`]; and `len` is from `N` to `2 N` vectors.
#[inline(always)]
unsafe fn both_ends<V: Vector, const N: usize>(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: `N` vectors fit into `len`.
    unsafe { run::<V, N>(dst, src, 0) };
    // SAFETY: they end where `len` ends.
    unsafe { run::<V, N>(dst, src, len - N * V::LEN) };
}

/// Copies more than four vectors.
///
/// # Safety
/// As for [`any`]; and `len` is more than four vectors.
#[inline(always)]
unsafe fn turns<V: Vector>(dst: *mut u8, src: *const u8, len: usize) {
    let last = len - 4 * V::LEN;
    // SAFETY: `len` is more than a vector.
    unsafe { run::<V, 1>(dst, src, 0) };
    let mut at = V::LEN - dst.addr() % V::LEN;
    while at < last {
        // SAFETY: four vectors from `at` end before `len`, since `at < last`.
        unsafe { run::<V, 4>(dst, src, at) };
        at += 4 * V::LEN;
    }
    // SAFETY: they end where `len` ends.
    unsafe { run::<V, 4>(dst, src, last) };
}

/// Copies `N` vectors, `at` bytes from the start.
///
/// # Safety
/// As for [`any`]; and `at + N` vectors are at most `len`.
#[inline(always)]
unsafe fn run<V: Vector, const N: usize>(dst: *mut u8, src: *const u8, at: usize) {
    for index in 0..N {
        let at = at + index * V::LEN;
        // SAFETY: C1.
        let vector = unsafe { V::load(src.wrapping_add(at)) };
        // SAFETY: C1.
        unsafe { vector.store(dst.wrapping_add(at)) };
    }
}
