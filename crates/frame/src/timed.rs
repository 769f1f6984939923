//! [`TimedFrames`]: how long the calls to its backing take.
//!
//! ```text
//!   caller ──▶ clock ──▶ backing ──▶ clock ──▶ caller
//!                └────── difference ────┘
//!                          ▼
//!   latencies   allocated │ freed, below 512 frames and from there on │ refused, misused
//! ```
//!
//! A layer: frames are the backing's own. The clock is the caller's: a function that says how many nanoseconds, or
//! ticks of a processor, have passed since some moment. One that goes back, as a processor's may from one CPU to the
//! next, counts as no time. What two looks at the clock take is in every figure.
//!
//! For figures by CPU make a layer for each, over a reference to one backing, and [merge](Latencies::merge) them. Who
//! does not want the figures leaves the layer out, and nothing of it is compiled.
//!
//! The clock is a hook (clause 10 of the `Allocator` contract): it may call the backing, no lock is held while it runs,
//! and a panic in it aborts: unwound, it would lose the frames that were just handed out.
//!
//! Cost: two looks at the clock and three relaxed atomic steps a call, or a batch.

use core::fmt;

use crate::{
    allocator::{FrameAllocator, Request},
    latency::LatencyHistogram,
    layer::pass_on_questions,
    types::{Frame, FrameError, Frames, Misuse, Order, PageSize},
};

/// A call's time, by what was asked for and what came of it.
///
/// ```
/// use terrace_frame::Latencies;
///
/// static LATENCIES: Latencies = Latencies::new(); // 40 KB
/// assert_eq!(LATENCIES.alloc_small.count(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Latencies {
    /// Fewer than 512 frames were handed out.
    pub alloc_small: LatencyHistogram,
    /// 512 frames or more were handed out.
    pub alloc_large: LatencyHistogram,
    /// Fewer than 512 frames were taken back.
    pub free_small: LatencyHistogram,
    /// 512 frames or more were taken back.
    pub free_large: LatencyHistogram,
    /// A request was refused, or a misuse reported.
    pub refused: LatencyHistogram,
}

impl Latencies {
    /// Nothing recorded.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            alloc_small: LatencyHistogram::new(),
            alloc_large: LatencyHistogram::new(),
            free_small: LatencyHistogram::new(),
            free_large: LatencyHistogram::new(),
            refused: LatencyHistogram::new(),
        }
    }

    fn each(&self) -> [(&'static str, &LatencyHistogram); 5] {
        [
            ("alloc, below 512 frames", &self.alloc_small),
            ("alloc, 512 frames or more", &self.alloc_large),
            ("free, below 512 frames", &self.free_small),
            ("free, 512 frames or more", &self.free_large),
            ("refused", &self.refused),
        ]
    }

    /// Counts all that `other` has counted, too.
    pub fn merge(&self, other: &Self) {
        for ((_, histogram), (_, more)) in self.each().into_iter().zip(other.each()) {
            histogram.merge(more);
        }
    }
}

/// A line for each kind of call; with `{:#}` the buckets too.
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, histogram)) in self.each().into_iter().enumerate() {
            write!(f, "{}{name}: ", if index == 0 { "" } else { "\n" })?;
            fmt::Display::fmt(histogram, f)?;
        }
        Ok(())
    }
}

/// Times the calls to `backing` by the caller's clock.
///
/// ```
/// use core::cell::Cell;
/// use terrace_frame::{BitmapAllocator, FrameAllocator, Frames, Latencies, MemoryMap, Order, TimedFrames};
///
/// let map = MemoryMap::of(Frames::new(0, 1024)).unwrap();
/// let mut metadata = [0; BitmapAllocator::metadata_bytes(1024) / 8];
/// let latencies = Latencies::new();
/// let ticks = Cell::new(0);
/// let clock = || ticks.replace(ticks.get() + 30); // a machine has a better one
/// let frames = TimedFrames::new(BitmapAllocator::new(&map, &mut metadata)?, clock, &latencies);
///
/// frames.alloc_order(Order::MIN)?;
/// assert_eq!((latencies.alloc_small.count(), latencies.alloc_small.max()), (1, Some(30)));
/// println!("{latencies}");
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
pub struct TimedFrames<'m, F, C> {
    latencies: &'m Latencies,
    clock: C,
    backing: F,
}

impl<'m, F, C: Fn() -> u64> TimedFrames<'m, F, C> {
    /// Over `backing`, timed by `clock`, which says what has passed since some moment.
    pub const fn new(backing: F, clock: C, latencies: &'m Latencies) -> Self {
        Self { latencies, clock, backing }
    }

    /// What was recorded.
    pub const fn latencies(&self) -> &'m Latencies {
        self.latencies
    }

    /// What the backing answers, and the time that it took.
    #[inline]
    fn timed<R>(&self, act: impl FnOnce(&F) -> R) -> (R, u64) {
        let guard = AbortOnUnwind;
        let start = (self.clock)();
        let answer = act(&self.backing);
        let end = (self.clock)();
        core::mem::forget(guard);
        (answer, end.saturating_sub(start))
    }

    #[inline]
    fn allocated(&self, frames: usize, time: u64, answered: bool) {
        match answered {
            true if frames < LARGE => self.latencies.alloc_small.record(time),
            true => self.latencies.alloc_large.record(time),
            false => self.latencies.refused.record(time),
        }
    }

    #[inline]
    fn freed(&self, frames: usize, time: u64, answered: bool) {
        match answered {
            true if frames < LARGE => self.latencies.free_small.record(time),
            true => self.latencies.free_large.record(time),
            false => self.latencies.refused.record(time),
        }
    }
}

/// Frames of a large run: a page of 2 MiB.
const LARGE: usize = PageSize::Large.order().frames();

/// A panic while this is dropped by another panic aborts, with or without std. Forgotten where the call has returned.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        panic!("the clock of a TimedFrames panicked; an allocator cannot unwind");
    }
}

// SAFETY: frames are `backing`'s own, and every call reaches it unchanged.
unsafe impl<F: FrameAllocator, C: Fn() -> u64> FrameAllocator for TimedFrames<'_, F, C> {
    #[inline]
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        let (answer, time) = self.timed(|backing| backing.alloc(request));
        self.allocated(request.count, time, answer.is_ok());
        answer
    }

    #[inline]
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        let (answer, time) = self.timed(|backing| backing.free(frames));
        self.freed(frames.count, time, answer.is_ok());
        answer
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        let (answer, time) = self.timed(|backing| backing.alloc_order(order));
        self.allocated(order.frames(), time, answer.is_ok());
        answer
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        let (answer, time) = self.timed(|backing| backing.free_order(start, order));
        self.freed(order.frames(), time, answer.is_ok());
        answer
    }

    /// Each run of a batch counts as a call that took its part of the batch's time, rounded up; a batch without one as
    /// a refusal.
    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        let (filled, time) = self.timed(|backing| backing.alloc_batch(order, into));
        let small = order.frames() < LARGE;
        let histogram = if small { &self.latencies.alloc_small } else { &self.latencies.alloc_large };
        match filled as u64 {
            0 if into.is_empty() => {}
            0 => self.latencies.refused.record(time),
            runs => histogram.record_times(time.div_ceil(runs), runs),
        }
        filled
    }

    /// As [`alloc_batch`](FrameAllocator::alloc_batch).
    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        let (answer, time) = self.timed(|backing| backing.free_batch(order, runs));
        let small = order.frames() < LARGE;
        let histogram = if small { &self.latencies.free_small } else { &self.latencies.free_large };
        match answer.map_or_else(|(freed, _)| freed, |()| runs.len()) as u64 {
            0 if runs.is_empty() => {}
            0 => self.latencies.refused.record(time),
            freed => histogram.record_times(time.div_ceil(freed), freed),
        }
        answer
    }

    fn keeps_boundaries(&self) -> bool {
        self.backing.keeps_boundaries()
    }

    pass_on_questions!(backing);
}

impl<F: fmt::Debug, C> fmt::Debug for TimedFrames<'_, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedFrames").field("backing", &self.backing).finish_non_exhaustive()
    }
}
