//! [`ZonedAllocator`]: memory cut into zones at boot, each with its own allocator, watermarks and counts.
//!
//! ```text
//!  asked for     Normal ──▶ ┌────────┐  none left   ┌─────────┐ down to its reserve
//!                           │ Normal │ ───────────▶ │   DMA   │ ──────────────▶ ZoneDepleted(Normal)
//!                           └────────┘              │ 0–16 MiB│
//!                Dma ─────────────────────────────▶ └─────────┘ ──────────────▶ ZoneDepleted(Dma)
//!                           ┌───────────────┐
//!                HugePage ▶ │ 2 MiB │ 1 GiB │ whole pages only ────────────────▶ ZoneDepleted(HugePage)
//!                           └───────────────┘
//!                           ┌────────┐┌────────┐
//!  a device's name, or its  │ screen ││  net   │ ────────────────────────────▶ ZoneDepleted(Device)
//!  range, and Device ─────▶ └────────┘└────────┘
//! ```
//!
//! - **N1** Zones share no frame: those of the map are its parts (C1), a device's range touches neither them nor another's.
//! - **N2** A request that names no zone asks for Normal. Only those for Normal fall back, and only to DMA; what they
//!   leave there is `min` and the reserve, or the reserve alone if they are urgent (Z2).
//! - **N3** Frames of HugePage go to who asks for it. A page of 1 GiB is not broken up for pages of 2 MiB.
//! - **N4** A device's frames go to who names it: by its name, or by a [`within`](Request::within) that lies in its
//!   range.
//! - **N5** A refusal names the zone that was asked for: [`FrameError::ZoneDepleted`], whether frames are short there or
//!   could never have been had. What no allocator serves is [`FrameError::InvalidSize`] or
//!   [`FrameError::InvalidAlignment`].
//! - **N6** Where nothing can be made of a configuration, the error says why, and storage is as it was.
//!
//! As a [`FrameAllocator`] it is the memory for ordinary requests, Normal and DMA: `span`, `manages` and the counts
//! speak of these, so that a layer above never takes a device's frame for memory. `free` takes back what any call handed
//! out.
//!
//! Zones as Linux has them; the reserve is its `lowmem_reserve`. No lock; each zone's cost stands in `zone.rs`. By value
//! it is 6 KiB, of which 4 are maps.

#[path = "zones/carve.rs"]
mod carve;
#[path = "zones/config.rs"]
mod config;
#[path = "zones/pressure.rs"]
mod pressure;

use core::fmt;

use terrace_sync::{NoSlots, Slots, repeat};

pub(crate) use self::pressure::Gauge;
pub use self::{
    config::{ZoneConfig, ZoneError},
    pressure::{OnPressure, ZonePressure},
};
use crate::{
    allocator::{FrameAllocator, Request},
    atomic::{AtomicU64, Ordering},
    map::MemoryMap,
    types::{Frame, FrameError, Frames, Misuse, Order, PageSize, ZoneType},
    watermarks::Watermarks,
    zone::{Claim, MemoryZone},
};

/// What one zone has and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ZoneCounts {
    /// Frames.
    pub total: usize,
    /// Those that are free.
    pub free: usize,
    /// Those that requests for another zone leave, above the watermark `min`.
    pub reserve: usize,
    /// Calls that were served here.
    pub allocations: u64,
    /// Those of them that had asked for another zone.
    pub fallbacks: u64,
    /// Calls that asked for this zone and were served nowhere.
    pub refusals: u64,
}

/// Hands out frames of several zones.
///
/// ```
/// use terrace_frame::*;
///
/// // 64 MiB, of which 8 are kept as pages of 2 MiB, and a device with memory of its own.
/// let map = MemoryMap::of(Frames::new(0, 64 << 8)).unwrap();
/// let mut notes = [0; MemoryZone::metadata_bytes(4096, 0) / 8];
/// let devices = [MemoryZone::device("screen", Frames::new(0xe_0000, 4096), &mut notes)?];
/// let config = ZoneConfig { large_pages: 4, devices: &devices, ..ZoneConfig::default() };
///
/// let mut storage = vec![0; ZonedAllocator::metadata_bytes(&map, &config, 0)? / 8];
/// let zones = ZonedAllocator::new(&map, &config, &mut storage)?;
///
/// let page = zones.alloc_order(Order::MIN).unwrap(); // of the zone Normal, while it has one
/// let buffer = zones.alloc_in(ZoneType::Dma, &Request::frames(16).aligned(16)).unwrap();
/// let huge = zones.alloc_in(ZoneType::HugePage, &Request::order(PageSize::Large.order())).unwrap();
/// let pixels = zones.alloc_device("screen", &Request::frames(1000)).unwrap();
/// assert!(page >= Frame(4096) && buffer.end() <= 4096 && pixels.start >= Frame(0xe_0000));
/// zones.free(huge).unwrap();
/// assert_eq!(zones.counts(ZoneType::HugePage).free, 4 * 512);
/// # Ok::<(), ZoneError>(())
/// ```
pub struct ZonedAllocator<'m, S = NoSlots, H = ()> {
    dma: Option<MemoryZone<'m, S>>,
    normal: Option<MemoryZone<'m, S>>,
    large: Option<MemoryZone<'m, S>>,
    giant: Option<MemoryZone<'m, S>>,
    devices: &'m [MemoryZone<'m, S>],
    /// By the zone asked for.
    refusals: [AtomicU64; 4],
    hook: H,
}

impl ZonedAllocator<'_> {
    /// Bytes of storage that are enough for the zones of `map`, with so many slots. Devices bring their own.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn metadata_bytes<S: Slots>(
        map: &MemoryMap,
        config: &ZoneConfig<'_, S>,
        slots: usize,
    ) -> Result<usize, ZoneError> {
        let parts = config.parts(map)?;
        let zones = [&parts.dma, &parts.normal, &parts.large, &parts.giant];
        let words = zones.into_iter().map(|part| MemoryZone::words(part, slots)).fold(0, usize::saturating_add);
        Ok(words.saturating_mul(8))
    }
}

impl<'m> ZonedAllocator<'m> {
    /// The zones of `map`, for callers without slots, with their notes in `storage`, whose contents do not matter.
    ///
    /// # Errors
    /// What is wrong with the configuration, or [`ZoneError::StorageTooSmall`].
    pub fn new(map: &MemoryMap, config: &ZoneConfig<'m>, storage: &'m mut [u64]) -> Result<Self, ZoneError> {
        Self::with_slots(map, config, NoSlots, (), storage)
    }
}

impl<'m, S: Slots + Clone, H: OnPressure> ZonedAllocator<'m, S, H> {
    /// The same, with a place for each number of `slots` in each zone, and `hook` told of pressure.
    ///
    /// # Errors
    /// As [`new`](ZonedAllocator::new).
    pub fn with_slots(
        map: &MemoryMap,
        config: &ZoneConfig<'m, S>,
        slots: S,
        hook: H,
        storage: &'m mut [u64],
    ) -> Result<Self, ZoneError> {
        let parts = config.parts(map)?;
        let (dma, normal, reserve) = config.marks(&parts)?;
        let lens =
            [&parts.dma, &parts.normal, &parts.large, &parts.giant].map(|part| MemoryZone::words(part, slots.count()));
        if storage.len() < lens.into_iter().fold(0, usize::saturating_add) {
            return Err(ZoneError::StorageTooSmall); // Before any of it is written.
        }
        let mut rest = storage;
        let mut zone = |kind, page, part: &MemoryMap, marks: Watermarks, reserve| {
            let len = MemoryZone::words(part, slots.count());
            let (own, behind) = core::mem::take(&mut rest).split_at_mut(len);
            rest = behind;
            if len == 0 {
                return Ok(None);
            }
            let zone = MemoryZone::new(kind, page, part, slots.clone(), own)?;
            Ok(Some(zone.keeping(marks, reserve)))
        };
        Ok(Self {
            dma: zone(ZoneType::Dma, PageSize::Normal, &parts.dma, dma, reserve)?,
            normal: zone(ZoneType::Normal, PageSize::Normal, &parts.normal, normal, 0)?,
            large: zone(ZoneType::HugePage, PageSize::Large, &parts.large, Watermarks::NONE, 0)?,
            giant: zone(ZoneType::HugePage, PageSize::Giant, &parts.giant, Watermarks::NONE, 0)?,
            devices: config.devices,
            refusals: repeat!(AtomicU64::new(0); 4),
            hook,
        })
    }

    /// A run of the zone, or of the one that requests for it fall back to.
    ///
    /// Of `HugePage` whole pages are had: of 1 GiB where the count is a number of these, else of 2 MiB. For `Device`
    /// [`within`](Request::within) must lie in one device's range.
    ///
    /// # Errors
    /// [`FrameError::ZoneDepleted`] with `zone` where it has none; [`FrameError::InvalidSize`] and
    /// [`FrameError::InvalidAlignment`]. Nothing has changed.
    pub fn alloc_in(&self, zone: ZoneType, request: &Request) -> Result<Frames, FrameError> {
        self.serve(zone, request, false)
    }

    /// The same for those whose work frees memory, or who cannot wait: what the watermark `min` keeps is theirs. A
    /// zone's reserve is not, where they fall back to it.
    ///
    /// # Errors
    /// As [`alloc_in`](Self::alloc_in).
    pub fn alloc_urgent(&self, zone: ZoneType, request: &Request) -> Result<Frames, FrameError> {
        self.serve(zone, request, true)
    }

    /// A run of the device's memory.
    ///
    /// # Errors
    /// [`FrameError::ZoneDepleted`] with `Device`, also where no device has that name; else as
    /// [`alloc_in`](Self::alloc_in).
    pub fn alloc_device(&self, name: &str, request: &Request) -> Result<Frames, FrameError> {
        let device = self.devices.iter().find(|device| device.name() == Some(name));
        let range = device.map_or(Frames::new(0, 0), |device| device.map().span());
        self.alloc_in(ZoneType::Device, &request.within(request.within.shared_with(range)))
    }

    fn serve(&self, zone: ZoneType, request: &Request, urgent: bool) -> Result<Frames, FrameError> {
        request.checked()?;
        let own = match zone {
            ZoneType::Dma => self.dma.as_ref(),
            ZoneType::Normal => self.normal.as_ref(),
            ZoneType::HugePage if !whole(request.count, PageSize::Large) => return Err(FrameError::InvalidSize),
            ZoneType::HugePage if whole(request.count, PageSize::Giant) => self.giant.as_ref(),
            ZoneType::HugePage => self.large.as_ref(),
            ZoneType::Device => self.devices.iter().find(|device| device.map().contains(request.within)),
        };
        let other = if zone == ZoneType::Normal { self.dma.as_ref() } else { None };
        for (place, fallback) in [(own, false), (other, true)] {
            if let Some(place) = place
                && let Some(run) = place.alloc(request, Claim { fallback, urgent })
            {
                place.settle(&self.hook);
                return Ok(run);
            }
        }
        Err(self.refused(zone))
    }

    #[cold]
    fn refused(&self, zone: ZoneType) -> FrameError {
        self.refusals[zone as usize].fetch_add(1, Ordering::Relaxed);
        FrameError::ZoneDepleted(zone)
    }

    /// What the zone has and did; of all devices together, for `Device`.
    pub fn counts(&self, zone: ZoneType) -> ZoneCounts {
        let refusals = self.refusals[zone as usize].load(Ordering::Relaxed);
        let start = ZoneCounts { refusals, ..ZoneCounts::default() };
        self.zones().filter(|part| part.kind() == zone).fold(start, |sum, part| {
            let (allocations, fallbacks) = part.served();
            ZoneCounts {
                total: sum.total + part.total_frames(),
                free: sum.free + part.free_frames(),
                reserve: sum.reserve + part.reserve(),
                allocations: sum.allocations + allocations,
                fallbacks: sum.fallbacks + fallbacks,
                refusals: sum.refusals,
            }
        })
    }

    /// The zones that have frames: Normal, DMA, HugePage with 2 MiB, HugePage with 1 GiB, the devices.
    pub fn zones(&self) -> impl Iterator<Item = &MemoryZone<'m, S>> {
        [&self.normal, &self.dma, &self.large, &self.giant].into_iter().flatten().chain(self.devices)
    }

    /// The zones of ordinary requests.
    fn ordinary(&self) -> impl Iterator<Item = &MemoryZone<'m, S>> {
        [&self.dma, &self.normal].into_iter().flatten()
    }

    /// The hook, to ask what it did.
    pub fn hook(&self) -> &H {
        &self.hook
    }

    #[inline]
    fn zone_of(&self, frames: Frames) -> Option<&MemoryZone<'m, S>> {
        // The first one by itself, for it is the one in nearly all cases.
        let normal = self.normal.as_ref().filter(|zone| zone.map().contains(frames));
        normal.or_else(|| self.zones().find(|zone| zone.map().contains(frames)))
    }

    /// Takes back a run that is not wholly of Normal.
    #[cold]
    fn free_order_elsewhere(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        let run = Frames::of_order(start, order);
        let Some(zone) = self.zone_of(run) else {
            let aligned = start.0.is_multiple_of(order.frames());
            return if aligned { self.free_across(run) } else { Err(Misuse::NotARun) };
        };
        zone.free_order(start, order)?;
        zone.settle(&self.hook);
        Ok(())
    }

    /// Takes back several zones' frames as one run: all of them, or none.
    #[cold]
    fn free_across(&self, frames: Frames) -> Result<(), Misuse> {
        let mut answer = Ok(());
        let inside = self.parts(frames, |zone, part| {
            if zone.frames().any_is_free(part) {
                answer = Err(Misuse::AlreadyFree);
            }
        });
        if !inside {
            return Err(Misuse::Outside);
        }
        answer?;
        self.parts(frames, |zone, part| {
            // What was looked at above can only fail in a race that is itself misuse (clause 4).
            if let Err(misuse) = zone.free(part) {
                answer = Err(misuse);
            }
        });
        // When all of it is back: a hook is no part of a call that has begun.
        self.ordinary().for_each(|zone| zone.settle(&self.hook));
        answer
    }

    /// Calls `each` for the part of a run in each range of a zone. `false`: some of it is in none.
    fn parts(&self, frames: Frames, mut each: impl FnMut(&MemoryZone<'m, S>, Frames)) -> bool {
        let mut rest = frames;
        while rest.count > 0 {
            let first = Frames { count: 1, ..rest };
            let Some(zone) = self.zone_of(first) else { return false };
            let range = zone.map().ranges().iter().find(|range| range.contains(first));
            let part = range.map_or(first, |range| range.shared_with(rest));
            each(zone, part);
            rest = Frames::new(part.end(), rest.count - part.count);
        }
        frames.count > 0
    }
}

/// Whether they are a number of such pages.
const fn whole(frames: usize, size: PageSize) -> bool {
    frames.is_multiple_of(size.order().frames())
}

// SAFETY: frames come from the hybrid allocators of the zones, which keep clause 1 each, over parts that share no frame
// (N1). A run lies in one zone, and is as that zone's allocator gave it (clause 2).
unsafe impl<S: Slots + Clone, H: OnPressure> FrameAllocator for ZonedAllocator<'_, S, H> {
    /// Of Normal, or of what it falls back to.
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        self.alloc_in(ZoneType::Normal, request)
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        if let Some(normal) = &self.normal
            && let Some(start) = normal.alloc_order(order, Claim { fallback: false, urgent: false })
        {
            normal.settle(&self.hook);
            return Ok(start);
        }
        // Once more, by the way that falls back.
        self.alloc(&Request::order(order)).map(|run| run.start)
    }

    /// Of any zone.
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        let Some(zone) = self.zone_of(frames) else { return self.free_across(frames) };
        zone.free(frames)?;
        zone.settle(&self.hook);
        Ok(())
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        if let Some(normal) = &self.normal {
            // Mostly it is one of this zone, whose allocator finds out by itself.
            let answer = normal.free_order(start, order);
            if answer != Err(Misuse::Outside) {
                normal.settle(&self.hook);
                return answer;
            }
        }
        self.free_order_elsewhere(start, order)
    }

    fn drain(&self) {
        self.zones().for_each(MemoryZone::drain);
    }

    fn span(&self) -> Frames {
        let start = self.ordinary().map(|zone| zone.map().span().start.0).min().unwrap_or(0);
        let end = self.ordinary().map(|zone| zone.map().span().end()).max().unwrap_or(0);
        Frames::new(start, end.saturating_sub(start))
    }

    fn total_frames(&self) -> usize {
        self.ordinary().map(MemoryZone::total_frames).sum()
    }

    fn free_frames(&self) -> usize {
        self.ordinary().map(MemoryZone::free_frames).sum()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.ordinary().any(|zone| zone.frames().is_free(frame))
    }

    fn free_word(&self, word: usize) -> u64 {
        self.ordinary().fold(0, |bits, zone| bits | zone.frames().free_word(word))
    }

    fn manages(&self, frames: Frames) -> bool {
        let ordinary = |zone: &MemoryZone<'_, S>| matches!(zone.kind(), ZoneType::Dma | ZoneType::Normal);
        let mut all = true;
        self.parts(frames, |zone, _| all &= ordinary(zone)) && all
    }
}

impl<S: Slots + Clone, H: OnPressure> fmt::Debug for ZonedAllocator<'_, S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.zones()).finish()
    }
}
