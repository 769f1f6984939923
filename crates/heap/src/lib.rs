//! Allocators of bytes over any backing.
//!
//! - [`ArenaAllocator`]: many blocks, one end;
//! - [`FixedBufferAllocator`], [`InlineBuffer`]: blocks in a buffer that never grows;
//! - [`LogAllocator`]: tells a sink of every call;
//! - [`StatsAllocator`]: counts what goes through it, on machines with 64-bit atomics.
//!
//! None of them needs an operating system or a global allocator; each takes its memory from the backing
//! that it is given:
//!
//! ```
//! use terrace_core::{Stats, SystemAllocator};
//! use terrace_heap::{ArenaAllocator, StatsAllocator};
//!
//! let counted = StatsAllocator::new(SystemAllocator);
//! let arena = ArenaAllocator::new(&counted);
//! for n in 0..1000u64 {
//!     arena.alloc_value(n)?;
//! }
//! assert!(counted.stats().total_allocations < 20);
//! drop(arena);
//! assert_eq!(counted.stats().current_bytes, 0);
//! # Ok::<(), terrace_core::AllocError>(())
//! ```
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod arena;
mod bump;
mod fixed;
mod log;
#[cfg(doctest)]
mod misuse;
pub mod smp;
#[cfg(target_has_atomic = "64")]
mod stats;
mod transparent;

pub use arena::{ArenaAllocator, Checkpoint, Scope};
pub use fixed::{FixedBufferAllocator, InlineBuffer};
pub use log::{Call, CallOp, LogAllocator, Sink};
pub use smp::SmpAllocator;
#[cfg(target_has_atomic = "64")]
pub use stats::StatsAllocator;
