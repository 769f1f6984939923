//! [`Index`]: where to look for a run of an order, without looking everywhere.
//!
//! ```text
//!  level 2                [ a line of rows ]            one bit for 64 lines of level 1
//!  level 1                [ … ][ … ]                    one bit for 64 lines of level 0
//!  level 0   items 0–63   [ class 0 │ class 1 │ … │ class 9 │ … │ PARTED │ SPLIT │ HELD ]     16 words, two cache lines
//!            items 64–127 [ … ]
//! ```
//!
//! A level above one of a single line is not there: 64 items need no second, 4096 no third.
//!
//! An item is a block of frames or a word of blocks. Its *class* is the order of its largest aligned free run. Rows of
//! all classes for the same 64 items stand together, so that who frees touches one place; each class has its own way
//! down from the top, so that who searches for the first item of a class reads a word a level.
//!
//! The bits are hints that err on one side:
//! - **I1** While nobody is at work, an item with a free run that is not held has its bit in a row of its class or of a
//!   higher one.
//! - **I2** A bit in a row has its bits in the levels above, or somebody is about to set them, or whoever cleared them
//!   is about to look again. Somebody who stops there for good leaves a gap, which is mended before a refusal.
//! - **I3** A bit that says too much costs a visit, and is cleared by the visitor.
//!
//! How nothing is lost: who frees writes the free bits first and looks at the row then; who clears a bit of a row
//! clears first and looks at the free bits then, and sets the row again. In the one order of all `SeqCst` operations
//! one of the two comes second and sees the other. The same holds between a level and the next.
//!
//! Cost: to set or clear, a word a level, 1 where the bit is set; to mend, 10 words for 64 items; to find, a word a
//! level from the first item on and up to two from another, 1 in an empty row, and one more for each 2^18 items. 17 bits an item.

use crate::{
    atomic::{AtomicU64, Ordering},
    hook,
    word::{self, BLOCK_ORDER, WORD, WORD_ORDER},
};

/// Words in a line of rows.
pub(crate) const LINE: usize = 16;
const LEVELS: usize = 3;
/// Rows of classes.
const CLASSES: u32 = 10;
/// The row of blocks of which words of 64 frames were handed out or are free.
pub(crate) const PARTED: usize = 13;
/// The row of blocks of which single frames were handed out or are free.
pub(crate) const SPLIT: usize = 14;
/// The row of items that a slot keeps at hand.
pub(crate) const HELD: usize = 15;

pub(crate) struct Index<'m> {
    levels: [&'m [Rows]; LEVELS],
    /// The lowest level of one line, or the highest of all: what is above has none.
    top: usize,
}

/// The rows of 64 items, or of 64 lines of the level below.
type Rows = [AtomicU64; LINE];

/// How many lines the level above one of so many has.
const fn lines_above(lines: usize) -> usize {
    if lines > 1 { lines.div_ceil(WORD) } else { 0 }
}

/// How many words the index of so many items takes.
pub(crate) const fn index_words(items: usize) -> usize {
    let low = items.div_ceil(WORD);
    let middle = lines_above(low);
    (low + middle + lines_above(middle)) * LINE
}

impl<'m> Index<'m> {
    /// Over `words`, all zero, as many as [`index_words`] says.
    pub(crate) fn new(words: &'m [AtomicU64], items: usize) -> Self {
        let low = items.div_ceil(WORD);
        let (low, above) = words.split_at(low * LINE);
        let (middle, top) = above.split_at(lines_above(low.len() / LINE) * LINE);
        let levels = [low, middle, top].map(|level| level.as_chunks().0);
        Self { levels, top: levels.iter().filter(|level| !level.is_empty()).count().max(1) - 1 }
    }

    /// The word of `row` at `at` in `level`.
    #[inline]
    fn word(&self, level: usize, at: usize, row: usize) -> &AtomicU64 {
        hook::touched();
        &self.levels[level][at][row % LINE]
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

    /// Sets `bits` of 64 items in such a row.
    #[inline]
    pub(crate) fn mark_group(&self, group: usize, bits: u64, row: usize) {
        self.word(0, group, row).fetch_or(bits, Ordering::SeqCst);
    }

    /// Clears the bit in such a row.
    #[inline]
    pub(crate) fn unmark(&self, item: usize, row: usize) {
        self.unmark_group(item / WORD, 1 << (item % WORD), row);
    }

    /// Clears `bits` of 64 items in such a row.
    #[inline]
    pub(crate) fn unmark_group(&self, group: usize, bits: u64, row: usize) {
        self.word(0, group, row).fetch_and(!bits, Ordering::SeqCst);
    }

    /// The items that are held.
    pub(crate) fn held(&self) -> impl Iterator<Item = usize> + '_ {
        self.items(|group| self.group(group, HELD))
    }

    /// The blocks that are both parted and split, and have whole words.
    pub(crate) fn mixed(&self) -> impl Iterator<Item = usize> + '_ {
        self.items(|group| {
            let both = self.group(group, PARTED) & self.group(group, SPLIT);
            let whole = || (WORD_ORDER..BLOCK_ORDER).fold(0, |rows, class| rows | self.group(group, class as usize));
            if both == 0 { 0 } else { both & whole() }
        })
    }

    /// The items of all groups whose bits are ones.
    fn items<'a>(&'a self, bits: impl Fn(usize) -> u64 + 'a) -> impl Iterator<Item = usize> + 'a {
        (0..self.levels[0].len()).flat_map(move |group| {
            let mut bits = bits(group);
            core::iter::from_fn(move || {
                let at = bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                (at < WORD).then_some(group * WORD + at)
            })
        })
    }

    /// Makes sure that the item stands in the row of its class.
    #[inline]
    pub(crate) fn set(&self, item: usize, class: u32) {
        self.set_group(item / WORD, 1 << (item % WORD), class);
    }

    /// The same for `bits` of the 64 items of a group. Who has set a bit that is there already sees to the levels above,
    /// or has stopped on its way there: then they are [mended](Self::mend) before a refusal.
    #[inline]
    pub(crate) fn set_group(&self, group: usize, bits: u64, class: u32) {
        let word = self.word(0, group, class as usize);
        if word.load(Ordering::SeqCst) & bits != bits {
            word.fetch_or(bits, Ordering::SeqCst);
            self.set_above(0, group, class);
        }
    }

    /// The line at `at` of a level has a bit in the row: makes sure of the levels above, all of them.
    #[inline(never)]
    fn set_above(&self, level: usize, at: usize, class: u32) {
        let mut at = at;
        for level in level + 1..=self.top {
            let (word, bit) = (self.word(level, at / WORD, class as usize), 1 << (at % WORD));
            if word.load(Ordering::SeqCst) & bit == 0 {
                word.fetch_or(bit, Ordering::SeqCst);
            }
            at /= WORD;
        }
    }

    /// Sets what threads that have stopped on their way up have left out, or left cleared.
    pub(crate) fn mend(&self) {
        for (group, class) in (0..self.levels[0].len()).flat_map(|group| (0..CLASSES).map(move |class| (group, class)))
        {
            if self.group(group, class as usize) != 0 {
                self.set_above(0, group, class);
            }
        }
    }

    /// Clears the item's bit in a row; the caller looks at the item's free bits after this (see the top).
    pub(crate) fn clear(&self, item: usize, class: u32) {
        self.clear_bits(item / WORD, 1 << (item % WORD), class);
    }

    /// The same for `bits` of the 64 items of a group.
    pub(crate) fn clear_group(&self, group: usize, bits: u64, class: u32) {
        self.clear_bits(group, bits, class);
    }

    /// Clears the item's bit in every row of a class.
    pub(crate) fn clear_all(&self, item: usize) {
        self.clear_others(item, None);
    }

    /// Sets the item's bit in the row of its class, and clears it in the others. The caller looks at the item's free
    /// bits after this too; until then it is not hidden, should the caller stop.
    pub(crate) fn correct(&self, item: usize, class: Option<u32>) {
        if let Some(class) = class {
            self.set(item, class);
        }
        self.clear_others(item, class);
    }

    fn clear_others(&self, item: usize, kept: Option<u32>) {
        let rows = &self.levels[0][item / WORD][..CLASSES as usize];
        for (class, row) in (0..).zip(rows) {
            hook::touched();
            if row.load(Ordering::SeqCst) >> (item % WORD) & 1 == 1 && kept != Some(class) {
                self.clear(item, class);
            }
        }
    }

    /// Clears bits of a line, and on each level above the one of the line below where that has become empty.
    fn clear_bits(&self, group: usize, bits: u64, class: u32) {
        let row = class as usize;
        let (mut at, mut bits, mut emptied) = (group, bits, 0);
        while emptied <= self.top && self.word(emptied, at, row).fetch_and(!bits, Ordering::SeqCst) & !bits == 0 {
            emptied += 1;
            (at, bits) = (at / WORD, 1 << (at % WORD));
        }
        // Who came between the two steps on a line and the level above it may have seen the bit there.
        at = group;
        for level in 0..emptied.min(self.top) {
            if self.word(level, at, row).load(Ordering::SeqCst) != 0 {
                self.set_above(level, at, class);
            }
            at /= WORD;
        }
    }

    /// The last of so many items from `from` on that does not stand in the row.
    pub(crate) fn last_missing(&self, class: u32, from: usize, count: usize) -> Option<usize> {
        word::pieces(from, count).rev().find_map(|(group, mask)| {
            let missing = !self.group(group, class as usize) & mask;
            (missing != 0).then(|| group * WORD + missing.ilog2() as usize)
        })
    }

    /// The first item from `from` on that stands in the row.
    #[inline]
    pub(crate) fn next(&self, class: u32, from: usize) -> Option<usize> {
        let row = class as usize;
        // From the top: one word, where the row is empty.
        let bits = self.word(self.top, 0, row).load(Ordering::SeqCst);
        if bits == 0 && self.levels[self.top].len() == 1 {
            return None;
        }
        if from == 0 { self.first(row, bits) } else { self.next_at(0, row, from) }
    }

    /// The first item of the row whose first word at the top has these bits.
    fn first(&self, row: usize, bits: u64) -> Option<usize> {
        let mut at = if bits == 0 { self.next_at(self.top, row, WORD)? } else { bits.trailing_zeros() as usize };
        for level in (0..self.top).rev() {
            match self.word(level, at, row).load(Ordering::SeqCst) {
                // Somebody is on the way up or down.
                0 => return self.next_at(0, row, 0),
                bits => at = at * WORD + bits.trailing_zeros() as usize,
            }
        }
        Some(at)
    }

    fn next_at(&self, level: usize, row: usize, from: usize) -> Option<usize> {
        let lines = self.levels[level].len();
        let mut at = from / WORD;
        if at >= lines {
            return None;
        }
        let mut bits = self.word(level, at, row).load(Ordering::SeqCst) & (!0 << (from % WORD));
        while bits == 0 {
            // Up for the next line that has any; at the top there is nothing but to look at each.
            at = if level < self.top { self.next_at(level + 1, row, at + 1)? } else { at + 1 };
            if at >= lines {
                return None;
            }
            bits = self.word(level, at, row).load(Ordering::SeqCst);
        }
        Some(at * WORD + bits.trailing_zeros() as usize)
    }
}
