//! [`Steps`]: which bucket a length belongs to, in plain integers.
//!
//! ```text
//!   1 ───────────────── near ┄┄┄┄┄┄┄┄┄ longest      usize::MAX
//!   by a multiplication      by a division    refused
//! ```
//!
//! With `r = floor((2^B - 1) / step)`, where a word has `B` bits, `len · r / 2^B` is `len / step` less a little: `r` falls short of
//! `2^B / step` by `f`, where `0 < f <= 1`, so that the little is `len · f / 2^B`. As long as that is no more than `1 / step`, which
//! is as long as `len · step <= 2^B`, it takes a multiple of `step` to the bucket below, where it belongs, and no other length.
#![forbid(unsafe_code)]

use core::num::NonZeroUsize;

use crate::bump::MAX_LEN;

/// The steps of so many buckets.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    step: NonZeroUsize,
    /// The longest length that has a bucket.
    longest: usize,
    /// Lengths up to here find theirs by `reciprocal`: all, unless the steps are very long.
    near: usize,
    reciprocal: usize,
}

/// The upper word of a product.
#[inline]
const fn high(one: usize, other: usize) -> usize {
    ((one as u128 * other as u128) >> usize::BITS) as usize
}

impl Steps {
    /// Of the `buckets` those are used whose blocks are not too long.
    pub(super) const fn new(step: NonZeroUsize, buckets: usize) -> Self {
        let most = MAX_LEN / step.get();
        let longest = step.get() * if buckets < most { buckets } else { most };
        let exact = usize::MAX / step.get();
        let near = if longest < exact { longest } else { exact };
        Self { step, longest, near, reciprocal: usize::MAX / step.get() }
    }

    pub(super) const fn step(&self) -> NonZeroUsize {
        self.step
    }

    /// The number of the bucket that serves `len`, from 0, and the length of its blocks, which is not 0; `None` past the last one.
    #[inline]
    pub(super) fn bucket(&self, len: NonZeroUsize) -> Option<(usize, usize)> {
        if len.get() > self.near {
            core::hint::cold_path();
            return self.far(len.get());
        }
        let number = high(len.get(), self.reciprocal);
        Some((number, (number + 1).wrapping_mul(self.step.get())))
    }

    #[cold]
    #[inline(never)]
    fn far(&self, len: usize) -> Option<(usize, usize)> {
        if len > self.longest {
            return None;
        }
        let number = (len - 1) / self.step.get();
        Some((number, (number + 1) * self.step.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(bytes: usize) -> NonZeroUsize {
        NonZeroUsize::new(bytes).unwrap()
    }

    /// By a division.
    fn plain(len: usize, step: usize, buckets: usize) -> Option<(usize, usize)> {
        let number = (len - 1) / step;
        let longest = (number + 1).checked_mul(step).filter(|&longest| longest <= MAX_LEN)?;
        (number < buckets).then_some((number, longest))
    }

    #[test]
    fn each_length_is_in_the_first_bucket_that_it_fits_into() {
        let all = (1..70).chain([100, 127, 128, 129, 1000, 4096]);
        for step in all.take(if cfg!(miri) { 4 } else { usize::MAX }) {
            for buckets in 0..12 {
                let steps = Steps::new(new(step), buckets);
                for len in 1..step * 13 {
                    assert_eq!(steps.bucket(new(len)), plain(len, step, buckets), "{len} in {buckets} steps of {step}");
                }
            }
        }
    }

    /// Around every multiple that is near a power of two, for steps as long as a word lets them be: where the reciprocal is
    /// least exact, where division takes over, and where the last bucket ends.
    #[test]
    fn lengths_and_steps_of_any_size_find_the_bucket_that_a_division_finds() {
        let sizes = || {
            (0..usize::BITS)
                .flat_map(|log2| [-2i64, -1, 0, 1, 2].map(|more| (1usize << log2).wrapping_add_signed(more as isize)))
        };
        for step in sizes().filter(|&step| step > 0).step_by(if cfg!(miri) { 50 } else { 1 }) {
            for buckets in [1, 2, 3, 1000, usize::MAX] {
                let steps = Steps::new(new(step), buckets);
                let exact = usize::MAX / step;
                let edges = sizes().map(|n| n / step * step).chain([steps.near, steps.longest, exact / step * step]);
                for len in
                    edges.flat_map(|edge| [-1, 0, 1].map(|more| edge.wrapping_add_signed(more))).filter(|&len| len > 0)
                {
                    assert_eq!(steps.bucket(new(len)), plain(len, step, buckets), "{len} in {buckets} steps of {step}");
                }
            }
        }
    }

    #[test]
    fn a_bucket_whose_blocks_would_be_too_long_serves_nothing() {
        for (len, step) in [(1, usize::MAX), (1, MAX_LEN + 1), (MAX_LEN, MAX_LEN - 1), (usize::MAX, 1 << 30)] {
            assert_eq!(Steps::new(new(step), usize::MAX).bucket(new(len)), None, "{len} in steps of {step}");
        }
        assert_eq!(Steps::new(new(MAX_LEN), 1).bucket(new(MAX_LEN)), Some((0, MAX_LEN)));
    }
}
