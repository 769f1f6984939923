//! Filling.
//!
//! ```text
//!   up to 3 B     the first, the middle and the last byte
//!   up to 64 B    n bytes from the front and n that end at the end, n = 4, 8, 16; they may overlap; from 32 B as many inside
//!   up to 8 V     the same with vectors: 1, 2 or 4 from the front, as many that end at the end
//!   above         | 1 V |   4 V a turn, where V divides the address   |   | the last 4 V |
//!   from library  the C library's
//! ```
//!
//! - **F1** Writes lie in `dst .. dst + len`; a byte may be written twice, and in any order.

use core::ptr;

use crate::vector::Vector;

/// From so many bytes on the C library is as fast or faster: the processor's own stores of a string take 32 bytes at a time,
/// and no line from memory that is overwritten whole.
const fn library<V: Vector>() -> usize {
    if V::LEN < 32 { 2 << 10 } else { 1 << 20 }
}

/// Fills `len` bytes.
///
/// # Safety
/// `dst` can be written for `len` bytes; the machine has the vector.
#[inline(always)]
pub(crate) unsafe fn any<V: Vector>(dst: *mut u8, byte: u8, len: usize) {
    if len >= 16 {
        // SAFETY: the branch; the rest is the caller's promise.
        unsafe { from_sixteen::<V, V>(dst, byte, len) }
    } else if len >= 8 {
        // SAFETY: as above.
        unsafe { ends::<8>(dst, byte, len) }
    } else if len >= 4 {
        // SAFETY: as above.
        unsafe { ends::<4>(dst, byte, len) }
    } else if len > 0 {
        for at in [0, len / 2, len - 1] {
            // SAFETY: F1.
            unsafe { dst.wrapping_add(at).write(byte) };
        }
    }
}

/// Fills 16 bytes or more: up to 256 with `S`, with `L` above.
///
/// # Safety
/// As for [`any`], with both vectors; and `len` is 16 at least.
#[inline(always)]
pub(crate) unsafe fn from_sixteen<S: Vector, L: Vector>(dst: *mut u8, byte: u8, len: usize) {
    if len <= 64 {
        // Two pieces, or four, without a branch that asks which: where two do, the inner ones are the same again.
        let inner = len / 32 * 16;
        for at in [0, inner, len - 16 - inner, len - 16] {
            // SAFETY: F1. With a constant length this is a store, not a call.
            unsafe { ptr::write_bytes(dst.wrapping_add(at), byte, 16) };
        }
    } else if len <= 256 {
        // SAFETY: the branch; the rest is the caller's promise.
        unsafe { wide::<S>(dst, byte, len) }
    } else {
        // SAFETY: as above.
        unsafe { wide::<L>(dst, byte, len) }
    }
}

/// Fills from `N` to `2 N` bytes.
///
/// # Safety
/// `dst` can be written for `len` bytes, and `len` is from `N` to `2 N`.
#[inline(always)]
unsafe fn ends<const N: usize>(dst: *mut u8, byte: u8, len: usize) {
    // SAFETY: F1, since `N <= len`. With a constant length this is stores, not a call.
    unsafe { ptr::write_bytes(dst, byte, N) };
    // SAFETY: F1, likewise.
    unsafe { ptr::write_bytes(dst.wrapping_add(len - N), byte, N) };
}

/// Fills more than 64 bytes.
///
/// # Safety
/// As for [`any`]; and `len` is above 64, so at least a vector.
#[inline(always)]
unsafe fn wide<V: Vector>(dst: *mut u8, byte: u8, len: usize) {
    // SAFETY: the machine has it.
    let vector = unsafe { V::splat(byte) };
    // An arm with `N` vectors from both ends has `N V <= len <= 2 N V`.
    if len <= 2 * V::LEN {
        // SAFETY: the arm; the rest is the caller's promise.
        unsafe { both_ends::<V, 1>(dst, vector, len) }
    } else if len <= 4 * V::LEN {
        // SAFETY: as above.
        unsafe { both_ends::<V, 2>(dst, vector, len) }
    } else if len <= 8 * V::LEN {
        // SAFETY: as above.
        unsafe { both_ends::<V, 4>(dst, vector, len) }
    } else if len < library::<V>() {
        // SAFETY: more than eight vectors.
        unsafe { turns::<V>(dst, vector, len) }
    } else {
        // SAFETY: the caller's promise.
        unsafe { ptr::write_bytes(dst, byte, len) }
    }
}

/// Fills from `N` to `2 N` vectors.
///
/// # Safety
/// As for [`any`]; and `len` is from `N` to `2 N` vectors.
#[inline(always)]
unsafe fn both_ends<V: Vector, const N: usize>(dst: *mut u8, vector: V, len: usize) {
    // SAFETY: `N` vectors fit into `len`.
    unsafe { run::<V, N>(dst, vector, 0) };
    // SAFETY: they end where `len` ends.
    unsafe { run::<V, N>(dst, vector, len - N * V::LEN) };
}

/// Fills more than four vectors.
///
/// # Safety
/// As for [`any`]; and `len` is more than four vectors.
#[inline(always)]
unsafe fn turns<V: Vector>(dst: *mut u8, vector: V, len: usize) {
    let last = len - 4 * V::LEN;
    // SAFETY: `len` is more than a vector.
    unsafe { run::<V, 1>(dst, vector, 0) };
    let mut at = V::LEN - dst.addr() % V::LEN;
    while at < last {
        // SAFETY: four vectors from `at` end before `len`, since `at < last`.
        unsafe { run::<V, 4>(dst, vector, at) };
        at += 4 * V::LEN;
    }
    // SAFETY: they end where `len` ends.
    unsafe { run::<V, 4>(dst, vector, last) };
}

/// Fills `N` vectors, `at` bytes from the start.
///
/// # Safety
/// As for [`any`]; and `at + N` vectors are at most `len`.
#[inline(always)]
unsafe fn run<V: Vector, const N: usize>(dst: *mut u8, vector: V, at: usize) {
    for index in 0..N {
        // SAFETY: F1.
        unsafe { vector.store(dst.wrapping_add(at + index * V::LEN)) };
    }
}
