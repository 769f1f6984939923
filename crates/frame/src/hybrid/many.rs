//! Batches of a hybrid allocator: runs that lie in a word go in and out by one step, of frames or of blocks.
//!
//! ```text
//!  order    0 – 5   words of 64 frames     6 – 8, in   words of 64 units
//!           9 – 14  words of 64 blocks     6 – 8, out, from 15 on   run by run
//! ```
//!
//! The invariants are those at the top of `hybrid.rs`.

use terrace_sync::Slots;

use crate::{
    batch::Units,
    index::SPLIT,
    types::{Frame, Misuse, Order},
    word::{BLOCK, BLOCK_ORDER, WORD, WORD_ORDER},
};

impl<S: Slots, B> super::HybridAllocator<'_, S, B> {
    /// More runs of `order` out of the word that `run` came from.
    pub(super) fn more(&self, run: Frame, order: Order, into: &mut [Frame]) -> usize {
        let (frame, most, log2) = (run.0 - self.base, into.len(), order.log2());
        let (leaf, runs) = if log2 < WORD_ORDER && order.frames() < self.threshold {
            (0, self.blocks.take_runs(frame, log2, most))
        } else if (WORD_ORDER..BLOCK_ORDER).contains(&log2) && order.frames() < self.threshold {
            (WORD_ORDER, self.units.take_runs(frame / WORD / WORD, log2 - WORD_ORDER, most))
        } else if (BLOCK_ORDER..super::MOST_ORDER).contains(&log2) {
            (BLOCK_ORDER, self.tree.take_runs(frame / BLOCK / WORD, log2 - BLOCK_ORDER, most))
        } else {
            return 0;
        };
        Units { base: self.base, leaf }.spread((frame >> leaf) / WORD, runs, order, into)
    }

    /// Takes runs of `order` back, from the front.
    pub(super) fn free_many(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        let one = |run| super::FrameAllocator::free_order(self, run, order);
        if order.log2() < WORD_ORDER {
            let soon = |word| self.blocks.prefetch(word * WORD);
            let put = |word: usize, mask| self.put_frames(word * WORD, mask);
            return Units { base: self.base, leaf: 0 }.free(runs, order, &self.map, soon, put, one);
        }
        if (BLOCK_ORDER..super::MOST_ORDER).contains(&order.log2()) {
            // By H3 blocks that are not marked have no bits in the bitmap.
            let plain = |group, mask| self.tree.index.has(group, SPLIT) && self.opened(group) & mask == 0;
            let soon = |group| self.tree.prefetch(group);
            let put = |group, mask| plain(group, mask) && self.put_blocks(group, mask);
            return Units { base: self.base, leaf: BLOCK_ORDER }.free(runs, order, &self.map, soon, put, one);
        }
        runs.iter().enumerate().try_for_each(|(at, &run)| one(run).map_err(|misuse| (at, misuse)))
    }

    /// Frames of the word that begins at `frame`, by their bits. `false`: some are free, or the buddy's, or nobody has
    /// freed any of their block yet; nothing has changed.
    fn put_frames(&self, frame: usize, mask: u64) -> bool {
        let block = frame / BLOCK;
        // By H2 and H3 what is split is not the buddy's.
        if !self.blocks.index.has(block, SPLIT) || self.units.has(frame / WORD) {
            return false;
        }
        match self.blocks.put_mask(frame, mask) {
            None => return false,
            Some(free) if free == !0 => self.settle_block(block),
            Some(free) => self.blocks.settle_bits(block, free),
        }
        true
    }
}
