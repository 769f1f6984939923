//! What the work itself needs, taken from the system directly, so that the contestant's memory is the contestant's.

use std::{
    ops::Range,
    ptr, slice,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::smp::cells::Cell;

/// Pointers to live blocks, all null at first.
///
/// - **I1** `entries` is a mapping of its own of that many pointers, written from the start, until the process ends.
pub struct Table {
    entries: &'static mut [*mut u8],
}

// SAFETY: by I1 the pages belong to the table; whose blocks the pointers name is the work's affair.
unsafe impl Send for Table {}

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Resident bytes of all tables, which are not the contestant's.
pub fn taken() -> usize {
    TAKEN.load(Relaxed)
}

impl Table {
    /// Its pages are touched here, so that what is resident can be told from what the work makes so.
    pub fn new(len: usize) -> Self {
        let bytes = len.max(1) * size_of::<*mut u8>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new private mapping touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "pages for {len} pointers");
        TAKEN.fetch_add(bytes.next_multiple_of(4096), Relaxed);
        // SAFETY: the mapping has room for `len` pointers, is zero, which is null, and is never unmapped (I1).
        let entries = unsafe { slice::from_raw_parts_mut(start.cast(), len) };
        Self { entries }
    }

    pub fn entries(&mut self) -> &mut [*mut u8] {
        self.entries
    }
}

/// A multiplicative generator: two instructions a number, the same numbers for every contestant.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    #[inline(always)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(0x2545_F491_4F6C_DD1D);
        self.0
    }

    /// A number in `0..below`, which is below 2³².
    #[inline(always)]
    pub fn below(&mut self, below: usize) -> usize {
        scale(self.next(), below)
    }
}

/// A number in `0..below` from the upper half of `random`.
#[inline(always)]
pub fn scale(random: u64, below: usize) -> usize {
    (((random >> 32) * below as u64) >> 32) as usize
}

/// Block sizes that are evenly spread.
#[derive(Clone, Copy)]
pub struct Sizes {
    least: usize,
    span: usize,
}

impl Sizes {
    pub fn new(cell: &Cell) -> Self {
        Self { least: cell.size, span: cell.size_max.max(cell.size) - cell.size + 1 }
    }

    /// From bits 16 to 31 of a random number; a place is taken from those above.
    #[inline(always)]
    pub fn pick(self, random: u64) -> usize {
        self.least + ((((random >> 16) & 0xFFFF) as usize * self.span) >> 16)
    }
}

/// Out of a hundred blocks so many have a size in the range: few large ones, but most of the bytes.
const MIX: [(usize, Range<usize>); 4] = [(60, 16..129), (25, 129..1025), (13, 1025..8193), (2, 8193..65537)];

/// The mixture as 256 sizes, for a size to be picked by eight bits.
pub fn mixture(seed: u64) -> [usize; 256] {
    let mut random = Random::new(seed);
    let mut sizes = [0; 256];
    for (index, size) in sizes.iter_mut().enumerate() {
        let hundredth = index * 100 / 256;
        let mut sum = 0;
        let ranges = MIX.iter().find(|(share, _)| {
            sum += share;
            hundredth < sum
        });
        let range = &ranges.unwrap_or(&MIX[3]).1;
        *size = range.start + random.below(range.len());
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixture_has_the_promised_shares() {
        let sizes = mixture(4);
        let share = |range: Range<usize>| sizes.iter().filter(|size| range.contains(size)).count() * 100 / 256;
        assert_eq!(share(16..65537), 100);
        for (percent, range) in MIX {
            assert!(share(range.clone()).abs_diff(percent) <= 1, "{range:?}");
        }
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_its_ends() {
        let mut random = Random::new(1);
        let mut seen = [false; 10];
        (0..1000).for_each(|_| seen[random.below(10)] = true);
        assert_eq!(seen, [true; 10]);
        let sizes = Sizes { least: 16, span: 241 };
        assert_eq!([sizes.pick(0), sizes.pick(u64::MAX)], [16, 256]);
    }

    #[test]
    fn a_table_starts_empty() {
        let mut table = Table::new(1000);
        assert_eq!(table.entries().len(), 1000);
        assert!(table.entries().iter().all(|entry| entry.is_null()));
    }
}
