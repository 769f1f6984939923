//! [`Blocks`]: the free bits of frames, claimed by compare-exchange, a cache line for each block of 512.
//!
//! ```text
//!  words    │ 8 words │ 8 words │ …          block b at 8 (b - skip): blocks before the first that the map has are not stored
//!             block     block
//!  index      which block has a run of which order (index.rs)
//! ```
//!
//! - **B1** A bit is one exactly while its frame is free and in the hands of this structure (I1 of the bits).
//! - **B2** A run that lies in several words is claimed one word after another, and put back whole where one word
//!   fails.
//! - **B3** After every put the block is held by a slot, or registered in a class that is no lower than its own (I1 of
//!   the index).
//! - **B4** Nobody writes a word of zeros but whom its frames belong to: claims want ones, a put is of one's own. So whole
//!   words are put by stores, and one fence for all of them before the look at the index.
//!
//! Cost: an order up to 5 in a given word: one compare-exchange; a block: 8 words; put: the run's words, and up to 3 of
//! the index.

use crate::{
    atomic::AtomicU64,
    bits::FreeBits,
    index::{HELD, Index},
    word::{self, BLOCK, BLOCK_ORDER, Bits, WORD, WORD_ORDER, WORDS},
};

/// What is wanted of blocks: frames are counted from the first of block 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    /// 1 to 512.
    pub(crate) count: usize,
    /// Logarithm, 0 to 9.
    pub(crate) alignment: u32,
    /// The run begins no earlier, and ends no later.
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Want {
    /// The class whose blocks surely have such a run, limits aside.
    pub(crate) fn class(&self) -> u32 {
        self.alignment.max(self.count.next_power_of_two().trailing_zeros())
    }

    /// The lowest class whose blocks may have one: the first 2^(k+1) - 1 frames of a run hold an aligned one of order
    /// k.
    pub(crate) fn least_class(&self) -> u32 {
        self.count.div_ceil(2).ilog2()
    }
}

pub(crate) struct Blocks<'m> {
    words: FreeBits<'m>,
    skip: usize,
    pub(crate) index: Index<'m>,
}

impl<'m> Blocks<'m> {
    /// Over zeroed `words` for the blocks from `skip` on.
    pub(crate) fn new(words: &'m [AtomicU64], skip: usize, index: Index<'m>) -> Self {
        Self { words: FreeBits::new(words), skip, index }
    }

    /// The words of a block, by the number of the first.
    #[inline]
    fn first_word(&self, block: usize) -> usize {
        (block - self.skip) * WORDS
    }

    /// The block that a word belongs to.
    #[inline]
    pub(crate) fn block_of(&self, word: usize) -> usize {
        word / WORDS + self.skip
    }

    /// The word and the bit of a frame.
    #[inline]
    fn place(&self, frame: usize) -> (usize, u32) {
        (frame / WORD - self.skip * WORDS, (frame % WORD) as u32)
    }

    /// The frame of a word's bit.
    #[inline]
    fn frame(&self, word: usize, bit: u32) -> usize {
        (word + self.skip * WORDS) * WORD + bit as usize
    }

    /// A block's bits, one word after another.
    pub(crate) fn bits(&self, block: usize) -> Bits {
        self.words.row(self.first_word(block))
    }

    #[inline]
    pub(crate) fn has(&self, frame: usize) -> bool {
        let (word, bit) = self.place(frame);
        self.words.load(word) >> bit & 1 == 1
    }

    /// The free frames of a word, counted from the first of block 0. `None`: there is no such word.
    pub(crate) fn word(&self, number: usize) -> Option<u64> {
        let word = number.wrapping_sub(self.skip * WORDS);
        (word < self.words.len()).then(|| self.words.load(word))
    }

    /// Whether any frame of the run is free. The run lies in one block.
    pub(crate) fn has_any(&self, frame: usize, count: usize) -> bool {
        let (first, _) = self.place(frame - frame % WORD);
        word::pieces(frame % WORD, count).any(|(word, mask)| self.words.load(first + word) & mask != 0)
    }

    /// The last frame of the run that is not free. The run may go through several blocks.
    pub(crate) fn last_taken(&self, frame: usize, count: usize) -> Option<usize> {
        let (first, _) = self.place(frame - frame % WORD);
        word::pieces(frame % WORD, count).rev().find_map(|(word, mask)| {
            let taken = !self.words.load(first + word) & mask;
            (taken != 0).then(|| self.frame(first + word, taken.ilog2()))
        })
    }

    /// For a frame that is put soon.
    #[inline]
    pub(crate) fn prefetch(&self, frame: usize) {
        self.words.prefetch(self.word_of(frame));
    }

    /// How many frames are free.
    pub(crate) fn count(&self) -> usize {
        self.words.count()
    }

    /// The lowest free frame of a word, claimed.
    #[inline]
    pub(crate) fn take_bit(&self, word: usize) -> Option<usize> {
        self.words.take_lowest(word).map(|bit| self.frame(word, bit))
    }

    /// An aligned run of `order`, 0 to 9, out of a block; the search begins at `word` and comes round.
    pub(crate) fn take_order(&self, word: usize, order: u32) -> Option<usize> {
        let first = word - word % WORDS;
        if order < WORD_ORDER {
            return (0..WORDS).find_map(|index| self.take_in_word(first + (word + index) % WORDS, order));
        }
        match order - WORD_ORDER {
            0 => self.take_words(first, 1),
            1 => self.take_words(first, 2),
            2 => self.take_words(first, 4),
            more => self.take_words(first, 1 << more),
        }
    }

    /// An aligned run of so many whole words of the block whose first word is `first`.
    #[inline(always)] // A copy for each count, without inner loops.
    fn take_words(&self, first: usize, count: usize) -> Option<usize> {
        let mut word = first;
        while word < first + WORDS {
            if self.words.are(word, count, !0) && self.claim_words(word, count) {
                return Some(self.frame(word, 0));
            }
            word += count;
        }
        None
    }

    /// Claims whole words of a block, or none (B2).
    fn claim_words(&self, first: usize, count: usize) -> bool {
        let claimed = self.words.claim_words(first, count);
        if !claimed {
            // Who looked meanwhile saw less than there is: register what was put back.
            self.register(self.block_of(first));
        }
        claimed
    }

    /// An aligned run of `order`, 0 to 5, out of a word.
    #[inline]
    pub(crate) fn take_in_word(&self, word: usize, order: u32) -> Option<usize> {
        self.words.take_run(word, order, !0).map(|bit| self.frame(word, bit))
    }

    /// The first `most` aligned runs of `order`, 0 to 5, out of the word of `frame`: their bits.
    pub(crate) fn take_runs(&self, frame: usize, order: u32, most: usize) -> u64 {
        self.words.take_runs(self.word_of(frame), order, most)
    }

    /// Whether the block that a word belongs to has an aligned run of `order`.
    pub(crate) fn has_order(&self, word: usize, order: u32) -> bool {
        let bits = self.bits(self.block_of(word));
        if order == WORD_ORDER {
            return bits.contains(&!0);
        }
        word::max_order_of(&bits).is_some_and(|max| max >= order)
    }

    /// A run as wanted out of a block.
    pub(crate) fn take(&self, block: usize, want: &Want) -> Option<usize> {
        let inside = |frame: usize| frame.saturating_sub(block * BLOCK).min(BLOCK);
        let (from, to) = (inside(want.from), inside(want.to));
        let limited = (from, to) != (0, BLOCK);
        if !limited && want.count == 1 << want.alignment {
            return self.take_order(self.first_word(block), want.alignment);
        }
        loop {
            let bits = self.bits(block);
            let bits = if limited { word::clipped(&bits, from, to) } else { bits };
            let start = word::first_run(&bits, want.count, want.alignment)?;
            if self.claim(block, start, want.count) {
                return Some(block * BLOCK + start);
            }
        }
    }

    /// Claims that very run, or nothing (B2). The run may go on into the next blocks.
    pub(crate) fn claim(&self, block: usize, start: usize, count: usize) -> bool {
        let first = self.first_word(block);
        for (done, (word, mask)) in word::pieces(start, count).enumerate() {
            if !self.words.claim(first + word, mask) {
                for (word, mask) in word::pieces(start, count).take(done) {
                    self.words.set(first + word, mask);
                }
                // Who looked meanwhile saw less than there is: register what was put back.
                (block + start / BLOCK..=block + (start + count - 1) / BLOCK).for_each(|block| {
                    self.register(block);
                });
                return false;
            }
        }
        true
    }

    /// Makes a run inside a word free, and says what is free there then. `None`: part of it was, and nothing has
    /// changed.
    #[inline]
    pub(crate) fn put_in_word(&self, frame: usize, count: usize) -> Option<u64> {
        let (word, bit) = self.place(frame);
        self.words.put(word, word::ones(bit, count as u32))
    }

    /// Makes what is left of a block behind its first `count` frames free, where the block came from the buddy and is
    /// the caller's and held: nobody else writes its words (B4), so stores and a fence do.
    pub(crate) fn fill(&self, block: usize, count: usize) {
        let first = self.first_word(block);
        let whole = count.div_ceil(WORD);
        if !count.is_multiple_of(WORD) {
            self.words.store(first + count / WORD, !0 << (count % WORD));
        }
        self.words.set_words(first + whole, WORDS - whole);
        // Whoever has ended the hold since saw less than there is.
        self.register(block);
    }

    /// Makes a run free, none of whose frames is, and which lies in one block.
    pub(crate) fn put(&self, frame: usize, count: usize) {
        let (first, _) = self.place(frame - frame % WORD);
        for (word, mask) in word::pieces(frame % WORD, count) {
            self.words.set(first + word, mask);
        }
    }

    /// After a put of `count` frames inside a word, which says what is free there: brings its block's registration up to it.
    /// `true`: the block is free as a whole, and not registered.
    #[inline]
    pub(crate) fn settle_word(&self, frame: usize, count: usize, free: u64) -> bool {
        let block = frame / BLOCK;
        if self.index.has(block, HELD) {
            return false;
        }
        if free == !0 {
            return self.settle(block);
        }
        // An aligned power of two is part of one larger run; what is none may have made one at either end, or within.
        let order = if count.is_power_of_two() && frame.is_multiple_of(count) {
            Some(word::order_at(free, (frame % WORD) as u32))
        } else {
            word::max_order(free)
        };
        if let Some(order) = order {
            self.index.set(block, order);
        }
        false
    }

    /// Makes frames of the word that begins at `frame` free, by their bits, and brings its block's registration up to it.
    /// `None`: part of it was free, and nothing has changed. `true`: as in [`settle_word`](Self::settle_word).
    pub(crate) fn put_bits(&self, frame: usize, mask: u64) -> Option<bool> {
        match self.put_mask(frame, mask)? {
            free if free == !0 => Some(self.settle(frame / BLOCK)),
            free => {
                self.settle_bits(frame / BLOCK, free);
                Some(false)
            }
        }
    }

    /// After a put that left a word of the block with these free, not all: brings its registration up to them.
    pub(crate) fn settle_bits(&self, block: usize, free: u64) {
        if !self.index.has(block, HELD)
            && let Some(order) = word::max_order(free)
        {
            self.index.set(block, order);
        }
    }

    /// After puts: brings the block's registration up to what is free there. `true`: as in
    /// [`settle_word`](Self::settle_word).
    #[inline(never)]
    pub(crate) fn settle(&self, block: usize) -> bool {
        if self.index.has(block, HELD) {
            return false;
        }
        match word::max_order_of(&self.bits(block)) {
            Some(BLOCK_ORDER) => return true,
            Some(order) => self.index.set(block, order),
            None => {}
        }
        false
    }

    /// Brings the block's registration up to what is free there, all of it included. `true`: all of it is.
    pub(crate) fn register(&self, block: usize) -> bool {
        let full = self.settle(block);
        if full {
            self.index.set(block, BLOCK_ORDER);
        }
        full
    }

    /// The first run as wanted in blocks of the classes `from..=to` that are not held; with `hold`, whose block is held
    /// then.
    pub(crate) fn find(&self, want: &Want, from: u32, to: u32, hold: bool) -> Option<usize> {
        let end = want.to.div_ceil(BLOCK);
        for class in from..=to {
            let mut at = want.from / BLOCK;
            while let Some(block) = self.index.next(class, at) {
                if block >= end {
                    break;
                }
                at = block + 1;
                // Two that hold do not share a block; who does not hold passes by.
                if if hold { self.index.mark(block, HELD) } else { self.index.has(block, HELD) } {
                    continue;
                }
                if hold {
                    // Before anything else, so that a thread that stops leaves nothing behind but the hold.
                    self.index.clear_all(block);
                }
                if let Some(frame) = self.take(block, want) {
                    if hold {
                        // Whoever has ended the hold since may have registered the block before it was cleared.
                        self.register(block);
                    }
                    return Some(frame);
                }
                if hold {
                    self.let_go(block);
                    continue;
                }
                let order = word::max_order_of(&self.bits(block));
                if order.is_none_or(|order| order < class) {
                    self.index.correct(block, order);
                    self.register(block);
                }
            }
        }
        None
    }

    /// Makes frames of the word that begins at `frame` free, by their bits, and says what is free there then. `None`: part
    /// of it was, and nothing has changed.
    #[inline]
    pub(crate) fn put_mask(&self, frame: usize, mask: u64) -> Option<u64> {
        self.words.put(self.word_of(frame), mask)
    }

    /// Claims the whole word that begins at `frame`.
    pub(crate) fn take_word(&self, frame: usize) -> bool {
        self.words.claim_words(self.word_of(frame), 1)
    }

    /// Makes the caller's own frames free in words of ones and of what is left behind `count` frames of the first; by
    /// B4 stores and a fence do.
    pub(crate) fn store_words(&self, first: usize, words: u64, count: usize) {
        let mut left = words;
        while left != 0 {
            let word = first + left.trailing_zeros() as usize;
            self.words.store(word, if left == words { !0 << count } else { !0 });
            left &= left - 1;
        }
        self.words.set_words(first, 0);
    }

    /// Ends a hold. `true`: the block is free as a whole, and registered so.
    pub(crate) fn let_go(&self, block: usize) -> bool {
        self.index.unmark(block, HELD);
        self.register(block)
    }

    /// Claims a block that is free as a whole.
    pub(crate) fn take_whole(&self, block: usize) -> bool {
        self.claim_words(self.first_word(block), WORDS)
    }

    /// The number of the word that `frame` lies in.
    #[inline]
    pub(crate) fn word_of(&self, frame: usize) -> usize {
        self.place(frame).0
    }

    /// How many blocks are stored, and the number behind the last.
    pub(crate) fn end(&self) -> usize {
        self.skip + self.words.len() / WORDS
    }

    /// The number of the first block that is stored.
    pub(crate) fn start(&self) -> usize {
        self.skip
    }
}
