//! [`MemoryZone`]: one zone's frames, how many may be handed out to whom, and what was.
//!
//! ```text
//!  counted free                                      who may take
//!  ┌──────────────┐ all the zone's frames
//!  │              │   those who ask for this zone, and those who fall back to it
//!  ├──────────────┤ min + reserve
//!  │              │   those who ask for this zone
//!  ├──────────────┤ min
//!  │              │   urgent requests for this zone; those that fall back go down to `reserve`
//!  └──────────────┘ 0
//! ```
//!
//! A request first takes its number of frames off the count (`count.rs`), if so many are left then as its floor says, and
//! then the frames from the hybrid allocator. Where that has no such run the number goes back. What is freed is counted
//! last.
//!
//! - **Z1** At every moment no more frames are counted free than are free in the allocator.
//! - **Z2** A request is served only if its floor is left when its own number is off the count (K2). So by Z1 as many as
//!   the floor are free in the zone at that moment, whatever other threads do: a reserve is never broken, in no race.
//!   While nobody is at work the two numbers are the same.
//! - **Z3** Frames of a zone for pages of 2 MiB or 1 GiB leave it as whole pages. They may come back in parts, and are
//!   handed out again when a page is whole.
//!
//! Between the two steps a request that will fail holds its number; another in this race may be refused meanwhile
//! (clause 3 of the contract).
//!
//! Cost: that of the hybrid and of the count; a line of metadata for each slot.

use core::fmt;

use terrace_sync::{NoSlots, Slots};

use crate::{
    allocator::{FrameAllocator, Request},
    atomic::{AtomicU64, Ordering},
    count::{Count, LINE},
    hybrid::HybridAllocator,
    map::MemoryMap,
    plan::{Plan, lines},
    storage::Storage,
    types::{Frame, FrameError, Frames, Misuse, Order, PageSize, ZoneType},
    watermarks::{Pressure, Watermarks},
    zones::{Gauge, OnPressure, ZoneError},
};

/// One zone of memory.
///
/// Those of a [`ZonedAllocator`](crate::ZonedAllocator) are made by it, out of the memory map. A device's memory, which
/// is in no such map, is a zone that its driver makes, and that the allocator is told of: see
/// [`device`](MemoryZone::device).
pub struct MemoryZone<'m, S = NoSlots> {
    kind: ZoneType,
    name: Option<&'m str>,
    page: PageSize,
    marks: Watermarks,
    reserve: usize,
    frames: HybridAllocator<'m, S>,
    /// Frames counted free (Z1), and calls that were served.
    count: Count<'m>,
    gauge: Gauge,
    fallbacks: AtomicU64,
    /// Of the count's lines.
    storage: Storage<'m, ()>,
}

/// Whose request it is.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    /// It asked for another zone.
    pub(crate) fallback: bool,
    pub(crate) urgent: bool,
}

impl MemoryZone<'_> {
    /// Bytes of storage that are enough for a zone whose span is so many frames, holes included, and so many slots; of more than any
    /// storage has room for all that a `usize` holds.
    #[must_use]
    pub const fn metadata_bytes(frames: usize, slots: usize) -> usize {
        HybridAllocator::metadata_bytes(frames, slots).saturating_add(lines(slots).saturating_mul(8))
    }

    /// Words that a zone of `map` takes, with what may be lost to bring its two parts to a cache line.
    pub(crate) fn words(map: &MemoryMap, slots: usize) -> usize {
        if map.ranges().is_empty() {
            return 0;
        }
        Plan::new(map.span()).hybrid_words(slots).saturating_add(LINE).saturating_add(lines(slots))
    }
}

impl<'m> MemoryZone<'m> {
    /// A device's memory, `range`, for who asks for `name`; for callers without slots, with its notes in `storage`, as
    /// much as [`metadata_bytes`](MemoryZone::metadata_bytes) says.
    ///
    /// # Errors
    /// [`ZoneError::NoRange`]: the range is empty, or ends behind the last address. [`ZoneError::StorageTooSmall`].
    ///
    /// ```
    /// use terrace_frame::{Frames, MemoryZone, ZoneType};
    ///
    /// let mut storage = [0; MemoryZone::metadata_bytes(4096, 0) / 8];
    /// let screen = MemoryZone::device("screen", Frames::new(0xe_0000, 4096), &mut storage)?;
    /// assert_eq!((screen.kind(), screen.total_frames()), (ZoneType::Device, 4096));
    /// # Ok::<(), terrace_frame::ZoneError>(())
    /// ```
    pub fn device(name: &'m str, range: Frames, storage: &'m mut [u64]) -> Result<Self, ZoneError> {
        Self::device_with_slots(name, range, NoSlots, storage)
    }
}

impl<'m, S> MemoryZone<'m, S> {
    /// Which zone it is.
    #[must_use]
    pub fn kind(&self) -> ZoneType {
        self.kind
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> Option<&'m str> {
        self.name
    }

    /// Its frames are handed out in pages of this size at least.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page
    }

    /// Its frames.
    #[must_use]
    pub fn map(&self) -> &MemoryMap {
        self.frames.map()
    }

    /// How many frames it has.
    #[must_use]
    pub fn total_frames(&self) -> usize {
        self.map().count()
    }

    /// How many frames are counted free (Z1).
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.count.free()
    }

    /// Its watermarks.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        self.marks
    }

    /// How many frames above `min` requests leave that fall back to this zone.
    #[must_use]
    pub fn reserve(&self) -> usize {
        self.reserve
    }

    /// How short of frames it is.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.gauge.level()
    }
}

impl<'m, S: Slots> MemoryZone<'m, S> {
    /// The same, with a place for each number of `slots`.
    ///
    /// # Errors
    /// As [`device`](MemoryZone::device).
    pub fn device_with_slots(
        name: &'m str,
        range: Frames,
        slots: S,
        storage: &'m mut [u64],
    ) -> Result<Self, ZoneError> {
        let map = MemoryMap::of(range).map_err(|_| ZoneError::NoRange)?;
        let zone = Self::new(ZoneType::Device, PageSize::Normal, &map, slots, storage)?;
        Ok(Self { name: Some(name), ..zone })
    }

    pub(crate) fn new(
        kind: ZoneType,
        page: PageSize,
        map: &MemoryMap,
        slots: S,
        storage: &'m mut [u64],
    ) -> Result<Self, ZoneError> {
        let small = |_| ZoneError::StorageTooSmall;
        let count = lines(slots.count());
        if storage.len() < MemoryZone::words(map, slots.count()) {
            return Err(ZoneError::StorageTooSmall); // Before any of it is written.
        }
        let (own, rest) = storage.split_at_mut(count);
        let storage = Storage::of_slice(own, slots.count() * LINE).map_err(small)?;
        let frames = HybridAllocator::with_slots(map, slots, rest).map_err(small)?;
        let count = Count::new(map.count(), storage.words());
        let (gauge, fallbacks) = (Gauge::default(), AtomicU64::new(0));
        Ok(Self {
            kind,
            name: None,
            page,
            marks: Watermarks::NONE,
            reserve: 0,
            frames,
            count,
            gauge,
            fallbacks,
            storage,
        })
    }

    /// With these marks and this reserve, which were looked at (W1).
    pub(crate) fn keeping(self, marks: Watermarks, reserve: usize) -> Self {
        Self { marks, reserve, count: self.count.keeping(marks.high), ..self }
    }

    /// Calls that were served here: all of them, and those among them that had asked for another zone.
    pub(crate) fn served(&self) -> (u64, u64) {
        (self.count.served(), self.fallbacks.load(Ordering::Relaxed))
    }

    /// How many frames such a request leaves (Z2).
    #[inline]
    const fn floor(&self, claim: Claim) -> usize {
        let min = if claim.urgent { 0 } else { self.marks.min };
        if claim.fallback { min.saturating_add(self.reserve) } else { min }
    }

    /// A run for a request that was looked at.
    pub(crate) fn alloc(&self, request: &Request, claim: Claim) -> Option<Frames> {
        let request = Request { alignment: request.alignment.max(self.page.order().frames()), ..*request };
        self.alloc_by(request.count, claim, || self.frames.alloc(&request))
    }

    #[inline]
    pub(crate) fn alloc_order(&self, order: Order, claim: Claim) -> Option<Frame> {
        self.alloc_by(order.frames(), claim, || self.frames.alloc_order(order))
    }

    #[inline]
    fn alloc_by<R>(&self, count: usize, claim: Claim, get: impl Fn() -> Result<R, FrameError>) -> Option<R> {
        let slot = self.frames.slots().enter();
        let taken = self.count.take(slot, count, self.floor(claim));
        self.frames.slots().leave(slot);
        if !taken {
            return None;
        }
        let Ok(run) = get() else {
            self.count.give(count);
            return None;
        };
        let slot = self.frames.slots().enter();
        self.count.serve(slot);
        self.frames.slots().leave(slot);
        if claim.fallback {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        Some(run)
    }

    /// Takes back frames, all of which are in the map, or none of which are taken.
    #[inline]
    pub(crate) fn free(&self, frames: Frames) -> Result<(), Misuse> {
        self.frames.free(frames)?;
        self.freed(frames.count);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        self.frames.free_order(start, order)?;
        self.freed(order.frames());
        Ok(())
    }

    #[inline]
    fn freed(&self, count: usize) {
        let slot = self.frames.slots().enter();
        self.count.put(slot, count);
        self.frames.slots().leave(slot);
    }

    /// After a call: the level follows the count, and the hook hears of it.
    #[inline]
    pub(crate) fn settle(&self, hook: &impl OnPressure) {
        // A zone without marks is never short.
        if self.marks.high > 0 {
            let exact = || {
                self.count.gather();
                self.count.shared()
            };
            self.gauge.settle(self.kind, self.marks, self.count.shared(), exact, hook);
        }
    }

    /// Brings the count and the allocator together, for a moment of calm.
    pub(crate) fn drain(&self) {
        self.count.gather();
        self.frames.drain();
    }

    pub(crate) fn frames(&self) -> &HybridAllocator<'m, S> {
        &self.frames
    }
}

impl<S> fmt::Debug for MemoryZone<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryZone")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("page", &self.page)
            .field("watermarks", &self.marks)
            .field("reserve", &self.reserve)
            .field("total", &self.total_frames())
            .field("free", &self.free_frames())
            .field("pressure", &self.pressure())
            .field("storage", &self.storage)
            .finish()
    }
}
