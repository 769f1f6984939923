//! [`Tree`]: a buddy system in the bits of words, without lists and without a lock.
//!
//! ```text
//!  one word, 64 units                          an order-3 request:
//!  1 1 1 1 1 1 1 1 │ 0 1 1 1 1 1 1 1 │ …       8 ones at a multiple of 8, made zero by one compare-exchange
//!  └─┘ └─┘ └─┘ └─┘    ┘ └─┘ └─┘ └─┘            order 1: the tree's nodes are never stored, they are
//!  └─────┘ └─────┘         └─────┘             order 2  what shifts and ands find
//!  └─────────────┘                             order 3
//! ```
//!
//! A unit is 2^leaf frames: one for the buddy allocator on its own, 512 beneath the hybrid one, where a word is 128
//! MiB. To free is to set bits; buddies need no merging, for two free neighbours *are* the larger run. Above 6 orders a
//! run is several words, claimed from the first to the last and put back where one fails.
//!
//! - **T1** A bit is one exactly while its unit is free and in the hands of this structure (I1 of the bits).
//! - **T2** A run of several words is claimed in the order of the words, and put back whole where one fails.
//! - **T3** After every put the word is held by a slot, or registered in a class that is no lower than its own (I1 of
//!   the index).
//! - **T4** Bit 0 of word 0 stands for a unit whose number is a multiple of 64; `first` is that number, in words.
//!
//! Cost: orders 0 to 6: one compare-exchange, and up to 6 words of the index for each class looked at. Order 6 + n: 2^n
//! words, and those that are looked at in vain. Put: one step a word, or a store for each of several whole ones, and up
//! to 3 words of the index.
//!
//! The idea of bits instead of nodes is LLFree's and the bunches' of the non-blocking buddy system (Marotta and others,
//! 2018).

use crate::{
    atomic::AtomicU64,
    bits::FreeBits,
    index::{HELD, Index},
    word::{self, WORD, WORD_ORDER},
};

pub(crate) struct Tree<'m, const APART: usize = 1> {
    words: FreeBits<'m, APART>,
    first: usize,
    pub(crate) index: Index<'m>,
}

impl<'m, const APART: usize> Tree<'m, APART> {
    /// Over zeroed `words`, each the first of `APART`; word 0 is the one of the absolute number `first` (T4).
    pub(crate) fn new(words: &'m [AtomicU64], first: usize, index: Index<'m>) -> Self {
        Self { words: FreeBits::new(words), first, index }
    }

    /// How many words it has.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// The free units of a word.
    #[inline]
    pub(crate) fn bits(&self, word: usize) -> u64 {
        self.words.load(word)
    }

    #[inline]
    pub(crate) fn has(&self, unit: usize) -> bool {
        self.words.load(unit / WORD) >> (unit % WORD) & 1 == 1
    }

    /// Whether any unit of the run is free.
    pub(crate) fn has_any(&self, unit: usize, count: usize) -> bool {
        word::pieces(unit, count).any(|(word, mask)| self.words.load(word) & mask != 0)
    }

    /// For units of a word that are put soon.
    #[inline]
    pub(crate) fn prefetch(&self, word: usize) {
        self.words.prefetch(word);
    }

    /// How many units are free.
    pub(crate) fn count(&self) -> usize {
        self.words.count()
    }

    /// The lowest free unit of a word.
    #[inline]
    pub(crate) fn take_unit(&self, word: usize) -> Option<usize> {
        self.words.take_lowest(word).map(|bit| word * WORD + bit as usize)
    }

    /// An aligned run of `order`, 0 to 6, out of a word, inside `from..to`.
    #[inline]
    pub(crate) fn take_in(&self, word: usize, order: u32, from: usize, to: usize) -> Option<usize> {
        if word >= self.words.len() {
            return None;
        }
        let (from, to) = (from.saturating_sub(word * WORD).min(WORD), to.saturating_sub(word * WORD).min(WORD));
        if from >= to {
            return None;
        }
        let inside = word::ones(from as u32, (to - from) as u32);
        self.words.take_run(word, order, inside).map(|bit| word * WORD + bit as usize)
    }

    /// A free unit of any word that is held.
    #[cold]
    pub(crate) fn take_held(&self) -> Option<usize> {
        self.index.held().find_map(|word| self.take_unit(word))
    }

    /// The first `most` aligned runs of `order`, 0 to 5, out of a word: their bits.
    pub(crate) fn take_runs(&self, word: usize, order: u32, most: usize) -> u64 {
        self.words.take_runs(word, order, most)
    }

    /// An aligned run of any order inside `from..to`, in words that are not held; with `hold`, for orders up to 6, the
    /// word is held then.
    pub(crate) fn take(&self, order: u32, from: usize, to: usize, hold: bool) -> Option<usize> {
        if order > WORD_ORDER {
            return self.take_words(1 << (order - WORD_ORDER), from, to);
        }
        for class in order..=WORD_ORDER {
            let mut at = from / WORD;
            while let Some(word) = self.index.next(class, at) {
                if word * WORD >= to {
                    break;
                }
                at = word + 1;
                if if hold { self.index.mark(word, HELD) } else { self.index.has(word, HELD) } {
                    continue;
                }
                if hold {
                    // Before anything else, so that a thread that stops leaves nothing behind but the hold.
                    self.index.clear_all(word);
                }
                if let Some(unit) = self.take_in(word, order, from, to) {
                    if hold {
                        // Whoever has ended the hold since may have registered the word before it was cleared.
                        self.settle(word);
                    }
                    return Some(unit);
                }
                if hold {
                    self.let_go(word);
                    continue;
                }
                let order = word::max_order(self.words.load(word));
                if order.is_none_or(|order| order < class) {
                    self.index.correct(word, order);
                    self.settle(word);
                }
            }
        }
        None
    }

    /// `count` whole words, a power of two, at a multiple of it.
    fn take_words(&self, count: usize, from: usize, to: usize) -> Option<usize> {
        let mut at = from.div_ceil(WORD);
        loop {
            let found = self.index.next(WORD_ORDER, at)?;
            // By T4 what is aligned is the absolute number.
            let start = (found + self.first).next_multiple_of(count) - self.first;
            if start + count > to / WORD || start + count > self.words.len() {
                return None;
            }
            // By T3 all words that are whole and not held are in the row of the highest class.
            if let Some(missing) = self.index.last_missing(WORD_ORDER, start, count) {
                at = missing + 1;
                continue;
            }
            if self.claim_words(start, count) {
                // All units are the caller's, so that nothing that is free goes unseen.
                word::pieces(start, count).for_each(|(at, mask)| self.index.clear_group(at, mask, WORD_ORDER));
                return Some(start * WORD);
            }
            // Somebody was quicker, or a hint says too much.
            for word in start..start + count {
                let free = self.words.load(word);
                if free != !0 {
                    self.index.correct(word, word::max_order(free));
                    self.settle(word);
                }
            }
            at = start;
        }
    }

    /// Claims whole words, or nothing (T2).
    fn claim_words(&self, start: usize, count: usize) -> bool {
        let claimed = self.words.claim_words(start, count);
        if !claimed {
            // Who looked meanwhile saw less than there is.
            (start..start + count).for_each(|word| self.settle(word));
        }
        claimed
    }

    /// Makes units free, none of which is, and registers their words.
    #[inline]
    pub(crate) fn put(&self, unit: usize, count: usize) {
        if unit.is_multiple_of(WORD) && count.is_multiple_of(WORD) {
            return self.put_words(unit / WORD, count / WORD);
        }
        for (word, mask) in word::pieces(unit, count) {
            self.put_bits(word, mask);
        }
    }

    /// The same for whole words.
    pub(crate) fn put_words(&self, first: usize, count: usize) {
        self.words.set_words(first, count);
        for (group, mask) in word::pieces(first, count) {
            // By T3 who holds a word registers it when it lets go.
            let open = mask & !self.index.group(group, HELD);
            if open != 0 {
                self.index.set_group(group, open, WORD_ORDER);
            }
        }
    }

    /// Makes an aligned run of units of one word free. `false`: one of them was, and nothing has changed.
    #[inline]
    pub(crate) fn put_run(&self, word: usize, run: u64) -> bool {
        let Some(free) = self.words.put(word, run) else { return false };
        if !self.index.has(word, HELD) {
            self.index.set(word, word::order_at(free, run.trailing_zeros()));
        }
        true
    }

    /// Makes units of one word free. `false`: one of them was, and nothing has changed.
    #[inline]
    pub(crate) fn put_bits(&self, word: usize, mask: u64) -> bool {
        let put = self.words.put(word, mask).is_some();
        if put {
            self.settle(word);
        }
        put
    }

    /// The same for an aligned run, where the caller gets all of `part` at once should it be free as a whole then:
    /// `Some(true)`. `None`: one of them was free, and nothing has changed.
    #[inline]
    pub(crate) fn put_or_take(&self, word: usize, run: u64, part: u64) -> Option<bool> {
        let (free, whole) = self.words.put_or_take(word, run, part)?;
        if !whole && !self.index.has(word, HELD) {
            self.index.set(word, word::order_at(free, run.trailing_zeros()));
        }
        if whole && free == 0 && !self.index.mark(word, HELD) {
            // No hint is left of a word that stays empty while its units are in other hands. Held meanwhile, so that a
            // thread that stops leaves nothing behind but the hold.
            self.index.clear_all(word);
            self.let_go(word);
        }
        Some(whole)
    }

    /// Makes units of one word free, none of which is. The caller sees to their registration.
    pub(crate) fn set(&self, word: usize, mask: u64) {
        self.words.set(word, mask);
    }

    /// Makes units free, and says nothing of them. `false`: one of them was, and nothing has changed.
    #[inline]
    pub(crate) fn put_held(&self, word: usize, run: u64) -> bool {
        self.words.put(word, run).is_some()
    }

    /// Those of these units that are free, claimed.
    pub(crate) fn take_mask(&self, word: usize, mask: u64) -> u64 {
        self.words.take_mask(word, mask)
    }

    /// Claims these units, or none.
    pub(crate) fn claim(&self, word: usize, mask: u64) -> bool {
        self.words.claim(word, mask)
    }

    /// Brings the word's registration up to what is free there.
    #[inline]
    pub(crate) fn settle(&self, word: usize) {
        if !self.index.has(word, HELD)
            && let Some(order) = word::max_order(self.words.load(word))
        {
            self.index.set(word, order);
        }
    }

    /// Ends a hold.
    pub(crate) fn let_go(&self, word: usize) {
        self.index.unmark(word, HELD);
        self.settle(word);
    }
}
