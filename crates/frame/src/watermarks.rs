//! [`Watermarks`]: how full a zone may become, and when that is pressure.
//!
//! ```text
//!  free frames
//!  high ┄┄┄┄┄┄┄╲┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╱┄┄┄   ○ Calm again
//!               ╲    ╱╲         ╱
//!  low  ┄┄┄┄┄┄┄┄┄●┄┄╱┄┄╲┄┄┄┄┄┄┄○┄┄┄┄┄   ● Low: below it
//!                 ╲╱    ╲     ╱
//!  min  ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄●┄┄┄╱┄┄┄┄┄┄┄   ● Min: nothing is left but for urgent requests
//!                         ╲╱           ○ Low again, at `low`
//! ```
//!
//! - **W1** Watermarks that a zone has are in order, `min ≤ low ≤ high`, and `high` is no more than its frames.
//! - **W2** A level begins where free frames fall below its mark and ends a mark higher, so that a zone whose free
//!   frames go up and down around a mark does not tell so each time (hysteresis).
//!
//! The marks and their use are those of Linux: from `low` on memory is to be reclaimed until `high` is reached, and what
//! lies below `min` is for those whose work frees memory.
#![forbid(unsafe_code)]

/// Three numbers of free frames in a zone, `min ≤ low ≤ high`.
///
/// ```
/// use terrace_frame::Watermarks;
///
/// let marks = Watermarks::for_frames(2 << 20); // 8 GiB
/// assert_eq!(marks, Watermarks { min: 2896, low: 3620, high: 4344 });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watermarks {
    /// So many are left to urgent requests.
    pub min: usize,
    /// Below this there is pressure.
    pub low: usize,
    /// From this on there is none any more.
    pub high: usize,
}

impl Watermarks {
    /// Nothing is kept, and there is never pressure.
    pub const NONE: Self = Self { min: 0, low: 0, high: 0 };

    /// As Linux would set them for memory of so many frames: 4 √KiB, between 128 KiB and 64 MiB, but no more than an
    /// eighth; a quarter and a half more.
    #[must_use]
    pub const fn for_frames(frames: usize) -> Self {
        let min = 2 * frames.isqrt();
        let min = if min < 32 { 32 } else { min };
        let min = if min > 1 << 14 { 1 << 14 } else { min };
        Self::around(if min > frames / 8 { frames / 8 } else { min })
    }

    /// With `low` a quarter above `min` and `high` a half.
    const fn around(min: usize) -> Self {
        Self { min, low: min + min / 4, high: min + min / 2 }
    }

    /// The part of marks for `all` frames that falls to `frames` of them.
    pub(crate) const fn share(frames: usize, all: usize) -> Self {
        let min = Self::for_frames(all).min as u128 * frames as u128;
        Self::around(if all == 0 { 0 } else { (min / all as u128) as usize })
    }

    /// Whether they are in order (W1).
    pub(crate) const fn in_order(self) -> bool {
        self.min <= self.low && self.low <= self.high
    }

    /// The level of so many free frames, where it was `before` (W2).
    #[inline]
    pub(crate) const fn level(self, before: Pressure, free: usize) -> Pressure {
        if free >= self.high {
            return Pressure::Calm;
        }
        if free < self.low {
            if free <= self.min {
                return Pressure::Min;
            }
            return if matches!(before, Pressure::Min) { Pressure::Min } else { Pressure::Low };
        }
        // Between low and high: what has begun has not ended.
        if matches!(before, Pressure::Calm) { Pressure::Calm } else { Pressure::Low }
    }
}

/// How short of frames a zone is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// Not at all.
    #[default]
    Calm,
    /// Fewer than `low` were free, and since then never as many as `high`: time to reclaim.
    Low,
    /// No more than `min` were free, and since then never as many as `low`: requests are refused that are not urgent.
    Min,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Watermarks = Watermarks { min: 2, low: 5, high: 8 };

    /// W2, in words: what each number of free frames makes of each level.
    #[test]
    fn a_level_begins_below_its_mark_and_ends_a_mark_higher() {
        for free in 0..12 {
            let after = |before| MARKS.level(before, free);
            let calm = match free {
                0..=2 => Pressure::Min,
                3 | 4 => Pressure::Low,
                _ => Pressure::Calm,
            };
            let low = match free {
                0..=2 => Pressure::Min,
                3..=7 => Pressure::Low,
                _ => Pressure::Calm,
            };
            let min = match free {
                0..=4 => Pressure::Min,
                5..=7 => Pressure::Low,
                _ => Pressure::Calm,
            };
            assert_eq!([Pressure::Calm, Pressure::Low, Pressure::Min].map(after), [calm, low, min], "{free} free");
        }
    }

    #[test]
    fn a_level_stays_while_nothing_changes() {
        for (min, low, high) in (0..6usize).flat_map(|a| (a..6).flat_map(move |b| (b..6).map(move |c| (a, b, c)))) {
            let marks = Watermarks { min, low, high };
            for free in 0..8 {
                for before in [Pressure::Calm, Pressure::Low, Pressure::Min] {
                    let level = marks.level(before, free);
                    assert_eq!(marks.level(level, free), level, "{marks:?}, {free} free, {before:?} before");
                }
            }
        }
    }

    #[test]
    fn without_marks_there_is_no_pressure() {
        assert!((0..9).all(|free| Watermarks::NONE.level(Pressure::Calm, free) == Pressure::Calm));
    }

    #[test]
    fn marks_of_any_memory_are_in_order_and_fit() {
        for frames in (0..10_000).chain([1 << 20, 1 << 30, usize::MAX]) {
            let marks = Watermarks::for_frames(frames);
            assert!(marks.in_order() && marks.high <= frames, "{frames}: {marks:?}");
        }
        assert_eq!(Watermarks::for_frames(1 << 40).min, 1 << 14);
    }

    #[test]
    fn shares_are_in_order_fit_and_add_up_to_no_more() {
        for (dma, normal) in [(0, 1), (4096, 0), (4096, 1 << 18), (3999, 1 << 21), (1, 1), (4096, 100)] {
            let all = dma + normal;
            let (first, second) = (Watermarks::share(dma, all), Watermarks::share(normal, all));
            assert!(first.in_order() && first.high <= dma, "{first:?} of {dma}");
            assert!(second.in_order() && second.high <= normal, "{second:?} of {normal}");
            assert!(first.min + second.min <= Watermarks::for_frames(all).min);
        }
        assert_eq!(Watermarks::share(0, 0), Watermarks::NONE);
    }
}
