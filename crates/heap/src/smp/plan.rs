//! Where things lie in a region, and how runs of pages are found in it: arithmetic on plain integers.
//!
//! ```text
//!   a region, `bytes` long and aligned to that
//!   +--------+------+-------+---------+--------+-------+------+------+------+ … +------+
//!   | Header | free | dirty | classes | firsts | slabs | page | page | page |   | page |
//!   +--------+------+-------+---------+--------+-------+------+------+------+ … +------+
//!   0        1 bit a page   1 byte    2 bytes  32 bytes ^ `first_page`, the books' own pages lie before it
//! ```
//!
//! Cost: offsets are constants; a run is found in one pass over the words of the map.
#![forbid(unsafe_code)]

use super::class::PAGE;

/// The smallest region: room for its books, a slot table in the rest of its first half, and the largest slab.
pub(crate) const SMALLEST: usize = 64 << 10;
/// The largest: page numbers are kept in 16 bits.
pub(crate) const LARGEST: usize = 256 << 20;

const HEADER: usize = 64;
pub(crate) const SLAB: usize = 32;

/// Offsets of a region's books, in bytes from its start.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) pages: usize,
    pub(crate) words: usize,
    pub(crate) free: usize,
    pub(crate) dirty: usize,
    pub(crate) classes: usize,
    pub(crate) firsts: usize,
    pub(crate) slabs: usize,
    pub(crate) first_page: usize,
}

impl Plan {
    pub(crate) const fn of(bytes: usize) -> Self {
        assert!(
            bytes.is_power_of_two() && bytes >= SMALLEST && bytes <= LARGEST,
            "a region is a power of two from 64 KiB to 256 MiB"
        );
        let pages = bytes / PAGE;
        let words = pages.div_ceil(64);
        let free = HEADER;
        let dirty = free + words * 8;
        let classes = dirty + words * 8;
        let firsts = classes + pages;
        let slabs = (firsts + pages * 2).next_multiple_of(SLAB);
        let first_page = (slabs + pages * SLAB).div_ceil(PAGE);
        Self { pages, words, free, dirty, classes, firsts, slabs, first_page }
    }

    /// Pages that can be handed out.
    pub(crate) const fn usable(&self) -> usize {
        self.pages - self.first_page
    }
}

/// The first run of `len` ones in `map` that begins at a multiple of `alignment`, a power of two.
pub(crate) fn find_run(map: &[u64], len: usize, alignment: usize) -> Option<usize> {
    let mut at = 0;
    loop {
        at = next(map, at, 0)?.next_multiple_of(alignment);
        let end = next(map, at, u64::MAX).unwrap_or(map.len() * 64);
        if end >= at + len {
            return Some(at);
        }
        at = end.max(at);
        if at >= map.len() * 64 {
            return None;
        }
    }
}

/// The first bit at or behind `from` that is 1 after the map is inverted by `flip`.
fn next(map: &[u64], from: usize, flip: u64) -> Option<usize> {
    let mut index = from / 64;
    let mut word = (map.get(index)? ^ flip) & (u64::MAX << (from % 64));
    while word == 0 {
        index += 1;
        word = map.get(index)? ^ flip;
    }
    Some(index * 64 + word.trailing_zeros() as usize)
}

/// The run of ones that begins at the first one at or behind `from`: where it begins and how long it is.
pub(crate) fn next_run(map: &[u64], from: usize) -> Option<(usize, usize)> {
    let start = next(map, from, 0)?;
    Some((start, next(map, start, u64::MAX).unwrap_or(map.len() * 64) - start))
}

/// Sets `len` bits from `from` on to `to`; how many were different.
pub(crate) fn set(map: &mut [u64], from: usize, len: usize, to: bool) -> usize {
    let mut changed = 0;
    let mut at = from;
    while at < from + len {
        let count = (64 - at % 64).min(from + len - at);
        let mask = (u64::MAX >> (64 - count)) << (at % 64);
        let word = &mut map[at / 64];
        changed += if to { !*word & mask } else { *word & mask }.count_ones() as usize;
        *word = if to { *word | mask } else { *word & !mask };
        at += count;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn books_lie_behind_one_another_and_before_the_pages() {
        let mut bytes = SMALLEST;
        while bytes <= LARGEST {
            let plan = Plan::of(bytes);
            let ends = [plan.free, plan.dirty, plan.classes, plan.firsts, plan.slabs, plan.first_page * PAGE];
            assert!(
                ends.is_sorted()
                    && plan.free == HEADER
                    && plan.slabs.is_multiple_of(SLAB)
                    && plan.free.is_multiple_of(8)
            );
            assert!(plan.words * 64 >= plan.pages && plan.pages <= 1 << 16);
            let small = plan.first_page == 1 || plan.first_page * 100 <= plan.pages * 7;
            assert!(small, "the books take a page, or 7 in 100 at most: {bytes}");
            bytes *= 2;
        }
    }

    fn bit(map: &[u64], at: usize) -> bool {
        map[at / 64] >> (at % 64) & 1 == 1
    }

    proptest! {
        #[test]
        fn a_run_is_the_first_that_fits(map in vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 1..5), len in 1usize..80, log2 in 0u32..5) {
            let alignment = 1 << log2;
            let fits = |at: usize| at + len <= map.len() * 64 && (at..at + len).all(|at| bit(&map, at));
            let expected = (0..map.len() * 64).step_by(alignment).find(|&at| fits(at));
            prop_assert_eq!(find_run(&map, len, alignment), expected);
        }

        #[test]
        fn setting_bits_changes_those_alone(map in vec(any::<u64>(), 3), from in 0usize..192, len in 1usize..192, to: bool) {
            prop_assume!(from + len <= 192);
            let mut after = map.clone();
            let changed = set(&mut after, from, len, to);
            let differing = (0..192).filter(|&at| bit(&map, at) != bit(&after, at)).count();
            prop_assert_eq!(changed, differing);
            for at in 0..192 {
                prop_assert_eq!(bit(&after, at), if (from..from + len).contains(&at) { to } else { bit(&map, at) });
            }
        }

        #[test]
        fn the_next_run_is_a_whole_one(map in vec(any::<u64>(), 2), from in 0usize..128) {
            let start = (from..128).find(|&at| bit(&map, at));
            let end = start.map(|start| (start..128).find(|&at| !bit(&map, at)).unwrap_or(128));
            prop_assert_eq!(next_run(&map, from), start.zip(end).map(|(start, end)| (start, end - start)));
        }
    }
}
