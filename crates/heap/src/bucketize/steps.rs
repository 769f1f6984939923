//! Which bucket a length belongs to, in plain integers.
#![forbid(unsafe_code)]

use core::num::NonZeroUsize;

use crate::bump::MAX_LEN;

/// How many of `buckets` there is a block for: the others' would be too long.
pub(super) const fn usable(step: NonZeroUsize, buckets: usize) -> usize {
    let most = MAX_LEN / step.get();
    if buckets < most { buckets } else { most }
}

/// The number of the bucket that serves `len`, from 0, and the length of its blocks; `None` past the last of `usable`.
#[inline]
pub(super) const fn bucket(len: NonZeroUsize, step: NonZeroUsize, usable: usize) -> Option<(usize, NonZeroUsize)> {
    let (number, rest) = ((len.get() - 1) / step.get(), (len.get() - 1) % step.get());
    if number >= usable {
        return None;
    }
    // No more than `usable` steps, which fit into the address space.
    Some((number, len.saturating_add(step.get() - 1 - rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_is_in_the_first_bucket_that_it_fits_into() {
        let new = |bytes| NonZeroUsize::new(bytes).unwrap();
        for (step, buckets) in [(1, 5), (8, 3), (16, 1), (100, 4), (7, 0)] {
            for len in 1..500usize {
                let plain = (1..=buckets).map(|n| n * step).find(|&longest| len <= longest);
                let found = bucket(new(len), new(step), usable(new(step), buckets));
                assert_eq!(found.map(|(_, longest)| longest.get()), plain, "{len} in steps of {step}");
                assert!(found.is_none_or(|(number, longest)| number < buckets && (number + 1) * step == longest.get()));
            }
        }
    }

    #[test]
    fn a_bucket_whose_blocks_would_be_too_long_serves_nothing() {
        let new = |bytes| NonZeroUsize::new(bytes).unwrap();
        for (len, step) in [(1, usize::MAX), (1, MAX_LEN + 1), (MAX_LEN, MAX_LEN - 1), (usize::MAX, 1 << 40)] {
            assert_eq!(bucket(new(len), new(step), usable(new(step), usize::MAX)), None, "{len} in steps of {step}");
        }
        assert_eq!(bucket(new(MAX_LEN), new(MAX_LEN), usable(new(MAX_LEN), 1)), Some((0, new(MAX_LEN))));
    }
}
