//! The interface that every Terrace allocator speaks.
//!
//! - [`Allocator`]: four functions, and the contract in eleven clauses;
//! - [`Alignment`]: a power of two that is never mistaken for a size.
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod alignment;
mod allocator;

pub use alignment::Alignment;
pub use allocator::{AllocError, Allocator};
