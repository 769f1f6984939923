//! From `region(SIZE, FRAMES)` to an allocator of bytes.
//!
//! ```text
//!  ground   [ SIZE bytes: the frames, at a multiple of 4 MiB if so large ]   [ metadata ]   two requests, held to the end
//!  frames   numbered by their addresses: what is aligned as a frame is aligned as bytes
//!  numa     [ node 0: a half ][ node 1 ]        zones   [ DMA ][ Normal ]        no block lies in two parts
//! ```

use std::num::NonZeroUsize;

use terrace::Slots;
use terrace_core::{Alignment, Allocator, Owns};
use terrace_frame::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Frame, FrameAllocator, FrameError, Frames, HybridAllocator,
    MemoryMap, NumaAllocator, Order, Region, ZoneConfig, ZonedAllocator,
    numa::{Distances, NodeSet, NodeWeights, NumaNode, NumaPolicy, NumaView},
};
use terrace_sys::{PageAllocator, ThreadSlots};

use super::dispatch::{Ground, counted};
use crate::stack::frames::{FRAME, FrameWord, RegionWord, Spread};

/// So that the pieces of `smp` lie in it without a rest, and blocks of 2 MiB are pages of that size where the system has them.
const ALIGNMENT: u64 = 4 << 20;

/// A region, which threads may share, and which knows its own blocks.
pub type Shared = Box<dyn Owns + Send + Sync>;

/// Over so many bytes; whether they can be had was tried before. With a `ground` to fill, the pages are counted.
pub fn region(bytes: u64, frames: RegionWord, ground: Option<&mut Ground>) -> Shared {
    let made = match ground {
        None => over(bytes, frames, &PageAllocator),
        Some(ground) => over(bytes, frames, counted(PageAllocator, ground)),
    };
    made.expect("the parser refuses sizes that are wrong, and whether there is memory was tried before")
}

fn over<A: Allocator + Sync>(bytes: u64, word: RegionWord, backing: &'static A) -> Result<Shared, FrameError> {
    let len = usize::try_from(bytes).ok().and_then(NonZeroUsize::new).ok_or(FrameError::InvalidSize)?;
    let alignment = if bytes < ALIGNMENT { FRAME } else { ALIGNMENT };
    let alignment = Alignment::new(alignment as usize).ok_or(FrameError::InvalidAlignment)?;
    let base = backing.alloc(len, alignment).map_err(|_| FrameError::OutOfMemory)?;
    let span = Frames::new(base.addr().get() / FRAME as usize, len.get() / FRAME as usize);
    let map = MemoryMap::of(span).map_err(|_| FrameError::InvalidSize)?;
    let word = match word {
        RegionWord::Frames(word) => word,
        RegionWord::Numa(Spread::Local) => return cut(base, numa(span, backing)?),
        RegionWord::Numa(spread) => return cut(base, in_turn(numa(span, backing)?, spread)?),
        RegionWord::Zones => return cut(base, zones(&map, backing)?),
    };
    Ok(match word {
        FrameWord::Bitmap => cut(base, BitmapAllocator::new_in(&map, backing)?)?,
        FrameWord::Buddy => cut(base, BuddyAllocator::new_in(&map, Order::MIN, backing)?)?,
        FrameWord::Classic => cut(base, ClassicBuddyAllocator::new_in(&map, backing)?)?,
        FrameWord::Hybrid => cut(base, HybridAllocator::new_in(&map, ThreadSlots, backing)?)?,
    })
}

/// The first node's or the zone DMA's part of a region, in whole alignments where the region has some.
fn part(span: Frames, divisor: usize) -> usize {
    let count = span.count / divisor;
    let whole = (ALIGNMENT / FRAME) as usize;
    if span.count < whole { count } else { count / whole * whole }
}

/// From each node to each.
const DISTANCES: [u8; 4] = [10, 20, 20, 10];

type Nodes<A> = NumaAllocator<'static, HybridAllocator<'static, ThreadSlots, A>, ThreadSlots>;

/// Two nodes, never given back either.
fn numa<A: Allocator + Sync>(span: Frames, backing: &'static A) -> Result<Nodes<A>, FrameError> {
    let first = part(span, 2);
    let halves = [Frames::new(span.start.0, first), Frames::new(span.start.0 + first, span.count - first)];
    let mut nodes = Vec::new();
    for half in halves {
        if half.count == 0 {
            nodes.push(NumaNode::without_memory());
            continue;
        }
        let map = MemoryMap::of(half).map_err(|_| FrameError::InvalidSize)?;
        let frames = HybridAllocator::new_in(&map, ThreadSlots, backing)?;
        nodes.push(NumaNode::new(&map, frames).map_err(|_| FrameError::InvalidSize)?);
    }
    let distances = Distances::new(2, &DISTANCES).map_err(|_| FrameError::InvalidSize)?;
    let counts = words(backing, NumaAllocator::metadata_bytes(2, ThreadSlots.count()))?;
    let numa = NumaAllocator::with_slots(nodes.leak(), distances, ThreadSlots, counts);
    // Threads have their numbers to the end, so this is as good as a node that they stay on.
    Ok(numa.map_err(|_| FrameError::InvalidSize)?.with_current(|| ThreadSlots.enter() % 2))
}

type View<A> = NumaView<'static, 'static, HybridAllocator<'static, ThreadSlots, A>, ThreadSlots>;

/// The nodes in turn, which all threads take together.
fn in_turn<A: Allocator + Sync>(numa: Nodes<A>, spread: Spread) -> Result<View<A>, FrameError> {
    let policy = match spread {
        Spread::Local => NumaPolicy::Local,
        Spread::Interleave => NumaPolicy::Interleave(NodeSet::first(2)),
        Spread::Weighted(weights) => NumaPolicy::WeightedInterleave(NodeWeights::new(&weights)),
    };
    // A region so small that its first node has no memory is all the second's: that is named, too.
    Box::leak(Box::new(numa)).view(0, policy)
}

/// DMA and Normal.
fn zones<A: Allocator>(
    map: &MemoryMap,
    backing: &'static A,
) -> Result<ZonedAllocator<'static, ThreadSlots>, FrameError> {
    let dma_end = Frame(map.span().start.0 + part(map.span(), 16));
    let config = ZoneConfig { dma_end, ..ZoneConfig::default() };
    let bytes = ZonedAllocator::metadata_bytes(map, &config, ThreadSlots.count());
    let storage = words(backing, bytes.map_err(|_| FrameError::InvalidSize)?)?;
    ZonedAllocator::with_slots(map, &config, ThreadSlots, (), storage).map_err(|_| FrameError::InvalidSize)
}

/// Storage for so many bytes of notes, counted as the rest.
fn words(backing: impl Allocator, bytes: usize) -> Result<&'static mut [u64], FrameError> {
    let words = bytes.div_ceil(8).max(1);
    let len = NonZeroUsize::new(words * 8).ok_or(FrameError::InvalidSize)?;
    let start = backing.alloc_zeroed(len, Alignment::of::<u64>()).map_err(|_| FrameError::OutOfMemory)?;
    // SAFETY: a block of so many zeroed words, which nobody else knows and nobody gives back.
    Ok(unsafe { std::slice::from_raw_parts_mut(start.cast().as_ptr(), words) })
}

/// `frames` as the bytes of a block that is never given back: the process ends with the replay of its one stack.
fn cut<F>(base: std::ptr::NonNull<u8>, frames: F) -> Result<Shared, FrameError>
where
    F: FrameAllocator + Send + Sync + 'static,
{
    // SAFETY: `over` has just been given a block from `base` on with a page for each frame of the span, which nobody
    // else knows and nobody gives back.
    Ok(Box::new(unsafe { Region::new(base, frames) }?))
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use super::*;
    use crate::stack::frames::FRAME_WORDS;

    #[test]
    fn every_allocator_of_frames_hands_out_the_whole_region_as_bytes() {
        let frame = NonZeroUsize::new(FRAME as usize).expect("not zero");
        for (name, word, _) in FRAME_WORDS {
            let region = region(2 << 20, RegionWord::Frames(word), None);
            let mut blocks = Vec::new();
            while let Ok(block) = region.alloc(frame, Alignment::ONE) {
                assert!(region.owns(block), "{name}");
                // SAFETY: a live block of so many bytes.
                unsafe { block.write_bytes(0xA5, frame.get()) };
                blocks.push(block);
            }
            assert_eq!(blocks.len(), 512, "{name}");
            for block in blocks {
                // SAFETY: it is live, of this length and alignment.
                unsafe { region.free(NonNull::slice_from_raw_parts(block, frame.get()), Alignment::ONE) };
            }
            let all = NonZeroUsize::new(2 << 20).expect("not zero");
            assert!(region.alloc(all, Alignment::ONE).is_ok(), "{name}: one block again");
        }
    }

    /// Single frames of a region until there is none, and all back.
    fn drained(bytes: u64, word: RegionWord) -> usize {
        let frame = NonZeroUsize::new(FRAME as usize).expect("not zero");
        let region = region(bytes, word, None);
        let blocks: Vec<_> = std::iter::from_fn(|| region.alloc(frame, Alignment::ONE).ok()).collect();
        for &block in &blocks {
            assert!(region.owns(block), "{word}");
            // SAFETY: a live block of so many bytes.
            unsafe { block.write_bytes(0xA5, frame.get()) };
        }
        for &block in &blocks {
            // SAFETY: it is live, of this length and alignment.
            unsafe { region.free(NonNull::slice_from_raw_parts(block, frame.get()), Alignment::ONE) };
        }
        blocks.len()
    }

    #[test]
    fn two_nodes_hand_out_the_whole_region_and_zones_all_but_what_they_keep() {
        for frames in [1, 2, 3, 7, 63, 512, 1023, 1024, 1025, 2048, 5000, 20_000] {
            let bytes = frames as u64 * FRAME;
            for spread in [Spread::Local, Spread::Interleave, Spread::Weighted([3, 255])] {
                assert_eq!(drained(bytes, RegionWord::Numa(spread)), frames, "numa of {frames}, {spread:?}");
            }
            let zones = drained(bytes, RegionWord::Zones);
            assert!(zones <= frames && zones >= frames * 3 / 4, "zones of {frames}: {zones}");
        }
    }

    #[test]
    fn a_block_of_a_part_lies_in_one() {
        for word in [RegionWord::Numa(Spread::Local), RegionWord::Numa(Spread::Interleave), RegionWord::Zones] {
            let region = region(16 << 20, word, None);
            let alignment = Alignment::new(4 << 20).expect("a power of two");
            let block = region.alloc(NonZeroUsize::new(4 << 20).expect("not zero"), alignment).expect("there is room");
            assert!(block.addr().get().is_multiple_of(4 << 20));
            assert!(region.alloc(NonZeroUsize::new(16 << 20).expect("not zero"), Alignment::ONE).is_err(), "{word}");
        }
    }

    #[test]
    fn threads_stand_on_both_nodes() {
        let page = NonZeroUsize::new(FRAME as usize).expect("not zero");
        let region = region(8 << 20, RegionWord::Numa(Spread::Local), None);
        let (go, told) = (std::sync::Barrier::new(2), std::sync::Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    ThreadSlots.claim();
                    let block = region.alloc(page, Alignment::ONE).expect("there is room");
                    told.lock().expect("no panic").push((ThreadSlots.enter() % 2, block.addr().get()));
                    go.wait(); // Both live at once, so that they have two numbers.
                });
            }
        });
        let told = told.into_inner().expect("no panic");
        let same_node = told[0].0 == told[1].0;
        assert_eq!(same_node, told[0].1.abs_diff(told[1].1) < 4 << 20, "{told:?}");
    }

    /// By their order: two nodes of 4 MiB lie side by side.
    #[test]
    fn blocks_of_one_thread_come_from_both_nodes_as_the_word_says() {
        for (spread, turns) in [
            (Spread::Interleave, [0, 1, 0, 1, 0, 1, 0, 1]),
            (Spread::Weighted([3, 1]), [0, 0, 0, 1, 0, 0, 0, 1]),
            (Spread::Weighted([1, 2]), [0, 1, 1, 0, 1, 1, 0, 1]),
        ] {
            let region = region(8 << 20, RegionWord::Numa(spread), None);
            let frame = NonZeroUsize::new(FRAME as usize).expect("not zero");
            let blocks = turns.map(|_| region.alloc(frame, Alignment::ONE).expect("there is room").addr().get());
            let first = blocks.iter().min().expect("some") / (4 << 20);
            assert_eq!(blocks.map(|block| block / (4 << 20) - first), turns, "{spread:?}");
        }
    }

    #[test]
    fn what_a_region_takes_is_counted() {
        let mut ground = None;
        let region = region(8 << 20, RegionWord::Frames(FrameWord::Hybrid), Some(&mut ground));
        let counts = ground.expect("it is counted").stats();
        assert_eq!(counts.total_allocations, 2, "the frames and the metadata");
        assert!((8 << 20..9 << 20).contains(&counts.current_bytes), "{}", counts.current_bytes);
        drop(region);
    }

    #[test]
    fn blocks_are_aligned_as_asked() {
        let region = region(16 << 20, RegionWord::Frames(FrameWord::Buddy), None);
        let alignment = Alignment::new(4 << 20).expect("a power of two");
        let block = region.alloc(NonZeroUsize::new(4 << 20).expect("not zero"), alignment).expect("there is room");
        assert!(block.addr().get().is_multiple_of(4 << 20));
    }
}
