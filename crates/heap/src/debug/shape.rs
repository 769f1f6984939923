//! Where a caller's block lies in its backing block.
//!
//! ```text
//! plain                                       pages: the block's end touches the guard, as near as its alignment lets it
//! +--------+---------+-------------+--------+ +---------+--------+---------------+---------+
//! | spare  | canary  | len bytes   | canary | | guard   | canary | len bytes     | guard   |
//! +--------+---------+-------------+--------+ +---------+--------+---------------+---------+
//! 0        before-c  before                   0         guard    before                    whole
//! ```
//!
//! - **S1** `before` is a multiple of the block's alignment, and `whole <= isize::MAX`.
//! - **S2** `before..before + len` lies in `open`, which lies in `0..whole`.
//!
//! Plain integers: tested over all small ones.
#![forbid(unsafe_code)]

use core::ops::Range;

use terrace_core::Alignment;

/// A backing block, and the caller's in it. Offsets from the backing block's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Where the caller's block begins.
    pub before: usize,
    /// Bytes of the backing block.
    pub whole: usize,
    /// Alignment of the backing block.
    pub alignment: Alignment,
    /// Bytes at the beginning that cannot be touched, a multiple of the page, and at the end.
    pub guards: (usize, usize),
}

impl Shape {
    /// Between canaries of `canary` bytes. `None`: no memory holds that.
    pub fn plain(len: usize, alignment: Alignment, canary: usize) -> Option<Self> {
        let before = alignment.forward(canary)?;
        let whole = before.checked_add(len)?.checked_add(canary)?;
        fits(whole).then_some(Self { before, whole, alignment, guards: (0, 0) })
    }

    /// Between guards of whole pages.
    pub fn paged(len: usize, alignment: Alignment, page: Alignment) -> Option<Self> {
        let front = page.max(alignment).bytes();
        let data = page.forward(len)?;
        let whole = front.checked_add(data)?.checked_add(page.bytes())?;
        let before = front + alignment.backward(data - len);
        let guards = (front, page.bytes());
        fits(whole).then_some(Self { before, whole, alignment: page.max(alignment), guards })
    }

    /// The part of the backing block that can be touched.
    pub fn open(&self) -> Range<usize> {
        self.guards.0..self.whole - self.guards.1
    }

    /// Where the canaries of `canary` bytes stand, as far as there is room, before and behind `len` bytes.
    pub fn canaries(&self, len: usize, canary: usize) -> [Range<usize>; 2] {
        let (open, end) = (self.open(), self.before + len);
        let canary = if self.guards.1 > 0 && canary > 0 { self.guards.1 } else { canary };
        let front = self.before.saturating_sub(canary).max(open.start)..self.before;
        [front, end..end.saturating_add(canary).min(open.end)]
    }
}

fn fits(bytes: usize) -> bool {
    bytes <= isize::MAX as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: Shape, len: usize, alignment: Alignment, canary: usize) {
        let open = shape.open();
        assert!(alignment.is_aligned(shape.before) && shape.alignment >= alignment, "S1: {shape:?}");
        assert!(shape.before >= open.start && shape.before + len <= open.end && open.end <= shape.whole, "S2");
        let [front, back] = shape.canaries(len, canary);
        assert!(front.end == shape.before && front.start >= open.start);
        assert!(back.start == shape.before + len && back.end <= open.end);
    }

    #[test]
    fn every_small_shape_holds_its_block_and_its_canaries() {
        let page = Alignment::new(64).unwrap();
        for len in 1..200 {
            for log2 in 0..9 {
                let alignment = Alignment::from_log2(log2).unwrap();
                for canary in [0, 1, 7, 16, 40] {
                    let plain = Shape::plain(len, alignment, canary).unwrap();
                    check(plain, len, alignment, canary);
                    assert_eq!(plain.canaries(len, canary).map(|range| range.len()), [canary; 2]);
                    check(Shape::paged(len, alignment, page).unwrap(), len, alignment, canary);
                }
            }
        }
    }

    #[test]
    fn a_block_among_pages_ends_at_its_guard_as_nearly_as_its_alignment_lets_it() {
        let page = Alignment::new(4096).unwrap();
        for len in [1, 7, 8, 4095, 4096, 4097] {
            for log2 in 0..12 {
                let alignment = Alignment::from_log2(log2).unwrap();
                let shape = Shape::paged(len, alignment, page).unwrap();
                let gap = shape.open().end - (shape.before + len);
                assert!(gap < alignment.bytes(), "{len} {alignment:?}: {gap}");
                assert_eq!(shape.canaries(len, 16)[1].len(), gap, "what is left is a canary");
            }
        }
    }

    #[test]
    fn what_no_memory_holds_has_no_shape() {
        let most = isize::MAX as usize;
        let page = Alignment::new(4096).unwrap();
        for (len, alignment) in
            [(most, 1), (most - 15, 1), (1, 1 << (usize::BITS - 1)), (usize::MAX, 1), (usize::MAX, 16)]
        {
            let alignment = Alignment::new(alignment).unwrap();
            assert_eq!(Shape::plain(len, alignment, 16), None, "{len}");
            assert_eq!(Shape::paged(len, alignment, page), None, "{len}");
        }
        assert_eq!(Shape::plain(most, Alignment::ONE, 0).unwrap().whole, most);
    }
}
