//! Allocators of page frames, for kernels, hypervisors and big pools.
//!
//! They hand out numbers: nothing here touches the memory that is handed out, and all that they note stands in
//! storage that the caller passes. None of them needs an operating system, std, or a heap.
#![no_std]

#[cfg(test)]
extern crate std;

mod allocator;
mod map;
mod types;

pub use allocator::{FrameAllocator, Request};
pub use map::{MapEntry, MapError, MemoryKind, MemoryMap};
pub use types::{FRAME_BYTES, Frame, FrameError, Frames, Misuse, Order, PageSize, PhysAddr, ZoneType};
