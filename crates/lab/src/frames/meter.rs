//! [`Meter`]: times calls in turn by batches, for the median and the mean, and alone, for the percentiles.
//!
//! ```text
//!  clock  ↓                                 ↓  ↓     ↓  ↓     ↓      ↓
//!         [ BATCH calls and what lies between ][one]  [one] … ALONE  [ BATCH calls …
//! ```
//!
//! A batch has what the workload does between the calls in it; the same workload over nothing says how much that is.
#![forbid(unsafe_code)]

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::replay::child::histogram;

const BATCH: u64 = 64;
const ALONE: u64 = 16;

/// Times of one thread.
pub struct Meter {
    /// Calls left in the batch; 0 while calls are timed alone.
    left: u64,
    alone: u64,
    start: Instant,
    /// Nanoseconds of each batch.
    pub batches: Histogram<u64>,
    /// Of calls timed alone, the clock's own cost included.
    pub gets: Histogram<u64>,
    pub puts: Histogram<u64>,
}

impl Meter {
    pub fn new() -> Self {
        let [batches, gets, puts] = [(); 3].map(|()| histogram());
        Self { left: 0, alone: 0, start: Instant::now(), batches, gets, puts }
    }

    /// A call that gets.
    #[inline(always)]
    pub fn get<R>(&mut self, call: impl FnOnce() -> R) -> R {
        self.time(call, |meter| &mut meter.gets)
    }

    /// A call that puts.
    #[inline(always)]
    pub fn put<R>(&mut self, call: impl FnOnce() -> R) -> R {
        self.time(call, |meter| &mut meter.puts)
    }

    /// Waiting that is no call's: taken out of the batch.
    pub fn outside<R>(&mut self, wait: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let answer = wait();
        self.start += start.elapsed();
        answer
    }

    #[inline(always)]
    fn time<R>(&mut self, call: impl FnOnce() -> R, times: impl FnOnce(&mut Self) -> &mut Histogram<u64>) -> R {
        if self.left > 0 {
            let answer = call();
            self.left -= 1;
            if self.left == 0 {
                self.batches.saturating_record(self.start.elapsed().as_nanos() as u64);
            }
            return answer;
        }
        let start = Instant::now();
        let answer = call();
        let nanos = start.elapsed().as_nanos() as u64;
        times(self).saturating_record(nanos);
        self.alone += 1;
        if self.alone == ALONE {
            (self.alone, self.left) = (0, BATCH);
            self.start = Instant::now();
        }
        answer
    }

    /// Adds another thread's, or round's.
    pub fn join(&mut self, other: &Self) {
        // They have the same bounds.
        let _ = self.batches.add(&other.batches);
        let _ = self.gets.add(&other.gets);
        let _ = self.puts.add(&other.puts);
    }

    /// Nanoseconds of a call in the median batch, and in the mean of all; 0 of none.
    pub fn median_and_mean(&self) -> [f64; 2] {
        if self.batches.is_empty() {
            return [0.0; 2];
        }
        [self.batches.value_at_quantile(0.5) as f64, self.batches.mean()].map(|nanos| nanos / BATCH as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn sixteen_of_eighty_calls_are_timed_alone() {
        let mut meter = Meter::new();
        for n in 0..800 {
            if n % 2 == 0 { meter.get(|| ()) } else { meter.put(|| ()) }
        }
        assert_eq!((meter.gets.len(), meter.puts.len(), meter.batches.len()), (80, 80, 10));
        let mut all = Meter::new();
        all.join(&meter);
        all.join(&meter);
        assert_eq!((all.gets.len(), all.batches.len()), (160, 20));
        assert_eq!(Meter::new().median_and_mean(), [0.0; 2]);
    }

    #[test]
    fn waiting_is_taken_out_of_a_batch() {
        let mut meter = Meter::new();
        let (before, wait) = (meter.start, Duration::from_millis(2));
        meter.outside(|| thread::sleep(wait));
        assert!(meter.start >= before + wait, "the batch begins later by as much");
    }
}
