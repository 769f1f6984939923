//! Allocators of page frames, for kernels, hypervisors and big pools.
//!
//! They hand out numbers: nothing here touches the memory that is handed out, and all that they note stands in
//! storage that the caller passes. None of them needs an operating system, std, or a heap.
//!
//! | | small runs | large runs | threads | metadata |
//! |---|---|---|---|---|
//! | [`HybridAllocator`] | bitmap, a block at hand for each slot | buddy of 2 MiB blocks | lock-free | 0.0033 % |
//! | [`BitmapAllocator`] | first fit | word by word | lock-free | 0.0032 % |
//! | [`BuddyAllocator`] | powers of two from the leaf on | powers of two | lock-free | 0.0039 %, less with a larger leaf |
//! | [`ClassicBuddyAllocator`] | powers of two | powers of two | a lock an order | 0.2 % |
//!
//! [`NumaAllocator`] puts one for each node of a machine together: near frames first, by policies.
//!
//! All are built from a [`MemoryMap`], and all are a [`FrameAllocator`]:
//!
//! ```
//! use terrace_frame::{FrameAllocator, HybridAllocator, MapEntry, MemoryMap, PageSize, Request};
//!
//! // What firmware says; the kernel and its metadata are reserved in it.
//! let map = MemoryMap::new(&[MapEntry::usable(0x10_0000, 127 << 20), MapEntry::reserved(0x10_0000, 0x40_0000)])?;
//! let mut metadata = vec![0; HybridAllocator::metadata_bytes(map.span().count, 0) / 8];
//! let frames = HybridAllocator::new(&map, &mut metadata)?;
//!
//! let page = frames.alloc_order(PageSize::Large.order())?;
//! let buffer = frames.alloc(&Request::frames(24).aligned(16))?;
//! println!("2 MiB at {:#x}, 24 frames at {:#x}", page.address().0, buffer.start.address().0);
//! frames.free(buffer)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Over them: [`ZonedAllocator`] cuts a map into zones with watermarks and a reserve, [`HugePages`] knows which blocks
//! of 2 MiB are wholly one owner's, [`Region`] hands frames out as bytes.
//!
//! What there is to see: [`FreeAreas`] and [`Picture`] of any of them; as layers over one, [`StatsFrames`] counts calls,
//! [`TimedFrames`] times them, [`TrackedFrames`] knows whose each run is. A layer that is not there costs nothing.
//!
//! They need atomics of 64 bits.
#![no_std]

#[cfg(not(target_has_atomic = "64"))]
compile_error!("terrace-frame needs a machine with 64-bit atomics");

#[cfg(any(test, doctest))]
extern crate std;

mod allocator;
mod arch;
mod areas;
mod batch;
mod bitmap;
mod bits;
mod blocks;
mod buddy;
mod classic;
mod count;
mod hook;
mod huge;
mod hybrid;
mod index;
mod latency;
mod layer;
mod map;
pub mod numa;
mod owners;
mod picture;
mod plan;
mod region;
mod shape;
mod stats;
mod storage;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
mod timed;
mod tracked;
mod tree;
mod types;
mod watermarks;
mod word;
mod zone;
mod zones;

// What threads share comes from here: the models in `tests/loom_*.rs` put a name of their own in its place, so as
// to weaken one ordering at a time and see the model fail.
use terrace_sync::atomic;

pub use allocator::{FrameAllocator, Request};
pub use areas::{FreeAreas, Thousandths};
pub use bitmap::BitmapAllocator;
pub use buddy::BuddyAllocator;
pub use classic::ClassicBuddyAllocator;
pub use huge::{HugeCounts, HugePages};
pub use hybrid::HybridAllocator;
pub use latency::{Bucket, LatencyHistogram};
pub use map::{MapEntry, MapError, MemoryKind, MemoryMap};
pub use numa::NumaAllocator;
pub use owners::PageOwner;
pub use picture::Picture;
pub use region::Region;
pub use stats::{Counts, Outcome, StatsFrames};
pub use timed::{Latencies, TimedFrames};
pub use tracked::{HotSites, Leaks, OwnedFrames, Owner, Run, Site, SiteCounts, TrackedFrames};
pub use types::{FRAME_BYTES, Frame, FrameError, Frames, Misuse, Order, PageSize, PhysAddr, ZoneType};
pub use watermarks::{Pressure, Watermarks};
pub use zone::MemoryZone;
pub use zones::{OnPressure, ZoneConfig, ZoneCounts, ZoneError, ZonePressure, ZonedAllocator};
