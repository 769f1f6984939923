//! The arithmetic of blocks side by side in a region, on plain integers.
//!
//! ```text
//!  base                     end        ready                    base + capacity
//!  ├─ block ─┬pad┬─ block ─┬┄┄ usable ┄┄┬┄┄┄┄┄ not yet usable ┄┄┄┤
//! ```
//!
//! Offsets count from the region's base. `end <= ready <= capacity <= isize::MAX`.
#![forbid(unsafe_code)]

use terrace_core::Alignment;

/// Where a block of `len` bytes begins and ends behind the offset `end`: its *address* is aligned.
pub(crate) fn place(
    base: usize,
    end: usize,
    capacity: usize,
    len: usize,
    alignment: Alignment,
) -> Option<(usize, usize)> {
    let from = alignment.forward(base.checked_add(end)?)? - base;
    let to = from.checked_add(len).filter(|&to| to <= capacity)?;
    Some((from, to))
}

/// How far to make the region usable so that it is up to `end` at least: in steps, so that not every block asks.
///
/// pre: `ready < end <= capacity`.
pub(crate) fn next_ready(end: usize, capacity: usize, step: usize) -> usize {
    end.checked_next_multiple_of(step).map_or(capacity, |ready| ready.min(capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a search, over a small region at every base, with every block before.
    #[test]
    fn a_block_lies_at_the_first_aligned_address_that_is_free() {
        for base in 1..40usize {
            for (end, len) in (0..=24).flat_map(|end| (1..30).map(move |len| (end, len))) {
                for alignment in (0..6).map(|log2| Alignment::from_log2(log2).unwrap()) {
                    let first = (end..=24).find(|from| (base + from) % alignment.bytes() == 0);
                    let expected = first.map(|from| (from, from + len)).filter(|&(_, to)| to <= 24);
                    assert_eq!(place(base, end, 24, len, alignment), expected);
                }
            }
        }
    }

    #[test]
    fn nothing_overflows_at_the_end_of_the_address_space() {
        let base = usize::MAX - 100;
        for len in [1, 50, 51, usize::MAX, isize::MAX as usize] {
            for alignment in (0..usize::BITS).map(|log2| Alignment::from_log2(log2).unwrap()) {
                let placed = place(base, 50, 100, len, alignment);
                assert!(placed.is_none_or(|(from, to)| from >= 50 && to <= 100 && to - from == len));
                assert!(alignment != Alignment::ONE || placed.is_some() == (len <= 50));
            }
        }
    }

    #[test]
    fn what_is_made_usable_reaches_the_end_asked_for_and_not_beyond_the_region() {
        for capacity in 1..50 {
            for (end, step) in (1..=capacity).flat_map(|end| (1..20).map(move |step| (end, step))) {
                let ready = next_ready(end, capacity, step);
                assert!(end <= ready && ready <= capacity);
                assert!(ready == capacity || ready.is_multiple_of(step) && ready < end + step);
            }
        }
        assert_eq!(next_ready(usize::MAX - 1, usize::MAX, 1 << 20), usize::MAX);
    }
}
