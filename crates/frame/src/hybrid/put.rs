//! How frames come back to a hybrid allocator: whole blocks to the buddy, parts of blocks to the bitmap, and from there
//! on as blocks.
//!
//! ```text
//!  a run that comes back    [ part │ block │ block │ block │ part ]
//!                              │       └───────┼──────┘      │
//!                            bits            buddy          bits ── the block's last? ──▶ buddy
//! ```
//!
//! The invariants are those at the top of `hybrid.rs`. What may be misuse is looked at before anything changes.

use terrace_sync::Slots;

use crate::{
    index::{PARTED, SPLIT},
    plan,
    types::Misuse,
    word::{self, BLOCK, WORD},
};

impl<S: Slots, B> super::HybridAllocator<'_, S, B> {
    /// Makes a run free, none of whose frames is: whole blocks in the buddy, parts of blocks in the bitmap.
    pub(super) fn put(&self, start: usize, count: usize) {
        for (first, frames) in plan::split(start, count, plan::GROUP) {
            let (from, to) = (first.div_ceil(BLOCK), (first + frames) / BLOCK);
            if from >= to {
                plan::split(first, frames, BLOCK).for_each(|(frame, count)| self.put_part(frame, count));
                continue;
            }
            let (group, mask) = (from / WORD, word::ones((from % WORD) as u32, (to - from) as u32));
            if first < from * BLOCK {
                self.put_part(first, from * BLOCK - first);
            }
            if to * BLOCK < first + frames {
                self.put_part(to * BLOCK, first + frames - to * BLOCK);
            }
            self.close(group, mask);
            self.split_group(group);
            self.put_blocks(group, mask);
        }
    }

    /// Takes a frame back.
    #[inline]
    pub(super) fn free_one(&self, frame: usize) -> Result<(), Misuse> {
        if !self.blocks.index.has(frame / BLOCK, SPLIT) {
            return self.free_in_word(frame, 1);
        }
        self.free_of_split(frame, 1)
    }

    /// Takes frames of one word back, but not all of them.
    #[inline(never)]
    pub(super) fn free_in_word(&self, start: usize, count: usize) -> Result<(), Misuse> {
        let block = start / BLOCK;
        // By H2 and H3 what is split is not the buddy's.
        if !self.blocks.index.has(block, SPLIT) {
            if self.has_block(block) {
                return Err(Misuse::AlreadyFree);
            }
            self.split(block);
        }
        self.free_of_split(start, count)
    }

    /// The same for a block that is split.
    #[inline]
    fn free_of_split(&self, start: usize, count: usize) -> Result<(), Misuse> {
        // By H3 other blocks have no units.
        if self.blocks.index.has(start / BLOCK, PARTED) && self.units.has(start / WORD) {
            return Err(Misuse::AlreadyFree);
        }
        match self.blocks.put_in_word(start, count) {
            None => return Err(Misuse::AlreadyFree),
            Some(free) if free == !0 => self.settle_block(start / BLOCK),
            Some(free) => {
                self.blocks.settle_word(start, count, free);
            }
        }
        Ok(())
    }

    /// Takes an aligned run of blocks of one word back.
    #[inline]
    pub(super) fn free_blocks(&self, start: usize, count: usize) -> Result<(), Misuse> {
        let (group, mask) = (start / plan::GROUP, word::ones((start / BLOCK % WORD) as u32, (count / BLOCK) as u32));
        // By H2 and H3 what is split is not free as a group.
        if !self.tree.index.has(group, SPLIT) {
            if self.has_group(group) {
                return Err(Misuse::AlreadyFree);
            }
            self.split_group(group);
        }
        // By H3 blocks that are not marked have no bits in the bitmap, nor units.
        if self.opened(group) & mask != 0 {
            if self.has_any(start, count) {
                return Err(Misuse::AlreadyFree);
            }
            self.close(group, mask);
        }
        if self.put_run(group, mask) { Ok(()) } else { Err(Misuse::AlreadyFree) }
    }

    /// The blocks of a group that are split or parted.
    #[inline]
    pub(super) fn opened(&self, group: usize) -> u64 {
        self.blocks.index.group(group, SPLIT) | self.blocks.index.group(group, PARTED)
    }

    /// Takes the marks off blocks of which nothing is free in the bitmap or the units, and nothing comes there.
    #[inline]
    pub(super) fn close(&self, group: usize, blocks: u64) {
        for row in [SPLIT, PARTED] {
            if self.blocks.index.group(group, row) & blocks != 0 {
                self.blocks.index.unmark_group(group, blocks, row);
            }
        }
    }

    /// Makes a part of a block free, none of whose frames is: words in the units, parts of words in the bitmap.
    pub(super) fn put_part(&self, frame: usize, count: usize) {
        let block = frame / BLOCK;
        let mut units = 0;
        for (first, frames) in plan::split(frame, count, WORD) {
            if frames == WORD {
                units |= 1 << (first / WORD % WORD);
            } else {
                self.split(block);
                self.blocks.put(first, frames);
            }
        }
        if units != 0 {
            self.part(block);
            self.units.set(frame / WORD / WORD, units);
            self.settle_units(frame / WORD / WORD);
        }
        // What has come to the bitmap, and by H5 what has been there as whole words.
        if self.blocks.index.has(block, SPLIT) {
            self.settle_block(block);
        }
    }

    /// Moves a block that is free as a whole in the bitmap to the buddy, if nobody is quicker.
    #[inline(never)]
    pub(super) fn give_back(&self, block: usize) {
        if self.blocks.take_whole(block) {
            self.move_to_tree(block);
        }
    }

    /// The same for a block all of whose frames the caller has.
    #[inline]
    pub(super) fn move_to_tree(&self, block: usize) {
        if self.blocks.index.has(block, SPLIT) {
            self.blocks.index.clear_all(block);
        }
        let (group, bit) = (block / WORD, 1 << (block % WORD));
        self.close(group, bit);
        self.put_run(group, bit);
    }

    /// Marks a block whose frames come to the bitmap one by one (H3).
    #[inline]
    pub(super) fn split(&self, block: usize) {
        if !self.blocks.index.has(block, SPLIT) {
            self.split_group(block / WORD);
            self.blocks.index.mark(block, SPLIT);
        }
    }

    /// Whether any frame of the run, which lies in the map, is free.
    pub(super) fn has_any(&self, start: usize, count: usize) -> bool {
        plan::split(start, count, plan::GROUP).any(|(first, frames)| {
            let (from, to) = (first / BLOCK, (first + frames).div_ceil(BLOCK));
            let mask = word::ones((from % WORD) as u32, (to - from) as u32);
            if self.tree.bits(from / WORD) & mask != 0 || self.has_group(from / WORD) {
                return true;
            }
            // By H3 other blocks have no bits in the bitmap, nor units.
            let pieces = || plan::split(first, frames, BLOCK);
            let of = |row| self.blocks.index.group(from / WORD, row) & mask;
            let (split, parted) = (of(SPLIT), of(PARTED));
            let is_in = |blocks: u64, frame: usize| blocks >> (frame / BLOCK % WORD) & 1 == 1;
            (parted != 0 && pieces().any(|(at, count)| is_in(parted, at) && self.has_units(at, count)))
                || (split != 0 && pieces().any(|(at, count)| is_in(split, at) && self.blocks.has_any(at, count)))
        })
    }
}
