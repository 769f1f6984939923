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
    index::SPLIT,
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
            if self.blocks.index.group(group, SPLIT) & mask != 0 {
                self.blocks.index.unmark(group, mask, SPLIT);
            }
            self.tree.put_bits(group, mask);
        }
    }

    /// Takes a frame back.
    #[inline]
    pub(super) fn free_one(&self, frame: usize) -> Result<(), Misuse> {
        let block = frame / BLOCK;
        if !self.blocks.index.has(block, SPLIT) {
            return self.free_in_word(frame, 1);
        }
        let Some(free) = self.blocks.put_in_word(frame, 1) else { return Err(Misuse::AlreadyFree) };
        if self.blocks.settle_word(frame, 1, free) {
            self.give_back(block);
        }
        Ok(())
    }

    /// Takes frames of one word back.
    #[inline(never)]
    pub(super) fn free_in_word(&self, start: usize, count: usize) -> Result<(), Misuse> {
        let block = start / BLOCK;
        // By H2 and H3 what is split is not the buddy's.
        if !self.blocks.index.has(block, SPLIT) {
            if self.tree.has(block) {
                return Err(Misuse::AlreadyFree);
            }
            self.split(block);
        }
        let Some(free) = self.blocks.put_in_word(start, count) else { return Err(Misuse::AlreadyFree) };
        if self.blocks.settle_word(start, count, free) {
            self.give_back(block);
        }
        Ok(())
    }

    /// Takes an aligned run of whole words of a block back, but not of all of them.
    pub(super) fn free_words(&self, start: usize, count: usize) -> Result<(), Misuse> {
        let block = start / BLOCK;
        if !self.blocks.index.has(block, SPLIT) {
            if self.tree.has(block) {
                return Err(Misuse::AlreadyFree);
            }
            self.split(block);
        }
        let put = match count / WORD {
            1 => self.blocks.put_words(start, 1),
            2 => self.blocks.put_words(start, 2),
            _ => self.blocks.put_words(start, 4),
        };
        match put {
            None => return Err(Misuse::AlreadyFree),
            Some(true) => self.move_to_tree(block),
            Some(false) => {}
        }
        Ok(())
    }

    /// Takes an aligned run of blocks of one word back.
    #[inline]
    pub(super) fn free_blocks(&self, start: usize, count: usize) -> Result<(), Misuse> {
        let (group, mask) = (start / plan::GROUP, word::ones((start / BLOCK % WORD) as u32, (count / BLOCK) as u32));
        // By H3 blocks that are not split have no bits in the bitmap.
        if self.blocks.index.group(group, SPLIT) & mask != 0 {
            if self.has_any(start, count) {
                return Err(Misuse::AlreadyFree);
            }
            self.blocks.index.unmark(group, mask, SPLIT);
        }
        if self.tree.put_run(group, mask) { Ok(()) } else { Err(Misuse::AlreadyFree) }
    }

    /// Whether a run of whole words of blocks was handed out as blocks, none of them split.
    pub(super) fn is_plain(&self, start: usize, count: usize) -> bool {
        let (first, groups) = (start / plan::GROUP, count / plan::GROUP);
        self.tree.are_taken(first, groups)
            && (first..first + groups).all(|group| self.blocks.index.group(group, SPLIT) == 0)
    }

    /// Makes a part of a block free, none of whose frames is.
    pub(super) fn put_part(&self, frame: usize, count: usize) {
        let block = frame / BLOCK;
        self.split(block);
        self.blocks.put(frame, count);
        if self.blocks.settle(block) {
            self.give_back(block);
        }
    }

    /// Moves a block that is free as a whole from the bitmap to the buddy, if nobody is quicker.
    #[inline(never)]
    pub(super) fn give_back(&self, block: usize) {
        if self.blocks.take_whole(block) {
            self.move_to_tree(block);
        }
    }

    /// The same for a block all of whose frames the caller has.
    fn move_to_tree(&self, block: usize) {
        self.blocks.index.clear_all(block);
        self.blocks.index.unmark(block / WORD, 1 << (block % WORD), SPLIT);
        self.tree.put_run(block / WORD, 1 << (block % WORD));
    }

    /// Marks a block whose frames come to the bitmap one by one (H3).
    #[inline]
    pub(super) fn split(&self, block: usize) {
        if !self.blocks.index.has(block, SPLIT) {
            self.blocks.index.mark(block, SPLIT);
        }
    }

    /// Whether any frame of the run, which lies in the map, is free.
    pub(super) fn has_any(&self, start: usize, count: usize) -> bool {
        plan::split(start, count, plan::GROUP).any(|(first, frames)| {
            let (from, to) = (first / BLOCK, (first + frames).div_ceil(BLOCK));
            let mask = word::ones((from % WORD) as u32, (to - from) as u32);
            if self.tree.bits(from / WORD) & mask != 0 {
                return true;
            }
            // By H3 other blocks have no bits in the bitmap.
            let split = self.blocks.index.group(from / WORD, SPLIT) & mask;
            let in_split = |&(frame, _): &(usize, usize)| split >> (frame / BLOCK % WORD) & 1 == 1;
            split != 0 && plan::split(first, frames, BLOCK).filter(in_split).any(|(at, n)| self.blocks.has_any(at, n))
        })
    }
}
