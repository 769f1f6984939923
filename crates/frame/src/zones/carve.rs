//! How a memory map is cut into zones, before anything is handed out.
//!
//! ```text
//!  map      [ usable    ]   [ usable ..................................................... ]
//!           0           │ 16 MiB                                                           end
//!  DMA      [ ..........]   [....]
//!  giant                                       [ 1 GiB │ 1 GiB ]        from the top, each at a multiple of its size
//!  large                                                        [2│2│2│2]       from the top of what is left
//!  normal                         [...........]                           [ rest ]
//! ```
//!
//! - **C1** Each frame of the map is in one of the four parts, and in no other.
//! - **C2** The parts for pages have exactly as many as asked for, each page at a multiple of its size, above the DMA
//!   part's end.
//!
//! Cost: a few steps a range; four maps of 1 KiB by value.
#![forbid(unsafe_code)]

use crate::{
    map::{MapError, MemoryMap, RANGES},
    types::{Frame, Frames, PageSize},
};

use super::ZoneError;

/// The parts; each may be empty.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) dma: MemoryMap,
    pub(super) normal: MemoryMap,
    pub(super) large: MemoryMap,
    pub(super) giant: MemoryMap,
}

/// Cuts `map`: what lies below `dma_end`, pages of 1 GiB, pages of 2 MiB, and the rest.
pub(super) fn carve(map: &MemoryMap, dma_end: Frame, large: usize, giant: usize) -> Result<Parts, ZoneError> {
    let (mut dma, mut normal) = (MemoryMap::nothing(), MemoryMap::nothing());
    for range in map.ranges() {
        let below = range.shared_with(Frames::new(0, dma_end.0));
        let above = Frames::new(range.start.0 + below.count, range.count - below.count);
        dma.push(below).and_then(|()| normal.push(above)).map_err(too_many)?;
    }
    let (giant, normal) = take_pages(&normal, PageSize::Giant, giant)?;
    let (large, normal) = take_pages(&normal, PageSize::Large, large)?;
    Ok(Parts { dma, normal, large, giant })
}

/// So many pages from the top of a map, and the rest of it.
fn take_pages(map: &MemoryMap, size: PageSize, wanted: usize) -> Result<(MemoryMap, MemoryMap), ZoneError> {
    let page = size.order().frames();
    let (mut shares, mut left) = ([0; RANGES], wanted);
    for (share, range) in shares[..map.ranges().len()].iter_mut().zip(map.ranges()).rev() {
        *share = pages_inside(*range, page).1.min(left);
        left -= *share;
    }
    if left > 0 {
        return Err(ZoneError::TooFewPages(size));
    }
    let (mut taken, mut rest) = (MemoryMap::nothing(), MemoryMap::nothing());
    for (&share, &range) in shares.iter().zip(map.ranges()) {
        let (first, count) = pages_inside(range, page);
        let (from, to) = if share == 0 {
            (range.end(), range.end())
        } else {
            ((first + count - share) * page, (first + count) * page)
        };
        rest.push(Frames::new(range.start.0, from - range.start.0)).map_err(too_many)?;
        taken.push(Frames::new(from, to - from)).map_err(too_many)?;
        rest.push(Frames::new(to, range.end() - to)).map_err(too_many)?;
    }
    Ok((taken, rest))
}

/// The whole pages in a range: the number of the first, and how many.
const fn pages_inside(range: Frames, page: usize) -> (usize, usize) {
    let (first, end) = (range.start.0.div_ceil(page), range.end() / page);
    (first, end.saturating_sub(first))
}

fn too_many(_: MapError) -> ZoneError {
    ZoneError::TooManyRanges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;
    use crate::map::MapEntry;

    fn cut(ranges: &[(usize, usize)], dma_end: usize, large: usize, giant: usize) -> Result<Parts, ZoneError> {
        carve(&map_of(ranges), Frame(dma_end), large, giant)
    }

    fn map_of(ranges: &[(usize, usize)]) -> MemoryMap {
        let entry = |&(start, count): &(usize, usize)| MapEntry::usable(start as u64 * 4096, count as u64 * 4096);
        MemoryMap::new(&ranges.iter().map(entry).collect::<Vec<_>>()).expect("a map")
    }

    #[test]
    fn pages_come_from_the_top_and_what_lies_around_them_is_normal() {
        let parts = cut(&[(0, 0x9f), (0x100, 0x8_0000)], 4096, 2, 1).expect("there is room");
        assert_eq!(parts.dma.ranges(), [Frames::new(0, 0x9f), Frames::new(0x100, 0xf00)]);
        assert_eq!(parts.giant.ranges(), [Frames::new(0x4_0000, 0x4_0000)]);
        // 0x100 frames are left above the giant page: too few for a large one.
        assert_eq!(parts.large.ranges(), [Frames::new(0x3_fc00, 0x400)]);
        assert_eq!(parts.normal.ranges(), [Frames::new(0x1000, 0x3_ec00), Frames::new(0x8_0000, 0x100)]);
    }

    #[test]
    fn what_is_not_there_cannot_be_carved() {
        let machine = [(0, 0x8_0000)];
        assert_eq!(cut(&machine, 4096, 0, 2).unwrap_err(), ZoneError::TooFewPages(PageSize::Giant));
        assert_eq!(cut(&machine, 4096, 1017, 0).unwrap_err(), ZoneError::TooFewPages(PageSize::Large));
        assert_eq!(cut(&machine, 4096, 504 + 1, 1).unwrap_err(), ZoneError::TooFewPages(PageSize::Large));
        assert_eq!(cut(&machine, 4096, 504, 1).expect("just enough").normal.count(), 0);
        assert_eq!(cut(&machine, 4096, usize::MAX, 0).unwrap_err(), ZoneError::TooFewPages(PageSize::Large));
    }

    #[test]
    fn more_ranges_than_a_map_holds_are_refused() {
        // 64 ranges, in the last of which a page lies amid other frames: that makes 65.
        let mut ranges: Vec<_> = (0..63).map(|n| (5000 + 2 * n, 1)).collect();
        ranges.push((5200, 1200));
        assert_eq!(cut(&ranges, 4096, 1, 0).unwrap_err(), ZoneError::TooManyRanges);
        assert_eq!(cut(&ranges, 4096, 0, 0).expect("64 of them").normal.ranges().len(), 64);
        assert_eq!(cut(&ranges, 5001, 1, 0).expect("one is the DMA zone's").normal.ranges().len(), 64);
    }

    proptest! {
        /// C1 and C2, frame by frame.
        #[test]
        fn each_frame_is_in_one_part(
            ranges in prop::collection::vec((0usize..9000, 1usize..3000), 1..6),
            dma_end in 0usize..6000, large in 0usize..8,
        ) {
            let map = map_of(&ranges);
            match carve(&map, Frame(dma_end), large, 0) {
                Err(error) => {
                    prop_assert_eq!(error, ZoneError::TooFewPages(PageSize::Large));
                    let whole = |block: &usize| {
                        (block * 512..block * 512 + 512).all(|n| n >= dma_end && map.contains(Frames::new(n, 1)))
                    };
                    prop_assert!((0..24).filter(whole).count() < large);
                }
                Ok(parts) => {
                    prop_assert_eq!(parts.large.count(), large * 512);
                    prop_assert_eq!(parts.giant.count(), 0);
                    for range in parts.large.ranges() {
                        prop_assert!(range.start.0 % 512 == 0 && range.count % 512 == 0 && range.start.0 >= dma_end);
                    }
                    for frame in 0..12_100 {
                        let has = |part: &MemoryMap| usize::from(part.contains(Frames::new(frame, 1)));
                        let inside = has(&parts.dma) + has(&parts.normal) + has(&parts.large);
                        prop_assert_eq!(inside, has(&map), "frame {}", frame);
                        prop_assert!(has(&parts.dma) == 0 || frame < dma_end);
                    }
                }
            }
        }
    }
}
