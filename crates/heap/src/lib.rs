//! Allocators of bytes over any backing.
//!
//! - [`AffixAllocator`]: a value before and a value behind each block;
//! - [`ArenaAllocator`]: many blocks, one end;
//! - [`BucketizeAllocator`]: an allocator for each step of lengths;
//! - [`BufferFirstAllocator`]: a borrowed buffer first, then the backing;
//! - [`Compressed`]: large bytes that nobody looks at, kept small; `Lz4` with the feature `lz4`;
//! - [`DebugAllocator`]: finds leaks, double frees, writes past an end and other mistakes;
//! - [`FailingAllocator`]: refuses the calls that it is told to refuse, on machines with 64-bit atomics;
//! - [`FallbackAllocator`]: one allocator first, and another for what it refuses;
//! - [`FixedBufferAllocator`], [`InlineBuffer`]: blocks in a buffer that never grows;
//! - [`SyncArena`], [`SyncFixedBuffer`]: the same for threads that share one, without a lock;
//! - [`FreeListAllocator`]: keeps freed blocks of a range of lengths;
//! - [`LimitAllocator`]: no more than so many bytes at once;
//! - [`LockAllocator`]: makes any allocator one for many threads;
//! - [`LogAllocator`]: tells a sink of every call;
//! - [`OnOomAllocator`]: where there is no memory, a hook may free some;
//! - [`PoolAllocator`], [`Pool`]: items of one size;
//! - [`PressureAllocator`]: tells a hook when much is live;
//! - [`SegregateAllocator`]: one allocator for short blocks, another for long ones;
//! - [`StackAllocator`]: last in, first out;
//! - [`StatsAllocator`]: counts what goes through it, by size and by place too, on machines with 64-bit atomics;
//! - [`ZeroedAllocator`]: every block is zero.
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

mod affix;
mod arch;
pub mod arena;
mod bucketize;
mod buffer_first;
mod bump;
mod compressed;
pub mod debug;
#[cfg(target_has_atomic = "64")]
mod failing;
mod fallback;
mod fixed;
mod free_list;
mod hook;
mod limit;
mod lock;
mod log;
#[cfg(doctest)]
mod misuse;
mod on_oom;
pub mod pool;
mod pressure;
mod segregate;
pub mod smp;
pub mod stack;
#[cfg(target_has_atomic = "64")]
mod stats;
mod sync_arena;
mod sync_fixed;
mod transparent;
mod zeroed;

// What threads share comes from here: the models in `tests/loom_*.rs` put a name of their own in its place, so as
// to weaken one ordering at a time and see the model fail.
use terrace_sync::{atomic, cell};

pub use affix::AffixAllocator;
pub use arena::{ArenaAllocator, Checkpoint, Scope};
pub use bucketize::BucketizeAllocator;
pub use buffer_first::BufferFirstAllocator;
#[cfg(feature = "lz4")]
pub use compressed::Lz4;
pub use compressed::{Codec, Compressed, Stored};
pub use debug::{DebugAllocator, DebugConfig};
#[cfg(target_has_atomic = "64")]
pub use failing::FailingAllocator;
pub use fallback::FallbackAllocator;
pub use fixed::{FixedBufferAllocator, InlineBuffer};
pub use free_list::FreeListAllocator;
pub use limit::LimitAllocator;
#[cfg(feature = "std")]
pub use lock::StdThreads;
pub use lock::{LockAllocator, Threads};
pub use log::{Call, CallOp, LogAllocator, Sink};
pub use on_oom::{OnOomAllocator, OutOfMemory, Reclaim};
pub use pool::{Pool, PoolAllocator, Pooled};
pub use pressure::{OnPressure, Pressure, PressureAllocator};
pub use segregate::SegregateAllocator;
pub use smp::SmpAllocator;
pub use stack::{Marker, StackAllocator};
#[cfg(target_has_atomic = "64")]
pub use stats::{Histograms, Site, SizeClass, StatsAllocator};
pub use sync_arena::SyncArena;
pub use sync_fixed::SyncFixedBuffer;
pub use zeroed::ZeroedAllocator;
