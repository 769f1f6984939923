//! A fixed buffer in a static, an arena over it, and no std: what firmware or a kernel's first minute looks like.
//!
//! ```console
//! $ cargo run --manifest-path examples/no_std/Cargo.toml
//! 10 squares end in 81; 80 of 4096 bytes
//! ```
//!
//! The only things borrowed from outside are C's `main` and, in `outside.rs`, `write`, to have something to look at.
#![no_std]
#![no_main]

mod outside;

use core::{
    ffi::c_int,
    fmt::Write,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, Ordering},
};

use outside::Stdout;
use terrace_core::AllocError;
use terrace_heap::{ArenaAllocator, FixedBufferAllocator};

const SIZE: usize = 4096;

/// All the memory that this program allocates from.
static mut MEMORY: [MaybeUninit<u8>; SIZE] = [const { MaybeUninit::uninit() }; SIZE];

/// Lends the static once.
fn take_memory() -> Option<&'static mut [MaybeUninit<u8>]> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    let memory = &raw mut MEMORY;
    // SAFETY: TAKEN lets one caller through, ever, and nobody else names MEMORY.
    Some(unsafe { &mut *memory })
}

fn story(out: &mut impl Write) -> Result<(), AllocError> {
    let fixed = FixedBufferAllocator::new(take_memory().ok_or(AllocError)?);
    let arena = ArenaAllocator::new(&fixed);
    let squares = arena.alloc_iter((0..10u64).map(|n| n * n))?;
    let last = squares.last().copied().unwrap_or_default();
    // More than the buffer has is an error, not an abort.
    if arena.alloc_iter(0..1_000_000u64).is_ok() {
        return Err(AllocError);
    }
    writeln!(out, "{} squares end in {last}; {} of {SIZE} bytes", squares.len(), arena.used_bytes())
        .map_err(|_| AllocError)
}

/// Where C's start-up code goes.
// SAFETY: no other `main` is linked, and this one has C's signature, arguments left out.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> c_int {
    c_int::from(story(&mut Stdout).is_err())
}
