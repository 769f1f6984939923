//! [`FreeAreas`]: how many free blocks of each order there are, and what that says of fragmentation.
//!
//! ```text
//!  frame   0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
//!          . # # . . . . . . . .  .  .  .  .  #       . is free
//!  blocks  0     3 └─4–7─┘ └─8–11──┘ └12–13┘ 14       the largest aligned ones, one after another
//!  table   order 0: 3   order 1: 1   order 2: 2
//! ```
//!
//! The table is what Linux shows in `/proc/buddyinfo`, the two indices are those of its `unusable_index` and
//! `extfrag_index`, computed by the same whole-number arithmetic, in thousandths:
//! - the *unusable-free index* of an order is the part of the free frames that no request of that order can have;
//! - the *fragmentation index* of an order says why such a request fails: towards 0 because there is too little memory,
//!   towards 1 because it is in pieces; −1 where the request would not fail.
//!
//! Linux's blocks are of orders 0 to 10, and what is larger is so many of order 10; ours go up to 20. As the second
//! index counts blocks, a comparison with a Linux wants [`up_to`](FreeAreas::up_to) that order.
//!
//! - **I1** No count is not 0 above `top`.
//! - **I2** In a table that was read here, blocks begin at multiples of their size and are as large as their neighbours
//!   allow: no two buddies are both free and apart, below order 20.
//!
//! Cost: the table reads every frame's bit once, a [`free_word`](FrameAllocator::free_word) for 64, and takes a step
//! for each block found; the indices 21 steps. It allocates nothing and stops nobody. Where calls race with it, words
//! are as they were at one moment or another, and a block that goes from one structure of its allocator to another just
//! then may look taken.
#![forbid(unsafe_code)]

use core::{fmt, ops::AddAssign};

use crate::{
    allocator::FrameAllocator,
    classic::row,
    types::{FRAME_BYTES, Frames, Order},
    word::{self, WORD},
};

const ORDERS: usize = Order::MAX.log2() as usize + 1;

/// A part of one, in thousandths: from −1000 to 1000. Printed as `0.937`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thousandths(pub(crate) i32);

impl Thousandths {
    /// How many thousandths.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0.unsigned_abs();
        let digit = |unit: u32| b'0' + (value / unit % 10) as u8;
        let text = [digit(1000), b'.', digit(100), digit(10), digit(1)];
        f.pad_integral(self.0 >= 0, "", core::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Free blocks, order by order.
///
/// ```
/// use terrace_frame::{BitmapAllocator, FrameAllocator, FreeAreas, Frame, Frames, MemoryMap, Order, Request};
///
/// let map = MemoryMap::of(Frames::new(0, 1024)).unwrap();
/// let mut metadata = [0; BitmapAllocator::metadata_bytes(1024) / 8];
/// let frames = BitmapAllocator::new(&map, &mut metadata)?;
/// frames.alloc(&Request::frames(1))?; // frame 0
///
/// // What is left: 1, 2–3, 4–7, and so on, a block of each order below 10.
/// let free = FreeAreas::of(&frames);
/// let order = |log2| Order::new(log2).unwrap();
/// assert_eq!((free.count(order(9)), free.count(order(10)), free.free_frames()), (1, 0, 1023));
/// assert_eq!(free.unusable_index(order(9)).to_string(), "0.499");
/// println!("{}", free.up_to(order(10)).labelled(0, "Normal")); // as in /proc/buddyinfo
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
///
/// As text it is the row of counts; with `{:#}` a table with both indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeAreas {
    counts: [usize; ORDERS],
    top: Order,
}

impl Default for FreeAreas {
    /// Nothing is free, of any order.
    fn default() -> Self {
        Self { counts: [0; ORDERS], top: Order::MAX }
    }
}

impl FreeAreas {
    /// What is free in all that `frames` spans, up to order 20.
    pub fn of(frames: &(impl FrameAllocator + ?Sized)) -> Self {
        Self::within(frames, frames.span())
    }

    /// What is free in `range`: a zone's frames, or a node's. No block crosses its borders.
    pub fn within(frames: &(impl FrameAllocator + ?Sized), range: Frames) -> Self {
        let mut areas = Self::default();
        let range = range.shared_with(frames.span());
        let mut run = Frames::new(range.start.0, 0);
        if range.count == 0 {
            return areas;
        }
        for number in range.start.0 / WORD..range.end().div_ceil(WORD) {
            let free = frames.free_word(number) & inside(number, range);
            for (from, count) in runs(free) {
                if run.end() != number * WORD + from {
                    areas.add_run(run);
                    run = Frames::new(number * WORD + from, 0);
                }
                run.count += count;
            }
        }
        areas.add_run(run);
        areas
    }

    /// A table of these counts, from order 0 on: one that another system tells, as in a line of `/proc/buddyinfo`.
    /// `None`: there are none, or more than orders.
    #[must_use]
    pub fn from_counts(counts: &[usize]) -> Option<Self> {
        let top = Order::new(u32::try_from(counts.len().checked_sub(1)?).ok()?)?;
        let mut areas = Self { top, ..Self::default() };
        areas.counts[..counts.len()].copy_from_slice(counts);
        Some(areas)
    }

    /// The same memory with no block above `top`: larger ones count as so many of that order.
    #[must_use]
    pub fn up_to(&self, top: Order) -> Self {
        let mut areas = Self { top, ..*self };
        let (kept, above) = areas.counts.split_at_mut(top.log2() as usize + 1);
        for (more, count) in (1..).zip(above) {
            let last = &mut kept[top.log2() as usize];
            *last = last.saturating_add(count.saturating_mul(1 << more));
            *count = 0;
        }
        areas
    }

    /// The highest order that the table has, free or not.
    #[must_use]
    pub const fn top(&self) -> Order {
        self.top
    }

    /// Free blocks of an order.
    #[must_use]
    pub const fn count(&self, order: Order) -> usize {
        self.counts[order.log2() as usize]
    }

    /// Free blocks of all orders.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Free frames; the most that a `usize` holds, where there would be more.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        usize::try_from(self.exact_frames(Order::MIN)).unwrap_or(usize::MAX)
    }

    /// How many requests of that order could be served one after another, if nothing else were asked for.
    #[must_use]
    pub fn suitable(&self, order: Order) -> usize {
        usize::try_from(self.exact_frames(order) >> order.log2()).unwrap_or(usize::MAX)
    }

    /// The order of the largest free block.
    #[must_use]
    pub fn largest(&self) -> Option<Order> {
        self.counts.iter().rposition(|&count| count > 0).and_then(|order| Order::new(order as u32))
    }

    /// The part of the free frames that lies in blocks too small for the order: 0 to 1, and 1 where nothing is free.
    #[must_use]
    pub fn unusable_index(&self, order: Order) -> Thousandths {
        let free = self.exact_frames(Order::MIN);
        let unusable = free - self.exact_frames(order);
        Thousandths((unusable * 1000).checked_div(free).map_or(1000, |part| part as i32))
    }

    /// Whether a request of the order fails for want of memory (towards 0) or because of fragmentation (towards 1).
    /// −1: it does not fail. 0 where nothing is free. As Linux computes it, it is −0.5 where the only free block is one
    /// of half the order's size.
    #[must_use]
    pub fn fragmentation_index(&self, order: Order) -> Thousandths {
        if self.exact_frames(order) > 0 {
            return Thousandths(-1000);
        }
        // In 128 bits nothing here overflows: 2^64 blocks of 2^20 frames each, of 21 orders, times 1000.
        let blocks: u128 = self.counts.iter().map(|&count| count as u128).sum();
        let needed = self.exact_frames(Order::MIN) * 1000 / order.frames() as u128;
        // All free frames are in smaller blocks, so that `needed` is at most 500 for each, and the part at most 1500.
        Thousandths((1000 + needed).checked_div(blocks).map_or(0, |part| 1000 - part as i32))
    }

    /// The line that `/proc/buddyinfo` has for a zone.
    #[must_use]
    pub fn labelled(&self, node: usize, zone: &str) -> impl fmt::Display {
        fmt::from_fn(move |f| write!(f, "Node {node}, zone {zone:>8} {self}"))
    }

    /// Free frames in blocks of the order and larger ones.
    fn exact_frames(&self, order: Order) -> u128 {
        let from = order.log2() as usize;
        (from..).zip(&self.counts[from..]).map(|(order, &count)| (count as u128) << order).sum()
    }

    fn add_run(&mut self, run: Frames) {
        for (_, order) in row(run) {
            self.counts[order as usize] += 1;
        }
    }
}

/// Several zones as one, or several nodes.
impl AddAssign<&Self> for FreeAreas {
    fn add_assign(&mut self, other: &Self) {
        self.top = self.top.max(other.top);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }
}

impl fmt::Display for FreeAreas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let orders = || (0..=self.top.log2()).filter_map(Order::new);
        if !f.alternate() {
            return orders().try_for_each(|order| write!(f, "{:>w$}", self.count(order), w = gap(order)));
        }
        writeln!(f, "{:>5} {:>8} {:>10} {:>8} {:>13}", "order", "KiB", "free", "unusable", "fragmentation")?;
        for order in orders() {
            let kib = order.frames() as u64 * (FRAME_BYTES / 1024);
            let (unusable, fragmentation) = (self.unusable_index(order), self.fragmentation_index(order));
            let (order, count) = (order.log2(), self.count(order));
            writeln!(f, "{order:>5} {kib:>8} {count:>10} {unusable:>8} {fragmentation:>13}")?;
        }
        write!(f, "{} frames free in {} blocks", self.free_frames(), self.blocks())
    }
}

/// Columns of six, with a space between them.
const fn gap(order: Order) -> usize {
    if order.log2() == 0 { 6 } else { 7 }
}

/// The bits of a word whose frames lie in `range`.
pub(crate) fn inside(number: usize, range: Frames) -> u64 {
    let shared = range.shared_with(Frames::new(number * WORD, WORD));
    if shared.count == 0 { 0 } else { word::ones((shared.start.0 % WORD) as u32, shared.count as u32) }
}

/// The runs of ones in a word: the first bit, and how many.
fn runs(word: u64) -> impl Iterator<Item = (usize, usize)> {
    let mut rest = word;
    core::iter::from_fn(move || {
        (rest != 0).then(|| {
            let from = rest.trailing_zeros();
            let count = (rest >> from).trailing_ones();
            rest &= !word::ones(from, count);
            (from as usize, count as usize)
        })
    })
}
