//! [`Counts`]: blocks and bytes, as few words as keep the eight figures.
//!
//! ```text
//!   total ──┬── live now, and most ever live: the peak, which is looked at where something is made
//!   ended ──┘
//! ```
//!
//! - **N1** `ended <= total`; `total - ended <= peak`.
//!
//! Costs: where a block is made two sums and two compares, where it ends likewise.
#![forbid(unsafe_code)]

use terrace_core::AllocStats;

/// How many there were, how many of them have ended, and how many there were at most at once.
#[derive(Clone, Copy, Debug)]
struct Tally {
    total: u64,
    ended: u64,
    peak: u64,
}

impl Tally {
    const NONE: Self = Self { total: 0, ended: 0, peak: 0 };

    const fn live(&self) -> u64 {
        self.total.wrapping_sub(self.ended)
    }

    #[inline]
    fn add(&mut self, more: u64) {
        self.total = self.total.wrapping_add(more);
        if self.live() > self.peak {
            core::hint::cold_path();
            self.peak = self.live();
        }
    }

    #[inline]
    fn remove(&mut self, less: u64) {
        self.ended = self.ended.wrapping_add(less);
        if self.ended > self.total {
            core::hint::cold_path();
            // Without records nobody knows that what ends was never made: it counts as made, too.
            self.total = self.ended;
        }
    }
}

/// What was made and what has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    blocks: Tally,
    bytes: Tally,
}

impl Counts {
    pub const NONE: Self = Self { blocks: Tally::NONE, bytes: Tally::NONE };

    /// A block of `len` bytes is made.
    #[inline]
    pub fn made(&mut self, len: usize) {
        self.blocks.add(1);
        self.bytes.add(len as u64);
    }

    /// A block of `len` bytes ends.
    #[inline]
    pub fn ended(&mut self, len: usize) {
        self.blocks.remove(1);
        self.bytes.remove(len as u64);
    }

    /// A block of `old` bytes has `new` ones.
    pub fn resized(&mut self, old: usize, new: usize) {
        if new > old {
            self.bytes.add((new - old) as u64);
        } else {
            self.bytes.remove((old - new) as u64);
        }
    }

    /// Everything ends.
    pub fn all_ended(&mut self) {
        self.blocks.ended = self.blocks.total;
        self.bytes.ended = self.bytes.total;
    }

    /// Bytes that are live.
    pub fn live_bytes(&self) -> usize {
        usize::try_from(self.bytes.live()).unwrap_or(usize::MAX)
    }

    pub fn stats(&self) -> AllocStats {
        let Self { blocks, bytes } = self;
        AllocStats {
            total_allocations: blocks.total,
            total_deallocations: blocks.ended,
            current_allocations: blocks.live(),
            peak_allocations: blocks.peak,
            bytes_allocated: bytes.total,
            bytes_deallocated: bytes.ended,
            current_bytes: bytes.live(),
            peak_bytes: bytes.peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_figures_follow_what_is_made_resized_and_ended() {
        let mut counts = Counts::NONE;
        counts.made(10);
        counts.made(20);
        counts.resized(20, 50);
        counts.ended(10);
        counts.resized(50, 5);
        counts.made(1);
        let expected = AllocStats {
            total_allocations: 3,
            total_deallocations: 1,
            current_allocations: 2,
            peak_allocations: 2,
            bytes_allocated: 61,
            bytes_deallocated: 55,
            current_bytes: 6,
            peak_bytes: 60,
        };
        assert_eq!(counts.stats(), expected);
        counts.all_ended();
        assert_eq!((counts.stats().current_allocations, counts.live_bytes()), (0, 0));
        assert_eq!(counts.stats().peak_bytes, 60);
    }

    #[test]
    fn what_was_never_made_and_ends_leaves_nothing_live_and_no_debt() {
        let mut counts = Counts::NONE;
        counts.ended(100);
        assert_eq!((counts.stats().current_allocations, counts.live_bytes()), (0, 0));
        counts.made(7);
        let stats = counts.stats();
        assert_eq!((stats.current_allocations, stats.current_bytes, stats.peak_bytes), (1, 7, 7));
        assert_eq!(stats.total_allocations, stats.total_deallocations + stats.current_allocations);
    }
}
