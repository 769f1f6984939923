//! [`ClassicBuddyAllocator`]: the buddy system as the books have it, to be read beside the fast one.
//!
//! ```text
//!  lists       order 0 ─▶ 5 ⇄ 12        alloc order 1, and there is none: take 16 of order 2, split it,
//!              order 1 ─▶               hand out 16–17, put 18–19 on the list of order 1
//!              order 2 ─▶ 16 ⇄ 4
//!                                       free 18–19: is 16–17, its buddy, on the list of order 1? then both are
//!  notes       a word a frame:          one block of order 2, and so on up
//!              [ state │ next │ previous ]
//! ```
//!
//! Each order has a list and a lock; no call holds two locks at once. A block that is being split or merged stands in
//! no list and belongs to the caller who took it out, so others see it as handed out until it is done.
//!
//! - **C1** A block is in the list of its order exactly if the note of its first frame says `FREE + order`; both change
//!   under that order's lock, as do the links of that list's blocks.
//! - **C2** The note of the first frame of a block that was handed out says `TAKEN + order`; the other frames' notes
//!   say neither.
//! - **C3** Blocks begin at multiples of their size, lie in one range of the map, and do not overlap.
//!
//! A run that is no power of two is a row of blocks, the largest that fit one after another. Boundaries are known: what
//! is freed must be whole runs as they were handed out, or [`Misuse::NotARun`] answers.
//!
//! | | at most |
//! |---|---|
//! | alloc | 21 locks to find, 20 to put the halves of a split on their lists; limits and alignment beyond the order walk a list |
//! | free of a power of two | 21 locks, 6 words each |
//! | metadata | 8 bytes a frame, 0.2 % |
//!
//! Not lock-free: whoever is stopped inside a lock stops the others, and that is what the fast one is for.

use core::{fmt, hint};

use terrace_core::Allocator;
use terrace_sync::Lock;

use crate::{
    allocator::{FrameAllocator, Request},
    atomic::{AtomicU64, Ordering},
    map::MemoryMap,
    storage::Storage,
    types::{Frame, FrameError, Frames, Misuse, Order},
};

const ORDERS: u32 = Order::MAX.log2() + 1;
/// What notes say in their upper byte, plus an order.
const FREE: u64 = 1;
const TAKEN: u64 = 32;
/// Links are 28 bits: a terabyte's frames. The highest means none.
const LINK: u32 = 28;
const NONE: usize = (1 << LINK) - 1;

/// A note, taken apart.
#[derive(Clone, Copy)]
struct Note {
    state: u64,
    next: usize,
    previous: usize,
}

/// Hands out powers of two of frames by lists, and other counts as rows of them.
///
/// ```
/// use terrace_frame::{ClassicBuddyAllocator, FrameAllocator, Frames, MemoryMap, Misuse, Order};
///
/// let map = MemoryMap::of(Frames::new(0, 1024)).unwrap();
/// let mut storage = [0; ClassicBuddyAllocator::metadata_bytes(1024) / 8];
/// let buddy = ClassicBuddyAllocator::new(&map, &mut storage)?;
///
/// let order = Order::new(3).unwrap();
/// let run = buddy.alloc_order(order)?;
/// assert_eq!(buddy.free_order(run, Order::MIN), Err(Misuse::NotARun));
/// assert_eq!(buddy.free_order(run, order), Ok(()));
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
pub struct ClassicBuddyAllocator<'m, B = ()> {
    map: MemoryMap,
    base: usize,
    notes: &'m [AtomicU64],
    /// The first block of each list, counted from `base`.
    lists: [Lock<usize>; ORDERS as usize],
    storage: Storage<'m, B>,
}

impl ClassicBuddyAllocator<'_> {
    /// Bytes of storage that are enough for a map whose span is so many frames, holes included.
    #[must_use]
    pub const fn metadata_bytes(frames: usize) -> usize {
        frames.div_ceil(8).saturating_mul(64).saturating_add(64)
    }
}

impl<'m> ClassicBuddyAllocator<'m> {
    /// Over the frames of `map`, with its notes in `storage`, whose contents do not matter.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`]: the storage is smaller than
    /// [`metadata_bytes`](ClassicBuddyAllocator::metadata_bytes) of the map's span, or the span is 2²⁸ frames or more.
    pub fn new(map: &MemoryMap, storage: &'m mut [u64]) -> Result<Self, FrameError> {
        Self::over(map, Storage::of_slice(storage, map.span().count)?)
    }
}

impl<'m, B> ClassicBuddyAllocator<'m, B> {
    /// The same with its notes in a block of `backing`, which goes back when the allocator is dropped.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`]: the backing has no such block; [`FrameError::InvalidSize`] as for
    /// [`new`](ClassicBuddyAllocator::new).
    pub fn new_in(map: &MemoryMap, backing: &'m B) -> Result<Self, FrameError>
    where
        B: Allocator,
    {
        Self::over(map, Storage::of_backing(backing, map.span().count)?)
    }

    fn over(map: &MemoryMap, storage: Storage<'m, B>) -> Result<Self, FrameError> {
        let Frames { start, count } = map.span();
        if count >= NONE {
            return Err(FrameError::InvalidSize);
        }
        let lists = terrace_sync::repeat!(Lock::new(NONE); ORDERS as usize);
        let buddy = Self { map: map.clone(), base: start.0, notes: storage.words(), lists, storage };
        // From the top, so that what is lowest is handed out first.
        for range in map.ranges().iter().rev() {
            row(*range).for_each(|(block, order)| buddy.merge(block, order));
        }
        Ok(buddy)
    }

    fn lock(&self, order: u32) -> terrace_sync::Held<'_, usize> {
        self.lists[order as usize].lock(|_| hint::spin_loop())
    }

    /// Relaxed is enough: notes are read and written under the lock that C1 names; what a caller reads without it is
    /// its own.
    fn note(&self, frame: usize) -> Note {
        crate::hook::touched();
        let word = self.notes[frame - self.base].load(Ordering::Relaxed);
        let link = |shift: u32| (word >> shift) as usize & NONE;
        Note { state: word >> (2 * LINK), next: link(LINK), previous: link(0) }
    }

    fn write(&self, frame: usize, note: Note) {
        crate::hook::touched();
        let word = note.state << (2 * LINK) | (note.next as u64) << LINK | note.previous as u64;
        self.notes[frame - self.base].store(word, Ordering::Relaxed);
    }

    fn state(&self, frame: usize) -> u64 {
        self.note(frame).state
    }

    fn mark_taken(&self, block: usize, order: u32) {
        self.write(block, Note { state: TAKEN + u64::from(order), next: NONE, previous: NONE });
    }

    /// Puts a block first on the list whose head is `head`, under its lock.
    fn push(&self, head: &mut usize, block: usize, order: u32) {
        let first = *head;
        self.write(block, Note { state: FREE + u64::from(order), next: first, previous: NONE });
        if first != NONE {
            let note = self.note(first + self.base);
            self.write(first + self.base, Note { previous: block - self.base, ..note });
        }
        *head = block - self.base;
    }

    /// Takes a block, which is on the list whose head is `head`, off it, under its lock.
    fn unlink(&self, head: &mut usize, block: usize) {
        let Note { next, previous, .. } = self.note(block);
        match previous {
            NONE => *head = next,
            _ => {
                let note = self.note(previous + self.base);
                self.write(previous + self.base, Note { next, ..note });
            }
        }
        if next != NONE {
            let note = self.note(next + self.base);
            self.write(next + self.base, Note { previous, ..note });
        }
        self.write(block, Note { state: 0, next: NONE, previous: NONE });
    }

    /// A block that the caller has becomes free: with its buddy, if that is free, and with the buddy of both, and so on
    /// up.
    fn merge(&self, block: usize, order: u32) {
        let (mut block, mut order) = (block, order);
        // The caller's block is in no list; its note must not say that it was handed out once it is part of another.
        self.write(block, Note { state: 0, next: NONE, previous: NONE });
        loop {
            let mut head = self.lock(order);
            let buddy = block ^ (1 << order);
            let pair = Frames::new(block & !(1 << order), 2 << order);
            if order == Order::MAX.log2() || !self.map.contains(pair) || self.state(buddy) != FREE + u64::from(order) {
                self.push(&mut head, block, order);
                return;
            }
            self.unlink(&mut head, buddy);
            block = pair.start.0;
            order += 1;
        }
    }

    /// The first block of `order` or more that holds an aligned run inside `within`, taken off its list: the block, its
    /// order, the run.
    fn take(&self, order: u32, within: Frames) -> Option<(usize, u32, usize)> {
        for larger in order..ORDERS {
            let mut head = self.lock(larger);
            let mut at = *head;
            while at != NONE {
                let block = at + self.base;
                let inside = within.shared_with(Frames::new(block, 1 << larger));
                let run = inside.start.0.next_multiple_of(1 << order);
                if inside.contains(Frames::new(run, 1 << order)) {
                    self.unlink(&mut head, block);
                    return Some((block, larger, run));
                }
                at = self.note(block).next;
            }
        }
        None
    }

    /// Halves a block until what is left is the run of `order`; the other halves become free.
    fn split(&self, block: usize, from: u32, run: usize, order: u32) {
        let mut block = block;
        for half in (order..from).rev() {
            let upper = block + (1 << half);
            let spare = if run >= upper { block } else { upper };
            if run >= upper {
                block = upper;
            }
            let mut head = self.lock(half);
            self.push(&mut head, spare, half);
        }
    }

    /// How many blocks are free of an order.
    fn listed(&self, order: u32) -> usize {
        let head = self.lock(order);
        let next = |&at: &usize| Some(self.note(at + self.base).next).filter(|&next| next != NONE);
        core::iter::successors(Some(*head).filter(|&first| first != NONE), next).count()
    }

    /// Whether a frame lies in a block that is free. What is asked is not changing: frames that are handed out, or
    /// misuse.
    fn in_free_block(&self, frame: usize) -> bool {
        (0..ORDERS).any(|order| {
            let block = frame & !((1 << order) - 1);
            block >= self.base && self.state(block) == FREE + u64::from(order)
        })
    }
}

/// A run as a row of aligned blocks, the largest that fit one after another.
pub(crate) fn row(run: Frames) -> impl Iterator<Item = (usize, u32)> + Clone {
    let mut from = run.start.0;
    core::iter::from_fn(move || {
        let left = run.end() - from;
        (left > 0).then(|| {
            let fits = left.ilog2().min(Order::MAX.log2());
            let order = if from == 0 { fits } else { fits.min(from.trailing_zeros()) };
            from += 1 << order;
            (from - (1 << order), order)
        })
    })
}

// SAFETY: by C1 and C3 a block is taken off its list by one caller, under the list's lock; it lies in the map, and
// `take` and `split` leave the aligned run inside the limits, of which the tail that was not asked for goes back.
unsafe impl<B> FrameAllocator for ClassicBuddyAllocator<'_, B> {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        let alignment = request.checked()?;
        let order = request.count.next_power_of_two().trailing_zeros().max(alignment);
        let near = request.near.map(|frame| Frames::new(frame.0, usize::MAX).shared_with(request.within));
        let found = near.and_then(|behind| self.take(order, behind)).or_else(|| self.take(order, request.within));
        let (block, from, run) = found.ok_or(FrameError::OutOfMemory)?;
        self.split(block, from, run, order);
        let frames = Frames::new(run, request.count);
        row(frames).for_each(|(block, order)| self.mark_taken(block, order));
        let tail = Frames::new(frames.end(), (1 << order) - request.count);
        row(tail).for_each(|(block, order)| self.merge(block, order));
        Ok(frames)
    }

    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        if !self.map.contains(frames) {
            return Err(Misuse::Outside);
        }
        let blocks = row(frames);
        if let Some((block, _)) = blocks.clone().find(|&(at, order)| self.state(at) != TAKEN + u64::from(order)) {
            return Err(if self.in_free_block(block) { Misuse::AlreadyFree } else { Misuse::NotARun });
        }
        blocks.for_each(|(block, order)| self.merge(block, order));
        Ok(())
    }

    fn span(&self) -> Frames {
        self.map.span()
    }

    fn total_frames(&self) -> usize {
        self.map.count()
    }

    fn free_frames(&self) -> usize {
        (0..ORDERS).map(|order| self.listed(order) << order).sum()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.map.contains(Frames { start: frame, count: 1 }) && self.in_free_block(frame.0)
    }

    fn manages(&self, frames: Frames) -> bool {
        self.map.contains(frames)
    }

    fn keeps_boundaries(&self) -> bool {
        true
    }
}

impl<B> fmt::Debug for ClassicBuddyAllocator<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassicBuddyAllocator")
            .field("span", &self.map.span())
            .field("free", &self.free_frames())
            .field("storage", &self.storage)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_run_is_a_row_of_aligned_blocks() {
        for start in 0..70 {
            for count in 1..200 {
                let blocks: Vec<_> = row(Frames::new(start, count)).collect();
                assert!(blocks.iter().all(|&(at, order)| at % (1 << order) == 0));
                assert_eq!(blocks[0].0, start);
                assert!(blocks.windows(2).all(|two| two[0].0 + (1 << two[0].1) == two[1].0));
                assert_eq!(blocks.iter().map(|&(_, order)| 1usize << order).sum::<usize>(), count);
            }
        }
    }
}
