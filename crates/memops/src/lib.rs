//! Copy, fill and compare bytes, and look through bitmaps, with the widest registers that the machine has.
//!
//! ```text
//!   copy · fill · compare · equal        raw::{copy, fill, compare}        bits::*
//!                          │                       │                         │
//!                          ▼                       ▼                         ▼
//!   the table of the level in use, found at the first call:
//!                     Avx512 · Avx2 · Sse2      Neon      Simd128      Portable
//!                          │ where it is as fast or faster
//!                          ▼
//!   the C library's memcpy and memset: core's, so on a target without a C library the compiler's own
//! ```
//!
//! ```
//! let mut to = [0; 8];
//! assert_eq!(terrace_memops::copy(&mut to, b"terrace"), 7);
//! terrace_memops::fill(&mut to[7..], b'!');
//! assert!(terrace_memops::equal(&to, b"terrace!"));
//! assert!(terrace_memops::compare(&to, b"terrain").is_lt());
//! println!("by {:?}", terrace_memops::features().used());
//! ```
//!
//! [`features`] says what was compiled in, what was found, and what is in use; [`force`] makes a test use another level. What is read
//! and written lies inside the slices, at every level: no load reaches over an end and is trimmed afterwards.
//!
//! What other toolkits call these: `memcpyFast` and `memcpySIMD` are [`copy`] or [`raw::copy`], `memsetSIMD` is [`fill`], `memcmp` and
//! `memcmpSIMD` are [`compare`], `hasSimdSupport` is [`Features::has_simd`]. None of them moves bytes between places that overlap:
//! that is `<[u8]>::copy_within` or [`core::ptr::copy`]. Where the length is a constant, `copy_from_slice` becomes a few instructions in
//! place, and nothing here is faster.
//!
//! Which lengths the C library serves: copies from 512 KiB, fills from 1 MiB (from 2 KiB where registers have 16 bytes). How the two
//! compare at every length stands in `docs/measurements/memops.md`.
//!
//! Cost: linear in the length; a call is one jump through a table.
#![no_std]

mod arch;
pub mod bits;
mod compare;
mod copy;
mod fill;
mod level;
pub mod raw;
mod vector;

use core::cmp::Ordering;

pub use level::{Features, Level, features, force};

/// Copies from the start of `src` to the start of `dst` as many bytes as both have, and says how many.
///
/// ```
/// let mut to = *b"....";
/// assert_eq!(terrace_memops::copy(&mut to, b"ab"), 2);
/// assert_eq!(terrace_memops::copy(&mut to[3..], b"cdef"), 1);
/// assert_eq!(&to, b"ab.c");
/// ```
#[doc(alias("memcpy", "memcpyFast", "memcpySIMD"))]
#[inline]
pub fn copy(dst: &mut [u8], src: &[u8]) -> usize {
    let len = dst.len().min(src.len());
    // SAFETY: both have `len` bytes, and an exclusive reference overlaps no other.
    unsafe { raw::copy(dst.as_mut_ptr(), src.as_ptr(), len) };
    len
}

/// Writes `byte` to all of `dst`.
///
/// ```
/// let mut to = [0; 3];
/// terrace_memops::fill(&mut to, 0xFF);
/// assert_eq!(to, [0xFF; 3]);
/// ```
#[doc(alias("memset", "memsetSIMD"))]
#[inline]
pub fn fill(dst: &mut [u8], byte: u8) {
    // SAFETY: the slice's own length.
    unsafe { raw::fill(dst.as_mut_ptr(), byte, dst.len()) };
}

/// The order of the first bytes that differ; where one slice begins with the other, the shorter is less. As `a.cmp(b)`.
///
/// ```
/// assert!(terrace_memops::compare(b"abc", b"abd").is_lt());
/// assert!(terrace_memops::compare(b"abc", b"ab").is_gt());
/// ```
#[doc(alias("memcmp", "memcmpSIMD"))]
#[inline]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let len = a.len().min(b.len());
    // SAFETY: both have `len` bytes.
    unsafe { raw::compare(a.as_ptr(), b.as_ptr(), len) }.then(a.len().cmp(&b.len()))
}

/// Whether both have the same bytes, and as many. As `a == b`.
///
/// ```
/// assert!(terrace_memops::equal(b"same", b"same"));
/// assert!(!terrace_memops::equal(b"same", b"sam"));
/// ```
#[inline]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && compare(a, b).is_eq()
}
