//! [`Index`]: where to look for a run of an order, without looking everywhere.
//!
//! ```text
//!  level 2                [ a line of rows ]            one bit for 64 lines of level 1
//!  level 1                [ … ][ … ]                    one bit for 64 lines of level 0
//!  level 0   items 0–63   [ class 0 │ class 1 │ … │ class 9 │ … │ SPLIT │ HELD ]     16 words, two cache lines
//!            items 64–127 [ … ]
//! ```
//!
//! An item is a block of frames or a word of blocks. Its *class* is the order of its largest aligned free run. Rows of all classes
//! for the same 64 items stand together, so that who frees touches one place; each class has its own way down from
//! the top, so that who searches finds the first item of a class in three words.
//!
//! The bits are hints that err on one side:
//! - **I1** While nobody is at work, an item with a free run that is not held has its bit in a row of its class or of a higher one.
//! - **I2** A bit in a row has its bits in the levels above, or somebody is about to set them, or whoever cleared them
//!   is about to look again.
//! - **I3** A bit that says too much costs a visit, and is cleared by the visitor.
//!
//! How nothing is lost: who frees writes the free bits first and looks at the row then; who clears a bit of a row clears first and
//! looks at the free bits then, and sets the row again. In the one order of all `SeqCst` operations one of the two comes second and sees
//! the other. The same holds between a level and the next.
//!
//! Cost: to set or clear, 1 to 3 words; to find, 3 words, and in ranges above 512 GiB one more for each 512 GiB. 18 bits an item.

use crate::{
    atomic::{AtomicU64, Ordering},
    word::WORD,
};

/// Words in a line of rows.
pub(crate) const LINE: usize = 16;
const LEVELS: usize = 3;
/// The row of blocks of which single frames were handed out or are free.
pub(crate) const SPLIT: usize = 14;
/// The row of items that a slot keeps at hand.
pub(crate) const HELD: usize = 15;

pub(crate) struct Index<'m> {
    levels: [&'m [AtomicU64]; LEVELS],
}

/// How many words the index of so many items takes.
pub(crate) const fn index_words(items: usize) -> usize {
    let groups = items.div_ceil(WORD);
    let tops = groups.div_ceil(WORD);
    (groups + tops + tops.div_ceil(WORD)) * LINE
}

impl<'m> Index<'m> {
    /// Over `words`, all zero, as many as [`index_words`] says.
    pub(crate) fn new(words: &'m [AtomicU64], items: usize) -> Self {
        let groups = items.div_ceil(WORD);
        let (low, above) = words.split_at(groups * LINE);
        let (middle, top) = above.split_at(groups.div_ceil(WORD) * LINE);
        Self { levels: [low, middle, top] }
    }

    /// The word of `row` at `at` in `level`.
    #[inline]
    fn word(&self, level: usize, at: usize, row: usize) -> &AtomicU64 {
        &self.levels[level][at * LINE + row]
    }

    /// The bits of 64 items in a row.
    #[inline]
    pub(crate) fn group(&self, group: usize, row: usize) -> u64 {
        self.word(0, group, row).load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn has(&self, item: usize, row: usize) -> bool {
        self.group(item / WORD, row) >> (item % WORD) & 1 == 1
    }

    /// Sets the bit in a row without levels, `SPLIT` or `HELD`; says whether it was set.
    #[inline]
    pub(crate) fn mark(&self, item: usize, row: usize) -> bool {
        let bit = 1 << (item % WORD);
        self.word(0, item / WORD, row).fetch_or(bit, Ordering::SeqCst) & bit != 0
    }

    /// Clears `bits` of 64 items in such a row.
    #[inline]
    pub(crate) fn unmark(&self, group: usize, bits: u64, row: usize) {
        self.word(0, group, row).fetch_and(!bits, Ordering::SeqCst);
    }

    /// Makes sure that the item stands in the row of its class.
    #[inline]
    pub(crate) fn set(&self, item: usize, class: u32) {
        self.set_from(0, item, class);
    }

    /// Looks at every level even where the bit is set: who set it may have stopped on the way up.
    #[inline]
    fn set_from(&self, level: usize, at: usize, class: u32) {
        let mut at = at;
        for level in level..LEVELS {
            let (word, bit) = (self.word(level, at / WORD, class as usize), 1 << (at % WORD));
            if word.load(Ordering::SeqCst) & bit == 0 {
                word.fetch_or(bit, Ordering::SeqCst);
            }
            at /= WORD;
        }
    }

    /// Clears the item's bit in a row; the caller looks at the item's free bits after this (see the top).
    pub(crate) fn clear(&self, item: usize, class: u32) {
        self.clear_from(0, item, class);
    }

    fn clear_from(&self, level: usize, at: usize, class: u32) {
        let (word, bit) = (self.word(level, at / WORD, class as usize), 1 << (at % WORD));
        let left = word.fetch_and(!bit, Ordering::SeqCst) & !bit;
        if left == 0 && level + 1 < LEVELS {
            self.clear_from(level + 1, at / WORD, class);
            if word.load(Ordering::SeqCst) != 0 {
                self.set_from(level + 1, at / WORD, class);
            }
        }
    }

    /// The first item from `from` on that stands in the row.
    #[inline]
    pub(crate) fn next(&self, class: u32, from: usize) -> Option<usize> {
        self.next_at(0, class as usize, from)
    }

    fn next_at(&self, level: usize, row: usize, from: usize) -> Option<usize> {
        let lines = self.levels[level].len() / LINE;
        let mut at = from / WORD;
        if at >= lines {
            return None;
        }
        let mut bits = self.word(level, at, row).load(Ordering::SeqCst) & (!0 << (from % WORD));
        while bits == 0 {
            // Up for the next line that has any; at the top there is nothing but to look at each.
            at = if level + 1 < LEVELS { self.next_at(level + 1, row, at + 1)? } else { at + 1 };
            if at >= lines {
                return None;
            }
            bits = self.word(level, at, row).load(Ordering::SeqCst);
        }
        Some(at * WORD + bits.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn storage(items: usize) -> Vec<AtomicU64> {
        (0..index_words(items)).map(|_| AtomicU64::new(0)).collect()
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_set_finds(
            steps in prop::collection::vec((0usize..9000, any::<bool>(), 0u32..3), 1..200),
        ) {
            let words = storage(9000);
            let index = Index::new(&words, 9000);
            let mut sets = [const { BTreeSet::new() }; 3];
            for (item, set, class) in steps {
                // Near one another half of the time, so that lines fill and empty.
                let item = if item % 2 == 0 { item % 70 } else { item };
                if set {
                    index.set(item, class);
                    sets[class as usize].insert(item);
                } else {
                    index.clear(item, class);
                    sets[class as usize].remove(&item);
                }
                for (class, set) in sets.iter().enumerate() {
                    for from in [0, item, item + 1, 8999, 9000, 9100] {
                        prop_assert_eq!(index.next(class as u32, from), set.range(from..).next().copied());
                    }
                    prop_assert_eq!(index.has(item, class), set.contains(&item));
                }
            }
        }
    }

    #[test]
    fn what_is_emptied_leaves_nothing_above() {
        let words = storage(300_000);
        let index = Index::new(&words, 300_000);
        for item in [0, 63, 64, 4095, 4096, 262_143, 262_144, 299_999] {
            index.set(item, 7);
            assert_eq!(index.next(7, 0), Some(item));
            index.clear(item, 7);
            assert!(words.iter().all(|word| word.load(Ordering::SeqCst) == 0), "after {item}");
        }
    }

    #[test]
    fn marks_are_single_bits() {
        let words = storage(65);
        let index = Index::new(&words, 65);
        assert!(!index.mark(64, HELD) && index.mark(64, HELD) && index.has(64, HELD) && !index.has(64, SPLIT));
        index.unmark(1, 1, HELD);
        assert_eq!(index.group(1, HELD), 0);
    }
}
