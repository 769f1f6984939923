//! [`FreeBits`]: words whose ones are free, claimed and put back by atomic steps; what [`Blocks`](crate::blocks) and
//! [`Tree`](crate::tree) have in common.
//!
//! - **I1** A bit is one exactly while what it stands for is free; a claim makes it zero by an atomic step that saw it
//!   one, so it has one owner.
//!
//! Claims are `Acquire`, puts at least `Release`: what the last owner did is seen by the next. Puts are `SeqCst`, and
//! so are the looks that are not mere guesses, for the index (see there). No step waits for another thread: a failed
//! compare-exchange means that another one succeeded.
#![forbid(unsafe_code)]

use crate::{
    arch,
    atomic::{AtomicU64, Ordering, fence},
    hook, word,
};

/// Each word is the first of `APART` of the storage's, so that where these are a cache line no two words share one.
pub(crate) struct FreeBits<'m, const APART: usize = 1>(&'m [[AtomicU64; APART]]);

impl<'m, const APART: usize> FreeBits<'m, APART> {
    /// Over zeroed words: nothing is free.
    pub(crate) fn new(storage: &'m [AtomicU64]) -> Self {
        Self(storage.as_chunks().0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(crate) fn load(&self, word: usize) -> u64 {
        hook::touched();
        self.0[word][0].load(Ordering::SeqCst)
    }

    /// So many words from `first` on.
    #[inline]
    pub(crate) fn row<const N: usize>(&self, first: usize) -> [u64; N] {
        let words = &self.0[first..first + N];
        core::array::from_fn(|index| {
            hook::touched();
            words[index][0].load(Ordering::SeqCst)
        })
    }

    /// Whether so many words from `first` on are all `value`.
    #[inline]
    pub(crate) fn are(&self, first: usize, count: usize, value: u64) -> bool {
        self.0[first..first + count].iter().all(|word| {
            hook::touched();
            word[0].load(Ordering::SeqCst) == value
        })
    }

    /// Has the word's line brought here, for what is put there soon.
    #[inline]
    pub(crate) fn prefetch(&self, word: usize) {
        if let Some(place) = self.0.get(word) {
            arch::prefetch(&place[0]);
        }
    }

    /// How many bits are free.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word[0].load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// The lowest free bit of a word, claimed; `None` for a word that there is not, too.
    #[inline]
    pub(crate) fn take_lowest(&self, word: usize) -> Option<u32> {
        let place = &self.0.get(word)?[0];
        loop {
            hook::touched();
            // Relaxed: a guess, which the step below makes sure of.
            let free = place.load(Ordering::Relaxed);
            if free == 0 {
                return None;
            }
            let bit = free.trailing_zeros();
            hook::between();
            // Acquire: pairs with the put of the bit (I1).
            if place.fetch_and(!(1 << bit), Ordering::Acquire) & 1 << bit != 0 {
                return Some(bit);
            }
            hook::lost();
        }
    }

    /// An aligned run of `order`, 0 to 6, among the bits of `inside`, claimed; `None` for a word that there is not, too.
    #[inline]
    pub(crate) fn take_run(&self, word: usize, order: u32, inside: u64) -> Option<u32> {
        let place = &self.0.get(word)?[0];
        let mut free = self.load(word);
        loop {
            let runs = word::aligned_runs(free & inside, order);
            if runs == 0 {
                return None;
            }
            let bit = runs.trailing_zeros();
            let run = word::ones(bit, 1 << order);
            hook::between();
            // Acquire: pairs with the put of the bits (I1).
            match place.compare_exchange(free, free & !run, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(bit),
                Err(now) => free = now,
            }
            hook::lost();
        }
    }

    /// The first `most` aligned runs of `order`, 0 to 5, of a word, claimed in one step: their bits.
    pub(crate) fn take_runs(&self, word: usize, order: u32, most: usize) -> u64 {
        let mut free = self.load(word);
        loop {
            let runs = word::first_runs(free, order, most);
            if runs == 0 {
                return 0;
            }
            hook::between();
            // Acquire: pairs with the put of the bits (I1).
            match self.0[word][0].compare_exchange(free, free & !runs, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return runs,
                Err(now) => free = now,
            }
            hook::lost();
        }
    }

    /// Claims these bits of a word, or none.
    #[inline]
    pub(crate) fn claim(&self, word: usize, mask: u64) -> bool {
        let mut free = self.load(word);
        while free & mask == mask {
            hook::between();
            // Acquire: pairs with the put of the bits (I1).
            match self.0[word][0].compare_exchange(free, free & !mask, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => free = now,
            }
            hook::lost();
        }
        false
    }

    /// Makes bits of a word free, and says what is free there then. `None`: one of them was, and nothing has changed.
    #[inline]
    pub(crate) fn put(&self, word: usize, mask: u64) -> Option<u64> {
        let mut free = self.load(word);
        while free & mask == 0 {
            hook::between();
            // SeqCst: Release for the next owner, and before the look at the index.
            match self.0[word][0].compare_exchange(free, free | mask, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Some(free | mask),
                Err(now) => free = now,
            }
            hook::lost();
        }
        None
    }

    /// The same, where the caller gets all of `part` at once should it be free as a whole then: `true`, with what is free
    /// besides.
    #[inline]
    pub(crate) fn put_or_take(&self, word: usize, mask: u64, part: u64) -> Option<(u64, bool)> {
        let mut free = self.load(word);
        while free & mask == 0 {
            let whole = (free | mask) & part == part;
            let next = if whole { free & !part } else { free | mask };
            hook::between();
            // SeqCst: Release for the next owner, and before the look at the index; Acquire for who takes.
            match self.0[word][0].compare_exchange(free, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Some((next, whole)),
                Err(now) => free = now,
            }
            hook::lost();
        }
        None
    }

    /// Those of these bits that are free, claimed.
    pub(crate) fn take_mask(&self, word: usize, mask: u64) -> u64 {
        hook::touched();
        hook::between();
        // Acquire: pairs with the put of the bits (I1).
        self.0[word][0].fetch_and(!mask, Ordering::Acquire) & mask
    }

    /// Makes bits of a word free, none of which is.
    #[inline]
    pub(crate) fn set(&self, word: usize, mask: u64) {
        hook::touched();
        // SeqCst: as in `put`.
        self.0[word][0].fetch_or(mask, Ordering::SeqCst);
    }

    /// Claims so many whole words, or none: one after another, put back where one of them fails.
    #[inline]
    pub(crate) fn claim_words(&self, first: usize, count: usize) -> bool {
        let words = &self.0[first..first + count];
        for (done, place) in words.iter().enumerate() {
            hook::touched();
            hook::between();
            // Acquire: pairs with the put of the bits (I1).
            if place[0].compare_exchange(!0, 0, Ordering::Acquire, Ordering::Relaxed).is_err() {
                hook::lost();
                (first..first + done).for_each(|word| self.set(word, !0));
                return false;
            }
        }
        true
    }

    /// Makes so many whole words free, none of whose bits is: nobody else writes them meanwhile.
    #[inline]
    pub(crate) fn set_words(&self, first: usize, count: usize) {
        self.store_whole(first, count);
        // One for all: what was stored is before the look at the index.
        fence(Ordering::SeqCst);
    }

    /// Writes ones to whole words that nobody else writes meanwhile.
    #[inline]
    pub(crate) fn store_whole(&self, first: usize, count: usize) {
        for word in &self.0[first..first + count] {
            hook::touched();
            // Release: pairs with the claims of these bits.
            word[0].store(!0, Ordering::Release);
        }
    }

    /// Writes a word that nobody else writes meanwhile.
    #[inline]
    pub(crate) fn store(&self, word: usize, free: u64) {
        hook::touched();
        // Release: pairs with the claims of these bits.
        self.0[word][0].store(free, Ordering::Release);
    }
}
