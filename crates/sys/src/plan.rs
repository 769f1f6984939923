//! Where a block of pages begins and ends: rounding, and the plan of an over-aligned mapping.
//!
//! ```text
//! asked for:  len bytes at a multiple of alignment > page
//! reserved:   len + alignment - page bytes, at any page
//! +------+---------------------+---------+
//! | head | len bytes, the block|  tail   |     head + tail = alignment - page
//! +------+---------------------+---------+
//! ^ start ^ first multiple of alignment
//! ```
//!
//! Plain integers only; every page size and alignment is a power of two.
//! - **I1** No result exceeds `isize::MAX`.
//! - **I2** Every result is a multiple of the page size, where what goes in is.
#![forbid(unsafe_code)]

/// `isize::MAX`, the most bytes that one block may have.
const LIMIT: usize = isize::MAX as usize;

/// `len` rounded up to whole pages, or `None` where that is too much for a block.
///
/// pre: `len > 0`.
#[inline(always)]
pub(crate) const fn whole_pages(len: usize, page: usize) -> Option<usize> {
    // A sum that wraps ends below a page, and rounds to 0: as an `isize`, what is too much is not above 0.
    let rounded = len.wrapping_add(page - 1) & !(page - 1);
    if rounded as isize > 0 { Some(rounded) } else { None }
}

/// The bytes of the pages of a block of `len` bytes that `whole_pages` has granted.
#[inline(always)]
pub(crate) const fn pages_of(len: usize, page: usize) -> usize {
    (len + (page - 1)) & !(page - 1)
}

/// `len` bytes with a guard of `guard` bytes at either end, or `None` where that is too much for a mapping.
///
/// pre: `len` is at most `LIMIT`, and `guard` at most half of it, but for the page size that no system has, with
/// which there is no `len`.
pub(crate) const fn between_guards(len: usize, guard: usize) -> Option<usize> {
    if 2 * guard > LIMIT - len { None } else { Some(len + 2 * guard) }
}

/// What the processor maps by one entry of the next level up, in bytes: 2 MiB where pages have 4 KiB. An entry has
/// eight bytes, and a table of them fills a page.
pub(crate) const fn transparent_page(page: usize) -> usize {
    page.saturating_mul(page / 8)
}

/// How many bytes to reserve, so that `len` bytes at a multiple of `alignment` lie among them
/// wherever the reservation starts; `None` where that is too much.
///
/// pre: `len` is a multiple of `page`, at most `LIMIT`; `alignment >= page`.
#[inline]
pub(crate) const fn over_reserve(len: usize, alignment: usize, page: usize) -> Option<usize> {
    let slack = alignment - page;
    // Below, both sides are at most `LIMIT`; `1 << 63` minus a page is not.
    if slack > LIMIT - len { None } else { Some(len + slack) }
}

/// What to cut off a reservation. See the picture above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trims {
    pub(crate) head: usize,
    pub(crate) tail: usize,
}

/// The parts of `[start, start + reserved)` before and after the block.
///
/// pre: `reserved = over_reserve(len, alignment, page)`; `start` is a multiple of `page`;
/// the reservation does not reach the end of the address space.
#[inline]
pub(crate) const fn trims(start: usize, reserved: usize, len: usize, alignment: usize) -> Trims {
    let head = start.wrapping_neg() & (alignment - 1);
    Trims { head, tail: reserved - len - head }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];

    /// Lengths around every multiple of a page near 0, every power of two, and the limits.
    fn edges(page: usize) -> impl Iterator<Item = usize> {
        let near_zero = (0..8).map(move |pages| pages * page);
        let powers = (0..usize::BITS).map(|bit| 1usize << bit);
        let limits = [LIMIT, LIMIT - page, usize::MAX, usize::MAX - page];
        near_zero
            .chain(powers)
            .chain(limits)
            .flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)])
            .filter(|&len| len > 0)
    }

    #[test]
    fn rounding_to_pages_agrees_with_division() {
        for page in PAGES {
            for len in (1..=4 * page).chain(edges(page)) {
                let plain = (len as u128).div_ceil(page as u128) * page as u128;
                let expected = usize::try_from(plain).ok().filter(|&rounded| rounded <= LIMIT);
                assert_eq!(whole_pages(len, page), expected, "{len} bytes in pages of {page}");
            }
        }
    }

    #[test]
    fn guards_are_refused_exactly_where_they_pass_the_limit() {
        for page in PAGES.into_iter().chain([2 << 20, 1 << 30, 1 << 60]) {
            for len in edges(page).filter_map(|len| whole_pages(len, page)) {
                let expected = usize::try_from(len as u128 + 2 * page as u128).ok().filter(|&sum| sum <= LIMIT);
                assert_eq!(between_guards(len, page), expected);
                assert_eq!(between_guards(len, 0), Some(len));
                assert_eq!(pages_of(len, page), len);
                assert_eq!(pages_of(len - page + 1, page), len);
            }
        }
    }

    #[test]
    fn a_transparent_page_is_a_table_of_pages() {
        assert_eq!(PAGES.map(transparent_page), [2 << 20, 32 << 20, 512 << 20]);
        assert!(transparent_page(1 << (usize::BITS - 1)) > LIMIT, "and no panic");
    }

    #[test]
    fn a_reservation_is_refused_exactly_where_it_passes_the_limit() {
        for page in PAGES {
            for len in edges(page).filter_map(|len| whole_pages(len, page)) {
                for alignment in (page.trailing_zeros()..usize::BITS).map(|log2| 1usize << log2) {
                    let plain = len as u128 + alignment as u128 - page as u128;
                    let expected = usize::try_from(plain).ok().filter(|&sum| sum <= LIMIT);
                    assert_eq!(over_reserve(len, alignment, page), expected);
                }
            }
        }
    }

    /// Every page at which a reservation can start, relative to the alignment, up to 256 pages.
    #[test]
    fn a_trimmed_reservation_is_the_block_wherever_it_starts() {
        for page in PAGES {
            for alignment in (0..=8).map(|log2| page << log2) {
                for len in [1, 2, 3, 255, 256, 257].map(|pages| pages * page) {
                    let reserved = over_reserve(len, alignment, page).unwrap();
                    for start in (0..=alignment / page).map(|pages| (1 << 30) + pages * page) {
                        let Trims { head, tail } = trims(start, reserved, len, alignment);
                        assert_eq!((start + head) % alignment, 0);
                        assert!(head < alignment, "no aligned address was passed over");
                        assert_eq!(head + len + tail, reserved);
                        assert_eq!((head % page, tail % page), (0, 0), "I2");
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_reservations_trim_without_overflow() {
        for page in PAGES {
            for alignment in (page.trailing_zeros()..usize::BITS - 1).map(|log2| 1usize << log2) {
                let len = (LIMIT - (alignment - page)) & !(page - 1);
                let Some(reserved) = over_reserve(len, alignment, page) else { panic!("it is within the limit") };
                let last_start = (usize::MAX - reserved) & !(page - 1);
                for start in [page, last_start] {
                    let Trims { head, tail } = trims(start, reserved, len, alignment);
                    assert_eq!(start.wrapping_add(head) % alignment, 0);
                    assert_eq!(head + len + tail, reserved);
                }
            }
        }
    }
}
