//! Counters of one kind of thing, blocks or bytes: [`Count`] stands alone, [`Room`] beside histograms.
//!
//! ```text
//!   Count   total, ended, peak      live = total - ended         an addition at each end; the peak is compared
//!   Room    peak, room              live = peak - room           an addition at each end, whose sign says that there is a new peak
//!           0 ├──── live ────┼──── room ────┤ peak
//! ```
//!
//! A `Room` does not know the total: histograms do, whose classes and places add up to it.
//!
//! - **I1** Whenever no call is under way `live` is what was added and not removed, and `room` is not below 0.
//!
//! Costs: one relaxed atomic operation where something is made, one where it ends.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// What a count says: handed out, given back, live, most live.
pub type Figures = [u64; 4];

// Relaxed throughout: the counts order nothing else.

/// How many there were, how many of them have ended, and how many there were at most at once.
#[derive(Default)]
pub struct Count {
    total: AtomicU64,
    ended: AtomicU64,
    peak: AtomicU64,
}

impl Count {
    pub(super) const fn new() -> Self {
        Self { total: AtomicU64::new(0), ended: AtomicU64::new(0), peak: AtomicU64::new(0) }
    }

    /// Whatever was made and ended between the first look and the second would be live: so no more than ever were. A racing `add` may show
    /// in the total and not yet in the peak, and counts as ended until the next look.
    pub(super) fn read(&self) -> Figures {
        let ended = self.ended.load(Relaxed);
        let total = self.total.load(Relaxed);
        let peak = self.peak.load(Relaxed);
        let live = total.saturating_sub(ended).min(peak);
        [total, total - live, live, peak]
    }
}

/// How many there were at most at once, and how many more there may be before there are more than ever.
#[derive(Default)]
pub struct Room {
    peak: AtomicI64,
    room: AtomicI64,
}

impl Room {
    pub(super) const fn new() -> Self {
        Self { peak: AtomicI64::new(0), room: AtomicI64::new(0) }
    }

    /// `total` is asked after what is live: what is made in between counts as ended until the next look.
    pub(super) fn read(&self, total: impl FnOnce() -> u64) -> Figures {
        let (peak, room) = (self.peak.load(Relaxed), self.room.load(Relaxed));
        let live = peak.wrapping_sub(room).max(0).cast_unsigned();
        let total = total();
        let live = live.min(total);
        [total, total - live, live, peak.max(0).cast_unsigned().max(live).min(total)]
    }

    /// What is missing becomes part of the peak; another thread may have seen to it, or ended as much.
    #[cold]
    #[inline(never)]
    fn raise(&self) {
        let mut room = self.room.load(Relaxed);
        while room < 0 {
            match self.room.compare_exchange_weak(room, 0, Relaxed, Relaxed) {
                Ok(_) => {
                    self.peak.fetch_sub(room, Relaxed);
                    return;
                }
                Err(now) => room = now,
            }
        }
    }
}

/// What both can do.
pub trait Tally {
    fn add(&self, more: usize);
    fn remove(&self, less: usize);
    fn remove_all(&mut self);
}

impl Tally for Count {
    #[inline]
    fn add(&self, more: usize) {
        let total = self.total.fetch_add(more as u64, Relaxed).wrapping_add(more as u64);
        // What others made and ended since may be among the ended: then the difference is below 0, which no peak is.
        let live = total.wrapping_sub(self.ended.load(Relaxed)).cast_signed();
        if live > self.peak.load(Relaxed).cast_signed() {
            core::hint::cold_path();
            self.peak.fetch_max(live.cast_unsigned(), Relaxed);
        }
    }

    #[inline]
    fn remove(&self, less: usize) {
        self.ended.fetch_add(less as u64, Relaxed);
    }

    fn remove_all(&mut self) {
        *self.ended.get_mut() = *self.total.get_mut();
    }
}

impl Tally for Room {
    #[inline]
    fn add(&self, more: usize) {
        let more = (more as u64).cast_signed();
        // As a difference and its sign, which the subtraction leaves in a flag.
        if self.room.fetch_sub(more, Relaxed).wrapping_sub(more) < 0 {
            core::hint::cold_path();
            self.raise();
        }
    }

    #[inline]
    fn remove(&self, less: usize) {
        self.room.fetch_add((less as u64).cast_signed(), Relaxed);
    }

    fn remove_all(&mut self) {
        *self.room.get_mut() = *self.peak.get_mut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a reader may see them while another thread is in `add`.
    #[test]
    fn a_look_in_the_middle_of_a_call_breaks_no_equation() {
        for (total, ended, peak) in [(4, 5, 4), (5, 4, 0), (5, 5, 4), (0, 1, 0)] {
            let count = Count { total: total.into(), ended: ended.into(), peak: peak.into() };
            let [total, ended, live, peak] = count.read();
            assert!(live == total - ended && live <= peak, "{total} {ended} {live} {peak}");
            count.add(1);
            assert!(count.read()[3] <= 6, "a count that wrapped");
        }
        for (total, room, peak) in [(4, 5, 4), (5, -1, 4), (5, 0, 4), (0, 1, 0), (3, 0, 4), (0, -2, 0)] {
            let tally = Room { peak: peak.into(), room: room.into() };
            let [total, ended, live, peak] = tally.read(|| total);
            assert!(live == total - ended && live <= peak && peak <= total, "{total} {ended} {live} {peak}");
        }
    }

    /// Who looks is interrupted between the counters for as long as it takes to make and to end a thousand blocks.
    #[test]
    fn no_look_says_that_more_were_live_than_ever_were() {
        let count = Count { total: 1001.into(), ended: 0.into(), peak: 1.into() };
        assert_eq!(count.read(), [1001, 1000, 1, 1]);

        let (count, rounds) = (Count::new(), if cfg!(miri) { 50 } else { 200_000 });
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                for _ in 0..rounds {
                    count.add(1);
                    count.remove(1);
                }
            });
            while !made.is_finished() {
                let [_, _, live, peak] = count.read();
                assert!(live <= 1 && peak <= 1, "{live} {peak}");
            }
        });
    }

    #[test]
    fn both_say_the_same_of_the_same_program() {
        let (mut count, mut room, mut total, mut live) = (Count::new(), Room::new(), 0, 0);
        for n in 1..2000usize {
            let step = n * 7919 % 101;
            if step > 55 && live >= step {
                count.remove(step);
                room.remove(step);
                live -= step;
            } else {
                count.add(step);
                room.add(step);
                (total, live) = (total + step, live + step);
            }
            let figures = count.read();
            assert_eq!((figures, figures[2]), (room.read(|| total as u64), live as u64));
        }
        count.remove_all();
        room.remove_all();
        assert_eq!((count.read(), count.read()[2]), (room.read(|| total as u64), 0));
        count.add(3);
        room.add(3);
        assert_eq!(count.read(), room.read(|| total as u64 + 3));
    }

    #[test]
    fn threads_that_race_leave_a_room_with_what_is_live() {
        let room = Room::new();
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..rounds {
                        room.add(n % 7 + 1);
                        room.remove(n % 7);
                    }
                });
            }
        });
        let [_, _, live, peak] = room.read(|| u64::MAX);
        assert_eq!(live, 4 * rounds as u64);
        assert!(room.room.load(Relaxed) >= 0 && peak >= live && peak <= live + 4 * 7, "{live} {peak}");
    }
}
