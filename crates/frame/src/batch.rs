//! Batches: as many runs of a word as one atomic step takes or puts.
//!
//! ```text
//!  alloc    one run as ever, then the rest of its word    [ 0 0 1 1 0 1 1 1 ]  ── one step ──▶  2, 3, 5, 6
//!  free     4, 5, 7 │ 64, 66 │ 9 │ …                      neighbours in the batch that share a word go back in one step
//! ```
//!
//! - **I1** Runs that are put together do not overlap, lie in the map, and are aligned to their order.
//!
//! Cost: a step for each word, and some arithmetic for each run. What is not in order goes back run by run.
#![forbid(unsafe_code)]

use crate::{
    map::MemoryMap,
    types::{Frame, Frames, Misuse, Order},
    word::{self, WORD},
};

/// How many runs before it is needed a word is asked for: as long as a line takes from memory.
const AHEAD: usize = 4;

/// How an allocator counts: words of 64 units of `1 << leaf` frames, from the frame `base` on.
#[derive(Clone, Copy)]
pub(crate) struct Units {
    pub(crate) base: usize,
    pub(crate) leaf: u32,
}

impl Units {
    /// Runs from the front that share a word: how many there are, the word, and their bits.
    fn together(self, runs: &[Frame], order: Order, map: &MemoryMap) -> (usize, usize, u64) {
        let units = order.log2().saturating_sub(self.leaf);
        // A unit is handed out whole.
        let frames = order.frames().max(1 << self.leaf);
        let (mut count, mut word, mut mask) = (0, 0, 0);
        for &run in runs {
            if run.0 & (frames - 1) != 0 || !map.contains(Frames { start: run, count: frames }) {
                break;
            }
            let unit = (run.0 - self.base) >> self.leaf;
            let bits = word::ones((unit % WORD) as u32, 1 << units);
            if count > 0 && (unit / WORD != word || mask & bits != 0) {
                break;
            }
            (count, word, mask) = (count + 1, unit / WORD, mask | bits);
        }
        (count, word, mask)
    }

    /// Takes runs back, of fewer than 64 units each: those that share a word by `put`, which says whether it could, and
    /// others by `free`. Where words change from run to run `soon` is told of those that come.
    pub(crate) fn free(
        self,
        runs: &[Frame],
        order: Order,
        map: &MemoryMap,
        soon: impl Fn(usize),
        put: impl Fn(usize, u64) -> bool,
        free: impl Fn(Frame) -> Result<(), Misuse>,
    ) -> Result<(), (usize, Misuse)> {
        let mut done = 0;
        while let Some(&run) = runs.get(done) {
            if runs.get(done + 1).is_some_and(|next| self.word_of(*next) == self.word_of(run)) {
                let (count, word, mask) = self.together(&runs[done..], order, map);
                if count > 1 && put(word, mask) {
                    done += count;
                    continue;
                }
            } else if let Some(&run) = runs.get(done + AHEAD)
                && map.contains_frame(run.0)
            {
                soon(self.word_of(run));
            }
            // Alone, so that what is misused is found, and what stands before it is freed.
            free(run).map_err(|misuse| (done, misuse))?;
            done += 1;
        }
        Ok(())
    }

    /// The number of the word that a frame lies in; any, for one outside.
    #[inline]
    fn word_of(self, run: Frame) -> usize {
        (run.0.wrapping_sub(self.base) >> self.leaf) / WORD
    }

    /// Writes down the runs of `order` whose bits in `word` are ones, and says how many there are.
    pub(crate) fn spread(self, word: usize, runs: u64, order: Order, into: &mut [Frame]) -> usize {
        let units = order.log2().saturating_sub(self.leaf);
        let mut left = runs;
        let mut count = 0;
        while left != 0 {
            let bit = left.trailing_zeros();
            into[count] = Frame(self.base + ((word * WORD + bit as usize) << self.leaf));
            left &= !word::ones(bit, 1 << units);
            count += 1;
        }
        count
    }
}

/// Fills `into` from the front: a run by `one`, and more of its word by `more`, as long as there is one.
pub(crate) fn fill(
    into: &mut [Frame],
    one: impl Fn() -> Option<Frame>,
    more: impl Fn(Frame, &mut [Frame]) -> usize,
) -> usize {
    let mut filled = 0;
    while filled < into.len()
        && let Some(run) = one()
    {
        into[filled] = run;
        filled += 1;
        if filled < into.len() {
            filled += more(run, &mut into[filled..]);
        }
    }
    filled
}
