//! Where each part of the metadata lies, in words, and how many there are.
//!
//! ```text
//!  frames     base           start                                end
//!             ├── 128 MiB ───┼──── … a word of blocks each ────────┤
//!             │    skip   │ blocks, 8 words each                   │
//!
//!  bitmap     [ bits, a line a block │ index of the blocks ]
//!  buddy      [ words of units │ index of the words ]
//!  hybrid     [ bitmap's │ slots, a line each │ buddy's, its units being blocks │ buddy's, its units being 64 frames │ 64 blocks ]
//! ```
//!
//! - **P1** `base` is a multiple of 2^15 frames, so that 64 blocks that share a word begin at a multiple of 64.
//! - **P2** Each part is a whole number of cache lines.
//!
//! Cost of the hybrid: a bit a frame, 28 bits a block of 512, less than 4 KiB besides, and a line a slot: 0.0033 % of 4
//! GiB.
#![forbid(unsafe_code)]

use crate::{
    index::index_words,
    types::{Frames, Order},
    word::{BLOCK, WORD, WORDS},
};

/// Frames in the blocks of a word.
pub(crate) const GROUP: usize = BLOCK * WORD;
/// Words in a cache line, which a slot has to itself.
pub(crate) const LINE: usize = 8;
/// Bytes that may be lost to bring storage to cache lines: words need not be aligned to their size.
pub(crate) const TO_A_LINE: usize = 64;

/// The blocks of a span of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The number of the frame that all others are counted from.
    pub(crate) base: usize,
    /// Groups of 64 blocks, from `base` on.
    pub(crate) groups: usize,
    /// Blocks before the first of the span.
    pub(crate) skip: usize,
    /// Blocks of the span.
    pub(crate) blocks: usize,
}

impl Plan {
    pub(crate) const fn new(span: Frames) -> Self {
        let base = span.start.0 / GROUP * GROUP;
        let skip = (span.start.0 - base) / BLOCK;
        let end = span.end() - base;
        Self { base, groups: end.div_ceil(GROUP), skip, blocks: end.div_ceil(BLOCK) - skip }
    }

    /// The most that a span of so many frames needs, wherever it begins.
    const fn worst(frames: usize) -> Self {
        // The largest gap.
        Self { base: (WORD - 1) * GROUP, groups: parts(frames, GROUP), skip: 0, blocks: parts(frames, BLOCK) }
    }

    pub(crate) const fn bits_words(&self) -> usize {
        self.blocks * WORDS
    }

    pub(crate) const fn index_words(&self) -> usize {
        index_words(self.groups * WORD)
    }

    /// Words of units of 64 frames.
    pub(crate) const fn units_words(&self) -> usize {
        self.groups * WORDS
    }

    /// Groups between the last multiple of 64 of them and `base`.
    pub(crate) const fn gap(&self) -> usize {
        self.base / GROUP % WORD
    }

    /// Words of groups.
    pub(crate) const fn groups_words(&self) -> usize {
        (self.gap() + self.groups).div_ceil(WORD)
    }

    pub(crate) const fn bitmap_words(&self) -> usize {
        self.bits_words() + self.index_words()
    }

    pub(crate) const fn hybrid_words(&self, slots: usize) -> usize {
        let trees =
            tree_words(self.groups, 1) + tree_words(self.units_words(), 1) + tree_words(self.groups_words(), LINE);
        (self.bitmap_words() + trees).saturating_add(lines(slots))
    }
}

/// In how many units, aligned ones, so many frames can lie.
const fn parts(frames: usize, unit: usize) -> usize {
    frames.saturating_sub(1) / unit + 2
}

/// Words of a tree of so many words of units, each of which is the first of `apart`, its index included.
pub(crate) const fn tree_words(words: usize, apart: usize) -> usize {
    (words * apart).next_multiple_of(LINE) + index_words(words)
}

/// The words of units of `1 << leaf` frames that `span` lies in: the number of the first, and how many.
pub(crate) const fn tree_span(span: Frames, leaf: Order) -> (usize, usize) {
    let word = leaf.frames() * WORD;
    let first = span.start.0 / word;
    (first, span.end().div_ceil(word) - first)
}

/// Words for so many slots and for who has none, a line each; all that a `usize` holds where they are more.
pub(crate) const fn lines(slots: usize) -> usize {
    slots.saturating_add(1).saturating_mul(LINE)
}

/// Bytes that the metadata of a bitmap over so many frames, holes included, may take.
pub(crate) const fn bitmap_bytes(frames: usize) -> usize {
    Plan::worst(frames).bitmap_words() * 8 + TO_A_LINE
}

/// Bytes that the metadata of a buddy allocator with that leaf may take.
pub(crate) const fn buddy_bytes(frames: usize, leaf: Order) -> usize {
    tree_words(parts(frames, leaf.frames() * WORD), 1) * 8 + TO_A_LINE
}

/// Bytes that the metadata of a hybrid allocator with so many slots may take.
pub(crate) const fn hybrid_bytes(frames: usize, slots: usize) -> usize {
    Plan::worst(frames).hybrid_words(slots).saturating_mul(8).saturating_add(TO_A_LINE)
}

/// Splits a run into the pieces that lie in one part of `unit` frames each: first frame and count.
pub(crate) fn split(start: usize, count: usize, unit: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let end = start + count;
    (start / unit..end.div_ceil(unit)).map(move |part| {
        let from = start.max(part * unit);
        (from, end.min((part + 1) * unit) - from)
    })
}
