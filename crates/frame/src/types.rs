//! The words of this crate: a frame, a run of frames, an order, a size of page, and what can go wrong.
//!
//! ```text
//!   bytes    0     4096    8192          2 MiB            1 GiB          4 GiB
//!   frames   0 │ 1 │ 2 │ 3 │ …           512              262 144        1 048 576
//!   order    0   1─────────              9                18             20
//! ```
//!
//! A frame is a number, never a pointer: nothing here reads or writes the memory that it counts.
#![forbid(unsafe_code)]

use core::{error, fmt};

/// Bytes in a frame. Larger pages of a machine are runs of frames.
pub const FRAME_BYTES: u64 = 4096;

/// A physical address, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

impl PhysAddr {
    /// The frame that the address lies in; the last that a `usize` can number, where it cannot number that one.
    #[must_use]
    pub const fn frame(self) -> Frame {
        let index = self.0 / FRAME_BYTES;
        if index > usize::MAX as u64 { Frame(usize::MAX) } else { Frame(index as usize) }
    }
}

/// A page frame, by its number: its physical address divided by [`FRAME_BYTES`].
///
/// ```
/// use terrace_frame::{Frame, PhysAddr};
///
/// assert_eq!(PhysAddr(0x3000).frame(), Frame(3));
/// assert_eq!(Frame(3).address(), PhysAddr(0x3000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub usize);

impl Frame {
    /// Where the frame begins; the highest address there is, for a number that no machine has.
    #[must_use]
    pub const fn address(self) -> PhysAddr {
        PhysAddr((self.0 as u64).saturating_mul(FRAME_BYTES))
    }
}

/// A run of frames: `count` of them from `start` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frames {
    /// The first.
    pub start: Frame,
    /// How many. With 0 the run is empty.
    pub count: usize,
}

impl Frames {
    /// Every frame that can be numbered.
    pub const ALL: Self = Self { start: Frame(0), count: usize::MAX };

    /// `count` frames from the one with number `start`.
    #[must_use]
    pub const fn new(start: usize, count: usize) -> Self {
        Self { start: Frame(start), count }
    }

    /// The run's number of frames is a power of two, and it begins at a multiple of it.
    #[must_use]
    pub const fn of_order(start: Frame, order: Order) -> Self {
        Self { start, count: order.frames() }
    }

    /// The number behind the last frame, no more than `usize` can hold.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start.0.saturating_add(self.count)
    }

    /// Whether all of `other` lies in this run. An empty run lies nowhere.
    #[must_use]
    pub const fn contains(self, other: Frames) -> bool {
        other.count > 0
            && self.start.0 <= other.start.0
            && match other.start.0.checked_add(other.count) {
                Some(end) => end <= self.end(),
                None => false,
            }
    }

    /// The frames in both runs.
    #[must_use]
    pub const fn shared_with(self, other: Frames) -> Frames {
        let start = if self.start.0 > other.start.0 { self.start.0 } else { other.start.0 };
        let end = if self.end() < other.end() { self.end() } else { other.end() };
        Self::new(start, end.saturating_sub(start))
    }
}

/// A power of two of frames, from 0 (4 KiB) to 20 (4 GiB).
///
/// ```
/// use terrace_frame::Order;
///
/// let order = Order::holding(300).unwrap();
/// assert_eq!((order.log2(), order.frames()), (9, 512));
/// assert_eq!(Order::new(21), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(u8);

impl Order {
    /// One frame.
    pub const MIN: Self = Self(0);
    /// 2²⁰ frames, 4 GiB.
    pub const MAX: Self = Self(20);

    /// The order with that logarithm, up to 20.
    #[must_use]
    pub const fn new(log2: u32) -> Option<Self> {
        if log2 <= Self::MAX.0 as u32 { Some(Self(log2 as u8)) } else { None }
    }

    /// The least order of so many frames at least. `None`: none, or more than 2²⁰.
    #[must_use]
    pub const fn holding(count: usize) -> Option<Self> {
        if count == 0 || count > Self::MAX.frames() {
            return None;
        }
        Self::new(count.next_power_of_two().trailing_zeros())
    }

    /// The logarithm.
    #[must_use]
    pub const fn log2(self) -> u32 {
        self.0 as u32
    }

    /// How many frames.
    #[must_use]
    pub const fn frames(self) -> usize {
        1 << self.0
    }
}

/// The sizes of pages that a machine maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u64)]
pub enum PageSize {
    /// 4 KiB: one frame.
    Normal = 4096,
    /// 2 MiB: order 9.
    Large = 2 << 20,
    /// 1 GiB: order 18.
    Giant = 1 << 30,
}

impl PageSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// The order of a run that one such page maps.
    #[must_use]
    pub const fn order(self) -> Order {
        Order((self.bytes() / FRAME_BYTES).trailing_zeros() as u8)
    }
}

/// Kinds of memory that a kernel keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZoneType {
    /// 0 to 16 MiB, for devices that reach no further.
    Dma,
    /// The main memory.
    Normal,
    /// Kept for pages of 2 MiB and 1 GiB.
    HugePage,
    /// A device's own memory.
    Device,
}

/// Why no frames were handed out. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameError {
    /// No free run serves the request now, or none ever could in the range that is managed.
    OutOfMemory,
    /// No frames were asked for, or more than 2²⁰; or the metadata's storage is too small for the map.
    InvalidSize,
    /// The alignment is no power of two, or more than 2²⁰ frames.
    InvalidAlignment,
    /// The node that was asked for is not there.
    NumaNodeUnavailable,
    /// The zone that was asked for has none left above its reserve.
    ZoneDepleted(ZoneType),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory => f.write_str("no free run of frames serves the request"),
            Self::InvalidSize => f.write_str("between 1 and 2^20 frames can be asked for, in enough metadata"),
            Self::InvalidAlignment => f.write_str("an alignment is a power of two of up to 2^20 frames"),
            Self::NumaNodeUnavailable => f.write_str("there is no such node"),
            Self::ZoneDepleted(zone) => write!(f, "the zone {zone:?} is depleted"),
        }
    }
}

impl error::Error for FrameError {}

/// Why frames were not taken back. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misuse {
    /// The run is empty, or part of it is no memory of this allocator.
    Outside,
    /// Part of it is free already.
    AlreadyFree,
    /// It is no run as it was handed out. Only an allocator that keeps boundaries can say so.
    NotARun,
    /// It is a run, and another owner's. Only a [`TrackedFrames`](crate::TrackedFrames) knows owners.
    WrongOwner,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "frames that are not this allocator's were to be freed",
            Self::AlreadyFree => "frames that are free were to be freed",
            Self::NotARun => "frames were to be freed that were not handed out as one run",
            Self::WrongOwner => "frames were to be freed that are another owner's",
        })
    }
}

impl error::Error for Misuse {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_what_it_says_and_no_less_would_do() {
        for count in 1..5000 {
            let order = Order::holding(count).expect("within 2^20");
            assert!(order.frames() >= count && order.frames() / 2 < count, "{count}");
        }
        assert_eq!(Order::holding(0), None);
        assert_eq!(Order::holding(1 << 20), Some(Order::MAX));
        assert_eq!(Order::holding((1 << 20) + 1), None);
        assert_eq!(Order::holding(usize::MAX), None);
        assert_eq!(Order::new(u32::MAX), None);
    }

    #[test]
    fn pages_are_runs_of_an_order() {
        assert_eq!([PageSize::Normal, PageSize::Large, PageSize::Giant].map(|size| size.order().log2()), [0, 9, 18]);
    }

    #[test]
    fn runs_at_the_end_of_all_numbers_do_not_wrap() {
        let last = Frames::new(usize::MAX, 2);
        assert_eq!(last.end(), usize::MAX);
        assert!(!Frames::ALL.contains(last), "its end cannot be numbered");
        assert!(!Frames::ALL.contains(Frames::new(3, 0)), "an empty run");
        assert!(Frames::ALL.contains(Frames::new(3, 1)));
        assert_eq!(Frames::new(4, 4).shared_with(Frames::new(6, 9)), Frames::new(6, 2));
        assert_eq!(Frames::new(4, 4).shared_with(Frames::new(9, 9)).count, 0);
        assert_eq!(Frame(usize::MAX).address().frame(), Frame((u64::MAX / FRAME_BYTES) as usize));
    }
}
