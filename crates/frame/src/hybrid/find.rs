//! Runs for requests that are more than an order: any count, limits, a place to be near, a very place.
//!
//! ```text
//!  up to the threshold   near ─▶ bitmap's blocks that surely fit ─▶ a new block ─▶ blocks that may fit ─▶ a block at a limit
//!  above                 near ─▶ the buddy, and the tail that was not asked for goes back
//! ```
//!
//! The invariants are those at the top of `hybrid.rs`.

use terrace_sync::Slots;

use crate::{
    blocks::Want,
    plan,
    types::Frames,
    word::{self, BLOCK, BLOCK_ORDER, WORD, WORD_ORDER, WORDS},
};

impl<S: Slots, B> super::HybridAllocator<'_, S, B> {
    /// A run of up to 512 frames for a request that is no plain order.
    pub(super) fn alloc_small(&self, want: &Want, near: Option<usize>) -> Option<usize> {
        if let Some(at) = near.filter(|at| (self.blocks.start()..self.blocks.end()).contains(&(at / BLOCK))) {
            let behind = Want { from: at.max(want.from), ..*want };
            let block = at / BLOCK;
            let found = self
                .blocks
                .take(block, &behind)
                .or_else(|| self.out_of_both(block, &behind))
                .or_else(|| self.out_of_both(block, want));
            if found.is_some() {
                return found;
            }
        }
        let (class, least) = (want.class(), want.least_class());
        self.blocks
            .find(want, class, BLOCK_ORDER, false)
            .or_else(|| self.run_of_units(want))
            .or_else(|| self.new_block(want))
            .or_else(|| if least < class { self.blocks.find(want, least, class - 1, false) } else { None })
            .or_else(|| self.run_of_both(want))
            .or_else(|| self.part_of_block(want))
    }

    /// A run out of a block that lies at an end of the limits, and wholly in none.
    pub(super) fn part_of_block(&self, want: &Want) -> Option<usize> {
        let ends = [want.from / BLOCK, want.to.min(self.blocks.end() * BLOCK).saturating_sub(1) / BLOCK];
        ends.into_iter().find_map(|block| {
            let inside = Want { from: want.from.max(block * BLOCK), to: want.to.min((block + 1) * BLOCK), ..*want };
            let start = inside.from.next_multiple_of(1 << want.alignment);
            if block >= self.blocks.end() || start + want.count > inside.to {
                return None;
            }
            let block = self.take_blocks(0, block, block + 1)?;
            let (before, behind) = (start - block * BLOCK, (block + 1) * BLOCK - start - want.count);
            [(block * BLOCK, before), (start + want.count, behind)]
                .into_iter()
                .filter(|&(_, count)| count > 0)
                .for_each(|(frame, count)| self.put_part(frame, count));
            Some(start)
        })
    }

    /// A run of whole blocks, of which the tail that was not asked for goes back.
    pub(super) fn alloc_large(&self, want: &Want, near: Option<usize>) -> Option<usize> {
        let blocks = want.count.div_ceil(BLOCK).next_power_of_two();
        let order = blocks.trailing_zeros().max(want.alignment.saturating_sub(BLOCK_ORDER));
        let (from, to) = (want.from.div_ceil(BLOCK), (want.to / BLOCK).min(self.blocks.end()));
        let start = if order >= WORD_ORDER {
            self.take_groups(order - WORD_ORDER, from.div_ceil(WORD), to / WORD)? * WORD
        } else {
            let near = near.map(|at| at / BLOCK).filter(|block| (from..to).contains(block));
            let near = near.and_then(|block| self.take_of_group(block / WORD, order, block, to));
            near.or_else(|| self.take_blocks(order, from, to))?
        };
        let start = start * BLOCK;
        let tail = (BLOCK << order) - want.count;
        if tail > 0 {
            self.put(start + want.count, tail);
        }
        Some(start)
    }

    /// That very run, whether its blocks are held or not.
    pub(super) fn claim_all(&self, start: usize, count: usize) -> bool {
        let blocks = plan::split(start, count, BLOCK);
        let is_free = |(frame, count): (usize, usize)| {
            self.map.contains(Frames::new(frame + self.base, count)) && self.are_free(frame, count)
        };
        if !blocks.clone().all(is_free) {
            return false;
        }
        for (frame, count) in blocks.clone() {
            let block = frame / BLOCK;
            if self.has_block(block) && self.take_of_group(block / WORD, 0, block, block + 1).is_some() {
                self.part(block);
                self.units.set(block * WORDS / WORD, word::ones((block * WORDS % WORD) as u32, WORDS as u32));
            }
            self.lower(frame, count);
        }
        let claimed = self.blocks.claim(start / BLOCK, start % BLOCK, count);
        // What is not of the run, or all.
        for (frame, _) in blocks {
            self.settle_units(frame / WORD / WORD);
            self.settle_block(frame / BLOCK);
        }
        claimed
    }
}
