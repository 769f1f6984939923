//! Terrace: allocators in layers, through one door.
//!
//! ```text
//!   gpa()               the everyday stack, an instance of your own         gpa.rs
//!   Global              the same as the program's #[global_allocator]       global.rs
//!   manager             one allocator for the program, configured once, with figures and an end    manager.rs
//!   presets             stacks for larger machines: numa()                 presets.rs
//!   NumaRegion          pages near the thread that asks                   numa_region.rs
//!   SmpAllocator<A>     the general-purpose allocator over any backing, with a slot for each thread
//!   ─────────────
//!   everything of terrace-core, terrace-heap and terrace-sys, by its own name; memops, with copy, fill and compare
//!   frame               terrace-frame: page frames, where there are 64-bit atomics
//! ```
//!
//! One line gives a program another malloc:
//!
//! ```
//! #[global_allocator]
//! static A: terrace::Global = terrace::Global::new();
//!
//! assert_eq!(vec![1, 2, 3].len(), 3);
//! ```
//!
//! And one gives a part of it an allocator of its own, whose memory ends with it:
//!
//! ```
//! use terrace::AllocatorExt;
//!
//! let gpa = terrace::gpa();
//! let numbers = gpa.alloc_slice::<u32>(100)?;
//! // SAFETY: live, of this allocator, not used again.
//! unsafe { gpa.free_slice(numbers) };
//! # Ok::<(), terrace::AllocError>(())
//! ```
//!
//! Features, the first two default: `allocator-api2-02` for collections; `std` for threads' slots, so for all that stands above the
//! line. Without it `SmpAllocator` is the one of terrace-heap, which is told its slots. `backtrace` adds the functions on the call
//! stack to the reports of `DebugAllocator` (the handler `Backtraced`).
#![no_std]

#[cfg(feature = "backtrace")]
mod backtraced;
#[cfg(feature = "std")]
extern crate std;

pub mod gc;

#[cfg(feature = "std")]
mod global;
#[cfg(feature = "std")]
mod gpa;
#[cfg(feature = "std")]
pub mod manager;
#[cfg(all(feature = "std", target_has_atomic = "64"))]
mod numa_region;
#[cfg(all(feature = "std", target_has_atomic = "64"))]
pub mod presets;

pub use terrace_core::*;
/// Page frames by number, for kernels and big pools.
#[cfg(target_has_atomic = "64")]
pub use terrace_frame as frame;
pub use terrace_heap::*;
pub use terrace_memops as memops;
pub use terrace_sync::{NoSlots, Slots};
pub use terrace_sys::*;

#[cfg(feature = "backtrace")]
pub use backtraced::Backtraced;
#[cfg(feature = "std")]
pub use global::Global;
#[cfg(feature = "std")]
pub use gpa::{Gpa, gpa};
#[cfg(all(feature = "std", target_has_atomic = "64"))]
pub use numa_region::NumaRegion;

/// The general-purpose allocator over `A`, with a slot for each thread of the program.
///
/// `BYTES` is what it asks of its backing at a time, 4 MiB unless told otherwise: less for a backing that is small.
///
/// ```
/// use terrace::{ArenaAllocator, PageAllocator, SmpAllocator, ThreadSlots};
///
/// static SHARED: SmpAllocator = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
///
/// let requests = ArenaAllocator::new(&SHARED); // any layer may stand on it
/// # let _ = requests.alloc_str("x")?;
/// # Ok::<(), terrace::AllocError>(())
/// ```
#[cfg(feature = "std")]
pub type SmpAllocator<A = PageAllocator, const BYTES: usize = { terrace_heap::smp::REGION }> =
    terrace_heap::SmpAllocator<A, ThreadSlots, BYTES>;
