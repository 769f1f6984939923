//! SSE2, which every x86-64 has, AVX2 and AVX-512.
//!
//! AVX-512 brings masks: a load or store of 64 bytes that touches the first `len` of them alone, so that no branch asks how many
//! there are. Comparing up to 64 bytes is one such step, filling up to 15 another; a copy goes without, since a load of what a masked store
//! has just written waits until it is in the cache. Beyond 256 bytes the level goes on with registers of 32 bytes, which move as much in a
//! cycle.
//!
//! Asking takes up to five `cpuid`, which a hypervisor may trap: a microsecond or so each, at the first call of the process.

use core::{arch::x86_64::*, cmp::Ordering};

use super::{Level, Ops, compare, copy, fill, level, portable};
use crate::vector::Vector;

pub(crate) static TABLES: [Ops; 4] = [portable::OPS, sse2::OPS, avx2::OPS, avx512::OPS];

level!(sse2, Level::Sse2, copy::any::<__m128i, __m128i>, fill::any::<__m128i>, compare::any::<__m128i>);
level!(
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    avx2,
    Level::Avx2,
    copy::any::<__m256i, __m256i>,
    fill::any::<__m256i>,
    compare::any::<__m256i>
);
level!(
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl")]
    avx512,
    Level::Avx512,
    copy::any::<__m512i, __m256i>,
    super::fill_masked,
    super::compare_masked
);

/// Whether the processor has the level, and the system saves its registers.
pub(crate) fn has(level: Level) -> bool {
    match level {
        Level::Portable | Level::Sse2 => true,
        Level::Avx2 => found().0,
        Level::Avx512 => found().1,
        _ => false,
    }
}

/// AVX2 and AVX-512, each with what its level is compiled for.
fn found() -> (bool, bool) {
    // Miri knows no `cpuid`.
    if cfg!(miri) || __cpuid(0).eax < 7 || __cpuid(0x8000_0000).eax < 0x8000_0001 {
        return (false, false);
    }
    let all = |word: u32, bits: &[u32]| bits.iter().all(|bit| word >> bit & 1 != 0);
    // POPCNT, OSXSAVE, AVX; LZCNT.
    if !all(__cpuid(1).ecx, &[23, 27, 28]) || !all(__cpuid(0x8000_0001).ecx, &[5]) {
        return (false, false);
    }
    // SAFETY: OSXSAVE says that there is XGETBV.
    let saved = unsafe { xcr0() };
    let has = __cpuid_count(7, 0).ebx;
    // BMI1, AVX2, BMI2, with XMM and YMM; F, BW, VL, with the masks and both halves of ZMM.
    let avx2 = saved & 0x06 == 0x06 && all(has, &[3, 5, 8]);
    let avx512 = avx2 && saved & 0xE6 == 0xE6 && all(has, &[16, 30, 31]);
    (avx2, avx512)
}

/// Which registers the system saves.
#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: register 0 is there where XGETBV is.
    unsafe { _xgetbv(0) }
}

/// Fills `len` bytes.
///
/// # Safety
/// `dst` can be written for `len` bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
unsafe fn fill_masked(dst: *mut u8, byte: u8, len: usize) {
    if len >= 16 {
        // SAFETY: the branch; the rest is the caller's promise.
        return unsafe { fill::from_sixteen::<__m512i, __m256i>(dst, byte, len) };
    }
    let (mask, vector) = (mask(len) as u16, _mm_set1_epi8(byte.cast_signed()));
    // SAFETY: the mask has `len` bits.
    unsafe { _mm_mask_storeu_epi8(dst.cast(), mask, vector) }
}

/// Compares `len` bytes.
///
/// # Safety
/// `a` and `b` can be read for `len` bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
unsafe fn compare_masked(a: *const u8, b: *const u8, len: usize) -> Ordering {
    if len > 64 {
        // SAFETY: at least a vector; the rest is the caller's promise.
        return unsafe { compare::wide::<__m256i>(a, b, len) };
    }
    let mask = mask(len);
    // SAFETY: the mask has `len` bits.
    let left = unsafe { _mm512_maskz_loadu_epi8(mask, a.cast()) };
    // SAFETY: as above.
    let right = unsafe { _mm512_maskz_loadu_epi8(mask, b.cast()) };
    match _mm512_cmpneq_epi8_mask(left, right) {
        0 => Ordering::Equal,
        // SAFETY: what lies outside the mask is zero on both sides, so the first difference lies inside.
        differ => unsafe { compare::byte(a, b, differ.trailing_zeros() as usize) },
    }
}

/// The lowest `len` bits, of 64 at most.
#[inline]
#[target_feature(enable = "bmi2")]
fn mask(len: usize) -> u64 {
    _bzhi_u64(u64::MAX, len as u32)
}

/// A bit for each byte that is not zero.
///
/// # Safety
/// V1, here and in the two below.
#[inline]
#[target_feature(enable = "sse2")]
unsafe fn mask_128(vector: __m128i) -> u32 {
    _mm_movemask_epi8(_mm_cmpeq_epi8(vector, _mm_setzero_si128())).cast_unsigned() ^ 0xFFFF
}

/// A bit for each byte that is not zero.
///
/// # Safety
/// As above.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn mask_256(vector: __m256i) -> u32 {
    !_mm256_movemask_epi8(_mm256_cmpeq_epi8(vector, _mm256_setzero_si256())).cast_unsigned()
}

/// A bit for each byte that is not zero.
///
/// # Safety
/// As above.
#[inline]
#[target_feature(enable = "avx512bw")]
unsafe fn mask_512(vector: __m512i) -> u64 {
    _mm512_test_epi8_mask(vector, vector)
}

macro_rules! vector {
    ($type:ty, $len:literal, $load:ident, $store:ident, $splat:ident, $xor:ident, $or:ident, $mask:ident) => {
        impl Vector for $type {
            const LEN: usize = $len;

            #[inline(always)]
            unsafe fn load(at: *const u8) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $load(at.cast()) }
            }

            #[inline(always)]
            unsafe fn store(self, at: *mut u8) {
                // SAFETY: the caller's promise, and V1.
                unsafe { $store(at.cast(), self) }
            }

            #[inline(always)]
            unsafe fn splat(byte: u8) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $splat(byte.cast_signed()) }
            }

            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                // SAFETY: V1.
                unsafe { $xor(self, other) }
            }

            #[inline(always)]
            fn or(self, other: Self) -> Self {
                // SAFETY: V1.
                unsafe { $or(self, other) }
            }

            #[inline(always)]
            fn is_zero(self) -> bool {
                // SAFETY: V1.
                unsafe { $mask(self) == 0 }
            }

            #[inline(always)]
            fn first_nonzero(self) -> usize {
                // SAFETY: V1.
                unsafe { $mask(self).trailing_zeros() as usize }
            }
        }
    };
}

vector!(__m128i, 16, _mm_loadu_si128, _mm_storeu_si128, _mm_set1_epi8, _mm_xor_si128, _mm_or_si128, mask_128);
vector!(
    __m256i,
    32,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_set1_epi8,
    _mm256_xor_si256,
    _mm256_or_si256,
    mask_256
);
vector!(
    __m512i,
    64,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_set1_epi8,
    _mm512_xor_si512,
    _mm512_or_si512,
    mask_512
);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn the_machine_has_what_std_finds() {
        let all = |found: &[bool]| found.iter().all(|found| *found);
        let avx2 = all(&[
            std::is_x86_feature_detected!("avx2"),
            std::is_x86_feature_detected!("bmi1"),
            std::is_x86_feature_detected!("bmi2"),
            std::is_x86_feature_detected!("lzcnt"),
            std::is_x86_feature_detected!("popcnt"),
        ]);
        let avx512 = all(&[
            avx2,
            std::is_x86_feature_detected!("avx512f"),
            std::is_x86_feature_detected!("avx512bw"),
            std::is_x86_feature_detected!("avx512vl"),
        ]);
        assert_eq!(found(), (avx2, avx512));
    }
}
