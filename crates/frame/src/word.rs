//! Arithmetic on words and blocks of free bits: where a run lies, how large the largest aligned one is.
//!
//! ```text
//!  a word, 64 bits                        a block, 8 words, 512 bits: one cache line
//!  bit 0 is the lowest frame, 1 is free   ┌──────┬──────┬── … ──┬──────┐
//!                                         │ 0–63 │64–127│       │ –511 │
//!  aligned runs of order 2:               └──────┴──────┴── … ──┴──────┘
//!  1011 1111 0111 1111
//!       ^         ^  and none at the left, whose four are not all free
//! ```
//!
//! - **I1** An aligned run of order k begins at a multiple of 2^k and has 2^k ones.
//! - **I2** Halving finds it: `x & (x >> 2^(k-1))` has a one where two runs of order k-1 are neighbours.
//!
//! Cost: at most 6 steps a word, 9 a block. Plain integers: tested over every run of a word and against one bit after
//! another.
#![forbid(unsafe_code)]

use crate::shape::WORDS_ORDER;

/// Frames in a word, and the logarithm.
pub(crate) const WORD: usize = 64;
pub(crate) const WORD_ORDER: u32 = 6;
/// Words in a block.
pub(crate) const WORDS: usize = 1 << WORDS_ORDER;
/// Frames in a block, and the logarithm.
pub(crate) const BLOCK: usize = WORD * WORDS;
pub(crate) const BLOCK_ORDER: u32 = WORD_ORDER + WORDS_ORDER;

/// The free bits of a block.
pub(crate) type Bits = [u64; WORDS];

/// Where aligned runs of each order may begin.
const STARTS: [u64; 7] = [
    !0,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    1,
];

/// `count` ones from bit `start` on; 1 to 64 of them, in a word.
#[inline]
pub(crate) const fn ones(start: u32, count: u32) -> u64 {
    (!0 >> (64 - count)) << start
}

/// The bits at which aligned runs of `order`, 0 to 6, begin.
#[inline]
pub(crate) const fn aligned_runs(word: u64, order: u32) -> u64 {
    let mut runs = word;
    let mut step = 0;
    while step < order {
        runs &= runs >> (1 << step);
        step += 1;
    }
    runs & STARTS[order as usize]
}

/// The bits of the first `most` aligned runs of `order`, 0 to 5.
#[inline]
pub(crate) const fn first_runs(word: u64, order: u32, most: usize) -> u64 {
    let runs = aligned_runs(word, order);
    let mut rest = runs;
    let mut left = most;
    while left > 0 && rest != 0 {
        rest &= rest - 1;
        left -= 1;
    }
    // A run is as many ones as it begins below the next: the difference of two powers of two, for all at once.
    let starts = runs & !rest;
    (starts << (1 << order)).wrapping_sub(starts)
}

/// The order of the largest aligned run.
pub(crate) const fn max_order(word: u64) -> Option<u32> {
    if word == 0 {
        return None;
    }
    if word == !0 {
        return Some(WORD_ORDER);
    }
    let mut runs = word;
    let mut order = 0;
    while order < WORD_ORDER {
        runs &= (runs >> (1 << order)) & STARTS[order as usize + 1];
        if runs == 0 {
            break;
        }
        order += 1;
    }
    Some(order)
}

/// The order of the largest aligned run that `bit`, which is one, lies in. Without a branch: which bits are free is as
/// good as random.
#[inline]
pub(crate) const fn order_at(word: u64, bit: u32) -> u32 {
    let taken = !word;
    // The nearest bits on both sides that are taken, or 64 away. A run that reaches the highest bit in which one of the
    // two differs from `bit` holds it, so the lower of these highest bits is the order; 64 has bit 6 as its highest.
    let above = bit as u64 + (taken >> bit).trailing_zeros() as u64;
    let below = (bit as u64).wrapping_sub((taken << (WORD as u32 - 1 - bit)).leading_zeros() as u64);
    let (above, below) = (above ^ bit as u64, below ^ bit as u64);
    // Not zero, for `bit` itself is not taken.
    (if above < below { above } else { below } | 1).ilog2()
}

/// The order of the largest aligned run of a block, up to 9.
pub(crate) fn max_order_of(bits: &Bits) -> Option<u32> {
    if bits.iter().all(|&word| word == 0) {
        return None;
    }
    if let Some(order) = max_order(whole_words(bits)) {
        return Some(WORD_ORDER + order);
    }
    let mut runs = *bits;
    let mut largest = None;
    // All words in one step: the compiler makes vectors of them.
    for order in 0..WORD_ORDER {
        if runs.iter().fold(0, |any, word| any | word) == 0 {
            break;
        }
        largest = Some(order);
        runs.iter_mut().for_each(|word| *word &= (*word >> (1 << order)) & STARTS[order as usize + 1]);
    }
    largest
}

/// Which words of a block are all ones: a bit each.
#[inline]
pub(crate) fn whole_words(bits: &Bits) -> u64 {
    bits.iter().enumerate().fold(0, |whole, (index, &word)| whole | u64::from(word == !0) << index)
}

/// The first run of `count` ones, 1 to 512, that begins at a multiple of `1 << alignment`, up to 9.
pub(crate) fn first_run(bits: &Bits, count: usize, alignment: u32) -> Option<usize> {
    let mut runs = *bits;
    let mut have = 1;
    while have < count {
        let step = have.min(count - have);
        runs = anded(&runs, step);
        have += step;
    }
    for (index, &word) in runs.iter().enumerate() {
        let starts = if alignment <= WORD_ORDER {
            STARTS[alignment as usize]
        } else if index % (1 << (alignment - WORD_ORDER)) == 0 {
            1
        } else {
            0
        };
        if word & starts != 0 {
            return Some(index * WORD + (word & starts).trailing_zeros() as usize);
        }
    }
    None
}

/// `bits & (bits >> by)`, over the whole block; `by` is 1 to 511.
fn anded(bits: &Bits, by: usize) -> Bits {
    let (words, rest) = (by / WORD, (by % WORD) as u32);
    let word = |index: usize| bits.get(index).copied().unwrap_or(0);
    let mut result = *bits;
    for (index, place) in result.iter_mut().enumerate() {
        let low = word(index + words) >> rest;
        // Twice, for a shift by 64 is none.
        let high = word(index + words + 1) << 1 << (63 - rest);
        *place &= low | high;
    }
    result
}

/// The bits from `from` to before `to` only.
pub(crate) fn clipped(bits: &Bits, from: usize, to: usize) -> Bits {
    let mut result = [0; WORDS];
    if from < to {
        for (word, mask) in pieces(from, to - from) {
            result[word] = bits[word] & mask;
        }
    }
    result
}

/// The run's words, by number, and its bits in each. The run is not empty.
#[inline]
pub(crate) fn pieces(start: usize, count: usize) -> impl DoubleEndedIterator<Item = (usize, u64)> + Clone {
    let last = start + count - 1;
    (start / WORD..=last / WORD).map(move |word| {
        let from = if word == start / WORD { start % WORD } else { 0 };
        let to = if word == last / WORD { last % WORD } else { WORD - 1 };
        (word, ones(from as u32, (to - from + 1) as u32))
    })
}
