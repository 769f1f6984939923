//! WebAssembly's 16 bytes, in modules that are compiled with `-C target-feature=+simd128`. A module cannot ask at run time: one that
//! uses what its host lacks is refused whole.

use core::arch::wasm32::*;

use super::{Level, Ops, compare, copy, fill, level, portable};
use crate::vector::Vector;

pub(crate) static TABLES: [Ops; 2] = [portable::OPS, simd128::OPS];

level!(simd128, Level::Simd128, copy::any::<v128, v128>, fill::any::<v128>, compare::any::<v128>);

/// Whether the machine has the level.
pub(crate) fn has(level: Level) -> bool {
    matches!(level, Level::Portable | Level::Simd128)
}

impl Vector for v128 {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { v128_load(at.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { v128_store(at.cast(), self) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        u8x16_splat(byte)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        v128_xor(self, other)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        v128_or(self, other)
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        !v128_any_true(self)
    }

    #[inline(always)]
    fn first_nonzero(self) -> usize {
        (!u8x16_bitmask(u8x16_eq(self, u8x16_splat(0)))).trailing_zeros() as usize
    }
}
