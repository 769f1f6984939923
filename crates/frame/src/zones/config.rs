//! What a [`ZonedAllocator`](super::ZonedAllocator) is made of, and what can be wrong with it.
//!
//! Everything is looked at before anything is written: each error below leaves the storage as it was.
#![forbid(unsafe_code)]

use core::{error, fmt};

use terrace_sync::{NoSlots, Slots};

use super::carve::{self, Parts};
use crate::{
    map::MemoryMap,
    types::{Frame, Frames, PageSize, PhysAddr, ZoneType},
    watermarks::Watermarks,
    zone::MemoryZone,
};

/// How memory is cut into zones, and what they keep.
///
/// ```
/// use terrace_frame::{Watermarks, ZoneConfig};
///
/// let config = ZoneConfig {
///     normal: Some(Watermarks { min: 256, low: 512, high: 1024 }),
///     dma_reserve: Some(1024),
///     large_pages: 16,
///     ..ZoneConfig::default()
/// };
/// # let _: ZoneConfig = config;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ZoneConfig<'m, S = NoSlots> {
    /// The zone DMA ends before this frame: 16 MiB, unless devices reach further.
    pub dma_end: Frame,
    /// The watermarks of DMA. `None`: its share of [`Watermarks::for_frames`] of all that ordinary requests get.
    pub dma: Option<Watermarks>,
    /// The watermarks of Normal. `None`: likewise.
    pub normal: Option<Watermarks>,
    /// How many frames of DMA requests for Normal leave, beyond `min`. `None`: one for 256 of Normal's, as Linux has
    /// it, so that with 4 GiB and more Normal does not fall back.
    pub dma_reserve: Option<usize>,
    /// So many pages of 2 MiB make up the zone HugePage,
    pub large_pages: usize,
    /// and so many of 1 GiB.
    pub giant_pages: usize,
    /// The zones of devices, made by [`MemoryZone::device`].
    pub devices: &'m [MemoryZone<'m, S>],
}

impl<S> Default for ZoneConfig<'_, S> {
    fn default() -> Self {
        let dma_end = PhysAddr(16 << 20).frame();
        Self { dma_end, dma: None, normal: None, dma_reserve: None, large_pages: 0, giant_pages: 0, devices: &[] }
    }
}

/// Why no zones can be made so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZoneError {
    /// The zone's watermarks are not in order: `min ≤ low ≤ high`.
    WatermarksOutOfOrder(ZoneType),
    /// The zone has fewer frames than its watermark `high`; one that has none has no watermarks.
    WatermarksTooHigh(ZoneType),
    /// The zone has fewer frames than its watermark `min` and its reserve together.
    ReserveTooLarge(ZoneType),
    /// There are not as many pages of this size in the map, above the zone DMA.
    TooFewPages(PageSize),
    /// Nothing is left for ordinary requests.
    NothingLeft,
    /// A zone would be more than 64 ranges apart from one another.
    TooManyRanges,
    /// The device's range is empty, or ends behind the last address.
    NoRange,
    /// The range of the device of this index is memory in the map.
    DeviceIsMemory(usize),
    /// The device of this index has the name, or some of the range, of one before it.
    DeviceTwice(usize),
    /// The storage is too small for the notes.
    StorageTooSmall,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WatermarksOutOfOrder(zone) => write!(f, "the watermarks of the zone {zone:?} are out of order"),
            Self::WatermarksTooHigh(zone) => write!(f, "the zone {zone:?} has fewer frames than its watermark high"),
            Self::ReserveTooLarge(zone) => write!(f, "the zone {zone:?} has fewer frames than it keeps for itself"),
            Self::TooFewPages(size) => write!(f, "the map has fewer pages of {} bytes than asked for", size.bytes()),
            Self::NothingLeft => f.write_str("no memory is left for ordinary requests"),
            Self::TooManyRanges => f.write_str("a zone would be in more than 64 ranges"),
            Self::NoRange => f.write_str("a device's range is empty or ends behind the last address"),
            Self::DeviceIsMemory(index) => write!(f, "the range of device {index} is memory in the map"),
            Self::DeviceTwice(index) => write!(f, "device {index} has the name or the range of another"),
            Self::StorageTooSmall => f.write_str("the storage is too small for the zones' notes"),
        }
    }
}

impl error::Error for ZoneError {}

impl<S: Slots> ZoneConfig<'_, S> {
    /// The zones' parts of `map`, where devices do not stand in the way.
    pub(super) fn parts(&self, map: &MemoryMap) -> Result<Parts, ZoneError> {
        let touches = |one: Frames, other: Frames| one.shared_with(other).count > 0;
        for (index, device) in self.devices.iter().enumerate() {
            let range = device.map().span();
            if map.ranges().iter().any(|&memory| touches(memory, range)) {
                return Err(ZoneError::DeviceIsMemory(index));
            }
            let same = |other: &MemoryZone<'_, S>| other.name() == device.name() || touches(other.map().span(), range);
            if self.devices[..index].iter().any(same) {
                return Err(ZoneError::DeviceTwice(index));
            }
        }
        let parts = carve::carve(map, self.dma_end, self.large_pages, self.giant_pages)?;
        if parts.dma.count() + parts.normal.count() == 0 { Err(ZoneError::NothingLeft) } else { Ok(parts) }
    }

    /// The watermarks of DMA and Normal, and the reserve of DMA, where they make sense (W1).
    pub(super) fn marks(&self, parts: &Parts) -> Result<(Watermarks, Watermarks, usize), ZoneError> {
        let (dma, normal) = (parts.dma.count(), parts.normal.count());
        let marks = |zone: ZoneType, given: Option<Watermarks>, frames: usize| {
            let marks = given.unwrap_or_else(|| Watermarks::share(frames, dma + normal));
            if !marks.in_order() {
                Err(ZoneError::WatermarksOutOfOrder(zone))
            } else if marks.high > frames {
                Err(ZoneError::WatermarksTooHigh(zone))
            } else {
                Ok(marks)
            }
        };
        let for_dma = marks(ZoneType::Dma, self.dma, dma)?;
        let for_normal = marks(ZoneType::Normal, self.normal, normal)?;
        let most = dma - for_dma.min;
        match self.dma_reserve {
            Some(frames) if frames > most => Err(ZoneError::ReserveTooLarge(ZoneType::Dma)),
            Some(frames) => Ok((for_dma, for_normal, frames)),
            None => Ok((for_dma, for_normal, (normal / 256).min(most))),
        }
    }
}
