//! A fixed buffer in a static, an arena over it, and no std: what firmware or a kernel's first minute looks like.
//!
//! ```console
//! $ cargo run --manifest-path examples/no_std/Cargo.toml
//! 10 squares end in 81; 80 of 4096 bytes
//! ```
//!
//! The only things borrowed from outside are C's `main` and `write`, to have something to look at.
#![no_std]
#![no_main]

use core::{
    ffi::{c_int, c_void},
    fmt::{self, Write},
    mem::MaybeUninit,
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

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

struct Stdout;

// SAFETY: the C library's function, with the signature that POSIX gives it.
// SAFETY: the signature is the one of POSIX.
unsafe extern "C" {
    fn write(file: c_int, bytes: *const c_void, len: usize) -> isize;
}

impl Write for Stdout {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the bytes of `text`, which live through the call.
        let written = unsafe { write(1, text.as_ptr().cast(), text.len()) };
        if written == text.len() as isize { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Where C's start-up code goes.
// SAFETY: no other `main` is linked, and this one has C's signature, arguments left out.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> c_int {
    c_int::from(story(&mut Stdout).is_err())
}

/// The compiled core library names it in its unwind tables; nothing unwinds here, so nobody calls it.
// SAFETY: no other of this name is linked, since std is not.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
