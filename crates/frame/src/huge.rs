//! [`HugePages`]: which blocks of 2 MiB are one owner's, from the frame that makes them so to the first that ends it.
//!
//! ```text
//!  a block of 512 frames    [ 3 3 3 3 … 3 3 ─ ]   511 are owner 3's
//!  alloc_for(3)             [ 3 3 3 3 … 3 3 3 ]   promoted: 3 may map it as one page
//!  free_for(3)              [ ─ 3 3 3 … 3 3 3 ]   demoted: frames again, 511 of them handed out as before
//! ```
//!
//! A promotion moves and takes nothing: it is the fact that all frames of a block have one owner, found by the step that
//! makes it true. What the owner does with it, writing one entry into a page table in place of 512, is its own affair.
//!
//! - **U1** The word of a block is the sums of O1, changed by one atomic step, after frames were handed out and before
//!   they go back. So a block is [`PageSize::Large`] exactly while all of its frames are one owner's.
//! - **U2** No frame is handed out or goes back by a promotion or a demotion: the backing's counts are what they would
//!   be without this layer.
//! - **U3** A free that the owner's sums or the backing refuse changes nothing.
//!
//! Callers say the truth about owners: sums cannot tell two frames apart, so who frees a frame under another's tag may be
//! found out, or may not. Frames taken from the backing directly have no owner, and go back there.
//!
//! To move frames together so that blocks become whole (compaction) needs the contents moved, which only the owner can.
//!
//! Cost: an atomic step for each block that a run touches; 8 bytes a block, 0.0004 %.

use core::fmt;

use crate::{
    allocator::{FrameAllocator, Request},
    atomic::{AtomicU64, AtomicUsize, Ordering},
    owners::{self, PageOwner},
    plan,
    storage::Storage,
    types::{Frame, FrameError, Frames, Misuse, PageSize},
    word::BLOCK,
};

/// What a [`HugePages`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HugeCounts {
    /// Blocks that are wholly one owner's now.
    pub huge: usize,
    /// Blocks that became so.
    pub promotions: usize,
    /// Blocks that ceased to be so while others of their frames were still handed out.
    pub demotions: usize,
}

/// Hands out frames to owners, and knows which blocks of 2 MiB are wholly one owner's.
///
/// ```
/// use terrace_frame::*;
///
/// let map = MemoryMap::of(Frames::new(0, 2048)).unwrap();
/// let mut metadata = [0; HybridAllocator::metadata_bytes(2048, 0) / 8];
/// let frames = HybridAllocator::new(&map, &mut metadata)?;
/// let mut storage = [0; HugePages::metadata_bytes(2048) / 8];
/// let pages = HugePages::new(&frames, &mut storage)?;
///
/// let guest = PageOwner::new(3).unwrap();
/// let runs = [(); 512].map(|()| pages.alloc_for(guest, &Request::frames(1)).unwrap());
/// assert_eq!(pages.page_size(runs[0].start), PageSize::Large);
/// pages.free_for(guest, runs[77]).unwrap();
/// assert_eq!(pages.page_size(runs[0].start), PageSize::Normal);
/// assert_eq!(frames.free_frames(), 2048 - 511);
/// # Ok::<(), FrameError>(())
/// ```
pub struct HugePages<'m, F> {
    words: &'m [AtomicU64],
    /// The number of the first block.
    first: usize,
    promotions: AtomicUsize,
    demotions: AtomicUsize,
    /// Blocks that ceased to be huge because all of them went back.
    ended: AtomicUsize,
    storage: Storage<'m, ()>,
    backing: F,
}

impl HugePages<'_, ()> {
    /// Bytes of storage that are enough for a span of so many frames, holes included.
    #[must_use]
    pub const fn metadata_bytes(frames: usize) -> usize {
        (frames.saturating_sub(1) / BLOCK + 2).next_multiple_of(plan::LINE) * 8 + plan::TO_A_LINE
    }
}

impl<'m, F: FrameAllocator> HugePages<'m, F> {
    /// Over the frames of `backing`, none of which has an owner yet, with its notes in `storage`, whose contents do not
    /// matter.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`]: the storage is smaller than [`metadata_bytes`](HugePages::metadata_bytes) of the
    /// backing's span.
    pub fn new(backing: F, storage: &'m mut [u64]) -> Result<Self, FrameError> {
        let span = backing.span();
        let first = span.start.0 / BLOCK;
        let storage = Storage::of_slice(storage, span.end().div_ceil(BLOCK) - first)?;
        let counter = || AtomicUsize::new(0);
        let (promotions, demotions, ended) = (counter(), counter(), counter());
        Ok(Self { words: storage.words(), first, promotions, demotions, ended, storage, backing })
    }

    /// A run as `request` asks, which is `owner`'s. Blocks that become wholly the owner's by it are promoted.
    ///
    /// # Errors
    /// As the backing's.
    pub fn alloc_for(&self, owner: PageOwner, request: &Request) -> Result<Frames, FrameError> {
        let run = self.backing.alloc(request)?;
        let promoted = self.add(owner, run, usize::MAX);
        self.promotions.fetch_add(promoted, Ordering::SeqCst);
        Ok(run)
    }

    /// Takes frames of `owner` back. Blocks of which it keeps a part are demoted.
    ///
    /// # Errors
    /// [`Misuse::WrongOwner`]: they cannot all be the owner's; and as the backing's. Nothing has changed.
    pub fn free_for(&self, owner: PageOwner, frames: Frames) -> Result<(), Misuse> {
        if !self.backing.manages(frames) {
            return Err(Misuse::Outside);
        }
        let (mut demotions, mut ended) = (0, 0);
        for (done, (at, count)) in plan::split(frames.start.0, frames.count, BLOCK).enumerate() {
            let less = |word| match owners::wholly(word) {
                Some(other) if other != owner => None,
                _ => owners::less(word, owner, count),
            };
            let Some((before, after)) = self.change(at, less) else {
                self.restore(owner, frames, done, demotions + ended);
                return Err(Misuse::WrongOwner);
            };
            let was_huge = owners::wholly(before).is_some();
            demotions += usize::from(was_huge && after != 0);
            ended += usize::from(was_huge && after == 0);
        }
        if let Err(misuse) = self.backing.free(frames) {
            self.restore(owner, frames, usize::MAX, demotions + ended);
            return Err(misuse);
        }
        self.demotions.fetch_add(demotions, Ordering::SeqCst);
        self.ended.fetch_add(ended, Ordering::SeqCst);
        Ok(())
    }

    /// Adds again what a refused free has taken off, of whose blocks so many were the owner's. Where another thread has
    /// changed that meanwhile, its own step saw the sums without the refused frames, and counted nothing.
    #[cold]
    fn restore(&self, owner: PageOwner, frames: Frames, blocks: usize, were: usize) {
        let are = self.add(owner, frames, blocks);
        self.promotions.fetch_add(are.saturating_sub(were), Ordering::SeqCst);
        self.demotions.fetch_add(were.saturating_sub(are), Ordering::SeqCst);
    }

    /// Adds a run, or the part of it in its first `blocks`, to the sums; says how many blocks became the owner's by it.
    fn add(&self, owner: PageOwner, run: Frames, blocks: usize) -> usize {
        let parts = plan::split(run.start.0, run.count, BLOCK).take(blocks);
        // By O3 it fits, unless owners were lied about: then the block's sums stay too low.
        let words = parts.filter_map(|(at, count)| self.change(at, |word| owners::more(word, owner, count)));
        words.filter(|&(_, after)| owners::wholly(after).is_some()).count()
    }

    /// Changes the word of the block that a frame lies in, by one atomic step: what it was, and what it is.
    fn change(&self, frame: usize, change: impl Fn(u64) -> Option<u64>) -> Option<(u64, u64)> {
        let place = self.words.get(frame / BLOCK - self.first)?;
        let mut word = place.load(Ordering::SeqCst);
        loop {
            let new = change(word)?;
            match place.compare_exchange_weak(word, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some((word, new)),
                Err(now) => word = now,
            }
        }
    }

    /// The size of the largest page that the frame is part of, and that is wholly one owner's.
    pub fn page_size(&self, frame: Frame) -> PageSize {
        if self.owner(frame).is_some() { PageSize::Large } else { PageSize::Normal }
    }

    /// Whose the 2 MiB around the frame are, if they are one owner's.
    pub fn owner(&self, frame: Frame) -> Option<PageOwner> {
        let word = self.words.get((frame.0 / BLOCK).checked_sub(self.first)?)?;
        // SeqCst, as the steps: who owns all frames of a block sees it so.
        owners::wholly(word.load(Ordering::SeqCst))
    }

    /// What was promoted and demoted.
    pub fn counts(&self) -> HugeCounts {
        let [promotions, demotions, ended] =
            [&self.promotions, &self.demotions, &self.ended].map(|count| count.load(Ordering::SeqCst));
        // A step is counted behind it, so that in a race one may have counted what another has not yet.
        HugeCounts { huge: promotions.saturating_sub(demotions).saturating_sub(ended), promotions, demotions }
    }
}

impl<F: fmt::Debug> fmt::Debug for HugePages<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HugePages").field("storage", &self.storage).field("backing", &self.backing).finish()
    }
}
