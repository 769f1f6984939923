//! Comparing, in the order of unsigned bytes.
//!
//! ```text
//!   up to 3 B     the first, the middle and the last byte as one number
//!   up to 8 B     the first four and the last four as one number; they may overlap
//!   up to 32 B    words from the front and words that end at the end; they may overlap
//!   up to 4 V     the first vector, those behind it, the one that ends at the end
//!   up to 8 V     the first vector, three behind it, the four that end at the end
//!   above         | 1 V |   4 V a turn, of `b` where V divides the address   |   | the last 4 V |
//! ```
//!
//! A step of vectors finds out whether any byte in it differs; [`first_difference`] then says which.
//!
//! - **R1** Reads lie in `a .. a + len` and `b .. b + len`, and all bytes before those of a step are equal or among them.

use core::cmp::Ordering;

use crate::vector::Vector;

/// Compares `len` bytes.
///
/// # Safety
/// `a` and `b` can be read for `len` bytes; the machine has the vector, which has 32 bytes at most.
#[inline(always)]
pub(crate) unsafe fn any<V: Vector>(a: *const u8, b: *const u8, len: usize) -> Ordering {
    match len {
        0 => Ordering::Equal,
        1..=3 => {
            // SAFETY: the arm; the rest is the caller's promise.
            let a = unsafe { three(a, len) };
            // SAFETY: as above.
            a.cmp(&unsafe { three(b, len) })
        }
        4..=8 => {
            // SAFETY: the arm; the rest is the caller's promise.
            let a = unsafe { eight(a, len) };
            // SAFETY: as above.
            a.cmp(&unsafe { eight(b, len) })
        }
        // SAFETY: the arm; the rest is the caller's promise.
        9..=32 => unsafe { words(a, b, len) },
        // SAFETY: more than 32, so at least a vector; the rest is the caller's promise.
        _ => unsafe { wide::<V>(a, b, len) },
    }
}

/// One to three bytes as a number that is ordered as they are.
///
/// # Safety
/// `len` bytes can be read from `at`, and `len` is from 1 to 3.
#[inline(always)]
unsafe fn three(at: *const u8, len: usize) -> u32 {
    // SAFETY: R1, since `len` is not zero.
    let [first, middle, last] = [0, len / 2, len - 1].map(|index| unsafe { at.wrapping_add(index).read() });
    u32::from_be_bytes([0, first, middle, last])
}

/// Four to eight bytes as a number that is ordered as they are.
///
/// # Safety
/// `len` bytes can be read from `at`, and `len` is from 4 to 8.
#[inline(always)]
unsafe fn eight(at: *const u8, len: usize) -> u64 {
    // SAFETY: R1, since `len` is at least four; an array of bytes has no alignment.
    let [front, end] = [0, len - 4].map(|index| unsafe { at.wrapping_add(index).cast::<[u8; 4]>().read() });
    u64::from(u32::from_be_bytes(front)) << 32 | u64::from(u32::from_be_bytes(end))
}

/// Compares words.
///
/// # Safety
/// As for [`any`]; and `len` is from 8 to 32.
#[inline(always)]
unsafe fn words(a: *const u8, b: *const u8, len: usize) -> Ordering {
    // Up to 16 bytes the two inner words are the outer ones again, which costs less than to ask.
    for at in [0, 8.min(len - 8), len.saturating_sub(16), len - 8] {
        // SAFETY: R1; an array of bytes has no alignment.
        let a = unsafe { a.wrapping_add(at).cast::<[u8; 8]>().read() };
        // SAFETY: as above.
        let b = unsafe { b.wrapping_add(at).cast::<[u8; 8]>().read() };
        if a != b {
            return u64::from_be_bytes(a).cmp(&u64::from_be_bytes(b));
        }
    }
    Ordering::Equal
}

/// Compares vectors.
///
/// # Safety
/// As for [`any`]; and `len` is at least a vector.
#[inline(always)]
pub(crate) unsafe fn wide<V: Vector>(a: *const u8, b: *const u8, len: usize) -> Ordering {
    let one = |at| {
        // SAFETY: at every call the vector ends at `len` or before.
        unsafe { differ::<V, 1>(a, b, at) }
    };
    let four = |at| {
        // SAFETY: at every call the four vectors end at `len` or before.
        unsafe { differ::<V, 4>(a, b, at) }
    };
    let step = 'differs: {
        if one(0) {
            break 'differs 0;
        }
        if len <= 4 * V::LEN {
            for at in [V::LEN, 2 * V::LEN] {
                if at + V::LEN < len && one(at) {
                    break 'differs at;
                }
            }
            if one(len - V::LEN) {
                break 'differs len - V::LEN;
            }
            return Ordering::Equal;
        }
        let last = len - 4 * V::LEN;
        if len <= 8 * V::LEN {
            // SAFETY: `len` is more than four vectors.
            if unsafe { differ::<V, 3>(a, b, V::LEN) } {
                break 'differs V::LEN;
            }
        } else {
            let mut at = V::LEN - b.addr() % V::LEN;
            while at < last {
                if four(at) {
                    break 'differs at;
                }
                at += 4 * V::LEN;
            }
        }
        if four(last) {
            break 'differs last;
        }
        return Ordering::Equal;
    };
    // SAFETY: a byte in the step differs, and the step's vectors can be read.
    unsafe { first_difference::<V>(a, b, step) }
}

/// Whether any byte of `N` vectors from `at` differs.
///
/// # Safety
/// As for [`any`]; and the vectors end at `len` or before.
#[inline(always)]
unsafe fn differ<V: Vector, const N: usize>(a: *const u8, b: *const u8, at: usize) -> bool {
    // SAFETY: the caller's promise.
    let mut all = unsafe { xor::<V>(a, b, at) };
    for index in 1..N {
        // SAFETY: the caller's promise.
        all = all.or(unsafe { xor::<V>(a, b, at + index * V::LEN) });
    }
    !all.is_zero()
}

/// The order of the first bytes that differ, of those from `at`.
///
/// # Safety
/// As for [`any`]; and of the vectors from `at` one differs, which ends at `len` or before.
#[inline(always)]
unsafe fn first_difference<V: Vector>(a: *const u8, b: *const u8, mut at: usize) -> Ordering {
    loop {
        // SAFETY: at the vector that differs or before it.
        let xor = unsafe { xor::<V>(a, b, at) };
        if !xor.is_zero() {
            // SAFETY: inside that vector.
            return unsafe { byte(a, b, at + xor.first_nonzero()) };
        }
        at += V::LEN;
    }
}

/// The order of the bytes at `at`.
///
/// # Safety
/// Both can be read.
#[inline(always)]
pub(crate) unsafe fn byte(a: *const u8, b: *const u8, at: usize) -> Ordering {
    // SAFETY: the caller's promise.
    let a = unsafe { a.wrapping_add(at).read() };
    // SAFETY: likewise.
    a.cmp(&unsafe { b.wrapping_add(at).read() })
}

/// What differs in the vectors at `at`.
///
/// # Safety
/// As for [`any`]; and the vector ends at `len` or before.
#[inline(always)]
unsafe fn xor<V: Vector>(a: *const u8, b: *const u8, at: usize) -> V {
    // SAFETY: R1.
    let a = unsafe { V::load(a.wrapping_add(at)) };
    // SAFETY: R1.
    a.xor(unsafe { V::load(b.wrapping_add(at)) })
}
