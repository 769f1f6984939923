//! NEON, which every 64-bit ARM has but for kernels that are built without.

use core::arch::aarch64::*;

use super::{Level, Ops, compare, copy, fill, level, portable};
use crate::vector::Vector;

pub(crate) static TABLES: [Ops; 2] = [portable::OPS, neon::OPS];

level!(neon, Level::Neon, copy::any::<uint8x16_t, uint8x16_t>, fill::any::<uint8x16_t>, compare::any::<uint8x16_t>);

/// Whether the machine has the level.
pub(crate) fn has(level: Level) -> bool {
    matches!(level, Level::Portable | Level::Neon)
}

/// Four bits for each byte that is not zero.
#[inline]
#[target_feature(enable = "neon")]
fn mask(vector: uint8x16_t) -> u64 {
    let set = vreinterpretq_u16_u8(vtstq_u8(vector, vector));
    vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(set, 4)), 0)
}

impl Vector for uint8x16_t {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { vld1q_u8(at) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_u8(at, self) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: NEON is the target's.
        unsafe { vdupq_n_u8(byte) }
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        // SAFETY: NEON is the target's.
        unsafe { veorq_u8(self, other) }
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        // SAFETY: NEON is the target's.
        unsafe { vorrq_u8(self, other) }
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        // SAFETY: NEON is the target's.
        unsafe { mask(self) == 0 }
    }

    #[inline(always)]
    fn first_nonzero(self) -> usize {
        // SAFETY: NEON is the target's.
        unsafe { mask(self).trailing_zeros() as usize / 4 }
    }
}
