//! [`MemoryMap`]: which frames are memory, out of what a firmware or a boot loader says.
//!
//! ```text
//!  entries, in any order:   [ usable ......................... ]
//!                                  [ reserved ]        [ usable ............ ]   [ usable ]
//!  what reserves wins:      [......]          [............................. ]   [........]
//!  whole frames only:        [....]            [............................]     [......]   Frames
//! ```
//!
//! - **I1** `ranges[..len]` are not empty, in rising order, and no two touch.
//! - **I2** A frame lies in a range exactly if each of its bytes lies in a usable entry and none in another.
//! - **I3** `main` is one of the longest ranges.
//! - **I4** Nobody outside of this crate has a map without a range.
//!
//! Cost: built once, in O(entries²) steps, without memory of its own; 1 KiB by value. A question is two comparisons for
//! frames in the longest range, a binary search for others.
#![forbid(unsafe_code)]

use core::{error, fmt};

use crate::types::{FRAME_BYTES, Frames, PhysAddr};

/// Ranges that a map can hold; firmware reports 5 to 30.
pub(crate) const RANGES: usize = 64;

/// What an entry of a firmware's map says of its bytes. Only [`Usable`](Self::Usable) ones are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// Free for use: type 1 of E820 and Multiboot.
    Usable,
    /// Anything else: reserved, ACPI tables, broken, holding the kernel.
    Reserved,
}

impl MemoryKind {
    /// The kind by its number in E820 and Multiboot: 1 is usable, nothing else is.
    #[must_use]
    pub const fn from_e820(number: u32) -> Self {
        if number == 1 { Self::Usable } else { Self::Reserved }
    }
}

/// Bytes of one kind, as firmware lists them: at any address, in any order, overlapping others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapEntry {
    /// The first byte.
    pub base: PhysAddr,
    /// How many bytes; none is allowed and says nothing.
    pub bytes: u64,
    /// What they are.
    pub kind: MemoryKind,
}

impl MapEntry {
    /// `bytes` usable bytes from `base` on.
    #[must_use]
    pub const fn usable(base: u64, bytes: u64) -> Self {
        Self { base: PhysAddr(base), bytes, kind: MemoryKind::Usable }
    }

    /// `bytes` bytes from `base` on that nobody gets.
    #[must_use]
    pub const fn reserved(base: u64, bytes: u64) -> Self {
        Self { base: PhysAddr(base), bytes, kind: MemoryKind::Reserved }
    }
}

/// Why entries make no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapError {
    /// No whole frame is usable.
    Empty,
    /// The entry of this index ends behind the last address.
    PastTheEnd(usize),
    /// There would be more than 64 ranges apart from one another.
    TooManyRanges,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the memory map has no whole usable frame"),
            Self::PastTheEnd(index) => write!(f, "entry {index} of the memory map ends behind the last address"),
            Self::TooManyRanges => write!(f, "the memory map has more than {RANGES} ranges"),
        }
    }
}

impl error::Error for MapError {}

/// The frames that are memory.
///
/// Entries may overlap: what is usable and anything else too is not handed out, and usable entries that overlap or
/// touch are one. A frame is in the map if all of its bytes are usable.
///
/// ```
/// use terrace_frame::{Frames, MapEntry, MemoryMap};
///
/// let map = MemoryMap::new(&[
///     MapEntry::usable(0x10_0000, 0x70_0000),
///     MapEntry::reserved(0x20_0000, 0x1800), // the kernel: its second frame is not usable either
///     MapEntry::usable(0, 0x9_fc00),
/// ])?;
/// let ranges = [Frames::new(0, 0x9f), Frames::new(0x100, 0x100), Frames::new(0x202, 0x5fe)];
/// assert_eq!(map.ranges(), ranges);
/// # Ok::<(), terrace_frame::MapError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryMap {
    ranges: [Frames; RANGES],
    len: usize,
    main: Frames,
}

impl MemoryMap {
    /// The map that `entries` describe.
    ///
    /// # Errors
    /// [`MapError`]: nothing usable, an entry that wraps, too many ranges.
    pub fn new(entries: &[MapEntry]) -> Result<Self, MapError> {
        let wraps = |entry: &MapEntry| entry.base.0.checked_add(entry.bytes).is_none();
        if let Some(index) = entries.iter().position(wraps) {
            return Err(MapError::PastTheEnd(index));
        }
        let mut map = Self::nothing();
        let mut at = 0;
        while let Some((start, end)) = next_usable(entries, at) {
            map.push(whole_frames(start, end))?;
            at = end;
        }
        if map.len == 0 { Err(MapError::Empty) } else { Ok(map) }
    }

    /// A map of one range.
    ///
    /// # Errors
    /// [`MapError::Empty`] for an empty run, [`MapError::PastTheEnd`] for one that ends behind the last address.
    pub fn of(frames: Frames) -> Result<Self, MapError> {
        let bytes = (frames.count as u64).checked_mul(FRAME_BYTES).ok_or(MapError::PastTheEnd(0))?;
        let start = (frames.start.0 as u64).checked_mul(FRAME_BYTES).ok_or(MapError::PastTheEnd(0))?;
        Self::new(&[MapEntry::usable(start, bytes)])
    }

    /// No frame: what is to be filled by [`push`](Self::push).
    pub(crate) const fn nothing() -> Self {
        Self { ranges: [Frames::new(0, 0); RANGES], len: 0, main: Frames::new(0, 0) }
    }

    /// Appends what lies behind all that is there; joins it to the last range where the two touch.
    pub(crate) fn push(&mut self, frames: Frames) -> Result<(), MapError> {
        if frames.count == 0 {
            return Ok(());
        }
        match self.ranges[..self.len].last_mut() {
            Some(last) if last.end() == frames.start.0 => last.count += frames.count,
            _ => {
                *self.ranges.get_mut(self.len).ok_or(MapError::TooManyRanges)? = frames;
                self.len += 1;
            }
        }
        let last = self.ranges[self.len - 1];
        if last.count > self.main.count {
            self.main = last;
        }
        Ok(())
    }

    /// The ranges, in rising order; no two touch.
    #[must_use]
    pub fn ranges(&self) -> &[Frames] {
        &self.ranges[..self.len]
    }

    /// From the first frame to the last, holes between them included.
    #[must_use]
    pub fn span(&self) -> Frames {
        let start = self.ranges[0].start.0;
        Frames::new(start, self.ranges[self.len - 1].end() - start)
    }

    /// How many frames there are, without the holes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ranges().iter().map(|range| range.count).sum()
    }

    /// Whether every frame of the run, which is not empty, is memory.
    #[must_use]
    #[inline]
    pub fn contains(&self, frames: Frames) -> bool {
        self.main.contains(frames) || self.contains_beside(frames)
    }

    /// The same for one frame.
    #[inline]
    pub(crate) fn contains_frame(&self, frame: usize) -> bool {
        frame.wrapping_sub(self.main.start.0) < self.main.count || self.contains_beside(Frames::new(frame, 1))
    }

    #[cold]
    fn contains_beside(&self, frames: Frames) -> bool {
        let behind = self.ranges().partition_point(|range| range.start.0 <= frames.start.0);
        behind > 0 && self.ranges[behind - 1].contains(frames)
    }
}

/// The first stretch of bytes from `at` on that are usable and nothing else; one that touches it may follow.
fn next_usable(entries: &[MapEntry], at: u64) -> Option<(u64, u64)> {
    let mut at = at;
    loop {
        let inside = |entry: &&MapEntry| entry.base.0 <= at && at < entry.base.0 + entry.bytes;
        let reserved = |entry: &&MapEntry| entry.kind != MemoryKind::Usable;
        if let Some(entry) = entries.iter().filter(reserved).find(inside) {
            at = entry.base.0 + entry.bytes;
        } else if entries.iter().any(|entry| !reserved(&entry) && inside(&entry)) {
            let mut end = at;
            // As far as usable entries reach without a gap, and no further than the next reserved one.
            while let Some(entry) =
                entries.iter().find(|entry| !reserved(entry) && entry.base.0 <= end && end < entry.base.0 + entry.bytes)
            {
                end = entry.base.0 + entry.bytes;
            }
            let stops = entries.iter().filter(|entry| reserved(entry) && entry.bytes > 0 && entry.base.0 > at);
            return Some((at, stops.map(|entry| entry.base.0).fold(end, u64::min)));
        } else {
            at = entries.iter().map(|entry| entry.base.0).filter(|&base| base > at).min()?;
        }
    }
}

/// The whole frames in the bytes from `start` to `end`.
fn whole_frames(start: u64, end: u64) -> Frames {
    let first = PhysAddr(start.div_ceil(FRAME_BYTES).saturating_mul(FRAME_BYTES)).frame();
    let behind = PhysAddr(end).frame();
    Frames { start: first, count: behind.0.saturating_sub(first.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    const PAGE: u64 = FRAME_BYTES;

    #[test]
    fn entries_that_make_no_map_are_refused_with_the_reason() {
        assert_eq!(MemoryMap::new(&[]).unwrap_err(), MapError::Empty);
        assert_eq!(MemoryMap::new(&[MapEntry::usable(1, 2 * PAGE - 2)]).unwrap_err(), MapError::Empty);
        assert_eq!(MemoryMap::new(&[MapEntry::usable(PAGE, 0)]).unwrap_err(), MapError::Empty);
        let wraps = [MapEntry::usable(0, PAGE), MapEntry::reserved(u64::MAX, 2)];
        assert_eq!(MemoryMap::new(&wraps).unwrap_err(), MapError::PastTheEnd(1));
        let apart: Vec<MapEntry> = (0..65).map(|n| MapEntry::usable(n * 2 * PAGE, PAGE)).collect();
        assert_eq!(MemoryMap::new(&apart).unwrap_err(), MapError::TooManyRanges);
        assert_eq!(MemoryMap::new(&apart[..64]).expect("64 ranges").ranges().len(), 64);
        assert_eq!(MemoryMap::of(Frames::new(3, 0)).unwrap_err(), MapError::Empty);
        assert_eq!(MemoryMap::of(Frames::new(usize::MAX, 1)).unwrap_err(), MapError::PastTheEnd(0));
        assert_eq!(MemoryMap::of(Frames::ALL).unwrap_err(), MapError::PastTheEnd(0));
    }

    #[test]
    fn a_real_machines_map_is_read() {
        let e820 = [
            (0x0, 0x9_fc00, 1),
            (0x9_fc00, 0x400, 2),
            (0xf_0000, 0x1_0000, 2),
            (0x10_0000, 0xbfee_0000, 1),
            (0xbffe_0000, 0x2_0000, 2),
            (0xfeff_c000, 0x4000, 2),
            (0x1_0000_0000, 0x4000_0000, 1),
        ];
        let entries =
            e820.map(|(base, bytes, kind)| MapEntry { base: PhysAddr(base), bytes, kind: MemoryKind::from_e820(kind) });
        let map = MemoryMap::new(&entries).expect("a map");
        let ranges = [Frames::new(0, 0x9f), Frames::new(0x100, 0xbfee0), Frames::new(0x10_0000, 0x4_0000)];
        assert_eq!(map.ranges(), ranges);
        assert_eq!((map.count(), map.span()), (0x9f + 0xbfee0 + 0x4_0000, Frames::new(0, 0x14_0000)));
        assert!(map.contains(Frames::new(0x10_0000, 0x4_0000)) && !map.contains(Frames::new(0x9e, 2)));
        assert!(map.contains(Frames::new(0x9e, 1)) && !map.contains(Frames::new(0xbffdf, 2)));
        assert!(!map.contains(Frames::new(0x100, 0)) && !map.contains(Frames::new(usize::MAX, 2)));
    }

    proptest! {
        /// I1, I2, I3 against one byte after another.
        #[test]
        fn a_frame_is_in_the_map_if_all_its_bytes_are_usable_only(
            entries in prop::collection::vec((0u64..40, 0u64..20, any::<bool>()), 0..12)
        ) {
            // In quarters of a frame, so that entries begin and end inside of frames.
            let entry = |&(base, len, usable): &(u64, u64, bool)| {
                let make = if usable { MapEntry::usable } else { MapEntry::reserved };
                make(base * (PAGE / 4), len * (PAGE / 4))
            };
            let quarter = |at: u64| {
                let inside = |usable: bool| entries.iter().any(|e| e.2 == usable && e.0 <= at && at < e.0 + e.1);
                inside(true) && !inside(false)
            };
            let frame = |n: usize| (0..4).all(|q| quarter(n as u64 * 4 + q));
            let listed: Vec<MapEntry> = entries.iter().map(entry).collect();
            match MemoryMap::new(&listed) {
                Err(error) => {
                    prop_assert_eq!(error, MapError::Empty);
                    prop_assert!(!(0..16).any(frame));
                }
                Ok(map) => {
                    for n in 0..16 {
                        prop_assert_eq!(map.contains(Frames::new(n, 1)), frame(n), "frame {}", n);
                    }
                    prop_assert!(map.ranges().windows(2).all(|two| two[0].end() < two[1].start.0));
                    prop_assert!(map.ranges().iter().all(|range| range.count > 0 && range.count <= map.main.count));
                }
            }
        }
    }
}
