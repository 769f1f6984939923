//! The interface that every Terrace allocator speaks.
//!
//! ```text
//!   collections (allocator-api2, hashbrown)          your code
//!          │ bridge                                      │ typed.rs: create, alloc_slice, dupe, realloc_slice …
//!          ▼                                             ▼
//!   ┌─────────────────────────────────────────────────────────────┐
//!   │ Allocator: alloc, resize, remap, free                       │ + capabilities: Owns, Reset, Stats …
//!   └─────────────────────────────────────────────────────────────┘
//!          ▲ implemented by every layer, and here by GlobalBacking and SystemAllocator
//! ```
//!
//! - [`Allocator`]: four functions, and the contract in eleven clauses;
//! - [`Alignment`]: a power of two that is never mistaken for a size;
//! - [`AllocatorExt`]: the typed layer, with Zig's list of functions;
//! - [`Owns`], [`GoodSize`], [`BulkFree`], [`Reset`], [`Stats`], [`PageSize`], [`Decommit`], [`Protect`]: what
//!   only some allocators can do;
//! - [`Bridge`] and the module [`bridge`]: collections over any of our allocators;
//! - [`GlobalBacking`] and `SystemAllocator`: what the platform has, as a backing; [`AsGlobal`]: the other way round;
//! - [`Api2Backing`]: other people's allocators as a backing.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use terrace_core::{Allocator, AllocatorExt, SystemAllocator};
//!
//! /// Takes its memory from whoever the caller names.
//! fn greeting(allocator: &dyn Allocator) -> Result<usize, terrace_core::AllocError> {
//!     let hello = allocator.dupe(b"hello")?;
//!     let len = hello.len();
//!     // SAFETY: live, of this allocator, not used again.
//!     unsafe { allocator.free_slice(hello) };
//!     Ok(len)
//! }
//! assert_eq!(greeting(&SystemAllocator), Ok(5));
//! # }
//! ```
//!
//! Features: `std` (default) for `SystemAllocator`; `alloc` for handles in `Box`, `Rc`, `Arc`;
//! `allocator-api2-02` (default), `allocator-api2-03` and `allocator-api2-04` for the bridges to these versions, all at
//! once if asked; `nightly` for the one to std's unstable trait, where the compiler has it. Without any the crate
//! needs only `core`.
#![no_std]
#![cfg_attr(terrace_nightly, feature(allocator_api, allow_internal_unstable))]
#![cfg_attr(
    terrace_nightly,
    expect(internal_features, reason = "`bridge_collections!` spares its callers the gate of std's trait")
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod alignment;
mod allocator;
mod as_global;
pub mod bridge;
mod capability;
mod global;
mod typed;

pub use alignment::Alignment;
pub use allocator::{AllocError, Allocator};
pub use as_global::AsGlobal;
pub use bridge::{Api2Backing, Bridge};
pub use capability::{
    Access, AllocStats, BulkFree, Decommit, GoodSize, Owns, PageSize, Protect, Reset, ResetMode, Stats,
};
pub use global::GlobalBacking;
#[cfg(feature = "std")]
pub use global::SystemAllocator;
pub use typed::AllocatorExt;
