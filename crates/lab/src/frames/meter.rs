//! [`Meter`]: times calls in turn by batches, for the mean, and alone, for the percentiles.
//!
//! ```text
//!  clock  ↓                                 ↓  ↓     ↓  ↓     ↓      ↓
//!         [ BATCH calls and what lies between ][one]  [one] … ALONE  [ BATCH calls …
//! ```
//!
//! The mean has what the workload does between the calls in it; the same workload over nothing says how much that is.
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
    /// Of batches.
    pub nanos: u64,
    pub calls: u64,
    /// Of calls timed alone, the clock's own cost included.
    pub gets: Histogram<u64>,
    pub puts: Histogram<u64>,
}

impl Meter {
    pub fn new() -> Self {
        let (gets, puts) = (histogram(), histogram());
        Self { left: 0, alone: 0, start: Instant::now(), nanos: 0, calls: 0, gets, puts }
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
                self.nanos += self.start.elapsed().as_nanos() as u64;
                self.calls += BATCH;
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
        self.nanos += other.nanos;
        self.calls += other.calls;
        // They have the same bounds.
        let _ = self.gets.add(&other.gets);
        let _ = self.puts.add(&other.puts);
    }

    /// Nanoseconds of a call, by the batches; 0 of none.
    pub fn mean(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.nanos as f64 / self.calls as f64 }
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
        assert_eq!((meter.gets.len(), meter.puts.len(), meter.calls), (80, 80, 640));
        let mut all = Meter::new();
        all.join(&meter);
        all.join(&meter);
        assert_eq!((all.gets.len(), all.calls), (160, 1280));
        assert_eq!(Meter::new().mean(), 0.0);
    }

    #[test]
    fn waiting_is_taken_out_of_a_batch() {
        let mut meter = Meter::new();
        let (before, wait) = (meter.start, Duration::from_millis(2));
        meter.outside(|| thread::sleep(wait));
        assert!(meter.start >= before + wait, "the batch begins later by as much");
    }
}
