//! Pairs of alloc and free, for counting instructions. See `docs/measurements/page.md`.
//!
//! ```text
//! cargo build --release -p terrace-sys --example pair
//! valgrind --tool=callgrind target/release/examples/pair ours 100000
//! valgrind --tool=callgrind target/release/examples/pair bare 100000
//! ```
//!
//! `ours` goes through `PageAllocator`, `dyn` through `&dyn Allocator`; `bare` makes the same two system
//! calls through libc, its result checked as anyone would. The touched page is left out: all cost the same.

use core::{hint::black_box, num::NonZeroUsize, ptr, ptr::NonNull};
use std::process::ExitCode;

use terrace_core::{Alignment, Allocator};
use terrace_sys::PageAllocator;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (what, count) = (args.next(), args.next().and_then(|count| count.parse().ok()));
    let (Some(what), Some(count)) = (what, count) else {
        eprintln!("usage: pair ours|dyn|bare COUNT");
        return ExitCode::from(2);
    };
    match what.as_str() {
        "ours" => (0..count).for_each(|_: u32| pair(&PageAllocator)),
        "dyn" => (0..count).for_each(|_: u32| pair(black_box(&PageAllocator as &dyn Allocator))),
        "bare" => (0..count).for_each(|_: u32| bare_pair()),
        _ => {
            eprintln!("{what}: neither ours nor dyn nor bare");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// A length and an alignment that the compiler does not know.
#[inline(always)]
fn request() -> (NonZeroUsize, Alignment) {
    (black_box(NonZeroUsize::new(4096).unwrap()), black_box(Alignment::of::<u64>()))
}

#[inline(never)]
fn pair<A: Allocator + ?Sized>(allocator: &A) {
    let (len, alignment) = request();
    let start = black_box(allocator.alloc(len, alignment).expect("a page"));
    // SAFETY: live, with its length and alignment, not used again.
    unsafe { allocator.free(NonNull::slice_from_raw_parts(start, len.get()), alignment) };
}

#[inline(never)]
fn bare_pair() {
    let (len, _alignment) = request();
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new map touches no other.
    let start = black_box(unsafe { libc::mmap(ptr::null_mut(), len.get(), access, kind, -1, 0) });
    assert_ne!(start, libc::MAP_FAILED);
    // SAFETY: mapped above, not used again.
    assert_eq!(unsafe { libc::munmap(start, len.get()) }, 0);
}
