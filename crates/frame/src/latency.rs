//! [`LatencyHistogram`]: how long calls took, in buckets whose width grows with the value.
//!
//! ```text
//!  value    0 1 2 … 15 │ 16 17 … 31 │ 32–33 34–35 … 62–63 │ 64–67 …      … 2^64 - 1
//!  buckets  16 of one  │ 16 of one  │ 16 of two           │ 16 of four   60 such rows in all
//! ```
//!
//! Log-linear: each power of two is cut into 16 equal buckets, so a value is known to a sixteenth of itself over the
//! whole range of 64 bits, and none is too large. What the unit is, nanoseconds or a processor's ticks, is the
//! caller's knowledge, as is the clock.
//!
//! - **I1** A bucket holds a value exactly while `first <= value <= last` of it; buckets leave no gap and do not
//!   overlap.
//! - **I2** Counts never fall. So what a racing reader adds up is a histogram that was true of some of the values.
//!
//! | | at most |
//! |---|---|
//! | record | two relaxed atomic steps and a load |
//! | merge, count, quantile, mean | 976 loads, merge as many steps |
//! | memory | 7816 bytes, wherever the caller has it: a static, or one a CPU, merged when asked |
#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Buckets of a power of two, and the logarithm.
const PARTS: u64 = 1 << PARTS_LOG2;
const PARTS_LOG2: u32 = 4;
const BUCKETS: usize = (u64::BITS - PARTS_LOG2 + 1) as usize * PARTS as usize;
/// Columns of the longest bar.
const BAR: u128 = 40;

/// The bucket of a value.
const fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let shift = value.ilog2() - PARTS_LOG2;
    (shift as usize + 1) * PARTS as usize + ((value >> shift) % PARTS) as usize
}

/// The least and the greatest value of a bucket.
const fn bounds(bucket: usize) -> (u64, u64) {
    let (row, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    if row == 0 {
        return (part, part);
    }
    let first = (PARTS + part) << (row - 1);
    (first, first + ((1 << (row - 1)) - 1))
}

/// The values of a bucket, and how many of them there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The least value that falls into it.
    pub first: u64,
    /// The greatest.
    pub last: u64,
    /// How many did.
    pub count: u64,
}

/// Counts values by their size.
///
/// ```
/// use terrace_frame::LatencyHistogram;
///
/// static TAKEN: LatencyHistogram = LatencyHistogram::new();
///
/// for nanoseconds in 1..=1000 {
///     TAKEN.record(nanoseconds);
/// }
/// assert_eq!(TAKEN.count(), 1000);
/// let median = TAKEN.quantile(1, 2).unwrap();
/// assert!((500..=531).contains(&median), "known to a sixteenth, never too small");
/// assert_eq!((TAKEN.max(), TAKEN.quantile(999, 1000)), (Some(1000), Some(1000)));
/// println!("{TAKEN}\n{TAKEN:#}"); // a line; the buckets too
/// ```
pub struct LatencyHistogram {
    counts: [AtomicU64; BUCKETS],
    max: AtomicU64,
}

impl LatencyHistogram {
    /// Nothing recorded.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], max: AtomicU64::new(0) }
    }

    /// Counts a value.
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_times(value, 1);
    }

    /// Counts a value so many times.
    #[inline]
    pub(crate) fn record_times(&self, value: u64, times: u64) {
        // Relaxed throughout: the counts order nothing else.
        self.counts[bucket(value)].fetch_add(times, Relaxed);
        if times > 0 && value > self.max.load(Relaxed) {
            self.max.fetch_max(value, Relaxed);
        }
    }

    /// Counts all that `other` has counted, too.
    pub fn merge(&self, other: &Self) {
        for (count, more) in self.counts.iter().zip(&other.counts) {
            let more = more.load(Relaxed);
            if more > 0 {
                let _ = count.fetch_update(Relaxed, Relaxed, |count| Some(count.saturating_add(more)));
            }
        }
        self.max.fetch_max(other.max.load(Relaxed), Relaxed);
    }

    /// The buckets with values in them, the lowest first.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).enumerate();
        counts.filter(|&(_, count)| count > 0).map(|(bucket, count)| {
            let (first, last) = bounds(bucket);
            Bucket { first, last, count }
        })
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.exact_count()).unwrap_or(u64::MAX)
    }

    fn exact_count(&self) -> u128 {
        self.buckets().map(|bucket| u128::from(bucket.count)).sum()
    }

    /// The greatest value, exactly. `None`: there was none.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        // The bucket is counted first, so that a racing reader may find a value there that `max` does not know yet.
        let highest = self.buckets().last()?;
        Some(self.max.load(Relaxed).max(highest.first))
    }

    /// A value that at least `part` of each `whole` values do not exceed: `quantile(99, 100)` is the 99th percentile.
    /// It is one of the values, or up to a sixteenth more than one. `None`: there was no value, or `whole` is 0. All of
    /// the values and more are all.
    #[must_use]
    pub fn quantile(&self, part: u64, whole: u64) -> Option<u64> {
        let (total, max) = (self.exact_count(), self.max()?);
        // Below 2^74 values; times a part below 2^64 that would not fit, but no count comes near.
        let wanted = total.saturating_mul(u128::from(part)).checked_add(u128::from(whole.checked_sub(1)?));
        let wanted = (wanted.unwrap_or(u128::MAX) / u128::from(whole)).clamp(1, total);
        let mut seen = 0;
        let found = self.buckets().find(|bucket| {
            seen += u128::from(bucket.count);
            seen >= wanted
        });
        // Nothing exceeds the greatest value; but of a racing call's, its bucket may be known before it.
        found.map(|bucket| bucket.last.min(max.max(bucket.first)))
    }

    /// The mean, by the middles of the buckets: known to a thirty-second of itself. `None`: there was no value.
    #[must_use]
    pub fn mean(&self) -> Option<u64> {
        let (mut count, mut sum, max) = (0, 0u128, self.max()?);
        for bucket in self.buckets() {
            count += u128::from(bucket.count);
            let middle = bucket.first + (bucket.last.min(max).max(bucket.first) - bucket.first) / 2;
            sum = sum.saturating_add(u128::from(middle) * u128::from(bucket.count));
        }
        sum.checked_div(count).map(|mean| mean as u64)
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.buckets()).finish()
    }
}

/// A line; with `{:#}` a line and a bar for each row of 16 buckets too.
impl fmt::Display for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(mean), Some(max)) = (self.mean(), self.max()) else { return f.write_str("no values") };
        let at = |part, whole| self.quantile(part, whole).unwrap_or(max);
        write!(f, "{} values, mean {mean}, p50 {}, p90 {}, ", self.count(), at(1, 2), at(9, 10))?;
        write!(f, "p99 {}, p99.9 {}, max {max}", at(99, 100), at(999, 1000))?;
        if !f.alternate() {
            return Ok(());
        }
        let rows = || {
            self.counts.chunks(PARTS as usize).enumerate().map(|(row, counts)| {
                let (first, last) = (bounds(row * PARTS as usize).0, bounds((row + 1) * PARTS as usize - 1).1);
                (first, last, counts.iter().map(|count| u128::from(count.load(Relaxed))).sum::<u128>())
            })
        };
        let most = rows().map(|(.., count)| count).max().unwrap_or_default().max(1);
        for (first, last, count) in rows().filter(|&(.., count)| count > 0) {
            let bar = (count.saturating_mul(BAR) / most).clamp(1, BAR) as usize;
            write!(f, "\n{first:>20} to {last:>20} {count:>12} {:#<bar$}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::{string::ToString, thread, vec::Vec};

    use super::*;

    fn of(values: &[u64]) -> LatencyHistogram {
        let histogram = LatencyHistogram::new();
        values.iter().for_each(|&value| histogram.record(value));
        histogram
    }

    /// I1, over all buckets and the values at their ends.
    #[test]
    fn buckets_leave_no_gap_and_are_narrow() {
        let mut next = 0u128;
        for index in 0..BUCKETS {
            let (first, last) = bounds(index);
            assert_eq!(u128::from(first), next, "bucket {index}");
            assert_eq!((bucket(first), bucket(last)), (index, index));
            assert!((last - first).checked_mul(16).is_some_and(|width| width <= first), "bucket {index} is wide");
            next = u128::from(last) + 1;
        }
        assert_eq!(next, 1 << 64, "the last value has a bucket");
        assert_eq!(size_of::<LatencyHistogram>(), 7816, "the documentation says so");
    }

    #[test]
    fn a_histogram_without_values_has_no_figures() {
        let empty = LatencyHistogram::new();
        assert_eq!((empty.count(), empty.max(), empty.mean(), empty.quantile(1, 2)), (0, None, None, None));
        assert_eq!(empty.to_string(), "no values");
        assert_eq!(of(&[7]).quantile(1, 0), None, "a part of nothing");
        assert_eq!(of(&[7, 9]).quantile(u64::MAX, 1), Some(9), "more than all");
        assert_eq!(of(&[7, 9]).quantile(0, u64::MAX), Some(7), "less than one");
    }

    #[test]
    fn the_largest_values_there_are_overflow_nothing() {
        let histogram = of(&[u64::MAX, u64::MAX]);
        assert_eq!((histogram.max(), histogram.quantile(1, 2)), (Some(u64::MAX), Some(u64::MAX)));
        assert_eq!(bucket(histogram.mean().expect("two values")), BUCKETS - 1);
        for _ in 0..70 {
            histogram.merge(&histogram);
        }
        assert_eq!((histogram.count(), histogram.max()), (u64::MAX, Some(u64::MAX)), "it stops at the most");
        assert!(histogram.quantile(999, 1000).is_some() && histogram.mean().is_some());
    }

    #[test]
    fn what_threads_record_at_once_is_all_there() {
        let histogram = LatencyHistogram::new();
        thread::scope(|scope| {
            for thread in 0..4u64 {
                let histogram = &histogram;
                scope.spawn(move || (0..5000).for_each(|value| histogram.record(value * 4 + thread)));
            }
        });
        assert_eq!((histogram.count(), histogram.max()), (20_000, Some(19_999)));
        let alone = of(&(0..20_000).collect::<Vec<_>>());
        assert!(histogram.buckets().eq(alone.buckets()));
    }

    #[test]
    fn the_text_has_a_bar_for_each_power_of_two() {
        let text = std::format!("{:#}", of(&[3, 3, 3, 3, 40, 1000]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "6 values, mean 174, p50 3, p90 1000, p99 1000, p99.9 1000, max 1000");
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].ends_with(&"#".repeat(40)) && lines[2].ends_with(" ##########"), "{text}");
    }

    proptest! {
        /// Against the sorted values themselves.
        #[test]
        fn quantiles_are_those_of_the_values_to_a_sixteenth(
            mut values in prop::collection::vec(prop_oneof![0u64..300, 0u64..1 << 40, any::<u64>()], 1..80),
            part in 0u64..1100,
            split in any::<usize>(),
        ) {
            let (one, other) = values.split_at(split % (values.len() + 1));
            let histogram = of(one);
            histogram.merge(&of(other));
            values.sort_unstable();
            let rank = (values.len() * part as usize).div_ceil(1000).clamp(1, values.len());
            let (true_value, told) = (values[rank - 1], histogram.quantile(part, 1000).expect("there are values"));
            prop_assert!(told >= true_value && told - true_value <= true_value / 16, "{} for {}", told, true_value);
            prop_assert_eq!(histogram.max(), values.last().copied());
            prop_assert_eq!(histogram.count(), values.len() as u64);
            let sum: u128 = values.iter().map(|&value| u128::from(value)).sum();
            let mean = (sum / values.len() as u128) as u64;
            let told = histogram.mean().expect("there are values");
            prop_assert!(told.abs_diff(mean) <= mean / 32 + 1, "mean {} for {}", told, mean);
            prop_assert!(Some(told) <= histogram.max());
            prop_assert!(histogram.buckets().map(|bucket| bucket.count).sum::<u64>() == values.len() as u64);
            let (line, text) = (histogram.to_string(), std::format!("{histogram:#}"));
            prop_assert!(text.starts_with(&line));
        }
    }
}
