//! Levels: which registers there are, which are used, and how a test forces others.
//!
//! ```text
//!   USED ──▶ UNKNOWN      until the first call, which finds the widest level, stores it, and is passed on to it
//!        ──▶ a table of arch::TABLES, from then on
//! ```
//!
//! - **L1** `USED` points to `UNKNOWN`, or to a table whose level the machine has: so what its operations ask of the machine is given.
//!
//! Costs: a call loads the pointer and jumps through the table. The first one asks the machine, a microsecond or a few.

use core::{cmp::Ordering, ptr};

use terrace_sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::arch;

/// Which registers an operation is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// 64-bit words in pairs, on every machine.
    Portable,
    /// 16 bytes, on x86-64, but for kernels that are compiled without vector registers.
    Sse2,
    /// 32 bytes, on x86-64 where it is found at run time, with BMI, LZCNT and POPCNT.
    Avx2,
    /// 64 bytes, also under a mask, on x86-64 where F, BW and VL are found at run time; 32 bytes for what is longer than 256.
    Avx512,
    /// 16 bytes, on 64-bit ARM, but for kernels that are compiled without.
    Neon,
    /// 16 bytes, on WebAssembly compiled with it.
    Simd128,
}

/// What [`features`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Features {
    used: Level,
}

impl Features {
    /// The levels that this build has code for, narrowest first.
    pub fn compiled(&self) -> impl Iterator<Item = Level> {
        arch::TABLES.iter().map(|table| table.level)
    }

    /// Those of them that this machine has.
    pub fn found(&self) -> impl Iterator<Item = Level> {
        self.compiled().filter(|level| arch::has(*level))
    }

    /// The one in use: the widest found, unless another is [forced](force).
    pub fn used(&self) -> Level {
        self.used
    }

    /// Whether vector registers are in use.
    #[doc(alias("hasSimdSupport", "enable_simd"))]
    pub fn has_simd(&self) -> bool {
        self.used != Level::Portable
    }
}

/// What is compiled in, what was found at run time, what is in use.
///
/// ```
/// let features = terrace_memops::features();
/// assert!(features.found().any(|level| level == features.used()));
/// println!("{:?} of {:?}", features.used(), features.compiled().collect::<Vec<_>>());
/// ```
pub fn features() -> Features {
    let used = ops();
    Features { used: if ptr::eq(used, &raw const UNKNOWN) { widest().level } else { used.level } }
}

/// Uses `level` from now on, in all threads; `None` is the widest again. `false`, and no change, where the build or the machine
/// does not have it. For tests and measurements: the results are the same at every level.
///
/// ```
/// use terrace_memops::{Level, features, force};
///
/// assert!(force(Some(Level::Portable)));
/// assert!(!features().has_simd());
/// assert!(force(None));
/// ```
pub fn force(level: Option<Level>) -> bool {
    let mut here = arch::TABLES.iter().rev().filter(|table| arch::has(table.level));
    let found = here.find(|table| level.is_none_or(|level| level == table.level));
    if let Some(table) = found {
        USED.store(ptr::from_ref(table).cast_mut(), Relaxed); // L1: the filter above.
    }
    found.is_some()
}

terrace_sync::statics! {
    static USED: AtomicPtr<Ops> = AtomicPtr::new(ptr::from_ref(&UNKNOWN).cast_mut());
}

/// The table in use.
#[inline(always)]
pub(crate) fn ops() -> &'static Ops {
    // SAFETY: by L1 a table, which is a static that nobody writes.
    unsafe { &*USED.load(Relaxed) }
}

/// The table until the first call: its operations look at the machine, and then do what was asked.
static UNKNOWN: Ops = Ops {
    level: Level::Portable,
    // SAFETY: L1 holds for the widest, and the caller's promise is passed on.
    copy: |dst, src, len| unsafe { (widest().copy)(dst, src, len) },
    // SAFETY: as above.
    fill: |dst, byte, len| unsafe { (widest().fill)(dst, byte, len) },
    // SAFETY: as above.
    compare: |a, b, len| unsafe { (widest().compare)(a, b, len) },
    // SAFETY: as above.
    and_not: |into, mask| unsafe { (widest().and_not)(into, mask) },
    // SAFETY: as above.
    count_ones: |words| unsafe { (widest().count_ones)(words) },
    // SAFETY: as above.
    first_nonzero: |words| unsafe { (widest().first_nonzero)(words) },
};

/// Finds the widest level, and uses it from now on.
#[cold]
fn widest() -> &'static Ops {
    let here = |table: &&Ops| arch::has(table.level);
    let table = arch::TABLES.iter().rfind(here).unwrap_or(&arch::TABLES[0]);
    USED.store(ptr::from_ref(table).cast_mut(), Relaxed); // L1: `has`; and every machine has the first.
    table
}

/// The operations at one level. Each needs a machine that has the level, besides what it asks itself.
pub(crate) struct Ops {
    pub(crate) level: Level,
    /// As [`raw::copy`](crate::raw::copy).
    pub(crate) copy: unsafe fn(*mut u8, *const u8, usize),
    /// As [`raw::fill`](crate::raw::fill).
    pub(crate) fill: unsafe fn(*mut u8, u8, usize),
    /// As [`raw::compare`](crate::raw::compare).
    pub(crate) compare: unsafe fn(*const u8, *const u8, usize) -> Ordering,
    /// As [`bits::and_not`](crate::bits::and_not).
    pub(crate) and_not: unsafe fn(&mut [u64], &[u64]),
    /// As [`bits::count_ones`](crate::bits::count_ones).
    pub(crate) count_ones: unsafe fn(&[u64]) -> usize,
    /// The index of the first word that is not zero.
    pub(crate) first_nonzero: unsafe fn(&[u64]) -> Option<usize>,
}

/// A level's table: the operations named, and those of `bits.rs`, compiled with the level's instructions.
macro_rules! level {
    ($(#[$features:meta])* $name:ident, $level:expr, $copy:path, $fill:path, $compare:path) => {
        mod $name {
            #[allow(clippy::wildcard_imports, reason = "the vector's type and the level's own functions")]
            use super::*;

            pub(crate) const OPS: Ops =
                Ops { level: $level, copy: copying, fill: filling, compare: comparing, and_not, count_ones, first_nonzero };

            /// # Safety
            /// As [`Ops`] says.
            $(#[$features])*
            unsafe fn copying(dst: *mut u8, src: *const u8, len: usize) {
                // SAFETY: passed on; the machine has the vector, since it has the level.
                unsafe { $copy(dst, src, len) }
            }

            /// # Safety
            /// As [`Ops`] says.
            $(#[$features])*
            unsafe fn filling(dst: *mut u8, byte: u8, len: usize) {
                // SAFETY: as above.
                unsafe { $fill(dst, byte, len) }
            }

            /// # Safety
            /// As [`Ops`] says.
            $(#[$features])*
            unsafe fn comparing(a: *const u8, b: *const u8, len: usize) -> core::cmp::Ordering {
                // SAFETY: as above.
                unsafe { $compare(a, b, len) }
            }

            $(#[$features])*
            fn and_not(into: &mut [u64], mask: &[u64]) {
                crate::bits::and_not_plain(into, mask);
            }

            $(#[$features])*
            fn count_ones(words: &[u64]) -> usize {
                crate::bits::count_ones_plain(words)
            }

            $(#[$features])*
            fn first_nonzero(words: &[u64]) -> Option<usize> {
                crate::bits::first_nonzero_plain(words)
            }
        }
    };
}
pub(crate) use level;
