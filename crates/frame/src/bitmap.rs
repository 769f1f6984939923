//! [`BitmapAllocator`]: a bit for each frame, runs of any length, first fit.
//!
//! ```text
//!  map        │ usable ………………… hole ……… usable │
//!  blocks     │ 512 frames │ 512 frames │ … │       a cache line of bits each; 1 is free
//!  index      which block has an aligned run of which order
//! ```
//!
//! A request of up to 512 frames is served by the first block of the lowest class that surely has such a run; if there
//! is none, by blocks of lower classes, whose runs may still be long enough without being aligned; at last by a run
//! that crosses blocks, found word by word, as all runs above 512 frames are. Blocks with little room are so filled
//! before those with much, and the lower before the higher.
//!
//! - **I1** A frame is free exactly while its bit is one (B1 of the blocks); frames outside the map never have a one.
//!
//! | | metadata words, at most, without contention |
//! |---|---|
//! | alloc, up to 512 frames out of a block | 100, of which 3 for each class looked at; a stale hint met is a block's visit more, once |
//! | alloc across blocks | all words of the map |
//! | free of n frames | n / 32 + 24, and 24 for each block more that it touches |
//! | metadata | a bit a frame and 17 bits a block |
//!
//! Lock-free: a thread that stops anywhere stops nobody.

use core::fmt;

use terrace_core::Allocator;

use crate::{
    allocator::{FrameAllocator, Request},
    blocks::{Blocks, Want},
    index::Index,
    map::MemoryMap,
    plan::{self, Plan},
    storage::Storage,
    types::{Frame, FrameError, Frames, Misuse},
    word::{BLOCK, BLOCK_ORDER, WORD},
};

/// Hands out runs of frames of any length.
///
/// ```
/// use terrace_frame::{BitmapAllocator, FrameAllocator, Frames, MemoryMap, Request};
///
/// const FRAMES: usize = 16 << 8; // 16 MiB
/// let map = MemoryMap::of(Frames::new(0x100, FRAMES)).unwrap();
/// let mut storage = [0; BitmapAllocator::metadata_bytes(FRAMES) / 8];
/// let frames = BitmapAllocator::new(&map, &mut storage)?;
///
/// let run = frames.alloc(&Request::frames(300))?;
/// assert_eq!((run.count, frames.free_frames()), (300, FRAMES - 300));
/// frames.free(run).unwrap();
/// assert!(frames.free(run).is_err(), "it is free");
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
pub struct BitmapAllocator<'m, B = ()> {
    map: MemoryMap,
    base: usize,
    blocks: Blocks<'m>,
    storage: Storage<'m, B>,
}

impl BitmapAllocator<'_> {
    /// Bytes of storage that are enough for a map whose span is so many frames, holes included.
    #[must_use]
    pub const fn metadata_bytes(frames: usize) -> usize {
        plan::bitmap_bytes(frames)
    }
}

impl<'m> BitmapAllocator<'m> {
    /// Over the frames of `map`, with its notes in `storage`, whose contents do not matter.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`]: the storage is smaller than [`metadata_bytes`](BitmapAllocator::metadata_bytes) of
    /// the map's span.
    pub fn new(map: &MemoryMap, storage: &'m mut [u64]) -> Result<Self, FrameError> {
        Ok(Self::over(map, Storage::of_slice(storage, Plan::new(map.span()).bitmap_words())?))
    }
}

impl<'m, B> BitmapAllocator<'m, B> {
    /// The same with its notes in a block of `backing`, which goes back when the allocator is dropped.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`]: the backing has no such block.
    pub fn new_in(map: &MemoryMap, backing: &'m B) -> Result<Self, FrameError>
    where
        B: Allocator,
    {
        Ok(Self::over(map, Storage::of_backing(backing, Plan::new(map.span()).bitmap_words())?))
    }

    fn over(map: &MemoryMap, storage: Storage<'m, B>) -> Self {
        let plan = Plan::new(map.span());
        let (bits, index) = storage.words().split_at(plan.bits_words());
        let blocks = Blocks::new(bits, plan.skip, Index::new(index, plan.groups * WORD));
        for range in map.ranges() {
            for (frame, count) in plan::split(range.start.0 - plan.base, range.count, BLOCK) {
                blocks.put(frame, count);
                blocks.register(frame / BLOCK);
            }
        }
        Self { map: map.clone(), base: plan.base, blocks, storage }
    }

    /// A run of up to 512 frames out of one block.
    fn in_a_block(&self, want: &Want, near: Option<Frame>) -> Option<usize> {
        let near = near.map(|frame| frame.0.wrapping_sub(self.base)).filter(|at| (want.from..want.to).contains(at));
        if let Some(at) = near {
            let behind = Want { from: at, ..*want };
            let found = self.blocks.take(at / BLOCK, &behind).or_else(|| self.blocks.take(at / BLOCK, want));
            if found.is_some() {
                return found;
            }
        }
        let class = want.class();
        self.blocks.find(want, class, BLOCK_ORDER, false).or_else(|| match want.least_class() {
            least if least < class => self.blocks.find(want, least, class - 1, false),
            _ => None,
        })
    }

    /// A run anywhere between `from` and `to`, looked for word by word.
    fn across_blocks(&self, count: usize, alignment: usize, from: usize, to: usize) -> Option<usize> {
        let aligned = |frame: usize| (frame + self.base).next_multiple_of(alignment) - self.base;
        let mut start = aligned(from);
        while start.checked_add(count)? <= to {
            match self.blocks.last_taken(start, count) {
                Some(taken) => start = aligned(taken + 1),
                None if self.blocks.claim(start / BLOCK, start % BLOCK, count) => return Some(start),
                None => {}
            }
        }
        None
    }
}

// SAFETY: by I1 and B1 a frame is handed out by the step that makes its bit zero, to one; it is in the map (I1), and
// `find` and `across_blocks` return runs as wanted.
unsafe impl<B> FrameAllocator for BitmapAllocator<'_, B> {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        let alignment = request.checked()?;
        let within = request.within.shared_with(self.map.span());
        let (from, to) = (within.start.0.wrapping_sub(self.base), within.end().wrapping_sub(self.base));
        if within.count < request.count {
            return Err(FrameError::OutOfMemory);
        }
        let small = request.count <= BLOCK && alignment <= BLOCK_ORDER;
        let want = Want { count: request.count, alignment, from, to };
        let found = if small { self.in_a_block(&want, request.near) } else { None };
        let start = match found {
            Some(start) => start,
            None => self.across_blocks(want.count, request.alignment, from, to).ok_or(FrameError::OutOfMemory)?,
        };
        Ok(Frames::new(start + self.base, request.count))
    }

    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        if !self.map.contains(frames) {
            return Err(Misuse::Outside);
        }
        let start = frames.start.0 - self.base;
        if start % WORD + frames.count <= WORD {
            let free = self.blocks.put_in_word(start, frames.count).ok_or(Misuse::AlreadyFree)?;
            if self.blocks.settle_word(start, free) {
                self.blocks.register(start / BLOCK);
            }
            return Ok(());
        }
        let pieces = plan::split(start, frames.count, BLOCK);
        if pieces.clone().any(|(frame, count)| self.blocks.has_any(frame, count)) {
            return Err(Misuse::AlreadyFree);
        }
        for (frame, count) in pieces {
            self.blocks.put(frame, count);
            self.blocks.register(frame / BLOCK);
        }
        Ok(())
    }

    fn span(&self) -> Frames {
        self.map.span()
    }

    fn total_frames(&self) -> usize {
        self.map.count()
    }

    fn free_frames(&self) -> usize {
        self.blocks.count()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.map.contains(Frames { start: frame, count: 1 }) && self.blocks.has(frame.0 - self.base)
    }

    fn free_word(&self, word: usize) -> u64 {
        // By I1 no frame outside the map has a one.
        self.blocks.word(word.wrapping_sub(self.base / WORD)).unwrap_or(0)
    }

    fn manages(&self, frames: Frames) -> bool {
        self.map.contains(frames)
    }
}

impl<B> fmt::Debug for BitmapAllocator<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitmapAllocator")
            .field("span", &self.map.span())
            .field("free", &self.free_frames())
            .field("storage", &self.storage)
            .finish()
    }
}
