//! [`Base`]: all nodes of a region, and what they refer to.
//!
//! ```text
//!  machine()  ──▶ nodes and their bytes ──areas──▶ where notes and frames lie ──▶ Ground
//!                                                         └──filled──▶ an allocator for each node ──▶ NumaAllocator
//! ```
//!
//! The invariants are G1 and G3 at the top of `numa_region.rs`.
//!
//! Cost: once for a region; a byte for each 4 KiB of addresses, touched as far as they are used.

use core::{mem::ManuallyDrop, num::NonZeroUsize, ptr::NonNull, sync::atomic::AtomicU8};
use std::{
    alloc::{Layout, alloc_zeroed},
    boxed::Box,
    sync::Arc,
    vec,
    vec::Vec,
};

use terrace_core::{Alignment, AllocError, Allocator};
use terrace_frame::{
    Frames, HybridAllocator, MemoryMap,
    numa::{Distances, MAX_NODES, NumaAllocator, NumaNode},
};
use terrace_sync::Slots as _;
use terrace_sys::{
    PageAllocator, ThreadSlots, Unavailable,
    numa::{self, MemoryPolicy, NumaUnavailable, Topology},
    page_size,
};

use super::{FRAME, Nodes, STEP, filled::Filled, ground::Ground};

/// All nodes, and what they refer to.
pub(super) struct Base {
    pub(super) numa: ManuallyDrop<Box<Nodes>>,
    /// Leaked parts of `numa`, which the drop takes back.
    nodes: *mut [NumaNode<Filled>],
    distances: *mut [u8],
    counts: *mut [u64],
    pub(super) ground: Arc<Ground>,
    pub(super) owners: Box<[AtomicU8]>,
    /// The kernel's numbers.
    pub(super) numbers: Vec<usize>,
    pub(super) unplaced: Option<NumaUnavailable>,
}

// SAFETY: the pointers are of boxes that this value owns (G3), whose contents may be shared.
unsafe impl Send for Base {}
// SAFETY: as above; through a shared reference they are only read.
unsafe impl Sync for Base {}

impl Base {
    /// Of nodes with `most` bytes at most; with `huge`, with so many exactly, in huge pages of that size.
    pub(super) fn new(
        (topology, unplaced): (Topology, Option<NumaUnavailable>),
        most: usize,
        huge: Option<Alignment>,
    ) -> Result<Self, Unavailable> {
        let bytes = topology.nodes().iter().map(|node| match usize::try_from(node.bytes).unwrap_or(usize::MAX) {
            bytes if huge.is_none() || bytes == 0 => bytes.min(most),
            _ => most,
        });
        let unit = huge.map_or(STEP, |size| size.bytes().max(STEP));
        let areas = areas(bytes, unit, huge.is_some()).ok_or(Unavailable::Memory)?;
        let numbers: Vec<usize> = topology.nodes().iter().map(|node| node.number).collect();
        let placed = |&number: &usize| unplaced.is_none().then_some(number);
        let ground = match huge {
            None => Ground::in_steps(&areas)?,
            Some(size) => Ground::of_huge_pages(&areas, numbers.iter().map(placed), size)?,
        };
        let ground = Arc::new(ground);
        let owners = zeroes(ground.capacity() / FRAME).ok_or(Unavailable::Memory)?;
        let nodes = areas.iter().zip(&numbers).map(|(&area, number)| filled(&ground, area, placed(number)));
        let nodes = nodes.collect::<Option<Box<[_]>>>().ok_or(Unavailable::Memory)?;
        let nodes = Box::into_raw(nodes);
        let distances = Box::into_raw(Box::from(topology.distances()));
        let words = NumaAllocator::metadata_bytes(numbers.len(), ThreadSlots.count()).div_ceil(8);
        let counts = Box::into_raw(vec![0u64; words].into_boxed_slice());
        // SAFETY: just made, and by G3 given back after the allocator is gone.
        let (all, rows) = (unsafe { &*nodes }, unsafe { &*distances });
        // SAFETY: as above; nobody else reaches it.
        let words = unsafe { &mut *counts };
        let numa = Distances::new(numbers.len(), rows)
            .and_then(|distances| NumaAllocator::with_slots(all, distances, ThreadSlots, words));
        // What is refused here, a torn matrix, has leaked a few words: it happens once.
        let numa = ManuallyDrop::new(Box::new(numa.map_err(|_| Unavailable::Memory)?));
        Ok(Self { numa, nodes, distances, counts, ground, owners, numbers, unplaced })
    }

    /// The place of the node with the kernel's number; the first, where it is not there.
    #[inline]
    pub(super) fn index_of(&self, number: usize) -> usize {
        // Mostly there are no gaps.
        match self.numbers.get(number) {
            Some(&same) if same == number => number,
            _ => self.numbers.iter().position(|&known| known == number).unwrap_or(0),
        }
    }

    /// Where a frame lies, in bytes from the first frame's ground.
    pub(super) fn offset(&self, frame: usize) -> Option<usize> {
        frame.checked_mul(FRAME)?.checked_sub(self.ground.start().addr().get())
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // SAFETY: once, and it is not used again.
        unsafe { ManuallyDrop::drop(&mut self.numa) };
        // SAFETY: by G3 from `into_raw`, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.nodes) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.distances) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.counts) });
    }
}

/// Where a node's area lies, in bytes from the start of the notes' ground and of the frames'. Empty without memory.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) notes: usize,
    pub(super) notes_end: usize,
    pub(super) frames: usize,
    pub(super) end: usize,
}

/// The areas side by side, of nodes with so many bytes, in whole units: notes and frames by turns, or each on a ground of their own.
fn areas(bytes: impl Iterator<Item = usize>, unit: usize, apart: bool) -> Option<Vec<Area>> {
    let (mut at, mut notes_at) = (0usize, 0usize);
    let place = |bytes: usize| {
        let count = bytes.checked_next_multiple_of(unit)? / FRAME;
        let notes = match count {
            0 => 0,
            count => HybridAllocator::metadata_bytes(count, ThreadSlots.count()).checked_next_multiple_of(STEP)?,
        };
        let start = if apart { notes_at } else { at };
        notes_at = start.checked_add(notes)?;
        let frames = if apart { at } else { notes_at };
        at = frames.checked_add(count.checked_mul(FRAME)?)?;
        Some(Area { notes: start, notes_end: notes_at, frames, end: at })
    };
    bytes.map(place).collect()
}

/// A node's allocator, with its notes in the node.
fn filled(ground: &Arc<Ground>, area: Area, node: Option<usize>) -> Option<NumaNode<Filled>> {
    if area.frames == area.end {
        return Some(NumaNode::without_memory());
    }
    let len = area.notes_end - area.notes;
    // A full node has notes elsewhere: they are few, and frames may come free.
    let notes = ground.fill(area.notes, len, node).or_else(|_| ground.fill(area.notes, len, None)).ok()?;
    // SAFETY: by G1 committed zeroes of this node alone, in whole words at a multiple of a page, until the ground goes; by G3 the
    // allocator goes before.
    let notes: &'static mut [u64] = unsafe { core::slice::from_raw_parts_mut(notes.cast().as_ptr(), len / 8) };
    let first = (ground.start().addr().get() + area.frames) / FRAME;
    let span = Frames::new(first, (area.end - area.frames) / FRAME);
    let map = MemoryMap::of(span).ok()?;
    let frames = HybridAllocator::with_slots(&map, ThreadSlots, notes).ok()?;
    NumaNode::new(&map, Filled::new(frames, Arc::clone(ground), node, area.frames, span)).ok()
}

/// So many bytes, of which none is touched before it is used. `None`: there is no memory for them, where a `Box` would end the program.
fn zeroes(count: usize) -> Option<Box<[AtomicU8]>> {
    let layout = Layout::array::<AtomicU8>(count).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: of more than no bytes.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    let all = NonNull::slice_from_raw_parts(start.cast(), count);
    // SAFETY: of the global allocator, by the layout of such a slice; a zero is an `AtomicU8`.
    Some(unsafe { Box::from_raw(all.as_ptr()) })
}

/// The machine's nodes, or one, and why there is no more.
pub(super) fn machine() -> (Topology, Option<NumaUnavailable>) {
    let placed = Topology::read().and_then(|topology| lets_pages_be_placed(&topology).map(|()| topology));
    match placed {
        Ok(topology) if topology.nodes().len() <= MAX_NODES => (topology, None),
        Ok(_) => (Topology::one_node(), Some(NumaUnavailable::Node)),
        Err(why) => (Topology::one_node(), Some(why)),
    }
}

/// Tries what a step needs on a page.
fn lets_pages_be_placed(topology: &Topology) -> Result<(), NumaUnavailable> {
    let len = NonZeroUsize::new(page_size()).ok_or(NumaUnavailable::Memory)?;
    let start = PageAllocator.alloc(len, Alignment::ONE).map_err(|AllocError| NumaUnavailable::Memory)?;
    let page = NonNull::slice_from_raw_parts(start, len.get());
    let with_memory = topology.nodes().iter().find(|node| node.bytes > 0).ok_or(NumaUnavailable::Node);
    let tried = with_memory.and_then(|node| {
        numa::bind(page, &MemoryPolicy::Preferred(node.number))?;
        numa::places(page, |_| {})
    });
    // SAFETY: live, and not used again.
    unsafe { PageAllocator.free(page, Alignment::ONE) };
    tried
}
