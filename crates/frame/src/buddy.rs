//! [`BuddyAllocator`]: powers of two, from a leaf of one frame or more up to 4 GiB, without lists and without a lock.
//!
//! ```text
//!  leaf 0   a word has 64 frames       orders 0–6 in one step, order 20 in 16 384 words
//!  leaf 9   a word has 64 × 2 MiB      orders 9–15 in one step, order 20 in 32 words; smaller requests get 2 MiB
//!
//!  a request of 600 frames, leaf 0:    [ order 10 ................................ ]
//!                                      [ 600, handed out ............ ][ tail, back ]
//! ```
//!
//! The largest blocks are spared: a request is served by the first word of the lowest class that has a run of its
//! order. `free` sets bits; there is nothing to merge.
//!
//! - **I1** A unit of `1 << leaf` frames is free exactly while its bit is one (T1 of the tree). Units that do not lie
//!   wholly in one range of the map never have a one.
//! - **I2** A run is handed out in whole units, and so it comes back: the count is rounded up the same way both times.
//!
//! | | metadata words, at most, without contention |
//! |---|---|
//! | alloc, up to 6 orders above the leaf | 60, of which 3 for each class looked at; a stale hint met is a word's visit more, once |
//! | alloc, 6 + n orders above the leaf | 60 + 3 × 2^n, and words looked at in vain |
//! | free | 8 for each word of units that it touches |
//! | metadata | a bit a unit, and 16 bits for 64 units |
//!
//! Lock-free: a thread that stops anywhere stops nobody. [`ClassicBuddyAllocator`](crate::ClassicBuddyAllocator) does
//! the same by lists.

use core::fmt;

use terrace_core::Allocator;

use crate::{
    allocator::{FrameAllocator, Request},
    batch::{self, Units},
    index::Index,
    map::MemoryMap,
    plan,
    storage::Storage,
    tree::Tree,
    types::{Frame, FrameError, Frames, Misuse, Order},
    word::{WORD, WORD_ORDER},
};

/// Hands out powers of two of frames, and other counts with the tail given back.
///
/// ```
/// use terrace_frame::{BuddyAllocator, FrameAllocator, Frames, MemoryMap, Order, PageSize};
///
/// const FRAMES: usize = 64 << 8; // 64 MiB
/// const LARGE: Order = PageSize::Large.order();
/// let map = MemoryMap::of(Frames::new(0, FRAMES)).unwrap();
/// let mut storage = [0; BuddyAllocator::metadata_bytes(FRAMES, LARGE) / 8];
/// let buddy = BuddyAllocator::with_leaf(&map, LARGE, &mut storage)?;
///
/// let page = buddy.alloc_order(LARGE)?;
/// assert_eq!(page.0 % 512, 0);
/// buddy.free_order(page, LARGE).unwrap();
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
pub struct BuddyAllocator<'m, B = ()> {
    map: MemoryMap,
    leaf: Order,
    base: usize,
    tree: Tree<'m>,
    storage: Storage<'m, B>,
}

impl BuddyAllocator<'_> {
    /// Bytes of storage that are enough for a map whose span is so many frames, holes included.
    #[must_use]
    pub const fn metadata_bytes(frames: usize, leaf: Order) -> usize {
        plan::buddy_bytes(frames, leaf)
    }
}

impl<'m> BuddyAllocator<'m> {
    /// Over the frames of `map`, down to single ones, with its notes in `storage`, whose contents do not matter.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`]: the storage is smaller than [`metadata_bytes`](BuddyAllocator::metadata_bytes) of
    /// the map's span.
    pub fn new(map: &MemoryMap, storage: &'m mut [u64]) -> Result<Self, FrameError> {
        Self::with_leaf(map, Order::MIN, storage)
    }

    /// The same with a larger leaf: less metadata and fewer words for large runs, and no run smaller than the leaf.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_leaf(map: &MemoryMap, leaf: Order, storage: &'m mut [u64]) -> Result<Self, FrameError> {
        let words = plan::tree_words(plan::tree_span(map.span(), leaf).1, 1);
        Ok(Self::over(map, leaf, Storage::of_slice(storage, words)?))
    }
}

impl<'m, B> BuddyAllocator<'m, B> {
    /// The same with its notes in a block of `backing`, which goes back when the allocator is dropped.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`]: the backing has no such block.
    pub fn new_in(map: &MemoryMap, leaf: Order, backing: &'m B) -> Result<Self, FrameError>
    where
        B: Allocator,
    {
        let words = plan::tree_words(plan::tree_span(map.span(), leaf).1, 1);
        Ok(Self::over(map, leaf, Storage::of_backing(backing, words)?))
    }

    fn over(map: &MemoryMap, leaf: Order, storage: Storage<'m, B>) -> Self {
        let (first, words) = plan::tree_span(map.span(), leaf);
        let (bits, index) = storage.words().split_at(words.next_multiple_of(plan::LINE));
        let tree = Tree::new(&bits[..words], first, Index::new(index, words));
        let buddy = Self { map: map.clone(), leaf, base: first * WORD * leaf.frames(), tree, storage };
        for range in map.ranges() {
            let (from, to) = buddy.units_inside(*range);
            if from < to {
                buddy.tree.put(from, to - from);
            }
        }
        buddy
    }

    fn units(&self) -> Units {
        Units { base: self.base, leaf: self.leaf.log2() }
    }

    /// The units that lie wholly in `frames`, which lies in the span: the first, and the one behind the last.
    fn units_inside(&self, frames: Frames) -> (usize, usize) {
        let unit = self.leaf.frames();
        let start = frames.start.0.next_multiple_of(unit);
        let (from, to) = (start.saturating_sub(self.base) / unit, frames.end().saturating_sub(self.base) / unit);
        (from, to.max(from))
    }
}

// SAFETY: by I1 and T1 a unit is handed out by the step that makes its bit zero, to one; it lies in the map (I1);
// `take` returns aligned runs inside the limits, of which the tail that was not asked for goes back.
unsafe impl<B> FrameAllocator for BuddyAllocator<'_, B> {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        let alignment = request.checked()?;
        let units = request.count.div_ceil(self.leaf.frames());
        let order = units.next_power_of_two().trailing_zeros().max(alignment.saturating_sub(self.leaf.log2()));
        let (from, to) = self.units_inside(request.within.shared_with(self.map.span()));
        let near = request.near.filter(|_| order <= WORD_ORDER).and_then(|frame| {
            let unit = frame.0.checked_sub(self.base)? / self.leaf.frames();
            self.tree.take_in(unit / WORD, order, from.max(unit), to)
        });
        let again = || {
            self.tree.index.mend();
            self.tree.take(order, from, to, false)
        };
        let unit = near.or_else(|| self.tree.take(order, from, to, false)).or_else(again);
        let unit = unit.ok_or(FrameError::OutOfMemory)?;
        let tail = (1 << order) - units;
        if tail > 0 {
            self.tree.put(unit + units, tail);
        }
        Ok(Frames::new(self.base + unit * self.leaf.frames(), request.count))
    }

    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        let unit = self.leaf.frames();
        if !frames.start.0.is_multiple_of(unit) {
            return Err(if self.map.contains(frames) { Misuse::NotARun } else { Misuse::Outside });
        }
        let whole = frames.count.checked_next_multiple_of(unit).ok_or(Misuse::Outside)?;
        if !self.map.contains(Frames { count: whole, ..frames }) {
            return Err(Misuse::Outside);
        }
        let (start, count) = ((frames.start.0 - self.base) / unit, whole / unit);
        if self.tree.has_any(start, count) {
            return Err(Misuse::AlreadyFree);
        }
        self.tree.put(start, count);
        Ok(())
    }

    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        let (units, log2) = (self.units(), order.log2().saturating_sub(self.leaf.log2()));
        batch::fill(
            into,
            || self.alloc_order(order).ok(),
            |run, into| {
                if log2 >= WORD_ORDER {
                    return 0;
                }
                let word = (run.0 - self.base) / self.leaf.frames() / WORD;
                let runs = self.tree.take_runs(word, log2, into.len());
                units.spread(word, runs, order, into)
            },
        )
    }

    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        let one = |run| self.free_order(run, order);
        if order.log2() >= self.leaf.log2() + WORD_ORDER {
            return runs.iter().enumerate().try_for_each(|(at, &run)| one(run).map_err(|misuse| (at, misuse)));
        }
        let soon = |word| self.tree.prefetch(word);
        self.units().free(runs, order, &self.map, soon, |word, mask| self.tree.put_bits(word, mask), one)
    }

    fn span(&self) -> Frames {
        self.map.span()
    }

    /// Frames in units that lie wholly in the map.
    fn total_frames(&self) -> usize {
        let units = self.map.ranges().iter().map(|range| self.units_inside(*range));
        units.map(|(from, to)| (to - from) * self.leaf.frames()).sum()
    }

    fn free_frames(&self) -> usize {
        self.tree.count() * self.leaf.frames()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.map.contains(Frames { start: frame, count: 1 })
            && self.tree.has((frame.0 - self.base) / self.leaf.frames())
    }

    /// Whether they lie in units that lie wholly in the map.
    fn manages(&self, frames: Frames) -> bool {
        let unit = self.leaf.frames();
        let start = frames.start.0 / unit * unit;
        let end = frames.end().checked_next_multiple_of(unit);
        frames.count > 0 && end.is_some_and(|end| self.map.contains(Frames::new(start, end.saturating_sub(start))))
    }
}

impl<B> fmt::Debug for BuddyAllocator<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuddyAllocator")
            .field("span", &self.map.span())
            .field("leaf", &self.leaf)
            .field("free", &self.free_frames())
            .field("storage", &self.storage)
            .finish()
    }
}
