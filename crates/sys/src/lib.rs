//! The operating system as an allocator.
//!
//! ```text
//!   PageAllocator         page.rs         blocks of whole pages, straight from the system
//!   TunedPageAllocator    tuned.rs        the same with options (options.rs): huge pages, guards, …
//!   Reservation           reservation.rs  addresses now, memory later
//!   ReservedAllocator     reserved.rs     blocks side by side in one, committed as they grow
//!   MappedFile            mapped_file.rs  blocks side by side in a file
//!      │  plan.rs, bump.rs   where a block begins and ends: arithmetic on plain integers
//!      │  extent.rs          blocks side by side in a region
//!      │  giving_back.rs, parked.rs   what the system would not take back yet
//!      ▼
//!   prim/                    a few calls and their contract; the only code that knows Linux
//! ```
//!
//! `numa` (numa.rs) knows the nodes of memory: which there are, where pages come from, lie, and go.
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
//! Features: `std`, for `ThreadSlots`, and `allocator-api2-02` (both default) pass those of `terrace-core` on; `mapped-file` (needs std)
//! brings `MappedFile`, by memmap2; `fault-injection`, for tests, counts system calls and makes them fail. Without any the crate needs
//! `core` and libc.
#![no_std]

#[cfg(any(test, feature = "std"))]
extern crate std;

#[cfg(not(target_os = "linux"))]
compile_error!("terrace-sys runs on Linux only so far: write src/prim's calls for this system");

mod bump;
mod extent;
#[cfg(test)]
mod faults;
mod giving_back;
#[cfg(feature = "mapped-file")]
mod mapped_file;
#[cfg(feature = "std")]
pub mod numa;
#[cfg(feature = "std")]
mod numbers;
mod options;
mod page;
mod parked;
mod plan;
mod prim;
mod reservation;
mod reserved;
#[cfg(feature = "std")]
mod slots;
mod tuned;

#[cfg(feature = "mapped-file")]
pub use mapped_file::MappedFile;
pub use options::{PageOptions, Unavailable};
pub use page::PageAllocator;
#[cfg(feature = "fault-injection")]
pub use prim::fault;
pub use prim::{PAGE_SIZE_MAX, PAGE_SIZE_MIN, page_size};
pub use reservation::Reservation;
pub use reserved::ReservedAllocator;
#[cfg(feature = "std")]
pub use slots::ThreadSlots;
pub use tuned::TunedPageAllocator;
