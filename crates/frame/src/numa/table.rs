//! [`NodeTable`]: which node a frame may belong to, by a look into a small table.
//!
//! ```text
//!  frames         │        node 0         │ hole │       node 1             │ node 2 …
//!  cells    … [ – ][ 0 ][ 0 ][ 0 ][ 0 ][ 0 ][ several ][ 1 ][ 1 ][ 1 ][ several ][ 2 ] …      1 << shift frames each, 256 in a circle
//! ```
//!
//! - **T1** All spans together lie in no more cells than there are: no two of them lie in one by going round the circle.
//! - **T2** A cell names the one node whose span it shares frames with; nobody, where there is no such node, or where there are several.
//!
//! It is a hint: a span has holes, which may be another's, and numbers outside of all spans have cells, too. So who is named is asked whether
//! the frame is his. Spans that are powers of two, as machines have them, leave no cell to several; else there is one for each end of a node.
//!
//! Cost: a shift and a load. 256 bytes in the allocator itself.
#![forbid(unsafe_code)]

use crate::types::{Frame, Frames};

/// Their number: a cell of 4 nodes of 64 GiB is 1 GiB.
const CELLS: usize = 1 << u8::BITS;
/// No node, or several; no node's number.
const NOBODY: u8 = u8::MAX;

/// See the top of the file.
#[derive(Clone, Debug)]
pub(super) struct NodeTable {
    shift: u32,
    cells: [u8; CELLS],
}

impl NodeTable {
    /// Of nodes with these spans, node 0 first; at most 64.
    pub(super) fn new(spans: impl Iterator<Item = Frames> + Clone) -> Self {
        let with_memory = || spans.clone().enumerate().filter(|(_, span)| span.count > 0);
        let first = with_memory().map(|(_, span)| span.start.0).min().unwrap_or(0);
        let last = with_memory().map(|(_, span)| span.end() - 1).max().unwrap_or(0);
        // Two numbers are in one cell at the latest when nothing is left of them.
        let fits = |&shift: &u32| (last >> shift) - (first >> shift) < CELLS;
        let shift = (0..usize::BITS).find(fits).unwrap_or(0);
        let mut cells = [NOBODY; CELLS];
        for at in (first >> shift)..=(last >> shift) {
            let shares =
                |(_, span): &(usize, Frames)| (span.start.0 >> shift..=(span.end() - 1) >> shift).contains(&at);
            let mut sharing = with_memory().filter(shares);
            if let (Some((node, _)), None) = (sharing.next(), sharing.next()) {
                cells[at % CELLS] = node as u8;
            }
        }
        Self { shift, cells }
    }

    /// The number of the node that the frame may belong to; another number than any node's, where that is not told.
    #[inline(always)]
    pub(super) fn node(&self, frame: Frame) -> usize {
        usize::from(self.cells[usize::from((frame.0 >> self.shift) as u8)])
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn named(spans: &[Frames], frame: usize) -> Option<usize> {
        let node = NodeTable::new(spans.iter().copied()).node(Frame(frame));
        assert!(node < spans.len() || node == usize::from(NOBODY));
        (node < spans.len()).then_some(node)
    }

    #[test]
    fn equal_nodes_are_told_to_the_last_frame() {
        let spans: Vec<_> = (0..4).map(|node| Frames::new((node + 1) << 14, 1 << 14)).collect();
        for (node, span) in spans.iter().enumerate() {
            for frame in [span.start.0, span.start.0 + 77, span.end() - 1] {
                assert_eq!(named(&spans, frame), Some(node));
            }
        }
        named(&spans, usize::MAX); // Somebody, who is then asked.
    }

    #[test]
    fn nodes_at_the_ends_of_all_numbers_and_no_nodes_at_all() {
        let far = [Frames::new(0, 1), Frames::new(usize::MAX - 1, 1), Frames::new(0, 0)];
        assert_eq!(
            (named(&far, 0), named(&far, usize::MAX - 1), named(&far, usize::MAX / 2 + 1)),
            (Some(0), Some(1), None)
        );
        assert_eq!((named(&[], 0), named(&[Frames::new(5, 0)], 5)), (None, None));
        assert_eq!((named(&[Frames::new(9, 1)], 9), named(&[Frames::new(9, 1)], 8)), (Some(0), None));
        let odd = [Frames::new(255, 256), Frames::new(512, 1)];
        assert_eq!(
            [254, 255, 256, 510, 512].map(|frame| named(&odd, frame)),
            [Some(0), Some(0), Some(0), Some(0), Some(1)]
        );
    }

    proptest! {
        /// Whatever the spans, even if they overlap: who alone has a frame in his is named, or nobody is.
        #[test]
        fn nobody_else_is_named(
            spans in prop::collection::vec((0usize..5000, 0usize..2000), 0..8),
            frames in prop::collection::vec(0usize..8000, 40),
        ) {
            let spans: Vec<_> = spans.into_iter().map(|(start, count)| Frames::new(start, count)).collect();
            let alone = spans.iter().filter(|span| span.count > 0).count() == 1;
            for frame in frames {
                let has = |span: &Frames| span.contains(Frames::new(frame, 1));
                let node = named(&spans, frame);
                let others = spans.iter().enumerate().any(|(other, span)| node.is_some_and(|node| node != other) && has(span));
                prop_assert!(!others, "frame {frame}: node {node:?} of {spans:?}");
                prop_assert!(!alone || node.is_some_and(|node| has(&spans[node])) == spans.iter().any(has));
            }
        }
    }
}
