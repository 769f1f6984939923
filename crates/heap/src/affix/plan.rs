//! Where prefix, block and suffix lie, in plain integers.
#![forbid(unsafe_code)]

use core::num::NonZeroUsize;

use terrace_core::Alignment;

use crate::bump::MAX_LEN;

/// Sizes and alignments of what stands before and behind each block.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) prefix_size: usize,
    pub(super) prefix_alignment: Alignment,
    pub(super) suffix_size: usize,
    pub(super) suffix_alignment: Alignment,
}

/// One block of the backing. Offsets are from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Where the caller's block begins; the prefix ends there.
    pub(super) block: usize,
    /// From the caller's block to the suffix.
    pub(super) to_suffix: usize,
    pub(super) total: NonZeroUsize,
    pub(super) alignment: Alignment,
}

impl Shape {
    pub(super) const fn of<P, S>() -> Self {
        Self {
            prefix_size: size_of::<P>(),
            prefix_alignment: Alignment::of::<P>(),
            suffix_size: size_of::<S>(),
            suffix_alignment: Alignment::of::<S>(),
        }
    }

    /// `None` where no block is that long.
    #[inline]
    pub(super) const fn plan(self, len: NonZeroUsize, alignment: Alignment) -> Option<Plan> {
        let alignment = alignment.max(self.prefix_alignment).max(self.suffix_alignment);
        let Some(block) = alignment.forward(self.prefix_size) else { return None };
        let Some(to_suffix) = self.suffix_alignment.forward(len.get()) else { return None };
        let Some(suffix) = block.checked_add(to_suffix) else { return None };
        let Some(end) = suffix.checked_add(self.suffix_size) else { return None };
        match NonZeroUsize::new(end) {
            Some(total) if end <= MAX_LEN => Some(Plan { block, to_suffix, total, alignment }),
            _ => None,
        }
    }

    /// The longest block of the caller's that a block of `total` bytes of the backing has room for, where it has room for
    /// one of `len` bytes.
    pub(super) fn longest(self, total: usize, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        let room = self.plan(len, alignment).and_then(|plan| total.checked_sub(plan.block + self.suffix_size));
        let longest = room.map_or(0, |room| self.suffix_alignment.backward(room));
        NonZeroUsize::new(longest).map_or(len, |longest| longest.max(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> impl Iterator<Item = Shape> {
        let sides = [(0, 0), (1, 0), (8, 3), (12, 2), (24, 3), (64, 6)];
        sides.into_iter().flat_map(move |(prefix_size, prefix_log2)| {
            sides.into_iter().map(move |(suffix_size, suffix_log2)| Shape {
                prefix_size,
                prefix_alignment: Alignment::from_log2(prefix_log2).unwrap(),
                suffix_size,
                suffix_alignment: Alignment::from_log2(suffix_log2).unwrap(),
            })
        })
    }

    #[test]
    fn the_three_parts_are_aligned_apart_and_inside() {
        for shape in shapes() {
            for (len, log2) in (1..200usize).flat_map(|len| (0..9).map(move |log2| (len, log2))) {
                let asked = Alignment::from_log2(log2).unwrap();
                let plan = shape.plan(NonZeroUsize::new(len).unwrap(), asked).unwrap();
                assert!(plan.alignment >= asked);
                assert!(plan.alignment.is_aligned(plan.block));
                assert!(plan.block >= shape.prefix_size);
                assert!(shape.prefix_alignment.is_aligned(plan.block - shape.prefix_size), "sizes are multiples");
                assert!(plan.to_suffix >= len && shape.suffix_alignment.is_aligned(plan.block + plan.to_suffix));
                assert_eq!(plan.total.get(), plan.block + plan.to_suffix + shape.suffix_size);
                assert!(plan.block < shape.prefix_size + plan.alignment.bytes(), "no more padding than needed");
                assert!(plan.to_suffix < len + shape.suffix_alignment.bytes());
            }
        }
    }

    #[test]
    fn what_does_not_fit_into_the_address_space_has_no_plan() {
        for shape in shapes() {
            let most = MAX_LEN - shape.suffix_size;
            for (len, log2) in [MAX_LEN, MAX_LEN - 1, most, most - 64, usize::MAX]
                .into_iter()
                .flat_map(|len| [0, 3, 12, 63].map(|log2| (len, log2)))
            {
                let asked = Alignment::from_log2(log2).unwrap();
                let alignment = asked.max(shape.prefix_alignment).max(shape.suffix_alignment);
                let wide = (shape.prefix_size as u128).next_multiple_of(alignment.bytes() as u128)
                    + (len as u128).next_multiple_of(shape.suffix_alignment.bytes() as u128)
                    + shape.suffix_size as u128;
                let plan = shape.plan(NonZeroUsize::new(len).unwrap(), asked);
                assert_eq!(plan.map(|plan| plan.total.get() as u128), (wide <= MAX_LEN as u128).then_some(wide));
            }
        }
    }

    #[test]
    fn the_longest_block_fills_the_room_and_no_more() {
        for shape in shapes() {
            for (len, more) in (1..60usize).flat_map(|len| (0..80).map(move |more| (len, more))) {
                let (len, alignment) = (NonZeroUsize::new(len).unwrap(), Alignment::of::<u64>());
                let total = shape.plan(len, alignment).unwrap().total.get() + more;
                let longest = shape.longest(total, len, alignment);
                assert!(longest >= len && shape.plan(longest, alignment).unwrap().total.get() <= total);
                let next = longest.checked_add(shape.suffix_alignment.bytes()).unwrap();
                assert!(shape.plan(next, alignment).unwrap().total.get() > total);
            }
        }
    }
}
