//! Which machine this is: the levels that are compiled for it, and which of them it has.
//!
//! Vector registers are used where the target always has some. A kernel's target that goes without (`x86_64-unknown-none`,
//! `aarch64-unknown-none-softfloat`) does not save them for whoever it interrupts, so there is only the portable level for it,
//! whatever the processor has; likewise for 32-bit x86.

use crate::{
    compare, copy, fill,
    level::{Level, Ops, level},
    vector::Pair,
};

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[path = "arch/x86.rs"]
mod machine;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[path = "arch/neon.rs"]
mod machine;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[path = "arch/simd128.rs"]
mod machine;

#[cfg(not(any(
    all(target_arch = "x86_64", target_feature = "sse2"),
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "wasm32", target_feature = "simd128"),
)))]
mod machine {
    use super::{Level, Ops, portable};

    pub(crate) static TABLES: [Ops; 1] = [portable::OPS];

    pub(crate) fn has(level: Level) -> bool {
        level == Level::Portable
    }
}

/// The tables that are compiled in, from the narrowest level, which every machine has, to the widest; whether this machine has
/// a level.
pub(crate) use machine::{TABLES, has};

level!(portable, Level::Portable, copy::any::<Pair, Pair>, fill::any::<Pair>, compare::any::<Pair>);
