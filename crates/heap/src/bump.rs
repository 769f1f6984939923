//! The arithmetic of bump allocation, on plain integers: where a block lands, how large a node is.
//!
//! Nothing here touches memory, so every function can be tried on every edge of the address space.
//! Shared by the arena, the fixed buffer, the stack and the pool.
#![forbid(unsafe_code)]

use core::num::NonZeroUsize;

use terrace_core::Alignment;

/// The largest block that any allocator hands out (clause 2 of the contract).
pub(crate) const MAX_LEN: usize = isize::MAX as usize;

/// Start and end of a block of `len` bytes bumped from address `from`, where it ends at or below `limit`.
#[inline]
pub(crate) const fn fit(from: usize, limit: usize, len: usize, alignment: Alignment) -> Option<(usize, usize)> {
    let Some(start) = alignment.forward(from) else { return None };
    match start.checked_add(len) {
        Some(end) if end <= limit => Some((start, end)),
        _ => None,
    }
}

/// [`fit`] in offsets from `base`, the address of a buffer of `size` bytes of which `end` are taken: start and end of
/// the block. The buffer ends within the address space, so that a start that wraps has more padding than there is room.
#[inline(always)]
pub(crate) const fn fit_offset(
    base: usize,
    end: usize,
    size: usize,
    len: usize,
    alignment: Alignment,
) -> Option<(usize, usize)> {
    let padding = base.wrapping_add(end).wrapping_neg() & (alignment.bytes() - 1);
    match padding.checked_add(len) {
        Some(need) if need <= size - end => Some((end + padding, end + need)),
        _ => None,
    }
}

/// Where length and alignment are known and no larger than this, [`bump_negated`] needs one check less.
const SMALL: usize = 1 << 14;

/// The highest address that [`bump_negated`] is asked for as a limit.
pub(crate) const CEILING: usize = usize::MAX - 2 * SMALL;

/// [`fit`] for an address that is kept negated, the limit left to the caller: start and end of the block, both
/// negated. Rounding an address up is rounding its negation down, which is one `and`.
///
/// `neg_from` is the negation of an address up to CEILING.
#[inline(always)]
pub(crate) const fn bump_negated(neg_from: usize, len: usize, alignment: Alignment) -> Option<(usize, usize)> {
    let neg_start = alignment.backward(neg_from);
    let (neg_end, borrowed) = neg_start.overflowing_sub(len);
    if borrowed {
        core::hint::cold_path();
        // With both small `neg_start`, at least `2 * SMALL - (SMALL - 1)`, is no less than `len`: then nothing is
        // borrowed, and where the compiler knows them the whole check folds away.
        if len > SMALL || alignment.bytes() > SMALL {
            return None;
        }
    }
    Some((neg_start, neg_end))
}

/// Bytes of a node whose first block, of `len` bytes, starts at `header` rounded up to `alignment`.
pub(crate) fn node_len(header: usize, alignment: Alignment, len: NonZeroUsize) -> Option<usize> {
    let start = alignment.forward(header)?;
    len.get().checked_add(start).filter(|&size| size <= MAX_LEN)
}

/// Bytes from the start of a block that begins with a header of `header` bytes, a power of two, to what follows it at
/// `alignment`.
#[inline]
pub(crate) const fn prefix(header: usize, alignment: Alignment) -> usize {
    if alignment.bytes() > header { alignment.bytes() } else { header }
}

/// [`prefix`], and the length of such a block with `len` bytes behind it.
#[inline]
pub(crate) const fn prefixed(header: usize, len: NonZeroUsize, alignment: Alignment) -> Option<(usize, NonZeroUsize)> {
    let prefix = prefix(header, alignment);
    match len.checked_add(prefix) {
        Some(total) if total.get() <= MAX_LEN => Some((prefix, total)),
        _ => None,
    }
}

/// From one item of `len` bytes to the next where each is aligned, and the bytes from the first to the last one's end.
pub(crate) const fn array(len: usize, alignment: Alignment, n: usize) -> Option<(usize, usize)> {
    let Some(stride) = alignment.forward(len) else { return None };
    let Some(last) = n.checked_sub(1) else { return Some((stride, 0)) };
    let Some(start) = stride.checked_mul(last) else { return None };
    match start.checked_add(len) {
        Some(total) if total <= MAX_LEN => Some((stride, total)),
        _ => None,
    }
}

/// What an arena holds of its backing at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Nodes in the list.
    pub(crate) nodes: usize,
    /// Bytes of those nodes, headers included.
    pub(crate) held: usize,
    /// Bytes between headers and end offsets: live, padding, and freed but not last; or the most that ever were.
    pub(crate) used: usize,
}

impl Holding {
    /// The law: with this request served, an arena of `nodes` nodes may hold this many bytes.
    pub(crate) const fn law(used: usize, nodes: usize, len: usize, alignment: Alignment) -> usize {
        let base = used.saturating_add(len).saturating_add(alignment.bytes());
        base.saturating_add(base / 2).saturating_add(nodes.saturating_mul(64))
    }

    /// How large a further node may be that must have `need` bytes.
    pub(crate) const fn new_node(self, need: usize, len: usize, alignment: Alignment) -> usize {
        between(need, Self::law(self.used, self.nodes.saturating_add(1), len, alignment).saturating_sub(self.held))
    }

    /// How large the newest node, now of `size` bytes, may become that must have `need`.
    pub(crate) const fn grown_node(self, size: usize, need: usize, len: usize, alignment: Alignment) -> usize {
        between(need, Self::law(self.used, self.nodes, len, alignment).saturating_sub(self.held - size))
    }
}

/// `wish`, but neither below `need` nor, unless `need` is, above the largest block there is.
const fn between(need: usize, wish: usize) -> usize {
    let wish = if wish > MAX_LEN { MAX_LEN } else { wish };
    if wish < need { need } else { wish }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Against the plain definition in a space of 64 addresses, moved to both ends of the real one.
    #[test]
    fn fit_is_the_lowest_aligned_place_below_the_limit() {
        for base in [0, usize::MAX - 63] {
            for (from, limit) in (0..64).flat_map(|from| (0..64).map(move |limit| (base + from, base + limit))) {
                for len in [1, 2, 3, 7, 8, 9, 31, 63, usize::MAX - 8, usize::MAX] {
                    for log2 in 0..6 {
                        let alignment = Alignment::from_log2(log2).unwrap();
                        let plain = (from..=base + 63)
                            .find(|start| start % alignment.bytes() == 0)
                            .and_then(|start| Some((start, start.checked_add(len)?)))
                            .filter(|&(_, end)| end <= limit);
                        let beyond = alignment.forward(from).is_some_and(|start| start > base + 63);
                        if !beyond {
                            assert_eq!(fit(from, limit, len, alignment), plain, "{from} {limit} {len} {log2}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_prefixed_block_has_room_for_both_and_overflows_nowhere() {
        for log2 in 0..usize::BITS {
            let alignment = Alignment::from_log2(log2).unwrap();
            let prefix = prefix(8, alignment);
            assert!(prefix >= 8 && alignment.is_aligned(prefix) && prefix.is_multiple_of(8));
            for len in [1, 2, 100, MAX_LEN - 8, MAX_LEN - 7, MAX_LEN, usize::MAX] {
                let wide = prefix as u128 + len as u128;
                let fits = wide <= MAX_LEN as u128;
                let got = prefixed(8, NonZeroUsize::new(len).unwrap(), alignment);
                assert_eq!(got.map(|(prefix, total)| (prefix, total.get() as u128)), fits.then_some((prefix, wide)));
            }
        }
    }

    #[test]
    fn an_array_of_items_ends_with_its_last_item() {
        for (len, log2) in [1, 8, 12, 24, 64, 4096, MAX_LEN, usize::MAX]
            .into_iter()
            .flat_map(|len| (0..8).map(move |log2| (len, log2)))
        {
            let alignment = Alignment::from_log2(log2).unwrap();
            let stride = (len as u128).next_multiple_of(1 << log2);
            for n in [0, 1, 2, 3, 1000, usize::MAX] {
                let total = if n == 0 { 0 } else { stride * (n as u128 - 1) + len as u128 };
                let fits = total <= MAX_LEN as u128 && stride <= usize::MAX as u128;
                let got = array(len, alignment, n).map(|(stride, total)| (stride as u128, total as u128));
                assert_eq!(got, fits.then_some((stride, total)), "{len} {log2} {n}");
            }
        }
    }

    /// Every offset of every small buffer, at both ends of the address space.
    #[test]
    fn offsets_decide_as_addresses_do() {
        for (base, size) in (0..64).flat_map(|at| (0..64 - at).map(move |size| (at, size))) {
            for (base, end) in
                [base, usize::MAX - 63 + base].into_iter().flat_map(|b| (0..=size).map(move |end| (b, end)))
            {
                for len in [1, 2, 7, 8, 31, 63, usize::MAX - 8, usize::MAX] {
                    for log2 in [0, 1, 3, 5, usize::BITS - 1] {
                        let alignment = Alignment::from_log2(log2).unwrap();
                        // A buffer may end with the address space, where no address is left for its end.
                        let wide = alignment.forward(base + end).map(|start| (start, start as u128 + len as u128));
                        let plain = wide.filter(|&(_, block_end)| block_end <= base as u128 + size as u128);
                        let plain = plain.map(|(start, _)| (start - base, start - base + len));
                        assert_eq!(
                            fit_offset(base, end, size, len, alignment),
                            plain,
                            "{base} {end} {size} {len} {log2}"
                        );
                    }
                }
            }
        }
    }

    /// Small numbers, numbers near either end and in the middle of the address space.
    fn edge() -> impl Strategy<Value = usize> {
        (prop_oneof![Just(0), Just(isize::MAX as usize), Just(usize::MAX - 100), any::<usize>()], 0usize..200)
            .prop_map(|(base, offset)| base.saturating_add(offset))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16 * ProptestConfig::default().cases))]

        /// Address 0 has no negation: a block that starts or ends there does not exist.
        #[test]
        fn negated_addresses_decide_alike(one in edge(), other in edge(), len in edge(), log2 in 0u32..usize::BITS) {
            let (from, limit) = (one.min(other).clamp(1, CEILING), one.max(other).clamp(1, CEILING));
            let alignment = Alignment::from_log2(log2).unwrap();
            let plain = fit(from, limit, len, alignment);
            let negated = bump_negated(from.wrapping_neg(), len, alignment)
                .filter(|&(_, neg_end)| neg_end >= limit.wrapping_neg());
            let without_node = bump_negated(CEILING.wrapping_neg(), len, alignment);
            prop_assert_eq!(without_node.filter(|&(_, neg_end)| neg_end == usize::MAX), None);
            prop_assert_eq!(plain, negated.map(|(start, end)| (start.wrapping_neg(), end.wrapping_neg())));
        }

        #[test]
        fn a_node_keeps_the_law_and_serves_the_request(
            used in 0usize..1 << 40, nodes in 0usize..64, slack in 0usize..1 << 20,
            len in 1usize..1 << 40, log2 in 0u32..24,
        ) {
            let alignment = Alignment::from_log2(log2).unwrap();
            let held = (used + nodes * 32 + slack).min(Holding::law(used, nodes, 0, Alignment::ONE) - 2);
            let holding = Holding { nodes, held, used };
            let need = alignment.forward(32).unwrap() + len;
            let size = holding.new_node(need, len, alignment);
            prop_assert!(size >= need);
            prop_assert!(held + size <= Holding::law(used, nodes + 1, len, alignment));
        }

        #[test]
        fn no_size_wraps(used in any::<usize>(), len in any::<usize>(), log2 in 0u32..usize::BITS) {
            let alignment = Alignment::from_log2(log2).unwrap();
            let holding = Holding { nodes: usize::MAX, held: used, used };
            prop_assert!(holding.new_node(1, len, alignment) <= MAX_LEN);
            prop_assert_eq!(holding.new_node(usize::MAX, len, alignment), usize::MAX);
            prop_assert!(holding.grown_node(used, 1, len, alignment) <= MAX_LEN);
        }
    }
}
