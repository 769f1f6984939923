//! Units: whole words of 64 frames, eight to a block, between the buddy and the bitmap. Runs of 64, 128 and 256 frames
//! are one, two and four of them, claimed and put by one step.
//!
//! ```text
//!  buddy    [ 1 1 1 1 1 1 1 1 │ … ]      a bit a block, 64 blocks a word
//!             └── 8 blocks, or one ──┐       ▲ a block's eight are free: back
//!  units    [ 11111111 │ 1111 0011 │ … ]     a bit a unit, the units of 8 blocks a word
//!                             └── one, or a block's ──┐     ▲ all 64 are free: back
//!  bitmap   [ 1101 1111 0011 … │ … ]                  a bit a frame
//! ```
//!
//! The invariants are those at the top of `hybrid.rs`. A word of units is held by a slot, as one of blocks is.

use terrace_sync::Slots;

use crate::{
    blocks::Want,
    index::{HELD, PARTED, SPLIT},
    plan,
    types::Misuse,
    word::{self, BLOCK, BLOCK_ORDER, WORD, WORD_ORDER, WORDS},
};

/// The logarithm of the units of a block.
const BLOCK_UNITS: u32 = BLOCK_ORDER - WORD_ORDER;
/// The logarithm of the blocks whose units share a word, and their number.
const TOGETHER_ORDER: u32 = WORD_ORDER - BLOCK_UNITS;
const TOGETHER: usize = 1 << TOGETHER_ORDER;

/// The units of a block: the number of the word, and their bits.
#[inline]
fn of_block(block: usize) -> (usize, u64) {
    (block / TOGETHER, word::ones((block % TOGETHER * WORDS) as u32, WORDS as u32))
}

/// The units that lie in part in a run of frames of one block: the number of the word, and their bits.
fn around(frame: usize, count: usize) -> (usize, u64) {
    let (first, last) = (frame / WORD, (frame + count - 1) / WORD);
    (first / WORD, word::ones((first % WORD) as u32, (last - first + 1) as u32))
}

impl<S: Slots, B> super::HybridAllocator<'_, S, B> {
    /// A run of 2^`order` units, less than a block, for the slot with that number: its first frame.
    #[inline]
    pub(super) fn units_of_order(&self, number: usize, order: u32) -> Option<usize> {
        let word = self.lane(number, super::UNITS).load(super::Ordering::Relaxed) as usize;
        let found = self.units.take_in(word, order, 0, usize::MAX);
        found.map(|unit| unit * WORD).or_else(|| self.refill_units(number, order))
    }

    /// The same, where the slot's word did not have it.
    #[inline(never)]
    fn refill_units(&self, number: usize, order: u32) -> Option<usize> {
        let (unit, hold) = if let Some(unit) = self.units.take(order, 0, usize::MAX, true) {
            (unit, true)
        } else if let Some(frame) = self.whole_words(order) {
            return Some(frame);
        } else {
            self.units_from_blocks(number, order)?
        };
        if hold {
            let word = (unit / WORD) as u64;
            let before = self.lane(number, super::UNITS).swap(word, super::Ordering::Relaxed);
            if before != super::NOTHING {
                self.end_units_hold(before as usize);
            }
        }
        Some(unit * WORD)
    }

    /// The same out of words of the bitmap.
    fn whole_words(&self, order: u32) -> Option<usize> {
        let order = WORD_ORDER + order;
        let want = Want { count: 1 << order, alignment: order, from: 0, to: usize::MAX };
        self.blocks.find(&want, order, BLOCK_ORDER, false)
    }

    /// New units out of blocks of the buddy, all that share a word, or one block's: the first run, and whether their word
    /// is the caller's to hold.
    fn units_from_blocks(&self, number: usize, order: u32) -> Option<(usize, bool)> {
        let lane = self.lane(number, super::LARGE);
        let word = lane.load(super::Ordering::Relaxed) as usize;
        let all = self.tree.take_in(word, TOGETHER_ORDER, 0, usize::MAX);
        let (block, count) = match all.or_else(|| self.refill_large(number, TOGETHER_ORDER)) {
            Some(block) => (block, TOGETHER),
            None => (self.block_for(number)?, 1),
        };
        let unit = block * WORDS;
        let (word, bit) = (unit / WORD, (unit % WORD) as u32);
        let hold = !self.units.index.mark(word, HELD);
        self.blocks.index.mark_group(block / WORD, word::ones((block % WORD) as u32, count as u32), PARTED);
        self.units.set(word, word::ones(bit, (count * WORDS) as u32) & !word::ones(bit, 1 << order));
        // Whoever has ended the hold since saw less than there is.
        self.settle_units(word);
        Some((unit, hold))
    }

    /// A run of `count` frames, up to 32, out of the units of a block, which come to the bitmap; and whether their block
    /// is the caller's to hold.
    pub(super) fn frames_from_units(&self, count: usize) -> Option<(usize, bool)> {
        let unit = self.units.take(0, 0, usize::MAX, false)?;
        let block = unit / WORDS;
        let (word, all) = of_block(block);
        let units = self.units.take_mask(word, all) | 1 << (unit % WORD);
        let hold = !self.blocks.index.mark(block, HELD);
        if hold {
            // Before anything else, so that a thread that stops leaves nothing behind but the hold.
            self.blocks.index.clear_all(block);
        }
        self.split(block);
        let first = units.trailing_zeros();
        self.blocks.store_words(self.blocks.word_of((word * WORD + first as usize) * WORD), units >> first, count);
        // Whoever has ended the hold since saw less than there is.
        self.settle_block(block);
        Some(((word * WORD + first as usize) * WORD, hold))
    }

    /// A run of up to a block inside the limits, out of units; what is not asked for of the last goes to the bitmap.
    pub(super) fn run_of_units(&self, want: &Want) -> Option<usize> {
        let units = want.count.div_ceil(WORD).next_power_of_two();
        let order = units.trailing_zeros().max(want.alignment.saturating_sub(WORD_ORDER));
        let frame = self.units.take(order, want.from.div_ceil(WORD), want.to / WORD, false)? * WORD;
        let tail = (WORD << order) - want.count;
        if tail > 0 {
            self.put_part(frame + want.count, tail);
        }
        Some(frame)
    }

    /// A run out of a block whose frames lie in units and in the bitmap, each too few for it.
    #[cold]
    pub(super) fn run_of_both(&self, want: &Want) -> Option<usize> {
        let (from, to) = (want.from / BLOCK, want.to.div_ceil(BLOCK).min(self.blocks.end()));
        (from..to).filter(|&block| self.blocks.index.has(block, PARTED)).find_map(|block| self.out_of_both(block, want))
    }

    /// The same out of that block.
    pub(super) fn out_of_both(&self, block: usize, want: &Want) -> Option<usize> {
        let mut bits = self.blocks.bits(block);
        let (word, all) = of_block(block);
        let units = self.units.bits(word) & all;
        for (at, place) in bits.iter_mut().enumerate() {
            if units >> all.trailing_zeros() >> at & 1 == 1 {
                *place = !0;
            }
        }
        let inside = |frame: usize| frame.saturating_sub(block * BLOCK).min(BLOCK);
        word::first_run(&word::clipped(&bits, inside(want.from), inside(want.to)), want.count, want.alignment)?;
        self.lower(block * BLOCK, BLOCK);
        let found = self.blocks.take(block, want);
        self.settle_block(block);
        found
    }

    /// Moves the units that a run of one block lies in to the bitmap, as far as they are free.
    pub(super) fn lower(&self, frame: usize, count: usize) {
        let (word, units) = around(frame, count);
        let units = self.units.take_mask(word, units);
        if units != 0 {
            self.split(frame / BLOCK);
            let first = units.trailing_zeros();
            self.blocks.store_words(self.blocks.word_of((word * WORD + first as usize) * WORD), units >> first, 0);
        }
    }

    /// Takes an aligned run of units back, less than a block.
    #[inline]
    pub(super) fn free_units(&self, start: usize, count: usize) -> Result<(), Misuse> {
        let block = start / BLOCK;
        let split = self.blocks.index.has(block, SPLIT);
        // By H2 and H3 what is split is not the buddy's, and what is not has no bits.
        if if split { self.blocks.has_any(start, count) } else { self.has_block(block) } {
            return Err(Misuse::AlreadyFree);
        }
        self.part(block);
        if !self.put_units(start / WORD, count / WORD) {
            return Err(Misuse::AlreadyFree);
        }
        if split {
            // Now that it has units, its whole words are to be some.
            self.settle_block(block);
        }
        Ok(())
    }

    /// Marks a block whose frames come to the units one run after another (H3).
    #[inline]
    pub(super) fn part(&self, block: usize) {
        if !self.blocks.index.has(block, PARTED) {
            self.split_group(block / WORD);
            self.blocks.index.mark(block, PARTED);
        }
    }

    /// Makes an aligned run of units of a block that is marked `PARTED` free. `false`: one of them was, and nothing has
    /// changed.
    #[inline]
    pub(super) fn put_units(&self, unit: usize, count: usize) -> bool {
        let (word, run) = (unit / WORD, word::ones((unit % WORD) as u32, count as u32));
        if self.units.index.has(word, HELD) {
            let put = self.units.put_held(word, run);
            if put {
                // The hold may have ended.
                self.settle_units(word);
            }
            return put;
        }
        match self.units.put_or_take(word, run, of_block(unit / WORDS).1) {
            // The last run of a block need not be put to be claimed again with the rest.
            Some(true) => self.move_to_tree(unit / WORDS),
            Some(false) => {}
            None => return false,
        }
        true
    }

    /// After puts to the bitmap: moves a block that is whole to the buddy, whole words of one that has units to these,
    /// and registers the rest, unless it is held.
    #[inline(never)]
    pub(super) fn settle_block(&self, block: usize) {
        if self.blocks.index.has(block, HELD) {
            return;
        }
        let whole = word::whole_words(&self.blocks.bits(block));
        if whole == word::ones(0, WORDS as u32) {
            return self.give_back(block);
        }
        if whole != 0 && self.has_units(block * BLOCK, BLOCK) {
            for word in (0..WORDS).filter(|word| whole >> word & 1 == 1).map(|word| block * WORDS + word) {
                if self.blocks.take_word(word * WORD) {
                    self.part(block);
                    self.put_units(word, 1);
                }
            }
        }
        self.blocks.register(block);
    }

    /// After puts to a word of units: moves whole blocks to the buddy, and registers the rest, unless it is held.
    #[inline]
    pub(super) fn settle_units(&self, word: usize) {
        if !self.units.index.has(word, HELD) {
            self.settle_open_units(word);
        }
    }

    #[inline(never)]
    fn settle_open_units(&self, word: usize) {
        let mut whole = word::aligned_runs(self.units.bits(word), BLOCK_UNITS);
        while whole != 0 {
            let bit = whole.trailing_zeros();
            if self.units.claim(word, word::ones(bit, WORDS as u32)) {
                self.move_to_tree((word * WORD + bit as usize) / WORDS);
            }
            whole &= whole - 1;
        }
        self.units.settle(word);
    }

    /// Ends a hold on a word of units.
    pub(super) fn end_units_hold(&self, word: usize) {
        self.units.index.unmark(word, HELD);
        self.settle_units(word);
    }

    /// Whether any of the units that the run, which lies in one block, lies in is free.
    pub(super) fn has_units(&self, frame: usize, count: usize) -> bool {
        let (word, units) = around(frame, count);
        self.units.bits(word) & units != 0
    }

    /// Whether all frames of a run in one block are free, in whosever hands.
    pub(super) fn are_free(&self, frame: usize, count: usize) -> bool {
        let block = frame / BLOCK;
        self.has_block(block)
            || plan::split(frame, count, WORD)
                .all(|(at, n)| self.has_units(at, n) || self.blocks.last_taken(at, n).is_none())
    }
}
