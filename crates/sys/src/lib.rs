//! The operating system as an allocator.
//!
//! ```text
//!   PageAllocator     page.rs    blocks of whole pages, straight from the system
//!      │  plan.rs                where a block begins and ends: arithmetic on plain integers
//!      │  parked.rs              what the system would not take back yet
//!      ▼
//!   prim/                        six calls and their contract; the only code that knows Linux
//! ```
//!
//! `ThreadSlots` (slots.rs) numbers the threads of a program, for allocators that keep something per thread.
//!
//! The ground that other allocators stand on:
#![cfg_attr(feature = "allocator-api2-02", doc = "```")]
#![cfg_attr(not(feature = "allocator-api2-02"), doc = "```ignore")]
//! use allocator_api2_02::vec::Vec;
//! use terrace_sys::PageAllocator;
//!
//! let mut primes = Vec::new_in(PageAllocator);
//! primes.extend([2, 3, 5, 7]);
//! assert!(primes.capacity() >= 4);
//! ```
//!
//! Features: `std`, for `ThreadSlots`, and `allocator-api2-02` (both default) pass those of `terrace-core` on;
//! `fault-injection`, for tests, counts system calls and makes them fail. Without any the crate needs
//! `core` and libc.
#![no_std]

#[cfg(any(test, feature = "std"))]
extern crate std;

#[cfg(not(target_os = "linux"))]
compile_error!("terrace-sys runs on Linux only so far: write src/prim's six calls for this system");

#[cfg(test)]
mod faults;
mod page;
mod parked;
mod plan;
mod prim;
#[cfg(feature = "std")]
mod slots;

pub use page::PageAllocator;
#[cfg(feature = "fault-injection")]
pub use prim::fault;
pub use prim::{PAGE_SIZE_MAX, PAGE_SIZE_MIN, page_size};
#[cfg(feature = "std")]
pub use slots::ThreadSlots;
