//! The arithmetic of [`SyncArena`](super::SyncArena), on plain integers: ends counted from a node's first byte, and sizes
//! that are even.
//!
//! Nothing here touches memory, so every function can be tried on every edge of the address space.
#![forbid(unsafe_code)]

use core::num::NonZeroUsize;

use terrace_core::Alignment;

use crate::bump::{MAX_LEN, fit};

/// Start and end of a block of `len` bytes bumped from `end`, all counted from address `base`, the limit left to
/// the caller. The end is at most `MAX_LEN`.
#[inline]
pub(super) const fn bump_index(base: usize, end: usize, len: usize, alignment: Alignment) -> Option<(usize, usize)> {
    let Some(from) = base.checked_add(end) else { return None };
    let Some((start, end)) = fit(from, usize::MAX, len, alignment) else { return None };
    if end - base <= MAX_LEN { Some((start - base, end - base)) } else { None }
}

/// The size of a node whose last block ends `end` bytes after its `header`: even, since the lowest bit is a flag.
#[inline]
pub(super) const fn even_node(header: usize, end: usize) -> Option<NonZeroUsize> {
    match end.checked_add(header) {
        Some(size) if size < MAX_LEN => NonZeroUsize::new(size + (size & 1)),
        _ => None,
    }
}

/// The size of a further node, after one with room for `room` bytes, as Zig's arena asks for it: even, and half
/// again as large as both together.
pub(super) const fn further_node(header: usize, room: usize, len: usize, alignment: Alignment) -> Option<NonZeroUsize> {
    let need = header.saturating_add(alignment.bytes()).saturating_add(len);
    let both = room.saturating_add(need).saturating_add(16);
    even_node(0, both.saturating_add(both / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small numbers, numbers near either end and in the middle of the address space.
    fn edge() -> impl Strategy<Value = usize> {
        (prop_oneof![Just(0), Just(isize::MAX as usize), Just(usize::MAX - 100), any::<usize>()], 0usize..200)
            .prop_map(|(base, offset)| base.saturating_add(offset))
    }

    #[test]
    fn a_node_is_even_and_no_larger_than_a_block_may_be() {
        assert_eq!(even_node(24, 7).map(NonZeroUsize::get), Some(32));
        assert_eq!(even_node(24, 8).map(NonZeroUsize::get), Some(32));
        assert_eq!(even_node(24, MAX_LEN - 25).map(NonZeroUsize::get), Some(MAX_LEN - 1));
        assert_eq!(even_node(24, MAX_LEN - 24), None);
        assert_eq!(even_node(24, usize::MAX), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn an_index_is_an_address_less_its_base(
            base in edge(), end in edge(), len in edge(), log2 in 0u32..usize::BITS,
        ) {
            let alignment = Alignment::from_log2(log2).unwrap();
            let plain = base.checked_add(end).and_then(|from| fit(from, usize::MAX, len, alignment));
            let indexed = plain.map(|(start, end)| (start - base, end - base)).filter(|&(_, end)| end <= MAX_LEN);
            prop_assert_eq!(bump_index(base, end, len, alignment), indexed);
        }

        #[test]
        fn a_further_node_is_even_and_serves_the_request(
            room in edge(), len in edge(), log2 in 0u32..usize::BITS, from in 0usize..64,
        ) {
            let alignment = Alignment::from_log2(log2).unwrap();
            if let Some(size) = further_node(24, room, len, alignment) {
                prop_assert_eq!(size.get() % 2, 0);
                prop_assert!(size.get() <= MAX_LEN);
                // Wherever the node lies, as long as 8 divides the address.
                let (_, end) = bump_index(8 * from + 24, 0, len, alignment).unwrap();
                prop_assert!(24 + end <= size.get());
            }
        }
    }
}
