//! [`StatsFrames`]: counts what goes through it, by order, CPU and result.
//!
//! ```text
//!   caller ──▶ StatsFrames ──▶ backing
//!                  │ slot of the caller's CPU
//!                  ▼
//!   counts   [ 0: callers without a slot │ 1 │ 2 │ … ]   a table each, in storage that the caller passes
//!               order × result:  allocated │ refused, why │ freed │ misused, how
//! ```
//!
//! A layer: frames are the backing's own, and nothing is added to a request. Who does not want the counts leaves the
//! layer out, and nothing of it is compiled; a feature of the crate could not leave them out in one place and have them
//! in another.
//!
//! [`Counts`] is the table alone. A zone or a node that counts has one too, and [`merge`](Counts::merge) makes one of
//! several.
//!
//! - **I1** Every call that the backing answered counts once, in one table, after its answer; each run of a batch is a
//!   call.
//! - **I2** Counts never fall. A reader that races with calls sees some of them.
//!
//! A run that is no power of two counts as the order that holds it, and requests of none or more than 2²⁰ frames in a
//! row of their own. Zones count as one result: their own tables tell them apart.
//!
//! | | at most, beside the backing's |
//! |---|---|
//! | alloc, free | the slot's number, or a try to get one; two relaxed atomic steps on its table |
//! | batch | the same once, and once more for the call that ended it |
//! | sum | 244 loads and steps for each table |
//! | memory | 1984 bytes for each table |

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use terrace_sync::{NoSlots, Slots};

use crate::{
    allocator::{FrameAllocator, Request},
    layer::pass_on_questions,
    types::{Frame, FrameError, Frames, Misuse, Order},
};

/// An order each, and a row for what has none.
const ROWS: usize = Order::MAX.log2() as usize + 2;
const OUTCOMES: usize = 11;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Frames were handed out.
    Allocated,
    /// None were. Of [`FrameError::ZoneDepleted`] all zones are one.
    Refused(FrameError),
    /// Frames were taken back.
    Freed,
    /// They were not.
    Misused(Misuse),
}

impl Outcome {
    const fn column(self) -> usize {
        match self {
            Self::Allocated => 0,
            Self::Freed => 1,
            Self::Refused(FrameError::OutOfMemory) => 2,
            Self::Refused(FrameError::InvalidSize) => 3,
            Self::Refused(FrameError::InvalidAlignment) => 4,
            Self::Refused(FrameError::NumaNodeUnavailable) => 5,
            Self::Refused(FrameError::ZoneDepleted(_)) => 6,
            Self::Misused(Misuse::Outside) => 7,
            Self::Misused(Misuse::AlreadyFree) => 8,
            Self::Misused(Misuse::NotARun) => 9,
            Self::Misused(Misuse::WrongOwner) => 10,
        }
    }
}

/// How many calls there were, by order and result, and the frames that they were about.
///
/// ```
/// use terrace_frame::{Counts, FrameError, Order, Outcome};
///
/// static NORMAL: Counts = Counts::new();
///
/// NORMAL.add(300, Outcome::Allocated);
/// NORMAL.add(1 << 20, Outcome::Refused(FrameError::OutOfMemory));
/// assert_eq!(NORMAL.get(Order::new(9), Outcome::Allocated), 1);
/// assert_eq!((NORMAL.frames_allocated(), NORMAL.frames_freed()), (300, 0));
/// assert_eq!(NORMAL.total(Outcome::Refused(FrameError::OutOfMemory)), 1);
/// ```
#[repr(align(64))] // So that no two CPUs' tables share a cache line.
pub struct Counts {
    rows: [[AtomicU64; OUTCOMES]; ROWS],
    allocated: AtomicU64,
    freed: AtomicU64,
}

impl Counts {
    /// Nothing counted.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rows: [const { [const { AtomicU64::new(0) }; OUTCOMES] }; ROWS],
            allocated: AtomicU64::new(0),
            freed: AtomicU64::new(0),
        }
    }

    /// Counts a call about so many frames.
    #[inline]
    pub fn add(&self, frames: usize, outcome: Outcome) {
        self.add_times(frames, outcome, 1);
    }

    #[inline]
    fn add_times(&self, frames: usize, outcome: Outcome, times: usize) {
        // Relaxed throughout: the counts order nothing else.
        self.rows[row(Order::holding(frames))][outcome.column()].fetch_add(times as u64, Relaxed);
        let sum = match outcome {
            Outcome::Allocated => &self.allocated,
            Outcome::Freed => &self.freed,
            Outcome::Refused(_) | Outcome::Misused(_) => return,
        };
        sum.fetch_add((frames as u64).wrapping_mul(times as u64), Relaxed);
    }

    /// Calls of an order that came out so; with `None` those about no frames, or more than an order has.
    #[must_use]
    pub fn get(&self, order: Option<Order>, outcome: Outcome) -> u64 {
        self.rows[row(order)][outcome.column()].load(Relaxed)
    }

    /// Calls that came out so.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.rows.iter().map(|row| row[outcome.column()].load(Relaxed)).sum()
    }

    /// Frames that were handed out, those that have come back included.
    #[must_use]
    pub fn frames_allocated(&self) -> u64 {
        self.allocated.load(Relaxed)
    }

    /// Frames that have come back.
    #[must_use]
    pub fn frames_freed(&self) -> u64 {
        self.freed.load(Relaxed)
    }

    /// Counts all that `other` has counted, too.
    pub fn merge(&self, other: &Self) {
        let each = |counts: &Self, to: &mut dyn FnMut(usize, &AtomicU64)| {
            let places = counts.rows.iter().flatten().chain([&counts.allocated, &counts.freed]);
            places.enumerate().for_each(|(at, count)| to(at, count));
        };
        let mut more = [0; ROWS * OUTCOMES + 2];
        each(other, &mut |at, count| more[at] = count.load(Relaxed));
        each(self, &mut |at, count| {
            count.fetch_add(more[at], Relaxed);
        });
    }
}

/// The row of an order.
const fn row(order: Option<Order>) -> usize {
    match order {
        Some(order) => order.log2() as usize,
        None => ROWS - 1,
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts")
            .field("allocated", &self.total(Outcome::Allocated))
            .field("freed", &self.total(Outcome::Freed))
            .field("frames_allocated", &self.frames_allocated())
            .field("frames_freed", &self.frames_freed())
            .finish_non_exhaustive()
    }
}

/// The columns of the text: a title, and those of the table that it adds up.
const COLUMNS: [(&str, core::ops::Range<usize>); 7] = [
    ("allocated", 0..1),
    ("freed", 1..2),
    ("no memory", 2..3),
    ("bad request", 3..5),
    ("no node", 5..6),
    ("depleted", 6..7),
    ("misuse", 7..OUTCOMES),
];

/// A row for each order of which there was a call, and the sums.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order")?;
        COLUMNS.iter().try_for_each(|(title, _)| write!(f, " {title:>11}"))?;
        let mut sums = [0; COLUMNS.len()];
        for (order, counts) in self.rows.iter().enumerate() {
            let cells =
                COLUMNS.map(|(_, columns)| counts[columns].iter().map(|count| count.load(Relaxed)).sum::<u64>());
            if cells == [0; COLUMNS.len()] {
                continue;
            }
            match order + 1 {
                ROWS => write!(f, "\n none")?,
                _ => write!(f, "\n{order:>5}")?,
            }
            cells.iter().try_for_each(|cell| write!(f, " {cell:>11}"))?;
            sums.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
        }
        write!(f, "\n  all")?;
        sums.iter().try_for_each(|sum| write!(f, " {sum:>11}"))?;
        write!(f, "\n{} frames allocated, {} freed", self.frames_allocated(), self.frames_freed())
    }
}

/// Counts the calls to `backing`, in tables of the caller's.
///
/// ```
/// use terrace_frame::{
///     BitmapAllocator, Counts, FrameAllocator, Frames, MemoryMap, Misuse, Order, Outcome, StatsFrames,
/// };
///
/// let map = MemoryMap::of(Frames::new(0, 1024)).unwrap();
/// let mut metadata = [0; BitmapAllocator::metadata_bytes(1024) / 8];
/// let counts = [Counts::new()];
/// let frames = StatsFrames::new(BitmapAllocator::new(&map, &mut metadata)?, &counts)?;
///
/// let order = Order::new(4).unwrap();
/// let run = frames.alloc_order(order)?;
/// frames.free_order(run, order).unwrap();
/// assert!(frames.free_order(run, order).is_err());
/// assert_eq!(frames.sum().get(Some(order), Outcome::Misused(Misuse::AlreadyFree)), 1);
/// assert_eq!(frames.live_frames(), 0);
/// println!("{}", frames.sum());
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct StatsFrames<'m, F, S = NoSlots> {
    counts: &'m [Counts],
    slots: S,
    backing: F,
}

impl<'m, F> StatsFrames<'m, F> {
    /// Over `backing`, all callers in the first of `counts`.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`]: there is no table.
    pub fn new(backing: F, counts: &'m [Counts]) -> Result<Self, FrameError> {
        Self::with_slots(backing, NoSlots, counts)
    }
}

impl<'m, F, S: Slots> StatsFrames<'m, F, S> {
    /// The same, each slot's callers in the table of its number; in the first are those without a number, or with one
    /// that has no table.
    ///
    /// # Errors
    /// As [`new`](StatsFrames::new).
    pub fn with_slots(backing: F, slots: S, counts: &'m [Counts]) -> Result<Self, FrameError> {
        if counts.is_empty() { Err(FrameError::InvalidSize) } else { Ok(Self { counts, slots, backing }) }
    }

    /// The tables, by slot.
    pub fn counts(&self) -> &'m [Counts] {
        self.counts
    }

    /// All of them as one.
    pub fn sum(&self) -> Counts {
        let sum = Counts::new();
        self.counts.iter().for_each(|counts| sum.merge(counts));
        sum
    }

    /// Frames handed out through this layer that have not come back through it. Exact while nobody else is at work.
    pub fn live_frames(&self) -> u64 {
        let sum = self.sum();
        sum.frames_allocated().saturating_sub(sum.frames_freed())
    }

    #[inline]
    fn count(&self, frames: usize, outcome: Outcome, times: usize) {
        let number = self.slots.enter();
        self.counts.get(number).unwrap_or(&self.counts[0]).add_times(frames, outcome, times);
        self.slots.leave(number);
        if number == 0 {
            self.slots.claim(); // For the next time.
        }
    }

    #[inline]
    fn answered(&self, frames: usize, error: Option<FrameError>) {
        self.count(frames, error.map_or(Outcome::Allocated, Outcome::Refused), 1);
    }

    #[inline]
    fn freed(&self, frames: usize, misuse: Option<Misuse>) {
        self.count(frames, misuse.map_or(Outcome::Freed, Outcome::Misused), 1);
    }
}

// SAFETY: frames are `backing`'s own, and every call reaches it unchanged.
unsafe impl<F: FrameAllocator, S: Slots> FrameAllocator for StatsFrames<'_, F, S> {
    #[inline]
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        let answer = self.backing.alloc(request);
        self.answered(request.count, answer.err());
        answer
    }

    #[inline]
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        let answer = self.backing.free(frames);
        self.freed(frames.count, answer.err());
        answer
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        let answer = self.backing.alloc_order(order);
        self.answered(order.frames(), answer.err());
        answer
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        let answer = self.backing.free_order(start, order);
        self.freed(order.frames(), answer.err());
        answer
    }

    /// A batch that ends early counts as one refusal for want of memory: it does not tell another reason.
    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        let filled = self.backing.alloc_batch(order, into);
        self.count(order.frames(), Outcome::Allocated, filled);
        if filled < into.len() {
            self.answered(order.frames(), Some(FrameError::OutOfMemory));
        }
        filled
    }

    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        let answer = self.backing.free_batch(order, runs);
        self.count(order.frames(), Outcome::Freed, answer.map_or_else(|(index, _)| index, |()| runs.len()));
        if let Err((_, misuse)) = answer {
            self.freed(order.frames(), Some(misuse));
        }
        answer
    }

    fn keeps_boundaries(&self) -> bool {
        self.backing.keeps_boundaries()
    }

    pass_on_questions!(backing);
}

#[cfg(test)]
mod tests {
    use std::{string::ToString, vec::Vec};

    use super::*;
    use crate::types::ZoneType;

    const ALL: [Outcome; OUTCOMES] = [
        Outcome::Allocated,
        Outcome::Freed,
        Outcome::Refused(FrameError::OutOfMemory),
        Outcome::Refused(FrameError::InvalidSize),
        Outcome::Refused(FrameError::InvalidAlignment),
        Outcome::Refused(FrameError::NumaNodeUnavailable),
        Outcome::Refused(FrameError::ZoneDepleted(ZoneType::Dma)),
        Outcome::Misused(Misuse::Outside),
        Outcome::Misused(Misuse::AlreadyFree),
        Outcome::Misused(Misuse::NotARun),
        Outcome::Misused(Misuse::WrongOwner),
    ];

    #[test]
    fn each_order_and_result_has_a_count_of_its_own() {
        let counts = Counts::new();
        let sizes: Vec<usize> = (0..=20).map(|log2| 1 << log2).chain([0]).collect();
        let mut value = 0;
        for &size in &sizes {
            for outcome in ALL {
                value += 1;
                counts.add_times(size, outcome, value);
            }
        }
        let mut value = 0;
        for order in (0..=20).map(Order::new).chain([None]) {
            for outcome in ALL {
                value += 1;
                assert_eq!(counts.get(order, outcome), value, "{order:?}, {outcome:?}");
            }
        }
        assert_eq!(counts.get(None, Outcome::Refused(FrameError::ZoneDepleted(ZoneType::Normal))), 238);
        assert_eq!(size_of::<Counts>(), 1984, "the documentation says so");
        assert_eq!(ROWS * OUTCOMES + 2, 244, "the documentation says so");
    }

    #[test]
    fn sizes_without_an_order_are_counted_apart_and_overflow_nothing() {
        let counts = Counts::new();
        for size in [0, (1 << 20) + 1, usize::MAX] {
            counts.add(size, Outcome::Refused(FrameError::InvalidSize));
        }
        assert_eq!(counts.get(None, Outcome::Refused(FrameError::InvalidSize)), 3);
        assert_eq!((counts.frames_allocated(), counts.frames_freed()), (0, 0));
        let text = counts.to_string();
        let cells: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(cells[1], ["none", "0", "0", "0", "3", "0", "0", "0"]);
        assert_eq!(cells[2], ["all", "0", "0", "0", "3", "0", "0", "0"]);
    }

    #[test]
    fn a_merge_adds_and_takes_nothing_away() {
        let (one, other) = (Counts::new(), Counts::new());
        one.add(3, Outcome::Allocated);
        other.add(4, Outcome::Allocated);
        other.add(4, Outcome::Freed);
        one.merge(&other);
        assert_eq!((one.total(Outcome::Allocated), one.frames_allocated(), one.frames_freed()), (2, 7, 4));
        assert_eq!((other.total(Outcome::Allocated), other.frames_allocated()), (1, 4));
        one.merge(&one);
        assert_eq!((one.get(Order::new(2), Outcome::Allocated), one.frames_allocated()), (4, 14), "with itself");
    }
}
