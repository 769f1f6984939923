//! Allocators of page frames, for kernels, hypervisors and big pools.
//!
//! They hand out numbers: nothing here touches the memory that is handed out, and all that they note stands in
//! storage that the caller passes. None of them needs an operating system, std, or a heap.
#![no_std]

#[cfg(any(test, doctest))]
extern crate std;

mod allocator;
mod bitmap;
mod blocks;
mod buddy;
mod classic;
mod hook;
mod hybrid;
mod index;
mod map;
mod plan;
mod shape;
mod storage;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod word;

// What threads share comes from here: the models in `tests/loom_*.rs` put a name of their own in its place, so as
// to weaken one ordering at a time and see the model fail.
use terrace_sync::atomic;

pub use allocator::{FrameAllocator, Request};
pub use bitmap::BitmapAllocator;
pub use buddy::BuddyAllocator;
pub use classic::ClassicBuddyAllocator;
pub use hybrid::HybridAllocator;
pub use map::{MapEntry, MapError, MemoryKind, MemoryMap};
pub use types::{FRAME_BYTES, Frame, FrameError, Frames, Misuse, Order, PageSize, PhysAddr, ZoneType};
