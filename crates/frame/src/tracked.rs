//! [`TrackedFrames`]: knows each run that is handed out, whose it is and who asked for it.
//!
//! ```text
//!   subsystem ──▶ as_owner(7) ─┐ tag, and the line that called as_owner
//!   subsystem ──▶ as_owner(8) ─┤
//!                              ▼
//!                        TrackedFrames ──▶ backing
//!                          │        │
//!   notes   [ 0 │ n │ 0 │ … ]      sites  [ place │ runs, frames │ ended ]
//!           a word a frame          a row a place
//! ```
//!
//! A run comes back whole, as it was handed out, and from its owner: a part of one, two as one, or another owner's is
//! found, told by [`Misuse`] and changes nothing, as is a free of what the backing handed out past this layer.
//! [`run_of`](TrackedFrames::run_of) says what there is at the frame then. What is live at the end is a list of
//! [`Leaks`]; which lines of a program ask for many frames is told by [`HotSites`].
//!
//! A layer, with its notes in storage that the caller passes. Who does not want it leaves it out, and nothing of it is
//! compiled. What was handed out through the layer is to come back through it, and nothing else: of a run that was
//! freed past it the note stays, and where the backing hands out these frames anew, a free by that note cannot be told
//! from one of their owner's.
//!
//! - **I1** L1: a run handed out here has its note until one free of it strikes that out; without a note nothing goes
//!   to the backing.
//!
//! | | at most, beside the backing's |
//! |---|---|
//! | alloc | a word of the notes, a row's two counts, and a compare for each row looked at: all, where the table is full |
//! | free | two steps on a word of the notes, a row's two counts |
//! | batch | as so many calls |
//! | `run_of` | 2²⁰ words |
//! | leaks, hot sites | all words; the square of the rows |
//! | memory | 8 bytes a frame, holes included, 0.2 % (2 MiB for each GiB), and 40 bytes a row |
//!
//! Lock-free: a thread that stops anywhere stops nobody. One that stops in `free` keeps that run from coming back.

mod ledger;
mod note;
mod report;
mod sites;

use core::{fmt, panic::Location};

use ledger::Ledger;
pub use report::{HotSites, Leaks, Owner, Run};
use sites::Sites;
pub use sites::{Site, SiteCounts};
use terrace_core::Allocator;

use crate::{
    allocator::{FrameAllocator, Request},
    layer::pass_on_questions,
    storage::Storage,
    types::{Frame, FrameError, Frames, Misuse, Order},
};

/// Keeps a note of each run that `backing` hands out.
///
/// ```
/// use terrace_frame::{
///     BitmapAllocator, FrameAllocator, Frames, MemoryMap, Misuse, Owner, Request, SiteCounts, TrackedFrames,
/// };
///
/// const DISK: Owner = Owner(7);
/// const NET: Owner = Owner(8);
///
/// let map = MemoryMap::of(Frames::new(0, 1024)).unwrap();
/// let mut metadata = [0; BitmapAllocator::metadata_bytes(1024) / 8];
/// let mut notes = [0; TrackedFrames::metadata_bytes(1024) / 8];
/// let sites = [const { SiteCounts::new() }; 64];
/// let frames = TrackedFrames::new(BitmapAllocator::new(&map, &mut metadata)?, &mut notes, &sites)?;
///
/// let run = frames.as_owner(DISK).alloc(&Request::frames(24))?;
/// assert_eq!(frames.as_owner(NET).free(run), Err(Misuse::WrongOwner));
/// assert_eq!(frames.as_owner(DISK).free(Frames { count: 12, ..run }), Err(Misuse::NotARun), "half of it");
///
/// let leak = frames.leaks().runs().next().unwrap();
/// assert_eq!((leak.frames, leak.owner, leak.site.unwrap().file()), (run, DISK, file!()));
/// println!("{}\n{}", frames.leaks(), frames.hot_sites());
///
/// assert_eq!(frames.as_owner(DISK).free(run), Ok(()));
/// assert_eq!(frames.leaks().count(), (0, 0));
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
pub struct TrackedFrames<'m, F, B = ()> {
    ledger: Ledger<'m>,
    made_at: &'static Location<'static>,
    storage: Storage<'m, B>,
    backing: F,
}

impl TrackedFrames<'_, ()> {
    /// Bytes of storage that are enough for a backing whose span is so many frames, holes included: 8 a frame. Of more
    /// frames than any storage has room for it is all that a `usize` holds.
    #[must_use]
    pub const fn metadata_bytes(frames: usize) -> usize {
        frames.div_ceil(8).saturating_mul(64).saturating_add(64)
    }
}

impl<'m, F: FrameAllocator> TrackedFrames<'m, F> {
    /// Over `backing`, with its notes in `storage`, whose contents do not matter, and the places that ask in `sites`,
    /// of which it uses 4094 at most, and which go on from what they have counted before. What is asked for without
    /// [`as_owner`](Self::as_owner) has this call for its place.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`]: the storage is smaller than [`metadata_bytes`](TrackedFrames::metadata_bytes) of
    /// the backing's span.
    #[track_caller]
    pub fn new(backing: F, storage: &'m mut [u64], sites: &'m [SiteCounts]) -> Result<Self, FrameError> {
        let storage = Storage::of_slice(storage, backing.span().count)?;
        Ok(Self::over(backing, storage, sites))
    }
}

impl<'m, F: FrameAllocator, B> TrackedFrames<'m, F, B> {
    /// The same with its notes in a block of `memory`, which goes back when the layer is dropped.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`]: there is no such block.
    #[track_caller]
    pub fn new_in(backing: F, memory: &'m B, sites: &'m [SiteCounts]) -> Result<Self, FrameError>
    where
        B: Allocator,
    {
        let storage = Storage::of_backing(memory, backing.span().count)?;
        Ok(Self::over(backing, storage, sites))
    }

    #[track_caller]
    fn over(backing: F, storage: Storage<'m, B>, sites: &'m [SiteCounts]) -> Self {
        let ledger = Ledger::new(storage.words(), backing.span().start.0, Sites::new(sites));
        Self { ledger, made_at: Location::caller(), storage, backing }
    }

    /// The same frames for one owner, who alone can free what it is handed here. The line that calls this is the place
    /// that asks: call it anew for each request, or once for a subsystem that is handed the result.
    #[track_caller]
    pub fn as_owner(&self, owner: Owner) -> OwnedFrames<'_, F, B> {
        OwnedFrames { tracked: self, owner, site: Location::caller() }
    }

    /// The runs that are live now.
    pub fn leaks(&self) -> Leaks<'_> {
        Leaks::new(&self.ledger)
    }

    /// The places that asked for frames.
    pub fn hot_sites(&self) -> HotSites<'_> {
        HotSites::new(&self.ledger)
    }

    /// The live run that a frame lies in.
    pub fn run_of(&self, frame: Frame) -> Option<Run> {
        self.ledger.run_of(frame)
    }

    /// What the tracking takes: bytes of notes and of rows that are in use.
    pub fn tracking_bytes(&self) -> usize {
        self.ledger.bytes()
    }

    fn nobody(&self) -> OwnedFrames<'_, F, B> {
        OwnedFrames { tracked: self, owner: Owner::NOBODY, site: self.made_at }
    }
}

// SAFETY: frames are `backing`'s own; every request reaches it unchanged, and every free that is no misuse (I1).
unsafe impl<F: FrameAllocator, B> FrameAllocator for TrackedFrames<'_, F, B> {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        self.nobody().alloc(request)
    }

    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        self.nobody().free(frames)
    }

    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        self.nobody().alloc_order(order)
    }

    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        self.nobody().free_order(start, order)
    }

    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        self.nobody().alloc_batch(order, into)
    }

    fn keeps_boundaries(&self) -> bool {
        true
    }

    pass_on_questions!(backing);
}

impl<F: fmt::Debug, B> fmt::Debug for TrackedFrames<'_, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedFrames").field("backing", &self.backing).field("storage", &self.storage).finish()
    }
}

/// The frames of a [`TrackedFrames`] for one owner.
pub struct OwnedFrames<'t, F, B = ()> {
    tracked: &'t TrackedFrames<'t, F, B>,
    owner: Owner,
    site: &'static Location<'static>,
}

impl<F, B> OwnedFrames<'_, F, B> {
    /// Whose what is handed out here is.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        self.owner
    }

    fn note(&self, run: Frames) {
        self.tracked.ledger.made(run, self.owner, self.site);
    }
}

impl<F: FrameAllocator, B> OwnedFrames<'_, F, B> {
    /// Gives a run to the backing by `free`, if it is a run and this owner's.
    fn take_back(&self, frames: Frames, free: impl FnOnce(&F) -> Result<(), Misuse>) -> Result<(), Misuse> {
        let TrackedFrames { ledger, backing, .. } = self.tracked;
        match ledger.note(frames.start) {
            _ if !backing.manages(frames) => Err(Misuse::Outside),
            Some(note) if note.count != frames.count => Err(Misuse::NotARun),
            Some(note) if note.owner != self.owner.0 => Err(Misuse::WrongOwner),
            Some(note) if ledger.strike(frames.start, note) => {
                // Refused only where somebody has freed the run past this layer.
                free(backing).inspect_err(|_| ledger.restore(frames.start, note))?;
                ledger.ended(note);
                Ok(())
            }
            _ if backing.is_free(frames.start) => Err(Misuse::AlreadyFree),
            _ => Err(Misuse::NotARun),
        }
    }
}

// SAFETY: as of the `TrackedFrames`, which this is a handle of.
unsafe impl<F: FrameAllocator, B> FrameAllocator for OwnedFrames<'_, F, B> {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        self.tracked.backing.alloc(request).inspect(|&run| self.note(run))
    }

    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        self.take_back(frames, |backing| backing.free(frames))
    }

    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        self.tracked.backing.alloc_order(order).inspect(|&start| self.note(Frames::of_order(start, order)))
    }

    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        if start.0 & (order.frames() - 1) != 0 {
            return Err(Misuse::NotARun);
        }
        self.take_back(Frames::of_order(start, order), |backing| backing.free_order(start, order))
    }

    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        let filled = self.tracked.backing.alloc_batch(order, into);
        into.iter().take(filled).for_each(|&start| self.note(Frames::of_order(start, order)));
        filled
    }

    fn keeps_boundaries(&self) -> bool {
        true
    }

    pass_on_questions!(tracked.backing);
}

impl<F, B> Clone for OwnedFrames<'_, F, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, B> Copy for OwnedFrames<'_, F, B> {}

impl<F: fmt::Debug, B> fmt::Debug for OwnedFrames<'_, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tracked, owner, site } = self;
        f.debug_struct("OwnedFrames")
            .field("owner", owner)
            .field("site", site)
            .field("backing", &tracked.backing)
            .finish()
    }
}
